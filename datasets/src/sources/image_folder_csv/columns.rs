//! The option `columns`: which columns of the CSV become which fields.

use std::path::{Path, PathBuf};

use batchmill_protocol::tensor::Dtype;
use toml::Value;

use super::class_names::ClassNames;
use crate::options::Options;
use crate::sources::image_files::{Field, FieldKind, LABEL, One};
use crate::spec::SpecError;
use crate::transform::IMAGE;

/// What classes are separated by in a cell where the user does not say.
const SEPARATOR_DEFAULT: char = '|';

/// The field of a mask where the user does not say.
const MASK: &str = "mask";

/// Which column is what.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    /// How they are found by the first row; without it the path comes first and one label second, below a header or
    /// none.
    pub(super) header: Option<Header>,
    /// The columns beside the path.
    pub(super) columns: Vec<Column>,
}

/// The names of columns in the first row.
#[derive(Clone, Debug)]
pub(super) struct Header {
    /// That of the paths; the first column without it.
    pub(super) path: Option<String>,
    /// Those of the other columns, in their order.
    pub(super) names: Vec<String>,
}

/// A column beside the path.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) field: String,
    pub(super) content: Content,
}

/// How the cells of a column are read.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// A class; an empty cell is refused unless a number stands for it.
    Label { names: ClassNames, missing: Option<i32> },
    /// A number; an empty cell is refused unless a number stands for it.
    Number { missing: Option<f32> },
    /// Classes with a separator between them.
    MultiLabel { names: ClassNames, separator: char, one: One },
    /// The path of a mask below `folder`.
    Mask { folder: PathBuf },
}

/// The kinds of columns, by their names in a configuration.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Label,
    Number,
    MultiLabel,
    Mask,
}

const KINDS: [(&str, Kind); 4] =
    [("label", Kind::Label), ("number", Kind::Number), ("multi-label", Kind::MultiLabel), ("mask", Kind::Mask)];

impl Columns {
    /// Reads the options; masks lie below `images` where no folder is given.
    pub(super) fn from_options(options: &mut Options, images: &Path) -> Result<Self, SpecError> {
        let path = options.optional_string("path_column")?;
        let Some(tables) = options.optional_tables("columns")? else {
            if path.is_some() {
                return Err(options.error("path_column", "needs `columns`, which says where labels and others stand"));
            }
            let content = Content::label_from_options(options)?;
            return Ok(Self { header: None, columns: vec![Column { field: LABEL.to_owned(), content }] });
        };
        let (mut names, mut columns) = (Vec::new(), Vec::<Column>::new());
        for mut table in tables {
            names.push(table.string("column")?);
            let column = Column::from_options(&mut table, &names[columns.len()], images)?;
            let field = &column.field;
            if field.is_empty() || field == IMAGE {
                return Err(table.error("field", format_args!("is {field:?}; give it a name other than `{IMAGE}`")));
            }
            if columns.iter().any(|other| other.field == *field) {
                return Err(table.error("field", format_args!("is {field:?}, as that of a column before it")));
            }
            table.finish()?;
            columns.push(column);
        }
        for key in ["classes", "classes_file", "missing"] {
            if options.value(key).is_some() {
                return Err(options.error(key, "is for a list without `columns`; put it into the entry of its column"));
            }
        }
        Ok(Self { header: Some(Header { path, names }), columns })
    }

    /// Whether a column is one of masks.
    pub(super) fn have_masks(&self) -> bool {
        self.columns.iter().any(|column| matches!(column.content, Content::Mask { .. }))
    }

    /// The files beside the CSV that are read for the index.
    pub(super) fn files(&self) -> Vec<&Path> {
        let files = self.columns.iter().filter_map(|column| match &column.content {
            Content::Label { names: ClassNames::File(file), .. }
            | Content::MultiLabel { names: ClassNames::File(file), .. } => Some(&**file),
            _ => None,
        });
        files.collect()
    }

    /// The fields of a sample, in order.
    pub(super) fn fields(self) -> Vec<Field> {
        self.columns.into_iter().map(|Column { field, content }| Field { name: field, kind: content.field() }).collect()
    }
}

impl Column {
    fn from_options(options: &mut Options, column: &str, images: &Path) -> Result<Self, SpecError> {
        let content = match options.optional_one_of("kind", &KINDS)?.unwrap_or(Kind::Label) {
            Kind::Label => Content::label_from_options(options)?,
            Kind::Number => Content::Number { missing: missing_number(options)? },
            Kind::MultiLabel => {
                let ones = [(Dtype::F32.name(), One::F32), (Dtype::Bool.name(), One::Bool)];
                Content::MultiLabel {
                    names: ClassNames::from_options(options)?,
                    separator: separator(options)?,
                    one: options.optional_one_of("dtype", &ones)?.unwrap_or(One::F32),
                }
            }
            Kind::Mask => {
                Content::Mask { folder: options.optional_path("folder")?.unwrap_or_else(|| images.to_owned()) }
            }
        };
        let usual = if matches!(content, Content::Mask { .. }) { MASK } else { column };
        Ok(Self { field: options.optional_string("field")?.unwrap_or_else(|| usual.to_owned()), content })
    }
}

impl Content {
    fn label_from_options(options: &mut Options) -> Result<Self, SpecError> {
        let names = ClassNames::from_options(options)?;
        // A number from 0 would be one of the classes.
        Ok(Self::Label { names, missing: options.optional_integer("missing", i32::MIN..=-1)? })
    }

    fn field(self) -> FieldKind {
        match self {
            // Where none is declared, no row of the index needs it.
            Self::Label { missing, .. } => FieldKind::Label { missing: missing.unwrap_or(-1) },
            Self::Number { .. } => FieldKind::Number,
            Self::MultiLabel { one, .. } => FieldKind::MultiLabel { one },
            Self::Mask { folder } => FieldKind::Mask { folder },
        }
    }
}

/// The option `missing` of a number: any number, `nan` included.
fn missing_number(options: &mut Options) -> Result<Option<f32>, SpecError> {
    let Some(value) = options.value("missing") else { return Ok(None) };
    let number = match value {
        // Rounded as a cell with the same digits is.
        Value::Integer(_) | Value::Float(_) => value.to_string().parse().ok(),
        _ => None,
    };
    number.map(Some).ok_or_else(|| options.error("missing", format_args!("is {value}, not a number or nan")))
}

fn separator(options: &mut Options) -> Result<char, SpecError> {
    let Some(text) = options.optional_string("separator")? else { return Ok(SEPARATOR_DEFAULT) };
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(letter), None) => Ok(letter),
        _ => Err(options.error("separator", format_args!("is {text:?}, not one character"))),
    }
}
