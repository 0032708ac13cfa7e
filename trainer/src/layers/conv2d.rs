//! `conv2d`: one window of weights, applied at every place of an image.

use std::fmt;

use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::Device;

use super::{FEATURES_MAX, KERNEL_MAX, Misfit, check_weights, places};
use crate::section::{Mistake, Section};
use crate::shape::Extents;

/// A convolution as the file states it. Pairs are `[height, width]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv2dSpec {
    /// Planes that arrive; inferred when absent.
    pub in_channels: Option<usize>,
    /// Planes that leave.
    pub out_channels: usize,
    /// The window.
    pub kernel_size: [usize; 2],
    /// From one place of the window to the next.
    pub stride: [usize; 2],
    /// Zeroes around the image, on each side.
    pub padding: [usize; 2],
    /// Whether a learned number is added to every plane.
    pub bias: bool,
}

impl Conv2dSpec {
    pub(super) fn parse(section: &mut Section<'_>) -> Result<Self, Mistake> {
        let out_channels = section.count("out_channels", 1..FEATURES_MAX + 1)?;
        let kernel_size = section.pair("kernel_size", 1..KERNEL_MAX + 1)?;
        Ok(Self {
            in_channels: section.count("in_channels", 1..FEATURES_MAX + 1)?,
            out_channels: section.required("out_channels", out_channels)?,
            kernel_size: section.required("kernel_size", kernel_size)?,
            stride: section.pair("stride", 1..KERNEL_MAX + 1)?.unwrap_or([1, 1]),
            padding: section.pair("padding", 0..KERNEL_MAX + 1)?.unwrap_or([0, 0]),
            bias: section.boolean("bias")?.unwrap_or(true),
        })
    }

    pub(super) fn build(&self, arrives: Extents, device: &Device) -> Result<(Conv2d, Extents), Misfit> {
        let wanted = self.in_channels.map_or("channels".to_owned(), |channels| channels.to_string());
        let misfit =
            |remedy: String| Misfit::Shape { wants: format!("[batch, {wanted}, height, width]"), arrives, remedy };
        let Extents::Image { channels, height, width } = arrives else {
            return Err(misfit("move it before the layer that flattens".to_owned()));
        };
        if self.in_channels.is_some_and(|wanted| wanted != channels) {
            return Err(misfit(format!("set in_channels = {channels}, or leave it out")));
        }
        let ([kernel_height, kernel_width], [pad_height, pad_width]) = (self.kernel_size, self.padding);
        let fitting = (
            places(height, kernel_height, self.stride[0], pad_height),
            places(width, kernel_width, self.stride[1], pad_width),
        );
        let (Some(height), Some(width)) = fitting else {
            return Err(Misfit::Shape {
                wants: format!("an image of at least its kernel, {kernel_height} by {kernel_width}"),
                arrives,
                remedy: "make kernel_size smaller or padding larger".to_owned(),
            });
        };
        check_weights(&[channels, self.out_channels, kernel_height, kernel_width], arrives)?;
        // Burn's initial values are PyTorch's: weights and bias uniform within 1/sqrt(in_channels * kernel area).
        let layer = Conv2dConfig::new([channels, self.out_channels], self.kernel_size)
            .with_stride(self.stride)
            .with_padding(PaddingConfig2d::Explicit(pad_height, pad_width, pad_height, pad_width))
            .with_bias(self.bias)
            .init(device);
        Ok((layer, Extents::Image { channels: self.out_channels, height, width }))
    }
}

pub(super) fn write_torch(layer: &Conv2d, f: &mut impl fmt::Write) -> fmt::Result {
    let [outputs, inputs, _, _] = layer.weight.lazy_shape().dims();
    let pair = |[height, width]: [usize; 2]| format!("({height}, {width})");
    write!(f, "Conv2d({inputs}, {outputs}, kernel_size={}, stride={}", pair(layer.kernel_size), pair(layer.stride))?;
    if let PaddingConfig2d::Explicit(height, width, ..) = layer.padding
        && (height, width) != (0, 0)
    {
        write!(f, ", padding={}", pair([height, width]))?;
    }
    f.write_str(if layer.bias.is_some() { ")" } else { ", bias=False)" })
}
