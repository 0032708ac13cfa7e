//! `trainer summary`: the layers and parameters of a model file, and what training it takes.

use serde::Serialize;
use thiserror::Error;

use crate::cli::SummaryArgs;
use crate::config::{ConfigError, ModelSpec};
use crate::fields::Input;
use crate::layer::Row;
use crate::model::{ModelError, Sequential};
use crate::registry::Registry;
use crate::report::{columns, json, say};
use crate::shape::Extents;
use crate::state::Parameter;

/// Why there is no summary.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "each is the error of the room it names")]
pub enum SummaryError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("build the model of {model}")]
    Model { model: String, source: Box<ModelError> },
    /// Nobody says what images the model is for.
    #[error(
        "the parameters depend on the size of the images, which {model} does not say: add --input and their height, \
         width and channels, such as --input 28x28x1, or begin the file with a line input = [28, 28, 1]"
    )]
    NoInput {
        /// The file.
        model: String,
    },
}

/// A layer of the table, and a line of `--json`.
#[derive(Debug, Serialize)]
struct LayerLine {
    layer: String,
    /// As PyTorch prints it.
    kind: String,
    /// The shape it leaves, without the batch.
    output: Vec<usize>,
    /// Numbers it learns.
    parameters: usize,
    multiply_adds: u64,
}

/// The last line of `--json`.
#[derive(Debug, Serialize)]
struct Total {
    /// Numbers of the model, learned or not.
    total: usize,
    trainable: usize,
    /// Numbers that are kept but not learned, such as running means.
    buffers: usize,
    /// Of one sample.
    multiply_adds: u64,
    memory: Memory,
}

/// What training keeps at once, in bytes; what a layer needs while it computes is not counted.
#[derive(Debug, Serialize)]
struct Memory {
    batch_size: usize,
    /// All numbers of the model.
    parameters: usize,
    /// The batch, and what each layer of the table leaves, which the backward pass reads.
    activations: usize,
    /// As many numbers as are learned.
    gradients: usize,
    /// Adam's two numbers for each that is learned; plain SGD keeps none.
    adam: usize,
}

/// The bytes of a number.
const F32: usize = size_of::<f32>();

/// Prints the layers, the parameters and what they come to.
///
/// # Errors
/// [`SummaryError`].
pub fn run(args: &SummaryArgs, registry: &Registry) -> Result<(), SummaryError> {
    let file = || args.model.display().to_string();
    let (spec, _) = ModelSpec::read(&args.model, registry)?;
    let stated = spec.input.as_deref().map(Input::assumed);
    let input = args.input.clone().or(stated).ok_or_else(|| SummaryError::NoInput { model: file() })?;
    // Parameters are not made until they are used: this takes no memory, however large the model.
    let model = Sequential::build(&spec, input.clone(), &burn::tensor::Device::flex())
        .map_err(|source| SummaryError::Model { model: file(), source: Box::new(source) })?;
    let layers = layers(&model, &input.extents());
    let parameters = model.parameters();
    let total = total(&layers, &parameters, &input.extents(), args.batch_size.get());
    if args.json {
        layers.iter().for_each(json);
        parameters.iter().for_each(json);
        json(&total);
    } else {
        say(&text(&layers, &parameters, &total));
    }
    Ok(())
}

fn layers(model: &Sequential, input: &Extents) -> Vec<LayerLine> {
    let parameters = model.named_parameters();
    let line = |row: Row| {
        let inside = format!("{}.", row.layer);
        let own = parameters.iter().filter(|parameter| parameter.name.starts_with(&inside));
        LayerLine {
            parameters: own.map(|parameter| parameter.count).sum(),
            output: row.leaves.as_slice().to_vec(),
            layer: row.layer,
            kind: row.kind,
            multiply_adds: row.multiply_adds,
        }
    };
    model.rows(input).into_iter().map(line).collect()
}

fn total(layers: &[LayerLine], parameters: &[Parameter], input: &Extents, batch_size: usize) -> Total {
    let count = |trainable| parameters.iter().filter(|p| p.trainable == trainable).map(|p| p.count).sum::<usize>();
    let (trainable, buffers) = (count(true), count(false));
    let left = |layer: &LayerLine| layer.output.iter().product::<usize>();
    let passed = input.numbers() + layers.iter().map(left).sum::<usize>();
    let memory = Memory {
        batch_size,
        parameters: (trainable + buffers) * F32,
        activations: passed.saturating_mul(batch_size).saturating_mul(F32),
        gradients: trainable * F32,
        adam: 2 * trainable * F32,
    };
    let multiply_adds = layers.iter().map(|layer| layer.multiply_adds).sum();
    Total { total: trainable + buffers, trainable, buffers, multiply_adds, memory }
}

/// What a person reads.
fn text(layers: &[LayerLine], parameters: &[Parameter], total: &Total) -> String {
    let output = |layer: &LayerLine| Extents::Floats(layer.output.clone()).to_string();
    let mut rows = vec![["layer", "output", "parameters", "multiply-adds", "kind"].map(str::to_owned).to_vec()];
    rows.extend(layers.iter().map(|layer| {
        let counts = [grouped(layer.parameters as u64), grouped(layer.multiply_adds)];
        let [parameters, multiply_adds] = counts.map(|count| if count == "0" { String::new() } else { count });
        vec![layer.layer.clone(), output(layer), parameters, multiply_adds, layer.kind.clone()]
    }));
    let layers = columns(&rows, "<<>><");
    let mut rows = vec![["parameter", "shape", "numbers", ""].map(str::to_owned).to_vec()];
    rows.extend(parameters.iter().map(|parameter| {
        let note = match (parameter.trainable, parameter.transposed) {
            (false, _) => "buffer".to_owned(),
            (true, true) => format!("{:?} in burn", parameter.burn_shape()),
            (true, false) => String::new(),
        };
        vec![parameter.name.clone(), format!("{:?}", parameter.shape), grouped(parameter.count as u64), note]
    }));
    let parameters = columns(&rows, "<<><");
    let Memory { batch_size, parameters: weights, activations, gradients, adam } = total.memory;
    let each = [weights, activations, gradients, adam];
    let [weights, activations, gradients, adam] = each.map(mebibytes);
    format!(
        "{layers}\n\n{parameters}\n\n\
         trainable      {trainable}\n\
         buffers        {buffers}\n\
         multiply-adds  {multiply_adds} for each sample\n\
         memory         {weights} model, {activations} outputs of all layers for a batch of {batch_size}, \
         {gradients} gradients, {adam} of Adam's state",
        trainable = grouped(total.trainable as u64),
        buffers = grouped(total.buffers as u64),
        multiply_adds = grouped(total.multiply_adds),
    )
}

/// `11,689,512`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let places = digits.len();
    let comma = |idx: usize| idx > 0 && (places - idx).is_multiple_of(3);
    digits.chars().enumerate().flat_map(|(idx, digit)| comma(idx).then_some(',').into_iter().chain([digit])).collect()
}

fn mebibytes(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use expect_test::{Expect, expect};

    use super::*;
    use crate::shape::ImageShape;

    #[test]
    fn a_file_without_an_input_says_how_to_give_one() {
        for model in ["quickstart-mlp.toml", "small-cnn.toml"] {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/models").join(model);
            let args = SummaryArgs { model: path, input: None, batch_size: NonZeroUsize::MIN, json: false };
            let error = run(&args, &Registry::builtin()).expect_err("it is for images of any size").to_string();
            expect!["the parameters depend on the size of the images, which FILE does not say: add --input and their height, width and channels, such as --input 28x28x1, or begin the file with a line input = [28, 28, 1]"]
                .assert_eq(&error.replace(&args.model.display().to_string(), "FILE"));
        }
    }

    fn check(model: &str, expected: Expect) {
        let spec = ModelSpec::parse(model).expect("the text is a model file");
        let input = ImageShape { height: 8, width: 8, channels: 3 };
        let model = Sequential::build(&spec, input, &burn::tensor::Device::flex()).expect("it fits");
        let layers = layers(&model, &input.into());
        let parameters = model.parameters();
        expected.assert_eq(&text(&layers, &parameters, &total(&layers, &parameters, &input.into(), 64)));
    }

    #[test]
    fn a_summary_names_every_layer_and_parameter() {
        check(
            r#"
                [[layer]]
                kind = "conv2d"
                out_channels = 16
                kernel_size = 3
                padding = 1
                bias = false
                [[layer]]
                kind = "residual"
                layers = [{ name = "bn1", kind = "batch-norm" }]
                activation = "relu"
                [[layer]]
                kind = "flatten"
                [[layer]]
                kind = "linear"
                out_features = 10
            "#,
            expect![[r#"
                layer         output             parameters  multiply-adds  kind
                0             [batch, 16, 8, 8]         432         27,648  Conv2d(3, 16, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)
                1.bn1         [batch, 16, 8, 8]          32                 BatchNorm2d(16, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)
                1.activation  [batch, 16, 8, 8]                             ReLU()
                2             [batch, 1024]                                 Flatten(start_dim=1, end_dim=-1)
                3             [batch, 10]            10,250         10,240  Linear(in_features=1024, out_features=10, bias=True)

                parameter           shape          numbers
                0.weight            [16, 3, 3, 3]      432
                1.bn1.weight        [16]                16
                1.bn1.bias          [16]                16
                1.bn1.running_mean  [16]                16  buffer
                1.bn1.running_var   [16]                16  buffer
                3.weight            [10, 1024]      10,240  [1024, 10] in burn
                3.bias              [10]                10

                trainable      10,714
                buffers        32
                multiply-adds  37,888 for each sample
                memory         0.0 MiB model, 1.0 MiB outputs of all layers for a batch of 64, 0.0 MiB gradients, 0.1 MiB of Adam's state"#]],
        );
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1000, 11_689_512].map(grouped), ["0", "999", "1,000", "11,689,512"]);
    }
}
