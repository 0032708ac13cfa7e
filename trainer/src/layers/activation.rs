//! `relu` and its like: layers without parameters that change each number by itself.

use burn::module::Module;
use burn::tensor::activation::{gelu, gelu_approximate, leaky_relu, relu, sigmoid, silu, tanh};

use super::python_float;
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

/// No keys.
pub(super) fn parse<L: Layer + Default + 'static>(_: &mut Section<'_>, _: &Registry) -> Result<Build, Mistake> {
    Ok(Box::new(|_, _| Ok(AnyLayer::new(L::default()))))
}

/// `negative_slope` (0.01).
pub(super) fn parse_leaky_relu(section: &mut Section<'_>, _: &Registry) -> Result<Build, Mistake> {
    let negative_slope = section.number("negative_slope")?.unwrap_or(0.01);
    Ok(Box::new(move |_, _| Ok(AnyLayer::new(LeakyRelu { negative_slope }))))
}

/// `approximate` ("none", or "tanh").
pub(super) fn parse_gelu(section: &mut Section<'_>, _: &Registry) -> Result<Build, Mistake> {
    let tanh = match section.string("approximate")? {
        None | Some("none") => false,
        Some("tanh") => true,
        Some(other) => {
            let what = format!("is {other:?}: it must be \"none\" or \"tanh\"");
            return Err(section.mistake_at("approximate", &what));
        }
    };
    Ok(Box::new(move |_, _| Ok(AnyLayer::new(Gelu { tanh }))))
}

/// A layer that keeps shapes: what it makes of a tensor of any rank, and how PyTorch prints it.
macro_rules! elementwise {
    ($kind:ty, $layer:ident, $x:ident => $mapped:expr, $torch:expr) => {
        impl Layer for $kind {
            fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit> {
                keep(arrives)
            }

            fn forward(&self, x: Activation) -> Activation {
                let $layer = self;
                map_floats!(x, $x => $mapped)
            }

            fn to_torch(&self) -> String {
                let $layer = self;
                $torch
            }
        }
    };
}

/// `max(x, 0)`.
#[derive(Module, Debug, Default)]
pub struct Relu;
elementwise!(Relu, _layer, x => relu(x), "ReLU()".to_owned());

/// `x` above 0, `negative_slope * x` below.
#[derive(Module, Debug)]
pub struct LeakyRelu {
    /// What numbers below 0 are multiplied with.
    pub negative_slope: f64,
}
elementwise!(
    LeakyRelu, layer, x => leaky_relu(x, layer.negative_slope),
    format!("LeakyReLU(negative_slope={})", python_float(layer.negative_slope))
);

/// `x` times the share of a normal distribution that lies below `x`.
#[derive(Module, Debug, Default)]
pub struct Gelu {
    /// Whether that share is approximated with a hyperbolic tangent.
    pub tanh: bool,
}
elementwise!(
    Gelu, layer, x => if layer.tanh { gelu_approximate(x) } else { gelu(x) },
    format!("GELU(approximate='{}')", if layer.tanh { "tanh" } else { "none" })
);

/// `x * sigmoid(x)`.
#[derive(Module, Debug, Default)]
pub struct Silu;
elementwise!(Silu, _layer, x => silu(x), "SiLU()".to_owned());

/// `1 / (1 + exp(-x))`.
#[derive(Module, Debug, Default)]
pub struct Sigmoid;
elementwise!(Sigmoid, _layer, x => sigmoid(x), "Sigmoid()".to_owned());

/// The hyperbolic tangent.
#[derive(Module, Debug, Default)]
pub struct Tanh;
elementwise!(Tanh, _layer, x => tanh(x), "Tanh()".to_owned());

/// What arrives.
#[derive(Module, Debug, Default)]
pub struct Identity;
elementwise!(Identity, _layer, x => x, "Identity()".to_owned());
