//! `flatten`: an image becomes a row of numbers, channel by channel.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::shape::{Activation, Extents};

/// Joins all but the batch dimension.
#[derive(Module, Debug, Default)]
pub struct Flatten;

impl Flatten {
    pub(super) fn leaves(arrives: Extents) -> Extents {
        match arrives {
            Extents::Flat { features } => Extents::Flat { features },
            Extents::Image { channels, height, width } => Extents::Flat { features: channels * height * width },
        }
    }

    /// *Shapes* `[batch, ...]` to `[batch, features]`, in PyTorch's order: channel, row, column.
    pub fn forward(&self, x: Activation) -> Tensor<2> {
        match x {
            Activation::Flat(x) => x,
            Activation::Image(x) => x.flatten(1, 3),
        }
    }
}
