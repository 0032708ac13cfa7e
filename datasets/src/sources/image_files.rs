//! Images in files of their own: what every dataset that lists such files in an index is when it is opened.

mod file;
pub(super) mod summary;
pub(super) mod table;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use batchmill_protocol::tensor::Dtype;

use self::file::Folder;
use self::table::{FileEntry, Kind, NO_CLASS, Table};
use crate::dataset::{Encoded, MapDataset, SampleError};
use crate::decode::{DecodeOptions, decode, decode_mask};
use crate::sample::{Array, Image, Sample, Value};
use crate::scratch;
use crate::source::{Index, OpenError};
use crate::sources::kept_index;
use crate::transform::IMAGE;

/// The field of the classes that are the dataset's.
pub(super) const LABEL: &str = "label";

/// Requires that a folder of images is one.
pub(super) fn check_folder(folder: &Path) -> Result<(), OpenError> {
    match fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(OpenError::file(folder, "a file, expected the folder with the images")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(OpenError::file(folder, "the folder with the images does not exist"))
        }
        Err(error) => Err(OpenError::read(folder, error)),
    }
}

/// A field beside the image.
#[derive(Clone, Debug)]
pub(super) struct Field {
    /// Its name in a sample.
    pub(super) name: String,
    pub(super) kind: FieldKind,
}

/// What a field is made of.
#[derive(Clone, Debug)]
pub(super) enum FieldKind {
    /// A class; where there is none, the number `missing`.
    Label { missing: i32 },
    /// A number.
    Number,
    /// Ones and zeros by class.
    MultiLabel { one: One },
    /// A second image, below `folder`, with the class of each pixel of the first.
    Mask { folder: PathBuf },
}

/// What says that a sample is of a class: 1.0, as losses want it, or true.
#[derive(Clone, Copy, Debug)]
pub(super) enum One {
    F32,
    Bool,
}

impl FieldKind {
    /// The column of the index that it is made of.
    fn column(&self) -> Kind {
        match self {
            Self::Label { .. } => Kind::Classes,
            Self::Number => Kind::Numbers,
            Self::MultiLabel { .. } => Kind::Sets,
            Self::Mask { .. } => Kind::Files,
        }
    }
}

/// The opened dataset: the table is shared by all workers.
///
/// Index: a table with a column of image files, and one for each field in turn.
#[derive(Debug)]
pub(super) struct ImageFiles {
    folder: Folder,
    decoding: DecodeOptions,
    fields: Vec<Field>,
    table: Table,
    classes: Vec<String>,
    /// Whose index is kept, and must be made anew when a file is no longer what it says.
    list: Option<PathBuf>,
}

impl ImageFiles {
    /// Opens the index of a list of files below `folder`; `list` is what the list is called in an error.
    pub(super) fn open(
        folder: PathBuf,
        decoding: DecodeOptions,
        fields: Vec<Field>,
        index: Index,
        list: &Path,
    ) -> Result<Self, OpenError> {
        let kinds: Vec<_> = [Kind::Files].into_iter().chain(fields.iter().map(|field| field.kind.column())).collect();
        let table = Table::new(index, &kinds)
            .ok_or_else(|| OpenError::file(list, "the index is damaged or of another version; open it again"))?;
        let label = fields.iter().position(|field| field.name == LABEL);
        let classes = label.map_or_else(Vec::new, |field| table.names(column_of(field)));
        Ok(Self { folder: Folder::new(folder), decoding, fields, table, classes, list: None })
    }

    /// The same, for a `list` whose index is kept.
    pub(super) fn with_index_kept(self, list: PathBuf) -> Self {
        Self { list: Some(list), ..self }
    }

    /// Sees that a file is not taken for what it was a second time.
    fn note(&self, error: &SampleError) {
        if let (SampleError::Changed { .. }, Some(list)) = (error, &self.list) {
            kept_index::forget(list);
        }
    }

    /// The bytes of the image of a row.
    fn read(&self, row: u64) -> Result<Vec<u8>, SampleError> {
        let entry = || self.table.file(0, row).ok_or_else(|| SampleError::new(self.name(row), "not in the index"));
        self.folder.read(row, entry).inspect_err(|error| self.note(error))
    }

    /// The sample of a row with its image, which is without pixels where there are no masks.
    fn sample(&self, row: u64, image: Image) -> Result<Sample, SampleError> {
        // The image comes first, and is looked at by masks.
        let mut sample = Sample::new().with(IMAGE, Image::default());
        for (place, field) in self.fields.iter().enumerate() {
            let value = self.value(place, row, &image)?;
            match &*field.name {
                LABEL => sample.insert(LABEL, value),
                name => sample.insert(name.to_owned(), value),
            };
        }
        sample.insert(IMAGE, image);
        Ok(sample)
    }

    fn value(&self, place: usize, row: u64, image: &Image) -> Result<Value, SampleError> {
        let column = column_of(place);
        let damaged = || SampleError::new(self.name(row), "not in the index");
        match &self.fields[place].kind {
            FieldKind::Label { missing } => {
                let class = self.table.class(column, row).ok_or_else(damaged)?;
                Ok(Array::scalar_i64(if class == NO_CLASS { (*missing).into() } else { class.into() }).into())
            }
            FieldKind::Number => Ok(Array::scalar_f32(self.table.number(column, row).ok_or_else(damaged)?).into()),
            FieldKind::MultiLabel { one } => {
                let set = self.table.set(column, row).ok_or_else(damaged)?;
                multi_hot(*one, self.table.class_count(column), set).map(Value::Array).ok_or_else(damaged)
            }
            FieldKind::Mask { folder } => {
                let mask = mask(folder, &self.table.file(column, row).ok_or_else(damaged)?, image);
                mask.inspect_err(|error| self.note(error)).map(Value::Mask)
            }
        }
    }
}

/// The column of a field: in front of them are the image files.
fn column_of(field: usize) -> usize {
    field + 1
}

impl MapDataset for ImageFiles {
    fn len(&self) -> u64 {
        self.table.len()
    }

    fn get(&self, index: u64) -> Result<Sample, SampleError> {
        let bytes = self.read(index)?;
        let image = decode(&bytes, self.decoding);
        let image = image.map_err(|source| SampleError::Decode { sample: self.name(index), source })?;
        scratch::give(bytes);
        self.sample(index, image)
    }

    fn encoded(&self, index: u64) -> Result<Option<Encoded>, SampleError> {
        // A mask is decoded beside its image, and must have its size.
        if self.fields.iter().any(|field| matches!(field.kind, FieldKind::Mask { .. })) {
            return Ok(None);
        }
        let (file, sample) = (self.read(index)?, self.sample(index, Image::default())?);
        Ok(Some(Encoded { file, decoding: self.decoding, sample }))
    }

    fn expect(&self, index: u64, begin: &mut dyn FnMut()) {
        if let Some(file) = self.table.file(0, index) {
            begin();
            self.folder.expect(index, &file);
        }
    }

    fn name(&self, index: u64) -> String {
        let mut name = String::new();
        self.write_name(index, &mut name);
        name
    }

    fn write_name(&self, index: u64, name: &mut String) {
        match (self.table.file(0, index), self.folder.path().to_str()) {
            (Some(file), Some(folder))
                if !folder.ends_with('/') && !folder.is_empty() && !file.path.starts_with('/') =>
            {
                for part in [folder, "/", file.path] {
                    name.push_str(part);
                }
            }
            (Some(file), _) => name.push_str(&self.folder.path().join(file.path).display().to_string()),
            (None, _) => name.push_str(&format!("sample {index} of {}", self.folder.path().display())),
        }
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn number(&self, field: &str, index: u64) -> Option<f64> {
        let (place, field) = self.fields.iter().enumerate().find(|(_, known)| known.name == field)?;
        match field.kind {
            FieldKind::Label { missing } => match self.table.class(column_of(place), index)? {
                NO_CLASS => Some(missing.into()),
                class => Some(class.into()),
            },
            FieldKind::Number => self.table.number(column_of(place), index).map(f64::from),
            FieldKind::MultiLabel { .. } | FieldKind::Mask { .. } => None,
        }
    }

    fn summary(&self) -> String {
        let masks = self.fields.iter().enumerate().filter(|(_, field)| matches!(field.kind, FieldKind::Mask { .. }));
        let masks = masks.map(|(place, field)| (&*field.name, summary::of(&self.table, column_of(place))));
        masks.fold(summary::of(&self.table, 0), |all, (name, summary)| format!("{all}; {name}: {summary}"))
    }
}

/// The mask of an image, which must be of its size.
fn mask(folder: &Path, file: &FileEntry<'_>, image: &Image) -> Result<Image, SampleError> {
    let path = folder.join(file.path);
    let bytes = file::read(&path, file)?;
    let mask = decode_mask(&bytes);
    let mask = mask.map_err(|source| SampleError::Decode { sample: path.display().to_string(), source })?;
    scratch::give(bytes);
    let (found, expected) = ((mask.height(), mask.width()), (image.height(), image.width()));
    if found != expected {
        let sizes = format!("{} x {} pixels, and its image {} x {}", found.0, found.1, expected.0, expected.1);
        let reason = format!("the mask has {sizes} (height x width); they must be of one size");
        return Err(SampleError::new(path.display().to_string(), reason));
    }
    Ok(mask)
}

/// Ones where a class is in the set; `None` when one is not below `classes`.
fn multi_hot(one: One, classes: usize, set: impl Iterator<Item = u32>) -> Option<Array> {
    let (dtype, one) = match one {
        One::F32 => (Dtype::F32, &1.0_f32.to_le_bytes()[..]),
        One::Bool => (Dtype::Bool, &[1][..]),
    };
    let mut bytes = vec![0; classes * one.len()];
    for class in set {
        bytes.chunks_exact_mut(one.len()).nth(usize::try_from(class).ok()?)?.copy_from_slice(one);
    }
    Array::new(dtype, [classes], bytes).ok()
}
