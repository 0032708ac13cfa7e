//! A layer of one's own in a model file: what it takes to add `scale` to the layers that Batchmill brings along.
//!
//! `cargo run -p batchmill-trainer --example own_layer`

use batchmill_trainer::config::ModelSpec;
use batchmill_trainer::fields::Input;
use batchmill_trainer::layer::{AnyLayer, Layer, Misfit};
use batchmill_trainer::loss::cross_entropy;
use batchmill_trainer::model::Sequential;
use batchmill_trainer::registry::{Build, Registry};
use batchmill_trainer::section::{Mistake, Section};
use batchmill_trainer::shape::{Activation, Extents};
use burn::module::{Module, Param};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Tensor};

const MODEL: &str = r#"
    [[layer]]
    kind = "flatten"
    [[layer]]
    kind = "scale"
    initial = 0.5
    [[layer]]
    kind = "linear"
    out_features = 2
"#;

/// Every feature times a number of its own, which is learned.
#[derive(Module, Debug)]
struct Scale {
    weight: Param<Tensor<1>>,
}

impl Layer for Scale {
    fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit> {
        let [features] = self.weight.lazy_shape().dims();
        if arrives.features() == Some(features) {
            return Ok(arrives.clone());
        }
        Err(Misfit::shape(format!("[batch, {features}]"), arrives, "put a layer of kind \"flatten\" before it"))
    }

    fn forward(&self, x: Activation) -> Activation {
        let Activation::Flat(x) = x else { unreachable!("`leaves` refuses other ranks") };
        Activation::Flat(x * self.weight.val().unsqueeze())
    }

    fn to_torch(&self) -> String {
        let [features] = self.weight.lazy_shape().dims();
        format!("Scale({features})")
    }
}

/// `initial` (1).
fn parse_scale(section: &mut Section<'_>, _: &Registry) -> Result<Build, Mistake> {
    let initial = section.number("initial")?.unwrap_or(1.0);
    Ok(Box::new(move |arrives, device| {
        let features = arrives.features().unwrap_or(1);
        let weight = Tensor::<1>::full([features], initial, device);
        Ok(AnyLayer::new(Scale { weight: Param::from_tensor(weight) }))
    }))
}

fn main() {
    let (before, after) = train();
    println!("loss {before:.4} before, {after:.4} after");
}

/// Trains a model with that layer a little; the losses before and after.
fn train() -> (f32, f32) {
    let device = Device::flex().autodiff();
    let registry = Registry::builtin().layer("scale", parse_scale);
    let spec = ModelSpec::parse_with(MODEL, &registry).expect("the text is a model file");
    let input: Input = "2x2x1".parse().expect("an image shape");
    let mut model = Sequential::build(&spec, input, &device).expect("the layers fit");
    println!("{model}");
    let images = Tensor::<4>::from_data([[[[1.0, 0.0], [0.0, 0.0]]], [[[0.0, 0.0], [0.0, 1.0]]]], &device);
    let labels = Tensor::from_data([0, 1], &device);
    let mut optimizer = SgdConfig::new().init();
    let mut losses = Vec::new();
    for _ in 0..20 {
        let loss = cross_entropy(model.logits(images.clone()), labels.clone());
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(0.5, model, gradients);
        losses.push(loss.into_scalar::<f32>());
    }
    (losses[0], losses[19])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_of_another_crate_is_built_and_learns() {
        let (before, after) = train();
        assert!(after < before / 2.0, "{before} before, {after} after");
    }

    #[test]
    fn its_keys_and_shapes_are_checked_like_any() {
        let registry = Registry::builtin().layer("scale", parse_scale);
        let mistake = ModelSpec::parse_with("[[layer]]\nkind = 'scale'\ninital = 2", &registry);
        let mistake = mistake.expect_err("the key is misspelled").to_string();
        assert_eq!(mistake, "line 3: unknown key `inital` in [[layer]] 0 (scale): did you mean `initial`?");
        let spec = ModelSpec::parse_with("[[layer]]\nkind = 'scale'", &registry).expect("it is a model file");
        let input: Input = "2x2x1".parse().expect("an image shape");
        let misfit = Sequential::build(&spec, input, &Device::flex()).expect_err("images arrive").to_string();
        assert_eq!(
            misfit,
            "layer 0 (scale) wants [batch, 1], but [batch, 1, 2, 2] arrives: put a layer of kind \"flatten\" before it"
        );
    }
}
