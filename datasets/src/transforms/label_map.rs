//! Gives classes other numbers.

use std::collections::BTreeMap;

use toml::Value as Toml;

use super::arguments::field;
use super::numbers::{Number, map};
use crate::options::Options;
use crate::random::Rng;
use crate::sample::{Image, Sample, Value};
use crate::spec::SpecError;
use crate::transform::{LABEL, Transform, TransformError, value_of};

/// The most classes that are given names.
const CLASSES_MAX: usize = 1 << 20;

/// The most old classes that a new one is named after.
const NAMES_MAX: usize = 4;

/// Puts another class in the place of every class.
///
/// Options: `map`, the new classes by the old: a table, `{ 3 = 0, 7 = 1 }`, or a list of those for 0, 1 and so on;
/// `default`, the new class of all others, without which they are refused; `field` (default "label").
///
/// Shapes: shape and dtype are kept; a mask remains a mask.
///
/// The names of the classes go with the field "label": a new class has that of the old one, or of the old ones, such as
/// "cat or dog"; one that no old class becomes has its number.
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
            field: field(options, LABEL)?,
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

    fn is_deterministic(&self) -> bool {
        true
    }

    fn classes(&self, names: Vec<String>) -> Vec<String> {
        if self.field != LABEL {
            return names;
        }
        let mut renamed: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for (old, name) in (0..).zip(names) {
            // One below 0 is no class, but a value to be passed over.
            if let Some(new) = self.new_of(old).and_then(|new| usize::try_from(new).ok()) {
                renamed.entry(new).or_default().push(name);
            }
        }
        let len = renamed.keys().next_back().map_or(0, |last| last.saturating_add(1));
        if len > CLASSES_MAX {
            return Vec::new();
        }
        (0..len).map(|new| renamed.get(&new).map_or_else(|| new.to_string(), |olds| joined(olds))).collect()
    }
}

/// One name for several classes.
fn joined(names: &[String]) -> String {
    match names {
        [first, others @ ..] if others.len() >= NAMES_MAX => format!("{first} or {} others", others.len()),
        names => names.join(" or "),
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
