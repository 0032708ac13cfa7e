//! From the bytes of an image file to pixels.

mod color;
mod format;
#[cfg(feature = "turbojpeg")]
pub mod jpeg;
mod markers;
mod mask;
mod orientation;
mod portable;
mod tiff;
#[cfg(feature = "turbojpeg")]
mod turbo;
mod webp;

use std::error::Error;

use thiserror::Error;

pub(crate) use self::color::recolor;
use self::format::FORMATS;
pub use self::format::{EXTENSIONS, Format};
pub use self::mask::decode_mask;
use self::orientation::orient;
use crate::options::Options;
use crate::sample::Image;
use crate::spec::SpecError;
use crate::view::Part;

/// The most pixels an image may have: a small file can claim to be a giant image.
///
/// Source: Pillow's limit, above which it raises `DecompressionBombError`.
pub const PIXELS_MAX: u64 = 178_956_970;

/// The longest side of a JPEG.
const SIDE_MAX: usize = 65_535;

/// The names of the colour modes in a configuration.
pub const COLOR_MODES: [(&str, ColorMode); 3] =
    [("rgb", ColorMode::Rgb), ("gray", ColorMode::Gray), ("rgba", ColorMode::Rgba)];

/// What JPEG files are decoded by. The two differ in single bits, so that this is part of a stream's hash.
pub(crate) const JPEG_DECODER: &str = if cfg!(feature = "turbojpeg") { "libjpeg-turbo" } else { "zune-jpeg" };

/// What colours an image is decoded to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColorMode {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Luma alone.
    Gray,
    /// Red, green, blue and alpha, which is 255 (opaque) where the file has none.
    Rgba,
}

impl ColorMode {
    /// Bytes of a pixel.
    pub const fn channels(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }
}

/// How an image is decoded; a [`ColorMode`] alone will do for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecodeOptions {
    /// What colours come out.
    pub color: ColorMode,
    /// Whether the image is turned as its EXIF says that the camera was held; torchvision's `apply_exif_orientation`,
    /// and off as there.
    pub exif_orientation: bool,
    /// Pixels that the shorter side of a JPEG must keep: where half of it, a fourth or an eighth leaves it as many,
    /// libjpeg-turbo decodes no more than that, far faster. Pillow's `Image.draft`, and off as there.
    ///
    /// The pixels are nearly the means of those that they stand for, and not those that a resize would make: an image that
    /// is resized thereafter differs by some levels. What a transform cuts out is cut out of the smaller image.
    pub draft: Option<usize>,
}

impl DecodeOptions {
    /// Reads the options of a dataset of images: `color`, "rgb" (default), "gray" or "rgba"; `exif_orientation`, false
    /// by default; `draft`, the pixels that the shorter side of a JPEG must keep, all by default.
    ///
    /// # Errors
    /// [`SpecError`] when one has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        Ok(Self {
            color: options.optional_one_of("color", &COLOR_MODES)?.unwrap_or_default(),
            exif_orientation: options.optional_boolean("exif_orientation")?.unwrap_or_default(),
            draft: options.optional_integer("draft", 1..=SIDE_MAX)?,
        })
    }
}

impl From<ColorMode> for DecodeOptions {
    fn from(color: ColorMode) -> Self {
        Self { color, ..Self::default() }
    }
}

/// What the header of an image file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dimensions {
    /// Its format.
    pub format: Format,
    /// Rows of pixels, as stored: before any turn that its EXIF asks for.
    pub height: u64,
    /// Pixels of a row.
    pub width: u64,
}

/// A file that is no image, or none that can be decoded.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// No image of any kind.
    #[error("not an image: {found}")]
    NotAnImage {
        /// What it begins with.
        found: String,
    },
    /// An image of another format.
    #[error("a .{format} file, whatever its name; only {FORMATS} are read: convert it")]
    Unsupported {
        /// The usual extension of the format.
        format: &'static str,
    },
    /// An image of a format that is read, but of a kind that is not.
    #[error("a kind of {format} that is not read; convert it")]
    Kind {
        /// Its format.
        format: Format,
        /// What is special about it.
        source: Box<dyn Error + Send + Sync>,
    },
    /// An image that is no mask.
    #[error(
        "no mask but a {found}; a mask is a PNG of palette or gray pixels with at most 8 bits, which are the numbers of \
         the classes: convert it"
    )]
    NotAMask {
        /// What it is.
        found: String,
    },
    /// It begins as an image but cannot be decoded to its end.
    #[error("broken {format}")]
    Broken {
        /// Its format.
        format: Format,
        /// What the decoder said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The file ends within the image.
    #[error("broken {format}: the file ends before the image does")]
    Truncated {
        /// Its format.
        format: Format,
    },
    /// More pixels than [`PIXELS_MAX`].
    #[error("{height} x {width} pixels (height x width) are more than the limit of {PIXELS_MAX}; store it smaller")]
    TooLarge {
        /// Rows.
        height: u64,
        /// Columns.
        width: u64,
    },
    /// Decoding it takes far more memory than its pixels do: most likely it was made to.
    #[error("a {format} that asks for far more memory than its pixels take; store it anew")]
    Greedy {
        /// Its format.
        format: Format,
    },
    /// The decoder had not enough memory. The file may be good.
    #[error("the JPEG decoder has not enough memory")]
    Memory,
    /// The decoder could not be set up.
    #[error("start the JPEG decoder")]
    Decoder {
        /// Why not.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// Decodes an image file of any [`Format`], told apart by content and not by name.
///
/// Of several frames or pages the first is taken; that of a GIF on its whole canvas, which is black and transparent
/// around it. Palettes are resolved, of 16-bit channels the high byte is kept, alpha is dropped unless asked for. Gray
/// from colour is ITU-R BT.601 luma. CMYK is taken as Adobe stores it, 255 for no ink. Colour profiles are left alone, and
/// so is the orientation in EXIF unless asked for.
///
/// Shapes: [height, width, channels], of which there are 3 for `Rgb`, 1 for `Gray`, 4 for `Rgba`.
///
/// # Errors
/// [`DecodeError`]; a file that ends within the image is one, whatever part of it could be decoded. More than
/// [`PIXELS_MAX`] pixels are refused before memory is reserved for them.
///
/// Source: Pillow's `Image.open(file).convert(mode)`, and torchvision's `decode_image`. Where we differ: of 16-bit gray
/// Pillow makes white whatever is above 255, and torchvision leaves it at 16 bits; around the first frame of a GIF Pillow
/// puts the first colour of the palette; the orientation of a TIFF Pillow applies unasked; and gray from a JPEG is the
/// luma that it stores, as in torchvision, where Pillow computes it from colours.
pub fn decode(bytes: &[u8], options: impl Into<DecodeOptions>) -> Result<Image, DecodeError> {
    Ok(decode_part(bytes, options.into(), &mut |_, _| None)?.image)
}

/// What was decoded of an image.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// The pixels of the part.
    pub(crate) image: Image,
    /// Where they are in the image.
    pub(crate) part: Part,
}

/// Decodes an image file, or no more than holds the part of it that is wanted, where its format lets us: the pixels are
/// those that they are in the whole.
///
/// `wanted` is told height and width, and answers which part is needed; `None` means all. It is asked at least once
/// before this returns anything but an error, and of one file it must answer the same.
///
/// # Errors
/// [`decode`]'s; but of a JPEG what is broken behind the last row that is needed is found only where the file ends early.
pub(crate) fn decode_part(
    bytes: &[u8],
    options: DecodeOptions,
    wanted: &mut dyn FnMut(usize, usize) -> Option<Part>,
) -> Result<Decoded, DecodeError> {
    let DecodeOptions { color, exif_orientation, .. } = options;
    let format = Format::of(bytes)?;
    #[cfg(feature = "turbojpeg")]
    if format == Format::Jpeg && !exif_orientation {
        return turbo::decode(bytes, options, wanted);
    }
    let image = match format {
        Format::Jpeg => decode_jpeg(bytes, options)?,
        format => portable::decode(bytes, format, color)?,
    };
    let image = if exif_orientation {
        let orientation = match format {
            Format::Jpeg => markers::orientation(bytes),
            Format::WebP => webp::orientation(bytes),
            format => portable::orientation(bytes, format),
        };
        orient(image, orientation).map_err(|error| DecodeError::Broken { format, source: error.into() })?
    } else {
        image
    };
    let part = Part::whole(image.height(), image.width());
    wanted(part.height, part.width);
    Ok(Decoded { image, part })
}

/// Reads format and size of an image file out of its header.
///
/// # Errors
/// [`DecodeError`]; a size above [`PIXELS_MAX`] is none.
pub fn dimensions(bytes: &[u8]) -> Result<Dimensions, DecodeError> {
    let format = Format::of(bytes)?;
    let (height, width) = match format {
        #[cfg(feature = "turbojpeg")]
        Format::Jpeg => turbo::size(bytes)?,
        format => portable::size(bytes, format)?,
    };
    Ok(Dimensions { format, height, width })
}

#[cfg(feature = "turbojpeg")]
fn decode_jpeg(bytes: &[u8], options: DecodeOptions) -> Result<Image, DecodeError> {
    Ok(turbo::decode(bytes, options, &mut |_, _| None)?.image)
}

/// Refuses a file that ends early: `image` itself would fill the rest up and say nothing.
#[cfg(not(feature = "turbojpeg"))]
fn decode_jpeg(bytes: &[u8], options: DecodeOptions) -> Result<Image, DecodeError> {
    if !markers::is_complete(bytes) {
        return Err(DecodeError::Truncated { format: Format::Jpeg });
    }
    portable::decode(bytes, Format::Jpeg, options.color)
}

/// Refuses sizes above the limit, before any memory is reserved for them.
fn check_size(height: u64, width: u64) -> Result<(), DecodeError> {
    if height.saturating_mul(width) > PIXELS_MAX {
        return Err(DecodeError::TooLarge { height, width });
    }
    Ok(())
}
