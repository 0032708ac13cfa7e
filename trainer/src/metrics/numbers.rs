//! How far outputs are from numbers: the mean absolute error and the root of the mean squared one.

use std::mem;

use burn::tensor::{Tensor, TensorReadError};

use super::exact_count;

/// Sums of errors over all outputs of all rows.
#[derive(Debug, Default)]
pub struct NumberTally {
    /// Of each batch: the sums of absolute and of squared errors. *Shape* `[1]`.
    recent: Vec<[Tensor<1>; 2]>,
    recent_count: f64,
    absolute: f64,
    squared: f64,
    /// Numbers compared; exact below 2^53.
    count: f64,
}

impl NumberTally {
    /// Adds a batch. Does not wait for the device. *Shapes* both `[batch, outputs]`.
    pub fn add(&mut self, output: Tensor<2>, target: Tensor<2>) {
        let error = output - target;
        self.recent_count += exact_count(error.shape().num_elements());
        self.recent.push([error.clone().abs().sum(), error.square().sum()]);
    }

    /// Brings what was added since the last time to the host. Waits for the device.
    ///
    /// # Errors
    /// When the device fails.
    pub fn collect(&mut self) -> Result<(), TensorReadError> {
        let sums: Vec<_> = mem::take(&mut self.recent).into_iter().flatten().collect();
        if sums.is_empty() {
            return Ok(());
        }
        let sums: Vec<f32> = Tensor::cat(sums, 0).try_into_vec_as()?;
        for pair in sums.as_chunks::<2>().0 {
            self.absolute += f64::from(pair[0]);
            self.squared += f64::from(pair[1]);
        }
        self.count += mem::take(&mut self.recent_count);
        Ok(())
    }

    /// The mean absolute error; none before there is a row.
    pub fn mae(&self) -> Option<f64> {
        (self.count > 0.0).then(|| self.absolute / self.count)
    }

    /// The root of the mean squared error; none before there is a row.
    pub fn rmse(&self) -> Option<f64> {
        (self.count > 0.0).then(|| (self.squared / self.count).sqrt())
    }
}
