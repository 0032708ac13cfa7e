//! Whether a trainer got every batch once and in order.

use std::collections::{BTreeMap, BTreeSet};

/// Batches left out at once that are each remembered; a trainer that jumps further is wrong anyway.
const GAP_MAX: usize = 10_000;

/// What is wrong with the order of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disorder {
    /// So many batches before it did not come.
    Lost(u64),
    /// It came before.
    Duplicated,
    /// It had counted as lost, and comes now.
    Reordered,
}

/// The order in which one trainer process got its batches. Places count the batches of all epochs.
///
/// A trainer tells of a batch when it is done with it, so what it tells is not in order; the number of the delivery,
/// which it tells too, is.
#[derive(Debug)]
pub(super) struct Sequence {
    /// The place that must come next.
    expected: u64,
    /// The number of the delivery that is looked at next.
    number: u64,
    /// Places of later deliveries, by number.
    early: BTreeMap<u64, u64>,
    missing: BTreeSet<u64>,
}

impl Sequence {
    /// Expects batches from `place` on.
    pub(super) fn new(place: u64) -> Self {
        Self { expected: place, number: 0, early: BTreeMap::new(), missing: BTreeSet::new() }
    }

    /// The place behind all batches that came and were told of without a gap: where the next process goes on.
    pub(super) fn resume(&self) -> u64 {
        self.expected
    }

    /// Notes that delivery `number` was the batch at `place`; says what is wrong with it and those that waited for it.
    pub(super) fn note(&mut self, number: u64, place: u64) -> Vec<Disorder> {
        self.early.insert(number, place);
        let mut disorders = Vec::new();
        while let Some(place) = self.early.remove(&self.number) {
            self.number += 1;
            if place < self.expected {
                let late = self.missing.remove(&place);
                disorders.push(if late { Disorder::Reordered } else { Disorder::Duplicated });
                continue;
            }
            if place > self.expected {
                disorders.push(Disorder::Lost(place - self.expected));
                self.missing.extend((self.expected..place).take(GAP_MAX));
            }
            self.expected = place + 1;
        }
        disorders
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deliveries in the order they are told, each with its number and place, and what is wrong with them.
    fn check(told: &[(u64, u64)], expected: &[Disorder], resume: u64) {
        let mut sequence = Sequence::new(7);
        let disorders: Vec<_> = told.iter().flat_map(|&(number, place)| sequence.note(number, place)).collect();
        assert_eq!(disorders, expected, "{told:?}");
        assert_eq!(sequence.resume(), resume, "{told:?}");
    }

    #[test]
    fn what_is_told_late_is_in_order_if_it_was_delivered_so() {
        check(&[(0, 7), (1, 8), (2, 9)], &[], 10);
        check(&[(2, 9), (0, 7), (1, 8)], &[], 10);
        check(&[(0, 7), (2, 9)], &[], 8);
    }

    #[test]
    fn each_disorder_is_told_from_the_others() {
        check(&[(0, 7), (1, 10)], &[Disorder::Lost(2)], 11);
        check(&[(0, 7), (1, 8), (2, 8), (3, 9)], &[Disorder::Duplicated], 10);
        check(&[(0, 7), (1, 9), (2, 8), (3, 10)], &[Disorder::Lost(1), Disorder::Reordered], 11);
        check(&[(0, 6), (1, 7)], &[Disorder::Duplicated], 8);
        check(&[(1, 8), (0, 8), (2, 9)], &[Disorder::Lost(1), Disorder::Duplicated], 10);
    }
}
