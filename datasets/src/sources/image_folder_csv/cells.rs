//! What the cells of one column become, row by row.

use std::fs::{self, Metadata};
use std::io;
use std::path::Path;

use super::columns::Content;
use crate::source::OpenError;
use crate::sources::csv_file::Refusal;
use crate::sources::image_files::table::{Column, FileEntry, FileList, NO_CLASS, SetList};
use crate::sources::labels::Labels;

/// A column that is being read.
#[derive(Debug)]
pub(super) enum Cells<'a> {
    /// Paths of files below `folder`.
    Files {
        folder: &'a Path,
        files: FileList,
    },
    Labels {
        labels: Labels,
        may_miss: bool,
        classes: Vec<u32>,
    },
    Numbers {
        missing: Option<f32>,
        numbers: Vec<f32>,
    },
    Sets {
        labels: Labels,
        separator: char,
        sets: SetList,
    },
}

impl<'a> Cells<'a> {
    /// A column without rows; names of classes that lie in a file are read.
    ///
    /// # Errors
    /// [`OpenError`] of that file.
    pub(super) fn new(content: &'a Content) -> Result<Self, OpenError> {
        Ok(match content {
            Content::Label { names, missing } => {
                Self::Labels { labels: names.read()?, may_miss: missing.is_some(), classes: Vec::new() }
            }
            Content::Number { missing } => Self::Numbers { missing: *missing, numbers: Vec::new() },
            Content::MultiLabel { names, separator, .. } => {
                Self::Sets { labels: names.read()?, separator: *separator, sets: SetList::default() }
            }
            Content::Mask { folder } => Self::files(folder),
        })
    }

    /// A column of paths below `folder`.
    pub(super) fn files(folder: &'a Path) -> Self {
        Self::Files { folder, files: FileList::default() }
    }

    /// Adds the cell of the next row.
    ///
    /// # Errors
    /// What is wrong with it, to follow the line.
    pub(super) fn push(&mut self, cell: &str) -> Result<(), Refusal> {
        match self {
            Self::Files { folder, files } => {
                let metadata = fs::metadata(folder.join(cell));
                files.push(&FileEntry::new(cell, &check_file(cell, metadata, folder)?));
            }
            Self::Labels { may_miss: true, classes, .. } if cell.is_empty() => classes.push(NO_CLASS),
            Self::Labels { labels, classes, .. } => classes.push(labels.number(cell)?),
            Self::Numbers { missing: Some(missing), numbers } if cell.is_empty() => numbers.push(*missing),
            Self::Numbers { numbers, .. } => numbers.push(number(cell)?),
            Self::Sets { labels, separator, sets } => {
                // An empty cell is a set of none.
                for name in cell.split(*separator).map(str::trim).filter(|_| !cell.is_empty()) {
                    if name.is_empty() {
                        return Err(format!("a class is empty between the separators of {cell:?}").into());
                    }
                    sets.add(labels.number(name)?);
                }
                sets.close();
            }
        }
        Ok(())
    }

    /// The column as it is packed.
    pub(super) fn finish(self) -> Column {
        match self {
            Self::Files { files, .. } => Column::Files(files),
            Self::Labels { labels, mut classes, .. } => {
                let names = labels.finish(&mut classes);
                Column::Classes { classes, names }
            }
            Self::Numbers { numbers, .. } => Column::Numbers(numbers),
            Self::Sets { labels, mut sets, .. } => {
                let names = labels.finish(sets.members_mut());
                Column::Sets { sets, names }
            }
        }
    }
}

/// Requires that a path of the CSV is a file; otherwise says what it is, and what that came from.
fn check_file(path: &str, metadata: io::Result<Metadata>, folder: &Path) -> Result<Metadata, Refusal> {
    let (name, folder) = (path.escape_debug(), folder.display());
    match metadata {
        _ if path.is_empty() => Err("the path is empty".to_owned().into()),
        Ok(metadata) if metadata.is_file() => Ok(metadata),
        Ok(_) => Err(format!("{name} in {folder} is no file").into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(format!("{name} does not exist in {folder}").into())
        }
        Err(error) => Err(Refusal { reason: format!("look at {name} in {folder}"), source: Some(error) }),
    }
}

fn number(cell: &str) -> Result<f32, String> {
    if cell.is_empty() {
        return Err("the number is empty; `missing` may say what an empty one is".to_owned());
    }
    let number = cell.parse().ok().filter(|number: &f32| number.is_finite());
    number.ok_or_else(|| format!("`{}` is no finite number (f32)", cell.escape_debug()))
}
