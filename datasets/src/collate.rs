//! How samples of different lengths become rows of one shape.
//!
//! Every row of a batch has the same room, so that any worker may fill any of them. A field whose first extent differs
//! from sample to sample gets room for `max_len` of its items:
//!
//! ```toml
//! [stream.train.collate]
//! tokens = { kind = "padded", max_len = 128, value = 0 }
//! boxes = { kind = "ragged", max_len = 50 }
//! ```
//!
//! | kind | a field `tokens` of `[len, ...]` becomes |
//! |---|---|
//! | `padded` | `tokens` of `[max_len, ...]`, filled up with `value` (default 0), and `tokens_mask`, bool `[max_len]`, true where it is not padding: PyTorch's `pad_sequence`, padded to a fixed length |
//! | `ragged` | `tokens` of `[max_len, ...]`, filled up with zeros, and `tokens_len`, i64 `[]`; [`Ragged`] is made of both where the batch is read: PyTorch's jagged `nested_tensor`, values and offsets |
//!
//! A longer sample is refused, or cut with `truncate = true`. Fields of one shape need no rule. Which fields a stream
//! delivers, and in which order, says `fields = ["tokens", "tokens_mask", "label"]`; without it they are all those of the
//! sample. PyTorch's `collate_fn` that does anything else is a [`Transform`](crate::transform::Transform) here.
//!
//! [`Ragged`]: batchmill_protocol::tensor::Ragged

use batchmill_protocol::tensor::{Dtype, Shape};
use toml::Value as Toml;

use crate::number::Number;
use crate::options::Options;
use crate::sample::{Array, Sample, Value};
use crate::spec::{Component, SpecError, StreamSpec};
use crate::transform::TransformError;

/// The most items of a row: beyond it a typing error is more likely than an intention.
const LEN_MAX: usize = 1 << 24;

/// What is done to every sample after the transforms.
#[derive(Debug)]
pub(crate) struct Collate {
    rules: Vec<Rule>,
    fields: Option<Vec<String>>,
}

/// The rule for one field.
#[derive(Debug)]
struct Rule {
    field: String,
    max_len: usize,
    truncate: bool,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Padded { value: Number },
    Ragged,
}

impl Collate {
    /// Reads the options of the stream's `collate` and `fields`.
    ///
    /// # Errors
    /// [`SpecError`] for an unknown kind and wrong options.
    pub(crate) fn new(spec: &StreamSpec) -> Result<Self, SpecError> {
        let rules = spec.collate.iter().map(|(field, component)| Rule::new(field, component, spec));
        for (place, field) in spec.fields.iter().flatten().enumerate() {
            if spec.fields.iter().flatten().take(place).any(|before| before == field) {
                let key = vec!["fields".to_owned(), place.to_string()];
                return Err(SpecError::new(key, format!("`fields` names `{field}` twice")));
            }
        }
        Ok(Self { rules: rules.collect::<Result<_, _>>()?, fields: spec.fields.clone() })
    }

    /// Whether it leaves samples as they are.
    pub(crate) fn is_nothing(&self) -> bool {
        self.rules.is_empty() && self.fields.is_none()
    }

    /// Whether every field becomes a row as it is.
    pub(crate) fn is_plain(&self) -> bool {
        self.rules.is_empty()
    }

    /// Gives a sample the form of its row.
    ///
    /// # Errors
    /// [`TransformError`]: a field is not there, not of the form its rule wants, or too long.
    pub(crate) fn apply(&self, mut sample: Sample) -> Result<Sample, TransformError> {
        for rule in &self.rules {
            sample = rule.apply(sample)?;
        }
        let Some(fields) = &self.fields else { return Ok(sample) };
        let mut chosen = Sample::new();
        for field in fields {
            let value = sample.remove(field).ok_or_else(|| missing(field, &sample))?;
            chosen.insert(field.clone(), value);
        }
        Ok(chosen)
    }
}

impl Rule {
    fn new(field: &str, component: &Component, spec: &StreamSpec) -> Result<Self, SpecError> {
        let key = vec!["collate".to_owned(), field.to_owned()];
        let mut options = Options::at(key.clone(), "collate", component, &spec.folder);
        let form = match component.kind.as_str() {
            "padded" => {
                let value = options.value("value").unwrap_or(Toml::Integer(0));
                let number = Number::of(&value);
                let refuse = || options.error("value", format_args!("is {value}, not a number, `true` or `false`"));
                Form::Padded { value: number.ok_or_else(refuse)? }
            }
            "ragged" => Form::Ragged,
            other => {
                let message = format!("unknown collate `{other}` of field `{field}`; it may be `padded` or `ragged`");
                return Err(SpecError::new(key, message));
            }
        };
        let max_len = options.integer("max_len", 1..=LEN_MAX)?;
        let truncate = options.optional_boolean("truncate")?.unwrap_or(false);
        options.finish()?;
        Ok(Self { field: field.to_owned(), max_len, truncate, form })
    }

    fn apply(&self, mut sample: Sample) -> Result<Sample, TransformError> {
        let Self { field, max_len, .. } = self;
        let array = match sample.get_mut(field) {
            Some(Value::Array(array)) => std::mem::replace(array, Array::scalar_i64(0)),
            Some(_) => {
                let reason = format!("collate `{field}`: it is an image; `resize` and crop it to one size instead");
                return Err(TransformError::new(reason));
            }
            None => return Err(missing(field, &sample)),
        };
        let (dtype, shape) = (array.dtype(), array.shape().0.clone());
        let Some((&len, item)) = shape.split_first() else {
            return Err(TransformError::new(format!("collate `{field}`: it is a single number, and has no length")));
        };
        if len > *max_len && !self.truncate {
            let reason = format!(
                "collate `{field}`: {len} items are more than max_len = {max_len}; raise it, or set truncate = true"
            );
            return Err(TransformError::new(reason));
        }
        let kept = len.min(*max_len);
        let padded = Shape([&[*max_len], item].concat());
        // Fails only for what is not there: an empty sample whose items would be giants.
        let too_large = || TransformError::new(format!("collate `{field}`: {dtype} {padded} does not fit into memory"));
        let elements = padded.elements().ok_or_else(too_large)?;
        let bytes_len =
            elements.checked_mul(dtype.size_bytes()).filter(|&bytes| bytes <= BYTES_MAX).ok_or_else(too_large)?;
        let item_bytes = bytes_len / max_len;

        let mut bytes = array.into_bytes();
        bytes.truncate(kept * item_bytes);
        match &self.form {
            Form::Ragged => bytes.resize(bytes_len, 0),
            Form::Padded { value } => {
                let mut element = Vec::new();
                value.write(dtype, &mut element).map_err(|no_such| {
                    TransformError::new(format!(
                        "collate `{field}`: it is padded with what the field has not: {no_such}"
                    ))
                })?;
                bytes.reserve_exact(bytes_len - bytes.len());
                while bytes.len() < bytes_len {
                    bytes.extend_from_slice(&element);
                }
            }
        }
        let made = |error| TransformError::caused_by(format!("collate `{field}`"), error);
        let (name, beside) = match self.form {
            Form::Padded { .. } => {
                let mask = (0..*max_len).map(|place| u8::from(place < kept)).collect();
                (format!("{field}_mask"), Array::new(Dtype::Bool, [*max_len], mask).map_err(made)?)
            }
            Form::Ragged => (format!("{field}_len"), Array::scalar_i64(i64::try_from(kept).unwrap_or(i64::MAX))),
        };
        // What the dataset has under that name would be lost.
        if sample.get(&name).is_some() {
            let reason = format!("collate `{field}`: it makes a field `{name}`, but the sample has one of that name");
            return Err(TransformError::new(reason));
        }
        sample.insert(field.clone(), Array::new(dtype, padded, bytes).map_err(made)?);
        sample.insert(name, beside);
        Ok(sample)
    }
}

/// The most bytes of one row of a field.
const BYTES_MAX: usize = 1 << 30;

fn missing(field: &str, sample: &Sample) -> TransformError {
    let fields = sample.iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
    TransformError::new(format!("there is no field `{field}`; the sample has {fields}"))
}
