//! Many rows at once, straight from where the dataset has them into the batch.
//!
//! A sample of a few hundred bytes is copied in less time than it takes to name it, to put it into a
//! [`Sample`](crate::sample::Sample) and to look its fields up. Where nothing is done to samples, or only what a table says
//! of each byte, whole blocks of rows are copied field by field, and are the same to the last bit.

use std::borrow::Cow;

use batchmill_protocol::position::{Position, Rows};
use batchmill_protocol::tensor::{Dtype, FieldSpec};

use super::{Pipeline, RowLabel, RowSink};
use crate::scratch;
use crate::transform::ByteTable;

/// The bytes of a block, unless one row is more: it is still in the cache when it is digested.
const BLOCK_BYTES: usize = 64 << 10;

impl Pipeline {
    /// Fills as many of `rows`, from the first on, as can be filled at once, and says how many; the others are to be made
    /// one by one, and what is wrong with them is found then.
    pub(super) fn gather(&self, fields: &[FieldSpec], position: Position, rows: Rows, out: &mut dyn RowSink) -> u32 {
        let Some(ways) = self.ways(fields) else { return 0 };
        // Of no samples, for whether it is any use to ask.
        if !ways.iter().all(|way| self.dataset.gather(&[], &way.source, &mut [])) {
            return 0;
        }
        let Some(labels) = self.labels(position, rows) else { return 0 };
        let (Some(first), Some(row_bytes)) =
            (labels.first(), fields.iter().map(FieldSpec::row_bytes).sum::<Option<usize>>())
        else {
            return 0;
        };
        out.attempt_many(&self.dataset.name(first.index));
        let indices: Vec<u64> = labels.iter().map(|label| label.index).collect();
        let block_rows = (BLOCK_BYTES / row_bytes.max(1)).max(1);
        let mut done = rows.lo;
        for (labels, indices) in labels.chunks(block_rows).zip(indices.chunks(block_rows)) {
            let block = Rows { lo: done, hi: done + u32::try_from(labels.len()).expect("a block is part of a batch") };
            for (place, way) in ways.iter().enumerate() {
                let Some(room) = out.rooms(block, place) else { return done - rows.lo };
                if !self.gather_field(indices, way, room) {
                    return done - rows.lo;
                }
            }
            out.finish_many(block.lo, labels);
            done = block.hi;
        }
        done - rows.lo
    }

    /// How each field comes out of the dataset; `None` when something is done to samples that no table says.
    fn ways<'a>(&self, fields: &'a [FieldSpec]) -> Option<Vec<Way<'a>>> {
        let transform = match &self.transforms[..] {
            [] => None,
            [only] => Some(&*only.transform),
            _ => return None,
        };
        // Who wants no field at all wants the samples read.
        if !self.collate.is_plain() || fields.is_empty() {
            return None;
        }
        let table = |field: &FieldSpec| transform?.table(field);
        let ways: Vec<_> = fields.iter().map(|field| Way::new(field, table(field))).collect();
        // A transform that has no table, or not for a field that is delivered, does something else.
        let is_known = transform.is_none() || ways.iter().any(|way| way.table.is_some());
        is_known.then_some(ways)
    }

    /// What stands in each row; `None` when one of the samples must not be read or is not there.
    fn labels(&self, position: Position, rows: Rows) -> Option<Vec<RowLabel>> {
        let (samples, start) = (self.extent.samples, position.step * u64::from(self.extent.batch_size));
        let first_padding = self.extent.rows(position.step) - self.extent.padding(position.step);
        let label = |row: u32| {
            let index = self.index_at(position.epoch, (start + u64::from(row)) % samples).ok()?;
            let padding = row >= first_padding;
            self.quarantine.reason(index).is_none().then_some(RowLabel {
                index,
                padding,
                substituted: false,
                masked: false,
            })
        };
        (rows.lo..rows.hi).map(label).collect()
    }

    fn gather_field(&self, indices: &[u64], way: &Way<'_>, room: &mut [u8]) -> bool {
        let Some(table) = &way.table else { return self.dataset.gather(indices, &way.source, room) };
        let mut bytes = scratch::take(room.len() / size_of::<f32>());
        let gathered = self.dataset.gather(indices, &way.source, &mut bytes);
        if gathered {
            table.write(&bytes, room);
        }
        scratch::give(bytes);
        gathered
    }
}

/// How one field comes out of the dataset.
struct Way<'a> {
    /// As the dataset has it.
    source: Cow<'a, FieldSpec>,
    /// What is made of its bytes.
    table: Option<ByteTable>,
}

impl<'a> Way<'a> {
    fn new(field: &'a FieldSpec, table: Option<ByteTable>) -> Self {
        let bytes = || FieldSpec { dtype: Dtype::U8, ..field.clone() };
        Self { source: if table.is_some() { Cow::Owned(bytes()) } else { Cow::Borrowed(field) }, table }
    }
}
