//! `max-pool2d`: the largest number of every window of an image.

mod pooling;
mod step;
#[cfg(test)]
mod tests;

use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};

use super::window::{PAIR, Window, pair_or_one, sides};
use super::{KERNEL_MAX, python_bool};
use crate::layer::{AnyLayer, Layer, Misfit};
use crate::registry::{Build, Registry};
use crate::section::{Mistake, Section};
use crate::shape::{Activation, Extents};

/// `kernel_size`, `stride` (kernel_size), `padding` (0, at most half of the window; it never wins), `dilation` (1),
/// `ceil_mode` (false).
pub(super) fn parse(section: &mut Section<'_>, _: &Registry) -> Result<Build, Mistake> {
    let window = Window::parse_pooling(section, PAIR)?;
    let dilation = section.pair("dilation", 1..KERNEL_MAX + 1)?.unwrap_or([1, 1]);
    Ok(Box::new(move |_, _| {
        let config = MaxPool2dConfig::new(window.kernel_size)
            .with_strides(window.stride)
            .with_padding(window.padding())
            .with_dilation(dilation)
            .with_ceil_mode(window.ceil_mode);
        Ok(AnyLayer::new(config.init()))
    }))
}

fn window(layer: &MaxPool2d) -> Window<2> {
    let MaxPool2d { kernel_size, stride, dilation, ceil_mode, .. } = *layer;
    Window { kernel_size, stride, padding: sides(&layer.padding), dilation, ceil_mode }
}

impl Layer for MaxPool2d {
    fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit> {
        window(self).pool(arrives)
    }

    fn forward(&self, x: Activation) -> Activation {
        match x {
            Activation::Image(x) => Activation::Image(step::apply(self, x)),
            other => unreachable!("`leaves` refuses {:?}", other.extents()),
        }
    }

    fn to_torch(&self) -> String {
        let window = window(self);
        let [kernel, stride, padding, dilation] =
            [window.kernel_size, window.stride, window.padding, window.dilation].map(pair_or_one);
        let ceil_mode = python_bool(window.ceil_mode);
        format!(
            "MaxPool2d(kernel_size={kernel}, stride={stride}, padding={padding}, dilation={dilation}, \
             ceil_mode={ceil_mode})"
        )
    }
}
