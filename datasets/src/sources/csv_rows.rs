//! Samples in CSV files of numbers that are not kept in memory.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::Arc;

use csv::{Position, Reader, StringRecord};

use super::csv_columns::{self, ColumnOptions, Columns};
use super::csv_file::{builder, delimiter_from_options, line_of};
use super::file_patterns::FilePatterns;
use super::rows::{self, Indexed, ROW_BYTES_MAX, Row, RowError, RowFormat, RowReader};
use super::shard_file::{ShardFile, ShardReader};
use crate::iterable::{IterableDataset, IterableSource};
use crate::options::Options;
use crate::sample::Sample;
use crate::source::{Index, OpenError};
use crate::spec::SpecError;

/// The kind `csv-rows`: [`csv-table`](super::CsvTable) for more and larger files than memory has room for.
///
/// Options: `files`, a path or a list of paths, plain or gzip (told by content), in which `{00..46}`, `{a,b}` and `*`
/// stand for several; `features`, `targets`, `target_kind`, `classes`, `missing`, `delimiter` and `header`, as in
/// `csv-table`. What they do not say, the first row of all says for all files; with `header` all files have the same.
///
/// Every row is read and checked when the stream is opened. What is kept is where rows begin: one of them every 8 KiB.
///
/// Shapes: as in `csv-table`: `input`: `[features]`, f32; for a class `label`: [], i64; for numbers `target`: [] for one,
/// `[targets]` for several, f32.
///
/// Order: that of the files, in each of its rows.
#[derive(Clone, Debug)]
pub struct CsvRows {
    files: FilePatterns,
    columns: ColumnOptions,
    delimiter: u8,
}

impl CsvRows {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when one is missing or has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let files = FilePatterns::from_options(options, "files")?;
        let columns = ColumnOptions::from_options(options)?;
        let delimiter = delimiter_from_options(options, files.first())?;
        Ok(Self { files, columns, delimiter })
    }

    /// What the columns are, by the first file that has a row.
    fn columns(&self) -> Result<Columns, OpenError> {
        for path in self.files.find()? {
            let (_, file) = ShardFile::index(self.files.folder(), &path)?;
            let full = file.path().to_owned();
            let wrong = |error| match error {
                RowError::Io(error) => OpenError::read(&full, error),
                RowError::Line { line, reason } => OpenError::line(&full, line, reason),
            };
            let mut rows = CsvReader::new(file, self.delimiter, 0, 1);
            let header = if self.columns.header { rows.next().map_err(wrong)? } else { None };
            let Some(Row { content: first, .. }) = rows.next().map_err(wrong)? else { continue };
            let names = match header {
                Some(Row { content: names, .. }) => names.iter().map(str::to_owned).collect(),
                None => (0..first.len()).map(|column| column.to_string()).collect(),
            };
            return Columns::new(&self.columns, &full, names, &first);
        }
        Err(OpenError::file(self.files.folder().join(self.files.first()), "has no rows"))
    }
}

impl IterableSource for CsvRows {
    fn index(&self) -> Result<Vec<u8>, OpenError> {
        let columns = self.columns()?;
        let mut classes = self.columns.labels();
        let mut numbers = Vec::new();
        let format = self.format(columns, Vec::new());
        let scanned = rows::scan(&self.files, &format, |row| {
            numbers.clear();
            format.columns.push(&row, &mut numbers, |text| classes.number(text)).map(drop)
        })?;
        scanned.pack(&(&format.columns, classes.finish(&mut [])))
    }

    fn open(self: Arc<Self>, index: Index) -> Result<Arc<dyn IterableDataset>, OpenError> {
        let indexed = Indexed::new::<(Columns, Vec<String>)>(&index);
        let (indexed, (columns, classes)) =
            indexed.ok_or_else(|| OpenError::other("the index of the rows is damaged or of another version", None))?;
        let format = self.format(columns.with_options(&self.columns), classes);
        Ok(Arc::new(indexed.open(self.files.folder().to_owned(), format)))
    }
}

impl CsvRows {
    fn format(&self, columns: Columns, classes: Vec<String>) -> CsvFormat {
        let labels = classes.iter().cloned().zip(0..).collect();
        CsvFormat { columns, header: self.columns.header, delimiter: self.delimiter, classes, labels }
    }
}

/// A row is a row of a CSV.
#[derive(Debug)]
struct CsvFormat {
    columns: Columns,
    header: bool,
    delimiter: u8,
    classes: Vec<String>,
    labels: HashMap<String, u32>,
}

impl RowFormat for CsvFormat {
    type Reader = CsvReader;

    fn begin(&self, file: ShardReader) -> Result<CsvReader, RowError> {
        let mut reader = CsvReader::new(file, self.delimiter, 0, 1);
        if self.header
            && let Some(Row { start, line, content, .. }) = reader.next()?
            && content.iter().ne(self.columns.names.iter().map(String::as_str))
        {
            let (found, expected) = (content.iter().collect::<Vec<_>>(), &self.columns.names);
            let reason = format!("the header is {found:?}, and in the files before {expected:?}");
            return Err(RowError::Line { line: reader.line(start, line), reason });
        }
        Ok(reader)
    }

    fn resume(&self, file: ShardReader, line: u64) -> CsvReader {
        let start = file.position();
        CsvReader::new(file, self.delimiter, start, line)
    }

    fn decode(&self, row: StringRecord) -> Result<Sample, String> {
        let mut numbers = Vec::new();
        let label = self.columns.push(&row, &mut numbers, |text| {
            let number = || text.parse().ok().filter(|&label: &u32| (label as usize) < self.classes.len());
            let label = self.labels.get(text).copied().or_else(number);
            label.ok_or_else(|| format!("label `{text}` is none of the {} classes", self.classes.len()))
        })?;
        csv_columns::sample(&numbers, self.columns.features.len(), label).map_err(|error| error.to_string())
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }
}

/// Reads row by row.
#[derive(Debug)]
struct CsvReader {
    rows: Reader<Leash>,
    /// Where it began in the content, and the line there.
    start: u64,
    line: u64,
}

impl CsvReader {
    fn new(file: ShardReader, delimiter: u8, start: u64, line: u64) -> Self {
        Self { rows: builder(delimiter).from_reader(Leash { file, left: 0 }), start, line }
    }

    /// Start and line of what the reader calls `position`.
    fn place(&self, position: Option<&Position>) -> (u64, u64) {
        position.map_or((self.start, self.line), |it| (self.start + it.byte(), self.line + it.line() - 1))
    }
}

impl RowReader for CsvReader {
    type Content = StringRecord;

    fn next(&mut self) -> Result<Option<Row<StringRecord>>, RowError> {
        self.rows.get_mut().left = ROW_BYTES_MAX;
        let position = self.rows.position().clone();
        let mut content = StringRecord::new();
        match self.rows.read_record(&mut content) {
            Ok(false) => return Ok(None),
            Ok(true) => {}
            Err(error) => {
                let (start, line) = self.place(Some(&position));
                let reason = match error.into_kind() {
                    csv::ErrorKind::Io(_) if self.rows.get_ref().left == 0 => {
                        format!("has more than {ROW_BYTES_MAX} bytes; is a quotation mark not closed?")
                    }
                    csv::ErrorKind::Io(error) => return Err(RowError::Io(error)),
                    csv::ErrorKind::Utf8 { err, .. } => {
                        format!("column {} is not UTF-8; store the file as UTF-8", err.field() + 1)
                    }
                    kind => format!("no CSV: {kind:?}"),
                };
                return Err(RowError::Line { line: self.line(start, line), reason });
            }
        }
        let (start, line) = self.place(content.position());
        Ok(Some(Row { start, line, bytes: content.as_slice().len() + content.len() * size_of::<usize>(), content }))
    }

    fn line(&self, start: u64, line: u64) -> u64 {
        let file = self.file();
        if file.is_gzip() { line } else { line_of(file.path(), Some(Position::new().set_byte(start).set_line(line))) }
    }

    fn file(&self) -> &ShardReader {
        &self.rows.get_ref().file
    }

    fn into_file(self) -> ShardReader {
        self.rows.into_inner().file
    }
}

/// A file of which only so much can be read until it is said again how much: a row is collected in memory.
#[derive(Debug)]
struct Leash {
    file: ShardReader,
    left: u64,
}

impl Read for Leash {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let read = self.file.read(out)?;
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}
