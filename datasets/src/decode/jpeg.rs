//! JPEG by libjpeg-turbo.

use std::cell::RefCell;

use turbojpeg::{Colorspace, Decompressor, PixelFormat};

use super::color::{recolor, rgb_from_inverted_cmyk};
use super::{ColorMode, DecodeError, Format, check_size, markers};
use crate::sample::Image;
use crate::scratch;

/// Scans a progressive JPEG may have. A hostile file asks for thousands of passes over the image; cameras and
/// encoders write about ten.
const SCANS_MAX: u32 = 500;

thread_local! {
    /// Made by the first JPEG of a thread, or the first after a broken one.
    static DECOMPRESSOR: RefCell<Option<Decompressor>> = const { RefCell::new(None) };
}

/// Decodes straight to the wanted colours; for gray the chrominance is never computed.
pub(super) fn decode(bytes: &[u8], mode: ColorMode) -> Result<Image, DecodeError> {
    if let Some(mut decompressor) = DECOMPRESSOR.take()
        && let Ok(image) = decode_by(&mut decompressor, bytes, mode)
    {
        DECOMPRESSOR.set(Some(decompressor));
        return Ok(image);
    }
    // A used one goes on in the middle of the next file where an error in a header left it, and takes the size of the
    // last image for that of a file that ends before it says one (`tj3DecompressHeader` resets neither). So none is used
    // again after an error, and what is wrong with a file a fresh one says.
    let mut decompressor = start()?;
    let image = decode_by(&mut decompressor, bytes, mode)?;
    DECOMPRESSOR.set(Some(decompressor));
    Ok(image)
}

/// Height and width that the header says, by a fresh decompressor for the reason above.
pub(super) fn size(bytes: &[u8]) -> Result<(u64, u64), DecodeError> {
    let header = start()?.read_header(bytes).map_err(broken)?;
    Ok((header.height as u64, header.width as u64))
}

fn start() -> Result<Decompressor, DecodeError> {
    let started = Decompressor::new().and_then(|mut decompressor| {
        decompressor.set_scan_limit(SCANS_MAX)?;
        Ok(decompressor)
    });
    started.map_err(|error| DecodeError::Decoder { source: error.into() })
}

fn decode_by(decompressor: &mut Decompressor, bytes: &[u8], mode: ColorMode) -> Result<Image, DecodeError> {
    let header = decompressor.read_header(bytes).map_err(broken)?;
    check_size(header.height as u64, header.width as u64)?;
    let format = match (header.colorspace, mode) {
        // These it gives only as CMYK. ImageNet has a few.
        (Colorspace::CMYK | Colorspace::YCCK, _) => PixelFormat::CMYK,
        (_, ColorMode::Rgb) => PixelFormat::RGB,
        (_, ColorMode::Gray) => PixelFormat::GRAY,
        (_, ColorMode::Rgba) => PixelFormat::RGBA,
    };
    let pitch = header.width * format.size();
    let mut pixels = scratch::take(pitch * header.height);
    let target =
        turbojpeg::Image { pixels: &mut pixels[..], width: header.width, pitch, height: header.height, format };
    match decompressor.decompress(bytes, target) {
        Ok(()) => {}
        Err(error) if is_harmless(&error) && markers::is_complete(bytes) => {}
        // Warnings arrive here as well: libjpeg-turbo fills the missing part of a truncated image with gray and warns.
        Err(error) => return Err(broken(error)),
    }
    if format == PixelFormat::CMYK {
        pixels = recolor(rgb_from_inverted_cmyk(pixels), 3, mode);
    }
    Image::new(header.height, header.width, mode.channels(), pixels)
        .map_err(|error| DecodeError::Broken { format: Format::Jpeg, source: error.into() })
}

fn broken(error: turbojpeg::Error) -> DecodeError {
    match error {
        error if is_out_of_memory(&error) => DecodeError::Memory,
        error => DecodeError::Broken { format: Format::Jpeg, source: error.into() },
    }
}

/// Whether memory ran out, which says nothing of the file. The texts are those of turbojpeg.c and of libjpeg's
/// `JERR_OUT_OF_MEMORY` (jerror.h).
fn is_out_of_memory(error: &turbojpeg::Error) -> bool {
    let text = error.to_string();
    text.contains("Memory allocation failure") || text.contains("Insufficient memory")
}

/// Whether every pixel was decoded all the same: some cameras leave bytes between the image and its end marker.
///
/// The crate hands on neither libjpeg's warning codes nor more than the first warning, hence the text (jerror.h,
/// `JWRN_EXTRANEOUS_DATA`) and the second look of the caller.
fn is_harmless(error: &turbojpeg::Error) -> bool {
    error.to_string().contains("extraneous bytes before marker")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_memory_is_told_from_a_broken_file() {
        let is_memory = |text: &str| is_out_of_memory(&turbojpeg::Error::TurboJpegError(text.to_owned()));
        assert!(is_memory("Insufficient memory (case 4)"));
        assert!(is_memory("tj3Decompress8(): Memory allocation failure"));
        assert!(!is_memory("Premature end of JPEG file"));
    }
}
