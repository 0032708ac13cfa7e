//! `max-pool2d`: the largest number of every window of an image.

use std::fmt;

use burn::nn::PaddingConfig2d;
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};

use super::{KERNEL_MAX, Misfit, pair_or_one, places};
use crate::section::{Mistake, Section};
use crate::shape::Extents;

/// A pooling layer as the file states it. Pairs are `[height, width]`.
#[derive(Clone, Debug, PartialEq)]
pub struct MaxPool2dSpec {
    /// The window.
    pub kernel_size: [usize; 2],
    /// From one place of the window to the next.
    pub stride: [usize; 2],
    /// Room around the image that never wins, on each side; at most half of the window.
    pub padding: [usize; 2],
}

impl MaxPool2dSpec {
    pub(super) fn parse(section: &mut Section<'_>) -> Result<Self, Mistake> {
        let kernel_size = section.pair("kernel_size", 1..KERNEL_MAX + 1)?;
        let kernel_size = section.required("kernel_size", kernel_size)?;
        let stride = section.pair("stride", 1..KERNEL_MAX + 1)?.unwrap_or(kernel_size);
        let padding = section.pair("padding", 0..KERNEL_MAX + 1)?.unwrap_or([0, 0]);
        if padding[0] > kernel_size[0] / 2 || padding[1] > kernel_size[1] / 2 {
            return Err(section.mistake_at("padding", "must be at most half of `kernel_size`"));
        }
        Ok(Self { kernel_size, stride, padding })
    }

    pub(super) fn build(&self, arrives: Extents) -> Result<(MaxPool2d, Extents), Misfit> {
        let [kernel_height, kernel_width] = self.kernel_size;
        let [pad_height, pad_width] = self.padding;
        let Extents::Image { channels, height, width } = arrives else {
            return Err(Misfit::Shape {
                wants: "[batch, channels, height, width]".to_owned(),
                arrives,
                remedy: "move it before the layer that flattens".to_owned(),
            });
        };
        let fitting = (
            places(height, kernel_height, self.stride[0], pad_height),
            places(width, kernel_width, self.stride[1], pad_width),
        );
        let (Some(height), Some(width)) = fitting else {
            return Err(Misfit::Shape {
                wants: format!("an image of at least its window, {kernel_height} by {kernel_width}"),
                arrives,
                remedy: "leave one pooling layer out, or make kernel_size smaller".to_owned(),
            });
        };
        let layer = MaxPool2dConfig::new(self.kernel_size)
            .with_strides(self.stride)
            .with_padding(PaddingConfig2d::Explicit(pad_height, pad_width, pad_height, pad_width))
            .init();
        Ok((layer, Extents::Image { channels, height, width }))
    }
}

pub(super) fn write_torch(layer: &MaxPool2d, f: &mut impl fmt::Write) -> fmt::Result {
    let padding = match layer.padding {
        PaddingConfig2d::Explicit(height, width, ..) => [height, width],
        _ => [0, 0],
    };
    let (kernel, stride) = (pair_or_one(layer.kernel_size), pair_or_one(layer.stride));
    let padding = pair_or_one(padding);
    write!(f, "MaxPool2d(kernel_size={kernel}, stride={stride}, padding={padding}, dilation=1, ceil_mode=False)")
}
