//! When a training has stopped getting better.

use serde::{Deserialize, Serialize};

use crate::metrics::Score;
use crate::section::{Bound, Mistake, Section};

/// A number that an epoch ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// `train_loss`.
    TrainLoss,
    /// `test_loss`.
    TestLoss,
    /// `test_accuracy`.
    TestAccuracy,
    /// `test_mae`.
    TestMae,
    /// `test_rmse`.
    TestRmse,
}

impl Watched {
    /// Whether it comes from the stream of `--eval`.
    pub fn needs_test(self) -> bool {
        self != Self::TrainLoss
    }

    /// Whether a test has it, when targets are classes or, otherwise, numbers.
    pub(super) fn is_of(self, classes: bool) -> bool {
        match self {
            Self::TrainLoss | Self::TestLoss => true,
            Self::TestAccuracy => classes,
            Self::TestMae | Self::TestRmse => !classes,
        }
    }

    /// Whether less of it is better.
    fn is_minimized(self) -> bool {
        self != Self::TestAccuracy
    }

    /// It, when the epoch has it.
    pub fn of(self, train_loss: Option<f64>, test: Option<&Score>) -> Option<f64> {
        match self {
            Self::TrainLoss => train_loss,
            Self::TestLoss => test.map(|score| score.loss),
            Self::TestAccuracy => test.and_then(|score| score.accuracy),
            Self::TestMae => test.and_then(|score| score.mae),
            Self::TestRmse => test.and_then(|score| score.rmse),
        }
    }
}

/// When to stop, as the file states it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EarlyStopping {
    /// What must get better.
    pub metric: Watched,
    /// So many epochs may pass without: after the last of them it is over.
    pub patience: u64,
    /// Better is better by more than this.
    pub min_delta: f64,
    /// Whether less is better.
    pub minimize: bool,
}

/// How it stands; goes into the checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// The best so far; none before the first epoch.
    pub best: Option<f64>,
    /// Epochs since.
    pub epochs_since: u64,
}

impl EarlyStopping {
    /// Takes the keys of `early_stopping`.
    pub(crate) fn parse(section: &mut Section<'_>) -> Result<Self, Mistake> {
        const METRICS: [(&str, Watched); 5] = [
            ("train_loss", Watched::TrainLoss),
            ("test_loss", Watched::TestLoss),
            ("test_accuracy", Watched::TestAccuracy),
            ("test_mae", Watched::TestMae),
            ("test_rmse", Watched::TestRmse),
        ];
        let metric =
            section.choice("metric", "early_stopping", &METRICS)?.map_or(Watched::TestLoss, |(_, metric)| metric);
        let patience = section.count("patience", 1..1_000_001)?;
        let patience = section.required("patience", patience)?;
        let minimize = section.choice("mode", "early_stopping", &[("min", true), ("max", false)])?;
        Ok(Self {
            metric,
            patience: u64::try_from(patience).expect("it is a million at the most"),
            min_delta: section.bounded("min_delta", Bound::FROM_0)?.unwrap_or(0.0),
            minimize: minimize.map_or(metric.is_minimized(), |(_, minimize)| minimize),
        })
    }

    /// Whether a standing of `other` is one of this as well.
    pub(super) fn watches_the_same(&self, other: Self) -> bool {
        (self.metric, self.minimize) == (other.metric, other.minimize)
    }

    /// Takes note of an epoch's number; whether it was one too many. What is not a number is no better.
    pub fn is_over(&self, standing: &mut Standing, now: f64) -> bool {
        let better = match standing.best {
            None => !now.is_nan(),
            Some(best) if self.minimize => now < best - self.min_delta,
            Some(best) => now > best + self.min_delta,
        };
        if better {
            *standing = Standing { best: Some(now), epochs_since: 0 };
        } else {
            standing.epochs_since += 1;
        }
        self.was_over(*standing)
    }

    /// Whether it was over already when a checkpoint was written that stands so.
    pub fn was_over(&self, standing: Standing) -> bool {
        standing.epochs_since >= self.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stops_after(stopping: EarlyStopping, numbers: &[f64]) -> Option<usize> {
        let mut standing = Standing::default();
        numbers.iter().position(|number| {
            // As if a checkpoint lay between any two.
            let text = serde_json::to_string(&standing).expect("it has a JSON form");
            standing = serde_json::from_str(&text).expect("it was just written");
            stopping.is_over(&mut standing, *number)
        })
    }

    #[test]
    fn patience_counts_epochs_without_a_better_one() {
        let stopping = EarlyStopping { metric: Watched::TestLoss, patience: 2, min_delta: 0.0, minimize: true };
        assert_eq!(stops_after(stopping, &[3.0, 2.0, 2.5, 1.0, 1.0, 0.5]), None);
        assert_eq!(stops_after(stopping, &[3.0, 2.0, 2.5, 2.0, 0.5]), Some(3));
        assert_eq!(stops_after(stopping, &[3.0, f64::NAN, 2.5, f64::NAN, f64::NAN]), Some(4));
        assert_eq!(stops_after(stopping, &[f64::NAN, f64::NAN]), Some(1));
        // Better, but by too little.
        let stopping = EarlyStopping { min_delta: 0.5, ..stopping };
        assert_eq!(stops_after(stopping, &[3.0, 2.75, 2.5, 1.0]), Some(2));
        assert_eq!(stops_after(stopping, &[3.0, 2.75, 2.25, 2.0, 1.5]), None);
        let stopping = EarlyStopping { minimize: false, ..stopping };
        assert_eq!(stops_after(stopping, &[1.0, 2.0, 1.0, 3.0, 2.5, 3.5]), Some(5));
    }

    #[test]
    fn a_watched_number_is_the_epochs_own() {
        let score = Score { accuracy: Some(0.5), loss: 2.0, mae: None, rmse: Some(3.0) };
        assert_eq!(Watched::TrainLoss.of(Some(1.0), Some(&score)), Some(1.0));
        assert_eq!(Watched::TestLoss.of(Some(1.0), Some(&score)), Some(2.0));
        assert_eq!(Watched::TestAccuracy.of(None, Some(&score)), Some(0.5));
        assert_eq!(Watched::TestMae.of(None, Some(&score)), None);
        assert_eq!(Watched::TestRmse.of(None, Some(&score)), Some(3.0));
        assert_eq!(Watched::TestLoss.of(Some(1.0), None), None);
    }
}
