//! Some samples of the dataset, in the order given or in another one every epoch.

use crate::options::Options;
use crate::permutation::Permutation;
use crate::sampler::{Population, Sampler, SamplerSource};
use crate::selection::{Selected, Selection};
use crate::source::{Index, OpenError};
use crate::spec::SpecError;

/// The kinds `subset` and `from-file`: chosen samples only (PyTorch's `SubsetRandomSampler`, or any list as a sampler).
///
/// Options:
/// - of `subset`, one of `indices`, a list; `range`, `[first, end]` or `[first, end, step]`, the end left out; `file`;
/// - of `from-file`, `file`, a text file with an index on each line; blank lines do not count;
/// - `shuffled` (default false), whether each epoch has its own random order.
///
/// Order: as listed, the same in every epoch, unless `shuffled`. An index may occur more than once. The list is read
/// once, when the stream is opened, and is part of its identity.
///
/// The dataset `subset` chooses from one part of a composition; this one from the whole.
#[derive(Debug)]
pub struct Subset {
    selection: Selection,
    shuffled: bool,
}

impl Subset {
    /// Reads the options of `subset`.
    ///
    /// # Errors
    /// [`SpecError`] when one is missing or has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let shuffled = options.optional_boolean("shuffled")?.unwrap_or(false);
        let Some(selection) = Selection::from_options(options)? else {
            options.finish()?;
            return Err(options.error("indices", "or one of `range` and `file` is needed"));
        };
        Ok(Self { selection, shuffled })
    }

    /// Reads the options of `from-file`.
    ///
    /// # Errors
    /// [`SpecError`] when one is missing or has no sense.
    pub fn file_from_options(options: &mut Options) -> Result<Self, SpecError> {
        let shuffled = options.optional_boolean("shuffled")?.unwrap_or(false);
        Ok(Self { selection: Selection::file(options)?, shuffled })
    }
}

impl SamplerSource for Subset {
    fn index(&self, _: &Population) -> Result<Vec<u8>, OpenError> {
        self.selection.index()
    }

    fn open(self: Box<Self>, population: &Population, index: Index) -> Result<Box<dyn Sampler>, OpenError> {
        let selected = self.selection.open(population.samples, index)?;
        Ok(Box::new(Opened { selected, seed: self.shuffled.then_some(population.seed) }))
    }
}

/// The opened sampler; with a seed it is shuffled.
#[derive(Debug)]
struct Opened {
    selected: Selected,
    seed: Option<u64>,
}

impl Sampler for Opened {
    fn len(&self) -> u64 {
        self.selected.len()
    }

    fn index(&self, epoch: u64, position: u64) -> u64 {
        let place = match self.seed {
            Some(seed) => Permutation::new(self.selected.len(), seed, epoch).index(position),
            None => position,
        };
        self.selected.index(place)
    }
}
