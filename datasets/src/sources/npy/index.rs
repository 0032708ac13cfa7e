//! Looks at the arrays once: where they lie, what their samples are.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use batchmill_protocol::tensor::{Dtype, FieldSpec, Shape};
use serde::{Deserialize, Serialize};
use zip::{CompressionMethod, ZipArchive};

use super::header::{Header, HeaderError};
use crate::nearest::suggestion;
use crate::source::OpenError;
use crate::sources::INDEX_BYTES_MAX;
use crate::sources::labels::classes_of;
use crate::sources::packed::pack;
use crate::sources::scalar::{integer, is_integer};
use crate::sources::stamp::Stamp;

pub(super) const MAGIC: [u8; 8] = *b"bmarray1";

/// The field with the classes.
const LABEL: &str = "label";

/// What the index holds, behind the elements of the arrays that lie in it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Description {
    /// The number of samples.
    pub(super) rows: u64,
    pub(super) columns: Vec<Column>,
    /// How the files were of which samples are read.
    pub(super) stamps: Vec<Stamp>,
    /// The names of the classes, by label.
    pub(super) classes: Vec<String>,
}

/// One array.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Column {
    /// What a sample of it is.
    pub(super) field: FieldSpec,
    pub(super) big_endian: bool,
    pub(super) place: Place,
}

/// Where the elements of an array lie, one sample behind the other.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Place {
    /// In a file, from a byte of it on.
    File { file: usize, start: u64 },
    /// In the index, from a byte of it on, as a batch holds them.
    Index { start: usize },
}

/// An array as it is found in a file.
struct Found<'a> {
    path: &'a Path,
    /// Its name in the file, if that holds several.
    array: Option<&'a str>,
    header: Header,
    /// Its bytes, with the header.
    bytes: u64,
    /// Where its elements begin in the last file that was added, unless they are compressed.
    start: Option<u64>,
}

impl Found<'_> {
    fn wrong(&self, reason: impl Into<String>) -> OpenError {
        wrong(self.path, self.array, &reason.into())
    }

    fn name(&self) -> String {
        self.array.map_or_else(|| self.path.display().to_string(), |array| format!("`{array}`"))
    }
}

/// The index while arrays are added.
#[derive(Debug)]
pub(super) struct Builder<'a> {
    classes: Option<&'a [String]>,
    description: Description,
    payload: Vec<u8>,
    /// The name of the array that said how many samples there are.
    first: String,
}

impl<'a> Builder<'a> {
    /// An index without arrays; `classes` are those that the user named, if any.
    pub(super) fn new(classes: Option<&'a [String]>) -> Self {
        Self { classes, description: Description::default(), payload: Vec::new(), first: String::new() }
    }

    /// Adds the array of an npy file.
    pub(super) fn add_npy(&mut self, field: &str, path: &Path) -> Result<(), OpenError> {
        let (mut file, bytes) = self.add_file(path)?;
        let header = Header::read(&mut file).map_err(|error| header_error(path, None, error))?;
        let start = Some(header.bytes);
        self.add(field, &Found { path, array: None, header, bytes, start }, file)
    }

    /// Adds arrays of an npz file, all of them if there are no `fields`.
    pub(super) fn add_npz(&mut self, fields: Option<&[(String, String)]>, path: &Path) -> Result<(), OpenError> {
        let (file, file_bytes) = self.add_file(path)?;
        let mut archive =
            ZipArchive::new(file).map_err(|error| OpenError::file(path, format!("no npz file: {error}")))?;
        let names = archive.file_names().filter_map(|name| name.strip_suffix(".npy"));
        let all: Vec<_> = names.map(|name| (name.to_owned(), name.to_owned())).collect();
        if all.is_empty() {
            return Err(OpenError::file(path, "an npz file without arrays"));
        }
        for (field, array) in fields.unwrap_or(&all) {
            if !all.iter().any(|(known, _)| known == array) {
                let right = suggestion(array, all.iter().map(|(known, _)| known.as_str()));
                return Err(OpenError::file(path, format!("has no array `{array}`{right}")));
            }
            let member = archive.by_name(&format!("{array}.npy"));
            let array = Some(array.as_str());
            let mut member = member.map_err(|error| wrong(path, array, &error.to_string()))?;
            let header = Header::read(&mut member).map_err(|error| header_error(path, array, error))?;
            let (is_stored, bytes) = (member.compression() == CompressionMethod::Stored, member.size());
            let data_start = member.data_start();
            if is_stored && data_start.checked_add(bytes).is_none_or(|end| end > file_bytes) {
                return Err(wrong(path, array, "the file ends within it"));
            }
            let start = is_stored.then(|| data_start.saturating_add(header.bytes));
            self.add(field, &Found { path, array, header, bytes, start }, member)?;
        }
        Ok(())
    }

    /// Opens a file, and notes how it is; returns its size as well.
    fn add_file(&mut self, path: &Path) -> Result<(File, u64), OpenError> {
        let failed = |error| OpenError::read(path, error);
        let file = File::open(path).map_err(failed)?;
        let stamp = Stamp::of(&file.metadata().map_err(failed)?);
        self.description.stamps.push(stamp);
        Ok((file, stamp.bytes))
    }

    /// Adds an array whose elements are what `elements` yields.
    fn add(&mut self, field: &str, found: &Found, elements: impl Read) -> Result<(), OpenError> {
        let element = found.header.element;
        let (rows, sample, elements_bytes) = self.check(found)?;
        let is_scalar = sample.0.is_empty();
        let mut column = Column {
            field: FieldSpec::new(field, element.dtype, sample),
            big_endian: element.big_endian,
            place: Place::Index { start: self.payload.len() },
        };
        match found.start {
            Some(start) if !is_scalar => {
                column.place = Place::File { file: self.description.stamps.len() - 1, start };
            }
            _ => {
                let start = self.payload.len();
                self.take_in(found, elements_bytes, elements)?;
                element.normalize(&mut self.payload[start..]);
                column.big_endian = false;
                if field == LABEL && is_scalar && is_integer(element.dtype) {
                    self.label(found, start)?;
                    column.field.dtype = Dtype::I64;
                }
            }
        }
        if self.description.columns.is_empty() {
            (self.description.rows, self.first) = (rows, found.name());
        }
        self.description.columns.push(column);
        Ok(())
    }

    /// The number of samples, the shape of each, and the bytes of all elements; or why the array is none to be read.
    fn check(&self, found: &Found) -> Result<(u64, Shape, u64), OpenError> {
        let Header { element, shape, fortran_order, bytes: header_bytes } = &found.header;
        let Some((&rows, sample)) = shape.split_first() else {
            return Err(found.wrong("a single number, expected an array whose first axis counts the samples"));
        };
        let whole = FieldSpec::new("", element.dtype, Shape(shape.clone()));
        let what = format!("{} {}", whole.dtype, whole.shape);
        let bytes = whole.row_bytes().map(|bytes| bytes as u64).filter(|&bytes| bytes < u64::MAX / 2);
        let bytes = bytes.ok_or_else(|| found.wrong(format!("claims to hold {what}")))?;
        if bytes == 0 {
            return Err(found.wrong(format!("holds {what}, no elements at all")));
        }
        if *fortran_order && sample.iter().any(|&extent| extent > 1) {
            let reason = "is in Fortran order, which has each sample all over the file";
            return Err(found.wrong(format!("{reason}; save `numpy.ascontiguousarray` of it")));
        }
        let rows = rows as u64;
        if !self.description.columns.is_empty() && self.description.rows != rows {
            let (first, expected) = (&self.first, self.description.rows);
            return Err(found.wrong(format!("has {rows} samples, but {first} has {expected}")));
        }
        let there = found.bytes.saturating_sub(*header_bytes);
        if there != bytes {
            return Err(found.wrong(format!("has {there} bytes of elements, but {what} takes {bytes}")));
        }
        Ok((rows, Shape(sample.to_vec()), bytes))
    }

    /// Takes the elements of an array into the index.
    fn take_in(&mut self, found: &Found, bytes: u64, elements: impl Read) -> Result<(), OpenError> {
        if bytes > INDEX_BYTES_MAX.saturating_sub(self.payload.len() as u64) {
            let reason = format!("{bytes} bytes do not fit into an index of at most {INDEX_BYTES_MAX}");
            return Err(found.wrong(format!("{reason}; save it with `numpy.savez`, which does not compress")));
        }
        // Reading grows the buffer as bytes arrive: a header that promises too much costs no memory. One byte more than
        // there should be: only at its end does a compressed array say whether its checksum is right.
        let read = elements.take(bytes + 1).read_to_end(&mut self.payload);
        let read = read.map_err(|error| found.wrong(error.to_string()))? as u64;
        if read != bytes {
            let how = if read < bytes { format!("ends after {read} of") } else { "goes on after".to_owned() };
            return Err(found.wrong(format!("{how} its {bytes} bytes of elements")));
        }
        Ok(())
    }

    /// Makes i64 of the labels that lie in the index from `start` on, and learns the classes.
    fn label(&mut self, found: &Found, start: usize) -> Result<(), OpenError> {
        let dtype = found.header.element.dtype;
        let labels = self.payload[start..].chunks_exact(dtype.size_bytes()).map(|bytes| {
            let label = integer(dtype, bytes).and_then(|label| i64::try_from(label).ok());
            label.ok_or_else(|| found.wrong("holds a label beyond the largest i64"))
        });
        let labels = labels.collect::<Result<Vec<_>, _>>()?;
        self.payload.truncate(start);
        self.payload.extend(labels.iter().flat_map(|label| label.to_le_bytes()));
        self.description.classes =
            classes_of(labels.iter().copied(), self.classes).map_err(|reason| found.wrong(reason))?;
        Ok(())
    }

    /// Packs the index.
    pub(super) fn finish(self) -> Result<Vec<u8>, OpenError> {
        if self.classes.is_some() && self.description.classes.is_empty() {
            let reason = "`classes` are named, but there is no array `label` with one integer for each sample";
            return Err(OpenError::other(reason, None));
        }
        pack(self.payload, MAGIC, &self.description)
    }
}

fn header_error(path: &Path, array: Option<&str>, error: HeaderError) -> OpenError {
    match (error, array) {
        (HeaderError::Read(error), None) => OpenError::read(path, error),
        (HeaderError::Read(error), Some(_)) => wrong(path, array, &error.to_string()),
        (HeaderError::Wrong(reason), _) => wrong(path, array, &reason),
    }
}

/// Names the file, and the array where there are several.
fn wrong(path: &Path, array: Option<&str>, reason: &str) -> OpenError {
    match array {
        None => OpenError::file(path, reason),
        Some(array) => OpenError::file(path, format!("array `{}`: {reason}", array.escape_debug())),
    }
}
