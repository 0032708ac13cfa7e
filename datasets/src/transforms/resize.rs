//! Scales images, with antialiasing.

use std::cell::RefCell;
use std::error::Error;

use fast_image_resize::images::{Image as Target, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::arguments::{Fill, Interpolation, SIDE_MAX, Size, image_field};
use super::layers::Layers;
use super::pixels::{buffer, check_size, replace};
use super::window::{Padding, Window, cut};
use crate::options::Options;
use crate::random::Rng;
use crate::sample::{Image, Sample};
use crate::spec::SpecError;
use crate::transform::{Transform, TransformError};

thread_local! {
    /// Its buffers are used again.
    static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
}

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
            resize(image, height, width, self.interpolation.of(layer))?;
            match &square {
                Some((window, fill)) => cut(image, window, &fill.pixel(layer, image)?),
                None => Ok(()),
            }
        })?;
        Ok(sample)
    }
}

/// The option `interpolation` of what scales.
pub(super) fn interpolation(options: &mut Options) -> Result<Interpolation, SpecError> {
    let found = options.optional_one_of("interpolation", &Interpolation::OF_RESIZES)?;
    Ok(found.unwrap_or(Interpolation::Bilinear))
}

/// Scales an image.
pub(super) fn resize(
    image: &mut Image,
    height: usize,
    width: usize,
    interpolation: Interpolation,
) -> Result<(), TransformError> {
    let [from_height, from_width, channels] = image.shape();
    if (from_height, from_width) == (height, width) {
        return Ok(());
    }
    // Before any of the work is done.
    let checked = check_size(height, width, channels).map_err(Into::into);
    let scaled = checked.and_then(|_| match interpolation {
        Interpolation::Nearest => nearest(image, height, width),
        // First across, then down: a byte between the two is cut to 0 to 255, so that the order tells.
        Interpolation::Bilinear => convolve(image, from_height, width, FilterType::Bilinear)
            .and_then(|()| convolve(image, height, width, FilterType::Bilinear)),
        Interpolation::Bicubic => convolve(image, from_height, width, FilterType::CatmullRom)
            .and_then(|()| convolve(image, height, width, FilterType::CatmullRom)),
    });
    scaled.map_err(|source| {
        let reason = format!("resize {from_height} x {from_width} pixels to {height} x {width}");
        TransformError::caused_by(reason, source)
    })
}

/// Weighs the pixels around every place, where a side changes. The filter widens as the image shrinks: this is the
/// antialiasing.
fn convolve(
    image: &mut Image,
    height: usize,
    width: usize,
    filter: FilterType,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let [from_height, from_width, channels] = image.shape();
    if (from_height, from_width) == (height, width) {
        return Ok(());
    }
    let pixel_type = match channels {
        1 => PixelType::U8,
        2 => PixelType::U8x2,
        3 => PixelType::U8x3,
        4 => PixelType::U8x4,
        channels => return Err(TransformError::Channels { channels, expected: "1 to 4" }.into()),
    };
    let source = ImageRef::new(from_width.try_into()?, from_height.try_into()?, image.pixels(), pixel_type)?;
    let mut pixels = buffer(height, width, channels)?;
    let mut target = Target::from_slice_u8(width.try_into()?, height.try_into()?, &mut pixels, pixel_type)?;
    // Channels are independent.
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false);
    RESIZER.with_borrow_mut(|resizer| resizer.resize(&source, &mut target, &options))?;
    Ok(replace(image, height, width, channels, pixels)?)
}

/// Takes the pixel at the upper left of every place, as PyTorch's `interpolate(mode="nearest")`.
fn nearest(image: &mut Image, height: usize, width: usize) -> Result<(), Box<dyn Error + Send + Sync>> {
    let [from_height, from_width, channels] = image.shape();
    let mut pixels = buffer(height, width, channels)?;
    let columns = nearest_places(from_width, width);
    let rows = nearest_places(from_height, height);
    let row_bytes = from_width * channels;
    for (target, row) in pixels.chunks_exact_mut(width * channels).zip(rows) {
        let source = &image.pixels()[row * row_bytes..][..row_bytes];
        for (pixel, column) in target.chunks_exact_mut(channels).zip(&columns) {
            pixel.copy_from_slice(&source[column * channels..][..channels]);
        }
    }
    Ok(replace(image, height, width, channels, pixels)?)
}

/// Which of `from` pixels each of `to` pixels is.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 65535, at least 0")]
fn nearest_places(from: usize, to: usize) -> Vec<usize> {
    // In single precision as there: which pixel is taken at an exact border hangs on its last bit.
    let scale = from as f32 / to as f32;
    (0..to).map(|place| ((place as f32 * scale) as usize).min(from - 1)).collect()
}
