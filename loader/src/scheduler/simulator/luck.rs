//! Chance that follows from a seed: every peer has its own, so that what befalls one leaves the others as they were.

use std::time::Duration;

/// A source of random numbers (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Luck(u64);

impl Luck {
    /// The luck of one of many, under a seed that all share.
    pub(super) fn new(seed: u64, kind: u64, id: u32) -> Self {
        let mut luck = Self(seed ^ (kind << 56) ^ (u64::from(id) << 20));
        luck.draw();
        luck
    }

    /// Any number.
    pub(super) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A place in a list of `len`.
    pub(super) fn place(&mut self, len: usize) -> usize {
        usize::try_from(self.draw() % u64::try_from(len.max(1)).expect("small")).expect("below a usize")
    }

    /// Whether something happens that happens once in so many `times`.
    pub(super) fn once_in(&mut self, times: u64) -> bool {
        self.draw().is_multiple_of(times)
    }

    /// A time about as long as is `typical`: nothing at all now and then, much longer now and then.
    ///
    /// It is one of few multiples, so that different things often come at one moment.
    pub(super) fn span(&mut self, typical: Duration) -> Duration {
        let quarters = [0, 1, 2, 3, 4, 4, 4, 4, 4, 4, 5, 6, 8, 16, 32, 120];
        typical * quarters[self.place(quarters.len())] / 4
    }
}
