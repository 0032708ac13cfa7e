//! Tests of max-pooling: against burn's own, which is to have the same bits.

use burn::nn::PaddingConfig2d;
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::tensor::{Device, Int, Tensor};

use super::step::apply;

/// Sides, kernel, stride, padding, dilation, `ceil_mode`.
type Case = ([usize; 2], [usize; 2], [usize; 2], [usize; 2], [usize; 2], bool);

const CASES: [Case; 9] = [
    ([28, 28], [2, 2], [2, 2], [0, 0], [1, 1], false),
    ([7, 9], [2, 2], [2, 2], [0, 0], [1, 1], false),
    ([7, 9], [2, 2], [2, 2], [0, 0], [1, 1], true),
    ([12, 7], [3, 3], [2, 2], [1, 1], [1, 1], false),
    ([12, 7], [3, 3], [2, 2], [1, 1], [1, 1], true),
    ([12, 7], [3, 2], [1, 3], [1, 0], [1, 1], false),
    ([9, 11], [3, 3], [1, 2], [1, 1], [2, 3], false),
    ([4, 4], [4, 4], [4, 4], [0, 0], [1, 1], false),
    // Nothing but padding under the window.
    ([1, 1], [2, 2], [1, 1], [1, 1], [2, 2], false),
];

fn layer((_, kernel, stride, [down, across], dilation, ceil_mode): Case) -> MaxPool2d {
    let config = MaxPool2dConfig::new(kernel).with_strides(stride).with_dilation(dilation).with_ceil_mode(ceil_mode);
    config.with_padding(PaddingConfig2d::Explicit(down, across, down, across)).init()
}

/// Numbers of which many are equal.
fn x([height, width]: [usize; 2], device: &Device) -> Tensor<4> {
    let count = i64::try_from(3 * 5 * height * width).expect("it is small");
    let numbers = Tensor::<1, Int>::arange(0..count, device).float();
    numbers.mul_scalar(1.7).sin().mul_scalar(4.0).round().reshape([3, 5, height, width])
}

fn bits<const D: usize>(tensor: Tensor<D>) -> Vec<u32> {
    tensor.try_into_vec_as::<f32>().expect("they are on the CPU").into_iter().map(f32::to_bits).collect()
}

/// What leaves, and the gradient of what arrives.
fn both(layer: &MaxPool2d, x: &Tensor<4>, apply: fn(&MaxPool2d, Tensor<4>) -> Tensor<4>) -> [Vec<u32>; 2] {
    let x = x.clone().require_grad();
    let y = apply(layer, x.clone());
    let count = i64::try_from(y.shape().num_elements()).expect("it is small");
    let factors = Tensor::<1, Int>::arange(0..count, &y.device()).float().mul_scalar(0.7).sin();
    let gradients = (y.clone().flatten::<1>(0, 3) * factors).sum().backward();
    [bits(y.inner()), bits(x.grad(&gradients).expect("it is asked for"))]
}

#[test]
fn every_window_has_burns_bits() {
    let device = Device::flex().autodiff();
    for case in CASES {
        let (layer, x) = (layer(case), x(case.0, &device));
        let burns = both(&layer, &x, MaxPool2d::forward);
        assert_eq!(both(&layer, &x, apply), burns, "{case:?}");
        assert_eq!(bits(apply(&layer, x.inner())), burns[0], "{case:?}");
    }
}

#[test]
fn what_is_no_number_is_the_largest() {
    let device = Device::flex().autodiff();
    for case in [CASES[0], CASES[3]] {
        let (layer, x) = (layer(case), x(case.0, &device));
        let holes = x.clone().equal_elem(3.0);
        for hole in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let x = x.clone().mask_fill(holes.clone(), hole);
            assert_eq!(both(&layer, &x, apply), both(&layer, &x, MaxPool2d::forward), "{hole}");
        }
    }
}
