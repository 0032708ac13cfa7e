//! Datasets one behind the other.

use super::{Composed, Parts, Route, SHARDS_MAX, checked_len, require_same_classes};
use crate::dataset::MapDataset;
use crate::options::{OptionKey, Options};
use crate::progress::Progress;
use crate::source::{Index, OpenError, Source};
use crate::spec::SpecError;

/// The shortest and the most runs into which samples that lie in no order are divided beside those that do.
const RUN_LEN_MIN: u64 = 1024;
const RUNS_MAX: u64 = 1 << 12;

/// The kind `concat`: all samples of one dataset, then all of the next (PyTorch's `ConcatDataset`).
///
/// Options: `datasets`, a list of at least one. Their classes must be the same list, so that a label has one meaning.
///
/// Order: that of the list, and within it the datasets' own.
#[derive(Debug)]
pub struct Concat {
    parts: Parts,
    key: OptionKey,
}

impl Concat {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when `datasets` is missing or one of them has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        Ok(Self { parts: Parts::several(options)?, key: options.key("datasets") })
    }
}

impl Source for Concat {
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
        require_same_classes(&datasets, &self.key)?;
        checked_len(datasets.iter().map(|dataset| u128::from(dataset.len())).sum(), &self.key)?;
        let ends = datasets.iter().scan(0, |end, dataset| {
            *end += dataset.len();
            Some(*end)
        });
        let route = Chain { ends: ends.collect() };
        Ok(Box::new(Composed { datasets, route }))
    }
}

/// Where each dataset ends; the last of these is the length of all.
#[derive(Debug)]
struct Chain {
    ends: Vec<u64>,
}

impl Route for Chain {
    fn len(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    fn find(&self, index: u64) -> (usize, u64) {
        let place = self.ends.partition_point(|&end| end <= index);
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        (place, index - start)
    }

    fn shards(&self, datasets: &[Box<dyn MapDataset>]) -> Vec<u64> {
        let shards: Vec<_> = datasets.iter().map(|dataset| dataset.shards()).collect();
        if shards.iter().all(Vec::is_empty) {
            return Vec::new();
        }
        let runs = shards.into_iter().zip(datasets);
        let runs = runs.flat_map(|(shards, dataset)| if shards.is_empty() { runs_of(dataset.len()) } else { shards });
        let runs: Vec<_> = runs.collect();
        if runs.len() as u64 <= SHARDS_MAX { runs } else { Vec::new() }
    }
}

/// Runs for samples that may be read in any order. As a single shard they would be visited nearly in their own order,
/// which may be that of their classes.
fn runs_of(len: u64) -> Vec<u64> {
    let run = len.div_ceil(RUNS_MAX).max(RUN_LEN_MIN);
    (0..len.div_ceil(run)).map(|place| run.min(len - place * run)).collect()
}
