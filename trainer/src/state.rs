//! What a model has learned, under the names and in the layout that PyTorch gives it.

mod dict;
mod file;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Bool, Tensor, TensorReadError};
use serde::Serialize;

pub use self::dict::{Mismatch, Numbers, StateDict, StateTensor, Unlike};
pub use self::file::{StateError, from_bytes, to_bytes};
use crate::model::Sequential;

/// One tensor of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Parameter {
    /// PyTorch's name, such as `1.weight`.
    pub name: String,
    /// PyTorch's order: a linear layer's weight is `[outputs, inputs]`.
    pub shape: Vec<usize>,
    /// Numbers in it.
    pub count: usize,
    /// Whether it is learned; if not, it is a buffer, such as the running mean of a batch norm.
    pub trainable: bool,
    /// Whether burn holds it transposed: `[inputs, outputs]`.
    pub transposed: bool,
}

impl Parameter {
    /// The shape as burn holds it.
    pub fn burn_shape(&self) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if self.transposed {
            shape.reverse();
        }
        shape
    }
}

impl Sequential {
    /// Every tensor of the model, learned or not, in layer order: those of `state_dict()` in PyTorch but for
    /// `num_batches_tracked`.
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut collect = Collect::default();
        self.visit(&mut collect);
        collect.parameters
    }

    /// Every tensor that is learned, in layer order, as `named_parameters()` in PyTorch.
    pub fn named_parameters(&self) -> Vec<Parameter> {
        self.parameters().into_iter().filter(|parameter| parameter.trainable).collect()
    }

    /// The name of the first parameter that holds something else than finite numbers. Waits for the device.
    ///
    /// # Errors
    /// When the device fails.
    pub fn runaway(&self) -> Result<Option<String>, TensorReadError> {
        let mut finite = Finite { each: Vec::new() };
        self.visit(&mut finite);
        for (parameter, finite) in self.parameters().into_iter().zip(finite.each) {
            if !finite.try_into_scalar::<bool>()? {
                return Ok(Some(parameter.name));
            }
        }
        Ok(None)
    }
}

/// Where a visitor stands in a module: what makes PyTorch's name of a parameter out of burn's.
#[derive(Debug, Default)]
pub(crate) struct Path(Vec<(String, String)>);

impl Path {
    pub(crate) fn enter(&mut self, name: &str, container: &str) {
        self.0.push((name.to_owned(), container.to_owned()));
    }

    pub(crate) fn exit(&mut self) {
        self.0.pop();
    }

    /// The name of the parameter where it stands.
    pub(crate) fn name(&self) -> String {
        let words = self.0.iter().filter_map(|(name, container)| match (container.as_str(), name.as_str()) {
            // The variant of an enum, and the layers of a residual block: PyTorch has no such step.
            (container, _) if container.starts_with("Enum:") => None,
            ("Struct:Residual", "body") => None,
            ("Struct:BatchNorm" | "Struct:LayerNorm" | "Struct:GroupNorm", "gamma") => Some("weight"),
            ("Struct:BatchNorm" | "Struct:LayerNorm" | "Struct:GroupNorm", "beta") => Some("bias"),
            (_, name) => Some(name),
        });
        words.collect::<Vec<_>>().join(".")
    }

    /// Whether burn holds the parameter transposed.
    pub(crate) fn is_transposed(&self) -> bool {
        self.0.last().is_some_and(|(name, container)| container == "Struct:Linear" && name == "weight")
    }

    /// Whether it is not learned: burn shows it like a parameter.
    fn is_buffer(&self) -> bool {
        let buffers = ["running_mean", "running_var"];
        self.0
            .last()
            .is_some_and(|(name, container)| container == "Struct:BatchNorm" && buffers.contains(&name.as_str()))
    }
}

/// Walks a module and writes down its parameters.
#[derive(Default)]
struct Collect {
    path: Path,
    parameters: Vec<Parameter>,
}

impl ModuleVisitor for Collect {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let shape = param.lazy_shape();
        let transposed = self.path.is_transposed();
        let count = shape.num_elements();
        let mut shape = shape.as_slice().to_vec();
        if transposed {
            shape.reverse();
        }
        let trainable = !self.path.is_buffer();
        self.parameters.push(Parameter { name: self.path.name(), shape, count, trainable, transposed });
    }
}

/// Walks a module and asks of each parameter, in the order of [`Collect`], whether all its numbers are finite.
struct Finite {
    each: Vec<Tensor<1, Bool>>,
}

impl ModuleVisitor for Finite {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.each.push(param.val().is_finite().all());
    }
}
