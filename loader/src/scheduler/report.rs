//! How the scheduler's part of things stands, for `loader status`.

use batchmill_protocol::message::{MemberId, Quarantined, StreamId, WorkerId};
use batchmill_protocol::position::Position;
use batchmill_protocol::status::{
    LaneStatus, MemberStatus, QuarantinedSample, SlotCounts, StreamStatus, WorkerState, WorkerStatus,
};

use super::lanes::{Member, Party};
use super::slots::{self, Filling, Slot};
use super::workers::Phase;
use super::{Scheduler, Stream};

impl Scheduler {
    /// How often lanes of a stream were split, and merged.
    #[cfg(test)]
    pub(super) fn partings(&self, id: StreamId) -> (u64, u64) {
        if let Some(Stream::Open(open)) = self.streams.get(&id) {
            (open.partings.splits, open.partings.merges)
        } else {
            (0, 0)
        }
    }

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
            let together = |other: &&Member| {
                let party = Party::of(&member.share);
                other.stream == member.stream && party.joins(&Party::of(&other.share))
            };
            let front = self.members.values().filter(together).map(|other| other.cursor).max();
            let lag = front.map_or(0, |front| open.extent.distance(member.cursor, front));
            MemberStatus {
                member: id.0,
                pid: pid_of(id),
                cursor: member.cursor,
                leases: u32::try_from(member.leases.len()).unwrap_or(u32::MAX),
                ready: u32::try_from(ready.count()).unwrap_or(u32::MAX),
                share: member.share.to_string(),
                lane: member.lane.map(|lane| lane.0),
                lag: u64::try_from(lag).unwrap_or(u64::MAX),
            }
        });
        let lanes = open.lanes.iter().map(|(&lane, state)| LaneStatus {
            lane: lane.0,
            window: [state.window.front().map_or(state.next, |(first, _)| *first), state.next],
            slots: u32::try_from(state.window.len()).unwrap_or(u32::MAX),
            slots_max: u32::try_from(open.lane_slots_max()).unwrap_or(u32::MAX),
            misses: open.missing(&state.party).map(|(rank, _)| rank).collect(),
            members: state.members.iter().map(|member| member.0).collect(),
            held_by: if open.is_held(lane, &self.members) {
                open.holders(state, &self.members).iter().map(|member| member.0).collect()
            } else {
                Vec::new()
            },
        });
        StreamStatus {
            samples: open.extent.samples,
            steps: open.extent.steps(),
            slots: counts,
            samples_made: open.samples_made,
            bad_samples: open.quarantine.count(),
            members: members.collect(),
            lanes: lanes.collect(),
            lobby: u32::try_from(open.ready_in_lobby()).unwrap_or(u32::MAX),
            splits: open.partings.splits,
            merges: open.partings.merges,
            ..StreamStatus::default()
        }
    }

    /// The samples of a stream that cannot be read: how many, how many may be, and the first of them.
    pub(crate) fn quarantine(&self, id: StreamId) -> (u64, u64, Vec<QuarantinedSample>) {
        match self.streams.get(&id) {
            Some(Stream::Open(open)) => (open.quarantine.count(), open.quarantine.limit(), open.quarantine.told()),
            _ => Default::default(),
        }
    }

    /// The samples of a stream that must not be read.
    pub(crate) fn poisonous(&self, id: StreamId) -> Vec<Quarantined> {
        if let Some(Stream::Open(open)) = self.streams.get(&id) {
            open.quarantine.poisonous().collect()
        } else {
            Vec::new()
        }
    }

    /// The position that a member will receive next.
    pub(crate) fn cursor(&self, id: MemberId) -> Option<Position> {
        self.members.get(&id).map(|member| member.cursor)
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
