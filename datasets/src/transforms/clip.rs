//! Keeps numbers within bounds.

use super::arguments::field;
use super::numbers::{Number, largest, map};
use crate::options::Options;
use crate::random::Rng;
use crate::sample::Sample;
use crate::spec::SpecError;
use crate::transform::{Transform, TransformError, value_of};

/// Gives numbers below `min` that value, and numbers above `max` that one; what is no number stays as it is.
///
/// Options: `min`, `max`, one of them or both; `field` (default "input").
///
/// Shapes: shape and dtype are kept; integers are kept within the integers between the bounds, of which there must be
/// one.
///
/// Source: PyTorch's `clamp`.
#[derive(Clone, Debug)]
pub struct Clip {
    min: f64,
    max: f64,
    field: String,
}

impl Clip {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when both `min` and `max` are missing, or one has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let min = options.optional_number("min", f64::MIN..=f64::MAX)?;
        let max = options.optional_number("max", f64::MIN..=f64::MAX)?;
        if max.is_none() {
            options.required("min", min)?;
        }
        let (min, max) = (min.unwrap_or(f64::NEG_INFINITY), max.unwrap_or(f64::INFINITY));
        if min > max {
            return Err(options.error("min", format_args!("is {min}, above `max`, which is {max}")));
        }
        Ok(Self { min, max, field: field(options, "input")? })
    }

    fn clip(&self, number: Number) -> Number {
        let real = number.real();
        let bound = match (real < self.min, real > self.max) {
            (true, _) => self.min.ceil(),
            (_, true) => self.max.floor(),
            _ => return number,
        };
        match number {
            Number::Integer(_) => Number::Real(bound),
            Number::Real(real) => Number::Real(real.clamp(self.min, self.max)),
        }
    }
}

impl Transform for Clip {
    fn apply(&self, mut sample: Sample, _rng: &mut Rng) -> Result<Sample, TransformError> {
        let value = value_of(&mut sample, &self.field)?;
        if largest(value.dtype()).is_some() && self.min.ceil() > self.max.floor() {
            let (min, max, field) = (self.min, self.max, value.field(&self.field));
            return Err(TransformError::new(format!("{field} holds integers, and none is from {min} to {max}")));
        }
        *value = map(value, value.dtype(), value.shape(), |_, number| Ok(self.clip(number)))?;
        Ok(sample)
    }

    fn is_deterministic(&self) -> bool {
        true
    }
}
