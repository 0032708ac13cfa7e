//! The losses of an MLP, a CNN and a ResNet-18 beside those of PyTorch, from the same initial weights on the same batches.
//!
//! `cargo run --release -p batchmill-trainer --example parity [MODEL]`; the golden losses and the formulas of weights and
//! samples are of `trainer/tests/golden/curves.py`.

use std::path::Path;

use batchmill_trainer::config::ModelSpec;
use batchmill_trainer::model::Sequential;
use batchmill_trainer::shape::ImageShape;
use batchmill_trainer::state::Parameter;
use burn::module::{Module, ModuleMapper, Param};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};

/// The models, the rows of their batches, what they compute with, and their rates. (Why: the head of `curves.py`.)
pub(crate) const MODELS: [(&str, usize, FloatDType, f64); 3] =
    [("mlp", 16, FloatDType::F32, 0.01), ("cnn", 16, FloatDType::F32, 0.01), ("resnet-18", 8, FloatDType::F64, 0.001)];

const WIDTH: usize = 32;
const NUMBERS: usize = 3 * WIDTH * WIDTH;
const CLASSES: usize = 10;

#[allow(dead_code, reason = "tests/parity_models.rs takes the rest of this file")]
fn main() {
    let wanted = std::env::args().nth(1);
    for (model, ..) in MODELS.into_iter().filter(|(model, ..)| wanted.as_deref().is_none_or(|wanted| wanted == *model))
    {
        println!("{model}\nstep  burn      PyTorch   relative difference");
        let mut largest = 0.0_f64;
        for (step, (found, golden)) in losses(model).zip(golden(model)).enumerate() {
            let difference = relative(found, golden);
            largest = largest.max(difference);
            println!("{step:>4}  {found:<8.6}  {golden:<8.6}  {difference:.1e}");
        }
        println!("largest relative difference: {largest:.1e}\n");
    }
}

/// How far a loss is from PyTorch's.
pub(crate) fn relative(found: f64, golden: f64) -> f64 {
    (found - golden).abs() / golden.abs()
}

/// The losses of PyTorch.
pub(crate) fn golden(model: &str) -> Vec<f64> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/curves.json");
    let text = std::fs::read_to_string(path).expect("the golden losses are there");
    let curves: serde_json::Value = serde_json::from_str(&text).expect("they are JSON");
    let losses = curves[model].as_array().expect("it has such a model");
    losses.iter().map(|loss| loss.as_f64().expect("it is a number")).collect()
}

/// Trains one of the models without end; the loss of each step.
pub(crate) fn losses(model: &str) -> impl Iterator<Item = f64> {
    let device = Device::flex().autodiff();
    let (_, rows, dtype, rate) = MODELS.into_iter().find(|(name, ..)| *name == model).expect("there is such a model");
    let mut model = initialized(model, dtype, &device);
    let criterion = CrossEntropyLossConfig::new().init(&device);
    let mut optimizer = SgdConfig::new().init();
    (0..).map(move |step| {
        let (images, labels) = batch(step, rows, &device);
        let images = images.cast(dtype);
        let loss = criterion.forward(model.logits(images), labels);
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(rate, model.clone(), gradients);
        loss.into_scalar::<f64>()
    })
}

/// A model with the weights of the formula.
fn initialized(model: &str, dtype: FloatDType, device: &Device) -> Sequential {
    let model = match model {
        "mlp" => Sequential::new().flatten().linear(NUMBERS, 512).relu().linear(512, 512).relu().linear(512, CLASSES),
        "cnn" => shipped("small-cnn.toml", &[("p = 0.25", "p = 0")], device),
        _ => shipped("resnet-18.toml", &[("out_features = 1000", "out_features = 10")], device),
    };
    let parameters = model.parameters();
    let model = model.to_device(device).train();
    model.map(&mut Initialize { parameters: parameters.into_iter(), number: 0, bound: 0.0, dtype })
}

/// A model file that we ship, changed a little.
fn shipped(file: &str, changes: &[(&str, &str)], device: &Device) -> Sequential {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/models").join(file);
    let text = std::fs::read_to_string(path).expect("the model file is there");
    let text = changes.iter().fold(text, |text, (from, to)| text.replace(from, to));
    let spec = ModelSpec::parse(&text).expect("it is a model file");
    let input = ImageShape { height: WIDTH, width: WIDTH, channels: 3 };
    Sequential::build(&spec, input, device).expect("it fits")
}

/// Gives each parameter the numbers of the formula; running statistics stay as they are.
struct Initialize {
    parameters: std::vec::IntoIter<Parameter>,
    number: u32,
    bound: f64,
    dtype: FloatDType,
}

impl ModuleMapper for Initialize {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let parameter = self.parameters.next().expect("a mapper sees what a visitor sees");
        if !parameter.trainable {
            return param.map(|old| old.cast(self.dtype));
        }
        let stream = self.number;
        self.number += 1;
        if parameter.shape.len() > 1 {
            let inputs: usize = parameter.shape[1..].iter().product();
            self.bound = 1.0 / f64::from(u32::try_from(inputs).expect("it is small")).sqrt();
        } else if parameter.name.contains("bn") || parameter.name.contains("downsample.1") {
            return param.map(|old| old.cast(self.dtype).detach().require_grad());
        }
        let numbers = uniform(stream, parameter.count).map(|number| narrow(number * self.bound)).collect();
        let data = TensorData::new::<f32, _>(numbers, parameter.shape);
        param.map(|old| {
            let tensor = Tensor::<D>::from_data(data, &old.device());
            let tensor = if parameter.transposed { tensor.swap_dims(0, 1) } else { tensor };
            tensor.cast(self.dtype).detach().require_grad()
        })
    }
}

/// Images, and what is on them, of one step.
fn batch(step: u32, rows: usize, device: &Device) -> (Tensor<4>, Tensor<1, Int>) {
    let mut noise = uniform(2000 + step, rows * NUMBERS);
    let mut images = Vec::with_capacity(rows * NUMBERS);
    let mut labels = Vec::with_capacity(rows);
    for row in 0..rows {
        let label = u32::try_from((row + step as usize) % CLASSES).expect("it is small");
        images.extend(
            uniform(1000 + label, NUMBERS).zip(&mut noise).map(|(pattern, noise)| narrow(pattern * 0.5 + noise)),
        );
        labels.push(i64::from(label));
    }
    let images = Tensor::from_data(TensorData::new(images, [rows, 3, WIDTH, WIDTH]), device);
    (images, Tensor::from_data(TensorData::new(labels, [rows]), device))
}

/// Numbers from -1 up to 1, of stream number `stream`: the finalizer of `MurmurHash3` over a counter.
fn uniform(stream: u32, count: usize) -> impl Iterator<Item = f64> {
    (0..count).map(move |idx| {
        let idx = u32::try_from(idx).expect("there are fewer numbers than 2^32");
        let mut hash = idx.wrapping_add(stream.wrapping_mul(0x9E37_79B1));
        for (shift, factor) in [(16, 0x85EB_CA6B_u32), (13, 0xC2B2_AE35), (16, 1)] {
            hash = (hash ^ (hash >> shift)).wrapping_mul(factor);
        }
        f64::from(hash) / f64::from(1_u32 << 31) - 1.0
    })
}

#[expect(clippy::cast_possible_truncation, reason = "it is rounded, as numpy does")]
fn narrow(number: f64) -> f32 {
    number as f32
}
