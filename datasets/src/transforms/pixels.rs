//! New pixels in the place of old ones, and numbers that become bytes.

use crate::sample::Image;
use crate::scratch;
use crate::transform::TransformError;

/// The most bytes of a result: a thin image has a very long side once its short one is scaled up; beyond this it is
/// refused, not attempted.
pub(super) const RESULT_BYTES_MAX: usize = 1 << 30;

/// A buffer for an image of `height` x `width` pixels; every byte is to be written.
pub(crate) fn buffer(height: usize, width: usize, channels: usize) -> Result<Vec<u8>, TransformError> {
    Ok(scratch::take(check_size(height, width, channels)?))
}

/// The bytes of an image, if they are not too many.
pub(crate) fn check_size(height: usize, width: usize, channels: usize) -> Result<usize, TransformError> {
    let bytes = height.checked_mul(width).and_then(|pixels| pixels.checked_mul(channels));
    bytes
        .filter(|&bytes| bytes <= RESULT_BYTES_MAX)
        .ok_or_else(|| TransformError::new(format!("the result would have more than {RESULT_BYTES_MAX} bytes")))
}

/// Puts new pixels into an image and keeps the buffer of the old ones for the next [`buffer`].
pub(crate) fn replace(
    image: &mut Image,
    height: usize,
    width: usize,
    channels: usize,
    pixels: Vec<u8>,
) -> Result<(), TransformError> {
    let new = Image::new(height, width, channels, pixels)
        .map_err(|error| TransformError::caused_by("put the image together", error))?;
    scratch::give(std::mem::replace(image, new).into_pixels());
    Ok(())
}

/// The byte below a number, 0 or 255 beyond them: what `clamp` and a cast make of it in torchvision.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast of a float saturates")]
pub(super) fn floor_byte(number: f32) -> u8 {
    number as u8
}

/// The byte nearest to a number, of two the even one; 0 or 255 beyond them.
pub(super) fn round_byte(number: f32) -> u8 {
    floor_byte(round(number))
}

/// The integer nearest to a number within 2^22 of 0, of two the even one; something as far away from others.
pub(super) fn round(number: f32) -> f32 {
    /// From here on floats are integers: adding it rounds, as the processor rounds, which is to even. `round_ties_even`
    /// gives the same but is a function call on the oldest x86-64.
    const INTEGERS: f32 = 12_582_912.0;
    (number + INTEGERS) - INTEGERS
}

/// `factor * by + plus`, rounded once: the fused product of PyTorch's vector code, on any machine.
#[expect(clippy::cast_possible_truncation, reason = "rounding is the purpose")]
pub(super) fn fused(factor: f32, by: f32, plus: f32) -> f32 {
    // The product of two f32 is exact in an f64.
    (f64::from(factor) * f64::from(by) + f64::from(plus)) as f32
}

/// An f64 with the precision of an f32.
#[expect(clippy::cast_possible_truncation, reason = "rounding is the purpose")]
pub(super) fn single(number: f64) -> f32 {
    number as f32
}

/// A number of pixels nearest to a real number, of two the even one, as Python's `round`; none below 0.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast of a float saturates")]
pub(super) fn round_pixels(number: f64) -> usize {
    number.round_ties_even() as usize
}
