//! A state dict: tensors by PyTorch's names, taken out of a model or put into one, all of them or none.

use std::collections::BTreeMap;
use std::fmt;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{ExecutionError, Tensor, TensorData, TensorReadError};
use safetensors::Dtype;
use thiserror::Error;

use super::Parameter;
use crate::model::Sequential;

/// What PyTorch's wrappers put before every name: `DataParallel` and `DistributedDataParallel`, `torch.compile`.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];

/// How many names of a kind a sentence tells.
const TOLD_MAX: usize = 3;

/// The side of the square pieces in which a matrix is transposed: rows of both matrices then stay in the cache.
const PIECE: usize = 16;

/// Tensors by name, with PyTorch's names and in PyTorch's layout: the weight of a linear layer is `[outputs, inputs]`.
///
/// *Order* by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateDict(BTreeMap<String, StateTensor>);

/// One tensor of a state dict.
#[derive(Clone, Debug, PartialEq)]
pub struct StateTensor {
    /// PyTorch's; empty for one number without a dimension.
    pub shape: Vec<usize>,
    /// Its numbers, row-major.
    pub numbers: Numbers,
}

/// The numbers of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// Of any floating-point type in the file.
    Floats(Vec<f32>),
    /// Of another type. They are not kept: a model has none.
    Others(Dtype),
}

impl StateDict {
    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&StateTensor> {
        self.0.get(name)
    }

    /// Every tensor, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &StateTensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What all names begin with, though none of `parameters` does.
    fn wrapper(&self, parameters: &[Parameter]) -> String {
        let wraps = |prefix: &str| {
            self.0.keys().all(|name| name.starts_with(prefix))
                && !parameters.iter().any(|parameter| parameter.name.starts_with(prefix))
        };
        let mut prefix = String::new();
        while let (false, Some(wrapper)) =
            (self.is_empty(), WRAPPERS.iter().find(|wrapper| wraps(&format!("{prefix}{wrapper}"))))
        {
            prefix.push_str(wrapper);
        }
        prefix
    }

    /// Whether `name` is the count that PyTorch keeps beside the running statistics of a batch norm. It serves only a
    /// momentum of `None`, which burn has not; PyTorch takes state dicts without it.
    fn is_count(&self, name: &str) -> bool {
        let norm = name.strip_suffix("num_batches_tracked");
        norm.is_some_and(|norm| self.0.contains_key(&format!("{norm}running_mean")))
    }
}

impl FromIterator<(String, StateTensor)> for StateDict {
    fn from_iter<I: IntoIterator<Item = (String, StateTensor)>>(tensors: I) -> Self {
        Self(tensors.into_iter().collect())
    }
}

/// How a state dict and a model differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Error)]
pub struct Mismatch {
    /// Tensors that the model has and the state dict has not.
    pub missing: Vec<String>,
    /// Tensors that the state dict has and the model has not.
    pub unexpected: Vec<String>,
    /// Tensors of another shape, or of whole numbers.
    pub unlike: Vec<Unlike>,
}

/// A tensor that is another in a state dict than in a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlike {
    /// Its name in the model.
    pub name: String,
    /// Its shape, or else its type, in the state dict.
    pub found: String,
    /// What the model has.
    pub wanted: String,
}

impl Mismatch {
    /// Whether they do not differ.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.unlike.is_empty()
    }
}

impl fmt::Display for Mismatch {
    /// Tells the first few of each kind: ``missing `fc.bias`; unexpected `a`, `b`, `c` and 4 more``.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |name: &String| format!("`{name}`");
        let unlike = |Unlike { name, found, wanted }: &Unlike| format!("`{name}` is {found} instead of {wanted}");
        let kinds: [(&str, Vec<String>); 3] = [
            ("missing ", self.missing.iter().map(quoted).collect()),
            ("unexpected ", self.unexpected.iter().map(quoted).collect()),
            ("", self.unlike.iter().map(unlike).collect()),
        ];
        let told = kinds.iter().filter(|(_, each)| !each.is_empty()).map(|(what, each)| {
            let first = each[..each.len().min(TOLD_MAX)].join(", ");
            match each.len().saturating_sub(TOLD_MAX) {
                0 => format!("{what}{first}"),
                more => format!("{what}{first} and {more} more"),
            }
        });
        f.write_str(&told.collect::<Vec<_>>().join("; "))
    }
}

/// What a state dict has for a parameter, when it fits.
type Found<'a> = Option<(&'a StateTensor, Parameter)>;

impl Sequential {
    /// Every tensor of the model, learned or not, as `state_dict()` of the same PyTorch module gives them, but for
    /// `num_batches_tracked`. Waits for the device.
    ///
    /// # Errors
    /// When the device fails.
    pub fn state_dict(&self) -> Result<StateDict, TensorReadError> {
        // Burn's own `RunningState`, in layers of other crates, is up to date only in a model that does not learn.
        let model = self.valid();
        let mut read = Read { each: Vec::new() };
        model.visit(&mut read);
        let tensor = |(parameter, data): (Parameter, Result<TensorData, ExecutionError>)| {
            let data = data?.try_cast_as::<f32>()?;
            let numbers = data.as_slice::<f32>()?;
            let numbers = match *parameter.burn_shape() {
                [_, columns] if parameter.transposed => transposed(numbers, columns),
                _ => numbers.to_vec(),
            };
            Ok((parameter.name, StateTensor { shape: parameter.shape, numbers: Numbers::Floats(numbers) }))
        };
        model.parameters().into_iter().zip(read.each).map(tensor).collect()
    }

    /// Takes every tensor from `state`, as PyTorch's `load_state_dict(strict=True)`: names and shapes have to be those of
    /// the model, or nothing is taken.
    ///
    /// What is learned stays so, on its device, and is not drawn before. All names may begin with `module.` or
    /// `_orig_mod.`, which PyTorch's wrappers leave in files. Clones of the model keep what they have.
    ///
    /// # Errors
    /// [`Mismatch`], all of it.
    pub fn load_state_dict(&mut self, state: &StateDict) -> Result<(), Mismatch> {
        let (found, mismatch) = self.compare(state);
        if !mismatch.is_empty() {
            return Err(mismatch);
        }
        self.put(found);
        Ok(())
    }

    /// As [`load_state_dict`](Self::load_state_dict), but leaves what does not fit as it is, and says what that was.
    ///
    /// # Errors
    /// [`Mismatch`] when nothing fits.
    pub fn load_what_fits(&mut self, state: &StateDict) -> Result<Mismatch, Mismatch> {
        let (found, mismatch) = self.compare(state);
        if found.iter().all(Option::is_none) {
            return Err(mismatch);
        }
        self.put(found);
        Ok(mismatch)
    }

    /// What `state` has for each parameter, and what does not fit.
    fn compare<'a>(&self, state: &'a StateDict) -> (Vec<Found<'a>>, Mismatch) {
        let parameters = self.parameters();
        let wrapper = state.wrapper(&parameters);
        let names = state.iter().map(|(name, _)| name).filter(|name| !state.is_count(name));
        let names = names.map(|name| &name[wrapper.len()..]);
        let unexpected = names.filter(|name| parameters.iter().all(|parameter| parameter.name != *name));
        let mut mismatch = Mismatch { unexpected: unexpected.map(str::to_owned).collect(), ..Mismatch::default() };
        let find = |parameter: Parameter| {
            let Some(tensor) = state.get(&format!("{wrapper}{}", parameter.name)) else {
                mismatch.missing.push(parameter.name);
                return None;
            };
            let (found, wanted) = match &tensor.numbers {
                Numbers::Floats(_) if tensor.shape == parameter.shape => return Some((tensor, parameter)),
                Numbers::Floats(_) => (format!("{:?}", tensor.shape), format!("{:?}", parameter.shape)),
                Numbers::Others(dtype) => (format!("of type {dtype}"), Dtype::F32.to_string()),
            };
            mismatch.unlike.push(Unlike { name: parameter.name, found, wanted });
            None
        };
        let found = parameters.into_iter().map(find).collect();
        (found, mismatch)
    }

    /// Takes what was found for each of [`parameters`](Self::parameters); the others stay.
    fn put(&mut self, found: Vec<Found<'_>>) {
        *self = std::mem::take(self).map(&mut Put { found: found.into_iter() });
    }
}

/// Walks a module and reads its parameters, in the order of [`Sequential::parameters`].
struct Read {
    each: Vec<Result<TensorData, ExecutionError>>,
}

impl ModuleVisitor for Read {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.each.push(param.val().try_into_data());
    }
}

/// Walks a module and changes its parameters, in the order of [`Sequential::parameters`].
struct Put<'a> {
    found: std::vec::IntoIter<Found<'a>>,
}

impl ModuleMapper for Put<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some((tensor, parameter)) = self.found.next().flatten() else { return param };
        let Numbers::Floats(numbers) = &tensor.numbers else { return param };
        let numbers = match *tensor.shape {
            [_, columns] if parameter.transposed => transposed(numbers, columns),
            _ => numbers.clone(),
        };
        let (id, device) = (param.id, param.lazy_device());
        let data = TensorData::new(numbers, parameter.burn_shape());
        param.transform_for_load(Tensor::from_data(data, &device), id)
    }
}

/// A matrix on its side.
fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
    let rows = matrix.len() / columns.max(1);
    let mut turned = vec![0.0; matrix.len()];
    for piece in (0..columns).step_by(PIECE) {
        for (row_idx, row) in matrix.chunks_exact(columns).enumerate() {
            for column_idx in piece..columns.min(piece + PIECE) {
                turned[column_idx * rows + row_idx] = row[column_idx];
            }
        }
    }
    turned
}
