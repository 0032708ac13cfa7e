//! Every format by the pure-Rust `image`: PNG always, JPEG where libjpeg-turbo is not built in or cannot.

use std::error::Error;
use std::io::Cursor;

use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::{ColorMode, DecodeError, check_size, gray_from_rgb};
use crate::sample::Image;
use crate::scratch;

/// Decodes a JPEG, refusing one that ends early: `image` itself would fill it up and say nothing.
pub(super) fn decode_jpeg(bytes: &[u8], mode: ColorMode) -> Result<Image, DecodeError> {
    if !is_complete(bytes) {
        return Err(DecodeError::Truncated);
    }
    decode(bytes, ImageFormat::Jpeg, mode)
}

/// Decodes a file of a known format.
pub(super) fn decode(bytes: &[u8], format: ImageFormat, mode: ColorMode) -> Result<Image, DecodeError> {
    let name = match format {
        ImageFormat::Jpeg => "JPEG",
        _ => "PNG",
    };
    let broken = |source: Box<dyn Error + Send + Sync>| DecodeError::Broken { format: name, source };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    // The size is checked below, in pixels as for every decoder. What this one needs beyond the result is a few rows.
    reader.limits(Limits::no_limits());
    let decoder = reader.into_decoder().map_err(|error| broken(error.into()))?;
    let (width, height) = decoder.dimensions();
    check_size(height.into(), width.into())?;
    let too_large = |_| DecodeError::TooLarge { height: height.into(), width: width.into() };
    let (rows, columns) = (usize::try_from(height).map_err(too_large)?, usize::try_from(width).map_err(too_large)?);

    let pixels = match (decoder.color_type(), mode) {
        // The common cases, without a conversion.
        (ColorType::Rgb8, _) | (ColorType::L8, ColorMode::Gray) => {
            let mut pixels = scratch::take(rows * columns * usize::from(decoder.color_type().bytes_per_pixel()));
            let is_rgb = decoder.color_type() == ColorType::Rgb8;
            decoder.read_image(&mut pixels).map_err(|error| broken(error.into()))?;
            if is_rgb && mode == ColorMode::Gray { gray_of(pixels) } else { pixels }
        }
        (color, mode) => {
            let decoded = DynamicImage::from_decoder(decoder).map_err(|error| broken(error.into()))?;
            match mode {
                ColorMode::Rgb => decoded.into_rgb8().into_raw(),
                // `image` would weigh colours by BT.709: the detour keeps one luma for all formats.
                ColorMode::Gray if color.has_color() => gray_of(decoded.into_rgb8().into_raw()),
                ColorMode::Gray => decoded.into_luma8().into_raw(),
            }
        }
    };
    Image::new(rows, columns, mode.channels(), pixels).map_err(|error| broken(error.into()))
}

fn gray_of(rgb: Vec<u8>) -> Vec<u8> {
    let gray = gray_from_rgb(&rgb);
    scratch::give(rgb);
    gray
}

/// Whether a JPEG has its end marker: walks the segments, and in the scans from marker to marker.
///
/// Source: ITU-T T.81, B.1.1 (markers) and B.2 (segments).
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    const END_OF_IMAGE: u8 = 0xd9;
    // Markers that stand alone: TEM, RST0 to RST7, SOI.
    let stands_alone = |marker: u8| matches!(marker, 0x01 | 0xd0..=0xd8);

    let mut place = 0;
    while let Some(found) = bytes.get(place..).and_then(|rest| rest.windows(2).position(is_marker)) {
        place += found + 2;
        match bytes[place - 1] {
            END_OF_IMAGE => return true,
            marker if stands_alone(marker) => {}
            // The pixels of a scan follow its header, which is a segment like any other; in them 0xff stands only
            // before 0x00 or a marker.
            _ => match bytes.get(place..place + 2) {
                Some(&[high, low]) => place += usize::from(u16::from_be_bytes([high, low])),
                _ => return false,
            },
        }
    }
    false
}

/// 0xff and a code: neither a stuffed 0xff 0x00 nor one of several filling 0xff.
fn is_marker(pair: &[u8]) -> bool {
    pair[0] == 0xff && !matches!(pair[1], 0x00 | 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jpeg_is_complete_with_its_end_marker_only() {
        let mut file = Vec::new();
        let noise: Vec<u8> = (0..28 * 8_u8).map(|value| value.wrapping_mul(151)).collect();
        let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, 100);
        encoder.encode(&noise, 28, 8, image::ExtendedColorType::L8).unwrap();
        for len in 0..file.len() {
            assert!(!is_complete(&file[..len]), "{len} of {} bytes", file.len());
        }
        assert!(is_complete(&file));
        file.extend(b"a camera's trailer");
        assert!(is_complete(&file));
    }
}
