//! The rows of a CSV file, each with the line that it stands on.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use csv::{Reader, ReaderBuilder, StringRecord, Trim};

use crate::options::Options;
use crate::source::OpenError;
use crate::spec::SpecError;

/// What stands between two cells, by its name in a configuration.
const DELIMITERS: [(&str, u8); 3] = [(",", b','), (";", b';'), ("tab", b'\t')];

/// The option `delimiter`: ",", ";" or "tab"; without it "tab" for files called `.tsv`, "," for all others.
pub(super) fn delimiter_from_options(options: &mut Options, file: &Path) -> Result<u8, SpecError> {
    Ok(options.optional_one_of("delimiter", &DELIMITERS)?.unwrap_or_else(|| usual_delimiter(file)))
}

/// The delimiter of a file of this name.
pub(super) fn usual_delimiter(file: &Path) -> u8 {
    if has_extension(file, &["tsv"]) { b'\t' } else { b',' }
}

/// Whether a file's name ends in one of these extensions, in capitals or not.
pub(super) fn has_extension(file: &Path, extensions: &[&str]) -> bool {
    let extension = file.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| extensions.iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

/// A CSV file, read row by row.
///
/// Cells may be quoted, and then hold delimiters, line breaks and doubled quotes, whatever the delimiter is; white space
/// around them, blank lines and a byte order mark are left out. Rows may have any number of cells. All text is UTF-8 and
/// kept byte by byte: a path is the one on disk only in the same form (`é` as one character or as two).
///
/// Source: RFC 4180.
#[derive(Debug)]
pub(super) struct CsvFile {
    path: PathBuf,
    reader: Reader<File>,
    row: StringRecord,
}

impl CsvFile {
    /// Opens a file; `what` it is stands in the error when it does not exist.
    pub(super) fn open(path: &Path, delimiter: u8, what: &str) -> Result<Self, OpenError> {
        let file = File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => OpenError::file(path, format!("{what} does not exist")),
            _ => OpenError::read(path, error),
        })?;
        let reader = builder(delimiter).from_reader(file);
        Ok(Self { path: path.to_owned(), reader, row: StringRecord::new() })
    }

    /// Reads the next row; `false` at the end.
    pub(super) fn advance(&mut self) -> Result<bool, OpenError> {
        self.reader.read_record(&mut self.row).map_err(|error| csv_error(&self.path, error))
    }

    /// The cells of the row that was read last.
    pub(super) fn row(&self) -> &StringRecord {
        &self.row
    }

    /// Refuses the row that was read last.
    pub(super) fn refuse(&self, refusal: impl Into<Refusal>) -> OpenError {
        let Refusal { reason, source } = refusal.into();
        OpenError::Line { file: self.path.clone(), line: line_of(&self.path, self.row.position()), reason, source }
    }
}

/// How all CSV files are read.
pub(super) fn builder(delimiter: u8) -> ReaderBuilder {
    let mut builder = ReaderBuilder::new();
    // `flexible`: a wrong number of cells is for the caller to report, with its line.
    builder.has_headers(false).flexible(true).delimiter(delimiter).trim(Trim::All);
    builder
}

/// What is wrong with a row, to follow its line.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) reason: String,
    /// What it came from, if anything.
    pub(super) source: Option<io::Error>,
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self { reason, source: None }
    }
}

/// The line on which a record begins. The reader counts the blank lines before it as part of it, so that they have to
/// be counted here; this happens once, for the row that is refused.
pub(super) fn line_of(file: &Path, position: Option<&csv::Position>) -> u64 {
    let Some(position) = position else { return 0 };
    let blank_lines = || {
        let mut file = BufReader::new(File::open(file)?);
        file.seek(SeekFrom::Start(position.byte()))?;
        let mut lines = 0;
        for byte in file.bytes() {
            match byte? {
                b'\n' => lines += 1,
                b'\r' => {}
                _ => break,
            }
        }
        io::Result::Ok(lines)
    };
    // Where the file cannot be read a second time, the line is near enough.
    position.line() + blank_lines().unwrap_or(0)
}

fn csv_error(file: &Path, error: csv::Error) -> OpenError {
    let line = error.position().map(|position| line_of(file, Some(position)));
    match (error.into_kind(), line) {
        (csv::ErrorKind::Io(source), _) => OpenError::read(file, source),
        (csv::ErrorKind::Utf8 { err, .. }, Some(line)) => {
            OpenError::line(file, line, format!("column {} is not UTF-8; store the file as UTF-8", err.field() + 1))
        }
        (kind, _) => OpenError::file(file, format!("no CSV: {kind:?}")),
    }
}
