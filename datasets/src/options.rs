//! A reader of options that refuses wrong keys and values in one voice.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use toml::Value;

use crate::nearest::{nearest, suggestion};
use crate::registry::Registry;
use crate::source::Source;
use crate::spec::{Component, SpecError};

/// What a component is to its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It holds the samples.
    Dataset,
    /// It orders them.
    Sampler,
    /// It is the transform at this place of the chain, counted from 0.
    Transform(usize),
}

impl Role {
    /// The path of its key below `[stream.NAME]`.
    pub(crate) fn key(self) -> Vec<String> {
        match self {
            Self::Dataset => vec!["dataset".to_owned()],
            Self::Sampler => vec!["sampler".to_owned()],
            Self::Transform(place) => vec!["transforms".to_owned(), place.to_string()],
        }
    }

    /// What it is called in a message.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Dataset => "dataset",
            Self::Sampler => "sampler",
            Self::Transform(_) => "transform",
        }
    }
}

/// The options of one component, taken out one by one; a key that nobody took is a mistake of the user.
///
/// Every method takes its key out of the options. The plain ones require it, those called `optional_` do not.
///
/// ```
/// use batchmill_datasets::options::{Options, Role};
/// use batchmill_datasets::spec::Component;
///
/// let component = Component { kind: "lines".into(), options: "file = 'poem.txt'\nlenght = 3".parse()? };
/// let mut options = Options::new(Role::Dataset, &component, "/data".as_ref());
/// assert_eq!(options.path("file")?, std::path::Path::new("/data/poem.txt"));
/// assert_eq!(options.optional_integer("length", 1..=80_u8)?, None);
/// let error = options.finish().unwrap_err();
/// assert_eq!(error.to_string(), "unknown key `lenght` of dataset `lines`; did you mean `length`?");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Options<'a> {
    owner: String,
    key: Vec<String>,
    table: toml::Table,
    folder: PathBuf,
    asked: Vec<String>,
    registry: Option<&'a Registry>,
}

impl<'a> Options<'a> {
    /// Reads the options of `component`; relative paths start at `folder`.
    pub fn new(role: Role, component: &Component, folder: &Path) -> Self {
        Self::at(role.key(), role.noun(), component, folder)
    }

    /// Reads the options of the `component` that stands under `key`, a `noun`.
    pub(crate) fn at(key: Vec<String>, noun: &str, component: &Component, folder: &Path) -> Self {
        let owner = format!("{noun} `{}`", component.kind);
        Self::of(owner, key, component.options.clone(), folder)
    }

    /// Reads any table; `owner` is what messages call it, `key` where it stands.
    pub(crate) fn of(owner: String, key: Vec<String>, table: toml::Table, folder: &Path) -> Self {
        Self { owner, key, table, folder: folder.to_owned(), asked: Vec::new(), registry: None }
    }

    /// The same, knowing what the kinds of datasets within a dataset stand for.
    #[must_use]
    pub(crate) fn with_registry(self, registry: &'a Registry) -> Self {
        Self { registry: Some(registry), ..self }
    }

    /// A dataset of its own, for one that is made of another.
    ///
    /// # Errors
    /// The key is missing or its value describes no dataset that can be made.
    pub fn dataset(&mut self, key: &str) -> Result<Box<dyn Source>, SpecError> {
        let value = self.value(key);
        let value = self.required(key, value)?;
        self.make(self.key_of(key), value)
    }

    /// A list of datasets, not empty, for one that is made of several.
    ///
    /// # Errors
    /// The key is missing, its value no list, or one of the list no dataset that can be made.
    pub fn datasets(&mut self, key: &str) -> Result<Vec<Box<dyn Source>>, SpecError> {
        let value = self.value(key);
        let items = match self.required(key, value)? {
            Value::Array(items) if !items.is_empty() => items,
            other => return Err(self.not_a(key, &other, "a list of datasets")),
        };
        let key = self.key_of(key);
        let place = |place: usize| key.iter().cloned().chain([place.to_string()]).collect();
        items.into_iter().enumerate().map(|(item, value)| self.make(place(item), value)).collect()
    }

    fn make(&self, key: Vec<String>, value: Value) -> Result<Box<dyn Source>, SpecError> {
        let component = Component::from_value(value, &key, Role::Dataset.noun())?;
        let registry = self.registry.ok_or_else(|| {
            SpecError::new(key.clone(), format!("{} is not read by a registry, which knows datasets", self.owner))
        })?;
        registry.source(key, &component, &self.folder)
    }

    /// A table of options of their own, if it is there.
    ///
    /// # Errors
    /// The value is no table.
    pub fn optional_table(&mut self, key: &str) -> Result<Option<Options<'a>>, SpecError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Table(table)) => Ok(Some(self.below(vec![key.to_owned()], key, table))),
            Some(other) => Err(self.not_a(key, &other, "a table")),
        }
    }

    /// A list of tables, if it is there; each is read as options of its own, and to be [finished](Self::finish).
    ///
    /// # Errors
    /// The value is no list of tables.
    pub fn optional_tables(&mut self, key: &str) -> Result<Option<Vec<Options<'a>>>, SpecError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let Value::Array(items) = &value else { return Err(self.not_a(key, &value, "a list of tables")) };
        let tables = items.iter().enumerate().map(|(place, item)| match item {
            Value::Table(table) => {
                let name = format!("{key}[{place}]");
                Ok(self.below(vec![key.to_owned(), place.to_string()], &name, table.clone()))
            }
            _ => Err(self.not_a(key, &value, "a list of tables")),
        });
        tables.collect::<Result<_, _>>().map(Some)
    }

    fn below(&self, key: Vec<String>, name: &str, table: toml::Table) -> Options<'a> {
        let key = self.key.iter().cloned().chain(key).collect();
        let owner = format!("`{name}` of {}", self.owner);
        Options { registry: self.registry, ..Options::of(owner, key, table, &self.folder) }
    }

    /// A file or folder; a relative one starts at the configuration's folder.
    ///
    /// # Errors
    /// The key is missing or its value no text.
    pub fn path(&mut self, key: &str) -> Result<PathBuf, SpecError> {
        let found = self.optional_path(key)?;
        self.required(key, found)
    }

    /// A file or folder; a relative one starts at the configuration's folder.
    ///
    /// # Errors
    /// The value is no text.
    pub fn optional_path(&mut self, key: &str) -> Result<Option<PathBuf>, SpecError> {
        let text = self.optional_string(key)?;
        Ok(text.map(|text| self.folder.join(text)))
    }

    /// A text.
    ///
    /// # Errors
    /// The key is missing or its value no text.
    pub fn string(&mut self, key: &str) -> Result<String, SpecError> {
        let found = self.optional_string(key)?;
        self.required(key, found)
    }

    /// A text.
    ///
    /// # Errors
    /// The value is no text.
    pub fn optional_string(&mut self, key: &str) -> Result<Option<String>, SpecError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.not_a(key, &other, "a text in quotes")),
        }
    }

    /// A list of texts.
    ///
    /// # Errors
    /// The key is missing or its value no list of texts.
    pub fn strings(&mut self, key: &str) -> Result<Vec<String>, SpecError> {
        let found = self.optional_strings(key)?;
        self.required(key, found)
    }

    /// A list of texts.
    ///
    /// # Errors
    /// The value is no list of texts.
    pub fn optional_strings(&mut self, key: &str) -> Result<Option<Vec<String>>, SpecError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let texts = value
            .as_array()
            .and_then(|items| items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>());
        texts.map(Some).ok_or_else(|| self.not_a(key, &value, "a list of texts in quotes"))
    }

    /// An integer of `range`.
    ///
    /// # Errors
    /// The key is missing, its value no integer or out of range.
    pub fn integer<T>(&mut self, key: &str, range: RangeInclusive<T>) -> Result<T, SpecError>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let found = self.optional_integer(key, range)?;
        self.required(key, found)
    }

    /// An integer of `range`.
    ///
    /// # Errors
    /// The value is no integer or out of range.
    pub fn optional_integer<T>(&mut self, key: &str, range: RangeInclusive<T>) -> Result<Option<T>, SpecError>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let Some(value) = self.value(key) else { return Ok(None) };
        let number = value.as_integer().and_then(|number| T::try_from(number).ok());
        match number.filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let expected = format!("an integer from {} to {}", range.start(), range.end());
                Err(self.not_a(key, &value, &expected))
            }
        }
    }

    /// A number of `range`, with or without a decimal point.
    ///
    /// # Errors
    /// The key is missing, its value no number or out of range.
    pub fn number(&mut self, key: &str, range: RangeInclusive<f64>) -> Result<f64, SpecError> {
        let found = self.optional_number(key, range)?;
        self.required(key, found)
    }

    /// A number of `range`, with or without a decimal point.
    ///
    /// # Errors
    /// The value is no number or out of range.
    pub fn optional_number(&mut self, key: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, SpecError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match real(&value).filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let expected = format!("a number from {} to {}", range.start(), range.end());
                Err(self.not_a(key, &value, &expected))
            }
        }
    }

    /// A number of bytes: `"4GiB"`, or an integer.
    ///
    /// # Errors
    /// The key is missing or its value no size.
    pub fn size(&mut self, key: &str) -> Result<u64, SpecError> {
        let value = self.value(key);
        let value = self.required(key, value)?;
        let found = match &value {
            Value::String(text) => bytes(text),
            Value::Integer(number) => u64::try_from(*number).ok().filter(|number| *number > 0),
            _ => None,
        };
        found.ok_or_else(|| self.not_a(key, &value, "a size such as \"256MiB\" or \"2GiB\""))
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// The value is neither.
    pub fn optional_boolean(&mut self, key: &str) -> Result<Option<bool>, SpecError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.not_a(key, &value, "`true` or `false`"))
    }

    /// What one of several words stands for.
    ///
    /// # Errors
    /// The key is missing or its value none of the words.
    pub fn one_of<T: Clone>(&mut self, key: &str, choices: &[(&str, T)]) -> Result<T, SpecError> {
        let found = self.optional_one_of(key, choices)?;
        self.required(key, found)
    }

    /// What one of several words stands for.
    ///
    /// # Errors
    /// The value is none of the words.
    pub fn optional_one_of<T: Clone>(&mut self, key: &str, choices: &[(&str, T)]) -> Result<Option<T>, SpecError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let word = value.as_str();
        if let Some((_, choice)) = choices.iter().find(|(name, _)| Some(*name) == word) {
            return Ok(Some(choice.clone()));
        }
        let names = choices.iter().map(|(name, _)| *name);
        let all = names.clone().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ");
        let expected = match word.and_then(|word| nearest(word, names)) {
            Some(name) => format!("{all}; did you mean `{name}`?"),
            None => all,
        };
        Err(self.not_a(key, &value, &expected))
    }

    /// The keys that have not been taken, for a table whose keys are names that the user chose.
    pub fn keys(&self) -> Vec<String> {
        self.table.keys().cloned().collect()
    }

    /// Where relative paths start.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A value of any form, for options that the other methods do not know.
    ///
    /// Say what is wrong with it by [`error`](Self::error).
    pub fn value(&mut self, key: &str) -> Option<Value> {
        self.asked.push(key.to_owned());
        self.table.remove(key)
    }

    /// Refuses `key`; `reason` follows the key: `is 0, must be even`.
    pub fn error(&self, key: &str, reason: impl Display) -> SpecError {
        self.key(key).error(reason)
    }

    /// Where `key` stands, to refuse its value later: when the data tells what is wrong with it.
    pub fn key(&self, key: &str) -> OptionKey {
        OptionKey { owner: self.owner.clone(), name: key.to_owned(), path: self.key_of(key) }
    }

    /// Requires that every key has been taken.
    ///
    /// The registry calls this after a constructor; only who reads options elsewhere has to.
    ///
    /// # Errors
    /// A key is left over: the message has the nearest of the keys that were asked for.
    pub fn finish(&self) -> Result<(), SpecError> {
        match self.table.keys().next() {
            None => Ok(()),
            Some(key) => {
                let right = suggestion(key, self.asked.iter().map(String::as_str));
                Err(SpecError::new(self.key_of(key), format!("unknown key `{key}` of {}{right}", self.owner)))
            }
        }
    }

    /// Insists on what [`value`](Self::value) may not have found.
    ///
    /// # Errors
    /// There is nothing under `key`; a key that looks like it is taken for a misspelling.
    pub fn required<T>(&self, key: &str, found: Option<T>) -> Result<T, SpecError> {
        found.ok_or_else(|| match nearest(key, self.table.keys().map(String::as_str)) {
            Some(misspelled) => SpecError::new(
                self.key_of(misspelled),
                format!("unknown key `{misspelled}` of {}; did you mean `{key}`?", self.owner),
            ),
            None => SpecError::new(self.key.clone(), format!("{} needs the key `{key}`", self.owner)),
        })
    }

    fn not_a(&self, key: &str, value: &Value, expected: &str) -> SpecError {
        self.error(key, format_args!("is {value}, not {expected}"))
    }

    fn key_of(&self, key: &str) -> Vec<String> {
        self.key.iter().cloned().chain([key.to_owned()]).collect()
    }
}

/// A size above 0 as it is typed, `512MiB`, `2GiB`, `300MB` or a plain number, in bytes.
pub fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic()).trim_end();
    let unit: u64 = match text[digits.len()..].trim_start() {
        "" | "B" => 1,
        "KiB" | "K" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        "TiB" | "T" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit).filter(|bytes| *bytes > 0)
}

/// An f64 has every integer up to here, 2^53.
const INTEGER_MAX: u64 = 1 << 53;

/// A number, with or without a decimal point.
pub(crate) fn real(value: &Value) -> Option<f64> {
    match *value {
        // Written without a point; from where on an f64 has not every integer, it would be another number.
        Value::Integer(number) => (number.unsigned_abs() <= INTEGER_MAX).then_some(number as f64),
        Value::Float(number) => Some(number),
        _ => None,
    }
}

/// Where an option stands, kept to [refuse](Self::error) its value when the data tells what is wrong with it.
#[derive(Clone, Debug)]
pub struct OptionKey {
    owner: String,
    name: String,
    path: Vec<String>,
}

impl OptionKey {
    /// The key itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Refuses the value; `reason` follows the key: `is 7, but the dataset has 5 samples`.
    pub fn error(&self, reason: impl Display) -> SpecError {
        let Self { owner, name, path } = self;
        SpecError::new(path.clone(), format!("{owner}: `{name}` {reason}"))
    }
}
