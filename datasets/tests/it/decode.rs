//! Decoding: what comes out of the formats, and that nothing comes out of broken ones.

use batchmill_datasets::decode::{ColorMode, decode};
use image::{DynamicImage, ImageFormat};

use crate::support::{encode, jpeg, picture, report};

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

#[test]
fn png_is_decoded_exactly() {
    let rgb = picture(31, 17);
    let decoded = decode(&encode(rgb.clone(), ImageFormat::Png), ColorMode::Rgb).unwrap();
    assert_eq!((decoded.shape(), decoded.pixels()), ([17, 31, 3], &rgb.as_raw()[..]));
    let decoded = decode(&encode(rgb.clone(), ImageFormat::Png), ColorMode::Gray).unwrap();
    assert_eq!(decoded.shape(), [17, 31, 1]);
    assert!(difference(decoded.pixels(), &luma(&rgb)) <= 1);
}

#[test]
fn png_of_every_kind_becomes_8_bits() {
    let rgb = picture(8, 5);
    let gray = image::GrayImage::from_fn(8, 5, |x, y| image::Luma([u8::try_from(x * 30 + y).unwrap()]));
    let thrice: Vec<u8> = gray.iter().flat_map(|&luma| [luma; 3]).collect();
    let colour: [DynamicImage; 3] = [
        rgb.clone().into(),
        DynamicImage::from(rgb.clone()).into_rgba8().into(),
        DynamicImage::from(rgb.clone()).into_rgb16().into(),
    ];
    for kind in colour {
        let color = kind.color();
        let decoded = decode(&encode(kind, ImageFormat::Png), ColorMode::Rgb).unwrap();
        assert_eq!(decoded.pixels(), &rgb.as_raw()[..], "{color:?}");
    }
    let grays: [DynamicImage; 3] = [
        gray.clone().into(),
        DynamicImage::from(gray.clone()).into_luma_alpha8().into(),
        DynamicImage::from(gray.clone()).into_luma16().into(),
    ];
    for kind in grays {
        let color = kind.color();
        let file = encode(kind, ImageFormat::Png);
        assert_eq!(decode(&file, ColorMode::Rgb).unwrap().pixels(), thrice, "{color:?}");
        assert_eq!(decode(&file, ColorMode::Gray).unwrap().pixels(), &gray.as_raw()[..], "{color:?}");
    }
}

#[test]
fn jpeg_is_decoded_closely() {
    let rgb = picture(64, 48);
    let decoded = decode(&encode(rgb.clone(), ImageFormat::Jpeg), ColorMode::Rgb).unwrap();
    assert_eq!(decoded.shape(), [48, 64, 3]);
    assert!(difference(decoded.pixels(), &rgb) < 20, "{}", difference(decoded.pixels(), &rgb));
    let decoded = decode(&encode(rgb.clone(), ImageFormat::Jpeg), ColorMode::Gray).unwrap();
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
fn a_giant_is_refused_before_memory_is_reserved() {
    // The header of a PNG that claims 60000 x 60000 pixels.
    let mut giant = encode(picture(1, 1), ImageFormat::Png);
    giant[16..20].copy_from_slice(&60_000_u32.to_be_bytes());
    giant[20..24].copy_from_slice(&60_000_u32.to_be_bytes());
    let mut crc = flate2::Crc::new();
    crc.update(&giant[12..29]);
    giant[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    let sentence = "60000 x 60000 pixels (height x width) are more than the limit of 178956970; store it smaller";
    assert_eq!(report(&decode(&giant, ColorMode::Rgb).unwrap_err()), sentence);

    // The same in the frame header (SOF0) of a JPEG.
    let mut giant = jpeg(8, 8);
    let frame = giant.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    giant[frame + 5..frame + 9].copy_from_slice(&[0xea, 0x60, 0xea, 0x60]);
    assert_eq!(report(&decode(&giant, ColorMode::Rgb).unwrap_err()), sentence);
}

#[test]
fn random_damage_never_panics() {
    let files = [jpeg(40, 30), encode(picture(40, 30), ImageFormat::Png)];
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    println!("seed {seed}");
    let mut rng = batchmill_datasets::random::Rng::new(seed, 0, 0, 0, 0);
    for file in &files {
        for _ in 0..300 {
            let mut damaged = file.clone();
            for _ in 0..=rng.below(4) {
                let place = usize::try_from(rng.below(file.len() as u64)).unwrap();
                damaged[place] = rng.next_u64().to_le_bytes()[0];
            }
            if let Ok(image) = decode(&damaged, ColorMode::Rgb) {
                assert_eq!(image.pixels().len(), image.height() * image.width() * 3);
            }
        }
    }
}

/// Libjpeg-turbo does not turn CMYK into RGB; the fallback does.
#[cfg(feature = "turbojpeg")]
#[test]
fn a_cmyk_jpeg_becomes_rgb() {
    let encode = |ink: [u8; 4]| {
        let pixels: Vec<u8> = ink.repeat(16 * 16);
        let format = turbojpeg::PixelFormat::CMYK;
        let image = turbojpeg::Image { pixels: &pixels[..], width: 16, pitch: 64, height: 16, format };
        turbojpeg::compress(image, 95, turbojpeg::Subsamp::None).unwrap()
    };
    // As Adobe writes it: 255 is no ink.
    let pixel = |ink| {
        let image = decode(&encode(ink), ColorMode::Rgb).unwrap();
        assert_eq!(image.shape(), [16, 16, 3]);
        [image.pixels()[0], image.pixels()[1], image.pixels()[2]]
    };
    assert!(difference(&pixel([255, 255, 255, 255]), &[255, 255, 255]) < 6, "{:?}", pixel([255; 4]));
    assert!(difference(&pixel([255, 255, 255, 0]), &[0, 0, 0]) < 6, "{:?}", pixel([255, 255, 255, 0]));
    assert!(difference(&pixel([0, 255, 255, 255]), &[0, 255, 255]) < 6, "{:?}", pixel([0, 255, 255, 255]));
}
