//! Files of rows as an iterable dataset, whatever a row looks like.

use std::fmt::Debug;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::file_patterns::FilePatterns;
use super::shard_file::{self, ShardFile, ShardReader};
use crate::dataset::SampleError;
use crate::iterable::{IterableDataset, Record, Records};
use crate::sample::Sample;
use crate::source::{Index, OpenError};

/// The longest row: it is read into memory.
pub(super) const ROW_BYTES_MAX: u64 = 64 << 20;

/// How far apart the places are at which reading may begin: as much as is read at once in any case.
const MARK_BYTES: u64 = 8192;

/// What a row looks like.
pub(super) trait RowFormat: Debug + Send + Sync + 'static {
    type Reader: RowReader;

    /// Reads a file from its beginning.
    fn begin(&self, file: ShardReader) -> Result<Self::Reader, RowError>;

    /// Reads a file from the beginning of a row on, which is on `line`.
    fn resume(&self, file: ShardReader, line: u64) -> Self::Reader;

    /// Makes a sample of a row.
    ///
    /// # Errors
    /// What is wrong with the row, to follow file and line.
    fn decode(&self, content: <Self::Reader as RowReader>::Content) -> Result<Sample, String>;

    /// The names of the classes, by label.
    fn classes(&self) -> &[String];
}

/// Rows of a file, one after the other.
pub(super) trait RowReader: Send + 'static {
    type Content: Send + 'static;

    /// The next row; `None` at the end.
    fn next(&mut self) -> Result<Option<Row<Self::Content>>, RowError>;

    /// The line of a row that begins at `start` and was said to be on `line`, exactly: for the one that is refused.
    fn line(&self, start: u64, line: u64) -> u64 {
        let _ = start;
        line
    }

    fn file(&self) -> &ShardReader;

    fn into_file(self) -> ShardReader;
}

/// One row.
pub(super) struct Row<Content> {
    /// Where it begins.
    pub(super) start: u64,
    /// The line on which it begins, counted from 1.
    pub(super) line: u64,
    /// About how much memory it holds.
    pub(super) bytes: usize,
    pub(super) content: Content,
}

/// Why there is no next row.
pub(super) enum RowError {
    /// The file cannot be read.
    Io(io::Error),
    /// A line is wrong.
    Line { line: u64, reason: String },
}

impl From<io::Error> for RowError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A place where reading may begin: a row, where it begins, its line. For every plain file there is one at the first row
/// and then one every [`MARK_BYTES`]; for a compressed one only that at the first row.
#[derive(Clone, Copy, Debug)]
struct Mark {
    row: u64,
    start: u64,
    line: u64,
}

impl Mark {
    const BYTES: usize = 3 * 8;
}

/// All files once read: they with their numbers of marks, and the marks.
pub(super) struct Scanned {
    files: Vec<(ShardFile, usize)>,
    marks: Vec<u8>,
}

/// Reads all files once; `look` sees every row.
///
/// # Errors
/// [`OpenError`], with file and line; what `look` says follows them.
pub(super) fn scan<Format: RowFormat>(
    files: &FilePatterns,
    format: &Format,
    mut look: impl FnMut(<Format::Reader as RowReader>::Content) -> Result<(), String>,
) -> Result<Scanned, OpenError> {
    let mut scanned = Scanned { files: Vec::new(), marks: Vec::new() };
    for path in files.find()? {
        let (mut file, reader) = ShardFile::index(files.folder(), &path)?;
        let full = reader.path().to_owned();
        let wrong = |error| match error {
            RowError::Io(error) => OpenError::read(&full, error),
            RowError::Line { line, reason } => OpenError::line(&full, line, reason),
        };
        let mut rows = format.begin(reader).map_err(wrong)?;
        let (marks_before, mut next_mark) = (scanned.marks.len(), 0);
        while let Some(row) = rows.next().map_err(wrong)? {
            if file.records == 0 || (file.is_seekable() && row.start >= next_mark) {
                scanned.marks.extend([file.records, row.start, row.line].into_iter().flat_map(u64::to_le_bytes));
                next_mark = row.start + MARK_BYTES;
            }
            file.records += 1;
            let (start, line) = (row.start, row.line);
            look(row.content).map_err(|reason| OpenError::line(&full, rows.line(start, line), reason))?;
        }
        rows.into_file().finish()?;
        scanned.files.push((file, (scanned.marks.len() - marks_before) / Mark::BYTES));
    }
    Ok(scanned)
}

impl Scanned {
    /// The index: joined, the files and `more` in JSON, and the marks.
    ///
    /// # Errors
    /// [`OpenError`] when there is no writing it.
    pub(super) fn pack(self, more: &impl Serialize) -> Result<Vec<u8>, OpenError> {
        let head = serde_json::to_vec(&(self.files, more));
        let head = head.map_err(|error| OpenError::other("write down what the index holds", Some(error.into())))?;
        Ok(Index::join([head, self.marks]))
    }
}

/// Files of rows that are indexed; opened when it is known what a row looks like.
pub(super) struct Indexed {
    files: Vec<ShardFile>,
    /// The first mark of each file, and the end of the last.
    starts: Vec<usize>,
    marks: Index,
}

impl Indexed {
    /// What [`Scanned::pack`] wrote; `None` when these are not its bytes.
    pub(super) fn new<More: DeserializeOwned>(index: &Index) -> Option<(Self, More)> {
        let [head, marks] = <[Index; 2]>::try_from(index.split(2)?).ok()?;
        let (listed, more): (Vec<(ShardFile, usize)>, More) = serde_json::from_slice(&head).ok()?;
        let mut starts = vec![0_usize];
        for (_, marks) in &listed {
            starts.push(starts.last()?.checked_add(*marks)?);
        }
        let is_whole = starts.last()?.checked_mul(Mark::BYTES) == Some(marks.len());
        let files = listed.into_iter().map(|(file, _)| file).collect();
        is_whole.then_some((Self { files, starts, marks }, more))
    }

    /// The dataset.
    pub(super) fn open<Format: RowFormat>(self, folder: PathBuf, format: Format) -> Rows<Format> {
        let Self { files, starts, marks } = self;
        Rows { folder, files, starts, marks, format: Arc::new(format) }
    }
}

/// Files of rows, opened.
#[derive(Debug)]
pub(super) struct Rows<Format> {
    folder: PathBuf,
    files: Vec<ShardFile>,
    starts: Vec<usize>,
    marks: Index,
    format: Arc<Format>,
}

impl<Format> Rows<Format> {
    fn file(&self, shard: u64) -> Option<&ShardFile> {
        self.files.get(usize::try_from(shard).ok()?)
    }

    /// The last mark at `row` or before it.
    fn mark(&self, shard: u64, row: u64) -> Option<Mark> {
        let shard = usize::try_from(shard).ok()?;
        let range = *self.starts.get(shard)?..*self.starts.get(shard + 1)?;
        let marks =
            self.marks.get(range.start * Mark::BYTES..range.end * Mark::BYTES)?.as_chunks::<{ Mark::BYTES }>().0;
        let number = |mark: &[u8; Mark::BYTES], place: usize| {
            mark[place * 8..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        let mark = &marks[marks.partition_point(|mark| number(mark, 0) <= row).checked_sub(1)?];
        Some(Mark { row: number(mark, 0), start: number(mark, 1), line: number(mark, 2) })
    }
}

impl<Format: RowFormat> IterableDataset for Rows<Format> {
    fn shards(&self) -> u64 {
        self.files.len() as u64
    }

    fn records(&self, shard: u64, first: u64) -> Result<Records, SampleError> {
        let file = self.file(shard).ok_or_else(|| SampleError::new(self.name(shard, first), "not in the index"))?;
        let mut reader = file.open(&self.folder)?;
        // A file without rows has no mark.
        let Some(mark) = self.mark(shard, first) else { return Ok(Box::new(std::iter::empty())) };
        let outcome = reader.skip_to(mark.start);
        reader.checked(|| self.name(shard, first), outcome)?;
        let mut reading = Reading { rows: self.format.resume(reader, mark.line), format: self.format.clone() };
        for _ in mark.row..first {
            if reading.row()?.is_none() {
                break;
            }
        }
        Ok(Box::new(reading))
    }

    fn shard_len(&self, shard: u64) -> Option<u64> {
        self.file(shard).map(|file| file.records)
    }

    fn is_seekable(&self, shard: u64) -> bool {
        self.file(shard).is_some_and(ShardFile::is_seekable)
    }

    fn name(&self, shard: u64, record: u64) -> String {
        let path = self.file(shard).map(|file| self.folder.join(&file.path));
        format!("row {record} of {}", path.unwrap_or_default().display())
    }

    fn classes(&self) -> &[String] {
        self.format.classes()
    }

    fn summary(&self) -> Option<String> {
        Some(shard_file::summary(&self.files))
    }
}

/// Rows of a file, from one of them on.
struct Reading<Format: RowFormat> {
    rows: Format::Reader,
    format: Arc<Format>,
}

/// A row that was read.
type Read<Format> = Row<<<Format as RowFormat>::Reader as RowReader>::Content>;

impl<Format: RowFormat> Reading<Format> {
    fn row(&mut self) -> Result<Option<Read<Format>>, SampleError> {
        let row = self.rows.next();
        let file = self.rows.file();
        file.check()?;
        row.map_err(|error| match error {
            RowError::Io(source) => SampleError::Read { sample: file.path().display().to_string(), source },
            RowError::Line { line, reason } => SampleError::new(format!("{}:{line}", file.path().display()), reason),
        })
    }
}

impl<Format: RowFormat> Iterator for Reading<Format> {
    type Item = Result<Record, SampleError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.row().transpose()?;
        Some(row.map(|Row { line, bytes, content, .. }| {
            let (format, path) = (self.format.clone(), self.rows.file().path().to_owned());
            Record::new(bytes, move || {
                let decoded = format.decode(content);
                decoded.map_err(|reason| SampleError::new(format!("{}:{line}", path.display()), reason))
            })
        }))
    }
}
