//! Erases a random rectangle of images.

use toml::Value;

use super::arguments::{BYTES, bytes, image_field, pixel, probability, range};
use super::pixels::round_pixels;
use super::random_crop::place;
use super::random_resized_crop::{ATTEMPTS_MAX, RATIO_MAX};
use super::window::Window;
use crate::options::Options;
use crate::random::Rng;
use crate::sample::Sample;
use crate::spec::SpecError;
use crate::transform::{Transform, TransformError, image_of};

/// Erases a rectangle of random area, shape and place from the image, with probability `p`.
///
/// Options: `p` (default 0.5); `scale` (default [0.02, 0.33]), the rectangle's share of the area; `ratio` (default
/// [0.3, 3.3]), of its height to its width; `value` (default 0): a byte, a list of one for each channel, or "random" for
/// a random byte everywhere; `field` (default "image").
///
/// Masks are left alone.
///
/// Order: draws whether; then area, ratio (uniform in its logarithm) and, if the rectangle is smaller than the image
/// both ways, its first row and its first column; up to ten times, then nothing is erased. Then for "random" the
/// bytes, eight by a draw, lowest first, row by row.
///
/// Source: torchvision's `RandomErasing`; its "random" is a normal distribution, meant for normalized floats.
#[derive(Clone, Debug)]
pub struct RandomErasing {
    p: f64,
    scale: (f64, f64),
    ratio: (f64, f64),
    value: Eraser,
    field: String,
}

/// What stands where an image was erased.
#[derive(Clone, Debug)]
enum Eraser {
    /// One byte for all channels, or one for each.
    Plain(Vec<u8>),
    Random,
}

impl RandomErasing {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when one has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let value = match options.value("value") {
            None => Eraser::Plain(vec![0]),
            Some(Value::String(word)) if word == "random" => Eraser::Random,
            Some(value) => Eraser::Plain(
                bytes(&value)
                    .ok_or_else(|| options.error("value", format_args!("is {value}, not {BYTES} or \"random\"")))?,
            ),
        };
        Ok(Self {
            p: probability(options, 0.5)?,
            scale: range(options, "scale", 0.0..=1.0)?.unwrap_or((0.02, 0.33)),
            ratio: range(options, "ratio", 1.0 / RATIO_MAX..=RATIO_MAX)?.unwrap_or((0.3, 3.3)),
            value,
            field: image_field(options)?,
        })
    }

    /// Draws what is erased of an image of `height` x `width` pixels.
    fn draw(&self, height: usize, width: usize, rng: &mut Rng) -> Option<Window> {
        if !rng.chance(self.p) {
            return None;
        }
        let area = (height * width) as f64;
        (0..ATTEMPTS_MAX).find_map(|_| {
            let erased = area * rng.uniform_in(self.scale.0, self.scale.1);
            let ratio = rng.log_uniform_in(self.ratio.0, self.ratio.1);
            let (rows, columns) = (round_pixels((erased * ratio).sqrt()), round_pixels((erased / ratio).sqrt()));
            (rows < height && columns < width).then(|| {
                let (top, left) = (place(height - rows, rng), place(width - columns, rng));
                Window::inside(top, left, rows, columns)
            })
        })
    }
}

impl Transform for RandomErasing {
    fn apply(&self, mut sample: Sample, rng: &mut Rng) -> Result<Sample, TransformError> {
        let image = image_of(&mut sample, &self.field)?;
        let [height, width, channels] = image.shape();
        let plain = match &self.value {
            Eraser::Plain(bytes) => pixel(bytes, "value", image)?,
            Eraser::Random => Vec::new(),
        };
        let Some(window) = self.draw(height, width, rng) else { return Ok(sample) };
        let mut random = std::iter::repeat_with(|| rng.next_u64().to_le_bytes()).flatten();
        let rows = image.pixels_mut().chunks_exact_mut((width * channels).max(1));
        for row in rows.skip(window.top).take(window.height) {
            let erased = &mut row[window.left * channels..][..window.width * channels];
            match &self.value {
                Eraser::Plain(_) => erased.chunks_exact_mut(channels).for_each(|pixel| pixel.copy_from_slice(&plain)),
                Eraser::Random => erased.iter_mut().zip(&mut random).for_each(|(byte, drawn)| *byte = drawn),
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
        let erasing = RandomErasing::from_options(&mut options("")).unwrap();
        let mut rng = Rng::new(1, 2, 3, 4, 5);
        let drawn = [(); 6].map(|()| erasing.draw(100, 80, &mut rng));
        let drawn =
            drawn.map(|window| window.map(|Window { top, left, height, width, .. }| [top, left, height, width]));
        let expected =
            [[52, 55, 14, 15], [32, 16, 33, 28], [35, 11, 15, 45], [87, 21, 12, 39], [0; 4], [36, 6, 39, 45]];
        assert_eq!(drawn.map(Option::unwrap_or_default), expected);
    }
}
