//! Where everything in a slab lies.
//!
//! ```text
//! slab:  | slot 0 | slot 1 | ...                        slots of slot_bytes each
//! slot:  | header | row records | pad | field 0 | field 1 | ...  | pad to the next page
//!        0        64                  ^ page     ^ 64      ^ 64
//!
//! header, 8 bytes wide:                 row record, 8 bytes wide:
//!  0  magic "BATCHMIL"                   0  sample index
//!  8  protocol u32 | stream u32          8  flags u32 | reserved u32
//! 16  epoch
//! 24  step
//! 32  rows u32 | padding rows u32
//! 40  reserved, 24 bytes
//! ```
//! All little-endian. Every offset is computed by both sides from the same facts (fields, batch size, slots), never
//! read from the other. The header informs and is asserted; it decides nothing about who may read or write.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::message::{PROTOCOL, SlotIndex, StreamId};
use crate::position::{Position, Rows};
use crate::tensor::FieldSpec;

/// The unit of mapping; slots begin on one.
pub const PAGE_BYTES: usize = 4096;

/// Every tensor begins on a multiple of this, so that vector instructions may be used on it.
pub(super) const TENSOR_ALIGN_BYTES: usize = 64;

/// The bytes of a slot's header.
pub(super) const HEADER_BYTES: usize = 64;

/// The bytes of one row record.
pub(super) const RECORD_BYTES: usize = 16;

const MAGIC: [u8; 8] = *b"BATCHMIL";

/// Why a slab cannot be laid out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// A batch without tensors.
    #[error("a batch needs at least one field")]
    NoFields,
    /// A count that must not be 0 is 0.
    #[error("a slab needs at least one slot of at least one row")]
    Empty,
    /// The sizes overflow.
    #[error("a batch of {rows} rows of {field} does not fit the address space")]
    TooLarge {
        /// Rows of the batch.
        rows: u32,
        /// The field that is too large.
        field: String,
    },
}

/// Where everything in the slab of one stream lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    fields: Vec<FieldLayout>,
    batch_size: u32,
    slots: u32,
    slot_bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct FieldLayout {
    spec: FieldSpec,
    /// From the slot's start.
    offset: usize,
    row_bytes: usize,
}

impl Layout {
    /// Lays out `slots` slots of `batch_size` rows of `fields`.
    ///
    /// # Errors
    /// When a count is 0 or a size overflows.
    pub fn new(fields: &[FieldSpec], batch_size: u32, slots: u32) -> Result<Self, LayoutError> {
        if fields.is_empty() {
            return Err(LayoutError::NoFields);
        }
        if batch_size == 0 || slots == 0 {
            return Err(LayoutError::Empty);
        }
        let rows = usize_of(batch_size);
        let too_large = |spec: &FieldSpec| LayoutError::TooLarge { rows: batch_size, field: spec.to_string() };
        let records_end = rows.checked_mul(RECORD_BYTES).and_then(|bytes| bytes.checked_add(HEADER_BYTES));
        let mut end = records_end.and_then(|end| end.checked_next_multiple_of(PAGE_BYTES));
        let mut laid_out = Vec::with_capacity(fields.len());
        for spec in fields {
            let place = || {
                let offset = end?.checked_next_multiple_of(TENSOR_ALIGN_BYTES)?;
                let row_bytes = spec.row_bytes()?;
                let field_end = offset.checked_add(row_bytes.checked_mul(rows)?)?;
                Some((FieldLayout { spec: spec.clone(), offset, row_bytes }, field_end))
            };
            let (field, field_end) = place().ok_or_else(|| too_large(spec))?;
            laid_out.push(field);
            end = Some(field_end);
        }
        let last = fields.last().expect("checked above: at least one field");
        let slot_bytes = end.and_then(|end| end.checked_next_multiple_of(PAGE_BYTES)).ok_or_else(|| too_large(last))?;
        let slab_bytes = slot_bytes.checked_mul(usize_of(slots));
        if slab_bytes.is_none_or(|bytes| isize::try_from(bytes).is_err()) {
            return Err(too_large(last));
        }
        Ok(Self { fields: laid_out, batch_size, slots, slot_bytes })
    }

    /// The bytes of one slot; a multiple of [`PAGE_BYTES`].
    pub fn slot_bytes(&self) -> usize {
        self.slot_bytes
    }

    /// The bytes of the whole slab.
    pub fn slab_bytes(&self) -> usize {
        self.slot_bytes * usize_of(self.slots)
    }

    /// How many slots there are.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Rows of a full batch.
    pub fn batch_size(&self) -> u32 {
        self.batch_size
    }

    /// The tensors of a batch, in slot order.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = &FieldSpec> {
        self.fields.iter().map(|field| &field.spec)
    }

    /// The number of the field called `name`.
    pub fn field(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.spec.name == name)
    }

    /// The header of `slot`, as bytes of the slab.
    pub(super) fn header(&self, slot: SlotIndex) -> Range<usize> {
        let start = self.slot_start(slot);
        start..start + HEADER_BYTES
    }

    /// The records of `rows`, as bytes of the slab.
    pub(super) fn records(&self, slot: SlotIndex, rows: Rows) -> Range<usize> {
        self.rows_at(slot, HEADER_BYTES, RECORD_BYTES, rows)
    }

    /// `rows` of field number `field`, as bytes of the slab.
    pub(super) fn rows(&self, slot: SlotIndex, field: usize, rows: Rows) -> Range<usize> {
        let field = &self.fields[field];
        self.rows_at(slot, field.offset, field.row_bytes, rows)
    }

    /// Whether `slot` and `rows` lie inside the slab: asked of everything that comes from a peer.
    pub fn holds(&self, slot: SlotIndex, rows: Rows) -> bool {
        slot.0 < self.slots && rows.lo < rows.hi && rows.hi <= self.batch_size
    }

    fn rows_at(&self, slot: SlotIndex, offset: usize, row_bytes: usize, rows: Rows) -> Range<usize> {
        assert!(rows.lo <= rows.hi && rows.hi <= self.batch_size, "{rows} are outside a batch of {}", self.batch_size);
        let start = self.slot_start(slot) + offset;
        start + usize_of(rows.lo) * row_bytes..start + usize_of(rows.hi) * row_bytes
    }

    fn slot_start(&self, slot: SlotIndex) -> usize {
        assert!(slot.0 < self.slots, "slot {slot} is outside a slab of {}", self.slots);
        usize_of(slot.0) * self.slot_bytes
    }
}

/// What a slot's header says of its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotHeader {
    /// The stream the batch is of.
    pub stream: StreamId,
    /// Its place in the stream.
    pub position: Position,
    /// Its rows, padding included.
    pub rows: u32,
    /// Rows at its end that only fill it up.
    pub padding: u32,
}

impl SlotHeader {
    /// Writes the header as the picture above draws it.
    pub(super) fn write(&self, bytes: &mut [u8]) {
        let words = [
            MAGIC,
            pair(PROTOCOL, self.stream.0),
            self.position.epoch.to_le_bytes(),
            self.position.step.to_le_bytes(),
            pair(self.rows, self.padding),
        ];
        bytes.fill(0);
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word);
        }
    }

    /// Reads a header, or `None` where none of this protocol stands.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut words = bytes.chunks_exact(8).map(|word| <[u8; 8]>::try_from(word).expect("chunks of 8"));
        let mut next = || words.next().expect("a header has 8 words");
        if next() != MAGIC {
            return None;
        }
        let (protocol, stream) = unpair(next());
        let position = Position { epoch: u64::from_le_bytes(next()), step: u64::from_le_bytes(next()) };
        let (rows, padding) = unpair(next());
        (protocol == PROTOCOL).then_some(Self { stream: StreamId(stream), position, rows, padding })
    }
}

/// What a row's record says of its sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRecord {
    /// The sample's index in the dataset.
    pub index: u64,
    /// Whether the row only fills the batch up ([`Tail::Pad`](crate::position::Tail::Pad)).
    pub padding: bool,
    /// Whether the sample stands in for one that cannot be read.
    pub substituted: bool,
    /// Whether the sample cannot be read: the row's tensors are zeros and must not count.
    pub masked: bool,
}

const FLAG_PADDING: u32 = 1;
const FLAG_SUBSTITUTED: u32 = 2;
const FLAG_MASKED: u32 = 4;

impl RowRecord {
    /// The record as it stands in the slab.
    pub(crate) fn bytes(self) -> [u8; RECORD_BYTES] {
        let flags = [(self.padding, FLAG_PADDING), (self.substituted, FLAG_SUBSTITUTED), (self.masked, FLAG_MASKED)];
        let flags = flags.into_iter().filter(|(set, _)| *set).fold(0, |all, (_, flag)| all | flag);
        let mut bytes = [0; RECORD_BYTES];
        bytes[..8].copy_from_slice(&self.index.to_le_bytes());
        bytes[8..].copy_from_slice(&pair(flags, 0));
        bytes
    }

    pub(super) fn read(bytes: &[u8]) -> Self {
        let word = |at: usize| <[u8; 8]>::try_from(&bytes[at..at + 8]).expect("8 bytes");
        let (flags, _) = unpair(word(8));
        Self {
            index: u64::from_le_bytes(word(0)),
            padding: flags & FLAG_PADDING != 0,
            substituted: flags & FLAG_SUBSTITUTED != 0,
            masked: flags & FLAG_MASKED != 0,
        }
    }
}

fn pair(low: u32, high: u32) -> [u8; 8] {
    (u64::from(low) | u64::from(high) << 32).to_le_bytes()
}

fn unpair(word: [u8; 8]) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = word;
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
}

/// Widens a count: Batchmill runs on machines of 32 bits and more only.
pub(super) fn usize_of(count: u32) -> usize {
    usize::try_from(count).expect("a usize has at least 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Dtype;

    fn photos() -> Vec<FieldSpec> {
        vec![FieldSpec::new("image", Dtype::U8, [5, 7, 3]), FieldSpec::new("label", Dtype::I64, [])]
    }

    #[test]
    fn slots_begin_on_pages_and_tensors_on_64() {
        let layout = Layout::new(&photos(), 300, 3).expect("small");
        let all = Rows { lo: 0, hi: 300 };
        for slot in (0..3).map(SlotIndex) {
            assert_eq!(layout.header(slot).start % PAGE_BYTES, 0);
            assert_eq!(layout.records(slot, all).start, layout.header(slot).end);
            assert!(layout.records(slot, all).end <= layout.rows(slot, 0, all).start);
            assert_eq!(layout.rows(slot, 0, all).start % PAGE_BYTES, 0);
            assert_eq!(layout.rows(slot, 0, all).len(), 300 * 105);
            assert!(layout.rows(slot, 0, all).end <= layout.rows(slot, 1, all).start);
            assert_eq!(layout.rows(slot, 1, all).start % TENSOR_ALIGN_BYTES, 0);
            assert!(layout.rows(slot, 1, all).end <= layout.header(slot).start + layout.slot_bytes());
        }
        assert_eq!(layout.slab_bytes(), 3 * layout.slot_bytes());
    }

    #[test]
    fn impossible_layouts_are_refused() {
        let huge = [FieldSpec::new("image", Dtype::F64, [usize::MAX / 8, 2])];
        assert!(matches!(Layout::new(&huge, 1, 1), Err(LayoutError::TooLarge { .. })));
        let large = [FieldSpec::new("image", Dtype::U8, [usize::MAX / 16])];
        assert!(matches!(Layout::new(&large, 1, u32::MAX), Err(LayoutError::TooLarge { .. })));
        assert_eq!(Layout::new(&[], 1, 1), Err(LayoutError::NoFields));
        assert_eq!(Layout::new(&photos(), 0, 1), Err(LayoutError::Empty));
        assert_eq!(Layout::new(&photos(), 1, 0), Err(LayoutError::Empty));
    }

    #[test]
    fn a_peer_cannot_name_what_is_outside() {
        let layout = Layout::new(&photos(), 4, 2).expect("small");
        assert!(layout.holds(SlotIndex(1), Rows { lo: 0, hi: 4 }));
        assert!(!layout.holds(SlotIndex(2), Rows { lo: 0, hi: 4 }));
        assert!(!layout.holds(SlotIndex(1), Rows { lo: 0, hi: 5 }));
        assert!(!layout.holds(SlotIndex(1), Rows { lo: 3, hi: 3 }));
    }

    /// The bytes two processes exchange: a change here must come with a new [`PROTOCOL`].
    #[test]
    fn header_and_record_keep_their_bytes() {
        let header =
            SlotHeader { stream: StreamId(7), position: Position { epoch: 1, step: 0x0203 }, rows: 9, padding: 4 };
        let mut bytes = [0xff; HEADER_BYTES];
        header.write(&mut bytes);
        expect_test::expect![[r#"
            [66, 65, 84, 67, 72, 77, 73, 76]
            [5, 0, 0, 0, 7, 0, 0, 0]
            [1, 0, 0, 0, 0, 0, 0, 0]
            [3, 2, 0, 0, 0, 0, 0, 0]
            [9, 0, 0, 0, 4, 0, 0, 0]
            [0, 0, 0, 0, 0, 0, 0, 0]
            [0, 0, 0, 0, 0, 0, 0, 0]
            [0, 0, 0, 0, 0, 0, 0, 0]
        "#]]
        .assert_eq(&bytes.chunks(8).map(|word| format!("{word:?}\n")).collect::<String>());
        assert_eq!(SlotHeader::read(&bytes), Some(header));
        assert_eq!(SlotHeader::read(&[0; HEADER_BYTES]), None);

        let record = RowRecord { index: 0x0102, padding: true, substituted: false, masked: false };
        assert_eq!(record.bytes(), [2, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(RowRecord::read(&record.bytes()), record);
        let record = RowRecord { index: 3, padding: false, substituted: true, masked: true };
        assert_eq!(record.bytes()[8..], [6, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(RowRecord::read(&record.bytes()), record);
    }
}
