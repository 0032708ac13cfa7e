//! Rows to workers: which lane is served next, with how many rows of which batch.
//!
//! Lanes share the workers' time equally, however long their samples take: each has a clock of the time that it was
//! given, as estimated when a task was given out, and the lane whose clock is furthest behind is served (start-time fair
//! queueing, Goyal, Vin and Cheng 1996). A lane that wanted nothing for a while has saved nothing up: its clock goes on
//! with that of the lane served last. A lane that follows another which its members could read is charged half, so that
//! it catches up and what both make is made once again; nobody has less than half of an equal share for that.

use std::collections::BTreeMap;
use std::time::Duration;

use batchmill_protocol::message::{MemberId, SlotIndex, StreamId, Task, TaskId, WorkerId};
use batchmill_protocol::position::{Position, Rows};

use super::lanes::{Lane, LaneId, Member};
use super::slots::{self, Filling, Slot};
use super::{Action, LANE_SLOTS_MIN, OpenStream, Scheduler, Stream};

impl Scheduler {
    /// Gives out rows until no worker has room or no lane has work.
    pub(super) fn assign(&mut self, now: Duration) {
        while self.is_within_budget(now)
            && let Some((stream, lane, worker)) = self.next_assignment()
        {
            let workers = u32::try_from(self.workers.joined().count()).unwrap_or(u32::MAX);
            let Some(Stream::Open(open)) = self.streams.get_mut(&stream) else { return };
            let (slot, position, rows) = open.take_rows(lane, workers, &self.members);
            let charged = open.cost.estimate(rows.len()) / if open.is_behind(&open.lanes[&lane]) { 2 } else { 1 };
            let served = open.lanes.get_mut(&lane).expect("chosen from the table");
            self.fair_time = self.fair_time.max(served.given);
            served.given = self.fair_time + charged;
            self.give_out(now, worker, stream, slot, position, rows);
        }
    }

    /// Gives rows, which their slot no longer has to do, to a worker.
    pub(super) fn give_out(
        &mut self,
        now: Duration,
        worker: WorkerId,
        stream: StreamId,
        slot: SlotIndex,
        position: Position,
        rows: Rows,
    ) {
        let Some(Stream::Open(open)) = self.streams.get(&stream) else { return };
        let task = Task { id: TaskId(self.next_task), stream, slot, position, rows };
        self.next_task += 1;
        let (estimate, slowest) = (open.cost.estimate(rows.len()), open.cost.slowest(rows.len()));
        self.workers.begin(now, worker, task.id, estimate, slowest);
        self.tasks.insert(task.id, task);
        self.actions.push(Action::Assign { worker, task });
    }

    /// The lane whose turn it is of those that a worker has room for, with the least busy such worker.
    fn next_assignment(&self) -> Option<(StreamId, LaneId, WorkerId)> {
        let served = self.streams.iter().filter_map(|(&id, stream)| match stream {
            Stream::Open(open) => Some((id, open, self.free_worker(id)?)),
            _ => None,
        });
        let wants = served.flat_map(|(stream, open, worker)| {
            let with_work = open.lanes.iter().filter(|(_, lane)| open.has_work(lane));
            with_work.map(move |(&id, lane)| (lane.given.max(self.fair_time), lane.given, stream, id, worker))
        });
        wants.min().map(|(_, _, stream, lane, worker)| (stream, lane, worker))
    }

    /// The worker that is done first of those that a stream is open at.
    fn free_worker(&self, stream: StreamId) -> Option<WorkerId> {
        let open = self.workers.unoccupied().map(|id| (id, &self.workers.all()[&id]));
        let open = open.filter(|(_, worker)| worker.open.contains(&stream));
        open.filter_map(|(id, worker)| Some((worker.busy_for()?, id))).min().map(|(_, id)| id)
    }
}

impl OpenStream {
    fn has_work(&self, lane: &Lane) -> bool {
        self.window(lane).any(Slot::has_rows) || self.may_begin(lane)
    }

    /// Whether the lane may take one more slot. A failed batch is the lane's end: nothing behind it is made.
    pub(super) fn may_begin(&self, lane: &Lane) -> bool {
        if !lane.goes_on() || lane.window.len() >= self.lane_slots_max() || self.has_failed(lane) {
            return false;
        }
        let free = self.free_slots() + self.slots_in_lobby();
        if lane.window.len() < LANE_SLOTS_MIN { free > 0 } else { free > self.reserved_slots() }
    }

    pub(super) fn free_slots(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot, Slot::Free)).count()
    }

    /// How many slots are kept for lanes whatever others could use: of each lane's part a few.
    pub(super) fn reserved_slots(&self) -> usize {
        let lacks = |lane: &Lane| if lane.goes_on() { LANE_SLOTS_MIN.saturating_sub(lane.window.len()) } else { 0 };
        self.lanes.values().map(lacks).sum()
    }

    /// Begins a batch in a free slot with up to `rows` of its rows.
    pub(super) fn begin_batch(&mut self, lane: LaneId, position: Position, rows: u32) -> (SlotIndex, Rows) {
        let free = self.slots.iter().position(|slot| matches!(slot, Slot::Free));
        let slot = slots::index(free.expect("who has work finds rows or a free slot"));
        let mut filling = Filling::new(lane, self.extent.rows(position.step));
        let rows = filling.take(rows).expect("every batch has rows");
        *self.slot(slot) = Slot::Filling(filling);
        (slot, rows)
    }

    /// Takes rows of the earliest batch of `lane` that has any, or of a new one.
    fn take_rows(
        &mut self,
        lane: LaneId,
        workers: u32,
        members: &BTreeMap<MemberId, Member>,
    ) -> (SlotIndex, Position, Rows) {
        let leader = self.lanes[&lane].leader(members).map(|(_, cursor)| cursor);
        let starves = leader.is_some_and(|leader| self.runway(&self.lanes[&lane], leader) == 0);
        let rows = self.cost.rows(self.extent.batch_size, workers, starves);
        let mut window = self.lanes[&lane].window.iter().copied();
        let begun = window.find(|&(_, slot)| self.slots[slots::place(slot)].has_rows());
        if let Some((position, slot)) = begun
            && let Slot::Filling(filling) = self.slot(slot)
            && let Some(rows) = filling.take(rows)
        {
            return (slot, position, rows);
        }
        self.clear_lobby_for_one();
        let position = self.lanes[&lane].next;
        let (slot, rows) = self.begin_batch(lane, position, rows);
        let window = self.lanes.get_mut(&lane).expect("chosen from the table");
        window.window.push_back((position, slot));
        window.next = self.extent.next(position);
        (slot, position, rows)
    }
}
