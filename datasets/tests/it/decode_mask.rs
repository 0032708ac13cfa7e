//! Masks: the numbers that a PNG stores, and what is no mask.

use batchmill_datasets::decode::decode_mask;
use expect_test::{Expect, expect};

use crate::image_files::{PngHeader, png_file, with_png_size};
use crate::support::{encode, jpeg, picture, png, report};

const HEADER: PngHeader = PngHeader { width: 3, height: 2, depth: 8, color: 3, is_interlaced: false };

/// 256 colours, none of which is its own number.
fn palette() -> Vec<u8> {
    (0..=255).flat_map(|place: u8| [255 - place, 1, 2]).collect()
}

#[test]
fn a_palette_gives_places_and_no_colours() {
    let palette = palette();
    // As PASCAL VOC has it: classes from 0, and 255 around the objects.
    let file = png_file(HEADER, &[(b"PLTE", &palette), (b"tRNS", &[0, 0])], &[&[0, 15, 255], &[1, 2, 0]]);
    let mask = decode_mask(&file).unwrap();
    assert_eq!((mask.shape(), mask.pixels()), ([2, 3, 1], &[0, 15, 255, 1, 2, 0][..]));
}

#[test]
fn few_bits_are_numbers_too() {
    for color in [0, 3] {
        let palette = palette();
        let numbers = |depth: u8, rows: &[&[u8]]| {
            let header = PngHeader { depth, color, ..HEADER };
            let chunks: &[crate::image_files::Chunk<'_>] =
                if color == 3 { &[(b"PLTE", &palette[..3 << depth])] } else { &[] };
            decode_mask(&png_file(header, chunks, rows)).unwrap().into_pixels()
        };
        assert_eq!(numbers(1, &[&[0b0100_0000], &[0b1010_0000]]), [0, 1, 0, 1, 0, 1]);
        assert_eq!(numbers(2, &[&[0b0001_1000], &[0b1100_0100]]), [0, 1, 2, 3, 0, 1]);
        assert_eq!(numbers(4, &[&[0x0f, 0x70], &[0x12, 0x30]]), [0, 15, 7, 1, 2, 3]);
    }
    let gray = PngHeader { color: 0, ..HEADER };
    let mask = decode_mask(&png_file(gray, &[], &[&[0, 15, 255], &[1, 2, 0]])).unwrap();
    assert_eq!(mask.pixels(), [0, 15, 255, 1, 2, 0]);
}

#[test]
fn an_interlaced_mask_is_put_together() {
    let header = PngHeader { width: 4, height: 4, depth: 4, color: 0, is_interlaced: true };
    // The passes of Adam7 over 4 x 4 pixels that count up from 0.
    let passes: [&[u8]; 7] = [&[0x00], &[0x20], &[0x8a], &[0x13], &[0x9b], &[0x45, 0x67], &[0xcd, 0xef]];
    assert_eq!(decode_mask(&png_file(header, &[], &passes)).unwrap().pixels(), (0..16).collect::<Vec<u8>>());
}

#[test]
fn what_is_no_mask_is_refused() {
    let refused = |file: &[u8], expected: Expect| expected.assert_eq(&report(&decode_mask(file).unwrap_err()));
    let gray = image::GrayImage::new(2, 2);
    refused(
        &jpeg(8, 8),
        expect![
            "no mask but a JPEG; a mask is a PNG of palette or gray pixels with at most 8 bits, which are the numbers of the classes: convert it"
        ],
    );
    refused(
        &png(8, 8),
        expect![
            "no mask but a PNG of Rgb pixels with 8 bits a channel; a mask is a PNG of palette or gray pixels with at most 8 bits, which are the numbers of the classes: convert it"
        ],
    );
    refused(
        &encode(image::DynamicImage::from(gray.clone()).into_luma16(), image::ImageFormat::Png),
        expect![
            "no mask but a PNG of Grayscale pixels with 16 bits a channel; a mask is a PNG of palette or gray pixels with at most 8 bits, which are the numbers of the classes: convert it"
        ],
    );
    refused(
        &encode(image::DynamicImage::from(gray.clone()).into_luma_alpha8(), image::ImageFormat::Png),
        expect![
            "no mask but a PNG of GrayscaleAlpha pixels with 8 bits a channel; a mask is a PNG of palette or gray pixels with at most 8 bits, which are the numbers of the classes: convert it"
        ],
    );
    refused(
        &encode(picture(2, 2), image::ImageFormat::Bmp),
        expect![
            "no mask but a BMP; a mask is a PNG of palette or gray pixels with at most 8 bits, which are the numbers of the classes: convert it"
        ],
    );
    refused(
        b"a text",
        expect![[r#"not an image: it begins with the text "a text", unlike a JPEG, PNG, WebP, BMP, GIF or TIFF"#]],
    );
    let mask = encode(gray, image::ImageFormat::Png);
    refused(&mask[..mask.len() - 20], expect!["broken PNG: unexpected end of file"]);
    refused(
        &with_png_size(&mask, 60_000, 60_000),
        expect!["60000 x 60000 pixels (height x width) are more than the limit of 178956970; store it smaller"],
    );
}
