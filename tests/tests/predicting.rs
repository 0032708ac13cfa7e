//! A trained model asked about images and streams: it sees what the loader delivers, and says what it got wrong.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use batchmill_protocol::client::Subscription;
use batchmill_protocol::tensor::FieldSpec;
use batchmill_tests::{Loader, Programs, programs, told};
use batchmill_trainer::prepare::{Preparation, View};
use expect_test::{Expect, expect};
use serde_json::Value;
use tempfile::TempDir;

const PROGRAMS: Programs = programs!();

/// A small model, quick to train.
const MODEL: &str = "[[layer]]\nkind = 'flatten'\n[[layer]]\nkind = 'linear'\nout_features = 48\n\
                     [[layer]]\nkind = 'relu'\n[[layer]]\nkind = 'linear'\nout_features = 10\n\
                     [loss]\nlabel_smoothing = 0.1\n";

/// Drawn shapes, trained on at random and tested on in order; a stream of other images and one of other classes.
const STREAMS: &str = r#"
[stream.train]
dataset = { kind = "image-folder-csv", images = "shapes", labels = "shapes/train.csv", color = "gray" }
sampler = "shuffled"
transforms = [{ kind = "random-crop", size = 24, padding = 2 }, { kind = "horizontal-flip", p = 0.5 }]
[stream.test]
dataset = { kind = "image-folder-csv", images = "shapes", labels = "shapes/test.csv", color = "gray" }
transforms = [{ kind = "resize", size = 26 }, { kind = "center-crop", size = 24 }]
batch_size = 30
[stream.large]
dataset = { kind = "image-folder-csv", images = "shapes", labels = "shapes/test.csv", color = "gray" }
[stream.renamed]
dataset = { kind = "image-folder-csv", images = "shapes", labels = "renamed.csv", color = "gray" }
transforms = [{ kind = "resize", size = 24 }]
"#;

/// A model that was trained on drawn shapes for `epochs` epochs.
struct Trained {
    data: TempDir,
    loader: Loader,
}

impl Trained {
    fn new(images: u32, epochs: &str, more: &[&str]) -> Self {
        Self::of(MODEL, images, epochs, more)
    }

    fn of(model: &str, images: u32, epochs: &str, more: &[&str]) -> Self {
        let data = PROGRAMS.sample_data(images);
        let path = |name: &str| data.path().join(name);
        fs::write(path("model.toml"), model).expect("written");
        let csv = fs::read_to_string(path("shapes/test.csv")).expect("drawn");
        let first = csv.lines().nth(1).and_then(|row| row.split_once(',')).expect("a row").1;
        fs::write(path("renamed.csv"), csv.replace(&format!(",{first}\n"), ",blob\n")).expect("written");
        let loader = PROGRAMS.serve(data.path(), STREAMS);
        let mut arguments: Vec<OsString> = vec!["fit".into(), "--model".into(), path("model.toml").into()];
        arguments.extend(["--socket".into(), loader.socket().into(), "--out".into(), path("checkpoint").into()]);
        arguments.extend(["--epochs", epochs].iter().chain(more).map(Into::into));
        let output = PROGRAMS.run_trainer(arguments);
        assert!(output.status.success(), "{}", told(&output));
        Self { data, loader }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.data.path().join(name)
    }

    /// What the checkpoint that is taken says of itself.
    fn about(&self) -> PathBuf {
        batchmill_trainer::checkpoint::locate(&self.path("checkpoint")).join("checkpoint.json")
    }

    fn trainer(&self, command: &str, arguments: &[&OsStr]) -> Output {
        let checkpoint = self.path("checkpoint");
        let first = [command.as_ref(), "--checkpoint".as_ref(), checkpoint.as_os_str()];
        PROGRAMS.run_trainer(first.iter().chain(arguments))
    }

    fn predict(&self, arguments: &[&OsStr]) -> Output {
        self.trainer("predict", arguments)
    }

    fn eval(&self, arguments: &[&OsStr]) -> Output {
        let socket = self.loader.socket();
        self.trainer("eval", &[&["--socket".as_ref(), socket.as_os_str()], arguments].concat())
    }

    /// What standard error says, without the places of this run.
    fn stderr(&self, output: &Output) -> String {
        String::from_utf8_lossy(&output.stderr).replace(&self.data.path().display().to_string(), "DATA")
    }
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// The files of a list, in its order, with the names of their classes.
fn listed(csv: &Path) -> Vec<(PathBuf, String)> {
    let text = fs::read_to_string(csv).expect("drawn");
    let rows = text.lines().skip(1).filter_map(|row| row.split_once(','));
    rows.map(|(image, class)| (csv.with_file_name("").join(image), class.to_owned())).collect()
}

#[test]
fn a_model_sees_the_very_bytes_that_the_loader_delivers() {
    let trained = Trained::new(60, "1", &["--eval", "test"]);
    let about = fs::read(trained.about()).expect("saved");
    let about: Value = serde_json::from_slice(&about).expect("JSON");
    assert_eq!(about["view"]["stream"], "test");
    let view: View = serde_json::from_value(about["view"].clone()).expect("a view");
    let input: FieldSpec = serde_json::from_value(about["input"].clone()).expect("a field");
    let preparation = Preparation::new(&view, &input, &batchmill_datasets::builtin()).expect("known transforms");
    assert_eq!(preparation.notes(), [""; 0]);

    let mut member = trained.loader.attach(&Subscription::new("test").epochs(0, Some(1)));
    let files = listed(&trained.path("shapes/test.csv"));
    let mut delivered = 0;
    while let Some(batch) = member.next().expect("a batch") {
        let rows = batch.field("image").expect("delivered").chunks_exact(24 * 24);
        for (row, index) in rows.zip(batch.indices()) {
            let (file, _) = &files[usize::try_from(index).expect("few")];
            let prepared = preparation.apply(&fs::read(file).expect("drawn")).expect("an image");
            assert!(prepared == row, "{} becomes other bytes", file.display());
            delivered += 1;
        }
    }
    assert_eq!(delivered, files.len());
    drop(member);
    trained.loader.stop();
}

#[test]
fn predictions_and_evaluation_agree() {
    let trained = Trained::new(800, "6", &["--eval", "test", "--lr", "2e-3", "--json"]);
    let metrics = fs::read(trained.about()).expect("saved");
    let tested = &serde_json::from_slice::<Value>(&metrics).expect("JSON")["metrics"]["test"];

    let (errors, drawn, table) =
        (trained.path("errors.png"), trained.path("confusion.png"), trained.path("confusion.csv"));
    let found = trained.eval(&[
        "--json".as_ref(),
        "--out".as_ref(),
        errors.as_os_str(),
        "--worst".as_ref(),
        "12".as_ref(),
        "--confusion".as_ref(),
        drawn.as_os_str(),
        "--confusion".as_ref(),
        table.as_os_str(),
    ]);
    assert!(trained.stderr(&found).ends_with("mistakes, the worst first, are drawn in DATA/errors.png\n"));
    let found: Value = serde_json::from_str(&stdout(&found)).expect("one object");
    let number = |value: &Value| value.as_f64().expect("a number");
    // The loss is that of the training, of which the smoothing is a part.
    assert_eq!((&found["accuracy"], &found["loss"]), (&tested["accuracy"], &tested["loss"]));
    assert!(number(&found["top_5"]) > number(&found["accuracy"]), "{found}");

    // Every image predicted, by file: the same number is right, class by class.
    let files = listed(&trained.path("shapes/test.csv"));
    let paths: Vec<&OsStr> = files.iter().map(|(file, _)| file.as_os_str()).collect();
    let lines = stdout(&trained.predict(&[&["--json".as_ref(), "--top".as_ref(), "3".as_ref()][..], &paths].concat()));
    let predicted: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON a line")).collect();
    assert_eq!(predicted.len(), files.len());
    let classes = found["classes"].as_array().expect("a list");
    for class in classes {
        let of_class = |(_, (_, name)): &(&Value, &(PathBuf, String))| class["class"] == **name;
        let of_class: Vec<_> = predicted.iter().zip(&files).filter(of_class).collect();
        assert_eq!(class["support"], of_class.len());
        let right = of_class.iter().filter(|(line, (_, name))| line["class"] == **name).count();
        let label = usize::try_from(class["label"].as_u64().expect("a number")).expect("few");
        assert_eq!(found["confusion"][label][label], right, "{class}");
    }
    let top: Vec<f64> =
        predicted[0]["top"].as_array().expect("three").iter().map(|guess| number(&guess["probability"])).collect();
    assert!(top.len() == 3 && top[0] >= top[1] && top[1] >= top[2] && top.iter().sum::<f64>() <= 1.0 + 1e-6, "{top:?}");

    let rows = fs::read_to_string(&table).expect("written");
    assert_eq!(rows.lines().count(), 11, "a header and ten classes");
    let sheet = image::open(&errors).expect("a picture").into_rgb8();
    // Tiles of 24 x 24 pixels, each enlarged four times, with two lines below.
    assert_eq!(sheet.height() % (4 * 24 + 2 * 8 + 8 + 2 + 8), 8);
    assert!(image::open(&drawn).expect("a picture").width() > 10 * 40);

    let text = stdout(&trained.eval(&[]));
    assert!(text.starts_with("Stream `test`: 200 samples, loss ") && text.contains("macro average"), "{text}");
    trained.loader.stop();
}

#[test]
fn an_evaluation_of_numbers_says_how_far_they_are_off() {
    // Under this loss the softmax counts, unlike under cross-entropy.
    let one = "out_features = 1\n[[layer]]\nkind = 'softmax'";
    let model = MODEL.replace("out_features = 10", one).replace("label_smoothing = 0.1", "kind = 'mse'");
    // A class is a number here.
    let trained = Trained::of(&model, 80, "2", &["--eval", "test"]);
    let metrics = fs::read(trained.about()).expect("saved");
    let tested = &serde_json::from_slice::<Value>(&metrics).expect("JSON")["metrics"]["test"];
    let found: Value = serde_json::from_str(&stdout(&trained.eval(&["--json".as_ref()]))).expect("one object");
    for key in ["loss", "mae", "rmse"] {
        assert!(found[key].is_f64() && found[key] == tested[key], "{key}: {found} {tested}");
    }
    assert_eq!(found["samples"], 20);
    let text = stdout(&trained.eval(&[]));
    assert!(text.starts_with("Stream `test`: 20 samples, loss ") && text.contains(", RMSE "), "{text}");
    let refused = trained.eval(&["--out".as_ref(), "errors.png".as_ref()]);
    expect![
        "draw what is mistaken for what: the model answers label: i64 [] with numbers: leave --out and --confusion out"
    ]
    .assert_eq(&told(&refused));
    trained.loader.stop();
}

#[test]
fn folders_are_predicted_whole_and_what_is_broken_is_named() {
    let trained = Trained::new(40, "1", &[]);
    let folder = trained.path("folder");
    fs::create_dir_all(folder.join("deep")).expect("made");
    let files = listed(&trained.path("shapes/train.csv"));
    for (name, (file, _)) in ["10.jpg", "9.jpg", "deep/1.jpg", "deep/2.png"].into_iter().zip(&files) {
        fs::copy(file, folder.join(name)).expect("copied");
    }
    fs::write(folder.join("deep/1.jpg"), "no image").expect("written");
    let predict = |arguments: &[&str]| {
        let arguments = arguments.iter().map(AsRef::as_ref);
        trained.predict(&[folder.as_os_str()].into_iter().chain(arguments).collect::<Vec<_>>())
    };
    let text = |output: &Output| {
        String::from_utf8_lossy(&output.stdout).replace(&trained.data.path().display().to_string(), "DATA")
    };

    let table = trained.path("predictions.csv");
    let output = predict(&["--out", table.to_str().expect("text"), "--top", "2", "--batch-size", "3"]);
    expect![[r#"
        stream `train`: `random-crop` draws a place: the middle is taken
        stream `train`: `horizontal-flip` draws what it does: it is left out
        DATA/folder/deep/1.jpg: decode it: not an image: it begins with the text "no image", unlike a JPEG, PNG, WebP, BMP, GIF or TIFF
        error: 1 of 4 images could not be read: each is named above
    "#]].assert_eq(&trained.stderr(&output));
    assert_eq!((output.status.code(), text(&output).as_str()), (Some(1), ""));
    let rows = fs::read_to_string(&table).expect("written").replace(&trained.data.path().display().to_string(), "DATA");
    let rows: Vec<Vec<&str>> = rows.lines().map(|row| row.split(',').collect()).collect();
    let columns = |column: usize| rows.iter().map(|row| row[column]).collect::<Vec<_>>();
    assert_eq!(
        columns(0),
        ["image", "DATA/folder/9.jpg", "DATA/folder/10.jpg", "DATA/folder/deep/1.jpg", "DATA/folder/deep/2.png"]
    );
    let failed: Vec<_> = rows.iter().map(|row| row[7].contains("decode it: not an image")).collect();
    assert_eq!(failed, [false, false, false, true, false]);
    assert_eq!(rows[3][1..7], [""; 6]);
    assert_eq!(rows[0], ["image", "label", "class", "probability", "label_2", "class_2", "probability_2", "error"]);

    // Batches of another size give the same list, as JSON.
    let list = trained.path("predictions.json");
    predict(&["--out", list.to_str().expect("text"), "--top", "2", "--json"]);
    let list: Vec<Value> = serde_json::from_slice(&fs::read(&list).expect("written")).expect("a list");
    let listed: Vec<&str> = list.iter().map(|line| line["class"].as_str().unwrap_or_default()).collect();
    assert_eq!(listed, columns(2)[1..]);
    trained.loader.stop();
}

#[test]
fn what_is_not_there_or_does_not_fit_is_said() {
    let trained = Trained::new(40, "1", &[]);
    let check = |output: Output, expected: Expect| {
        let told = told(&output).replace(&trained.data.path().display().to_string(), "DATA");
        expected.assert_eq(&told);
    };
    let image = trained.path("shapes/test/000040.png");
    let predict = |arguments: &[&str]| trained.predict(&arguments.iter().map(AsRef::as_ref).collect::<Vec<_>>());
    let eval = |arguments: &[&str]| trained.eval(&arguments.iter().map(AsRef::as_ref).collect::<Vec<_>>());
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    check(
        predict(&[&text(&image), "--out", "predictions.txt"]),
        expect!["write the predictions to predictions.txt: its name must end in .csv or .json"],
    );
    let empty = trained.path("empty");
    fs::create_dir(&empty).expect("made");
    check(
        predict(&[&text(&empty)]),
        expect![
            "look for images in DATA/empty: it has none, at no depth; images are files whose names end in .jpg, .jpeg, .png, .webp, .bmp, .gif, .tif, .tiff"
        ],
    );
    check(
        predict(&[&text(&trained.path("none.png"))]),
        expect!["1 of 1 images could not be read: each is named above"],
    );
    check(eval(&["--stream", "tset"]), expect!["this loader serves no stream `tset`; did you mean `test`?"]);
    check(
        eval(&["--stream", "large"]),
        expect![
            "evaluate on stream `large`: its samples are 28x28x1, the model was trained on 24x24x1: give the stream the transforms of `train`"
        ],
    );
    check(
        eval(&["--stream", "renamed"]),
        expect![[
            r#"evaluate on stream `renamed`: its label 0 is class "bars", the model learned "arrow": let both lists name the same classes"#
        ]],
    );
    check(eval(&["--out", "errors.gif"]), expect!["write to errors.gif: its name must end in .png"]);
    check(eval(&["--confusion", "table.txt"]), expect!["write to table.txt: its name must end in .csv or .png"]);
    check(
        eval(&["--confusion", "/nowhere/at/all.csv"]),
        expect!["write /nowhere/at/all.csv: No such file or directory (os error 2)"],
    );
    // Said before anything is computed, of which there would be notes.
    check(
        predict(&["--out", "/nowhere/at/all.csv", &text(&image)]),
        expect!["write /nowhere/at/all.csv: No such file or directory (os error 2)"],
    );
    let other = trained.path("other");
    let arguments = ["eval".as_ref(), "--checkpoint".as_ref(), other.as_os_str()];
    check(
        PROGRAMS.run_trainer(arguments),
        expect![
            "read the checkpoint DATA/other: it has no checkpoint.json: name a folder that `trainer fit --out` wrote"
        ],
    );

    // Without --eval an image is seen as those trained on, but for what they drew.
    let output = predict(&[&text(&image)]);
    assert!(output.status.success(), "{output:?}");
    expect![[r#"
        stream `train`: `random-crop` draws a place: the middle is taken
        stream `train`: `horizontal-flip` draws what it does: it is left out
    "#]]
    .assert_eq(&trained.stderr(&output));

    // A transform of somebody's own, which this trainer has not.
    let about = trained.about();
    let whole = fs::read_to_string(&about).expect("saved");
    let mut changed: Value = serde_json::from_str(&whole).expect("JSON");
    changed["view"]["transforms"][0]["kind"] = "radnom-crop".into();
    fs::write(&about, changed.to_string()).expect("written");
    check(
        predict(&[&text(&image)]),
        expect![[
            r#"predict with DATA/checkpoint/checkpoints/0001-000000: make the transform {"kind":"radnom-crop","padding":2,"size":24} of stream `train` (is it one of your own? Then build a trainer with it: `batchmill_trainer::run`): unknown transform `radnom-crop`; did you mean `random-crop`?"#
        ]],
    );
    trained.loader.stop();
}
