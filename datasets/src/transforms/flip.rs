//! Mirrors images at random.

use super::arguments::{image_field, probability};
use super::layers::Layers;
use crate::options::Options;
use crate::random::Rng;
use crate::sample::Sample;
use crate::spec::SpecError;
use crate::transform::{IMAGE, Transform, TransformError};
use crate::view::{self, Geometry, Kind, View};

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
                let [_, width, channels] = image.shape();
                view::mirror(image.pixels_mut(), width * channels, channels);
                Ok(())
            })?;
        }
        Ok(sample)
    }

    fn geometry(&self) -> Option<&dyn Geometry> {
        (self.field == IMAGE).then_some(self)
    }
}

impl Geometry for HorizontalFlip {
    fn kind(&self) -> Kind {
        Kind::Flip
    }

    fn look(&self, view: &mut View, rng: &mut Rng) -> Result<(), TransformError> {
        if rng.chance(self.p) {
            view.mirror();
        }
        Ok(())
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
                let row_bytes = image.width() * image.channels();
                view::upend(image.pixels_mut(), row_bytes);
                Ok(())
            })?;
        }
        Ok(sample)
    }

    fn geometry(&self) -> Option<&dyn Geometry> {
        (self.field == IMAGE).then_some(self)
    }
}

impl Geometry for VerticalFlip {
    fn kind(&self) -> Kind {
        Kind::Flip
    }

    fn look(&self, view: &mut View, rng: &mut Rng) -> Result<(), TransformError> {
        if rng.chance(self.p) {
            view.upend();
        }
        Ok(())
    }
}
