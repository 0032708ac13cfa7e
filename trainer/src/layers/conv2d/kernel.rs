//! The two inner loops of a convolution: sums of shifted rows, and products of rows summed, eight numbers at once.

use pulp::{Simd, WithSimd};

use crate::layers::registers::{first, vectorized};

/// Channels that are computed together.
pub(super) const ROWS: usize = 4;

/// Numbers of a window whose gradients are computed together. With [`ROWS`] of them, and what they are computed from, they
/// fill the sixteen registers.
pub(super) const COLUMNS: usize = 3;

/// Gives each of the `R` rows of `out` the sum over `k` of `weights[k][row]` times the row of `input` that begins at
/// `offsets[k]`. Their length is a multiple of [`LANES`](crate::layers::registers::LANES).
///
/// *Order* of the sum: that of `k`.
pub(super) fn correlate<const R: usize>(weights: &[[f32; R]], offsets: &[usize], input: &[f32], out: &mut [f32]) {
    vectorized(Correlate { weights, offsets, input, out });
}

struct Correlate<'a, const R: usize> {
    weights: &'a [[f32; R]],
    offsets: &'a [usize],
    input: &'a [f32],
    out: &'a mut [f32],
}

impl<const R: usize> WithSimd for Correlate<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { weights, offsets, input, out } = self;
        let length = out.len() / R;
        let mut at = 0;
        while at + 2 * S::F32_LANES <= length {
            at += block::<S, R, 2>(simd, weights, offsets, &input[at..], out, at);
        }
        while at < length {
            at += block::<S, R, 1>(simd, weights, offsets, &input[at..], out, at);
        }
    }
}

/// Puts `V` registers into each row of `out`, from `at` on, and says how many numbers those are. Two registers in four
/// rows are as many sums as a processor works on at once; more of them did not fit beside what they are computed from.
#[inline(always)]
fn block<S: Simd, const R: usize, const V: usize>(
    simd: S,
    weights: &[[f32; R]],
    offsets: &[usize],
    input: &[f32],
    out: &mut [f32],
    at: usize,
) -> usize {
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    for (weights, &offset) in weights.iter().zip(offsets) {
        let numbers = first::<S, V>(&input[offset..]);
        for (sums, &weight) in sums.iter_mut().zip(weights) {
            let weight = simd.splat_f32s(weight);
            for (sum, &number) in sums.iter_mut().zip(numbers) {
                *sum = simd.mul_add_f32s(weight, number, *sum);
            }
        }
    }
    let length = out.len() / R;
    for (row, sums) in sums.iter().enumerate() {
        let (vectors, _) = S::as_mut_simd_f32s(&mut out[row * length + at..][..V * S::F32_LANES]);
        vectors.copy_from_slice(sums);
    }
    V * S::F32_LANES
}

/// Gives for each of `R` rows and each `k` the sum of the products of their numbers, over all `samples`: of the rows of
/// the one side, `length` numbers each, with the row of the other side that begins at `offsets[k]`. `length` is a multiple
/// of [`LANES`](crate::layers::registers::LANES).
pub(super) fn multiply<const R: usize, const K: usize>(
    samples: &[(&[f32], &[f32])],
    length: usize,
    offsets: &[usize; K],
) -> [[f32; K]; R] {
    vectorized(Multiply { samples, length, offsets })
}

struct Multiply<'a, const R: usize, const K: usize> {
    samples: &'a [(&'a [f32], &'a [f32])],
    length: usize,
    offsets: &'a [usize; K],
}

impl<const R: usize, const K: usize> WithSimd for Multiply<'_, R, K> {
    type Output = [[f32; K]; R];

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> [[f32; K]; R] {
        let mut sums = [[simd.splat_f32s(0.0); K]; R];
        for (rows, input) in self.samples {
            let (mut factors, mut numbers) = ([&[][..]; R], [&[][..]; K]);
            for (row, factors) in factors.iter_mut().enumerate() {
                *factors = S::as_simd_f32s(&rows[row * self.length..][..self.length]).0;
            }
            for (numbers, offset) in numbers.iter_mut().zip(self.offsets) {
                *numbers = S::as_simd_f32s(&input[*offset..][..self.length]).0;
            }
            for at in 0..self.length / S::F32_LANES {
                for (sums, factors) in sums.iter_mut().zip(factors) {
                    for (sum, numbers) in sums.iter_mut().zip(numbers) {
                        *sum = simd.mul_add_f32s(factors[at], numbers[at], *sum);
                    }
                }
            }
        }
        let mut totals = [[0.0; K]; R];
        for (totals, sums) in totals.iter_mut().zip(sums) {
            for (total, sum) in totals.iter_mut().zip(sums) {
                *total = simd.reduce_sum_f32s(sum);
            }
        }
        totals
    }
}
