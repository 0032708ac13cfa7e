//! `reshape`: a row of numbers becomes an image or a sequence.

use burn::module::Module;

use super::FEATURES_MAX;
use super::window::tuple;
use crate::layer::{AnyLayer, Layer, Misfit};
use crate::registry::{Build, Registry};
use crate::section::{Mistake, Section};
use crate::shape::{Activation, Extents};

/// `shape`: one to three extents, such as `[channels, height, width]`, of which one may be -1: what is left.
pub(super) fn parse(section: &mut Section<'_>, _: &Registry) -> Result<Build, Mistake> {
    let shape = section.numbers("shape")?;
    let shape = section.required("shape", shape)?;
    let extents: Option<Vec<Option<usize>>> = shape.iter().map(|&number| extent(number)).collect();
    let extents = extents.filter(|extents| {
        (1..=3).contains(&extents.len()) && extents.iter().filter(|extent| extent.is_none()).count() <= 1
    });
    let extents = extents.ok_or_else(|| {
        let what = format!("must be one to three whole numbers from 1 to {FEATURES_MAX}, of which one may be -1");
        section.mistake_at("shape", &what)
    })?;
    Ok(Box::new(move |arrives, _| {
        let known = extents.iter().flatten().product::<usize>();
        let left = (arrives.numbers() / known).max(1);
        Ok(AnyLayer::new(Reshape { shape: extents.iter().map(|extent| extent.unwrap_or(left)).collect() }))
    }))
}

/// An extent, or -1.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a whole number in the range")]
fn extent(number: f64) -> Option<Option<usize>> {
    match number {
        -1.0 => Some(None),
        number if number.fract() == 0.0 && (1.0..=FEATURES_MAX as f64).contains(&number) => Some(Some(number as usize)),
        _ => None,
    }
}

/// Gives rows of numbers a shape, as `torch.nn.Unflatten(1, shape)`.
#[derive(Module, Debug)]
pub struct Reshape {
    /// The shape of a sample: one to three extents.
    #[module(skip)]
    pub shape: Vec<usize>,
}

impl Layer for Reshape {
    fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit> {
        let leaves = Extents::Floats(self.shape.clone());
        let rows = || format!("[batch, {}]", leaves.numbers());
        match arrives.features() {
            None => Err(Misfit::shape(rows(), arrives, "put a layer of kind \"flatten\" before it")),
            Some(features) if features != leaves.numbers() => {
                Err(Misfit::shape(rows(), arrives, "let the numbers of `shape`, multiplied, be those that arrive"))
            }
            Some(_) => Ok(leaves),
        }
    }

    fn forward(&self, x: Activation) -> Activation {
        match (x, &self.shape[..]) {
            (Activation::Flat(x), [_]) => Activation::Flat(x),
            (Activation::Flat(x), &[channels, length]) => {
                let batch = x.dims()[0];
                Activation::Sequence(x.reshape([batch, channels, length]))
            }
            (Activation::Flat(x), &[channels, height, width]) => {
                let batch = x.dims()[0];
                Activation::Image(x.reshape([batch, channels, height, width]))
            }
            (other, shape) => unreachable!("`leaves` refuses {:?} for {shape:?}", other.extents()),
        }
    }

    fn to_torch(&self) -> String {
        format!("Unflatten(dim=1, unflattened_size={})", tuple(&self.shape))
    }
}
