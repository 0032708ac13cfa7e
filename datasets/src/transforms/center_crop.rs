//! Cuts the middle out of images.

use super::arguments::{Size, image_field};
use super::layers::Layers;
use super::window::{Window, cut};
use crate::options::Options;
use crate::random::Rng;
use crate::sample::Sample;
use crate::spec::SpecError;
use crate::transform::{IMAGE, Transform, TransformError};
use crate::view::{Geometry, Kind, View};

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

    /// The middle of an image of `height` x `width` pixels.
    fn window(&self, height: usize, width: usize) -> Result<Window, TransformError> {
        let (rows, columns) = spare(height, width, self.height, self.width)?;
        Ok(Window::inside(half_to_even(rows), half_to_even(columns), self.height, self.width))
    }
}

impl Transform for CenterCrop {
    fn apply(&self, mut sample: Sample, _rng: &mut Rng) -> Result<Sample, TransformError> {
        let layers = Layers::of(&mut sample, &self.field)?;
        let window = self.window(layers.height(), layers.width())?;
        layers.change(|image, _| cut(image, &window, &[]))?;
        Ok(sample)
    }

    fn is_deterministic(&self) -> bool {
        true
    }

    fn geometry(&self) -> Option<&dyn Geometry> {
        (self.field == IMAGE).then_some(self)
    }
}

impl Geometry for CenterCrop {
    fn kind(&self) -> Kind {
        Kind::Crop
    }

    fn look(&self, view: &mut View, _rng: &mut Rng) -> Result<(), TransformError> {
        view.crop(self.window(view.height(), view.width())?.part());
        Ok(())
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
