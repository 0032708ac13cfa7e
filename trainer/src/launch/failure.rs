//! Which rank ended a training of several too early, how, and whether to begin again.

use std::fmt;
use std::path::Path;

use rustix::process::Signal;

use super::LaunchError;
use crate::fit::team::remedy;

/// A rank that ended a training of several too early.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) rank: u32,
    pub(super) world: u32,
    pub(super) how: How,
}

/// How a rank failed.
#[derive(Debug, PartialEq)]
pub(super) enum How {
    /// By a signal, not the launcher's.
    Signal(i32),
    /// By itself, with this paragraph, or one that rank 0 has printed.
    Code(i32, Option<String>),
    /// Because another one had gone, with its paragraph as above.
    Left(Option<String>),
}

impl How {
    /// Whether it may go better the next time. A mistake would be made again; what fails after a checkpoint, such as a
    /// loader, may be back.
    pub(super) fn may_pass(&self, has_come_further: bool) -> bool {
        match self {
            Self::Signal(_) | Self::Left(_) => true,
            Self::Code(..) => has_come_further,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rank, world, how } = self;
        write!(f, "rank {rank} of {world} {how}")
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(signal) => write!(f, "was ended by {}", name(*signal)),
            Self::Code(_, Some(words)) | Self::Left(Some(words)) => write!(f, "failed: {words}"),
            Self::Code(code, None) => write!(f, "ended with exit code {code}, as it says above"),
            Self::Left(None) => f.write_str("could not go on, as it says above"),
        }
    }
}

impl Failure {
    /// What is said of it when nothing follows.
    pub(super) fn into_error(self, run: &Path) -> LaunchError {
        let Self { rank, world, how } = self;
        match how {
            How::Left(None) => LaunchError::Parted,
            How::Signal(_) => LaunchError::Failed { rank, world, how: format!("{how}: {}", remedy(run)) },
            how => LaunchError::Failed { rank, world, how: how.to_string() },
        }
    }
}

/// A signal as people know it.
fn name(signal: i32) -> String {
    let known = [
        (Signal::KILL, "SIGKILL"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::ILL, "SIGILL"),
        (Signal::TERM, "SIGTERM"),
        (Signal::INT, "SIGINT"),
        (Signal::HUP, "SIGHUP"),
    ];
    let found = known.into_iter().find(|(known, _)| known.as_raw() == signal);
    found.map_or_else(|| format!("signal {signal}"), |(_, name)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[test]
    fn a_mistake_is_made_once_and_a_death_may_pass() {
        let code = || How::Code(1, None);
        assert!(How::Signal(9).may_pass(false) && How::Left(None).may_pass(false) && code().may_pass(true));
        assert!(!code().may_pass(false));
    }

    #[test]
    fn what_a_rank_failed_by_is_said() {
        let check = |how: How, note: Expect, error: Expect| {
            let failure = Failure { rank: 1, world: 2, how };
            note.assert_eq(&failure.to_string());
            error.assert_eq(&failure.into_error(Path::new("/no/such/run")).to_string());
        };
        check(
            How::Signal(9),
            expect!["rank 1 of 2 was ended by SIGKILL"],
            expect![
                "rank 1 of 2 was ended by SIGKILL: start all ranks again: there is no checkpoint yet to go on from"
            ],
        );
        check(
            How::Code(1, Some("read m: no such file".to_owned())),
            expect!["rank 1 of 2 failed: read m: no such file"],
            expect!["rank 1 of 2 failed: read m: no such file"],
        );
        check(
            How::Left(None),
            expect!["rank 1 of 2 could not go on, as it says above"],
            expect!["the ranks have parted, as rank 0 says above"],
        );
    }

    #[test]
    fn signals_have_their_names() {
        assert_eq!([9, 15, 63].map(name), ["SIGKILL", "SIGTERM", "signal 63"]);
    }
}
