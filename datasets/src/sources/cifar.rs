//! CIFAR-10 and CIFAR-100 in their binary version.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use batchmill_protocol::tensor::{Dtype, FieldSpec};
use twox_hash::XxHash3_64;

use super::gathering;
use super::published::{Asked, Origin, Published, Remote};
use crate::dataset::{MapDataset, SampleError};
use crate::options::Options;
use crate::progress::Progress;
use crate::sample::{Array, Image, Sample};
use crate::scratch;
use crate::source::{Index, OpenError, Source};
use crate::spec::SpecError;

/// Pixels on each side, and in a plane.
const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;

/// The kinds `cifar10` and `cifar100`: torchvision's `CIFAR10` and `CIFAR100`.
///
/// Options: `root`, the folder that holds all sets; `train`, the training samples (default) or those to test with;
/// `download`, whether to fetch what is missing (default false); `mirror`, the address of a folder to fetch it from
/// instead of the published one, for a site without a way out: it holds the archive under its published name.
/// `cifar100` also has `coarse`, whether the label is one of the 20 superclasses instead of the 100 classes (default
/// false).
///
/// Files: the binary version, not the pickles of Python that torchvision reads, which run whatever program is in them:
/// `cifar-10-batches-bin/data_batch_1.bin` and so on below `root`, `cifar-100-binary/train.bin` and `test.bin`. They
/// are read as they are needed.
///
/// Shapes: `image`: [32, 32, 3], u8, red, green and blue; `label`: [], i64.
///
/// Order: that of the files, which is torchvision's.
///
/// Errors: a sample whose bytes are not those that were indexed is [`SampleError::Changed`]. The index holds a checksum
/// of each, and no time of a file, so that the same set fetched twice is one and the same.
///
/// Source: <https://www.cs.toronto.edu/~kriz/cifar.html>.
#[derive(Clone, Debug)]
pub struct Cifar {
    files: Published,
    format: Format,
}

/// What stands in the files.
#[derive(Clone, Copy, Debug)]
struct Format {
    /// The samples of each file.
    samples: usize,
    /// The labels of a sample, and which of them is meant.
    labels: usize,
    label: usize,
    /// The names of the classes, and how many they are.
    names: &'static str,
    classes: u8,
}

const CIFAR10: Origin = Origin::Archive {
    archive: Remote {
        name: "cifar-10-binary.tar.gz",
        md5: "c32a1d4ab5d03f1284b67883e8d87530",
        mirrors: &["https://www.cs.toronto.edu/~kriz/"],
    },
    inner: "cifar-10-batches-bin",
};

const CIFAR100: Origin = Origin::Archive {
    archive: Remote {
        name: "cifar-100-binary.tar.gz",
        md5: "03b5dce01913d631647c71ecec9e9cb8",
        mirrors: &["https://www.cs.toronto.edu/~kriz/"],
    },
    inner: "cifar-100-binary",
};

impl Cifar {
    /// Reads the options of `cifar10`.
    ///
    /// # Errors
    /// [`SpecError`] when one is missing or has no sense.
    pub fn cifar10(options: &mut Options) -> Result<Self, SpecError> {
        let asked = Asked::from_options(options)?;
        let names: &[&str] = if asked.train {
            &["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"]
        } else {
            &["test_batch.bin"]
        };
        Ok(Self {
            files: Published::new(asked, "cifar-10-batches-bin", "", names.iter().copied(), CIFAR10),
            format: Format { samples: 10_000, labels: 1, label: 0, names: names::TEN, classes: 10 },
        })
    }

    /// Reads the options of `cifar100`.
    ///
    /// # Errors
    /// [`SpecError`] when one is missing or has no sense.
    pub fn cifar100(options: &mut Options) -> Result<Self, SpecError> {
        let asked = Asked::from_options(options)?;
        let coarse = options.optional_boolean("coarse")?.unwrap_or(false);
        let (name, samples) = if asked.train { ("train.bin", 50_000) } else { ("test.bin", 10_000) };
        let (label, names, classes) = if coarse { (0, names::COARSE, 20) } else { (1, names::HUNDRED, 100) };
        Ok(Self {
            files: Published::new(asked, "cifar-100-binary", "", [name], CIFAR100),
            format: Format { samples, labels: 2, label, names, classes },
        })
    }
}

impl Format {
    /// The bytes of a sample: its labels, then its pixels, the red ones first, then the green, then the blue.
    fn record(self) -> usize {
        self.labels + 3 * PLANE
    }

    /// The bytes of a sample in the index: its label, and the hash of its bytes in the file.
    const ENTRY: usize = 1 + 8;

    /// The entry of one sample; its label when that is of no class.
    fn entry(self, record: &[u8]) -> Result<[u8; Self::ENTRY], u8> {
        let label = record[self.label];
        if label >= self.classes {
            return Err(label);
        }
        let mut entry = [0; Self::ENTRY];
        entry[0] = label;
        entry[1..].copy_from_slice(&XxHash3_64::oneshot(record).to_le_bytes());
        Ok(entry)
    }
}

impl Source for Cifar {
    fn prepare(&self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), OpenError> {
        self.files.prepare(progress)
    }

    fn index(&self) -> Result<Vec<u8>, OpenError> {
        index(&self.files.find()?, self.format)
    }

    fn open(self: Box<Self>, index: Index) -> Result<Box<dyn MapDataset>, OpenError> {
        Ok(Box::new(Opened::new(self.files.find()?, self.format, index)?))
    }
}

/// Reads all files, and notes label and hash of every sample.
fn index(files: &[PathBuf], format: Format) -> Result<Vec<u8>, OpenError> {
    let record_bytes = format.record();
    let mut index = Vec::with_capacity(files.len() * format.samples * Format::ENTRY);
    let mut record = vec![0; record_bytes];
    for file in files {
        let failed = |error| OpenError::read(file, error);
        let opened = File::open(file).map_err(failed)?;
        let (bytes, expected) = (opened.metadata().map_err(failed)?.len(), format.samples * record_bytes);
        if usize::try_from(bytes) != Ok(expected) {
            let right = format!("expected {expected}: {} samples of {record_bytes}", format.samples);
            return Err(OpenError::file(file, format!("has {bytes} bytes, {right}; is it the binary version?")));
        }
        let mut reader = BufReader::with_capacity(1 << 20, opened);
        for row in 0..format.samples {
            reader.read_exact(&mut record).map_err(failed)?;
            index.extend(format.entry(&record).map_err(|label| {
                let reason = format!("sample {row} has the label {label}, expected 0 to {}", format.classes - 1);
                OpenError::file(file, reason)
            })?);
        }
    }
    Ok(index)
}

/// The opened dataset. Index: for each sample its label and the hash of its bytes.
#[derive(Debug)]
struct Opened {
    files: Vec<(PathBuf, File)>,
    format: Format,
    classes: Vec<String>,
    index: Index,
}

impl Opened {
    fn new(files: Vec<PathBuf>, format: Format, index: Index) -> Result<Self, OpenError> {
        if index.len() != files.len() * format.samples * Format::ENTRY {
            let reason = "the index is damaged or of another version; open it again";
            return Err(OpenError::other(reason, None));
        }
        let opened = files.into_iter().map(|path| match File::open(&path) {
            Ok(file) => Ok((path, file)),
            Err(error) => Err(OpenError::read(path, error)),
        });
        let files = opened.collect::<Result<_, _>>()?;
        let classes = format.names.split(' ').map(str::to_owned).collect();
        Ok(Self { files, format, classes, index })
    }

    /// The place of a sample: the number of its file, and its row there.
    fn place(&self, index: u64) -> Option<(usize, usize)> {
        let index = usize::try_from(index).ok()?;
        let place = (index / self.format.samples, index % self.format.samples);
        (place.0 < self.files.len()).then_some(place)
    }

    /// The bytes of a sample, which must be those that were indexed.
    fn read(&self, index: u64, file: usize, row: usize) -> Result<Vec<u8>, SampleError> {
        let changed = |found: &str| SampleError::Changed { sample: self.name(index), found: found.to_owned() };
        let mut record = scratch::take(self.format.record());
        let start = (row * record.len()) as u64;
        match self.files[file].1.read_exact_at(&mut record, start) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(changed("its file ends before it"));
            }
            Err(source) => return Err(SampleError::Read { sample: self.name(index), source }),
        }
        let start = (file * self.format.samples + row) * Format::ENTRY;
        if self.format.entry(&record).is_ok_and(|entry| entry == self.index[start..start + Format::ENTRY]) {
            Ok(record)
        } else {
            Err(changed("its bytes are others"))
        }
    }
}

impl MapDataset for Opened {
    fn len(&self) -> u64 {
        (self.files.len() * self.format.samples) as u64
    }

    fn get(&self, index: u64) -> Result<Sample, SampleError> {
        let (file, row) = self.place(index).ok_or_else(|| SampleError::new(self.name(index), "not in the files"))?;
        let record = self.read(index, file, row)?;
        let (labels, planes) = record.split_at(self.format.labels);
        let mut pixels = scratch::take(3 * PLANE);
        interleave(planes, &mut pixels);
        let label = Array::scalar_i64(labels[self.format.label].into());
        scratch::give(record);
        let image = Image::new(SIDE, SIDE, 3, pixels)
            .map_err(|error| SampleError::caused_by(self.name(index), "read the pixels", error))?;
        Ok(Sample::new().with("image", image).with("label", label))
    }

    fn gather(&self, indices: &[u64], field: &FieldSpec, room: &mut [u8]) -> bool {
        let image = |index: u64, room: &mut [u8]| {
            let record = self.place(index).and_then(|(file, row)| self.read(index, file, row).ok());
            let Some(record) = record else { return false };
            interleave(&record[self.format.labels..], room);
            scratch::give(record);
            true
        };
        let label = |row: usize| self.index.get(row.checked_mul(Format::ENTRY)?).map(|&label| label.into());
        match field.name.as_str() {
            "image" if field.dtype == Dtype::U8 && field.shape.0 == [SIDE, SIDE, 3] => {
                gathering::fill(indices, 3 * PLANE, room, image)
            }
            "label" => gathering::labels(field, indices, room, label),
            _ => false,
        }
    }

    fn name(&self, index: u64) -> String {
        match self.place(index) {
            Some((file, row)) => format!("row {row} of {}", self.files[file].0.display()),
            None => format!("sample {index}"),
        }
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }
}

/// Puts the planes of red, green and blue together to pixels.
fn interleave(planes: &[u8], pixels: &mut [u8]) {
    let (red, rest) = planes.split_at(PLANE);
    let (green, blue) = rest.split_at(PLANE);
    for (pixel, ((&red, &green), &blue)) in pixels.as_chunks_mut().0.iter_mut().zip(red.iter().zip(green).zip(blue)) {
        *pixel = [red, green, blue];
    }
}

/// The classes by label, as the archives' own lists name them.
mod names {
    pub(super) const TEN: &str = "airplane automobile bird cat deer dog frog horse ship truck";

    pub(super) const COARSE: &str = "\
        aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices \
        household_furniture insects large_carnivores large_man-made_outdoor_things \
        large_natural_outdoor_scenes large_omnivores_and_herbivores medium_mammals non-insect_invertebrates \
        people reptiles small_mammals trees vehicles_1 vehicles_2";

    pub(super) const HUNDRED: &str = "\
        apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly \
        camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup \
        dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower \
        leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid \
        otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray \
        road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar \
        sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle \
        wardrobe whale willow_tree wolf woman worm";
}
