//! A stream's lobby: its first batches, made while nobody else wants the workers, for whoever begins there.
//!
//! A member is hardly any worse off for it. It is made by workers that have nothing in hand when no lane has work for them,
//! a few rows at a time, which is as long as somebody who comes meanwhile waits, in slots that no lane may take, and gives
//! slots up as soon as one may. It keeps what is wholly sound: a batch with a sample
//! that cannot be read, or that ends a worker, is left to be made for a member, who is told. What it found is counted
//! nowhere, as nobody asked for it. It then stays empty until somebody has begun there, or the data are looked at anew.

use std::collections::VecDeque;
use std::time::Duration;

use batchmill_protocol::message::{Filled, SlotIndex, StreamId, Task, WorkerId};
use batchmill_protocol::position::{Position, Rows};

use super::lanes::LaneId;
use super::slots::{self, Filling, Slot};
use super::{LANE_SLOTS_MIN, OpenStream, Scheduler, Stream};

/// The batches that wait: one to begin with, the other while that one is read.
const BATCHES_MAX: usize = LANE_SLOTS_MIN;

impl LaneId {
    /// The number under which a lobby has its slots. No lane has it.
    pub(super) const LOBBY: Self = Self(u32::MAX);
}

/// The first batches of a stream.
#[derive(Debug, Default)]
pub(super) struct Lobby {
    /// In stream order, from the first on, all of one epoch.
    pub(super) waiting: VecDeque<Waiting>,
    /// Whether it is to stay empty.
    pub(super) is_closed: bool,
}

/// One of them, ready or being made.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) slot: SlotIndex,
    /// Rows that are made.
    made: u32,
}

impl Scheduler {
    /// Has idle workers make the first batches of streams.
    pub(super) fn keep_lobbies(&mut self, now: Duration) {
        while self.is_within_budget(now)
            && let Some((stream, worker)) = self.next_for_lobby()
        {
            let workers = u32::try_from(self.workers.joined().count()).unwrap_or(u32::MAX);
            let Some(Stream::Open(open)) = self.streams.get_mut(&stream) else { return };
            let (slot, position, rows) = open.take_rows_for_lobby(workers);
            self.give_out(now, worker, stream, slot, position, rows);
        }
    }

    /// A stream whose lobby lacks something, and a worker that could make it and has nothing in hand.
    fn next_for_lobby(&self) -> Option<(StreamId, WorkerId)> {
        let idle: Vec<_> = self.workers.unoccupied().filter(|id| self.workers.all()[id].tasks.is_empty()).collect();
        let wanting = self.streams.iter().filter_map(|(&id, stream)| match stream {
            Stream::Open(open) if open.lobby_has_work() => Some(id),
            _ => None,
        });
        let mut served = wanting.flat_map(|stream| idle.iter().map(move |worker| (stream, *worker)));
        served.find(|(stream, worker)| self.workers.all()[worker].open.contains(stream))
    }
}

impl OpenStream {
    fn lobby_has_work(&self) -> bool {
        let begun = |waiting: &Waiting| self.slots[slots::place(waiting.slot)].has_rows();
        self.lobby.waiting.iter().any(begun) || self.lobby_may_begin()
    }

    /// Whether the lobby may take one more slot: one that is free and not kept for a lane.
    fn lobby_may_begin(&self) -> bool {
        let waiting = self.lobby.waiting.len();
        !self.lobby.is_closed
            && waiting < BATCHES_MAX
            && (waiting as u64) < self.extent.steps()
            && self.free_slots() > self.reserved_slots()
    }

    /// Takes rows of the first batch that has any, or of one more. As few as pays: somebody may come at any moment, and
    /// then waits for the first batch or, elsewhere, for a worker.
    fn take_rows_for_lobby(&mut self, workers: u32) -> (SlotIndex, Position, Rows) {
        let most = self.cost.rows(self.extent.batch_size, workers, true);
        let mut position = Position::default();
        for place in 0..self.lobby.waiting.len() {
            let slot = self.lobby.waiting[place].slot;
            if let Slot::Filling(filling) = self.slot(slot)
                && let Some(rows) = filling.take(most)
            {
                return (slot, position, rows);
            }
            position = self.extent.next(position);
        }
        let (slot, rows) = self.begin_batch(LaneId::LOBBY, position, most);
        self.lobby.waiting.push_back(Waiting { slot, made: 0 });
        (slot, position, rows)
    }

    /// How many batches of the lobby are ready.
    pub(super) fn ready_in_lobby(&self) -> usize {
        let is_ready = |waiting: &&Waiting| matches!(self.slots[slots::place(waiting.slot)], Slot::Ready { .. });
        self.lobby.waiting.iter().filter(is_ready).count()
    }

    /// How many slots the lobby can give up at once.
    pub(super) fn slots_in_lobby(&self) -> usize {
        let can = |waiting: &&Waiting| match &self.slots[slots::place(waiting.slot)] {
            Slot::Filling(Filling { tasks_out, .. }) => *tasks_out == 0,
            _ => true,
        };
        self.lobby.waiting.iter().filter(can).count()
    }

    /// Has the lobby give slots up, the last first, until one is free.
    pub(super) fn clear_lobby_for_one(&mut self) {
        while self.free_slots() == 0
            && let Some(waiting) = self.lobby.waiting.pop_back()
        {
            self.abandon(waiting.slot);
        }
    }

    /// Empties the lobby. Unless it is closed, it is filled again.
    pub(super) fn clear_lobby(&mut self, is_closed: bool) {
        self.lobby.is_closed = is_closed;
        while let Some(waiting) = self.lobby.waiting.pop_back() {
            self.abandon(waiting.slot);
        }
    }

    /// Gives the lobby to a new lane that begins at the start of the stream.
    pub(super) fn let_in(&mut self, id: LaneId) {
        let lane = self.lanes.get_mut(&id).expect("it was made just now");
        if lane.next != Position::default() {
            return;
        }
        let lobby = std::mem::take(&mut self.lobby);
        for Waiting { slot, made } in lobby.waiting {
            let lane = self.lanes.get_mut(&id).expect("looked at above");
            lane.window.push_back((lane.next, slot));
            lane.next = self.extent.next(lane.next);
            self.samples_made += u64::from(made);
            self.hand_over(slot, id);
        }
    }

    /// Takes note of what came of a task: in the lobby, what is not sound empties it and is nobody's trouble.
    pub(super) fn note_made(&mut self, task: &Task, outcome: Result<Filled, String>) -> Result<Filled, String> {
        if !self.is_unasked(task.slot) {
            self.samples_made += u64::from(task.rows.len());
            return outcome;
        }
        let waiting = self.lobby.waiting.iter_mut().find(|waiting| waiting.slot == task.slot);
        match (waiting, outcome) {
            (Some(waiting), Ok(filled)) if filled.bad.is_empty() => {
                waiting.made += task.rows.len();
                Ok(filled)
            }
            (Some(_), _) => {
                self.clear_lobby(true);
                Ok(Filled::default())
            }
            // It was given up meanwhile.
            (None, _) => Ok(Filled::default()),
        }
    }

    /// Whether a worker died on a batch that nobody asked for. The lobby is closed if it was one of its own.
    pub(super) fn is_lost_in_lobby(&mut self, slot: SlotIndex) -> bool {
        let is_unasked = self.is_unasked(slot);
        if self.lobby.waiting.iter().any(|waiting| waiting.slot == slot) {
            self.clear_lobby(true);
        }
        is_unasked
    }

    fn is_unasked(&self, slot: SlotIndex) -> bool {
        matches!(&self.slots[slots::place(slot)], Slot::Filling(Filling { is_unasked: true, .. }))
    }
}
