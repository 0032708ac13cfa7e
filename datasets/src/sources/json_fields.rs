//! Fields of a sample out of a JSON object: numbers, lists of numbers, texts.

use std::fmt;

use batchmill_protocol::tensor::{Dtype, Shape};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use toml::Value;

use super::labels::label_of;
use crate::number::Number;
use crate::options::Options;
use crate::sample::{Array, Sample};
use crate::spec::SpecError;

/// The most lists in lists.
const RANK_MAX: usize = 8;

/// The word for a text, in the place of a dtype.
const TEXT: &str = "text";

/// The field of a label, whatever its key.
const LABEL: &str = "label";

/// One option: a table of the keys of an object that are wanted, each with a dtype or "text": `{ x = "f32" }`.
///
/// Shapes: a number is []; a list `[len]`; a list of lists, which must be of one length, `[len, len]`, and so on; a text
/// the u8 of its UTF-8, `[bytes]`.
#[derive(Clone, Debug, Default)]
pub(super) struct JsonFields {
    /// By name.
    wanted: Vec<(String, Wanted)>,
    /// What stands for a number that is null or not there.
    missing: Option<Number>,
}

#[derive(Clone, Debug)]
enum Wanted {
    Numbers(Dtype),
    Text,
    /// A label: an integer, or one of these names.
    Label(Vec<String>),
}

impl JsonFields {
    /// Reads the table under `key`, if it is there, and the number `missing`.
    pub(super) fn from_options(options: &mut Options, key: &str) -> Result<Option<Self>, SpecError> {
        let missing = options.value("missing").map(|value| {
            Number::of(&value).ok_or_else(|| options.error("missing", format_args!("is {value}, not a number")))
        });
        let missing = missing.transpose()?;
        let table = match options.value(key) {
            None if missing.is_some() => {
                return Err(options.error("missing", format_args!("is for the numbers of `{key}`, which is not there")));
            }
            None => return Ok(None),
            Some(Value::Table(table)) => table,
            Some(other) => {
                let expected = "a table of keys and dtypes, such as { x = \"f32\" }";
                return Err(options.error(key, format_args!("is {other}, not {expected}")));
            }
        };
        let mut wanted = Vec::new();
        for (name, word) in table {
            let dtype = Dtype::ALL.into_iter().find(|dtype| word.as_str() == Some(dtype.name()));
            let kind = match dtype {
                Some(dtype) => Wanted::Numbers(dtype),
                None if word.as_str() == Some(TEXT) => Wanted::Text,
                None => {
                    let dtypes = Dtype::ALL.map(Dtype::name).join(", ");
                    return Err(options.error(key, format_args!("has {word} for `{name}`, not {dtypes} or {TEXT}")));
                }
            };
            if let (Wanted::Numbers(dtype), Some(missing)) = (&kind, missing) {
                missing
                    .write(*dtype, &mut Vec::new())
                    .map_err(|reason| options.error("missing", format_args!("cannot stand for `{name}`: {reason}")))?;
            }
            wanted.push((name, kind));
        }
        // Whatever order the tables of this build keep.
        wanted.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(Some(Self { wanted, missing }))
    }

    /// Wants a label under `key` as well, which becomes the field [`LABEL`]: an integer, or one of `classes`.
    ///
    /// # Errors
    /// Why there can be none, to follow the key of the option.
    pub(super) fn with_label(mut self, key: String, classes: Vec<String>) -> Result<Self, String> {
        if self.wanted.iter().any(|(known, _)| *known == key || known == LABEL) {
            return Err(format!("is `{key}`, but there is a field of that name, or of the name `{LABEL}`"));
        }
        self.wanted.push((key, Wanted::Label(classes)));
        Ok(self)
    }

    /// The names of the fields.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.wanted.iter().map(|(name, _)| name.as_str())
    }

    /// Puts the fields of the object that `text` is into `sample`, in the order of their names.
    ///
    /// # Errors
    /// What is wrong with the text, and where in it.
    pub(super) fn read(&self, text: &[u8], sample: &mut Sample) -> Result<(), String> {
        let mut json = serde_json::Deserializer::from_slice(text);
        let found = Object(self).deserialize(&mut json).and_then(|found| json.end().map(|()| found));
        let found = found.map_err(|error| error.to_string())?;
        for ((name, wanted), value) in self.wanted.iter().zip(found) {
            let value = match (value, wanted, self.missing) {
                (Some(value), ..) => value,
                (None, Wanted::Numbers(dtype), Some(missing)) => {
                    let mut bytes = Vec::new();
                    missing.write(*dtype, &mut bytes)?;
                    Array::new(*dtype, [], bytes).map_err(|error| error.to_string())?
                }
                (None, ..) => return Err(format!("has no `{name}`")),
            };
            match wanted {
                Wanted::Label(_) => sample.insert(LABEL, value),
                Wanted::Numbers(_) | Wanted::Text => sample.insert(name.clone(), value),
            };
        }
        Ok(())
    }
}

/// The whole object: its values by the place of the field.
struct Object<'a>(&'a JsonFields);

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = Vec<Option<Array>>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = Vec<Option<Array>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let JsonFields { wanted, missing } = self.0;
        let mut found = vec![None; wanted.len()];
        while let Some(key) = map.next_key::<String>()? {
            let Some(place) = wanted.iter().position(|(name, _)| *name == key) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let within = |error| A::Error::custom(format_args!("`{key}`: {error}"));
            let value = match &wanted[place].1 {
                Wanted::Numbers(dtype) => {
                    let mut tensor = Tensor::new(*dtype, *missing);
                    map.next_value_seed(Level { tensor: &mut tensor, depth: 0 }).map_err(within)?;
                    tensor.finish().map_err(within)?
                }
                Wanted::Text => Array::from_u8(map.next_value::<String>().map_err(within)?.into_bytes()),
                Wanted::Label(classes) => map.next_value_seed(Label(classes)).map_err(within)?,
            };
            if found[place].replace(value).is_some() {
                return Err(A::Error::custom(format_args!("`{key}` is there twice")));
            }
        }
        Ok(found)
    }
}

/// A label.
struct Label<'a>(&'a [String]);

impl<'de> DeserializeSeed<'de> for Label<'_> {
    type Value = Array;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Array, D::Error> {
        json.deserialize_any(self)
    }
}

impl Visitor<'_> for Label<'_> {
    type Value = Array;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a label")
    }

    fn visit_u64<E: Error>(self, label: u64) -> Result<Array, E> {
        label_of(&label.to_string(), self.0).map(Array::scalar_i64).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, label: i64) -> Result<Array, E> {
        label_of(&label.to_string(), self.0).map(Array::scalar_i64).map_err(E::custom)
    }

    fn visit_str<E: Error>(self, label: &str) -> Result<Array, E> {
        label_of(label, self.0).map(Array::scalar_i64).map_err(E::custom)
    }
}

/// Numbers in lists while they are collected.
struct Tensor {
    dtype: Dtype,
    missing: Option<Number>,
    bytes: Vec<u8>,
    /// The extents of the lists seen so far, outermost first; unknown until the first of them ends.
    extents: Vec<Option<usize>>,
    /// In how many lists the numbers stand.
    rank: Option<usize>,
}

impl Tensor {
    fn new(dtype: Dtype, missing: Option<Number>) -> Self {
        Self { dtype, missing, bytes: Vec::new(), extents: Vec::new(), rank: None }
    }

    fn number<E: Error>(&mut self, depth: usize, number: Number) -> Result<(), E> {
        if self.extents.len() > depth || *self.rank.get_or_insert(depth) != depth {
            return Err(E::custom("a number stands where a list was before"));
        }
        number.write(self.dtype, &mut self.bytes).map_err(E::custom)
    }

    fn finish<E: Error>(self) -> Result<Array, E> {
        let extents = self.extents.iter().map(|extent| extent.unwrap_or(0));
        Array::new(self.dtype, Shape(extents.collect()), self.bytes).map_err(E::custom)
    }
}

/// What stands in so many lists.
struct Level<'a> {
    tensor: &'a mut Tensor,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Level<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or a list of numbers")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.tensor.number(self.depth, Number::Unsigned(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.tensor.number(self.depth, Number::Signed(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.tensor.number(self.depth, Number::Real(number))
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<(), E> {
        self.tensor.number(self.depth, Number::Bool(truth))
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        match self.tensor.missing {
            Some(missing) => self.tensor.number(self.depth, missing),
            None => Err(E::custom("is null; `missing` may say which number that is")),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { tensor, depth } = self;
        if tensor.rank.is_some_and(|rank| rank <= depth) {
            return Err(A::Error::custom("a list stands where a number was before"));
        }
        if depth == RANK_MAX {
            return Err(A::Error::custom(format_args!("there are more than {RANK_MAX} lists in each other")));
        }
        if tensor.extents.len() == depth {
            tensor.extents.push(None);
        }
        let mut len = 0;
        while list.next_element_seed(Level { tensor, depth: depth + 1 })?.is_some() {
            len += 1;
        }
        match *tensor.extents[depth].get_or_insert(len) {
            known if known == len => Ok(()),
            known => Err(A::Error::custom(format_args!("a list has {len} elements, and one before it had {known}"))),
        }
    }
}
