//! A dataset for tests of what is built upon datasets: rows that tell which they are.

use std::collections::BTreeMap;

use batchmill_datasets::builtin;
use batchmill_datasets::dataset::{MapDataset, SampleError};
use batchmill_datasets::options::Options;
use batchmill_datasets::registry::Registry;
use batchmill_datasets::sample::{Array, Sample};
use batchmill_datasets::spec::SpecError;
use toml::Value;

/// The kind `rows`: `len` rows numbered from `base` on, of which the last is broken if `broken`.
///
/// It lies in `shards`, and knows the numbers of each row that are among its options, and `row`.
#[derive(Debug)]
pub(crate) struct Rows {
    base: u64,
    len: u64,
    shards: Vec<u64>,
    classes: Vec<String>,
    numbers: BTreeMap<&'static str, Vec<f64>>,
    broken: bool,
}

impl Rows {
    /// What Batchmill brings along, and this.
    pub(crate) fn registry() -> Registry {
        builtin().dataset("rows", Self::from_options)
    }

    fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let mut list = |key| options.value(key).map_or_else(Vec::new, |value| value.as_array().unwrap().clone());
        let shards = list("shards").iter().map(|len| len.as_integer().unwrap().cast_unsigned()).collect();
        let number = |value: &Value| value.to_string().parse().unwrap();
        let numbers = ["label", "weight", "length"].map(|key| (key, list(key).iter().map(number).collect()));
        Ok(Self {
            base: options.optional_integer("base", 0..=1_000_000)?.unwrap_or(0),
            len: options.integer("len", 0..=1_000_000_000_000)?,
            shards,
            classes: options.optional_strings("classes")?.unwrap_or_default(),
            numbers: numbers.into(),
            broken: options.optional_boolean("broken")?.unwrap_or(false),
        })
    }
}

impl MapDataset for Rows {
    fn len(&self) -> u64 {
        self.len
    }

    fn get(&self, index: u64) -> Result<Sample, SampleError> {
        if index >= self.len || (self.broken && index == self.len - 1) {
            return Err(SampleError::new(self.name(index), "is not there"));
        }
        Ok(Sample::new().with("row", Array::scalar_i64((self.base + index).cast_signed())))
    }

    fn name(&self, index: u64) -> String {
        format!("row {}", self.base + index)
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn number(&self, field: &str, index: u64) -> Option<f64> {
        match field {
            // Small enough to be exact.
            "row" => Some((self.base + index) as f64),
            _ => self.numbers.get(field)?.get(usize::try_from(index).ok()?).copied(),
        }
    }

    fn shards(&self) -> Vec<u64> {
        self.shards.clone()
    }
}
