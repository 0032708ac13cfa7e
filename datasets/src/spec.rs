//! What a stream is: the user's `[stream.NAME]` table, checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use batchmill_protocol::position::Tail;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use toml::Value;

use crate::cache::CacheSpec;
use crate::options::{Options, Role};

/// Rows of a batch where the user does not say.
pub const BATCH_SIZE_DEFAULT: u32 = 64;

/// The largest batch: beyond it a typing error is more likely than an intention.
pub const BATCH_SIZE_MAX: u32 = 1 << 24;

/// The share of an epoch's samples that may be bad where the user does not say: beyond it the data is broken, not a
/// sample here and there.
pub const ON_BAD_LIMIT_DEFAULT: f64 = 0.1;

/// The `[stream.NAME]` table: what is in each batch of a stream, and in which order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamSpec {
    /// The name under which it is served.
    pub name: String,
    /// Where the samples come from.
    pub dataset: Component,
    /// In which order.
    pub sampler: Component,
    /// What is done to each, first to last.
    pub transforms: Vec<Component>,
    /// How fields of different lengths become rows of one shape, by field: see [`collate`](crate::collate).
    #[serde(default)]
    pub collate: BTreeMap<String, Component>,
    /// The fields that a batch has, in this order; all of the sample where the user does not say.
    #[serde(default)]
    pub fields: Option<Vec<String>>,
    /// Rows of a full batch, at least 1.
    pub batch_size: u32,
    /// What becomes of the rest of an epoch.
    pub tail: Tail,
    /// What all randomness of the stream is drawn from.
    pub seed: u64,
    /// What becomes of a sample that cannot be read.
    pub on_bad: OnBad,
    /// The share of an epoch's samples that may be substituted or masked, 0.0 to 1.0; whoever serves the stream sees to
    /// it. It changes no byte.
    pub on_bad_limit: f64,
    /// Where samples are kept between epochs, if they are; whoever serves the stream sees to it. It changes no byte.
    #[serde(default)]
    pub cache: Option<CacheSpec>,
    /// Where relative paths start; absolute.
    pub folder: PathBuf,
}

/// A dataset, sampler or transform by the name of its kind.
///
/// In a configuration it is a text, `"shuffled"`, or a table, `{ kind = "resize", size = 256 }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// A name the registry knows.
    pub kind: String,
    /// The rest of the table.
    pub options: toml::Table,
}

impl Component {
    /// A component without options.
    pub fn new(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), options: toml::Table::new() }
    }

    /// Adds an option, or replaces it.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.options.insert(key.into(), value.into());
        self
    }

    /// Reads the value under `key`, which is to describe a `noun`.
    pub(crate) fn from_value(value: Value, key: &[String], noun: &str) -> Result<Self, SpecError> {
        let refuse = |found: &str| {
            let message = format!("a {noun} is a name or a table with the key `kind`, not {found}");
            SpecError::new(key.to_vec(), message)
        };
        match value {
            Value::String(kind) => Ok(Self::new(kind)),
            Value::Table(mut options) => match options.remove("kind") {
                Some(Value::String(kind)) => Ok(Self { kind, options }),
                Some(other) => Err(refuse(&format!("a table whose `kind` is {other}"))),
                None => Err(refuse(&Value::Table(options).to_string())),
            },
            other => Err(refuse(&other.to_string())),
        }
    }
}

/// What becomes of a sample that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnBad {
    /// The step fails and names it.
    #[default]
    Fail,
    /// Another sample of the same epoch, drawn from seed, epoch and place, stands in its row.
    Substitute,
    /// Its row is all zeros and marked.
    Mask,
}

impl OnBad {
    /// Its name in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Substitute => "substitute",
            Self::Mask => "mask",
        }
    }
}

/// A spec that asks for what there is not.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct SpecError {
    /// The path of the offending key below `[stream.NAME]`, such as `["transforms", "0", "size"]`.
    ///
    /// A component written as a plain text has no keys of its own: where the file has no such path, its longest
    /// beginning that exists is meant.
    pub key: Vec<String>,
    /// What was found and what to do; it names the key, so that it is clear without the line.
    pub message: String,
}

impl SpecError {
    /// Refuses the value at `key`.
    pub fn new(key: Vec<String>, message: impl Into<String>) -> Self {
        Self { key, message: message.into() }
    }
}

impl StreamSpec {
    /// Reads the `[stream.NAME]` table; relative paths start at `folder`, which is absolute.
    ///
    /// Whether the kinds exist and their options are right is for
    /// [`Registry::check`](crate::registry::Registry::check) to say.
    ///
    /// # Errors
    /// [`SpecError`] for an unknown or missing key and for a value that is none.
    pub fn from_table(name: &str, table: toml::Table, folder: &Path) -> Result<Self, SpecError> {
        let mut options = Options::of(format!("stream `{name}`"), Vec::new(), table, folder);
        let dataset = options.value("dataset");
        let dataset = component(options.required("dataset", dataset)?, Role::Dataset)?;
        let sampler = match options.value("sampler") {
            Some(value) => component(value, Role::Sampler)?,
            None => Component::new("sequential"),
        };
        let transforms = match options.value("transforms") {
            None => Vec::new(),
            Some(Value::Array(items)) => items
                .into_iter()
                .enumerate()
                .map(|(place, item)| component(item, Role::Transform(place)))
                .collect::<Result<_, _>>()?,
            Some(other) => return Err(options.error("transforms", format_args!("is {other}, not a list"))),
        };
        let collate = match options.value("collate") {
            None => BTreeMap::new(),
            Some(Value::Table(rules)) => rules
                .into_iter()
                .map(|(field, rule)| {
                    let key = ["collate".to_owned(), field];
                    let rule = Component::from_value(rule, &key, "collate")?;
                    let [_, field] = key;
                    Ok((field, rule))
                })
                .collect::<Result<_, _>>()?,
            Some(other) => {
                return Err(options.error("collate", format_args!("is {other}, not a table of rules by field")));
            }
        };
        let fields = options.optional_strings("fields")?;
        if fields.as_ref().is_some_and(Vec::is_empty) {
            return Err(options.error("fields", "is an empty list; leave it out to deliver all"));
        }
        let tails = [("short", Tail::Short), ("drop", Tail::Drop), ("pad", Tail::Pad)];
        let policies = [OnBad::Fail, OnBad::Substitute, OnBad::Mask].map(|on_bad| (on_bad.name(), on_bad));
        let spec = Self {
            name: name.to_owned(),
            dataset,
            sampler,
            transforms,
            collate,
            fields,
            batch_size: options.optional_integer("batch_size", 1..=BATCH_SIZE_MAX)?.unwrap_or(BATCH_SIZE_DEFAULT),
            tail: options.optional_one_of("tail", &tails)?.unwrap_or_default(),
            // TOML has no integer above this one.
            seed: options.optional_integer("seed", 0..=i64::MAX.unsigned_abs())?.unwrap_or(0),
            on_bad: options.optional_one_of("on_bad", &policies)?.unwrap_or_default(),
            on_bad_limit: options.optional_number("on_bad_limit", 0.0..=1.0)?.unwrap_or(ON_BAD_LIMIT_DEFAULT),
            cache: options.optional_table("cache")?.map(CacheSpec::from_options).transpose()?,
            folder: folder.to_owned(),
        };
        options.finish()?;
        Ok(spec)
    }
}

fn component(value: Value, role: Role) -> Result<Component, SpecError> {
    Component::from_value(value, &role.key(), role.noun())
}
