//! The pure function from a position to the bytes of a batch.

use batchmill_protocol::position::{Extent, Position, Rows};
use batchmill_protocol::tensor::FieldSpec;
use thiserror::Error;
use xxhash_rust::xxh3::Xxh3;

use crate::dataset::{MapDataset, SampleError};
use crate::decode::JPEG_DECODER;
use crate::random::Rng;
use crate::sample::{Sample, Value};
use crate::sampler::Sampler;
use crate::scratch;
use crate::source::{Index, OpenError};
use crate::spec::{SpecError, StreamSpec};
use crate::transform::{Transform, TransformError};

/// Counted up when the same spec and files come to give other bytes; part of every hash.
const CONTENT_VERSION: u32 = 1;

/// An opened stream. What it fills depends on the position and nothing else: no worker, thread, clock or order.
#[derive(Debug)]
pub struct Pipeline {
    dataset: Box<dyn MapDataset>,
    sampler: Box<dyn Sampler>,
    transforms: Vec<Named>,
    extent: Extent,
    seed: u64,
    canonical_spec: Vec<u8>,
    index: Index,
}

/// A transform with the name of its kind, for errors.
#[derive(Debug)]
struct Named {
    kind: String,
    transform: Box<dyn Transform>,
}

/// Where a pipeline puts the rows it makes: room for one batch.
pub trait RowSink {
    /// Row `row` of the batch is about to be made, from sample `index` of the dataset; `padding` when it only fills the
    /// batch up. `name` tells a person, or the report of a crash, which sample it is.
    fn start(&mut self, row: u32, index: u64, padding: bool, name: &str);

    /// The room for one field of a row; `field` is its place among the fields being filled, the length its bytes.
    fn row(&mut self, row: u32, field: usize) -> &mut [u8];
}

/// Rows that could not be filled.
#[derive(Debug, Error)]
pub enum FillError {
    /// A sample could not be read.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// A transform could not change a sample.
    #[error("{sample}: transform {place}, `{kind}`")]
    Transform {
        /// What a person calls the sample.
        sample: String,
        /// The place of the transform in the chain, counted from 1 as people do.
        place: usize,
        /// Its name.
        kind: String,
        /// Why not.
        source: TransformError,
    },
    /// A sample has another dtype or shape than the stream's first.
    #[error(
        "{sample}: {found}, but that of the stream's first sample is {} {}; {}",
        expected.dtype,
        expected.shape,
        remedy(found)
    )]
    Mismatch {
        /// What a person calls the sample.
        sample: String,
        /// The field as this sample has it.
        found: Box<FieldSpec>,
        /// The field as the first sample has it.
        expected: Box<FieldSpec>,
    },
    /// A sample lacks a field that the stream's first has.
    #[error(
        "{sample}: no field `{field}`, which the stream's first sample has; every sample must have the same fields"
    )]
    Missing {
        /// What a person calls the sample.
        sample: String,
        /// The field.
        field: String,
    },
    /// The sampler gave an index that the dataset does not have.
    #[error("the sampler gave sample {index} for place {place} of epoch {epoch}, but the dataset has {samples}")]
    Sampler {
        /// What it gave.
        index: u64,
        /// The place in the epoch.
        place: u64,
        /// The epoch.
        epoch: u64,
        /// How many there are.
        samples: u64,
    },
    /// The rows asked for are not in the batch.
    #[error("{rows} of {position} were asked for; an epoch has {steps} steps, this batch {batch_rows} rows")]
    Outside {
        /// What was asked for.
        rows: Rows,
        /// Of which batch.
        position: Position,
        /// The batches of an epoch.
        steps: u64,
        /// The rows of the batch; none where there is no such batch.
        batch_rows: u32,
    },
}

fn remedy(found: &FieldSpec) -> &'static str {
    // An image: height, width, channels.
    if found.shape.0.len() == 3 {
        "a batch needs images of one size: add the transforms `resize` and `center-crop` (--resize N --crop N)"
    } else {
        "a batch needs samples of one shape: make the dataset give it, or a transform"
    }
}

impl Pipeline {
    /// Puts an opened stream together.
    ///
    /// # Errors
    /// [`OpenError::Spec`] when an epoch would have no batch.
    pub(crate) fn new(
        spec: &StreamSpec,
        index: Index,
        dataset: Box<dyn MapDataset>,
        sampler: Box<dyn Sampler>,
        transforms: Vec<Box<dyn Transform>>,
    ) -> Result<Self, OpenError> {
        let refuse = |key: &str, message: String| Err(SpecError::new(vec![key.to_owned()], message).into());
        let extent = Extent { samples: sampler.len(), batch_size: spec.batch_size, tail: spec.tail };
        if dataset.is_empty() {
            return refuse("dataset", format!("dataset `{}` has no samples", spec.dataset.kind));
        }
        if extent.samples == 0 {
            return refuse("sampler", format!("sampler `{}` yields no samples", spec.sampler.kind));
        }
        if extent.steps() == 0 {
            let Extent { samples, batch_size, .. } = extent;
            let remedy = "lower `batch_size`, or set `tail` to \"short\" or \"pad\"";
            let message = format!("`tail` = \"drop\" leaves no batch of {batch_size} from {samples} samples; {remedy}");
            return refuse("tail", message);
        }
        let kinds = spec.transforms.iter().map(|component| component.kind.clone());
        let transforms = kinds.zip(transforms).map(|(kind, transform)| Named { kind, transform }).collect();
        Ok(Self { dataset, sampler, transforms, extent, seed: spec.seed, canonical_spec: spec.canonical(), index })
    }

    /// How far one epoch reaches.
    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// The names of the classes, by label.
    pub fn classes(&self) -> &[String] {
        self.dataset.classes()
    }

    /// Makes the dataset's first sample to learn the fields of the stream.
    ///
    /// # Errors
    /// [`FillError`] when it cannot be made.
    pub fn survey(&self) -> Result<Vec<FieldSpec>, FillError> {
        let sample = self.make(Place { epoch: 0, place: 0, index: 0 }, &self.dataset.name(0))?;
        Ok(sample.iter().map(|(name, value)| value.field(name)).collect())
    }

    /// A name for the content: two streams of one hash deliver the same bytes at every position.
    ///
    /// 32 hexadecimal digits: XXH3-128 over the spec without name and folder, the index and what decodes. Reads the
    /// whole index; ask once.
    pub fn spec_hash(&self) -> String {
        let mut hash = Xxh3::new();
        hash.update(&CONTENT_VERSION.to_le_bytes());
        for part in [JPEG_DECODER.as_bytes(), &self.canonical_spec, &self.index] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        format!("{:032x}", hash.digest128())
    }

    /// Fills `rows` of the batch at `position`.
    ///
    /// Row `r` is place `step * batch_size + r` of the epoch; the padding at the end of a last batch starts over with
    /// the epoch's first samples.
    ///
    /// Shapes: `fields` says what each row must be, in the order of the sink's fields: [`survey`](Self::survey), or a
    /// part of it.
    ///
    /// # Errors
    /// [`FillError`], naming the sample; rows before it have been filled.
    ///
    /// # Panics
    /// When the sink's room for a field is not as long as the field.
    pub fn fill(
        &self,
        fields: &[FieldSpec],
        position: Position,
        rows: Rows,
        out: &mut dyn RowSink,
    ) -> Result<(), FillError> {
        let Extent { samples, batch_size, .. } = self.extent;
        let steps = self.extent.steps();
        let batch_rows = if position.step < steps { self.extent.rows(position.step) } else { 0 };
        if rows.lo > rows.hi || rows.hi > batch_rows {
            return Err(FillError::Outside { rows, position, steps, batch_rows });
        }
        let first_padding = batch_rows - self.extent.padding(position.step);
        for row in rows.lo..rows.hi {
            let place = (position.step * u64::from(batch_size) + u64::from(row)) % samples;
            let place = self.place(position.epoch, place)?;
            let name = self.dataset.name(place.index);
            out.start(row, place.index, row >= first_padding, &name);
            let sample = self.make(place, &name)?;
            write(&sample, fields, &name, row, out)?;
            for value in sample.into_values() {
                if let Value::Image(image) = value {
                    scratch::give(image.into_pixels());
                }
            }
        }
        Ok(())
    }

    fn place(&self, epoch: u64, place: u64) -> Result<Place, FillError> {
        let (index, samples) = (self.sampler.index(epoch, place), self.dataset.len());
        if index >= samples {
            return Err(FillError::Sampler { index, place, epoch, samples });
        }
        Ok(Place { epoch, place, index })
    }

    /// The sample of one place, through the whole chain.
    fn make(&self, place: Place, name: &str) -> Result<Sample, FillError> {
        let mut sample = self.dataset.get(place.index)?;
        for (op, Named { kind, transform }) in self.transforms.iter().enumerate() {
            let mut rng = Rng::new(self.seed, place.epoch, place.place, place.index, op as u64);
            sample = transform.apply(sample, &mut rng).map_err(|source| FillError::Transform {
                sample: name.to_owned(),
                place: op + 1,
                kind: kind.clone(),
                source,
            })?;
        }
        Ok(sample)
    }
}

/// One sample's place in the stream.
#[derive(Clone, Copy, Debug)]
struct Place {
    epoch: u64,
    /// Its place in the epoch, padding counted as the sample it repeats.
    place: u64,
    /// Its index in the dataset.
    index: u64,
}

fn write(sample: &Sample, fields: &[FieldSpec], name: &str, row: u32, out: &mut dyn RowSink) -> Result<(), FillError> {
    for (place, field) in fields.iter().enumerate() {
        let Some(value) = sample.get(&field.name) else {
            return Err(FillError::Missing { sample: name.to_owned(), field: field.name.clone() });
        };
        if !value.fits(field) {
            let (found, expected) = (Box::new(value.field(&field.name)), Box::new(field.clone()));
            return Err(FillError::Mismatch { sample: name.to_owned(), found, expected });
        }
        let room = out.row(row, place);
        assert!(room.len() == value.bytes().len(), "the room for {field} has {} bytes", room.len());
        room.copy_from_slice(value.bytes());
    }
    Ok(())
}
