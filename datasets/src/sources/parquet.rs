//! Tables in Parquet files.

mod footer;
mod group;
mod index;
mod opened;
mod pages;
mod schema;

use self::opened::Opened;
use super::classes_from_options;
use super::file_patterns::FilePatterns;
use crate::dataset::MapDataset;
use crate::decode::DecodeOptions;
use crate::options::Options;
use crate::source::{Index, OpenError, Source};
use crate::spec::SpecError;

/// The kind `parquet`: rows of one or several files, as Hugging Face's `datasets` publishes and loads them.
///
/// Options: `files`, one or a list, with braces and `*`: `train-{00..01}.parquet`, `train-*.parquet`; or a folder, which
/// stands for all its `*.parquet`;
/// `image`, the column of encoded images, either bytes or, as Hugging Face has them, a struct with `bytes`; `label`, the
/// column of class labels; `columns`, further columns of numbers, by name (default: all); `color`, "rgb" (default),
/// "gray" or "rgba"; `exif_orientation`, whether images are turned as their EXIF says (default false); `classes`, the
/// names of the classes by label (default: those that the files name, or "0", "1" and so on).
///
/// Integers, floats and booleans are numbers, and lists of them rows of numbers, whose length may differ from sample to
/// sample; dates, decimals and text are none. The column of a struct is named `struct.field`. Files are read as they are
/// listed, those of a folder or a `*` in the order of their names. A row in which one of the values is null cannot be read, and is for `on_bad` to deal with.
///
/// Shapes: `image`: [height, width, 3, 1 or 4], u8; `label`: [], i64; every other column under its name and with its dtype:
/// [], or `[length]` for a list.
///
/// Cost: a sample costs the decoding of its whole row group. Each worker keeps the groups it used last, as many as fit
/// into 256 MiB, so that rows in order, and small sets in any order, are read once. A larger set in random order is read
/// once for every sample: order it by [`shards`](MapDataset::shards), as `shuffled` does, or write small row groups. One
/// of more than 1 GiB is refused. Compression: none, Snappy, Zstandard, gzip.
///
/// Source: <https://parquet.apache.org/docs/file-format/>, and `datasets.Image` of Hugging Face.
#[derive(Clone, Debug)]
pub struct Parquet {
    files: FilePatterns,
    image: Option<String>,
    label: Option<String>,
    columns: Option<Vec<String>>,
    decoding: DecodeOptions,
    classes: Option<Vec<String>>,
}

impl Parquet {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when one is missing or has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let source = Self {
            files: FilePatterns::from_options(options, "files")?.with_folders_of("*.parquet"),
            image: options.optional_string("image")?,
            label: options.optional_string("label")?,
            columns: options.optional_strings("columns")?,
            decoding: DecodeOptions::from_options(options)?,
            classes: classes_from_options(options)?,
        };
        if source.classes.is_some() && source.label.is_none() {
            return Err(options.error("classes", "is given without `label`, the column they are the classes of"));
        }
        Ok(source)
    }
}

impl Source for Parquet {
    fn index(&self) -> Result<Vec<u8>, OpenError> {
        index::build(self)
    }

    fn open(self: Box<Self>, index: Index) -> Result<Box<dyn MapDataset>, OpenError> {
        let damaged =
            || OpenError::other("the index of the Parquet files is damaged or of another version; open it again", None);
        Ok(Box::new(Opened::new(self.files.folder(), self.decoding, index).ok_or_else(damaged)?))
    }
}
