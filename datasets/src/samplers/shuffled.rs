//! Another random order in every epoch, without a list of it.

use super::blocks::Blocks;
use super::windows::Windows;
use crate::iterable::CURSORS_MAX;
use crate::options::{OptionKey, Options};
use crate::permutation::Permutation;
use crate::sampler::{Population, Sampler, SamplerSource};
use crate::source::{Index, OpenError};
use crate::spec::SpecError;

/// Lanes and records of a block where the user does not say.
const LANES_DEFAULT: usize = 4;
const BLOCK_DEFAULT: u64 = 1024;

/// The most lanes: with more of them than shards that are open at once, each record would open its shard again.
const LANES_MAX: usize = CURSORS_MAX;

/// The kind `shuffled`: every sample once an epoch, in an order drawn from seed and epoch (PyTorch's `RandomSampler`).
///
/// Options:
/// - `samples`, how many an epoch has. Fewer than the dataset has are the first of the order; more go on with another
///   order of all samples, as PyTorch's `num_samples`;
/// - `window`, for slow disks: windows of so many neighbours in a random order, and the samples of each;
/// - `lanes` (default 4) and `block` (default 1024), for a dataset whose samples lie in
///   [shards](crate::dataset::MapDataset::shards): see [`Blocks`]. More lanes and larger blocks mix better; each lane
///   needs a block at a time.
///
/// Order: without any of these options that of one [`Permutation`] of all samples, whatever their number, except over
/// shards: there, reading samples in a whole random order would read each shard again and again. To have it all the
/// same, set `window = 1`.
#[derive(Debug)]
pub struct Shuffled {
    samples: Option<u64>,
    how: How,
}

#[derive(Debug)]
enum How {
    Window(u64),
    /// With the option that says it is so, if any.
    Blocks {
        lanes: usize,
        block: u64,
        key: Option<OptionKey>,
    },
}

impl Shuffled {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when one has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let samples = super::samples_from_options(options)?;
        let window = options.optional_integer("window", 1..=super::SAMPLES_MAX)?;
        let lanes = options.optional_integer("lanes", 1..=LANES_MAX)?;
        let block = options.optional_integer("block", 1..=super::SAMPLES_MAX)?;
        let key = lanes.map(|_| "lanes").or(block.map(|_| "block")).map(|key| options.key(key));
        let how = match (window, key) {
            (Some(_), Some(key)) => return Err(key.error("stands beside `window`; give one of them")),
            (Some(window), None) => How::Window(window),
            (None, key) => {
                How::Blocks { lanes: lanes.unwrap_or(LANES_DEFAULT), block: block.unwrap_or(BLOCK_DEFAULT), key }
            }
        };
        Ok(Self { samples, how })
    }
}

impl SamplerSource for Shuffled {
    fn open(self: Box<Self>, population: &Population, _: Index) -> Result<Box<dyn Sampler>, OpenError> {
        let &Population { samples: of, seed, dataset, .. } = population;
        let shards = dataset.shards();
        let order = match self.how {
            How::Window(window) => Order::Windows(Windows { samples: of, window, seed }),
            How::Blocks { key: None, .. } if shards.is_empty() => Order::Whole { samples: of, seed },
            How::Blocks { key: Some(key), .. } if shards.is_empty() => {
                let reason = "is for a dataset whose samples lie in shards, and those of this one do not; leave it out, \
                              or give `window`";
                return Err(key.error(reason).into());
            }
            How::Blocks { lanes, block, .. } => {
                let blocks = Blocks::new(&shards, lanes, block, seed).filter(|blocks| blocks.len() == of);
                Order::Blocks(blocks.ok_or_else(|| {
                    let reason = format!("the dataset's {} shards do not add up to its {of} samples", shards.len());
                    OpenError::other(reason, None)
                })?)
            }
        };
        Ok(Box::new(Opened { samples: super::epoch_len(self.samples, of), of, order }))
    }
}

/// The opened sampler: `samples` from passes through all `of`.
#[derive(Debug)]
struct Opened {
    samples: u64,
    of: u64,
    order: Order,
}

/// The order of one pass.
#[derive(Debug)]
enum Order {
    Whole { samples: u64, seed: u64 },
    Windows(Windows),
    Blocks(Blocks),
}

impl Sampler for Opened {
    fn len(&self) -> u64 {
        self.samples
    }

    fn index(&self, epoch: u64, position: u64) -> u64 {
        // Passes are counted through all epochs; where an epoch is one pass, they are the epochs.
        let passes = self.samples.div_ceil(self.of);
        let pass = epoch.wrapping_mul(passes).wrapping_add(position / self.of);
        let position = position % self.of;
        match &self.order {
            // Making a permutation costs a few dozen instructions: nothing beside the sample.
            Order::Whole { samples, seed } => Permutation::new(*samples, *seed, pass).index(position),
            Order::Windows(windows) => windows.index(pass, position),
            Order::Blocks(blocks) => blocks.index(pass, position),
        }
    }
}
