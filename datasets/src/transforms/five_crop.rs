//! Cuts the four corners and the middle out of images.

use batchmill_protocol::tensor::{Dtype, Shape};

use super::arguments::{Size, image_field};
use super::center_crop::{half_to_even, spare};
use super::layers::Layers;
use super::pixels::buffer;
use crate::options::Options;
use crate::random::Rng;
use crate::sample::{Array, Sample, Value};
use crate::scratch;
use crate::spec::SpecError;
use crate::transform::{Transform, TransformError};

/// Cuts five pieces out of the image: top left, top right, bottom left, bottom right, middle.
///
/// Options: `size`, of a square, or `[height, width]`; `field` (default "image").
///
/// Shapes: the field becomes an array, [5, height, width, channels], u8, and each mask of the sample one of
/// [5, height, width]; what acts on images comes before.
///
/// Source: torchvision's `FiveCrop`, stacked; it refuses masks.
#[derive(Clone, Debug)]
pub struct FiveCrop {
    height: usize,
    width: usize,
    field: String,
}

impl FiveCrop {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when `size` is missing, or one has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let (height, width) = Size::from_options(options)?.sides();
        Ok(Self { height, width, field: image_field(options)? })
    }
}

impl Transform for FiveCrop {
    fn apply(&self, mut sample: Sample, _rng: &mut Rng) -> Result<Sample, TransformError> {
        let layers = Layers::of(&mut sample, &self.field)?;
        let (bottom, right) = spare(layers.height(), layers.width(), self.height, self.width)?;
        let middle = (half_to_even(bottom), half_to_even(right));
        let corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), middle];
        layers.change_values(|value| {
            let (Value::Image(image) | Value::Mask(image)) = value else { return Ok(()) };
            let [_, width, channels] = image.shape();
            let mut pixels = buffer(corners.len() * self.height, self.width, channels)?;
            let row_bytes = self.width * channels;
            let rows = corners.iter().flat_map(|&(top, left)| (top..top + self.height).map(move |row| (row, left)));
            for (target, (row, left)) in pixels.chunks_exact_mut(row_bytes.max(1)).zip(rows) {
                target.copy_from_slice(&image.pixels()[(row * width + left) * channels..][..row_bytes]);
            }
            scratch::give(std::mem::take(image).into_pixels());
            let mut shape = vec![corners.len(), self.height, self.width];
            if matches!(value, Value::Image(_)) {
                shape.push(channels);
            }
            let stacked = Array::new(Dtype::U8, Shape(shape), pixels);
            *value = stacked.map_err(|error| TransformError::caused_by("stack the crops", error))?.into();
            Ok(())
        })?;
        Ok(sample)
    }

    fn is_deterministic(&self) -> bool {
        true
    }
}
