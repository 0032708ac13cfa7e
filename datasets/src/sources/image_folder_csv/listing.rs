//! Reads the CSV and looks at every file it names, once.

use std::fs::{self, Metadata};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use csv::{ReaderBuilder, StringRecord, Trim};

use super::labels::{Labels, is_integer};
use super::table::{Entry, TableBuilder};
use crate::source::OpenError;

/// Extensions by which a path is an image's, existing or not.
const IMAGE_EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "bmp", "gif", "tif", "tiff", "webp"];

/// Lists the files of `folder` that the CSV `list` names, as a packed [`Table`](super::table::Table).
///
/// # Errors
/// [`OpenError`]: folder or CSV are missing or empty, a row is not a path and a label, a file does not exist.
pub(super) fn read(folder: &Path, list: &Path, classes: Option<&[String]>) -> Result<Vec<u8>, OpenError> {
    check_folder(folder)?;
    let file = fs::File::open(list).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => OpenError::file(list, "the CSV file with the labels does not exist"),
        _ => OpenError::read(list, error),
    })?;
    // `flexible`: a wrong number of columns is reported below, with its line.
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).trim(Trim::All).from_reader(file);

    let mut record = StringRecord::new();
    let mut table = TableBuilder::default();
    let mut labels = Labels::new(classes);
    let mut is_first = true;
    while reader.read_record(&mut record).map_err(|error| csv_error(list, error))? {
        let wrong = |reason: String| OpenError::line(list, line_of(list, record.position()), reason);
        let Some((path, label)) = record.get(0).zip(record.get(1)).filter(|_| record.len() == 2) else {
            let columns = if record.len() == 1 { "column" } else { "columns" };
            return Err(wrong(format!("{} {columns}, expected 2 (path, label)", record.len())));
        };
        let metadata = fs::metadata(folder.join(path));
        let is_file = metadata.as_ref().is_ok_and(Metadata::is_file);
        let is_header = is_first && !is_file && !has_image_extension(path) && !is_integer(label);
        is_first = false;
        if is_header {
            continue;
        }
        let metadata = check_file(path, metadata, folder).map_err(|(reason, source)| OpenError::Line {
            file: list.into(),
            line: line_of(list, record.position()),
            reason,
            source,
        })?;
        let label = labels.number(label).map_err(wrong)?;
        table.push(&Entry { path, label, bytes: metadata.len(), modified_ns: modified_ns(&metadata) });
    }
    if table.is_empty() {
        let found = if is_first { "empty" } else { "a header and no rows" };
        return Err(OpenError::file(list, format!("{found}, expected a row (path, label) for each image")));
    }
    let classes = labels.finish(table.labels_mut());
    Ok(table.finish(&classes))
}

/// When a file was last written to, in nanoseconds since 1970; 0 where the file system does not say.
pub(super) fn modified_ns(metadata: &Metadata) -> i64 {
    let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
    let ns = |time: Result<std::time::Duration, _>| time.ok().and_then(|time| i64::try_from(time.as_nanos()).ok());
    let after = ns(modified.duration_since(UNIX_EPOCH));
    let before = ns(SystemTime::UNIX_EPOCH.duration_since(modified)).map(|ns| -ns);
    after.or(before).unwrap_or(0)
}

fn check_folder(folder: &Path) -> Result<(), OpenError> {
    match fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(OpenError::file(folder, "a file, expected the folder with the images")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(OpenError::file(folder, "the folder with the images does not exist"))
        }
        Err(error) => Err(OpenError::read(folder, error)),
    }
}

/// Requires that a path of the CSV is a file; otherwise says what it is, and what that came from.
fn check_file(
    path: &str,
    metadata: io::Result<Metadata>,
    folder: &Path,
) -> Result<Metadata, (String, Option<io::Error>)> {
    let (name, folder) = (path.escape_debug(), folder.display());
    match metadata {
        _ if path.is_empty() => Err(("the path is empty".to_owned(), None)),
        Ok(metadata) if metadata.is_file() => Ok(metadata),
        Ok(_) => Err((format!("{name} in {folder} is no file"), None)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err((format!("{name} does not exist in {folder}"), None))
        }
        Err(error) => Err((format!("look at {name} in {folder}"), Some(error))),
    }
}

/// The line on which a record begins. The reader counts the blank lines before it as part of it, so that they have to
/// be counted here; this happens once, for the row that is refused.
fn line_of(list: &Path, position: Option<&csv::Position>) -> u64 {
    let Some(position) = position else { return 0 };
    let blank_lines = || {
        let mut file = BufReader::new(fs::File::open(list)?);
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

fn has_image_extension(path: &str) -> bool {
    let extension = Path::new(path).extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| IMAGE_EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

fn csv_error(list: &Path, error: csv::Error) -> OpenError {
    let line = error.position().map(|position| line_of(list, Some(position)));
    match (error.into_kind(), line) {
        (csv::ErrorKind::Io(source), _) => OpenError::read(list, source),
        (csv::ErrorKind::Utf8 { err, .. }, Some(line)) => {
            OpenError::line(list, line, format!("column {} is not UTF-8; store the file as UTF-8", err.field() + 1))
        }
        (kind, _) => OpenError::file(list, format!("no CSV: {kind:?}")),
    }
}
