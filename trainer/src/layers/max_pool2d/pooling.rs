//! The largest number of every window on the CPU, and where it was.

use rayon::prelude::*;

use crate::layers::axis::Axis;

/// No tap: of a window that lies in the padding, and of one that nothing was looked at yet.
const NONE: u32 = u32::MAX;

/// Windows over planes; down and across.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pooling {
    pub(super) axes: [Axis; 2],
}

impl Pooling {
    /// Numbers of a plane that arrive.
    fn area(&self) -> usize {
        self.axes[0].side * self.axes[1].side
    }

    /// Numbers of a plane that leave.
    fn places(&self) -> usize {
        self.axes[0].places * self.axes[1].places
    }

    /// Whether each window is a quarter of its own: two by two, side by side, and no padding.
    fn are_quarters(&self) -> bool {
        let is_half = |axis: &Axis| {
            axis.kernel == 2
                && axis.stride == 2
                && axis.dilation == 1
                && axis.padding == 0
                && 2 * axis.places <= axis.side
        };
        self.axes.iter().all(is_half)
    }

    /// The largest number of each window, and the tap that read it: the first of those that are equal, but the last that is
    /// not a number, as in PyTorch.
    pub(super) fn forward(&self, x: &[f32]) -> (Vec<f32>, Vec<u32>) {
        let [down, across] = self.axes;
        let count = x.len() / self.area() * self.places();
        let (mut y, mut taps) = (vec![f32::NEG_INFINITY; count], vec![NONE; count]);
        let planes = y.par_chunks_exact_mut(self.places()).zip(taps.par_chunks_exact_mut(self.places()));
        planes.zip(x.par_chunks_exact(self.area())).for_each(|((y, taps), x)| {
            let rows = y.chunks_exact_mut(across.places).zip(taps.chunks_exact_mut(across.places));
            if self.are_quarters() {
                for ((y, taps), x) in rows.zip(x.chunks_exact(2 * across.side)) {
                    let (upper, lower) = x.split_at(across.side);
                    largest_of_four(y, taps, upper.as_chunks().0, lower.as_chunks().0);
                }
                return;
            }
            for (place_y, (y, taps)) in rows.enumerate() {
                for (tap_y, read_y) in (0..down.kernel).filter_map(|tap| Some((tap, down.read(place_y, tap)?))) {
                    let x = &x[read_y * across.side..][..across.side];
                    for tap_x in 0..across.kernel {
                        let (places, first) = across.places_of(tap_x);
                        if places.is_empty() {
                            continue;
                        }
                        let tap = u32::try_from(tap_y * across.kernel + tap_x).expect("a window is small");
                        let (y, taps, x) = (&mut y[places.clone()], &mut taps[places], &x[first..]);
                        keep_largest(y, taps, x.iter().step_by(across.stride), tap);
                    }
                }
            }
        });
        (y, taps)
    }

    /// The gradient of what arrived: that of each window goes to the number that was its largest.
    pub(super) fn backward(&self, gradient: &[f32], taps: &[u32]) -> Vec<f32> {
        let [down, across] = self.axes;
        // How far down and across each tap is.
        let far = |tap: usize| [tap / across.kernel * down.dilation, tap % across.kernel * across.dilation];
        let far: Vec<[usize; 2]> = (0..down.kernel * across.kernel).map(far).collect();
        let mut arrived = vec![0.0; gradient.len() / self.places() * self.area()];
        let planes = gradient.par_chunks_exact(self.places()).zip(taps.par_chunks_exact(self.places()));
        arrived.par_chunks_exact_mut(self.area()).zip(planes).for_each(|(arrived, (gradient, taps))| {
            let rows = gradient.chunks_exact(across.places).zip(taps.chunks_exact(across.places));
            for (place_y, (gradient, taps)) in rows.enumerate() {
                for (place_x, (gradient, &tap)) in gradient.iter().zip(taps).enumerate() {
                    if let Some([far_y, far_x]) = far.get(tap as usize) {
                        let y = place_y * down.stride + far_y - down.padding;
                        let x = place_x * across.stride + far_x - across.padding;
                        arrived[y * across.side + x] += gradient;
                    }
                }
            }
        });
        arrived
    }
}

/// Puts the numbers that a tap reads where they are larger.
fn keep_largest<'a>(y: &mut [f32], taps: &mut [u32], numbers: impl Iterator<Item = &'a f32>, tap: u32) {
    for ((y, taken), &number) in y.iter_mut().zip(taps).zip(numbers) {
        let wins = number > *y || number.is_nan() || *taken == NONE;
        *y = if wins { number } else { *y };
        *taken = if wins { tap } else { *taken };
    }
}

/// The same of windows of two by two, at once.
fn largest_of_four(y: &mut [f32], taps: &mut [u32], upper: &[[f32; 2]], lower: &[[f32; 2]]) {
    for ((y, taken), (upper, lower)) in y.iter_mut().zip(taps).zip(upper.iter().zip(lower)) {
        let (mut largest, mut tap) = (upper[0], 0);
        for (number, at) in [(upper[1], 1), (lower[0], 2), (lower[1], 3)] {
            let wins = number > largest || number.is_nan();
            largest = if wins { number } else { largest };
            tap = if wins { at } else { tap };
        }
        (*y, *taken) = (largest, tap);
    }
}
