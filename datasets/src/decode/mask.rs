//! Masks: images whose pixels are the numbers of classes and no colours.

use std::io::Cursor;

use png::{BitDepth, ColorType, Decoder, DecodingError, Transformations};

use super::portable::contained;
use super::{DecodeError, Format, check_size};
use crate::sample::Image;
use crate::scratch;

/// Reads a mask for segmentation: the numbers that a palette or gray PNG stores, one for each pixel.
///
/// For a palette these are the places in it, whatever colours stand there, and for gray the values as stored: 0 to 15 in
/// one of 4 bits. Its EXIF, if any, is left alone.
///
/// Shapes: [height, width, 1].
///
/// # Errors
/// [`DecodeError::NotAMask`] for everything that is no palette or gray PNG of at most 8 bits, and what
/// [`decode`](super::decode()) says of broken ones.
///
/// Source: `numpy.array(PIL.Image.open(file))` for a mask as PASCAL VOC and ADE20K have them.
pub fn decode_mask(bytes: &[u8]) -> Result<Image, DecodeError> {
    match Format::of(bytes)? {
        Format::Png => contained(Format::Png, || decode_png(bytes)),
        other => Err(DecodeError::NotAMask { found: other.to_string() }),
    }
}

fn decode_png(bytes: &[u8]) -> Result<Image, DecodeError> {
    let mut decoder = Decoder::new(Cursor::new(bytes));
    // Neither palettes to colours nor few bits to many.
    decoder.set_transformations(Transformations::IDENTITY);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info().map_err(failed)?;
    let info = reader.info();
    check_size(info.height.into(), info.width.into())?;
    let too_large = |_| DecodeError::TooLarge { height: info.height.into(), width: info.width.into() };
    let (height, width) =
        (usize::try_from(info.height).map_err(too_large)?, usize::try_from(info.width).map_err(too_large)?);
    let bits = match (info.color_type, info.bit_depth) {
        (ColorType::Indexed | ColorType::Grayscale, BitDepth::One) => 1,
        (ColorType::Indexed | ColorType::Grayscale, BitDepth::Two) => 2,
        (ColorType::Indexed | ColorType::Grayscale, BitDepth::Four) => 4,
        (ColorType::Indexed | ColorType::Grayscale, BitDepth::Eight) => 8,
        (color, depth) => {
            let found = format!("PNG of {color:?} pixels with {} bits a channel", depth as u8);
            return Err(DecodeError::NotAMask { found });
        }
    };

    let row_bytes = (width * bits).div_ceil(8);
    let mut rows = scratch::take(row_bytes * height);
    rows.fill(0);
    reader.next_frame(&mut rows).map_err(failed)?;
    let pixels = if bits == 8 { rows } else { unpack(rows, row_bytes, width, bits) };
    Image::new(height, width, 1, pixels)
        .map_err(|error| DecodeError::Broken { format: Format::Png, source: error.into() })
}

/// A byte for each number of `bits` bits; the first stands in the highest. Rows begin at a byte.
fn unpack(rows: Vec<u8>, row_bytes: usize, width: usize, bits: usize) -> Vec<u8> {
    let mut pixels = scratch::take(rows.len() / row_bytes.max(1) * width);
    for (pixels, row) in pixels.chunks_exact_mut(width.max(1)).zip(rows.chunks_exact(row_bytes.max(1))) {
        for (column, pixel) in pixels.iter_mut().enumerate() {
            let place = column * bits;
            *pixel = row[place / 8] << (place % 8) >> (8 - bits);
        }
    }
    scratch::give(rows);
    pixels
}

fn failed(error: DecodingError) -> DecodeError {
    match error {
        DecodingError::LimitsExceeded => DecodeError::Greedy { format: Format::Png },
        error => DecodeError::Broken { format: Format::Png, source: error.into() },
    }
}
