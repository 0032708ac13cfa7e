//! A keyed permutation of `0..n` that needs no list of it.

use crate::random::{SplitMix, mix};

/// Rounds of the Feistel network. Four make a random-looking permutation (Luby and Rackoff, 1988); the halves are
/// small here, which two more make up for.
const ROUNDS: usize = 6;

/// Below this many bits the halves would have too few values to mix.
const BITS_MIN: u32 = 8;

/// An order of `0..len` drawn from seed and epoch, by place, in constant memory.
///
/// The domain is the next power of two above `len`, at least 256; an alternating unbalanced Feistel network permutes
/// it, and a value outside `0..len` is sent through the network again until it falls inside ("cycle walking"). Less
/// than two walks are needed on average where `len` is above 128.
///
/// Golden vectors hold it for good: changing it changes the order of every shuffled stream.
///
/// Source: Black and Rogaway, "Ciphers with arbitrary finite domains" (2002), doi:10.1007/3-540-45760-7_9.
#[derive(Clone, Copy, Debug)]
pub struct Permutation {
    len: u64,
    left_bits: u32,
    right_bits: u32,
    keys: [u64; ROUNDS],
}

impl Permutation {
    /// The order of `0..len` under `seed` in `epoch`.
    pub fn new(len: u64, seed: u64, epoch: u64) -> Self {
        Self::keyed(len, &[seed, epoch])
    }

    /// The order of `0..len` under a key of any parts; their order and number matter.
    pub(crate) fn keyed(len: u64, key: &[u64]) -> Self {
        // The bits of `len - 1` are ceil(log2(len)).
        let bits = (u64::BITS - len.saturating_sub(1).leading_zeros()).max(BITS_MIN);
        let left_bits = bits / 2;
        let mut key = SplitMix::keyed(key);
        Self { len, left_bits, right_bits: bits - left_bits, keys: std::array::from_fn(|_| key.next()) }
    }

    /// The value at `place`.
    ///
    /// # Panics
    /// When `place` is not below the length: outside, walking need not end.
    pub fn index(&self, place: u64) -> u64 {
        assert!(place < self.len, "place {place} lies outside a permutation of {}", self.len);
        let mut value = place;
        loop {
            value = self.network(value);
            if value < self.len {
                return value;
            }
        }
    }

    /// The place of `value`: the inverse of [`index`](Self::index).
    ///
    /// # Panics
    /// When `value` is not below the length.
    pub fn place(&self, value: u64) -> u64 {
        assert!(value < self.len, "value {value} lies outside a permutation of {}", self.len);
        let mut place = value;
        loop {
            place = self.inverse_network(place);
            if place < self.len {
                return place;
            }
        }
    }

    /// One pass through the network: a bijection of `0..2^(left_bits + right_bits)`.
    fn network(&self, value: u64) -> u64 {
        self.rounds(value, self.keys.iter().enumerate())
    }

    /// The way back: each round undoes itself.
    fn inverse_network(&self, value: u64) -> u64 {
        self.rounds(value, self.keys.iter().enumerate().rev())
    }

    fn rounds<'a>(&self, value: u64, rounds: impl Iterator<Item = (usize, &'a u64)>) -> u64 {
        // Each half has at most 32 bits, so that no shift or mask overflows.
        let (left_mask, right_mask) = ((1 << self.left_bits) - 1, (1 << self.right_bits) - 1);
        let (mut left, mut right) = (value >> self.right_bits, value & right_mask);
        for (round, key) in rounds {
            if round % 2 == 0 {
                left ^= mix(right ^ key) & left_mask;
            } else {
                right ^= mix(left ^ key) & right_mask;
            }
        }
        (left << self.right_bits) | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(len: u64, seed: u64, epoch: u64) -> Vec<u64> {
        let permutation = Permutation::new(len, seed, epoch);
        (0..len).map(|place| permutation.index(place)).collect()
    }

    #[test]
    fn orders_are_what_they_always_were() {
        // Golden, from a second implementation in Python: a change here changes the order of every shuffled stream ever
        // trained on.
        assert_eq!(order(10, 0, 0), [5, 1, 0, 4, 3, 7, 8, 6, 2, 9]);
        assert_eq!(order(10, 0, 1), [9, 0, 4, 1, 3, 8, 6, 7, 5, 2]);
        assert_eq!(order(300, 7, 2)[..10], [221, 209, 216, 206, 61, 89, 3, 95, 119, 19]);
        const LEN: u64 = 1_000_000_000_000;
        let permutation = Permutation::new(LEN, u64::MAX, 3);
        assert_eq!(
            [0, 1, LEN / 2, LEN - 1].map(|place| permutation.index(place)),
            [4_837_275_624, 596_438_700_889, 291_111_619_860, 593_479_123_557]
        );
    }

    #[test]
    fn orders_of_every_size_are_what_they_always_were() {
        // Golden, from the second implementation, at the first two places, the middle and the last.
        let ends = |len: u64, seed, epoch| {
            let permutation = Permutation::new(len, seed, epoch);
            [0, 1, len / 2, len - 1].map(|place| permutation.index(place))
        };
        for (seed, epoch) in [(0, 0), (0, 1), (7, 1000)] {
            assert_eq!(order(1, seed, epoch), [0]);
        }
        assert_eq!(order(2, 0, 0), [0, 1]);
        assert_eq!(order(2, 0, 1), [1, 0]);
        assert_eq!(order(2, 7, 1000), [0, 1]);
        assert_eq!(ends(1000, 0, 0), [425, 950, 494, 705]);
        assert_eq!(ends(1000, 0, 1), [570, 787, 723, 616]);
        assert_eq!(ends(1000, 7, 1000), [82, 986, 418, 158]);
        const PRIME: u64 = 1_000_000_007;
        assert_eq!(ends(PRIME, 0, 0), [52_363_137, 361_231_674, 303_832_905, 226_953_732]);
        assert_eq!(ends(PRIME, 0, 1), [210_116_554, 146_837_357, 455_769_179, 698_453_880]);
        assert_eq!(ends(PRIME, 7, 1000), [632_540_575, 173_044_735, 261_833_049, 417_169_929]);
        const POWER: u64 = 1 << 40;
        assert_eq!(ends(POWER, 0, 0), [434_575_844_380, 977_833_575_597, 438_259_634_269, 989_995_030_636]);
        assert_eq!(ends(POWER, 0, 1), [649_135_287_385, 363_528_377_330, 251_124_192_366, 151_627_930_897]);
        assert_eq!(ends(POWER, 7, 1000), [1_030_571_263_261, 126_838_513_505, 846_460_623_100, 401_914_067_224]);
    }

    #[test]
    fn every_value_occurs_once_for_any_length() {
        for len in (0..600).chain([1000, 1023, 1024, 1025, 4096, 4097, 60_000, 65_536, 65_537]) {
            let mut seen = order(len, 42, 3);
            seen.sort_unstable();
            assert_eq!(seen, (0..len).collect::<Vec<_>>(), "length {len}");
        }
    }

    #[test]
    fn places_are_found_again() {
        for len in [1, 2, 3, 255, 256, 257, 1000, 65_537] {
            let permutation = Permutation::keyed(len, &[len, 1, 2, 3]);
            for value in 0..len {
                assert_eq!(permutation.index(permutation.place(value)), value, "length {len}");
            }
        }
        const LEN: u64 = 1_000_000_000_000;
        let permutation = Permutation::new(LEN, 1, 2);
        for place in [0, 1, LEN / 2, LEN - 1] {
            assert_eq!(permutation.place(permutation.index(place)), place);
        }
    }

    #[test]
    fn seeds_and_epochs_give_other_orders() {
        let first = order(1000, 1, 0);
        for (seed, epoch) in [(1, 1), (2, 0), (0, 1), (1, 1000)] {
            let other = order(1000, seed, epoch);
            let fixed = first.iter().zip(&other).filter(|(a, b)| a == b).count();
            // Two random orders agree in one place on average.
            assert!(fixed < 10, "seed {seed} epoch {epoch} agrees in {fixed} of 1000 places");
        }
    }

    #[test]
    fn every_value_is_as_likely_at_every_place() {
        let mut counts = [[0_u32; 10]; 10];
        for epoch in 0..10_000 {
            for (place, value) in order(10, 5, epoch).into_iter().enumerate() {
                counts[place][usize::try_from(value).unwrap()] += 1;
            }
        }
        // 1000 expected, with a standard deviation of 30.
        assert!(counts.iter().flatten().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    #[test]
    fn neighbours_do_not_stay_neighbours() {
        let order = order(100_000, 9, 0);
        let kept = order.windows(2).filter(|pair| pair[0] + 1 == pair[1]).count();
        // One expected.
        assert!(kept < 10, "{kept} neighbours of 100000 stayed together");
    }

    #[test]
    fn a_trillion_samples_need_no_memory() {
        const LEN: u64 = 1_000_000_000_000;
        let permutation = Permutation::new(LEN, 0, 0);
        let mut seen: Vec<_> = (0..1000).map(|step| permutation.index(LEN - 1 - step * 997_331)).collect();
        assert!(seen.iter().all(|&value| value < LEN));
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 1000);
    }
}
