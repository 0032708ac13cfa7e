//! Batches become tensors, one ahead of the training, on a thread of its own.

use std::thread;
use std::time::{Duration, Instant};

use batchmill_protocol::client::{Batch, ClientError, Member};
use batchmill_protocol::ledger::Entry;
use batchmill_protocol::message::StreamDescription;
use batchmill_protocol::position::Position;
use batchmill_protocol::tensor::FieldSpec;
use burn::tensor::{Device, Tensor, TensorData};
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use thiserror::Error;

use crate::device::{self, DeviceError};
use crate::fields::{Answer, Fields, Input};
use crate::loss::Target;
use crate::model::Sequential;
use crate::normalize::{Raw, floats, numbers};
use crate::report::Report;
use crate::stop::Stop;

/// Batches that wait as tensors while one is trained on. With the one in the feed's hand and the one in training that
/// is one less than a member may hold.
const AHEAD: usize = 1;

/// How long a wait for a batch lasts until somebody looks whether it is still wanted.
const LOOK_UP: Duration = Duration::from_millis(50);

/// Why there is no batch to train on.
#[derive(Debug, Error)]
pub enum FeedError {
    /// The loader has none.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The device takes no batch.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The loader has ended, and no other took its place in time.
    #[error("the loader has ended{}; {position} of stream `{stream}` is the next batch", for_nothing(*waited))]
    LoaderLost {
        /// The stream.
        stream: String,
        /// The batch that did not come.
        position: Position,
        /// How long another one was waited for, if it was.
        waited: Option<Duration>,
    },
    /// A label that the model cannot answer.
    #[error(
        "stream `{stream}`, {position} row {row}: label {label} is not one of the model's {outputs} outputs, 0 to {}: {}",
        outputs - 1,
        label_remedy(*label)
    )]
    Label {
        /// The stream.
        stream: String,
        /// The batch.
        position: Position,
        /// The row of it.
        row: usize,
        /// What it says.
        label: i64,
        /// How many classes the model has.
        outputs: usize,
    },
    /// A whole number that the model's embedding has no row for.
    #[error(
        "stream `{stream}`, {position} row {row}: {index} is not one of the model's {embeddings} embeddings, 0 to {}: \
         set num_embeddings higher, or mend the data",
        embeddings - 1
    )]
    Index {
        /// The stream.
        stream: String,
        /// The batch.
        position: Position,
        /// The row of it.
        row: usize,
        /// What it says.
        index: i64,
        /// How many the model has.
        embeddings: usize,
    },
    /// The stream ended too early.
    #[error("stream `{stream}` ended at {position}, before the epoch did")]
    Ended {
        /// The stream.
        stream: String,
        /// The batch that was awaited.
        position: Position,
    },
}

fn for_nothing(waited: Option<Duration>) -> String {
    waited.map_or_else(String::new, |waited| format!(" and no other came for {} s", waited.as_secs_f64()))
}

fn label_remedy(label: i64) -> String {
    match label.checked_add(1) {
        Some(outputs) if outputs > 0 => {
            format!("set out_features of the last layer to {outputs} or more, or mend the label")
        }
        _ => "mend the label, they count from 0".to_owned(),
    }
}

/// A batch of a stream.
#[derive(Debug)]
pub struct Minibatch {
    /// What a ledger notes of it.
    pub entry: Entry,
    /// What can be computed with; `None` when not one of its samples can be read.
    pub samples: Option<Samples>,
}

/// The samples of a batch as tensors: without the rows that only fill it up, and those whose samples cannot be read.
#[derive(Debug)]
pub struct Samples {
    /// What the model computes from.
    pub input: Raw,
    /// What it should answer; a class is below the model's outputs.
    pub target: Target,
    /// How many there are.
    pub rows: usize,
}

/// What makes [`Samples`] of a batch's bytes.
#[derive(Clone, Debug)]
struct Maker {
    stream: String,
    fields: Fields,
    outputs: usize,
    /// Rows of the embedding that the model begins with, if it does.
    embeddings: Option<usize>,
    device: Device,
}

impl Maker {
    /// Takes the rows `0..rows` of both fields but the `masked` ones; what is behind them is padding.
    fn make(
        &self,
        position: Position,
        rows: usize,
        masked: &[usize],
        inputs: bytes::Bytes,
        targets: bytes::Bytes,
    ) -> Result<Option<Samples>, FeedError> {
        let counts: Vec<usize> = (0..rows).filter(|row| !masked.contains(row)).collect();
        if counts.is_empty() {
            return Ok(None);
        }
        let take = |field: &FieldSpec, bytes: bytes::Bytes| {
            let row_bytes = field.row_bytes().expect("the client checked the layout");
            if counts.len() == rows {
                return bytes.slice(..rows * row_bytes);
            }
            // The rows that count do not lie side by side: this batch alone is copied.
            let row = |row: &usize| &bytes[row * row_bytes..(row + 1) * row_bytes];
            counts.iter().map(row).collect::<Vec<_>>().concat().into()
        };
        let Fields { input, kind, target, answer } = &self.fields;
        let targets = take(target, targets);
        let target = match answer {
            Answer::Class => {
                let labels: Vec<i64> = numbers(targets, counts.len(), target).iter::<i64>().collect();
                self.check_labels(position, &counts, &labels)?;
                // Converted on the host to the device's integer, which is i32 nearly everywhere.
                Target::Classes(Tensor::from_data(TensorData::new(labels, [counts.len()]), &self.device))
            }
            Answer::Numbers(count) => {
                let numbers = Tensor::<1>::from_data(flat(floats(targets, counts.len(), target)), &self.device);
                Target::Numbers(numbers.reshape([counts.len(), *count]))
            }
        };
        let (rows, inputs) = (counts.len(), take(input, inputs));
        self.check_indices(position, &counts, &inputs)?;
        Ok(Some(Samples { input: Raw::new(inputs, rows, input, kind, &self.device), target, rows }))
    }

    /// Checks that the model has an embedding for every whole number of `rows`: a device would panic, or take another.
    fn check_indices(&self, position: Position, rows: &[usize], inputs: &bytes::Bytes) -> Result<(), FeedError> {
        let (Some(embeddings), Input::Indices(extents)) = (self.embeddings, &self.fields.kind) else { return Ok(()) };
        let length = extents.iter().product::<usize>().max(1);
        let is_wrong = |index: i64| usize::try_from(index).map_or(true, |index| index >= embeddings);
        let indices = numbers(inputs.clone(), rows.len(), &self.fields.input);
        match indices.iter::<i64>().enumerate().find(|(_, index)| is_wrong(*index)) {
            Some((place, index)) => {
                let (stream, row) = (self.stream.clone(), rows[place / length]);
                Err(FeedError::Index { stream, position, row, index, embeddings })
            }
            None => Ok(()),
        }
    }

    /// Checks that the model can answer the labels, which are those of `rows`.
    fn check_labels(&self, position: Position, rows: &[usize], labels: &[i64]) -> Result<(), FeedError> {
        let (stream, outputs) = (&self.stream, self.outputs);
        let is_wrong = |label: i64| usize::try_from(label).map_or(true, |label| label >= outputs);
        match rows.iter().zip(labels).find(|(_, label)| is_wrong(**label)) {
            Some((&row, &label)) => Err(FeedError::Label { stream: stream.clone(), position, row, label, outputs }),
            None => Ok(()),
        }
    }

    fn make_of(&self, batch: &Batch) -> Result<Minibatch, FeedError> {
        let index = |row| usize::try_from(row).expect("a batch's rows fit into memory");
        let rows = index(batch.rows() - batch.padding());
        let masked: Vec<usize> = batch.masked().map(index).filter(|&row| row < rows).collect();
        let field = |field: &FieldSpec| {
            let bytes = batch.shared_field(&field.name).expect("`Fields::of` found the field");
            bytes::Bytes::from_owner(bytes)
        };
        let (inputs, targets) = (field(&self.fields.input), field(&self.fields.target));
        let samples = self.make(batch.position(), rows, &masked, inputs, targets)?;
        Ok(Minibatch { entry: batch.entry(), samples })
    }
}

/// Numbers in one row.
fn flat(numbers: TensorData) -> TensorData {
    let (bytes, shape, dtype) = numbers.into_parts();
    TensorData::from_bytes(bytes, [shape.num_elements()], dtype)
}

/// A member of a stream, whose batches wait as tensors.
#[derive(Debug)]
pub struct Feed {
    stream: StreamDescription,
    ready: Receiver<Result<Minibatch, FeedError>>,
    /// The next batch, when it was waited for and not taken yet.
    next: Option<Minibatch>,
    cursor: Position,
    waited: Duration,
}

impl Feed {
    /// Starts the thread that makes tensors on `device` for `model`. It ends with the stream, or
    /// when the feed is dropped and the batch it waits for has come. When the loader ends and there is a `successor`,
    /// it goes on with the next loader at the same address.
    pub fn start(
        member: Member,
        fields: Fields,
        model: &Sequential,
        device: &Device,
        successor: Option<Successor>,
    ) -> Self {
        let (stream, cursor) = (member.stream().clone(), member.cursor());
        let (outputs, embeddings) = (model.outputs(), model.embeddings());
        let maker = Maker { stream: stream.name.clone(), fields, outputs, embeddings, device: device.clone() };
        let (made, ready) = bounded(AHEAD);
        thread::spawn(move || feed(member, &maker, successor.as_ref(), &made));
        Self { stream, ready, next: None, cursor, waited: Duration::ZERO }
    }

    /// What the stream delivers.
    pub fn stream(&self) -> &StreamDescription {
        &self.stream
    }

    /// The next batch that [`next`](Self::next) gives.
    pub fn cursor(&self) -> Position {
        self.cursor
    }

    /// The time that training spent waiting for batches.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Waits for the next batch, as long as the member does.
    ///
    /// # Errors
    /// What the loader said, [`FeedError::Label`], or [`FeedError::Ended`].
    // Not `Iterator`: a stream does not end here but in an error.
    #[expect(clippy::should_implement_trait, reason = "see above")]
    pub fn next(&mut self) -> Result<Minibatch, FeedError> {
        Ok(self.next_unless(&Stop::default())?.expect("nobody else has this stop"))
    }

    /// As [`next`](Self::next), but `None` as soon as `stop` is requested, though a batch may be there.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn next_unless(&mut self, stop: &Stop) -> Result<Option<Minibatch>, FeedError> {
        if !self.wait_unless(stop)? {
            return Ok(None);
        }
        let batch = self.next.take().expect("it was waited for");
        self.cursor = self.stream.extent.next(batch.entry.position);
        Ok(Some(batch))
    }

    /// Waits for the batch that [`next`](Self::next) then gives at once. `false` as soon as `stop` is requested, though it
    /// may be there.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn wait_unless(&mut self, stop: &Stop) -> Result<bool, FeedError> {
        let start = Instant::now();
        loop {
            if stop.requested().is_some() {
                return Ok(false);
            }
            if self.next.is_some() {
                break;
            }
            match self.ready.recv_timeout(LOOK_UP) {
                Ok(batch) => self.next = Some(batch?),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(FeedError::Ended { stream: self.stream.name.clone(), position: self.cursor });
                }
            }
        }
        self.waited += start.elapsed();
        Ok(true)
    }
}

/// The loader to wait for when one has ended.
#[derive(Clone, Debug)]
pub struct Successor {
    /// For how long.
    pub limit: Duration,
    /// Who is told.
    pub report: Report,
}

impl Successor {
    /// Has `member` go on at the exact batch with the next loader.
    fn join(&self, member: &mut Member) -> Result<(), FeedError> {
        let (stream, position, limit) = (member.stream().name.clone(), member.cursor(), self.limit);
        let limit_s = limit.as_secs_f64();
        self.report.note(&format!("stream `{stream}`: the loader has ended: waiting up to {limit_s} s for the next"));
        match member.reconnect(limit) {
            Ok(()) => {
                self.report.note(&format!("stream `{stream}`: another loader goes on at {position}"));
                Ok(())
            }
            Err(ClientError::NoLoader { .. } | ClientError::Ending { .. } | ClientError::Wire { .. }) => {
                Err(FeedError::LoaderLost { stream, position, waited: Some(limit) })
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn feed(mut member: Member, maker: &Maker, successor: Option<&Successor>, made: &Sender<Result<Minibatch, FeedError>>) {
    loop {
        let minibatch = match (member.next(), successor) {
            (Ok(Some(batch)), _) => {
                let doing = format_args!("take {} of stream `{}`", batch.position(), maker.stream);
                device::guarded(doing, || maker.make_of(&batch)).map_err(FeedError::from).flatten()
            }
            (Ok(None), _) => return,
            (Err(ClientError::LoaderLost { .. }), Some(successor)) => match successor.join(&mut member) {
                Ok(()) => continue,
                Err(error) => Err(error),
            },
            (Err(ClientError::LoaderLost { resume }), None) => {
                let stream = member.stream().name.clone();
                Err(FeedError::LoaderLost { stream, position: resume, waited: None })
            }
            (Err(error), _) => Err(error.into()),
        };
        let failed = minibatch.is_err();
        // An error here: nobody wants batches any more.
        if made.send(minibatch).is_err() || failed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use batchmill_protocol::tensor::{Dtype, Shape};
    use burn::module::Param;
    use burn::nn::Linear;
    use expect_test::expect;

    use super::*;
    use crate::config::ModelSpec;
    use crate::loss::cross_entropy;
    use crate::normalize::{Normalizer, Pixels};
    use crate::shape::ImageShape;

    const SHAPE: ImageShape = ImageShape { height: 2, width: 2, channels: 1 };

    fn labels(labels: &[i64]) -> bytes::Bytes {
        labels.iter().flat_map(|label| label.to_le_bytes()).collect::<Vec<_>>().into()
    }

    fn maker() -> Maker {
        let fields = Fields {
            input: FieldSpec::new("image", Dtype::U8, [2, 2, 1]),
            kind: SHAPE.into(),
            target: FieldSpec::new("label", Dtype::I64, Shape::default()),
            answer: Answer::Class,
        };
        Maker { stream: "train".to_owned(), fields, outputs: 3, embeddings: None, device: Device::flex() }
    }

    /// The loss of a model on what is left of a batch of 2x2 images whose pixels are those of `images`.
    fn loss(rows: usize, masked: &[usize], images: &[u8], labels: &[i64]) -> f32 {
        let spec = ModelSpec::parse("[[layer]]\nkind = 'flatten'\n[[layer]]\nkind = 'linear'\nout_features = 3\n")
            .expect("a model");
        let device = Device::flex();
        let mut model = Sequential::build(&spec, SHAPE, &device).expect("it fits");
        let weights: Vec<f32> = (0..12_u8).map(|number| f32::from(number) / 12.0).collect();
        if let Some(layer) = model.layer_mut(1).and_then(|layer| layer.downcast_mut::<Linear>()) {
            layer.weight = Param::from_tensor(Tensor::<1>::from_data(weights.as_slice(), &device).reshape([4, 3]));
            layer.bias = None;
        }
        let normalizer = Normalizer::new(&spec.normalize, &SHAPE.into(), &device).expect("it fits");
        let images = bytes::Bytes::copy_from_slice(images);
        let samples = maker().make(Position::default(), rows, masked, images, self::labels(labels));
        let samples = samples.expect("the labels are right").expect("some rows are left");
        let Target::Classes(labels) = samples.target else { panic!("a label is a class") };
        assert_eq!(labels.dims(), [samples.rows]);
        cross_entropy(model.logits(normalizer.apply(samples.input)), labels).into_scalar::<f32>()
    }

    #[test]
    fn padding_counts_in_no_loss() {
        let short = loss(2, &[], &[1, 2, 3, 4, 5, 6, 7, 8], &[0, 2]);
        let padded = loss(2, &[], &[1, 2, 3, 4, 5, 6, 7, 8, 200, 200, 200, 200], &[0, 2, 1]);
        assert_eq!(short, padded);
    }

    #[test]
    fn masked_rows_count_in_no_loss() {
        let without = loss(2, &[], &[1, 2, 3, 4, 5, 6, 7, 8], &[0, 2]);
        for row in 0..3 {
            let (mut images, mut labels) = (vec![1, 2, 3, 4, 5, 6, 7, 8], vec![0, 2]);
            images.splice(row * 4..row * 4, [0; 4]);
            labels.insert(row, 0);
            assert_eq!(loss(3, &[row], &images, &labels), without, "row {row} was masked");
            assert_ne!(loss(3, &[], &images, &labels), without, "row {row} was not masked");
        }
        let two = loss(4, &[1, 2], &[1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 5, 6, 7, 8, 9, 9, 9, 9], &[0, 0, 0, 2, 1]);
        assert_eq!(two, without);
    }

    #[test]
    fn a_batch_with_no_row_left_has_no_samples() {
        let none = maker().make(Position::default(), 2, &[0, 1], bytes::Bytes::from_static(&[0; 12]), labels(&[0; 3]));
        assert!(none.expect("no label is read").is_none());
    }

    #[test]
    fn only_a_batch_with_masked_rows_is_copied() {
        let address = |masked: &[usize]| {
            let images = bytes::Bytes::from(vec![7; 16]);
            let lies_at = images.as_ptr();
            let samples = maker().make(Position::default(), 3, masked, images, labels(&[0; 4]));
            let Some(Samples { input: Raw::Pixels(Pixels::Bytes(tensor)), .. }) =
                samples.expect("the labels are right")
            else {
                panic!("the CPU knows bytes");
            };
            let data = tensor.into_data();
            assert!(data.bytes().iter().all(|byte| *byte == 7));
            (data.bytes().as_ptr() == lies_at, data.bytes().len())
        };
        assert_eq!(address(&[]), (true, 12));
        assert_eq!(address(&[1]), (false, 8));
    }

    #[test]
    fn a_label_the_model_cannot_answer_is_named() {
        let make = |label, masked: &[usize]| {
            let position = Position { epoch: 1, step: 7 };
            maker().make(position, 2, masked, bytes::Bytes::from_static(&[0; 8]), labels(&[0, label])).map(drop)
        };
        assert!(make(2, &[]).is_ok());
        let error = make(3, &[0]).expect_err("there are three outputs").to_string();
        expect![
            "stream `train`, epoch 1 step 7 row 1: label 3 is not one of the model's 3 outputs, 0 to 2: set out_features of the last layer to 4 or more, or mend the label"
        ]
        .assert_eq(&error);
        let error = make(-1, &[]).expect_err("labels count from 0").to_string();
        assert!(error.ends_with("0 to 2: mend the label, they count from 0"), "{error}");
        assert!(make(3, &[1]).is_ok(), "what is masked has no label");
    }

    #[test]
    fn a_number_without_an_embedding_is_named() {
        let spec = "[[layer]]\nkind = 'sequential'\nlayers = [{ kind = 'embedding', num_embeddings = 5, embedding_dim = 2 }]\n\
            [[layer]]\nkind = 'flatten'\n[[layer]]\nkind = 'linear'\nout_features = 3\n";
        let kind = Input::Indices(vec![2]);
        let model = ModelSpec::parse(spec).expect("a model");
        let model = Sequential::build(&model, kind.clone(), &Device::flex()).expect("it fits");
        let mut maker = Maker { embeddings: model.embeddings(), ..maker() };
        (maker.fields.input, maker.fields.kind) = (FieldSpec::new("input", Dtype::U8, [2]), kind);
        let make = |masked: &[usize], words: &'static [u8]| {
            let position = Position { epoch: 1, step: 7 };
            maker.make(position, 3, masked, bytes::Bytes::from_static(words), labels(&[0; 3])).map(drop)
        };
        assert!(make(&[], &[0, 4, 4, 0, 1, 2]).is_ok());
        assert!(make(&[1], &[0, 4, 5, 5, 1, 2]).is_ok(), "what is masked has no words");
        let error = make(&[0], &[0, 4, 4, 0, 1, 5]).expect_err("there are five").to_string();
        expect![
            "stream `train`, epoch 1 step 7 row 2: 5 is not one of the model's 5 embeddings, 0 to 4: set num_embeddings higher, or mend the data"
        ]
        .assert_eq(&error);
    }
}
