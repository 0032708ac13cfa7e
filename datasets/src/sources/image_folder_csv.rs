//! A folder of images with a CSV file that labels them.

mod labels;
mod listing;
mod summary;
mod table;

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use self::table::{Entry, Table};
use crate::dataset::{MapDataset, SampleError};
use crate::decode::{COLOR_MODES, ColorMode, decode};
use crate::options::Options;
use crate::quarantine::is_passing_io;
use crate::sample::{Array, Sample};
use crate::scratch;
use crate::source::{Index, OpenError, Source};
use crate::spec::SpecError;

/// The kind `image-folder-csv`: PyTorch's `CustomImageDataset` of the tutorial.
///
/// Options: `images`, the folder; `labels`, the CSV file; `color`, "rgb" (default) or "gray"; `classes`, the names of
/// the classes by label.
///
/// The first column of the CSV is a path relative to the folder, the second a label. The first row is a header when
/// its first column is neither an existing file nor has an image's extension, and its second is no integer. Labels are
/// class names or integers from 0: those given in `classes`; without `classes` either all integers, which then are
/// the names, or all names, which are numbered in alphabetical order.
///
/// Shapes: `image`: [height, width, 3 or 1], u8; `label`: [], i64.
#[derive(Clone, Debug)]
pub struct ImageFolderCsv {
    images: PathBuf,
    labels: PathBuf,
    color: ColorMode,
    classes: Option<Vec<String>>,
}

impl ImageFolderCsv {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when one is missing or has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        Ok(Self {
            images: options.path("images")?,
            labels: options.path("labels")?,
            color: options.optional_one_of("color", &COLOR_MODES)?.unwrap_or_default(),
            classes: super::classes_from_options(options)?,
        })
    }
}

impl Source for ImageFolderCsv {
    fn index(&self) -> Result<Vec<u8>, OpenError> {
        listing::read(&self.images, &self.labels, self.classes.as_deref())
    }

    fn open(self: Box<Self>, index: Index) -> Result<Box<dyn MapDataset>, OpenError> {
        let table = Table::new(index).ok_or_else(|| {
            OpenError::file(&self.labels, "the index is damaged or of another version; open it again")
        })?;
        let classes = table.classes();
        Ok(Box::new(Opened { images: self.images, color: self.color, table, classes }))
    }
}

/// The opened dataset: the table is shared by all workers.
#[derive(Debug)]
struct Opened {
    images: PathBuf,
    color: ColorMode,
    table: Table,
    classes: Vec<String>,
}

impl MapDataset for Opened {
    fn len(&self) -> u64 {
        self.table.len()
    }

    fn get(&self, index: u64) -> Result<Sample, SampleError> {
        let entry = self.table.get(index).ok_or_else(|| SampleError::new(self.name(index), "not in the index"))?;
        let path = self.images.join(entry.path);
        let name = || path.display().to_string();
        let bytes = read(&path, &entry)?;
        let image = decode(&bytes, self.color).map_err(|source| SampleError::Decode { sample: name(), source })?;
        scratch::give(bytes);
        Ok(Sample::new().with("image", image).with("label", Array::scalar_i64(entry.label.into())))
    }

    fn name(&self, index: u64) -> String {
        match self.table.get(index) {
            Some(entry) => self.images.join(entry.path).display().to_string(),
            None => format!("sample {index} of {}", self.images.display()),
        }
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn summary(&self) -> String {
        summary::of(&self.table)
    }
}

/// Reads the whole file, which must still be the one that was indexed.
///
/// Otherwise an epoch before the change and one after it would differ, with nothing to show for it.
fn read(path: &Path, entry: &Entry<'_>) -> Result<Vec<u8>, SampleError> {
    let name = || path.display().to_string();
    let failed = |source| SampleError::Read { sample: name(), source };
    let mut file = File::open(path).map_err(|error| not_opened(path, entry, error))?;
    let len = usize::try_from(entry.bytes)
        .map_err(|_| SampleError::new(name(), format!("{} bytes do not fit into memory", entry.bytes)))?;
    let mut bytes = scratch::take(len);
    let outcome = file.read_exact(&mut bytes);
    // Looked at after reading, so that what is written meanwhile is noticed as well.
    check_unchanged(path, entry, &file.metadata().map_err(failed)?)?;
    outcome.map_err(failed)?;
    Ok(bytes)
}

/// Why a file cannot be opened: it is not the one that was indexed any more, or it never could be.
fn not_opened(path: &Path, entry: &Entry<'_>, error: io::Error) -> SampleError {
    let sample = || path.display().to_string();
    match fs::metadata(path) {
        Ok(metadata) => match check_unchanged(path, entry, &metadata) {
            Ok(()) => SampleError::Read { sample: sample(), source: error },
            Err(changed) => changed,
        },
        Err(error) if is_passing_io(&error) => SampleError::Read { sample: sample(), source: error },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            SampleError::Changed { sample: sample(), found: "it is gone".to_owned() }
        }
        // It could be looked at when it was indexed.
        Err(error) => SampleError::Changed { sample: sample(), found: format!("it cannot be looked at: {error}") },
    }
}

fn check_unchanged(path: &Path, entry: &Entry<'_>, metadata: &Metadata) -> Result<(), SampleError> {
    let found = if metadata.len() != entry.bytes {
        format!("it has {} bytes and had {}", metadata.len(), entry.bytes)
    } else if listing::modified_ns(metadata) != entry.modified_ns {
        "it was written to".to_owned()
    } else {
        return Ok(());
    };
    Err(SampleError::Changed { sample: path.display().to_string(), found })
}
