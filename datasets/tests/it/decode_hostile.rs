//! Decoding of broken and hostile files: an error in words, and no memory for what is only claimed.

use batchmill_datasets::decode::{ColorMode, DecodeOptions, decode, decode_mask, dimensions};
use expect_test::{Expect, expect};
use image::ImageFormat;

use crate::again;
use crate::image_files::{
    Gif, LONG, SHORT, exif, gif_file, gray_tiff_entries, riff_chunks, tiff_file, vp8x, webp_file, with_png_chunk,
    with_png_size, zlib_of_zeros,
};
use crate::support::{encode, jpeg, picture, png, report};

/// A file of each format, and of each kind that is decoded in a way of its own.
pub(crate) fn files() -> Vec<(&'static str, Vec<u8>)> {
    let rgb = picture(40, 30);
    let gray = image::DynamicImage::from(rgb.clone()).into_luma16();
    vec![
        ("JPEG", jpeg(40, 30)),
        ("PNG", png(40, 30)),
        ("PNG with EXIF", with_png_chunk(&png(40, 30), b"eXIf", &exif(6))),
        ("16-bit PNG", encode(gray.clone(), ImageFormat::Png)),
        ("BMP", encode(rgb.clone(), ImageFormat::Bmp)),
        ("palette BMP", include_bytes!("../data/palette.bmp").to_vec()),
        ("GIF", encode(rgb.clone(), ImageFormat::Gif)),
        ("interlaced GIF", include_bytes!("../data/interlaced.gif").to_vec()),
        ("TIFF", encode(rgb.clone(), ImageFormat::Tiff)),
        ("16-bit TIFF", encode(gray, ImageFormat::Tiff)),
        ("LZW TIFF", include_bytes!("../data/lzw.tiff").to_vec()),
        ("lossless WebP", encode(rgb, ImageFormat::WebP)),
        ("lossy WebP", include_bytes!("../data/lossy.webp").to_vec()),
        ("lossy WebP with alpha", include_bytes!("../data/lossy-alpha.webp").to_vec()),
        ("moving WebP", include_bytes!("../data/moving.webp").to_vec()),
    ]
}

#[test]
fn a_truncated_file_is_an_error_unless_all_pixels_are_there() {
    for (name, whole) in files() {
        let image = decode(&whole, ColorMode::Rgba).unwrap();
        let mut whole_without = 0;
        for len in 0..whole.len() {
            if let Ok(part) = decode(&whole[..len], ColorMode::Rgba) {
                assert!(part == image, "{name}, {len} of {} bytes", whole.len());
                whole_without += 1;
            }
        }
        // An end marker, EXIF behind the image, the tags of a TIFF: no more than that.
        assert!(whole_without < 40, "{name}: {whole_without} of {} bytes are not needed", whole.len());
    }
}

#[test]
fn a_truncated_jpeg_is_an_error_wherever_it_ends() {
    let whole = jpeg(40, 30);
    for len in 0..whole.len() {
        for mode in [ColorMode::Rgb, ColorMode::Gray] {
            assert!(decode(&whole[..len], mode).is_err(), "{len} of {} bytes, {mode:?}", whole.len());
        }
    }
    // What was decoded before leaves no trace.
    assert_eq!(decode(&whole, ColorMode::Rgb).unwrap().shape(), [30, 40, 3]);
}

#[test]
fn what_is_said_of_a_broken_jpeg_does_not_depend_on_the_one_before() {
    // It ends before it says a size: libjpeg-turbo would take that of the last image.
    let broken = &jpeg(40, 30)[..28];
    let said = || (report(&decode(broken, ColorMode::Rgb).unwrap_err()), report(&dimensions(broken).unwrap_err()));
    let first = said();
    assert!(decode(&jpeg(8, 8), ColorMode::Rgb).is_ok());
    assert_eq!(said(), first);
}

#[test]
fn bytes_between_image_and_end_marker_do_no_harm() {
    let plain = jpeg(40, 30);
    let (image, end) = plain.split_at(plain.len() - 2);
    let padded = [image, &[0x00, 0x12, 0x34], end].concat();
    let expected = decode(&plain, ColorMode::Rgb).unwrap();
    assert_eq!(decode(&padded, ColorMode::Rgb).unwrap(), expected);
    let trailer = [&plain[..], b"trailer"].concat();
    assert_eq!(decode(&trailer, ColorMode::Rgb).unwrap(), expected);
}

#[test]
fn what_follows_an_image_does_no_harm() {
    for (name, file) in files() {
        let image = decode(&file, ColorMode::Rgb).unwrap();
        assert_eq!(decode(&[&file[..], b"a trailer"].concat(), ColorMode::Rgb).unwrap(), image, "{name}");
    }
}

#[test]
fn a_giant_is_refused_before_memory_is_reserved() {
    if !again::must_pass_with_memory("decode_hostile::a_giant_is_refused_before_memory_is_reserved", MEMORY_MIB) {
        return;
    }
    for (format, giant) in giants() {
        let sentence = "60000 x 60000 pixels (height x width) are more than the limit of 178956970; store it smaller";
        assert_eq!(report(&decode(&giant, ColorMode::Rgb).unwrap_err()), sentence, "{format}");
        if format == "PNG" {
            assert_eq!(report(&decode_mask(&with_png_size(&mask(), 60_000, 60_000)).unwrap_err()), sentence);
        }
        if format != "WebP frame" {
            let found = dimensions(&giant).unwrap();
            assert_eq!((found.height, found.width), (60_000, 60_000), "{format}");
        }
    }
}

/// What a test binary needs, and a decoder for an image of a few pixels.
const MEMORY_MIB: u64 = 200;

fn mask() -> Vec<u8> {
    encode(image::GrayImage::new(2, 2), ImageFormat::Png)
}

/// Small files that claim 60000 x 60000 pixels.
pub(crate) fn giants() -> Vec<(&'static str, Vec<u8>)> {
    const SIDE: u16 = 60_000;
    let side = [0xea, 0x60];
    // The frame header (SOF0) of a JPEG.
    let mut jpeg = jpeg(8, 8);
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[side, side].concat());
    let mut bmp = encode(picture(2, 2), ImageFormat::Bmp);
    for place in [18, 22] {
        bmp[place..place + 4].copy_from_slice(&u32::from(SIDE).to_le_bytes());
    }
    let palette = [[0; 3]; 4];
    let gif =
        Gif { canvas: [SIDE; 2], frame: [0, 0, SIDE, SIDE], palette: &palette, transparent: None, pixels: &[0; 4] };
    vec![
        ("JPEG", jpeg),
        ("PNG", with_png_size(&png(1, 1), SIDE.into(), SIDE.into())),
        ("BMP", bmp),
        ("GIF", gif_file(&gif)),
        ("TIFF", tiff_file(&gray_tiff_entries(SIDE.into(), SIDE.into(), &[]), &[0; 16])),
        ("WebP", webp_file(&[(b"VP8X", &vp8x(0, SIDE.into(), SIDE.into())), (b"VP8 ", &[0; 16])])),
    ]
}

/// The frame of a lossy WebP, 20 x 12 pixels.
fn lossy_frame() -> Vec<u8> {
    let file = include_bytes!("../data/lossy.webp");
    let start = file.windows(3).position(|bytes| bytes == [0x9d, 0x01, 0x2a]).unwrap();
    file[start - 3..].to_vec()
}

/// Files of few pixels whose decoders are asked for much memory, with what is said of each.
pub(crate) fn bombs() -> Vec<(&'static str, Vec<u8>, Expect)> {
    let palette = [[0; 3]; 4];
    let gif = Gif { canvas: [2; 2], frame: [0, 0, 60_000, 60_000], palette: &palette, transparent: None, pixels: &[0] };
    // The largest that a lossy frame can say of itself.
    let mut frame = lossy_frame();
    frame[6..10].fill(0xff);
    let moving = [&[0; 16][..], &riff_chunks(&[(b"ALPH", &[0; 300]), (b"odd ", &frame)])].concat();
    let mut exif_of_4_gib = include_bytes!("../data/lossy.webp").to_vec();
    let exif = exif_of_4_gib.windows(4).position(|name| name == b"EXIF").unwrap();
    exif_of_4_gib[exif + 4..exif + 8].fill(0xfe);
    let tiff = |more: &[_]| tiff_file(&gray_tiff_entries(2, 2, more), &[0; 64]);
    let mut png_of_2_gib = with_png_chunk(&png(2, 2), b"tEXt", b"name\0value");
    png_of_2_gib[33..37].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff]);
    let profile = [&b"name\0\0"[..], &zlib_of_zeros(400)].concat();
    vec![
        (
            "GIF frame beyond its canvas",
            gif_file(&gif),
            expect![
                "GIF frame beyond its canvas: a GIF that asks for far more memory than its pixels take; store it anew"
            ],
        ),
        (
            "WebP frame",
            webp_file(&[(b"VP8X", &vp8x(0, 20, 12)), (b"VP8 ", &frame)]),
            expect![
                "WebP frame: 16383 x 16383 pixels (height x width) are more than the limit of 178956970; store it smaller"
            ],
        ),
        (
            "WebP frame of a moving one",
            webp_file(&[(b"VP8X", &vp8x(2, 20, 12)), (b"ANIM", &[0; 6]), (b"ANMF", &moving)]),
            expect![
                "WebP frame of a moving one: 16383 x 16383 pixels (height x width) are more than the limit of 178956970; store it smaller"
            ],
        ),
        ("WebP chunk", exif_of_4_gib, expect!["WebP chunk: broken WebP: the file ends before the image does"]),
        (
            "TIFF strip places",
            tiff(&[(273, LONG, 50_000_000, 8)]),
            expect!["TIFF strip places: broken TIFF: its tag 273 claims 200000000 bytes and the file has 186"],
        ),
        (
            "TIFF tile",
            tiff(&[
                (322, LONG, 1, 1 << 31),
                (323, LONG, 1, 16),
                (324, LONG, 1, 8),
                (325, LONG, 1, 4),
                (277, SHORT, 1, 3),
                (338, SHORT, 2, 0),
            ]),
            expect!["TIFF tile: a kind of TIFF that is not read; convert it: its tiles are 2147483648 pixels long"],
        ),
        (
            "TIFF channels",
            tiff(&[(277, SHORT, 1, 65_535)]),
            expect!["TIFF channels: a kind of TIFF that is not read; convert it: it has 65535 channels"],
        ),
        (
            "TIFF of JPEG",
            tiff(&[(259, SHORT, 1, 7)]),
            expect!["TIFF of JPEG: a kind of TIFF that is not read; convert it: its compression is 7"],
        ),
        ("PNG chunk", png_of_2_gib, expect!["PNG chunk: broken PNG: unexpected end of file"]),
        ("PNG profile", with_png_chunk(&png(2, 2), b"iCCP", &profile), expect!["PNG profile: decoded"]),
    ]
}

#[test]
fn a_file_that_asks_for_more_memory_than_its_pixels_take_is_refused() {
    let test = "decode_hostile::a_file_that_asks_for_more_memory_than_its_pixels_take_is_refused";
    if !again::must_pass_with_memory(test, MEMORY_MIB) {
        return;
    }
    for (name, file, expected) in bombs() {
        let found = decode(&file, DecodeOptions { exif_orientation: true, ..DecodeOptions::default() });
        expected.assert_eq(&format!("{name}: {}", found.map_or_else(|error| report(&error), |_| "decoded".to_owned())));
    }
}

#[test]
fn a_panic_of_a_decoder_is_an_error_of_the_file() {
    // A moving image whose frame says 4 x 4 pixels and has 20 x 12: with alpha, `image-webp` 0.2.4 does not compare.
    let frame_header = [0, 0, 0, 0, 0, 0, 3, 0, 0, 3, 0, 0, 0, 0, 0, 0];
    let frame = riff_chunks(&[(b"ALPH", &[0; 17]), (b"VP8 ", &lossy_frame())]);
    let frame = [&frame_header[..], &frame].concat();
    let file = webp_file(&[(b"VP8X", &vp8x(2 | 16, 20, 12)), (b"ANIM", &[0; 6]), (b"ANMF", &frame)]);
    expect!["broken WebP: its decoder panicked: range end index 80 out of range for slice of length 64"]
        .assert_eq(&report(&decode(&file, ColorMode::Rgb).unwrap_err()));
}
