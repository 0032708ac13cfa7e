//! Decoding: what comes out of the formats.

use batchmill_datasets::decode::{ColorMode, DecodeOptions, Format, decode, dimensions};
use batchmill_datasets::sample::Image;
use image::{DynamicImage, ImageFormat};

use crate::image_files::{
    Gif, PngHeader, big_endian_exif, exif, gif_file, gray_tiff_entries, png_file, tiff_file, webp_file, with_jpeg_exif,
    with_png_chunk,
};
use crate::support::{encode, picture, report};

/// The largest difference of two equally long rows of bytes.
fn difference(left: &[u8], right: &[u8]) -> u8 {
    assert_eq!(left.len(), right.len());
    left.iter().zip(right).map(|(left, right)| left.abs_diff(*right)).max().unwrap()
}

/// Luma as Pillow computes it, in floating point.
fn luma(rgb: &image::RgbImage) -> Vec<u8> {
    rgb.pixels()
        .map(|image::Rgb([r, g, b])| (f64::from(*r) * 0.299 + f64::from(*g) * 0.587 + f64::from(*b) * 0.114).round())
        .map(|luma| (0..=255).find(|&byte| f64::from(byte) >= luma).unwrap())
        .collect()
}

/// The picture that `data/make.py` draws.
fn drawn_picture() -> image::RgbaImage {
    let byte = |number: u32| u8::try_from(number).unwrap();
    image::RgbaImage::from_fn(20, 12, |x, y| image::Rgba([byte(x * 12), byte(y * 20), 100, byte(40 + x * 10)]))
}

/// The pixels in the corners, row by row.
fn corners(image: &Image) -> [&[u8]; 4] {
    let [height, width, channels] = image.shape();
    let places = [0, width - 1, (height - 1) * width, height * width - 1];
    places.map(|place| &image.pixels()[place * channels..(place + 1) * channels])
}

#[test]
fn formats_without_loss_are_decoded_exactly() {
    let rgb = picture(31, 17);
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP] {
        let file = encode(rgb.clone(), format);
        let decoded = decode(&file, ColorMode::Rgb).unwrap();
        assert_eq!((decoded.shape(), decoded.pixels()), ([17, 31, 3], &rgb.as_raw()[..]), "{format:?}");
        let decoded = decode(&file, ColorMode::Gray).unwrap();
        assert_eq!(decoded.shape(), [17, 31, 1]);
        assert!(difference(decoded.pixels(), &luma(&rgb)) <= 1, "{format:?}");
        let decoded = decode(&file, ColorMode::Rgba).unwrap();
        assert_eq!(decoded.shape(), [17, 31, 4]);
        assert_eq!(decoded.pixels(), &DynamicImage::from(rgb.clone()).into_rgba8().into_raw(), "{format:?}");
    }
}

#[test]
fn every_kind_of_pixel_becomes_8_bits() {
    let rgb = picture(8, 5);
    let gray = image::GrayImage::from_fn(8, 5, |x, y| image::Luma([u8::try_from(x * 30 + y).unwrap()]));
    let thrice: Vec<u8> = gray.iter().flat_map(|&luma| [luma; 3]).collect();
    let colour: [DynamicImage; 4] = [
        rgb.clone().into(),
        DynamicImage::from(rgb.clone()).into_rgba8().into(),
        DynamicImage::from(rgb.clone()).into_rgb16().into(),
        DynamicImage::from(rgb.clone()).into_rgba16().into(),
    ];
    for format in [ImageFormat::Png, ImageFormat::Tiff] {
        for kind in colour.clone() {
            let color = kind.color();
            let decoded = decode(&encode(kind, format), ColorMode::Rgb).unwrap();
            assert_eq!(decoded.pixels(), &rgb.as_raw()[..], "{color:?} {format:?}");
        }
    }
    let grays: [(DynamicImage, &[ImageFormat]); 3] = [
        (gray.clone().into(), &[ImageFormat::Png, ImageFormat::Tiff, ImageFormat::Bmp]),
        (DynamicImage::from(gray.clone()).into_luma_alpha8().into(), &[ImageFormat::Png]),
        (DynamicImage::from(gray.clone()).into_luma16().into(), &[ImageFormat::Png, ImageFormat::Tiff]),
    ];
    for (kind, formats) in grays {
        for &format in formats {
            let color = kind.color();
            let file = encode(kind.clone(), format);
            assert_eq!(decode(&file, ColorMode::Rgb).unwrap().pixels(), thrice, "{color:?} {format:?}");
            assert_eq!(decode(&file, ColorMode::Gray).unwrap().pixels(), &gray.as_raw()[..], "{color:?} {format:?}");
        }
    }
}

#[test]
fn of_16_bits_the_high_byte_is_kept() {
    let sixteen = image::ImageBuffer::from_raw(4, 1, vec![0x00ff_u16, 0x7fff, 0x80fe, 0xfffe]).unwrap();
    for format in [ImageFormat::Png, ImageFormat::Tiff] {
        let file = encode(DynamicImage::ImageLuma16(sixteen.clone()), format);
        assert_eq!(decode(&file, ColorMode::Gray).unwrap().pixels(), [0x00, 0x7f, 0x80, 0xff], "{format:?}");
    }
}

#[test]
fn alpha_is_dropped_unless_asked_for() {
    let rgba = drawn_picture();
    let rgb = DynamicImage::from(rgba.clone()).into_rgb8();
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP] {
        let file = encode(rgba.clone(), format);
        assert_eq!(decode(&file, ColorMode::Rgba).unwrap().pixels(), &rgba.as_raw()[..], "{format:?}");
        assert_eq!(decode(&file, ColorMode::Rgb).unwrap().pixels(), &rgb.as_raw()[..], "{format:?}");
    }
}

#[test]
fn png_palettes_and_few_bits_are_resolved() {
    let header = PngHeader { width: 3, height: 2, depth: 2, color: 3, is_interlaced: false };
    let palette = [[10, 20, 30], [40, 50, 60], [70, 80, 90]].concat();
    // 0 1 2 and 2 1 0 in two bits each; the second colour is transparent.
    let file = png_file(header, &[(b"PLTE", &palette), (b"tRNS", &[255, 0])], &[&[0b0001_1000], &[0b1001_0000]]);
    let row = [10, 20, 30, 40, 50, 60, 70, 80, 90];
    let back = [70, 80, 90, 40, 50, 60, 10, 20, 30];
    assert_eq!(decode(&file, ColorMode::Rgb).unwrap().pixels(), [row, back].concat());
    let first = &decode(&file, ColorMode::Rgba).unwrap().into_pixels()[..12];
    assert_eq!(first, [10, 20, 30, 255, 40, 50, 60, 0, 70, 80, 90, 255]);

    let header = PngHeader { depth: 1, color: 0, ..header };
    let file = png_file(header, &[], &[&[0b0100_0000], &[0b1010_0000]]);
    assert_eq!(decode(&file, ColorMode::Gray).unwrap().pixels(), [0, 255, 0, 255, 0, 255]);

    // A gray that is transparent where it is 7.
    let header = PngHeader { depth: 8, ..header };
    let file = png_file(header, &[(b"tRNS", &[0, 7])], &[&[1, 7, 9], &[7, 0, 7]]);
    assert_eq!(decode(&file, ColorMode::Gray).unwrap().pixels(), [1, 7, 9, 7, 0, 7]);
    let alpha: Vec<u8> = decode(&file, ColorMode::Rgba).unwrap().pixels().iter().skip(3).step_by(4).copied().collect();
    assert_eq!(alpha, [255, 0, 255, 0, 255, 0]);
}

#[test]
fn an_interlaced_png_is_put_together() {
    let header = PngHeader { width: 4, height: 4, depth: 8, color: 0, is_interlaced: true };
    // The passes of Adam7 over 4 x 4 pixels that count up from 0.
    let passes: [&[u8]; 7] = [&[0], &[2], &[8, 10], &[1, 3], &[9, 11], &[4, 5, 6, 7], &[12, 13, 14, 15]];
    let file = png_file(header, &[], &passes);
    assert_eq!(decode(&file, ColorMode::Gray).unwrap().pixels(), (0..16).collect::<Vec<u8>>());
}

#[test]
fn a_gif_is_its_first_frame_on_its_canvas() {
    let palette = [[1, 2, 3], [10, 20, 30], [40, 50, 60], [70, 80, 90]];
    let gif =
        Gif { canvas: [4, 3], frame: [1, 1, 2, 2], palette: &palette, transparent: Some(2), pixels: &[1, 2, 3, 1] };
    let decoded = decode(&gif_file(&gif), ColorMode::Rgba).unwrap();
    assert_eq!(decoded.shape(), [3, 4, 4]);
    let none = [0; 4];
    let rows = [
        [none; 4],
        [none, [10, 20, 30, 255], [40, 50, 60, 0], none],
        [none, [70, 80, 90, 255], [10, 20, 30, 255], none],
    ];
    assert_eq!(decoded.pixels(), rows.as_flattened().as_flattened());
    // Without alpha the colour of a transparent pixel shows, as in Pillow.
    let opaque: Vec<u8> = rows.as_flattened().iter().flat_map(|pixel| &pixel[..3]).copied().collect();
    assert_eq!(decode(&gif_file(&gif), ColorMode::Rgb).unwrap().pixels(), opaque);

    // Places that the palette lacks are black, whatever a buffer held before.
    let gif = Gif { canvas: [2, 1], frame: [0, 0, 2, 1], transparent: None, pixels: &[1, 9], ..gif };
    assert_eq!(decode(&gif_file(&gif), ColorMode::Rgba).unwrap().pixels(), [10, 20, 30, 255, 0, 0, 0, 0]);
}

#[test]
fn files_of_other_programs_are_read_as_pillow_reads_them() {
    // What `data/make.py` printed.
    let read = |file: &[u8]| decode(file, ColorMode::Rgba).unwrap();
    let opaque = DynamicImage::from(DynamicImage::from(drawn_picture()).into_rgb8()).into_rgba8();
    assert_eq!(read(include_bytes!("../data/interlaced.gif")).pixels(), &opaque.as_raw()[..]);
    assert_eq!(read(include_bytes!("../data/lzw.tiff")).pixels(), &opaque.as_raw()[..]);
    let expected = [[48, 40, 100, 255], [168, 10, 100, 255], [48, 190, 100, 255], [168, 190, 100, 255]];
    assert_eq!(corners(&read(include_bytes!("../data/palette.bmp"))), expected);

    let closely = |file: &[u8], expected: [[u8; 4]; 4]| {
        let image = read(file);
        assert_eq!(image.shape(), [12, 20, 4]);
        assert!(difference(corners(&image).concat().as_slice(), expected.as_flattened()) <= 1, "{:?}", corners(&image));
    };
    let opaque = [[0, 1, 100, 255], [215, 4, 100, 255], [12, 202, 122, 255], [224, 219, 110, 255]];
    closely(include_bytes!("../data/lossy.webp"), opaque);
    let alpha = [[0, 1, 100, 40], [216, 5, 103, 230], [12, 202, 122, 40], [234, 215, 106, 230]];
    closely(include_bytes!("../data/lossy-alpha.webp"), alpha);
    closely(include_bytes!("../data/moving.webp"), alpha);
}

#[test]
fn jpeg_is_decoded_closely() {
    let rgb = picture(64, 48);
    let file = encode(rgb.clone(), ImageFormat::Jpeg);
    let decoded = decode(&file, ColorMode::Rgb).unwrap();
    assert_eq!(decoded.shape(), [48, 64, 3]);
    assert!(difference(decoded.pixels(), &rgb) < 20, "{}", difference(decoded.pixels(), &rgb));
    let with_alpha = decode(&file, ColorMode::Rgba).unwrap();
    assert_eq!(with_alpha.shape(), [48, 64, 4]);
    for (with, without) in with_alpha.pixels().chunks(4).zip(decoded.pixels().chunks(3)) {
        assert_eq!(with, [without, &[255]].concat());
    }
    let decoded = decode(&file, ColorMode::Gray).unwrap();
    assert_eq!(decoded.shape(), [48, 64, 1]);
    assert!(difference(decoded.pixels(), &luma(&rgb)) < 10, "{}", difference(decoded.pixels(), &luma(&rgb)));
}

#[test]
fn a_gray_jpeg_becomes_colour() {
    let gray = DynamicImage::from(picture(16, 16)).into_luma8();
    let file = encode(gray, ImageFormat::Jpeg);
    let one = decode(&file, ColorMode::Gray).unwrap();
    let three = decode(&file, ColorMode::Rgb).unwrap();
    assert_eq!(three.pixels(), one.pixels().iter().flat_map(|&luma| [luma; 3]).collect::<Vec<_>>());
}

#[cfg(feature = "turbojpeg")]
#[test]
fn jpeg_of_every_kind_is_decoded_closely() {
    use turbojpeg::{Compressor, PixelFormat, Subsamp};

    let rgb = picture(50, 37);
    let image =
        turbojpeg::Image { pixels: &rgb.as_raw()[..], width: 50, pitch: 150, height: 37, format: PixelFormat::RGB };
    for is_progressive in [false, true] {
        for subsamp in [Subsamp::None, Subsamp::Sub2x1, Subsamp::Sub2x2, Subsamp::Sub4x1, Subsamp::Gray] {
            let mut compressor = Compressor::new().unwrap();
            compressor.set_progressive(is_progressive).unwrap();
            compressor.set_subsamp(subsamp).unwrap();
            compressor.set_quality(95).unwrap();
            let file = compressor.compress_to_vec(image).unwrap();
            let decoded = decode(&file, ColorMode::Gray).unwrap();
            assert!(difference(decoded.pixels(), &luma(&rgb)) < 10, "{is_progressive}, {subsamp:?}");
            if subsamp != Subsamp::Gray {
                let decoded = decode(&file, ColorMode::Rgb).unwrap();
                let difference = difference(decoded.pixels(), &rgb);
                assert!(difference < 25, "{is_progressive}, {subsamp:?}: {difference}");
            }
        }
    }
}

/// Neither is stored as RGB, and libjpeg-turbo does not make it so.
#[cfg(feature = "turbojpeg")]
#[test]
fn cmyk_and_ycck_jpegs_become_rgb_as_in_pillow() {
    use turbojpeg::{Colorspace, Compressor, PixelFormat};

    let encode = |ink: [u8; 4], colorspace| {
        let pixels: Vec<u8> = ink.repeat(16 * 16);
        let image =
            turbojpeg::Image { pixels: &pixels[..], width: 16, pitch: 64, height: 16, format: PixelFormat::CMYK };
        let mut compressor = Compressor::new().unwrap();
        compressor.set_colorspace(colorspace).unwrap();
        compressor.set_quality(98).unwrap();
        compressor.compress_to_vec(image).unwrap()
    };
    // As Adobe writes it: 255 is no ink. Expected is the product of paper and key over 255.
    for (ink, rgb) in [
        ([255, 255, 255, 255], [255, 255, 255]),
        ([255, 255, 255, 0], [0, 0, 0]),
        ([0, 255, 255, 255], [0, 255, 255]),
        ([128, 64, 32, 100], [50, 25, 13]),
        ([10, 200, 120, 230], [9, 180, 108]),
    ] {
        for colorspace in [Colorspace::CMYK, Colorspace::YCCK] {
            let file = encode(ink, colorspace);
            let decoded = decode(&file, ColorMode::Rgb).unwrap();
            assert_eq!(decoded.shape(), [16, 16, 3]);
            let pixel = &decoded.pixels()[..3];
            assert!(difference(pixel, &rgb) <= 4, "{ink:?} as {colorspace:?}: {pixel:?}");
            let with_alpha = decode(&file, ColorMode::Rgba).unwrap();
            assert_eq!(with_alpha.pixels()[..4], [pixel, &[255]].concat());
            assert_eq!(decode(&file, ColorMode::Gray).unwrap().shape(), [16, 16, 1]);
        }
    }
}

#[test]
fn exif_turns_the_image_where_that_is_asked_for() {
    let turned = DecodeOptions { exif_orientation: true, ..DecodeOptions::default() };
    let rgb = picture(24, 16);
    for orientation in 1..=8 {
        let mut expected = DynamicImage::from(rgb.clone());
        expected.apply_orientation(image::metadata::Orientation::from_exif(orientation).unwrap());
        let (little, big) = (exif(orientation.into()), big_endian_exif(orientation));
        let lossless = encode(rgb.clone(), ImageFormat::WebP);
        let vp8l = &lossless[20..];
        let vp8x = crate::image_files::vp8x(8, 24, 16);
        let files = [
            with_png_chunk(&encode(rgb.clone(), ImageFormat::Png), b"eXIf", &little),
            with_png_chunk(&encode(rgb.clone(), ImageFormat::Png), b"eXIf", &big),
            webp_file(&[(b"VP8X", &vp8x), (b"VP8L", vp8l), (b"EXIF", &little)]),
            webp_file(&[(b"VP8X", &vp8x), (b"VP8L", vp8l), (b"EXIF", &[b"Exif\0\0", &big[..]].concat())]),
        ];
        for file in &files {
            assert_eq!(decode(file, ColorMode::Rgb).unwrap().pixels(), &rgb.as_raw()[..], "left alone otherwise");
            let decoded = decode(file, turned).unwrap();
            let sides = [expected.height(), expected.width(), 3].map(|side| usize::try_from(side).unwrap());
            assert_eq!(decoded.shape(), sides, "orientation {orientation}");
            assert_eq!(decoded.pixels(), expected.as_bytes(), "orientation {orientation}");
        }
        let plain = encode(rgb.clone(), ImageFormat::Jpeg);
        let mut expected = DynamicImage::from(
            image::RgbImage::from_raw(24, 16, decode(&plain, ColorMode::Rgb).unwrap().into_pixels()).unwrap(),
        );
        expected.apply_orientation(image::metadata::Orientation::from_exif(orientation).unwrap());
        for exif in [little, big] {
            let file = with_jpeg_exif(&plain, &exif);
            assert_eq!(decode(&file, turned).unwrap().pixels(), expected.as_bytes(), "orientation {orientation}");
            assert_eq!(decode(&file, ColorMode::Rgb).unwrap().shape(), [16, 24, 3]);
        }
    }
    // A TIFF has the tag among its own.
    let file = tiff_file(&gray_tiff_entries(3, 2, &[(274, crate::image_files::SHORT, 1, 6)]), b"abcdef");
    let decoded = decode(&file, DecodeOptions { color: ColorMode::Gray, exif_orientation: true, draft: None }).unwrap();
    assert_eq!((decoded.shape(), decoded.pixels()), ([3, 2, 1], &b"daebfc"[..]));
    // Written by a camera, or in this case by Pillow.
    let decoded = decode(include_bytes!("../data/lossy.webp"), turned).unwrap();
    assert_eq!(decoded.shape(), [20, 12, 3]);
}

#[test]
fn exif_that_makes_no_sense_turns_nothing() {
    let turned = DecodeOptions { exif_orientation: true, ..DecodeOptions::default() };
    let jpeg = encode(picture(24, 16), ImageFormat::Jpeg);
    for exif in [exif(0), exif(9), exif(70_000), b"not EXIF".to_vec(), Vec::new(), exif(6)[..14].to_vec()] {
        assert_eq!(decode(&with_jpeg_exif(&jpeg, &exif), turned).unwrap().shape(), [16, 24, 3]);
        let png = with_png_chunk(&encode(picture(24, 16), ImageFormat::Png), b"eXIf", &exif);
        assert_eq!(decode(&png, turned).unwrap().shape(), [16, 24, 3]);
    }
}

#[test]
fn dimensions_are_read_from_the_header() {
    let formats = [
        (ImageFormat::Jpeg, Format::Jpeg),
        (ImageFormat::Png, Format::Png),
        (ImageFormat::WebP, Format::WebP),
        (ImageFormat::Bmp, Format::Bmp),
        (ImageFormat::Gif, Format::Gif),
        (ImageFormat::Tiff, Format::Tiff),
    ];
    for (format, expected) in formats {
        let found = dimensions(&encode(picture(31, 17), format)).unwrap();
        assert_eq!((found.format, found.height, found.width), (expected, 17, 31));
    }
    let found = dimensions(include_bytes!("../data/lossy.webp")).unwrap();
    assert_eq!((found.format, found.height, found.width), (Format::WebP, 12, 20));
    // As stored, though a decoder may turn it.
    let jpeg = with_jpeg_exif(&encode(picture(31, 17), ImageFormat::Jpeg), &exif(6));
    assert_eq!(dimensions(&jpeg).unwrap().height, 17);
    // Nothing behind the header is looked at.
    assert_eq!(dimensions(&encode(picture(31, 17), ImageFormat::Png)[..60]).unwrap().height, 17);
    let sentence = report(&dimensions(b"qoif and more").unwrap_err());
    assert_eq!(
        sentence,
        "a .qoi file, whatever its name; only JPEG, PNG, WebP, BMP, GIF and TIFF are read: convert it"
    );
}
