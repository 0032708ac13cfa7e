//! Gives numbers another dtype.

use batchmill_protocol::tensor::Dtype;

use super::arguments::field;
use super::numbers::map;
use crate::options::Options;
use crate::random::Rng;
use crate::sample::Sample;
use crate::spec::SpecError;
use crate::transform::{Transform, TransformError, value_of};

/// Gives every number of a field another dtype, without scaling it.
///
/// Options: `dtype`, by name, such as "f16"; `field` (default "input").
///
/// Fractions are cut off for integers; reals are rounded to the nearest, of two the even one, and beyond the largest to
/// infinity; for bool 0 is false and all else true.
///
/// Shapes: the shape is kept; images and masks become arrays, so that what acts on them comes before.
///
/// Errors: a number that an integer dtype has not, also one that is none; where PyTorch's `to` gives anything.
///
/// Source: PyTorch's `to`, torchvision's `ToDtype(dtype, scale=False)`.
#[derive(Clone, Debug)]
pub struct Cast {
    dtype: Dtype,
    field: String,
}

impl Cast {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when `dtype` is missing, or one has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        Ok(Self {
            dtype: options.one_of("dtype", &Dtype::ALL.map(|dtype| (dtype.name(), dtype)))?,
            field: field(options, "input")?,
        })
    }
}

impl Transform for Cast {
    fn apply(&self, mut sample: Sample, _rng: &mut Rng) -> Result<Sample, TransformError> {
        let value = value_of(&mut sample, &self.field)?;
        if value.dtype() != self.dtype {
            *value = map(value, self.dtype, value.shape(), |_, number| Ok(number))?;
        }
        Ok(sample)
    }

    fn is_deterministic(&self) -> bool {
        true
    }
}
