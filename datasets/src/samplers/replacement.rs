//! Samples drawn one by one from all, as if none had been drawn before.

use crate::options::Options;
use crate::random::{REPLACEMENT_OP, Rng};
use crate::sampler::{Population, Sampler, SamplerSource};
use crate::source::{Index, OpenError};
use crate::spec::SpecError;

/// The kind `with-replacement`: every place of an epoch is a draw of its own from all samples (PyTorch's
/// `RandomSampler(replacement=True)`).
///
/// Options: `samples`, the draws of an epoch; as many as the dataset has samples where left out.
#[derive(Clone, Copy, Debug)]
pub struct WithReplacement {
    samples: Option<u64>,
}

impl WithReplacement {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when one has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        Ok(Self { samples: super::samples_from_options(options)? })
    }
}

impl SamplerSource for WithReplacement {
    fn open(self: Box<Self>, population: &Population, _: Index) -> Result<Box<dyn Sampler>, OpenError> {
        let &Population { samples: of, seed, .. } = population;
        Ok(Box::new(Opened { samples: super::epoch_len(self.samples, of), of, seed }))
    }
}

/// `samples` draws from `of`.
#[derive(Debug)]
struct Opened {
    samples: u64,
    of: u64,
    seed: u64,
}

impl Sampler for Opened {
    fn len(&self) -> u64 {
        self.samples
    }

    fn index(&self, epoch: u64, position: u64) -> u64 {
        Rng::new(self.seed, epoch, position, 0, REPLACEMENT_OP).below(self.of)
    }
}
