//! The markers of a JPEG: whether it is complete, how large it is, and how the camera was held.
//!
//! Source: ITU-T T.81, B.1.1 (markers) and B.2 (segments).

use image::metadata::Orientation;

const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;
const APP1: u8 = 0xe1;

/// Among the codes of frames: tables of codes (DHT), an extension (JPG) and arithmetic conditions (DAC).
const NO_FRAMES: [u8; 3] = [0xc4, 0xc8, 0xcc];

/// Whether a JPEG has its end marker: walks the segments, and in the scans from marker to marker.
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    // Nearly all end with it. A scan that is cut short does not, and before one there is no image to be complete.
    bytes.ends_with(&[0xff, END_OF_IMAGE]) || Markers { bytes, place: 0 }.any(|(marker, _)| marker == END_OF_IMAGE)
}

/// Height and width of a JPEG, where its frame header says them: not whether it can be decoded, or is whole.
pub fn size(bytes: &[u8]) -> Option<(usize, usize)> {
    let is_frame = |marker: u8| matches!(marker, 0xc0..=0xcf) && !NO_FRAMES.contains(&marker);
    let (_, frame) = Markers { bytes, place: 0 }
        .take_while(|(marker, _)| *marker != START_OF_SCAN)
        .find(|(marker, _)| is_frame(*marker))?;
    // Before them, the bits of a number.
    let [height, width] = [1, 3].map(|place| frame.get(place..)?.first_chunk().copied().map(u16::from_be_bytes));
    Some((height?.into(), width?.into()))
}

/// How the camera was held, as the first EXIF segment says, which stands before the image.
pub(super) fn orientation(bytes: &[u8]) -> Orientation {
    Markers { bytes, place: 0 }
        .take_while(|(marker, _)| *marker != START_OF_SCAN)
        .filter(|(marker, _)| *marker == APP1)
        .find_map(|(_, segment)| segment.strip_prefix(b"Exif\0\0"))
        .and_then(Orientation::from_exif_chunk)
        .unwrap_or(Orientation::NoTransforms)
}

/// Goes from marker to marker: its code, and the bytes of its segment, of which there are none for a marker that stands
/// alone. It ends where a segment is cut short.
struct Markers<'a> {
    bytes: &'a [u8],
    place: usize,
}

impl<'a> Iterator for Markers<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        // The pixels of a scan follow its header, which is a segment like any other; in them 0xff stands only before
        // 0x00 or a marker.
        self.place += self.bytes.get(self.place..)?.windows(2).position(is_marker)? + 2;
        let marker = self.bytes[self.place - 1];
        if stands_alone(marker) {
            return Some((marker, &[]));
        }
        let len = u16::from_be_bytes(*self.bytes[self.place..].first_chunk()?);
        let segment = self.bytes[self.place..].get(2..usize::from(len))?;
        self.place += usize::from(len);
        Some((marker, segment))
    }
}

/// 0xff and a code: neither a stuffed 0xff 0x00 nor one of several filling 0xff.
fn is_marker(pair: &[u8]) -> bool {
    pair[0] == 0xff && !matches!(pair[1], 0x00 | 0xff)
}

/// Markers without a segment: TEM, RST0 to RST7, SOI, EOI.
fn stands_alone(marker: u8) -> bool {
    matches!(marker, 0x01 | 0xd0..=END_OF_IMAGE)
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

    #[test]
    fn the_size_is_that_of_the_frame() {
        let frame = [0xff, 0xc2, 0, 8, 8, 1, 2, 3, 4, 1];
        // A thumbnail's frame lies within another segment.
        let thumbnail = [0xff, APP1, 0, 12, 0xff, 0xc0, 0, 8, 8, 0, 9, 0, 9, 1];
        let tables = [0xff, 0xc4, 0, 7, 8, 0, 1, 0, 1];
        let file = [&[0xff, 0xd8], &thumbnail[..], &tables, &frame].concat();
        assert_eq!(size(&file), Some((0x102, 0x304)));
        for len in 0..file.len() {
            assert_eq!(size(&file[..len]), None, "{len} of {} bytes", file.len());
        }
        assert_eq!(size(&[&[0xff, 0xd8, 0xff, START_OF_SCAN, 0, 2], &frame[..]].concat()), None);
    }
}
