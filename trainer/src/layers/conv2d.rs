//! `conv2d`: one window of weights, applied at every place of an image.

mod convolution;
mod forward;
mod input_gradient;
mod kernel;
mod step;
#[cfg(test)]
mod tests;
mod weight_gradient;

use burn::nn::conv::{Conv2d, Conv2dConfig};

use super::FEATURES_MAX;
use super::window::{PAIR, Window, no_image, sides};
use crate::layer::{AnyLayer, Layer, Misfit, check_weights};
use crate::registry::{Build, Registry};
use crate::section::{Mistake, Section};
use crate::shape::{Activation, Extents};

/// `out_channels`, `kernel_size`, `stride` (1), `padding` (0), `dilation` (1), `groups` (1), `bias` (true),
/// `in_channels` (inferred).
pub(super) fn parse(section: &mut Section<'_>, _: &Registry) -> Result<Build, Mistake> {
    let Channels { in_channels, out_channels, groups, bias } = Channels::parse(section)?;
    let window = Window::parse_convolution(section, PAIR)?;
    Ok(Box::new(move |arrives, device| {
        let in_channels = fitting(in_channels, arrives)?;
        check_groups(in_channels, groups, arrives)?;
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

/// What a convolution says of its channels.
pub(super) struct Channels {
    pub(super) in_channels: Option<usize>,
    pub(super) out_channels: usize,
    pub(super) groups: usize,
    pub(super) bias: bool,
}

impl Channels {
    pub(super) fn parse(section: &mut Section<'_>) -> Result<Self, Mistake> {
        let out_channels = section.count("out_channels", 1..FEATURES_MAX + 1)?;
        let in_channels = section.count("in_channels", 1..FEATURES_MAX + 1)?;
        let groups = section.count("groups", 1..FEATURES_MAX + 1)?.unwrap_or(1);
        let bias = section.boolean("bias")?.unwrap_or(true);
        let out_channels = section.required("out_channels", out_channels)?;
        if !out_channels.is_multiple_of(groups) {
            let what = format!("is {groups}: it must divide out_channels, {out_channels}");
            return Err(section.mistake_at("groups", &what));
        }
        Ok(Self { in_channels, out_channels, groups, bias })
    }
}

/// Refuses channels that cannot be split into so many groups.
pub(super) fn check_groups(channels: usize, groups: usize, arrives: &Extents) -> Result<(), Misfit> {
    if channels.is_multiple_of(groups) {
        return Ok(());
    }
    let wants = format!("a multiple of groups = {groups} channels");
    Err(Misfit::shape(wants, arrives, "set groups to a number that divides the channels"))
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

fn window(layer: &Conv2d) -> Window<2> {
    let (kernel_size, stride, dilation) = (layer.kernel_size, layer.stride, layer.dilation);
    Window { kernel_size, stride, padding: sides(&layer.padding), dilation, ceil_mode: false }
}

impl Layer for Conv2d {
    fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit> {
        let [out_channels, per_group, _, _] = self.weight.lazy_shape().dims();
        fitting(Some(per_group * self.groups), arrives)?;
        let Some([_, height, width]) = arrives.image() else { return Err(no_image(None, arrives)) };
        let remedy = "make kernel_size smaller or padding larger";
        let [height, width] = window(self).places([height, width], arrives, "kernel", remedy)?;
        Ok(Extents::Floats(vec![out_channels, height, width]))
    }

    fn forward(&self, x: Activation) -> Activation {
        match x {
            Activation::Image(x) => Activation::Image(step::apply(self, x)),
            other => unreachable!("`leaves` refuses {:?}", other.extents()),
        }
    }

    fn to_torch(&self) -> String {
        let [outputs, per_group, _, _] = self.weight.lazy_shape().dims();
        let inputs = per_group * self.groups;
        format!("Conv2d({inputs}, {outputs}{}", window(self).to_torch(self.groups, self.bias.is_some()))
    }

    fn multiply_adds(&self, arrives: &Extents) -> u64 {
        let [_, per_group, height, width] = self.weight.lazy_shape().dims();
        let leaves = self.leaves(arrives).map_or(0, |leaves| leaves.numbers());
        leaves.saturating_mul(per_group * height * width) as u64
    }
}
