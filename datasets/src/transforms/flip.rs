//! Mirrors images at random.

use super::arguments::{image_field, probability};
use super::layers::Layers;
use crate::options::Options;
use crate::random::Rng;
use crate::sample::{Image, Sample};
use crate::spec::SpecError;
use crate::transform::{Transform, TransformError};

/// Swaps left and right of the image and of the masks of its sample, with probability `p`.
///
/// Options: `p` (default 0.5); `field` (default "image").
///
/// Order: one draw.
///
/// Source: torchvision's `RandomHorizontalFlip`.
#[derive(Clone, Debug)]
pub struct HorizontalFlip {
    p: f64,
    field: String,
}

impl HorizontalFlip {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when one has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        Ok(Self { p: probability(options, 0.5)?, field: image_field(options)? })
    }
}

impl Transform for HorizontalFlip {
    fn apply(&self, mut sample: Sample, rng: &mut Rng) -> Result<Sample, TransformError> {
        let layers = Layers::of(&mut sample, &self.field)?;
        if rng.chance(self.p) {
            layers.change(|image, _| {
                mirror_rows(image);
                Ok(())
            })?;
        }
        Ok(sample)
    }
}

/// Swaps top and bottom of the image and of the masks of its sample, with probability `p`.
///
/// Options: `p` (default 0.5); `field` (default "image").
///
/// Order: one draw.
///
/// Source: torchvision's `RandomVerticalFlip`.
#[derive(Clone, Debug)]
pub struct VerticalFlip {
    p: f64,
    field: String,
}

impl VerticalFlip {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when one has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        Ok(Self { p: probability(options, 0.5)?, field: image_field(options)? })
    }
}

impl Transform for VerticalFlip {
    fn apply(&self, mut sample: Sample, rng: &mut Rng) -> Result<Sample, TransformError> {
        let layers = Layers::of(&mut sample, &self.field)?;
        if rng.chance(self.p) {
            layers.change(|image, _| {
                swap_rows(image);
                Ok(())
            })?;
        }
        Ok(sample)
    }
}

/// Turns every row around, pixel by pixel.
fn mirror_rows(image: &mut Image) {
    let [_, width, channels] = image.shape();
    if width * channels == 0 {
        return;
    }
    let rows = image.pixels_mut().chunks_exact_mut(width * channels);
    match channels {
        1 => rows.for_each(<[u8]>::reverse),
        // Of known length, a pixel moves at once.
        3 => rows.for_each(|row| row.as_chunks_mut::<3>().0.reverse()),
        _ => rows.for_each(|row| {
            // The whole row, then each pixel back into its order.
            row.reverse();
            row.chunks_exact_mut(channels).for_each(<[u8]>::reverse);
        }),
    }
}

/// Puts the last row first.
fn swap_rows(image: &mut Image) {
    let [height, width, channels] = image.shape();
    let row_bytes = width * channels;
    if row_bytes == 0 {
        return;
    }
    // Of an odd number of rows the middle one stays.
    let (upper, lower) = image.pixels_mut().split_at_mut(height.div_ceil(2) * row_bytes);
    let lower = lower.chunks_exact_mut(row_bytes).rev();
    upper.chunks_exact_mut(row_bytes).zip(lower).for_each(|(above, below)| above.swap_with_slice(below));
}
