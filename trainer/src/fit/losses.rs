//! The losses of an epoch, step by step: they wait on the device, are read in order, and are summed exactly.

use std::mem;

use batchmill_protocol::position::Position;
use burn::tensor::{Tensor, TensorReadError};

use crate::checkpoint::Metrics;
use crate::metrics::{Collected, MeanLoss, Score};

/// The loss of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct StepLoss {
    /// The batch.
    pub(super) position: Position,
    /// Its rows that were trained on.
    pub(super) rows: u32,
    /// Their mean loss.
    pub(super) loss: f32,
}

/// The losses of the epoch under way.
///
/// Each is read for itself and added in order, as f64: so the sum does not depend on how often it was read, and a
/// training that was interrupted has that of one that was not.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Steps whose loss is still on the device, and their rows.
    unread: Vec<(Position, u32)>,
    mean: MeanLoss,
    rows: u64,
}

impl Losses {
    /// Those of an epoch that a checkpoint found under way.
    pub(super) fn resumed(metrics: &Metrics) -> Self {
        Self { unread: Vec::new(), mean: MeanLoss::resumed(metrics.train), rows: metrics.train.rows }
    }

    /// Adds the mean loss of a step's `rows` rows.
    pub(super) fn add(&mut self, position: Position, rows: u32, loss: Tensor<1>) {
        self.unread.push((position, rows));
        self.mean.add(loss, usize::try_from(rows).expect("a batch fits into memory"));
        self.rows += u64::from(rows);
    }

    /// Brings the losses added since the last time to the host, first to last. Waits for the device.
    ///
    /// # Errors
    /// When the device fails.
    pub(super) fn read(&mut self) -> Result<Vec<StepLoss>, TensorReadError> {
        let unread = mem::take(&mut self.unread);
        let Some(Collected { losses, .. }) = self.mean.collect()? else { return Ok(Vec::new()) };
        let step = |((position, rows), loss)| StepLoss { position, rows, loss };
        Ok(unread.into_iter().zip(losses).map(step).collect())
    }

    /// Rows trained on so far.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// How well the model does so far, with what a test found.
    ///
    /// # Panics
    /// When a loss has not been read: nobody knows whether it is a number.
    pub(super) fn metrics(&self, test: Option<Score>) -> Metrics {
        assert!(self.unread.is_empty(), "every loss is looked at before a model is kept");
        Metrics { train: self.mean.sum(), test }
    }
}

/// The mean loss of a row of `steps`; none when there are none.
pub(super) fn mean(steps: &[StepLoss]) -> Option<f64> {
    let rows: f64 = steps.iter().map(|step| f64::from(step.rows)).sum();
    let sum: f64 = steps.iter().map(|step| f64::from(step.loss) * f64::from(step.rows)).sum();
    (rows > 0.0).then(|| sum / rows)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// Adds losses that no f32 sum holds, from step `from` to `until`, and reads them each so many steps.
    fn go_on(losses: &mut Losses, from: u16, until: u16, reading: u16) {
        for step in from..until {
            let loss = 1.0 + f32::from(step * 37 % 101) * 1e-7;
            let position = Position { epoch: 0, step: step.into() };
            losses.add(position, 3, Tensor::from_data([loss], &Device::flex()));
            if (step + 1) % reading == 0 || step + 1 == until {
                let read = losses.read().expect("the CPU does not fail");
                assert_eq!(read.last().map(|step| (step.position, step.loss)), Some((position, loss)));
            }
        }
    }

    #[test]
    fn the_sum_is_the_same_however_often_it_is_read_or_interrupted() {
        let (mut whole, mut often, mut first) = (Losses::default(), Losses::default(), Losses::default());
        go_on(&mut whole, 0, 200, 100);
        go_on(&mut often, 0, 200, 1);
        go_on(&mut first, 0, 77, 100);
        let json = serde_json::to_string(&first.metrics(None)).expect("it has a JSON form");
        let mut parts = Losses::resumed(&serde_json::from_str(&json).expect("its own"));
        go_on(&mut parts, 77, 200, 100);
        let sum = whole.metrics(None);
        assert_eq!((often.metrics(None), parts.metrics(None)), (sum.clone(), sum.clone()));
        assert_eq!((sum.train.rows, whole.rows()), (600, 600));
    }

    #[test]
    fn a_mean_weighs_steps_by_their_rows() {
        let step = |rows, loss| StepLoss { position: Position::default(), rows, loss };
        assert_eq!(mean(&[step(3, 1.0), step(1, 5.0)]), Some(2.0));
        assert_eq!(mean(&[]), None);
    }

    #[test]
    fn nothing_is_kept_of_a_model_whose_losses_were_not_read() {
        let mut losses = Losses::default();
        losses.add(Position::default(), 1, Tensor::from_data([1.0], &Device::flex()));
        let kept = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| losses.metrics(None)));
        assert!(kept.is_err());
    }
}
