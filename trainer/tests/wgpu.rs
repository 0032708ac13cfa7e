//! Computing on a graphics adapter: the numbers are the CPU's, and what goes wrong is one sentence.
//!
//! Where there is no GPU, a Vulkan driver that is only software does (`mesa-vulkan-drivers`; `scripts/test` installs it).
#![cfg(feature = "wgpu")]

use batchmill_trainer::config::ModelSpec;
use batchmill_trainer::device::{DeviceChoice, DeviceError, guarded};
use batchmill_trainer::loss::cross_entropy;
use batchmill_trainer::model::Sequential;
use batchmill_trainer::shape::ImageShape;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, DeviceKind, Int, Tensor, TensorData};
use expect_test::expect;

/// The first adapter. A test without one fails.
fn adapter() -> Device {
    DeviceChoice::Wgpu(0).open().unwrap_or_else(|error| panic!("{error} (Debian: apt-get install mesa-vulkan-drivers)"))
}

const MODEL: &str = "
[[layer]]
kind = 'conv2d'
out_channels = 4
kernel_size = 3
padding = 1
[[layer]]
kind = 'relu'
[[layer]]
kind = 'max-pool2d'
kernel_size = 2
[[layer]]
kind = 'flatten'
[[layer]]
kind = 'linear'
out_features = 5
";

const INPUT: ImageShape = ImageShape { height: 8, width: 6, channels: 3 };

/// Walks a model and takes the gradient of each parameter.
struct Gradients {
    of: GradientsParams,
    found: Vec<Vec<f32>>,
}

impl ModuleVisitor for Gradients {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = self.of.get::<D>(param.id).expect("each parameter takes part");
        self.found.push(gradient.try_into_vec_as().expect("it computes"));
    }
}

/// The loss of a batch, the scores behind it and the gradients of all parameters.
fn learn(model: &Sequential, device: &Device) -> Vec<Vec<f32>> {
    let images =
        (0_u8..37).cycle().take(4 * 3 * 8 * 6).map(|number| f32::from(number) / 37.0 - 0.4).collect::<Vec<_>>();
    let images = Tensor::<4>::from_data(TensorData::new(images, [4, 3, 8, 6]), device);
    let labels = Tensor::<1, Int>::from_data([0, 3, 1, 4], device);
    let logits = model.logits(images);
    let loss = cross_entropy(logits.clone(), labels);
    let mut gradients = Gradients { of: GradientsParams::from_grads(loss.backward(), model), found: Vec::new() };
    model.visit(&mut gradients);
    let mut numbers =
        vec![loss.try_into_vec_as().expect("it computes"), logits.try_into_vec_as().expect("it computes")];
    numbers.append(&mut gradients.found);
    numbers
}

#[test]
fn loss_scores_and_gradients_are_the_cpus() {
    let (cpu, wgpu) = (Device::flex().autodiff(), adapter().autodiff());
    let spec = ModelSpec::parse(MODEL).expect("a model");
    let model = Sequential::build(&spec, INPUT, &cpu).expect("it fits");
    model.draw();
    let (expected, found) = (learn(&model, &cpu), learn(&model.clone().fork(&wgpu), &wgpu));
    // The loss, the scores, and a weight and a bias of each of two layers.
    assert_eq!((expected.len(), found.len()), (6, 6));
    for (expected, found) in expected.iter().zip(&found) {
        assert_eq!(expected.len(), found.len());
        assert!(expected.iter().any(|number| number.abs() > 1e-3), "nothing to compare: {expected:?}");
        for (one, other) in expected.iter().zip(found) {
            assert!((one - other).abs() < 1e-3, "{one} on the CPU is {other} on wgpu:0");
        }
    }
}

#[test]
fn an_adapter_that_is_not_there_is_told_by_number() {
    let told = DeviceChoice::Wgpu(99).open().expect_err("nobody has a hundred").to_string();
    assert!(told.starts_with("open wgpu:99: only wgpu:0 "), "{told}");
    assert!(told.ends_with(" found on this machine: use --device cpu, or check the driver"), "{told}");
}

#[test]
fn what_auto_becomes_computes() {
    let (choice, device) = DeviceChoice::Auto.resolve().expect("at least the CPU is there");
    assert_ne!(choice, DeviceChoice::Auto);
    assert_eq!(Tensor::<1>::ones([3], &device).sum().into_scalar::<f32>().to_string(), "3");
}

/// One test, as what a device's thread says is told to whoever fails next.
#[test]
fn failures_are_told_with_their_reason_and_other_adapters_go_on() {
    let device = adapter();
    // The thread of a device panics when that cannot be opened: there the reason is.
    let nobody = Device::wgpu(DeviceKind::VirtualGpu(99));
    let opened = guarded("sum on wgpu:99", || Tensor::<1>::ones([3], &nobody).sum().into_scalar::<f32>());
    let told = opened.expect_err("there are not as many").to_string();
    assert!(told.starts_with("sum on wgpu:99: the device stopped: Unable to acquire wgpu device: "), "{told}");

    // Nearly as many numbers as 32 bits count: 16 GiB, more than any adapter gives to one buffer.
    let ones = |rows: usize| Tensor::<2>::ones([rows, 65_535], &device).sum();
    let doing = "train on wgpu:0 at epoch 0, step 3";
    let sentence = expect![
        "train on wgpu:0 at epoch 0, step 3: the device has not enough memory (can't allocate buffer of size: 17179607040): lower the batch size, or use --device cpu"
    ];
    let panicked = guarded(doing, || ones(65_536).into_scalar::<f32>()).expect_err("it has not as much");
    sentence.assert_eq(&panicked.to_string());
    let failed = ones(65_536).try_into_scalar::<f32>().expect_err("it still has not");
    sentence.assert_eq(&DeviceError::while_doing(doing, &failed).to_string());
    assert_eq!(ones(2).into_scalar::<f32>().to_string(), "131070");
}
