//! Sharpness, and what redistributes the values of an image: posterize, solarize, autocontrast, equalize.

use super::adjust::{apply_table, check_channels, table};
use super::pixels::{buffer, floor_byte, fused, replace, single};
use crate::sample::Image;
use crate::transform::TransformError;

/// Moves every pixel from the mean of its surroundings: 0 is blurred, 1 the image, 2 twice as sharp. The outermost
/// pixels stay as they are.
///
/// Source: torchvision's `adjust_sharpness`: of the nine pixels the middle one counts five times.
pub(super) fn sharpness(image: &mut Image, factor: f64) -> Result<(), TransformError> {
    check_channels(image)?;
    let [height, width, channels] = image.shape();
    if height <= 2 || width <= 2 {
        return Ok(());
    }
    let rest = single(1.0 - factor);
    let row_bytes = width * channels;
    let mut pixels = buffer(height, width, channels)?;
    pixels.copy_from_slice(image.pixels());
    let inner = row_bytes - 2 * channels;
    let rows = image.pixels().windows(3 * row_bytes).step_by(row_bytes);
    for (target, three) in pixels[row_bytes..].chunks_exact_mut(row_bytes).zip(rows) {
        // The nine around every byte, each a stretch of as many bytes as are to be written.
        let around: [&[u8]; 9] =
            std::array::from_fn(|place| &three[place / 3 * row_bytes + place % 3 * channels..][..inner]);
        for (at, byte) in target[channels..][..inner].iter_mut().enumerate() {
            let middle = u32::from(around[4][at]);
            let sum = around.iter().map(|row| u32::from(row[at])).sum::<u32>() + 4 * middle;
            // The nearest integer; there is no half among thirteenths.
            let mean = (2 * sum + 13) / 26;
            let (middle, mean) = (f32::from(around[4][at]), mean as f32);
            *byte = floor_byte(fused(mean - middle, rest, middle));
        }
    }
    replace(image, height, width, channels, pixels)
}

/// Leaves the upper `bits` of every byte, 0 to 8.
///
/// Source: torchvision's `posterize`.
pub(super) fn posterize(image: &mut Image, bits: u32) {
    let mask = u8::MAX.checked_shl(8_u32.saturating_sub(bits)).unwrap_or(0);
    apply_table(image.pixels_mut(), |byte| byte & mask);
}

/// Inverts every byte from `threshold` up.
///
/// Source: torchvision's `solarize`.
pub(super) fn solarize(image: &mut Image, threshold: f64) {
    let threshold = single(threshold);
    apply_table(image.pixels_mut(), |byte| if f32::from(byte) >= threshold { 255 - byte } else { byte });
}

/// Stretches every channel from black to white; one of a single value stays as it is.
///
/// Source: torchvision's `autocontrast`.
pub(super) fn autocontrast(image: &mut Image) -> Result<(), TransformError> {
    check_channels(image)?;
    apply_tables(image, |counts| {
        let first = (0..=u8::MAX).zip(counts).find(|(_, count)| **count > 0).map(|(byte, _)| byte);
        let last = (0..=u8::MAX).zip(counts).rev().find(|(_, count)| **count > 0).map(|(byte, _)| byte);
        match (first, last) {
            (Some(first), Some(last)) if first < last => {
                let scale = f32::from(last - first) * single(1.0 / 255.0);
                table(|byte| floor_byte((f32::from(byte) - f32::from(first)) / scale))
            }
            _ => table(|byte| byte),
        }
    });
    Ok(())
}

/// Spreads the values of every channel so that all are about as frequent.
///
/// Source: torchvision's `equalize`, which follows Pillow's.
pub(super) fn equalize(image: &mut Image) {
    apply_tables(image, |counts| {
        let all: usize = counts.iter().sum();
        let last = counts.iter().rev().find(|count| **count > 0).copied().unwrap_or(0);
        let step = (all - last) / 255;
        if step == 0 {
            return table(|byte| byte);
        }
        let mut equalized = [0; 256];
        let mut below = 0;
        for (entry, count) in equalized.iter_mut().zip(counts) {
            // The first is 0: half a step is less than one.
            *entry = u8::try_from((below + step / 2) / step).unwrap_or(u8::MAX);
            below += count;
        }
        equalized
    });
}

/// Gives every byte what stands for it in the table of its channel, which is made of how often each value occurs.
fn apply_tables(image: &mut Image, table_of: impl Fn(&[usize; 256]) -> [u8; 256]) {
    let channels = image.channels();
    for channel in 0..channels {
        let mut counts = [0_usize; 256];
        image.pixels().iter().skip(channel).step_by(channels).for_each(|&byte| counts[usize::from(byte)] += 1);
        let table = table_of(&counts);
        let bytes = image.pixels_mut().iter_mut().skip(channel).step_by(channels);
        bytes.for_each(|byte| *byte = table[usize::from(*byte)]);
    }
}
