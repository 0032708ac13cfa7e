//! What a convolution is, and how its channels are spread over planes in which every tap of the window is one shift.

use std::ops::Range;

use super::kernel::{ROWS, correlate};
use crate::layers::axis::Axis;
use crate::layers::registers::LANES;

/// A convolution of images; channels are those of one group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Convolution {
    /// Parts of the channels that know nothing of one another.
    pub(super) groups: usize,
    /// Channels that arrive.
    pub(super) inputs: usize,
    /// Channels that leave.
    pub(super) outputs: usize,
    /// Down and across.
    pub(super) axes: [Axis; 2],
}

/// Where a tap reads: in which phase down and across, and how far from the place of the window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tap {
    pub(super) phase: [usize; 2],
    pub(super) shift: [usize; 2],
}

impl Convolution {
    /// Numbers of an image that arrive in one channel.
    pub(super) fn area(&self) -> usize {
        self.axes[0].side * self.axes[1].side
    }

    /// Numbers of an image that leave in one channel.
    pub(super) fn places(&self) -> usize {
        self.axes[0].places * self.axes[1].places
    }

    /// Numbers of an image that arrive in one group.
    pub(super) fn arriving(&self) -> usize {
        self.inputs * self.area()
    }

    /// Numbers of an image that leave in one group.
    pub(super) fn leaving(&self) -> usize {
        self.outputs * self.places()
    }

    /// Taps of the window.
    pub(super) fn window(&self) -> usize {
        self.axes[0].kernel * self.axes[1].kernel
    }

    /// Weights of one channel that leaves.
    pub(super) fn depth(&self) -> usize {
        self.inputs * self.window()
    }

    /// The phases that are read.
    pub(super) fn phases(&self) -> Vec<[usize; 2]> {
        let across = self.axes[1].phases();
        self.axes[0].phases().into_iter().flat_map(|down| across.iter().map(move |&across| [down, across])).collect()
    }

    /// In the order of the weights.
    pub(super) fn taps(&self) -> Vec<Tap> {
        let [down, across] = self.axes;
        let tap = |y: usize, x: usize| {
            let ((phase_y, shift_y), (phase_x, shift_x)) = (down.tap(y), across.tap(x));
            Tap { phase: [phase_y, phase_x], shift: [shift_y, shift_x] }
        };
        (0..down.kernel).flat_map(|y| (0..across.kernel).map(move |x| tap(y, x))).collect()
    }
}

/// What arrives in one group, phase by phase: each phase of a channel is a plane, with its padding, whose rows lie behind
/// one another. So what a tap reads at all places is one row of numbers, in which those between the rows of places are
/// of no use.
#[derive(Debug)]
pub(super) struct Planes {
    /// From one row of a plane to the next.
    pub(super) pitch: usize,
    /// From the first place to the last, in rows of that pitch, and on to a whole register.
    pub(super) length: usize,
    /// Where what each weight is multiplied with begins, in the order of the weights.
    pub(super) offsets: Vec<usize>,
    phases: Vec<[usize; 2]>,
    plane: usize,
}

impl Planes {
    pub(super) fn of(convolution: &Convolution) -> Self {
        let [down, across] = convolution.axes;
        let (pitch, phases) = (across.reach(), convolution.phases());
        let plane = down.reach() * pitch;
        let begin = |Tap { phase, shift: [y, x] }: Tap| {
            let phase = phases.iter().position(|other| *other == phase).expect("it is one that is read");
            phase * plane + y * pitch + x
        };
        let begins: Vec<usize> = convolution.taps().into_iter().map(begin).collect();
        let step = phases.len() * plane;
        let offsets = (0..convolution.inputs).flat_map(|input| begins.iter().map(move |begin| input * step + begin));
        let length = ((down.places - 1) * pitch + across.places).next_multiple_of(LANES);
        Self { pitch, length, offsets: offsets.collect(), phases, plane }
    }

    /// Spreads the `channels` of a group over its planes.
    pub(super) fn spread(&self, convolution: &Convolution, channels: &[f32], spread: &mut Vec<f32>) {
        let [down, across] = convolution.axes;
        spread.clear();
        // The last row that is read goes on to a whole register.
        spread.resize(convolution.inputs * self.phases.len() * self.plane + LANES, 0.0);
        let planes = channels
            .chunks_exact(convolution.area())
            .flat_map(|channel| self.phases.iter().map(move |phase| (channel, phase)));
        for ((channel, &[phase_y, phase_x]), plane) in planes.zip(spread.chunks_exact_mut(self.plane)) {
            let ((rows, first_y), (columns, first_x)) = (down.inside(phase_y), across.inside(phase_x));
            if columns.is_empty() {
                continue;
            }
            for (y, to) in plane.chunks_exact_mut(self.pitch).skip(rows.start).take(rows.len()).enumerate() {
                let from = &channel[(first_y + y * down.stride) * across.side..][first_x..across.side];
                let to = &mut to[columns.clone()];
                if across.stride == 1 {
                    to.copy_from_slice(&from[..to.len()]);
                } else {
                    to.iter_mut().zip(from.iter().step_by(across.stride)).for_each(|(to, from)| *to = *from);
                }
            }
        }
    }
}

/// `0..count` in blocks of `size`, and what is left over one by one.
pub(super) fn blocks(count: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    let whole = count / size * size;
    (0..whole).step_by(size).map(move |start| start..start + size).chain((whole..count).map(|one| one..one + 1))
}

/// Weights as [`correlate`] takes them: for each block of rows and each `k`, those of its rows side by side.
#[derive(Debug)]
pub(super) struct Packed {
    weights: Vec<f32>,
    rows: usize,
    depth: usize,
}

impl Packed {
    /// Packs `weight(row, k)` for each of `rows` rows and each `k` below `depth`.
    pub(super) fn new(rows: usize, depth: usize, weight: impl Fn(usize, usize) -> f32) -> Self {
        let mut weights = Vec::with_capacity(rows * depth);
        for rows in blocks(rows, ROWS) {
            for k in 0..depth {
                weights.extend(rows.clone().map(|row| weight(row, k)));
            }
        }
        Self { weights, rows, depth }
    }

    /// Computes each row's sums over all of `input` that its weights are multiplied with, and has them taken: a row, and
    /// `length` numbers.
    pub(super) fn correlate(
        &self,
        offsets: &[usize],
        input: &[f32],
        length: usize,
        room: &mut Vec<f32>,
        mut take: impl FnMut(usize, &[f32]),
    ) {
        room.resize(ROWS * length, 0.0);
        for rows in blocks(self.rows, ROWS) {
            let weights = &self.weights[rows.start * self.depth..rows.end * self.depth];
            let sums = &mut room[..rows.len() * length];
            if rows.len() == ROWS {
                correlate::<ROWS>(weights.as_chunks().0, offsets, input, sums);
            } else {
                correlate::<1>(weights.as_chunks().0, offsets, input, sums);
            }
            for (row, sums) in rows.zip(sums.chunks_exact(length)) {
                take(row, sums);
            }
        }
    }
}

/// What a thread needs room for while it computes an image; used again for the next.
#[derive(Debug, Default)]
pub(super) struct Room {
    pub(super) spread: Vec<f32>,
    pub(super) sums: Vec<f32>,
}
