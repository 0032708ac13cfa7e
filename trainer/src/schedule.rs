//! How the learning rate changes in the course of a training.
//!
//! ```toml
//! [schedule]                     # optional; the rate stays as it is without
//! kind = "cosine"
//! unit = "step"                  # what all counts below are in: "epoch" or "step"
//! warmup = 500                   # first so many with a rate that rises in a line
//! warmup_start = 0.1             # ... from this share of it
//! ```
//!
//! | kind | unit | keys (PyTorch's names, meanings and defaults) |
//! |---|---|---|
//! | `constant` | step | |
//! | `step` | epoch | `step_size`, `gamma` (0.1) |
//! | `multi-step` | epoch | `milestones`, `gamma` (0.1) |
//! | `exponential` | epoch | `gamma` |
//! | `cosine` | epoch | `t_max` (all there are after the warm-up), `eta_min` (0) |
//! | `one-cycle` | always step | `max_lr` (`lr`), `pct_start` (0.3), `div_factor` (25), `final_div_factor` (10000) |
//!
//! The unit in the table is that of PyTorch's own examples, which call `scheduler.step()` once an epoch, or once a
//! batch for `OneCycleLR`; `unit` changes it. A step is one of the optimizer. `warmup` (0) comes before any other,
//! `warmup_start` is 1/3 as in `LinearLR`, and the schedule behind it begins where it ends, as `SequentialLR` has it.
//!
//! A rate follows from the step's number and the length of the training alone, so a training that goes on needs to
//! remember nothing; one that goes on for more epochs than it began for has the rates of the longer one.
//! `OneCycleLR` moves the momentum too: this one does not.

use std::f64::consts::PI;

use crate::metrics::exact;
use crate::section::{Bound, Mistake, Section};

/// The most epochs or steps that a key may say.
const COUNT_MAX: usize = 1 << 40;

/// How long a training is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// Steps of the optimizer in each epoch, at least 1.
    pub steps_per_epoch: u64,
    /// Epochs in all.
    pub epochs: u64,
}

/// What a schedule counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Times through the data.
    Epoch,
    /// Steps of the optimizer.
    Step,
}

/// The course of a learning rate.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// What it does after the warm-up.
    pub curve: Curve,
    /// What its counts are in.
    pub unit: Unit,
    /// How many of them the rate rises for.
    pub warmup: u64,
    /// Where it rises from, as a share of the rate.
    pub warmup_start: f64,
}

/// The course of a learning rate after the warm-up.
#[derive(Clone, Debug, PartialEq)]
pub enum Curve {
    /// It stays.
    Constant,
    /// Multiplied by `gamma` every `step_size`. Source: `torch.optim.lr_scheduler.StepLR`.
    Step {
        /// At least 1.
        step_size: u64,
        /// Above 0.
        gamma: f64,
    },
    /// Multiplied by `gamma` at each milestone. Source: `torch.optim.lr_scheduler.MultiStepLR`.
    MultiStep {
        /// In any order.
        milestones: Vec<u64>,
        /// Above 0.
        gamma: f64,
    },
    /// Multiplied by `gamma` each time. Source: `torch.optim.lr_scheduler.ExponentialLR`.
    Exponential {
        /// Above 0.
        gamma: f64,
    },
    /// Half a cosine down to `eta_min`, and up again if it goes on.
    /// Source: `torch.optim.lr_scheduler.CosineAnnealingLR`.
    Cosine {
        /// Where the lowest rate is; none: at the end.
        t_max: Option<u64>,
        /// The lowest rate.
        eta_min: f64,
    },
    /// Up to `max_lr`, and down far below where it began, both as half cosines.
    /// Source: `torch.optim.lr_scheduler.OneCycleLR`, without its cycle of the momentum.
    OneCycle {
        /// The highest rate; none: the optimizer's.
        max_lr: Option<f64>,
        /// The share of all steps in which it rises.
        pct_start: f64,
        /// The highest rate over the first.
        div_factor: f64,
        /// The first rate over the last.
        final_div_factor: f64,
    },
}

impl Default for Schedule {
    /// The rate stays.
    fn default() -> Self {
        Self { curve: Curve::Constant, unit: Unit::Step, warmup: 0, warmup_start: 1.0 / 3.0 }
    }
}

impl Schedule {
    /// The rate of a step, from 0, in a training of this length.
    pub fn rate(&self, lr: f64, step: u64, length: Length) -> f64 {
        let Length { steps_per_epoch, epochs } = length;
        let (now, all) = match self.unit {
            Unit::Epoch => (step / steps_per_epoch.max(1), epochs),
            Unit::Step => (step, epochs.saturating_mul(steps_per_epoch)),
        };
        if now < self.warmup {
            return lr * (self.warmup_start + (1.0 - self.warmup_start) * exact(now) / exact(self.warmup));
        }
        self.curve.rate(lr, now - self.warmup, all.saturating_sub(self.warmup))
    }

    /// Takes the keys of `[schedule]`.
    pub(crate) fn parse(section: &mut Section<'_>) -> Result<Self, Mistake> {
        const KINDS: [(&str, Kind); 6] = [
            ("constant", Kind::Constant),
            ("step", Kind::Step),
            ("multi-step", Kind::MultiStep),
            ("exponential", Kind::Exponential),
            ("cosine", Kind::Cosine),
            ("one-cycle", Kind::OneCycle),
        ];
        let kind = section.kind("schedule", &KINDS, None)?;
        let curve = kind.parse(section)?;
        let default = Self { curve, ..Self::default() };
        if kind == Kind::OneCycle {
            // It counts steps and warms up by itself.
            return Ok(default);
        }
        let unit = section.choice("unit", "schedule", &[("epoch", Unit::Epoch), ("step", Unit::Step)])?;
        Ok(Self {
            unit: match unit {
                Some((_, unit)) => unit,
                None if kind == Kind::Constant => Unit::Step,
                None => Unit::Epoch,
            },
            warmup: count(section.count("warmup", 0..COUNT_MAX)?).unwrap_or(0),
            warmup_start: section.bounded("warmup_start", Bound::ABOVE_0_UP_TO_1)?.unwrap_or(default.warmup_start),
            ..default
        })
    }
}

/// A curve's name, before its keys are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Constant,
    Step,
    MultiStep,
    Exponential,
    Cosine,
    OneCycle,
}

impl Kind {
    fn parse(self, section: &mut Section<'_>) -> Result<Curve, Mistake> {
        let gamma = |section: &mut Section<'_>| section.bounded("gamma", Bound::ABOVE_0);
        Ok(match self {
            Self::Constant => Curve::Constant,
            Self::Step => {
                let step_size = count(section.count("step_size", 1..COUNT_MAX)?);
                Curve::Step {
                    step_size: section.required("step_size", step_size)?,
                    gamma: gamma(section)?.unwrap_or(0.1),
                }
            }
            Self::MultiStep => {
                let milestones = section.counts("milestones", "must be an array of whole numbers, such as [30, 80]")?;
                let milestones = section.required("milestones", milestones)?;
                let milestones = milestones.into_iter().filter_map(|milestone| count(Some(milestone)));
                Curve::MultiStep { milestones: milestones.collect(), gamma: gamma(section)?.unwrap_or(0.1) }
            }
            Self::Exponential => {
                let gamma = gamma(section)?;
                Curve::Exponential { gamma: section.required("gamma", gamma)? }
            }
            Self::Cosine => Curve::Cosine {
                t_max: count(section.count("t_max", 1..COUNT_MAX)?),
                eta_min: section.bounded("eta_min", Bound::FROM_0)?.unwrap_or(0.0),
            },
            Self::OneCycle => Curve::OneCycle {
                max_lr: section.bounded("max_lr", Bound::ABOVE_0)?,
                pct_start: section.bounded("pct_start", Bound::UP_TO_1)?.unwrap_or(0.3),
                div_factor: section.bounded("div_factor", Bound::ABOVE_0)?.unwrap_or(25.0),
                final_div_factor: section.bounded("final_div_factor", Bound::ABOVE_0)?.unwrap_or(1e4),
            },
        })
    }
}

impl Curve {
    /// The rate of epoch or step `now`, from 0, of `all`.
    fn rate(&self, lr: f64, now: u64, all: u64) -> f64 {
        match *self {
            Self::Constant => lr,
            Self::Step { step_size, gamma } => lr * gamma.powf(exact(now / step_size)),
            Self::MultiStep { ref milestones, gamma } => {
                let passed = milestones.iter().filter(|milestone| **milestone <= now).count();
                std::iter::repeat_n(gamma, passed).fold(lr, |lr, gamma| lr * gamma)
            }
            Self::Exponential { gamma } => lr * gamma.powf(exact(now)),
            Self::Cosine { t_max, eta_min } => {
                let t_max = t_max.unwrap_or(all).max(1);
                eta_min + (lr - eta_min) * (1.0 + (PI * exact(now) / exact(t_max)).cos()) / 2.0
            }
            Self::OneCycle { max_lr, pct_start, div_factor, final_div_factor } => {
                let highest = max_lr.unwrap_or(lr);
                let first = highest / div_factor;
                let (now, last) = (exact(now), exact(all) - 1.0);
                // PyTorch ends the rise at a step that need not be whole.
                let top = pct_start * exact(all) - 1.0;
                if now <= top {
                    between(first, highest, now / top)
                } else {
                    between(highest, first / final_div_factor, (now - top) / (last - top))
                }
            }
        }
    }
}

/// Goes from one rate to another as half a cosine does, for a `share` from 0 to 1.
fn between(from: f64, to: f64, share: f64) -> f64 {
    // Without a number where a single step is both the first and the last.
    let share = if share.is_nan() { 1.0 } else { share.clamp(0.0, 1.0) };
    to + (from - to) / 2.0 * (1.0 + (PI * share).cos())
}

fn count(count: Option<usize>) -> Option<u64> {
    count.and_then(|count| u64::try_from(count).ok())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::learn::testing::{golden, list, mistake, numbers, parse, text};

    /// As in the golden file.
    const LENGTH: Length = Length { steps_per_epoch: 5, epochs: 20 };

    #[test]
    fn rates_are_pytorchs() {
        let mut largest: f64 = 0.0;
        for case in list(&golden("schedules")) {
            let schedule = parse(text(&case["toml"]), Schedule::parse).expect("a schedule");
            let (expected, repeat) = (numbers(&case["rates"]), if text(&case["unit"]) == "epoch" { 5 } else { 1 });
            let expected: Vec<f64> = expected.iter().flat_map(|rate| std::iter::repeat_n(*rate, repeat)).collect();
            assert_eq!(expected.len(), 100);
            for (step, expected) in (0..).zip(expected) {
                let rate = schedule.rate(0.1, step, LENGTH);
                let difference = (rate - expected).abs();
                assert!(difference < 1e-12, "{schedule:?}: {rate} in step {step}, not {expected}");
                largest = largest.max(difference);
            }
        }
        println!("largest difference from PyTorch: of a rate {largest:.1e}, from a rate of 0.1");
    }

    #[test]
    fn the_rate_stays_when_nothing_is_said() {
        let rates = [0, 99, 1_000].map(|step| Schedule::default().rate(0.25, step, LENGTH));
        assert_eq!(rates, [0.25; 3]);
    }

    #[test]
    fn the_shortest_training_has_rates() {
        for keys in ["kind = 'one-cycle'", "kind = 'cosine'\nwarmup = 3", "kind = 'one-cycle'\npct_start = 0"] {
            let schedule = parse(keys, Schedule::parse).expect("a schedule");
            for length in [Length { steps_per_epoch: 1, epochs: 1 }, Length { steps_per_epoch: 1, epochs: 3 }] {
                let rates: Vec<_> = (0..4).map(|step| schedule.rate(0.1, step, length)).collect();
                assert!(rates.iter().all(|rate| (0.0..=0.1).contains(rate)), "{keys}: {rates:?}");
            }
        }
    }

    #[test]
    fn what_is_wrong_in_a_schedule_is_said() {
        let check = |keys: &str, expected: Expect| expected.assert_eq(&mistake(keys, Schedule::parse));
        check("", expect!["line 1: [table] has no `kind`"]);
        check("kind = 'cosin'", expect!["line 1: unknown kind of schedule `cosin`: did you mean `cosine`?"]);
        check("kind = 'step'", expect!["line 1: [table] (step) has no `step_size`"]);
        check(
            "kind = 'step'\nstep_size = 0",
            expect!["line 2: `step_size` is 0: it must be a whole number from 1 to 1099511627775"],
        );
        check(
            "kind = 'multi-step'\nmilestones = ['30']",
            expect!["line 2: `milestones` must be an array of whole numbers, such as [30, 80]"],
        );
        check("kind = 'exponential'\ngamma = 0", expect!["line 2: `gamma` is 0: it must be above 0"]);
        check(
            "kind = 'cosine'\nunit = 'steps'",
            expect!["line 2: unknown unit of schedule `steps`: did you mean `step`?"],
        );
        check(
            "kind = 'cosine'\nwarmup_start = 0",
            expect!["line 2: `warmup_start` is 0: it must be above 0 and at most 1"],
        );
        check(
            "kind = 'one-cycle'\nwarmup = 5",
            expect![
                "line 2: unknown key `warmup` in [table] (one-cycle): it may have `kind`, `max_lr`, `pct_start`, `div_factor`, `final_div_factor`"
            ],
        );
    }
}
