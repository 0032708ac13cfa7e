//! Cuts a piece of random area and shape out of images and scales it.

use super::arguments::{Interpolation, Size, image_field, range};
use super::layers::Layers;
use super::pixels::round_pixels;
use super::random_crop::place;
use super::resize::interpolation;
use super::window::{Window, cut};
use crate::options::Options;
use crate::random::Rng;
use crate::sample::Sample;
use crate::spec::SpecError;
use crate::transform::{IMAGE, Transform, TransformError};
use crate::view::scale::scale;
use crate::view::{Geometry, Kind, View};

/// Pieces that are drawn before the middle is taken.
pub(super) const ATTEMPTS_MAX: u32 = 10;

/// The largest ratio of width to height that may be asked for, and 1 over the smallest.
pub(super) const RATIO_MAX: f64 = 1000.0;

/// Cuts a piece of random area and shape out of the image and the masks of its sample, and scales it.
///
/// Options: `size`, of a square, or `[height, width]`; `scale` (default [0.08, 1.0]), the piece's share of the area;
/// `ratio` (default [3/4, 4/3]), of its width to its height; `interpolation`: "bilinear" (default) or "bicubic", both
/// antialiased, or "nearest", by which masks are always scaled; `field` (default "image").
///
/// Order: draws area, ratio (uniform in its logarithm) and, if the piece fits, its first row and its first column; up to
/// ten times, then the middle is taken without a draw.
///
/// Source: torchvision's `RandomResizedCrop`.
#[derive(Clone, Debug)]
pub struct RandomResizedCrop {
    height: usize,
    width: usize,
    scale: (f64, f64),
    ratio: (f64, f64),
    interpolation: Interpolation,
    field: String,
}

impl RandomResizedCrop {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when `size` is missing, or one has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let (height, width) = Size::from_options(options)?.sides();
        Ok(Self {
            height,
            width,
            scale: range(options, "scale", 0.0..=1.0)?.unwrap_or((0.08, 1.0)),
            ratio: range(options, "ratio", 1.0 / RATIO_MAX..=RATIO_MAX)?.unwrap_or((3.0 / 4.0, 4.0 / 3.0)),
            interpolation: interpolation(options)?,
            field: image_field(options)?,
        })
    }

    /// Draws the piece out of an image of `height` x `width` pixels.
    fn draw(&self, height: usize, width: usize, rng: &mut Rng) -> Window {
        // Exact: an image has fewer than 2^53 pixels.
        let area = (height * width) as f64;
        for _ in 0..ATTEMPTS_MAX {
            let piece = area * rng.uniform_in(self.scale.0, self.scale.1);
            let ratio = rng.log_uniform_in(self.ratio.0, self.ratio.1);
            let (piece_width, piece_height) =
                (round_pixels((piece * ratio).sqrt()), round_pixels((piece / ratio).sqrt()));
            if (1..=width).contains(&piece_width) && (1..=height).contains(&piece_height) {
                let (top, left) = (place(height - piece_height, rng), place(width - piece_width, rng));
                return Window::inside(top, left, piece_height, piece_width);
            }
        }
        let (narrowest, widest) = self.ratio;
        let ratio = width as f64 / height.max(1) as f64;
        // What is rounded is below the side that it is held against, but for the last bit; of one pixel it may be none.
        let (piece_height, piece_width) = if ratio < narrowest {
            (round_pixels(width as f64 / narrowest).clamp(1, height), width)
        } else if ratio > widest {
            (height, round_pixels(height as f64 * widest).clamp(1, width))
        } else {
            (height, width)
        };
        Window::inside((height - piece_height) / 2, (width - piece_width) / 2, piece_height, piece_width)
    }
}

impl Transform for RandomResizedCrop {
    fn apply(&self, mut sample: Sample, rng: &mut Rng) -> Result<Sample, TransformError> {
        let layers = Layers::of(&mut sample, &self.field)?;
        let window = self.draw(layers.height(), layers.width(), rng);
        layers.change(|image, layer| {
            cut(image, &window, &[])?;
            scale(image, self.height, self.width, self.interpolation.of(layer))
        })?;
        Ok(sample)
    }

    fn geometry(&self) -> Option<&dyn Geometry> {
        (self.field == IMAGE).then_some(self)
    }
}

impl Geometry for RandomResizedCrop {
    fn kind(&self) -> Kind {
        Kind::Scale
    }

    fn look(&self, view: &mut View, rng: &mut Rng) -> Result<(), TransformError> {
        view.crop(self.draw(view.height(), view.width(), rng).part());
        view.scale(self.height, self.width, self.interpolation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transforms::arguments::tests::options;

    fn draws<const DRAWS: usize>(table: &str, height: usize, width: usize) -> [[usize; 4]; DRAWS] {
        let crop = RandomResizedCrop::from_options(&mut options(&format!("size = 8\n{table}"))).unwrap();
        let mut rng = Rng::new(1, 2, 3, 4, 5);
        [(); DRAWS].map(|()| {
            let Window { top, left, height, width, .. } = crop.draw(height, width, &mut rng);
            [top, left, height, width]
        })
    }

    #[test]
    fn draws_are_what_they_always_were() {
        // Golden, from a second implementation in Python: a change here changes every augmented stream ever trained on.
        assert_eq!(draws("", 100, 80), [[18, 19, 63, 48], [4, 1, 88, 78], [4, 4, 68, 61], [21, 6, 30, 29]]);
    }

    #[test]
    fn after_ten_tries_the_middle_is_taken() {
        // All of the area in the shape of a square does not fit into an image that is none.
        assert_eq!(draws("scale = [1, 1]\nratio = [1, 1]", 100, 50), [[25, 0, 50, 50]]);
        assert_eq!(draws("scale = [1, 1]\nratio = [1, 1]", 7, 10), [[0, 1, 7, 7]]);
        // The whole image fits the ratio, but not its area rounded to whole pixels of a shape that is drawn.
        assert_eq!(draws("scale = [1, 1]\nratio = [0.5, 2]", 1, 1), [[0, 0, 1, 1]]);
        assert_eq!(draws("scale = [0, 0]", 9, 10), [[0, 0, 9, 10]]);
    }
}
