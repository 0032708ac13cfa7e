//! A table of numbers in a CSV file.

mod read;

use std::path::PathBuf;

use batchmill_protocol::tensor::{Dtype, FieldSpec};
use serde::{Deserialize, Serialize};

use super::csv_columns::{self, ColumnOptions, INPUT, LABEL, TARGET};
use super::csv_file::delimiter_from_options;
use super::gathering;
use super::packed::unpack;
use crate::dataset::{MapDataset, SampleError};
use crate::options::Options;
use crate::sample::{Sample, ValueError};
use crate::source::{Index, OpenError, Source};
use crate::spec::SpecError;

const MAGIC: [u8; 8] = *b"bmtable1";

/// Bytes of a cell in the index: an `f32`, or a label's `u32`.
const CELL_BYTES: usize = 4;

/// The kind `csv-table`: a `TensorDataset` of what `pandas.read_csv` returns.
///
/// Options: `file`; `features`, the columns that make up `input` (default: all that are no targets and have a number, or
/// nothing, in the first row); `targets`, the columns to be predicted (default none); `target_kind`, "class" or
/// "number" (default "class" for one target whose first value is a name or an integer, "number" otherwise); `classes`,
/// the names of the classes by label; `missing`, the number put where a feature has none (default: refused);
/// `delimiter`, ",", ";" or "tab" (default by the file's name: "tab" for `.tsv`); `header`, whether the first row has the
/// names of the columns (default true), which otherwise are "0", "1" and so on.
///
/// Numbers are decimal, with or without point and exponent, and become the nearest `f32`. Those that `f32` has none for,
/// such as 1e400, and infinities are refused. A cell is missing when it is empty or, in any case of letters, `nan`, `na`,
/// `n/a`, `null` or `none`; `missing = nan` keeps it as NaN. A missing target is refused in any case: there would be
/// nothing to learn. Class labels are names or integers from 0, as in `image-folder-csv`.
///
/// The whole table lies in the index, 4 bytes a number, and is shared by all workers: the file is not read again.
///
/// Shapes: `input`: `[features]`, f32; for a class `label`: [], i64; for numbers `target`: [] for one, `[targets]` for
/// several, f32.
#[derive(Clone, Debug)]
pub struct CsvTable {
    file: PathBuf,
    columns: ColumnOptions,
    delimiter: u8,
}

impl CsvTable {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when one is missing or has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let file = options.path("file")?;
        let columns = ColumnOptions::from_options(options)?;
        Ok(Self { delimiter: delimiter_from_options(options, &file)?, file, columns })
    }
}

impl Source for CsvTable {
    fn index(&self) -> Result<Vec<u8>, OpenError> {
        read::read(self)
    }

    fn open(self: Box<Self>, index: Index) -> Result<Box<dyn MapDataset>, OpenError> {
        let opened = Opened::new(self.file.clone(), index);
        let opened = opened
            .ok_or_else(|| OpenError::file(&self.file, "the index is damaged or of another version; open it again"))?;
        Ok(Box::new(opened))
    }
}

/// What the index holds: behind each other all rows of `f32`, features before targets, and all labels as `u32`.
#[derive(Debug, Serialize, Deserialize)]
struct Table {
    rows: usize,
    /// The names of the columns in `input`.
    features: Vec<String>,
    /// The names of the columns in `target`.
    targets: Vec<String>,
    /// The column of the labels, and the names of the classes.
    label: Option<(String, Vec<String>)>,
}

impl Table {
    /// Numbers of a row, without its label.
    fn width(&self) -> usize {
        self.features.len() + self.targets.len()
    }

    /// Bytes of all rows, without the labels.
    fn numbers_bytes(&self) -> Option<usize> {
        self.rows.checked_mul(self.width())?.checked_mul(CELL_BYTES)
    }

    fn payload_bytes(&self) -> Option<usize> {
        let labels_bytes = if self.label.is_some() { self.rows.checked_mul(CELL_BYTES)? } else { 0 };
        self.numbers_bytes()?.checked_add(labels_bytes)
    }
}

/// The opened dataset: the index is shared by all workers.
#[derive(Debug)]
struct Opened {
    file: PathBuf,
    table: Table,
    labels_start: usize,
    index: Index,
}

impl Opened {
    /// `None` when the index is no table.
    fn new(file: PathBuf, index: Index) -> Option<Self> {
        let (payload_bytes, table): (usize, Table) = unpack(&index, MAGIC)?;
        let labels_start = table.numbers_bytes()?;
        (table.payload_bytes()? == payload_bytes).then_some(Self { file, table, labels_start, index })
    }

    /// A number of the table as it is stored.
    fn number_at(&self, row: usize, column: usize) -> Option<f64> {
        let start = (row * self.table.width() + column) * CELL_BYTES;
        self.index.get(start..)?.first_chunk().map(|bytes| f32::from_le_bytes(*bytes).into())
    }

    fn label_at(&self, row: usize) -> Option<u32> {
        let start = self.labels_start + row * CELL_BYTES;
        self.index.get(start..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn row(&self, index: u64) -> Option<usize> {
        usize::try_from(index).ok().filter(|&row| row < self.table.rows)
    }

    fn make(&self, row: usize) -> Result<Sample, ValueError> {
        let row_bytes = self.table.width() * CELL_BYTES;
        let numbers = &self.index[row * row_bytes..][..row_bytes];
        let label = self.table.label.as_ref().and_then(|_| self.label_at(row));
        csv_columns::sample(numbers, self.table.features.len(), label)
    }
}

impl MapDataset for Opened {
    fn len(&self) -> u64 {
        self.table.rows as u64
    }

    fn get(&self, index: u64) -> Result<Sample, SampleError> {
        let row = self.row(index).ok_or_else(|| SampleError::new(self.name(index), "not in the file"))?;
        self.make(row).map_err(|error| SampleError::caused_by(self.name(index), "read the row", error))
    }

    fn gather(&self, indices: &[u64], field: &FieldSpec, room: &mut [u8]) -> bool {
        let Table { features, targets, label, .. } = &self.table;
        let (first, columns, shape) = match field.name.as_str() {
            LABEL if label.is_some() => {
                return gathering::labels(field, indices, room, |row| self.label_at(row).map(i64::from));
            }
            INPUT => (0, features.len(), vec![features.len()]),
            TARGET if targets.len() == 1 => (features.len(), 1, Vec::new()),
            TARGET if !targets.is_empty() => (features.len(), targets.len(), vec![targets.len()]),
            _ => return false,
        };
        let [row_bytes, offset, bytes] = [self.table.width(), first, columns].map(|columns| columns * CELL_BYTES);
        field.dtype == Dtype::F32
            && field.shape.0 == shape
            && gathering::parts(&self.index[..self.labels_start], row_bytes, offset, bytes, indices, room)
    }

    fn name(&self, index: u64) -> String {
        format!("row {index} of {}", self.file.display())
    }

    /// `label`, a `target` or an `input` of one number, or any column that went into the index by its name.
    fn number(&self, field: &str, index: u64) -> Option<f64> {
        let (row, Table { features, targets, label, .. }) = (self.row(index)?, &self.table);
        let column = |names: &[String]| names.iter().position(|name| name == field);
        match (field, label) {
            (LABEL, Some(_)) => self.label_at(row).map(f64::from),
            (TARGET, _) if targets.len() == 1 => self.number_at(row, features.len()),
            (INPUT, _) if features.len() == 1 => self.number_at(row, 0),
            (_, Some((name, _))) if name == field => self.label_at(row).map(f64::from),
            _ => {
                let target = || column(targets).map(|target| features.len() + target);
                self.number_at(row, column(features).or_else(target)?)
            }
        }
    }

    fn classes(&self) -> &[String] {
        self.table.label.as_ref().map_or(&[], |(_, classes)| classes)
    }
}
