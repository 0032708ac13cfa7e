//! Batches become tensors, one ahead of the training, on a thread of its own.

use std::thread;
use std::time::{Duration, Instant};

use batchmill_protocol::client::{Batch, ClientError, Member};
use batchmill_protocol::ledger::Entry;
use batchmill_protocol::message::StreamDescription;
use batchmill_protocol::position::Position;
use batchmill_protocol::tensor::{Dtype, FieldSpec};
use burn::tensor::{Device, Int, Tensor, TensorData};
use crossbeam::channel::{Receiver, Sender, bounded};
use thiserror::Error;

use crate::normalize::Pixels;
use crate::report::Report;
use crate::shape::ImageShape;

/// The field that a model computes from.
pub const IMAGE: &str = "image";

/// The field that a model should answer.
pub const LABEL: &str = "label";

/// Batches that wait as tensors while one is trained on. With the one in the feed's hand and the one in training that
/// is one less than a member may hold.
const AHEAD: usize = 1;

/// Why there is no batch to train on.
#[derive(Debug, Error)]
pub enum FeedError {
    /// The loader has none.
    #[error(transparent)]
    Client(#[from] ClientError),
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
    /// The stream is not one of labelled images.
    #[error("train on stream `{stream}`: {what}; it delivers {}", list(fields))]
    Unfit {
        /// The stream.
        stream: String,
        /// What is missing.
        what: &'static str,
        /// What there is.
        fields: Vec<FieldSpec>,
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

fn list(fields: &[FieldSpec]) -> String {
    fields.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The shape of a stream's images, when it is one a model can train on.
///
/// # Errors
/// [`FeedError::Unfit`] when `image` is not u8 `[height, width, channels]` or `label` not one i64.
pub fn image_shape(stream: &StreamDescription) -> Result<ImageShape, FeedError> {
    let unfit = |what| FeedError::Unfit { stream: stream.name.clone(), what, fields: stream.fields.clone() };
    let field = |name| stream.fields.iter().find(|field: &&FieldSpec| field.name == name);
    field(LABEL)
        .filter(|label| label.dtype == Dtype::I64 && label.shape.0.is_empty())
        .ok_or_else(|| unfit("it needs a field `label: i64 []`"))?;
    field(IMAGE)
        .filter(|image| image.dtype == Dtype::U8)
        .and_then(|image| ImageShape::from_extents(&image.shape.0))
        .ok_or_else(|| unfit("it needs a field `image: u8 [height, width, channels]`"))
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
    /// *Shape* `[rows, height, width, channels]`.
    pub pixels: Pixels,
    /// *Shape* `[rows]`, each below the model's outputs.
    pub labels: Tensor<1, Int>,
    /// How many there are.
    pub rows: usize,
}

/// What makes [`Samples`] of a batch's bytes.
#[derive(Clone, Debug)]
struct Maker {
    stream: String,
    shape: ImageShape,
    outputs: usize,
    device: Device,
}

impl Maker {
    /// Takes the rows `0..rows` of both fields but the `masked` ones; what is behind them is padding.
    fn make(
        &self,
        position: Position,
        rows: usize,
        masked: &[usize],
        images: bytes::Bytes,
        labels: &[u8],
    ) -> Result<Option<Samples>, FeedError> {
        let counts: Vec<usize> = (0..rows).filter(|row| !masked.contains(row)).collect();
        let labels = self.check_labels(position, &counts, labels)?;
        let images = match counts.len() {
            0 => return Ok(None),
            count if count == rows => images.slice(..rows * self.shape.bytes()),
            // The rows that count do not lie side by side: this batch alone is copied.
            _ => {
                let image = |row: &usize| &images[row * self.shape.bytes()..(row + 1) * self.shape.bytes()];
                counts.iter().map(image).collect::<Vec<_>>().concat().into()
            }
        };
        let rows = counts.len();
        let pixels = Pixels::new(images, rows, self.shape, &self.device);
        // Converted on the host to the device's integer, which is i32 nearly everywhere.
        let labels = Tensor::from_data(TensorData::new(labels, [rows]), &self.device);
        Ok(Some(Samples { pixels, labels, rows }))
    }

    /// The labels of `rows`, when the model can answer all of them.
    fn check_labels(&self, position: Position, rows: &[usize], bytes: &[u8]) -> Result<Vec<i64>, FeedError> {
        let (labels, _) = bytes.as_chunks();
        let (stream, outputs) = (&self.stream, self.outputs);
        let check = |&row: &usize| {
            let label = i64::from_le_bytes(labels[row]);
            match usize::try_from(label) {
                Ok(known) if known < outputs => Ok(label),
                _ => Err(FeedError::Label { stream: stream.clone(), position, row, label, outputs }),
            }
        };
        rows.iter().map(check).collect()
    }

    fn make_of(&self, batch: &Batch) -> Result<Minibatch, FeedError> {
        let index = |row| usize::try_from(row).expect("a batch's rows fit into memory");
        let rows = index(batch.rows() - batch.padding());
        let masked: Vec<usize> = batch.masked().map(index).filter(|&row| row < rows).collect();
        let images = batch.shared_field(IMAGE).expect("`image_shape` found the field");
        let labels = batch.field(LABEL).expect("`image_shape` found the field");
        let samples = self.make(batch.position(), rows, &masked, bytes::Bytes::from_owner(images), labels)?;
        Ok(Minibatch { entry: batch.entry(), samples })
    }
}

/// A member of a stream, whose batches wait as tensors.
#[derive(Debug)]
pub struct Feed {
    stream: StreamDescription,
    ready: Receiver<Result<Minibatch, FeedError>>,
    cursor: Position,
    waited: Duration,
}

impl Feed {
    /// Starts the thread that makes tensors on `device` for a model of `outputs` outputs. It ends with the stream, or
    /// when the feed is dropped and the batch it waits for has come. When the loader ends and there is a `successor`,
    /// it goes on with the next loader at the same address.
    ///
    /// # Errors
    /// [`FeedError::Unfit`] when the stream has no labelled images.
    pub fn start(
        member: Member,
        outputs: usize,
        device: &Device,
        successor: Option<Successor>,
    ) -> Result<Self, FeedError> {
        let (stream, cursor) = (member.stream().clone(), member.cursor());
        let maker =
            Maker { stream: stream.name.clone(), shape: image_shape(&stream)?, outputs, device: device.clone() };
        let (made, ready) = bounded(AHEAD);
        thread::spawn(move || feed(member, &maker, successor.as_ref(), &made));
        Ok(Self { stream, ready, cursor, waited: Duration::ZERO })
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
        let start = Instant::now();
        let batch = self.ready.recv();
        self.waited += start.elapsed();
        let ended = |_| Err(FeedError::Ended { stream: self.stream.name.clone(), position: self.cursor });
        let batch = batch.unwrap_or_else(ended)?;
        self.cursor = self.stream.extent.next(batch.entry.position);
        Ok(batch)
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
            (Ok(Some(batch)), _) => maker.make_of(&batch),
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
    use batchmill_protocol::message::StreamId;
    use batchmill_protocol::position::{Extent, Tail};
    use batchmill_protocol::tensor::Shape;
    use burn::module::Param;
    use burn::nn::Linear;
    use expect_test::expect;

    use super::*;
    use crate::config::ModelSpec;
    use crate::loss::cross_entropy;
    use crate::model::Sequential;
    use crate::normalize::Normalizer;

    const SHAPE: ImageShape = ImageShape { height: 2, width: 2, channels: 1 };

    fn labels(labels: &[i64]) -> Vec<u8> {
        labels.iter().flat_map(|label| label.to_le_bytes()).collect()
    }

    fn maker() -> Maker {
        Maker { stream: "train".to_owned(), shape: SHAPE, outputs: 3, device: Device::flex() }
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
        let normalizer = Normalizer::new(&spec.normalize, SHAPE, &device).expect("it fits");
        let images = bytes::Bytes::copy_from_slice(images);
        let samples = maker().make(Position::default(), rows, masked, images, &self::labels(labels));
        let samples = samples.expect("the labels are right").expect("some rows are left");
        assert_eq!(samples.labels.dims(), [samples.rows]);
        cross_entropy(model.logits(normalizer.apply(samples.pixels)), samples.labels).into_scalar::<f32>()
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
        let none = maker().make(Position::default(), 2, &[0, 1], bytes::Bytes::from_static(&[0; 12]), &labels(&[0; 3]));
        assert!(none.expect("no label is read").is_none());
    }

    #[test]
    fn only_a_batch_with_masked_rows_is_copied() {
        let address = |masked: &[usize]| {
            let images = bytes::Bytes::from(vec![7; 16]);
            let lies_at = images.as_ptr();
            let samples = maker().make(Position::default(), 3, masked, images, &labels(&[0; 4]));
            let Some(Samples { pixels: Pixels::Bytes(tensor), .. }) = samples.expect("the labels are right") else {
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
            maker().make(position, 2, masked, bytes::Bytes::from_static(&[0; 8]), &labels(&[0, label])).map(drop)
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
    fn a_stream_without_labelled_images_is_refused() {
        let stream = |fields| StreamDescription {
            id: StreamId(0),
            name: "train".to_owned(),
            fields,
            extent: Extent { samples: 10, batch_size: 4, tail: Tail::Short },
            classes: Vec::new(),
            transforms: Vec::new(),
            seed: 0,
            spec_hash: String::new(),
            identity: Default::default(),
            spec: serde_json::Value::Null,
        };
        let image = FieldSpec::new(IMAGE, Dtype::U8, [2, 2, 1]);
        let label = FieldSpec::new(LABEL, Dtype::I64, Shape::default());
        assert_eq!(image_shape(&stream(vec![image.clone(), label.clone()])).expect("both are there"), SHAPE);
        let error = image_shape(&stream(vec![image])).expect_err("there is no label");
        expect!["train on stream `train`: it needs a field `label: i64 []`; it delivers image: u8 [2, 2, 1]"]
            .assert_eq(&error.to_string());
        let floats = FieldSpec::new(IMAGE, Dtype::F32, [2, 2, 1]);
        assert!(image_shape(&stream(vec![floats, label])).is_err());
    }
}
