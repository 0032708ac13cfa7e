//! Where a window fits that slides over an image: what convolutions and pooling layers have in common.

use burn::nn::PaddingConfig2d;

use crate::layer::Misfit;
use crate::shape::Extents;

/// A window, and how it slides. Pairs are `[height, width]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Window {
    /// The window.
    pub(super) kernel_size: [usize; 2],
    /// From one place of it to the next.
    pub(super) stride: [usize; 2],
    /// Room around the image, on each side.
    pub(super) padding: [usize; 2],
    /// From one number of the window to the next.
    pub(super) dilation: [usize; 2],
}

impl Window {
    /// In how many places the window fits, `[height, width]`, on the images that arrive.
    ///
    /// # Errors
    /// When it fits nowhere: the layer wants an image of at least its `what`.
    pub(super) fn places(&self, arrives: &Extents, what: &str, remedy: &str) -> Result<[usize; 2], Misfit> {
        let Some([_, height, width]) = arrives.image() else { return Err(no_image(None, arrives)) };
        let along = |side, axis: usize| {
            places(side, self.kernel_size[axis], self.stride[axis], self.padding[axis], self.dilation[axis])
        };
        match (along(height, 0), along(width, 1)) {
            (Some(height), Some(width)) => Ok([height, width]),
            _ => {
                let [height, width] = self.kernel_size;
                let wants = format!("an image of at least its {what}, {height} by {width}");
                Err(Misfit::shape(wants, arrives, remedy))
            }
        }
    }

    /// The padding as burn takes it.
    pub(super) fn padding(&self) -> PaddingConfig2d {
        let [height, width] = self.padding;
        PaddingConfig2d::Explicit(height, width, height, width)
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

/// The number of places where a window fits along one side, or `None` when it fits nowhere.
pub(super) fn places(side: usize, kernel: usize, stride: usize, padding: usize, dilation: usize) -> Option<usize> {
    let reach = dilation * (kernel - 1) + 1;
    Some((side + 2 * padding).checked_sub(reach)? / stride + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_fits_as_often_as_in_pytorch() {
        assert_eq!(places(28, 3, 1, 1, 1), Some(28));
        assert_eq!(places(28, 5, 1, 0, 1), Some(24));
        assert_eq!(places(7, 2, 2, 0, 1), Some(3));
        assert_eq!(places(7, 3, 1, 0, 2), Some(3));
        assert_eq!(places(2, 3, 1, 0, 1), None);
    }
}
