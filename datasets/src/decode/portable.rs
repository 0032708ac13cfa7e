//! Every format by the pure-Rust `image`: all but JPEG, and JPEG where libjpeg-turbo is not built in.

use std::any::Any;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::color::{high_bytes, recolor};
use super::{ColorMode, DecodeError, Format, check_size, tiff, webp};
use crate::sample::Image;
use crate::scratch;

/// What a decoder may reserve whatever the size of the image: tables, palettes, rows, a colour profile.
const OVERHEAD_BYTES_MAX: u64 = 16 << 20;

/// Decodes a file of a known format.
pub(super) fn decode(bytes: &[u8], format: Format, mode: ColorMode) -> Result<Image, DecodeError> {
    contained(format, || {
        let decoder = open(bytes, format)?;
        let (width, height) = decoder.dimensions();
        check_size(height.into(), width.into())?;
        let too_large = |_| DecodeError::TooLarge { height: height.into(), width: width.into() };
        let (rows, columns) = (usize::try_from(height).map_err(too_large)?, usize::try_from(width).map_err(too_large)?);
        let (channels, is_16_bit) = match decoder.color_type() {
            ColorType::L8 => (1, false),
            ColorType::La8 => (2, false),
            ColorType::Rgb8 => (3, false),
            ColorType::Rgba8 => (4, false),
            ColorType::L16 => (1, true),
            ColorType::La16 => (2, true),
            ColorType::Rgb16 => (3, true),
            ColorType::Rgba16 => (4, true),
            other => return Err(DecodeError::Kind { format, source: format!("its pixels are {other:?}").into() }),
        };

        let mut pixels = scratch::take(rows * columns * usize::from(decoder.color_type().bytes_per_pixel()));
        // Not every decoder writes every pixel (a GIF may name a colour that its palette lacks), and what the buffer
        // held before must not show.
        pixels.fill(0);
        decoder.read_image(&mut pixels).map_err(|error| failed(format, error))?;
        let pixels = if is_16_bit { high_bytes(pixels) } else { pixels };
        Image::new(rows, columns, mode.channels(), recolor(pixels, channels, mode))
            .map_err(|error| DecodeError::Broken { format, source: error.into() })
    })
}

/// Height and width that a file of a known format says it has.
pub(super) fn size(bytes: &[u8], format: Format) -> Result<(u64, u64), DecodeError> {
    contained(format, || {
        let (width, height) = open(bytes, format)?.dimensions();
        Ok((height.into(), width.into()))
    })
}

/// How the camera was held, where the file says so and can be read that far.
pub(super) fn orientation(bytes: &[u8], format: Format) -> Orientation {
    let orientation = contained(format, || open(bytes, format)?.orientation().map_err(|error| failed(format, error)));
    orientation.unwrap_or(Orientation::NoTransforms)
}

/// Reads as far as the header goes.
fn open(bytes: &[u8], format: Format) -> Result<impl ImageDecoder, DecodeError> {
    let (bytes, image_format) = match format {
        Format::Jpeg => (bytes, ImageFormat::Jpeg),
        Format::Png => (bytes, ImageFormat::Png),
        Format::WebP => (webp::check(bytes)?, ImageFormat::WebP),
        Format::Bmp => (bytes, ImageFormat::Bmp),
        Format::Gif => (bytes, ImageFormat::Gif),
        Format::Tiff => {
            tiff::check(bytes)?;
            (bytes, ImageFormat::Tiff)
        }
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), image_format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(OVERHEAD_BYTES_MAX);
    // A PNG reads its header under these limits, and keeps them: the pixels do not count there.
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(|error| failed(format, error))?;
    // The others count the result, and what they put it together from: a frame of a GIF, the planes of a TIFF.
    limits.max_alloc = Some(decoder.total_bytes().saturating_mul(2).saturating_add(OVERHEAD_BYTES_MAX));
    decoder.set_limits(limits).map_err(|error| failed(format, error))?;
    Ok(decoder)
}

fn failed(format: Format, error: ImageError) -> DecodeError {
    match error {
        ImageError::Unsupported(error) => DecodeError::Kind { format, source: error.into() },
        ImageError::Limits(_) => DecodeError::Greedy { format },
        error => DecodeError::Broken { format, source: error.into() },
    }
}

/// Makes a panic of a decoder the error that it should have been: hostile files lead some of them astray, and the worker
/// has other samples to make.
pub(super) fn contained<T>(format: Format, decode: impl FnOnce() -> Result<T, DecodeError>) -> Result<T, DecodeError> {
    // Nothing that the closure borrows is looked at again: a decoder that panicked is dropped with its file half read.
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|panic| {
        let source = format!("its decoder panicked: {}", message(&*panic)).into();
        Err(DecodeError::Broken { format, source })
    })
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref().copied()).unwrap_or("without a word")
}
