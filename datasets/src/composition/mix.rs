//! Several datasets in turns, each as often as its weight says.

use toml::Value;

use super::{Composed, Parts, Route, checked_len, require_same_classes};
use crate::dataset::MapDataset;
use crate::options::{OptionKey, Options, real};
use crate::progress::Progress;
use crate::source::{Index, OpenError, Source};
use crate::spec::SpecError;

/// The most turns until the order of datasets starts over.
const PERIOD_MAX: u32 = 1 << 16;

/// How far a weight may be from a whole number of turns.
const TURN_TOLERANCE: f64 = 1e-6;

/// When a mix ends.
const ENDS: [(&str, Until); 2] = [("first-exhausted", Until::FirstExhausted), ("all-exhausted", Until::AllExhausted)];

/// The kind `mix`: datasets interleaved by weight (`interleave_datasets` of Hugging Face, but without chance).
///
/// Options:
/// - `datasets`, a list; their classes must be the same;
/// - `weights`, a number above 0 for each dataset: `[3, 1]` or `[0.75, 0.25]` takes three samples of the first for one
///   of the second. Equal where left out. They must be whole multiples of one share of at least 1/65536 of their sum;
/// - `until`, "first-exhausted" (default): the mix ends where the next sample would be one that its dataset does not
///   have; or "all-exhausted": it ends when every sample of every dataset has occurred, and shorter ones start over.
///
/// Order: the datasets take turns in an order that repeats after as many samples as the reduced weights add up to, and
/// spreads each dataset evenly over them; each dataset gives its samples in its own order. Every such period has
/// exactly as many of each as the weights say, so that any sample is found without those before it. For a random order
/// of the samples use a sampler. A mix keeps no [shards](MapDataset::shards): over `tar-shards`, `shuffled` visits them in
/// a wholly random order, which is slow where they are compressed.
#[derive(Debug)]
pub struct Mix {
    parts: Parts,
    turns: Vec<u32>,
    until: Until,
    key: OptionKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    FirstExhausted,
    AllExhausted,
}

impl Mix {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when `datasets` is missing or an option has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let parts = Parts::several(options)?;
        let turns = match options.value("weights") {
            None => vec![1; parts.len()],
            Some(value) => turns_of(&value, parts.len()).map_err(|reason| options.error("weights", reason))?,
        };
        let until = options.optional_one_of("until", &ENDS)?.unwrap_or(Until::FirstExhausted);
        Ok(Self { parts, turns, until, key: options.key("datasets") })
    }
}

impl Source for Mix {
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
        let Self { parts, turns, until, key } = *self;
        let (datasets, _) = parts.open(&index)?;
        require_same_classes(&datasets, &key)?;
        let lens: Vec<_> = datasets.iter().map(|dataset| dataset.len()).collect();
        if let Some(empty) = lens.iter().position(|&len| len == 0) {
            return Err(key.error(format_args!("cannot be mixed: dataset {} has no samples", empty + 1)).into());
        }
        let mut route = Rotation { period: period(&turns), turns, lens, len: 0 };
        let ends = (0..datasets.len()).map(|dataset| match until {
            Until::FirstExhausted => route.place(dataset, route.lens[dataset]),
            Until::AllExhausted => route.place(dataset, route.lens[dataset] - 1) + 1,
        });
        let len = if until == Until::FirstExhausted { ends.min() } else { ends.max() };
        route.len = checked_len(len.unwrap_or(0), &key)?;
        Ok(Box::new(Composed { datasets, route }))
    }
}

/// The least whole numbers of turns that are in the proportion of the weights, or what is wrong with these.
fn turns_of(value: &Value, datasets: usize) -> Result<Vec<u32>, String> {
    let weights = value.as_array().and_then(|items| items.iter().map(real).collect::<Option<Vec<_>>>());
    let sum = weights.iter().flatten().sum::<f64>();
    let weights = weights.filter(|weights| weights.iter().all(|&weight| weight > 0.0) && sum.is_finite());
    let weights = weights.ok_or_else(|| format!("is {value}, not a list of numbers above 0"))?;
    if weights.len() != datasets {
        return Err(format!("is a list of {} for {datasets} datasets", weights.len()));
    }
    // The first period in which all have a whole number of turns.
    let turns = (1..=PERIOD_MAX).find_map(|period| {
        let turns = weights.iter().map(|weight| whole(weight / sum * f64::from(period)));
        turns.collect::<Option<Vec<_>>>()
    });
    turns.ok_or_else(|| {
        format!("is {value}, which are no multiples of one share of at least 1/{PERIOD_MAX} of their sum; round them")
    })
}

/// The whole number from 1 up, no larger than [`PERIOD_MAX`], that `turns` is meant to be.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to PERIOD_MAX")]
fn whole(turns: f64) -> Option<u32> {
    let rounded = turns.round();
    let is_whole = (turns - rounded).abs() <= TURN_TOLERANCE && rounded >= 1.0 && rounded <= f64::from(PERIOD_MAX);
    is_whole.then_some(rounded as u32)
}

/// Whose turn it is at each place of a period, and how many turns it had before in it.
///
/// Turn `k` of a dataset with `n` turns is due at `(2k + 1) / 2n` of the period, and turns are taken as they are due,
/// of equal ones that of the first dataset first. Golden values hold this for good.
fn period(turns: &[u32]) -> Vec<(usize, u32)> {
    let mut due: Vec<_> = (0..).zip(turns).flat_map(|(dataset, &n)| (0..n).map(move |turn| (dataset, turn))).collect();
    let twice = |turn: u32| 2 * u64::from(turn) + 1;
    // Stable: of equal ones the first dataset's stays first.
    due.sort_by(|&(one, turn), &(other, other_turn)| {
        (twice(turn) * u64::from(turns[other])).cmp(&(twice(other_turn) * u64::from(turns[one])))
    });
    due
}

/// Datasets in turns.
#[derive(Debug)]
struct Rotation {
    /// Dataset and turn by place.
    period: Vec<(usize, u32)>,
    /// The turns of each dataset in a period.
    turns: Vec<u32>,
    lens: Vec<u64>,
    len: u64,
}

impl Rotation {
    /// The place where `dataset` has turn `turn`, counted through all periods.
    fn place(&self, dataset: usize, turn: u64) -> u128 {
        let turns = u64::from(self.turns[dataset]);
        let wanted = turn % turns;
        let place = self.period.iter().position(|&(of, turn)| of == dataset && u64::from(turn) == wanted);
        let place = place.expect("a period has every turn of every dataset");
        u128::from(turn / turns) * self.period.len() as u128 + place as u128
    }
}

impl Route for Rotation {
    fn len(&self) -> u64 {
        self.len
    }

    fn find(&self, index: u64) -> (usize, u64) {
        let period = self.period.len() as u64;
        // Below 65536.
        let place = usize::try_from(index % period).unwrap_or(0);
        let (dataset, turn) = self.period[place];
        let turn = index / period * u64::from(self.turns[dataset]) + u64::from(turn);
        (dataset, turn % self.lens[dataset])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(weights: &str) -> Result<Vec<u32>, String> {
        let table: toml::Table = format!("weights = {weights}").parse().unwrap();
        turns_of(&table["weights"], table["weights"].as_array().map_or(2, Vec::len))
    }

    fn order(turns: &[u32]) -> Vec<usize> {
        period(turns).into_iter().map(|(dataset, _)| dataset).collect()
    }

    #[test]
    fn weights_become_the_least_turns() {
        for (weights, least) in [
            ("[1]", &[1][..]),
            ("[10, 10]", &[1, 1]),
            ("[0.7, 0.3]", &[7, 3]),
            ("[0.75, 0.25]", &[3, 1]),
            ("[70000, 30000]", &[7, 3]),
            ("[0.3333333333, 0.6666666667]", &[1, 2]),
            ("[1, 2.5, 0.5]", &[2, 5, 1]),
            ("[65535, 1]", &[65535, 1]),
        ] {
            assert_eq!(turns(weights).as_deref(), Ok(least), "{weights}");
        }
        let refused = |weights| turns(weights).unwrap_err();
        assert_eq!(
            refused("[65536, 1]"),
            "is [65536, 1], which are no multiples of one share of at least 1/65536 of their sum; round them"
        );
        assert_eq!(refused("[1, 0]"), "is [1, 0], not a list of numbers above 0");
        assert_eq!(refused("[1, nan]"), "is [1, nan], not a list of numbers above 0");
        assert_eq!(refused("[1e308, 1e308]").split(',').next_back(), Some(" not a list of numbers above 0"));
        assert_eq!(refused("3"), "is 3, not a list of numbers above 0");
    }

    #[test]
    fn turns_are_spread_evenly_and_always_the_same() {
        // Golden, from a second implementation in Python.
        assert_eq!(order(&[1, 1]), [0, 1]);
        assert_eq!(order(&[3, 1]), [0, 0, 1, 0]);
        assert_eq!(order(&[7, 3]), [0, 1, 0, 0, 0, 1, 0, 0, 1, 0]);
        assert_eq!(order(&[1, 2, 5]), [2, 1, 2, 0, 2, 2, 1, 2]);
        for turns in [&[1, 2, 3, 4][..], &[100, 1, 7], &[13, 13, 13], &[999, 1000]] {
            let order = order(turns);
            let sum = f64::from(turns.iter().sum::<u32>());
            let datasets = turns.iter().map(|_| 1.0).sum::<f64>();
            let mut had = vec![0_u32; turns.len()];
            for (place, dataset) in (1..).zip(order) {
                had[dataset] += 1;
                for (had, turns) in had.iter().zip(turns) {
                    let share = f64::from(*turns) / sum;
                    let off = (f64::from(*had) - f64::from(place) * share).abs();
                    // Every dataset is within half a turn of what is due.
                    assert!(
                        off <= (1.0 + datasets * share) / 2.0 + 1e-9,
                        "{turns} of {sum} turns: {off} off at {place}"
                    );
                }
            }
            assert_eq!(had, turns);
        }
    }
}
