//! Which checkpoint of a run is the best.

use std::fmt;

use batchmill_protocol::position::Position;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::Metrics;

/// What `--best` may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BestBy {
    /// The share of right answers in the test.
    Accuracy,
    /// The loss of the test, or of the training where there is no test.
    Loss,
}

impl fmt::Display for BestBy {
    /// Writes it as it is typed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accuracy => "accuracy",
            Self::Loss => "loss",
        })
    }
}

/// What the checkpoints of a run are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Criterion {
    /// The higher the better.
    TestAccuracy,
    /// The lower the better.
    TestLoss,
    /// The lower the better.
    TrainLoss,
}

impl Criterion {
    /// What was asked for, or what serves where nobody asked.
    pub fn choose(asked: Option<BestBy>, tested: bool, has_classes: bool) -> Self {
        match asked {
            _ if !tested => Self::TrainLoss,
            Some(BestBy::Accuracy) => Self::TestAccuracy,
            None if has_classes => Self::TestAccuracy,
            Some(BestBy::Loss) | None => Self::TestLoss,
        }
    }

    /// What one says with `--best` to get it.
    pub fn by(self) -> BestBy {
        match self {
            Self::TestAccuracy => BestBy::Accuracy,
            Self::TestLoss | Self::TrainLoss => BestBy::Loss,
        }
    }

    /// Its value, where it was measured.
    fn of(self, metrics: &Metrics) -> Option<f64> {
        match self {
            Self::TestAccuracy => metrics.test.and_then(|score| score.accuracy),
            Self::TestLoss => metrics.test.map(|score| score.loss),
            Self::TrainLoss => metrics.train_loss(),
        }
    }

    fn is_better(self, value: f64, than: f64) -> bool {
        match self {
            Self::TestAccuracy => value > than,
            Self::TestLoss | Self::TrainLoss => value < than,
        }
    }
}

/// The best checkpoint so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Its value of the [`Criterion`].
    pub value: f64,
    /// Its position, which names its folder.
    pub position: Position,
}

impl Best {
    /// The better one of `best` and the checkpoint at `position` of an epoch's end; the earlier one when they are equal.
    pub fn of(best: Option<Self>, criterion: Criterion, metrics: &Metrics, position: Position) -> Option<Self> {
        let Some(value) = criterion.of(metrics) else { return best };
        match best {
            Some(best) if !criterion.is_better(value, best.value) => Some(best),
            _ => Some(Self { value, position }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{LossSum, Score};

    #[test]
    fn what_nobody_asked_for_is_what_there_is() {
        let cases = [
            ((None, true, true), Criterion::TestAccuracy),
            ((None, true, false), Criterion::TestLoss),
            ((None, false, true), Criterion::TrainLoss),
            ((Some(BestBy::Loss), true, true), Criterion::TestLoss),
            ((Some(BestBy::Loss), false, true), Criterion::TrainLoss),
            ((Some(BestBy::Accuracy), true, false), Criterion::TestAccuracy),
        ];
        for ((asked, tested, classes), criterion) in cases {
            assert_eq!(Criterion::choose(asked, tested, classes), criterion, "{asked:?}, {tested}, {classes}");
        }
    }

    #[test]
    fn the_earlier_one_of_equals_is_the_best() {
        // Accuracy, test loss, training loss of each epoch; none where there was no test.
        let epochs = [(0.5, 0.9, 3.0), (0.75, 0.5, 2.0), (0.75, 0.25, 2.0), (0.25, 0.25, 4.0)];
        let best = |criterion, tested: bool| {
            let mut best = None;
            for (epoch, (accuracy, loss, train)) in (1..).zip(epochs) {
                let metrics = Metrics {
                    train: LossSum { sum: train * 8.0, rows: 8 },
                    test: tested.then_some(Score { accuracy: Some(accuracy), loss, mae: None, rmse: None }),
                };
                best = Best::of(best, criterion, &metrics, Position { epoch, step: 0 });
            }
            best.map(|best| (best.value, best.position.epoch))
        };
        assert_eq!(best(Criterion::TestAccuracy, true), Some((0.75, 2)));
        assert_eq!(best(Criterion::TestLoss, true), Some((0.25, 3)));
        assert_eq!(best(Criterion::TrainLoss, true), Some((2.0, 2)));
        assert_eq!(best(Criterion::TestAccuracy, false), None, "it was never measured");
    }
}
