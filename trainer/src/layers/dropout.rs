//! `dropout`: zeroes numbers at random while training.

use batchmill_datasets::random::Rng;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};

use crate::layer::{AnyLayer, Layer, Misfit};
use crate::registry::{Build, Registry};
use crate::section::{Mistake, Section};
use crate::shape::{Activation, Extents, map_floats};

/// `p` (0.5): the share of numbers zeroed, in `0.0..1.0`.
pub(super) fn parse(section: &mut Section<'_>, _: &Registry) -> Result<Build, Mistake> {
    let p = section.number("p")?.unwrap_or(0.5);
    if !(0.0..1.0).contains(&p) {
        return Err(section.mistake_at("p", &format!("is {p}: it must be from 0 to below 1")));
    }
    Ok(Box::new(move |_, _| Ok(AnyLayer::new(DropoutConfig::new(p).init()))))
}

impl Layer for Dropout {
    fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit> {
        super::activation::keep(arrives)
    }

    fn forward(&self, x: Activation) -> Activation {
        map_floats!(x, x => apply(self, x))
    }

    fn to_torch(&self) -> String {
        format!("Dropout(p={}, inplace=False)", super::python_float(self.prob))
    }
}

/// Draws where the numbers lie: on the CPU as here, elsewhere as burn does.
fn apply<const D: usize>(layer: &Dropout, x: Tensor<D>) -> Tensor<D> {
    let device = x.device();
    let is_training = layer.training.is_enabled() && device.is_autodiff() && layer.prob > 0.0;
    if is_training && device == Device::flex() && x.dtype() == DType::F32 {
        let shape = x.shape();
        let mask = TensorData::new(mask(layer.prob, shape.num_elements()), shape);
        return x * Tensor::from_data(mask, &device);
    }
    Dropout::forward(layer, x)
}

/// 0 for numbers that are dropped, and for the others what makes up for these. The device's generator, which is seeded
/// anew for every step, is slow: it draws where another one begins.
fn mask(prob: f64, count: usize) -> Vec<f32> {
    let keep = 1.0 - prob;
    #[expect(clippy::cast_possible_truncation, reason = "burn, as PyTorch, rounds a factor to the tensor's dtype")]
    let kept = (1.0 / keep) as f32;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 2^32, which may round up")]
    let limit = (keep * 4_294_967_296.0) as u64;
    let drawn = Tensor::<1>::random([2], Distribution::Default, &Device::flex()).into_data();
    let mut key = drawn.iter::<f32>().map(|number| u64::from(number.to_bits()));
    let mut rng = Rng::new(key.next().unwrap_or(0), key.next().unwrap_or(0), 0, 0, 0);
    let mut mask = Vec::with_capacity(count + 1);
    while mask.len() < count {
        let bits = rng.next_u64();
        mask.extend([bits >> 32, bits & 0xffff_ffff].map(|bits| if bits < limit { kept } else { 0.0 }));
    }
    mask.truncate(count);
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_dropped_and_the_rest_makes_up_for_it() {
        let device = Device::flex().autodiff();
        let (layer, x) = (DropoutConfig::new(0.25).init(), Tensor::<2>::ones([500, 201], &device));
        let draw = || apply(&layer, x.clone()).into_data().try_into_vec::<f32>().expect("they are f32");
        let numbers = draw();
        assert!(numbers.iter().all(|number| [0.0, 4.0 / 3.0].contains(number)));
        let dropped = numbers.iter().filter(|number| **number == 0.0).count();
        // Of 100,500 a quarter, within five standard deviations.
        assert!((24_438..25_812).contains(&dropped), "{dropped} are dropped");
        assert_ne!(draw(), numbers);
        assert_eq!(apply(&layer, x.clone().inner()).into_data(), x.inner().into_data());
    }
}
