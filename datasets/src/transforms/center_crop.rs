//! Cuts the middle out of images.

use super::arguments::{Size, image_field};
use super::layers::Layers;
use super::window::{Window, cut};
use crate::options::Options;
use crate::random::Rng;
use crate::sample::Sample;
use crate::spec::SpecError;
use crate::transform::{Transform, TransformError};

/// Cuts the middle out of the image and of the masks of its sample.
///
/// Options: `size`, of a square, or `[height, width]`; `field` (default "image").
///
/// Source: torchvision's `CenterCrop`, with its rounding; where that one pads an image that is too small with black,
/// this one refuses it.
#[derive(Clone, Debug)]
pub struct CenterCrop {
    height: usize,
    width: usize,
    field: String,
}

impl CenterCrop {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when `size` is missing, or one has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let (height, width) = Size::from_options(options)?.sides();
        Ok(Self { height, width, field: image_field(options)? })
    }
}

impl Transform for CenterCrop {
    fn apply(&self, mut sample: Sample, _rng: &mut Rng) -> Result<Sample, TransformError> {
        let layers = Layers::of(&mut sample, &self.field)?;
        let (spare_rows, spare_columns) = spare(layers.height(), layers.width(), self.height, self.width)?;
        let window = Window::inside(half_to_even(spare_rows), half_to_even(spare_columns), self.height, self.width);
        layers.change(|image, _| cut(image, &window, &[]))?;
        Ok(sample)
    }
}

/// The rows and columns that a crop leaves over.
pub(super) fn spare(
    height: usize,
    width: usize,
    crop_height: usize,
    crop_width: usize,
) -> Result<(usize, usize), TransformError> {
    match (height.checked_sub(crop_height), width.checked_sub(crop_width)) {
        (Some(rows), Some(columns)) => Ok((rows, columns)),
        _ => Err(TransformError::TooSmall { height, width, crop_height, crop_width }),
    }
}

/// Half of `pixels`, as Python's `round(pixels / 2)` has it: a half goes to the even neighbour.
pub(super) fn half_to_even(pixels: usize) -> usize {
    let half = pixels / 2;
    if pixels % 2 == 1 { half + half % 2 } else { half }
}
