//! A dataset several times over.

use super::{Composed, Parts, Route, SHARDS_MAX, checked_len};
use crate::dataset::MapDataset;
use crate::options::{OptionKey, Options};
use crate::progress::Progress;
use crate::source::{Index, OpenError, Source};
use crate::spec::SpecError;

/// The kind `repeat`: the same samples again and again, so that an epoch is longer.
///
/// Options: `dataset`; `times`, how often each of its samples occurs.
///
/// Order: the dataset's, from the start again each time.
#[derive(Debug)]
pub struct Repeat {
    parts: Parts,
    times: u64,
    key: OptionKey,
}

impl Repeat {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when one is missing or has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        Ok(Self {
            parts: Parts::one(options)?,
            times: options.integer("times", 1..=super::LEN_MAX)?,
            key: options.key("times"),
        })
    }
}

impl Source for Repeat {
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
        let once = datasets[0].len();
        let len = checked_len(u128::from(once) * u128::from(self.times), &self.key)?;
        Ok(Box::new(Composed { datasets, route: Again { once, len, times: self.times } }))
    }
}

/// `once` samples, `times` times.
#[derive(Debug)]
struct Again {
    once: u64,
    times: u64,
    len: u64,
}

impl Route for Again {
    fn len(&self) -> u64 {
        self.len
    }

    fn find(&self, index: u64) -> (usize, u64) {
        (0, index % self.once)
    }

    fn shards(&self, datasets: &[Box<dyn MapDataset>]) -> Vec<u64> {
        let shards = datasets[0].shards();
        match usize::try_from(self.times) {
            Ok(times) if (shards.len() as u64).saturating_mul(self.times) <= SHARDS_MAX => shards.repeat(times),
            _ => Vec::new(),
        }
    }
}
