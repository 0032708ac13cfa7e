//! What every batch must be: made by this process alone, from the spec and the files.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use batchmill_datasets::pipeline::{Pipeline, RowLabel, RowSink};
use batchmill_datasets::spec::StreamSpec;
use batchmill_protocol::position::{Extent, Position, Rows};
use batchmill_protocol::tensor::FieldSpec;

use super::digest::digest;

/// Digests that are remembered; beyond that many they are made again.
const REMEMBERED_MAX: usize = 1 << 16;

/// The stream as one process makes it.
pub(super) struct Reference {
    pipeline: Pipeline,
    fields: Vec<FieldSpec>,
    known: BTreeMap<Position, u128>,
}

impl Reference {
    /// Opens the stream that the `[stream.NAME]` table says, with its relative paths starting at `folder`.
    pub(super) fn open(name: &str, table: &str, folder: &Path) -> Result<Self, Box<dyn Error>> {
        let registry = batchmill_datasets::builtin();
        let spec = StreamSpec::from_table(name, table.parse()?, folder)?;
        let pipeline = registry.pipeline(&spec)?;
        Ok(Self { fields: pipeline.survey(&mut |_, _| {})?, pipeline, known: BTreeMap::new() })
    }

    /// How far one epoch reaches.
    pub(super) fn extent(&self) -> Extent {
        self.pipeline.extent()
    }

    /// The tensors of a batch.
    pub(super) fn fields(&self) -> &[FieldSpec] {
        &self.fields
    }

    /// The digest of the batch at `position`.
    pub(super) fn digest(&mut self, position: Position) -> Result<u128, Box<dyn Error>> {
        if let Some(known) = self.known.get(&position) {
            return Ok(*known);
        }
        let extent = self.pipeline.extent();
        let mut heap = Heap::new(&self.fields, extent.rows(position.step));
        let rows = Rows { lo: 0, hi: extent.rows(position.step) };
        self.pipeline.fill(&self.fields, position, rows, &mut heap)?;
        let fields = heap.fields.iter().map(|(_, bytes)| bytes.as_slice());
        let made = digest(rows.len(), heap.padding, heap.indices.iter().copied(), fields);
        if self.known.len() >= REMEMBERED_MAX {
            self.known.clear();
        }
        self.known.insert(position, made);
        Ok(made)
    }
}

/// One batch in memory of our own.
struct Heap {
    indices: Vec<u64>,
    padding: u32,
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
        Self { indices: vec![0; rows], padding: 0, fields: fields.iter().map(room).collect() }
    }
}

impl RowSink for Heap {
    fn attempt(&mut self, _: u64, _: &str) {}

    fn finish(&mut self, row: u32, label: RowLabel) {
        self.indices[row as usize] = label.index;
        self.padding += u32::from(label.padding);
    }

    fn room(&mut self, row: u32, field: usize) -> &mut [u8] {
        let (row_bytes, bytes) = &mut self.fields[field];
        let start = row as usize * *row_bytes;
        &mut bytes[start..start + *row_bytes]
    }
}
