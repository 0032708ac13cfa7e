//! Samples in files of which every line is a JSON object.

use std::io::{BufRead, Read};
use std::sync::Arc;

use super::classes_from_options;
use super::file_patterns::FilePatterns;
use super::json_fields::JsonFields;
use super::rows::{self, Indexed, ROW_BYTES_MAX, Row, RowError, RowFormat, RowReader};
use super::shard_file::ShardReader;
use crate::iterable::{IterableDataset, IterableSource};
use crate::options::Options;
use crate::sample::Sample;
use crate::source::{Index, OpenError};
use crate::spec::SpecError;

/// What some editors put before the first line.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The kind `jsonl`: JSON Lines, what Hugging Face's `load_dataset("json")` reads.
///
/// Options: `files`, a path or a list of paths, plain or gzip (told by content), in which `{00..46}`, `{a,b}` and `*`
/// stand for several; `fields`, a table from the keys of a line that are wanted to their dtypes, or "text":
/// `fields = { tokens = "i64", score = "f32", title = "text" }`; `label`, the key of a label, which becomes the field
/// `label`; `classes`, the names of the classes, without which labels are integers; `missing`, the number that stands for
/// one that is null or whose key is not there, which otherwise is refused.
///
/// A number must be one of its dtype: 300 is no "u8", 1.5 no "i64"; for "f32" and its like it is rounded. `true` and
/// `false` are 1 and 0. Blank lines are passed over. A line may have up to 64 MiB.
///
/// Lines are counted when the stream is opened, and read when they are wanted: what is wrong in one is found then.
///
/// Shapes: a number: []; a list: `[len]`; a list of lists of one length: `[len, len]`, and so on; a text: the u8 of its
/// UTF-8, `[bytes]`; `label`: [], i64. Fields are in the order of their names, `label` last.
///
/// Order: that of the files, in each of its lines.
///
/// Source: <https://jsonlines.org>.
#[derive(Clone, Debug)]
pub struct Jsonl {
    files: FilePatterns,
    lines: Lines,
}

impl Jsonl {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when one is missing or has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let files = FilePatterns::from_options(options, "files")?;
        let fields = JsonFields::from_options(options, "fields")?;
        let label = options.optional_string("label")?;
        let classes = classes_from_options(options)?;
        if fields.is_none() && label.is_none() {
            return options.required("fields", None);
        }
        if classes.is_some() && label.is_none() {
            return Err(options.error("classes", "is for the labels under the key `label`, which is not there"));
        }
        let classes = classes.unwrap_or_default();
        let mut fields = fields.unwrap_or_default();
        if let Some(key) = label {
            fields = fields.with_label(key, classes.clone()).map_err(|reason| options.error("label", reason))?;
        }
        Ok(Self { files, lines: Lines { fields, classes } })
    }
}

impl IterableSource for Jsonl {
    fn index(&self) -> Result<Vec<u8>, OpenError> {
        rows::scan(&self.files, &self.lines, |_| Ok(()))?.pack(&())
    }

    fn open(self: Arc<Self>, index: Index) -> Result<Arc<dyn IterableDataset>, OpenError> {
        let indexed = Indexed::new::<()>(&index);
        let (indexed, ()) =
            indexed.ok_or_else(|| OpenError::other("the index of the lines is damaged or of another version", None))?;
        Ok(Arc::new(indexed.open(self.files.folder().to_owned(), self.lines.clone())))
    }
}

/// A row is a line.
#[derive(Clone, Debug)]
struct Lines {
    fields: JsonFields,
    classes: Vec<String>,
}

impl RowFormat for Lines {
    type Reader = LineReader;

    fn begin(&self, file: ShardReader) -> Result<LineReader, RowError> {
        Ok(LineReader { file, line: 1 })
    }

    fn resume(&self, file: ShardReader, line: u64) -> LineReader {
        LineReader { file, line }
    }

    fn decode(&self, text: Vec<u8>) -> Result<Sample, String> {
        let mut sample = Sample::new();
        let read = self.fields.read(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&text), &mut sample);
        // The only line of this text is not the first of the file.
        read.map_err(|reason| reason.replace(" at line 1 column ", " at column "))?;
        Ok(sample)
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }
}

/// Reads line by line.
#[derive(Debug)]
struct LineReader {
    file: ShardReader,
    /// That of the next line.
    line: u64,
}

impl RowReader for LineReader {
    type Content = Vec<u8>;

    fn next(&mut self) -> Result<Option<Row<Vec<u8>>>, RowError> {
        loop {
            let start = self.file.position();
            let mut content = Vec::new();
            Read::by_ref(&mut self.file).take(ROW_BYTES_MAX + 1).read_until(b'\n', &mut content)?;
            if content.is_empty() {
                return Ok(None);
            }
            let line = self.line;
            self.line += 1;
            if content.len() as u64 > ROW_BYTES_MAX {
                return Err(RowError::Line { line, reason: format!("has more than {ROW_BYTES_MAX} bytes") });
            }
            if !content.trim_ascii().is_empty() {
                return Ok(Some(Row { start, line, bytes: content.capacity(), content }));
            }
        }
    }

    fn file(&self) -> &ShardReader {
        &self.file
    }

    fn into_file(self) -> ShardReader {
        self.file
    }
}
