//! Gives classes other numbers.

use std::collections::BTreeMap;

use toml::Value as Toml;

use super::arguments::field;
use super::numbers::{Number, map};
use crate::options::Options;
use crate::random::Rng;
use crate::sample::{Image, Sample, Value};
use crate::spec::SpecError;
use crate::transform::{Transform, TransformError, value_of};

/// Puts another class in the place of every class.
///
/// Options: `map`, the new classes by the old: a table, `{ 3 = 0, 7 = 1 }`, or a list of those for 0, 1 and so on;
/// `default`, the new class of all others, without which they are refused; `field` (default "label").
///
/// Shapes: shape and dtype are kept; a mask remains a mask.
///
/// Source: torchvision's `target_transform` with a dictionary.
#[derive(Clone, Debug)]
pub struct LabelMap {
    map: BTreeMap<i64, i64>,
    default: Option<i64>,
    field: String,
}

impl LabelMap {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when `map` is missing, or one has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let value = options.value("map");
        let value = options.required("map", value)?;
        let found: Option<BTreeMap<i64, i64>> = match &value {
            Toml::Table(table) => table.iter().map(|(old, new)| Some((old.parse().ok()?, new.as_integer()?))).collect(),
            Toml::Array(items) => (0..).zip(items).map(|(old, new)| Some((old, new.as_integer()?))).collect(),
            _ => None,
        };
        let found = found.filter(|map| !map.is_empty()).ok_or_else(|| {
            let forms = "{ old = new, ... } or [new for 0, new for 1, ...]";
            options.error("map", format_args!("is {value}, not integers by integers: {forms}"))
        })?;
        Ok(Self {
            map: found,
            default: options.optional_integer("default", i64::MIN..=i64::MAX)?,
            field: field(options, "label")?,
        })
    }

    fn new_of(&self, old: i128) -> Option<i64> {
        i64::try_from(old).ok().and_then(|old| self.map.get(&old).copied()).or(self.default)
    }
}

impl Transform for LabelMap {
    fn apply(&self, mut sample: Sample, _rng: &mut Rng) -> Result<Sample, TransformError> {
        let value = value_of(&mut sample, &self.field)?;
        let unknown = |old: i128| {
            TransformError::new(format!("the class {old} has no new one in `map`; add it, or give a `default`"))
        };
        if let Value::Image(mask) | Value::Mask(mask) = value {
            return self.map_bytes(mask, unknown).map(|()| sample);
        }
        *value = map(value, value.dtype(), value.shape(), |_, number| match number {
            Number::Integer(old) => Ok(Number::Integer(self.new_of(old).ok_or_else(|| unknown(old))?.into())),
            Number::Real(_) => Err(TransformError::new("it holds no classes, which are integers")),
        })?;
        Ok(sample)
    }
}

impl LabelMap {
    fn map_bytes(&self, mask: &mut Image, unknown: impl Fn(i128) -> TransformError) -> Result<(), TransformError> {
        let table: Vec<_> = (0..=u8::MAX).map(|old| self.new_of(old.into())).collect();
        for byte in mask.pixels_mut() {
            let new = table[usize::from(*byte)].ok_or_else(|| unknown((*byte).into()))?;
            *byte = u8::try_from(new).map_err(|_| {
                TransformError::new(format!("the new class {new} is not in range of u8; `cast` the mask before"))
            })?;
        }
        Ok(())
    }
}
