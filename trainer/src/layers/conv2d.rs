//! `conv2d`: one window of weights, applied at every place of an image.

use burn::nn::conv::{Conv2d, Conv2dConfig};

use super::window::{Window, no_image, sides};
use super::{FEATURES_MAX, KERNEL_MAX};
use crate::layer::{AnyLayer, Layer, Misfit, check_weights};
use crate::registry::{Build, Registry};
use crate::section::{Mistake, Section};
use crate::shape::{Activation, Extents};

/// `out_channels`, `kernel_size`, `stride` (1), `padding` (0), `dilation` (1), `groups` (1), `bias` (true),
/// `in_channels` (inferred).
pub(super) fn parse(section: &mut Section<'_>, _: &Registry) -> Result<Build, Mistake> {
    let out_channels = section.count("out_channels", 1..FEATURES_MAX + 1)?;
    let kernel_size = section.pair("kernel_size", 1..KERNEL_MAX + 1)?;
    let in_channels = section.count("in_channels", 1..FEATURES_MAX + 1)?;
    let out_channels = section.required("out_channels", out_channels)?;
    let window = Window {
        kernel_size: section.required("kernel_size", kernel_size)?,
        stride: section.pair("stride", 1..KERNEL_MAX + 1)?.unwrap_or([1, 1]),
        padding: section.pair("padding", 0..KERNEL_MAX + 1)?.unwrap_or([0, 0]),
        dilation: section.pair("dilation", 1..KERNEL_MAX + 1)?.unwrap_or([1, 1]),
    };
    let groups = section.count("groups", 1..FEATURES_MAX + 1)?.unwrap_or(1);
    let bias = section.boolean("bias")?.unwrap_or(true);
    if !out_channels.is_multiple_of(groups) {
        return Err(section.mistake_at("groups", &format!("is {groups}: it must divide out_channels, {out_channels}")));
    }
    Ok(Box::new(move |arrives, device| {
        let in_channels = fitting(in_channels, arrives)?;
        if !in_channels.is_multiple_of(groups) {
            let wants = format!("a multiple of groups = {groups} channels");
            return Err(Misfit::shape(wants, arrives, "set groups to a number that divides the channels"));
        }
        let [height, width] = window.kernel_size;
        check_weights(&[in_channels / groups, out_channels, height, width], arrives)?;
        // Burn's initial values are PyTorch's: weights and bias uniform within 1/sqrt(inputs of a window).
        let config = Conv2dConfig::new([in_channels, out_channels], window.kernel_size)
            .with_stride(window.stride)
            .with_padding(window.padding())
            .with_dilation(window.dilation)
            .with_groups(groups)
            .with_bias(bias);
        Ok(AnyLayer::new(config.init(device)))
    }))
}

/// The channels of a layer, stated or inferred, that fit the images that arrive.
fn fitting(in_channels: Option<usize>, arrives: &Extents) -> Result<usize, Misfit> {
    match (arrives.image(), in_channels) {
        (None, _) => Err(no_image(in_channels, arrives)),
        (Some([channels, ..]), Some(wanted)) if wanted != channels => {
            let remedy = format!("set in_channels = {channels}, or leave it out");
            Err(Misfit::shape(format!("[batch, {wanted}, height, width]"), arrives, remedy))
        }
        (Some([channels, ..]), _) => Ok(channels),
    }
}

fn window(layer: &Conv2d) -> Window {
    let (kernel_size, stride, dilation) = (layer.kernel_size, layer.stride, layer.dilation);
    Window { kernel_size, stride, padding: sides(&layer.padding), dilation }
}

impl Layer for Conv2d {
    fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit> {
        let [out_channels, per_group, _, _] = self.weight.lazy_shape().dims();
        fitting(Some(per_group * self.groups), arrives)?;
        let places = window(self).places(arrives, "kernel", "make kernel_size smaller or padding larger")?;
        Ok(Extents::Floats(vec![out_channels, places[0], places[1]]))
    }

    fn forward(&self, x: Activation) -> Activation {
        match x {
            Activation::Image(x) => Activation::Image(Conv2d::forward(self, x)),
            other => unreachable!("`leaves` refuses {:?}", other.extents()),
        }
    }

    fn to_torch(&self) -> String {
        let [outputs, per_group, _, _] = self.weight.lazy_shape().dims();
        let pair = |[height, width]: [usize; 2]| format!("({height}, {width})");
        let Window { kernel_size, stride, padding, dilation } = window(self);
        let mut text = format!("Conv2d({}, {outputs}", per_group * self.groups);
        text += &format!(", kernel_size={}, stride={}", pair(kernel_size), pair(stride));
        for (key, value, default) in [("padding", padding, [0, 0]), ("dilation", dilation, [1, 1])] {
            if value != default {
                text += &format!(", {key}={}", pair(value));
            }
        }
        if self.groups != 1 {
            text += &format!(", groups={}", self.groups);
        }
        text + if self.bias.is_some() { ")" } else { ", bias=False)" }
    }

    fn multiply_adds(&self, arrives: &Extents) -> u64 {
        let [_, per_group, height, width] = self.weight.lazy_shape().dims();
        let leaves = self.leaves(arrives).map_or(0, |leaves| leaves.numbers());
        leaves.saturating_mul(per_group * height * width) as u64
    }
}
