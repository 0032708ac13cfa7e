//! `Sequential`: layers in a row, made for the shape of a stream's images.

use std::fmt::Write;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Bool, Device, Tensor, TensorReadError};
use serde::Serialize;
use thiserror::Error;

use crate::config::ModelSpec;
use crate::layers::{Layer, Misfit};
use crate::shape::{Activation, Extents, ImageShape};

/// Layers in a row, as `torch.nn.Sequential`. Its parameters are called `layers.1.weight`.
#[derive(Module, Debug)]
pub struct Sequential {
    /// First to last.
    pub layers: Vec<Layer>,
    outputs: usize,
}

/// Why a model cannot be made.
#[derive(Debug, Error)]
pub enum ModelError {
    /// Two layers, or a layer and the images, do not fit together.
    #[error("layer {idx} {misfit}")]
    Misfit {
        /// The layer, from 0, and its kind.
        idx: String,
        /// What it wants and what arrives.
        misfit: Misfit,
    },
    /// The model is made for other images.
    #[error("the model file says input = {stated:?}, but the images are {found:?}: change it, or leave it out")]
    Input {
        /// What the file says: height, width, channels.
        stated: [usize; 3],
        /// What arrives.
        found: [usize; 3],
    },
    /// The last layer leaves no row of numbers.
    #[error("the last layer leaves {leaves}, not one number per class: end with a flatten and a linear layer")]
    NoClasses {
        /// Its shape.
        leaves: Extents,
    },
    /// The last layer has fewer numbers than there are classes.
    #[error(
        "the last layer has {outputs} outputs, but stream `{stream}` has {classes} classes: set out_features = {classes}"
    )]
    TooFewOutputs {
        /// The stream.
        stream: String,
        /// Numbers it leaves.
        outputs: usize,
        /// Classes of the stream.
        classes: usize,
    },
}

/// One parameter of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Parameter {
    /// Such as `layers.1.weight`.
    pub name: String,
    /// Burn's order: a linear layer's weight is `[inputs, outputs]`.
    pub shape: Vec<usize>,
    /// Numbers in it.
    pub count: usize,
}

impl Sequential {
    /// Makes the layers of `spec` for images of shape `input`. No tensor is made before its first use.
    ///
    /// # Errors
    /// [`ModelError::Misfit`] with the first layer that does not fit what arrives.
    pub fn build(spec: &ModelSpec, input: ImageShape, device: &Device) -> Result<Self, ModelError> {
        let extents = |ImageShape { height, width, channels }| [height, width, channels];
        if let Some(stated) = spec.input.filter(|&stated| stated != input) {
            return Err(ModelError::Input { stated: extents(stated), found: extents(input) });
        }
        let mut arrives = Extents::from(input);
        let mut layers = Vec::new();
        for (idx, layer) in spec.layers.iter().enumerate() {
            let misfit = |misfit| ModelError::Misfit { idx: format!("{idx} ({})", layer.kind()), misfit };
            let (layer, leaves) = layer.build(arrives, device).map_err(misfit)?;
            layers.push(layer);
            arrives = leaves;
        }
        match arrives {
            Extents::Flat { features } => Ok(Self { layers, outputs: features }),
            leaves @ Extents::Image { .. } => Err(ModelError::NoClasses { leaves }),
        }
    }

    /// Draws the parameters now, which burn would do as each is used first: they are to follow from the seed alone, not
    /// from what else is drawn until then.
    pub fn draw(&self) {
        self.visit(&mut Draw);
    }

    /// The numbers of the last layer.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Checks that every one of the classes of `stream` has an output.
    ///
    /// # Errors
    /// [`ModelError::TooFewOutputs`].
    pub fn check_classes(&self, stream: &str, classes: usize) -> Result<(), ModelError> {
        if self.outputs < classes {
            return Err(ModelError::TooFewOutputs { outputs: self.outputs, stream: stream.to_owned(), classes });
        }
        Ok(())
    }

    /// Computes one score per class. A softmax at the end is left out: the loss, and whoever wants probabilities,
    /// does it.
    ///
    /// *Shapes* `[batch, channels, height, width]` to `[batch, outputs]`.
    pub fn logits(&self, images: Tensor<4>) -> Tensor<2> {
        let layers = match self.layers.split_last() {
            Some((Layer::Softmax(_), others)) => others,
            _ => &self.layers,
        };
        match layers.iter().fold(Activation::Image(images), |x, layer| layer.forward(x)) {
            Activation::Flat(logits) => logits,
            Activation::Image(_) => unreachable!("`build` makes models that leave a row of numbers"),
        }
    }

    /// Writes the model as PyTorch prints a module.
    pub fn to_torch_string(&self) -> String {
        let mut text = String::from("Sequential(\n");
        for (idx, layer) in self.layers.iter().enumerate() {
            let written = write!(text, "  ({idx}): ").and_then(|()| layer.write_torch(&mut text));
            written.expect("writing to a string does not fail");
            text.push('\n');
        }
        text.push(')');
        text
    }

    /// Every parameter, in layer order.
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut collect = Collect::default();
        self.visit(&mut collect);
        collect.parameters
    }

    /// The name of the first parameter that holds something else than finite numbers. Waits for the device.
    ///
    /// # Errors
    /// When the device fails.
    pub fn runaway(&self) -> Result<Option<String>, TensorReadError> {
        let mut finite = Finite { each: Vec::new() };
        self.visit(&mut finite);
        for (parameter, finite) in self.parameters().into_iter().zip(finite.each) {
            if !finite.try_into_scalar::<bool>()? {
                return Ok(Some(parameter.name));
            }
        }
        Ok(None)
    }
}

/// Walks a module and makes sure that each parameter is there.
struct Draw;

impl ModuleVisitor for Draw {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        param.val();
    }
}

/// Walks a module and asks of each parameter, in the order of [`Collect`], whether all its numbers are finite.
struct Finite {
    each: Vec<Tensor<1, Bool>>,
}

impl ModuleVisitor for Finite {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.each.push(param.val().is_finite().all());
    }
}

/// Walks a module and writes down its parameters.
#[derive(Default)]
struct Collect {
    path: Vec<String>,
    parameters: Vec<Parameter>,
}

/// How burn marks the path segment that is an enum's variant; ours are `layers.1.weight`, not `layers.1.Linear.weight`.
const VARIANT: &str = "Enum:";

impl ModuleVisitor for Collect {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        if !container_type.starts_with(VARIANT) {
            self.path.push(name.to_owned());
        }
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        if !container_type.starts_with(VARIANT) {
            self.path.pop();
        }
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let shape = param.lazy_shape();
        self.parameters.push(Parameter {
            name: self.path.join("."),
            count: shape.num_elements(),
            shape: shape.as_slice().to_vec(),
        });
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const MLP: &str = include_str!("../../scripts/models/quickstart-mlp.toml");
    const CNN: &str = include_str!("../../scripts/models/small-cnn.toml");

    fn build(text: &str, input: &str) -> Result<Sequential, ModelError> {
        let spec = ModelSpec::parse(text).expect("the text is a model file");
        Sequential::build(&spec, input.parse().expect("an image shape"), &Device::flex())
    }

    #[test]
    fn the_quickstart_model_is_pytorchs() {
        let model = build(MLP, "28x28x1").expect("it fits");
        expect![[r#"
            Sequential(
              (0): Flatten(start_dim=1, end_dim=-1)
              (1): Linear(in_features=784, out_features=512, bias=True)
              (2): ReLU()
              (3): Linear(in_features=512, out_features=512, bias=True)
              (4): ReLU()
              (5): Linear(in_features=512, out_features=10, bias=True)
            )"#]]
        .assert_eq(&model.to_torch_string());
        let lines: Vec<_> =
            model.parameters().iter().map(|p| format!("{} {:?} {}", p.name, p.shape, p.count)).collect();
        expect![[r#"
            layers.1.weight [784, 512] 401408
            layers.1.bias [512] 512
            layers.3.weight [512, 512] 262144
            layers.3.bias [512] 512
            layers.5.weight [512, 10] 5120
            layers.5.bias [10] 10"#]]
        .assert_eq(&lines.join("\n"));
        assert_eq!(model.parameters().iter().map(|parameter| parameter.count).sum::<usize>(), 669_706);
    }

    #[test]
    fn every_layer_prints_as_in_pytorch() {
        let text = r#"
            [[layer]]
            kind = "conv2d"
            out_channels = 8
            kernel_size = [3, 5]
            padding = [1, 2]
            stride = 2
            bias = false
            [[layer]]
            kind = "max-pool2d"
            kernel_size = 2
            [[layer]]
            kind = "max-pool2d"
            kernel_size = [2, 3]
            stride = 1
            padding = 1
            [[layer]]
            kind = "dropout"
            p = 0.25
            [[layer]]
            kind = "flatten"
            [[layer]]
            kind = "linear"
            out_features = 10
            bias = false
            [[layer]]
            kind = "softmax"
        "#;
        expect![[r#"
            Sequential(
              (0): Conv2d(3, 8, kernel_size=(3, 5), stride=(2, 2), padding=(1, 2), bias=False)
              (1): MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)
              (2): MaxPool2d(kernel_size=(2, 3), stride=1, padding=1, dilation=1, ceil_mode=False)
              (3): Dropout(p=0.25, inplace=False)
              (4): Flatten(start_dim=1, end_dim=-1)
              (5): Linear(in_features=576, out_features=10, bias=False)
              (6): Softmax(dim=1)
            )"#]]
        .assert_eq(&build(text, "32x32x3").expect("it fits").to_torch_string());
    }

    #[test]
    fn one_file_fits_gray_and_colour() {
        for (input, parameters) in [("28x28x1", 20_490), ("32x32x3", 25_578)] {
            let model = build(CNN, input).expect("it fits");
            let sum: usize = model.parameters().iter().map(|parameter| parameter.count).sum();
            assert_eq!(sum, parameters, "{input}");
        }
    }

    #[test]
    fn a_forward_pass_leaves_the_shape_that_was_inferred() {
        for input in ["28x28x1", "32x32x3", "17x31x2"] {
            let shape: ImageShape = input.parse().expect("an image shape");
            let images = Tensor::ones([2, shape.channels, shape.height, shape.width], &Device::flex());
            let model = build(CNN, input).expect("it fits");
            assert_eq!(model.logits(images).dims(), [2, model.outputs()], "{input}");
        }
    }

    fn check(text: &str, input: &str, expected: Expect) {
        expected.assert_eq(&build(text, input).expect_err("it does not fit").to_string());
    }

    fn layers(kinds: &[&str]) -> String {
        kinds.iter().map(|keys| format!("[[layer]]\nkind = {keys}\n")).collect()
    }

    #[test]
    fn a_layer_that_does_not_fit_is_named_with_both_shapes() {
        let flatten = "'flatten'";
        let linear = "'linear'\nout_features = 10";
        let wide = "'linear'\nin_features = 500\nout_features = 10";
        let conv = "'conv2d'\nout_channels = 8\nkernel_size = 5";
        let gray = "'conv2d'\nout_channels = 8\nkernel_size = 5\nin_channels = 1";
        let pool = "'max-pool2d'\nkernel_size = 4";
        check(
            &layers(&[flatten, wide]),
            "28x28x1",
            expect![
                "layer 1 (linear) wants [batch, 500], but [batch, 784] arrives: set in_features = 784, or leave it out"
            ],
        );
        check(
            &layers(&[linear]),
            "28x28x3",
            expect![[
                r#"layer 0 (linear) wants [batch, features], but [batch, 3, 28, 28] arrives: put a layer of kind "flatten" before it"#
            ]],
        );
        check(
            &layers(&[flatten, conv]),
            "28x28x1",
            expect![
                "layer 1 (conv2d) wants [batch, channels, height, width], but [batch, 784] arrives: move it before the layer that flattens"
            ],
        );
        check(
            &layers(&[flatten, pool]),
            "28x28x1",
            expect![
                "layer 1 (max-pool2d) wants [batch, channels, height, width], but [batch, 784] arrives: move it before the layer that flattens"
            ],
        );
        check(
            &layers(&[gray]),
            "28x28x3",
            expect![
                "layer 0 (conv2d) wants [batch, 1, height, width], but [batch, 3, 28, 28] arrives: set in_channels = 3, or leave it out"
            ],
        );
        check(
            &layers(&[conv, pool, conv, conv]),
            "28x28x1",
            expect![
                "layer 3 (conv2d) wants an image of at least its kernel, 5 by 5, but [batch, 8, 2, 2] arrives: make kernel_size smaller or padding larger"
            ],
        );
        check(
            &layers(&[pool, pool, pool]),
            "28x28x1",
            expect![
                "layer 2 (max-pool2d) wants an image of at least its window, 4 by 4, but [batch, 1, 1, 1] arrives: leave one pooling layer out, or make kernel_size smaller"
            ],
        );
        check(
            &layers(&[conv]),
            "28x28x1",
            expect![
                "the last layer leaves [batch, 8, 24, 24], not one number per class: end with a flatten and a linear layer"
            ],
        );
        check(
            &format!("input = [28, 28, 1]\n{}", layers(&[flatten])),
            "28x28x3",
            expect![
                "the model file says input = [28, 28, 1], but the images are [28, 28, 3]: change it, or leave it out"
            ],
        );
        check(
            &layers(&[flatten, "'linear'\nout_features = 1048576"]),
            "4096x4096x3",
            expect![
                "layer 1 (linear) would need more than 4294967296 weights for [batch, 50331648]: make it, or what arrives, smaller"
            ],
        );
    }

    #[test]
    fn every_class_needs_an_output() {
        let model = build(MLP, "28x28x1").expect("it fits");
        assert!(model.check_classes("train", 10).is_ok());
        let error = model.check_classes("test", 12).expect_err("ten outputs are too few");
        expect!["the last layer has 10 outputs, but stream `test` has 12 classes: set out_features = 12"]
            .assert_eq(&error.to_string());
    }

    #[test]
    fn a_parameter_that_ran_away_is_named() {
        let mut model = build(MLP, "28x28x1").expect("it fits");
        assert_eq!(model.runaway().expect("the CPU does not fail"), None);
        for number in [f32::NAN, f32::NEG_INFINITY] {
            let Some(Layer::Linear(last)) = model.layers.last_mut() else { panic!("the last layer is linear") };
            let bias = Tensor::from_data([0.0, 1.0, number], &Device::flex());
            last.bias = Some(Param::from_tensor(bias));
            assert_eq!(model.runaway().expect("the CPU does not fail").as_deref(), Some("layers.5.bias"));
        }
    }
}
