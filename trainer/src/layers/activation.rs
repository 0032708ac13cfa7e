//! `relu`, `softmax`: layers without parameters that keep the shape.

use burn::module::Module;
use burn::tensor::activation::{relu, softmax};

use crate::layer::{AnyLayer, Layer, Misfit};
use crate::registry::{Build, Registry};
use crate::section::{Mistake, Section};
use crate::shape::{Activation, Extents, map_floats};

/// Any real numbers, whose shape is kept.
pub(super) fn keep(arrives: &Extents) -> Result<Extents, Misfit> {
    match arrives {
        Extents::Floats(_) => Ok(arrives.clone()),
        Extents::Indices(_) => {
            Err(Misfit::shape("real numbers", arrives, "put a layer of kind \"embedding\" before it"))
        }
    }
}

pub(super) fn parse_relu(_: &mut Section<'_>, _: &Registry) -> Result<Build, Mistake> {
    Ok(Box::new(|_, _| Ok(AnyLayer::new(Relu))))
}

/// `max(x, 0)`.
#[derive(Module, Debug, Default)]
pub struct Relu;

impl Layer for Relu {
    fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit> {
        keep(arrives)
    }

    fn forward(&self, x: Activation) -> Activation {
        map_floats!(x, x => relu(x))
    }

    fn to_torch(&self) -> String {
        "ReLU()".to_owned()
    }
}

pub(super) fn parse_softmax(_: &mut Section<'_>, _: &Registry) -> Result<Build, Mistake> {
    Ok(Box::new(|_, _| Ok(AnyLayer::new(Softmax))))
}

/// Numbers that sum to 1 over dimension 1: features, or channels.
#[derive(Module, Debug, Default)]
pub struct Softmax;

impl Layer for Softmax {
    fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit> {
        keep(arrives)
    }

    fn forward(&self, x: Activation) -> Activation {
        map_floats!(x, x => softmax(x, 1))
    }

    fn to_torch(&self) -> String {
        "Softmax(dim=1)".to_owned()
    }
}
