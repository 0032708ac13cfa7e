//! The pure function from a position to the bytes of a batch.

use std::ops::Range;

use std::sync::OnceLock;

use batchmill_protocol::position::{Extent, Position, Rows};
use batchmill_protocol::tensor::FieldSpec;

pub use self::error::FillError;
use self::kept::Kept;
use self::photo::Last;
use crate::collate::Collate;
use crate::dataset::{MapDataset, SampleError};
use crate::identity::Identity;
pub use crate::quarantine::{ATTEMPTS_MAX, BadSample};
use crate::quarantine::{Quarantine, report, substitute};
use crate::random::Rng;
use crate::sample::Sample;
use crate::sampler::Sampler;
use crate::scratch;
use crate::source::{Index, OpenError};
use crate::spec::{OnBad, SpecError, StreamSpec};
use crate::transform::{Transform, TransformError};

mod error;
mod gather;
mod kept;
mod photo;

/// Samples that are tried to learn the fields of a stream whose bad samples are not to fail it.
pub const SURVEY_MAX: u64 = 100;

/// An opened stream. What it fills depends on the position and nothing else: no worker, thread, clock or order.
#[derive(Debug)]
pub struct Pipeline {
    dataset: Box<dyn MapDataset>,
    sampler: Box<dyn Sampler>,
    transforms: Vec<Named>,
    /// How many of the first of them need no pixels.
    head: usize,
    /// What is left behind those to be done to an image, once one was seen.
    last: OnceLock<Last>,
    collate: Collate,
    /// By label, behind the transforms.
    classes: Vec<String>,
    extent: Extent,
    spec: StreamSpec,
    index: Index,
    quarantine: Quarantine,
    kept: Option<Kept>,
}

/// A transform with the name of its kind, for errors.
#[derive(Debug)]
struct Named {
    kind: String,
    transform: Box<dyn Transform>,
}

/// Where a pipeline puts the rows it makes: room for one batch.
pub trait RowSink {
    /// Sample `index` of the dataset is about to be read, which may be the end of this process. `name` tells a person,
    /// or the report of a crash, which sample it is.
    fn attempt(&mut self, index: u64, name: &str);

    /// The room for one field of a row; `field` is its place among the fields being filled, the length its bytes.
    fn room(&mut self, row: u32, field: usize) -> &mut [u8];

    /// All fields of a row are written; `label` says what they are.
    fn finish(&mut self, row: u32, label: RowLabel);

    /// The room for one field of several rows, where they lie behind one another: without an implementation they do not,
    /// and rows are made one by one.
    fn rooms(&mut self, rows: Rows, field: usize) -> Option<&mut [u8]> {
        let _ = (rows, field);
        None
    }

    /// Several samples are about to be read at once, of which `first` is the first: the same as
    /// [`attempt`](Self::attempt), except that none of them can be blamed.
    fn attempt_many(&mut self, first: &str) {
        let _ = first;
    }

    /// All fields of the rows from `first` on are written.
    fn finish_many(&mut self, first: u32, labels: &[RowLabel]) {
        (first..).zip(labels).for_each(|(row, label)| self.finish(row, *label));
    }
}

/// What stands in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowLabel {
    /// The index, in the dataset, of the sample whose bytes they are; in a masked row of the one whose they are not.
    pub index: u64,
    /// Whether it only fills the batch up.
    pub padding: bool,
    /// Whether the sample stands in for one that could not be used.
    pub substituted: bool,
    /// Whether the sample could not be used, and all bytes are zero.
    pub masked: bool,
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
        collate: Collate,
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
        let classes = transforms.iter().fold(dataset.classes().to_vec(), |names, transform| transform.classes(names));
        let kinds = spec.transforms.iter().map(|component| component.kind.clone());
        let transforms: Vec<_> = kinds.zip(transforms).map(|(kind, transform)| Named { kind, transform }).collect();
        let head = photo::head_of(&transforms);
        let quarantine = Quarantine::default();
        let spec = spec.clone();
        Ok(Self {
            dataset,
            sampler,
            transforms,
            head,
            collate,
            classes,
            extent,
            spec,
            index,
            quarantine,
            kept: None,
            last: OnceLock::new(),
        })
    }

    /// How far one epoch reaches.
    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// The dataset, whose samples are as they were before the transforms.
    pub fn dataset(&self) -> &dyn MapDataset {
        &*self.dataset
    }

    /// What becomes of a sample of the dataset on its way into a batch, were it at place `index` of epoch 0: transforms,
    /// and collate.
    ///
    /// # Errors
    /// [`FillError::Transform`] and [`FillError::Collate`].
    pub fn prepare(&self, index: u64, sample: Sample) -> Result<Sample, FillError> {
        self.finish(Place { epoch: 0, place: index, index }, 0, sample)
    }

    /// The names of the classes, by the label that a batch has: behind the transforms.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// What the content follows from, and the hash of it.
    ///
    /// Reads the whole index; ask once.
    pub fn identity(&self) -> Identity {
        Identity::new(&self.spec, &self.index, &self.dataset.summary())
    }

    /// Takes a sample of the dataset for one that cannot be used, because of `reason`, and never reads it again: it kills
    /// whoever does.
    pub fn quarantine(&mut self, index: u64, reason: String) {
        self.quarantine.add(index, reason);
    }

    /// Learns the fields of the stream from the first sample of the dataset that can be used.
    ///
    /// With `on_bad = "fail"` that must be the very first, otherwise one of the first [`SURVEY_MAX`]. `attempt` is told
    /// index and name of each before it is read, as [`RowSink::attempt`] is.
    ///
    /// # Errors
    /// [`FillError`] when there is none; it names the first.
    pub fn survey(&self, attempt: &mut dyn FnMut(u64, &str)) -> Result<Vec<FieldSpec>, FillError> {
        let tried = self.dataset.len().min(SURVEY_MAX);
        let mut first = None;
        for index in 0..tried {
            match self.make(Place { epoch: 0, place: index, index }, attempt) {
                Ok(sample) => return Ok(sample.iter().map(|(name, value)| value.field(name)).collect()),
                Err(error) if self.is_final(&error) => return Err(error),
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        let first = first.expect("a dataset without samples makes no pipeline, and no sample passed");
        Err(FillError::Survey { tried, source: Box::new(first) })
    }

    /// Fills `rows` of the batch at `position`, and returns the samples that could not be used.
    ///
    /// Row `r` is place `step * batch_size + r` of the epoch; the padding at the end of a last batch starts over with
    /// the epoch's first samples. What stands in for a bad sample follows from the stream's seed, the epoch and the
    /// place: no other row is the worse for it, and a row of padding is what the row is that it repeats.
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
    ) -> Result<Vec<BadSample>, FillError> {
        let Extent { samples, batch_size, .. } = self.extent;
        let steps = self.extent.steps();
        let batch_rows = if position.step < steps { self.extent.rows(position.step) } else { 0 };
        if rows.lo > rows.hi || rows.hi > batch_rows {
            return Err(FillError::Outside { rows, position, steps, batch_rows });
        }
        let first_padding = batch_rows - self.extent.padding(position.step);
        let mut bad = Vec::new();
        let gathered = self.gather(fields, position, rows, out);
        let places = (rows.lo + gathered..rows.hi).map(|row| {
            let place = (position.step * u64::from(batch_size) + u64::from(row)) % samples;
            let index = self.index_at(position.epoch, place)?;
            Ok::<_, FillError>((row, Place { epoch: position.epoch, place, index }))
        });
        let mut places = places.peekable();
        while let Some(place) = places.next() {
            let (row, place) = place?;
            if let Some(Ok((_, next))) = places.peek()
                && self.quarantine.reason(next.index).is_none()
                && !self.is_kept(next.index)
            {
                self.dataset
                    .expect(next.index, &mut || self.say(next.index, &mut |index, name| out.attempt(index, name)));
            }
            let label = self.fill_row(fields, place, row, out, &mut bad)?;
            out.finish(row, RowLabel { padding: row >= first_padding, ..label });
        }
        Ok(bad)
    }

    /// Fills one row with the sample of its place, or with what `on_bad` says.
    fn fill_row(
        &self,
        fields: &[FieldSpec],
        place: Place,
        row: u32,
        out: &mut dyn RowSink,
        bad: &mut Vec<BadSample>,
    ) -> Result<RowLabel, FillError> {
        let label = RowLabel { index: place.index, padding: false, substituted: false, masked: false };
        let error = match self.write_row(fields, place, row, out) {
            Ok(()) => return Ok(label),
            Err(error) => self.tolerate(error, place.index, row, bad)?,
        };
        if self.spec.on_bad == OnBad::Mask {
            (0..fields.len()).for_each(|field| out.room(row, field).fill(0));
            return Ok(RowLabel { masked: true, ..label });
        }
        let mut attempts = 0;
        for attempt in 1..=ATTEMPTS_MAX {
            let drawn = substitute(self.spec.seed, place.epoch, place.place, attempt, self.extent.samples);
            let Some(drawn) = drawn else { break };
            attempts = attempt;
            let index = self.index_at(place.epoch, drawn)?;
            // Its transforms draw as for the place where it stands now.
            match self.write_row(fields, Place { index, ..place }, row, out) {
                Ok(()) => return Ok(RowLabel { index, substituted: true, ..label }),
                Err(error) => drop(self.tolerate(error, index, row, bad)?),
            }
        }
        Err(FillError::NoSubstitute { sample: self.dataset.name(place.index), attempts, source: Box::new(error) })
    }

    /// Notes a sample that cannot be used and gives its error back.
    ///
    /// # Errors
    /// The error, when no sample is to blame or the stream is to fail.
    fn tolerate(
        &self,
        error: FillError,
        index: u64,
        row: u32,
        bad: &mut Vec<BadSample>,
    ) -> Result<FillError, FillError> {
        if self.is_final(&error) {
            return Err(error);
        }
        bad.push(BadSample { row, index, name: self.dataset.name(index), reason: report(&error) });
        Ok(error)
    }

    /// Whether an error ends what is being done: the policy has no other answer, or does not apply.
    fn is_final(&self, error: &FillError) -> bool {
        self.spec.on_bad == OnBad::Fail || !error.is_bad_sample()
    }

    /// The sampler's answer, checked.
    fn index_at(&self, epoch: u64, place: u64) -> Result<u64, FillError> {
        let (index, samples) = (self.sampler.index(epoch, place), self.dataset.len());
        if index >= samples {
            return Err(FillError::Sampler { index, place, epoch, samples });
        }
        Ok(index)
    }

    /// Makes the sample of one place and writes its row; nothing is written where there is an error.
    fn write_row(&self, fields: &[FieldSpec], place: Place, row: u32, out: &mut dyn RowSink) -> Result<(), FillError> {
        if self.write_kept(fields, place.index, row, out) {
            return Ok(());
        }
        self.begin(place, &mut |index, name| out.attempt(index, name))?;
        let sample = if let Some((done, sample)) = self.kept_or_made(place)? {
            self.finish(place, done, sample)?
        } else {
            match self.dataset.encoded(place.index)? {
                Some(encoded) => match self.last_step(encoded.decoding.color.channels()) {
                    Some(last) => return self.write_photo(last, fields, place, encoded, row, out),
                    None => self.finish(place, self.head, self.develop(place, encoded, self.head)?)?,
                },
                None => self.finish(place, 0, self.dataset.get(place.index)?)?,
            }
        };
        // All are checked before any is written.
        for field in fields {
            fitting(&sample, field, &|| self.dataset.name(place.index))?;
        }
        for (place, field) in fields.iter().enumerate() {
            let Some(value) = sample.get(&field.name) else { continue };
            let room = out.room(row, place);
            assert!(room.len() == value.bytes().len(), "the room for {field} has {} bytes", room.len());
            room.copy_from_slice(value.bytes());
        }
        photo::give_back(sample);
        Ok(())
    }

    /// The sample of one place, through the whole chain.
    fn make(&self, place: Place, attempt: &mut dyn FnMut(u64, &str)) -> Result<Sample, FillError> {
        self.begin(place, attempt)?;
        let sample = self.make_until(place, self.head)?;
        self.finish(place, self.head, sample)
    }

    /// Says that a sample is about to be read, which must not be in quarantine.
    fn begin(&self, place: Place, attempt: &mut dyn FnMut(u64, &str)) -> Result<(), FillError> {
        if let Some(reason) = self.quarantine.reason(place.index) {
            return Err(SampleError::new(self.dataset.name(place.index), reason).into());
        }
        self.say(place.index, attempt);
        Ok(())
    }

    /// Says which sample is about to be read.
    fn say(&self, index: u64, attempt: &mut dyn FnMut(u64, &str)) {
        scratch::with_text(|name| {
            self.dataset.write_name(index, name);
            attempt(index, name);
        });
    }

    /// The sample of one place behind the first `upto` transforms.
    fn make_until(&self, place: Place, upto: usize) -> Result<Sample, FillError> {
        let (done, sample) = match self.dataset.encoded(place.index)? {
            Some(encoded) => (upto.min(self.head), self.develop(place, encoded, upto.min(self.head))?),
            None => (0, self.dataset.get(place.index)?),
        };
        self.transform(place, done..upto, sample)
    }

    /// A sample that is behind the first `done` transforms through the others and collate.
    fn finish(&self, place: Place, done: usize, sample: Sample) -> Result<Sample, FillError> {
        let sample = self.transform(place, done..self.transforms.len(), sample)?;
        let name = || self.dataset.name(place.index);
        self.collate.apply(sample).map_err(|source| FillError::Collate { sample: name(), source })
    }

    /// A sample through some of the transforms.
    fn transform(&self, place: Place, ops: Range<usize>, mut sample: Sample) -> Result<Sample, FillError> {
        for op in ops {
            let changed = self.transforms[op].transform.apply(sample, &mut self.rng(place, op));
            sample = changed.map_err(|source| self.failed_at(place, op, source))?;
        }
        Ok(sample)
    }

    /// What transform `op` draws from at one place.
    fn rng(&self, place: Place, op: usize) -> Rng {
        Rng::new(self.spec.seed, place.epoch, place.place, place.index, op as u64)
    }

    fn failed_at(&self, place: Place, op: usize, source: TransformError) -> FillError {
        let kind = self.transforms[op].kind.clone();
        FillError::Transform { sample: self.dataset.name(place.index), place: op + 1, kind, source }
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

/// Requires that a sample has a field, of its dtype and shape.
fn fitting(sample: &Sample, field: &FieldSpec, name: &dyn Fn() -> String) -> Result<(), FillError> {
    let Some(value) = sample.get(&field.name) else {
        return Err(FillError::Missing { sample: name(), field: field.name.clone() });
    };
    if !value.fits(field) {
        let (found, expected) = (Box::new(value.field(&field.name)), Box::new(field.clone()));
        return Err(FillError::Mismatch { sample: name(), found, expected });
    }
    Ok(())
}
