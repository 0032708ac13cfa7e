//! Steps whose losses are still on the device: reading each at once would make the host wait for every step.

use std::mem;
use std::time::Duration;

use batchmill_protocol::position::Position;
use burn::tensor::{Tensor, TensorReadError};

use super::table::{Spent, StepRow};

/// A training step, as the host knows it.
#[derive(Debug)]
pub struct Step {
    /// The batch that was trained on.
    pub position: Position,
    /// Samples of its epoch trained on so far, this batch included.
    pub samples: u64,
    /// The learning rate.
    pub lr: f64,
    /// The norm of the gradient, where it is known. *Shape* `[1]`.
    pub grad_norm: Option<Tensor<1>>,
    /// Waiting for data since the training was started.
    pub waited: Duration,
}

/// Steps whose losses were not read yet.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// With losses of 0.
    rows: Vec<StepRow>,
    /// With the number of their row.
    norms: Vec<(usize, Tensor<1>)>,
}

impl Pending {
    pub(super) fn add(&mut self, step: Step, spent: Spent) {
        let Step { position, samples, lr, grad_norm, .. } = step;
        let plain = |tensor: Tensor<1>| tensor.detach().without_autodiff();
        self.norms.extend(grad_norm.map(|norm| (self.rows.len(), plain(norm))));
        let Spent { seconds, waited_s } = spent;
        self.rows.push(StepRow { position, samples, loss: 0.0, lr, grad_norm: None, seconds, waited_s });
    }

    /// What was added, with the losses that were read meanwhile, first to last.
    pub(super) fn collect(&mut self, losses: impl IntoIterator<Item = f32>) -> Result<Vec<StepRow>, TensorReadError> {
        let Self { mut rows, norms } = mem::take(self);
        let (places, norms): (Vec<usize>, Vec<Tensor<1>>) = norms.into_iter().unzip();
        for (place, norm) in places.into_iter().zip(read(norms)?) {
            rows[place].grad_norm = Some(norm);
        }
        let known = rows.into_iter().zip(losses);
        Ok(known.map(|(row, loss)| StepRow { loss, ..row }).collect())
    }
}

fn read(numbers: Vec<Tensor<1>>) -> Result<Vec<f32>, TensorReadError> {
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    Ok(Tensor::cat(numbers, 0).try_into_data()?.iter::<f32>().collect())
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn a_step_is_known_when_its_loss_is() {
        let device = Device::flex().autodiff();
        let mut pending = Pending::default();
        assert_eq!(pending.collect([]).expect("the CPU does not fail"), []);
        for (step, norm) in (0..).zip([None, Some(2.5_f32)]) {
            let grad_norm = norm.map(|norm| Tensor::from_data([norm], &device));
            let position = Position { epoch: 0, step };
            let step = Step { position, samples: 4, lr: 0.5, grad_norm, waited: Duration::ZERO };
            pending.add(step, Spent { seconds: 1.0, waited_s: 0.5 });
        }
        let rows = pending.collect([0.412_341, 1e-45]).expect("the CPU does not fail");
        let read: Vec<_> = rows.iter().map(|row| (row.position.step, row.loss.to_bits(), row.grad_norm)).collect();
        assert_eq!(read, [(0, 0.412_341_f32.to_bits(), None), (1, 1, Some(2.5))]);
        assert_eq!(pending.collect([]).expect("the CPU does not fail"), []);
    }
}
