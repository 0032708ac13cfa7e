//! Samples out of row groups, by number.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use batchmill_protocol::tensor::{Dtype, Shape};
use parquet::file::metadata::ParquetMetaData;

use super::footer::metadata;
use super::group::{Data, Group, read};
use super::index::{Description, MAGIC, NO_LABEL};
use super::schema::{Column, Kind, LABEL};
use crate::dataset::{MapDataset, SampleError};
use crate::decode::{DecodeOptions, decode};
use crate::sample::{Array, Sample, Value};
use crate::source::Index;
use crate::sources::packed::unpack;
use crate::sources::scalar::integer;

/// The most bytes of decoded row groups that are kept, besides the one that was used last.
const CACHE_BYTES_MAX: usize = 256 << 20;

/// The opened dataset.
#[derive(Debug)]
pub(super) struct Opened {
    paths: Vec<PathBuf>,
    description: Description,
    decoding: DecodeOptions,
    /// All row groups of all files.
    groups: Vec<Place>,
    /// Bytes of labels in front of the index.
    label_bytes: usize,
    index: Index,
    cache: Mutex<Cache>,
}

/// Where a row group is.
#[derive(Clone, Copy, Debug)]
struct Place {
    file: usize,
    group: usize,
    /// The first row of the dataset that is not in front of it.
    start: u64,
    /// The first row of the dataset behind it.
    end: u64,
    /// Rows of its file in front of it.
    before: u64,
}

/// What a worker has read.
#[derive(Debug, Default)]
struct Cache {
    /// The file that was read last, with what it says of itself.
    file: Option<(usize, Arc<File>, Arc<ParquetMetaData>)>,
    /// Row groups by their place, the one that was used last at the end.
    groups: VecDeque<(usize, Arc<Group>)>,
}

impl Opened {
    /// `None` when the index is none of these files.
    pub(super) fn new(folder: &Path, decoding: DecodeOptions, index: Index) -> Option<Self> {
        let (label_bytes, description): (usize, Description) = unpack(&index, MAGIC)?;
        let paths = description.files.iter().map(|file| folder.join(&file.path)).collect();
        let (mut groups, mut start) = (Vec::new(), 0_u64);
        for (file, entry) in description.files.iter().enumerate() {
            let mut before = 0;
            for (group, &rows) in entry.group_rows.iter().enumerate() {
                let end = start.checked_add(rows)?;
                groups.push(Place { file, group, start, end, before });
                (start, before) = (end, before + rows);
            }
        }
        Some(Self { paths, description, decoding, groups, label_bytes, index, cache: Mutex::default() })
    }

    /// The row group of a sample, and its row there.
    fn locate(&self, index: u64) -> Option<(usize, usize)> {
        let place = self.groups.partition_point(|group| group.end <= index);
        let row = usize::try_from(index - self.groups.get(place)?.start).ok()?;
        Some((place, row))
    }

    /// A row group, decoded now or before. `name` is the sample it is wanted for.
    fn group(&self, place: usize, name: &dyn Fn() -> String) -> Result<Arc<Group>, SampleError> {
        // A thread that panicked left whole groups behind: they are put in last.
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = cache.groups.iter().position(|(known, _)| *known == place) {
            let kept = cache.groups.remove(known).expect("it was just found there");
            let group = kept.1.clone();
            cache.groups.push_back(kept);
            return Ok(group);
        }
        let Place { file: file_idx, group, .. } = self.groups[place];
        let (path, stamp) = (&self.paths[file_idx], self.description.files[file_idx].stamp);
        let (file, metadata) = match &cache.file {
            Some((known, file, metadata)) if *known == file_idx => (file.clone(), metadata.clone()),
            _ => {
                let file = Arc::new(stamp.open(path)?);
                let metadata = metadata(&file, stamp.bytes);
                stamp.check(path, &file)?;
                let metadata =
                    metadata.map_err(|failure| SampleError::caused_by(name(), "no Parquet file", failure))?;
                let metadata = Arc::new(metadata);
                cache.file = Some((file_idx, file.clone(), metadata.clone()));
                (file, metadata)
            }
        };
        let read = read(&file, &metadata, group, &self.description.columns);
        stamp.check(path, &file)?;
        let read = read.map_err(|(what, failure)| SampleError::caused_by(name(), what, failure))?;
        let group = Arc::new(read);
        cache.groups.push_back((place, group.clone()));
        while cache.groups.len() > 1
            && cache.groups.iter().map(|(_, group)| group.bytes).sum::<usize>() > CACHE_BYTES_MAX
        {
            cache.groups.pop_front();
        }
        Ok(group)
    }

    fn value(&self, column: &Column, data: &Data, row: usize, name: &dyn Fn() -> String) -> Result<Value, SampleError> {
        let null = || SampleError::new(name(), format!("column `{}` has a null", column.field));
        let failed = |failure| SampleError::caused_by(name(), format!("column `{}`", column.field), failure);
        match (column.kind, data) {
            (Kind::Image, Data::Images(images)) => {
                let bytes = images.get(row).and_then(Option::as_ref).ok_or_else(null)?;
                let image = decode(bytes.data(), self.decoding);
                Ok(image.map_err(|source| SampleError::Decode { sample: name(), source })?.into())
            }
            (Kind::Number(dtype), Data::Numbers(numbers)) => {
                let bytes = numbers.row(row).map_err(failed)?.ok_or_else(null)?;
                if column.field == LABEL && self.label_bytes > 0 {
                    let label = label(dtype, bytes).ok_or_else(null)?;
                    return Ok(Array::scalar_i64(label).into());
                }
                array(dtype, Shape::default(), bytes, name)
            }
            (Kind::List(dtype), Data::Numbers(numbers)) => {
                let bytes = numbers.row(row).map_err(failed)?.ok_or_else(null)?;
                array(dtype, [bytes.len() / dtype.size_bytes()].into(), bytes, name)
            }
            _ => Err(SampleError::new(name(), format!("column `{}` is of another kind", column.field))),
        }
    }
}

impl MapDataset for Opened {
    fn len(&self) -> u64 {
        self.groups.last().map_or(0, |group| group.end)
    }

    fn get(&self, index: u64) -> Result<Sample, SampleError> {
        let name = || self.name(index);
        let (place, row) = self.locate(index).ok_or_else(|| SampleError::new(name(), "not in the files"))?;
        let group = self.group(place, &name)?;
        let mut sample = Sample::new();
        for (column, data) in self.description.columns.iter().zip(&group.columns) {
            sample.insert(column.field.clone(), self.value(column, data, row, &name)?);
        }
        Ok(sample)
    }

    fn name(&self, index: u64) -> String {
        match self.locate(index) {
            Some((place, row)) => {
                let Place { file, before, .. } = self.groups[place];
                format!("row {} of {}", before + row as u64, self.paths[file].display())
            }
            None => format!("row {index}"),
        }
    }

    fn classes(&self) -> &[String] {
        &self.description.classes
    }

    /// `label`, which lies in the index.
    fn number(&self, field: &str, index: u64) -> Option<f64> {
        let start = usize::try_from(index).ok().filter(|_| field == LABEL)?.checked_mul(8)?;
        let bytes = self.index.get(..self.label_bytes)?.get(start..)?.first_chunk()?;
        // Labels above 2^53 are rounded: they are no classes.
        Some(i64::from_le_bytes(*bytes)).filter(|&label| label != NO_LABEL).map(|label| label as f64)
    }

    /// The row groups.
    fn shards(&self) -> Vec<u64> {
        self.groups.iter().map(|group| group.end - group.start).filter(|&rows| rows > 0).collect()
    }
}

fn array(dtype: Dtype, shape: Shape, bytes: &[u8], name: &dyn Fn() -> String) -> Result<Value, SampleError> {
    let array = Array::new(dtype, shape, bytes.to_vec());
    Ok(array.map_err(|error| SampleError::caused_by(name(), "read the row", error))?.into())
}

/// A label of any integer type.
pub(super) fn label(dtype: Dtype, bytes: &[u8]) -> Option<i64> {
    integer(dtype, bytes).and_then(|label| i64::try_from(label).ok())
}
