//! The processors: how many there are for the loader, and how many its workers keep busy.

use std::thread;
use std::time::{Duration, Instant};

use super::Daemon;
use super::rate::Rate;

/// The processors that this process may run on, as its affinity and its container say.
#[derive(Debug)]
pub(super) struct Cpus {
    pub(super) count: u32,
    used_us: Rate,
}

impl Cpus {
    pub(super) fn new() -> Self {
        let count = thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX));
        Self { count, used_us: Rate::default() }
    }

    /// Takes note that workers have used so much time by `now`.
    pub(super) fn note(&mut self, now: Duration, used: Duration) {
        self.used_us.note(now, u64::try_from(used.as_micros()).unwrap_or(u64::MAX));
    }

    /// How many they kept busy lately.
    pub(super) fn used(&self) -> f64 {
        self.used_us.per_s() / 1e6
    }
}

impl Daemon {
    /// When the scheduler wants to be told the time, if it does.
    pub(super) fn wakes_at(&mut self) -> Option<Instant> {
        let wanted = self.scheduler.wants_time_at()?;
        Some(Instant::now() + wanted.saturating_sub(self.clock.now()))
    }
}
