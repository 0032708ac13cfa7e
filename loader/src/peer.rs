//! One worker's or trainer's ipc-channel, heard on a thread of its own.
//!
//! A thread per peer, because a message that cannot be read must end the hearing of that peer and of no other.

use std::time::Duration;

use batchmill_protocol::message::{MemberId, MemberLine, WorkerId, WorkerLine};
use crossbeam::channel::Sender;
use ipc_channel::TryRecvError;
use ipc_channel::ipc::{IpcOneShotServer, IpcReceiver};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use crate::daemon::Happening;

/// How long a write to a peer may take.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait for what a dead worker wrote last.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(1);

/// How often a listening thread looks whether its peer is still wanted.
const LOOK_UP: Duration = Duration::from_secs(1);

/// Awaits a worker on its line and passes on what it says, until it falls silent.
pub(crate) fn hear_worker(worker: WorkerId, server: IpcOneShotServer<WorkerLine>, happenings: &Sender<Happening>) {
    if let Ok((_, WorkerLine { to_worker, from_worker })) = server.accept()
        && happenings.send(Happening::WorkerJoined { worker, line: to_worker }).is_ok()
    {
        hear(&from_worker, || true, |message| happenings.send(Happening::WorkerSays { worker, message }).is_ok());
    }
    let _ = happenings.send(Happening::WorkerSilent(worker));
}

/// Awaits a member on its line, says that it `joins`, and passes on what it says until it falls silent or is no longer
/// `wanted`.
pub(crate) fn hear_member(
    member: MemberId,
    server: IpcOneShotServer<MemberLine>,
    joins: oneshot::Sender<()>,
    wanted: impl Fn() -> bool,
    happenings: &Sender<Happening>,
) {
    if let Ok((_, MemberLine { to_member, from_member })) = server.accept()
        && joins.send(()).is_ok()
        && happenings.send(Happening::MemberJoined { member, line: to_member }).is_ok()
    {
        hear(&from_member, wanted, |message| happenings.send(Happening::MemberSays { member, message }).is_ok());
    }
    let _ = happenings.send(Happening::MemberGone(member));
}

/// Passes on messages until the line ends, one cannot be read, or nobody wants them.
///
/// `wanted` is asked now and then: a child that the peer forked may hold the line open after the peer's death.
fn hear<T: Serialize + DeserializeOwned>(
    line: &IpcReceiver<T>,
    wanted: impl Fn() -> bool,
    mut pass_on: impl FnMut(T) -> bool,
) {
    loop {
        match line.try_recv_timeout(LOOK_UP) {
            Ok(message) => {
                if !pass_on(message) {
                    return;
                }
            }
            Err(TryRecvError::Empty) if wanted() => {}
            Err(_) => return,
        }
    }
}
