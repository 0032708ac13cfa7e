//! Adds pixels around images.

use super::arguments::{Fill, image_field};
use super::layers::Layers;
use super::window::{Padding, PaddingMode, Window, cut};
use crate::options::Options;
use crate::random::Rng;
use crate::sample::Sample;
use crate::spec::SpecError;
use crate::transform::{Transform, TransformError};

/// Pads the image and the masks of its sample.
///
/// Options: `padding`, one number for all borders, `[left and right, top and bottom]` or `[left, top, right, bottom]`;
/// `padding_mode`: "constant" (default), "edge", "reflect" (the outermost pixel not repeated) or "symmetric" (repeated);
/// for "constant" `fill` (default 0; one number or one for each channel) and for masks `mask_fill` (default 0); `field`
/// (default "image").
///
/// Source: torchvision's `Pad`.
#[derive(Clone, Debug)]
pub struct Pad {
    padding: Padding,
    mode: PaddingMode,
    fill: Fill,
    field: String,
}

impl Pad {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when `padding` is missing, or one has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let padding = Padding::from_options(options)?;
        Ok(Self {
            padding: options.required("padding", padding)?,
            mode: PaddingMode::from_options(options)?,
            fill: Fill::from_options(options)?,
            field: image_field(options)?,
        })
    }
}

impl Transform for Pad {
    fn apply(&self, mut sample: Sample, _rng: &mut Rng) -> Result<Sample, TransformError> {
        let layers = Layers::of(&mut sample, &self.field)?;
        let window = Window::padded(layers.height(), layers.width(), self.padding);
        let window = Window { mode: self.mode, ..window };
        layers.change(|image, layer| cut(image, &window, &self.fill.pixel(layer, image)?))?;
        Ok(sample)
    }

    fn is_deterministic(&self) -> bool {
        true
    }
}
