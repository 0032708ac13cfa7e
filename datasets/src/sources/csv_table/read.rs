//! Reads the CSV once, row by row, into the index.

use super::{CELL_BYTES, CsvTable, MAGIC, Table};
use crate::source::OpenError;
use crate::sources::csv_columns::Columns;
use crate::sources::csv_file::CsvFile;
use crate::sources::packed::pack;

/// Reads the table, as a packed [`Table`].
///
/// # Errors
/// [`OpenError`], with the line and the column of what is no number.
pub(super) fn read(source: &CsvTable) -> Result<Vec<u8>, OpenError> {
    let mut file = CsvFile::open(&source.file, source.delimiter, "the CSV file")?;
    let mut names = None;
    if source.columns.header {
        if !file.advance()? {
            return Err(OpenError::file(&source.file, "empty, expected a header and rows"));
        }
        names = Some(file.row().iter().map(str::to_owned).collect());
    }
    if !file.advance()? {
        return Err(OpenError::file(&source.file, "has no rows"));
    }
    let names = names.unwrap_or_else(|| (0..file.row().len()).map(|column| column.to_string()).collect());
    let columns = Columns::new(&source.columns, &source.file, names, file.row())?;

    let (mut numbers, mut labels) = (Vec::new(), Vec::new());
    let mut classes = source.columns.labels();
    loop {
        let label = columns.push(file.row(), &mut numbers, |text| classes.number(text));
        labels.extend(label.map_err(|reason| file.refuse(reason))?);
        if !file.advance()? {
            break;
        }
    }
    let rows = numbers.len() / (columns.width() * CELL_BYTES);
    let classes = classes.finish(&mut labels);
    numbers.extend(labels.into_iter().flat_map(u32::to_le_bytes));
    let name = |&column: &usize| columns.names[column].clone();
    let table = Table {
        rows,
        features: columns.features.iter().map(name).collect(),
        targets: columns.targets.iter().map(name).collect(),
        label: columns.label.as_ref().map(|column| (name(column), classes)),
    };
    pack(numbers, MAGIC, &table)
}
