//! One step over all numbers of a parameter: a single pass where they lie in this process, else tensor operations.

use std::{array, mem};

use burn::tensor::{DType, Device, Tensor, TensorData};
use rayon::prelude::*;

use super::rule::Arithmetic;

/// Numbers that one thread takes at a time: enough that sharing them out is little beside it.
const TOGETHER: usize = 1 << 15;

/// Does one step; `memory` is empty before the first.
pub(super) fn pass<const M: usize, const D: usize>(
    step: &impl Arithmetic<M>,
    parameter: Tensor<D>,
    gradient: Tensor<1>,
    memory: &mut Vec<Tensor<1>>,
) -> Tensor<D> {
    let nothing = |_| array::from_fn(|_| gradient.zeros_like());
    let before: [Tensor<1>; M] = mem::take(memory).try_into().unwrap_or_else(nothing);
    let (parameter, after) = if is_here(&parameter) && is_here(&gradient) {
        in_one_pass(step, parameter, gradient, before)
    } else {
        as_operations(step, parameter, gradient, before)
    };
    *memory = after.into();
    parameter
}

/// Whether a tensor's numbers are `f32` in this process's own memory.
pub(super) fn is_here<const D: usize>(tensor: &Tensor<D>) -> bool {
    tensor.device() == Device::flex() && tensor.dtype() == DType::F32
}

/// The numbers of a tensor's data.
pub(super) fn numbers(data: &mut TensorData) -> &mut [f32] {
    data.as_mut_slice().expect("`is_here` saw that they are f32")
}

/// Gives the bits of [`in_one_pass`], on any device.
pub(super) fn as_operations<const M: usize, const D: usize>(
    step: &impl Arithmetic<M>,
    parameter: Tensor<D>,
    gradient: Tensor<1>,
    memory: [Tensor<1>; M],
) -> (Tensor<D>, [Tensor<1>; M]) {
    let shape = parameter.shape();
    let (parameter, memory) = step.update(parameter.flatten(0, -1), gradient, memory);
    (parameter.reshape(shape), memory)
}

/// Goes once over memory that ten operations would go over ten times. Nothing is copied that nobody else holds.
pub(super) fn in_one_pass<const M: usize, const D: usize>(
    step: &impl Arithmetic<M>,
    parameter: Tensor<D>,
    gradient: Tensor<1>,
    memory: [Tensor<1>; M],
) -> (Tensor<D>, [Tensor<1>; M]) {
    let device = parameter.device();
    let mut parameter = parameter.into_data();
    let mut gradient = gradient.into_data();
    let mut memory = memory.map(Tensor::into_data);
    let parameters = numbers(&mut parameter);
    let count = parameters.len();
    let gradients = &numbers(&mut gradient)[..count];
    let mut memories = memory.each_mut().map(|memory| numbers(memory)[..count].chunks_mut(TOGETHER));
    let parts = parameters.chunks_mut(TOGETHER).zip(gradients.chunks(TOGETHER)).map(|(parameters, gradients)| {
        let memories = memories.each_mut().map(|parts| parts.next().expect("it is as long as the parameter"));
        (parameters, gradients, memories)
    });
    let parts: Vec<_> = parts.collect();
    parts.into_par_iter().for_each(|(parameters, gradients, memories)| update(step, parameters, gradients, memories));
    (Tensor::from_data(parameter, &device), memory.map(|memory| Tensor::from_data(memory, &device)))
}

/// Numbers side by side know nothing of one another, so that it does not matter who does which.
fn update<const M: usize>(
    step: &impl Arithmetic<M>,
    parameters: &mut [f32],
    gradients: &[f32],
    mut memories: [&mut [f32]; M],
) {
    for (idx, (parameter, gradient)) in parameters.iter_mut().zip(gradients).enumerate() {
        let before = memories.each_ref().map(|memory| memory[idx]);
        let (number, after) = step.update(*parameter, *gradient, before);
        *parameter = number;
        for (memory, after) in memories.iter_mut().zip(after) {
            memory[idx] = after;
        }
    }
}
