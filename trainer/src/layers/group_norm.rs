//! `group-norm`: groups of channels of one sample with mean 0 and variance 1, then scaled and shifted.

use burn::module::{Module, Param};
use burn::tensor::module::layer_norm;
use burn::tensor::{Device, Tensor};

use super::{Affine, FEATURES_MAX, python_bool, python_float};
use crate::layer::{AnyLayer, Layer, Misfit};
use crate::registry::{Build, Registry};
use crate::section::{Mistake, Section};
use crate::shape::{Activation, Extents, map_floats};

/// `num_groups`, `num_channels` (inferred), `eps` (1e-5), `affine` (true), `bias` (true).
pub(super) fn parse(section: &mut Section<'_>, _: &Registry) -> Result<Build, Mistake> {
    let num_groups = section.count("num_groups", 1..FEATURES_MAX + 1)?;
    let num_channels = section.count("num_channels", 1..FEATURES_MAX + 1)?;
    let num_groups = section.required("num_groups", num_groups)?;
    let eps = super::eps(section)?;
    let affine = Affine::parse(section, "affine")?;
    Ok(Box::new(move |arrives, device| {
        let num_channels = fitting(num_channels, num_groups, arrives)?;
        let mut layer = GroupNorm::new(num_groups, num_channels, device);
        layer.eps = eps;
        affine.keep(&mut layer.weight, &mut layer.bias);
        Ok(AnyLayer::new(layer))
    }))
}

/// `torch.nn.GroupNorm`. (`burn::nn::GroupNorm` panics over a batch of one or two numbers.)
#[derive(Module, Debug)]
pub struct GroupNorm {
    /// What normalized numbers are multiplied with, one per channel.
    pub weight: Option<Param<Tensor<1>>>,
    /// What is added then.
    pub bias: Option<Param<Tensor<1>>>,
    /// Groups, each of as many channels.
    pub num_groups: usize,
    /// Channels, or features.
    pub num_channels: usize,
    /// Added to the variance.
    pub eps: f64,
}

impl GroupNorm {
    /// Makes one with PyTorch's defaults.
    pub fn new(num_groups: usize, num_channels: usize, device: &Device) -> Self {
        let [weight, bias] = Affine::init([num_channels], device);
        Self { weight: Some(weight), bias: Some(bias), num_groups, num_channels, eps: 1e-5 }
    }

    fn normalize<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let (shape, device) = (x.dims(), x.device());
        let group = shape[1..].iter().product::<usize>() / self.num_groups;
        let rows = x.reshape([shape[0] * self.num_groups, group]);
        let x = layer_norm(rows, Tensor::ones([group], &device), None, self.eps).reshape(shape);
        let mut one_per_channel = [1; D];
        one_per_channel[1] = self.num_channels;
        let x = match &self.weight {
            Some(weight) => x * weight.val().reshape(one_per_channel),
            None => x,
        };
        match &self.bias {
            Some(bias) => x + bias.val().reshape(one_per_channel),
            None => x,
        }
    }
}

/// The channels of a layer, stated or inferred, that fit what arrives.
fn fitting(num_channels: Option<usize>, num_groups: usize, arrives: &Extents) -> Result<usize, Misfit> {
    let found = super::activation::keep(arrives)?.as_slice().first().copied().unwrap_or(1);
    if num_channels.is_some_and(|wanted| wanted != found) {
        let wants = format!("{} channels", num_channels.unwrap_or(found));
        return Err(Misfit::shape(wants, arrives, format!("set num_channels = {found}, or leave it out")));
    }
    if !found.is_multiple_of(num_groups) {
        let wants = format!("a multiple of num_groups = {num_groups} channels");
        return Err(Misfit::shape(wants, arrives, "set num_groups to a number that divides the channels"));
    }
    Ok(found)
}

impl Layer for GroupNorm {
    fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit> {
        fitting(Some(self.num_channels), self.num_groups, arrives)?;
        Ok(arrives.clone())
    }

    fn forward(&self, x: Activation) -> Activation {
        map_floats!(x, x => self.normalize(x))
    }

    fn to_torch(&self) -> String {
        let (affine, bias) = (python_bool(self.weight.is_some()), python_bool(self.bias.is_some()));
        let eps = python_float(self.eps);
        format!("GroupNorm({}, {}, eps={eps}, affine={affine}, bias={bias})", self.num_groups, self.num_channels)
    }
}
