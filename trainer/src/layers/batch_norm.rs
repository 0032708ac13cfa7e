//! `batch-norm`: every feature, or channel, with mean 0 and variance 1 over the batch, then scaled and shifted.

use burn::module::{Module, Param};
use burn::tensor::module::{batch_norm, batch_norm_train};
use burn::tensor::{Device, Tensor};

use super::running::Running;
use super::{Affine, FEATURES_MAX, python_bool, python_float};
use crate::layer::{AnyLayer, Layer, Misfit};
use crate::registry::{Build, Registry};
use crate::section::{Mistake, Section};
use crate::shape::{Activation, Extents, map_floats};

/// `num_features` (inferred), `eps` (1e-5), `momentum` (0.1), `affine` (true), `bias` (true), `track_running_stats` (true).
pub(super) fn parse(section: &mut Section<'_>, _: &Registry) -> Result<Build, Mistake> {
    let num_features = section.count("num_features", 1..FEATURES_MAX + 1)?;
    let eps = super::eps(section)?;
    let momentum = section.number("momentum")?.unwrap_or(0.1);
    if !(0.0..=1.0).contains(&momentum) {
        return Err(section.mistake_at("momentum", &format!("is {momentum}: it must be from 0 to 1")));
    }
    let affine = Affine::parse(section, "affine")?;
    let track_running_stats = section.boolean("track_running_stats")?.unwrap_or(true);
    Ok(Box::new(move |arrives, device| {
        let num_features = fitting(num_features, None, arrives)?;
        let mut layer = BatchNorm::new(num_features, arrives.image().is_some(), device);
        (layer.eps, layer.momentum) = (eps, momentum);
        affine.keep(&mut layer.weight, &mut layer.bias);
        if !track_running_stats {
            (layer.running_mean, layer.running_var) = (None, None);
        }
        Ok(AnyLayer::new(layer))
    }))
}

/// `torch.nn.BatchNorm1d` of rows and sequences, `torch.nn.BatchNorm2d` of images.
///
/// On an autodiff device it normalizes with the mean and variance of the batch, and keeps running ones; elsewhere with
/// those, when it keeps them. The running variance approaches the unbiased variance of the batches, as in PyTorch;
/// `burn::nn::BatchNorm` takes the biased one. Where PyTorch refuses a batch of one number a feature, this leaves the
/// running variance as it is: the last batch of an epoch may be that small.
#[derive(Module, Debug)]
pub struct BatchNorm {
    /// What normalized numbers are multiplied with, one per feature.
    pub weight: Option<Param<Tensor<1>>>,
    /// What is added then.
    pub bias: Option<Param<Tensor<1>>>,
    /// The mean to normalize with when not training.
    pub running_mean: Option<Running>,
    /// The variance to normalize with when not training.
    pub running_var: Option<Running>,
    /// Features, or channels.
    pub num_features: usize,
    /// Added to the variance.
    pub eps: f64,
    /// The share of a batch in the running statistics.
    pub momentum: f64,
    /// Whether images arrive; if not, rows or sequences.
    pub images: bool,
}

impl BatchNorm {
    /// Makes one with PyTorch's defaults, for images or for rows and sequences.
    pub fn new(num_features: usize, images: bool, device: &Device) -> Self {
        let [weight, bias] = Affine::init([num_features], device);
        Self {
            weight: Some(weight),
            bias: Some(bias),
            running_mean: Some(Running::new(Tensor::zeros([num_features], device))),
            running_var: Some(Running::new(Tensor::ones([num_features], device))),
            num_features,
            eps: 1e-5,
            momentum: 0.1,
            images,
        }
    }

    fn normalize<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let device = x.device();
        let given = |param: &Option<Param<Tensor<1>>>, otherwise: fn([usize; 1], &Device) -> Tensor<1>| {
            param.as_ref().map_or_else(|| otherwise([self.num_features], &device), Param::val)
        };
        let weight = given(&self.weight, |shape, device| Tensor::ones(shape, device));
        let bias = given(&self.bias, |shape, device| Tensor::zeros(shape, device));
        let (Some(running_mean), Some(running_var)) = (&self.running_mean, &self.running_var) else {
            return batch_norm_train(x, weight, bias, self.eps).output;
        };
        if !device.is_autodiff() {
            return batch_norm(x, weight, bias, running_mean.value(), running_var.value(), self.eps);
        }
        let numbers = x.shape().num_elements() / self.num_features;
        let batch = batch_norm_train(x, weight, bias, self.eps);
        running_mean.approach(batch.mean, self.momentum);
        if numbers > 1 {
            let unbiased = numbers as f64 / (numbers - 1) as f64;
            running_var.approach(batch.variance * unbiased, self.momentum);
        }
        batch.output
    }
}

/// The features of a layer, stated or inferred, that fit what arrives: images or not, or either.
fn fitting(num_features: Option<usize>, images: Option<bool>, arrives: &Extents) -> Result<usize, Misfit> {
    let (Extents::Floats(extents), &[found, ..]) = (super::activation::keep(arrives)?, arrives.as_slice()) else {
        return Err(Misfit::shape("[batch, features]", arrives, "put a layer that leaves features before it"));
    };
    let wanted = num_features.map_or("features".to_owned(), |features| features.to_string());
    if let Some(images) = images.filter(|&images| images != (extents.len() == 3)) {
        let wants =
            if images { "[batch, channels, height, width]" } else { "[batch, features] or [batch, features, length]" };
        return Err(Misfit::shape(wants, arrives, "make it for what arrives"));
    }
    match num_features {
        Some(features) if features != found => {
            let remedy = format!("set num_features = {found}, or leave it out");
            Err(Misfit::shape(format!("[batch, {wanted}, ...]"), arrives, remedy))
        }
        _ => Ok(found),
    }
}

impl Layer for BatchNorm {
    fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit> {
        fitting(Some(self.num_features), Some(self.images), arrives)?;
        Ok(arrives.clone())
    }

    fn forward(&self, x: Activation) -> Activation {
        map_floats!(x, x => self.normalize(x))
    }

    fn to_torch(&self) -> String {
        format!(
            "BatchNorm{}({}, eps={}, momentum={}, affine={}, bias={}, track_running_stats={})",
            if self.images { "2d" } else { "1d" },
            self.num_features,
            python_float(self.eps),
            python_float(self.momentum),
            python_bool(self.weight.is_some()),
            python_bool(self.bias.is_some()),
            python_bool(self.running_mean.is_some()),
        )
    }
}
