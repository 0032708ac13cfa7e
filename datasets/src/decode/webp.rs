//! What a WebP claims of itself, checked before a decoder believes it.
//!
//! The decoder reserves memory for what a chunk says that it holds, and for what a frame says of its size, before it
//! compares either with the file or with the image.

use image::metadata::Orientation;

use super::{DecodeError, Format, check_size};

/// The first bytes: "RIFF", the size of what follows, "WEBP".
const HEADER_BYTES: usize = 12;

/// What stands in an `ANMF` chunk before its own chunks: place, size and duration of the frame.
const FRAME_HEADER_BYTES: usize = 16;

/// What begins a lossy frame, behind its tag of three bytes (RFC 6386, 9.1).
const KEY_FRAME: [u8; 3] = [0x9d, 0x01, 0x2a];

/// The bytes of the image, without what may follow it in the file.
///
/// # Errors
/// The file ends within it, or a frame has more pixels than an image may have.
///
/// Source: RFC 9649, section 2 (the container).
pub(super) fn check(bytes: &[u8]) -> Result<&[u8], DecodeError> {
    let truncated = || DecodeError::Truncated { format: Format::WebP };
    let size: [u8; 4] = *bytes.get(4..).and_then(<[u8]>::first_chunk).ok_or_else(truncated)?;
    let end = usize::try_from(u32::from_le_bytes(size)).ok().and_then(|size| size.checked_add(8));
    let image = end.and_then(|end| bytes.get(..end)).ok_or_else(truncated)?;
    for chunk in chunks(image.get(HEADER_BYTES..).ok_or_else(truncated)?) {
        let (name, payload) = chunk?;
        if &name == b"ANMF" {
            for chunk in chunks(payload.get(FRAME_HEADER_BYTES..).ok_or_else(truncated)?) {
                check_frame(chunk?.1)?;
            }
        }
        check_frame(payload)?;
    }
    Ok(image)
}

/// How the camera was held, as the chunk `EXIF` says.
pub(super) fn orientation(bytes: &[u8]) -> Orientation {
    chunks(bytes.get(HEADER_BYTES..).unwrap_or_default())
        .map_while(Result::ok)
        .find_map(|(name, payload)| (&name == b"EXIF").then_some(payload))
        // Some write it as it stands in a JPEG.
        .map(|exif| exif.strip_prefix(b"Exif\0\0").unwrap_or(exif))
        .and_then(Orientation::from_exif_chunk)
        .unwrap_or(Orientation::NoTransforms)
}

/// Refuses a giant, whatever the chunk is called: the decoder does not always look.
fn check_frame(payload: &[u8]) -> Result<(), DecodeError> {
    match payload.get(3..10) {
        Some(&[a, b, c, width_low, width_high, height_low, height_high]) if [a, b, c] == KEY_FRAME => {
            // The upper two bits ask for a scaled display.
            let side = |low, high| u64::from(u16::from_le_bytes([low, high]) & 0x3fff);
            check_size(side(height_low, height_high), side(width_low, width_high))
        }
        _ => Ok(()),
    }
}

/// Names and contents of chunks that stand one behind the other.
fn chunks(mut bytes: &[u8]) -> impl Iterator<Item = Result<([u8; 4], &[u8]), DecodeError>> {
    std::iter::from_fn(move || {
        let (name, rest) = bytes.split_first_chunk::<4>()?;
        let (size, rest) = rest.split_first_chunk::<4>()?;
        let size = usize::try_from(u32::from_le_bytes(*size)).unwrap_or(usize::MAX);
        let Some((payload, rest)) = rest.split_at_checked(size) else {
            bytes = &[];
            return Some(Err(DecodeError::Truncated { format: Format::WebP }));
        };
        // To an even place; the last may lack its filling byte.
        bytes = rest.get(size % 2..).unwrap_or_default();
        Some(Ok((*name, payload)))
    })
}
