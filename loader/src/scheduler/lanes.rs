//! Lanes, the decoding windows that move along a stream, and the members that read them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use batchmill_protocol::message::{LeaseId, MemberId, SlotIndex, StreamId};
use batchmill_protocol::position::Position;

use super::slots::{self, Filling, Slot};
use super::{Action, OpenStream, Scheduler, Stream};

/// One lane; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LaneId(pub(super) u32);

/// A decoding window.
#[derive(Debug)]
pub(super) struct Lane {
    /// The first position not in the window.
    pub(super) next: Position,
    /// The epoch before which it ends, or never.
    pub(super) until_epoch: Option<u64>,
    /// Batches being made, made or read, in stream order.
    pub(super) window: VecDeque<(Position, SlotIndex)>,
    /// Who reads it.
    pub(super) members: BTreeSet<MemberId>,
    /// When it last was given a worker's time.
    pub(super) last_turn: u64,
}

impl Lane {
    /// Whether the stream goes on for this lane.
    pub(super) fn goes_on(&self) -> bool {
        self.until_epoch.is_none_or(|until| self.next.epoch < until)
    }
}

/// One attached trainer.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) stream: StreamId,
    /// `None` once it was told that nothing more comes.
    pub(super) lane: Option<LaneId>,
    /// The next position it will receive.
    pub(super) cursor: Position,
    /// How many slots it may read at once.
    pub(super) credit: u32,
    /// What it reads.
    pub(super) leases: BTreeMap<LeaseId, SlotIndex>,
}

impl Scheduler {
    /// Gives a new member a lane of its own.
    pub(super) fn member_joined(
        &mut self,
        member: MemberId,
        stream: StreamId,
        from: Position,
        until_epoch: Option<u64>,
        leases: u32,
    ) {
        if let Err(reason) = self.room_for_member(stream) {
            self.actions.push(Action::Fail { member, position: from, reason });
            return;
        }
        let Some(Stream::Open(open)) = self.streams.get_mut(&stream) else {
            unreachable!("a stream with room is open");
        };
        let lane = LaneId(self.next_lane);
        self.next_lane += 1;
        open.lanes.insert(
            lane,
            Lane {
                next: from,
                until_epoch,
                window: VecDeque::new(),
                members: BTreeSet::from([member]),
                last_turn: self.turns,
            },
        );
        open.give_up_slots();
        let credit = leases.max(1);
        self.members.insert(member, Member { stream, lane: Some(lane), cursor: from, credit, leases: BTreeMap::new() });
        self.deliver_lane(stream, lane);
    }

    /// Ends a member, its leases, and its lane when it was the last one there.
    pub(super) fn member_gone(&mut self, id: MemberId) {
        let Some(member) = self.members.remove(&id) else { return };
        let Some(Stream::Open(open)) = self.streams.get_mut(&member.stream) else { return };
        for slot in member.leases.values() {
            open.end_lease(*slot);
        }
        if let Some(lane) = member.lane {
            open.leave_lane(lane, id);
            self.deliver_lane(member.stream, lane);
        }
    }

    /// Takes a lease back; a lease that the member does not hold changes nothing.
    pub(super) fn released(&mut self, id: MemberId, lease: LeaseId) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let Some(slot) = member.leases.remove(&lease) else { return };
        let (stream, lane) = (member.stream, member.lane);
        if let Some(Stream::Open(open)) = self.streams.get_mut(&stream) {
            open.end_lease(slot);
        }
        if let Some(lane) = lane {
            self.deliver_lane(stream, lane);
        }
    }
}

impl OpenStream {
    /// Notes that one member fewer reads `slot`.
    fn end_lease(&mut self, slot: SlotIndex) {
        let Slot::Ready { leases, lane, .. } = self.slot(slot) else { unreachable!("a leased slot is ready") };
        *leases -= 1;
        let (orphan, lane) = (*leases == 0, *lane);
        // The lane may have gone before its last reader's lease.
        if orphan && !self.lanes.contains_key(&lane) {
            *self.slot(slot) = Slot::Free;
        }
    }

    /// Takes a member out of its lane, and the lane away when it is empty.
    pub(super) fn leave_lane(&mut self, id: LaneId, member: MemberId) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.members.remove(&member);
        if lane.members.is_empty() {
            let lane = self.lanes.remove(&id).expect("found above");
            for (_, slot) in lane.window {
                self.abandon(slot);
            }
        }
    }

    /// Has every lane that holds more than its part give up the batches furthest ahead. They will be made again.
    fn give_up_slots(&mut self) {
        let part = self.lane_slots_max();
        let mut given_up = Vec::new();
        for lane in self.lanes.values_mut() {
            while lane.window.len() > part
                && let Some(&(position, slot)) = lane.window.back()
                && !self.slots[slots::place(slot)].is_read()
            {
                lane.window.pop_back();
                lane.next = position;
                given_up.push(slot);
            }
        }
        for slot in given_up {
            self.abandon(slot);
        }
    }

    /// Frees a slot that its lane gives up, as soon as nobody reads or writes it.
    fn abandon(&mut self, slot: SlotIndex) {
        let state = self.slot(slot);
        match state {
            Slot::Filling(Filling { lane, todo, tasks_out: 1.., .. }) => {
                *lane = None;
                todo.clear();
            }
            Slot::Ready { leases: 1.., .. } => {}
            Slot::Free | Slot::Filling(_) | Slot::Ready { .. } | Slot::Failed { .. } => *state = Slot::Free,
        }
    }
}
