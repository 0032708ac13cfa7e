//! What bad input gets: one clear sentence, an exit code, and nothing left behind.

use std::fs;
use std::path::Path;

use batchmill_tests::{Programs, folder, programs, told};
use expect_test::{Expect, expect};

const PROGRAMS: Programs = programs!();

/// Writes an image of `width` x `height` pixels; its format follows from its name.
fn image(path: &Path, width: u32, height: u32) {
    fs::create_dir_all(path.parent().expect("in a folder")).expect("made");
    let shade = |place: u32| u8::try_from(place * 9).expect("the images are small");
    image::RgbImage::from_fn(width, height, |x, y| image::Rgb([shade(x), shade(y), 40])).save(path).expect("written");
}

/// Three images and a CSV, changed by `spoil`, served with `more` options: what is told, without the folder's path.
fn check(spoil: impl Fn(&Path), more: &[&str], expected: &Expect) {
    let data = folder();
    for name in ["a.png", "b.jpg", "c.png"] {
        image(&data.path().join("images").join(name), 20, 16);
    }
    fs::write(data.path().join("labels.csv"), "filepath,label\na.png,cat\nb.jpg,dog\nc.png,cat\n").expect("written");
    spoil(data.path());
    let (images, labels) = (data.path().join("images"), data.path().join("labels.csv"));
    let arguments = ["--images".as_ref(), images.as_os_str(), "--labels".as_ref(), labels.as_os_str()];
    let told = PROGRAMS.refusal(arguments.into_iter().chain(more.iter().map(AsRef::as_ref)));
    expected.assert_eq(&told.replace(&data.path().display().to_string(), "DATA"));
}

/// The same with another CSV.
fn check_csv(csv: &str, expected: &Expect) {
    check(|data| fs::write(data.join("labels.csv"), csv).expect("written"), &[], expected);
}

#[test]
fn data_that_is_not_there() {
    check(
        |data| fs::remove_dir_all(data.join("images")).expect("removed"),
        &[],
        &expect!["open stream `train`: DATA/images: the folder with the images does not exist"],
    );
    check(
        |data| fs::remove_file(data.join("labels.csv")).expect("removed"),
        &[],
        &expect!["open stream `train`: DATA/labels.csv: the CSV file with the labels does not exist"],
    );
    check(
        |data| fs::remove_file(data.join("images/b.jpg")).expect("removed"),
        &[],
        &expect!["open stream `train`: DATA/labels.csv:3: b.jpg does not exist in DATA/images"],
    );
}

#[test]
fn tables_that_make_no_sense() {
    check_csv("", &expect!["open stream `train`: DATA/labels.csv: empty, expected a row (path, label) for each image"]);
    check_csv(
        "filepath,label\n",
        &expect![
            "open stream `train`: DATA/labels.csv: a header and no rows, expected a row (path, label) for each image"
        ],
    );
    check_csv(
        "filepath,label\na.png,cat\nb.jpg\nc.png,cat\n",
        &expect!["open stream `train`: DATA/labels.csv:3: 1 column, expected 2 (path, label)"],
    );
    check_csv(
        "filepath,label\na.png,cat,brown\n",
        &expect!["open stream `train`: DATA/labels.csv:2: 3 columns, expected 2 (path, label)"],
    );
    check_csv(
        "filepath,label\na.png,0\nb.jpg,dog\nc.png,2\n",
        &expect![
            "open stream `train`: DATA/labels.csv:3: label `dog` is neither an integer, as the labels before it, nor a known class"
        ],
    );
}

#[test]
fn images_of_different_sizes() {
    // Not the first batch's business: the stream opens, and the step that meets it fails.
    let data = folder();
    image(&data.path().join("a.png"), 20, 16);
    image(&data.path().join("b.png"), 16, 16);
    fs::write(data.path().join("labels.csv"), "a.png,0\nb.png,1\n").expect("written");
    drain_fails(
        data.path(),
        &expect![
            "epoch 0 step 0 cannot be made: DATA/b.png: image: u8 [16, 16, 3], but that of the stream's first sample is u8 [16, 20, 3]; a batch needs images of one size: add the transforms `resize` and `center-crop` (--resize N --crop N)"
        ],
    );
}

#[test]
fn files_that_are_no_images() {
    let data = folder();
    image(&data.path().join("a.png"), 20, 16);
    fs::write(data.path().join("b.png"), "This is a poem, not a picture.").expect("written");
    fs::write(data.path().join("labels.csv"), "a.png,0\nb.png,1\n").expect("written");
    drain_fails(
        data.path(),
        &expect![[
            r#"epoch 0 step 0 cannot be made: decode DATA/b.png: not an image: it begins with the text "This is a po", unlike a JPEG, PNG, WebP, BMP, GIF or TIFF"#
        ]],
    );

    image(&data.path().join("b.jpg"), 20, 16);
    let whole = fs::read(data.path().join("b.jpg")).expect("written");
    fs::write(data.path().join("b.jpg"), &whole[..whole.len() - 40]).expect("written");
    fs::write(data.path().join("labels.csv"), "a.png,0\nb.jpg,1\n").expect("written");
    drain_fails(
        data.path(),
        &expect![
            "epoch 0 step 0 cannot be made: decode DATA/b.jpg: broken JPEG: TurboJPEG error: Premature end of JPEG file"
        ],
    );
}

/// Serves `data` and expects the first step to fail; the loader lives on and ends well.
fn drain_fails(data: &Path, expected: &Expect) {
    let labels = data.join("labels.csv");
    let arguments = ["--images".as_ref(), data.as_os_str(), "--labels".as_ref(), labels.as_os_str()];
    let loader = batchmill_tests::Loader::start(PROGRAMS, arguments);
    let output = loader.command(&["drain", "--stream", "train"]);
    expected.assert_eq(&told(&output).replace(&data.display().to_string(), "DATA"));
    loader.stop();
}

#[test]
fn options_that_cannot_be() {
    check(
        |_| {},
        &["--batch-size", "0"],
        &expect!["stream `train`: `batch_size` is 0, not an integer from 1 to 16777216"],
    );
    check(
        |_| {},
        &["--memory", "4KiB"],
        &expect![
            "open stream `train`: a batch of 64 samples takes 68 KiB and 2 must fit its share of the memory, 4.0 KiB: raise --memory (or `memory`), or lower the batch size"
        ],
    );
    check(
        |_| {},
        &["--crop", "64"],
        &expect![
            "open stream `train`: DATA/images/a.png: transform 1, `center-crop`: the image has 16 x 20 pixels (height x width), too few for a crop of 64 x 64; put a `resize` before it or crop less"
        ],
    );
    check(
        |_| {},
        &["--tail", "drop"],
        &expect![[
            r#"open stream `train`: `tail` = "drop" leaves no batch of 64 from 3 samples; lower `batch_size`, or set `tail` to "short" or "pad""#
        ]],
    );
}

#[test]
fn more_memory_than_there_is() {
    let data = folder();
    let config = data.path().join("loader.toml");
    fs::write(&config, "[stream.n]\ndataset = { kind = 'numbers', len = 40 }\n").expect("written");
    let told = PROGRAMS.refusal(["--config".as_ref(), config.as_os_str(), "--memory".as_ref(), "900TiB".as_ref()]);
    assert!(told.starts_with("shared memory of 900 TiB was asked for and "), "{told}");
    assert!(told.ends_with(" is available: lower --memory (or `memory`), or the batch size"), "{told}");
}

#[test]
fn a_configuration_with_a_wrong_key_names_its_line() {
    let data = folder();
    let config = data.path().join("loader.toml");
    let told = |text: &str| {
        fs::write(&config, text).expect("written");
        let told = PROGRAMS.refusal(["--config".as_ref(), config.as_os_str()]);
        told.replace(&data.path().display().to_string(), "DATA")
    };
    let stream = "[stream.train]\ndataset = { kind = 'image-folder-csv', imgaes = 'a', labels = 'b' }\n";
    expect!["DATA/loader.toml:2: unknown key `imgaes` of dataset `image-folder-csv`; did you mean `images`?"]
        .assert_eq(&told(stream));
    expect!["DATA/loader.toml:2: unknown dataset `image-folder-cvs`; did you mean `image-folder-csv`?"]
        .assert_eq(&told(&stream.replace("image-folder-csv", "image-folder-cvs")));
    expect!["DATA/loader.toml:2: unclosed table, expected `]`"].assert_eq(&told("workers = 2\n[stream.train\n"));
    fs::remove_file(&config).expect("removed");
    let told = PROGRAMS.refusal(["--config".as_ref(), config.as_os_str()]);
    expect!["read the configuration DATA/loader.toml: No such file or directory (os error 2)"]
        .assert_eq(&told.replace(&data.path().display().to_string(), "DATA"));
}

#[test]
fn a_loader_that_is_not_there_and_a_stream_that_is_not_served() {
    let data = folder();
    let socket = data.path().join("s");
    for command in [&["status"][..], &["scale", "2"], &["stop"], &["drain", "--stream", "train"]] {
        let output =
            PROGRAMS.run_loader(command.iter().map(AsRef::as_ref).chain(["--socket".as_ref(), socket.as_os_str()]));
        let expected = format!(
            "no loader answers at {}: start one with `loader serve`, or name its address with --socket: No such file or \
             directory (os error 2)",
            socket.display()
        );
        assert_eq!(told(&output), expected);
    }
    let numbers = "dataset = { kind = 'numbers', len = 40 }\n";
    let loader = PROGRAMS.serve(data.path(), &format!("[stream.test]\n{numbers}[stream.train]\n{numbers}"));
    let output = loader.command(&["drain", "--stream", "trian"]);
    expect!["this loader serves no stream `trian`; did you mean `train`?"].assert_eq(&told(&output));
    let output = loader.command(&["drain", "--stream", "train", "--from", "0:1"]);
    expect!["an epoch of stream `train` has 1 batches, so there is no epoch 0 step 1: begin at step 0 or before"]
        .assert_eq(&told(&output));
    loader.stop();
}

#[test]
fn an_address_that_cannot_be_used() {
    let data = folder();
    let config = data.path().join("loader.toml");
    fs::write(&config, "[stream.n]\ndataset = { kind = 'numbers', len = 40 }\n").expect("written");
    let told = |socket: &Path| {
        let arguments =
            ["serve".as_ref(), "--config".as_ref(), config.as_os_str(), "--socket".as_ref(), socket.as_os_str()];
        told(&PROGRAMS.run_loader(arguments)).replace(&data.path().display().to_string(), "DATA")
    };
    expect!["DATA/loader.toml exists and is not a socket: choose another address with --socket"]
        .assert_eq(&told(&config));
    expect!["the folder DATA/nowhere for the socket does not exist: make it, or choose another address with --socket"]
        .assert_eq(&told(&data.path().join("nowhere/s")));
    let long = told(&data.path().join("s".repeat(120)));
    assert!(long.contains("bytes too long for a Unix socket: choose a shorter one with --socket"), "{long}");
}
