//! The inner loop of matrix products: a few rows of the result, summed up in the registers.

use pulp::{Simd, WithSimd};

use crate::layers::registers::{LANES, first, vectorized};

/// Rows that are computed together. With [`COLUMNS`] they are twelve sums, which with what they are computed from fill
/// the sixteen registers: enough that none waits for the one before.
pub(super) const ROWS: usize = 6;

/// Columns that are computed together: two registers.
pub(super) const COLUMNS: usize = 2 * LANES;

/// As many numbers.
pub(super) type Row = [f32; COLUMNS];

/// What is multiplied with the panels, [`ROWS`] rows of it.
pub(super) trait Left: Copy {
    /// The first `depth` numbers of each row: the loop knows then how many there are.
    fn first(self, depth: usize) -> Self;

    /// The `k`-th number of a row.
    fn number(&self, row: usize, k: usize) -> f32;
}

/// Rows as they lie.
impl Left for [&[f32]; ROWS] {
    #[inline(always)]
    fn first(self, depth: usize) -> Self {
        self.map(|row| &row[..depth])
    }

    #[inline(always)]
    fn number(&self, row: usize, k: usize) -> f32 {
        self[row][k]
    }
}

/// The numbers of all rows side by side.
impl Left for &[[f32; ROWS]] {
    #[inline(always)]
    fn first(self, depth: usize) -> Self {
        &self[..depth]
    }

    #[inline(always)]
    fn number(&self, row: usize, k: usize) -> f32 {
        self[k][row]
    }
}

/// Puts into the rows of `out`, of which there may be fewer than [`ROWS`], those of `left` times a matrix, plus `bias`.
/// The matrix is `panels`: for each [`COLUMNS`] columns, its rows, `depth` of them. `bias` has a number for each
/// column.
///
/// *Order* of each sum: the bias, then that of the matrix' rows.
pub(super) fn multiply(left: impl Left, panels: &[Row], depth: usize, bias: &[Row], out: &mut [&mut [f32]]) {
    vectorized(Multiply { left, panels, depth, bias, out });
}

struct Multiply<'a, 'b, L> {
    left: L,
    panels: &'a [Row],
    depth: usize,
    bias: &'a [Row],
    out: &'a mut [&'b mut [f32]],
}

impl<L: Left> WithSimd for Multiply<'_, '_, L> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::F32_LANES == LANES { self.multiply::<S, 2>(simd) } else { self.multiply::<S, 4>(simd) }
    }
}

impl<L: Left> Multiply<'_, '_, L> {
    /// `V` registers are as many columns as are computed together.
    #[inline(always)]
    fn multiply<S: Simd, const V: usize>(self, simd: S) {
        let left = self.left.first(self.depth);
        for (idx, (panel, bias)) in self.panels.chunks_exact(self.depth).zip(self.bias).enumerate() {
            let mut sums = [*first::<S, V>(bias); ROWS];
            for (k, right) in panel.iter().enumerate() {
                let right = first::<S, V>(right);
                for (row, sums) in sums.iter_mut().enumerate() {
                    let number = simd.splat_f32s(left.number(row, k));
                    for (sum, right) in sums.iter_mut().zip(right) {
                        *sum = simd.mul_add_f32s(number, *right, *sum);
                    }
                }
            }
            for (out, sums) in self.out.iter_mut().zip(&sums) {
                let out = &mut out[idx * COLUMNS..];
                if let Some(whole) = out.first_chunk_mut::<COLUMNS>() {
                    S::as_mut_simd_f32s(whole).0.copy_from_slice(sums);
                } else {
                    let mut row = [0.0; COLUMNS];
                    S::as_mut_simd_f32s(&mut row).0.copy_from_slice(sums);
                    out.iter_mut().zip(row).for_each(|(out, number)| *out = number);
                }
            }
        }
    }
}
