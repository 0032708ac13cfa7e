//! What a TIFF claims of itself, checked before a decoder believes it.
//!
//! The decoder reserves memory for the values of a tag, for a row of a tile, and for what a compressed strip says that it
//! unpacks to; none of these has to do with the size of the image.

use super::{DecodeError, Format};

/// Compressions whose result is as large as the strip, and no larger: none, CCITT group 4, LZW, deflate (new and old),
/// PackBits. JPEG (7) brings a size of its own.
const COMPRESSIONS: [u32; 6] = [1, 4, 5, 8, 32_946, 32_773];

/// Red, green, blue and alpha, or cyan, magenta, yellow and key; what more there is could only be dropped.
const CHANNELS_MAX: u32 = 4;

/// The longest side of a tile, in pixels.
const TILE_SIDE_MAX: u32 = 0xffff;

/// Refuses a file whose first page asks for more memory than its pixels take.
///
/// Source: TIFF 6.0, sections 2 (the directory), 8 (baseline fields) and 15 (tiles).
pub(super) fn check(bytes: &[u8]) -> Result<(), DecodeError> {
    let unread = |what: String| DecodeError::Kind { format: Format::Tiff, source: what.into() };
    for Entry { tag, value_bytes, value } in entries(bytes).into_iter().flatten() {
        if value_bytes > bytes.len() as u64 {
            let claim = format!("its tag {tag} claims {value_bytes} bytes and the file has {}", bytes.len());
            return Err(DecodeError::Broken { format: Format::Tiff, source: claim.into() });
        }
        match tag {
            259 if !COMPRESSIONS.contains(&value) => return Err(unread(format!("its compression is {value}"))),
            277 if value > CHANNELS_MAX => return Err(unread(format!("it has {value} channels"))),
            322 | 323 if value > TILE_SIDE_MAX => return Err(unread(format!("its tiles are {value} pixels long"))),
            _ => {}
        }
    }
    Ok(())
}

/// An entry of the first directory.
struct Entry {
    tag: u16,
    /// What all its values take.
    value_bytes: u64,
    /// The first value, if it is an integer that stands in the entry itself.
    value: u32,
}

/// The entries of the first directory, up to where the file ends; `None` when it has none.
fn entries(bytes: &[u8]) -> Option<impl Iterator<Item = Entry>> {
    let is_big_endian = bytes.starts_with(b"MM");
    let u16_at = move |place: usize| {
        let bytes = *bytes.get(place..)?.first_chunk()?;
        Some(if is_big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    };
    let u32_at = move |place: usize| {
        let bytes = *bytes.get(place..)?.first_chunk()?;
        Some(if is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    };
    let directory = usize::try_from(u32_at(4)?).ok()?;
    let count = usize::from(u16_at(directory)?);
    Some((0..count).map_while(move |entry| {
        let place = directory + 2 + 12 * entry;
        let kind = u16_at(place + 2)?;
        let values = u64::from(u32_at(place + 4)?);
        let value = match kind {
            SHORT => u32::from(u16_at(place + 8)?),
            _ => u32_at(place + 8)?,
        };
        Some(Entry { tag: u16_at(place)?, value_bytes: values * value_bytes(kind), value })
    }))
}

const SHORT: u16 = 3;

/// The size of a value of this type; section 2 and, from 13 on, the later supplements.
fn value_bytes(kind: u16) -> u64 {
    match kind {
        SHORT | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16..=18 => 8,
        _ => 1,
    }
}
