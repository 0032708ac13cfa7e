//! Scales images, with antialiasing.

use super::arguments::{Fill, Interpolation, SIDE_MAX, Size, image_field};
use super::layers::Layers;
use super::window::{Padding, Window, cut};
use crate::options::Options;
use crate::random::Rng;
use crate::sample::Sample;
use crate::spec::SpecError;
use crate::transform::{IMAGE, Transform, TransformError};
use crate::view::scale::scale;
use crate::view::{Geometry, Kind, View};

/// Scales the image, and the masks of its sample with it.
///
/// Options: `size`, the pixels of the shorter side, or `[height, width]` exactly; or instead `longest`, the pixels of
/// the longer side, and with it `pad` (default false) to put the image in the middle of a square, on `fill` (default 0;
/// one number or one for each channel) and for masks `mask_fill` (default 0). `interpolation`: "bilinear" (default) or
/// "bicubic", both antialiased, or "nearest", by which masks are always scaled. `field` (default "image").
///
/// Shapes: the other side is `int(size * long / short)`, or `int(longest * short / long)` but at least 1; of an odd
/// number of pixels to pad the larger half is below or to the right.
///
/// Source: torchvision's `Resize(size)` and `Resize(None, max_size=longest)` with `antialias=True`, which scale bytes as
/// Pillow does.
#[derive(Clone, Debug)]
pub struct Resize {
    to: To,
    interpolation: Interpolation,
    field: String,
}

/// What an image is scaled to.
#[derive(Clone, Debug)]
enum To {
    Size(Size),
    Longest { side: usize, pad: Option<Fill> },
}

impl Resize {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when there is neither `size` nor `longest`, or one has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let to = match options.optional_integer("longest", 1..=SIDE_MAX)? {
            None => To::Size(Size::from_options(options)?),
            Some(side) => {
                let pad = options.optional_boolean("pad")?.unwrap_or(false);
                let pad = if pad { Some(Fill::from_options(options)?) } else { None };
                if options.value("size").is_some() {
                    return Err(options.error("size", "stands beside `longest`; give one of them"));
                }
                To::Longest { side, pad }
            }
        };
        Ok(Self { to, interpolation: interpolation(options)?, field: image_field(options)? })
    }

    /// Height and width of the scaled image.
    fn sides(&self, height: usize, width: usize) -> (usize, usize) {
        match self.to {
            To::Size(Size::Both { height, width }) => (height, width),
            // In range: a side has at most 65535 pixels, an image fewer than 2^32.
            To::Size(Size::One(size)) if width <= height => (size * height / width.max(1), size),
            To::Size(Size::One(size)) => (size, size * width / height.max(1)),
            To::Longest { side, .. } if width <= height => (side, (side * width / height.max(1)).max(1)),
            To::Longest { side, .. } => ((side * height / width.max(1)).max(1), side),
        }
    }
}

impl Transform for Resize {
    fn apply(&self, mut sample: Sample, _rng: &mut Rng) -> Result<Sample, TransformError> {
        let layers = Layers::of(&mut sample, &self.field)?;
        let (height, width) = self.sides(layers.height(), layers.width());
        let square = match &self.to {
            To::Longest { side, pad: Some(fill) } => {
                let (top, left) = ((side - height) / 2, (side - width) / 2);
                let padding = Padding { left, top, right: side - width - left, bottom: side - height - top };
                Some((Window::padded(height, width, padding), fill))
            }
            _ => None,
        };
        layers.change(|image, layer| {
            scale(image, height, width, self.interpolation.of(layer))?;
            match &square {
                Some((window, fill)) => cut(image, window, &fill.pixel(layer, image)?),
                None => Ok(()),
            }
        })?;
        Ok(sample)
    }

    fn is_deterministic(&self) -> bool {
        true
    }

    fn geometry(&self) -> Option<&dyn Geometry> {
        let is_padded = matches!(self.to, To::Longest { pad: Some(_), .. });
        (self.field == IMAGE && !is_padded).then_some(self)
    }
}

impl Geometry for Resize {
    fn kind(&self) -> Kind {
        Kind::Scale
    }

    fn look(&self, view: &mut View, _rng: &mut Rng) -> Result<(), TransformError> {
        let (height, width) = self.sides(view.height(), view.width());
        view.scale(height, width, self.interpolation)
    }
}

/// The option `interpolation` of what scales.
pub(super) fn interpolation(options: &mut Options) -> Result<Interpolation, SpecError> {
    let found = options.optional_one_of("interpolation", &Interpolation::OF_RESIZES)?;
    Ok(found.unwrap_or(Interpolation::Bilinear))
}
