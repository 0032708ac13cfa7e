//! Which fields of a stream a model computes from and should answer, and what they are to it.

use std::fmt;
use std::str::FromStr;

use batchmill_protocol::message::StreamDescription;
use batchmill_protocol::tensor::{Dtype, FieldSpec};
use thiserror::Error;

use crate::shape::{Extents, ImageShape};

/// The fields that a model computes from when nobody names one, the first that is there.
const INPUTS: [&str; 2] = ["image", "input"];

/// The fields that a model should answer when nobody names one, the first that is there.
const TARGETS: [&str; 2] = ["label", "target"];

/// Why a stream cannot be trained on.
#[derive(Debug, Error)]
pub enum FieldsError {
    /// A field is not there.
    #[error(
        "train on stream `{stream}`: it has no field {wanted}; it delivers {}: name one with --{flag}",
        list(fields)
    )]
    Absent {
        /// The stream.
        stream: String,
        /// The names that were looked for.
        wanted: String,
        /// The option that names one.
        flag: &'static str,
        /// What there is.
        fields: Vec<FieldSpec>,
    },
    /// A field is nothing that a model takes, or can answer.
    #[error("train on stream `{stream}`: its field {field} is {problem}")]
    Unfit {
        /// The stream.
        stream: String,
        /// The field.
        field: FieldSpec,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The loss wants classes.
    #[error(
        "train on the field {field}: cross-entropy takes one whole number, a class: say [loss] kind = \"mse\" in the model file, or another for numbers"
    )]
    Loss {
        /// The target.
        field: FieldSpec,
    },
}

fn list(fields: &[FieldSpec]) -> String {
    fields.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What a sample is to a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Bytes `[height, width, channels]`, to be normalized on the device.
    Image(ImageShape),
    /// Real numbers, as they are: `[features]`, `[channels, length]` or `[channels, height, width]`.
    Floats(Vec<usize>),
    /// Real numbers `[height, width, channels]`, to be reordered on the device.
    FloatImage(ImageShape),
    /// Whole numbers `[length]`, for an embedding.
    Indices(Vec<usize>),
}

impl From<ImageShape> for Input {
    fn from(shape: ImageShape) -> Self {
        Self::Image(shape)
    }
}

impl Input {
    /// What a field is to a model, after the `transforms` of its stream.
    ///
    /// Images are `[height, width, channels]` until the transform `to-nchw`; other numbers with three extents are
    /// `[channels, height, width]`, as in PyTorch.
    ///
    /// # Errors
    /// What the field is, when no model takes it.
    pub fn of(field: &FieldSpec, transforms: &[serde_json::Value]) -> Result<Self, &'static str> {
        let does = |kind: &str| transforms.iter().any(|transform| transform["kind"] == kind || transform == kind);
        let extents = &field.shape.0;
        let is_image = (field.dtype == Dtype::U8 || does("to-f32") || does("normalize")) && !does("to-nchw");
        match (field.dtype, extents.len()) {
            (_, 0) => Err("one number a sample: a model computes from rows, sequences or images"),
            (_, 4..) => Err("of more than three extents: a model computes from rows, sequences or images"),
            (dtype, 3) if is_image && (dtype == Dtype::U8 || is_float(dtype)) => {
                let shape = ImageShape::from_extents(extents);
                let shape = shape.ok_or("of too large an extent for an image: the longest side is 65536")?;
                Ok(if dtype == Dtype::U8 { Self::Image(shape) } else { Self::FloatImage(shape) })
            }
            (Dtype::U8, 3) => {
                Err("of bytes, channels first: leave the transform `to-nchw` out, or put `to-f32` before it")
            }
            (dtype, _) if is_float(dtype) => Ok(Self::Floats(extents.clone())),
            (Dtype::Bool, _) => Err("true or false: a model computes from numbers"),
            (_, 1) => Ok(Self::Indices(extents.clone())),
            _ => Err("of whole numbers: a model takes one row of them a sample, or real numbers"),
        }
    }

    /// What extents usually mean: three those of an image of bytes, fewer those of real numbers.
    pub fn assumed(extents: &[usize]) -> Self {
        ImageShape::from_extents(extents).map_or_else(|| Self::Floats(extents.to_vec()), Self::Image)
    }

    /// The shape that arrives at the first layer.
    pub fn extents(&self) -> Extents {
        match self {
            Self::Image(shape) | Self::FloatImage(shape) => (*shape).into(),
            Self::Floats(extents) => Extents::Floats(extents.clone()),
            Self::Indices(extents) => Extents::Indices(extents.clone()),
        }
    }

    /// The extents as the stream states them, and a model file's `input`.
    pub fn stated(&self) -> Vec<usize> {
        match self {
            Self::Image(shape) | Self::FloatImage(shape) => vec![shape.height, shape.width, shape.channels],
            Self::Floats(extents) | Self::Indices(extents) => extents.clone(),
        }
    }

    /// The images, when they are images of bytes.
    pub fn image(&self) -> Option<ImageShape> {
        if let Self::Image(shape) = self { Some(*shape) } else { None }
    }
}

impl fmt::Display for Input {
    /// Writes `28x28x1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extents: Vec<_> = self.stated().iter().map(ToString::to_string).collect();
        f.write_str(&extents.join("x"))?;
        f.write_str(if let Self::Indices(_) = self { " whole numbers" } else { "" })
    }
}

impl FromStr for Input {
    type Err = String;

    /// Reads `28x28x1` or `13`, as `--input` takes it.
    fn from_str(text: &str) -> Result<Self, String> {
        let extents: Option<Vec<usize>> = text.split('x').map(|extent| extent.parse().ok()).collect();
        let extents = extents.filter(|extents| extents.len() <= 3 && !extents.contains(&0));
        extents.map(|extents| Self::assumed(&extents)).ok_or_else(|| {
            format!("{text:?} is neither HEIGHTxWIDTHxCHANNELS of images, such as 28x28x1, nor a number of features")
        })
    }
}

/// What a model should answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// One of the classes, by number.
    Class,
    /// So many numbers.
    Numbers(usize),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class => f.write_str("one class"),
            Self::Numbers(1) => f.write_str("one number"),
            Self::Numbers(count) => write!(f, "{count} numbers"),
        }
    }
}

/// The fields of a stream that a model is trained on.
#[derive(Clone, Debug, PartialEq)]
pub struct Fields {
    /// What the model computes from.
    pub input: FieldSpec,
    /// What that is to it.
    pub kind: Input,
    /// What it should answer.
    pub target: FieldSpec,
    /// What that is to it.
    pub answer: Answer,
}

impl Fields {
    /// Finds the fields called `input` and `target`, or those that are usually called so.
    ///
    /// # Errors
    /// [`FieldsError`] when one is not there, or is nothing for a model.
    pub fn of(stream: &StreamDescription, input: Option<&str>, target: Option<&str>) -> Result<Self, FieldsError> {
        let input = find(stream, "input", input, &INPUTS)?;
        let target = find(stream, "target", target, &TARGETS)?;
        let unfit = |field: &FieldSpec, problem| FieldsError::Unfit {
            stream: stream.name.clone(),
            field: field.clone(),
            problem,
        };
        let kind = Input::of(input, &stream.transforms).map_err(|problem| unfit(input, problem))?;
        let answer = match target.shape.0[..] {
            [] if !is_float(target.dtype) => Answer::Class,
            [] => Answer::Numbers(1),
            [count] => Answer::Numbers(count),
            _ => return Err(unfit(target, "of more than one extent: a model answers a class, or a row of numbers")),
        };
        Ok(Self { input: input.clone(), kind, target: target.clone(), answer })
    }
}

impl Fields {
    /// These fields for a loss that takes classes, or numbers: a whole number can be either.
    ///
    /// # Errors
    /// [`FieldsError::Loss`] when it takes classes, and the target is something else.
    pub fn for_loss(mut self, takes_classes: bool) -> Result<Self, FieldsError> {
        self.answer = match (self.answer, takes_classes) {
            (Answer::Numbers(_), true) => return Err(FieldsError::Loss { field: self.target }),
            (Answer::Class, false) => Answer::Numbers(1),
            (answer, _) => answer,
        };
        Ok(self)
    }
}

/// The first label that means one class in one list and another in the other, with both. One list may be longer than the
/// other.
pub(crate) fn first_other_class(found: &[String], wanted: &[String]) -> Option<(usize, String, String)> {
    let mut pairs = found.iter().zip(wanted).enumerate();
    let (label, (found, wanted)) = pairs.find(|(_, (found, wanted))| found != wanted)?;
    Some((label, found.clone(), wanted.clone()))
}

/// Whether a dtype holds real numbers.
fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F16 | Dtype::Bf16 | Dtype::F32 | Dtype::F64)
}

fn find<'a>(
    stream: &'a StreamDescription,
    flag: &'static str,
    named: Option<&str>,
    usual: &[&str],
) -> Result<&'a FieldSpec, FieldsError> {
    let names = named.as_ref().map_or(usual, std::slice::from_ref);
    let found = names.iter().find_map(|name| stream.fields.iter().find(|field| field.name == *name));
    found.ok_or_else(|| FieldsError::Absent {
        stream: stream.name.clone(),
        wanted: names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or "),
        flag,
        fields: stream.fields.clone(),
    })
}

#[cfg(test)]
mod tests {
    use batchmill_protocol::message::StreamId;
    use batchmill_protocol::position::{Extent, Tail};
    use batchmill_protocol::tensor::Shape;
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    fn stream(fields: &[(&str, Dtype, &[usize])], transforms: &[&str]) -> StreamDescription {
        let field =
            |&(name, dtype, shape): &(&str, Dtype, &[usize])| FieldSpec::new(name, dtype, Shape(shape.to_vec()));
        StreamDescription {
            id: StreamId(0),
            name: "train".to_owned(),
            fields: fields.iter().map(field).collect(),
            extent: Extent { samples: 10, batch_size: 4, tail: Tail::Short },
            classes: Vec::new(),
            transforms: transforms.iter().map(|kind| json!({ "kind": kind })).collect(),
            seed: 0,
            spec_hash: String::new(),
            identity: Default::default(),
            spec: serde_json::Value::Null,
        }
    }

    fn check(fields: &[(&str, Dtype, &[usize])], transforms: &[&str], expected: Expect) {
        let said = match Fields::of(&stream(fields, transforms), None, None) {
            Ok(fields) => format!("{} -> {:?}: {:?}", fields.input.name, fields.kind.extents(), fields.answer),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&said);
    }

    #[test]
    fn fields_are_what_their_names_and_shapes_say() {
        let label: (&str, Dtype, &[usize]) = ("label", Dtype::I64, &[]);
        check(&[("image", Dtype::U8, &[28, 28, 1]), label], &[], expect!["image -> Floats([1, 28, 28]): Class"]);
        check(
            &[("image", Dtype::F32, &[28, 20, 3]), label],
            &["to-f32"],
            expect!["image -> Floats([3, 28, 20]): Class"],
        );
        check(
            &[("image", Dtype::F32, &[3, 28, 20]), label],
            &["to-f32", "to-nchw"],
            expect!["image -> Floats([3, 28, 20]): Class"],
        );
        check(
            &[("input", Dtype::F32, &[13]), ("target", Dtype::F32, &[])],
            &[],
            expect!["input -> Floats([13]): Numbers(1)"],
        );
        check(
            &[("input", Dtype::F64, &[3, 8]), ("target", Dtype::F32, &[4])],
            &[],
            expect!["input -> Floats([3, 8]): Numbers(4)"],
        );
        check(&[("input", Dtype::I64, &[32]), label], &[], expect!["input -> Indices([32]): Class"]);
    }

    #[test]
    fn a_field_that_is_nothing_for_a_model_is_named() {
        let label: (&str, Dtype, &[usize]) = ("label", Dtype::I64, &[]);
        check(
            &[("picture", Dtype::U8, &[2, 2, 1]), label],
            &[],
            expect![
                "train on stream `train`: it has no field `image` or `input`; it delivers picture: u8 [2, 2, 1], label: i64 []: name one with --input"
            ],
        );
        check(
            &[("image", Dtype::U8, &[2, 2, 1])],
            &[],
            expect![
                "train on stream `train`: it has no field `label` or `target`; it delivers image: u8 [2, 2, 1]: name one with --target"
            ],
        );
        check(
            &[("image", Dtype::U8, &[3, 2, 2]), label],
            &["to-nchw"],
            expect![
                "train on stream `train`: its field image: u8 [3, 2, 2] is of bytes, channels first: leave the transform `to-nchw` out, or put `to-f32` before it"
            ],
        );
        check(
            &[("image", Dtype::U8, &[2, 2, 1]), ("label", Dtype::F32, &[2, 2])],
            &[],
            expect![
                "train on stream `train`: its field label: f32 [2, 2] is of more than one extent: a model answers a class, or a row of numbers"
            ],
        );
    }

    #[test]
    fn fields_may_be_named() {
        let stream = stream(&[("x", Dtype::F32, &[4]), ("y", Dtype::I32, &[]), ("label", Dtype::I64, &[])], &[]);
        let fields = Fields::of(&stream, Some("x"), Some("y")).expect("both are there");
        assert_eq!((fields.input.name.as_str(), fields.target.name.as_str()), ("x", "y"));
        assert!(Fields::of(&stream, Some("z"), None).is_err());
    }
}
