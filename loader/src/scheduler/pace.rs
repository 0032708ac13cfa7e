//! How long a member takes for a batch, and so until when it needs no other.

use std::time::Duration;

/// The weight of the newest batch in the running mean: one in so many.
const MEMORY: u32 = 10;

/// A member's pace, as its releases tell it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// When it last gave a batch back.
    since: Duration,
    /// Whether it had others then: only so its time until the next one is that of a batch, and not of waiting.
    had_more: bool,
    typical: Option<Duration>,
}

impl Pace {
    /// Of a member that joins at `now`.
    pub(super) fn new(now: Duration) -> Self {
        Self { since: now, had_more: false, typical: None }
    }

    /// Notes that it gives a batch back and has `left` others.
    pub(super) fn gives_back(&mut self, now: Duration, left: usize) {
        if self.had_more {
            let took = now.saturating_sub(self.since);
            self.typical = Some(self.typical.map_or(took, |typical| (typical * (MEMORY - 1) + took) / MEMORY));
        }
        (self.since, self.had_more) = (now, left > 0);
    }

    /// Until when it has enough to do with the batches that it has. One that gives them back before it has computed with
    /// them still computes with the last.
    pub(super) fn busy_until(&self, batches: usize) -> Duration {
        let batches = u32::try_from(batches.max(1)).unwrap_or(u32::MAX);
        self.since.saturating_add(self.typical.unwrap_or_default().saturating_mul(batches))
    }
}
