//! What must be true after every event (ARCHITECTURE 9), asserted in debug and test builds.

use std::collections::BTreeSet;

use batchmill_protocol::message::StreamId;

use super::lanes::{LaneId, Party};
use super::slots::{self, Slot};
use super::{LANE_SLOTS_MIN, OpenStream, Scheduler, Stream};

impl OpenStream {
    fn check_lobby(&self) {
        let waiting = self.lobby.waiting.len();
        assert!(waiting <= LANE_SLOTS_MIN && waiting as u64 <= self.extent.steps(), "a lobby is small");
        assert!(waiting == 0 || !self.lobby.is_closed, "a lobby that is closed is empty");
    }
}

impl Scheduler {
    pub(super) fn check_invariants(&self) {
        let held: Vec<_> =
            self.workers.all().values().flat_map(|worker| &worker.tasks).map(|given| given.task).collect();
        let distinct: BTreeSet<_> = held.iter().collect();
        assert_eq!(held.len(), distinct.len(), "no task is held by two workers");
        assert_eq!(held.len(), self.tasks.len(), "a task is out exactly while a worker holds it");
        for (id, stream) in &self.streams {
            let Stream::Open(open) = stream else { continue };
            self.check_lanes(open);
            self.check_slots(*id, open);
            open.check_lobby();
        }
    }

    fn check_lanes(&self, open: &OpenStream) {
        assert!(open.lanes.len() * LANE_SLOTS_MIN <= open.slots.len(), "there are no more lanes than slots for them");
        for lane in open.lanes.values() {
            assert!(!lane.members.is_empty(), "a lane has members");
            assert!(lane.party != Party::Alone || lane.members.len() == 1, "who shares nothing reads alone");
            for member in lane.members.iter().map(|id| &self.members[id]) {
                assert_eq!(Party::of(&member.share), lane.party, "members of a lane may read together");
                assert!(member.cursor <= lane.next, "a cursor is not past its window");
                assert!(
                    member.leases.len() <= slots::count(member.credit).saturating_add(slots::count(member.ahead)),
                    "leases stay under the credit"
                );
                // A slot is free only when every member has passed it.
                let ahead = lane.window.iter().map(|(position, _)| *position).filter(|at| *at >= member.cursor);
                let end = ahead.fold(member.cursor, |next, position| {
                    assert_eq!(position, next, "a window has all that a member has not read, in stream order");
                    open.extent.next(position)
                });
                assert_eq!(end, lane.next, "a window ends before what is next");
            }
            let pairs = lane.window.iter().zip(lane.window.iter().skip(1));
            assert!(pairs.into_iter().all(|(a, b)| a.0 < b.0), "a window is in stream order");
        }
    }

    fn check_slots(&self, id: StreamId, open: &OpenStream) {
        let mut owners = vec![None; open.slots.len()];
        let of_lanes = open.lanes.iter().flat_map(|(id, lane)| lane.window.iter().map(move |(_, slot)| (*id, slot)));
        let of_lobby = open.lobby.waiting.iter().map(|waiting| (LaneId::LOBBY, &waiting.slot));
        for (lane, slot) in of_lanes.chain(of_lobby) {
            assert!(owners[slots::place(*slot)].replace(lane).is_none(), "slot {slot} is in one window only");
        }
        let mut out = vec![Vec::new(); open.slots.len()];
        for task in self.tasks.values().filter(|task| task.stream == id) {
            out[slots::place(task.slot)].push(task.rows);
        }
        let mut read = vec![0; open.slots.len()];
        for slot in self.members.values().filter(|member| member.stream == id).flat_map(|member| member.leases.values())
        {
            read[slots::place(*slot)] += 1;
        }
        for (index, (((slot, owner), mut out), read)) in open.slots.iter().zip(owners).zip(out).zip(read).enumerate() {
            match slot {
                Slot::Free => assert!(owner.is_none() && out.is_empty() && read == 0, "a free slot is nobody's"),
                Slot::Filling(filling) => {
                    assert_eq!(owner, filling.lane, "a filling slot's lane");
                    assert_eq!(out.len(), slots::count(filling.tasks_out), "tasks out of slot {index}");
                    assert!(!out.is_empty() || !filling.todo.is_empty(), "a filling slot has work left");
                    assert_eq!(read, 0, "nobody reads what is being written");
                    out.extend(&filling.todo);
                    out.sort_by_key(|rows| rows.lo);
                    assert!(out.windows(2).all(|pair| pair[0].hi <= pair[1].lo), "rows are given out once");
                }
                Slot::Ready { lane, leases, .. } => {
                    assert!(out.is_empty(), "nobody writes what is ready");
                    assert_eq!(read, *leases, "leases of slot {index}");
                    assert_eq!(owner, *lane, "a ready slot's lane");
                    assert!(lane.is_some() || read > 0, "a slot that no lane has is read");
                }
                Slot::Failed { .. } => {
                    assert!(out.is_empty() && read == 0, "a failed batch is nobody's work");
                    assert!(owner.is_some(), "a failed slot's lane");
                    assert!(owner != Some(LaneId::LOBBY), "what waits for nobody in particular fails nobody");
                }
            }
        }
    }
}
