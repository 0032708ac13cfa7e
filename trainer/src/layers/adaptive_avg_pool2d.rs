//! `adaptive-avg-pool2d`: the means of so many windows of an image as are wanted, whatever its size.

use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig};

use super::KERNEL_MAX;
use super::window::{no_image, tuple};
use crate::layer::{AnyLayer, Layer, Misfit};
use crate::registry::{Build, Registry};
use crate::section::{Mistake, Section};
use crate::shape::{Activation, Extents};

/// `output_size`: one number, or `[height, width]`.
pub(super) fn parse(section: &mut Section<'_>, _: &Registry) -> Result<Build, Mistake> {
    let output_size = section.pair("output_size", 1..KERNEL_MAX + 1)?;
    let output_size = section.required("output_size", output_size)?;
    Ok(Box::new(move |_, _| Ok(AnyLayer::new(AdaptiveAvgPool2dConfig::new(output_size).init()))))
}

impl Layer for AdaptiveAvgPool2d {
    fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit> {
        let Some([channels, ..]) = arrives.image() else { return Err(no_image(None, arrives)) };
        let [height, width] = self.output_size;
        Ok(Extents::Floats(vec![channels, height, width]))
    }

    fn forward(&self, x: Activation) -> Activation {
        match x {
            Activation::Image(x) => Activation::Image(AdaptiveAvgPool2d::forward(self, x)),
            other => unreachable!("`leaves` refuses {:?}", other.extents()),
        }
    }

    fn to_torch(&self) -> String {
        format!("AdaptiveAvgPool2d(output_size={})", tuple(&self.output_size))
    }
}
