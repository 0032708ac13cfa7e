//! The markers of a JPEG: whether it is complete, and how the camera was held.
//!
//! Source: ITU-T T.81, B.1.1 (markers) and B.2 (segments).

use image::metadata::Orientation;

const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;
const APP1: u8 = 0xe1;

/// Whether a JPEG has its end marker: walks the segments, and in the scans from marker to marker.
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    // Nearly all end with it. A scan that is cut short does not, and before one there is no image to be complete.
    bytes.ends_with(&[0xff, END_OF_IMAGE]) || Markers { bytes, place: 0 }.any(|(marker, _)| marker == END_OF_IMAGE)
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
}
