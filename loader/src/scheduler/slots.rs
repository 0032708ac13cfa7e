//! What a slot holds: free -> filling -> ready (or failed) -> free.

use std::collections::BTreeMap;

use batchmill_protocol::digest::Digest;
use batchmill_protocol::message::SlotIndex;
use batchmill_protocol::position::Rows;

use super::lanes::LaneId;
use super::{CRASHES_MAX, Death, KILLS_MAX};

/// One slot's state.
#[derive(Debug)]
pub(super) enum Slot {
    /// It holds nothing.
    Free,
    /// Workers write into it, or will.
    Filling(Filling),
    /// It holds a whole batch, which `leases` members read.
    Ready {
        /// Who has it; `None` when only the leases are left.
        lane: Option<LaneId>,
        leases: u32,
        digest: Digest,
    },
    /// Its batch cannot be made.
    Failed { reason: String },
}

impl Slot {
    /// Whether a member reads it.
    pub(super) fn is_read(&self) -> bool {
        matches!(self, Self::Ready { leases: 1.., .. })
    }

    /// Whether it has rows that nobody was given yet.
    pub(super) fn has_rows(&self) -> bool {
        matches!(self, Self::Filling(filling) if !filling.todo.is_empty())
    }
}

/// Workers that died on one sample of one batch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Deaths {
    /// By what they did.
    pub(super) crashes: u32,
    /// By what was done to them.
    pub(super) kills: u32,
}

impl Deaths {
    /// Counts one more.
    pub(super) fn add(&mut self, death: &Death) {
        *if death.crashed { &mut self.crashes } else { &mut self.kills } += 1;
    }

    /// How many there were.
    pub(super) fn count(self) -> u32 {
        self.crashes + self.kills
    }

    /// Whether what they died on is not to be tried any more.
    pub(super) fn are_too_many(self) -> bool {
        self.crashes >= CRASHES_MAX || self.kills >= KILLS_MAX
    }
}

/// A batch that is being made.
#[derive(Debug)]
pub(super) struct Filling {
    /// Who waits for it; `None` when nobody does any more but a worker may still write.
    pub(super) lane: Option<LaneId>,
    /// Rows not given out, lowest last.
    pub(super) todo: Vec<Rows>,
    /// Tasks given out and not done.
    pub(super) tasks_out: u32,
    /// What the rows that are done amount to.
    pub(super) digest: Digest,
    /// Workers that died, by the index of the sample they were making, if it is known.
    pub(super) deaths: BTreeMap<Option<u64>, Deaths>,
    /// Why the batch cannot be made, from the lowest range that said so.
    pub(super) fault: Option<(u32, String)>,
    /// Whether no more rows of it are to be made.
    pub(super) given_up: bool,
    /// Whether no member ever waited for it: it is the lobby's, or was.
    pub(super) is_unasked: bool,
}

impl Filling {
    /// A batch of `rows` rows of which nothing is made yet.
    pub(super) fn new(lane: LaneId, rows: u32) -> Self {
        Self {
            lane: Some(lane),
            todo: vec![Rows { lo: 0, hi: rows }],
            tasks_out: 0,
            digest: Digest::default(),
            deaths: BTreeMap::new(),
            fault: None,
            given_up: false,
            is_unasked: lane == LaneId::LOBBY,
        }
    }

    /// Takes up to `rows` rows for a task, the lowest first.
    pub(super) fn take(&mut self, rows: u32) -> Option<Rows> {
        let whole = self.todo.pop()?;
        let taken = Rows { lo: whole.lo, hi: whole.hi.min(whole.lo + rows) };
        if taken.hi < whole.hi {
            self.todo.push(Rows { lo: taken.hi, hi: whole.hi });
        }
        self.tasks_out += 1;
        Some(taken)
    }

    /// Notes that the batch cannot be made. The lowest row's reason is the one told, so that it does not depend on who was
    /// faster.
    pub(super) fn blame(&mut self, row: u32, reason: String) {
        if self.fault.as_ref().is_none_or(|(other, _)| row < *other) {
            self.fault = Some((row, reason));
        }
    }

    /// Puts back rows that were given out and not made.
    pub(super) fn put_back(&mut self, rows: Rows) {
        let place = self.todo.partition_point(|other| other.lo > rows.lo);
        self.todo.insert(place, rows);
    }
}

/// The place of `slot` in a list of all slots.
pub(super) fn place(slot: SlotIndex) -> usize {
    count(slot.0)
}

/// Widens a count.
pub(super) fn count(count: u32) -> usize {
    usize::try_from(count).expect("a usize has at least 32 bits")
}

/// The slot at `place` of a list of all slots.
pub(super) fn index(place: usize) -> SlotIndex {
    SlotIndex(u32::try_from(place).expect("slots are counted with a u32"))
}
