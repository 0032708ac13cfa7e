//! How the scheduler's part of things stands, for `loader status`.

use batchmill_protocol::message::{MemberId, StreamId, WorkerId};
use batchmill_protocol::status::{MemberStatus, SlotCounts, StreamStatus, WorkerState, WorkerStatus};

use super::slots::{self, Filling, Slot};
use super::workers::Phase;
use super::{Scheduler, Stream};

impl Scheduler {
    /// Samples of a stream made so far.
    pub(crate) fn samples_made(&self, id: StreamId) -> u64 {
        if let Some(Stream::Open(open)) = self.streams.get(&id) { open.samples_made } else { 0 }
    }

    /// Slots, members and samples of a stream; the daemon knows the rest.
    pub(crate) fn stream_status(&self, id: StreamId, pid_of: impl Fn(MemberId) -> u32) -> StreamStatus {
        let Some(Stream::Open(open)) = self.streams.get(&id) else { return StreamStatus::default() };
        let mut counts = SlotCounts::default();
        for slot in &open.slots {
            *match slot {
                Slot::Free => &mut counts.free,
                Slot::Filling(Filling { lane: None, .. }) => &mut counts.abandoned,
                Slot::Filling(_) => &mut counts.filling,
                Slot::Ready { leases: 0, .. } => &mut counts.ready,
                Slot::Failed { .. } => &mut counts.failed,
                Slot::Ready { .. } => &mut counts.leased,
            } += 1;
        }
        let members = self.members.iter().filter(|(_, member)| member.stream == id).map(|(&id, member)| {
            let window = member.lane.and_then(|lane| open.lanes.get(&lane)).into_iter().flat_map(|lane| &lane.window);
            let ready = window.filter(|(position, slot)| {
                *position >= member.cursor && matches!(open.slots[slots::place(*slot)], Slot::Ready { .. })
            });
            MemberStatus {
                member: id.0,
                pid: pid_of(id),
                cursor: member.cursor,
                leases: u32::try_from(member.leases.len()).unwrap_or(u32::MAX),
                ready: u32::try_from(ready.count()).unwrap_or(u32::MAX),
            }
        });
        StreamStatus {
            samples: open.extent.samples,
            steps: open.extent.steps(),
            slots: counts,
            samples_made: open.samples_made,
            members: members.collect(),
            ..StreamStatus::default()
        }
    }

    /// State and tasks of every worker; the daemon knows the rest.
    pub(crate) fn worker_status(&self) -> Vec<(WorkerId, WorkerStatus)> {
        let status = |(&id, worker): (&WorkerId, &super::workers::Worker)| {
            let state = match worker.phase {
                Phase::Starting => WorkerState::Starting,
                Phase::Joined if worker.is_occupied() => WorkerState::Starting,
                Phase::Joined if worker.tasks.is_empty() => WorkerState::Idle,
                Phase::Joined => WorkerState::Busy,
                Phase::Leaving => WorkerState::Leaving,
                Phase::Killed { .. } => WorkerState::Killed,
            };
            let status = WorkerStatus { worker: id.0, state, tasks_done: worker.tasks_done, ..WorkerStatus::default() };
            (id, status)
        };
        self.workers.all().iter().map(status).collect()
    }
}
