//! `conv1d`: one window of weights, applied at every place of a sequence.

use burn::nn::PaddingConfig1d;
use burn::nn::conv::{Conv1d, Conv1dConfig};

use super::conv2d::{Channels, check_groups};
use super::window::{SINGLE, Window};
use crate::layer::{AnyLayer, Layer, Misfit, check_weights};
use crate::registry::{Build, Registry};
use crate::section::{Mistake, Section};
use crate::shape::{Activation, Extents};

/// `out_channels`, `kernel_size`, `stride` (1), `padding` (0), `dilation` (1), `groups` (1), `bias` (true),
/// `in_channels` (inferred).
pub(super) fn parse(section: &mut Section<'_>, _: &Registry) -> Result<Build, Mistake> {
    let Channels { in_channels, out_channels, groups, bias } = Channels::parse(section)?;
    let window = Window::parse_convolution(section, SINGLE)?;
    Ok(Box::new(move |arrives, device| {
        let [in_channels, _] = fitting(in_channels, arrives)?;
        check_groups(in_channels, groups, arrives)?;
        check_weights(&[in_channels / groups, out_channels, window.kernel_size[0]], arrives)?;
        // Burn's initial values are PyTorch's: weights and bias uniform within 1/sqrt(inputs of a window).
        let config = Conv1dConfig::new(in_channels, out_channels, window.kernel_size[0])
            .with_stride(window.stride[0])
            .with_padding(window.padding())
            .with_dilation(window.dilation[0])
            .with_groups(groups)
            .with_bias(bias);
        Ok(AnyLayer::new(config.init(device)))
    }))
}

/// `[channels, length]` of what arrives, when the channels are those stated.
fn fitting(in_channels: Option<usize>, arrives: &Extents) -> Result<[usize; 2], Misfit> {
    let wanted = in_channels.map_or("channels".to_owned(), |channels| channels.to_string());
    let misfit = |remedy: String| Misfit::shape(format!("[batch, {wanted}, length]"), arrives, remedy);
    match (arrives.sequence(), in_channels) {
        (None, _) => Err(misfit("put a layer of kind \"reshape\" before it".to_owned())),
        (Some([channels, _]), Some(wanted)) if wanted != channels => {
            Err(misfit(format!("set in_channels = {channels}, or leave it out")))
        }
        (Some(sequence), _) => Ok(sequence),
    }
}

fn window(layer: &Conv1d) -> Window<1> {
    let padding = match layer.padding {
        PaddingConfig1d::Explicit(length, _) => length,
        _ => 0,
    };
    let (kernel_size, stride, dilation) = ([layer.kernel_size], [layer.stride], [layer.dilation]);
    Window { kernel_size, stride, padding: [padding], dilation, ceil_mode: false }
}

impl Layer for Conv1d {
    fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit> {
        let [out_channels, per_group, _] = self.weight.lazy_shape().dims();
        let [_, length] = fitting(Some(per_group * self.groups), arrives)?;
        let remedy = "make kernel_size smaller or padding larger";
        let [length] = window(self).places([length], arrives, "kernel", remedy)?;
        Ok(Extents::Floats(vec![out_channels, length]))
    }

    fn forward(&self, x: Activation) -> Activation {
        match x {
            Activation::Sequence(x) => Activation::Sequence(Conv1d::forward(self, x)),
            other => unreachable!("`leaves` refuses {:?}", other.extents()),
        }
    }

    fn to_torch(&self) -> String {
        let [outputs, per_group, _] = self.weight.lazy_shape().dims();
        let inputs = per_group * self.groups;
        format!("Conv1d({inputs}, {outputs}{}", window(self).to_torch(self.groups, self.bias.is_some()))
    }

    fn multiply_adds(&self, arrives: &Extents) -> u64 {
        let [_, per_group, kernel] = self.weight.lazy_shape().dims();
        let leaves = self.leaves(arrives).map_or(0, |leaves| leaves.numbers());
        leaves.saturating_mul(per_group * kernel) as u64
    }
}
