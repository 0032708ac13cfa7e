//! What is remembered between two steps, as a safetensors file: numbers by name, in PyTorch's words.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData, TensorReadError};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use thiserror::Error;

use crate::state::Parameter;

/// Why what is remembered cannot be written or read.
#[derive(Debug, Error)]
pub enum OptimizerError {
    /// It is no safetensors file.
    #[error(transparent)]
    File(#[from] SafeTensorError),
    /// It cannot be taken from the device.
    #[error(transparent)]
    Device(#[from] TensorReadError),
    /// It is that of another model, or of another kind of optimizer.
    #[error("`{name}` is not what this model's optimizer remembers")]
    Foreign {
        /// A tensor of it.
        name: String,
    },
    /// It ends too early.
    #[error("there is nothing about `{name}`")]
    Missing {
        /// A parameter, or what is remembered of one.
        name: String,
    },
}

/// Tensors and counts under their names; the same entries are always the same file.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    /// Numbers without a dimension in the file.
    counts: BTreeMap<String, u64>,
}

impl Entries {
    /// Adds what is remembered of `parameter` under `NAME.what`, in the parameter's shape as burn holds it.
    pub(crate) fn put(&mut self, parameter: &Parameter, what: &str, tensor: &Tensor<1>) -> Result<(), OptimizerError> {
        let numbers = tensor.clone().try_into_vec_as()?;
        self.tensors.insert(below(parameter, what), (parameter.burn_shape(), numbers));
        Ok(())
    }

    /// Takes what [`put`](Self::put) added, if anything, to `device`.
    pub(crate) fn take(&mut self, parameter: &Parameter, what: &str, device: &Device) -> Option<Tensor<1>> {
        let name = below(parameter, what);
        // One of another shape stays, for `finish` to refuse.
        self.tensors.get(&name).filter(|(shape, _)| *shape == parameter.burn_shape())?;
        let (_, numbers) = self.tensors.remove(&name)?;
        let shape = [numbers.len()];
        Some(Tensor::from_data(TensorData::new(numbers, shape), device))
    }

    /// Adds a count.
    pub(crate) fn put_count(&mut self, name: String, count: u64) {
        self.counts.insert(name, count);
    }

    /// Takes a count, if there is one.
    pub(crate) fn take_count(&mut self, name: &str) -> Option<u64> {
        self.counts.remove(name)
    }

    /// Refuses what nobody took.
    pub(crate) fn finish(self) -> Result<(), OptimizerError> {
        let left = self.tensors.into_keys().chain(self.counts.into_keys()).min();
        left.map_or(Ok(()), |name| Err(OptimizerError::Foreign { name }))
    }

    /// Writes the file.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, OptimizerError> {
        let bytes = |numbers: &Vec<f32>| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
        let tensors: Vec<_> =
            self.tensors.iter().map(|(name, (shape, numbers))| (name, shape.clone(), bytes(numbers))).collect();
        let counts: Vec<_> = self.counts.iter().map(|(name, count)| (name, count.to_le_bytes())).collect();
        let tensors = tensors.iter().map(|(name, shape, bytes)| (name, Dtype::F32, shape.clone(), &bytes[..]));
        let counts = counts.iter().map(|(name, bytes)| (name, Dtype::U64, Vec::new(), &bytes[..]));
        let views =
            tensors.chain(counts).map(|(name, dtype, shape, bytes)| Ok((name, TensorView::new(dtype, shape, bytes)?)));
        let views: Vec<_> = views.collect::<Result<_, SafeTensorError>>()?;
        Ok(safetensors::serialize(views, None)?)
    }

    /// Reads the file.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, OptimizerError> {
        let mut entries = Self::default();
        for (name, view) in SafeTensors::deserialize(bytes)?.iter() {
            let name = name.to_owned();
            match (view.dtype(), <[u8; 8]>::try_from(view.data())) {
                (Dtype::F32, _) => {
                    let (numbers, _) = view.data().as_chunks();
                    let numbers = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
                    entries.tensors.insert(name, (view.shape().to_vec(), numbers));
                }
                (Dtype::U64, Ok(count)) if view.shape().is_empty() => {
                    entries.counts.insert(name, u64::from_le_bytes(count));
                }
                _ => return Err(OptimizerError::Foreign { name }),
            }
        }
        Ok(entries)
    }
}

/// `NAME.what`.
pub(crate) fn below(parameter: &Parameter, what: &str) -> String {
    format!("{}.{what}", parameter.name)
}
