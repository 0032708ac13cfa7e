//! The IDX files of MNIST and FashionMNIST, plain or compressed.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use batchmill_protocol::tensor::{Dtype, FieldSpec};
use flate2::read::MultiGzDecoder;

use super::gzip::is_gzip;
use super::{INDEX_BYTES_MAX, classes_from_options, gathering, numbered_classes};
use crate::dataset::{MapDataset, SampleError};
use crate::options::Options;
use crate::sample::{Array, Image, Sample};
use crate::scratch;
use crate::source::{Index, OpenError, Source};
use crate::spec::SpecError;

/// The third byte of an IDX file of unsigned bytes.
const UNSIGNED_BYTES: u8 = 0x08;

/// The kind `idx`: torchvision's `MNIST` and `FashionMNIST`, from the files as they are downloaded.
///
/// Options: `images` and `labels`, the two files, plain or `.gz` (told apart by content); `classes`, the names of the
/// classes by label, which otherwise are "0", "1" and so on.
///
/// Both files lie in the index, which workers share, as they are without compression: at most 4 GiB each.
///
/// Shapes: `image`: [height, width, 1], u8; `label`: [], i64.
///
/// Source: "The IDX file format" at the foot of <http://yann.lecun.com/exdb/mnist/>.
#[derive(Clone, Debug)]
pub struct Idx {
    images: PathBuf,
    labels: PathBuf,
    classes: Option<Vec<String>>,
}

impl Idx {
    /// Two files that somebody knows, with the classes that he knows.
    pub(super) fn new(images: PathBuf, labels: PathBuf, classes: Vec<String>) -> Self {
        Self { images, labels, classes: Some(classes) }
    }

    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when one is missing or has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        Ok(Self {
            images: options.path("images")?,
            labels: options.path("labels")?,
            classes: classes_from_options(options)?,
        })
    }
}

impl Source for Idx {
    /// The uncompressed files, labels behind images: workers share what would be decompressed by each.
    fn index(&self) -> Result<Vec<u8>, OpenError> {
        let mut index = Vec::new();
        let Extents { rows, height, width } = read(&self.images, 3, &mut index)?;
        let labels_start = index.len();
        let Extents { rows: labels, .. } = read(&self.labels, 1, &mut index)?;
        if rows != labels {
            let images = self.images.display();
            return Err(OpenError::file(
                &self.labels,
                format!("holds {labels} labels for the {rows} images of {images}"),
            ));
        }
        if rows * height * width == 0 {
            return Err(OpenError::file(&self.images, format!("holds {rows} images of {height} x {width} pixels")));
        }
        let largest = index[labels_start..].iter().copied().max().map_or(0, usize::from);
        if let Some(classes) = &self.classes
            && largest >= classes.len()
        {
            let reason = format!("holds the label {largest}, but `classes` has {} names", classes.len());
            return Err(OpenError::file(&self.labels, reason));
        }
        for extent in [rows, height, width] {
            index.extend((extent as u64).to_le_bytes());
        }
        Ok(index)
    }

    fn open(self: Box<Self>, index: Index) -> Result<Box<dyn MapDataset>, OpenError> {
        let damaged = || OpenError::file(&self.images, "the index is damaged or of another version; open it again");
        let extents = Extents::from_index(&index).ok_or_else(damaged)?;
        let Self { images, classes, .. } = *self;
        let classes = classes.unwrap_or_else(|| {
            let labels = &index[extents.pixels()..extents.pixels() + extents.rows];
            let largest = labels.iter().copied().max().map_or(0, usize::from);
            numbered_classes(largest + 1)
        });
        Ok(Box::new(Opened { images, classes, extents, index }))
    }
}

/// The opened dataset. Index: all pixels, all labels, and the three extents.
#[derive(Debug)]
struct Opened {
    images: PathBuf,
    classes: Vec<String>,
    extents: Extents,
    index: Index,
}

impl MapDataset for Opened {
    fn len(&self) -> u64 {
        self.extents.rows as u64
    }

    fn get(&self, index: u64) -> Result<Sample, SampleError> {
        let row = usize::try_from(index).ok().filter(|&row| row < self.extents.rows);
        let row = row.ok_or_else(|| SampleError::new(self.name(index), "not in the file"))?;
        let Extents { height, width, .. } = self.extents;
        let start = row * height * width;
        let mut pixels = scratch::take(height * width);
        pixels.copy_from_slice(&self.index[start..start + height * width]);
        let image = Image::new(height, width, 1, pixels)
            .map_err(|error| SampleError::caused_by(self.name(index), "read the pixels", error))?;
        let label = self.index[self.extents.pixels() + row];
        Ok(Sample::new().with("image", image).with("label", Array::scalar_i64(label.into())))
    }

    fn gather(&self, indices: &[u64], field: &FieldSpec, room: &mut [u8]) -> bool {
        let Extents { height, width, .. } = self.extents;
        let (pixels, labels) = self.index.split_at(self.extents.pixels());
        match field.name.as_str() {
            "image" if field.dtype == Dtype::U8 && field.shape.0 == [height, width, 1] => {
                gathering::rows(pixels, height * width, indices, room)
            }
            "label" => {
                let labels = &labels[..self.extents.rows];
                gathering::labels(field, indices, room, |row| labels.get(row).map(|&label| label.into()))
            }
            _ => false,
        }
    }

    fn name(&self, index: u64) -> String {
        format!("row {index} of {}", self.images.display())
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn number(&self, field: &str, index: u64) -> Option<f64> {
        let row = usize::try_from(index).ok().filter(|&row| field == "label" && row < self.extents.rows)?;
        Some(self.index[self.extents.pixels() + row].into())
    }
}

/// How many rows of how many pixels; for labels, of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extents {
    rows: usize,
    height: usize,
    width: usize,
}

impl Extents {
    const BYTES: usize = 3 * 8;

    /// Reads the extents at the end of an index; `None` when they are not those of its bytes.
    fn from_index(index: &[u8]) -> Option<Self> {
        let (payload, extents) = index.split_at_checked(index.len().checked_sub(Self::BYTES)?)?;
        let mut extents = extents
            .chunks_exact(8)
            .map(|bytes| bytes.first_chunk().and_then(|bytes| usize::try_from(u64::from_le_bytes(*bytes)).ok()));
        let mut next = || extents.next().flatten();
        let extents = Self { rows: next()?, height: next()?, width: next()? };
        let pixels = extents.rows.checked_mul(extents.height)?.checked_mul(extents.width)?;
        (pixels.checked_add(extents.rows)? == payload.len()).then_some(extents)
    }

    /// Bytes of all rows.
    fn pixels(self) -> usize {
        self.rows * self.height * self.width
    }
}

/// Reads a file of `rank` dimensions behind what `out` holds already.
fn read(file: &Path, rank: u8, out: &mut Vec<u8>) -> Result<Extents, OpenError> {
    let failed = |error| OpenError::read(file, error);
    let mut opened = BufReader::new(File::open(file).map_err(failed)?);
    if is_gzip(&mut opened).map_err(failed)? {
        read_plain(MultiGzDecoder::new(opened), file, rank, out)
    } else {
        read_plain(opened, file, rank, out)
    }
}

fn read_plain(mut plain: impl Read, file: &Path, rank: u8, out: &mut Vec<u8>) -> Result<Extents, OpenError> {
    let failed = |error| OpenError::read(file, error);
    let mut header = Vec::new();
    let header_bytes = 4 + 4 * usize::from(rank);
    plain.by_ref().take(header_bytes as u64).read_to_end(&mut header).map_err(failed)?;
    let expected = [0, 0, UNSIGNED_BYTES, rank];
    let what = if rank == 1 { "labels" } else { "images" };
    if !header.starts_with(&expected) {
        let found = &header[..header.len().min(4)];
        let reason = format!("no IDX file of {what}: it begins with {found:02x?}, expected {expected:02x?}");
        return Err(OpenError::file(file, reason));
    }
    let mut extents = [1_usize; 3];
    let sides = header[4..].as_chunks::<4>().0;
    if sides.len() < usize::from(rank) {
        return Err(OpenError::file(file, format!("ends within its header, after {} bytes", header.len())));
    }
    for (extent, side) in extents.iter_mut().zip(sides) {
        *extent = u32::from_be_bytes(*side) as usize;
    }
    let [rows, height, width] = extents;
    let promised = rows.checked_mul(height).and_then(|bytes| bytes.checked_mul(width)).map(|bytes| bytes as u64);
    // A small file can be decompressed to any size.
    let Some(promised) = promised.filter(|&bytes| bytes <= INDEX_BYTES_MAX) else {
        let pixels = if rank == 1 { String::new() } else { format!(" of {height} x {width} pixels") };
        let reason = format!("claims {rows} {what}{pixels}, more than {INDEX_BYTES_MAX} bytes");
        return Err(OpenError::file(file, reason));
    };

    // Reading grows the buffer as bytes arrive: a header that promises too much costs no memory.
    let found = plain.by_ref().take(promised + 1).read_to_end(out).map_err(failed)? as u64;
    if found != promised {
        let how = if found < promised { format!("ends after {found} of") } else { "goes on after".to_owned() };
        return Err(OpenError::file(file, format!("{how} the {promised} bytes of data that its header promises")));
    }
    Ok(Extents { rows, height, width })
}
