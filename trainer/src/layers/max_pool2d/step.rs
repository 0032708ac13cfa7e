//! A max-pooling layer on the CPU as one step of burn's autodiff.
//!
//! Burn's CPU backend goes through every window by itself, in three dimensions, which takes longer than the convolution
//! before it.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::nn::pool::MaxPool2d;
use burn::tensor::{DType, Tensor};

use super::pooling::Pooling;
use crate::layers::flex::{Tracked, numbers, of, tensor};

/// Applies the layer where its numbers lie: on the CPU as here, elsewhere as burn does.
pub(super) fn apply(layer: &MaxPool2d, x: Tensor<4>) -> Tensor<4> {
    let window = super::window(layer);
    let [_, _, height, width] = x.dims();
    let Some(axes) = window.axes([height, width]).filter(|_| x.dtype() == DType::F32) else {
        return MaxPool2d::forward(layer, x);
    };
    let pooling = Pooling { axes };
    if let Some(x) = of::<4, Flex>(&x) {
        return Tensor::from_primitive::<Flex>(compute(&pooling, &x).0);
    }
    let Some(x) = of::<4, Tracked>(&x) else { return MaxPool2d::forward(layer, x) };
    let (y, taps) = compute(&pooling, x.primitive());
    let (x, node) = x.into_parts();
    let y = match PoolingStep.prepare::<NoCheckpointing>([node]).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => {
            prepared.finish(Pooled { pooling, taps, extents: x.layout().shape().to_vec() }, y)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    };
    Tensor::from_primitive::<Tracked>(y)
}

fn compute(pooling: &Pooling, x: &FlexTensor) -> (FlexTensor, Vec<u32>) {
    let x = x.to_contiguous();
    let (y, taps) = pooling.forward(numbers(&x));
    let extents = x.layout().shape();
    let [down, across] = pooling.axes;
    (tensor(y, &[extents[0], extents[1], down.places, across.places]), taps)
}

/// The backward pass of a max-pooling layer, whose parent is what arrives.
#[derive(Debug)]
struct PoolingStep;

/// What the backward pass needs of the forward pass.
#[derive(Clone, Debug)]
struct Pooled {
    pooling: Pooling,
    taps: Vec<u32>,
    extents: Vec<usize>,
}

impl Backward<Flex, 1> for PoolingStep {
    type State = Pooled;

    fn backward(self, ops: Ops<Pooled, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let Pooled { pooling, taps, extents } = ops.state;
        let gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let [parent] = ops.parents;
        if let Some(node) = parent {
            gradients.register::<Flex>(node.id, tensor(pooling.backward(numbers(&gradient), &taps), &extents));
        }
    }
}
