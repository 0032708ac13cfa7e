//! How long trainers had nothing to compute with, and what had happened.

use std::collections::VecDeque;
use std::fmt;

use serde_json::{Value, json};

/// How long something that happened counts as the cause of a wait that begins after it.
const AFTERMATH_US: u64 = 1_000_000;

/// Happenings that are remembered.
const REMEMBERED_MAX: usize = 4_096;

/// What a wait can come from; the later ones weigh more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// Nothing that the torture did in the last second.
    Calm,
    WorkerDied,
    /// A worker was stopped, and perhaps killed then: nobody else may make what it has.
    WorkerStopped,
    /// A trainer with which others share was stopped or killed: they may wait for it.
    TrainerAway,
    DaemonStopped,
    /// It ended in order, for which it waits for stopped workers a while.
    DaemonEnded,
    DaemonDied,
}

impl Cause {
    const ALL: [Self; 7] = [
        Self::Calm,
        Self::WorkerDied,
        Self::WorkerStopped,
        Self::TrainerAway,
        Self::DaemonStopped,
        Self::DaemonEnded,
        Self::DaemonDied,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Calm => "otherwise",
            Self::WorkerStopped => "after_a_workers_stop",
            Self::WorkerDied => "after_a_workers_death",
            Self::TrainerAway => "after_a_sharing_trainers_stop_or_death",
            Self::DaemonStopped => "after_the_daemons_stop",
            Self::DaemonEnded => "after_the_daemons_orderly_end",
            Self::DaemonDied => "after_the_daemons_death",
        }
    }
}

/// The worst waits. All times are those of the machine's monotonic clock.
#[derive(Debug, Default)]
pub(super) struct Waits {
    worst_us: [u64; Cause::ALL.len()],
    /// Who waited worst of all, and for what.
    worst_what: String,
    /// Beginning, end and nature of what happened lately.
    happened: VecDeque<(u64, u64, Cause)>,
    /// The longest time between a daemon's end and the next one's being ready, which is in the waits of its cause.
    pub(super) away_us: u64,
}

impl Waits {
    /// Notes that something was so from `from_us` to `to_us`.
    pub(super) fn happened(&mut self, cause: Cause, from_us: u64, to_us: u64) {
        if self.happened.len() >= REMEMBERED_MAX {
            self.happened.pop_front();
        }
        self.happened.push_back((from_us, to_us + AFTERMATH_US, cause));
    }

    /// Notes that a trainer waited `wait_us` for `what`, which came at `came_us`.
    pub(super) fn waited(&mut self, wait_us: u64, came_us: u64, what: impl FnOnce() -> String) {
        let from_us = came_us.saturating_sub(wait_us);
        let causes = self.happened.iter().filter(|(from, to, _)| *from <= came_us && from_us <= *to);
        let cause = causes.map(|(.., cause)| *cause).max().unwrap_or(Cause::Calm);
        if self.worst_us.iter().all(|worst_us| wait_us > *worst_us) {
            self.worst_what = what();
        }
        let worst_us = &mut self.worst_us[cause as usize];
        *worst_us = wait_us.max(*worst_us);
    }

    /// The worst of all.
    pub(super) fn worst_ms(&self) -> f64 {
        ms(self.worst_us.iter().copied().max().unwrap_or(0))
    }

    pub(super) fn to_json(&self) -> Value {
        let mut waits =
            json!({ "overall": self.worst_ms(), "what": self.worst_what, "the_daemon_was_away": ms(self.away_us) });
        for cause in Cause::ALL {
            waits[cause.name()] = json!(ms(self.worst_us[cause as usize]));
        }
        waits
    }
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} ms overall ({})", self.worst_ms(), self.worst_what)?;
        for cause in Cause::ALL {
            write!(f, ", {:.0} ms {}", ms(self.worst_us[cause as usize]), cause.name().replace('_', " "))?;
        }
        write!(f, " (there was none for up to {:.0} ms)", ms(self.away_us))
    }
}

#[expect(clippy::cast_precision_loss, reason = "for a person")]
fn ms(us: u64) -> f64 {
    us as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_put_down_to_the_worst_that_happened_in_or_before_it() {
        let mut waits = Waits::default();
        waits.happened(Cause::WorkerDied, 10_000_000, 10_000_000);
        waits.happened(Cause::DaemonDied, 20_000_000, 20_500_000);
        for (wait_us, came_us) in [
            (1_000, 9_000_000),
            (2_000, 10_001_000),
            (3_000, 11_002_000),
            (4_000, 11_005_000),
            (600_000, 20_550_000),
            (700_000, 22_000_000),
        ] {
            waits.waited(wait_us, came_us, String::new);
        }
        assert_eq!(waits.worst_us, [4_000, 3_000, 0, 0, 0, 0, 700_000]);
    }
}
