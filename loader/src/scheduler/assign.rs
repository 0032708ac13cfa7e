//! Rows to workers: which lane is served next, with how many rows of which batch.

use std::time::Duration;

use batchmill_protocol::message::{SlotIndex, StreamId, Task, TaskId, WorkerId};
use batchmill_protocol::position::{Position, Rows};

use super::lanes::{Lane, LaneId};
use super::slots::{self, Filling, Slot};
use super::{Action, OpenStream, Scheduler, Stream};

impl Scheduler {
    /// Gives out rows until no worker has room or no lane has work.
    pub(super) fn assign(&mut self, now: Duration) {
        while let Some((stream, lane, worker)) = self.next_assignment() {
            let workers = u32::try_from(self.workers.joined().count()).unwrap_or(u32::MAX);
            let Some(Stream::Open(open)) = self.streams.get_mut(&stream) else { return };
            self.turns += 1;
            let (slot, position, rows) = open.take_rows(lane, workers, self.turns);
            let task = Task { id: TaskId(self.next_task), stream, slot, position, rows };
            self.next_task += 1;
            let slowest = open.cost.slowest(rows.len());
            self.workers.begin(now, worker, task.id, slowest);
            self.tasks.insert(task.id, task);
            self.actions.push(Action::Assign { worker, task });
        }
    }

    /// The lane in greatest need of those that a worker has room for, with the least busy such worker.
    fn next_assignment(&self) -> Option<(StreamId, LaneId, WorkerId)> {
        let served = self.streams.iter().filter_map(|(&id, stream)| match stream {
            Stream::Open(open) => Some((id, open, self.free_worker(id, open)?)),
            _ => None,
        });
        let wants = served.flat_map(|(stream, open, worker)| {
            let with_work = open.lanes.iter().filter(|(_, lane)| open.has_work(lane));
            with_work.map(move |(&id, lane)| (open.runway(lane), lane.last_turn, stream, id, worker))
        });
        wants.min().map(|(_, _, stream, lane, worker)| (stream, lane, worker))
    }

    fn free_worker(&self, stream: StreamId, open: &OpenStream) -> Option<WorkerId> {
        let depth = open.cost.depth(open.extent.batch_size);
        self.workers
            .unoccupied()
            .map(|id| (&self.workers.all()[&id], id))
            .filter(|(worker, _)| worker.open.contains(&stream) && worker.tasks.len() < depth)
            .min_by_key(|(worker, id)| (worker.tasks.len(), *id))
            .map(|(_, id)| id)
    }
}

impl OpenStream {
    fn has_work(&self, lane: &Lane) -> bool {
        let begun = self.window(lane).any(|slot| matches!(slot, Slot::Filling(filling) if !filling.todo.is_empty()));
        begun || (self.may_begin(lane) && self.slots.iter().any(|slot| matches!(slot, Slot::Free)))
    }

    /// Whether the lane may take one more slot. A failed batch is the lane's end: nothing behind it is made.
    fn may_begin(&self, lane: &Lane) -> bool {
        let failed = self.window(lane).any(|slot| matches!(slot, Slot::Failed { .. }));
        lane.goes_on() && lane.window.len() < self.lane_slots_max() && !failed
    }

    /// Takes rows of the earliest batch of `lane` that has any, or of a new one.
    fn take_rows(&mut self, lane: LaneId, workers: u32, turn: u64) -> (SlotIndex, Position, Rows) {
        let starves = self.runway(&self.lanes[&lane]) == 0;
        let rows = self.cost.rows(self.extent.batch_size, workers, starves);
        self.lanes.get_mut(&lane).expect("chosen from the table").last_turn = turn;
        for (position, slot) in self.lanes[&lane].window.clone() {
            if let Slot::Filling(filling) = self.slot(slot)
                && let Some(rows) = filling.take(rows)
            {
                filling.tasks_out += 1;
                return (slot, position, rows);
            }
        }
        let free = self.slots.iter().position(|slot| matches!(slot, Slot::Free));
        let slot = slots::index(free.expect("a lane that has work finds rows or a free slot"));
        let extent = self.extent;
        let window = self.lanes.get_mut(&lane).expect("chosen from the table");
        let position = window.next;
        window.window.push_back((position, slot));
        window.next = extent.next(position);
        let mut filling = Filling::new(lane, extent.rows(position.step));
        let rows = filling.take(rows).expect("every batch has rows");
        filling.tasks_out = 1;
        *self.slot(slot) = Slot::Filling(filling);
        (slot, position, rows)
    }
}
