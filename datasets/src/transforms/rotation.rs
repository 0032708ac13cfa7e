//! Turns images by a random angle.

use super::arguments::{Fill, Interpolation, image_field, range_around};
use super::layers::Layers;
use super::warp::{Motion, warp};
use crate::options::Options;
use crate::random::Rng;
use crate::sample::Sample;
use crate::spec::SpecError;
use crate::transform::{Transform, TransformError};

/// The largest angle that may be asked for, in degrees.
pub(super) const DEGREES_MAX: f64 = 360_000.0;

/// Turns the image and the masks of its sample counter-clockwise around the middle.
///
/// Options: `degrees`, `[low, high]` or one number for [-number, number]; `expand` (default false), to make the result
/// as large as the whole turned image needs; `interpolation`: "nearest" (default) or "bilinear"; `fill` (default 0; one
/// number or one for each channel) and for masks `mask_fill` (default 0), for where the image does not reach; `field`
/// (default "image").
///
/// Masks are turned by "nearest", whatever images are turned by.
///
/// Order: draws the angle.
///
/// Source: torchvision's `RandomRotation`.
#[derive(Clone, Debug)]
pub struct Rotation {
    degrees: (f64, f64),
    expand: bool,
    interpolation: Interpolation,
    fill: Fill,
    field: String,
}

impl Rotation {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when `degrees` is missing, or one has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let degrees = range_around(options, "degrees", -DEGREES_MAX..=DEGREES_MAX, |degrees| (-degrees, degrees))?;
        let interpolation = options.optional_one_of("interpolation", &Interpolation::OF_WARPS)?;
        Ok(Self {
            degrees: options.required("degrees", degrees)?,
            expand: options.optional_boolean("expand")?.unwrap_or(false),
            interpolation: interpolation.unwrap_or(Interpolation::Nearest),
            fill: Fill::from_options(options)?,
            field: image_field(options)?,
        })
    }
}

impl Transform for Rotation {
    fn apply(&self, mut sample: Sample, rng: &mut Rng) -> Result<Sample, TransformError> {
        let layers = Layers::of(&mut sample, &self.field)?;
        let angle = rng.uniform_in(self.degrees.0, self.degrees.1);
        let map = rotation(angle);
        let (mut height, mut width) = (layers.height(), layers.width());
        if self.expand {
            // A quarter turn needs no room for corners between pixels.
            let is_quarter = angle.rem_euclid(180.0) == 90.0;
            (height, width) = if is_quarter { (width, height) } else { map.expanded(height, width) };
        }
        layers.change(|image, layer| {
            let outside = self.fill.pixel(layer, image)?;
            warp(image, height, width, &map, self.interpolation.of(layer), &outside)
        })?;
        Ok(sample)
    }
}

/// The map of a turn counter-clockwise, in degrees.
pub(super) fn rotation(degrees: f64) -> super::warp::Map {
    Motion { angle: -degrees, ..Motion::NONE }.inverse()
}
