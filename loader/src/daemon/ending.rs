//! The end of the daemon: workers leave, or are made to, and whoever waits is told.

use std::time::{Duration, Instant};

use batchmill_protocol::message::Reply;

use super::answers::decline;
use super::{Daemon, Happening};
use crate::front_door::Answer;
use crate::supervisor;

/// How long workers may take to leave at the end, before they are killed.
const LEAVE_GRACE: Duration = Duration::from_secs(2);

/// How long killed workers may take to be reaped.
const REAP_LIMIT: Duration = Duration::from_secs(10);

impl Daemon {
    /// Ends all workers: by closing their life-lines, then by force, and waits until they are reaped.
    pub(super) fn end_workers(&mut self) {
        self.members.clear();
        self.workers.clear();
        let waiting = std::mem::take(&mut self.openings).into_iter().map(|opening| opening.answer);
        for answer in waiting.chain(std::mem::take(&mut self.early).into_iter().map(|asked| asked.answer)) {
            let _ = answer.send(Answer::Reply(Reply::Ending));
        }
        for (limit, force) in [(LEAVE_GRACE, false), (REAP_LIMIT, true)] {
            if force {
                for worker in &self.alive {
                    // A supervisor that has ended has taken its children along.
                    let _ = self.supervisor.send(supervisor::Request::Kill(*worker));
                }
            }
            let deadline = Instant::now() + limit;
            while !self.alive.is_empty()
                && let Ok(happening) = self.happenings.recv_deadline(deadline)
            {
                match happening {
                    Happening::WorkerReaped { worker, .. } => drop(self.alive.remove(&worker)),
                    Happening::Asked(asked) => decline(asked),
                    // All others come too late; what they hold is dropped with them.
                    _ => {}
                }
            }
        }
    }
}
