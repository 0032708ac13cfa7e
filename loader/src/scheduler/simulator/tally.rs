//! What was seen in a run: how often each kind of thing came to pass.

use std::collections::BTreeMap;
use std::fmt;

/// Counts by what they are of.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) sequences: u64,
    counts: BTreeMap<(&'static str, &'static str), u64>,
}

impl Tally {
    /// Counts one `what` among its `kind`.
    pub(super) fn count(&mut self, kind: &'static str, what: &'static str) {
        self.count_many(kind, what, 1);
    }

    /// Counts so many `what` among its `kind`.
    pub(super) fn count_many(&mut self, kind: &'static str, what: &'static str, many: u64) {
        *self.counts.entry((kind, what)).or_default() += many;
    }

    /// How many `what` there were.
    pub(super) fn of(&self, kind: &'static str, what: &'static str) -> u64 {
        self.counts.get(&(kind, what)).copied().unwrap_or_default()
    }

    /// How many there were of all of a `kind`.
    pub(super) fn all(&self, kind: &str) -> u64 {
        self.counts.iter().filter(|((of, _), _)| *of == kind).map(|(_, count)| count).sum()
    }

    /// Adds what another has counted.
    pub(super) fn add(&mut self, other: &Self) {
        self.sequences += other.sequences;
        for (what, count) in &other.counts {
            *self.counts.entry(*what).or_default() += count;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>12} sequences", self.sequences)?;
        for ((kind, what), count) in &self.counts {
            write!(f, "\n{count:>12} {kind}: {what}")?;
        }
        Ok(())
    }
}
