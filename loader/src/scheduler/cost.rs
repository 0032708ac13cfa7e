//! How long a stream's samples take, and so how many of them make a task.

use std::time::Duration;

/// The work that one task should be: long beside a message (15 us), short beside a batch.
const TASK_US: f64 = 4_000.0;

/// The least work that is worth a task of its own: there and back are two messages.
const TASK_MIN_US: f64 = 60.0;

/// The weight of the newest task in the running mean.
const WEIGHT: f64 = 0.1;

/// What is left of the slowest task's time after each further one: the slowest in a hundred is remembered.
const SLOWEST_DECAY: f64 = 0.99;

/// A stream's time per sample: a running mean, and the slowest of late.
#[derive(Debug, Default)]
pub(super) struct Cost {
    sample_us: Option<f64>,
    /// What the slowest of the last hundreds of tasks took.
    slowest_us: f64,
}

impl Cost {
    /// Takes note of a task's time.
    pub(super) fn learn(&mut self, rows: u32, busy: Duration) {
        let sample_us = busy.as_secs_f64() * 1e6 / f64::from(rows.max(1));
        self.slowest_us = (self.slowest_us * SLOWEST_DECAY).max(sample_us);
        self.sample_us = Some(match self.sample_us {
            Some(mean) => mean + WEIGHT * (sample_us - mean),
            None => sample_us,
        });
    }

    /// The rows of the next task of a batch of `batch_size`, of which `workers` could take part.
    ///
    /// While nothing is known, or the lane `starves` (nothing is ready for its members), a batch is spread over all
    /// workers, so that the first batch does not wait for one of them; unless one has made it before others know of it.
    pub(super) fn rows(&self, batch_size: u32, workers: u32, starves: bool) -> u32 {
        let spread = batch_size.div_ceil(workers.max(1));
        let Some(sample_us) = self.sample_us else { return spread.div_ceil(4) };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a u32's range")]
        let [by_time, least] = [TASK_US, TASK_MIN_US]
            .map(|task_us| (task_us / sample_us.max(1e-3)).clamp(1.0, f64::from(batch_size)) as u32);
        if starves { by_time.min(spread.max(least)) } else { by_time }
    }

    /// The time that a task of `rows` should take.
    pub(super) fn estimate(&self, rows: u32) -> Duration {
        let task_us = self.sample_us.map_or(TASK_US, |sample_us| sample_us * f64::from(rows));
        Duration::from_secs_f64(task_us / 1e6)
    }

    /// The time that a task of `rows` may well take, for limits.
    pub(super) fn slowest(&self, rows: u32) -> Duration {
        Duration::from_secs_f64(self.slowest_us * f64::from(rows) / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_a_few_milliseconds_of_work() {
        let mut cost = Cost::default();
        assert_eq!(cost.rows(64, 2, true), 8, "nothing known: an eighth of the batch for either of two");
        cost.learn(8, Duration::from_millis(16));
        assert_eq!(cost.rows(64, 2, false), 2, "2 ms a sample");
        let mut cost = Cost::default();
        cost.learn(8, Duration::from_micros(80));
        assert_eq!(cost.rows(64, 2, false), 64, "10 us a sample: a whole batch is less than a task");
        assert_eq!(cost.rows(64, 2, true), 32, "but not while somebody waits");
        let mut cost = Cost::default();
        cost.learn(64, Duration::from_micros(64));
        assert_eq!(cost.rows(64, 2, true), 60, "1 us a sample: a few are not worth the message");
        assert_eq!(cost.rows(32, 2, true), 32);
    }
}
