//! A linear layer on the CPU as one step of burn's autodiff.
//!
//! Burn's matrix products write zeros where the result will be, copy them, and then take half as long again.

use burn::backend::Flex;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::nn::Linear;
use burn::tensor::{DType, Tensor};

use super::product::{bias_gradient, forward, input_gradient, weight_gradient};
use crate::layers::flex::{Tracked, numbers, of, tensor};
use crate::layers::registers;

/// Applies the layer where its numbers lie: on the CPU as here, elsewhere as burn does.
pub(super) fn apply<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    let weight = layer.weight.val();
    let is_known = registers::are_fast() && [x.dtype(), weight.dtype()] == [DType::F32; 2];
    if !is_known || x.shape().num_elements() == 0 {
        return Linear::forward(layer, x);
    }
    let no_bias = || Tensor::zeros([weight.dims()[1]], &weight.device());
    let bias = layer.bias.as_ref().map_or_else(no_bias, |bias| bias.val());
    if let (Some(x), Some(weight), Some(bias)) = (of::<D, Flex>(&x), of::<2, Flex>(&weight), of::<1, Flex>(&bias)) {
        return Tensor::from_primitive::<Flex>(compute([&x, &weight, &bias]));
    }
    match (of::<D, Tracked>(&x), of::<2, Tracked>(&weight), of::<1, Tracked>(&bias)) {
        (Some(x), Some(weight), Some(bias)) => Tensor::from_primitive::<Tracked>(track([x, weight, bias])),
        _ => Linear::forward(layer, x),
    }
}

/// What leaves, of `[x, weight, bias]`: rows in whatever dimensions `x` has them.
fn compute(arrive: [&FlexTensor; 3]) -> FlexTensor {
    let [x, weight, bias] = arrive.map(FlexTensor::to_contiguous);
    let mut extents = x.layout().shape().to_vec();
    extents.pop();
    extents.extend(bias.layout().shape().to_vec());
    tensor(forward(numbers(&x), numbers(&weight), numbers(&bias)), &extents)
}

/// The same, to be gone back through.
fn track(arrive: [FloatTensor<Tracked>; 3]) -> FloatTensor<Tracked> {
    let y = compute(arrive.each_ref().map(|tensor| tensor.primitive()));
    let [(x, x_node), (weight, weight_node), (_, bias_node)] = arrive.map(|tensor| tensor.into_parts());
    match LinearStep.prepare::<NoCheckpointing>([x_node, weight_node, bias_node]).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(Arrived { x, weight }, y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }
}

/// The backward pass of a linear layer, whose parents are what arrives, the weights and the bias.
#[derive(Debug)]
struct LinearStep;

/// What the backward pass needs of the forward pass.
#[derive(Clone, Debug)]
struct Arrived {
    x: FlexTensor,
    weight: FlexTensor,
}

impl Backward<Flex, 3> for LinearStep {
    type State = Arrived;

    fn backward(self, ops: Ops<Arrived, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let Arrived { x, weight } = ops.state;
        let [x, weight, gradient] =
            [x, weight, gradients.consume::<Flex>(&ops.node)].map(|tensor| tensor.to_contiguous());
        let (of_weight, outputs) = (weight.layout().shape(), weight.layout().shape()[1]);
        let mut register =
            |node: NodeId, numbers, like: &[usize]| gradients.register::<Flex>(node, tensor(numbers, like));
        let [x_node, weight_node, bias_node] = ops.parents.map(|parent| parent.map(|node| node.id));
        // Nobody asks for that of a batch: the first layer does without a third of its work.
        if let Some(node) = x_node {
            register(node, input_gradient(numbers(&gradient), numbers(&weight), outputs), x.layout().shape());
        }
        if let Some(node) = weight_node {
            let inputs = of_weight[0];
            register(node, weight_gradient(numbers(&x), numbers(&gradient), [inputs, outputs]), of_weight);
        }
        if let Some(node) = bias_node {
            register(node, bias_gradient(numbers(&gradient), outputs), &[outputs]);
        }
    }
}
