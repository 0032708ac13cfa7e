//! The layers a model file may name: one file each, listed here.
//!
//! A new layer is a file with `parse` and a [`Layer`](crate::layer::Layer), and a line in `KINDS`; one of another crate
//! is added to a [`Registry`].

mod activation;
mod adaptive_avg_pool2d;
mod avg_pool2d;
mod axis;
mod batch_norm;
mod conv1d;
mod conv2d;
mod dropout;
mod embedding;
mod flatten;
mod flex;
mod group_norm;
mod layer_norm;
mod linear;
mod max_pool2d;
mod registers;
mod reshape;
mod residual;
mod running;
mod sequential;
mod softmax;
mod window;

use std::fmt;

use burn::module::Param;
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

pub use self::activation::{Gelu, Identity, LeakyRelu, Relu, Sigmoid, Silu, Tanh};
pub use self::batch_norm::BatchNorm;
pub use self::flatten::Flatten;
pub use self::group_norm::GroupNorm;
pub use self::layer_norm::LayerNorm;
pub use self::reshape::Reshape;
pub use self::residual::Residual;
pub use self::running::Running;
pub use self::softmax::{LogSoftmax, Softmax};
use crate::layer::{AnyLayer, Misplaced};
use crate::model::Sequential;
use crate::registry::{Build, Parse, Registry};
use crate::section::{Mistake, Section, remedy};
use crate::shape::Extents;

/// The most features or channels of a layer.
pub(crate) const FEATURES_MAX: usize = 1 << 20;

/// The longest side of a kernel, and the longest stride.
pub(crate) const KERNEL_MAX: usize = 1 << 10;

/// How deep layers may stand in one another.
const DEPTH_MAX: usize = 16;

/// Every kind of layer, by the name it has in a file.
pub(crate) const KINDS: &[(&str, Parse)] = &[
    ("flatten", activation::parse::<Flatten>),
    ("linear", linear::parse),
    ("relu", activation::parse::<Relu>),
    ("leaky-relu", activation::parse_leaky_relu),
    ("gelu", activation::parse_gelu),
    ("silu", activation::parse::<Silu>),
    ("sigmoid", activation::parse::<Sigmoid>),
    ("tanh", activation::parse::<Tanh>),
    ("softmax", softmax::parse_softmax),
    ("log-softmax", softmax::parse_log_softmax),
    ("dropout", dropout::parse),
    ("identity", activation::parse::<Identity>),
    ("conv1d", conv1d::parse),
    ("conv2d", conv2d::parse),
    ("max-pool2d", max_pool2d::parse),
    ("avg-pool2d", avg_pool2d::parse),
    ("adaptive-avg-pool2d", adaptive_avg_pool2d::parse),
    ("batch-norm", batch_norm::parse),
    ("layer-norm", layer_norm::parse),
    ("group-norm", group_norm::parse),
    ("embedding", embedding::parse),
    ("reshape", reshape::parse),
    ("sequential", sequential::parse),
    ("residual", residual::parse),
];

/// A layer as the file states it.
pub struct LayerSpec {
    kind: String,
    /// Its name, when it has another than its number.
    name: Option<String>,
    /// All that the file says of it.
    stated: String,
    build: Build,
}

impl fmt::Debug for LayerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.stated)
    }
}

impl PartialEq for LayerSpec {
    /// Whether both state the same, wherever their lines stand.
    fn eq(&self, other: &Self) -> bool {
        self.stated == other.stated
    }
}

impl LayerSpec {
    /// Takes the keys of one `[[layer]]`.
    fn parse(section: &mut Section<'_>, registry: &Registry) -> Result<Self, Mistake> {
        let kind = section.string("kind")?;
        let kind = section.required("kind", kind)?.to_owned();
        let Some(parse) = registry.find(&kind) else {
            let remedy = remedy(&kind, "be", &registry.kinds());
            let line = section.line_of("kind");
            return Err(Mistake { line, what: format!("unknown kind of layer `{kind}`: {remedy}") });
        };
        let name = section.string("name")?.map(ToOwned::to_owned);
        let is_word = |name: &String| {
            !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        };
        if let Some(name) = name.as_ref().filter(|name| !is_word(name)) {
            let what = format!("is {name:?}: it must be letters, digits and underscores, such as conv1");
            return Err(section.mistake_at("name", &what));
        }
        section.rename(format!("{} ({kind})", section.name()));
        let build = parse(section, registry)?;
        section.finish()?;
        Ok(Self { kind, name, stated: section.stated(), build })
    }
}

/// Layers in a row as the file states them.
#[derive(Debug, PartialEq)]
pub struct RowSpec(Vec<LayerSpec>);

impl RowSpec {
    /// Takes the tables under `key`, which errors call `name` and their number.
    pub(crate) fn parse(
        parent: &mut Section<'_>,
        key: &'static str,
        name: &str,
        registry: &Registry,
    ) -> Result<Self, Mistake> {
        if name.matches('.').count() > DEPTH_MAX {
            return Err(parent.mistake(&format!("{name} stands in more than {DEPTH_MAX} others: nobody can mean that")));
        }
        let mut layers: Vec<LayerSpec> = Vec::new();
        for (idx, mut section) in parent.tables(key, name)?.into_iter().enumerate() {
            let separator = if name.contains(' ') { "." } else { " " };
            section.rename(format!("{name}{separator}{idx}"));
            let layer = LayerSpec::parse(&mut section, registry)?;
            let own = layer.name.clone().unwrap_or_else(|| idx.to_string());
            let mut others = layers.iter().enumerate();
            if others.any(|(idx, other)| *other.name.as_ref().unwrap_or(&idx.to_string()) == own) {
                return Err(section.mistake_at("name", &format!("is {own:?}, as that of another layer: name it else")));
            }
            layers.push(layer);
        }
        Ok(Self(layers))
    }

    /// Takes the tables under `key` of a layer that holds others.
    fn parse_inside(section: &mut Section<'_>, key: &'static str, registry: &Registry) -> Result<Self, Mistake> {
        // Errors count through: `[[layer]] 2.0.1` is the second layer of the first of the third.
        let name = section.name().split(" (").next().unwrap_or_default().to_owned();
        Self::parse(section, key, &name, registry)
    }

    /// Whether there is no layer.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a layer is called so.
    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|layer| layer.name.as_deref() == Some(name))
    }

    /// How many layers there are, not counting those in others.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Makes the layers for samples of shape `arrives`, and says what they leave. No tensor is made before its first
    /// use.
    ///
    /// # Errors
    /// [`Misplaced`] with the first layer that does not fit what arrives.
    pub fn build(&self, arrives: &Extents, device: &Device) -> Result<(Sequential, Extents), Misplaced> {
        let mut row = Sequential::new();
        let mut arrives = arrives.clone();
        for (idx, spec) in self.0.iter().enumerate() {
            let name = spec.name.clone().unwrap_or_else(|| idx.to_string());
            let built = (spec.build)(&arrives, device).and_then(|layer| {
                let leaves = crate::layer::Layer::leaves(&layer, &arrives)?;
                Ok((layer, leaves))
            });
            let (layer, leaves): (AnyLayer, _) = built.map_err(|misfit| Misplaced::new(&name, &spec.kind, misfit))?;
            row = row.named(name, &spec.kind, layer);
            arrives = leaves;
        }
        Ok((row, arrives))
    }
}

/// A number as Python prints it: `0.1`, `1e-05`.
fn python_float(number: f64) -> String {
    let text = format!("{number:?}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

/// A truth value as Python prints it.
fn python_bool(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

/// `eps` (1e-5) of a layer that divides by a standard deviation.
fn eps(section: &mut Section<'_>) -> Result<f64, Mistake> {
    let eps = section.number("eps")?.unwrap_or(1e-5);
    if eps > 0.0 { Ok(eps) } else { Err(section.mistake_at("eps", &format!("is {eps}: it must be above 0"))) }
}

/// What a layer that normalizes does next: multiplies with a weight, adds a bias.
#[derive(Clone, Copy, Debug)]
struct Affine {
    weight: bool,
    bias: bool,
}

impl Affine {
    /// Takes `key` (true) and `bias` (true), which counts only with a weight.
    fn parse(section: &mut Section<'_>, key: &'static str) -> Result<Self, Mistake> {
        let weight = section.boolean(key)?.unwrap_or(true);
        let bias = section.boolean("bias")?.unwrap_or(true);
        Ok(Self { weight, bias: weight && bias })
    }

    /// Takes away what it does not do.
    fn keep<const D: usize>(self, weight: &mut Option<Param<Tensor<D>>>, bias: &mut Option<Param<Tensor<D>>>) {
        if !self.weight {
            *weight = None;
        }
        if !self.bias {
            *bias = None;
        }
    }

    /// The weight and the bias that a layer begins with: ones and zeros.
    fn init<const D: usize>(shape: [usize; D], device: &Device) -> [Param<Tensor<D>>; 2] {
        [Initializer::Ones.init(shape, device), Initializer::Zeros.init(shape, device)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_in_python() {
        let numbers = [1e-5, 0.1, 1e-12, 0.0, 1.0, 2.5e-7, 0.0001, 1e16];
        let texts = ["1e-05", "0.1", "1e-12", "0.0", "1.0", "2.5e-07", "0.0001", "1e+16"];
        assert_eq!(numbers.map(python_float), texts);
    }
}
