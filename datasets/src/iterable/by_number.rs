//! An iterable dataset as one whose samples are reached by number.

use std::sync::{Arc, Mutex, PoisonError};

use super::reader::Reader;
use super::{IterableDataset, IterableSource};
use crate::dataset::{MapDataset, SampleError};
use crate::registry::Shared;
use crate::sample::Sample;
use crate::source::{Index, OpenError, Source};

/// The most shards: every worker has the length of each in memory.
const SHARDS_MAX: u64 = 1 << 24;

/// The source of a [`MapDataset`] that is made of an iterable one.
///
/// Index: that of the iterable dataset, and the records of every shard as `u64`.
#[derive(Debug)]
pub(crate) struct ByNumber<Made>(Arc<Made>);

impl<Made> ByNumber<Made> {
    pub(crate) fn new(iterable: Made) -> Self {
        Self(Arc::new(iterable))
    }
}

impl<Made: IterableSource + 'static> Source for ByNumber<Made> {
    fn index(&self) -> Result<Vec<u8>, OpenError> {
        let data = Arc::new(self.0.index()?);
        let dataset = self.0.clone().open(Index::new(Shared(data.clone())))?;
        let shards = dataset.shards();
        if shards > SHARDS_MAX {
            return Err(OpenError::other(format!("the dataset has {shards} shards, more than {SHARDS_MAX}"), None));
        }
        let mut counts = Vec::new();
        for shard in 0..shards {
            counts.extend(count(&*dataset, shard)?.to_le_bytes());
        }
        drop(dataset);
        // Taken back without a copy.
        Ok(Index::join([Arc::unwrap_or_clone(data), counts]))
    }

    fn open(self: Box<Self>, index: Index) -> Result<Box<dyn MapDataset>, OpenError> {
        let damaged = || OpenError::other("the dataset's index is damaged or of another version", None);
        let Ok([data, counts]) = <[Index; 2]>::try_from(index.split(2).ok_or_else(damaged)?) else {
            return Err(damaged());
        };
        let dataset = self.0.open(data)?;
        let mut end = 0_u64;
        let ends = counts.as_chunks().0.iter().map(|count| {
            end = end.checked_add(u64::from_le_bytes(*count))?;
            Some(end)
        });
        let ends: Vec<u64> = ends.collect::<Option<_>>().ok_or_else(damaged)?;
        if ends.len() as u64 != dataset.shards() {
            return Err(damaged());
        }
        Ok(Box::new(Opened { dataset, ends, reader: Mutex::default() }))
    }
}

/// The records of a shard, counted if need be.
fn count(dataset: &dyn IterableDataset, shard: u64) -> Result<u64, OpenError> {
    if let Some(count) = dataset.shard_len(shard) {
        return Ok(count);
    }
    let failed = |error| OpenError::other(format!("count the records of shard {shard}"), Some(Box::new(error)));
    let mut count = 0;
    for record in dataset.records(shard, 0).map_err(failed)? {
        drop(record.map_err(failed)?);
        count += 1;
    }
    Ok(count)
}

/// The opened dataset: shard behind shard.
#[derive(Debug)]
struct Opened {
    dataset: Arc<dyn IterableDataset>,
    /// The samples up to the end of each shard.
    ends: Vec<u64>,
    reader: Mutex<Reader>,
}

impl Opened {
    /// Shard and record of a sample, and whether it is the shard's last; beyond the end a record that there is not.
    fn place(&self, index: u64) -> (u64, u64, bool) {
        let shard = self.ends.partition_point(|&end| end <= index);
        let start = shard.checked_sub(1).map_or(0, |before| self.ends[before]);
        let is_last = self.ends.get(shard) == Some(&(index + 1));
        (shard as u64, index - start, is_last)
    }
}

impl MapDataset for Opened {
    fn len(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    fn get(&self, index: u64) -> Result<Sample, SampleError> {
        if index >= self.len() {
            return Err(SampleError::new(format!("sample {index}"), format!("there are {}", self.len())));
        }
        let (shard, record, is_last) = self.place(index);
        let found = {
            // A dataset that panicked while it was read has lost its cursor and nothing else.
            let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
            let found = reader.read(&*self.dataset, shard, record)?;
            if is_last {
                reader.close(shard);
            }
            found
        };
        found.decode()
    }

    fn name(&self, index: u64) -> String {
        let (shard, record, _) = self.place(index);
        if index < self.len() { self.dataset.name(shard, record) } else { format!("sample {index}") }
    }

    fn classes(&self) -> &[String] {
        self.dataset.classes()
    }

    fn number(&self, field: &str, index: u64) -> Option<f64> {
        let (shard, record, _) = self.place(index);
        if index < self.len() { self.dataset.number(field, shard, record) } else { None }
    }

    fn shards(&self) -> Vec<u64> {
        let starts = [0].into_iter().chain(self.ends.iter().copied());
        self.ends.iter().zip(starts).map(|(end, start)| end - start).collect()
    }

    fn summary(&self) -> String {
        let plural = |count: u64, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
        let counts = format!("{} in {}", plural(self.len(), "sample"), plural(self.ends.len() as u64, "shard"));
        match self.dataset.summary() {
            Some(summary) => format!("{counts}, {summary}"),
            None => counts,
        }
    }
}
