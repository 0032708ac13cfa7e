//! Batches of samples of about the same length.

use super::numbers::Field;
use crate::column::Column;
use crate::options::Options;
use crate::permutation::Permutation;
use crate::random::BUCKET_OP;
use crate::sampler::{Population, Sampler, SamplerSource};
use crate::source::{Index, OpenError};
use crate::spec::SpecError;

/// Batches of a bucket where the user does not say.
const BUCKET_DEFAULT: u64 = 100;

/// The kind `batch-by-length`: every sample once an epoch, in batches whose samples are of about one length, so that
/// little of a padded batch is padding (torchtext's `BucketIterator`, the `LengthGroupedSampler` of Hugging Face).
///
/// Options: `field`, the number that is a sample's length; `bucket` (default 100), how many batches are as one in
/// length: more of them mix better, fewer pad less.
///
/// Order: the samples are sorted by length once and cut into buckets of `bucket` batches. In each epoch the samples of
/// a bucket are put in a random order and cut into batches, and then all batches in a random order. Where the last
/// batch is short it is the last of every epoch, and made of the longest samples.
#[derive(Debug)]
pub struct BatchByLength {
    length: Field,
    bucket: u64,
}

impl BatchByLength {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when one is missing or has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        Ok(Self {
            length: Field { name: options.string("field")?, key: options.key("field") },
            bucket: options.optional_integer("bucket", 1..=1 << 30)?.unwrap_or(BUCKET_DEFAULT),
        })
    }
}

impl SamplerSource for BatchByLength {
    /// The samples, the shortest first.
    fn index(&self, population: &Population) -> Result<Vec<u8>, OpenError> {
        let sorted = self.length.sorted(population, |_| Ok(()))?;
        Ok(Column::pack(sorted.into_iter().map(|(_, index)| index)))
    }

    fn open(self: Box<Self>, population: &Population, index: Index) -> Result<Box<dyn Sampler>, OpenError> {
        let batch = u64::from(population.batch_size.max(1));
        let order = Column::open_of(index, population.samples)?;
        Ok(Box::new(Opened { order, batch, bucket: self.bucket * batch, seed: population.seed }))
    }
}

/// The opened sampler; `batch` and `bucket` are in samples.
#[derive(Debug)]
struct Opened {
    order: Column,
    batch: u64,
    bucket: u64,
    seed: u64,
}

impl Sampler for Opened {
    fn len(&self) -> u64 {
        self.order.len()
    }

    fn index(&self, epoch: u64, position: u64) -> u64 {
        let full = self.len() / self.batch;
        let (batch, row) = (position / self.batch, position % self.batch);
        let batch = if batch < full { Permutation::new(full, self.seed, epoch).index(batch) } else { batch };
        let place = batch * self.batch + row;
        let (bucket, start) = (place / self.bucket, place - place % self.bucket);
        let samples = self.bucket.min(self.len() - start);
        let order = Permutation::keyed(samples, &[self.seed, epoch, BUCKET_OP, bucket]);
        self.order.at(start + order.index(place - start))
    }
}
