//! Brings the columns of numbers around zero.

use batchmill_protocol::tensor::Dtype;

use super::arguments::field;
use super::normalize::{check_len, mean_and_std, of};
use super::numbers::{Number, map};
use crate::options::Options;
use crate::random::Rng;
use crate::sample::Sample;
use crate::spec::SpecError;
use crate::transform::{Transform, TransformError, value_of};

/// Subtracts the mean and divides by the standard deviation, column by column.
///
/// Options: `mean` and `std`, a number for each column or one for all; `field` (default "input").
///
/// Shapes: the shape is kept, its last extent are the columns; f64 stays f64, all else becomes f32.
///
/// Source: scikit-learn's `StandardScaler`, with what it has learnt.
#[derive(Clone, Debug)]
pub struct Standardize {
    mean: Vec<f64>,
    std: Vec<f64>,
    field: String,
}

impl Standardize {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when `mean` or `std` is missing, or one has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let (mean, std) = mean_and_std(options)?;
        Ok(Self { mean, std, field: field(options, "input")? })
    }
}

impl Transform for Standardize {
    fn apply(&self, mut sample: Sample, _rng: &mut Rng) -> Result<Sample, TransformError> {
        let value = value_of(&mut sample, &self.field)?;
        let shape = value.shape();
        let columns = shape.0.last().copied().unwrap_or(1);
        check_len("mean", self.mean.len(), columns, "columns")?;
        check_len("std", self.std.len(), columns, "columns")?;
        let dtype = if value.dtype() == Dtype::F64 { Dtype::F64 } else { Dtype::F32 };
        *value = map(value, dtype, shape, |place, number| {
            let column = place % columns;
            Ok(Number::Real((number.real() - of(&self.mean, column)) / of(&self.std, column)))
        })?;
        Ok(sample)
    }

    fn is_deterministic(&self) -> bool {
        true
    }
}
