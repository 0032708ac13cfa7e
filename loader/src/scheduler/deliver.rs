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
                        open.leave_lane(lane, id);
                        break;
                    }
                }
            }
        }
        let Some(lane) = open.lanes.get_mut(&lane) else { return };
        let slowest = lane.members.iter().map(|id| self.members[id].cursor).min();
        let slowest = slowest.expect("a lane without members is taken away");
        lane.window.retain(|&(position, slot)| {
            let state = &mut open.slots[slots::place(slot)];
            let read = position < slowest && matches!(state, Slot::Ready { leases: 0, .. });
            if read {
                *state = Slot::Free;
            }
            !read
        });
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
        if lane.until_epoch.is_some_and(|until| member.cursor.epoch >= until) {
            return Next::Last(Action::End(id));
        }
        let Some(&(position, slot)) = lane.window.iter().find(|(position, _)| *position == member.cursor) else {
            return Next::Wait;
        };
        // One slot of the lane is always left to be filled, however much the member could hold.
        let room = member.leases.len() < slots::count(member.credit).min(self.lane_slots_max() - 1);
        match self.slot(slot) {
            Slot::Ready { leases, digest, .. } if room => {
                *leases += 1;
                Next::Batch(position, slot, *digest)
            }
            Slot::Failed { reason } => Next::Last(Action::Fail { member: id, position, reason: reason.clone() }),
            _ => Next::Wait,
        }
    }

    /// How many batches of the lane wait, made or given out in full, for its slowest member.
    pub(super) fn runway(&self, lane: &Lane) -> usize {
        let ahead = |slot: &&Slot| match slot {
            Slot::Filling(filling) => filling.todo.is_empty(),
            Slot::Ready { .. } => !slot.is_read(),
            Slot::Free | Slot::Failed { .. } => false,
        };
        self.window(lane).filter(ahead).count()
    }
}
