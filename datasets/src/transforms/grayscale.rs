//! Takes the colours out of images.

use super::adjust::{check_channels, luma};
use super::arguments::image_field;
use super::pixels::{buffer, floor_byte, replace};
use crate::options::Options;
use crate::random::Rng;
use crate::sample::{Image, Sample};
use crate::spec::SpecError;
use crate::transform::{Transform, TransformError, image_of};

/// Makes the image gray: always, or at random.
///
/// Options: either `num_output_channels`, 1 (default) or 3, all of them the same; or `p`, the probability with which it
/// is made gray, in as many channels as it has. `field` (default "image").
///
/// Masks are left alone.
///
/// Order: with `p` one draw, otherwise none.
///
/// Source: torchvision's `Grayscale`, and with `p` its `RandomGrayscale`. Fractions of the luma are cut off, as there;
/// the transform `color` and the datasets round them, as Pillow does.
#[derive(Clone, Debug)]
pub struct Grayscale {
    when: When,
    field: String,
}

/// When an image is made gray.
#[derive(Clone, Copy, Debug)]
enum When {
    Always { channels: usize },
    Sometimes { p: f64 },
}

impl Grayscale {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when one has no sense, or both are given.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let channels = options.optional_integer("num_output_channels", 1..=3_usize)?;
        let p = options.optional_number("p", 0.0..=1.0)?;
        let when = match (channels, p) {
            (Some(_), Some(_)) => {
                let reason = "stands beside `num_output_channels`; with `p` the image keeps its channels";
                return Err(options.error("p", reason));
            }
            (Some(2), None) => return Err(options.error("num_output_channels", "is 2, not 1 or 3")),
            (channels, None) => When::Always { channels: channels.unwrap_or(1) },
            (None, Some(p)) => When::Sometimes { p },
        };
        Ok(Self { when, field: image_field(options)? })
    }
}

impl Transform for Grayscale {
    fn apply(&self, mut sample: Sample, rng: &mut Rng) -> Result<Sample, TransformError> {
        let image = image_of(&mut sample, &self.field)?;
        match self.when {
            When::Always { channels } => grayscale(image, channels)?,
            When::Sometimes { p } => {
                check_channels(image)?;
                if rng.chance(p) {
                    grayscale(image, image.channels())?;
                }
            }
        }
        Ok(sample)
    }

    fn is_deterministic(&self) -> bool {
        matches!(self.when, When::Always { .. })
    }
}

/// Makes an image gray, in 1 or 3 channels.
fn grayscale(image: &mut Image, channels: usize) -> Result<(), TransformError> {
    check_channels(image)?;
    let [height, width, from_channels] = image.shape();
    match (from_channels, channels) {
        (3, 3) => {
            for rgb in image.pixels_mut().as_chunks_mut::<3>().0 {
                *rgb = [floor_byte(luma(*rgb)); 3];
            }
            Ok(())
        }
        (3, _) => {
            let mut gray = buffer(height, width, 1)?;
            let colors = image.pixels().as_chunks::<3>().0;
            gray.iter_mut().zip(colors).for_each(|(gray, rgb)| *gray = floor_byte(luma(*rgb)));
            replace(image, height, width, 1, gray)
        }
        (_, 3) => {
            let mut pixels = buffer(height, width, 3)?;
            let three = pixels.as_chunks_mut::<3>().0.iter_mut().zip(image.pixels());
            three.for_each(|(rgb, &gray)| *rgb = [gray; 3]);
            replace(image, height, width, 3, pixels)
        }
        _ => Ok(()),
    }
}
