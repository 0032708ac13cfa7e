//! Batches to members: in order, under a lease, and slots back when all have read them.

use std::hash::BuildHasher;

use batchmill_protocol::digest::Digest;
use batchmill_protocol::message::{LeaseId, MemberId, SlotIndex, StreamId};
use batchmill_protocol::position::Position;

use super::lanes::{Lane, LaneId, Member};
use super::slots::{self, Slot};
use super::{Action, OpenStream, Scheduler, Stream};

impl Scheduler {
    /// Gives the lane's members what is ready and takes back what all have read.
    pub(super) fn deliver_lane(&mut self, stream: StreamId, lane: LaneId) {
        let Some(Stream::Open(open)) = self.streams.get_mut(&stream) else { return };
        let members: Vec<MemberId> =
            open.lanes.get(&lane).into_iter().flat_map(|lane| &lane.members).copied().collect();
        for id in members {
            let member = self.members.get_mut(&id).expect("a lane's members are in the table");
            loop {
                match open.next_for(lane, id, member) {
                    Next::Wait => break,
                    Next::Batch(position, slot, digest) => {
                        let lease = LeaseId(self.lease_key.hash_one(self.next_lease));
                        self.next_lease += 1;
                        member.leases.insert(lease, slot);
                        member.cursor = open.extent.next(position);
                        self.actions.push(Action::Deliver { member: id, lease, slot, position, digest });
                    }
                    Next::Last(action) => {
                        self.actions.push(action);
                        member.lane = None;
                        open.leave_lane(lane, id, &self.members);
                        break;
                    }
                }
            }
        }
        let Some(slowest) = open.lanes.get(&lane).and_then(|lane| open.slowest(lane, &self.members)) else { return };
        let lane = open.lanes.get_mut(&lane).expect("looked at above");
        // Also what is still being made, or could not be: whoever waited for it has left.
        let is_passed = |&(position, slot): &_| position < slowest && !open.slots[slots::place(slot)].is_read();
        let passed: Vec<_> = lane.window.iter().copied().filter(is_passed).collect();
        if passed.is_empty() {
            return;
        }
        lane.window.retain(|entry| !passed.contains(entry));
        passed.into_iter().for_each(|(_, slot)| open.abandon(slot));
    }
}

/// What a member can be told now.
enum Next {
    Wait,
    Batch(Position, SlotIndex, Digest),
    /// What nothing comes after.
    Last(Action),
}

impl OpenStream {
    fn next_for(&mut self, lane: LaneId, id: MemberId, member: &Member) -> Next {
        let Some(lane) = self.lanes.get(&lane) else { return Next::Wait };
        if member.is_done() {
            return Next::Last(Action::End(id));
        }
        let position = member.cursor;
        let Some(slot) = lane.slot_at(position) else { return Next::Wait };
        let room = member.leases.len() < self.leases_max(member);
        match self.slot(slot) {
            Slot::Ready { leases, digest, .. } if room => {
                *leases += 1;
                Next::Batch(position, slot, *digest)
            }
            Slot::Failed { reason } => Next::Last(Action::Fail { member: id, position, reason: reason.clone() }),
            _ => Next::Wait,
        }
    }

    /// How many slots a member may read at once. One of its lane is always left to be filled, however much it could hold.
    ///
    /// One that takes no time for a batch may have more on the way, so that one message brings several; but of a lane's part
    /// no more than a quarter, as others may come who need what it does not give back.
    pub(super) fn leases_max(&self, member: &Member) -> usize {
        let part = self.lane_slots_max();
        let ahead = if member.pace.is_quick() { slots::count(member.ahead) } else { 0 };
        let credit = slots::count(member.credit);
        credit.min(part - 1).max((credit + ahead).min(part / 4))
    }

    /// How many batches of the lane wait, made or given out in full, for its leader.
    pub(super) fn runway(&self, lane: &Lane, leader: Position) -> usize {
        let ahead = |position: Position, slot: &Slot| match slot {
            Slot::Filling(filling) => filling.todo.is_empty(),
            Slot::Ready { .. } => position >= leader,
            Slot::Free | Slot::Failed { .. } => false,
        };
        lane.window.iter().filter(|&&(position, slot)| ahead(position, &self.slots[slots::place(slot)])).count()
    }
}
