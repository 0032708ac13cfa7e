//! Images out of files, prepared for a model as its stream prepared those it was trained on.

use std::num::NonZeroU16;

use image::{DynamicImage, imageops::FilterType};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::shape::ImageShape;

/// The most pixels of a scaled image: a thin one has a very long side once its short one is scaled up.
const PIXELS_MAX: u64 = 1 << 28;

/// Why an image cannot be prepared.
#[derive(Debug, Error)]
pub enum PrepareError {
    /// A transform of another loader, or one of somebody's own.
    #[error("the stream's transform {transform} is none that predict can do: train on a stream without it")]
    Transform {
        /// As JSON.
        transform: String,
        /// What is not known about it.
        source: serde_json::Error,
    },
    /// The model was trained on something that is no image.
    #[error("the checkpoint's model takes images of {channels} channels, but an image file has 1 or 3")]
    Channels {
        /// Numbers of a pixel.
        channels: usize,
    },
    /// It has fewer pixels than are to be cut out of it.
    #[error(
        "{height}x{width} pixels (height x width) are too few for the stream's center-crop of \
         {crop_height}x{crop_width}: take a larger image"
    )]
    TooSmall {
        /// Rows.
        height: u32,
        /// Columns.
        width: u32,
        /// Rows to cut out.
        crop_height: u32,
        /// Columns to cut out.
        crop_width: u32,
    },
    /// Scaled as the stream scales, it would fill the memory.
    #[error(
        "{height}x{width} pixels (height x width) are so thin that the stream's resize would make more than \
         {PIXELS_MAX} of them: cut the image"
    )]
    TooThin {
        /// Rows.
        height: u32,
        /// Columns.
        width: u32,
    },
    /// The stream's transforms leave the size to the file.
    #[error(
        "its {height}x{width} pixels (height x width) become {becomes} by the stream's transforms, but the model takes \
         {takes}: cut or scale the image to the proportions of those it was trained on"
    )]
    Shape {
        /// Rows of the file's image.
        height: u32,
        /// Columns of it.
        width: u32,
        /// What the transforms make of it.
        becomes: ImageShape,
        /// What the model was trained on.
        takes: ImageShape,
    },
}

/// The colours of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Color {
    Rgb,
    Gray,
}

/// One number, or height and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Size {
    One(NonZeroU16),
    Both([NonZeroU16; 2]),
}

/// A transform of the loader that has one outcome for one image; what is drawn at random has no place here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum Step {
    Color { mode: Color },
    Resize { size: Size },
    CenterCrop { size: Size },
}

/// What is done to an image before a model sees it.
///
/// Where no transform of the stream changes sizes, its files had the model's size. An image of another one is then
/// scaled until it just covers that size, and the middle is cut out.
#[derive(Clone, Debug)]
pub struct Preparation {
    begins_as: Color,
    steps: Vec<Step>,
    takes: ImageShape,
}

impl Preparation {
    /// Reads the transforms of a stream, for a model that takes images of shape `takes`.
    ///
    /// # Errors
    /// [`PrepareError::Transform`] with the first that cannot be done, [`PrepareError::Channels`] when no image has as
    /// many as the model takes.
    pub fn new(transforms: &[Value], takes: ImageShape) -> Result<Self, PrepareError> {
        let step = |transform: &Value| {
            let unknown = |source| PrepareError::Transform { transform: transform.to_string(), source };
            Step::deserialize(transform).map_err(unknown)
        };
        let steps: Vec<Step> = transforms.iter().map(step).collect::<Result<_, _>>()?;
        // What the stream decoded to is not told. Where it then changes colours, beginning with all of them loses
        // nothing: gray in three equal channels stays the same gray.
        let begins_as = match takes.channels {
            1 | 3 if steps.iter().any(|step| matches!(step, Step::Color { .. })) => Color::Rgb,
            1 => Color::Gray,
            3 => Color::Rgb,
            channels => return Err(PrepareError::Channels { channels }),
        };
        Ok(Self { begins_as, steps, takes })
    }

    /// Gives the bytes a model takes, `[height, width, channels]`, row-major.
    ///
    /// # Errors
    /// [`PrepareError`], when the image comes out in another shape than the model's.
    pub fn apply(&self, image: DynamicImage) -> Result<Vec<u8>, PrepareError> {
        let (width, height) = (image.width(), image.height());
        let mut image = self.begins_as.convert(image);
        for step in &self.steps {
            image = step.apply(image)?;
        }
        if self.steps.iter().all(|step| matches!(step, Step::Color { .. })) {
            image = cover(image, self.takes);
        }
        let becomes = shape_of(&image);
        if becomes != self.takes {
            return Err(PrepareError::Shape { height, width, becomes, takes: self.takes });
        }
        Ok(image.into_bytes())
    }
}

impl Color {
    /// Converts to one channel or three, of a byte each; alpha is dropped.
    fn convert(self, image: DynamicImage) -> DynamicImage {
        match self {
            Self::Rgb => DynamicImage::ImageRgb8(image.into_rgb8()),
            Self::Gray if image.color().has_color() => DynamicImage::ImageLuma8(luma(&image.into_rgb8())),
            Self::Gray => DynamicImage::ImageLuma8(image.into_luma8()),
        }
    }
}

/// Luma of every pixel; `image` itself would weigh the colours by BT.709.
///
/// *Source* ITU-R BT.601 in 16-bit fixed point, as Pillow's `convert("L")` and `datasets/src/decode.rs`.
fn luma(rgb: &image::RgbImage) -> image::GrayImage {
    image::GrayImage::from_fn(rgb.width(), rgb.height(), |x, y| {
        let [red, green, blue] = rgb.get_pixel(x, y).0.map(u32::from);
        let [_, luma_byte, ..] = (red * 19_595 + green * 38_470 + blue * 7_471 + 0x8000).to_be_bytes();
        image::Luma([luma_byte])
    })
}

impl Step {
    fn apply(self, image: DynamicImage) -> Result<DynamicImage, PrepareError> {
        match self {
            Self::Color { mode } => Ok(mode.convert(image)),
            Self::Resize { size } => resize(image, size),
            Self::CenterCrop { size } => center_crop(&image, size.height_and_width()),
        }
    }
}

impl Size {
    /// One number is both.
    fn height_and_width(self) -> [u32; 2] {
        match self {
            Self::One(side) => [side, side],
            Self::Both(sides) => sides,
        }
        .map(|side| side.get().into())
    }

    /// What an image is scaled to: one number is its new shorter side, and the longer one is rounded down.
    ///
    /// *Source* torchvision's `Resize`.
    fn scaled(self, height: u32, width: u32) -> [u64; 2] {
        let [height, width] = [height, width].map(u64::from);
        match self {
            Self::Both(sides) => sides.map(|side| side.get().into()),
            Self::One(side) if width <= height => [u64::from(side.get()) * height / width.max(1), side.get().into()],
            Self::One(side) => [side.get().into(), u64::from(side.get()) * width / height.max(1)],
        }
    }
}

/// Scales, bilinear over all pixels that shrink into one, as torchvision does with `antialias=True`.
fn resize(image: DynamicImage, size: Size) -> Result<DynamicImage, PrepareError> {
    let (height, width) = (image.height(), image.width());
    let scaled = size.scaled(height, width);
    let sides = scaled.map(u32::try_from);
    match sides {
        [Ok(to_height), Ok(to_width)] if scaled[0] * scaled[1] <= PIXELS_MAX => {
            if (to_height, to_width) == (height, width) {
                return Ok(image);
            }
            Ok(image.resize_exact(to_width, to_height, FilterType::Triangle))
        }
        _ => Err(PrepareError::TooThin { height, width }),
    }
}

fn center_crop(image: &DynamicImage, [crop_height, crop_width]: [u32; 2]) -> Result<DynamicImage, PrepareError> {
    let (height, width) = (image.height(), image.width());
    let (Some(rows), Some(columns)) = (height.checked_sub(crop_height), width.checked_sub(crop_width)) else {
        return Err(PrepareError::TooSmall { height, width, crop_height, crop_width });
    };
    Ok(image.crop_imm(half_to_even(columns), half_to_even(rows), crop_width, crop_height))
}

/// Half of `pixels`, a half rounded to the even neighbour.
///
/// *Source* torchvision's `center_crop`, which rounds by Python's `round`.
fn half_to_even(pixels: u32) -> u32 {
    let half = pixels / 2;
    if pixels % 2 == 1 { half + half % 2 } else { half }
}

/// Scales until the shorter side fits, then cuts out the middle.
fn cover(image: DynamicImage, takes: ImageShape) -> DynamicImage {
    let side = |side: usize| u32::try_from(side).expect("an image's sides are at most 65536");
    let (width, height) = (side(takes.width), side(takes.height));
    if (image.width(), image.height()) == (width, height) {
        return image;
    }
    image.resize_to_fill(width, height, FilterType::Triangle)
}

fn shape_of(image: &DynamicImage) -> ImageShape {
    let side = |side: u32| usize::try_from(side).expect("an image fits into memory");
    ImageShape {
        height: side(image.height()),
        width: side(image.width()),
        channels: image.color().channel_count().into(),
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    fn prepare(transforms: &Value, takes: &str, image: image::RgbImage) -> Result<Vec<u8>, PrepareError> {
        let transforms = transforms.as_array().expect("a list of transforms");
        let takes = takes.parse().expect("a shape");
        Preparation::new(transforms, takes)?.apply(DynamicImage::ImageRgb8(image))
    }

    /// Every pixel is its row and its column.
    fn ramp(height: u32, width: u32) -> image::RgbImage {
        let byte = |number: u32| u8::try_from(number).expect("the image is small");
        image::RgbImage::from_fn(width, height, |x, y| image::Rgb([byte(y), byte(x), 0]))
    }

    #[test]
    fn an_image_is_scaled_to_the_size_that_torchvision_gives() {
        let scaled = |size: Value, height, width| {
            Size::deserialize(&size)
                .expect("a size")
                .scaled(height, width)
                .map(|side| u32::try_from(side).expect("small"))
        };
        assert_eq!(scaled(json!(256), 480, 640), [256, 341]);
        assert_eq!(scaled(json!(256), 640, 480), [341, 256]);
        assert_eq!(scaled(json!(28), 28, 28), [28, 28]);
        assert_eq!(scaled(json!(7), 3, 2), [10, 7]);
        assert_eq!(scaled(json!([20, 30]), 480, 640), [20, 30]);
    }

    #[test]
    fn a_crop_begins_where_torchvisions_does() {
        let corner = |height, width, crop_height, crop_width| {
            let transforms = json!([{"kind": "center-crop", "size": [crop_height, crop_width]}]);
            let bytes = prepare(&transforms, &format!("{crop_height}x{crop_width}x3"), ramp(height, width));
            let bytes = bytes.expect("it is large enough");
            (bytes[0], bytes[1])
        };
        // round((h - th) / 2), and Python rounds 0.5 to 0, 1.5 to 2, 2.5 to 2, 3.5 to 4.
        assert_eq!(corner(10, 10, 4, 6), (3, 2));
        assert_eq!(corner(9, 11, 8, 8), (0, 2));
        assert_eq!(corner(13, 15, 8, 8), (2, 4));
        assert_eq!(corner(8, 8, 8, 8), (0, 0));
    }

    #[test]
    fn the_transforms_apply_in_their_order() {
        let transforms = json!([{"kind": "resize", "size": 8}, {"kind": "center-crop", "size": 6}]);
        let bytes = prepare(&transforms, "6x6x3", ramp(16, 32)).expect("it fits");
        // Halved: row 1 of 8 begins at 2.5; column (16 - 6) / 2 = 5 at 10.5.
        assert!((2..=3).contains(&bytes[0]) && (10..=11).contains(&bytes[1]), "{:?}", &bytes[..3]);
        assert_eq!(bytes.len(), 108);
    }

    #[test]
    fn gray_is_bt_601() {
        let pixel = |rgb| image::RgbImage::from_pixel(1, 1, image::Rgb(rgb));
        for (rgb, gray) in [([255, 0, 0], 76), ([0, 255, 0], 150), ([0, 0, 255], 29), ([90, 90, 90], 90)] {
            let decoded_gray = prepare(&json!([]), "1x1x1", pixel(rgb)).expect("it fits");
            let turned_gray = prepare(&json!([{"kind": "color", "mode": "gray"}]), "1x1x1", pixel(rgb));
            assert_eq!((decoded_gray, turned_gray.expect("it fits")), (vec![gray], vec![gray]), "{rgb:?}");
        }
        let gray_in_colour = prepare(
            &json!([{"kind": "color", "mode": "gray"}, {"kind": "color", "mode": "rgb"}]),
            "1x1x3",
            pixel([255, 0, 0]),
        );
        assert_eq!(gray_in_colour.expect("it fits"), [76, 76, 76]);
    }

    #[test]
    fn without_a_transform_of_sizes_the_middle_is_taken() {
        // 12 by 4: black, white, black in three squares.
        let wide = image::RgbImage::from_fn(12, 4, |x, _| image::Rgb([if (4..8).contains(&x) { 255 } else { 0 }; 3]));
        assert_eq!(prepare(&json!([]), "4x12x3", wide.clone()).expect("it fits"), wide.clone().into_raw());
        assert_eq!(prepare(&json!([]), "4x4x1", wide.clone()).expect("it fits"), vec![255; 16]);
        assert_eq!(prepare(&json!([{"kind": "color", "mode": "rgb"}]), "2x2x3", wide).expect("it fits").len(), 12);
    }

    #[test]
    fn an_image_that_does_not_become_what_the_model_takes_is_refused() {
        let check = |transforms: Value, takes: &str, (height, width): (u32, u32), expected: Expect| {
            let error = prepare(&transforms, takes, image::RgbImage::new(width, height)).expect_err("it does not fit");
            let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
            expected.assert_eq(&format!("{error}{cause}"));
        };
        check(
            json!([{"kind": "resize", "size": 28}]),
            "28x28x1",
            (40, 80),
            expect![
                "its 40x80 pixels (height x width) become 28x56x1 by the stream's transforms, but the model takes 28x28x1: cut or scale the image to the proportions of those it was trained on"
            ],
        );
        check(
            json!([{"kind": "center-crop", "size": 28}]),
            "28x28x3",
            (40, 20),
            expect![
                "40x20 pixels (height x width) are too few for the stream's center-crop of 28x28: take a larger image"
            ],
        );
        check(
            json!([{"kind": "resize", "size": 224}]),
            "224x224x3",
            (60_000, 1),
            expect![
                "60000x1 pixels (height x width) are so thin that the stream's resize would make more than 268435456 of them: cut the image"
            ],
        );
        check(
            json!([{"kind": "flip", "chance": 0.5}]),
            "28x28x1",
            (28, 28),
            expect![[
                r#"the stream's transform {"chance":0.5,"kind":"flip"} is none that predict can do: train on a stream without it: unknown variant `flip`, expected one of `color`, `resize`, `center-crop`"#
            ]],
        );
        check(
            json!([{"kind": "resize", "size": 28, "antialias": false}]),
            "28x28x1",
            (28, 28),
            expect![[
                r#"the stream's transform {"antialias":false,"kind":"resize","size":28} is none that predict can do: train on a stream without it: unknown field `antialias`, expected `size`"#
            ]],
        );
        check(
            json!([]),
            "2x2x2",
            (2, 2),
            expect!["the checkpoint's model takes images of 2 channels, but an image file has 1 or 3"],
        );
    }
}
