//! Batches become tensors, one ahead of the training, on a thread of its own.

use std::thread;
use std::time::{Duration, Instant};

use batchmill_protocol::client::{Batch, ClientError, Member};
use batchmill_protocol::message::StreamDescription;
use batchmill_protocol::position::Position;
use batchmill_protocol::tensor::{Dtype, FieldSpec};
use burn::tensor::{Device, Int, Tensor, TensorData};
use crossbeam::channel::{Receiver, Sender, bounded};
use thiserror::Error;

use crate::normalize::Pixels;
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

/// A batch as tensors, without the rows that only fill it up.
#[derive(Debug)]
pub struct Minibatch {
    /// Its place in the stream.
    pub position: Position,
    /// *Shape* `[rows, height, width, channels]`.
    pub pixels: Pixels,
    /// *Shape* `[rows]`, each below the model's outputs.
    pub labels: Tensor<1, Int>,
    /// Samples in it.
    pub rows: usize,
}

/// What makes a [`Minibatch`] of a batch's bytes.
#[derive(Clone, Debug)]
struct Maker {
    stream: String,
    shape: ImageShape,
    outputs: usize,
    device: Device,
}

impl Maker {
    /// Takes the first `rows` rows of both fields; what is behind them is padding.
    fn make(
        &self,
        position: Position,
        rows: usize,
        images: bytes::Bytes,
        labels: &[u8],
    ) -> Result<Minibatch, FeedError> {
        let labels = self.check_labels(position, rows, labels)?;
        let pixels = Pixels::new(images.slice(..rows * self.shape.bytes()), rows, self.shape, &self.device);
        // Converted on the host to the device's integer, which is i32 nearly everywhere.
        let labels = Tensor::from_data(TensorData::new(labels, [rows]), &self.device);
        Ok(Minibatch { position, pixels, labels, rows })
    }

    fn check_labels(&self, position: Position, rows: usize, bytes: &[u8]) -> Result<Vec<i64>, FeedError> {
        let (labels, _) = bytes.as_chunks();
        let labels: Vec<i64> = labels.iter().take(rows).map(|label| i64::from_le_bytes(*label)).collect();
        let outputs = self.outputs;
        let wrong = |label: &i64| usize::try_from(*label).map_or(true, |label| label >= outputs);
        match labels.iter().position(wrong) {
            Some(row) => {
                let stream = self.stream.clone();
                Err(FeedError::Label { stream, position, row, label: labels[row], outputs })
            }
            None => Ok(labels),
        }
    }

    fn make_of(&self, batch: &Batch) -> Result<Minibatch, FeedError> {
        let rows = usize::try_from(batch.rows() - batch.padding()).expect("a batch's rows fit into memory");
        let images = batch.shared_field(IMAGE).expect("`image_shape` found the field");
        let labels = batch.field(LABEL).expect("`image_shape` found the field");
        self.make(batch.position(), rows, bytes::Bytes::from_owner(images), labels)
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
    /// when the feed is dropped and the batch it waits for has come.
    ///
    /// # Errors
    /// [`FeedError::Unfit`] when the stream has no labelled images.
    pub fn start(member: Member, outputs: usize, device: &Device) -> Result<Self, FeedError> {
        let (stream, cursor) = (member.stream().clone(), member.cursor());
        let maker =
            Maker { stream: stream.name.clone(), shape: image_shape(&stream)?, outputs, device: device.clone() };
        let (made, ready) = bounded(AHEAD);
        thread::spawn(move || feed(member, &maker, &made));
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
        self.cursor = self.stream.extent.next(batch.position);
        Ok(batch)
    }
}

fn feed(mut member: Member, maker: &Maker, made: &Sender<Result<Minibatch, FeedError>>) {
    loop {
        let minibatch = match member.next() {
            Ok(Some(batch)) => maker.make_of(&batch),
            Ok(None) => return,
            Err(error) => Err(error.into()),
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

    #[test]
    fn padding_counts_in_no_loss() {
        let spec = ModelSpec::parse("[[layer]]\nkind = 'flatten'\n[[layer]]\nkind = 'linear'\nout_features = 3\n")
            .expect("a model");
        let device = Device::flex();
        let model = Sequential::build(&spec, SHAPE, &device).expect("it fits");
        let normalizer = Normalizer::new(&spec.normalize, SHAPE, &device).expect("it fits");
        let loss = |images: &[u8], labels: &[u8]| {
            let batch = maker()
                .make(Position::default(), 2, bytes::Bytes::copy_from_slice(images), labels)
                .expect("the labels are right");
            assert_eq!(batch.labels.dims(), [2]);
            let loss = cross_entropy(model.logits(normalizer.apply(batch.pixels)), batch.labels);
            loss.into_scalar::<f32>()
        };
        let short = loss(&[1, 2, 3, 4, 5, 6, 7, 8], &labels(&[0, 2]));
        let padded = loss(&[1, 2, 3, 4, 5, 6, 7, 8, 200, 200, 200, 200], &labels(&[0, 2, 1]));
        assert_eq!(short, padded);
    }

    #[test]
    fn a_label_the_model_cannot_answer_is_named() {
        let make = |label| {
            let position = Position { epoch: 1, step: 7 };
            maker().make(position, 2, bytes::Bytes::from_static(&[0; 8]), &labels(&[0, label])).map(|_| ())
        };
        assert!(make(2).is_ok());
        let error = make(3).expect_err("there are three outputs").to_string();
        expect![
            "stream `train`, epoch 1 step 7 row 1: label 3 is not one of the model's 3 outputs, 0 to 2: set out_features of the last layer to 4 or more, or mend the label"
        ]
        .assert_eq(&error);
        let error = make(-1).expect_err("labels count from 0").to_string();
        assert!(error.ends_with("0 to 2: mend the label, they count from 0"), "{error}");
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
