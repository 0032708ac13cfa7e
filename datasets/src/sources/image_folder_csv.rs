//! A folder of images with a CSV file that says what is in them.

mod cells;
mod class_names;
mod columns;
mod listing;

use std::path::PathBuf;

use self::columns::Columns;
use super::csv_file::delimiter_from_options;
use super::image_files::ImageFiles;
use super::kept_index;
use crate::dataset::MapDataset;
use crate::decode::DecodeOptions;
use crate::options::Options;
use crate::source::{Index, IndexRoom, OpenError, Source};
use crate::spec::SpecError;

/// The kind `image-folder-csv`: PyTorch's `CustomImageDataset` of the tutorial.
///
/// Options: `images`, the folder; `labels`, the CSV file; `delimiter`, ",", ";" or "tab" (default: "tab" for a file
/// called `.tsv`, else ","); `color`, "rgb" (default), "gray" or "rgba"; `exif_orientation`, whether images are turned as
/// their EXIF says (default: false); `draft`, the pixels that the shorter side of a JPEG must keep, which is then decoded
/// at a half, a fourth or an eighth of its size ([`DecodeOptions::draft`]; default: all; not beside masks);
/// `keep_index` (default: false).
///
/// *A path and a label.* The first column of the CSV is a path relative to the folder, the second a label. The first row
/// is a header when its first column is neither an existing file nor has an image's extension, and its second is no
/// integer. Labels are class names or integers from 0: those given in `classes`; without `classes` either all integers,
/// which then are the names, or all names, which are numbered in alphabetical order. Further options: `classes`, the
/// names of the classes by label, or `classes_file`, a file with them: one on each line, or, when it is called `.csv` or
/// `.tsv`, rows of a label and a name; `missing`, a negative integer that stands for an empty label, as `ignore_index`
/// of PyTorch's losses expects it. Without `missing` an empty label is refused.
///
/// *Other columns.* With `columns`, a list of tables, the first row is a header, and paths stand in `path_column`
/// (default: the first). Each table has `column`, a name in the header, and makes a field; what its `kind` is, it has as
/// options besides:
///
/// - `label` (default): a class, as above; `classes`, `classes_file`, `missing`.
/// - `number`: a regression target; `missing`, a number for an empty cell, or `nan`.
/// - `multi-label`: any number of classes, which a `separator` (default "|") stands between; none in an empty cell.
///   `classes`, `classes_file`; `dtype`, "f32" (default, as `BCEWithLogitsLoss` wants it) or "bool".
/// - `mask`: the path of a second image of the same size, with the class of each pixel; `folder`, where it starts
///   (default: that of the images).
///
/// The field is called as the column is, a mask `mask`; `field` gives another name. The dataset's classes are those of
/// the field `label`. Columns that are not listed are left out.
///
/// ```toml
/// dataset = { kind = "image-folder-csv", images = "images", labels = "pets.csv", columns = [
///     { column = "breed", field = "label", classes_file = "breeds.txt" },
///     { column = "age", kind = "number", missing = -1 },
///     { column = "tags", kind = "multi-label" },
/// ] }
/// ```
///
/// The CSV is UTF-8. Cells may be quoted; white space around them is left out. A path means the file of the very same
/// bytes: `é` may be one character or two, and only the form on disk is found. Every file of the list is looked at when
/// the stream is opened, and refused when it has changed since.
///
/// *A million files.* With `keep_index = true` what was learned of all files is kept in `labels.csv.index` beside the
/// CSV, and they are not looked at again for as long as the CSV's size, time and content, and the options, are the same.
/// A file that changed meanwhile is found out when it is read, which also removes what is kept; so does `loader
/// quarantine --retry`.
///
/// Shapes: `image`: [height, width, 3, 1 or 4], u8; then for each column, in their order: `label`: [], i64; a number: [],
/// f32; classes: [number of classes], f32 or bool; a mask: [height, width], u8.
#[derive(Clone, Debug)]
pub struct ImageFolderCsv {
    images: PathBuf,
    labels: PathBuf,
    delimiter: u8,
    decoding: DecodeOptions,
    columns: Columns,
    keep_index: bool,
}

impl ImageFolderCsv {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when one is missing or has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let images = options.path("images")?;
        let labels = options.path("labels")?;
        let decoding = DecodeOptions::from_options(options)?;
        let delimiter = delimiter_from_options(options, &labels)?;
        let columns = Columns::from_options(options, &images)?;
        if decoding.draft.is_some() && columns.have_masks() {
            return Err(options.error("draft", "has no sense beside masks, which would stay larger than their images"));
        }
        let keep_index = options.optional_boolean("keep_index")?.unwrap_or(false);
        Ok(Self { images, labels, delimiter, decoding, columns, keep_index })
    }
}

impl Source for ImageFolderCsv {
    fn index(&self) -> Result<Vec<u8>, OpenError> {
        let mut index = Vec::new();
        self.index_into(&mut index)?;
        Ok(index)
    }

    fn index_into(&self, room: &mut dyn IndexRoom) -> Result<(), OpenError> {
        let Self { images, labels, delimiter, columns, keep_index, .. } = self;
        let read = || listing::read(images, labels, *delimiter, columns);
        if !keep_index {
            return room.write_all(&read()?).map_err(OpenError::room);
        }
        let options = format!("{images:?} {delimiter} {columns:?}");
        kept_index::kept_or(labels, &options, &columns.files(), read, room)
    }

    fn forget_index(&self) {
        if self.keep_index {
            kept_index::forget(&self.labels);
        }
    }

    fn open(self: Box<Self>, index: Index) -> Result<Box<dyn MapDataset>, OpenError> {
        let Self { images, labels, decoding, columns, keep_index, .. } = *self;
        let files = ImageFiles::open(images, decoding, columns.fields(), index, &labels)?;
        Ok(Box::new(if keep_index { files.with_index_kept(labels) } else { files }))
    }
}
