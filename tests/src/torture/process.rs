//! A process that can be hit without hitting another that has got its number since.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal};

/// A handle of one process.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    handle: OwnedFd,
}

impl Process {
    /// The process of that number, if there is one now.
    pub(super) fn open(pid: u32) -> Option<Self> {
        let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
        let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
        Some(Self { pid, handle })
    }

    /// The process of that number, if it is a child of `parent`.
    pub(super) fn child_of(pid: u32, parent: u32) -> Option<Self> {
        let process = Self::open(pid)?;
        // Looked at after the handle was had, so this is said of the process that the handle means.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(") ")?;
        let said: u32 = rest.split(' ').nth(1)?.parse().ok()?;
        (said == parent && !process.is_gone()).then_some(process)
    }

    /// Sends it a signal; `false` when it is gone.
    pub(super) fn signal(&self, signal: Signal) -> bool {
        rustix::process::pidfd_send_signal(&self.handle, signal).is_ok()
    }

    /// Lets it have no more memory than it has; `false` when it is gone.
    pub(super) fn starve(&self) -> bool {
        let least = Rlimit { current: Some(1 << 20), maximum: Some(1 << 20) };
        !self.is_gone() && rustix::process::prlimit(Some(self.pid), Resource::As, least).is_ok()
    }

    /// Whether it has ended, reaped or not.
    pub(super) fn is_gone(&self) -> bool {
        self.is_gone_within(Duration::ZERO)
    }

    /// Waits for its end, but not for longer than `limit`.
    pub(super) fn is_gone_within(&self, limit: Duration) -> bool {
        let limit = Timespec::try_from(limit).expect("limits here are of minutes at most");
        let mut ended = [PollFd::new(&self.handle, PollFlags::IN)];
        matches!(rustix::event::poll(&mut ended, Some(&limit)), Ok(1..))
    }
}

/// The machine's monotonic clock, the same for all processes.
pub(super) fn now_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1_000
}
