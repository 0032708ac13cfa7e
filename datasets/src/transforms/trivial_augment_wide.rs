//! Changes images by one random operation of random strength.

use super::adjust::{brightness, check_channels, contrast, saturation};
use super::arguments::{Fill, Interpolation, image_field};
use super::enhance::{autocontrast, equalize, posterize, sharpness, solarize};
use super::layers::Layers;
use super::rotation::rotation;
use super::warp::{Map, Motion, warp};
use crate::options::Options;
use crate::random::Rng;
use crate::sample::{Image, Sample};
use crate::spec::SpecError;
use crate::transform::{Transform, TransformError, image_of};

/// Changes the image by one operation out of fourteen, in one of many strengths; the seven that move pixels move those
/// of the masks as well.
///
/// Options: `num_magnitude_bins` (default 31), how many strengths, from none to the full one; `interpolation`: "nearest"
/// (default) or "bilinear"; `fill` (default 0; one number or one for each channel) and for masks `mask_fill` (default
/// 0), for where the image does not reach; `field` (default "image").
///
/// Order: draws the operation, in the order of the table in this file; then, of one that has strengths, which; then, of
/// one that goes both ways, whether backwards.
///
/// Source: Müller and Hutter, "TrivialAugment" (2021), arXiv:2103.10158; torchvision's `TrivialAugmentWide`, which
/// refuses masks.
#[derive(Clone, Debug)]
pub struct TrivialAugmentWide {
    bins: u32,
    interpolation: Interpolation,
    fill: Fill,
    field: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
}

/// The strengths of an operation, from the first bin to the last.
#[derive(Clone, Copy, Debug)]
enum Strength {
    /// It has but one.
    None,
    /// From nothing to this, one way or the other.
    BothWays(f64),
    /// From the first to the second.
    OneWay(f64, f64),
}

/// Every operation with its strengths; the order is that of the draws.
const OPERATIONS: [(Operation, Strength); 14] = [
    (Operation::Identity, Strength::None),
    (Operation::ShearX, Strength::BothWays(0.99)),
    (Operation::ShearY, Strength::BothWays(0.99)),
    (Operation::TranslateX, Strength::BothWays(32.0)),
    (Operation::TranslateY, Strength::BothWays(32.0)),
    (Operation::Rotate, Strength::BothWays(135.0)),
    (Operation::Brightness, Strength::BothWays(0.99)),
    (Operation::Color, Strength::BothWays(0.99)),
    (Operation::Contrast, Strength::BothWays(0.99)),
    (Operation::Sharpness, Strength::BothWays(0.99)),
    (Operation::Posterize, Strength::OneWay(8.0, 2.0)),
    (Operation::Solarize, Strength::OneWay(255.0, 0.0)),
    (Operation::AutoContrast, Strength::None),
    (Operation::Equalize, Strength::None),
];

impl TrivialAugmentWide {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when one has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let interpolation = options.optional_one_of("interpolation", &Interpolation::OF_WARPS)?;
        Ok(Self {
            bins: options.optional_integer("num_magnitude_bins", 2..=1000)?.unwrap_or(31),
            interpolation: interpolation.unwrap_or(Interpolation::Nearest),
            fill: Fill::from_options(options)?,
            field: image_field(options)?,
        })
    }

    /// Draws the operation and how much of it.
    fn draw(&self, rng: &mut Rng) -> (Operation, f64) {
        let drawn = usize::try_from(rng.below(OPERATIONS.len() as u64)).expect("it is below 14");
        let (operation, strength) = OPERATIONS[drawn];
        let mut share = |first: f64, last: f64| {
            let bin = rng.below(self.bins.into());
            first + (last - first) * bin as f64 / f64::from(self.bins - 1)
        };
        let magnitude = match strength {
            Strength::None => 0.0,
            Strength::OneWay(first, last) => share(first, last),
            Strength::BothWays(last) => {
                let magnitude = share(0.0, last);
                if rng.chance(0.5) { -magnitude } else { magnitude }
            }
        };
        (operation, magnitude)
    }
}

impl Transform for TrivialAugmentWide {
    fn apply(&self, mut sample: Sample, rng: &mut Rng) -> Result<Sample, TransformError> {
        let layers = Layers::of(&mut sample, &self.field)?;
        let (height, width) = (layers.height(), layers.width());
        let (operation, magnitude) = self.draw(rng);
        match motion(operation, magnitude, height, width) {
            Some(map) => layers.change(|image, layer| {
                let outside = self.fill.pixel(layer, image)?;
                warp(image, height, width, &map, self.interpolation.of(layer), &outside)
            })?,
            None => recolor(image_of(&mut sample, &self.field)?, operation, magnitude)?,
        }
        Ok(sample)
    }
}

/// The map of an operation that moves pixels.
fn motion(operation: Operation, magnitude: f64, height: usize, width: usize) -> Option<Map> {
    // Shears keep the upper left corner where it is.
    let center = (-(width as f64) / 2.0, -(height as f64) / 2.0);
    let degrees = magnitude.atan().to_degrees();
    let motion = match operation {
        Operation::ShearX => Motion { shear: (degrees, 0.0), center, ..Motion::NONE },
        Operation::ShearY => Motion { shear: (0.0, degrees), center, ..Motion::NONE },
        Operation::TranslateX => Motion { translate: (magnitude.trunc(), 0.0), ..Motion::NONE },
        Operation::TranslateY => Motion { translate: (0.0, magnitude.trunc()), ..Motion::NONE },
        Operation::Rotate => return Some(rotation(magnitude)),
        _ => return None,
    };
    Some(motion.inverse())
}

/// A number of bits, of two the even one.
fn bits(magnitude: f64) -> u32 {
    u32::try_from(super::pixels::round_pixels(magnitude)).unwrap_or(8)
}

/// What an operation that moves no pixels does.
fn recolor(image: &mut Image, operation: Operation, magnitude: f64) -> Result<(), TransformError> {
    check_channels(image)?;
    match operation {
        Operation::Brightness => brightness(image, 1.0 + magnitude),
        Operation::Color => saturation(image, 1.0 + magnitude),
        Operation::Contrast => contrast(image, 1.0 + magnitude),
        Operation::Sharpness => sharpness(image, 1.0 + magnitude),
        Operation::Posterize => {
            posterize(image, bits(magnitude));
            Ok(())
        }
        Operation::Solarize => {
            solarize(image, magnitude);
            Ok(())
        }
        Operation::AutoContrast => autocontrast(image),
        Operation::Equalize => {
            equalize(image);
            Ok(())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transforms::arguments::tests::options;

    #[test]
    fn draws_are_what_they_always_were() {
        // Golden, from a second implementation in Python: a change here changes every augmented stream ever trained on.
        let augment = TrivialAugmentWide::from_options(&mut options("")).unwrap();
        let mut rng = Rng::new(1, 2, 3, 4, 5);
        let expected = [
            (Operation::TranslateY, 0.0),
            (Operation::Contrast, -0.858),
            (Operation::TranslateY, -18.133_333_333_333_333),
            (Operation::TranslateY, -4.266_666_666_666_667),
            (Operation::Identity, 0.0),
            (Operation::Rotate, -40.5),
            (Operation::ShearX, 0.0),
            (Operation::Color, -0.726_000_000_000_000_1),
            (Operation::Contrast, 0.429),
            (Operation::ShearY, 0.264),
        ];
        assert_eq!([(); 10].map(|()| augment.draw(&mut rng)), expected);
    }

    #[test]
    fn every_operation_and_every_strength_is_drawn_as_often() {
        let augment = TrivialAugmentWide::from_options(&mut options("")).unwrap();
        let mut rng = Rng::new(1, 2, 3, 4, 5);
        let mut counts = [0_u32; 14];
        let (mut posterized, mut solarized) = ([0_u32; 9], Vec::new());
        for _ in 0..14_000 {
            let (operation, magnitude) = augment.draw(&mut rng);
            counts[OPERATIONS.iter().position(|(known, _)| *known == operation).unwrap()] += 1;
            match operation {
                Operation::Posterize => posterized[bits(magnitude) as usize] += 1,
                Operation::Solarize => solarized.push(magnitude),
                _ => {}
            }
        }
        // 1000 each, with a standard deviation of 30.
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
        // Of 31 bins five are nearest to each number of bits, three to the outermost.
        let share = |bits: usize| f64::from(posterized[bits]) / f64::from(counts[10]) * 31.0;
        assert!((2.0..4.0).contains(&share(2)) && (2.0..4.0).contains(&share(8)), "{posterized:?}");
        assert!((3..8).all(|bits| (3.8..6.2).contains(&share(bits))), "{posterized:?}");
        assert!(solarized.iter().all(|threshold| (0.0..=255.0).contains(threshold)));
        assert!(solarized.contains(&0.0) && solarized.contains(&255.0));
    }
}
