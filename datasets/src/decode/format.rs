//! Which image format a file has, told by its first bytes and never by its name.

use std::fmt;

use image::ImageFormat;

use super::DecodeError;

/// The formats that are read, for messages.
pub(super) const FORMATS: &str = "JPEG, PNG, WebP, BMP, GIF and TIFF";

/// What files of these formats are called: the extensions, without their point, in small letters.
pub const EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"];

/// The same, of which a file is none.
const UNLIKE: &str = "JPEG, PNG, WebP, BMP, GIF or TIFF";

/// A file format of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// JPEG, whether baseline or progressive.
    Jpeg,
    /// PNG; of an animated one, the still image.
    Png,
    /// WebP, lossy or lossless; of an animated one, the first frame.
    WebP,
    /// Windows bitmap.
    Bmp,
    /// GIF, the first frame.
    Gif,
    /// TIFF, the first page.
    Tiff,
}

impl Format {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Bmp => "BMP",
            Self::Gif => "GIF",
            Self::Tiff => "TIFF",
        }
    }

    /// The format of a file that begins with `bytes`; a dozen of them are enough.
    ///
    /// # Errors
    /// [`DecodeError::NotAnImage`], [`DecodeError::Unsupported`].
    pub fn of(bytes: &[u8]) -> Result<Self, DecodeError> {
        match image::guess_format(bytes) {
            Ok(ImageFormat::Jpeg) => Ok(Self::Jpeg),
            Ok(ImageFormat::Png) => Ok(Self::Png),
            Ok(ImageFormat::WebP) => Ok(Self::WebP),
            Ok(ImageFormat::Bmp) => Ok(Self::Bmp),
            Ok(ImageFormat::Gif) => Ok(Self::Gif),
            Ok(ImageFormat::Tiff) => Ok(Self::Tiff),
            Ok(other) => Err(DecodeError::Unsupported { format: other.extensions_str().first().unwrap_or(&"") }),
            Err(_) => Err(DecodeError::NotAnImage { found: beginning(bytes) }),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a file that is no image begins with, for a message.
fn beginning(bytes: &[u8]) -> String {
    const SHOWN: usize = 12;
    let start = &bytes[..bytes.len().min(SHOWN)];
    if start.is_empty() {
        "it is empty".to_owned()
    } else if start.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
        format!("it begins with the text \"{}\", unlike a {UNLIKE}", start.escape_ascii())
    } else {
        format!("it begins with the bytes {start:02x?}, unlike a {UNLIKE}")
    }
}
