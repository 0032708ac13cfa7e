//! The daemon's time, which stands still while the daemon does.

use std::time::{Duration, Instant};

/// The most that passes between two looks at the clock. The daemon looks far more often; when it did not, it was paused
/// with its terminal, or its machine was, and nobody could keep a deadline meanwhile.
const STEP_MAX: Duration = Duration::from_secs(1);

/// Time as far as the daemon could act in it.
#[derive(Debug)]
pub(super) struct Clock {
    passed: Duration,
    last: Instant,
}

impl Clock {
    /// Begins at zero.
    pub(super) fn new() -> Self {
        Self { passed: Duration::ZERO, last: Instant::now() }
    }

    /// The time that has passed.
    pub(super) fn now(&mut self) -> Duration {
        self.at(Instant::now())
    }

    fn at(&mut self, instant: Instant) -> Duration {
        self.passed += instant.saturating_duration_since(self.last).min(STEP_MAX);
        self.last = instant;
        self.passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_does_not_count() {
        let mut clock = Clock::new();
        let start = clock.last;
        assert_eq!(clock.at(start + Duration::from_millis(300)), Duration::from_millis(300));
        assert_eq!(clock.at(start + Duration::from_secs(3600)), Duration::from_millis(1300));
        assert_eq!(clock.at(start + Duration::from_secs(3601)), Duration::from_millis(2300));
    }
}
