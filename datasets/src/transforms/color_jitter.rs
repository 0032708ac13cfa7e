//! Changes the colours of images at random.

use super::adjust::{brightness, contrast, hue, saturation};
use super::arguments::{image_field, range_around};
use crate::options::Options;
use crate::random::Rng;
use crate::sample::{Image, Sample};
use crate::spec::SpecError;
use crate::transform::{Transform, TransformError, image_of};

/// The largest factor that may be asked for.
const FACTOR_MAX: f64 = 1000.0;

/// Changes brightness, contrast, saturation and hue of the image, in random order.
///
/// Options: `brightness`, `contrast`, `saturation`: `[low, high]` of a factor, or one number for
/// [max(0, 1 - number), 1 + number]; `hue`: `[low, high]` within -0.5 to 0.5 of the colour circle, or one number for
/// [-number, number]; what is not given is not done. `field` (default "image").
///
/// Gray images keep their saturation and hue. Masks are left alone.
///
/// Order: draws the order of the four (a shuffle, given or not), then a number for each that is given, in the order of
/// the options above.
///
/// Source: torchvision's `ColorJitter`.
#[derive(Clone, Debug)]
pub struct ColorJitter {
    ranges: [Option<(f64, f64)>; 4],
    field: String,
}

/// Changes an image by an amount.
type Change = fn(&mut Image, f64) -> Result<(), TransformError>;

/// The four, in the order of their draws.
const CHANGES: [Change; 4] = [brightness, contrast, saturation, hue];

impl ColorJitter {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when one has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let mut factor =
            |key| range_around(options, key, 0.0..=FACTOR_MAX, |number| ((1.0 - number).max(0.0), 1.0 + number));
        let [brightness, contrast, saturation] = [factor("brightness")?, factor("contrast")?, factor("saturation")?];
        let hue = range_around(options, "hue", -0.5..=0.5, |number| (-number, number))?;
        Ok(Self { ranges: [brightness, contrast, saturation, hue], field: image_field(options)? })
    }

    /// Draws which of the four comes when, and how much of each.
    fn draw(&self, rng: &mut Rng) -> ([usize; 4], [Option<f64>; 4]) {
        let mut order = [0, 1, 2, 3];
        rng.shuffle(&mut order);
        (order, self.ranges.map(|range| range.map(|(low, high)| rng.uniform_in(low, high))))
    }
}

impl Transform for ColorJitter {
    fn apply(&self, mut sample: Sample, rng: &mut Rng) -> Result<Sample, TransformError> {
        let image = image_of(&mut sample, &self.field)?;
        let (order, amounts) = self.draw(rng);
        for place in order {
            if let Some(amount) = amounts[place] {
                CHANGES[place](image, amount)?;
            }
        }
        Ok(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transforms::arguments::tests::options;

    #[test]
    fn draws_are_what_they_always_were() {
        // Golden, from a second implementation in Python: a change here changes every augmented stream ever trained on.
        let table = "brightness = 0.4\nsaturation = [0, 3]\nhue = 0.1";
        let jitter = ColorJitter::from_options(&mut options(table)).unwrap();
        let amounts = [Some(1.0847773289529496), None, Some(2.5322202791822903), Some(-0.038997557440861)];
        assert_eq!(jitter.draw(&mut Rng::new(1, 2, 3, 4, 5)), ([3, 2, 0, 1], amounts));
    }
}
