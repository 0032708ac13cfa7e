//! Brightness, contrast, saturation and hue of images, and their luma.
//!
//! All is computed in single precision and in the order of torchvision's functions of the same name on uint8 tensors;
//! where those go through a fused product, so do these. Fractions are cut off, as there.

use super::pixels::{floor_byte, fused, single};
use crate::sample::Image;
use crate::transform::TransformError;

/// Requires gray or red, green and blue.
pub(super) fn check_channels(image: &Image) -> Result<(), TransformError> {
    match image.channels() {
        1 | 3 => Ok(()),
        channels => Err(TransformError::Channels { channels, expected: "1 (gray) or 3 (rgb)" }),
    }
}

/// Scales every byte: 0 is black, 1 the image, 2 twice as bright.
///
/// Source: torchvision's `adjust_brightness`.
pub(super) fn brightness(image: &mut Image, factor: f64) -> Result<(), TransformError> {
    check_channels(image)?;
    let factor = single(factor);
    apply_table(image.pixels_mut(), |byte| floor_byte(f32::from(byte) * factor));
    Ok(())
}

/// Moves every byte from the image's mean luma: 0 is plain gray, 1 the image, 2 twice as far.
///
/// Source: torchvision's `adjust_contrast`; the mean is exact, where it is there as good as sums of single precision.
pub(super) fn contrast(image: &mut Image, factor: f64) -> Result<(), TransformError> {
    check_channels(image)?;
    if image.pixels().is_empty() {
        return Ok(());
    }
    let (sum, pixels) = match image.channels() {
        1 => (image.pixels().iter().map(|&byte| u64::from(byte)).sum::<u64>(), image.pixels().len()),
        _ => {
            let pixels = image.pixels().as_chunks::<3>().0;
            (pixels.iter().map(|&rgb| u64::from(floor_byte(luma(rgb)))).sum(), pixels.len())
        }
    };
    let mean = single(sum as f64 / pixels as f64);
    let blend = Blend::new(factor);
    apply_table(image.pixels_mut(), |byte| blend.mix(byte, mean));
    Ok(())
}

/// Moves every pixel from its luma: 0 is gray, 1 the image, 2 twice as colourful. Gray images stay as they are.
///
/// Source: torchvision's `adjust_saturation`.
pub(super) fn saturation(image: &mut Image, factor: f64) -> Result<(), TransformError> {
    check_channels(image)?;
    if image.channels() == 3 {
        let blend = Blend::new(factor);
        for rgb in image.pixels_mut().as_chunks_mut::<3>().0 {
            let gray = f32::from(floor_byte(luma(*rgb)));
            *rgb = rgb.map(|byte| blend.mix(byte, gray));
        }
    }
    Ok(())
}

/// Turns every colour around the circle by a share of it, -0.5 to 0.5. Gray images stay as they are.
///
/// Source: torchvision's `adjust_hue`.
pub(super) fn hue(image: &mut Image, shift: f64) -> Result<(), TransformError> {
    check_channels(image)?;
    if image.channels() == 3 {
        let shift = single(shift);
        for rgb in image.pixels_mut().as_chunks_mut::<3>().0 {
            *rgb = shift_hue(*rgb, shift);
        }
    }
    Ok(())
}

/// How light a colour is, 0 to 255.
///
/// Source: torchvision's `rgb_to_grayscale`, before it is made an integer.
pub(super) fn luma(rgb: [u8; 3]) -> f32 {
    let [red, green, blue] = rgb.map(f32::from);
    fused(blue, 0.114, fused(green, 0.587, red * 0.2989))
}

/// Gives every byte what stands for it in a table of all 256.
pub(super) fn apply_table(bytes: &mut [u8], value: impl Fn(u8) -> u8) {
    let table = table(value);
    bytes.iter_mut().for_each(|byte| *byte = table[usize::from(*byte)]);
}

/// What stands for each byte.
pub(super) fn table(value: impl Fn(u8) -> u8) -> [u8; 256] {
    let mut table = [0; 256];
    (0..=u8::MAX).zip(&mut table).for_each(|(byte, entry)| *entry = value(byte));
    table
}

/// So much of the one and the rest of the other.
///
/// Source: torchvision's `_blend`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blend {
    factor: f32,
    rest: f32,
}

impl Blend {
    pub(super) fn new(factor: f64) -> Self {
        Self { factor: single(factor), rest: single(1.0 - factor) }
    }

    pub(super) fn mix(self, byte: u8, other: f32) -> u8 {
        floor_byte(fused(other, self.rest, f32::from(byte) * self.factor))
    }
}

/// Source: torchvision's `_rgb_to_hsv` and `_hsv_to_rgb`, which follow Pillow's Convert.c.
fn shift_hue(rgb: [u8; 3], shift: f32) -> [u8; 3] {
    let [red, green, blue] = rgb.map(|byte| f32::from(byte) * (1.0 / 255.0));
    let (least, most) = (red.min(green).min(blue), red.max(green).max(blue));
    let spread = most - least;
    let (saturation, hue) = if spread == 0.0 {
        (0.0, 1.0)
    } else {
        let [from_red, from_green, from_blue] = [red, green, blue].map(|part| (most - part) / spread);
        let sixths = if most == red {
            from_blue - from_green
        } else if most == green {
            from_red + 2.0 - from_blue
        } else {
            from_green + 4.0 - from_red
        };
        (spread / most, sixths * (1.0 / 6.0) + 1.0)
    };
    // From 5/6 to 2, of which the fraction counts; then the shifted one, which wraps around at both ends.
    let hue = if hue >= 1.0 { hue - 1.0 } else { hue } + shift;
    let hue = if hue >= 1.0 {
        hue - 1.0
    } else if hue < 0.0 {
        hue + 1.0
    } else {
        hue
    };

    let sixths = hue * 6.0;
    // A hue just below 0 becomes a whole turn in single precision: the same as none.
    let sector = floor_byte(sixths) % 6;
    let fraction = sixths - f32::from(floor_byte(sixths));
    let gray = 1.0 - saturation;
    let part = saturation * fraction;
    let [low, falling, rising] = [gray, 1.0 - part, part + gray].map(|share| (share * most).clamp(0.0, 1.0));
    let rgb = match sector {
        0 => [most, rising, low],
        1 => [falling, most, low],
        2 => [low, most, rising],
        3 => [low, falling, most],
        4 => [rising, low, most],
        _ => [most, low, falling],
    };
    // The factor that torchvision takes floats to bytes by: 256 equal parts, but for the last thousandth.
    rgb.map(|part| floor_byte(part * 255.999))
}
