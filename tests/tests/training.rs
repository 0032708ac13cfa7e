//! From a folder of images and a CSV to a trained model that predicts, and what bad input gets on that way.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use batchmill_tests::{Loader, Programs, folder, programs, told};
use expect_test::{Expect, expect};
use serde_json::Value;
use tempfile::TempDir;

const PROGRAMS: Programs = programs!();

/// A small model, quick to train.
const MODEL: &str = "[[layer]]\nkind = 'flatten'\n[[layer]]\nkind = 'linear'\nout_features = 48\n\
                     [[layer]]\nkind = 'relu'\n[[layer]]\nkind = 'linear'\nout_features = 10\n";

/// Drawn shapes, served as `loader sample-data` says.
fn shapes(images: u32) -> (TempDir, Loader) {
    let data = PROGRAMS.sample_data(images);
    let config = data.path().join("shapes/loader.toml");
    let loader = Loader::start(PROGRAMS, ["--config".as_ref(), config.as_os_str()]);
    (data, loader)
}

/// Drawn shapes, served four a batch in the order of their CSV.
///
/// A loader makes a stream's first two batches before anybody asks: what comes after them can still be spoilt.
fn shapes_in_order(images: u32) -> (TempDir, Loader) {
    let data = PROGRAMS.sample_data(images);
    let stream = |name: &str| {
        format!(
            "[stream.{name}]\nbatch_size = 4\ndataset = {{ kind = 'image-folder-csv', images = 'shapes', labels = \
             'shapes/{name}.csv', color = 'gray' }}\n"
        )
    };
    let loader = PROGRAMS.serve(data.path(), &(stream("train") + &stream("test")));
    (data, loader)
}

/// Runs `trainer fit` with a model file of this text.
fn fit(folder: &Path, model: &str, socket: &Path, more: &[&str]) -> std::process::Output {
    let path = folder.join("model.toml");
    fs::write(&path, model).expect("written");
    let mut arguments: Vec<OsString> =
        vec!["fit".into(), "--model".into(), path.into(), "--socket".into(), socket.into()];
    arguments.extend(["--out".into(), folder.join("run").into_os_string()]);
    arguments.extend(more.iter().map(Into::into));
    PROGRAMS.run_trainer(arguments)
}

/// Has the checkpoint predict the first `count` test images: how many it gets right, of how many.
fn predictions(data: &Path, count: usize) -> (usize, usize) {
    let csv = fs::read_to_string(data.join("shapes/test.csv")).expect("drawn");
    let rows = csv.lines().skip(1).take(count).filter_map(|row| row.split_once(','));
    let (images, labels): (Vec<_>, Vec<_>) = rows.unzip();
    let images = images.iter().map(|image| data.join("shapes").join(image).into_os_string());
    let checkpoint = data.join("run/best").into_os_string();
    let arguments = ["predict".into(), "--json".into(), "--checkpoint".into(), checkpoint].into_iter().chain(images);
    let output = PROGRAMS.run_trainer(arguments);
    assert!(output.status.success(), "{}", told(&output));
    let stdout = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let predicted: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).expect("JSON a line")).collect();
    assert_eq!(predicted.len(), labels.len(), "a line for each image");
    let right = predicted.iter().zip(&labels).filter(|(line, label)| line["class"] == **label).count();
    (right, labels.len())
}

#[test]
fn a_folder_and_a_csv_become_a_model_that_predicts() {
    let (data, loader) = shapes(1200);
    let output =
        fit(data.path(), MODEL, &loader.socket(), &["--eval", "test", "--epochs", "6", "--lr", "2e-3", "--json"]);
    assert!(output.status.success(), "{}", told(&output));
    let stdout = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let lines: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).expect("JSON a line")).collect();
    let accuracies: Vec<f64> = lines.iter().filter_map(|line| line["test"]["accuracy"].as_f64()).collect();
    assert_eq!(accuracies.len(), 6, "{stdout}");
    // Guessing gets a tenth.
    assert!(accuracies[5] > 0.6, "{accuracies:?}");

    let (right, asked) = predictions(data.path(), 40);
    assert!(right * 2 > asked, "{right} of {asked}");
    loader.stop();
}

#[test]
fn layers_and_transforms_of_ones_own_are_known_to_every_command() {
    let data = PROGRAMS.sample_data(60);
    let dataset = "kind = 'image-folder-csv', images = 'shapes', labels = 'shapes/train.csv', color = 'gray'";
    let streams = format!("[stream.train]\ndataset = {{ {dataset} }}\ntransforms = [{{ kind = 'negative' }}]\n");
    let loader = PROGRAMS.serve(data.path(), &streams);
    let model = MODEL.replace("'relu'", "'rectifier'");
    let path = |name: &str| data.path().join(name).into_os_string();
    let done = |output: std::process::Output| assert!(output.status.success(), "{}", told(&output));

    done(fit(data.path(), &model, &loader.socket(), &["--epochs", "1"]));
    done(fit(data.path(), &model, &loader.socket(), &["--epochs", "2", "--resume"]));
    let summary = ["summary".into(), "--input".into(), "28x28x1".into(), "--model".into(), path("model.toml")];
    done(PROGRAMS.run_trainer(summary));
    let predict = ["predict".into(), "--checkpoint".into(), path("run"), path("shapes")];
    done(PROGRAMS.run_trainer(predict));
    let eval = ["eval".into(), "--checkpoint".into(), path("run"), "--stream".into(), "train".into()];
    done(PROGRAMS.run_trainer(eval.into_iter().chain(["--socket".into(), loader.socket().into()])));
    loader.stop();
}

#[test]
fn the_same_seed_trains_the_same_weights() {
    let (data, loader) = shapes(200);
    let weights = || {
        let _ = fs::remove_dir_all(data.path().join("run"));
        let output = fit(data.path(), MODEL, &loader.socket(), &["--epochs", "2"]);
        assert!(output.status.success(), "{}", told(&output));
        fs::read(data.path().join("run/latest/model.safetensors")).expect("saved")
    };
    // Not `assert_eq!`: nobody wants to read a hundred thousand bytes.
    assert!(weights() == weights(), "two runs of one seed part");
    loader.stop();
}

#[test]
fn a_view_is_drawn_on_nothing_but_a_terminal() {
    let (data, loader) = shapes(40);
    let output = fit(data.path(), MODEL, &loader.socket(), &["--view", "live"]);
    assert!(output.status.success(), "{}", told(&output));
    let stdout = String::from_utf8(output.stdout).expect("text");
    assert!(stdout.starts_with("there is no live view: standard output is no terminal\nEpoch 0: loss "), "{stdout}");
    assert!(!stdout.contains('\x1b'), "{stdout}");
    loader.stop();
}

#[test]
fn a_run_says_what_device_auto_was() {
    let (data, loader) = shapes(40);
    let output = fit(data.path(), MODEL, &loader.socket(), &["--device", "auto", "--json"]);
    assert!(output.status.success(), "{}", told(&output));
    let stderr = String::from_utf8_lossy(&output.stderr);
    // A driver may have something to say as well.
    let device = stderr.lines().find_map(|line| line.strip_prefix("--device auto: this is ")).expect("it says so");
    let start: Value = serde_json::from_slice(output.stdout.split(|byte| *byte == b'\n').next().expect("a line"))
        .expect("JSON a line");
    let about = fs::read(data.path().join("run/run.json")).expect("written");
    let about: Value = serde_json::from_slice(&about).expect("JSON");
    assert_eq!((&start["device"], &about["training"]["device"]), (&device.into(), &device.into()));
    loader.stop();
}

#[test]
fn a_failed_batch_ends_the_training_by_name() {
    let (data, loader) = shapes_in_order(40);
    // Cut short after the loader has looked at it.
    let victim = data.path().join("shapes/train/000017.jpg");
    let whole = fs::read(&victim).expect("drawn");
    fs::write(&victim, &whole[..whole.len() / 2]).expect("written");
    let output = fit(data.path(), MODEL, &loader.socket(), &["--epochs", "1"]);
    let told = told(&output);
    assert!(told.contains("000017.jpg") && told.contains("changed"), "{told}");
    assert!(!data.path().join("run/latest").exists(), "no model was saved");
    loader.stop();
}

#[test]
fn a_failed_test_keeps_the_trained_epoch_and_says_what_failed() {
    let (data, loader) = shapes_in_order(40);
    let victim = data.path().join("shapes/test/000049.png");
    fs::write(&victim, "no image").expect("written");
    let output = fit(data.path(), MODEL, &loader.socket(), &["--eval", "test", "--epochs", "2"]);
    let told = told(&output);
    assert!(told.contains("000049.png"), "{told}");
    assert!(data.path().join("run/latest/model.safetensors").exists(), "the first epoch is saved");
    loader.stop();
}

#[test]
fn a_prediction_sees_an_image_as_the_stream_did() {
    let data = PROGRAMS.sample_data(400);
    let stream = |csv: &str, sampler: &str| {
        format!(
            "dataset = {{ kind = 'image-folder-csv', images = 'shapes', labels = 'shapes/{csv}.csv', color = 'gray' }}\n\
             sampler = '{sampler}'\ntransforms = [{{ kind = 'resize', size = 40 }}, {{ kind = 'center-crop', size = 24 }}]\n"
        )
    };
    let streams = (stream("train", "shuffled"), stream("test", "sequential"));
    let loader = PROGRAMS.serve(data.path(), &format!("[stream.train]\n{}[stream.test]\n{}", streams.0, streams.1));
    let output = fit(data.path(), MODEL, &loader.socket(), &["--eval", "test", "--epochs", "8", "--json"]);
    assert!(output.status.success(), "{}", told(&output));
    let stdout = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let mut accuracies =
        stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()?["test"]["accuracy"].as_f64());
    let tested = accuracies.next_back().expect("tested");

    let (right, asked) = predictions(data.path(), usize::MAX);
    #[expect(clippy::cast_precision_loss, reason = "a hundred")]
    let apart = (right as f64 / asked as f64 - tested).abs();
    assert!(apart < 1e-9, "{right} of {asked} against {tested}");
    loader.stop();
}

#[test]
fn models_that_fit_neither_themselves_nor_the_stream() {
    let (data, loader) = shapes(40);
    let check = |model: &str, expected: &Expect| {
        let output = fit(data.path(), model, &loader.socket(), &["--epochs", "1"]);
        expected.assert_eq(&told(&output).replace(&data.path().display().to_string(), "DATA"));
    };
    check(
        "[[layer]]\nkind = 'linear'\nout_features = 10\n",
        &expect![[
            r#"build the model of DATA/model.toml: layer 0 (linear) wants [batch, features], but [batch, 1, 28, 28] arrives: put a layer of kind "flatten" before it"#
        ]],
    );
    check(
        &MODEL.replace("out_features = 48", "out_features = 48\nin_features = 100"),
        &expect![
            "build the model of DATA/model.toml: layer 1 (linear) wants [batch, 100], but [batch, 784] arrives: set in_features = 784, or leave it out"
        ],
    );
    check(
        &MODEL.replace("out_features = 10", "out_features = 9"),
        &expect![
            "build the model of DATA/model.toml: the last layer has 9 outputs, but stream `train` has 10 classes: set out_features = 10"
        ],
    );
    check(
        &format!("input = [32, 32, 3]\n{MODEL}"),
        &expect![
            "build the model of DATA/model.toml: the model file says input = [32, 32, 3], but the samples are [28, 28, 1]: change it, or leave it out"
        ],
    );
    check(
        &MODEL.replace("'relu'", "'rellu'"),
        &expect!["DATA/model.toml:7: unknown kind of layer `rellu`: did you mean `relu`?"],
    );
    check(
        &MODEL.replace("out_features = 48", "out_feature = 48"),
        &expect!["DATA/model.toml:5: unknown key `out_feature` in [[layer]] 1 (linear): did you mean `out_features`?"],
    );
    check(
        &MODEL.replace("[[layer]]\nkind = 'flatten'", "[[layer]]\nkind = 'conv2d'\nout_channels = 4\nkernel_size = 99"),
        &expect![
            "build the model of DATA/model.toml: layer 0 (conv2d) wants an image of at least its kernel, 99 by 99, but [batch, 1, 28, 28] arrives: make kernel_size smaller or padding larger"
        ],
    );
    check("", &expect!["DATA/model.toml:1: there is no layer: begin each with a line [[layer]]"]);
    check("[[layer]\n", &expect!["DATA/model.toml:1: unclosed array table, expected `]`"]);
    loader.stop();
}

#[test]
fn devices_loaders_streams_and_files_that_are_not_there() {
    let (data, loader) = shapes(40);
    let socket = loader.socket();
    let check = |told: String, expected: &Expect| {
        let told = told.replace(&data.path().display().to_string(), "DATA");
        expected.assert_eq(&told.replace(&socket.display().to_string(), "SOCKET"));
    };
    let fit = |more: &[&str]| told(&fit(data.path(), MODEL, &socket, &[&["--epochs", "1"], more].concat()));
    check(
        fit(&["--device", "cuda"]),
        &expect![
            "this trainer was built without CUDA: build with `cargo build --release -p batchmill-trainer --features cuda`"
        ],
    );
    #[cfg(not(feature = "wgpu"))]
    check(
        fit(&["--device", "wgpu"]),
        &expect![
            "this trainer was built without WGPU: build with `cargo build --release -p batchmill-trainer --features wgpu`"
        ],
    );
    check(fit(&["--stream", "trian"]), &expect!["this loader serves no stream `trian`; did you mean `train`?"]);
    check(fit(&["--eval", "tset"]), &expect!["this loader serves no stream `tset`; did you mean `test`?"]);

    let predict = |checkpoint: &Path, image: &Path| {
        let arguments = ["predict".as_ref(), "--checkpoint".as_ref(), checkpoint.as_os_str(), image.as_os_str()];
        told(&PROGRAMS.run_trainer(arguments))
    };
    let image = data.path().join("shapes/test/000040.png");
    check(
        predict(&data.path().join("run"), &image),
        &expect![
            "read the checkpoint DATA/run: it has no checkpoint.json: name a folder that `trainer fit --out` wrote"
        ],
    );
    loader.stop();
    check(
        fit(&[]),
        &expect![
            "no loader answers at SOCKET: start one with `loader serve`, or name its address with --socket: No such file or directory (os error 2)"
        ],
    );
    let missing = ["summary".into(), "--model".into(), folder().path().join("m.toml").into_os_string()];
    assert!(told(&PROGRAMS.run_trainer(missing)).contains("m.toml"));
}
