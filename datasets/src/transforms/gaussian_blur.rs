//! Blurs images at random.

use toml::Value;

use super::arguments::{image_field, range_around};
use super::pixels::{buffer, replace, round_byte, single};
use super::window::PaddingMode;
use crate::options::Options;
use crate::random::Rng;
use crate::sample::{Image, Sample};
use crate::spec::SpecError;
use crate::transform::{Transform, TransformError, image_of};

/// The largest kernel that may be asked for, in pixels.
const KERNEL_MAX: usize = 1023;

/// The smallest and the largest standard deviation that may be asked for, in pixels.
const SIGMA_MIN: f64 = 0.01;
const SIGMA_MAX: f64 = 1000.0;

/// Blurs the image by a Gaussian of random width; beyond its border the image is mirrored.
///
/// Options: `kernel_size`, the pixels across that are mixed, odd, or `[across, down]`; `sigma` (default [0.1, 2.0]), the
/// standard deviation in pixels, `[low, high]` or one number that is always taken; `field` (default "image").
///
/// Masks are left alone.
///
/// Order: draws the standard deviation, also where it is one number.
///
/// Source: torchvision's `GaussianBlur`, first down and then across, where that one does both at once: a byte may come
/// out one off. The kernel is computed in double precision and rounded to single, so that machines agree.
#[derive(Clone, Debug)]
pub struct GaussianBlur {
    across: usize,
    down: usize,
    sigma: (f64, f64),
    field: String,
}

impl GaussianBlur {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when `kernel_size` is missing, or one has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let value = options.value("kernel_size");
        let value = options.required("kernel_size", value)?;
        let pixels = |value: &Value| {
            let pixels = value.as_integer().and_then(|pixels| usize::try_from(pixels).ok());
            pixels.filter(|pixels| pixels % 2 == 1 && *pixels <= KERNEL_MAX)
        };
        let sides = match value.as_array().map(Vec::as_slice) {
            None => pixels(&value).map(|side| (side, side)),
            Some([across, down]) => pixels(across).zip(pixels(down)),
            Some(_) => None,
        };
        let (across, down) = sides.ok_or_else(|| {
            let expected = format!("an odd integer from 1 to {KERNEL_MAX} or two, [across, down]");
            options.error("kernel_size", format_args!("is {value}, not {expected}"))
        })?;
        let sigma = range_around(options, "sigma", SIGMA_MIN..=SIGMA_MAX, |sigma| (sigma, sigma))?;
        Ok(Self { across, down, sigma: sigma.unwrap_or((0.1, 2.0)), field: image_field(options)? })
    }
}

impl Transform for GaussianBlur {
    fn apply(&self, mut sample: Sample, rng: &mut Rng) -> Result<Sample, TransformError> {
        let image = image_of(&mut sample, &self.field)?;
        let sigma = rng.uniform_in(self.sigma.0, self.sigma.1);
        blur(image, &kernel(self.across, sigma), &kernel(self.down, sigma))?;
        Ok(sample)
    }
}

/// Shares of the pixels around one, 1 together.
///
/// Source: torchvision's `_get_gaussian_kernel1d`.
fn kernel(side: usize, sigma: f64) -> Vec<f32> {
    let weight = |place: usize| {
        let distance = place as f64 - (side / 2) as f64;
        (-distance * distance / (2.0 * sigma * sigma)).exp()
    };
    let sum: f64 = (0..side).map(weight).sum();
    (0..side).map(|place| single(weight(place) / sum)).collect()
}

fn blur(image: &mut Image, across: &[f32], down: &[f32]) -> Result<(), TransformError> {
    let [height, width, channels] = image.shape();
    let (reach_x, reach_y) = (across.len() / 2, down.len() / 2);
    if image.pixels().is_empty() {
        return Ok(());
    }
    for (reach, side) in [(reach_x, width), (reach_y, height)] {
        if reach >= side {
            let kernel = 2 * reach + 1;
            let reason =
                format!("the image has {side} pixels at a side, too few for a kernel of {kernel} to be mirrored");
            return Err(TransformError::new(format!("{reason}; lower `kernel_size`, or put a `resize` before it")));
        }
    }
    let row_bytes = width * channels;
    let mut pixels = buffer(height, width, channels)?;
    // A row mixed from those above and below, with room for what is mirrored at its ends, and that mixed across.
    let mut mixed = vec![0.0_f32; row_bytes + 2 * reach_x * channels];
    let mut sums = vec![0.0_f32; row_bytes];
    for (row, target) in pixels.chunks_exact_mut(row_bytes).enumerate() {
        let inner = reach_x * channels..reach_x * channels + row_bytes;
        mixed[inner.clone()].fill(0.0);
        for (place, &share) in down.iter().enumerate() {
            let Some(from) = PaddingMode::Reflect.origin(row + place, reach_y, height) else { continue };
            let source = &image.pixels()[from * row_bytes..][..row_bytes];
            mixed[inner.clone()].iter_mut().zip(source).for_each(|(sum, &byte)| *sum += share * f32::from(byte));
        }
        let ends = (0..reach_x).chain(reach_x + width..2 * reach_x + width);
        for column in ends {
            if let Some(from) = PaddingMode::Reflect.origin(column, reach_x, width) {
                let from = inner.start + from * channels;
                mixed.copy_within(from..from + channels, column * channels);
            }
        }
        sums.fill(0.0);
        for (place, &share) in across.iter().enumerate() {
            let source = &mixed[place * channels..][..row_bytes];
            sums.iter_mut().zip(source).for_each(|(sum, &value)| *sum += share * value);
        }
        target.iter_mut().zip(&sums).for_each(|(byte, &sum)| *byte = round_byte(sum));
    }
    replace(image, height, width, channels, pixels)
}
