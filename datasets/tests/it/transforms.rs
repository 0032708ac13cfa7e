//! The transforms against torchvision's sizes, offsets and colours.

use batchmill_datasets::options::{Options, Role};
use batchmill_datasets::random::Rng;
use batchmill_datasets::sample::{Array, Image, Sample, Value};
use batchmill_datasets::spec::{Component, SpecError};
use batchmill_datasets::transform::{Transform, TransformError};
use batchmill_datasets::transforms::{CenterCrop, Color, Resize};
use expect_test::expect;
use toml::Value::Integer;

fn options(options: Component) -> Options<'static> {
    Options::new(Role::Transform(0), &options, "/".as_ref())
}

fn size(size: impl Into<toml::Value>) -> Options<'static> {
    options(Component::new("any").with("size", size))
}

/// A transform from the TOML of its options.
pub(crate) fn make<T>(new: fn(&mut Options) -> Result<T, SpecError>, table: &str) -> T {
    let mut options = options(Component { kind: "any".to_owned(), options: table.parse().unwrap() });
    let made = new(&mut options).and_then(|made| options.finish().map(|()| made));
    made.unwrap_or_else(|error| panic!("{table}: {error}"))
}

/// What a user reads who gives such options.
pub(crate) fn refusal<T>(new: fn(&mut Options) -> Result<T, SpecError>, table: &str) -> String {
    let mut options = options(Component { kind: "any".to_owned(), options: table.parse().unwrap() });
    match new(&mut options).and_then(|_| options.finish()) {
        Ok(()) => panic!("{table} was accepted"),
        Err(error) => error.to_string(),
    }
}

/// What a user reads when an image cannot be transformed.
pub(crate) fn failure(transform: &dyn Transform, image: Image) -> String {
    crate::support::report(&apply(transform, image).unwrap_err())
}

pub(crate) fn rng() -> Rng {
    Rng::new(0, 0, 0, 0, 0)
}

/// An image whose every byte counts on from the one before.
pub(crate) fn counted(height: usize, width: usize, channels: usize) -> Image {
    let bytes = (0..height * width * channels).map(|place| u8::try_from(place % 251).unwrap());
    Image::new(height, width, channels, bytes.collect()).unwrap()
}

pub(crate) fn apply(transform: &dyn Transform, image: Image) -> Result<Image, TransformError> {
    let sample = transform.apply(Sample::new().with("image", image), &mut rng())?;
    match sample.get("image") {
        Some(Value::Image(image)) => Ok(image.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn resize_brings_the_shorter_side_to_size() {
    let shape = |height, width, pixels: i64| {
        let resize = Resize::from_options(&mut size(pixels)).unwrap();
        let [height, width, _] = apply(&resize, counted(height, width, 3)).unwrap().shape();
        (height, width)
    };
    // torchvision: the longer side is int(size * long / short).
    assert_eq!(shape(480, 640, 256), (256, 341));
    assert_eq!(shape(640, 480, 256), (341, 256));
    assert_eq!(shape(500, 375, 256), (341, 256));
    assert_eq!(shape(100, 100, 7), (7, 7));
    assert_eq!(shape(3, 2, 5), (7, 5));
    assert_eq!(shape(256, 300, 256), (256, 300));
    assert_eq!(shape(1, 500, 2), (2, 1000));
}

#[test]
fn resize_takes_height_and_width() {
    let both = toml::Value::Array(vec![Integer(10), Integer(20)]);
    let resize = Resize::from_options(&mut size(both)).unwrap();
    for channels in 1..=4 {
        assert_eq!(apply(&resize, counted(33, 44, channels)).unwrap().shape(), [10, 20, channels]);
    }
}

#[test]
fn resize_is_antialiased() {
    // One white column in eight: without antialiasing it would vanish or fill the result.
    let stripes = (0..64 * 64).map(|place| if place % 8 == 0 { 255 } else { 0 });
    let image = Image::new(64, 64, 1, stripes.collect()).unwrap();
    let small = apply(&Resize::from_options(&mut size(8)).unwrap(), image).unwrap();
    let inner = &small.pixels()[1..7];
    assert!(inner.iter().all(|pixel| (24..40).contains(pixel)), "{inner:?}, expected near 255 / 8");
}

#[test]
fn resize_keeps_a_plain_colour() {
    let image = Image::new(37, 53, 3, [10, 200, 77].repeat(37 * 53)).unwrap();
    let resized = apply(&Resize::from_options(&mut size(16)).unwrap(), image).unwrap();
    assert!(resized.pixels().chunks_exact(3).all(|pixel| pixel == [10, 200, 77]));
}

#[test]
fn center_crop_rounds_as_torchvision_does() {
    // int(round(spare / 2.0)) in Python: a half goes to the even neighbour.
    for (width, left) in [(4, 0), (5, 0), (6, 1), (7, 2), (8, 2), (9, 2), (10, 3), (11, 4)] {
        let crop = CenterCrop::from_options(&mut size(4)).unwrap();
        let image = apply(&crop, counted(4, width, 1)).unwrap();
        assert_eq!(image.shape(), [4, 4, 1]);
        let expected: Vec<u8> =
            (0..4).flat_map(|row| (0..4).map(move |x| u8::try_from(row * width + left + x).unwrap())).collect();
        assert_eq!(image.pixels(), expected, "width {width}");
    }
}

#[test]
fn center_crop_takes_height_and_width() {
    let both = toml::Value::Array(vec![Integer(1), Integer(2)]);
    let image = apply(&CenterCrop::from_options(&mut size(both)).unwrap(), counted(3, 4, 3)).unwrap();
    assert_eq!((image.shape(), image.pixels()), ([1, 2, 3], &[15, 16, 17, 18, 19, 20][..]));
}

#[test]
fn color_converts_both_ways() {
    let mode = |mode: &str| Color::from_options(&mut options(Component::new("color").with("mode", mode))).unwrap();
    let colours = Image::new(1, 5, 3, vec![255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255, 10, 20, 30]).unwrap();
    let gray = apply(&mode("gray"), colours.clone()).unwrap();
    // Pillow: Image.convert("L").
    assert_eq!((gray.shape(), gray.pixels()), ([1, 5, 1], &[76, 150, 29, 255, 18][..]));
    let back = apply(&mode("rgb"), gray.clone()).unwrap();
    assert_eq!((back.shape(), &back.pixels()[..6]), ([1, 5, 3], &[76, 76, 76, 150, 150, 150][..]));
    assert_eq!(apply(&mode("rgb"), colours.clone()).unwrap(), colours);
    assert_eq!(apply(&mode("gray"), gray.clone()).unwrap(), gray);
}

#[test]
fn what_cannot_be_transformed_is_said() {
    let crop = CenterCrop::from_options(&mut size(224)).unwrap();
    expect![[r#"
        the image has 180 x 300 pixels (height x width), too few for a crop of 224 x 224; put a `resize` before it or crop less"#]]
    .assert_eq(&apply(&crop, counted(180, 300, 3)).unwrap_err().to_string());
    let resize = Resize::from_options(&mut size(2)).unwrap();
    expect!["resize 4 x 4 pixels to 2 x 2: the image has 5 channels, expected 1 to 4"]
        .assert_eq(&crate::support::report(&apply(&resize, counted(4, 4, 5)).unwrap_err()));
    let color = Color::from_options(&mut options(Component::new("color").with("mode", "rgb"))).unwrap();
    expect!["the image has 2 channels, expected 1 (gray), 3 (rgb) or 4 (rgba)"]
        .assert_eq(&apply(&color, counted(4, 4, 2)).unwrap_err().to_string());
    expect!["the image in `image` is empty: it has 0 x 4 pixels (height x width) of 3 channels"]
        .assert_eq(&crate::support::report(&apply(&resize, counted(0, 4, 3)).unwrap_err()));
    let thin = Resize::from_options(&mut size(65_535)).unwrap();
    expect!["resize 1 x 500 pixels to 65535 x 32767500: the result would have more than 1073741824 bytes"]
        .assert_eq(&crate::support::report(&apply(&thin, counted(1, 500, 3)).unwrap_err()));
    let sample = Sample::new().with("label", Array::scalar_i64(1));
    expect!["the sample has no image in a field `image`; it has label: i64 []"]
        .assert_eq(&crop.apply(sample, &mut Rng::new(0, 0, 0, 0, 0)).unwrap_err().to_string());
}

#[test]
fn wrong_sizes_are_refused() {
    let refused = |value: toml::Value| Resize::from_options(&mut size(value)).unwrap_err().to_string();
    expect!["transform `any`: `size` is 0, not an integer from 1 to 65535 or [height, width]"]
        .assert_eq(&refused(Integer(0)));
    expect![[r#"transform `any`: `size` is "big", not an integer from 1 to 65535 or [height, width]"#]]
        .assert_eq(&refused("big".into()));
    expect!["transform `any`: `size` is [1, 2, 3], not an integer from 1 to 65535 or [height, width]"]
        .assert_eq(&refused(vec![1, 2, 3].into()));
    expect!["transform `any`: `size` is [1, -2], not an integer from 1 to 65535 or [height, width]"]
        .assert_eq(&refused(vec![1, -2].into()));
    let missing = Resize::from_options(&mut options(Component::new("resize").with("sise", 3)));
    expect!["unknown key `sise` of transform `resize`; did you mean `size`?"]
        .assert_eq(&missing.unwrap_err().to_string());
    let missing = Resize::from_options(&mut options(Component::new("resize")));
    expect!["transform `resize` needs the key `size`"].assert_eq(&missing.unwrap_err().to_string());
}
