//! The trait of a dataset whose samples are read one after the other.

mod by_number;
mod reader;

use std::fmt;
use std::sync::Arc;

pub(crate) use self::by_number::ByNumber;
pub(crate) use self::reader::CURSORS_MAX;
use crate::dataset::SampleError;
use crate::sample::Sample;
use crate::source::{Index, OpenError};

/// A finite dataset that comes as sequences of records: PyTorch's `IterableDataset`.
///
/// Each sequence is a shard: a tar file, a file of lines, what a generator yields. A stream delivers every record once an
/// epoch, whatever the number of workers, and resumes in the middle of one. PyTorch leaves both to the dataset, which has
/// to ask which worker it is in (`get_worker_info`) and to count on; here it does not know of workers. Sample `i` of the
/// stream is a record of a shard, found by the lengths of the shards, so that samplers, transforms and compositions work
/// as on any dataset, and any worker can make any row.
///
/// **Length.** An order that can be resumed, shared and verified needs an end that is known. Where
/// [`shard_len`](Self::shard_len) does not tell it, the loader reads the shard to its end once, when the stream is
/// opened, and keeps the count in the index; workers do not.
///
/// **Cost.** Records are cheapest in order, and `shuffled` keeps to that: it visits a few shards at a time and mixes
/// what stands near each other. Reading goes on where it was; records that are passed over are kept undecoded, up to
/// 128 MiB of them in a worker, for they are asked for soon. One that is not kept any more is read again from the start
/// of its shard. Only a shard that [is seekable](Self::is_seekable) bears any order.
///
/// ```
/// use batchmill_datasets::dataset::SampleError;
/// use batchmill_datasets::iterable::{IterableDataset, Record, Records};
/// use batchmill_datasets::sample::{Array, Sample};
/// # use batchmill_datasets::spec::StreamSpec;
///
/// /// The Collatz sequences that begin with 2, 3 and so on, each up to its 1: how long one is, only counting tells.
/// #[derive(Debug)]
/// struct Collatz {
///     shards: u64,
/// }
///
/// impl IterableDataset for Collatz {
///     fn shards(&self) -> u64 {
///         self.shards
///     }
///
///     fn records(&self, shard: u64, first: u64) -> Result<Records, SampleError> {
///         let numbers = std::iter::successors(Some(shard + 2), |&number| match number {
///             1 => None,
///             even if even % 2 == 0 => Some(even / 2),
///             odd => Some(odd * 3 + 1),
///         });
///         let sample = |number| Sample::new().with("number", Array::scalar_i64(number as i64));
///         Ok(Box::new(numbers.skip(first as usize).map(move |number| Ok(Record::from(sample(number))))))
///     }
///
///     fn name(&self, shard: u64, record: u64) -> String {
///         format!("step {record} from {}", shard + 2)
///     }
/// }
///
/// let registry = batchmill_datasets::builtin()
///     .iterable("collatz", |options| Ok(Collatz { shards: options.integer("shards", 1..=1000)? }));
/// # let table = "dataset = { kind = 'collatz', shards = 3 }\nsampler = 'shuffled'".parse()?;
/// # let spec = StreamSpec::from_table("train", table, "/".as_ref())?;
/// // 2 1, 3 10 5 16 8 4 2 1, 4 2 1
/// # let pipeline = registry.pipeline(&spec)?;
/// assert_eq!(pipeline.extent().samples, 2 + 8 + 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait IterableDataset: Send + Sync + fmt::Debug {
    /// The number of shards.
    fn shards(&self) -> u64;

    /// Reads a shard from record `first` on, counted from 0, in order, to its end. `first` may be that end.
    ///
    /// It must give the same records in any process and at any time. What it returns opens what it needs for itself.
    ///
    /// # Errors
    /// [`SampleError`] when there is no reading the shard. The iterator yields one where the shard cannot be read on, and
    /// is not asked again; a record that is bad by itself says so when it is [decoded](Record::new).
    fn records(&self, shard: u64, first: u64) -> Result<Records, SampleError>;

    /// The number of records of a shard, where it is known without reading it; what comes behind is not read.
    fn shard_len(&self, shard: u64) -> Option<u64> {
        let _ = shard;
        None
    }

    /// Whether reading from any record of a shard costs no more than reading on.
    fn is_seekable(&self, shard: u64) -> bool {
        let _ = shard;
        false
    }

    /// What a person calls a record: `shard-3.tar: n0012/17`. It stands in errors and crash reports, so it must not read
    /// the record.
    fn name(&self, shard: u64, record: u64) -> String;

    /// The names of the classes, by label; none where labels are no classes.
    fn classes(&self) -> &[String] {
        &[]
    }

    /// The number in `field` of a record, where it is known without reading it: see
    /// [`MapDataset::number`](crate::dataset::MapDataset::number).
    fn number(&self, field: &str, shard: u64, record: u64) -> Option<f64> {
        let _ = (field, shard, record);
        None
    }

    /// What data this is beside the number of samples and shards, for a person who compares two streams.
    fn summary(&self) -> Option<String> {
        None
    }
}

/// The records of a shard, from one of them on.
pub type Records = Box<dyn Iterator<Item = Result<Record, SampleError>> + Send>;

/// A record that was read and perhaps is still to be decoded: one that is passed over never is.
pub struct Record {
    bytes: usize,
    decode: Box<dyn FnOnce() -> Result<Sample, SampleError> + Send>,
}

impl Record {
    /// A record that `decode` makes a sample of; until then it holds about `bytes` bytes of memory.
    pub fn new(bytes: usize, decode: impl FnOnce() -> Result<Sample, SampleError> + Send + 'static) -> Self {
        Self { bytes, decode: Box::new(decode) }
    }

    /// Makes the sample.
    ///
    /// # Errors
    /// [`SampleError`] when the record is bad.
    pub fn decode(self) -> Result<Sample, SampleError> {
        (self.decode)()
    }
}

impl From<Sample> for Record {
    fn from(sample: Sample) -> Self {
        let bytes = sample.iter().map(|(_, value)| value.bytes().len()).sum();
        Self::new(bytes, move || Ok(sample))
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({} bytes)", self.bytes)
    }
}

/// An iterable dataset whose options are read and checked, but of which no file has been touched yet: what
/// [`Source`](crate::source::Source) is to a [`MapDataset`](crate::dataset::MapDataset).
///
/// A dataset that needs no preparation is its own source.
pub trait IterableSource: Send + Sync {
    /// Reads and checks the data once; see [`Source::index`](crate::source::Source::index).
    ///
    /// # Errors
    /// [`OpenError`], naming file and line.
    fn index(&self) -> Result<Vec<u8>, OpenError> {
        Ok(Vec::new())
    }

    /// Opens the dataset over what [`index`](Self::index) returned. Each worker does so, and the loader before it counts
    /// records; it should be quick.
    ///
    /// # Errors
    /// [`OpenError`], naming the file.
    fn open(self: Arc<Self>, index: Index) -> Result<Arc<dyn IterableDataset>, OpenError>;
}

impl<Dataset: IterableDataset + 'static> IterableSource for Dataset {
    fn open(self: Arc<Self>, _: Index) -> Result<Arc<dyn IterableDataset>, OpenError> {
        Ok(self)
    }
}
