//! `layer-norm`: the numbers of the last dimensions of one sample with mean 0 and variance 1, then scaled and shifted.

use burn::module::{Module, Param};
use burn::tensor::module::layer_norm;
use burn::tensor::{Device, Tensor};

use super::window::tuple;
use super::{Affine, python_bool, python_float};
use crate::layer::{AnyLayer, Layer, Misfit, check_weights};
use crate::registry::{Build, Registry};
use crate::section::{Mistake, Section};
use crate::shape::{Activation, Extents, map_floats};

/// `normalized_shape` (the last extent that arrives): a number, or the last one to three extents; `eps` (1e-5),
/// `elementwise_affine` (true), `bias` (true).
pub(super) fn parse(section: &mut Section<'_>, _: &Registry) -> Result<Build, Mistake> {
    let wanted = "must be a whole number above 0, or one to three of them: the last extents that arrive";
    let stated = section.counts("normalized_shape", wanted)?;
    if stated.as_ref().is_some_and(|extents| !(1..=3).contains(&extents.len()) || extents.contains(&0)) {
        return Err(section.mistake_at("normalized_shape", wanted));
    }
    let eps = super::eps(section)?;
    let affine = Affine::parse(section, "elementwise_affine")?;
    Ok(Box::new(move |arrives, device| {
        let last = arrives.as_slice().last().copied().unwrap_or(1);
        let extents = stated.clone().unwrap_or_else(|| vec![last]);
        check_weights(&extents, arrives)?;
        Ok(match extents[..] {
            [one] => build([one], eps, affine, device),
            [one, two] => build([one, two], eps, affine, device),
            [one, two, three] => build([one, two, three], eps, affine, device),
            _ => unreachable!("one to three extents were taken"),
        })
    }))
}

fn build<const R: usize>(normalized_shape: [usize; R], eps: f64, affine: Affine, device: &Device) -> AnyLayer {
    let mut layer = LayerNorm::new(normalized_shape, device);
    layer.eps = eps;
    affine.keep(&mut layer.weight, &mut layer.bias);
    AnyLayer::new(layer)
}

/// `torch.nn.LayerNorm` over the last `R` dimensions. (`burn::nn::LayerNorm` knows one.)
#[derive(Module, Debug)]
pub struct LayerNorm<const R: usize> {
    /// What normalized numbers are multiplied with.
    pub weight: Option<Param<Tensor<R>>>,
    /// What is added then.
    pub bias: Option<Param<Tensor<R>>>,
    /// The extents it normalizes over.
    #[module(skip)]
    pub normalized_shape: [usize; R],
    /// Added to the variance.
    pub eps: f64,
}

impl<const R: usize> LayerNorm<R> {
    /// Makes one with PyTorch's defaults.
    pub fn new(normalized_shape: [usize; R], device: &Device) -> Self {
        let [weight, bias] = Affine::init(normalized_shape, device);
        Self { weight: Some(weight), bias: Some(bias), normalized_shape, eps: 1e-5 }
    }

    fn normalize<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let (shape, device) = (x.dims(), x.device());
        let each = self.normalized_shape.iter().product::<usize>();
        let rows = x.reshape([shape.iter().product::<usize>() / each, each]);
        let weight =
            self.weight.as_ref().map_or_else(|| Tensor::ones([each], &device), |weight| weight.val().reshape([each]));
        let bias = self.bias.as_ref().map(|bias| bias.val().reshape([each]));
        layer_norm(rows, weight, bias, self.eps).reshape(shape)
    }
}

impl<const R: usize> Layer for LayerNorm<R> {
    fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit> {
        let extents = super::activation::keep(arrives)?;
        if extents.as_slice().ends_with(&self.normalized_shape) {
            return Ok(extents);
        }
        let wants = format!("[batch, ..., {}]", self.normalized_shape.map(|extent| extent.to_string()).join(", "));
        Err(Misfit::shape(wants, arrives, "set normalized_shape to the last of these extents, or leave it out"))
    }

    fn forward(&self, x: Activation) -> Activation {
        map_floats!(x, x => self.normalize(x))
    }

    fn to_torch(&self) -> String {
        let (affine, bias) = (python_bool(self.weight.is_some()), python_bool(self.bias.is_some()));
        let (shape, eps) = (tuple(&self.normalized_shape), python_float(self.eps));
        format!("LayerNorm({shape}, eps={eps}, elementwise_affine={affine}, bias={bias})")
    }
}
