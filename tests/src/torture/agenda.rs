//! What is to be done when.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Things to be done, each at its time; those of one time in the order in which they were noted.
#[derive(Debug)]
pub(super) struct Agenda<Thing> {
    entries: BTreeMap<(Instant, u64), Thing>,
    noted: u64,
    /// By how much the latest thing came too late.
    pub(super) late_max: Duration,
}

impl<Thing> Agenda<Thing> {
    pub(super) fn new() -> Self {
        Self { entries: BTreeMap::new(), noted: 0, late_max: Duration::ZERO }
    }

    /// Notes a thing to be done in a while.
    pub(super) fn after(&mut self, delay: Duration, thing: Thing) {
        self.entries.insert((Instant::now() + delay, self.noted), thing);
        self.noted += 1;
    }

    /// Takes the next thing whose time has come.
    pub(super) fn due(&mut self, now: Instant) -> Option<Thing> {
        let entry = self.entries.first_entry()?;
        let late = now.checked_duration_since(entry.key().0)?;
        self.late_max = self.late_max.max(late);
        Some(entry.remove())
    }

    /// When there is something to do next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.entries.keys().next().map(|(when, _)| *when)
    }

    /// Strikes out what is not `wanted`.
    pub(super) fn retain(&mut self, wanted: impl Fn(&Thing) -> bool) {
        self.entries.retain(|_, thing| wanted(thing));
    }

    /// Whether nothing of a kind is left to be done.
    pub(super) fn has_none(&self, kind: impl Fn(&Thing) -> bool) -> bool {
        !self.entries.values().any(kind)
    }
}
