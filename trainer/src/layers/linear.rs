//! `linear`: every output is a weighted sum of all inputs.

use std::fmt;

use burn::nn::{Linear, LinearConfig};
use burn::tensor::Device;

use super::{FEATURES_MAX, Misfit, check_weights};
use crate::section::{Mistake, Section};
use crate::shape::Extents;

/// A linear layer as the file states it.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearSpec {
    /// Inputs; inferred when absent.
    pub in_features: Option<usize>,
    /// Outputs.
    pub out_features: usize,
    /// Whether a learned number is added to every output.
    pub bias: bool,
}

impl LinearSpec {
    pub(super) fn parse(section: &mut Section<'_>) -> Result<Self, Mistake> {
        let range = 1..FEATURES_MAX + 1;
        let out_features = section.count("out_features", range)?;
        Ok(Self {
            in_features: section.count("in_features", 1..usize::MAX)?,
            out_features: section.required("out_features", out_features)?,
            bias: section.boolean("bias")?.unwrap_or(true),
        })
    }

    pub(super) fn build(&self, arrives: Extents, device: &Device) -> Result<(Linear, Extents), Misfit> {
        let wanted = self.in_features.map_or("features".to_owned(), |features| features.to_string());
        let misfit = |remedy: String| Misfit::Shape { wants: format!("[batch, {wanted}]"), arrives, remedy };
        let Extents::Flat { features } = arrives else {
            return Err(misfit("put a layer of kind \"flatten\" before it".to_owned()));
        };
        if self.in_features.is_some_and(|wanted| wanted != features) {
            return Err(misfit(format!("set in_features = {features}, or leave it out")));
        }
        check_weights(&[features, self.out_features], arrives)?;
        // Burn's initial values are PyTorch's: weights and bias uniform within 1/sqrt(in_features).
        let layer = LinearConfig::new(features, self.out_features).with_bias(self.bias).init(device);
        Ok((layer, Extents::Flat { features: self.out_features }))
    }
}

pub(super) fn write_torch(layer: &Linear, f: &mut impl fmt::Write) -> fmt::Result {
    let [inputs, outputs] = layer.weight.lazy_shape().dims();
    let bias = if layer.bias.is_some() { "True" } else { "False" };
    write!(f, "Linear(in_features={inputs}, out_features={outputs}, bias={bias})")
}
