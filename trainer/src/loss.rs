//! How wrong a model is.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};

/// What a model should have answered.
#[derive(Clone, Debug)]
pub enum Target {
    /// *Shape* `[batch]`.
    Classes(Tensor<1, Int>),
    /// *Shape* `[batch, outputs]`.
    Numbers(Tensor<2>),
}

/// The mean over the batch of `-log softmax(logits)[label]`, as `torch.nn.CrossEntropyLoss`.
///
/// *Shapes* logits `[batch, classes]`, labels `[batch]`, result `[1]`.
pub fn cross_entropy(logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
    let picked = log_softmax(logits, 1).gather(1, labels.unsqueeze_dim(1));
    picked.mean().neg()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn cross_entropy_is_pytorchs() {
        let device = Device::flex();
        let logits = Tensor::from_data([[1.0, 2.0, 0.5], [0.1, -1.0, 3.0]], &device);
        let labels = Tensor::from_data([1, 0], &device);
        let loss: f32 = cross_entropy(logits, labels).into_scalar();
        // log(e^1 + e^2 + e^0.5) - 2 = 0.46436; log(e^0.1 + e^-1 + e^3) - 0.1 = 2.97078; mean 1.71757.
        assert!((loss - 1.717_57).abs() < 1e-4, "{loss}");
    }
}
