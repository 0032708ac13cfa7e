//! Scales images, bilinear with antialiasing.

use std::cell::RefCell;

use fast_image_resize::images::{Image as Target, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::Size;
use crate::options::Options;
use crate::random::Rng;
use crate::sample::{Image, Sample};
use crate::scratch;
use crate::spec::SpecError;
use crate::transform::{Transform, TransformError, image_mut};

thread_local! {
    /// Its buffers are used again.
    static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
}

/// Scales the image so that its shorter side has `size` pixels, or to `[height, width]` exactly.
///
/// Source: torchvision's `Resize` with `BILINEAR` and `antialias=True`; the longer side is
/// `int(size * long / short)`, as there.
#[derive(Clone, Copy, Debug)]
pub struct Resize {
    size: Size,
}

impl Resize {
    /// Reads the option `size`.
    ///
    /// # Errors
    /// [`SpecError`] when it is missing or no size.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        Ok(Self { size: Size::from_options(options)? })
    }

    /// Height and width of the result.
    fn target(&self, height: usize, width: usize) -> (usize, usize) {
        match self.size {
            Size::Both { height, width } => (height, width),
            // In range: a side has at most 65535 pixels, an image fewer than 2^32.
            Size::One(size) if width <= height => (size * height / width.max(1), size),
            Size::One(size) => (size, size * width / height.max(1)),
        }
    }
}

impl Transform for Resize {
    fn apply(&self, mut sample: Sample, _rng: &mut Rng) -> Result<Sample, TransformError> {
        let image = image_mut(&mut sample)?;
        let (height, width) = self.target(image.height(), image.width());
        if (height, width) != (image.height(), image.width()) {
            let resized = resize(image, height, width)?;
            scratch::give(std::mem::replace(image, resized).into_pixels());
        }
        Ok(sample)
    }
}

fn resize(image: &Image, height: usize, width: usize) -> Result<Image, TransformError> {
    let pixel_type = match image.channels() {
        1 => PixelType::U8,
        2 => PixelType::U8x2,
        3 => PixelType::U8x3,
        4 => PixelType::U8x4,
        channels => return Err(TransformError::Channels { channels, expected: "1 to 4" }),
    };
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| {
        let reason = format!("resize {} x {} pixels to {height} x {width}", image.height(), image.width());
        TransformError::caused_by(reason, source)
    };
    if image.pixels().is_empty() {
        return Err(failed("it has no pixels".into()));
    }
    let side = |pixels: usize| u32::try_from(pixels).map_err(|error| failed(error.into()));
    let (source_width, source_height) = (side(image.width())?, side(image.height())?);
    let (target_width, target_height) = (side(width)?, side(height)?);
    let bytes = height.checked_mul(width).and_then(|pixels| pixels.checked_mul(image.channels()));
    let Some(bytes) = bytes.filter(|&bytes| bytes <= RESULT_BYTES_MAX) else {
        return Err(failed(format!("the result would have more than {RESULT_BYTES_MAX} bytes").into()));
    };

    let source =
        ImageRef::new(source_width, source_height, image.pixels(), pixel_type).map_err(|error| failed(error.into()))?;
    let mut pixels = scratch::take(bytes);
    let mut target = Target::from_slice_u8(target_width, target_height, &mut pixels, pixel_type)
        .map_err(|error| failed(error.into()))?;
    // `Convolution` widens the filter as the image shrinks: this is the antialiasing. Channels are independent.
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false);
    RESIZER
        .with_borrow_mut(|resizer| resizer.resize(&source, &mut target, &options))
        .map_err(|error| failed(error.into()))?;
    Image::new(height, width, image.channels(), pixels).map_err(|error| failed(error.into()))
}

/// A thin image has a very long side once its short one is scaled up; beyond this it is refused, not attempted.
const RESULT_BYTES_MAX: usize = 1 << 30;
