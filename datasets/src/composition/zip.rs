//! The fields of several datasets side by side.

use super::{Parts, summary};
use crate::dataset::{MapDataset, SampleError};
use crate::options::{OptionKey, Options};
use crate::progress::Progress;
use crate::sample::Sample;
use crate::selection::counted;
use crate::source::{Index, OpenError, Source};
use crate::spec::SpecError;

/// The kind `zip`: sample `i` has the fields of all datasets' samples `i` (PyTorch's `StackDataset`).
///
/// Options: `datasets`, a list, all of one length; `prefixes`, a text for each dataset that is put before the names of
/// its fields, such as `["", "target_"]`. Two fields must not have one name.
///
/// Order: the datasets'; its fields are those of the first, then those of the next. The names of the classes are those
/// of the first dataset that has classes.
#[derive(Debug)]
pub struct Zip {
    parts: Parts,
    prefixes: Vec<String>,
    key: OptionKey,
}

impl Zip {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when `datasets` is missing or an option has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let parts = Parts::several(options)?;
        let prefixes = options.optional_strings("prefixes")?.unwrap_or_else(|| vec![String::new(); parts.len()]);
        if prefixes.len() != parts.len() {
            let reason = format!("is a list of {} for {} datasets", prefixes.len(), parts.len());
            return Err(options.error("prefixes", reason));
        }
        Ok(Self { parts, prefixes, key: options.key("datasets") })
    }
}

impl Source for Zip {
    fn prepare(&self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), OpenError> {
        self.parts.prepare(progress)
    }

    fn forget_index(&self) {
        self.parts.forget_index();
    }

    fn index(&self) -> Result<Vec<u8>, OpenError> {
        self.parts.index(Vec::new())
    }

    fn open(self: Box<Self>, index: Index) -> Result<Box<dyn MapDataset>, OpenError> {
        let (datasets, _) = self.parts.open(&index)?;
        let first = datasets[0].len();
        for (place, dataset) in (2..).zip(&datasets[1..]) {
            if dataset.len() != first {
                let found = format!("dataset {place} has {}, the first has {first}", counted(dataset.len()));
                return Err(self.key.error(format_args!("must be of one length: {found}")).into());
            }
        }
        Ok(Box::new(Opened { datasets, prefixes: self.prefixes }))
    }
}

/// The opened dataset: a prefix for each of the datasets.
#[derive(Debug)]
struct Opened {
    datasets: Vec<Box<dyn MapDataset>>,
    prefixes: Vec<String>,
}

impl MapDataset for Opened {
    fn len(&self) -> u64 {
        self.datasets[0].len()
    }

    fn get(&self, index: u64) -> Result<Sample, SampleError> {
        let mut zipped = Sample::new();
        for (place, (dataset, prefix)) in self.datasets.iter().zip(&self.prefixes).enumerate() {
            let sample = dataset.get(index)?;
            // The first stays as it is where nothing is put before its names.
            if place == 0 && prefix.is_empty() {
                zipped = sample;
                continue;
            }
            for (name, value) in sample.into_fields() {
                let name = if prefix.is_empty() { name } else { format!("{prefix}{name}").into() };
                if zipped.get(&name).is_some() {
                    let reason = format!(
                        "dataset {} has a field `{name}`, as one before it has; tell them apart by `prefixes`, such as \
                         [\"\", \"other_\"]",
                        place + 1
                    );
                    return Err(SampleError::new(self.name(index), reason));
                }
                zipped.insert(name, value);
            }
        }
        Ok(zipped)
    }

    fn name(&self, index: u64) -> String {
        let names = self.datasets.iter().map(|dataset| dataset.name(index)).collect::<Vec<_>>();
        names.join(" with ")
    }

    fn classes(&self) -> &[String] {
        self.datasets.iter().map(|dataset| dataset.classes()).find(|classes| !classes.is_empty()).unwrap_or(&[])
    }

    fn number(&self, field: &str, index: u64) -> Option<f64> {
        let mut parts = self.datasets.iter().zip(&self.prefixes);
        parts.find_map(|(dataset, prefix)| dataset.number(field.strip_prefix(prefix.as_str())?, index))
    }

    fn shards(&self) -> Vec<u64> {
        self.datasets.iter().map(|dataset| dataset.shards()).find(|shards| !shards.is_empty()).unwrap_or_default()
    }

    fn summary(&self) -> String {
        summary(self.len(), &self.datasets)
    }
}
