//! The trait of an order in which samples are visited.

use std::fmt;

use crate::dataset::MapDataset;
use crate::source::{Index, OpenError};

/// Which sample stands where in an epoch: PyTorch's `Sampler`, but reached by place instead of iterated.
///
/// It must be pure: any worker may ask for any place of any epoch, in any order, and must get the same answer.
///
/// ```
/// use batchmill_datasets::sampler::{Population, Sampler};
///
/// /// From the last sample to the first.
/// #[derive(Debug)]
/// struct Reversed {
///     samples: u64,
/// }
///
/// impl Sampler for Reversed {
///     fn len(&self) -> u64 {
///         self.samples
///     }
///
///     fn index(&self, _epoch: u64, position: u64) -> u64 {
///         self.samples - 1 - position
///     }
/// }
///
/// let registry = batchmill_datasets::builtin().sampler("reversed", |_options| {
///     // The options are read here, before any file is touched; the dataset's length comes when it is open.
///     Ok(|population: &Population| Ok(Reversed { samples: population.samples }))
/// });
/// ```
pub trait Sampler: Send + Sync + fmt::Debug {
    /// The samples of one epoch; the same for every epoch.
    fn len(&self) -> u64;

    /// The index, in the dataset, of the sample at `position` of `epoch`, both counted from 0; `position` is below
    /// [`len`](Self::len).
    fn index(&self, epoch: u64, position: u64) -> u64;

    /// Whether an epoch has no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a sampler draws from.
#[derive(Clone, Copy, Debug)]
pub struct Population<'a> {
    /// The samples of the dataset, with indices from 0.
    pub samples: u64,
    /// The seed of the stream.
    pub seed: u64,
    /// Rows of a full batch.
    pub batch_size: u32,
    /// The dataset itself, for what it tells of samples [without reading them](MapDataset::number).
    pub dataset: &'a dyn MapDataset,
}

/// A sampler whose options are read and checked, before there is a dataset to draw from.
///
/// A closure from a [`Population`] to a [`Sampler`] is one. A sampler that needs a table of its own, of weights or of an
/// order, makes it once in [`index`](Self::index), for all workers to share.
pub trait SamplerSource {
    /// Prepares what every worker then maps without a copy of its own; part of the stream's identity.
    ///
    /// # Errors
    /// [`OpenError`], naming the file or the field.
    fn index(&self, population: &Population) -> Result<Vec<u8>, OpenError> {
        let _ = population;
        Ok(Vec::new())
    }

    /// Opens the sampler over what [`index`](Self::index) returned. Each worker does so; it should be quick.
    ///
    /// # Errors
    /// [`OpenError`], naming what it cannot draw from.
    fn open(self: Box<Self>, population: &Population, index: Index) -> Result<Box<dyn Sampler>, OpenError>;
}

impl<Open, Made> SamplerSource for Open
where
    Open: FnOnce(&Population) -> Result<Made, OpenError>,
    Made: Sampler + 'static,
{
    fn open(self: Box<Self>, population: &Population, _: Index) -> Result<Box<dyn Sampler>, OpenError> {
        Ok(Box::new(self(population)?))
    }
}
