//! Datasets made of others.
//!
//! Each is a dataset like any other and may be part of the next:
//! `dataset = { kind = "take", len = 1000, dataset = { kind = "concat", datasets = [..] } }`.
//!
//! | PyTorch | here |
//! |---|---|
//! | `Subset(dataset, indices)` | [`subset`](Subset) with `indices`, `range` or `file` |
//! | `random_split(dataset, [0.8, 0.2])[0]` | [`subset`](Subset) with `split = [0.8, 0.2]`, `part = 0` and a `seed` |
//! | `ConcatDataset` | [`concat`](Concat) |
//! | `StackDataset` | [`zip`](Zip) |
//! | `interleave_datasets` (Hugging Face) | [`mix`](Mix) |
//! | `islice`, `Subset(dataset, range(n))` | [`take`](Take) |
//! | several epochs as one | [`repeat`](Repeat) |
//!
//! None keeps a list of its samples but a `subset` of explicit indices, which all workers share: any of them may have
//! 10^12 and more.

mod concat;
mod mix;
mod repeat;
mod subset;
mod take;
mod zip;

use std::fmt;

use batchmill_protocol::tensor::FieldSpec;

pub use self::concat::Concat;
pub use self::mix::Mix;
pub use self::repeat::Repeat;
pub use self::subset::Subset;
pub use self::take::Take;
pub use self::zip::Zip;

use crate::dataset::{Encoded, MapDataset, SampleError};
use crate::options::{OptionKey, Options};
use crate::progress::Progress;
use crate::sample::Sample;
use crate::selection::{Selected, counted};
use crate::source::{Index, OpenError, Source};
use crate::spec::SpecError;

/// The most samples of a composition: beyond it a typing error is more likely than an intention.
const LEN_MAX: u64 = 1_000_000_000_000_000;

/// The most shards that a composition tells of; with more, its samples count as lying in no order.
const SHARDS_MAX: u64 = 1 << 20;

/// The datasets that a composition is made of, before they are opened.
struct Parts(Vec<Box<dyn Source>>);

impl Parts {
    /// The option `dataset`.
    fn one(options: &mut Options) -> Result<Self, SpecError> {
        Ok(Self(vec![options.dataset("dataset")?]))
    }

    /// The option `datasets`.
    fn several(options: &mut Options) -> Result<Self, SpecError> {
        options.datasets("datasets").map(Self)
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn prepare(&self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), OpenError> {
        self.0.iter().try_for_each(|part| part.prepare(progress))
    }

    fn forget_index(&self) {
        self.0.iter().for_each(|part| part.forget_index());
    }

    /// Their indexes, and one of the composition's own.
    fn index(&self, own: Vec<u8>) -> Result<Vec<u8>, OpenError> {
        let mut indexes = self.0.iter().map(|part| part.index()).collect::<Result<Vec<_>, _>>()?;
        indexes.push(own);
        Ok(Index::join(indexes))
    }

    /// Opens all over what [`index`](Self::index) returned, and gives back the composition's own.
    fn open(self, index: &Index) -> Result<(Vec<Box<dyn MapDataset>>, Index), OpenError> {
        let mut indexes = index.split(self.0.len() + 1).ok_or_else(crate::column::damaged)?;
        let own = indexes.pop().ok_or_else(crate::column::damaged)?;
        let datasets = self.0.into_iter().zip(indexes).map(|(part, index)| part.open(index));
        Ok((datasets.collect::<Result<_, _>>()?, own))
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} datasets", self.0.len())
    }
}

/// Where the samples of a composition come from.
trait Route: Send + Sync + fmt::Debug {
    /// How many there are.
    fn len(&self) -> u64;

    /// The place of the dataset that has sample `index`, and the sample's index there; `index` is below the length.
    fn find(&self, index: u64) -> (usize, u64);

    /// How the samples lie in storage, where the order of the `datasets` is kept.
    fn shards(&self, datasets: &[Box<dyn MapDataset>]) -> Vec<u64> {
        let _ = datasets;
        Vec::new()
    }
}

/// An opened composition whose samples are those of its parts, in other places.
#[derive(Debug)]
struct Composed<R> {
    datasets: Vec<Box<dyn MapDataset>>,
    route: R,
}

impl<R: Route> Composed<R> {
    fn find(&self, index: u64) -> Option<(&dyn MapDataset, u64)> {
        let (place, index) = (index < self.route.len()).then(|| self.route.find(index))?;
        Some((&**self.datasets.get(place)?, index))
    }
}

impl<R: Route> MapDataset for Composed<R> {
    fn len(&self) -> u64 {
        self.route.len()
    }

    fn get(&self, index: u64) -> Result<Sample, SampleError> {
        match self.find(index) {
            Some((dataset, index)) => dataset.get(index),
            None => Err(SampleError::new(self.name(index), format!("there are {} samples", self.len()))),
        }
    }

    /// Where all samples are of one dataset.
    fn gather(&self, indices: &[u64], field: &FieldSpec, room: &mut [u8]) -> bool {
        let find = |index| (index < self.route.len()).then(|| self.route.find(index));
        let first = indices.first().and_then(|&index| find(index)).map_or(0, |(place, _)| place);
        let there = |&index: &u64| find(index).filter(|(place, _)| *place == first).map(|(_, index)| index);
        let Some(indices) = indices.iter().map(there).collect::<Option<Vec<_>>>() else { return false };
        self.datasets.get(first).is_some_and(|dataset| dataset.gather(&indices, field, room))
    }

    fn name(&self, index: u64) -> String {
        self.find(index).map_or_else(|| format!("sample {index}"), |(dataset, index)| dataset.name(index))
    }

    fn write_name(&self, index: u64, name: &mut String) {
        match self.find(index) {
            Some((dataset, index)) => dataset.write_name(index, name),
            None => name.push_str(&self.name(index)),
        }
    }

    fn encoded(&self, index: u64) -> Result<Option<Encoded>, SampleError> {
        self.find(index).map_or(Ok(None), |(dataset, index)| dataset.encoded(index))
    }

    fn expect(&self, index: u64, begin: &mut dyn FnMut()) {
        if let Some((dataset, index)) = self.find(index) {
            dataset.expect(index, begin);
        }
    }

    fn classes(&self) -> &[String] {
        // Those of the others are the same: `require_same_classes`.
        self.datasets[0].classes()
    }

    fn number(&self, field: &str, index: u64) -> Option<f64> {
        let (dataset, index) = self.find(index)?;
        dataset.number(field, index)
    }

    fn shards(&self) -> Vec<u64> {
        self.route.shards(&self.datasets)
    }

    fn summary(&self) -> String {
        summary(self.len(), &self.datasets)
    }
}

impl Route for Selected {
    fn len(&self) -> u64 {
        self.len()
    }

    fn find(&self, index: u64) -> (usize, u64) {
        (0, self.index(index))
    }

    fn shards(&self, datasets: &[Box<dyn MapDataset>]) -> Vec<u64> {
        match self {
            Self::Span { lo, len, step: 1 } => cut(&datasets[0].shards(), *lo, *len),
            _ => Vec::new(),
        }
    }
}

/// What of some shards lies in the `len` samples from `lo`.
fn cut(shards: &[u64], lo: u64, len: u64) -> Vec<u64> {
    let mut start = 0;
    let pieces = shards.iter().map(|shard| {
        let piece = (start + shard).min(lo + len).saturating_sub(lo.max(start));
        start += shard;
        piece
    });
    pieces.filter(|&piece| piece > 0).collect()
}

/// "1000 samples of 60000 samples".
fn summary(samples: u64, datasets: &[Box<dyn MapDataset>]) -> String {
    let parts = datasets.iter().map(|dataset| dataset.summary()).collect::<Vec<_>>();
    format!("{} of {}", counted(samples), parts.join(" and "))
}

/// Refuses what would be too long; `key` is the option that makes it so.
fn checked_len(samples: u128, key: &OptionKey) -> Result<u64, OpenError> {
    let len = u64::try_from(samples).ok().filter(|&samples| samples <= LEN_MAX);
    len.ok_or_else(|| key.error(format_args!("makes {samples} samples, more than {LEN_MAX}")).into())
}

/// Refuses datasets whose labels would not mean the same; `key` is the option that has them.
fn require_same_classes(datasets: &[Box<dyn MapDataset>], key: &OptionKey) -> Result<(), OpenError> {
    let first = datasets[0].classes();
    for (place, dataset) in (2..).zip(&datasets[1..]) {
        let classes = dataset.classes();
        let found = match first.iter().zip(classes).position(|(one, other)| one != other) {
            Some(label) => {
                format!("the class {label} is `{}`, which in the first is `{}`", classes[label], first[label])
            }
            None if classes.len() == first.len() => continue,
            None => format!("there are {} classes, but {} in the first", classes.len(), first.len()),
        };
        let remedy = "labels must mean the same in all: give them one list of `classes`";
        return Err(key.error(format_args!("do not fit together: in dataset {place} {found}; {remedy}")).into());
    }
    Ok(())
}
