//! Options that several transforms share, read and checked.

use std::ops::RangeInclusive;

use toml::Value;

use crate::options::{Options, real};
use crate::sample::Image;
use crate::spec::SpecError;
use crate::transform::{IMAGE, TransformError};
pub(super) use crate::view::Interpolation;

/// The longest side of an image that may be asked for, in pixels: that of a JPEG.
pub(super) const SIDE_MAX: usize = 65_535;

/// The option `field`: what the transform acts on, `image` where the user does not say.
pub(super) fn image_field(options: &mut Options) -> Result<String, SpecError> {
    field(options, IMAGE)
}

/// The option `field`: what the transform acts on.
pub(super) fn field(options: &mut Options, default: &str) -> Result<String, SpecError> {
    Ok(options.optional_string("field")?.unwrap_or_else(|| default.to_owned()))
}

/// The option `p`: how likely the transform is to do anything.
pub(super) fn probability(options: &mut Options, default: f64) -> Result<f64, SpecError> {
    Ok(options.optional_number("p", 0.0..=1.0)?.unwrap_or(default))
}

/// The option `size`: one number, or height and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    One(usize),
    Both { height: usize, width: usize },
}

impl Size {
    pub(super) fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let value = options.value("size");
        let value = options.required("size", value)?;
        let size = match value.as_array().map(Vec::as_slice) {
            None => side(&value).map(Self::One),
            Some([height, width]) => side(height).zip(side(width)).map(|(height, width)| Self::Both { height, width }),
            Some(_) => None,
        };
        size.ok_or_else(|| {
            options.error("size", format_args!("is {value}, not an integer from 1 to {SIDE_MAX} or [height, width]"))
        })
    }

    /// Height and width, of which one number means both.
    pub(super) fn sides(self) -> (usize, usize) {
        match self {
            Self::One(side) => (side, side),
            Self::Both { height, width } => (height, width),
        }
    }
}

fn side(value: &Value) -> Option<usize> {
    let side = value.as_integer().and_then(|side| usize::try_from(side).ok());
    side.filter(|side| (1..=SIDE_MAX).contains(side))
}

/// A finite number.
fn number(value: &Value) -> Option<f64> {
    real(value).filter(|number| number.is_finite())
}

/// One number or a list of them, none empty.
pub(super) fn numbers(options: &mut Options, key: &str) -> Result<Option<Vec<f64>>, SpecError> {
    let Some(value) = options.value(key) else { return Ok(None) };
    let found = match &value {
        Value::Array(items) => items.iter().map(number).collect(),
        single => number(single).map(|number| vec![number]),
    };
    let found = found.filter(|numbers: &Vec<f64>| !numbers.is_empty());
    found.map(Some).ok_or_else(|| options.error(key, format_args!("is {value}, not a number or a list of numbers")))
}

/// `[low, high]` within `bounds`, or one number, of which `around` makes the two.
pub(super) fn range_around(
    options: &mut Options,
    key: &str,
    bounds: RangeInclusive<f64>,
    around: impl Fn(f64) -> (f64, f64),
) -> Result<Option<(f64, f64)>, SpecError> {
    let Some(value) = options.value(key) else { return Ok(None) };
    let found = match value.as_array().map(Vec::as_slice) {
        None => number(&value).filter(|&number| number >= 0.0).map(around),
        Some([low, high]) => number(low).zip(number(high)),
        Some(_) => None,
    };
    found.filter(|&found| is_within(found, &bounds)).map(Some).ok_or_else(|| {
        let (low, high) = (bounds.start(), bounds.end());
        options.error(key, format_args!("is {value}, not a number from 0 up or [low, high], within {low} to {high}"))
    })
}

/// `[low, high]` within `bounds`.
pub(super) fn range(
    options: &mut Options,
    key: &str,
    bounds: RangeInclusive<f64>,
) -> Result<Option<(f64, f64)>, SpecError> {
    let Some(value) = options.value(key) else { return Ok(None) };
    let found = match value.as_array().map(Vec::as_slice) {
        Some([low, high]) => number(low).zip(number(high)),
        _ => None,
    };
    found.filter(|&found| is_within(found, &bounds)).map(Some).ok_or_else(|| {
        let (low, high) = (bounds.start(), bounds.end());
        options.error(key, format_args!("is {value}, not [low, high] within {low} to {high}"))
    })
}

fn is_within((low, high): (f64, f64), bounds: &RangeInclusive<f64>) -> bool {
    low <= high && bounds.contains(&low) && bounds.contains(&high)
}

/// Whether a value belongs to the image or to a mask over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layer {
    Image,
    Mask,
}

impl Interpolation {
    /// The names of those that can turn and shear.
    pub(super) const OF_WARPS: [(&'static str, Self); 2] = [("nearest", Self::Nearest), ("bilinear", Self::Bilinear)];

    /// The names of those that can scale.
    pub(super) const OF_RESIZES: [(&'static str, Self); 3] =
        [("nearest", Self::Nearest), ("bilinear", Self::Bilinear), ("bicubic", Self::Bicubic)];

    /// The same for an image; for a mask the one that mixes no classes.
    pub(super) fn of(self, layer: Layer) -> Self {
        match layer {
            Layer::Image => self,
            Layer::Mask => Self::Nearest,
        }
    }
}

/// The options `fill` and `mask_fill`: what stands where no pixel comes to lie.
#[derive(Clone, Debug)]
pub(super) struct Fill {
    /// One byte for all channels, or one for each.
    image: Vec<u8>,
    mask: u8,
}

impl Fill {
    /// Reads both; 0 where the user does not say.
    pub(super) fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let image = match options.value("fill") {
            None => vec![0],
            Some(value) => {
                bytes(&value).ok_or_else(|| options.error("fill", format_args!("is {value}, not {BYTES}")))?
            }
        };
        Ok(Self { image, mask: options.optional_integer("mask_fill", 0..=u8::MAX)?.unwrap_or(0) })
    }

    /// The bytes of one pixel.
    pub(super) fn pixel(&self, layer: Layer, image: &Image) -> Result<Vec<u8>, TransformError> {
        match layer {
            Layer::Image => pixel(&self.image, "fill", image),
            Layer::Mask => Ok(vec![self.mask; image.channels()]),
        }
    }
}

/// What [`bytes`] takes, for a message.
pub(super) const BYTES: &str = "an integer from 0 to 255 or a list of one for each channel";

/// One byte, or a list of them, none empty.
pub(super) fn bytes(value: &Value) -> Option<Vec<u8>> {
    let byte = |value: &Value| value.as_integer().and_then(|byte| u8::try_from(byte).ok());
    match value {
        Value::Array(items) => items.iter().map(byte).collect::<Option<Vec<_>>>().filter(|bytes| !bytes.is_empty()),
        single => byte(single).map(|byte| vec![byte]),
    }
}

/// A pixel of an image out of one byte for all channels or one for each.
pub(super) fn pixel(bytes: &[u8], key: &str, image: &Image) -> Result<Vec<u8>, TransformError> {
    let channels = image.channels();
    match bytes {
        [byte] => Ok(vec![*byte; channels]),
        bytes if bytes.len() == channels => Ok(bytes.to_vec()),
        bytes => {
            let reason = format!(
                "`{key}` has {} values, the image {channels} channels; give one value or {channels}",
                bytes.len()
            );
            Err(TransformError::new(reason))
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::options::Role;
    use crate::spec::Component;

    /// The options of a transform, from their TOML.
    pub(in crate::transforms) fn options(table: &str) -> Options<'static> {
        let component = Component { kind: "any".to_owned(), options: table.parse().unwrap() };
        Options::new(Role::Transform(0), &component, "/".as_ref())
    }

    #[test]
    fn a_number_is_a_range_around_it() {
        let found = |table: &str| range_around(&mut options(table), "x", -5.0..=5.0, |x| (-x, x)).unwrap();
        assert_eq!(found(""), None);
        assert_eq!(found("x = 3"), Some((-3.0, 3.0)));
        assert_eq!(found("x = [-1, 2.5]"), Some((-1.0, 2.5)));
    }

    #[test]
    fn a_fill_is_one_byte_or_one_for_each_channel() {
        let image = Image::new(1, 1, 3, vec![0; 3]).unwrap();
        let pixel = |table: &str, layer| Fill::from_options(&mut options(table)).unwrap().pixel(layer, &image);
        assert_eq!(pixel("", Layer::Image).unwrap(), [0, 0, 0]);
        assert_eq!(pixel("fill = 7", Layer::Image).unwrap(), [7, 7, 7]);
        assert_eq!(pixel("fill = [1, 2, 3]\nmask_fill = 9", Layer::Image).unwrap(), [1, 2, 3]);
        assert_eq!(pixel("fill = [1, 2]\nmask_fill = 9", Layer::Mask).unwrap(), [9, 9, 9]);
        let wrong = pixel("fill = [1, 2]", Layer::Image).unwrap_err();
        assert_eq!(wrong.to_string(), "`fill` has 2 values, the image 3 channels; give one value or 3");
    }
}
