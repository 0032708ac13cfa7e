//! Which columns of a file are read, and as what.

use batchmill_protocol::tensor::Dtype;
use parquet::basic::{ConvertedType, LogicalType, Type};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};
use serde::{Deserialize, Serialize};

use super::Parquet;
use crate::nearest::suggestion;
use crate::transform::IMAGE;

/// The field of the class labels.
pub(super) const LABEL: &str = "label";

/// A column that is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Column {
    /// The field of the samples.
    pub(super) field: String,
    /// The path in the file, `image.bytes`.
    pub(super) path: String,
    pub(super) kind: Kind,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    /// One number in each row.
    Number(Dtype),
    /// A list of numbers in each row.
    List(Dtype),
    /// An encoded image in each row.
    Image,
}

/// The columns that the options ask for; or what is wrong with them.
pub(super) fn resolve(source: &Parquet, schema: &SchemaDescriptor) -> Result<Vec<Column>, String> {
    let mut columns: Vec<Column> = Vec::new();
    if let Some(name) = &source.image {
        let bytes = format!("{name}.bytes");
        let leaf = schema.columns().iter().find(|leaf| [name, &bytes].contains(&&leaf.path().string()));
        let leaf = leaf.ok_or_else(|| absent("image", name, schema))?;
        if leaf.physical_type() != Type::BYTE_ARRAY || leaf.max_rep_level() > 0 {
            return Err(format!("column `{name}` holds no bytes, so no encoded images"));
        }
        columns.push(Column { field: IMAGE.to_owned(), path: leaf.path().string(), kind: Kind::Image });
    }
    if let Some(name) = &source.label {
        let column = number(name, schema).ok_or_else(|| absent("label", name, schema))?;
        match column.kind {
            Kind::Number(Dtype::F16 | Dtype::F32 | Dtype::F64) | Kind::List(_) | Kind::Image => {
                return Err(format!("column `{name}` holds no integers, so no class labels"));
            }
            Kind::Number(_) => columns.push(Column { field: LABEL.to_owned(), ..column }),
        }
    }
    match &source.columns {
        Some(names) => {
            for name in names {
                let column = number(name, schema).ok_or_else(|| absent("columns", name, schema))?;
                if columns.iter().any(|known| known.field == column.field) {
                    return Err(format!("there would be two fields `{}`", column.field));
                }
                columns.push(column);
            }
        }
        None => {
            for column in schema.columns().iter().filter_map(|leaf| as_number(leaf, schema)) {
                let is_top = !column.field.contains('.');
                if is_top && !columns.iter().any(|known| known.path == column.path || known.field == column.field) {
                    columns.push(column);
                }
            }
        }
    }
    if columns.is_empty() {
        return Err("has no column of numbers, and `image` names none of images".to_owned());
    }
    Ok(columns)
}

/// The place of a column among those of another file; `None` when it is not there, or another kind of column.
pub(super) fn place(column: &Column, schema: &SchemaDescriptor) -> Option<usize> {
    schema.columns().iter().position(|leaf| {
        let same_kind = match column.kind {
            Kind::Image => leaf.physical_type() == Type::BYTE_ARRAY && leaf.max_rep_level() == 0,
            kind => as_number(leaf, schema).is_some_and(|found| found.kind == kind),
        };
        same_kind && leaf.path().string() == column.path
    })
}

fn number(name: &str, schema: &SchemaDescriptor) -> Option<Column> {
    schema.columns().iter().filter_map(|leaf| as_number(leaf, schema)).find(|column| column.field == name)
}

/// A leaf of the schema as a column of numbers, if it is one.
fn as_number(leaf: &ColumnDescriptor, schema: &SchemaDescriptor) -> Option<Column> {
    let (dtype, path) = (dtype(leaf)?, leaf.path().string());
    match leaf.max_rep_level() {
        0 => Some(Column { field: path.clone(), path, kind: Kind::Number(dtype) }),
        1 => {
            // The name of a list is that of its outermost group, if there is no second leaf in it.
            let root = leaf.path().parts().first()?;
            let leaves = schema.columns().iter().filter(|other| other.path().parts().first() == Some(root)).count();
            (leaves == 1).then(|| Column { field: root.clone(), path, kind: Kind::List(dtype) })
        }
        _ => None,
    }
}

/// The dtype of a column's numbers; `None` when they are none, but dates for instance.
fn dtype(leaf: &ColumnDescriptor) -> Option<Dtype> {
    let integer = |plain: Dtype| match (leaf.logical_type_ref(), leaf.converted_type()) {
        (Some(LogicalType::Integer(integer)), _) => match (integer.bit_width, integer.is_signed) {
            (8, true) => Some(Dtype::I8),
            (8, false) => Some(Dtype::U8),
            (16, true) => Some(Dtype::I16),
            (16, false) => Some(Dtype::U16),
            (32, true) => Some(Dtype::I32),
            (32, false) => Some(Dtype::U32),
            (64, true) => Some(Dtype::I64),
            (64, false) => Some(Dtype::U64),
            _ => None,
        },
        (Some(_), _) => None,
        (None, ConvertedType::NONE) => Some(plain),
        (None, ConvertedType::INT_8) => Some(Dtype::I8),
        (None, ConvertedType::UINT_8) => Some(Dtype::U8),
        (None, ConvertedType::INT_16) => Some(Dtype::I16),
        (None, ConvertedType::UINT_16) => Some(Dtype::U16),
        (None, ConvertedType::INT_32) => Some(Dtype::I32),
        (None, ConvertedType::UINT_32) => Some(Dtype::U32),
        (None, ConvertedType::INT_64) => Some(Dtype::I64),
        (None, ConvertedType::UINT_64) => Some(Dtype::U64),
        _ => None,
    };
    match leaf.physical_type() {
        Type::BOOLEAN => Some(Dtype::Bool),
        // A narrow type over a wide one is stored so; the other way round is no Parquet.
        Type::INT32 => integer(Dtype::I32).filter(|dtype| dtype.size_bytes() <= 4),
        Type::INT64 => integer(Dtype::I64).filter(|dtype| dtype.size_bytes() == 8),
        Type::FLOAT => Some(Dtype::F32),
        Type::DOUBLE => Some(Dtype::F64),
        Type::FIXED_LEN_BYTE_ARRAY => {
            let is_half = leaf.logical_type_ref() == Some(&LogicalType::Float16) && leaf.type_length() == 2;
            is_half.then_some(Dtype::F16)
        }
        Type::INT96 | Type::BYTE_ARRAY => None,
    }
}

/// What is said of a column that is not there, or not of the kind that is asked for.
fn absent(key: &str, name: &str, schema: &SchemaDescriptor) -> String {
    let names: Vec<_> = schema
        .columns()
        .iter()
        .map(|leaf| match as_number(leaf, schema) {
            Some(column) => column.field,
            None => leaf.path().string(),
        })
        .collect();
    if names.iter().any(|known| known == name) {
        return format!("column `{name}` is not one of numbers, as `{key}` asks for");
    }
    let right = suggestion(name, names.iter().map(String::as_str));
    format!("has no column `{name}`, as `{key}` asks for{right}")
}
