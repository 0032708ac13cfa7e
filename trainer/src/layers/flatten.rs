//! `flatten`: an image becomes a row of numbers, channel by channel.

use burn::module::Module;

use crate::layer::{Layer, Misfit};
use crate::shape::{Activation, Extents};

/// Joins all but the batch dimension, in PyTorch's order: channel, row, column.
#[derive(Module, Debug, Default)]
pub struct Flatten;

impl Layer for Flatten {
    fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit> {
        super::activation::keep(arrives).map(|arrives| Extents::Floats(vec![arrives.numbers()]))
    }

    fn forward(&self, x: Activation) -> Activation {
        Activation::Flat(match x {
            Activation::Flat(x) => x,
            Activation::Sequence(x) => x.flatten(1, 2),
            Activation::Image(x) => x.flatten(1, 3),
            Activation::Indices(_) => unreachable!("`leaves` refuses whole numbers"),
        })
    }

    fn to_torch(&self) -> String {
        "Flatten(start_dim=1, end_dim=-1)".to_owned()
    }
}
