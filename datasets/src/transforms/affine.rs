//! Turns, shifts, scales and shears images at random.

use super::arguments::{Fill, Interpolation, image_field, numbers, range, range_around};
use super::layers::Layers;
use super::rotation::DEGREES_MAX;
use super::warp::{Motion, warp};
use crate::options::Options;
use crate::random::Rng;
use crate::sample::Sample;
use crate::spec::SpecError;
use crate::transform::{Transform, TransformError};

/// The most that may be asked to be sheared, in degrees: at 90 nothing is left.
const SHEAR_MAX: f64 = 80.0;

/// The most that may be asked to be scaled by, and 1 over the least.
const SCALE_MAX: f64 = 100.0;

/// Turns, shifts, scales and shears the image and the masks of its sample, around the middle.
///
/// Options: `degrees`, `[low, high]` clockwise or one number for [-number, number]; `translate`, `[x, y]`, the largest
/// shifts either way, as shares of width and height; `scale`, `[low, high]`; `shear`, one number for [-number, number]
/// along x, `[low, high]` along x, or `[low, high, low, high]` along x and y, in degrees; what is not given is not done.
/// `interpolation`: "nearest" (default) or "bilinear"; `fill` (default 0; one number or one for each channel) and for
/// masks `mask_fill` (default 0), for where the image does not reach; `field` (default "image").
///
/// Masks are moved by "nearest", whatever images are moved by.
///
/// Order: draws the angle, then of those given: the shift in x, the shift in y (both rounded to pixels), the scale, the
/// shear along x, the shear along y.
///
/// Source: torchvision's `RandomAffine`.
#[derive(Clone, Debug)]
pub struct Affine {
    degrees: (f64, f64),
    translate: Option<(f64, f64)>,
    scale: Option<(f64, f64)>,
    shear_x: Option<(f64, f64)>,
    shear_y: Option<(f64, f64)>,
    interpolation: Interpolation,
    fill: Fill,
    field: String,
}

impl Affine {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when `degrees` is missing, or one has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let degrees = range_around(options, "degrees", -DEGREES_MAX..=DEGREES_MAX, |degrees| (-degrees, degrees))?;
        let degrees = options.required("degrees", degrees)?;
        let translate = match numbers(options, "translate")?.as_deref() {
            None => None,
            Some(&[x, y]) if (0.0..=1.0).contains(&x) && (0.0..=1.0).contains(&y) => Some((x, y)),
            Some(found) => {
                return Err(
                    options.error("translate", format_args!("is {found:?}, not two numbers from 0 to 1, [x, y]"))
                );
            }
        };
        let scale = range(options, "scale", 1.0 / SCALE_MAX..=SCALE_MAX)?;
        let (shear_x, shear_y) = match numbers(options, "shear")?.as_deref() {
            None => (None, None),
            Some(&[around]) if (0.0..=SHEAR_MAX).contains(&around) => (Some((-around, around)), None),
            Some(&[low, high]) if is_shear(low, high) => (Some((low, high)), None),
            Some(&[low_x, high_x, low_y, high_y]) if is_shear(low_x, high_x) && is_shear(low_y, high_y) => {
                (Some((low_x, high_x)), Some((low_y, high_y)))
            }
            Some(found) => {
                let forms = "one, [low, high] along x or [low, high, low, high] along x and y";
                let expected = format!("numbers from -{SHEAR_MAX} to {SHEAR_MAX}: {forms}");
                return Err(options.error("shear", format_args!("is {found:?}, not {expected}")));
            }
        };
        let interpolation = options.optional_one_of("interpolation", &Interpolation::OF_WARPS)?;
        Ok(Self {
            degrees,
            translate,
            scale,
            shear_x,
            shear_y,
            interpolation: interpolation.unwrap_or(Interpolation::Nearest),
            fill: Fill::from_options(options)?,
            field: image_field(options)?,
        })
    }

    /// Draws what is done to an image of `height` x `width` pixels.
    fn draw(&self, height: usize, width: usize, rng: &mut Rng) -> Motion {
        let angle = rng.uniform_in(self.degrees.0, self.degrees.1);
        let translate = self.translate.map_or((0.0, 0.0), |(x, y)| {
            let (most_x, most_y) = (x * width as f64, y * height as f64);
            let shift_x = rng.uniform_in(-most_x, most_x).round_ties_even();
            (shift_x, rng.uniform_in(-most_y, most_y).round_ties_even())
        });
        let scale = self.scale.map_or(1.0, |(low, high)| rng.uniform_in(low, high));
        let shear_x = self.shear_x.map_or(0.0, |(low, high)| rng.uniform_in(low, high));
        let shear_y = self.shear_y.map_or(0.0, |(low, high)| rng.uniform_in(low, high));
        Motion { angle, translate, scale, shear: (shear_x, shear_y), center: (0.0, 0.0) }
    }
}

impl Transform for Affine {
    fn apply(&self, mut sample: Sample, rng: &mut Rng) -> Result<Sample, TransformError> {
        let layers = Layers::of(&mut sample, &self.field)?;
        let (height, width) = (layers.height(), layers.width());
        let map = self.draw(height, width, rng).inverse();
        layers.change(|image, layer| {
            let outside = self.fill.pixel(layer, image)?;
            warp(image, height, width, &map, self.interpolation.of(layer), &outside)
        })?;
        Ok(sample)
    }
}

fn is_shear(low: f64, high: f64) -> bool {
    -SHEAR_MAX <= low && low <= high && high <= SHEAR_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transforms::arguments::tests::options;

    #[test]
    fn draws_are_what_they_always_were() {
        // Golden, from a second implementation in Python: a change here changes every augmented stream ever trained on.
        let table = "degrees = 10\ntranslate = [0.1, 0.2]\nscale = [0.8, 1.2]\nshear = [-5, 5, 1, 2]";
        let affine = Affine::from_options(&mut options(table)).unwrap();
        let expected = Motion {
            angle: -3.588716835417274,
            translate: (-8.0, -1.0),
            scale: 1.0423886644764748,
            shear: (3.4407342639409677, 1.305012212795695),
            center: (0.0, 0.0),
        };
        assert_eq!(affine.draw(100, 80, &mut Rng::new(1, 2, 3, 4, 5)), expected);
        // What is not given is not drawn.
        let affine = Affine::from_options(&mut options("degrees = [0, 0]\nshear = 5")).unwrap();
        let mut rng = Rng::new(1, 2, 3, 4, 5);
        rng.next_u64();
        let shear = (rng.uniform_in(-5.0, 5.0), 0.0);
        assert_eq!(affine.draw(100, 80, &mut Rng::new(1, 2, 3, 4, 5)), Motion { shear, ..Motion::NONE });
    }
}
