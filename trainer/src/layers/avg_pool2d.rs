//! `avg-pool2d`: the mean of every window of an image.

use burn::nn::pool::{AvgPool2d, AvgPool2dConfig};

use super::window::{PAIR, Window, pair_or_one, sides};
use crate::layer::{AnyLayer, Layer, Misfit};
use crate::registry::{Build, Registry};
use crate::section::{Mistake, Section};
use crate::shape::{Activation, Extents};

/// `kernel_size`, `stride` (kernel_size), `padding` (0, at most half of the window), `ceil_mode` (false),
/// `count_include_pad` (true: padding counts as zeros).
pub(super) fn parse(section: &mut Section<'_>, _: &Registry) -> Result<Build, Mistake> {
    let window = Window::parse_pooling(section, PAIR)?;
    let count_include_pad = section.boolean("count_include_pad")?.unwrap_or(true);
    Ok(Box::new(move |_, _| {
        let config = AvgPool2dConfig::new(window.kernel_size)
            .with_strides(window.stride)
            .with_padding(window.padding())
            .with_count_include_pad(count_include_pad)
            .with_ceil_mode(window.ceil_mode);
        Ok(AnyLayer::new(config.init()))
    }))
}

fn window(layer: &AvgPool2d) -> Window<2> {
    let AvgPool2d { kernel_size, stride, ceil_mode, .. } = *layer;
    Window { kernel_size, stride, padding: sides(&layer.padding), dilation: [1, 1], ceil_mode }
}

impl Layer for AvgPool2d {
    fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit> {
        window(self).pool(arrives)
    }

    fn forward(&self, x: Activation) -> Activation {
        match x {
            Activation::Image(x) => Activation::Image(AvgPool2d::forward(self, x)),
            other => unreachable!("`leaves` refuses {:?}", other.extents()),
        }
    }

    fn to_torch(&self) -> String {
        let window = window(self);
        let [kernel, stride, padding] = [window.kernel_size, window.stride, window.padding].map(pair_or_one);
        format!("AvgPool2d(kernel_size={kernel}, stride={stride}, padding={padding})")
    }
}
