//! How long a member takes for a batch, and so until when it needs no other.

use std::time::Duration;

/// The weight of the newest batch in the running mean: one in so many.
const MEMORY: u32 = 10;

/// Who takes less time for a batch, waiting included, spends it on messages.
const QUICK: Duration = Duration::from_micros(500);

/// What one time counts for at the most, so that a pause is soon forgotten.
const SLOW: Duration = Duration::from_millis(5);

/// A member's pace, as its releases tell it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// When it last gave a batch back.
    since: Duration,
    /// Whether it had others then: only so its time until the next one is that of a batch, and not of waiting.
    had_more: bool,
    typical: Option<Duration>,
    /// The mean time from one batch to the next.
    every: Duration,
}

impl Pace {
    /// Of a member that joins at `now`.
    pub(super) fn new(now: Duration) -> Self {
        Self { since: now, had_more: false, typical: None, every: QUICK * 2 }
    }

    /// Notes that it gives a batch back and has `left` others.
    pub(super) fn gives_back(&mut self, now: Duration, left: usize) {
        let took = now.saturating_sub(self.since);
        self.every = (self.every * (MEMORY - 1) + took.min(SLOW)) / MEMORY;
        if self.had_more {
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

    /// Whether it gives batches back as fast as messages go.
    pub(super) fn is_quick(&self) -> bool {
        self.every < QUICK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_takes_no_time_for_a_batch_is_quick() {
        let (mut now, mut pace) = (Duration::ZERO, Pace::new(Duration::ZERO));
        let mut gives_back = |pace: &mut Pace, every: Duration, times: u32| {
            for _ in 0..times {
                now += every;
                pace.gives_back(now, 1);
            }
        };
        assert!(!pace.is_quick(), "nothing is known of it");
        gives_back(&mut pace, Duration::from_micros(50), 20);
        assert!(pace.is_quick());
        gives_back(&mut pace, Duration::from_secs(60), 1);
        assert!(!pace.is_quick(), "it has paused");
        gives_back(&mut pace, Duration::from_micros(50), 5);
        assert!(pace.is_quick(), "it goes on");
        gives_back(&mut pace, Duration::from_millis(1), 20);
        assert!(!pace.is_quick(), "it has become slow");
    }
}
