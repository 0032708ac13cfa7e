//! The trait of what is done to a sample on its way into a batch.

use std::error::Error;
use std::fmt;

use thiserror::Error;

use crate::random::Rng;
use crate::sample::{Image, Sample, Value};

/// The field that image transforms act on.
pub const IMAGE: &str = "image";

/// A change to a sample: torchvision's transforms.
///
/// It must be pure: the same sample and generator give the same result in any process. All randomness comes from the
/// generator, which is keyed by seed, epoch, place, sample and the transform's place in the chain.
///
/// ```
/// use batchmill_datasets::random::Rng;
/// use batchmill_datasets::sample::Sample;
/// use batchmill_datasets::transform::{Transform, TransformError, image_mut};
///
/// /// Turns black into white.
/// #[derive(Debug)]
/// struct Invert;
///
/// impl Transform for Invert {
///     fn apply(&self, mut sample: Sample, _rng: &mut Rng) -> Result<Sample, TransformError> {
///         for byte in image_mut(&mut sample)?.pixels_mut() {
///             *byte = 255 - *byte;
///         }
///         Ok(sample)
///     }
/// }
///
/// let registry = batchmill_datasets::builtin().transform("invert", |_options| Ok(Invert));
/// ```
pub trait Transform: Send + Sync + fmt::Debug {
    /// Changes a sample.
    ///
    /// # Errors
    /// [`TransformError`]; who called knows which sample and which transform it was.
    fn apply(&self, sample: Sample, rng: &mut Rng) -> Result<Sample, TransformError>;
}

/// The field `image` of a sample.
///
/// # Errors
/// [`TransformError::NoImage`] when there is none.
pub fn image_mut(sample: &mut Sample) -> Result<&mut Image, TransformError> {
    // Looked up twice: a borrow that is returned would still be held where the error is made.
    if !matches!(sample.get(IMAGE), Some(Value::Image(_))) {
        let fields = sample.iter().map(|(name, value)| value.field(name).to_string());
        return Err(TransformError::NoImage { fields: fields.collect::<Vec<_>>().join(", ") });
    }
    match sample.get_mut(IMAGE) {
        Some(Value::Image(image)) => Ok(image),
        _ => Err(TransformError::NoImage { fields: String::new() }),
    }
}

/// A sample that a transform cannot change.
#[derive(Debug, Error)]
pub enum TransformError {
    /// It has no image.
    #[error("the sample has no image in a field `image`; it has {fields}")]
    NoImage {
        /// The fields it has.
        fields: String,
    },
    /// The image is smaller than what is to be cut out of it.
    #[error(
        "the image has {height} x {width} pixels (height x width), too few for a crop of {crop_height} x {crop_width}; \
         put a `resize` before it or crop less"
    )]
    TooSmall {
        /// Rows of the image.
        height: usize,
        /// Columns of the image.
        width: usize,
        /// Rows of the crop.
        crop_height: usize,
        /// Columns of the crop.
        crop_width: usize,
    },
    /// The image has neither 1 nor 3 channels, or what else is needed.
    #[error("the image has {channels} channels, expected {expected}")]
    Channels {
        /// What it has.
        channels: usize,
        /// What the transform can take.
        expected: &'static str,
    },
    /// Anything else; for transforms of your own.
    #[error("{reason}")]
    Other {
        /// What was found, and what to do.
        reason: String,
        /// What it came from, if anything.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
}

impl TransformError {
    /// Says what is wrong; for transforms of your own.
    pub fn new(reason: impl Into<String>) -> Self {
        Self::Other { reason: reason.into(), source: None }
    }

    /// Like [`new`](Self::new), with the error it came from.
    pub fn caused_by(reason: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Other { reason: reason.into(), source: Some(source.into()) }
    }
}
