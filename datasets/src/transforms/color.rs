//! Turns colour into gray, and gray into the form of colour.

use crate::decode::{COLOR_MODES, ColorMode, recolor};
use crate::options::Options;
use crate::random::Rng;
use crate::sample::{Image, Sample};
use crate::spec::SpecError;
use crate::transform::{Transform, TransformError, image_mut};

/// Gives the image one channel (`gray`), three (`rgb`) or four (`rgba`): alpha is dropped, or opaque where there was none.
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
        if !matches!(channels, 1 | 3 | 4) {
            return Err(TransformError::Channels { channels, expected: "1 (gray), 3 (rgb) or 4 (rgba)" });
        }
        let pixels = recolor(std::mem::take(image).into_pixels(), channels, self.mode);
        *image = Image::new(height, width, self.mode.channels(), pixels)
            .map_err(|error| TransformError::caused_by("convert colours", error))?;
        Ok(sample)
    }

    fn is_deterministic(&self) -> bool {
        true
    }
}
