//! From the channels that a decoder gives to those that were asked for.

use super::ColorMode;
use crate::scratch;

/// An alpha that lets nothing through.
const OPAQUE: u8 = 255;

/// Gives pixels the channels of `mode`.
///
/// `channels` is 1 for gray, 2 for gray and alpha, 3 for red, green and blue, 4 with alpha. Alpha is dropped, not blended,
/// as Pillow's `convert` does; where there was none, pixels are opaque.
pub(crate) fn recolor(pixels: Vec<u8>, channels: usize, mode: ColorMode) -> Vec<u8> {
    match (channels, mode) {
        (1, ColorMode::Rgb) => each(pixels, |[gray]| [gray; 3]),
        (1, ColorMode::Rgba) => each(pixels, |[gray]| [gray, gray, gray, OPAQUE]),
        (2, ColorMode::Gray) => each(pixels, |[gray, _]| [gray]),
        (2, ColorMode::Rgb) => each(pixels, |[gray, _]| [gray; 3]),
        (2, ColorMode::Rgba) => each(pixels, |[gray, alpha]| [gray, gray, gray, alpha]),
        (3, ColorMode::Gray) => each(pixels, |rgb| [luma(rgb)]),
        (3, ColorMode::Rgba) => each(pixels, |[red, green, blue]| [red, green, blue, OPAQUE]),
        (4, ColorMode::Gray) => each(pixels, |[red, green, blue, _]| [luma([red, green, blue])]),
        (4, ColorMode::Rgb) => each(pixels, |[red, green, blue, _]| [red, green, blue]),
        _ => pixels,
    }
}

/// Turns samples of 16 bits, in the order of bytes of this machine, into 8.
///
/// Source: the high byte, as torchvision's `to_dtype(uint8, scale=True)` and Pillow's `RGB;16B` have it. (Pillow alone
/// clips 16-bit gray at 255, which turns most such images white.)
pub(super) fn high_bytes(samples: Vec<u8>) -> Vec<u8> {
    each(samples, |sample| {
        let [high, _] = u16::from_ne_bytes(sample).to_be_bytes();
        [high]
    })
}

/// Turns cyan, magenta, yellow and key into red, green and blue. 255 is no ink, as Adobe stores it, and nobody otherwise
/// in a JPEG.
///
/// Source: Pillow's `CMYK;I`, then `cmyk2rgb` in Convert.c.
#[cfg(feature = "turbojpeg")]
pub(super) fn rgb_from_inverted_cmyk(cmyk: Vec<u8>) -> Vec<u8> {
    each(cmyk, |[cyan, magenta, yellow, key]| {
        [cyan, magenta, yellow].map(|paper| key.saturating_sub(product(255 - paper, key)))
    })
}

/// `a * b / 255`, rounded.
///
/// Source: Pillow's `MULDIV255`.
#[cfg(feature = "turbojpeg")]
fn product(a: u8, b: u8) -> u8 {
    let scaled = u16::from(a) * u16::from(b) + 128;
    let [rounded, _] = ((scaled >> 8) + scaled).to_be_bytes();
    rounded
}

/// Luma of red, green, blue.
///
/// Source: ITU-R BT.601 in 16-bit fixed point, as Pillow's `L24` in Convert.c.
fn luma(rgb: [u8; 3]) -> u8 {
    let [red, green, blue] = rgb.map(u32::from);
    let [_, luma, ..] = (red * 19_595 + green * 38_470 + blue * 7_471 + 0x8000).to_be_bytes();
    luma
}

/// Makes every `FROM` bytes into `TO` others.
fn each<const FROM: usize, const TO: usize>(from: Vec<u8>, change: impl Fn([u8; FROM]) -> [u8; TO]) -> Vec<u8> {
    let mut to = scratch::take(from.len() / FROM * TO);
    for (to, from) in to.as_chunks_mut().0.iter_mut().zip(from.as_chunks().0) {
        *to = change(*from);
    }
    scratch::give(from);
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_come_and_go() {
        let recolored = |pixels: &[u8], channels| {
            [ColorMode::Gray, ColorMode::Rgb, ColorMode::Rgba].map(|mode| recolor(pixels.to_vec(), channels, mode))
        };
        assert_eq!(recolored(&[7, 9], 1), [vec![7, 9], vec![7, 7, 7, 9, 9, 9], vec![7, 7, 7, 255, 9, 9, 9, 255]]);
        assert_eq!(recolored(&[7, 1, 9, 2], 2), [vec![7, 9], vec![7, 7, 7, 9, 9, 9], vec![7, 7, 7, 1, 9, 9, 9, 2]]);
        // 0.299 * 10 + 0.587 * 20 + 0.114 * 30 is 18.15.
        assert_eq!(recolored(&[10, 20, 30], 3), [vec![18], vec![10, 20, 30], vec![10, 20, 30, 255]]);
        assert_eq!(recolored(&[10, 20, 30, 4], 4), [vec![18], vec![10, 20, 30], vec![10, 20, 30, 4]]);
    }

    #[test]
    fn the_high_byte_is_kept() {
        let samples = [0, 255, 256, 0x12ff, 0xffff_u16].map(u16::to_ne_bytes).concat();
        assert_eq!(high_bytes(samples), [0, 0, 1, 0x12, 255]);
    }

    #[cfg(feature = "turbojpeg")]
    #[test]
    fn ink_becomes_light_as_in_pillow() {
        // In Pillow: Image.new("CMYK", (1, 1), tuple(255 - ink for ink in ...)).convert("RGB").
        let rgb = |cmyk: [u8; 4]| rgb_from_inverted_cmyk(cmyk.to_vec());
        assert_eq!(rgb([255, 255, 255, 255]), [255, 255, 255]);
        assert_eq!(rgb([0, 255, 255, 255]), [0, 255, 255]);
        assert_eq!(rgb([255, 255, 255, 0]), [0, 0, 0]);
        assert_eq!(rgb([128, 64, 32, 100]), [50, 25, 13]);
    }
}
