//! Batches in one process: a stream as an iterator, without loader, workers or shared memory.

use batchmill_protocol::position::{Position, Rows};
use batchmill_protocol::tensor::{Dtype, FieldSpec, Ragged};

use crate::pipeline::{BadSample, FillError, Pipeline, RowLabel, RowSink};

/// The batches of one epoch, in order, made one after the other by the thread that asks for them.
///
/// They are bit for bit what a loader delivers of the same spec.
///
/// ```
/// use batchmill_datasets::spec::StreamSpec;
///
/// let table = r#"
///     dataset = { kind = "synthetic", len = 100, shape = [8, 8, 3] }
///     sampler = "shuffled"
///     batch_size = 32
/// "#;
/// let spec = StreamSpec::from_table("train", table.parse()?, "/".as_ref())?;
/// let pipeline = batchmill_datasets::builtin().pipeline(&spec)?;
/// for batch in pipeline.batches(0)? {
///     let batch = batch?;
///     let labels = batch.i64s("label").expect("synthetic samples have labels");
///     println!("{}: {} rows, {} bytes of images", batch.position(), labels.len(), batch.field("image").map_or(0, <[u8]>::len));
/// }
/// # assert_eq!(pipeline.batches(0)?.map(|batch| batch.map(|batch| batch.rows())).collect::<Result<Vec<_>, _>>()?, [32, 32, 32, 4]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Batches<'a> {
    pipeline: &'a Pipeline,
    fields: Vec<FieldSpec>,
    next: Position,
}

impl Pipeline {
    /// The batches of `epoch`.
    ///
    /// # Errors
    /// [`FillError`] when no sample tells what the fields are.
    pub fn batches(&self, epoch: u64) -> Result<Batches<'_>, FillError> {
        let fields = self.survey(&mut |_, _| ())?;
        Ok(Batches { pipeline: self, fields, next: Position { epoch, step: 0 } })
    }

    /// The batch at `position`, whose `fields` are those of the stream or a part of them.
    ///
    /// # Errors
    /// [`FillError`] when one of its samples cannot be made and `on_bad` is "fail".
    pub fn batch(&self, fields: &[FieldSpec], position: Position) -> Result<Batch, FillError> {
        let steps = self.extent().steps();
        let rows = if position.step < steps { self.extent().rows(position.step) } else { 0 };
        let mut batch = Batch::new(fields.to_vec(), position, rows);
        // Of a step that the epoch does not have, one row is asked for, to be told so.
        batch.bad = self.fill(fields, position, Rows { lo: 0, hi: rows.max(1) }, &mut batch)?;
        Ok(batch)
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<Batch, FillError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next.step >= self.pipeline.extent().steps() {
            return None;
        }
        let position = self.next;
        self.next.step += 1;
        Some(self.pipeline.batch(&self.fields, position))
    }
}

/// One batch in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    fields: Vec<FieldSpec>,
    /// The bytes of each field.
    bytes: Vec<Vec<u8>>,
    position: Position,
    labels: Vec<RowLabel>,
    bad: Vec<BadSample>,
}

impl Batch {
    fn new(fields: Vec<FieldSpec>, position: Position, rows: u32) -> Self {
        let room = |field: &FieldSpec| vec![0; row_bytes(field) * rows as usize];
        let bytes = fields.iter().map(room).collect();
        Self { fields, bytes, position, labels: Vec::with_capacity(rows as usize), bad: Vec::new() }
    }

    /// Its place in the stream.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Its rows, padding included.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    /// What stands in each row.
    pub fn labels(&self) -> &[RowLabel] {
        &self.labels
    }

    /// The samples that could not be used.
    pub fn bad(&self) -> &[BadSample] {
        &self.bad
    }

    /// What the fields are, without the batch's extent.
    pub fn fields(&self) -> &[FieldSpec] {
        &self.fields
    }

    /// The bytes of a field, `[rows, ...]`, row-major, little-endian; `None` when there is no such field.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        let place = self.fields.iter().position(|field| field.name == name)?;
        Some(&self.bytes[place])
    }

    /// The numbers of an i64 field; `None` when there is no such field, or it has another dtype.
    pub fn i64s(&self, name: &str) -> Option<Vec<i64>> {
        Some(self.elements(name, Dtype::I64)?.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect())
    }

    /// The numbers of an f32 field; `None` when there is no such field, or it has another dtype.
    pub fn f32s(&self, name: &str) -> Option<Vec<f32>> {
        Some(self.elements(name, Dtype::F32)?.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }

    /// Values and offsets of a field that [`collate`](crate::collate) made `ragged`.
    pub fn ragged(&self, name: &str) -> Option<Ragged> {
        let field = self.fields.iter().find(|field| field.name == name)?;
        Ragged::new(self.field(name)?, self.field(&format!("{name}_len"))?, field.item_bytes()?)
    }

    fn elements<const BYTES: usize>(&self, name: &str, dtype: Dtype) -> Option<&[[u8; BYTES]]> {
        let field = self.fields.iter().find(|field| field.name == name && field.dtype == dtype)?;
        Some(self.field(&field.name)?.as_chunks().0)
    }
}

impl RowSink for Batch {
    fn attempt(&mut self, _: u64, _: &str) {}

    fn room(&mut self, row: u32, field: usize) -> &mut [u8] {
        let bytes = row_bytes(&self.fields[field]);
        &mut self.bytes[field][row as usize * bytes..][..bytes]
    }

    fn rooms(&mut self, rows: Rows, field: usize) -> Option<&mut [u8]> {
        let bytes = row_bytes(&self.fields[field]);
        Some(&mut self.bytes[field][rows.lo as usize * bytes..rows.hi as usize * bytes])
    }

    fn finish(&mut self, _: u32, label: RowLabel) {
        self.labels.push(label);
    }
}

fn row_bytes(field: &FieldSpec) -> usize {
    field.row_bytes().expect("a sample with these bytes was in memory")
}
