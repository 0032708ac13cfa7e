//! The transforms that Batchmill brings along; each acts on the field `image`.

mod center_crop;
mod color;
mod resize;

pub use center_crop::CenterCrop;
pub use color::Color;
pub use resize::Resize;

use toml::Value;

use crate::options::Options;
use crate::spec::SpecError;

/// The longest side of an image that may be asked for, in pixels: that of a JPEG.
const SIDE_MAX: usize = 65_535;

/// The option `size`: one number, or height and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    One(usize),
    Both { height: usize, width: usize },
}

impl Size {
    fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let side = |value: &Value| {
            let side = value.as_integer().and_then(|side| usize::try_from(side).ok());
            side.filter(|side| (1..=SIDE_MAX).contains(side))
        };
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
}
