//! The trait of a dataset whose samples are reached by number.

use std::error::Error;
use std::fmt;
use std::io;

use batchmill_protocol::tensor::FieldSpec;
use thiserror::Error;

use crate::decode::{DecodeError, DecodeOptions};
use crate::quarantine::is_passing;
use crate::sample::Sample;

/// A finite dataset with random access: PyTorch's map-style `Dataset`.
///
/// Every worker process opens its own. `get` must give the same sample for the same index, in any process and at any
/// time: scaling, resuming and retrying rest on it. Randomness belongs into a
/// [`Transform`](crate::transform::Transform), which is handed a generator.
///
/// The front page of this crate shows one from end to end.
pub trait MapDataset: Send + Sync + fmt::Debug {
    /// The number of samples (`__len__`).
    fn len(&self) -> u64;

    /// Reads sample `index`, counted from 0 and below [`len`](Self::len) (`__getitem__`).
    ///
    /// Shapes: the first sample fixes the dtype and, after the transforms, the shape of every field.
    ///
    /// # Errors
    /// [`SampleError`], which names the file or the row. What is the sample's own fault any process must find again: the
    /// stream's `on_bad` may put another sample in its place. What is not,
    /// [`is_bad_sample`](SampleError::is_bad_sample) tells by the variant and by the errors of the system that it came
    /// from.
    fn get(&self, index: u64) -> Result<Sample, SampleError>;

    /// Writes `field` of many samples at once, one behind the other, to `room`, which is as long; `false` where that cannot
    /// be done, and then what is written does not count.
    ///
    /// Only for speed, where samples are so small that to make a [`Sample`] of each costs more than to read it: the bytes
    /// must be those of [`get`](Self::get). Whoever answers `false`, as this does, is asked for one sample after the other;
    /// so it is to be where a dtype or shape is another, or one sample cannot be read, of which `get` knows what to say. No
    /// samples at all ask whether `field` can be written in this way.
    fn gather(&self, indices: &[u64], field: &FieldSpec, room: &mut [u8]) -> bool {
        let _ = (indices, field, room);
        false
    }

    /// What a person calls sample `index`: its file, or `row 17 of x.idx`.
    ///
    /// It stands in errors and crash reports, so it must not read the sample.
    fn name(&self, index: u64) -> String;

    /// Writes [`name`](Self::name) to the end of a text that is used again, where that can be done without another.
    fn write_name(&self, index: u64, name: &mut String) {
        name.push_str(&self.name(index));
    }

    /// Sample `index` with its image as the file has it: what [`get`](Self::get) would decode. No more of it is then
    /// decoded than the transforms leave. `None` where samples are no such files.
    ///
    /// # Errors
    /// As `get`, but for decoding.
    fn encoded(&self, index: u64) -> Result<Option<Encoded>, SampleError> {
        let _ = index;
        Ok(None)
    }

    /// Sample `index` is the next to be asked for: its file may be fetched while others are decoded. What fails is found
    /// when it is asked for; `begin` is called before anything that may hang.
    fn expect(&self, index: u64, begin: &mut dyn FnMut()) {
        let _ = (index, begin);
    }

    /// The names of the classes, by label; none where labels are no classes.
    fn classes(&self) -> &[String] {
        &[]
    }

    /// The number in `field` of sample `index`, where it is known without reading the sample: a label, a weight, a length.
    ///
    /// Samplers that weigh, balance or sort samples ask for every index once, when the stream is opened. `None` where the
    /// dataset cannot tell, and for a field that is no single number.
    fn number(&self, field: &str, index: u64) -> Option<f64> {
        let _ = (field, index);
        None
    }

    /// How the samples lie in storage, where that matters: the lengths of the runs, in the order of their indexes, that
    /// are read fastest in order. Together they are [`len`](Self::len). Without an implementation any order is as fast.
    ///
    /// The sampler `shuffled` keeps to them.
    fn shards(&self) -> Vec<u64> {
        Vec::new()
    }

    /// What data this is, for a person who compares two streams: how much, and from when.
    ///
    /// Part of the stream's [`Identity`](crate::identity::Identity) and asked for only for it; it may look at the whole
    /// index.
    fn summary(&self) -> String {
        let samples = self.len();
        format!("{samples} sample{}", if samples == 1 { "" } else { "s" })
    }

    /// Whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A sample whose image is not decoded yet.
#[derive(Debug)]
pub struct Encoded {
    /// The bytes of the image's file.
    pub file: Vec<u8>,
    /// How it is decoded.
    pub decoding: DecodeOptions,
    /// All fields, of which `image` is an image without pixels.
    pub sample: Sample,
}

/// A sample that could not be made.
#[derive(Debug, Error)]
pub enum SampleError {
    /// Its file could not be read.
    #[error("read {sample}")]
    Read {
        /// What a person calls the sample.
        sample: String,
        /// Why not.
        source: io::Error,
    },
    /// Its file holds no image that can be decoded.
    #[error("decode {sample}")]
    Decode {
        /// What a person calls the sample.
        sample: String,
        /// Why not.
        source: DecodeError,
    },
    /// It is not the one that was there when the stream's index was read.
    ///
    /// Never a bad sample: substituting it would change what the stream delivers from here on.
    #[error(
        "{sample} has changed since the loader read its index: {found}; put it back as it was, or have the loader take it \
         as it is with `loader quarantine --retry`"
    )]
    Changed {
        /// What a person calls the sample.
        sample: String,
        /// What is there now, and what was.
        found: String,
    },
    /// Anything else.
    #[error("{sample}: {reason}")]
    Other {
        /// What a person calls the sample.
        sample: String,
        /// What was found, and what to do.
        reason: String,
        /// What it came from, if anything.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
}

impl SampleError {
    /// Says what is wrong with a sample; for datasets of your own.
    pub fn new(sample: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Other { sample: sample.into(), reason: reason.into(), source: None }
    }

    /// Like [`new`](Self::new), with the error it came from.
    pub fn caused_by(
        sample: impl Into<String>,
        reason: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::Other { sample: sample.into(), reason: reason.into(), source: Some(source.into()) }
    }

    /// What a person calls the sample.
    pub fn sample(&self) -> &str {
        match self {
            Self::Read { sample, .. }
            | Self::Decode { sample, .. }
            | Self::Changed { sample, .. }
            | Self::Other { sample, .. } => sample,
        }
    }

    /// Whether the sample is to blame, and any process would find it so; not when the data changed under the stream, or
    /// this process lacks memory, file descriptors or the way to the data.
    pub fn is_bad_sample(&self) -> bool {
        match self {
            Self::Changed { .. } => false,
            Self::Decode { source: DecodeError::Decoder { .. } | DecodeError::Memory, .. } => false,
            Self::Read { .. } | Self::Decode { .. } | Self::Other { .. } => !is_passing(self),
        }
    }
}
