//! How fast a count grows, over the last seconds.

use std::collections::VecDeque;
use std::time::Duration;

/// The time looked back on.
const WINDOW: Duration = Duration::from_secs(5);

/// A count's recent values.
#[derive(Debug, Default)]
pub(super) struct Rate(VecDeque<(Duration, u64)>);

impl Rate {
    /// Takes note of the count at `now`.
    pub(super) fn note(&mut self, now: Duration, count: u64) {
        self.0.push_back((now, count));
        while self.0.len() > 2 && self.0[1].0 + WINDOW <= now {
            self.0.pop_front();
        }
    }

    /// The growth per second over the window.
    #[expect(clippy::cast_precision_loss, reason = "for a person")]
    pub(super) fn per_s(&self) -> f64 {
        match (self.0.front(), self.0.back()) {
            (Some((start, before)), Some((end, after))) if end > start => {
                (after - before) as f64 / (*end - *start).as_secs_f64()
            }
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_seconds_count() {
        let mut rate = Rate::default();
        assert!(rate.per_s().abs() < f64::EPSILON);
        for second in 0..=20 {
            // Nothing for ten seconds, then 100 a second.
            rate.note(Duration::from_secs(second), 100 * second.saturating_sub(10));
        }
        assert!((rate.per_s() - 100.0).abs() < 1e-9, "{}", rate.per_s());
    }
}
