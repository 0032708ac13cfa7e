//! Which numbers a window reads along one axis of an image.

use std::ops::Range;

use super::window::Window;

/// One axis of an image, and of the window that slides along it.
///
/// With a stride a window reads phases: every so many of the numbers, from each of the first on. In a phase its stride
/// is 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    /// Numbers that arrive.
    pub(super) side: usize,
    /// Places of the window: numbers that leave.
    pub(super) places: usize,
    /// Taps of the window.
    pub(super) kernel: usize,
    /// From one place to the next.
    pub(super) stride: usize,
    /// From one tap to the next.
    pub(super) dilation: usize,
    /// Room around what arrives, on each side.
    pub(super) padding: usize,
}

impl Window<2> {
    /// The axes of images of `[height, width]`; none when the window fits nowhere.
    pub(super) fn axes(&self, sides: [usize; 2]) -> Option<[Axis; 2]> {
        let [height, width] = self.counts(sides);
        let axis = |axis: usize, places: usize| Axis {
            side: sides[axis],
            places,
            kernel: self.kernel_size[axis],
            stride: self.stride[axis],
            dilation: self.dilation[axis],
            padding: self.padding[axis],
        };
        Some([axis(0, height?), axis(1, width?)])
    }
}

impl Axis {
    /// The number that a tap reads at a place, if it is not padding.
    pub(super) fn read(&self, place: usize, tap: usize) -> Option<usize> {
        (place * self.stride + tap * self.dilation).checked_sub(self.padding).filter(|number| *number < self.side)
    }

    /// The places at which a tap reads no padding, and the number that it reads at the first.
    pub(super) fn places_of(&self, tap: usize) -> (Range<usize>, usize) {
        let (distance, Self { side, places, stride, padding, .. }) = (tap * self.dilation, *self);
        let low = padding.saturating_sub(distance).div_ceil(stride);
        let high = (side + padding).saturating_sub(distance).div_ceil(stride).min(places);
        (low..high.max(low), (low * stride + distance).saturating_sub(padding))
    }

    /// The phase and the shift of a tap: at `place` it reads number `place + shift` of the phase, which is number
    /// `(place + shift) * stride + phase` of the padded axis.
    pub(super) fn tap(&self, tap: usize) -> (usize, usize) {
        let distance = tap * self.dilation;
        (distance % self.stride, distance / self.stride)
    }

    /// The shift of the last tap.
    pub(super) fn shift_max(&self) -> usize {
        (self.kernel - 1) * self.dilation / self.stride
    }

    /// Numbers of each phase that are read.
    pub(super) fn reach(&self) -> usize {
        self.places + self.shift_max()
    }

    /// Those of the numbers of a phase that are not padding, and the place of the first among those that arrive.
    pub(super) fn inside(&self, phase: usize) -> (Range<usize>, usize) {
        let Self { side, stride, padding, .. } = *self;
        let low = padding.saturating_sub(phase).div_ceil(stride);
        let high = (side + padding).saturating_sub(phase).div_ceil(stride).min(self.reach());
        (low..high.max(low), low * stride + phase - padding)
    }

    /// The phases that are read.
    pub(super) fn phases(&self) -> Vec<usize> {
        let mut phases: Vec<usize> = (0..self.kernel).map(|tap| self.tap(tap).0).collect();
        phases.sort_unstable();
        phases.dedup();
        phases
    }
}
