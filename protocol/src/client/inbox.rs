//! What the loader has told a member: batches wait here until it comes to them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc_channel::TryRecvError;
use ipc_channel::ipc::IpcReceiver;

use super::returns::Returns;
use super::{ClientError, PATIENCE};
use crate::message::{Lent, ToMember};
use crate::position::Position;

/// How often a waiting member looks up to see whether the loader still lives.
const LOOK_UP: Duration = Duration::from_secs(1);

/// Batches that have come, and the line on which more do.
#[derive(Debug)]
pub(super) struct Inbox {
    line: IpcReceiver<ToMember>,
    unread: VecDeque<Lent>,
    returns: Arc<Returns>,
    waited: Duration,
}

/// What comes next.
pub(super) enum Next {
    Batch(Lent),
    // No batch comes after any of these.
    Failed { position: Position, reason: String },
    Dismissed { position: Position, reason: String },
    End,
}

impl Inbox {
    pub(super) fn new(line: IpcReceiver<ToMember>, returns: Arc<Returns>) -> Self {
        Self { line, unread: VecDeque::new(), returns, waited: Duration::ZERO }
    }

    /// The time spent waiting so far.
    pub(super) fn waited(&self) -> Duration {
        self.waited
    }

    /// The next batch, which is that at `position`; waits only where none has come.
    pub(super) fn next(&mut self, position: Position) -> Result<Next, ClientError> {
        loop {
            if let Some(lent) = self.unread.pop_front() {
                self.returns.has_unread(self.unread.len());
                return Ok(Next::Batch(lent));
            }
            self.returns.has_unread(0);
            let start = Instant::now();
            let message = self.receive(start, position);
            self.waited += start.elapsed();
            match message? {
                ToMember::Batches(lent) => self.unread.extend(lent),
                ToMember::Failed { position, reason } => return Ok(Next::Failed { position, reason }),
                ToMember::Dismissed { position, reason } => return Ok(Next::Dismissed { position, reason }),
                ToMember::End => return Ok(Next::End),
            }
        }
    }

    fn receive(&self, start: Instant, position: Position) -> Result<ToMember, ClientError> {
        loop {
            match self.line.try_recv_timeout(LOOK_UP) {
                Ok(message) => return Ok(message),
                Err(TryRecvError::Empty) if start.elapsed() < PATIENCE => {}
                Err(TryRecvError::Empty) => return Err(ClientError::Stalled { position }),
                Err(TryRecvError::IpcError(_)) => return Err(ClientError::LoaderLost { resume: position }),
            }
        }
    }
}

impl Drop for Inbox {
    /// A batch may outlive the member; what nobody will come to is given back before it.
    fn drop(&mut self) {
        self.returns.has_unread(0);
        self.returns.give_back(self.unread.drain(..).map(|lent| lent.lease));
    }
}
