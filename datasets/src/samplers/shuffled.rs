//! Another random order in every epoch, without a list of it.

use crate::permutation::Permutation;
use crate::sampler::{Population, Sampler};

/// Visits every sample once an epoch, in an order drawn from seed and epoch (PyTorch's `RandomSampler`).
#[derive(Clone, Copy, Debug)]
pub struct Shuffled {
    samples: u64,
    seed: u64,
}

impl Shuffled {
    /// A random order of all samples of `population` for every epoch.
    pub fn new(population: &Population) -> Self {
        Self { samples: population.samples, seed: population.seed }
    }
}

impl Sampler for Shuffled {
    fn len(&self) -> u64 {
        self.samples
    }

    fn index(&self, epoch: u64, position: u64) -> u64 {
        // Making a permutation costs a few dozen instructions: nothing beside the sample.
        Permutation::new(self.samples, self.seed, epoch).index(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_visits_every_sample_once_in_another_order() {
        let sampler = Shuffled { samples: 1000, seed: 7 };
        let order = |epoch| (0..1000).map(|position| sampler.index(epoch, position)).collect::<Vec<_>>();
        let mut sorted = order(0);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
        assert_ne!(order(0), order(1));
        assert_eq!(order(3), order(3));
    }
}
