//! Cuts the middle out of images.

use super::Size;
use crate::options::Options;
use crate::random::Rng;
use crate::sample::{Image, Sample};
use crate::spec::SpecError;
use crate::transform::{Transform, TransformError, image_mut};

/// Cuts `size` x `size` pixels, or `[height, width]`, out of the middle of the image.
///
/// Source: torchvision's `CenterCrop`, with its rounding; where that one pads an image that is too small with black,
/// this one refuses it.
#[derive(Clone, Copy, Debug)]
pub struct CenterCrop {
    height: usize,
    width: usize,
}

impl CenterCrop {
    /// Reads the option `size`.
    ///
    /// # Errors
    /// [`SpecError`] when it is missing or no size.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        Ok(match Size::from_options(options)? {
            Size::One(size) => Self { height: size, width: size },
            Size::Both { height, width } => Self { height, width },
        })
    }
}

impl Transform for CenterCrop {
    fn apply(&self, mut sample: Sample, _rng: &mut Rng) -> Result<Sample, TransformError> {
        let image = image_mut(&mut sample)?;
        let [height, width, channels] = image.shape();
        let (Some(spare_rows), Some(spare_columns)) = (height.checked_sub(self.height), width.checked_sub(self.width))
        else {
            return Err(TransformError::TooSmall { height, width, crop_height: self.height, crop_width: self.width });
        };
        if (spare_rows, spare_columns) != (0, 0) {
            let (top, left) = (half_to_even(spare_rows), half_to_even(spare_columns));
            // An empty image takes the place of the old one while its pixels move.
            let mut pixels = std::mem::take(image).into_pixels();
            let row_bytes = self.width * channels;
            for row in 0..self.height {
                // Rows move towards the front, so that none is overwritten before it has moved.
                let from = ((top + row) * width + left) * channels;
                pixels.copy_within(from..from + row_bytes, row * row_bytes);
            }
            pixels.truncate(self.height * row_bytes);
            *image = Image::new(self.height, self.width, channels, pixels)
                .map_err(|error| TransformError::caused_by("crop", error))?;
        }
        Ok(sample)
    }
}

/// Half of `pixels`, as Python's `round(pixels / 2)` has it: a half goes to the even neighbour.
fn half_to_even(pixels: usize) -> usize {
    let half = pixels / 2;
    if pixels % 2 == 1 { half + half % 2 } else { half }
}
