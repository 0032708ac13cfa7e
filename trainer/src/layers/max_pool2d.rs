//! `max-pool2d`: the largest number of every window of an image.

use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};

use super::window::{Window, sides};
use super::{KERNEL_MAX, pair_or_one};
use crate::layer::{AnyLayer, Layer, Misfit};
use crate::registry::{Build, Registry};
use crate::section::{Mistake, Section};
use crate::shape::{Activation, Extents};

/// `kernel_size`, `stride` (kernel_size), `padding` (0, at most half of the window; it never wins).
pub(super) fn parse(section: &mut Section<'_>, _: &Registry) -> Result<Build, Mistake> {
    let window = parse_window(section)?;
    Ok(Box::new(move |_, _| {
        let config = MaxPool2dConfig::new(window.kernel_size).with_strides(window.stride);
        Ok(AnyLayer::new(config.with_padding(window.padding()).init()))
    }))
}

/// The keys that every pooling layer has.
pub(super) fn parse_window(section: &mut Section<'_>) -> Result<Window, Mistake> {
    let kernel_size = section.pair("kernel_size", 1..KERNEL_MAX + 1)?;
    let kernel_size = section.required("kernel_size", kernel_size)?;
    let stride = section.pair("stride", 1..KERNEL_MAX + 1)?.unwrap_or(kernel_size);
    let padding = section.pair("padding", 0..KERNEL_MAX + 1)?.unwrap_or([0, 0]);
    if padding[0] > kernel_size[0] / 2 || padding[1] > kernel_size[1] / 2 {
        return Err(section.mistake_at("padding", "must be at most half of `kernel_size`"));
    }
    Ok(Window { kernel_size, stride, padding, dilation: [1, 1] })
}

/// What a pooling layer leaves.
pub(super) fn pooled(window: &Window, arrives: &Extents) -> Result<Extents, Misfit> {
    let remedy = "leave one pooling layer out, or make kernel_size smaller";
    let [height, width] = window.places(arrives, "window", remedy)?;
    Ok(Extents::Floats(vec![arrives.as_slice()[0], height, width]))
}

impl Layer for MaxPool2d {
    fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit> {
        let (kernel_size, stride) = (self.kernel_size, self.stride);
        pooled(&Window { kernel_size, stride, padding: sides(&self.padding), dilation: self.dilation }, arrives)
    }

    fn forward(&self, x: Activation) -> Activation {
        match x {
            Activation::Image(x) => Activation::Image(MaxPool2d::forward(self, x)),
            other => unreachable!("`leaves` refuses {:?}", other.extents()),
        }
    }

    fn to_torch(&self) -> String {
        let (kernel, stride) = (pair_or_one(self.kernel_size), pair_or_one(self.stride));
        let padding = pair_or_one(sides(&self.padding));
        format!("MaxPool2d(kernel_size={kernel}, stride={stride}, padding={padding}, dilation=1, ceil_mode=False)")
    }
}
