//! A convolution on the CPU as one step of burn's autodiff.
//!
//! Burn's CPU backend has no backward pass of its own for convolutions: the general one, convolutions with windows as
//! large as the image, takes twice as long as all the rest of a small network's training.

use burn::backend::Flex;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::nn::conv::Conv2d;
use burn::tensor::{DType, Tensor};

use super::convolution::Convolution;
use super::forward::forward;
use super::input_gradient::input_gradient;
use super::weight_gradient::weight_gradient;
use crate::layers::flex::{Tracked, numbers, of, tensor};
use crate::layers::registers;

/// Applies the layer where its numbers lie: on the CPU as here, elsewhere as burn does.
pub(super) fn apply(layer: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    let weight = layer.weight.val();
    let convolution = Convolution::of(layer, &x, &weight);
    let is_known = registers::are_fast() && [x.dtype(), weight.dtype()] == [DType::F32; 2];
    let Some(convolution) = convolution.filter(|_| is_known) else { return Conv2d::forward(layer, x) };
    let no_bias = || Tensor::zeros([weight.dims()[0]], &weight.device());
    let bias = layer.bias.as_ref().map_or_else(no_bias, |bias| bias.val());
    if let (Some(x), Some(weight), Some(bias)) = (of::<4, Flex>(&x), of::<4, Flex>(&weight), of::<1, Flex>(&bias)) {
        return Tensor::from_primitive::<Flex>(compute(&convolution, [&x, &weight, &bias]));
    }
    match (of::<4, Tracked>(&x), of::<4, Tracked>(&weight), of::<1, Tracked>(&bias)) {
        (Some(x), Some(weight), Some(bias)) => Tensor::from_primitive::<Tracked>(track(convolution, [x, weight, bias])),
        _ => Conv2d::forward(layer, x),
    }
}

impl Convolution {
    /// What a layer does to `x`; none when its window fits nowhere.
    pub(super) fn of(layer: &Conv2d, x: &Tensor<4>, weight: &Tensor<4>) -> Option<Self> {
        let ([_, _, height, width], [outputs, inputs, _, _]) = (x.dims(), weight.dims());
        let axes = super::window(layer).axes([height, width])?;
        Some(Self { groups: layer.groups, inputs, outputs: outputs / layer.groups, axes })
    }
}

/// What leaves, of `[x, weight, bias]`.
fn compute(convolution: &Convolution, arrive: [&FlexTensor; 3]) -> FlexTensor {
    let Convolution { groups, outputs, axes: [down, across], .. } = *convolution;
    let [x, weight, bias] = arrive.map(FlexTensor::to_contiguous);
    let y = forward(convolution, numbers(&x), numbers(&weight), numbers(&bias));
    let images = y.len() / (groups * convolution.leaving());
    tensor(y, &[images, groups * outputs, down.places, across.places])
}

/// The same, to be gone back through.
fn track(convolution: Convolution, arrive: [FloatTensor<Tracked>; 3]) -> FloatTensor<Tracked> {
    let y = compute(&convolution, arrive.each_ref().map(|tensor| tensor.primitive()));
    let [(x, x_node), (weight, weight_node), (_, bias_node)] = arrive.map(|tensor| tensor.into_parts());
    let nodes = [x_node, weight_node, bias_node];
    match ConvolutionStep.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(Arrived { convolution, x, weight }, y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }
}

/// The backward pass of a convolution, whose parents are what arrives, the weights and the bias.
#[derive(Debug)]
struct ConvolutionStep;

/// What the backward pass needs of the forward pass.
#[derive(Clone, Debug)]
struct Arrived {
    convolution: Convolution,
    x: FlexTensor,
    weight: FlexTensor,
}

impl Backward<Flex, 3> for ConvolutionStep {
    type State = Arrived;

    fn backward(self, ops: Ops<Arrived, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let Arrived { convolution, x, weight } = ops.state;
        let [x, weight, gradient] =
            [x, weight, gradients.consume::<Flex>(&ops.node)].map(|tensor| tensor.to_contiguous());
        let mut register =
            |node: NodeId, numbers, like: &[usize]| gradients.register::<Flex>(node, tensor(numbers, like));
        let [of_x, of_weight, of_bias] = ops.parents.map(|parent| parent.map(|node| node.id));
        // Nobody asks for that of a batch: the first layer does without the half of its backward pass.
        if let Some(node) = of_x {
            register(node, input_gradient(&convolution, numbers(&gradient), numbers(&weight)), x.layout().shape());
        }
        if of_weight.is_some() || of_bias.is_some() {
            let (weights, bias) = weight_gradient(&convolution, numbers(&x), numbers(&gradient));
            let outputs = bias.len();
            if let Some(node) = of_weight {
                register(node, weights, weight.layout().shape());
            }
            if let Some(node) = of_bias {
                register(node, bias, &[outputs]);
            }
        }
    }
}
