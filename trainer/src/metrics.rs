//! How well a model does: what each batch says stays on the device and is collected on the host now and then.

mod classes;
mod numbers;

use std::mem;

use burn::tensor::{Tensor, TensorReadError};
use serde::{Deserialize, Serialize};

pub use self::classes::{ClassReport, ClassScore, ClassTally};
pub use self::numbers::NumberTally;
use crate::loss::Target;

/// What a test found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// The share of samples whose largest score is their label's, 0 to 1; none where targets are numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// The mean loss of a sample.
    pub loss: f64,
    /// The mean absolute error of an output; none where targets are classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mae: Option<f64>,
    /// The root of the mean squared error of an output; none where targets are classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rmse: Option<f64>,
}

/// A sum of losses: all that a mean needs to go on elsewhere, to the bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossSum {
    /// Of the losses of all rows.
    pub sum: f64,
    /// The rows.
    pub rows: u64,
}

impl LossSum {
    /// The mean of all rows; `None` when there are none.
    pub fn mean(&self) -> Option<f64> {
        (self.rows > 0).then(|| self.sum / exact(self.rows))
    }

    fn add(&mut self, mean: f32, rows: u64) {
        self.sum += f64::from(mean) * exact(rows);
        self.rows += rows;
    }
}

/// What [`MeanLoss::collect`] brings.
#[derive(Clone, Debug, PartialEq)]
pub struct Collected {
    /// The mean loss of each batch, in order.
    pub losses: Vec<f32>,
    /// The mean loss of their rows.
    pub mean: f64,
}

/// A mean of losses over rows, summed in `f64` batch by batch: when it is collected makes no difference.
#[derive(Debug, Default)]
pub struct MeanLoss {
    /// *Shape* `[1]`, and the rows of each.
    recent: Vec<(Tensor<1>, u64)>,
    /// Of all rows collected.
    collected: LossSum,
}

impl MeanLoss {
    /// A mean under way.
    pub fn resumed(collected: LossSum) -> Self {
        Self { collected, recent: Vec::new() }
    }

    /// Adds the mean loss of `rows` rows. Does not wait for the device. *Shape* of `loss` `[1]`.
    pub fn add(&mut self, loss: Tensor<1>, rows: usize) {
        let rows = u64::try_from(rows).expect("rows fit 64 bits");
        self.recent.push((loss.detach().without_autodiff(), rows));
    }

    /// Brings what was added since the last time to the host; `None` when nothing was. Waits for the device.
    ///
    /// # Errors
    /// When the device fails.
    pub fn collect(&mut self) -> Result<Option<Collected>, TensorReadError> {
        let (losses, rows): (Vec<_>, Vec<_>) = mem::take(&mut self.recent).into_iter().unzip();
        if losses.is_empty() {
            return Ok(None);
        }
        let losses: Vec<f32> = Tensor::cat(losses, 0).try_into_vec_as()?;
        let mut recent = LossSum::default();
        for (loss, rows) in losses.iter().zip(rows) {
            recent.add(*loss, rows);
            self.collected.add(*loss, rows);
        }
        Ok(recent.mean().map(|mean| Collected { losses, mean }))
    }

    /// The mean of all rows collected; `None` when there are none.
    pub fn mean(&self) -> Option<f64> {
        self.collected.mean()
    }

    /// All that was collected, to go on with elsewhere.
    pub fn sum(&self) -> LossSum {
        self.collected
    }
}

/// A test under way.
#[derive(Debug, Default)]
pub struct Test {
    loss: MeanLoss,
    classes: ClassTally,
    numbers: NumberTally,
}

impl Test {
    /// Adds a batch. *Shapes* output `[batch, outputs]`, loss `[1]`.
    pub fn add(&mut self, output: Tensor<2>, target: Target, loss: Tensor<1>) {
        self.loss.add(loss, output.dims()[0]);
        match target {
            Target::Classes(labels) => self.classes.add(output, labels),
            Target::Numbers(numbers) => self.numbers.add(output, numbers),
        }
    }

    /// Brings what was added since the last time to the host. Waits for the device.
    ///
    /// # Errors
    /// When the device fails.
    pub fn collect(&mut self) -> Result<(), TensorReadError> {
        self.classes.collect()?;
        self.numbers.collect()?;
        self.loss.collect().map(drop)
    }

    /// The score of all batches collected; `None` when there are none.
    pub fn score(&self) -> Option<Score> {
        let (accuracy, mae, rmse) = (self.classes.accuracy(), self.numbers.mae(), self.numbers.rmse());
        self.loss.mean().map(|loss| Score { accuracy, loss, mae, rmse })
    }

    /// The rows of all batches collected.
    pub fn rows(&self) -> u64 {
        self.loss.sum().rows
    }

    /// What became of each class, in all batches collected.
    pub fn classes(&self) -> &ClassTally {
        &self.classes
    }
}

/// A count as a number that divides and is divided.
#[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
pub(crate) fn exact(count: u64) -> f64 {
    count as f64
}

/// The same for a number of things in memory.
pub(crate) fn exact_count(count: usize) -> f64 {
    u64::try_from(count).map_or(f64::INFINITY, exact)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::learn::testing::{golden, labels, numbers, tensor};
    use crate::loss::cross_entropy;

    #[test]
    fn a_mean_weighs_batches_by_their_rows() {
        let device = Device::flex();
        let mut loss = MeanLoss::default();
        let collect = |loss: &mut MeanLoss| {
            let collected = loss.collect().expect("the CPU does not fail");
            collected.map(|Collected { losses, mean }| (losses, mean))
        };
        assert_eq!((collect(&mut loss), loss.mean()), (None, None));
        loss.add(Tensor::from_data([1.0], &device), 3);
        loss.add(Tensor::from_data([5.0], &device), 1);
        assert_eq!((collect(&mut loss), loss.mean()), (Some((vec![1.0, 5.0], 2.0)), Some(2.0)));
        loss.add(Tensor::from_data([8.0], &device), 2);
        assert_eq!((collect(&mut loss), loss.mean()), (Some((vec![8.0], 8.0)), Some(4.0)));
    }

    #[test]
    fn a_mean_goes_on_where_it_was_left() {
        let mut loss = MeanLoss::resumed(LossSum { sum: 8.0, rows: 4 });
        loss.add(Tensor::from_data([8.0], &Device::flex()), 2);
        loss.collect().expect("the CPU does not fail");
        assert_eq!(loss.mean(), Some(4.0));
    }

    #[test]
    fn sums_stay_exact_where_an_f32_does_not() {
        let device = Device::flex();
        let mut loss = MeanLoss::default();
        // 2^24 + 1 is no f32.
        for rows in [1 << 24, 1] {
            loss.add(Tensor::from_data([1.0], &device), rows);
            loss.collect().expect("the CPU does not fail");
        }
        assert_eq!(loss.sum(), LossSum { sum: 16_777_217.0, rows: 16_777_217 });
    }

    #[test]
    fn accuracy_counts_rows_whose_largest_score_is_the_label() {
        let device = Device::flex();
        let mut test = Test::default();
        for (logits, labels) in [([[0.0, 1.0], [2.0, 1.0]], [1, 0]), ([[0.0, 1.0], [2.0, 1.0]], [1, 1])] {
            let (logits, labels) = (Tensor::from_data(logits, &device), Tensor::from_data(labels, &device));
            let loss = cross_entropy(logits.clone(), labels.clone());
            test.add(logits, Target::Classes(labels), loss);
        }
        test.collect().expect("the CPU does not fail");
        assert_eq!(test.score().and_then(|score| score.accuracy), Some(0.75));
        assert_eq!(Test::default().score(), None);
    }

    #[test]
    fn losses_come_back_in_order_and_when_they_are_collected_makes_no_difference() {
        let device = Device::flex();
        let batches = [(0.1, 3), (0.7, 64), (1e-7, 64), (123.456, 1)];
        let (mut often, mut once) = (MeanLoss::default(), MeanLoss::default());
        for (loss, rows) in batches {
            for mean in [&mut often, &mut once] {
                mean.add(Tensor::from_data([loss], &device), rows);
            }
            often.collect().expect("the CPU does not fail");
            often = MeanLoss::resumed(often.sum());
        }
        let collected = once.collect().expect("the CPU does not fail").expect("there are some");
        assert_eq!(collected.losses, batches.map(|(loss, _)| loss));
        assert_eq!(often.sum(), once.sum());
        assert_eq!(once.mean(), Some(collected.mean));
        let text = serde_json::to_string(&once.sum()).expect("it has a JSON form");
        assert_eq!(serde_json::from_str::<LossSum>(&text).expect("it was just written"), once.sum());
    }

    #[test]
    fn counts_and_scores_are_pytorchs() {
        let golden = golden("metrics");
        let (output, labels): (Tensor<2>, _) = (tensor(&golden["logits"], [40, 5]), labels(&golden["labels"]));
        let mut tally = ClassTally::default();
        for rows in [0..7, 7..24, 24..40] {
            tally.add(output.clone().slice([rows.clone(), 0..5]), labels.clone().slice([rows.clone()]));
            if rows.start == 7 {
                tally.collect().expect("the CPU does not fail");
            }
        }
        tally.collect().expect("the CPU does not fail");
        assert_eq!(tally.rows(), 40);
        assert_eq!(tally.accuracy(), golden["accuracy"].as_f64());
        let top: Vec<_> = (1..6).map(|k| tally.top(k).expect("there are rows")).collect();
        assert_eq!(top, numbers(&golden["top"]));
        let mut confusion = vec![vec![0; 5]; 5];
        for ((label, predicted), rows) in tally.confusion() {
            confusion[label][predicted] = rows;
        }
        assert_eq!(serde_json::json!(confusion), golden["confusion"]);
        let report = tally.report();
        let column = |pick: fn(&ClassScore) -> f64| report.classes.iter().map(pick).collect::<Vec<_>>();
        assert_eq!(column(|score| score.precision), numbers(&golden["precision"]));
        assert_eq!(column(|score| score.recall), numbers(&golden["recall"]));
        assert_eq!(column(|score| score.f1), numbers(&golden["f1"]));
        // Class 4 is nowhere: the mean is that of the other four.
        let mean = |name: &str| numbers(&golden[name]).iter().sum::<f64>() / 4.0;
        let ClassScore { precision, recall, f1, support } = report.macro_average;
        assert_eq!((precision, recall, f1, support), (mean("precision"), mean("recall"), mean("f1"), 40));

        let (output, target) = (tensor(&golden["outputs"], [7, 3]), tensor(&golden["targets"], [7, 3]));
        let mut test = Test::default();
        test.add(output, Target::Numbers(target), Tensor::from_data([0.5], &Device::flex()));
        test.collect().expect("the CPU does not fail");
        let score = test.score().expect("there is a batch");
        let near = |found: Option<f64>, name: &str| {
            let difference = found.expect("there are rows") - golden[name].as_f64().expect("a number");
            assert!(difference.abs() < 1e-6, "{name}: {difference}");
        };
        near(score.mae, "mae");
        near(score.rmse, "rmse");
        assert_eq!((score.accuracy, score.loss), (None, 0.5));
    }

    #[test]
    fn of_equal_scores_the_lower_class_comes_first_and_no_number_comes_last() {
        let device = Device::flex();
        let mut tally = ClassTally::default();
        let output = Tensor::from_data([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [0.0, f32::NAN, 1.0]], &device);
        tally.add(output, Tensor::from_data([0, 2, 1], &device));
        tally.collect().expect("the CPU does not fail");
        let top = [1, 2, 3].map(|k| tally.top(k).expect("there are rows"));
        assert_eq!(top, [1.0 / 3.0, 1.0 / 3.0, 1.0]);
        assert_eq!(ClassTally::default().top(1), None);
        assert_eq!(ClassTally::default().report().macro_average, ClassScore::default());
    }
}
