//! Weighs the pixels around every place: across, along the rows, or down, along the columns.
//!
//! Across is where an image is scaled slowly: what weighs in a pixel lies at no fixed distance from what weighs in the
//! next. So it is done with four rows at a time, and with the registers for bytes that the processor has.

#[cfg(target_arch = "x86_64")]
mod x86;

use super::weights::Weights;
use crate::scratch;

/// Rows that are weighed across at a time.
const ROWS: usize = 4;

/// Bytes that are read for two pixels side by side: a register's, of which theirs are the first.
const READ: usize = 16;

/// Bytes of a row that are weighed down at a time.
const BLOCK: usize = 32;

/// Rows of pixels, the first of which begins with `bytes`, and every other so many behind the one before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) stride: usize,
    pub(super) count: usize,
    pub(super) channels: usize,
}

/// Weighs the pixels of every row. Of the rows that come of it, each `stride` bytes behind the one before, there may be
/// more than those, and more in each than pixels.
pub(super) fn across(source: Rows<'_>, weights: &Weights) -> (Vec<u8>, usize) {
    across_by(source, weights, |four| best(four))
}

fn across_by(source: Rows<'_>, weights: &Weights, run: impl Fn(FourRows<'_>)) -> (Vec<u8>, usize) {
    let Rows { bytes, stride: from_stride, count, channels } = source;
    // Every pixel is written as four bytes: what is too much of them the next one replaces.
    let stride = weights.first.len() * channels + 4 - channels;
    let mut scaled = scratch::take(count.next_multiple_of(ROWS) * stride);
    let read = weights.first.iter().max().map_or(0, |last| (last + weights.taps - 2) * channels + READ);
    let mut copies = None;
    for (group, target) in scaled.chunks_exact_mut(ROWS * stride).enumerate() {
        let starts: [usize; ROWS] = std::array::from_fn(|row| (group * ROWS + row).min(count - 1) * from_stride);
        let rows = if starts[ROWS - 1] + read <= bytes.len() {
            starts.map(|start| &bytes[start..][..read])
        } else {
            // Behind the last row there is less to read than a register takes.
            let copies = copies.get_or_insert_with(|| scratch::take(ROWS * read));
            for (copy, start) in copies.chunks_exact_mut(read).zip(starts) {
                let len = read.min(bytes.len() - start);
                copy[..len].copy_from_slice(&bytes[start..][..len]);
            }
            let copies = &*copies;
            std::array::from_fn(|row| &copies[row * read..][..read])
        };
        run(FourRows { rows, channels, weights, target });
    }
    copies.into_iter().for_each(scratch::give);
    (scaled, stride)
}

/// Weighs the pixels of every column; a row of `target` has as many bytes as `row_bytes` says, at most those of a row of
/// the source.
pub(super) fn down(source: Rows<'_>, weights: &Weights, row_bytes: usize, target: &mut [u8]) {
    best(Down { source, weights, row_bytes, target });
}

/// Does it as this processor does it best.
fn best(work: impl Work) {
    #[cfg(target_arch = "x86_64")]
    if let Some(registers) = pulp::x86::V3::try_new() {
        return registers.vectorize(x86::Vectorized(registers, work));
    }
    work.by(Plain);
}

/// What is done by weighing: with other registers it is compiled anew, so that all of it must be inlined.
trait Work {
    fn by(self, weigh: impl Weigh);
}

struct Down<'a> {
    source: Rows<'a>,
    weights: &'a Weights,
    row_bytes: usize,
    target: &'a mut [u8],
}

impl Work for Down<'_> {
    #[inline(always)]
    fn by(self, weigh: impl Weigh) {
        let Self { source, weights, row_bytes, target } = self;
        let precision = weights.precision;
        for (target, (first, values)) in target.chunks_exact_mut(row_bytes).zip(weights.pixels()) {
            let rows = &source.bytes[first * source.stride..];
            let (blocks, rest) = target.as_chunks_mut::<BLOCK>();
            let mut at = 0;
            for block in blocks {
                *block = weigh.down(&rows[at..], source.stride, values, precision);
                at += BLOCK;
            }
            for (place, byte) in rest.iter_mut().enumerate() {
                let column = rows[at + place..].iter().step_by(source.stride);
                let weighed = column.zip(values).map(|(&byte, &weight)| i32::from(byte) * i32::from(weight));
                *byte = rounded(half(precision) + weighed.sum::<i32>(), precision);
            }
        }
    }
}

/// What a sum begins with that is rounded when it is cut.
#[inline(always)]
fn half(precision: u32) -> i32 {
    1 << (precision - 1)
}

/// A sum of weighed bytes that began with [`half`].
#[inline(always)]
#[expect(clippy::cast_sign_loss, reason = "it is cut to 0 to 255")]
fn rounded(sum: i32, precision: u32) -> u8 {
    (sum >> precision).clamp(0, 255) as u8
}

/// Four rows, and the four that they become.
struct FourRows<'a> {
    rows: [&'a [u8]; ROWS],
    channels: usize,
    weights: &'a Weights,
    target: &'a mut [u8],
}

/// How pixels are weighed.
trait Weigh: Copy {
    /// The pixel that comes, in each of four rows, of the pixels that `rows` begin with, two for every pair of weights.
    /// Bytes behind its channels are of no meaning.
    fn across<const CHANNELS: usize>(
        self,
        rows: [&[u8]; ROWS],
        weights: &[[i16; 2]],
        precision: u32,
    ) -> [[u8; 4]; ROWS];

    /// The bytes that come of those that `rows` begin with, each row `stride` bytes behind the one before. There is one
    /// for every weight that is not 0.
    fn down(self, rows: &[u8], stride: usize, weights: &[i16], precision: u32) -> [u8; BLOCK];
}

impl Work for FourRows<'_> {
    #[inline(always)]
    fn by(self, weigh: impl Weigh) {
        match self.channels {
            1 => self.channels::<1>(weigh),
            2 => self.channels::<2>(weigh),
            3 => self.channels::<3>(weigh),
            _ => self.channels::<4>(weigh),
        }
    }
}

impl FourRows<'_> {
    #[inline(always)]
    fn channels<const CHANNELS: usize>(self, weigh: impl Weigh) {
        // A number that is known makes the loop over pairs none: two of a photo that becomes up to half, three to a third.
        match self.weights.taps / 2 {
            2 => self.pairs::<CHANNELS>(weigh, 2),
            3 => self.pairs::<CHANNELS>(weigh, 3),
            pairs => self.pairs::<CHANNELS>(weigh, pairs),
        }
    }

    #[inline(always)]
    fn pairs<const CHANNELS: usize>(self, weigh: impl Weigh, pairs: usize) {
        let Self { rows, weights, target, .. } = self;
        let Weights { precision, first, values, .. } = weights;
        let stride = target.len() / ROWS;
        let (upper, lower) = target.split_at_mut(2 * stride);
        let ((row0, row1), (row2, row3)) = (upper.split_at_mut(stride), lower.split_at_mut(stride));
        let row3 = &mut row3[..stride];
        // Of one length, so that one check is enough for all of them.
        let len = rows[0].len();
        let rows = [rows[0], &rows[1][..len], &rows[2][..len], &rows[3][..len]];
        let read = (pairs - 1) * 2 * CHANNELS + READ;
        let weights = first.iter().zip(values.as_chunks::<2>().0.chunks_exact(pairs));
        for (to, (&from, weights)) in weights.enumerate() {
            // One by one: a closure of `map` is not always made with the registers of what is around it.
            let at = from * CHANNELS..from * CHANNELS + read;
            let rows = [&rows[0][at.clone()], &rows[1][at.clone()], &rows[2][at.clone()], &rows[3][at]];
            let pixels = weigh.across::<CHANNELS>(rows, weights, *precision);
            let at = to * CHANNELS..to * CHANNELS + 4;
            row0[at.clone()].copy_from_slice(&pixels[0]);
            row1[at.clone()].copy_from_slice(&pixels[1]);
            row2[at.clone()].copy_from_slice(&pixels[2]);
            row3[at].copy_from_slice(&pixels[3]);
        }
    }
}

/// On any processor.
#[derive(Clone, Copy)]
struct Plain;

impl Weigh for Plain {
    fn across<const CHANNELS: usize>(
        self,
        rows: [&[u8]; ROWS],
        weights: &[[i16; 2]],
        precision: u32,
    ) -> [[u8; 4]; ROWS] {
        rows.map(|row| {
            // Four in any case: so many are as quick as one.
            let mut sums = [half(precision); 4];
            for (place, &weight) in weights.as_flattened().iter().enumerate() {
                for (sum, &byte) in sums.iter_mut().zip(&row[place * CHANNELS..][..4]) {
                    *sum += i32::from(byte) * i32::from(weight);
                }
            }
            sums.map(|sum| rounded(sum, precision))
        })
    }

    fn down(self, rows: &[u8], stride: usize, weights: &[i16], precision: u32) -> [u8; BLOCK] {
        let mut sums = [half(precision); BLOCK];
        for (row, &weight) in rows.chunks(stride).zip(weights) {
            for (sum, &byte) in sums.iter_mut().zip(row) {
                *sum += i32::from(byte) * i32::from(weight);
            }
        }
        sums.map(|sum| rounded(sum, precision))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Interpolation;
    use super::super::weights::Axis;
    use super::*;
    use crate::random::Rng;

    #[test]
    fn every_processor_finds_the_same() {
        let seed = 5;
        let mut rng = Rng::new(seed, 0, 0, 0, 0);
        let mut weights = Weights::default();
        for (channels, rows, from, to) in [(1, 9, 40, 23), (2, 4, 30, 41), (3, 7, 100, 68), (4, 6, 90, 9), (3, 3, 8, 5)]
        {
            let stride = from * channels;
            let bytes: Vec<u8> = (0..rows * stride).map(|_| u8::try_from(rng.below(256)).unwrap()).collect();
            let source = Rows { bytes: &bytes, stride, count: rows, channels };
            for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic] {
                weights.fill(&Axis::new(interpolation, from, to, 0..to));
                let (vectorized, stride) = across(source, &weights);
                let (plain, _) = across_by(source, &weights, |four| four.by(Plain));
                for row in 0..rows {
                    let row = row * stride..row * stride + to * channels;
                    assert_eq!(vectorized[row.clone()], plain[row], "seed {seed}: {channels} channels");
                }
                weights.fill(&Axis::new(interpolation, rows, 2 * rows, 0..2 * rows));
                let mut vectorized = vec![0; 2 * rows * source.stride];
                let mut plain = vectorized.clone();
                down(source, &weights, source.stride, &mut vectorized);
                let row_bytes = source.stride;
                Down { source, weights: &weights, row_bytes, target: &mut plain }.by(Plain);
                assert_eq!(vectorized, plain, "seed {seed}: {channels} channels");
            }
        }
    }
}
