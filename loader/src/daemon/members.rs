//! The trainers as the daemon knows them beside the scheduler: their lines, and where those stood that went away.

use std::time::Instant;

use batchmill_protocol::message::{Attach, MemberId, StreamId, ToMember};
use batchmill_protocol::position::Position;
use ipc_channel::ipc::IpcSender;

use super::Daemon;
use super::openings::closed;
use crate::scheduler::Event;

/// Members that are remembered when they have gone.
const GONE_MAX: usize = 16;

/// The most batches that a member is lent beyond those that it asks to hold: with more of them a message costs no less.
const AHEAD_MAX: u32 = 16;

/// A member that went away.
pub(super) struct Gone {
    pub(super) stream: StreamId,
    pub(super) since: Instant,
    pub(super) member: MemberId,
    pub(super) pid: u32,
    pub(super) cursor: Position,
}

/// A member.
pub(super) struct Member {
    pub(super) stream: StreamId,
    pub(super) attach: Attach,
    pub(super) pid: u32,
    pub(super) line: Option<IpcSender<ToMember>>,
}

impl Daemon {
    /// Makes a trainer that has joined its line a member.
    pub(super) fn member_joined(&mut self, id: MemberId, line: IpcSender<ToMember>) {
        let Some(member) = self.members.get_mut(&id) else { return };
        member.line = Some(line);
        let (stream, attach) = (member.stream, member.attach.clone());
        let Some(served) = self.streams.get(&stream) else {
            // That happened between its being let in and now.
            let reason = closed(&attach.stream);
            return self.send_member(id, ToMember::Dismissed { position: attach.from, reason });
        };
        let ahead = served.opened.as_ref().map_or(0, |opened| {
            (attach.ahead_bytes / opened.layout.slot_bytes() as u64).try_into().unwrap_or(AHEAD_MAX).min(AHEAD_MAX)
        });
        self.tell(Event::MemberJoined {
            member: id,
            stream,
            from: attach.from,
            until_epoch: attach.until_epoch,
            leases: attach.leases,
            ahead,
            share: attach.share,
        });
    }

    /// Ends a member, and remembers where it stood.
    pub(super) fn member_gone(&mut self, id: MemberId) {
        let Some(member) = self.members.remove(&id) else { return };
        if let Some(cursor) = self.scheduler.cursor(id) {
            let gone = Gone { stream: member.stream, since: Instant::now(), member: id, pid: member.pid, cursor };
            self.gone.push_front(gone);
            self.gone.truncate(GONE_MAX);
        }
        self.tell(Event::MemberGone(id));
    }
}
