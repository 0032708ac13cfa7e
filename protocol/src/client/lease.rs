//! A batch in a trainer's hands: a lease that all readers share, given back when the last of them is dropped.

use std::ops::Deref;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
// Who drops last is decided here alone; the tests put a model checker's counter in its place.
#[cfg(not(test))]
use std::sync::Arc as Shared;

#[cfg(test)]
use loom::sync::Arc as Shared;

use super::returns::Returns;
use crate::digest::Digest;
use crate::ledger::Entry;
use crate::message::{LeaseId, SlotIndex};
use crate::position::{Position, Rows};
use crate::slab::{RowRecord, SlabReader};
use crate::tensor::Ragged;

/// The right to read one slot; its end is the loader's permission to fill the slot again.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) slab: Arc<SlabReader>,
    pub(super) returns: Arc<Returns>,
    /// Its end tells the daemon that this process reads nothing any more; so a batch outlives its member.
    #[expect(dead_code, reason = "held, never read")]
    pub(super) life_line: Arc<UnixStream>,
    pub(super) lease: LeaseId,
    pub(super) slot: SlotIndex,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.returns.give_back([self.lease]);
    }
}

/// One batch, read where the workers wrote it. Dropping it, and all [`Field`]s of it, gives the memory back.
#[derive(Clone, Debug)]
pub struct Batch {
    lease: Shared<Lease>,
    /// The rows that this member reads.
    rows: Rows,
    /// The batch that they are of, as the workers made it.
    whole: Entry,
}

impl Batch {
    pub(super) fn new(lease: Lease, rows: Rows, whole: Entry) -> Self {
        Self { lease: Shared::new(lease), rows, whole }
    }

    /// Its place in the stream.
    pub fn position(&self) -> Position {
        self.whole.position
    }

    /// Its rows, padding included: those of a sharded member's rank, else all. Fewer than usual only in the last batch of
    /// an epoch.
    pub fn rows(&self) -> u32 {
        self.rows.len()
    }

    /// Rows at its end that only fill it up.
    pub fn padding(&self) -> u32 {
        self.rows.hi.saturating_sub(self.whole.rows - self.whole.padding).min(self.rows.len())
    }

    /// The bytes of a field, `[rows, ...]`, row-major, little-endian; `None` when the stream has no such field.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        let field = self.lease.slab.layout().field(name)?;
        Some(self.lease.slab.rows(self.lease.slot, field, self.rows))
    }

    /// Values and offsets of a field that the stream's `collate` made `ragged`; `None` for any other.
    pub fn ragged(&self, name: &str) -> Option<Ragged> {
        let field = self.lease.slab.layout().fields().find(|field| field.name == name)?;
        Ragged::new(self.field(name)?, self.field(&format!("{name}_len"))?, field.item_bytes()?)
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

    /// The rows that must not count, counted from its first: their samples cannot be read, and their tensors are zeros (`on_bad = "mask"`).
    pub fn masked(&self) -> impl Iterator<Item = u32> + '_ {
        (self.rows.lo..self.rows.hi).filter(|&row| self.record(row).masked).map(|row| row - self.rows.lo)
    }

    /// What the rows of the batch amount to, as the workers wrote them: all of them, also a sharded member's.
    pub fn digest(&self) -> Digest {
        self.whole.digest
    }

    /// What its rows amount to, from the bytes that are there; equal to [`digest`](Self::digest) unless memory is
    /// broken, or the loader is. Those of all ranks add up to it.
    pub fn recomputed_digest(&self) -> Digest {
        self.lease.slab.digest(self.lease.slot, self.rows)
    }

    /// What a [`Ledger`](crate::ledger::Ledger) notes of it: the whole batch, so that all ranks note the same.
    pub fn entry(&self) -> Entry {
        self.whole
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

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Mutex, PoisonError};

    use ipc_channel::ipc::{self, IpcReceiver};
    use loom::thread::{self, JoinHandle};

    use super::*;
    use crate::message::{FromMember, StreamId};
    use crate::slab::{Layout, Slab, SlabWriter, SlotHeader};
    use crate::tensor::{Dtype, FieldSpec};

    const LEASE: LeaseId = LeaseId(7);
    const SLOT: SlotIndex = SlotIndex(1);
    const ROWS: Rows = Rows { lo: 0, hi: 2 };
    const BYTES: [u8; 6] = [1, 2, 3, 4, 5, 6];

    /// Stack of a modelled thread: the model's own default is too small for a message.
    const STACK_WORDS: usize = 1 << 15;

    /// A slot as workers filled it, and the line on which its release is awaited.
    struct Loader {
        slab: Arc<SlabReader>,
        returns: Arc<Returns>,
        line: Mutex<IpcReceiver<FromMember>>,
        life_line: Arc<UnixStream>,
    }

    impl Loader {
        fn new() -> Self {
            let fields = [FieldSpec::new("image", Dtype::U8, [3])];
            let layout = Layout::new(&fields, ROWS.hi, 2).expect("small");
            let memory = Slab::create("lease", &layout).expect("a few pages");
            let mut writer = SlabWriter::open(memory.writable(), layout.clone()).expect("our own");
            writer.write_header(
                SLOT,
                &SlotHeader { stream: StreamId(0), position: Position::default(), rows: 2, padding: 0 },
            );
            for (row, bytes) in (0..).zip(BYTES.chunks(3)) {
                writer.row_mut(SLOT, 0, row).copy_from_slice(bytes);
            }
            let slab = SlabReader::open(memory.read_only().as_fd(), layout).expect("our own");
            let (releases, line) = ipc::channel().expect("a line");
            let (life_line, _) = UnixStream::pair().expect("a socket pair");
            let returns = Arc::new(Returns::new(releases, slab.layout().slot_bytes(), false));
            Self { slab: Arc::new(slab), returns, line: Mutex::new(line), life_line: Arc::new(life_line) }
        }

        fn lend(&self) -> Batch {
            let lease = Lease {
                slab: Arc::clone(&self.slab),
                returns: Arc::clone(&self.returns),
                life_line: Arc::clone(&self.life_line),
                lease: LEASE,
                slot: SLOT,
            };
            let whole = Entry { position: Position::default(), rows: ROWS.hi, padding: 0, digest: Digest::default() };
            Batch::new(lease, ROWS, whole)
        }

        /// The releases that were sent since this was asked last.
        fn heard(&self) -> Vec<FromMember> {
            let line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
            std::iter::from_fn(|| line.try_recv().ok()).collect()
        }

        /// A reader's look at the bytes: whoever looks must still have the slot.
        fn look(&self, bytes: &[u8]) {
            assert_eq!(bytes, BYTES);
            assert_eq!(self.heard(), [], "the slot was given back while somebody reads it");
        }
    }

    /// Runs `readers` in every order that threads can take. However it went, the slot is given back once, and not before
    /// the last look.
    fn in_every_order(readers: impl Fn(&Arc<Loader>, Batch) -> Vec<JoinHandle<()>> + Send + Sync + 'static) {
        let loader = Arc::new(Loader::new());
        let orders = Arc::new(AtomicUsize::new(0));
        let tried = Arc::clone(&orders);
        loom::model(move || {
            tried.fetch_add(1, Ordering::Relaxed);
            readers(&loader, loader.lend()).into_iter().for_each(|reader| reader.join().expect("it reads"));
            assert_eq!(loader.heard(), [FromMember::Release { leases: vec![LEASE] }]);
        });
        assert!(orders.load(Ordering::Relaxed) > 1, "one order proves nothing");
    }

    fn reader(loader: &Arc<Loader>, read: impl FnOnce(&Loader) + Send + 'static) -> JoinHandle<()> {
        let loader = Arc::clone(loader);
        thread::Builder::new().stack_size(STACK_WORDS).spawn(move || read(&loader)).expect("a modelled thread")
    }

    /// Looks twice, so that another thread may get in between.
    fn look_twice(loader: &Loader, bytes: &[u8]) {
        loader.look(bytes);
        thread::yield_now();
        loader.look(bytes);
    }

    #[test]
    fn two_readers_of_a_batch_give_it_back_once() {
        in_every_order(|loader, batch| {
            let other = batch.clone();
            vec![
                reader(loader, move |loader| look_twice(loader, batch.field("image").expect("it has one"))),
                reader(loader, move |loader| look_twice(loader, other.field("image").expect("it has one"))),
            ]
        });
    }

    #[test]
    fn a_field_keeps_the_batch_that_another_thread_drops() {
        in_every_order(|loader, batch| {
            let field = batch.shared_field("image").expect("it has one");
            vec![
                reader(loader, move |loader| {
                    drop(batch.clone());
                    loader.look(batch.field("image").expect("it has one"));
                }),
                reader(loader, move |loader| look_twice(loader, &field)),
            ]
        });
    }

    #[test]
    fn a_field_cloned_while_the_batch_goes_keeps_it() {
        in_every_order(|loader, batch| {
            let field = batch.shared_field("image").expect("it has one");
            vec![
                reader(loader, move |_| drop(batch)),
                reader(loader, move |loader| {
                    let clone = field.clone();
                    loader.look(&field);
                    drop(field);
                    look_twice(loader, &clone);
                }),
            ]
        });
    }

    #[test]
    fn a_reader_that_panics_gives_its_batch_back() {
        let loader = Arc::new(Loader::new());
        loom::model(move || {
            let batch = loader.lend();
            let field = batch.shared_field("image").expect("it has one");
            let unlucky = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let _batch = batch;
                std::panic::resume_unwind(Box::new("a panic without its message"));
            }));
            assert!(unlucky.is_err());
            loader.look(&field);
            drop(field);
            assert_eq!(loader.heard(), [FromMember::Release { leases: vec![LEASE] }]);
        });
    }
}
