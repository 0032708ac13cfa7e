//! How a row of a CSV becomes the numbers of a sample.

use std::collections::HashMap;
use std::path::Path;

use batchmill_protocol::tensor::{Dtype, Shape};
use csv::StringRecord;
use serde::{Deserialize, Serialize};

use super::classes_from_options;
use super::labels::{Labels, is_integer};
use crate::nearest::suggestion;
use crate::options::Options;
use crate::sample::{Array, Sample, ValueError};
use crate::source::OpenError;
use crate::spec::SpecError;

/// Bytes of a number.
const NUMBER_BYTES: usize = 4;

/// The fields of a sample.
pub(super) const INPUT: &str = "input";
pub(super) const LABEL: &str = "label";
pub(super) const TARGET: &str = "target";

/// What stands in a cell without a number, in any case of letters.
///
/// Source: the commonest of `pandas.read_csv`, `na_values`.
const MISSING: [&str; 6] = ["", "nan", "na", "n/a", "null", "none"];

/// The options that say which columns are wanted.
///
/// `features`, `targets`, `target_kind`, `classes`, `missing` and `header`, as [`CsvTable`](super::CsvTable) has them.
#[derive(Clone, Debug)]
pub(super) struct ColumnOptions {
    features: Option<Vec<String>>,
    targets: Vec<String>,
    target_kind: Option<TargetKind>,
    classes: Option<Vec<String>>,
    missing: Option<f32>,
    /// Whether the first row has the names of the columns.
    pub(super) header: bool,
}

/// What a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TargetKind {
    Class,
    Number,
}

impl ColumnOptions {
    pub(super) fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let features = options.optional_strings("features")?;
        let targets = options.optional_strings("targets")?.unwrap_or_default();
        let kinds = [("class", TargetKind::Class), ("number", TargetKind::Number)];
        let target_kind = options.optional_one_of("target_kind", &kinds)?;
        let classes = classes_from_options(options)?;
        let missing = missing_from_options(options)?;
        let header = options.optional_boolean("header")?.unwrap_or(true);

        if features.as_ref().is_some_and(Vec::is_empty) {
            return Err(options.error("features", "is an empty list; leave it out to take all numeric columns"));
        }
        let columns = || features.iter().flatten().chain(&targets);
        if let Some((_, twice)) =
            columns().enumerate().find(|(place, name)| columns().take(*place).any(|it| it == *name))
        {
            let key = if targets.contains(twice) { "targets" } else { "features" };
            return Err(options.error(key, format_args!("has the column `{twice}`, which is named before")));
        }
        if target_kind == Some(TargetKind::Class) && targets.len() != 1 {
            let count = targets.len();
            return Err(
                options.error("target_kind", format_args!("is \"class\", which is for one target, not {count}"))
            );
        }
        if classes.is_some() && (target_kind == Some(TargetKind::Number) || targets.len() != 1) {
            return Err(options.error("classes", "is for one target that is a class"));
        }
        let target_kind = target_kind.or(classes.as_ref().map(|_| TargetKind::Class));
        Ok(Self { features, targets, target_kind, classes, missing, header })
    }
    /// What the labels mean, before any is read.
    pub(super) fn labels(&self) -> Labels {
        match &self.classes {
            None => Labels::Unknown,
            Some(classes) => Labels::given(classes.clone(), HashMap::new(), "`classes`"),
        }
    }
}

fn missing_from_options(options: &mut Options) -> Result<Option<f32>, SpecError> {
    let Some(value) = options.value("missing") else { return Ok(None) };
    // Through text: the nearest `f32`, as for a number of the table.
    let number = match &value {
        toml::Value::Float(number) if number.is_nan() => Some(f32::NAN),
        toml::Value::Float(number) => number.to_string().parse().ok(),
        toml::Value::Integer(number) => number.to_string().parse().ok(),
        _ => None,
    };
    match number.filter(|number| !number.is_infinite()) {
        Some(number) => Ok(Some(number)),
        None => Err(options.error("missing", format_args!("is {value}, not a number that `f32` has, or nan"))),
    }
}

/// Which columns of a file are what.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Columns {
    /// The names of all.
    pub(super) names: Vec<String>,
    pub(super) features: Vec<usize>,
    pub(super) targets: Vec<usize>,
    pub(super) label: Option<usize>,
    /// An option: JSON has no NaN.
    #[serde(skip)]
    missing: Option<f32>,
}

impl Columns {
    /// Finds the columns of `file` by their names, or by what stands in the first row.
    pub(super) fn new(
        source: &ColumnOptions,
        file: &Path,
        names: Vec<String>,
        first: &StringRecord,
    ) -> Result<Self, OpenError> {
        let find = |key: &str, name: &String| {
            let mut places = (0..).zip(&names).filter(|(_, known)| *known == name).map(|(column, _)| column);
            let refuse = |reason| Err(OpenError::file(file, reason));
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
            return Err(OpenError::file(file, reason));
        }
        let is_class = |text: &str| is_integer(text) || text.parse::<f32>().is_err();
        let (targets, label) = match (source.target_kind, &targets[..]) {
            (Some(TargetKind::Class), &[target]) => (vec![], Some(target)),
            (None, &[target]) if is_class(cell(target)) => (vec![], Some(target)),
            _ => (targets, None),
        };
        Ok(Self { names, features, targets, label, missing: source.missing })
    }

    /// Columns that come from an index.
    pub(super) fn with_options(self, source: &ColumnOptions) -> Self {
        Self { missing: source.missing, ..self }
    }

    /// Numbers of a row, without its label.
    pub(super) fn width(&self) -> usize {
        self.features.len() + self.targets.len()
    }

    /// Takes a row in: its numbers, features before targets, and its label, as `class` has it.
    ///
    /// # Errors
    /// What is wrong with it, to follow the line.
    pub(super) fn push(
        &self,
        record: &StringRecord,
        numbers: &mut Vec<u8>,
        mut class: impl FnMut(&str) -> Result<u32, String>,
    ) -> Result<Option<u32>, String> {
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
            match class(&record[column]) {
                Ok(label) => return Ok(Some(label)),
                Err(reason) if matches!(number(&record[column]), Ok(Some(_))) => {
                    return wrong(column, &format!("{reason}; for a number set `target_kind` to \"number\""));
                }
                Err(reason) => return wrong(column, &reason),
            }
        }
        Ok(None)
    }
}

/// The sample of a row's numbers, of which the first `features` are the input, and of its label.
///
/// # Errors
/// [`ValueError`] when there are not that many.
pub(super) fn sample(numbers: &[u8], features: usize, label: Option<u32>) -> Result<Sample, ValueError> {
    let (input, target) = numbers.split_at_checked(features * NUMBER_BYTES).unwrap_or((numbers, &[]));
    let mut sample = Sample::new().with(INPUT, Array::new(Dtype::F32, [features], input.to_vec())?);
    if let Some(label) = label {
        sample.insert(LABEL, Array::scalar_i64(label.into()));
    }
    if !target.is_empty() {
        let targets = target.len() / NUMBER_BYTES;
        let shape = if targets == 1 { vec![] } else { vec![targets] };
        sample.insert(TARGET, Array::new(Dtype::F32, Shape(shape), target.to_vec())?);
    }
    Ok(sample)
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
