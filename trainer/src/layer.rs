//! The trait of a layer: a burn module that foretells the shapes it leaves, so that models can be put together at run
//! time.
//!
//! A layer of one's own is a burn module, an implementation of [`Layer`], and a name in a
//! [`Registry`](crate::registry::Registry):
//!
//! ```
//! use batchmill_trainer::layer::{AnyLayer, Layer, Misfit};
//! use batchmill_trainer::registry::Registry;
//! use batchmill_trainer::shape::{Activation, Extents};
//! use burn::module::{Module, Param};
//! use burn::tensor::Tensor;
//!
//! /// Every feature times a number of its own, which is learned.
//! #[derive(Module, Debug)]
//! struct Scale {
//!     weight: Param<Tensor<1>>,
//! }
//!
//! impl Layer for Scale {
//!     fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit> {
//!         let [features] = self.weight.lazy_shape().dims();
//!         if arrives.features() == Some(features) {
//!             return Ok(arrives.clone());
//!         }
//!         Err(Misfit::shape(format!("[batch, {features}]"), arrives, "put a layer of kind \"flatten\" before it"))
//!     }
//!
//!     fn forward(&self, x: Activation) -> Activation {
//!         let Activation::Flat(x) = x else { unreachable!("`leaves` refuses other ranks") };
//!         Activation::Flat(x * self.weight.val().unsqueeze())
//!     }
//!
//!     fn to_torch(&self) -> String {
//!         "Scale()".to_owned()
//!     }
//! }
//!
//! let registry = Registry::builtin().layer("scale", |section, _| {
//!     let initial = section.number("initial")?.unwrap_or(1.0);
//!     Ok(Box::new(move |arrives, device| {
//!         let features = arrives.features().unwrap_or(1);
//!         let weight = Tensor::<1>::full([features], initial, device);
//!         Ok(AnyLayer::new(Scale { weight: Param::from_tensor(weight) }))
//!     }))
//! });
//! # let text = "[[layer]]\nkind = 'flatten'\n[[layer]]\nkind = 'scale'\ninitial = 2";
//! # batchmill_trainer::config::ModelSpec::parse_with(text, &registry).expect("it is known");
//! ```

mod face;

use std::fmt;

use burn::module::{Content, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor};
use burn::tensor::Device;
use thiserror::Error;

use self::face::{Face, MapEach, VisitEach};
use crate::shape::{Activation, Extents};

/// The most weights of a layer: 16 GiB of them.
pub(crate) const WEIGHTS_MAX: usize = 1 << 32;

/// A layer with its parameters.
pub trait Layer: Module {
    /// Foretells the shape that leaves when `arrives` arrives.
    ///
    /// # Errors
    /// [`Misfit`] when it cannot take that shape.
    fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit>;

    /// Computes the layer. May panic over a shape that [`leaves`](Self::leaves) refuses.
    fn forward(&self, x: Activation) -> Activation;

    /// The layer as PyTorch prints it.
    fn to_torch(&self) -> String;

    /// Multiplications, each with its addition, for one sample of a shape that fits.
    fn multiply_adds(&self, _arrives: &Extents) -> u64 {
        0
    }

    /// Adds to `rows` what a summary has to say of it, under the name `path`: one row, or one for each layer inside.
    fn describe(&self, path: &str, arrives: &Extents, rows: &mut Vec<Row>) {
        let multiply_adds = self.multiply_adds(arrives);
        let leaves = self.leaves(arrives).unwrap_or_else(|_| arrives.clone());
        rows.push(Row { layer: path.to_owned(), kind: self.to_torch(), leaves, multiply_adds });
    }
}

/// One line of a summary's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name, such as `layer1.0.conv1`.
    pub layer: String,
    /// As PyTorch prints it.
    pub kind: String,
    /// The shape it hands on.
    pub leaves: Extents,
    /// Multiplications, each with its addition, for one sample.
    pub multiply_adds: u64,
}

/// Why a layer cannot take the shape that arrives.
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
    /// A layer inside it cannot.
    #[error("{0}")]
    Inside(Box<Misplaced>),
}

impl Misfit {
    /// A layer wants another shape; `remedy` says what to change.
    pub fn shape(wants: impl Into<String>, arrives: &Extents, remedy: impl Into<String>) -> Self {
        Self::Shape { wants: wants.into(), arrives: arrives.clone(), remedy: remedy.into() }
    }
}

/// Which layer of a row of layers does not fit, and why.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("layer {layer} ({kind}) {misfit}")]
pub struct Misplaced {
    /// Its name, such as `layer1.0.conv1`.
    pub layer: String,
    /// Its name in a model file.
    pub kind: String,
    /// What it wants and what arrives.
    pub misfit: Box<Misfit>,
}

impl Misplaced {
    /// Names the layer where a misfit was found; one inside another gets both names.
    pub(crate) fn new(layer: &str, kind: &str, misfit: Misfit) -> Self {
        match misfit {
            Misfit::Inside(inside) => {
                let Self { layer: inner, kind, misfit } = *inside;
                Self { layer: format!("{layer}.{inner}"), kind, misfit }
            }
            misfit => Self { layer: layer.to_owned(), kind: kind.to_owned(), misfit: Box::new(misfit) },
        }
    }
}

impl From<Misplaced> for Misfit {
    fn from(misplaced: Misplaced) -> Self {
        Self::Inside(Box::new(misplaced))
    }
}

/// Refuses a layer whose weights, `extents` of them in each direction, nobody can mean.
pub(crate) fn check_weights(extents: &[usize], arrives: &Extents) -> Result<(), Misfit> {
    let weights = extents.iter().try_fold(1_usize, |product, &extent| product.checked_mul(extent));
    match weights {
        Some(weights) if weights <= WEIGHTS_MAX => Ok(()),
        _ => Err(Misfit::TooLarge { arrives: arrives.clone() }),
    }
}

/// Any layer: what lets layers of all crates stand in one row.
///
/// Burn walks modules with generic visitors, which no trait object can take. This is a module all the same: behind it,
/// parameters travel one by one.
#[derive(Debug)]
pub struct AnyLayer(Box<dyn Face>);

impl AnyLayer {
    /// Takes a layer in.
    pub fn new(layer: impl Layer + 'static) -> Self {
        Self(Box::new(layer))
    }

    /// The layer that was taken in, when it is an `L`.
    pub fn downcast_ref<L: Layer + 'static>(&self) -> Option<&L> {
        self.0.as_any().downcast_ref()
    }

    /// The same, to be changed.
    pub fn downcast_mut<L: Layer + 'static>(&mut self) -> Option<&mut L> {
        self.0.as_any_mut().downcast_mut()
    }
}

impl Layer for AnyLayer {
    fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit> {
        self.0.leaves(arrives)
    }

    fn forward(&self, x: Activation) -> Activation {
        self.0.forward(x)
    }

    fn to_torch(&self) -> String {
        self.0.to_torch()
    }

    fn multiply_adds(&self, arrives: &Extents) -> u64 {
        self.0.multiply_adds(arrives)
    }

    fn describe(&self, path: &str, arrives: &Extents, rows: &mut Vec<Row>) {
        self.0.describe(path, arrives, rows);
    }
}

impl Clone for AnyLayer {
    fn clone(&self) -> Self {
        Self(self.0.clone_box())
    }
}

impl fmt::Display for AnyLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_torch())
    }
}

// Modules that hold a layer, and derive the rest, are printed by burn.
impl ModuleDisplayDefault for AnyLayer {
    fn content(&self, content: Content) -> Option<Content> {
        content.add_formatted(&self.0.to_torch()).optional()
    }
}

impl ModuleDisplay for AnyLayer {}

impl Module for AnyLayer {
    fn collect_devices(&self, devices: Vec<Device>) -> Vec<Device> {
        self.0.collect_devices(devices)
    }

    fn fork(self, device: &Device) -> Self {
        Self(self.0.fork(device))
    }

    fn to_device(self, device: &Device) -> Self {
        Self(self.0.to_device(device))
    }

    fn train(self) -> Self {
        Self(self.0.train())
    }

    fn valid(&self) -> Self {
        Self(self.0.valid())
    }

    fn materialize(self) -> Self {
        Self(self.0.materialize())
    }

    fn visit<Visitor: ModuleVisitor>(&self, visitor: &mut Visitor) {
        self.0.visit(&mut VisitEach(visitor));
    }

    fn map<Mapper: ModuleMapper>(self, mapper: &mut Mapper) -> Self {
        Self(self.0.map(&mut MapEach(mapper)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_of_too_many_weights_is_refused() {
        let arrives = Extents::Floats(vec![1 << 20]);
        assert!(check_weights(&[1 << 20, 1 << 20], &arrives).is_err());
        assert!(check_weights(&[usize::MAX, 2], &arrives).is_err());
        assert!(check_weights(&[784, 512], &arrives).is_ok());
    }
}
