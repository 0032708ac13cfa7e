//! Where the names of classes come from: the labels themselves, a list among the options, or a file of their own.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::options::Options;
use crate::source::OpenError;
use crate::sources::csv_file::{CsvFile, has_extension, usual_delimiter};
use crate::sources::labels::{CLASSES_MAX, Labels, is_integer};
use crate::sources::{classes_from_options, is_class_name};
use crate::spec::SpecError;

/// What the file is called when it does not exist.
const CLASSES_FILE: &str = "the file with the names of the classes";

/// Where the names of classes come from.
#[derive(Clone, Debug)]
pub(super) enum ClassNames {
    /// The labels are the names.
    Labels,
    /// The option `classes`.
    Listed(Vec<String>),
    /// The option `classes_file`.
    File(PathBuf),
}

impl ClassNames {
    pub(super) fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        match (classes_from_options(options)?, options.optional_path("classes_file")?) {
            (None, None) => Ok(Self::Labels),
            (Some(names), None) => Ok(Self::Listed(names)),
            (None, Some(file)) => Ok(Self::File(file)),
            (Some(_), Some(_)) => Err(options.error("classes_file", "and `classes` exclude each other")),
        }
    }

    /// The meaning of labels, with the names read.
    ///
    /// # Errors
    /// [`OpenError`], naming file and line.
    pub(super) fn read(&self) -> Result<Labels, OpenError> {
        match self {
            Self::Labels => Ok(Labels::Unknown),
            Self::Listed(names) => Ok(Labels::given(names.clone(), HashMap::new(), "`classes`")),
            Self::File(file) if has_extension(file, &["csv", "tsv"]) => read_table(file),
            Self::File(file) => read_lines(file),
        }
    }
}

/// Reads a name from every line.
fn read_lines(file: &Path) -> Result<Labels, OpenError> {
    let text = fs::read_to_string(file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => OpenError::file(file, format!("{CLASSES_FILE} does not exist")),
        io::ErrorKind::InvalidData => OpenError::file(file, "no UTF-8; store the file as UTF-8"),
        _ => OpenError::read(file, error),
    })?;
    let lines = text.trim_start_matches('\u{feff}').trim_end().lines().map(str::trim);
    let names: Vec<_> = lines.map(str::to_owned).collect();
    if let Some((line, name)) = (1..).zip(&names).find(|(_, name)| !is_class_name(name)) {
        return Err(OpenError::line(file, line, format!("{name:?} is no name for a class")));
    }
    labels(file, names, HashMap::new())
}

/// Reads rows of a label and a name.
///
/// Labels that are integers are the numbers of their classes; others stand for a name in the list of images, and the
/// classes are numbered by row.
fn read_table(file: &Path) -> Result<Labels, OpenError> {
    let mut csv = CsvFile::open(file, usual_delimiter(file), CLASSES_FILE)?;
    let mut rows: Vec<(String, String)> = Vec::new();
    while csv.advance()? {
        let columns = csv.row().len();
        let Some((label, name)) = csv.row().get(0).zip(csv.row().get(1)).filter(|_| columns == 2) else {
            let noun = if columns == 1 { "column" } else { "columns" };
            return Err(csv.refuse(format!("{columns} {noun}, expected 2 (label, name)")));
        };
        if label.is_empty() {
            return Err(csv.refuse("the label is empty".to_owned()));
        }
        if !is_class_name(name) {
            return Err(csv.refuse(format!("{name:?} is no name for a class")));
        }
        let is_below_header = rows.len() == 1
            && (rows[0].0.eq_ignore_ascii_case("label") || !is_integer(&rows[0].0) && is_integer(label));
        if is_below_header {
            rows.clear();
        }
        rows.push((label.to_owned(), name.to_owned()));
    }
    let integers = rows.iter().filter(|(label, _)| is_integer(label)).count();
    if integers == rows.len() {
        return labels(file, by_number(rows).map_err(|reason| OpenError::file(file, reason))?, HashMap::new());
    }
    if integers > 0 {
        let reason = format!("labels that are integers: {integers} of {}, expected all or none", rows.len());
        return Err(OpenError::file(file, reason));
    }
    let mut codes = HashMap::new();
    for ((label, _), number) in rows.iter().zip(0..) {
        if codes.insert(label.clone(), number).is_some() {
            return Err(OpenError::file(file, format!("has the label `{label}` twice")));
        }
    }
    labels(file, rows.into_iter().map(|(_, name)| name).collect(), codes)
}

/// The names of rows by the numbers that are their labels.
fn by_number(rows: Vec<(String, String)>) -> Result<Vec<String>, String> {
    let mut names = vec![None; rows.len()];
    for (label, name) in rows {
        let place = label.parse().ok().and_then(|number: usize| names.get_mut(number));
        let Some(place @ None) = place else {
            let (rows, last) = (names.len(), names.len() - 1);
            return Err(format!("has {rows} rows and the label {label}; integers are 0 to {last}, each once"));
        };
        *place = Some(name);
    }
    // As many rows as places, and no place taken twice.
    Ok(names.into_iter().flatten().collect())
}

/// The labels of these classes; `codes` stand for some of them as well.
fn labels(file: &Path, names: Vec<String>, codes: HashMap<String, u32>) -> Result<Labels, OpenError> {
    if names.is_empty() {
        return Err(OpenError::file(file, "has no names of classes"));
    }
    if names.len() > CLASSES_MAX {
        return Err(OpenError::file(file, format!("has {} names of classes; {CLASSES_MAX} are the most", names.len())));
    }
    let mut seen = HashSet::new();
    for (name, number) in names.iter().zip(0..) {
        if !seen.insert(name) {
            return Err(OpenError::file(file, format!("has the name `{name}` twice")));
        }
        if codes.get(name).is_some_and(|&other| other != number) {
            return Err(OpenError::file(
                file,
                format!("has `{name}` as the name of one class and the label of another"),
            ));
        }
    }
    Ok(Labels::given(names, codes, &file.display().to_string()))
}
