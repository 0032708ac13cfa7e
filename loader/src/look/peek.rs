//! `loader peek`: one batch as it is after the transforms.

use std::path::PathBuf;

use batchmill_datasets::batches::Batch;
use batchmill_datasets::registry::Registry;
use batchmill_datasets::sheet::{self, Tile};
use batchmill_protocol::position::Position;
use batchmill_protocol::tensor::Dtype;
use serde::Serialize;
use thiserror::Error;

use crate::cli::Peek;
use crate::error::Failure;
use crate::output;

/// Why there is no sheet.
#[derive(Debug, Error)]
enum PeekError {
    #[error("stream `{stream}` has no field that is an image: it delivers {fields}; leave out --out to list its rows")]
    NoImage { stream: String, fields: String },
    #[error("write {}", path.display())]
    Write { path: PathBuf, source: image::ImageError },
}

/// A batch, as printed.
#[derive(Debug, Serialize)]
struct Peeked {
    stream: String,
    #[serde(flatten)]
    position: Position,
    fields: Vec<String>,
    rows: Vec<Row>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sheet: Option<PathBuf>,
}

/// One row of it.
#[derive(Debug, Serialize)]
struct Row {
    row: usize,
    index: u64,
    sample: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    label: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    is: Option<&'static str>,
}

/// Makes the batch, draws it where that is asked for, and lists its rows.
pub(crate) fn peek(arguments: &Peek, registry: &Registry) -> Result<(), Failure> {
    let (spec, pipeline) = super::open(&arguments.looked, registry)?;
    let fields = pipeline.survey(&mut |_, _| ())?;
    let batch = pipeline.batch(&fields, arguments.from)?;
    let classes = pipeline.classes();
    let shown = batch.labels().iter().enumerate().take(arguments.rows as usize);
    let rows: Vec<_> = shown
        .map(|(row, label)| Row {
            row,
            index: label.index,
            sample: pipeline.dataset().name(label.index),
            // Its numbers are all zero, which is none of its own.
            label: if label.masked { String::new() } else { caption(&batch, row, classes) },
            is: [(label.masked, "masked"), (label.substituted, "a substitute"), (label.padding, "padding")]
                .into_iter()
                .find_map(|(is, what)| is.then_some(what)),
        })
        .collect();
    if let Some(path) = &arguments.out {
        let tiles: Vec<Vec<Tile>> = (0..rows.len()).map(|row| sheet::tiles(&batch, row)).collect();
        if tiles.iter().all(Vec::is_empty) {
            let fields = fields.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(PeekError::NoImage { stream: spec.name, fields }.into());
        }
        let captions = rows.iter().map(|row| match row.is {
            _ if !row.label.is_empty() => row.label.clone(),
            Some(is) => is.to_owned(),
            None => row.index.to_string(),
        });
        let drawn = sheet::draw(&tiles.into_iter().zip(captions).collect::<Vec<_>>());
        drawn
            .save_with_format(path, image::ImageFormat::Png)
            .map_err(|source| PeekError::Write { path: path.clone(), source })?;
    }
    let peeked = Peeked {
        stream: spec.name,
        position: batch.position(),
        fields: fields.iter().map(ToString::to_string).collect(),
        rows,
        sheet: arguments.out.clone(),
    };
    Ok(output::result(arguments.json, &peeked, &peeked.to_string())?)
}

/// What stands in the fields of a row that are single numbers: the name of its class, and what else there is.
fn caption(batch: &Batch, row: usize, classes: &[String]) -> String {
    let mut parts = Vec::new();
    for field in batch.fields().iter().filter(|field| field.shape.0.is_empty()) {
        let name = &field.name;
        let class = || {
            let label = *batch.i64s(name)?.get(row)?;
            let class = (name == "label").then(|| classes.get(usize::try_from(label).ok()?)).flatten();
            Some(class.cloned().unwrap_or_else(|| label.to_string()))
        };
        let real = || Some(batch.f32s(name)?.get(row)?.to_string());
        let text = match field.dtype {
            Dtype::I64 => class(),
            Dtype::F32 => real(),
            _ => None,
        };
        parts.extend(text.map(|text| if name == "label" { text } else { format!("{name} {text}") }));
    }
    parts.join(", ")
}

impl std::fmt::Display for Peeked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "stream `{}`, {}: {}", self.stream, self.position, self.fields.join(", "))?;
        for Row { row, sample, label, is, .. } in &self.rows {
            write!(f, "\n{row:>4}  {label:<20}  {sample}")?;
            if let Some(is) = is {
                write!(f, "  ({is})")?;
            }
        }
        match &self.sheet {
            Some(path) => write!(f, "\ndrawn in {}", path.display()),
            None => Ok(()),
        }
    }
}
