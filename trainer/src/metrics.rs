//! How well a model does: sums that grow on the device and are collected on the host now and then.

use std::mem;
use std::ops::Add;

use burn::tensor::{Int, Tensor, TensorReadError};
use serde::{Deserialize, Serialize};

/// What a test found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// The share of samples whose largest score is their label's, 0 to 1.
    pub accuracy: f64,
    /// The mean loss of a sample.
    pub loss: f64,
}

/// A mean of losses over rows.
///
/// A sum of `f32` grows coarse as it grows; so the device keeps only that of the rows since the last `collect`.
#[derive(Debug, Default)]
pub struct MeanLoss {
    /// *Shape* `[1]`.
    recent: Option<Tensor<1>>,
    recent_rows: f64,
    /// Of all rows collected.
    loss: f64,
    /// All rows collected; exact below 2^53.
    rows: f64,
}

impl MeanLoss {
    /// A mean under way: `mean` of `rows` rows already.
    pub fn resumed(mean: f64, rows: u64) -> Self {
        let rows = exact(rows);
        Self { loss: mean * rows, rows, ..Self::default() }
    }

    /// Adds the mean loss of `rows` rows. *Shape* of `loss` `[1]`.
    pub fn add(&mut self, loss: Tensor<1>, rows: usize) {
        let rows = u32::try_from(rows).map(f64::from).expect("a batch has fewer than 2^32 rows");
        self.recent = Some(sum(self.recent.take(), loss.detach().without_autodiff() * rows));
        self.recent_rows += rows;
    }

    /// Brings what was added since the last time to the host, and gives the mean of those rows; `None` when there are
    /// none. Waits for the device.
    ///
    /// # Errors
    /// When the device fails.
    pub fn collect(&mut self) -> Result<Option<f64>, TensorReadError> {
        let Some(recent) = self.recent.take() else { return Ok(None) };
        let loss = f64::from(recent.try_into_scalar::<f32>()?);
        let rows = mem::take(&mut self.recent_rows);
        self.loss += loss;
        self.rows += rows;
        Ok(Some(loss / rows))
    }

    /// The mean of all rows collected; `None` when there are none.
    pub fn mean(&self) -> Option<f64> {
        (self.rows > 0.0).then(|| self.loss / self.rows)
    }
}

/// A test under way.
#[derive(Debug, Default)]
pub struct Test {
    loss: MeanLoss,
    /// *Shape* `[1]`.
    recent: Option<Tensor<1, Int>>,
    /// Of all rows collected; exact below 2^53.
    correct: f64,
}

impl Test {
    /// Adds a batch. *Shapes* logits `[batch, classes]`, labels `[batch]`, loss `[1]`.
    pub fn add(&mut self, logits: Tensor<2>, labels: Tensor<1, Int>, loss: Tensor<1>) {
        let rows = labels.dims()[0];
        let correct = logits.argmax(1).squeeze_dim::<1>(1).equal(labels).int().sum();
        self.recent = Some(sum(self.recent.take(), correct));
        self.loss.add(loss, rows);
    }

    /// Brings what was added since the last time to the host. Waits for the device.
    ///
    /// # Errors
    /// When the device fails.
    pub fn collect(&mut self) -> Result<(), TensorReadError> {
        let correct = self.recent.take().map_or(Ok(0), Tensor::try_into_scalar::<i32>)?;
        self.correct += f64::from(correct);
        self.loss.collect().map(drop)
    }

    /// The score of all batches collected; `None` when there are none.
    pub fn score(&self) -> Option<Score> {
        self.loss.mean().map(|loss| Score { accuracy: self.correct / self.loss.rows, loss })
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
fn exact(rows: u64) -> f64 {
    rows as f64
}

fn sum<T: Add<Output = T>>(so_far: Option<T>, more: T) -> T {
    match so_far {
        Some(sum) => sum + more,
        None => more,
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::loss::cross_entropy;

    #[test]
    fn a_mean_weighs_batches_by_their_rows() {
        let device = Device::flex();
        let mut loss = MeanLoss::default();
        let collect = |loss: &mut MeanLoss| loss.collect().expect("the CPU does not fail");
        assert_eq!((collect(&mut loss), loss.mean()), (None, None));
        loss.add(Tensor::from_data([1.0], &device), 3);
        loss.add(Tensor::from_data([5.0], &device), 1);
        assert_eq!((collect(&mut loss), loss.mean()), (Some(2.0), Some(2.0)));
        loss.add(Tensor::from_data([8.0], &device), 2);
        assert_eq!((collect(&mut loss), loss.mean()), (Some(8.0), Some(4.0)));
    }

    #[test]
    fn a_mean_goes_on_where_it_was_left() {
        let mut loss = MeanLoss::resumed(2.0, 4);
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
        assert_eq!((loss.loss, loss.rows), (16_777_217.0, 16_777_217.0));
    }

    #[test]
    fn accuracy_counts_rows_whose_largest_score_is_the_label() {
        let device = Device::flex();
        let mut test = Test::default();
        for (logits, labels) in [([[0.0, 1.0], [2.0, 1.0]], [1, 0]), ([[0.0, 1.0], [2.0, 1.0]], [1, 1])] {
            let (logits, labels) = (Tensor::from_data(logits, &device), Tensor::from_data(labels, &device));
            let loss = cross_entropy(logits.clone(), labels.clone());
            test.add(logits, labels, loss);
        }
        test.collect().expect("the CPU does not fail");
        assert_eq!(test.score().map(|score| score.accuracy), Some(0.75));
        assert_eq!(Test::default().score(), None);
    }
}
