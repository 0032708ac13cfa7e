//! Reads records by number from shards that are read in order.

use std::collections::BTreeMap;
use std::fmt;

use super::{IterableDataset, Record, Records};
use crate::dataset::SampleError;

/// Shards that are being read at once; the one that was not asked for the longest is closed first.
pub(crate) const CURSORS_MAX: usize = 64;

/// Bytes of records that were passed over and are kept; the oldest are dropped first.
pub(super) const KEPT_BYTES_MAX: usize = 128 << 20;

/// What a kept record holds besides its own bytes.
const KEPT_RECORD_BYTES: usize = 256;

/// How far before the record that is wanted a shard is opened: what stands there is likely to be wanted next, and without
/// it each such record would open the shard again.
const LOOK_BACK: u64 = 1024;

/// Shards being read, and what was passed over in them.
///
/// None of it is state of a stream: whatever is lost here is read again.
#[derive(Default)]
pub(super) struct Reader {
    /// The one that was used last stands last.
    cursors: Vec<Cursor>,
    kept: Kept,
}

impl Reader {
    /// Reads record `record` of `shard`.
    ///
    /// # Errors
    /// That of the dataset; [`SampleError::Changed`] when the shard ends before the record.
    pub(super) fn read(
        &mut self,
        dataset: &dyn IterableDataset,
        shard: u64,
        record: u64,
    ) -> Result<Record, SampleError> {
        if let Some(kept) = self.kept.take((shard, record)) {
            return Ok(kept);
        }
        let is_seekable = dataset.is_seekable(shard);
        // A cursor is only put back when all went well.
        let place = self.cursors.iter().position(|cursor| cursor.shard == shard);
        let mut cursor = match place.map(|place| self.cursors.remove(place)) {
            Some(cursor) if cursor.next == record || (cursor.next < record && !is_seekable) => cursor,
            _ => {
                let first = if is_seekable { record } else { record.saturating_sub(LOOK_BACK) };
                Cursor { shard, next: first, records: dataset.records(shard, first)? }
            }
        };
        while cursor.next < record {
            let place = cursor.next;
            self.kept.put((shard, place), cursor.advance(dataset)?);
        }
        let found = cursor.advance(dataset)?;
        if self.cursors.len() >= CURSORS_MAX {
            self.cursors.remove(0);
        }
        self.cursors.push(cursor);
        Ok(found)
    }

    /// Stops reading a shard whose last record has been read.
    pub(super) fn close(&mut self, shard: u64) {
        self.cursors.retain(|cursor| cursor.shard != shard);
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader({} open, {} bytes kept)", self.cursors.len(), self.kept.bytes)
    }
}

/// How far a shard has been read.
struct Cursor {
    shard: u64,
    next: u64,
    records: Records,
}

impl Cursor {
    fn advance(&mut self, dataset: &dyn IterableDataset) -> Result<Record, SampleError> {
        let record = self.records.next().unwrap_or_else(|| {
            let sample = dataset.name(self.shard, self.next);
            Err(SampleError::Changed { sample, found: "its shard ends before it".to_owned() })
        })?;
        self.next += 1;
        Ok(record)
    }
}

/// Records by shard and number.
#[derive(Default)]
struct Kept {
    records: BTreeMap<(u64, u64), (u64, Record)>,
    /// The same, in the order in which they came.
    ages: BTreeMap<u64, (u64, u64)>,
    bytes: usize,
    next_age: u64,
}

impl Kept {
    fn put(&mut self, place: (u64, u64), record: Record) {
        drop(self.take(place));
        let bytes = record.bytes.saturating_add(KEPT_RECORD_BYTES);
        if bytes > KEPT_BYTES_MAX {
            return;
        }
        self.bytes += bytes;
        self.ages.insert(self.next_age, place);
        self.records.insert(place, (self.next_age, record));
        self.next_age += 1;
        while self.bytes > KEPT_BYTES_MAX
            && let Some((_, oldest)) = self.ages.first_key_value()
        {
            drop(self.take(*oldest));
        }
    }

    fn take(&mut self, place: (u64, u64)) -> Option<Record> {
        let (age, record) = self.records.remove(&place)?;
        self.ages.remove(&age);
        self.bytes -= record.bytes.saturating_add(KEPT_RECORD_BYTES);
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;

    /// Shards without end, of records of so many bytes.
    #[derive(Debug)]
    struct Endless {
        bytes: usize,
    }

    impl IterableDataset for Endless {
        fn shards(&self) -> u64 {
            u64::MAX
        }

        fn records(&self, _: u64, _: u64) -> Result<Records, SampleError> {
            let bytes = self.bytes;
            Ok(Box::new(std::iter::repeat_with(move || Ok(Record::new(bytes, || Ok(Sample::new()))))))
        }

        fn name(&self, _: u64, _: u64) -> String {
            String::new()
        }
    }

    #[test]
    fn what_is_kept_and_open_is_bounded() {
        for bytes in [1 << 20, KEPT_BYTES_MAX, usize::MAX] {
            let mut reader = Reader::default();
            for shard in 0..70 {
                for record in [1100, 1090, 100] {
                    reader.read(&Endless { bytes }, shard, record).unwrap();
                    assert!(reader.kept.bytes <= KEPT_BYTES_MAX && reader.cursors.len() <= CURSORS_MAX);
                }
            }
            assert_eq!(reader.cursors.len(), CURSORS_MAX);
            let held: usize = reader.kept.records.values().map(|(_, record)| record.bytes + KEPT_RECORD_BYTES).sum();
            assert_eq!((held, reader.kept.ages.len()), (reader.kept.bytes, reader.kept.records.len()));
        }
    }
}
