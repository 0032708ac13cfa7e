//! A batch in a trainer's hands: a lease that all readers share, given back when the last of them is dropped.

use std::ops::Deref;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
// Who drops last is decided here alone; the tests put a model checker's counter in its place.
#[cfg(not(test))]
use std::sync::Arc as Shared;

use ipc_channel::ipc::IpcSender;
#[cfg(test)]
use loom::sync::Arc as Shared;

use crate::digest::Digest;
use crate::ledger::Entry;
use crate::message::{FromMember, LeaseId, SlotIndex};
use crate::position::{Position, Rows};
use crate::slab::{RowRecord, SlabReader};

/// The right to read one slot; its end is the loader's permission to fill the slot again.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) slab: Arc<SlabReader>,
    pub(super) releases: IpcSender<FromMember>,
    /// Its end tells the daemon that this process reads nothing any more; so a batch outlives its member.
    #[expect(dead_code, reason = "held, never read")]
    pub(super) life_line: Arc<UnixStream>,
    pub(super) lease: LeaseId,
    pub(super) slot: SlotIndex,
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A loader that is gone needs no release.
        let _ = self.releases.send(FromMember::Release { lease: self.lease });
    }
}

/// One batch, read where the workers wrote it. Dropping it, and all [`Field`]s of it, gives the memory back.
#[derive(Clone, Debug)]
pub struct Batch {
    lease: Shared<Lease>,
    position: Position,
    rows: Rows,
    padding: u32,
    digest: Digest,
}

impl Batch {
    pub(super) fn new(lease: Lease, position: Position, rows: Rows, padding: u32, digest: Digest) -> Self {
        Self { lease: Shared::new(lease), position, rows, padding, digest }
    }

    /// Its place in the stream.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Its rows, padding included; fewer than the batch size only in the last batch of an epoch.
    pub fn rows(&self) -> u32 {
        self.rows.len()
    }

    /// Rows at its end that only fill it up.
    pub fn padding(&self) -> u32 {
        self.padding
    }

    /// The bytes of a field, `[rows, ...]`, row-major, little-endian; `None` when the stream has no such field.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        let field = self.lease.slab.layout().field(name)?;
        Some(self.lease.slab.rows(self.lease.slot, field, self.rows))
    }

    /// The bytes of a field as something that can be sent elsewhere and keeps the batch.
    pub fn shared_field(&self, name: &str) -> Option<Field> {
        let field = self.lease.slab.layout().field(name)?;
        Some(Field { lease: Shared::clone(&self.lease), rows: self.rows, field })
    }

    /// The dataset index of every row, in row order.
    pub fn indices(&self) -> impl Iterator<Item = u64> + '_ {
        (self.rows.lo..self.rows.hi).map(|row| self.record(row).index)
    }

    /// The rows that must not count: their samples cannot be read, and their tensors are zeros (`on_bad = "mask"`).
    pub fn masked(&self) -> impl Iterator<Item = u32> + '_ {
        (self.rows.lo..self.rows.hi).filter(|&row| self.record(row).masked)
    }

    /// What its rows amount to, as the workers wrote them.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What its rows amount to, from the bytes that are there; equal to [`digest`](Self::digest) unless memory is
    /// broken, or the loader is.
    pub fn recomputed_digest(&self) -> Digest {
        self.lease.slab.digest(self.lease.slot, self.rows)
    }

    /// What a [`Ledger`](crate::ledger::Ledger) notes of it.
    pub fn entry(&self) -> Entry {
        Entry { position: self.position, rows: self.rows(), padding: self.padding, digest: self.digest }
    }

    fn record(&self, row: u32) -> RowRecord {
        self.lease.slab.record(self.lease.slot, row)
    }
}

/// The bytes of one field of one batch: derefs to them, and holds the batch's lease as long as it lives.
#[derive(Clone, Debug)]
pub struct Field {
    lease: Shared<Lease>,
    rows: Rows,
    field: usize,
}

impl Deref for Field {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.lease.slab.rows(self.lease.slot, self.field, self.rows)
    }
}

impl AsRef<[u8]> for Field {
    fn as_ref(&self) -> &[u8] {
        self
    }
}
