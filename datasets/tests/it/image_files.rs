//! Image files that no encoder at hand writes, put together byte by byte.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;

/// A chunk of a PNG, or of a RIFF container.
pub(crate) type Chunk<'a> = (&'a [u8; 4], &'a [u8]);

/// What a PNG's header says (PNG, 11.2.2).
#[derive(Clone, Copy)]
pub(crate) struct PngHeader {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Bits of a channel.
    pub(crate) depth: u8,
    /// 0 gray, 2 RGB, 3 palette, 4 gray and alpha, 6 RGBA.
    pub(crate) color: u8,
    pub(crate) is_interlaced: bool,
}

/// A PNG of rows without filters, in the order in which they are stored.
pub(crate) fn png_file(header: PngHeader, chunks: &[Chunk<'_>], rows: &[&[u8]]) -> Vec<u8> {
    let PngHeader { width, height, depth, color, is_interlaced } = header;
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    let header = [&size[..], &[depth, color, 0, 0, u8::from(is_interlaced)]].concat();
    let unfiltered = rows.iter().flat_map(|row| [&[0], *row].concat()).collect::<Vec<_>>();
    let pixels = zlib(&unfiltered);
    let last: [Chunk<'_>; 2] = [(b"IDAT", &pixels), (b"IEND", &[])];
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, content) in [(b"IHDR", &header[..])].iter().chain(chunks).chain(&last) {
        file.extend(png_chunk(name, content));
    }
    file
}

/// A PNG with another chunk behind its header.
pub(crate) fn with_png_chunk(png: &[u8], name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    const HEADER_END: usize = 33;
    [&png[..HEADER_END], &png_chunk(name, content), &png[HEADER_END..]].concat()
}

/// A PNG that claims another size than it has.
pub(crate) fn with_png_size(png: &[u8], width: u32, height: u32) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &png[24..29]].concat();
    [&png[..8], &png_chunk(b"IHDR", &header), &png[33..]].concat()
}

/// The same PNG with checksums that are right, whatever its chunks hold: a decoder looks no further at a wrong one.
pub(crate) fn with_png_checksums(png: &[u8]) -> Vec<u8> {
    let mut file = png[..png.len().min(8)].to_vec();
    let mut rest = &png[file.len()..];
    while let Some((len, named)) = rest.split_first_chunk() {
        let Some((content, after)) = named.split_at_checked(4 + u32::from_be_bytes(*len) as usize) else { break };
        let Some((name, content)) = content.split_first_chunk() else { break };
        file.extend(png_chunk(name, content));
        rest = after.get(4..).unwrap_or_default();
    }
    [&file, rest].concat()
}

fn png_chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(name);
    crc.update(content);
    [&len_u32(content).to_be_bytes()[..], name, content, &crc.sum().to_be_bytes()].concat()
}

/// So many MiB of zeros, compressed; without the checksum at the end.
pub(crate) fn zlib_of_zeros(mib: usize) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    // Each MiB but the first is compressed to the same bytes.
    let ends = [(); 3].map(|()| {
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
        encoder.flush().unwrap();
        encoder.get_ref().len()
    });
    let file = encoder.finish().unwrap();
    [&file[..ends[1]], &file[ends[1]..ends[2]].repeat(mib - 2)].concat()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What a GIF of one frame is (GIF89a).
#[derive(Clone, Copy)]
pub(crate) struct Gif<'a> {
    /// Width and height of the canvas.
    pub(crate) canvas: [u16; 2],
    /// Left, top, width and height of the frame.
    pub(crate) frame: [u16; 4],
    pub(crate) palette: &'a [[u8; 3]; 4],
    pub(crate) transparent: Option<u8>,
    /// Places in the palette, row by row.
    pub(crate) pixels: &'a [u8],
}

pub(crate) fn gif_file(gif: &Gif<'_>) -> Vec<u8> {
    let mut file = b"GIF89a".to_vec();
    file.extend(gif.canvas.iter().flat_map(|side| side.to_le_bytes()));
    // A global palette of 4 colours.
    file.extend([0b1000_0001, 0, 0]);
    file.extend(gif.palette.as_flattened());
    let (flags, transparent) = gif.transparent.map_or((0, 0), |place| (1, place));
    file.extend([0x21, 0xf9, 4, flags, 0, 0, transparent, 0]);
    file.push(b',');
    file.extend(gif.frame.iter().flat_map(|side| side.to_le_bytes()));
    // LZW that never compresses: with 7 bits a code is one byte as long as the table is cleared in time.
    const CLEAR: u8 = 128;
    const END: u8 = 129;
    file.extend([0, 7]);
    let blocks: Vec<_> = gif.pixels.chunks(100).collect();
    for (place, pixels) in blocks.iter().enumerate() {
        let end = if place + 1 == blocks.len() { &[END][..] } else { &[] };
        let codes = [&[CLEAR][..], pixels, end].concat();
        file.push(u8::try_from(codes.len()).unwrap());
        file.extend(codes);
    }
    file.extend([0, b';']);
    file
}

/// An entry of a TIFF's directory: tag, type, number of values, value or its place.
pub(crate) type Entry = (u16, u16, u32, u32);

/// The type of an entry's values: 2 bytes.
pub(crate) const SHORT: u16 = 3;
/// The type of an entry's values: 4 bytes.
pub(crate) const LONG: u16 = 4;

/// A TIFF, low bytes first, of one directory and what stands behind it.
pub(crate) fn tiff_file(entries: &[Entry], data: &[u8]) -> Vec<u8> {
    let mut file = b"II*\0\x08\0\0\0".to_vec();
    file.extend(u16::try_from(entries.len()).unwrap().to_le_bytes());
    for &(tag, kind, count, value) in entries {
        file.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
        file.extend([count.to_le_bytes(), value.to_le_bytes()].concat());
    }
    file.extend([0; 4]);
    file.extend(data);
    file
}

/// The entries of a gray TIFF of 8 bits and one strip, which stands behind as many entries and `more`.
pub(crate) fn gray_tiff_entries(width: u32, height: u32, more: &[Entry]) -> Vec<Entry> {
    let count = u32::try_from(9 + more.len()).unwrap();
    let mut entries = vec![
        (256, LONG, 1, width),
        (257, LONG, 1, height),
        (258, SHORT, 1, 8),
        (259, SHORT, 1, 1),
        (262, SHORT, 1, 1),
        (273, LONG, 1, 8 + 2 + 12 * count + 4),
        (277, SHORT, 1, 1),
        (278, LONG, 1, height),
        (279, LONG, 1, width.saturating_mul(height)),
    ];
    for &entry in more {
        entries.retain(|&(tag, ..)| tag != entry.0);
        entries.push(entry);
    }
    entries.sort_unstable();
    entries
}

/// EXIF that says how the camera was held, 1 to 8.
pub(crate) fn exif(orientation: u32) -> Vec<u8> {
    tiff_file(&[(0x112, SHORT, 1, orientation)], &[])
}

/// The same with high bytes first.
pub(crate) fn big_endian_exif(orientation: u8) -> Vec<u8> {
    let entry = [0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0];
    [&b"MM\0*\0\0\0\x08\0\x01"[..], &entry, &[0; 4]].concat()
}

/// A JPEG with EXIF behind its first marker.
pub(crate) fn with_jpeg_exif(jpeg: &[u8], exif: &[u8]) -> Vec<u8> {
    let segment = [b"Exif\0\0", exif].concat();
    let len = u16::try_from(segment.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xff, 0xe1], &len, &segment, &jpeg[2..]].concat()
}

/// A WebP of these chunks.
pub(crate) fn webp_file(chunks: &[Chunk<'_>]) -> Vec<u8> {
    let content = riff_chunks(chunks);
    [&b"RIFF"[..], &(len_u32(&content) + 4).to_le_bytes(), b"WEBP", &content].concat()
}

/// Chunks that stand one behind the other, as in an `ANMF` chunk.
pub(crate) fn riff_chunks(chunks: &[Chunk<'_>]) -> Vec<u8> {
    let mut file = Vec::new();
    for (name, content) in chunks {
        file.extend([&name[..], &len_u32(content).to_le_bytes(), content].concat());
        file.resize(file.len().next_multiple_of(2), 0);
    }
    file
}

/// The content of the chunk `VP8X`: flags (2 animation, 8 EXIF, 16 alpha) and canvas.
pub(crate) fn vp8x(flags: u8, width: u32, height: u32) -> Vec<u8> {
    let side = |pixels: u32| (pixels - 1).to_le_bytes();
    [&[flags, 0, 0, 0], &side(width)[..3], &side(height)[..3]].concat()
}

fn len_u32(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap()
}
