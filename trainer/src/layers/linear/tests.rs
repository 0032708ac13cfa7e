//! Tests of linear layers: against burn's own, which are computed in another way.

use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Distribution, Int, Tensor};
use rayon::ThreadPoolBuilder;

use super::product::forward;
use super::step::apply;

/// How far a number may be from burn's, as a share of the largest.
const TOLERANCE: f32 = 1e-5;

/// Rows, inputs, outputs: whole blocks, less than one of each, and blocks that are begun.
const CASES: [[usize; 3]; 7] =
    [[12, 48, 64], [1, 1, 1], [5, 3, 10], [7, 7, 17], [64, 100, 70], [17, 50, 129], [33, 97, 1]];

fn layer([_, inputs, outputs]: [usize; 3], bias: bool, device: &Device) -> Linear {
    LinearConfig::new(inputs, outputs).with_bias(bias).init(device)
}

fn x([rows, inputs, _]: [usize; 3], device: &Device) -> Tensor<2> {
    Tensor::random([rows, inputs], Distribution::Normal(0.0, 1.0), device)
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as().expect("they are on the CPU")
}

/// What leaves, and the gradients of what arrives, the weights and the bias.
fn all<const D: usize>(layer: &Linear, x: &Tensor<D>, apply: fn(&Linear, Tensor<D>) -> Tensor<D>) -> Vec<Vec<f32>> {
    let x = x.clone().require_grad();
    let y = apply(layer, x.clone());
    // A gradient of another size at every place.
    let count = i64::try_from(y.shape().num_elements()).expect("they fit into memory");
    let factors = Tensor::<1, Int>::arange(0..count, &y.device()).float().mul_scalar(0.7).sin();
    let gradients = (y.clone().reshape([-1]) * factors).sum().backward();
    let mut all = vec![numbers(y.inner()), numbers(x.grad(&gradients).expect("it is asked for"))];
    all.push(numbers(layer.weight.val().grad(&gradients).expect("it learns")));
    all.extend(layer.bias.iter().map(|bias| numbers(bias.val().grad(&gradients).expect("it learns"))));
    all
}

#[test]
fn every_size_computes_and_learns_what_burns_does() {
    let (device, mut largest) = (Device::flex().autodiff(), 0.0_f32);
    for (case, bias) in CASES.into_iter().flat_map(|case| [(case, true), (case, false)]) {
        let (layer, x) = (layer(case, bias, &device), x(case, &device));
        let (ours, burns) = (all(&layer, &x, apply), all(&layer, &x, Linear::forward));
        assert_eq!(ours.len(), 3 + usize::from(bias));
        for (what, (ours, burns)) in ours.iter().zip(&burns).enumerate() {
            assert_eq!(ours.len(), burns.len(), "{case:?}: {what}");
            let scale = burns.iter().fold(f32::MIN_POSITIVE, |scale, number| scale.max(number.abs()));
            let apart = ours.iter().zip(burns).fold(0.0_f32, |apart, (ours, burns)| apart.max((ours - burns).abs()));
            assert!(apart / scale < TOLERANCE, "{case:?}: {what} is {:.1e} apart", apart / scale);
            largest = largest.max(apart / scale);
        }
    }
    println!("largest difference from burn: {largest:.1e}");
}

#[test]
fn the_layer_takes_it_with_gradients_and_without() {
    for device in [Device::flex(), Device::flex().autodiff()] {
        let case = [13, 40, 33];
        let (layer, x) = (layer(case, true, &device), x(case, &device));
        let bias = numbers(layer.bias.as_ref().expect("it has one").val());
        let expected = forward(&numbers(x.clone()), &numbers(layer.weight.val()), &bias);
        assert_eq!(bits(&numbers(apply(&layer, x))), bits(&expected));
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let device = Device::flex().autodiff();
    for case in [[64, 100, 70], [17, 50, 129]] {
        let (layer, x) = (layer(case, true, &device), x(case, &device));
        let with = |threads: usize| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().expect("there are threads");
            bits(&pool.install(|| all(&layer, &x, apply)).concat())
        };
        let alone = with(1);
        assert_eq!(with(2), alone);
        assert_eq!(with(5), alone);
    }
}

#[test]
fn a_row_does_not_know_the_others_of_its_batch() {
    let (device, case) = (Device::flex(), [13, 40, 33]);
    let (layer, x) = (layer(case, true, &device), x(case, &device));
    let together = numbers(apply(&layer, x.clone()));
    let each = (0..13).flat_map(|row| numbers(apply(&layer, x.clone().slice(row..row + 1))));
    assert_eq!(bits(&each.collect::<Vec<_>>()), bits(&together));
}

#[test]
fn sequences_are_rows() {
    let (device, case) = (Device::flex().autodiff(), [12, 40, 33]);
    let (layer, x) = (layer(case, true, &device), x(case, &device));
    let sequences = x.clone().reshape([3, 4, 40]);
    assert_eq!(apply(&layer, sequences.clone()).dims(), [3, 4, 33]);
    assert_eq!(all(&layer, &sequences, apply), all(&layer, &x, apply));
}

#[test]
fn rows_may_lie_in_any_order() {
    let (device, case) = (Device::flex().autodiff(), [12, 40, 33]);
    let (layer, x) = (layer(case, true, &device), x(case, &device));
    let columns = Tensor::from_inner(x.clone().transpose().inner().mul_scalar(1.0));
    assert_eq!(all(&layer, &columns.transpose(), apply), all(&layer, &x, apply));
}

#[test]
fn what_is_frozen_has_no_gradient() {
    let (device, case) = (Device::flex().autodiff(), [12, 40, 33]);
    let (mut layer, x) = (layer(case, true, &device), x(case, &device));
    layer.weight = layer.weight.set_require_grad(false);
    let gradients = apply(&layer, x.clone()).sum().backward();
    assert!(layer.weight.val().grad(&gradients).is_none());
    assert!(layer.bias.as_ref().expect("it has one").val().grad(&gradients).is_some());
    assert!(x.grad(&gradients).is_none());
}
