//! Samples out of arrays, by number.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::OnceLock;

use batchmill_protocol::tensor::{Dtype, FieldSpec, Shape};

use super::header::Element;
use super::index::{Column, Description, MAGIC, Place};
use crate::dataset::{MapDataset, SampleError};
use crate::sample::{Array, Image, Sample, Value, ValueError};
use crate::scratch;
use crate::source::Index;
use crate::sources::gathering;
use crate::sources::packed::unpack;
use crate::sources::scalar::number;
use crate::transform::IMAGE;

/// The opened dataset: small arrays lie in the index, samples of the others are read in place.
#[derive(Debug)]
pub(super) struct Opened {
    description: Description,
    /// One for each stamp, opened by the first sample that is read.
    files: Vec<(PathBuf, OnceLock<File>)>,
    index: Index,
}

impl Opened {
    /// `None` when the index is none of these files.
    pub(super) fn new(files: Vec<PathBuf>, index: Index) -> Option<Self> {
        let (_, description): (usize, Description) = unpack(&index, MAGIC)?;
        let has_file = |column: &Column| !matches!(column.place, Place::File { file, .. } if file >= files.len());
        if files.len() != description.stamps.len() || !description.columns.iter().all(has_file) {
            return None;
        }
        let files = files.into_iter().map(|path| (path, OnceLock::new())).collect();
        Some(Self { description, files, index })
    }

    /// Reads a sample of an array, as a batch holds it, into `bytes`, which are as long.
    fn read(&self, column: &Column, index: u64, bytes: &mut [u8]) -> Result<(), SampleError> {
        let len = bytes.len();
        match column.place {
            Place::Index { start } => {
                let stored = self.stored(start, len, index);
                bytes.copy_from_slice(stored.ok_or_else(|| SampleError::new(self.name(index), "not in the index"))?);
            }
            Place::File { file, start } => {
                let (path, opened) = &self.files[file];
                let stamp = &self.description.stamps[file];
                let opened = match opened.get() {
                    Some(opened) => opened,
                    None => opened.get_or_init({
                        let file = stamp.open(path)?;
                        || file
                    }),
                };
                let outcome = opened.read_exact_at(bytes, start + index * len as u64);
                stamp.check(path, opened)?;
                outcome.map_err(|source| SampleError::Read { sample: self.name(index), source })?;
                Element { dtype: column.field.dtype, big_endian: column.big_endian }.normalize(bytes);
            }
        }
        Ok(())
    }

    /// A sample of `len` bytes of the array that lies in the index from `start` on.
    fn stored(&self, start: usize, len: usize, index: u64) -> Option<&[u8]> {
        let start = usize::try_from(index).ok()?.checked_mul(len)?.checked_add(start)?;
        self.index.get(start..start.checked_add(len)?)
    }
}

impl MapDataset for Opened {
    fn len(&self) -> u64 {
        self.description.rows
    }

    fn get(&self, index: u64) -> Result<Sample, SampleError> {
        if index >= self.len() {
            return Err(SampleError::new(self.name(index), format!("there are {} rows", self.len())));
        }
        let mut sample = Sample::new();
        for column in &self.description.columns {
            let mut bytes = scratch::take(column.field.row_bytes().unwrap_or(0));
            self.read(column, index, &mut bytes)?;
            let value = value(column, bytes)
                .map_err(|error| SampleError::caused_by(self.name(index), "read the array", error))?;
            sample.insert(column.field.name.clone(), value);
        }
        Ok(sample)
    }

    fn gather(&self, indices: &[u64], field: &FieldSpec, room: &mut [u8]) -> bool {
        let Some(column) = self.description.columns.iter().find(|column| column.field.name == field.name) else {
            return false;
        };
        let Some(row_bytes) = column.field.row_bytes() else { return false };
        let shape = match image_shape(&column.field) {
            Some(shape) => Shape::from(shape),
            None => column.field.shape.clone(),
        };
        let has = |index| index < self.len();
        shape == field.shape
            && column.field.dtype == field.dtype
            && gathering::fill(indices, row_bytes, room, |index, room| {
                has(index) && self.read(column, index, room).is_ok()
            })
    }

    fn name(&self, index: u64) -> String {
        match self.files.first() {
            Some((path, _)) => format!("row {index} of {}", path.display()),
            None => format!("row {index}"),
        }
    }

    /// Any field of one number a sample.
    fn number(&self, field: &str, index: u64) -> Option<f64> {
        let column = self.description.columns.iter().find(|column| column.field.name == field)?;
        let (dtype, is_scalar) = (column.field.dtype, column.field.shape.0.is_empty());
        match column.place {
            Place::Index { start } if is_scalar && index < self.len() => {
                number(dtype, self.stored(start, dtype.size_bytes(), index)?)
            }
            _ => None,
        }
    }

    fn classes(&self) -> &[String] {
        &self.description.classes
    }
}

/// A sample of an array as a value: an image where it is one by name and shape.
fn value(column: &Column, bytes: Vec<u8>) -> Result<Value, ValueError> {
    let field = &column.field;
    Ok(match image_shape(field) {
        Some([height, width, channels]) => Image::new(height, width, channels, bytes)?.into(),
        None => Array::new(field.dtype, field.shape.clone(), bytes)?.into(),
    })
}

/// Height, width and channels of an array that is an image.
fn image_shape(field: &FieldSpec) -> Option<[usize; 3]> {
    match (field.name.as_str(), field.dtype, &field.shape.0[..]) {
        (IMAGE, Dtype::U8, &[height, width]) => Some([height, width, 1]),
        (IMAGE, Dtype::U8, &[height, width, channels @ (1 | 3 | 4)]) => Some([height, width, channels]),
        _ => None,
    }
}
