//! `relu`, `softmax`: layers without parameters that keep the shape.

use burn::module::Module;
use burn::tensor::activation::{relu, softmax};

use crate::shape::Activation;

/// `max(x, 0)`.
#[derive(Module, Debug, Default)]
pub struct Relu;

impl Relu {
    /// Any shape, kept.
    pub fn forward(&self, x: Activation) -> Activation {
        match x {
            Activation::Flat(x) => Activation::Flat(relu(x)),
            Activation::Image(x) => Activation::Image(relu(x)),
        }
    }
}

/// Numbers that sum to 1 over dimension 1: features, or channels.
#[derive(Module, Debug, Default)]
pub struct Softmax;

impl Softmax {
    /// Any shape, kept.
    pub fn forward(&self, x: Activation) -> Activation {
        match x {
            Activation::Flat(x) => Activation::Flat(softmax(x, 1)),
            Activation::Image(x) => Activation::Image(softmax(x, 1)),
        }
    }
}
