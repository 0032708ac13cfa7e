//! How often a checkpoint is written within an epoch.

use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use batchmill_protocol::position::Position;

/// Each so many steps, or each time so much time has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    /// Steps, counted in each epoch anew.
    Steps(NonZeroU64),
    /// Since the last checkpoint. Which steps that are differs from run to run; what is trained does not.
    Time(Duration),
}

impl Every {
    /// Whether it is time at `position`, `since` the last checkpoint.
    pub fn is_due(self, position: Position, since: Duration) -> bool {
        match self {
            Self::Steps(steps) => position.step % steps == 0,
            Self::Time(time) => since >= time,
        }
    }
}

impl FromStr for Every {
    type Err = &'static str;

    /// Reads `500` steps, `30s` or `5m`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let whole = |digits: &str| digits.parse::<NonZeroU64>().ok();
        let seconds = |digits, unit: u64| whole(digits)?.get().checked_mul(unit).map(Duration::from_secs);
        let every = if let Some(digits) = text.strip_suffix('s') {
            seconds(digits, 1).map(Self::Time)
        } else if let Some(digits) = text.strip_suffix('m') {
            seconds(digits, 60).map(Self::Time)
        } else {
            whole(text).map(Self::Steps)
        };
        every.ok_or("it must be a whole number above 0: of steps, such as 500, or of time, such as 30s or 5m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_times_are_read_as_they_are_written() {
        let steps = |count| Every::Steps(NonZeroU64::new(count).expect("not 0"));
        let time = |seconds| Every::Time(Duration::from_secs(seconds));
        for (text, every) in [("1", steps(1)), ("500", steps(500)), ("30s", time(30)), ("5m", time(300))] {
            assert_eq!(text.parse(), Ok(every), "{text}");
        }
        for wrong in ["", "0", "0s", "-1", "1.5", "s", "m", "5h", "5 m", "99999999999999999999", "400000000000000000m"]
        {
            assert!(wrong.parse::<Every>().is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn steps_are_counted_in_each_epoch_and_time_since_the_last_checkpoint() {
        let is_due = |every: &str, step, seconds| {
            let every: Every = every.parse().expect("it is one");
            every.is_due(Position { epoch: 1, step }, Duration::from_secs(seconds))
        };
        assert!(is_due("7", 14, 0) && !is_due("7", 15, 99));
        assert!(is_due("30s", 15, 30) && !is_due("30s", 14, 29));
    }
}
