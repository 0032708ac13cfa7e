//! Looks at every file once: its row groups, its columns, its labels.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::file::metadata::ParquetMetaData;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::Parquet;
use super::footer::metadata;
use super::group::{Data, GROUP_BYTES_MAX, Group, expected_bytes, read, too_large};
use super::schema::{Column, Kind, LABEL, place, resolve};
use crate::source::OpenError;
use crate::sources::labels::{CLASSES_MAX, classes_of};
use crate::sources::packed::pack;
use crate::sources::stamp::Stamp;

pub(super) const MAGIC: [u8; 8] = *b"bmparqt2";

/// What stands for the label of a row that has none.
pub(super) const NO_LABEL: i64 = i64::MIN;

/// What the index holds, behind the labels of all rows as i64, if there are labels.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Description {
    pub(super) files: Vec<FileEntry>,
    pub(super) columns: Vec<Column>,
    /// The names of the classes, by label.
    pub(super) classes: Vec<String>,
}

/// One file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FileEntry {
    /// As the option names it, so that data that is moved stays the same.
    pub(super) path: String,
    pub(super) stamp: Stamp,
    /// The rows of its row groups.
    pub(super) group_rows: Vec<u64>,
}

/// Reads what is in the files.
///
/// # Errors
/// [`OpenError`], naming the file.
pub(super) fn build(source: &Parquet) -> Result<Vec<u8>, OpenError> {
    let mut builder = Builder { source, files: Vec::new(), columns: Vec::new(), named: None, labels: Vec::new() };
    for path in source.files.find()? {
        builder.add(path)?;
    }
    builder.finish()
}

struct Builder<'a> {
    source: &'a Parquet,
    files: Vec<FileEntry>,
    columns: Vec<Column>,
    /// The names of the classes that the first file knows.
    named: Option<Vec<String>>,
    labels: Vec<i64>,
}

impl Builder<'_> {
    fn add(&mut self, name: String) -> Result<(), OpenError> {
        let path = &self.source.files.folder().join(&name);
        let failed = |error| OpenError::read(path, error);
        let file = Arc::new(File::open(path).map_err(failed)?);
        let stamp = Stamp::of(&file.metadata().map_err(failed)?);
        let metadata = metadata(&file, stamp.bytes)
            .map_err(|failure| OpenError::other(format!("{}: no Parquet file", path.display()), Some(failure)))?;
        let schema = metadata.file_metadata().schema_descr();
        if self.files.is_empty() {
            self.columns = resolve(self.source, schema).map_err(|reason| OpenError::file(path, reason))?;
            self.named = self.source.label.as_ref().and_then(|label| named_classes(&metadata, label));
        } else if let Some(column) = self.columns.iter().find(|column| place(column, schema).is_none()) {
            let reason = format!("has no column `{}` of the same type as in the file before it", column.path);
            return Err(OpenError::file(path, reason));
        }
        let mut group_rows = Vec::new();
        for group in 0..metadata.num_row_groups() {
            group_rows.push(
                self.check_group(&metadata, group, stamp.bytes)
                    .map_err(|reason| OpenError::file(path, format!("row group {group}: {reason}")))?,
            );
            self.add_labels(&file, &metadata, group, path)?;
        }
        self.files.push(FileEntry { path: name, stamp, group_rows });
        Ok(())
    }

    /// The rows of a row group, whose chunks lie in the file and are none too large.
    fn check_group(&self, metadata: &ParquetMetaData, group: usize, file_bytes: u64) -> Result<u64, String> {
        let row_group = metadata.row_group(group);
        let rows = usize::try_from(row_group.num_rows()).map_err(|_| "it has less than no rows")?;
        let mut bytes = 0_usize;
        for column in &self.columns {
            let place = place(column, row_group.schema_descr());
            let chunk = place.and_then(|place| row_group.columns().get(place));
            let chunk = chunk.ok_or_else(|| format!("it has no column `{}`", column.path))?;
            let start = chunk.dictionary_page_offset().unwrap_or_else(|| chunk.data_page_offset());
            let end = u64::try_from(start).ok().zip(u64::try_from(chunk.compressed_size()).ok());
            let end = end.and_then(|(start, bytes)| start.checked_add(bytes));
            if end.is_none_or(|end| end > file_bytes) {
                return Err(format!("its column `{}` is said to lie outside of the file", column.path));
            }
            bytes = bytes.saturating_add(expected_bytes(chunk, rows, column.kind));
        }
        if bytes > GROUP_BYTES_MAX { Err(too_large()) } else { Ok(rows as u64) }
    }

    fn add_labels(
        &mut self,
        file: &Arc<File>,
        metadata: &ParquetMetaData,
        group: usize,
        path: &Path,
    ) -> Result<(), OpenError> {
        let Some(column) = self.columns.iter().find(|column| column.field == LABEL) else { return Ok(()) };
        let read = read(file, metadata, group, std::slice::from_ref(column));
        let failed = |(what, failure)| OpenError::other(format!("{}: {what}", path.display()), Some(failure));
        let Group { columns, .. } = read.map_err(failed)?;
        let (Kind::Number(dtype), [Data::Numbers(numbers)]) = (column.kind, &columns[..]) else { return Ok(()) };
        for row in 0..usize::try_from(metadata.row_group(group).num_rows()).unwrap_or(0) {
            let bytes = numbers.row(row);
            let bytes = bytes.map_err(|failure| failed((format!("column `{LABEL}` of row group {group}"), failure)))?;
            let label = match bytes {
                None => NO_LABEL,
                Some(bytes) => super::opened::label(dtype, bytes)
                    .ok_or_else(|| OpenError::file(path, "holds a label beyond the largest i64"))?,
            };
            self.labels.push(label);
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<u8>, OpenError> {
        let labels = || self.labels.iter().copied().filter(|&label| label != NO_LABEL);
        let classes = match &self.source.classes {
            Some(classes) => classes_of(labels(), Some(classes)),
            // Labels need not be the classes that a file names, whatever it means by them.
            None => classes_of(labels(), self.named.as_deref()).or_else(|_| classes_of(labels(), None)),
        };
        let classes = classes
            .map_err(|reason| OpenError::file(self.source.files.folder().join(self.source.files.first()), reason))?;
        let payload = self.labels.iter().flat_map(|label| label.to_le_bytes()).collect();
        pack(payload, MAGIC, &Description { files: self.files, columns: self.columns, classes })
    }
}

/// The names of the classes of `label` that Hugging Face's `ClassLabel` leaves in a file.
///
/// Source: <https://huggingface.co/docs/datasets>, `Features`, stored under the key `huggingface`.
fn named_classes(metadata: &ParquetMetaData, label: &str) -> Option<Vec<String>> {
    let entries = metadata.file_metadata().key_value_metadata()?;
    let text = entries.iter().find(|entry| entry.key == "huggingface")?.value.as_ref()?;
    let json: Json = serde_json::from_str(text).ok()?;
    let names = json.get("info")?.get("features")?.get(label)?.get("names")?.as_array()?;
    let names: Vec<String> = names.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<_>>()?;
    (names.len() <= CLASSES_MAX && names.iter().all(|name| crate::sources::is_class_name(name))).then_some(names)
}
