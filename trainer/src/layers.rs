//! The layers a model file may name: one file each, listed here.
//!
//! A new layer is a file with a spec (`parse`, `build`), a variant in [`LayerSpec`] and [`Layer`], and a line in `KINDS`.

mod activation;
mod conv2d;
mod dropout;
mod flatten;
mod linear;
mod max_pool2d;

use std::fmt;

use burn::module::Module;
use burn::tensor::Device;
use thiserror::Error;

pub use self::activation::{Relu, Softmax};
pub use self::conv2d::Conv2dSpec;
pub use self::dropout::DropoutSpec;
pub use self::flatten::Flatten;
pub use self::linear::LinearSpec;
pub use self::max_pool2d::MaxPool2dSpec;
use crate::section::{Mistake, Section, remedy};
use crate::shape::{Activation, Extents};

/// The most features or channels of a layer.
const FEATURES_MAX: usize = 1 << 20;

/// The longest side of a kernel, and the longest stride.
const KERNEL_MAX: usize = 1 << 10;

/// The most weights of a layer: 16 GiB of them.
const WEIGHTS_MAX: usize = 1 << 32;

/// A layer as the file states it.
#[derive(Clone, Debug, PartialEq)]
pub enum LayerSpec {
    /// `flatten`.
    Flatten,
    /// `linear`.
    Linear(LinearSpec),
    /// `relu`.
    Relu,
    /// `softmax`.
    Softmax,
    /// `conv2d`.
    Conv2d(Conv2dSpec),
    /// `max-pool2d`.
    MaxPool2d(MaxPool2dSpec),
    /// `dropout`.
    Dropout(DropoutSpec),
}

type Parse = fn(&mut Section<'_>) -> Result<LayerSpec, Mistake>;

/// Every kind of layer, by the name it has in a file.
const KINDS: [(&str, Parse); 7] = [
    ("flatten", |_| Ok(LayerSpec::Flatten)),
    ("linear", |section| LinearSpec::parse(section).map(LayerSpec::Linear)),
    ("relu", |_| Ok(LayerSpec::Relu)),
    ("softmax", |_| Ok(LayerSpec::Softmax)),
    ("conv2d", |section| Conv2dSpec::parse(section).map(LayerSpec::Conv2d)),
    ("max-pool2d", |section| MaxPool2dSpec::parse(section).map(LayerSpec::MaxPool2d)),
    ("dropout", |section| DropoutSpec::parse(section).map(LayerSpec::Dropout)),
];

/// Why a layer cannot be made for the shape that arrives.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Misfit {
    /// It takes another.
    #[error("wants {wants}, but {arrives} arrives: {remedy}")]
    Shape {
        /// The shape it wants.
        wants: String,
        /// The shape that arrives.
        arrives: Extents,
        /// What to change.
        remedy: String,
    },
    /// Nobody can mean that many weights.
    #[error("would need more than {WEIGHTS_MAX} weights for {arrives}: make it, or what arrives, smaller")]
    TooLarge {
        /// The shape that arrives.
        arrives: Extents,
    },
}

impl LayerSpec {
    /// Takes the keys of one `[[layer]]`.
    pub(crate) fn parse(section: &mut Section<'_>) -> Result<Self, Mistake> {
        let kind = section.string("kind")?;
        let kind = section.required("kind", kind)?;
        let Some((_, parse)) = KINDS.iter().find(|(name, _)| *name == kind) else {
            let names = KINDS.map(|(name, _)| name);
            let remedy = remedy(kind, "be", &names);
            let line = section.mistake_at("kind", "").line;
            return Err(Mistake { line, what: format!("unknown kind of layer `{kind}`: {remedy}") });
        };
        section.rename(format!("{} ({kind})", section.name()));
        parse(section)
    }

    /// Its name in a file.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Flatten => "flatten",
            Self::Linear(_) => "linear",
            Self::Relu => "relu",
            Self::Softmax => "softmax",
            Self::Conv2d(_) => "conv2d",
            Self::MaxPool2d(_) => "max-pool2d",
            Self::Dropout(_) => "dropout",
        }
    }

    /// Makes the layer for the shape that arrives, and says what it hands on. Its parameters get their first values
    /// when they are first used.
    ///
    /// # Errors
    /// [`Misfit`] when it cannot take that shape.
    pub fn build(&self, arrives: Extents, device: &Device) -> Result<(Layer, Extents), Misfit> {
        match self {
            Self::Flatten => Ok((Layer::Flatten(Flatten), Flatten::leaves(arrives))),
            Self::Linear(spec) => spec.build(arrives, device).map(|(layer, leaves)| (Layer::Linear(layer), leaves)),
            Self::Relu => Ok((Layer::Relu(Relu), arrives)),
            Self::Softmax => Ok((Layer::Softmax(Softmax), arrives)),
            Self::Conv2d(spec) => spec.build(arrives, device).map(|(layer, leaves)| (Layer::Conv2d(layer), leaves)),
            Self::MaxPool2d(spec) => spec.build(arrives).map(|(layer, leaves)| (Layer::MaxPool2d(layer), leaves)),
            Self::Dropout(spec) => Ok((Layer::Dropout(spec.build()), arrives)),
        }
    }
}

/// A layer with its parameters.
#[derive(Module, Debug)]
pub enum Layer {
    /// Joins all but the batch dimension.
    Flatten(Flatten),
    /// `x W + b`.
    Linear(burn::nn::Linear),
    /// `max(x, 0)`.
    Relu(Relu),
    /// Numbers that sum to 1 over the features.
    Softmax(Softmax),
    /// A sliding window of weights.
    Conv2d(burn::nn::conv::Conv2d),
    /// The largest number of each window.
    MaxPool2d(burn::nn::pool::MaxPool2d),
    /// Zeroes at random while training.
    Dropout(burn::nn::Dropout),
}

impl Layer {
    /// Computes the layer.
    ///
    /// # Panics
    /// When the activation has another rank than the one the layer was built for.
    pub fn forward(&self, x: Activation) -> Activation {
        match (self, x) {
            (Self::Flatten(layer), x) => Activation::Flat(layer.forward(x)),
            (Self::Relu(layer), x) => layer.forward(x),
            (Self::Softmax(layer), x) => layer.forward(x),
            (Self::Dropout(layer), Activation::Flat(x)) => Activation::Flat(layer.forward(x)),
            (Self::Dropout(layer), Activation::Image(x)) => Activation::Image(layer.forward(x)),
            (Self::Linear(layer), Activation::Flat(x)) => Activation::Flat(layer.forward(x)),
            (Self::Conv2d(layer), Activation::Image(x)) => Activation::Image(layer.forward(x)),
            (Self::MaxPool2d(layer), Activation::Image(x)) => Activation::Image(layer.forward(x)),
            (layer, x) => unreachable!("{layer:?} was built for another rank than that of {x:?}"),
        }
    }

    /// Writes the layer as PyTorch prints it.
    pub(crate) fn write_torch(&self, f: &mut impl fmt::Write) -> fmt::Result {
        match self {
            Self::Flatten(_) => f.write_str("Flatten(start_dim=1, end_dim=-1)"),
            Self::Linear(layer) => linear::write_torch(layer, f),
            Self::Relu(_) => f.write_str("ReLU()"),
            Self::Softmax(_) => f.write_str("Softmax(dim=1)"),
            Self::Conv2d(layer) => conv2d::write_torch(layer, f),
            Self::MaxPool2d(layer) => max_pool2d::write_torch(layer, f),
            Self::Dropout(layer) => write!(f, "Dropout(p={}, inplace=False)", layer.prob),
        }
    }
}

/// Refuses a layer whose weights, `extents` of them in each direction, nobody can mean.
fn check_weights(extents: &[usize], arrives: Extents) -> Result<(), Misfit> {
    let weights = extents.iter().try_fold(1_usize, |product, &extent| product.checked_mul(extent));
    match weights {
        Some(weights) if weights <= WEIGHTS_MAX => Ok(()),
        _ => Err(Misfit::TooLarge { arrives }),
    }
}

/// A pair as PyTorch writes one number for both directions, or the two.
fn pair_or_one([height, width]: [usize; 2]) -> String {
    if height == width { height.to_string() } else { format!("({height}, {width})") }
}

/// The number of places where a window fits along one side, or `None` when it fits nowhere.
fn places(side: usize, kernel: usize, stride: usize, padding: usize) -> Option<usize> {
    Some((side + 2 * padding).checked_sub(kernel)? / stride + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_fits_as_often_as_in_pytorch() {
        assert_eq!(places(28, 3, 1, 1), Some(28));
        assert_eq!(places(28, 5, 1, 0), Some(24));
        assert_eq!(places(7, 2, 2, 0), Some(3));
        assert_eq!(places(2, 3, 1, 0), None);
    }

    #[test]
    fn a_layer_of_too_many_weights_is_refused() {
        let arrives = Extents::Flat { features: FEATURES_MAX };
        assert!(check_weights(&[FEATURES_MAX, FEATURES_MAX], arrives).is_err());
        assert!(check_weights(&[usize::MAX, 2], arrives).is_err());
        assert!(check_weights(&[784, 512], arrives).is_ok());
    }
}
