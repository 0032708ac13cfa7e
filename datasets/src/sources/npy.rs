//! Arrays that numpy saved.

mod header;
mod index;
mod opened;

use std::path::PathBuf;

use self::index::Builder;
use self::opened::Opened;
use super::classes_from_options;
use crate::dataset::MapDataset;
use crate::options::Options;
use crate::source::{Index, OpenError, Source};
use crate::spec::SpecError;

/// The keys that are fields without being named under `fields`.
const FIELDS: [&str; 4] = ["image", "input", "label", "target"];

/// The kind `npy`: a `TensorDataset` of what `numpy.load` returns, one file for each field.
///
/// Options: `image`, `input`, `label`, `target`, the files of the fields of these names; `fields`, a table of the files
/// of fields of any name; `classes`, the names of the classes by label, which otherwise are "0", "1" and so on.
///
/// The first axis of an array counts the samples; all must have the same number. Elements are numbers or booleans of any
/// size that numpy has, in either byte order, and arrays are in C order: one in Fortran order has the numbers of a sample
/// all over the file.
///
/// Samples are read from the files one by one, never all at once. Only arrays with one number a sample, such as labels,
/// lie in the index, which workers share: at most 4 GiB.
///
/// Shapes: those of the arrays without the first axis, with their dtype. A `label` of one integer is an i64, and a class
/// unless it is negative. An `image` of u8 with the shape [height, width], or [height, width, channels] with 1, 3 or 4
/// channels, is an image: [height, width, channels].
///
/// Source: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.
#[derive(Clone, Debug)]
pub struct Npy {
    /// Fields and their files.
    fields: Vec<(String, PathBuf)>,
    classes: Option<Vec<String>>,
}

impl Npy {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when there is no field, or an option has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let mut fields = Vec::new();
        for field in FIELDS {
            fields.extend(options.optional_path(field)?.map(|file| (field.to_owned(), file)));
        }
        if let Some(mut table) = options.optional_table("fields")? {
            for field in table.keys() {
                if fields.iter().any(|(known, _)| *known == field) {
                    return Err(table.error(&field, "is named outside of `fields` as well"));
                }
                let file = table.path(&field)?;
                fields.push((field, file));
            }
        }
        let found = (!fields.is_empty()).then_some(());
        options.required("input", found)?;
        Ok(Self { fields, classes: classes_from_options(options)? })
    }
}

impl Source for Npy {
    fn index(&self) -> Result<Vec<u8>, OpenError> {
        let mut builder = Builder::new(self.classes.as_deref());
        for (field, file) in &self.fields {
            builder.add_npy(field, file)?;
        }
        builder.finish()
    }

    fn open(self: Box<Self>, index: Index) -> Result<Box<dyn MapDataset>, OpenError> {
        open(self.fields.into_iter().map(|(_, file)| file).collect(), index)
    }
}

/// The kind `npz`: the same for one file with several arrays, as `numpy.savez` and `numpy.savez_compressed` write it.
///
/// Options: `file`; `fields`, a table of the names of arrays by field (default: every array is a field of its name);
/// `classes`, the names of the classes by label, which otherwise are "0", "1" and so on.
///
/// Arrays, samples and shapes are as with `npy`. Those that are not compressed are read in place, sample by sample.
/// Compressed ones are inflated once, into the index that all workers share: at most 4 GiB.
#[derive(Clone, Debug)]
pub struct Npz {
    file: PathBuf,
    /// Fields and their arrays.
    fields: Option<Vec<(String, String)>>,
    classes: Option<Vec<String>>,
}

impl Npz {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when one is missing or has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let file = options.path("file")?;
        let fields = match options.optional_table("fields")? {
            None => None,
            Some(mut table) => {
                let fields = table.keys().into_iter().map(|field| Ok((table.string(&field)?, field)));
                let fields: Vec<_> =
                    fields.map(|both| both.map(|(array, field)| (field, array))).collect::<Result<_, _>>()?;
                if fields.is_empty() {
                    return Err(options.error("fields", "is empty; leave it out to take all arrays"));
                }
                Some(fields)
            }
        };
        Ok(Self { file, fields, classes: classes_from_options(options)? })
    }
}

impl Source for Npz {
    fn index(&self) -> Result<Vec<u8>, OpenError> {
        let mut builder = Builder::new(self.classes.as_deref());
        builder.add_npz(self.fields.as_deref(), &self.file)?;
        builder.finish()
    }

    fn open(self: Box<Self>, index: Index) -> Result<Box<dyn MapDataset>, OpenError> {
        open(vec![self.file], index)
    }
}

fn open(files: Vec<PathBuf>, index: Index) -> Result<Box<dyn MapDataset>, OpenError> {
    let damaged = OpenError::other("the index of the arrays is damaged or of another version; open it again", None);
    Ok(Box::new(Opened::new(files, index).ok_or(damaged)?))
}
