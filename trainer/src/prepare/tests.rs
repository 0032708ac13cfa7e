//! What an image file becomes for a model.

use std::error::Error;
use std::io::Cursor;

use batchmill_datasets::builtin;
use batchmill_datasets::spec::StreamSpec;
use batchmill_protocol::tensor::Dtype;
use expect_test::{Expect, expect};
use image::{DynamicImage, ImageFormat};
use serde_json::json;

use super::*;

fn view(dataset: Json, transforms: &Json) -> View {
    let transforms = transforms.as_array().expect("a list").clone();
    View { stream: "test".to_owned(), dataset, transforms, decoder: decoder() }
}

fn input(shape: [usize; 3]) -> FieldSpec {
    FieldSpec::new("image", Dtype::U8, shape)
}

fn prepare(view: &View, takes: [usize; 3], file: &[u8]) -> Result<Vec<u8>, PrepareError> {
    Preparation::new(view, &input(takes), &builtin())?.apply(file)
}

fn file(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).expect("it can be encoded");
    bytes.into_inner()
}

/// Every pixel is another one than its neighbours.
fn noise(height: u32, width: u32) -> image::RgbImage {
    let byte = |number: u32| u8::try_from(number % 251).expect("below 251");
    image::RgbImage::from_fn(width, height, |x, y| image::Rgb([byte(x * 7 + y), byte(x * y), byte(x + y * 31)]))
}

#[test]
fn an_image_becomes_the_bytes_that_the_stream_delivers() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut rows = String::from("file,label\n");
    let files: Vec<_> = [(ImageFormat::Jpeg, "jpg"), (ImageFormat::Png, "png"), (ImageFormat::WebP, "webp")]
        .into_iter()
        .zip([(40, 56), (61, 33), (48, 48)])
        .map(|((format, extension), (height, width))| {
            let (name, bytes) = (format!("{extension}.{extension}"), file(noise(height, width), format));
            std::fs::write(folder.path().join(&name), &bytes).expect("it can be written");
            rows += &format!("{name},0\n");
            bytes
        })
        .collect();
    std::fs::write(folder.path().join("rows.csv"), rows).expect("it can be written");
    for color in ["rgb", "gray"] {
        let table = format!(
            "dataset = {{ kind = 'subset', range = [0, 3], dataset = {{ kind = 'image-folder-csv', images = '.', labels = 'rows.csv', color = '{color}' }} }}\n\
             transforms = [{{ kind = 'resize', size = 30, interpolation = 'bicubic' }}, {{ kind = 'center-crop', size = [24, 20] }}, \
             {{ kind = 'posterize', bits = 7, p = 1.0 }}, {{ kind = 'label-map', map = [3] }}]\n"
        );
        let spec = StreamSpec::from_table("test", table.parse().expect("a table"), folder.path()).expect("a spec");
        let pipeline = builtin().pipeline(&spec).expect("it can be opened");
        let batch = pipeline.batches(0).expect("it can be read").next().expect("one").expect("no image is broken");
        let takes = batch.fields()[0].clone();
        let spec = serde_json::to_value(&spec).expect("a spec has a JSON form");
        let described = |transform: &Json| {
            let mut options = transform["options"].clone();
            options["kind"] = transform["kind"].clone();
            options
        };
        let transforms = spec["transforms"].as_array().expect("a list").iter().map(described).collect();
        let view = View { stream: "test".to_owned(), dataset: spec["dataset"].clone(), transforms, decoder: decoder() };
        let preparation = Preparation::new(&view, &takes, &builtin()).expect("it can be made");
        assert_eq!(preparation.notes(), [""; 0]);
        let delivered =
            batch.field("image").expect("the field").chunks_exact(batch.field("image").map_or(0, <[u8]>::len) / 3);
        for (delivered, file) in delivered.zip(&files) {
            assert!(preparation.apply(file).expect("an image") == delivered, "the bytes differ, {color}");
        }
    }
}

#[test]
fn what_is_drawn_is_done_alike_and_said_once() {
    let transforms = json!([
        {"kind": "random-crop", "size": 32, "padding": 4},
        {"kind": "horizontal-flip"},
        {"kind": "color-jitter", "brightness": 0.2},
        {"kind": "label-map", "map": [1, 0]},
    ]);
    let preparation =
        Preparation::new(&view(Json::Null, &transforms), &input([32, 32, 3]), &builtin()).expect("it can be made");
    expect![[r#"
        stream `test`: `random-crop` draws a place: the middle is taken
        stream `test`: `horizontal-flip` draws what it does: it is left out
        stream `test`: `color-jitter` draws what it does: it is left out"#]]
    .assert_eq(&preparation.notes().join("\n"));
    let image = noise(32, 32);
    // What was padded is cut off again.
    assert_eq!(preparation.apply(&file(image.clone(), ImageFormat::Png)).expect("an image"), image.into_raw());
}

#[test]
fn another_decoder_is_told_of() {
    let other = View { decoder: "zune-jpeg, version 1".to_owned(), ..view(Json::Null, &json!([])) };
    let preparation = Preparation::new(&other, &input([2, 2, 3]), &builtin()).expect("it can be made");
    let notes = preparation.notes().join("\n").replace(&decoder(), "HERE");
    expect!["stream `test` was decoded by zune-jpeg, version 1, images here are by HERE: single bytes may differ"]
        .assert_eq(&notes);
}

#[test]
fn colours_are_those_of_the_dataset_or_of_the_model() {
    let red = file(image::RgbImage::from_pixel(1, 1, image::Rgb([255, 0, 0])), ImageFormat::Png);
    let check = |dataset: Json, transforms: Json, channels: usize, expected: &[u8]| {
        assert_eq!(prepare(&view(dataset, &transforms), [1, 1, channels], &red).expect("an image"), expected);
    };
    check(json!({"kind": "mnist", "options": {}}), json!([]), 1, &[76]);
    check(json!({"kind": "cifar10", "options": {}}), json!([]), 3, &[255, 0, 0]);
    check(json!({"kind": "image-folder", "options": {"color": "rgba"}}), json!([]), 4, &[255, 0, 0, 255]);
    check(
        json!({"kind": "image-folder", "options": {"color": "gray"}}),
        json!([{"kind": "color", "mode": "rgb"}]),
        3,
        &[76; 3],
    );
    check(json!({"kind": "cifar10", "options": {}}), json!([{"kind": "color", "mode": "gray"}]), 1, &[76]);
    let deep = json!({"kind": "concat", "options": {"datasets": [{"kind": "image-folder", "color": "gray"}]}});
    check(deep, json!([]), 1, &[76]);
}

#[test]
fn a_camera_that_was_turned_is_turned_as_the_stream_does() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../datasets/tests/golden/images/jpeg-orientation-6.jpg");
    let bytes = std::fs::read(path).expect("a golden file");
    let size = |turned: bool| {
        let dataset = json!({"kind": "image-folder", "options": {"exif_orientation": turned}});
        prepare(&view(dataset, &json!([])), [24, 16, 3], &bytes).expect("it is scaled and cut")
    };
    assert!(size(true) != size(false), "both are the same");
}

#[test]
fn without_a_transform_of_sizes_the_middle_is_taken() {
    // 12 by 4: black, white, black in three squares.
    let wide = image::RgbImage::from_fn(12, 4, |x, _| image::Rgb([if (4..8).contains(&x) { 255 } else { 0 }; 3]));
    let bytes = file(wide.clone(), ImageFormat::Png);
    let view = |transforms: &Json| self::view(Json::Null, transforms);
    assert_eq!(prepare(&view(&json!([])), [4, 12, 3], &bytes).expect("it fits"), wide.into_raw());
    assert_eq!(prepare(&view(&json!([])), [4, 4, 1], &bytes).expect("it fits"), vec![255; 16]);
    let negative = json!([{"kind": "invert", "p": 1}]);
    assert_eq!(prepare(&view(&negative), [4, 4, 1], &bytes).expect("it fits"), vec![0; 16]);
    for takes in [[2, 2, 3], [9, 2, 3], [2, 9, 3], [1, 1, 3]] {
        let prepared = prepare(&view(&json!([])), takes, &bytes).expect("it covers every size");
        assert_eq!(prepared.len(), takes.iter().product::<usize>());
    }
}

#[test]
fn an_image_that_does_not_become_what_the_model_takes_is_refused() {
    let check = |transforms: Json, takes: [usize; 3], file: &[u8], expected: Expect| {
        let error = prepare(&view(Json::Null, &transforms), takes, file).expect_err("it does not fit");
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        expected.assert_eq(&text);
    };
    let png = |height, width| file(noise(height, width), ImageFormat::Png);
    check(
        json!([{"kind": "resize", "size": 28}]),
        [28, 28, 1],
        &png(40, 80),
        expect![
            "its 40x80 pixels (height x width) become u8 [28, 56, 1] by the transforms of stream `test`, but the model takes u8 [28, 28, 1]: cut or scale the image to the proportions of those it was trained on"
        ],
    );
    check(
        json!([{"kind": "center-crop", "size": 28}]),
        [28, 28, 3],
        &png(40, 20),
        expect![
            "apply `center-crop`: the image has 40 x 20 pixels (height x width), too few for a crop of 28 x 28; put a `resize` before it or crop less"
        ],
    );
    check(
        json!([]),
        [224, 224, 3],
        &png(6000, 1),
        expect![
            "apply `resize`: the image is too thin to be scaled to the model's size: transform `resize`: `size` is [1344000, 224], not an integer from 1 to 65535 or [height, width]"
        ],
    );
    check(
        json!([{"kind": "flip", "chance": 0.5}]),
        [28, 28, 1],
        &png(28, 28),
        expect![[
            r#"make the transform {"chance":0.5,"kind":"flip"} of stream `test` (is it one of your own? Then build a trainer with it: `batchmill_trainer::run`): unknown transform `flip`; did you mean `clip`?"#
        ]],
    );
    check(
        json!([{"kind": "resize", "size": 28, "antialias": false}]),
        [28, 28, 1],
        &png(28, 28),
        expect![[
            r#"make the transform {"antialias":false,"kind":"resize","size":28} of stream `test` (is it one of your own? Then build a trainer with it: `batchmill_trainer::run`): unknown key `antialias` of transform `resize`; there are `longest`, `size`, `interpolation`, `field`"#
        ]],
    );
    check(
        json!([]),
        [2, 2, 2],
        &png(2, 2),
        expect![
            "its 2x2 pixels (height x width) become u8 [2, 2, 3] by the transforms of stream `test`, but the model takes u8 [2, 2, 2]: cut or scale the image to the proportions of those it was trained on"
        ],
    );
    check(
        json!([]),
        [2, 2, 3],
        b"not an image",
        expect![[
            r#"decode it: not an image: it begins with the text "not an image", unlike a JPEG, PNG, WebP, BMP, GIF or TIFF"#
        ]],
    );
    check(json!([]), [2, 2, 3], &png(2, 2)[..60], expect!["decode it: broken PNG: unexpected end of file"]);
}
