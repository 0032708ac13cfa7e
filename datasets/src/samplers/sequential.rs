//! The dataset's own order, the same in every epoch.

use crate::sampler::{Population, Sampler};

/// Visits the samples in the dataset's order (PyTorch's `SequentialSampler`).
#[derive(Clone, Copy, Debug)]
pub struct Sequential {
    samples: u64,
}

impl Sequential {
    /// The order of all samples of `population`.
    pub fn new(population: &Population) -> Self {
        Self { samples: population.samples }
    }
}

impl Sampler for Sequential {
    fn len(&self) -> u64 {
        self.samples
    }

    fn index(&self, _epoch: u64, position: u64) -> u64 {
        position
    }
}
