//! What must be true after every event (ARCHITECTURE 9), asserted in debug builds.

use std::collections::{BTreeMap, BTreeSet};

use super::slots::{self, Slot};
use super::{LANE_SLOTS_MIN, Scheduler, Stream};

impl Scheduler {
    pub(super) fn check_invariants(&self) {
        let held: Vec<_> = self.workers.all().values().flat_map(|worker| &worker.tasks).collect();
        let distinct: BTreeSet<_> = held.iter().collect();
        assert_eq!(held.len(), distinct.len(), "no task is held by two workers");
        assert_eq!(held.len(), self.tasks.len(), "a task is out exactly while a worker holds it");
        for (id, stream) in &self.streams {
            let Stream::Open(open) = stream else { continue };
            let mut owners = BTreeMap::new();
            for (lane_id, lane) in &open.lanes {
                assert!(!lane.members.is_empty(), "a lane has members");
                assert!(
                    lane.window.iter().zip(lane.window.iter().skip(1)).all(|(a, b)| a.0 < b.0),
                    "a window is in stream order"
                );
                for &(position, slot) in &lane.window {
                    assert!(owners.insert(slot, *lane_id).is_none(), "slot {slot} is in one window only");
                    assert!(position < lane.next, "a window ends before what is next");
                }
            }
            for (place, slot) in open.slots.iter().enumerate() {
                let index = slots::index(place);
                let out: Vec<_> = self.tasks.values().filter(|task| task.stream == *id && task.slot == index).collect();
                let owner = owners.get(&index).copied();
                let leases = self.members.values().filter(|member| member.stream == *id);
                let leases = leases.flat_map(|member| member.leases.values()).filter(|slot| **slot == index).count();
                match slot {
                    Slot::Free => assert!(owner.is_none() && out.is_empty() && leases == 0, "a free slot is nobody's"),
                    Slot::Filling(filling) => {
                        assert_eq!(owner, filling.lane, "a filling slot's lane");
                        assert_eq!(out.len(), slots::count(filling.tasks_out), "tasks out of slot {index}");
                        assert!(!out.is_empty() || !filling.todo.is_empty(), "a filling slot has work left");
                        assert_eq!(leases, 0, "nobody reads what is being written");
                        let mut rows: Vec<_> = out.iter().map(|task| task.rows).chain(filling.todo.clone()).collect();
                        rows.sort_by_key(|rows| rows.lo);
                        assert!(rows.windows(2).all(|pair| pair[0].hi <= pair[1].lo), "rows are given out once");
                    }
                    Slot::Ready { lane, leases: count, .. } => {
                        assert!(out.is_empty(), "nobody writes what is ready");
                        assert_eq!(leases, slots::count(*count), "leases of slot {index}");
                        let orphan = owner.is_none() && leases > 0 && !open.lanes.contains_key(lane);
                        assert!(orphan || owner == Some(*lane), "a ready slot's lane");
                    }
                    Slot::Failed { .. } => {
                        assert!(out.is_empty() && leases == 0, "a failed batch is nobody's work");
                        assert!(owner.is_some(), "a failed slot's lane");
                    }
                }
            }
            self.check_members(open);
        }
    }

    fn check_members(&self, open: &super::OpenStream) {
        assert!(open.lanes.len() * LANE_SLOTS_MIN <= open.slots.len(), "there are no more lanes than slots for them");
        for (id, lane) in open.lanes.values().flat_map(|lane| lane.members.iter().map(move |id| (id, lane))) {
            let member = &self.members[id];
            assert!(member.cursor <= lane.next, "a cursor is not past its window");
            assert!(member.leases.len() <= slots::count(member.credit), "leases stay under the credit");
        }
    }
}
