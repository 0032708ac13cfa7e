//! From the bytes of an image file to pixels.

#[cfg(feature = "turbojpeg")]
mod jpeg;
mod portable;

use std::error::Error;

use image::ImageFormat;
use thiserror::Error;

use crate::sample::Image;
use crate::scratch;

/// The most pixels an image may have: a small file can claim to be a giant image.
///
/// Source: Pillow's limit, above which it raises `DecompressionBombError`.
pub const PIXELS_MAX: u64 = 178_956_970;

/// The names of the colour modes in a configuration.
pub const COLOR_MODES: [(&str, ColorMode); 2] = [("rgb", ColorMode::Rgb), ("gray", ColorMode::Gray)];

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
}

impl ColorMode {
    /// Bytes of a pixel.
    pub const fn channels(self) -> usize {
        match self {
            Self::Rgb => 3,
            Self::Gray => 1,
        }
    }
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
    #[error("a .{format} file, whatever its name; only JPEG and PNG are read: convert it")]
    Unsupported {
        /// The usual extension of the format.
        format: &'static str,
    },
    /// It begins as an image but cannot be decoded to its end.
    #[error("broken {format}")]
    Broken {
        /// `JPEG` or `PNG`.
        format: &'static str,
        /// What the decoder said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The file ends within the image.
    #[error("broken JPEG: the file ends before the image does")]
    Truncated,
    /// More pixels than [`PIXELS_MAX`].
    #[error("{height} x {width} pixels (height x width) are more than the limit of {PIXELS_MAX}; store it smaller")]
    TooLarge {
        /// Rows.
        height: u64,
        /// Columns.
        width: u64,
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

/// Decodes a JPEG or a PNG, told apart by content and not by name.
///
/// Alpha is dropped, 16-bit channels are reduced to 8, palettes are resolved; the orientation in EXIF is left alone, as
/// torchvision does. Gray from colour is ITU-R BT.601 luma.
///
/// Shapes: [height, width, 3] for `Rgb`, [height, width, 1] for `Gray`.
///
/// # Errors
/// [`DecodeError`]; a file that ends within the image is one, whatever part of it could be decoded.
pub fn decode(bytes: &[u8], mode: ColorMode) -> Result<Image, DecodeError> {
    match image::guess_format(bytes) {
        #[cfg(feature = "turbojpeg")]
        Ok(ImageFormat::Jpeg) => jpeg::decode(bytes, mode),
        #[cfg(not(feature = "turbojpeg"))]
        Ok(ImageFormat::Jpeg) => portable::decode_jpeg(bytes, mode),
        Ok(ImageFormat::Png) => portable::decode(bytes, ImageFormat::Png, mode),
        Ok(format) => Err(DecodeError::Unsupported { format: format.extensions_str().first().unwrap_or(&"") }),
        Err(_) => Err(DecodeError::NotAnImage { found: beginning(bytes) }),
    }
}

/// Luma of red, green, blue.
///
/// Source: ITU-R BT.601 in 16-bit fixed point, as Pillow's `L24` in Convert.c.
pub(crate) fn gray_from_rgb(rgb: &[u8]) -> Vec<u8> {
    let mut gray = scratch::take(rgb.len() / 3);
    for (luma, pixel) in gray.iter_mut().zip(rgb.chunks_exact(3)) {
        let [red, green, blue] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
        let [_, luma_byte, ..] = (red * 19_595 + green * 38_470 + blue * 7_471 + 0x8000).to_be_bytes();
        *luma = luma_byte;
    }
    gray
}

/// Refuses sizes above the limit, before any memory is reserved for them.
fn check_size(height: u64, width: u64) -> Result<(), DecodeError> {
    if height.saturating_mul(width) > PIXELS_MAX {
        return Err(DecodeError::TooLarge { height, width });
    }
    Ok(())
}

fn beginning(bytes: &[u8]) -> String {
    const SHOWN: usize = 12;
    let start = &bytes[..bytes.len().min(SHOWN)];
    if start.is_empty() {
        "it is empty".to_owned()
    } else if start.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
        format!("it begins with the text \"{}\", unlike a JPEG or PNG", start.escape_ascii())
    } else {
        format!("it begins with the bytes {start:02x?}, unlike a JPEG or PNG")
    }
}
