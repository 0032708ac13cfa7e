//! Reads the CSV and looks at every file it names, once.

use std::path::Path;

use csv::StringRecord;

use super::cells::Cells;
use super::columns::{Columns, Header};
use crate::decode::EXTENSIONS;
use crate::nearest::suggestion;
use crate::source::OpenError;
use crate::sources::csv_file::{CsvFile, Refusal, has_extension};
use crate::sources::image_files::check_folder;
use crate::sources::image_files::table::{self, Column};
use crate::sources::labels::is_integer;

/// Where the columns stand in a row, that of the paths first.
#[derive(Debug)]
struct Places {
    columns: Vec<usize>,
    /// The cells that a row has.
    width: usize,
}

/// Lists the files of `folder` that the CSV `list` names, as a packed [`Table`](table::Table).
///
/// # Errors
/// [`OpenError`]: folder or CSV are missing or empty, a row has not the columns it should have, a file does not exist.
pub(super) fn read(folder: &Path, list: &Path, delimiter: u8, columns: &Columns) -> Result<Vec<u8>, OpenError> {
    check_folder(folder)?;
    let mut csv = CsvFile::open(list, delimiter, "the CSV file with the labels")?;
    let mut cells = vec![Cells::files(folder)];
    for column in &columns.columns {
        cells.push(Cells::new(&column.content)?);
    }

    let mut places = Places { columns: vec![0, 1], width: 2 };
    let (mut rows, mut is_first) = (0, true);
    while csv.advance()? {
        if let Some(header) = columns.header.as_ref().filter(|_| is_first) {
            places = header.find(csv.row()).map_err(|reason| csv.refuse(reason))?;
            is_first = false;
            continue;
        }
        let found = csv.row().len();
        if found != places.width {
            let noun = if found == 1 { "column" } else { "columns" };
            let expected = if columns.header.is_some() { "as in the header" } else { "(path, label)" };
            return Err(csv.refuse(format!("{found} {noun}, expected {} {expected}", places.width)));
        }
        let is_header = is_first && is_plain_header(folder, csv.row());
        is_first = false;
        if is_header {
            continue;
        }
        for (place, (cells, &at)) in cells.iter_mut().zip(&places.columns).enumerate() {
            let cell = csv.row().get(at).unwrap_or_default();
            cells.push(cell).map_err(|refusal| csv.refuse(columns.refusal(place, refusal)))?;
        }
        rows += 1;
    }
    if rows == 0 {
        let found = if is_first { "empty" } else { "a header and no rows" };
        let expected = if columns.header.is_some() { "a header and a row" } else { "a row (path, label)" };
        return Err(OpenError::file(list, format!("{found}, expected {expected} for each image")));
    }
    let packed: Vec<_> = cells.into_iter().map(Cells::finish).collect();
    for (place, column) in packed.iter().enumerate() {
        if matches!(column, Column::Sets { names, .. } if names.is_empty()) {
            let reason = "names no class in any row; list the names under `classes`".to_owned();
            return Err(OpenError::file(list, columns.refusal(place, reason.into()).reason));
        }
    }
    Ok(table::pack(rows, packed))
}

impl Header {
    /// Finds the columns by the cells of the first row.
    fn find(&self, row: &StringRecord) -> Result<Places, String> {
        let place = |name: &str| {
            let mut places = row.iter().enumerate().filter(|(_, cell)| *cell == name).map(|(place, _)| place);
            match (places.next(), places.next()) {
                (Some(place), None) => Ok(place),
                (Some(_), Some(_)) => Err(format!("the header has the column `{name}` twice")),
                (None, _) => {
                    let cells: Vec<_> = row.iter().collect();
                    Err(format!("the header has no column `{name}`{}", suggestion(name, cells.iter().copied())))
                }
            }
        };
        let path = self.path.as_deref().map_or(Ok(0), place)?;
        let columns = [Ok(path)].into_iter().chain(self.names.iter().map(|name| place(name)));
        Ok(Places { columns: columns.collect::<Result<_, _>>()?, width: row.len() })
    }
}

impl Columns {
    /// Says which column is wrong, where there are several.
    fn refusal(&self, place: usize, refusal: Refusal) -> Refusal {
        let name = self.header.as_ref().zip(place.checked_sub(1)).and_then(|(header, place)| header.names.get(place));
        match name {
            Some(name) => Refusal { reason: format!("column `{name}`: {}", refusal.reason), ..refusal },
            None => refusal,
        }
    }
}

/// Whether a list's first row is a header: no image that exists or is called so, and no number.
fn is_plain_header(folder: &Path, row: &StringRecord) -> bool {
    let (path, label) = (row.get(0).unwrap_or_default(), row.get(1).unwrap_or_default());
    !folder.join(path).is_file() && !has_extension(path.as_ref(), &EXTENSIONS) && !is_integer(label)
}
