//! The samplers that Batchmill brings along.
//!
//! | PyTorch's | ours |
//! |---|---|
//! | `SequentialSampler` | [`sequential`](Sequential) |
//! | `RandomSampler` | [`shuffled`](Shuffled) |
//! | `RandomSampler(num_samples=n)` | [`shuffled`](Shuffled) with `samples = n` |
//! | `RandomSampler(replacement=True, num_samples=n)` | [`with-replacement`](WithReplacement) with `samples = n` |
//! | `WeightedRandomSampler(weights, n)` | [`weighted`](Weighted) with `column` or `weights`, and `samples = n` |
//! | `WeightedRandomSampler(.., replacement=False)` | none: each draw would follow from all before it |
//! | `SubsetRandomSampler(indices)` | [`subset`](Subset) with `indices`, `range` or `file`, and `shuffled = true` |
//! | any list of indices as a `sampler` | [`subset`](Subset), or [`from-file`](Subset) |
//! | `BatchSampler` | none: `batch_size` and `tail` of the stream |
//! | `DistributedSampler` | none: the stream has global batches, of which each trainer takes its rows |
//! | a shuffle buffer over shards (`IterDataPipe.shuffle`) | [`shuffled`](Shuffled) with `lanes` and `block` |
//! | buckets by length (torchtext's `BucketIterator`) | [`batch-by-length`](BatchByLength) |
//! | equal counts of classes (third-party `BalancedBatchSampler`s) | [`class-balanced`](ClassBalanced) |
//!
//! PyTorch's samplers are iterated and draw from one generator as they go. Ours are asked for a place, and answer from
//! seed, epoch and place alone: any worker may ask, and a stream goes on in mid-epoch without what came before. So the
//! orders are other ones than PyTorch's for the same seed, of the same distribution.

mod batch_by_length;
mod blocks;
mod class_balanced;
mod numbers;
mod replacement;
mod sequential;
mod shuffled;
mod subset;
mod weighted;
mod windows;

pub use batch_by_length::BatchByLength;
pub use blocks::{Blocks, Record};
pub use class_balanced::ClassBalanced;
pub use replacement::WithReplacement;
pub use sequential::Sequential;
pub use shuffled::Shuffled;
pub use subset::Subset;
pub use weighted::Weighted;

use self::numbers::Field;
use crate::options::Options;
use crate::spec::SpecError;
use crate::transform::LABEL;

/// The most samples of an epoch: beyond it a typing error is more likely than an intention.
const SAMPLES_MAX: u64 = 1_000_000_000_000_000;

/// The option `samples`: how many an epoch has.
fn samples_from_options(options: &mut Options) -> Result<Option<u64>, SpecError> {
    options.optional_integer("samples", 1..=SAMPLES_MAX)
}

/// The samples of an epoch over a dataset of `of`: those asked for, but none where there are none to draw from.
fn epoch_len(asked: Option<u64>, of: u64) -> u64 {
    if of == 0 { 0 } else { asked.unwrap_or(of) }
}

/// The option `field`: which number of a sample is its class.
fn label_from_options(options: &mut Options) -> Result<Field, SpecError> {
    let name = options.optional_string("field")?.unwrap_or_else(|| LABEL.to_owned());
    Ok(Field { name, key: options.key("field") })
}
