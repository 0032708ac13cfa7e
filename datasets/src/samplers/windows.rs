//! An order that stays within a stretch of neighbours for a while.

use crate::permutation::Permutation;
use crate::random::WINDOW_OP;

/// A random order of windows of so many neighbours, and of the samples of each: for disks on which neighbours lie
/// together.
///
/// Golden vectors hold it for good.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    pub(super) samples: u64,
    /// At least 1.
    pub(super) window: u64,
    pub(super) seed: u64,
}

impl Windows {
    /// The index of the sample at `position` of `epoch`, which is below the number of samples.
    pub(super) fn index(&self, epoch: u64, position: u64) -> u64 {
        let &Self { samples, window, seed } = self;
        let windows = Permutation::new(samples.div_ceil(window), seed, epoch);
        let (full, rest) = (samples / window, samples % window);
        // The last window may be short. Wherever it stands, the places behind it have moved forward.
        let short = if rest == 0 { u64::MAX } else { windows.place(full) };
        let turn = position / window;
        let (number, place) = if turn < short {
            (windows.index(turn), position % window)
        } else if position - short * window < rest {
            (full, position - short * window)
        } else {
            let behind = position - rest;
            (windows.index(behind / window + 1), behind % window)
        };
        let start = number * window;
        let len = window.min(samples - start);
        start + Permutation::keyed(len, &[seed, epoch, WINDOW_OP, number]).index(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(samples: u64, window: u64, seed: u64, epoch: u64) -> Vec<u64> {
        (0..samples).map(|position| Windows { samples, window, seed }.index(epoch, position)).collect()
    }

    #[test]
    fn orders_are_what_they_always_were() {
        // Golden, from a second implementation in Python that lists the windows one behind the other.
        assert_eq!(order(11, 4, 0, 0), [9, 10, 8, 7, 4, 5, 6, 3, 1, 2, 0]);
        assert_eq!(order(11, 4, 0, 1), [10, 8, 9, 2, 1, 3, 0, 4, 5, 7, 6]);
        assert_eq!(order(11, 4, 3, 2), [6, 5, 7, 4, 8, 10, 9, 0, 3, 1, 2]);
        assert_eq!(order(8, 4, 1, 1), [3, 0, 2, 1, 5, 6, 7, 4]);
        assert_eq!(order(5, 9, 1, 1), [3, 4, 2, 1, 0]);
    }

    #[test]
    fn every_sample_occurs_once_and_windows_one_after_the_other() {
        for samples in 1..80 {
            for window in 1..samples + 3 {
                let order = order(samples, window, 5, samples);
                let mut windows: Vec<_> = order.iter().map(|index| index / window).collect();
                windows.dedup();
                assert_eq!(windows.len() as u64, samples.div_ceil(window), "{samples} samples by {window}");
                let mut sorted = order;
                sorted.sort_unstable();
                assert_eq!(sorted, (0..samples).collect::<Vec<_>>(), "{samples} samples by {window}");
            }
        }
    }

    #[test]
    fn windows_of_one_are_the_whole_order() {
        let whole = Permutation::new(1000, 3, 4);
        assert_eq!(order(1000, 1, 3, 4), (0..1000).map(|place| whole.index(place)).collect::<Vec<_>>());
    }
}
