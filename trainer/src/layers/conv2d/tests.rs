//! Tests of convolutions: against burn's own, which are computed in another way.

use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Distribution, Int, Tensor};
use rayon::ThreadPoolBuilder;

use super::convolution::Convolution;
use super::forward::forward;
use super::step::apply;

/// How far a number may be from burn's, as a share of the largest.
const TOLERANCE: f32 = 1e-5;

const IMAGES: usize = 9;

/// A window, and the images under it.
#[derive(Clone, Copy, Debug)]
struct Case {
    sides: [usize; 2],
    channels: [usize; 2],
    groups: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    padding: [usize; 2],
    bias: bool,
}

const PLAIN: Case = Case {
    sides: [7, 9],
    channels: [3, 5],
    groups: 1,
    kernel: [3, 3],
    stride: [1, 1],
    dilation: [1, 1],
    padding: [1, 1],
    bias: true,
};

const CASES: [Case; 14] = [
    PLAIN,
    Case { bias: false, ..PLAIN },
    Case { padding: [0, 0], ..PLAIN },
    // More padding than the window reaches.
    Case { padding: [3, 2], ..PLAIN },
    Case { channels: [8, 8], groups: 2, ..PLAIN },
    Case { channels: [4, 4], groups: 4, ..PLAIN },
    Case { channels: [4, 8], kernel: [1, 1], padding: [0, 0], ..PLAIN },
    Case { channels: [4, 8], kernel: [1, 1], padding: [0, 0], stride: [2, 2], ..PLAIN },
    Case { stride: [2, 2], ..PLAIN },
    Case { stride: [3, 1], dilation: [2, 1], ..PLAIN },
    Case { sides: [16, 11], kernel: [5, 2], stride: [2, 3], dilation: [1, 3], padding: [2, 1], ..PLAIN },
    // The window is larger than the image, and in part in the padding everywhere.
    Case { sides: [1, 1], ..PLAIN },
    Case { sides: [2, 1], kernel: [3, 3], stride: [2, 2], dilation: [2, 2], padding: [2, 2], ..PLAIN },
    Case { sides: [28, 28], channels: [1, 16], ..PLAIN },
];

impl Case {
    fn layer(&self, device: &Device) -> Conv2d {
        let [down, across] = self.padding;
        Conv2dConfig::new(self.channels, self.kernel)
            .with_stride(self.stride)
            .with_dilation(self.dilation)
            .with_padding(PaddingConfig2d::Explicit(down, across, down, across))
            .with_groups(self.groups)
            .with_bias(self.bias)
            .init(device)
    }

    fn x(&self, device: &Device) -> Tensor<4> {
        let [height, width] = self.sides;
        Tensor::random([IMAGES, self.channels[0], height, width], Distribution::Normal(0.0, 1.0), device)
    }
}

fn bits<const D: usize>(tensor: Tensor<D>) -> Vec<u32> {
    numbers(tensor).into_iter().map(f32::to_bits).collect()
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as().expect("they are on the CPU")
}

/// What leaves, and the gradients of what arrives, the weights and the bias.
fn all(layer: &Conv2d, x: &Tensor<4>, apply: fn(&Conv2d, Tensor<4>) -> Tensor<4>) -> Vec<Vec<f32>> {
    let x = x.clone().require_grad();
    let y = apply(layer, x.clone());
    // A gradient of another size at every place.
    let count = i64::try_from(y.shape().num_elements()).expect("they fit into memory");
    let factors = Tensor::<1, Int>::arange(0..count, &y.device()).float().mul_scalar(0.7).sin();
    let gradients = (y.clone().flatten::<1>(0, 3) * factors).sum().backward();
    let mut all = vec![numbers(y.inner()), numbers(x.grad(&gradients).expect("it is asked for"))];
    all.push(numbers(layer.weight.val().grad(&gradients).expect("it learns")));
    all.extend(layer.bias.iter().map(|bias| numbers(bias.val().grad(&gradients).expect("it learns"))));
    all
}

#[test]
fn every_window_computes_and_learns_what_burns_does() {
    let (device, mut largest) = (Device::flex().autodiff(), 0.0_f32);
    for case in CASES {
        let (layer, x) = (case.layer(&device), case.x(&device));
        let (ours, burns) = (all(&layer, &x, apply), all(&layer, &x, Conv2d::forward));
        assert_eq!(ours.len(), 3 + usize::from(case.bias));
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
        let (layer, x) = (PLAIN.layer(&device), PLAIN.x(&device));
        let convolution = Convolution::of(&layer, &x, &layer.weight.val()).expect("it fits");
        let [x_numbers, weights] = [x.clone(), layer.weight.val()].map(numbers);
        let bias = numbers(layer.bias.as_ref().expect("it has one").val());
        let expected: Vec<u32> =
            forward(&convolution, &x_numbers, &weights, &bias).into_iter().map(f32::to_bits).collect();
        assert_eq!(bits(apply(&layer, x)), expected);
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let device = Device::flex().autodiff();
    for case in [PLAIN, Case { channels: [8, 8], groups: 2, stride: [2, 2], ..PLAIN }] {
        let (layer, x) = (case.layer(&device), case.x(&device));
        let with = |threads: usize| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().expect("there are threads");
            pool.install(|| all(&layer, &x, apply)).concat().into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let alone = with(1);
        assert_eq!(with(2), alone);
        assert_eq!(with(5), alone);
    }
}

#[test]
fn an_image_does_not_know_the_others_of_its_batch() {
    let device = Device::flex();
    let (layer, x) = (PLAIN.layer(&device), PLAIN.x(&device));
    let together = bits(apply(&layer, x.clone()));
    let each = (0..IMAGES).flat_map(|image| bits(apply(&layer, x.clone().slice(image..image + 1))));
    assert_eq!(each.collect::<Vec<_>>(), together);
}

#[test]
fn images_may_lie_in_any_order() {
    let device = Device::flex().autodiff();
    let (layer, x) = (PLAIN.layer(&device), PLAIN.x(&device));
    // As the feed has them: the channels of a pixel side by side, seen as planes.
    let pixels = Tensor::from_inner(x.clone().permute([0, 2, 3, 1]).inner().mul_scalar(1.0));
    assert_eq!(all(&layer, &pixels.permute([0, 3, 1, 2]), apply), all(&layer, &x, apply));
}

#[test]
fn what_is_frozen_has_no_gradient() {
    let device = Device::flex().autodiff();
    let (mut layer, x) = (PLAIN.layer(&device), PLAIN.x(&device).require_grad());
    let expected = all(&layer, &x.clone().detach(), apply);
    layer.weight = layer.weight.set_require_grad(false);
    let gradients = apply(&layer, x.clone()).sum().backward();
    assert!(layer.weight.val().grad(&gradients).is_none());
    assert!(layer.bias.as_ref().expect("it has one").val().grad(&gradients).is_some());
    assert_eq!(numbers(x.grad(&gradients).expect("it is asked for")).len(), expected[1].len());
}
