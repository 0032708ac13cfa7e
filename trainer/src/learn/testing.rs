//! What the tests of learning share: what PyTorch computed (`trainer/tests/golden/learn.py`), and small models.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde_json::Value;
use toml::de::DeTable;

use crate::config::ModelSpec;
use crate::model::Sequential;
use crate::optimizer::Gradients;
use crate::section::{Mistake, Section};
use crate::shape::ImageShape;

/// The part of the file under `name`.
pub(crate) fn golden(name: &str) -> Value {
    const TEXT: &str = include_str!("../../tests/golden/learn.json");
    let mut all: Value = serde_json::from_str(TEXT).expect("the file is JSON");
    all[name].take()
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().expect("an array")
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    list(value).iter().map(|number| number.as_f64().expect("a number")).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "nine digits are what an f32 has")]
pub(crate) fn singles(value: &Value) -> Vec<f32> {
    numbers(value).into_iter().map(|number| number as f32).collect()
}

pub(crate) fn tensor<const D: usize>(value: &Value, shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(singles(value), shape), &Device::flex())
}

pub(crate) fn labels(value: &Value) -> Tensor<1, Int> {
    let labels: Vec<i64> = list(value).iter().map(|label| label.as_i64().expect("a label")).collect();
    let shape = [labels.len()];
    Tensor::from_data(TensorData::new(labels, shape), &Device::flex())
}

/// The largest difference of two lists, relative to the larger of each expected number and `floor`.
pub(crate) fn largest_difference(found: &[f32], expected: &[f32], floor: f64) -> f64 {
    assert_eq!(found.len(), expected.len());
    let differences = found.iter().zip(expected).map(|(found, expected)| {
        let (found, expected) = (f64::from(*found), f64::from(*expected));
        (found - expected).abs() / expected.abs().max(floor)
    });
    differences.fold(0.0, |largest: f64, difference| {
        assert!(!difference.is_nan(), "{found:?} has no numbers");
        largest.max(difference)
    })
}

/// Reads the keys of one table, which errors call `[table]`.
pub(crate) fn parse<T>(keys: &str, parse: impl FnOnce(&mut Section<'_>) -> Result<T, Mistake>) -> Result<T, Mistake> {
    let document = DeTable::parse(keys).expect("it is TOML");
    let mut section = Section::new(keys, "[table]".to_owned(), document.span(), document.get_ref());
    let parsed = parse(&mut section)?;
    section.finish()?;
    Ok(parsed)
}

/// What is wrong with the keys of one table.
pub(crate) fn mistake<T>(keys: &str, reader: impl FnOnce(&mut Section<'_>) -> Result<T, Mistake>) -> String {
    match parse(keys, reader) {
        Ok(_) => "nothing".to_owned(),
        Err(mistake) => mistake.to_string(),
    }
}

/// A model of four pixels: one linear layer for each number of outputs, with a ReLU between any two.
pub(crate) fn model(outputs: &[usize]) -> Sequential {
    let linear = |outputs: &usize| format!("[[layer]]\nkind = 'linear'\nout_features = {outputs}\n");
    let layers: Vec<_> = outputs.iter().map(linear).collect();
    let text = format!("[[layer]]\nkind = 'flatten'\n{}", layers.join("[[layer]]\nkind = 'relu'\n"));
    let spec = ModelSpec::parse(&text).expect("a model");
    let shape = ImageShape { height: 2, width: 2, channels: 1 };
    let model = Sequential::build(&spec, shape, &Device::flex().autodiff()).expect("it fits");
    model.draw();
    model
}

/// Images `rows` of an endless list, which are all different. *Shape* `[rows, 1, 2, 2]`.
pub(crate) fn images(rows: std::ops::Range<u16>) -> Tensor<4> {
    let count = usize::from(rows.end - rows.start);
    let pixels: Vec<f32> = (4 * rows.start..4 * rows.end).map(|pixel| f32::from(pixel * 31 % 97) / 97.0).collect();
    Tensor::from_data(TensorData::new(pixels, [count, 1, 2, 2]), &Device::flex())
}

/// Classes of the same rows, of three.
pub(crate) fn classes(rows: std::ops::Range<u16>) -> Tensor<1, Int> {
    let labels: Vec<i64> = rows.map(|row| i64::from(row * 7 % 3)).collect();
    let shape = [labels.len()];
    Tensor::from_data(TensorData::new(labels, shape), &Device::flex())
}

/// All numbers of a model, in the order of its parameters.
pub(crate) fn numbers_of(model: &Sequential) -> Vec<f32> {
    struct Numbers(Vec<f32>);
    impl ModuleVisitor for Numbers {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.extend(param.val().into_data().iter::<f32>());
        }
    }
    let mut numbers = Numbers(Vec::new());
    model.visit(&mut numbers);
    numbers.0
}

/// The same model with these numbers.
pub(crate) fn with_numbers(model: Sequential, numbers: &[f32]) -> Sequential {
    struct Put<'a>(&'a [f32]);
    impl ModuleMapper for Put<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (id, tensor, mapper) = param.consume();
            let shape = tensor.shape();
            let (numbers, rest) = self.0.split_at(shape.num_elements());
            self.0 = rest;
            let tensor = Tensor::from_data(TensorData::new(numbers.to_vec(), shape), &Device::flex().autodiff());
            Param::from_mapped_value(id, tensor.require_grad(), mapper)
        }
    }
    model.map(&mut Put(numbers))
}

/// These numbers as the gradients of a model.
pub(crate) fn gradients(model: &Sequential, numbers: &[f32]) -> Gradients {
    let mut rest = numbers;
    let gradient = |count: usize| {
        let (numbers, after) = rest.split_at(count);
        rest = after;
        Some(Tensor::from_data(numbers, &Device::flex()))
    };
    Gradients { each: model.parameters().iter().map(|parameter| parameter.count).map(gradient).collect() }
}

/// All numbers of gradients.
pub(crate) fn numbers_of_gradients(gradients: &Gradients) -> Vec<f32> {
    let each = gradients.each.iter().flatten();
    each.flat_map(|gradient| gradient.to_data().iter::<f32>().collect::<Vec<_>>()).collect()
}
