//! What the shared memory of one stream would hold: every row with its last write, whole or torn.

use batchmill_protocol::digest::Digest;
use batchmill_protocol::message::{SlotIndex, Task, TaskId};
use batchmill_protocol::position::{Extent, Position};

use crate::scheduler::slots;

/// One row of one slot.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Row {
    /// Never written.
    Blank,
    /// A write of this task began and has not ended.
    Torn(TaskId),
    /// It is row `row` of the batch at `position`, made of `content`; `done` once the scheduler took its task for done.
    Whole { position: Position, row: u32, content: Content, task: TaskId, done: bool },
}

/// What a row is made of: a sample, or nothing where a sample is bad.
pub(super) type Content = Option<u64>;

/// What a row amounts to.
pub(super) fn digest(position: Position, row: u32, content: Content) -> Digest {
    let parts = [position.epoch, position.step, u64::from(row), content.map_or(0, |sample| sample + 1)];
    let mixed = parts.iter().fold(1, |sum: u128, part| (sum ^ u128::from(*part)).wrapping_mul((1 << 88) + 0x13b));
    Digest(mixed)
}

/// One stream's slab.
#[derive(Debug)]
pub(super) struct Slab {
    extent: Extent,
    slots: Vec<Vec<Row>>,
    /// Leases out, by slot.
    leases: Vec<u32>,
}

impl Slab {
    pub(super) fn new(extent: Extent, slots: u32) -> Self {
        let rows = vec![Row::Blank; slots::count(extent.batch_size)];
        Self { extent, slots: vec![rows; slots::count(slots)], leases: vec![0; slots::count(slots)] }
    }

    /// A worker begins to write a row.
    pub(super) fn begin(&mut self, task: &Task, row: u32) {
        self.write(task, row, Row::Torn(task.id));
    }

    /// A worker has written a row.
    pub(super) fn finish(&mut self, task: &Task, row: u32, content: Content) {
        self.write(task, row, Row::Whole { position: task.position, row, content, task: task.id, done: false });
    }

    fn write(&mut self, task: &Task, row: u32, written: Row) {
        let place = slots::place(task.slot);
        assert!(self.leases[place] == 0, "no row is written while a member reads its slot: {task:?}");
        self.slots[place][slots::count(row)] = written;
    }

    /// The scheduler is about to hear that a task is done.
    pub(super) fn accept(&mut self, task: &Task) {
        for row in &mut self.slots[slots::place(task.slot)] {
            if let Row::Whole { task: writer, done, .. } = row
                && *writer == task.id
            {
                *done = true;
            }
        }
    }

    /// Asserts that a slot holds a batch, all of it and nothing else, from tasks that the scheduler took for done; and
    /// says what it amounts to.
    pub(super) fn check(&self, slot: SlotIndex, position: Position) -> Digest {
        let rows = self.slots[slots::place(slot)].iter().take(slots::count(self.extent.rows(position.step)));
        let digests = (0..).zip(rows).map(|(row, held)| match held {
            Row::Whole { position: of, row: is, content, done: true, .. } if *of == position && *is == row => {
                digest(position, row, *content)
            }
            _ => panic!("a member reads the batch at {position}, whole: in slot {slot}, row {row} is {held:?}"),
        });
        digests.sum()
    }

    /// Another lease is out.
    pub(super) fn lend(&mut self, slot: SlotIndex) {
        self.leases[slots::place(slot)] += 1;
    }

    /// A lease has ended.
    pub(super) fn give_back(&mut self, slot: SlotIndex) {
        self.leases[slots::place(slot)] -= 1;
    }

    /// How many slots are read.
    pub(super) fn lent(&self) -> usize {
        self.leases.iter().filter(|leases| **leases > 0).count()
    }
}
