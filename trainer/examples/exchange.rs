//! Compares logits with PyTorch's: weights of a `.pth` or `.safetensors` file, images and logits of another.
//!
//! ```text
//! python trainer/examples/exchange.py make PHOTOS FOLDER
//! cargo run --release -p batchmill-trainer --example exchange -- scripts/models/resnet-18.toml \
//!     FOLDER/resnet18.pth FOLDER/batch.safetensors FOLDER/back
//! python trainer/examples/exchange.py check FOLDER FOLDER/back
//! ```
//!
//! With a folder at the end, the model then learns for some steps and is written there, with the logits it gives.

use std::error::Error;
use std::path::Path;

use batchmill_trainer::config::ModelSpec;
use batchmill_trainer::loss::cross_entropy;
use batchmill_trainer::model::Sequential;
use batchmill_trainer::optimizer::{Gradients, OptimizerKind};
use batchmill_trainer::registry::Registry;
use batchmill_trainer::shape::ImageShape;
use batchmill_trainer::state::{Numbers, StateDict, StateTensor};
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// Steps of learning, and images of each.
const STEPS: usize = 3;
const LEARNED: usize = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (model, weights, batch, out) = match &args[..] {
        [model, weights, batch] => (model, weights, batch, None),
        [model, weights, batch, out] => (model, weights, batch, Some(out)),
        _ => return Err("give MODEL.toml WEIGHTS BATCH.safetensors [FOLDER]".into()),
    };
    let device = Device::flex();
    let batch = StateDict::read(batch.as_ref())?;
    let images = tensor::<4>(&batch, "images", &device)?;
    let theirs = tensor::<2>(&batch, "logits", &device)?;
    let [count, channels, height, width] = images.dims();
    let (spec, _) = ModelSpec::read(model.as_ref(), &Registry::builtin())?;
    let shape = ImageShape { height, width, channels };
    let mut model = Sequential::build(&spec, shape, &device.clone().autodiff())?;
    model.load_state_dict(&StateDict::read(weights.as_ref())?)?;

    let ours = model.valid().logits(images.clone());
    let difference: f32 = (ours.clone() - theirs.clone()).abs().max().try_into_scalar()?;
    let largest: f32 = theirs.clone().abs().max().try_into_scalar()?;
    let same: i64 = ours.argmax(1).equal(theirs.argmax(1)).int().sum().try_into_scalar()?;
    println!("{weights}: {count} images, logits up to {largest:.3}");
    println!("largest difference {difference:.2e}, the same best class {same} of {count} times");

    let Some(out) = out else { return Ok(()) };
    let mut optimizer = OptimizerKind::Sgd.init();
    let some = images.clone().narrow(0, 0, LEARNED.min(count));
    for step in 0..STEPS {
        let labels = Tensor::<1, Int>::arange(0..some.dims()[0].try_into()?, &device);
        let loss = cross_entropy(model.logits(some.clone().autodiff()), labels.autodiff());
        println!("step {step}: loss {:.4}", loss.clone().try_into_scalar::<f32>()?);
        let gradients = Gradients::of(&loss, &model);
        model = optimizer.step(0.01, model, gradients);
    }
    std::fs::create_dir_all(out)?;
    model.state_dict()?.write(&Path::new(out).join("model.safetensors"))?;
    let logits = model.valid().logits(images);
    let shape = logits.dims().to_vec();
    let logits = StateTensor { shape, numbers: Numbers::Floats(logits.into_data().iter::<f32>().collect()) };
    let logits: StateDict = [("logits".to_owned(), logits)].into_iter().collect();
    logits.write(&Path::new(out).join("logits.safetensors"))?;
    println!("{out}: model.safetensors, logits.safetensors");
    Ok(())
}

fn tensor<const D: usize>(state: &StateDict, name: &str, device: &Device) -> Result<Tensor<D>, String> {
    let tensor = state.get(name).ok_or_else(|| format!("there is no `{name}`"))?;
    match &tensor.numbers {
        Numbers::Floats(numbers) if tensor.shape.len() == D => {
            Ok(Tensor::from_data(TensorData::new(numbers.clone(), tensor.shape.clone()), device))
        }
        other => Err(format!("`{name}` is {:?} of {other:?}", tensor.shape)),
    }
}
