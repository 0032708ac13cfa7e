//! One small generator of random numbers for each use of randomness.

/// In the place of a transform: draws what stands in for a bad sample. No chain is that long.
pub(crate) const SUBSTITUTE_OP: u64 = u64::MAX;

/// In the place of a transform: draws a synthetic sample.
pub(crate) const SYNTHETIC_OP: u64 = u64::MAX - 1;

/// In the place of an epoch: deals samples to the parts of a random split.
pub(crate) const SPLIT_OP: u64 = u64::MAX - 16;

/// In the place of a transform: draws with replacement.
pub(crate) const REPLACEMENT_OP: u64 = u64::MAX - 17;

/// In the place of a transform: draws by weight.
pub(crate) const WEIGHTED_OP: u64 = u64::MAX - 18;

/// Orders the samples of a window.
pub(crate) const WINDOW_OP: u64 = u64::MAX - 19;

/// Orders the records of a shard's block.
pub(crate) const BLOCK_OP: u64 = u64::MAX - 20;

/// Orders the classes of a round.
pub(crate) const ROUND_OP: u64 = u64::MAX - 21;

/// Orders the samples of a class.
pub(crate) const CLASS_OP: u64 = u64::MAX - 22;

/// Orders the samples of a bucket of about one length.
pub(crate) const BUCKET_OP: u64 = u64::MAX - 23;

/// A generator keyed by what it is used for, so that no draw depends on what was drawn before elsewhere.
///
/// Source: xoshiro256++ 1.0 of Blackman and Vigna, seeded by SplitMix64 as they advise (<https://prng.di.unimi.it>).
#[derive(Clone, Debug)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// The generator of one operation on one sample.
    ///
    /// `position` is the sample's place in the epoch, `sample` its index in the dataset, `op` the place of the
    /// transform in the chain. Golden values hold this for good: changing it changes every augmented stream.
    pub fn new(seed: u64, epoch: u64, position: u64, sample: u64, op: u64) -> Self {
        let mut key = SplitMix::keyed(&[seed, epoch, position, sample, op]);
        Self { state: std::array::from_fn(|_| key.next()) }
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let [s0, s1, s2, s3] = self.state;
        let result = s0.wrapping_add(s3).rotate_left(23).wrapping_add(s0);
        let (t2, t3) = (s2 ^ s0, s3 ^ s1);
        self.state = [s0 ^ t3, s1 ^ t2, t2 ^ (s1 << 17), t3.rotate_left(45)];
        result
    }

    /// A number of `0..bound`, each equally likely; 0 for a bound of 0.
    ///
    /// Source: Lemire, "Fast random integer generation in an interval" (2019), doi:10.1145/3230636.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        // Products whose lower half is below this remainder would favour some results.
        let unfair = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            let (high, low) = halves(product);
            if low >= unfair {
                return high;
            }
        }
    }

    /// A number of `0.0..1.0`, one of 2^53 equally spaced ones.
    pub fn uniform(&mut self) -> f64 {
        const STEP: f64 = 1.0 / 9_007_199_254_740_992.0;
        // 53 bits: the conversion is exact.
        (self.next_u64() >> 11) as f64 * STEP
    }

    /// A number from `low` to below `high`, each equally likely; `low` where the two are equal. One draw.
    pub fn uniform_in(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// A number from `low` to `high`, both above 0, whose logarithm is uniform: a half is as likely as a double. One
    /// draw.
    ///
    /// It goes through the system's `ln` and `exp`: on another machine its last bit may differ.
    pub fn log_uniform_in(&mut self, low: f64, high: f64) -> f64 {
        self.uniform_in(low.ln(), high.ln()).exp()
    }

    /// A number of the standard normal distribution. Two draws.
    ///
    /// It goes through the system's `ln` and `cos`: on another machine its last bit may differ.
    ///
    /// Source: Box and Muller, "A note on the generation of random normal deviates" (1958), the cosine half.
    pub fn normal(&mut self) -> f64 {
        // Above 0, so that the logarithm is finite.
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// `true` with probability `p`. One draw, also where `p` is 0 or 1.
    pub fn chance(&mut self, p: f64) -> bool {
        self.uniform() < p
    }

    /// Puts `items` into an order of which all are equally likely. `items.len() - 1` draws, from the last item down.
    ///
    /// Source: Durstenfeld's form of the Fisher-Yates shuffle (1964).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = usize::try_from(self.below(last as u64 + 1)).expect("it is at most `last`");
            items.swap(last, other);
        }
    }
}

/// The upper and the lower 64 bits.
fn halves(wide: u128) -> (u64, u64) {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = wide.to_be_bytes();
    (u64::from_be_bytes([a, b, c, d, e, f, g, h]), u64::from_be_bytes([i, j, k, l, m, n, o, p]))
}

/// A generator for keys: little state, every seed good.
///
/// Source: Vigna's splitmix64.c (<https://prng.di.unimi.it/splitmix64.c>).
#[derive(Clone, Debug)]
pub(crate) struct SplitMix(u64);

impl SplitMix {
    const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

    /// Mixes the parts of a key; their order and number matter.
    pub(crate) fn keyed(parts: &[u64]) -> Self {
        Self(parts.iter().fold(0, |state: u64, &part| mix(state.wrapping_add(Self::GAMMA) ^ part)))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(Self::GAMMA);
        mix(self.0)
    }
}

/// Spreads every bit of `value` over all 64: a bijection.
pub(crate) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generators_match_their_authors_values() {
        // The published first outputs of splitmix64.c from 1234567 and of xoshiro256++ from 1, 2, 3, 4.
        let mut splitmix = SplitMix(1_234_567);
        assert_eq!(
            [(); 3].map(|()| splitmix.next()),
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
        let mut rng = Rng { state: [1, 2, 3, 4] };
        assert_eq!(
            [(); 5].map(|()| rng.next_u64()),
            [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386, 9_228_616_714_210_784_205]
        );
    }

    #[test]
    fn keyed_draws_are_what_they_always_were() {
        // Golden, from a second implementation in Python: a change here changes every augmented stream ever trained on.
        let mut rng = Rng::new(1, 2, 3, 4, 5);
        assert_eq!(
            [rng.next_u64(), rng.next_u64(), rng.below(1000)],
            [5_913_364_986_057_011_679, 339_715_987_446_897_748, 473]
        );
        let mut rng = Rng::new(0, 0, 0, 0, 0);
        assert_eq!(
            [rng.next_u64(), rng.next_u64(), rng.below(1000)],
            [10_341_315_508_171_951_102, 1_377_418_228_413_931_351, 47]
        );
    }

    #[test]
    fn every_part_of_the_key_matters() {
        let keys =
            [[0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]];
        let mut firsts =
            keys.map(|[seed, epoch, position, sample, op]| Rng::new(seed, epoch, position, sample, op).next_u64());
        firsts.sort_unstable();
        assert!(firsts.windows(2).all(|pair| pair[0] != pair[1]), "{firsts:?}");
    }

    #[test]
    fn draws_stay_in_their_bounds_and_reach_all_of_them() {
        let mut rng = Rng::new(1, 2, 3, 4, 5);
        let mut seen = [0_u32; 6];
        for _ in 0..6000 {
            seen[usize::try_from(rng.below(6)).unwrap()] += 1;
            let real = rng.uniform();
            assert!((0.0..1.0).contains(&real), "{real}");
        }
        // A fair die: 1000 each, with a standard deviation of 29.
        assert!(seen.iter().all(|count| (850..1150).contains(count)), "{seen:?}");
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.below(1), 0);
    }

    #[test]
    fn draws_of_other_kinds_are_what_they_always_were() {
        // Golden, as above; `ln`, `exp` and `cos` are the system's.
        let mut rng = Rng::new(1, 2, 3, 4, 5);
        assert_eq!(rng.uniform_in(-2.0, 3.0), -0.397_179_208_854_318_46);
        assert!((rng.log_uniform_in(0.25, 4.0) - 0.263_096_536_637_252_9).abs() < 1e-15);
        assert!((rng.normal() - -0.891_298_260_064_711).abs() < 1e-14);
        assert_eq!([rng.chance(0.5), rng.chance(0.5)], [false, true]);
        let mut items = [0, 1, 2, 3, 4];
        rng.shuffle(&mut items);
        assert_eq!(items, [3, 0, 4, 2, 1]);
    }

    #[test]
    fn draws_have_the_distribution_they_promise() {
        let mut rng = Rng::new(5, 4, 3, 2, 1);
        let mean = |draws: &[f64]| draws.iter().sum::<f64>() / draws.len() as f64;
        let normal: Vec<_> = (0..10_000).map(|_| rng.normal()).collect();
        assert!(mean(&normal).abs() < 0.05, "{}", mean(&normal));
        let squares: Vec<_> = normal.iter().map(|draw| draw * draw).collect();
        assert!((0.93..1.07).contains(&mean(&squares)), "{}", mean(&squares));
        let logarithms: Vec<_> = (0..10_000).map(|_| rng.log_uniform_in(0.5, 8.0).log2()).collect();
        assert!(logarithms.iter().all(|logarithm| (-1.0 - 1e-9..3.0 + 1e-9).contains(logarithm)));
        assert!((0.95..1.05).contains(&mean(&logarithms)), "{}", mean(&logarithms));
        assert!((0..10_000).all(|_| rng.chance(1.0) && !rng.chance(0.0)));
        // Each of the 24 orders of four: 500 times, with a standard deviation of 22.
        let mut orders = std::collections::BTreeMap::new();
        for _ in 0..12_000 {
            let mut items = [0, 1, 2, 3];
            rng.shuffle(&mut items);
            *orders.entry(items).or_insert(0) += 1;
        }
        assert!(orders.len() == 24 && orders.values().all(|count| (390..610).contains(count)), "{orders:?}");
    }
}
