//! Turns colour into gray, and gray into the form of colour.

use crate::decode::{COLOR_MODES, ColorMode, gray_from_rgb};
use crate::options::Options;
use crate::random::Rng;
use crate::sample::{Image, Sample};
use crate::scratch;
use crate::spec::SpecError;
use crate::transform::{Transform, TransformError, image_mut};

/// Gives the image one channel (`gray`) or three (`rgb`).
///
/// Source: gray is ITU-R BT.601 luma, rounded as Pillow's `convert("L")` rounds it.
#[derive(Clone, Copy, Debug)]
pub struct Color {
    mode: ColorMode,
}

impl Color {
    /// Reads the option `mode`.
    ///
    /// # Errors
    /// [`SpecError`] when it is missing or no colour mode.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        Ok(Self { mode: options.one_of("mode", &COLOR_MODES)? })
    }
}

impl Transform for Color {
    fn apply(&self, mut sample: Sample, _rng: &mut Rng) -> Result<Sample, TransformError> {
        let image = image_mut(&mut sample)?;
        let [height, width, channels] = image.shape();
        let pixels = match (channels, self.mode) {
            (1, ColorMode::Gray) | (3, ColorMode::Rgb) => return Ok(sample),
            (3, ColorMode::Gray) => gray_from_rgb(image.pixels()),
            (1, ColorMode::Rgb) => {
                let mut pixels = scratch::take(height * width * 3);
                for (pixel, &gray) in pixels.chunks_exact_mut(3).zip(image.pixels()) {
                    pixel.fill(gray);
                }
                pixels
            }
            (channels, _) => return Err(TransformError::Channels { channels, expected: "1 (gray) or 3 (rgb)" }),
        };
        let converted = Image::new(height, width, self.mode.channels(), pixels)
            .map_err(|error| TransformError::caused_by("convert colours", error))?;
        scratch::give(std::mem::replace(image, converted).into_pixels());
        Ok(sample)
    }
}
