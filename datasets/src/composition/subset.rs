//! Some samples of a dataset: listed, from a range, or one part of a random split.

use toml::Value;

use super::{Composed, Parts, Route};
use crate::dataset::MapDataset;
use crate::options::{OptionKey, Options};
use crate::permutation::Permutation;
use crate::progress::Progress;
use crate::random::SPLIT_OP;
use crate::selection::{Selection, counted};
use crate::source::{Index, OpenError, Source};
use crate::spec::SpecError;

/// How far the sum of fractions may be from 1 (Python's `math.isclose`).
const SUM_TOLERANCE: f64 = 1e-9;

/// Decimals without a fraction are exact up to here, 2^53.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// The kind `subset`: some samples of a dataset (PyTorch's `Subset` and `random_split`).
///
/// Options: `dataset`, and one of
/// - `indices`, a list, in the order given; an index may occur more than once;
/// - `range`, `[first, end]` or `[first, end, step]`, the end left out, as Python's `range`;
/// - `file`, a text file with an index on each line; blank lines do not count;
/// - `split`, fractions that add up to 1, such as `[0.8, 0.1, 0.1]`, or lengths that add up to the dataset's; with
///   `part`, which of them is meant, counted from 0, and `seed` (default 0).
///
/// Two parts of a split with the same dataset, `split` and `seed` have no sample in common, and all parts together
/// have every sample. Of n samples a fraction f gets n * f, rounded down, and what is left over is dealt out one by one
/// from the first part, as PyTorch does it; which samples they are follows from our own permutation, not from PyTorch's
/// generator.
///
/// Order: as listed; that of a split is random, and the same in every epoch. Only a `range` without a step keeps the
/// [shards](MapDataset::shards) of its dataset; a split, a range with a step and a list keep none: over `tar-shards`,
/// `shuffled` visits them in a wholly random order, which is slow where they are compressed.
#[derive(Debug)]
pub struct Subset {
    parts: Parts,
    what: What,
}

#[derive(Debug)]
enum What {
    Selection(Selection),
    Split(Split),
}

impl Subset {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when one is missing or has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let parts = Parts::one(options)?;
        let what = match (Selection::from_options(options)?, Split::from_options(options)?) {
            (Some(selection), None) => What::Selection(selection),
            (None, Some(split)) => What::Split(split),
            (Some(selection), Some(_)) => {
                return Err(selection.key().error("stands beside `split`; give one of them"));
            }
            (None, None) => {
                options.finish()?;
                return Err(options.error("indices", "or one of `range`, `file` and `split` is needed"));
            }
        };
        Ok(Self { parts, what })
    }
}

impl Source for Subset {
    fn prepare(&self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), OpenError> {
        self.parts.prepare(progress)
    }

    fn forget_index(&self) {
        self.parts.forget_index();
    }

    fn index(&self) -> Result<Vec<u8>, OpenError> {
        self.parts.index(match &self.what {
            What::Selection(selection) => selection.index()?,
            What::Split(_) => Vec::new(),
        })
    }

    fn open(self: Box<Self>, index: Index) -> Result<Box<dyn MapDataset>, OpenError> {
        let (datasets, own) = self.parts.open(&index)?;
        let samples = datasets[0].len();
        Ok(match self.what {
            What::Selection(selection) => Box::new(Composed { datasets, route: selection.open(samples, own)? }),
            What::Split(split) => Box::new(Composed { datasets, route: split.open(samples)? }),
        })
    }
}

/// The options of a random split.
#[derive(Debug)]
struct Split {
    shares: Vec<f64>,
    part: usize,
    seed: u64,
    key: OptionKey,
}

impl Split {
    fn from_options(options: &mut Options) -> Result<Option<Self>, SpecError> {
        let Some(value) = options.value("split") else { return Ok(None) };
        let shares = shares(&value).ok_or_else(|| {
            options.error("split", format_args!("is {value}, not a list of fractions that add up to 1, or of lengths"))
        })?;
        let part = options.integer("part", 0..=shares.len() - 1)?;
        let seed = options.optional_integer("seed", 0..=i64::MAX.unsigned_abs())?.unwrap_or(0);
        Ok(Some(Self { shares, part, seed, key: options.key("split") }))
    }

    fn open(self, samples: u64) -> Result<Dealt, OpenError> {
        let lengths = if are_fractions(&self.shares) {
            by_fractions(&self.shares, samples)
        } else {
            let lengths: Vec<_> = self.shares.iter().map(|&share| whole(share)).collect();
            let sum = lengths.iter().sum::<u64>();
            if sum != samples {
                let reason = format!("adds up to {sum}, but the dataset has {}", counted(samples));
                return Err(self.key.error(reason).into());
            }
            lengths
        };
        let order = Permutation::keyed(samples, &[self.seed, SPLIT_OP]);
        Ok(Dealt { order, first: lengths[..self.part].iter().sum(), len: lengths[self.part] })
    }
}

/// The numbers of a `split`, if they are fractions or lengths.
fn shares(value: &Value) -> Option<Vec<f64>> {
    let number = |item: &Value| match item {
        Value::Integer(number) => u64::try_from(*number).ok().map(decimal),
        Value::Float(number) => Some(*number),
        _ => None,
    };
    let shares = value.as_array()?.iter().map(number).collect::<Option<Vec<_>>>()?;
    let are_lengths = || shares.iter().all(|share| share.fract() == 0.0) && shares.iter().sum::<f64>() < EXACT_MAX;
    let fit = shares.iter().all(|&share| share >= 0.0) && (are_fractions(&shares) || are_lengths());
    (fit && !shares.is_empty()).then_some(shares)
}

fn are_fractions(shares: &[f64]) -> bool {
    (shares.iter().sum::<f64>() - 1.0).abs() <= SUM_TOLERANCE
}

/// How many of `samples` belong to each part.
///
/// Source: `random_split` of torch/utils/data/dataset.py.
fn by_fractions(fractions: &[f64], samples: u64) -> Vec<u64> {
    let mut left = samples;
    let mut lengths: Vec<_> = fractions
        .iter()
        .map(|fraction| {
            // The sum of fractions may be above 1 by a rounding.
            let len = whole((decimal(samples) * fraction).floor()).min(left);
            left -= len;
            len
        })
        .collect();
    let parts = lengths.len() as u64;
    for (place, len) in (0..).zip(&mut lengths) {
        *len += left / parts + u64::from(place < left % parts);
    }
    lengths
}

/// A length as a decimal, exact up to 2^53.
fn decimal(samples: u64) -> f64 {
    samples as f64
}

/// A decimal from 0 without a fraction, below 2^53.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number from 0 to 2^53")]
fn whole(number: f64) -> u64 {
    number as u64
}

/// One part of a split: the places of a random order from `first` on.
#[derive(Debug)]
struct Dealt {
    order: Permutation,
    first: u64,
    len: u64,
}

impl Route for Dealt {
    fn len(&self) -> u64 {
        self.len
    }

    fn find(&self, index: u64) -> (usize, u64) {
        (0, self.order.index(self.first + index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_pytorch() {
        // From `random_split` of torch 2.
        assert_eq!(by_fractions(&[0.8, 0.1, 0.1], 10), [8, 1, 1]);
        assert_eq!(by_fractions(&[0.8, 0.1, 0.1], 11), [9, 1, 1]);
        assert_eq!(by_fractions(&[0.3, 0.3, 0.4], 8), [3, 2, 3]);
        assert_eq!(by_fractions(&[0.7, 0.2, 0.1], 60_000), [42_000, 12_000, 6_000]);
        assert_eq!(by_fractions(&[0.25; 4], 7), [2, 2, 2, 1]);
        assert_eq!(by_fractions(&[0.5, 0.5], 1), [1, 0]);
        assert_eq!(by_fractions(&[0.1; 10], 3), [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]);
    }
}
