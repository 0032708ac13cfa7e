//! `linear`: every output is a weighted sum of all inputs.

mod block;
mod product;
mod step;
#[cfg(test)]
mod tests;

use burn::nn::{Linear, LinearConfig};

use super::FEATURES_MAX;
use crate::layer::{AnyLayer, Layer, Misfit, check_weights};
use crate::registry::{Build, Registry};
use crate::section::{Mistake, Section};
use crate::shape::{Activation, Extents};

/// `out_features`, `in_features` (inferred), `bias` (true).
pub(super) fn parse(section: &mut Section<'_>, _: &Registry) -> Result<Build, Mistake> {
    let out_features = section.count("out_features", 1..FEATURES_MAX + 1)?;
    let in_features = section.count("in_features", 1..usize::MAX)?;
    let out_features = section.required("out_features", out_features)?;
    let bias = section.boolean("bias")?.unwrap_or(true);
    Ok(Box::new(move |arrives, device| {
        let in_features = fitting(in_features, arrives)?;
        check_weights(&[in_features, out_features], arrives)?;
        // Burn's initial values are PyTorch's: weights and bias uniform within 1/sqrt(in_features).
        Ok(AnyLayer::new(LinearConfig::new(in_features, out_features).with_bias(bias).init(device)))
    }))
}

/// The inputs of a layer, stated or inferred, that fit what arrives: rows, or the last extent of sequences.
fn fitting(in_features: Option<usize>, arrives: &Extents) -> Result<usize, Misfit> {
    let wanted = in_features.map_or("features".to_owned(), |features| features.to_string());
    let misfit = |remedy: String| Misfit::shape(format!("[batch, {wanted}]"), arrives, remedy);
    let features = arrives.features().or_else(|| arrives.sequence().map(|[_, features]| features));
    let features = features.ok_or_else(|| misfit("put a layer of kind \"flatten\" before it".to_owned()))?;
    match in_features {
        Some(wanted) if wanted != features => Err(misfit(format!("set in_features = {features}, or leave it out"))),
        _ => Ok(features),
    }
}

impl Layer for Linear {
    fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit> {
        let [in_features, out_features] = self.weight.lazy_shape().dims();
        fitting(Some(in_features), arrives)?;
        let mut leaves = arrives.as_slice().to_vec();
        leaves.pop();
        leaves.push(out_features);
        Ok(Extents::Floats(leaves))
    }

    fn forward(&self, x: Activation) -> Activation {
        match x {
            Activation::Flat(x) => Activation::Flat(step::apply(self, x)),
            Activation::Sequence(x) => Activation::Sequence(step::apply(self, x)),
            other => unreachable!("`leaves` refuses {:?}", other.extents()),
        }
    }

    fn to_torch(&self) -> String {
        let [inputs, outputs] = self.weight.lazy_shape().dims();
        let bias = if self.bias.is_some() { "True" } else { "False" };
        format!("Linear(in_features={inputs}, out_features={outputs}, bias={bias})")
    }

    fn multiply_adds(&self, arrives: &Extents) -> u64 {
        let [_, outputs] = self.weight.lazy_shape().dims();
        arrives.numbers().saturating_mul(outputs) as u64
    }
}
