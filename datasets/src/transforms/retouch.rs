//! Redistributes the values of images at random.

use super::adjust::apply_table;
use super::arguments::{image_field, probability};
use super::enhance::{autocontrast, equalize, posterize, sharpness, solarize};
use crate::options::Options;
use crate::random::Rng;
use crate::sample::{Image, Sample};
use crate::spec::SpecError;
use crate::transform::{Transform, TransformError, image_of};

/// One of six changes to the values of the image, with probability `p`.
///
/// Options: `p` (default 0.5); `field` (default "image"); and those of the kind.
///
/// Masks are left alone.
///
/// Order: one draw.
///
/// Source: torchvision's `RandomPosterize`, `RandomSolarize`, `RandomInvert`, `RandomAutocontrast`, `RandomEqualize` and
/// `RandomAdjustSharpness`.
#[derive(Clone, Debug)]
pub struct Retouch {
    change: Change,
    p: f64,
    field: String,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Posterize { bits: u32 },
    Solarize { threshold: f64 },
    Invert,
    Autocontrast,
    Equalize,
    Sharpness { factor: f64 },
}

impl Retouch {
    /// The kind `posterize`: leaves the upper `bits`, 0 to 8, of every byte.
    ///
    /// # Errors
    /// [`SpecError`] when `bits` is missing, or one has no sense.
    pub fn posterize(options: &mut Options) -> Result<Self, SpecError> {
        let bits = options.integer("bits", 0..=8)?;
        Self::new(Change::Posterize { bits }, options)
    }

    /// The kind `solarize`: inverts every byte from `threshold`, 0 to 255, up.
    ///
    /// # Errors
    /// [`SpecError`] when `threshold` is missing, or one has no sense.
    pub fn solarize(options: &mut Options) -> Result<Self, SpecError> {
        let threshold = options.number("threshold", 0.0..=255.0)?;
        Self::new(Change::Solarize { threshold }, options)
    }

    /// The kind `invert`: makes black white.
    ///
    /// # Errors
    /// [`SpecError`] when one has no sense.
    pub fn invert(options: &mut Options) -> Result<Self, SpecError> {
        Self::new(Change::Invert, options)
    }

    /// The kind `autocontrast`: stretches every channel from black to white.
    ///
    /// # Errors
    /// [`SpecError`] when one has no sense.
    pub fn autocontrast(options: &mut Options) -> Result<Self, SpecError> {
        Self::new(Change::Autocontrast, options)
    }

    /// The kind `equalize`: makes all values of every channel about as frequent.
    ///
    /// # Errors
    /// [`SpecError`] when one has no sense.
    pub fn equalize(options: &mut Options) -> Result<Self, SpecError> {
        Self::new(Change::Equalize, options)
    }

    /// The kind `sharpness`: blurs the image for a `sharpness_factor` of 0, leaves it for 1, sharpens it above.
    ///
    /// # Errors
    /// [`SpecError`] when `sharpness_factor` is missing, or one has no sense.
    pub fn sharpness(options: &mut Options) -> Result<Self, SpecError> {
        let factor = options.number("sharpness_factor", 0.0..=1000.0)?;
        Self::new(Change::Sharpness { factor }, options)
    }

    fn new(change: Change, options: &mut Options) -> Result<Self, SpecError> {
        Ok(Self { change, p: probability(options, 0.5)?, field: image_field(options)? })
    }
}

impl Transform for Retouch {
    fn apply(&self, mut sample: Sample, rng: &mut Rng) -> Result<Sample, TransformError> {
        let image = image_of(&mut sample, &self.field)?;
        if rng.chance(self.p) {
            retouch(image, self.change)?;
        }
        Ok(sample)
    }
}

fn retouch(image: &mut Image, change: Change) -> Result<(), TransformError> {
    match change {
        Change::Posterize { bits } => posterize(image, bits),
        Change::Solarize { threshold } => solarize(image, threshold),
        Change::Invert => apply_table(image.pixels_mut(), |byte| 255 - byte),
        Change::Autocontrast => autocontrast(image)?,
        Change::Equalize => equalize(image),
        Change::Sharpness { factor } => sharpness(image, factor)?,
    }
    Ok(())
}
