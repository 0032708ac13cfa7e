//! Reads the CSV once, row by row, into the index.

use std::collections::HashMap;

use csv::StringRecord;

use super::{CELL_BYTES, CsvTable, MAGIC, Table, TargetKind};
use crate::nearest::suggestion;
use crate::source::OpenError;
use crate::sources::csv_file::CsvFile;
use crate::sources::labels::{Labels, is_integer};
use crate::sources::packed::pack;

/// What stands in a cell without a number, in any case of letters.
///
/// Source: the commonest of `pandas.read_csv`, `na_values`.
const MISSING: [&str; 6] = ["", "nan", "na", "n/a", "null", "none"];

/// Reads the table, as a packed [`Table`].
///
/// # Errors
/// [`OpenError`], with the line and the column of what is no number.
pub(super) fn read(source: &CsvTable) -> Result<Vec<u8>, OpenError> {
    let mut file = CsvFile::open(&source.file, source.delimiter, "the CSV file")?;
    let mut names = None;
    if source.header {
        if !file.advance()? {
            return Err(OpenError::file(&source.file, "empty, expected a header and rows"));
        }
        names = Some(file.row().iter().map(str::to_owned).collect());
    }
    if !file.advance()? {
        return Err(OpenError::file(&source.file, "has no rows"));
    }
    let names = names.unwrap_or_else(|| (0..file.row().len()).map(|column| column.to_string()).collect());
    let columns = Columns::new(source, names, file.row())?;

    let (mut numbers, mut labels) = (Vec::new(), Vec::new());
    let mut classes = match &source.classes {
        None => Labels::Unknown,
        Some(classes) => Labels::given(classes.clone(), HashMap::new(), "`classes`"),
    };
    loop {
        let row = columns.push(file.row(), &mut numbers, &mut labels, &mut classes);
        row.map_err(|reason| file.refuse(reason))?;
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

/// Which columns are what.
#[derive(Debug)]
struct Columns {
    names: Vec<String>,
    features: Vec<usize>,
    targets: Vec<usize>,
    label: Option<usize>,
    missing: Option<f32>,
}

impl Columns {
    /// Finds the columns by their names, or by what stands in the first row.
    fn new(source: &CsvTable, names: Vec<String>, first: &StringRecord) -> Result<Self, OpenError> {
        let find = |key: &str, name: &String| {
            let mut places = (0..).zip(&names).filter(|(_, known)| *known == name).map(|(column, _)| column);
            let refuse = |reason| Err(OpenError::file(&source.file, reason));
            match (places.next(), places.next()) {
                (Some(column), None) => Ok(column),
                (Some(_), Some(_)) => refuse(format!("has several columns `{name}`; rename all but one")),
                (None, _) => {
                    let right = suggestion(name, names.iter().map(String::as_str));
                    refuse(format!("has no column `{name}`, as `{key}` says{right}"))
                }
            }
        };
        let targets = source.targets.iter().map(|name| find("targets", name)).collect::<Result<Vec<_>, _>>()?;
        let cell = |column: usize| first.get(column).unwrap_or_default();
        let features = match &source.features {
            Some(features) => features.iter().map(|name| find("features", name)).collect::<Result<Vec<_>, _>>()?,
            None => {
                let looks_numeric = |text: &str| is_missing(text) || text.parse::<f32>().is_ok();
                (0..names.len()).filter(|column| !targets.contains(column) && looks_numeric(cell(*column))).collect()
            }
        };
        if features.is_empty() {
            let reason = "has no column with a number in its first row, besides the targets; is `delimiter` right?";
            return Err(OpenError::file(&source.file, reason));
        }
        let is_class = |text: &str| is_integer(text) || text.parse::<f32>().is_err();
        let (targets, label) = match (source.target_kind, &targets[..]) {
            (Some(TargetKind::Class), &[target]) => (vec![], Some(target)),
            (None, &[target]) if is_class(cell(target)) => (vec![], Some(target)),
            _ => (targets, None),
        };
        Ok(Self { names, features, targets, label, missing: source.missing })
    }

    /// Numbers of a row, without its label.
    fn width(&self) -> usize {
        self.features.len() + self.targets.len()
    }

    /// Takes a row in.
    ///
    /// # Errors
    /// What is wrong with it, to follow the line.
    fn push(
        &self,
        record: &StringRecord,
        numbers: &mut Vec<u8>,
        labels: &mut Vec<u32>,
        classes: &mut Labels,
    ) -> Result<(), String> {
        if record.len() != self.names.len() {
            let noun = if record.len() == 1 { "column" } else { "columns" };
            return Err(format!("{} {noun}, expected {}", record.len(), self.names.len()));
        }
        let wrong = |column: usize, reason: &str| Err(format!("column `{}`: {reason}", self.names[column]));
        for &column in &self.features {
            let value = match number(&record[column]) {
                Ok(value) => value.or(self.missing),
                Err(reason) if record[column].parse::<f32>().is_err() => {
                    return wrong(column, &format!("{reason}; list the columns to read under `features`"));
                }
                Err(reason) => return wrong(column, &reason),
            };
            let Some(value) = value else {
                return wrong(column, "nothing, expected a number; what to put there can be given as `missing`");
            };
            numbers.extend(value.to_le_bytes());
        }
        for &column in &self.targets {
            match number(&record[column]) {
                Ok(Some(value)) => numbers.extend(value.to_le_bytes()),
                Ok(None) => return wrong(column, "nothing, expected a number; take the row out"),
                Err(reason) => return wrong(column, &reason),
            }
        }
        if let Some(column) = self.label {
            match classes.number(&record[column]) {
                Ok(label) => labels.push(label),
                Err(reason) if matches!(number(&record[column]), Ok(Some(_))) => {
                    return wrong(column, &format!("{reason}; for a number set `target_kind` to \"number\""));
                }
                Err(reason) => return wrong(column, &reason),
            }
        }
        Ok(())
    }
}

fn is_missing(text: &str) -> bool {
    MISSING.iter().any(|missing| text.eq_ignore_ascii_case(missing))
}

/// The number in a cell, always finite; `None` when it is missing.
fn number(text: &str) -> Result<Option<f32>, String> {
    match text.parse::<f32>() {
        Ok(value) if value.is_finite() => Ok(Some(value)),
        _ if is_missing(text) => Ok(None),
        Ok(_) if text.contains(|character: char| character.is_ascii_digit()) => {
            Err(format!("{text} is beyond the largest f32, {:e}", f32::MAX))
        }
        Ok(_) => Err(format!("`{text}` is not finite")),
        Err(_) => Err(format!("{text:?} is not a number")),
    }
}
