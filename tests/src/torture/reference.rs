//! What every batch must be, and each trainer's rows of it: made by this process alone, from the spec and the files.

use std::collections::BTreeMap;
use std::error::Error;
use std::ops::Range;
use std::path::Path;

use batchmill_datasets::pipeline::{Pipeline, RowLabel, RowSink};
use batchmill_datasets::spec::StreamSpec;
use batchmill_protocol::position::{Extent, Position, Rows};
use batchmill_protocol::share::{Shard, Share};
use batchmill_protocol::tensor::FieldSpec;

use super::digest::digest;

/// Digests that are remembered; beyond that many they are made again.
const REMEMBERED_MAX: usize = 1 << 16;

/// The stream as one process makes it.
pub(super) struct Reference {
    pipeline: Pipeline,
    fields: Vec<FieldSpec>,
    /// How each trainer shares.
    shares: Vec<Share>,
    /// For each trainer, by number.
    known: BTreeMap<Position, Vec<u128>>,
}

impl Reference {
    /// Opens the stream that the `[stream.NAME]` table says, with its relative paths starting at `folder`.
    pub(super) fn open(name: &str, table: &str, folder: &Path, shares: Vec<Share>) -> Result<Self, Box<dyn Error>> {
        let registry = batchmill_datasets::builtin();
        let spec = StreamSpec::from_table(name, table.parse()?, folder)?;
        let pipeline = registry.pipeline(&spec)?;
        Ok(Self { fields: pipeline.survey(&mut |_, _| {})?, pipeline, shares, known: BTreeMap::new() })
    }

    /// How far one epoch reaches.
    pub(super) fn extent(&self) -> Extent {
        self.pipeline.extent()
    }

    /// The tensors of a batch.
    pub(super) fn fields(&self) -> &[FieldSpec] {
        &self.fields
    }

    /// The digest of what a trainer reads of the batch at `position`.
    pub(super) fn digest(&mut self, trainer: usize, position: Position) -> Result<u128, Box<dyn Error>> {
        if let Some(known) = self.known.get(&position) {
            return Ok(known[trainer]);
        }
        let extent = self.pipeline.extent();
        let mut heap = Heap::new(&self.fields, extent.rows(position.step));
        let rows = Rows { lo: 0, hi: extent.rows(position.step) };
        self.pipeline.fill(&self.fields, position, rows, &mut heap)?;
        let made: Vec<_> = self.shares.iter().map(|share| heap.digest(part(share, rows.len() as usize))).collect();
        if self.known.len() >= REMEMBERED_MAX {
            self.known.clear();
        }
        let digest = made[trainer];
        self.known.insert(position, made);
        Ok(digest)
    }
}

/// The rows that a trainer reads of so many: all, or the equal part that is its rank's.
fn part(share: &Share, rows: usize) -> Range<usize> {
    match share {
        Share::Private | Share::Broadcast { .. } => 0..rows,
        Share::Sharded(Shard { rank, world, .. }) => {
            let (rank, part) = (*rank as usize, rows / *world as usize);
            rank * part..(rank + 1) * part
        }
    }
}

/// One batch in memory of our own.
struct Heap {
    indices: Vec<u64>,
    padding: Vec<bool>,
    /// The bytes of one row, and those of all rows, of each field.
    fields: Vec<(usize, Vec<u8>)>,
}

impl Heap {
    fn new(fields: &[FieldSpec], rows: u32) -> Self {
        let rows = rows as usize;
        let room = |field: &FieldSpec| {
            let row_bytes = field.row_bytes().expect("the pipeline has made such a row");
            (row_bytes, vec![0; row_bytes * rows])
        };
        Self { indices: vec![0; rows], padding: vec![false; rows], fields: fields.iter().map(room).collect() }
    }

    /// The digest of some of its rows.
    fn digest(&self, rows: Range<usize>) -> u128 {
        let fields = self.fields.iter().map(|(row_bytes, bytes)| &bytes[rows.start * row_bytes..rows.end * row_bytes]);
        let count = |rows: usize| u32::try_from(rows).expect("a batch has no more");
        let padding = self.padding[rows.clone()].iter().filter(|padding| **padding).count();
        digest(count(rows.len()), count(padding), self.indices[rows.clone()].iter().copied(), fields)
    }
}

impl RowSink for Heap {
    fn attempt(&mut self, _: u64, _: &str) {}

    fn finish(&mut self, row: u32, label: RowLabel) {
        self.indices[row as usize] = label.index;
        self.padding[row as usize] = label.padding;
    }

    fn room(&mut self, row: u32, field: usize) -> &mut [u8] {
        let (row_bytes, bytes) = &mut self.fields[field];
        let start = row as usize * *row_bytes;
        &mut bytes[start..start + *row_bytes]
    }
}
