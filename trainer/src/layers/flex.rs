//! Tensors of the CPU as the numbers that they are, for layers that compute with them themselves.

use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, DispatchKindConversion, DispatchTensor, Flex};
use burn::tensor::{Tensor, TensorData};

/// Where tensors of the CPU record how they were computed.
pub(super) type Tracked = Autodiff<Flex, NoCheckpointing>;

/// A tensor as its backend has it, if that is `B`.
pub(super) fn of<const D: usize, B: Backend>(tensor: &Tensor<D>) -> Option<FloatTensor<B>>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    tensor.clone().try_into_primitive::<B>().ok()
}

/// The numbers of a tensor that is contiguous, and of `f32`.
pub(super) fn numbers(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("it was made contiguous, and its dtype was looked at")
}

/// A tensor of these numbers, which are not copied.
pub(super) fn tensor(numbers: Vec<f32>, extents: &[usize]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(numbers, extents.to_vec()))
}
