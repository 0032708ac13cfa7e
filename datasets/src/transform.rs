//! The trait of what is done to a sample on its way into a batch.

use std::error::Error;
use std::fmt;

use batchmill_protocol::tensor::FieldSpec;
use thiserror::Error;

use crate::random::Rng;
use crate::sample::{Image, Sample, Value};
use crate::view::Geometry;

/// The field that image transforms act on where the user names no other.
pub const IMAGE: &str = "image";

/// The field that is a sample's class, whose names the dataset has.
pub const LABEL: &str = "label";

/// A change to a sample: torchvision's transforms.
///
/// It must be pure: the same sample and generator give the same result in any process. All randomness comes from the
/// generator, which is keyed by seed, epoch, place, sample and the transform's place in the chain.
///
/// One without options of its own is a function, made a transform by [`from_fn`]:
///
/// ```
/// use batchmill_datasets::transform::{from_fn, image_mut};
///
/// let registry = batchmill_datasets::builtin().transform("negative", |_options| {
///     Ok(from_fn(|mut sample, _rng| {
///         image_mut(&mut sample)?.pixels_mut().iter_mut().for_each(|byte| *byte = 255 - *byte);
///         Ok(sample)
///     }))
/// });
/// ```
///
/// One with options is a type, or a function that has taken them along (`move`):
///
/// ```
/// use batchmill_datasets::random::Rng;
/// use batchmill_datasets::sample::Sample;
/// use batchmill_datasets::transform::{Transform, TransformError, image_mut};
///
/// /// Turns black into white, with probability `p`.
/// #[derive(Debug)]
/// struct RandomNegative {
///     p: f64,
/// }
///
/// impl Transform for RandomNegative {
///     fn apply(&self, mut sample: Sample, rng: &mut Rng) -> Result<Sample, TransformError> {
///         if rng.chance(self.p) {
///             image_mut(&mut sample)?.pixels_mut().iter_mut().for_each(|byte| *byte = 255 - *byte);
///         }
///         Ok(sample)
///     }
/// }
///
/// let registry = batchmill_datasets::builtin().transform("random-negative", |options| {
///     Ok(RandomNegative { p: options.optional_number("p", 0.0..=1.0)?.unwrap_or(0.5) })
/// });
/// ```
pub trait Transform: Send + Sync + fmt::Debug {
    /// Changes a sample.
    ///
    /// # Errors
    /// [`TransformError`]; who called knows which sample and which transform it was.
    fn apply(&self, sample: Sample, rng: &mut Rng) -> Result<Sample, TransformError>;

    /// Whether the result depends on the sample and the options alone, whatever the generator. What such transforms at
    /// the beginning of a chain make may be kept in a [cache](crate::cache), and is where the user wants one. Without an
    /// implementation nothing is kept from here on.
    fn is_deterministic(&self) -> bool {
        false
    }

    /// What the classes are called behind it, by label, of which `names` are the names before it. Without an
    /// implementation they are the same; a transform that gives the labels other numbers says which.
    fn classes(&self, names: Vec<String>) -> Vec<String> {
        names
    }

    /// The same as [`apply`](Self::apply) does to the field `image`, done to a [`View`](crate::view::View) of it instead:
    /// for what moves pixels, looks at none and leaves the other fields alone. At the head of a chain an image is then
    /// decoded only as far as it is wanted. Without an implementation the transform is given pixels.
    fn geometry(&self) -> Option<&dyn Geometry> {
        None
    }

    /// The table that says all it does, where that is to make a number of f32 of each byte of an image: `field` is the
    /// image as it comes out, which was of the same shape before.
    ///
    /// Only for speed; `None`, as without an implementation, is always right.
    fn table(&self, field: &FieldSpec) -> Option<ByteTable> {
        let _ = field;
        None
    }

    /// Whether all it does is to put the channels of the image in `field` before its rows.
    ///
    /// Only for speed; `false`, as without an implementation, is always right.
    fn puts_channels_first(&self, field: &str) -> bool {
        let _ = field;
        false
    }
}

/// The f32 that stands for each byte, channel by channel.
#[derive(Clone, Debug)]
pub struct ByteTable(Numbers);

#[derive(Clone, Debug)]
enum Numbers {
    /// Each byte times this, in every channel: to compute so takes a third of the time of looking up.
    Products(f32),
    /// What a table for each channel says.
    Tables(Vec<[[u8; 4]; 256]>),
}

impl ByteTable {
    /// Of so many channels, which take turns: `number` gives what a byte of a channel becomes.
    pub fn new(channels: usize, number: impl Fn(usize, u8) -> f32) -> Self {
        let (channels, factor) = (0..channels.max(1), number(0, 1));
        let are_products =
            |channel| (0..=u8::MAX).all(|byte| number(channel, byte).to_bits() == times(byte, factor).to_bits());
        if channels.clone().all(are_products) {
            return Self(Numbers::Products(factor));
        }
        let table =
            |channel| std::array::from_fn(|byte| number(channel, u8::try_from(byte).unwrap_or(u8::MAX)).to_le_bytes());
        Self(Numbers::Tables(channels.map(table).collect()))
    }

    /// Writes what `bytes` become, four bytes for each.
    pub(crate) fn write(&self, bytes: &[u8], out: &mut [u8]) {
        let numbers = out.as_chunks_mut::<4>().0;
        let tables = match &self.0 {
            Numbers::Products(factor) => return write_products(*factor, bytes, numbers),
            Numbers::Tables(tables) => &tables[..],
        };
        if let [table] = tables {
            numbers.iter_mut().zip(bytes).for_each(|(number, &byte)| *number = table[usize::from(byte)]);
            return;
        }
        for (numbers, bytes) in numbers.chunks_exact_mut(tables.len()).zip(bytes.chunks_exact(tables.len())) {
            for ((number, &byte), table) in numbers.iter_mut().zip(bytes).zip(tables) {
                *number = table[usize::from(byte)];
            }
        }
    }

    /// The same with all numbers of the first channel first, then those of the next.
    pub(crate) fn write_planes(&self, bytes: &[u8], channels: usize, out: &mut [u8]) {
        let numbers = out.as_chunks_mut::<4>().0;
        let planes = numbers.chunks_exact_mut((bytes.len() / channels.max(1)).max(1));
        for (channel, plane) in planes.enumerate() {
            let bytes = bytes.iter().skip(channel).step_by(channels);
            match &self.0 {
                Numbers::Products(factor) => write_products(*factor, bytes, plane),
                Numbers::Tables(tables) => {
                    let table = &tables[channel % tables.len()];
                    plane.iter_mut().zip(bytes).for_each(|(number, &byte)| *number = table[usize::from(byte)]);
                }
            }
        }
    }
}

fn write_products<'a>(factor: f32, bytes: impl IntoIterator<Item = &'a u8>, numbers: &mut [[u8; 4]]) {
    numbers.iter_mut().zip(bytes).for_each(|(number, &byte)| *number = times(byte, factor).to_le_bytes());
}

fn times(byte: u8, factor: f32) -> f32 {
    f32::from(byte) * factor
}

/// Makes a function a transform.
pub fn from_fn<F>(function: F) -> FromFn<F>
where
    F: Fn(Sample, &mut Rng) -> Result<Sample, TransformError> + Send + Sync,
{
    FromFn(function)
}

/// A function as a transform: see [`from_fn`].
#[derive(Clone, Copy)]
pub struct FromFn<F>(F);

impl<F> Transform for FromFn<F>
where
    F: Fn(Sample, &mut Rng) -> Result<Sample, TransformError> + Send + Sync,
{
    fn apply(&self, sample: Sample, rng: &mut Rng) -> Result<Sample, TransformError> {
        (self.0)(sample, rng)
    }
}

impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromFn")
    }
}

/// The field `image` of a sample.
///
/// # Errors
/// [`TransformError::NoImage`] when there is none.
pub fn image_mut(sample: &mut Sample) -> Result<&mut Image, TransformError> {
    image_of(sample, IMAGE)
}

/// The image in a field of a sample.
///
/// # Errors
/// [`TransformError::NoImage`] when there is none.
pub fn image_of<'a>(sample: &'a mut Sample, field: &str) -> Result<&'a mut Image, TransformError> {
    // Looked up twice: a borrow that is returned would still be held where the error is made.
    if !matches!(sample.get(field), Some(Value::Image(_))) {
        return Err(TransformError::NoImage { field: field.to_owned(), fields: fields_of(sample) });
    }
    match sample.get_mut(field) {
        Some(Value::Image(image)) => Ok(image),
        _ => Err(TransformError::NoImage { field: field.to_owned(), fields: String::new() }),
    }
}

/// The value in a field of a sample.
///
/// # Errors
/// [`TransformError::NoField`] when there is none.
pub fn value_of<'a>(sample: &'a mut Sample, field: &str) -> Result<&'a mut Value, TransformError> {
    if sample.get(field).is_none() {
        return Err(TransformError::NoField { field: field.to_owned(), fields: fields_of(sample) });
    }
    sample.get_mut(field).ok_or_else(|| TransformError::NoField { field: field.to_owned(), fields: String::new() })
}

/// What a sample has, for an error.
fn fields_of(sample: &Sample) -> String {
    let fields = sample.iter().map(|(name, value)| value.field(name).to_string());
    fields.collect::<Vec<_>>().join(", ")
}

/// A sample that a transform cannot change.
#[derive(Debug, Error)]
pub enum TransformError {
    /// It has no image where one is needed.
    #[error("the sample has no image in a field `{field}`; it has {fields}")]
    NoImage {
        /// The field asked for.
        field: String,
        /// The fields it has.
        fields: String,
    },
    /// It has not the field.
    #[error("the sample has no field `{field}`; it has {fields}")]
    NoField {
        /// The field asked for.
        field: String,
        /// The fields it has.
        fields: String,
    },
    /// A mask does not lie over the image.
    #[error(
        "the mask `{mask}` has {mask_height} x {mask_width} pixels (height x width), the image {height} x {width}; \
         store both in one size"
    )]
    MaskSize {
        /// The field of the mask.
        mask: String,
        /// Rows of the mask.
        mask_height: usize,
        /// Columns of the mask.
        mask_width: usize,
        /// Rows of the image.
        height: usize,
        /// Columns of the image.
        width: usize,
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
