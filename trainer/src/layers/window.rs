//! Where a window fits that slides along one axis or two: what convolutions and pooling layers have in common.

use std::array;
use std::fmt::Write as _;
use std::ops::Range;

use burn::nn::{PaddingConfig1d, PaddingConfig2d};

use super::KERNEL_MAX;
use crate::layer::Misfit;
use crate::section::{Mistake, Section};
use crate::shape::Extents;

/// A window, and how it slides. One number an axis: `[length]`, or `[height, width]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Window<const AXES: usize> {
    /// The window.
    pub(super) kernel_size: [usize; AXES],
    /// From one place of it to the next.
    pub(super) stride: [usize; AXES],
    /// Room around what arrives, on each side.
    pub(super) padding: [usize; AXES],
    /// From one number of the window to the next.
    pub(super) dilation: [usize; AXES],
    /// Whether a window at the end may reach over it.
    pub(super) ceil_mode: bool,
}

/// What a section reads of a key: a number for each axis.
type Axes<const AXES: usize> =
    fn(&mut Section<'_>, &'static str, Range<usize>) -> Result<Option<[usize; AXES]>, Mistake>;

/// Of images.
pub(super) const PAIR: Axes<2> = |section, key, range| section.pair(key, range);

/// Of sequences.
pub(super) const SINGLE: Axes<1> = |section, key, range| Ok(section.count(key, range)?.map(|extent| [extent]));

impl<const AXES: usize> Window<AXES> {
    /// Takes `kernel_size`, `stride` (1), `padding` (0), `dilation` (1), as every convolution has them.
    pub(super) fn parse_convolution(section: &mut Section<'_>, axes: Axes<AXES>) -> Result<Self, Mistake> {
        let kernel_size = axes(section, "kernel_size", 1..KERNEL_MAX + 1)?;
        Ok(Self {
            kernel_size: section.required("kernel_size", kernel_size)?,
            stride: axes(section, "stride", 1..KERNEL_MAX + 1)?.unwrap_or([1; AXES]),
            padding: axes(section, "padding", 0..KERNEL_MAX + 1)?.unwrap_or([0; AXES]),
            dilation: axes(section, "dilation", 1..KERNEL_MAX + 1)?.unwrap_or([1; AXES]),
            ceil_mode: false,
        })
    }

    /// Takes `kernel_size`, `stride` (kernel_size), `padding` (0), `ceil_mode` (false), as every pooling layer has them.
    pub(super) fn parse_pooling(section: &mut Section<'_>, axes: Axes<AXES>) -> Result<Self, Mistake> {
        let kernel_size = axes(section, "kernel_size", 1..KERNEL_MAX + 1)?;
        let kernel_size = section.required("kernel_size", kernel_size)?;
        let stride = axes(section, "stride", 1..KERNEL_MAX + 1)?.unwrap_or(kernel_size);
        let padding = axes(section, "padding", 0..KERNEL_MAX + 1)?.unwrap_or([0; AXES]);
        if padding.iter().zip(kernel_size).any(|(&padding, kernel)| padding > kernel / 2) {
            return Err(section.mistake_at("padding", "must be at most half of `kernel_size`"));
        }
        let ceil_mode = section.boolean("ceil_mode")?.unwrap_or(false);
        Ok(Self { kernel_size, stride, padding, dilation: [1; AXES], ceil_mode })
    }

    /// In how many places the window fits along each axis of `sides`, which are those of what `arrives`.
    ///
    /// # Errors
    /// When it fits nowhere: the layer wants at least its `what`.
    pub(super) fn places(
        &self,
        sides: [usize; AXES],
        arrives: &Extents,
        what: &str,
        remedy: &str,
    ) -> Result<[usize; AXES], Misfit> {
        let counts = self.counts(sides);
        if counts.contains(&None) {
            let kernel = self.kernel_size.map(|extent| extent.to_string()).join(" by ");
            let of = if AXES == 2 { "an image" } else { "a sequence" };
            return Err(Misfit::shape(format!("{of} of at least its {what}, {kernel}"), arrives, remedy));
        }
        Ok(counts.map(Option::unwrap_or_default))
    }

    /// In how many places the window fits along each axis of `sides`; none along one where it fits nowhere.
    pub(super) fn counts(&self, sides: [usize; AXES]) -> [Option<usize>; AXES] {
        array::from_fn(|axis| {
            let (stride, padding) = (self.stride[axis], self.padding[axis]);
            let reach = self.dilation[axis] * (self.kernel_size[axis] - 1) + 1;
            places(sides[axis], reach, stride, padding, self.ceil_mode)
        })
    }

    /// The rest of a convolution's line, as PyTorch prints it.
    pub(super) fn to_torch(self, groups: usize, bias: bool) -> String {
        let Self { kernel_size, stride, padding, dilation, .. } = self;
        let mut text = format!(", kernel_size={}, stride={}", tuple(&kernel_size), tuple(&stride));
        for (key, value, default) in [("padding", padding, 0), ("dilation", dilation, 1)] {
            if value != [default; AXES] {
                let _ = write!(text, ", {key}={}", tuple(&value));
            }
        }
        if groups != 1 {
            let _ = write!(text, ", groups={groups}");
        }
        text + if bias { ")" } else { ", bias=False)" }
    }
}

impl Window<1> {
    /// The padding as burn takes it.
    pub(super) fn padding(&self) -> PaddingConfig1d {
        let [length] = self.padding;
        PaddingConfig1d::Explicit(length, length)
    }
}

impl Window<2> {
    /// The padding as burn takes it.
    pub(super) fn padding(&self) -> PaddingConfig2d {
        let [height, width] = self.padding;
        PaddingConfig2d::Explicit(height, width, height, width)
    }

    /// What a pooling layer leaves.
    pub(super) fn pool(&self, arrives: &Extents) -> Result<Extents, Misfit> {
        let Some([channels, height, width]) = arrives.image() else { return Err(no_image(None, arrives)) };
        let remedy = "leave one pooling layer out, or make kernel_size smaller";
        let [height, width] = self.places([height, width], arrives, "window", remedy)?;
        Ok(Extents::Floats(vec![channels, height, width]))
    }
}

/// A layer of images gets something else; it wants so many `channels`, or any.
pub(super) fn no_image(channels: Option<usize>, arrives: &Extents) -> Misfit {
    let channels = channels.map_or("channels".to_owned(), |channels| channels.to_string());
    let wants = format!("[batch, {channels}, height, width]");
    Misfit::shape(wants, arrives, "move it before the layer that flattens")
}

/// The padding of one side of each axis, `[height, width]`, as [`Window::padding`] gave it to burn.
pub(super) fn sides(padding: &PaddingConfig2d) -> [usize; 2] {
    match *padding {
        PaddingConfig2d::Explicit(height, width, ..) => [height, width],
        _ => [0, 0],
    }
}

/// Numbers as Python prints a tuple: `(3, 5)`, `(3,)`.
pub(super) fn tuple(numbers: &[usize]) -> String {
    match numbers {
        [one] => format!("({one},)"),
        numbers => format!("({})", numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    }
}

/// A pair as PyTorch writes one number for both directions, or the two.
pub(super) fn pair_or_one(pair: [usize; 2]) -> String {
    if pair[0] == pair[1] { pair[0].to_string() } else { tuple(&pair) }
}

/// The number of places along a side for a window that reaches so far, or `None` when it fits nowhere.
///
/// *Source* `pooling_output_shape` in PyTorch's `ATen/native/Pool.h`: with `ceil` a last window may reach over the end,
/// but has to begin before it.
fn places(side: usize, reach: usize, stride: usize, padding: usize, ceil: bool) -> Option<usize> {
    let over = if ceil { stride - 1 } else { 0 };
    let places = (side + 2 * padding + over).checked_sub(reach)? / stride + 1;
    let last_begins_outside = ceil && (places - 1) * stride >= side + padding;
    Some(if last_begins_outside { places - 1 } else { places })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_fits_as_often_as_in_pytorch() {
        assert_eq!(places(28, 3, 1, 1, false), Some(28));
        assert_eq!(places(28, 5, 1, 0, false), Some(24));
        assert_eq!(places(7, 2, 2, 0, false), Some(3));
        assert_eq!(places(7, 2, 2, 0, true), Some(4));
        assert_eq!(places(7, 5, 1, 0, false), Some(3));
        assert_eq!(places(2, 3, 1, 0, false), None);
        assert_eq!(places(2, 3, 2, 0, true), Some(1));
        // The third window would begin in the padding.
        assert_eq!(places(4, 2, 3, 1, true), Some(2));
    }
}
