//! Cuts a random piece out of images.

use super::arguments::{Fill, Size, image_field};
use super::center_crop::spare;
use super::layers::Layers;
use super::window::{Padding, PaddingMode, Window, cut};
use crate::options::Options;
use crate::random::Rng;
use crate::sample::Sample;
use crate::spec::SpecError;
use crate::transform::{IMAGE, Transform, TransformError};
use crate::view::{Geometry, Kind, View};

/// Cuts a piece out of the image at a random place, and the same one out of the masks of its sample.
///
/// Options: `size`, of a square, or `[height, width]`; `padding` (default none), by which the image is padded first:
/// one number for all borders, `[left and right, top and bottom]` or `[left, top, right, bottom]`; `pad_if_needed`
/// (default false), to pad an image that is still too small by what it lacks, at both borders; `padding_mode`, `fill`
/// and `mask_fill` as [`Pad`](super::Pad) has them; `field` (default "image").
///
/// Order: draws the first row, then the first column, each place equally likely.
///
/// Source: torchvision's `RandomCrop`.
#[derive(Clone, Debug)]
pub struct RandomCrop {
    height: usize,
    width: usize,
    padding: Padding,
    pad_if_needed: bool,
    mode: PaddingMode,
    fill: Fill,
    field: String,
}

impl RandomCrop {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when `size` is missing, or one has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let (height, width) = Size::from_options(options)?.sides();
        Ok(Self {
            height,
            width,
            padding: Padding::from_options(options)?.unwrap_or_default(),
            pad_if_needed: options.optional_boolean("pad_if_needed")?.unwrap_or(false),
            mode: PaddingMode::from_options(options)?,
            fill: Fill::from_options(options)?,
            field: image_field(options)?,
        })
    }

    /// Draws the window out of an image of `height` x `width` pixels.
    fn draw(&self, height: usize, width: usize, rng: &mut Rng) -> Result<Window, TransformError> {
        let mut padding = self.padding;
        let padded = |padding: Padding| (height + padding.top + padding.bottom, width + padding.left + padding.right);
        if self.pad_if_needed {
            let (height, width) = padded(padding);
            let (rows, columns) = (self.height.saturating_sub(height), self.width.saturating_sub(width));
            padding.top += rows;
            padding.bottom += rows;
            padding.left += columns;
            padding.right += columns;
        }
        let (height, width) = padded(padding);
        let (spare_rows, spare_columns) = spare(height, width, self.height, self.width)?;
        let (top, left) = (place(spare_rows, rng), place(spare_columns, rng));
        Ok(Window { padding, mode: self.mode, top, left, height: self.height, width: self.width })
    }
}

impl Transform for RandomCrop {
    fn apply(&self, mut sample: Sample, rng: &mut Rng) -> Result<Sample, TransformError> {
        let layers = Layers::of(&mut sample, &self.field)?;
        let window = self.draw(layers.height(), layers.width(), rng)?;
        layers.change(|image, layer| cut(image, &window, &self.fill.pixel(layer, image)?))?;
        Ok(sample)
    }

    fn geometry(&self) -> Option<&dyn Geometry> {
        let is_padded = self.padding != Padding::default() || self.pad_if_needed;
        (self.field == IMAGE && !is_padded).then_some(self)
    }
}

impl Geometry for RandomCrop {
    fn kind(&self) -> Kind {
        Kind::Crop
    }

    fn look(&self, view: &mut View, rng: &mut Rng) -> Result<(), TransformError> {
        view.crop(self.draw(view.height(), view.width(), rng)?.part());
        Ok(())
    }
}

/// A place of `0..=spare`.
pub(super) fn place(spare: usize, rng: &mut Rng) -> usize {
    usize::try_from(rng.below(spare as u64 + 1)).expect("it is at most `spare`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transforms::arguments::tests::options;

    #[test]
    fn draws_are_what_they_always_were() {
        // Golden, from a second implementation in Python: a change here changes every augmented stream ever trained on.
        let crop = RandomCrop::from_options(&mut options("size = [33, 20]\npadding = [1, 2, 3, 4]")).unwrap();
        let mut rng = Rng::new(1, 2, 3, 4, 5);
        let places = [(); 3].map(|()| crop.draw(100, 80, &mut rng).unwrap()).map(|window| (window.top, window.left));
        assert_eq!(places, [(23, 1), (35, 39), (62, 19)]);
    }

    #[test]
    fn what_is_lacking_is_padded_at_both_borders() {
        let crop = RandomCrop::from_options(&mut options("size = [10, 5]\npadding = 1\npad_if_needed = true")).unwrap();
        let window = crop.draw(6, 9, &mut Rng::new(1, 2, 3, 4, 5)).unwrap();
        // 6 rows and one at each border lack two.
        assert_eq!(window.padding, Padding { left: 1, top: 3, right: 1, bottom: 3 });
        assert!(window.top <= 2 && window.left <= 6, "{window:?}");
    }
}
