//! `softmax`, `log-softmax`: numbers along one dimension become shares of 1, or their logarithms.

use burn::module::Module;
use burn::tensor::activation::{log_softmax, softmax};

use crate::layer::{AnyLayer, Layer, Misfit};
use crate::registry::{Build, Registry};
use crate::section::{Mistake, Section};
use crate::shape::{Activation, Extents, map_floats};

/// `dim` (1: features, or channels; -1: the last).
pub(super) fn parse_softmax(section: &mut Section<'_>, _: &Registry) -> Result<Build, Mistake> {
    let dim = parse_dim(section)?;
    Ok(Box::new(move |_, _| Ok(AnyLayer::new(Softmax { dim }))))
}

/// `dim`, as that of `softmax`.
pub(super) fn parse_log_softmax(section: &mut Section<'_>, _: &Registry) -> Result<Build, Mistake> {
    let dim = parse_dim(section)?;
    Ok(Box::new(move |_, _| Ok(AnyLayer::new(LogSoftmax { dim }))))
}

fn parse_dim(section: &mut Section<'_>) -> Result<i32, Mistake> {
    let dim = section.number("dim")?.unwrap_or(1.0);
    let found = [-1, 1, 2, 3].into_iter().find(|&number| f64::from(number) == dim);
    found.ok_or_else(|| section.mistake_at("dim", &format!("is {dim}: it must be 1, 2, 3, or -1 for the last")))
}

/// Keeps the shape of what has such a dimension.
fn leaves(dim: i32, arrives: &Extents) -> Result<Extents, Misfit> {
    if usize::try_from(dim).is_ok_and(|dim| dim > arrives.as_slice().len()) {
        return Err(Misfit::shape(format!("a dimension {dim}"), arrives, "set dim = 1, or -1 for the last"));
    }
    super::activation::keep(arrives)
}

/// Exponentials that sum to 1 along a dimension.
#[derive(Module, Debug)]
pub struct Softmax {
    /// The dimension, counted with the batch as 0, or -1 for the last.
    pub dim: i32,
}

impl Layer for Softmax {
    fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit> {
        leaves(self.dim, arrives)
    }

    fn forward(&self, x: Activation) -> Activation {
        map_floats!(x, x => softmax(x, self.dim))
    }

    fn to_torch(&self) -> String {
        format!("Softmax(dim={})", self.dim)
    }
}

/// Logarithms of [`Softmax`].
#[derive(Module, Debug)]
pub struct LogSoftmax {
    /// The dimension, counted with the batch as 0, or -1 for the last.
    pub dim: i32,
}

impl Layer for LogSoftmax {
    fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit> {
        leaves(self.dim, arrives)
    }

    fn forward(&self, x: Activation) -> Activation {
        map_floats!(x, x => log_softmax(x, self.dim))
    }

    fn to_torch(&self) -> String {
        format!("LogSoftmax(dim={})", self.dim)
    }
}
