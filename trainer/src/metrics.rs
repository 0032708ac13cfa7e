//! How well a model does: sums that stay on the device until they are asked for.

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
#[derive(Debug, Default)]
pub struct MeanLoss {
    /// *Shape* `[1]`.
    sum: Option<Tensor<1>>,
    rows: usize,
}

impl MeanLoss {
    /// Adds the mean loss of `rows` rows. *Shape* of `loss` `[1]`.
    pub fn add(&mut self, loss: Tensor<1>, rows: usize) {
        let loss = loss.detach().without_autodiff() * scalar(rows);
        self.sum = Some(match self.sum.take() {
            Some(sum) => sum + loss,
            None => loss,
        });
        self.rows += rows;
    }

    /// The mean of all rows so far; `NaN` when there are none. Waits for the device.
    ///
    /// # Errors
    /// When the device fails.
    pub fn read(&self) -> Result<f64, TensorReadError> {
        mean(self.sum.clone(), self.rows)
    }
}

/// A test under way.
#[derive(Debug, Default)]
pub struct Test {
    loss: MeanLoss,
    /// *Shape* `[1]`.
    correct: Option<Tensor<1>>,
}

impl Test {
    /// Adds a batch. *Shapes* logits `[batch, classes]`, labels `[batch]`, loss `[1]`.
    pub fn add(&mut self, logits: Tensor<2>, labels: Tensor<1, Int>, loss: Tensor<1>) {
        let rows = labels.dims()[0];
        let correct = logits.argmax(1).squeeze_dim::<1>(1).equal(labels).float().sum();
        self.correct = Some(match self.correct.take() {
            Some(sum) => sum + correct,
            None => correct,
        });
        self.loss.add(loss, rows);
    }

    /// The score of all batches. Waits for the device.
    ///
    /// # Errors
    /// When the device fails.
    pub fn read(&self) -> Result<Score, TensorReadError> {
        Ok(Score { accuracy: mean(self.correct.clone(), self.loss.rows)?, loss: self.loss.read()? })
    }
}

fn mean(sum: Option<Tensor<1>>, rows: usize) -> Result<f64, TensorReadError> {
    let sum = sum.map_or(Ok(f32::NAN), Tensor::try_into_scalar)?;
    Ok(f64::from(sum) / scalar(rows))
}

/// Rows as a number to compute with; exact below 2^32.
fn scalar(rows: usize) -> f64 {
    u32::try_from(rows).map_or(f64::INFINITY, f64::from)
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
        assert!(loss.read().expect("the CPU does not fail").is_nan());
        loss.add(Tensor::from_data([1.0], &device), 3);
        loss.add(Tensor::from_data([5.0], &device), 1);
        assert_eq!(loss.read().expect("the CPU does not fail"), 2.0);
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
        assert_eq!(test.read().expect("the CPU does not fail").accuracy, 0.75);
    }
}
