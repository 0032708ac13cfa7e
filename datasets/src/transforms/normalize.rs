//! Brings the channels of images around zero.

use batchmill_protocol::tensor::{Dtype, FieldSpec};

use super::arguments;
use super::numbers::{self, Number, array, map};
use super::pixels::single;
use super::to_f32::{of_bytes, unit};
use crate::options::Options;
use crate::random::Rng;
use crate::sample::{Sample, Value};
use crate::scratch;
use crate::spec::SpecError;
use crate::transform::{ByteTable, Transform, TransformError, value_of};

/// Subtracts the mean and divides by the standard deviation, channel by channel.
///
/// An image is scaled to 0 to 1 first, as by `to-f32`; an array must be f32 already.
///
/// Options: `mean` and `std`, a number for each channel or one for all, of values from 0 to 1; `field` (default
/// "image").
///
/// Shapes: an array of f32, [height, width, channels]; what acts on images comes before, `to-nchw` behind.
///
/// Source: torchvision's `Normalize` behind `ToDtype(torch.float32, scale=True)`.
#[derive(Clone, Debug)]
pub struct Normalize {
    mean: Vec<f32>,
    std: Vec<f32>,
    field: String,
}

impl Normalize {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when `mean` or `std` is missing, or one has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let (mean, std) = mean_and_std(options)?;
        let [mean, std] = [mean, std].map(|numbers| numbers.into_iter().map(single).collect());
        Ok(Self { mean, std, field: arguments::image_field(options)? })
    }

    fn normal(&self, channel: usize, number: f32) -> f32 {
        (number - of(&self.mean, channel)) / of(&self.std, channel)
    }

    fn table_of(&self, channels: usize) -> ByteTable {
        ByteTable::new(channels, |channel, byte| self.normal(channel, unit(byte)))
    }
}

/// Reads the options `mean` and `std`: of one length, or one of them a single number.
pub(super) fn mean_and_std(options: &mut Options) -> Result<(Vec<f64>, Vec<f64>), SpecError> {
    let mean = arguments::numbers(options, "mean")?;
    let mean = options.required("mean", mean)?;
    let std = arguments::numbers(options, "std")?;
    let std = options.required("std", std)?;
    // In single precision, in which it divides.
    if let Some(zero) = std.iter().find(|&&std| single(std) <= 0.0) {
        return Err(options.error("std", format_args!("holds {zero}; a standard deviation is above 0")));
    }
    if mean.len() != std.len() && mean.len() != 1 && std.len() != 1 {
        return Err(options.error("std", format_args!("has {} numbers, `mean` {}", std.len(), mean.len())));
    }
    Ok((mean, std))
}

/// Requires a number for each of so many channels or columns, or one for all.
pub(super) fn check_len(key: &str, len: usize, extent: usize, what: &str) -> Result<(), TransformError> {
    if len == 1 || len == extent {
        return Ok(());
    }
    let reason = format!("`{key}` has {len} numbers, the field {extent} {what}; give one number or {extent}");
    Err(TransformError::new(reason))
}

/// The number of a channel or column.
pub(super) fn of<T: Copy>(numbers: &[T], place: usize) -> T {
    numbers[place % numbers.len()]
}

impl Transform for Normalize {
    fn apply(&self, mut sample: Sample, _rng: &mut Rng) -> Result<Sample, TransformError> {
        let value = value_of(&mut sample, &self.field)?;
        let shape = value.shape();
        let channels = shape.0.last().copied().unwrap_or(1);
        check_len("mean", self.mean.len(), channels, "channels")?;
        check_len("std", self.std.len(), channels, "channels")?;
        *value = match value {
            Value::Image(image) => {
                let image = std::mem::take(image);
                let bytes = of_bytes(image.pixels(), &self.table_of(channels));
                scratch::give(image.into_pixels());
                array(Dtype::F32, shape, bytes)?
            }
            ref other if other.dtype() == Dtype::F32 => map(other, Dtype::F32, shape, |place, number| {
                Ok(Number::Real(f64::from(self.normal(place % channels, numbers::single(number)))))
            })?,
            ref other => {
                let field = other.field(&self.field);
                return Err(TransformError::new(format!("{field} is neither an image nor f32; put a `to-f32` before")));
            }
        };
        Ok(sample)
    }

    fn is_deterministic(&self) -> bool {
        true
    }

    fn table(&self, field: &FieldSpec) -> Option<ByteTable> {
        let channels = *field.shape.0.last()?;
        let has = |numbers: &[f32]| numbers.len() == 1 || numbers.len() == channels;
        let is_image = field.name == self.field && field.dtype == Dtype::F32 && has(&self.mean) && has(&self.std);
        is_image.then(|| self.table_of(channels))
    }
}
