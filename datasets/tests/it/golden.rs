//! Golden comparisons: what we give, and what PyTorch, torchvision and Pillow really give.
//!
//! Theirs is kept in `tests/golden`, by the script `make.py` there.

mod decode;
mod lengths;
mod names;
mod statistics;
mod transforms;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;

use batchmill_datasets::dataset::{MapDataset, SampleError};
use batchmill_datasets::pipeline::Pipeline;
use batchmill_datasets::registry::Registry;
use batchmill_datasets::sample::{Image, Sample};
use batchmill_datasets::source::OpenError;
use batchmill_datasets::spec::StreamSpec;

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden"].iter().collect()
}

/// A part of `torch.json`.
fn report(part: &str) -> serde_json::Value {
    let text = fs::read_to_string(folder().join("torch.json")).unwrap();
    let mut all: serde_json::Value = serde_json::from_str(&text).unwrap();
    all[part].take()
}

/// One of Python's arrays.
#[derive(Clone, Debug, PartialEq)]
struct Array {
    /// NumPy's name of the dtype: `|u1`, `<f4`, `<i8`.
    dtype: String,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Array {
    /// Reads a `.npy` file, version 1.
    fn parse(file: &[u8]) -> Self {
        assert_eq!(file[..8], *b"\x93NUMPY\x01\x00");
        let (header, bytes) = file[10..].split_at(usize::from(u16::from_le_bytes([file[8], file[9]])));
        let header = str::from_utf8(header).unwrap();
        let after = |key: &str| header.split_once(&format!("'{key}': ")).unwrap().1;
        assert!(after("fortran_order").starts_with("False"));
        let extents = after("shape").strip_prefix('(').unwrap().split_once(')').unwrap().0;
        let extents = extents.split(',').map(str::trim).filter(|extent| !extent.is_empty());
        Self {
            dtype: after("descr").split('\'').nth(1).unwrap().to_owned(),
            shape: extents.map(|extent| extent.parse().unwrap()).collect(),
            bytes: bytes.to_vec(),
        }
    }

    /// Its elements, all as one type.
    fn numbers(&self) -> Vec<f64> {
        match &self.dtype[..] {
            "|u1" => self.bytes.iter().copied().map(f64::from).collect(),
            "<f4" => self.bytes.as_chunks().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect(),
            "<i8" => self.bytes.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes) as f64).collect(),
            other => panic!("dtype {other}"),
        }
    }

    fn image(&self) -> Image {
        let [height, width, channels] = self.shape[..] else { panic!("{:?}", self.shape) };
        Image::new(height, width, channels, self.bytes.clone()).unwrap()
    }
}

/// All arrays of a `.npz` file, by name.
fn arrays(file: &str) -> BTreeMap<String, Array> {
    let mut archive = zip::ZipArchive::new(File::open(folder().join(file)).unwrap()).unwrap();
    (0..archive.len())
        .map(|place| {
            let mut entry = archive.by_index(place).unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (entry.name().strip_suffix(".npy").unwrap().to_owned(), Array::parse(&bytes))
        })
        .collect()
}

/// One sample, as often as one likes: only what is drawn for its place tells its copies apart.
#[derive(Clone, Debug)]
struct Still {
    sample: Sample,
    len: u64,
}

impl MapDataset for Still {
    fn len(&self) -> u64 {
        self.len
    }

    fn get(&self, _index: u64) -> Result<Sample, SampleError> {
        Ok(self.sample.clone())
    }

    fn name(&self, index: u64) -> String {
        format!("copy {index}")
    }
}

impl Still {
    /// A stream of it through transforms, written as in a configuration.
    fn open(self, transforms: &str) -> Result<Pipeline, OpenError> {
        let registry = batchmill_datasets::builtin().dataset("still", move |_| Ok(self.clone()));
        open(&registry, &format!("dataset = 'still'\ntransforms = [{transforms}]\nbatch_size = 500"))
    }
}

fn open(registry: &Registry, table: &str) -> Result<Pipeline, OpenError> {
    let table = table.parse().unwrap_or_else(|error| panic!("{table}: {error}"));
    let spec = StreamSpec::from_table("golden", table, "/".as_ref())?;
    registry.pipeline(&spec)
}

/// What differs between values and those that are right.
#[derive(Clone, Copy, Debug, Default)]
struct Difference {
    /// The mean of the absolute differences.
    mean: f64,
    /// The largest.
    max: f64,
    /// The share of values that are not the same.
    share: f64,
}

impl Difference {
    fn of(found: &[f64], right: &[f64]) -> Self {
        assert_eq!(found.len(), right.len());
        let all = found.len() as f64;
        found.iter().zip(right).map(|(found, right)| (found - right).abs()).fold(Self::default(), |sum, one| Self {
            mean: sum.mean + one / all,
            max: sum.max.max(one),
            share: sum.share + f64::from(u8::from(one > 0.0)) / all,
        })
    }
}
