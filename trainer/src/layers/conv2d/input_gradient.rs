//! What the gradient of a convolution says of what arrived: the gradient, correlated with the window turned round.

use std::ops::Range;

use rayon::prelude::*;

use super::convolution::{Convolution, Packed, Room, Tap};
use crate::layers::registers::LANES;

/// One phase of what arrived, which some of the taps read.
struct Phase {
    /// Its numbers that are not padding.
    rows: Range<usize>,
    columns: Range<usize>,
    /// Where the first of them lies in a channel.
    first: [usize; 2],
    /// From the first of them to the last, in rows of the gradient's pitch, and on to a whole register.
    length: usize,
    /// Where what each weight is multiplied with begins.
    offsets: Vec<usize>,
    /// The weights of each group: of each channel that arrived, those of each channel that leaves and each tap.
    packed: Vec<Packed>,
}

/// The gradient in zeros, so wide that each tap has one at every place of what arrived.
struct Frame {
    margin: [usize; 2],
    pitch: usize,
    plane: usize,
}

impl Frame {
    fn of(convolution: &Convolution) -> Self {
        let [(top, height), (left, pitch)] = convolution.axes.map(|axis| {
            let inside = || axis.phases().into_iter().map(|phase| axis.inside(phase).0);
            let low = inside().map(|inside| inside.start).min().unwrap_or(0);
            let high = inside().map(|inside| inside.end).max().unwrap_or(0);
            let margin = axis.shift_max().saturating_sub(low);
            (margin, high.max(axis.places) + margin)
        });
        Self { margin: [top, left], pitch, plane: height * pitch }
    }

    fn phase(&self, convolution: &Convolution, phase: [usize; 2], weights: &[f32]) -> Phase {
        let Convolution { inputs, outputs, axes: [down, across], .. } = *convolution;
        let ((rows, first_y), (columns, first_x)) = (down.inside(phase[0]), across.inside(phase[1]));
        let taps = convolution.taps().into_iter().enumerate().filter(|(_, tap)| tap.phase == phase);
        let begin = |Tap { shift: [y, x], .. }: Tap| {
            (rows.start + self.margin[0] - y) * self.pitch + columns.start + self.margin[1] - x
        };
        let taps: Vec<(usize, usize)> = taps.map(|(idx, tap)| (idx, begin(tap))).collect();
        let offsets: Vec<usize> =
            (0..outputs).flat_map(|output| taps.iter().map(move |(_, begin)| output * self.plane + begin)).collect();
        let (window, depth) = (convolution.window(), convolution.depth());
        let packed = |weights: &[f32]| {
            Packed::new(inputs, offsets.len(), |input, k| {
                weights[k / taps.len() * depth + input * window + taps[k % taps.len()].0]
            })
        };
        let packed = weights.chunks_exact(outputs * depth).map(packed).collect();
        let length = (rows.len().saturating_sub(1) * self.pitch + columns.len()).next_multiple_of(LANES);
        Phase { rows, columns, first: [first_y, first_x], length, offsets, packed }
    }

    /// Puts the `gradient` of a group into its frame.
    fn spread(&self, convolution: &Convolution, gradient: &[f32], spread: &mut Vec<f32>) {
        spread.clear();
        spread.resize(convolution.outputs * self.plane + LANES, 0.0);
        let [top, left] = self.margin;
        for (gradient, plane) in gradient.chunks_exact(convolution.places()).zip(spread.chunks_exact_mut(self.plane)) {
            let rows = gradient.chunks_exact(convolution.axes[1].places);
            for (row, to) in rows.zip(plane.chunks_exact_mut(self.pitch).skip(top)) {
                to[left..][..row.len()].copy_from_slice(row);
            }
        }
    }
}

/// The gradient of what arrived, in its shape; of `gradient`, which has the shape of what left.
pub(super) fn input_gradient(convolution: &Convolution, gradient: &[f32], weights: &[f32]) -> Vec<f32> {
    let Convolution { groups, axes: [down, across], .. } = *convolution;
    let (arriving, leaving, area) = (convolution.arriving(), convolution.leaving(), convolution.area());
    let frame = Frame::of(convolution);
    let phases = convolution.phases().into_iter().map(|phase| frame.phase(convolution, phase, weights));
    let phases: Vec<Phase> = phases.filter(|phase| !phase.rows.is_empty() && !phase.columns.is_empty()).collect();
    let mut arrived = vec![0.0; gradient.len() / leaving * arriving];
    let images = gradient.par_chunks_exact(groups * leaving).zip(arrived.par_chunks_exact_mut(groups * arriving));
    images.for_each_init(Room::default, |Room { spread, sums }, (gradient, arrived)| {
        let parts = gradient.chunks_exact(leaving).zip(arrived.chunks_exact_mut(arriving));
        for (group, (gradient, arrived)) in parts.enumerate() {
            frame.spread(convolution, gradient, spread);
            for phase in &phases {
                phase.packed[group].correlate(&phase.offsets, spread, phase.length, sums, |input, sums| {
                    let arrived = &mut arrived[input * area..][..area];
                    for (y, sums) in sums.chunks(frame.pitch).take(phase.rows.len()).enumerate() {
                        let to = &mut arrived[(phase.first[0] + y * down.stride) * across.side + phase.first[1]..];
                        let sums = &sums[..phase.columns.len()];
                        if across.stride == 1 {
                            to[..sums.len()].copy_from_slice(sums);
                        } else {
                            to.iter_mut().step_by(across.stride).zip(sums).for_each(|(to, sum)| *to = *sum);
                        }
                    }
                });
            }
        }
    });
    arrived
}
