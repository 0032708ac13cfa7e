//! `Sequential`: layers in a row, each handing on what it leaves to the next.

use burn::module::{Content, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor};
use burn::nn::conv::{Conv1dConfig, Conv2dConfig};
use burn::nn::pool::{AdaptiveAvgPool2dConfig, AvgPool2dConfig, MaxPool2dConfig};
use burn::nn::{DropoutConfig, Embedding, EmbeddingConfig, LinearConfig};
use burn::tensor::{Device, Tensor};
use thiserror::Error;

use crate::config::ModelSpec;
use crate::fields::{Answer, Input};
use crate::layer::{AnyLayer, Layer, Misfit, Misplaced, Row};
use crate::layers::{
    BatchNorm, Flatten, Gelu, GroupNorm, LayerNorm, LeakyRelu, LogSoftmax, Relu, Reshape, Sigmoid, Silu, Softmax, Tanh,
};
use crate::shape::{Activation, Extents};

/// Layers in a row, as `torch.nn.Sequential`.
///
/// Out of a model file it comes by [`build`](Self::build), which infers what the file leaves out and checks that the
/// layers fit one another. In Rust code it is put together as in Python, with all sizes given:
///
/// ```
/// use batchmill_trainer::layer::Layer;
/// use batchmill_trainer::model::Sequential;
/// use batchmill_trainer::shape::Extents;
/// use burn::module::Module;
/// use burn::tensor::{Device, Tensor};
///
/// let device = Device::flex();
/// // nn.Sequential(nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 10)).to(device)
/// let model = Sequential::new().flatten().linear(784, 512).relu().linear(512, 10).to_device(&device);
/// println!("{model}");
///
/// let images = Tensor::<4>::ones([64, 1, 28, 28], &device);
/// let logits = model.logits(images);
/// assert_eq!(logits.dims(), [64, 10]);
/// // Shapes can be asked for before any tensor is made.
/// assert_eq!(model.leaves(&Extents::Floats(vec![1, 28, 28])).unwrap(), Extents::Floats(vec![10]));
/// ```
///
/// A layer that has no method here is [`push`](Self::push)ed, one of another crate as well as those of `burn::nn`.
/// Parameters are drawn when they are first used, and have the names that PyTorch gives them: `1.weight`.
#[derive(Clone, Debug, Default)]
pub struct Sequential {
    entries: Vec<Entry>,
    outputs: usize,
}

/// A layer of a row.
#[derive(Clone, Debug)]
struct Entry {
    /// What its parameters' names begin with.
    name: String,
    /// Its name in a model file.
    kind: String,
    layer: AnyLayer,
}

/// Why a model cannot be made.
#[derive(Debug, Error)]
pub enum ModelError {
    /// Two layers, or a layer and the samples, do not fit together.
    #[error(transparent)]
    Misfit(#[from] Misplaced),
    /// The model is made for other samples.
    #[error("the model file says input = {stated:?}, but the samples are {found:?}: change it, or leave it out")]
    Input {
        /// What the file says; for images height, width, channels.
        stated: Vec<usize>,
        /// What arrives.
        found: Vec<usize>,
    },
    /// The last layer leaves no row of numbers.
    #[error("the last layer leaves {leaves}, not one row of numbers a sample: end with a flatten and a linear layer")]
    NoClasses {
        /// Its shape.
        leaves: Extents,
    },
    /// The last layer has another number of outputs than there are numbers to answer.
    #[error("the last layer has {outputs} outputs, but it should answer {wanted} numbers: set out_features = {wanted}")]
    OtherOutputs {
        /// Numbers it leaves.
        outputs: usize,
        /// Numbers of the target.
        wanted: usize,
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

/// Putting one together.
impl Sequential {
    /// A row without layers, which hands on what it gets.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the layers of `spec` for samples of `input`. No tensor is made before its first use.
    ///
    /// # Errors
    /// [`ModelError::Misfit`] with the first layer that does not fit what arrives.
    pub fn build(spec: &ModelSpec, input: impl Into<Input>, device: &Device) -> Result<Self, ModelError> {
        let input = input.into();
        let found = input.stated();
        if let Some(stated) = spec.input.as_ref().filter(|stated| **stated != found) {
            return Err(ModelError::Input { stated: stated.clone(), found });
        }
        let (model, leaves) = spec.layers.build(&input.extents(), device)?;
        let outputs = leaves.features().ok_or(ModelError::NoClasses { leaves })?;
        Ok(Self { outputs, ..model })
    }

    /// Adds a layer, whose name is its number in the row.
    #[must_use]
    pub fn push(self, layer: impl Layer + 'static) -> Self {
        let name = self.entries.len().to_string();
        let kind = layer.to_torch().split('(').next().unwrap_or_default().to_owned();
        self.named(name, &kind, AnyLayer::new(layer))
    }

    /// Adds a layer under a name of its own.
    pub(crate) fn named(mut self, name: String, kind: &str, layer: AnyLayer) -> Self {
        self.entries.push(Entry { name, kind: kind.to_owned(), layer });
        self
    }

    /// `nn.Flatten()`.
    #[must_use]
    pub fn flatten(self) -> Self {
        self.push(Flatten)
    }

    /// `nn.Linear(in_features, out_features)`.
    #[must_use]
    pub fn linear(self, in_features: usize, out_features: usize) -> Self {
        self.push(LinearConfig::new(in_features, out_features).init(&Device::flex()))
    }

    /// `nn.Conv2d(in_channels, out_channels, kernel_size)`; one with stride or padding is
    /// [`push`](Self::push)ed.
    #[must_use]
    pub fn conv2d(self, in_channels: usize, out_channels: usize, kernel_size: usize) -> Self {
        self.push(Conv2dConfig::new([in_channels, out_channels], [kernel_size; 2]).init(&Device::flex()))
    }

    /// `nn.MaxPool2d(kernel_size)`.
    #[must_use]
    pub fn max_pool2d(self, kernel_size: usize) -> Self {
        self.push(MaxPool2dConfig::new([kernel_size; 2]).with_strides([kernel_size; 2]).init())
    }

    /// `nn.AvgPool2d(kernel_size)`.
    #[must_use]
    pub fn avg_pool2d(self, kernel_size: usize) -> Self {
        self.push(AvgPool2dConfig::new([kernel_size; 2]).with_strides([kernel_size; 2]).init())
    }

    /// `nn.AdaptiveAvgPool2d(output_size)`.
    #[must_use]
    pub fn adaptive_avg_pool2d(self, output_size: [usize; 2]) -> Self {
        self.push(AdaptiveAvgPool2dConfig::new(output_size).init())
    }

    /// `nn.Conv1d(in_channels, out_channels, kernel_size)`.
    #[must_use]
    pub fn conv1d(self, in_channels: usize, out_channels: usize, kernel_size: usize) -> Self {
        self.push(Conv1dConfig::new(in_channels, out_channels, kernel_size).init(&Device::flex()))
    }

    /// `nn.BatchNorm1d(num_features)`, of rows and sequences.
    #[must_use]
    pub fn batch_norm1d(self, num_features: usize) -> Self {
        self.push(BatchNorm::new(num_features, false, &Device::flex()))
    }

    /// `nn.BatchNorm2d(num_features)`, of images.
    #[must_use]
    pub fn batch_norm2d(self, num_features: usize) -> Self {
        self.push(BatchNorm::new(num_features, true, &Device::flex()))
    }

    /// `nn.LayerNorm(normalized_shape)`.
    #[must_use]
    pub fn layer_norm<const R: usize>(self, normalized_shape: [usize; R]) -> Self {
        self.push(LayerNorm::new(normalized_shape, &Device::flex()))
    }

    /// `nn.GroupNorm(num_groups, num_channels)`.
    #[must_use]
    pub fn group_norm(self, num_groups: usize, num_channels: usize) -> Self {
        self.push(GroupNorm::new(num_groups, num_channels, &Device::flex()))
    }

    /// `nn.Embedding(num_embeddings, embedding_dim)`.
    #[must_use]
    pub fn embedding(self, num_embeddings: usize, embedding_dim: usize) -> Self {
        self.push(EmbeddingConfig::new(num_embeddings, embedding_dim).init(&Device::flex()))
    }

    /// `nn.Unflatten(1, shape)`.
    #[must_use]
    pub fn reshape<const R: usize>(self, shape: [usize; R]) -> Self {
        self.push(Reshape { shape: shape.to_vec() })
    }

    /// `nn.LeakyReLU(negative_slope)`.
    #[must_use]
    pub fn leaky_relu(self, negative_slope: f64) -> Self {
        self.push(LeakyRelu { negative_slope })
    }

    /// `nn.GELU()`.
    #[must_use]
    pub fn gelu(self) -> Self {
        self.push(Gelu::default())
    }

    /// `nn.SiLU()`.
    #[must_use]
    pub fn silu(self) -> Self {
        self.push(Silu)
    }

    /// `nn.Sigmoid()`.
    #[must_use]
    pub fn sigmoid(self) -> Self {
        self.push(Sigmoid)
    }

    /// `nn.Tanh()`.
    #[must_use]
    pub fn tanh(self) -> Self {
        self.push(Tanh)
    }

    /// `nn.LogSoftmax(dim=1)`.
    #[must_use]
    pub fn log_softmax(self) -> Self {
        self.push(LogSoftmax { dim: 1 })
    }

    /// `nn.ReLU()`.
    #[must_use]
    pub fn relu(self) -> Self {
        self.push(Relu)
    }

    /// `nn.Dropout(p)`.
    ///
    /// # Panics
    /// When `p` is not from 0 to below 1.
    #[must_use]
    pub fn dropout(self, p: f64) -> Self {
        self.push(DropoutConfig::new(p).init())
    }

    /// `nn.Softmax(dim=1)`.
    #[must_use]
    pub fn softmax(self) -> Self {
        self.push(Softmax { dim: 1 })
    }
}

/// Using it.
impl Sequential {
    /// Draws the parameters now, which burn would do as each is used first: they are to follow from the seed alone, not
    /// from what else is drawn until then.
    pub fn draw(&self) {
        self.visit(&mut Draw);
    }

    /// The numbers of the last layer, as [`build`](Self::build) found them.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// The rows of the embedding that it begins with, if it does: whole numbers must be below.
    pub fn embeddings(&self) -> Option<usize> {
        let first = &self.entries.first()?.layer;
        let rows = |embedding: &Embedding| embedding.weight.lazy_shape().dims::<2>()[0];
        first.downcast_ref().map(rows).or_else(|| first.downcast_ref::<Self>()?.embeddings())
    }

    /// The layer at `idx`, to be looked into.
    pub fn layer_mut(&mut self, idx: usize) -> Option<&mut AnyLayer> {
        self.entries.get_mut(idx).map(|entry| &mut entry.layer)
    }

    /// Checks that there is an output for every one of the classes of `stream`, or for each number where it should
    /// answer with numbers.
    ///
    /// # Errors
    /// [`ModelError::TooFewOutputs`], [`ModelError::OtherOutputs`].
    pub fn check_answer(&self, answer: Answer, stream: &str, classes: usize) -> Result<(), ModelError> {
        let outputs = self.outputs;
        match answer {
            Answer::Class if outputs < classes => {
                Err(ModelError::TooFewOutputs { outputs, stream: stream.to_owned(), classes })
            }
            Answer::Numbers(wanted) if outputs != wanted => Err(ModelError::OtherOutputs { outputs, wanted }),
            _ => Ok(()),
        }
    }

    /// Computes the answer that a loss compares: [`logits`](Self::logits) of classes, else what the last layer leaves.
    ///
    /// *Shape* of what leaves: `[batch, outputs]`.
    ///
    /// # Panics
    /// As [`logits`](Self::logits).
    pub fn answer(&self, x: impl Into<Activation>, answer: Answer) -> Tensor<2> {
        match answer {
            Answer::Class => self.logits(x),
            Answer::Numbers(_) => flat(self.forward(x.into())),
        }
    }

    /// Computes one score per class. A softmax at the end is left out: the loss, and whoever wants probabilities,
    /// does it.
    ///
    /// *Shape* of what leaves: `[batch, outputs]`.
    ///
    /// # Panics
    /// When the last layer leaves no row of numbers, or what arrives does not fit.
    pub fn logits(&self, x: impl Into<Activation>) -> Tensor<2> {
        let entries = match self.entries.split_last() {
            Some((last, others)) if [1, -1].map(|dim| Softmax { dim }.to_torch()).contains(&last.layer.to_torch()) => {
                others
            }
            _ => &self.entries,
        };
        flat(entries.iter().fold(x.into(), |x, entry| entry.layer.forward(x)))
    }

    /// What a summary has to say of each layer, for samples of shape `arrives`.
    pub fn rows(&self, arrives: &Extents) -> Vec<Row> {
        let mut rows = Vec::new();
        self.describe("", arrives, &mut rows);
        rows
    }

    /// Its layers as PyTorch prints them, with their names.
    pub(crate) fn parts(&self) -> Vec<(String, String)> {
        self.entries.iter().map(|entry| (entry.name.clone(), entry.layer.to_torch())).collect()
    }
}

impl Layer for Sequential {
    fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit> {
        self.entries.iter().try_fold(arrives.clone(), |arrives, Entry { name, kind, layer }| {
            layer.leaves(&arrives).map_err(|misfit| Misplaced::new(name, kind, misfit).into())
        })
    }

    fn forward(&self, x: Activation) -> Activation {
        self.entries.iter().fold(x, |x, entry| entry.layer.forward(x))
    }

    fn to_torch(&self) -> String {
        nested("Sequential", self.parts())
    }

    fn describe(&self, path: &str, arrives: &Extents, rows: &mut Vec<Row>) {
        let mut arrives = arrives.clone();
        for Entry { name, layer, .. } in &self.entries {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            layer.describe(&path, &arrives, rows);
            arrives = layer.leaves(&arrives).unwrap_or(arrives);
        }
    }
}

/// What the last layer left.
fn flat(left: Activation) -> Tensor<2> {
    match left {
        Activation::Flat(rows) => rows,
        other => panic!("a model that answers leaves [batch, outputs], this one {}", other.extents()),
    }
}

/// A module with others inside, as PyTorch prints it.
pub(crate) fn nested(title: &str, parts: Vec<(String, String)>) -> String {
    let part = |(name, text): (String, String)| format!("  ({name}): {}\n", text.replace('\n', "\n  "));
    format!("{title}(\n{})", parts.into_iter().map(part).collect::<String>())
}

/// How a burn visitor is told of a layer in the row.
const CONTAINER: &str = "Sequential";

impl Module for Sequential {
    fn collect_devices(&self, devices: Vec<Device>) -> Vec<Device> {
        self.entries.iter().fold(devices, |devices, entry| entry.layer.collect_devices(devices))
    }

    fn fork(self, device: &Device) -> Self {
        self.each(|layer| layer.fork(device))
    }

    fn to_device(self, device: &Device) -> Self {
        self.each(|layer| layer.to_device(device))
    }

    fn train(self) -> Self {
        self.each(Module::train)
    }

    fn valid(&self) -> Self {
        let entry =
            |entry: &Entry| Entry { name: entry.name.clone(), kind: entry.kind.clone(), layer: entry.layer.valid() };
        Self { entries: self.entries.iter().map(entry).collect(), outputs: self.outputs }
    }

    fn materialize(self) -> Self {
        self.each(Module::materialize)
    }

    fn visit<Visitor: ModuleVisitor>(&self, visitor: &mut Visitor) {
        for Entry { name, layer, .. } in &self.entries {
            visitor.enter_module(name, CONTAINER);
            layer.visit(visitor);
            visitor.exit_module(name, CONTAINER);
        }
    }

    fn map<Mapper: ModuleMapper>(self, mapper: &mut Mapper) -> Self {
        let entry = |Entry { name, kind, layer }| {
            mapper.enter_module(&name, CONTAINER);
            let layer = layer.map(mapper);
            mapper.exit_module(&name, CONTAINER);
            Entry { name, kind, layer }
        };
        Self { entries: self.entries.into_iter().map(entry).collect(), outputs: self.outputs }
    }
}

impl Sequential {
    fn each(self, change: impl Fn(AnyLayer) -> AnyLayer) -> Self {
        let entry = |Entry { name, kind, layer }| Entry { name, kind, layer: change(layer) };
        Self { entries: self.entries.into_iter().map(entry).collect(), outputs: self.outputs }
    }
}

impl std::fmt::Display for Sequential {
    /// Writes the model as PyTorch prints a module.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_torch())
    }
}

// Modules that hold a row, and derive the rest, are printed by burn.
impl ModuleDisplayDefault for Sequential {
    fn content(&self, content: Content) -> Option<Content> {
        content.add_formatted(&self.to_torch()).optional()
    }
}

impl ModuleDisplay for Sequential {}

/// Walks a module and makes sure that each parameter is there.
struct Draw;

impl ModuleVisitor for Draw {
    fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
        param.val();
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Param;
    use burn::nn::Linear;
    use expect_test::{Expect, expect};

    use super::*;
    use crate::shape::ImageShape;

    const MLP: &str = include_str!("../../scripts/models/quickstart-mlp.toml");
    const CNN: &str = include_str!("../../scripts/models/small-cnn.toml");

    fn build(text: &str, input: &str) -> Result<Sequential, ModelError> {
        let spec = ModelSpec::parse(text).expect("the text is a model file");
        Sequential::build(&spec, input.parse::<ImageShape>().expect("an image shape"), &Device::flex())
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
        .assert_eq(&model.to_string());
        let lines: Vec<_> =
            model.parameters().iter().map(|p| format!("{} {:?} {}", p.name, p.shape, p.count)).collect();
        expect![[r#"
            1.weight [512, 784] 401408
            1.bias [512] 512
            3.weight [512, 512] 262144
            3.bias [512] 512
            5.weight [10, 512] 5120
            5.bias [10] 10"#]]
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
        .assert_eq(&build(text, "32x32x3").expect("it fits").to_string());
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
            let images = Tensor::<4>::ones([2, shape.channels, shape.height, shape.width], &Device::flex());
            let model = build(CNN, input).expect("it fits");
            assert_eq!(model.logits(images).dims(), [2, model.outputs()], "{input}");
        }
    }

    #[test]
    fn a_softmax_is_left_out_of_scores_and_of_nothing_else() {
        let text = layers(&["'flatten'", "'linear'\nout_features = 3", "'softmax'"]);
        let model = build(&text, "2x2x1").expect("it fits");
        let images = Tensor::<4>::ones([5, 1, 2, 2], &Device::flex());
        let bits = |tensor: Tensor<2>| tensor.into_data();
        let logits = model.logits(images.clone());
        assert_eq!(bits(model.answer(images.clone(), Answer::Class)), bits(logits.clone()));
        let shares = burn::tensor::activation::softmax(logits, 1);
        assert_eq!(bits(model.answer(images, Answer::Numbers(3))), bits(shares));
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
                "the last layer leaves [batch, 8, 24, 24], not one row of numbers a sample: end with a flatten and a linear layer"
            ],
        );
        check(
            &format!("input = [28, 28, 1]\n{}", layers(&[flatten])),
            "28x28x3",
            expect![
                "the model file says input = [28, 28, 1], but the samples are [28, 28, 3]: change it, or leave it out"
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
        assert!(model.check_answer(Answer::Class, "train", 10).is_ok());
        let error = model.check_answer(Answer::Class, "test", 12).expect_err("ten outputs are too few");
        expect!["the last layer has 10 outputs, but stream `test` has 12 classes: set out_features = 12"]
            .assert_eq(&error.to_string());
    }

    #[test]
    fn a_parameter_that_ran_away_is_named() {
        let mut model = build(MLP, "28x28x1").expect("it fits");
        assert_eq!(model.runaway().expect("the CPU does not fail"), None);
        for number in [f32::NAN, f32::NEG_INFINITY] {
            let last = model.layer_mut(5).and_then(|layer| layer.downcast_mut::<Linear>()).expect("it is linear");
            let bias = Tensor::from_data([0.0, 1.0, number], &Device::flex());
            last.bias = Some(Param::from_tensor(bias));
            assert_eq!(model.runaway().expect("the CPU does not fail").as_deref(), Some("5.bias"));
        }
    }
}
