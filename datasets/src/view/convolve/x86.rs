//! The same with AVX2, where the processor has it.

use std::arch::x86_64::__m256i;

use pulp::x86::V3;
use pulp::{NullaryFnOnce, cast};

use super::{BLOCK, READ, ROWS, Weigh, Work, half};

/// Work that [`V3::vectorize`] does.
pub(super) struct Vectorized<W>(pub(super) V3, pub(super) W);

impl<W: Work> NullaryFnOnce for Vectorized<W> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.1.by(self.0);
    }
}

/// A channel of one pixel and of the next as two numbers of 16 bits, for each of four channels.
#[expect(clippy::cast_possible_truncation, reason = "at most 4")]
const fn pairs(channels: usize) -> [u8; READ] {
    let (c, zero) = (channels as u8, u8::MAX);
    [0, zero, c, zero, 1, zero, c + 1, zero, 2, zero, c + 2, zero, 3, zero, c + 3, zero]
}

/// The first bytes of two rows.
#[inline(always)]
fn two(registers: V3, upper: &[u8], lower: &[u8]) -> __m256i {
    let (Some(&upper), Some(&lower)) = (upper.first_chunk::<READ>(), lower.first_chunk::<READ>()) else {
        return registers.avx._mm256_setzero_si256();
    };
    registers.avx2._mm256_inserti128_si256::<1>(registers.avx._mm256_castsi128_si256(cast(upper)), cast(lower))
}

impl Weigh for V3 {
    #[inline(always)]
    fn across<const CHANNELS: usize>(
        self,
        rows: [&[u8]; ROWS],
        weights: &[[i16; 2]],
        precision: u32,
    ) -> [[u8; 4]; ROWS] {
        let (avx, avx2) = (self.avx, self.avx2);
        let pairs: __m256i = cast([const { pairs(CHANNELS) }; 2]);
        // Two rows in each.
        let mut sums = [avx._mm256_set1_epi32(half(precision)); 2];
        for (place, &weights) in weights.iter().enumerate() {
            let weights = avx._mm256_set1_epi32(cast(weights));
            let at = place * 2 * CHANNELS;
            let upper = two(self, &rows[0][at..], &rows[1][at..]);
            let lower = two(self, &rows[2][at..], &rows[3][at..]);
            let upper = avx2._mm256_madd_epi16(avx2._mm256_shuffle_epi8(upper, pairs), weights);
            let lower = avx2._mm256_madd_epi16(avx2._mm256_shuffle_epi8(lower, pairs), weights);
            sums = [avx2._mm256_add_epi32(sums[0], upper), avx2._mm256_add_epi32(sums[1], lower)];
        }
        let shift = cast([u64::from(precision), 0]);
        let upper = avx2._mm256_sra_epi32(sums[0], shift);
        let lower = avx2._mm256_sra_epi32(sums[1], shift);
        let words = avx2._mm256_packs_epi32(upper, lower);
        // In each half of a register is one row of either.
        let bytes: [[u8; 4]; 8] = cast(avx2._mm256_packus_epi16(words, words));
        [bytes[0], bytes[4], bytes[1], bytes[5]]
    }

    #[inline(always)]
    fn down(self, rows: &[u8], stride: usize, weights: &[i16], precision: u32) -> [u8; BLOCK] {
        let (avx, avx2) = (self.avx, self.avx2);
        let zero = avx._mm256_setzero_si256();
        let mut sums = [avx._mm256_set1_epi32(half(precision)); 4];
        let (pairs, _) = weights.as_chunks::<2>();
        for (&weights, rows) in pairs.iter().zip(rows.chunks(2 * stride)) {
            let weights = avx._mm256_set1_epi32(cast(weights));
            let Some(&upper) = rows.first_chunk::<BLOCK>() else { break };
            // The second weighs nothing where there is none.
            let lower = rows.get(stride..).and_then(<[u8]>::first_chunk).copied().unwrap_or(upper);
            // A byte of one beside that of the other, as numbers of 16 bits: four of each half of a register in each.
            let (upper, lower): (__m256i, __m256i) = (cast(upper), cast(lower));
            let first = avx2._mm256_unpacklo_epi8(upper, lower);
            let last = avx2._mm256_unpackhi_epi8(upper, lower);
            let pairs = [
                avx2._mm256_unpacklo_epi8(first, zero),
                avx2._mm256_unpackhi_epi8(first, zero),
                avx2._mm256_unpacklo_epi8(last, zero),
                avx2._mm256_unpackhi_epi8(last, zero),
            ];
            for (sum, pairs) in sums.iter_mut().zip(pairs) {
                *sum = avx2._mm256_add_epi32(*sum, avx2._mm256_madd_epi16(pairs, weights));
            }
        }
        let shift = cast([u64::from(precision), 0]);
        for sum in &mut sums {
            *sum = avx2._mm256_sra_epi32(*sum, shift);
        }
        let first = avx2._mm256_packs_epi32(sums[0], sums[1]);
        let last = avx2._mm256_packs_epi32(sums[2], sums[3]);
        cast(avx2._mm256_packus_epi16(first, last))
    }
}
