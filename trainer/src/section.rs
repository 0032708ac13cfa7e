//! One table of a model file: gives out the keys that are asked for, refuses the others by name.

use std::ops::Range;
use std::sync::LazyLock;

use thiserror::Error;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// What is wrong in a file, and on which line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {what}")]
pub struct Mistake {
    /// The line, from 1.
    pub line: usize,
    /// One sentence fragment with the remedy.
    pub what: String,
}

/// The line of byte `offset`, from 1.
pub(crate) fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1
}

/// Names the one of `names` that was probably meant by `wrong`, or all that it `may` ("be", "have").
pub(crate) fn remedy(wrong: &str, may: &str, names: &[&str]) -> String {
    let quoted = |name: &&str| format!("`{name}`");
    match names.iter().filter_map(|name| Some((misspelled(wrong, name)?, name))).min() {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None => format!("it may {may} {}", names.iter().map(quoted).collect::<Vec<_>>().join(", ")),
    }
}

/// The letters that are wrong when `wrong` stands for `right`, unless they are more than a third.
fn misspelled(wrong: &str, right: &str) -> Option<usize> {
    Some(strsim::damerau_levenshtein(wrong, right)).filter(|distance| *distance <= right.len() / 3)
}

/// What a number must be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    holds: fn(f64) -> bool,
    /// As a sentence says it, after "it must be".
    wanted: &'static str,
}

impl Bound {
    pub(crate) const ABOVE_0: Self = Self { holds: |number| number > 0.0, wanted: "above 0" };
    pub(crate) const FROM_0: Self = Self { holds: |number| number >= 0.0, wanted: "0 or more" };
    pub(crate) const BELOW_1: Self = Self { holds: |number| (0.0..1.0).contains(&number), wanted: "from 0 to below 1" };
    pub(crate) const UP_TO_1: Self = Self { holds: |number| (0.0..=1.0).contains(&number), wanted: "from 0 to 1" };
    pub(crate) const ABOVE_0_UP_TO_1: Self =
        Self { holds: |number| number > 0.0 && number <= 1.0, wanted: "above 0 and at most 1" };

    /// Whether all of `numbers` are so.
    pub(crate) fn holds(self, numbers: &[f64]) -> bool {
        numbers.iter().copied().all(self.holds)
    }
}

/// A table whose keys are taken one by one.
#[derive(Debug)]
pub struct Section<'a> {
    text: &'a str,
    name: String,
    span: Range<usize>,
    table: &'a DeTable<'a>,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// Begins to read `table`, which errors call `name`.
    pub(crate) fn new(text: &'a str, name: String, span: Range<usize>, table: &'a DeTable<'a>) -> Self {
        Self { text, name, span, table, known: Vec::new() }
    }

    /// Changes what errors call it.
    pub(crate) fn rename(&mut self, name: String) {
        self.name = name;
    }

    /// What errors call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A mistake in the section as a whole.
    pub fn mistake(&self, what: &str) -> Mistake {
        Mistake { line: line_at(self.text, self.span.start), what: what.to_owned() }
    }

    /// A mistake in the value of `key`; the sentence begins with the key's name.
    pub fn mistake_at(&self, key: &str, what: &str) -> Mistake {
        Mistake { line: self.line_of(key), what: format!("`{key}` {what}") }
    }

    /// The line of the value of `key`, or of the section when it has no such key.
    pub fn line_of(&self, key: &str) -> usize {
        let span = self.find(key).map_or_else(|| self.span.clone(), Spanned::span);
        line_at(self.text, span.start)
    }

    /// Refuses the keys that nobody asked for.
    pub(crate) fn finish(&self) -> Result<(), Mistake> {
        let unknown = self.table.keys().find(|key| !self.known.contains(&key.get_ref().as_ref()));
        let Some(key) = unknown else { return Ok(()) };
        Err(self.unknown(key, &remedy(key.get_ref(), "have", &self.known)))
    }

    /// A value that must be there; a key that nobody asked for and that looks like it is taken for a misspelling.
    ///
    /// # Errors
    /// [`Mistake`] when it is not there.
    pub fn required<T>(&self, key: &str, value: Option<T>) -> Result<T, Mistake> {
        value.ok_or_else(|| {
            let strange = self.table.keys().filter(|found| !self.known.contains(&found.get_ref().as_ref()));
            let near = strange.filter_map(|found| Some((misspelled(found.get_ref(), key)?, found)));
            match near.min_by_key(|(distance, _)| *distance) {
                Some((_, found)) => self.unknown(found, &format!("did you mean `{key}`?")),
                None => self.mistake(&format!("{} has no `{key}`", self.name)),
            }
        })
    }

    fn unknown(&self, key: &Spanned<DeString<'_>>, remedy: &str) -> Mistake {
        Mistake {
            line: line_at(self.text, key.span().start),
            what: format!("unknown key `{}` in {}: {remedy}", key.get_ref(), self.name),
        }
    }

    /// A string.
    ///
    /// # Errors
    /// [`Mistake`] when the value is none.
    pub fn string(&mut self, key: &'static str) -> Result<Option<&'a str>, Mistake> {
        let Some(value) = self.take(key) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.wrong_type(key, value, "a string"))
    }

    /// True or false.
    ///
    /// # Errors
    /// [`Mistake`] when the value is none.
    pub fn boolean(&mut self, key: &'static str) -> Result<Option<bool>, Mistake> {
        let Some(value) = self.take(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.wrong_type(key, value, "true or false"))
    }

    /// A finite number, whole or not.
    ///
    /// # Errors
    /// [`Mistake`] when the value is none.
    pub fn number(&mut self, key: &'static str) -> Result<Option<f64>, Mistake> {
        let Some(value) = self.take(key) else { return Ok(None) };
        number(value).map(Some).ok_or_else(|| self.wrong_type(key, value, "a number"))
    }

    /// A finite number within bounds.
    pub(crate) fn bounded(&mut self, key: &'static str, bound: Bound) -> Result<Option<f64>, Mistake> {
        match self.number(key)? {
            Some(number) if !(bound.holds)(number) => {
                Err(self.mistake_at(key, &format!("is {number}: it must be {}", bound.wanted)))
            }
            number => Ok(number),
        }
    }

    /// One of the names in `choices`, with what it stands for; errors say that the `key` is one of an `owner`.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        owner: &str,
        choices: &[(&'static str, T)],
    ) -> Result<Option<(&'static str, T)>, Mistake> {
        let Some(name) = self.string(key)? else { return Ok(None) };
        let chosen = choices.iter().find(|(choice, _)| *choice == name);
        chosen.map(|chosen| Some(*chosen)).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(choice, _)| *choice).collect();
            let what = format!("unknown {key} of {owner} `{name}`: {}", remedy(name, "be", &names));
            Mistake { line: self.line_of(key), what }
        })
    }

    /// What its `kind` stands for, which errors name from now on.
    pub(crate) fn kind<T: Copy>(
        &mut self,
        owner: &str,
        choices: &[(&'static str, T)],
        default: Option<(&'static str, T)>,
    ) -> Result<T, Mistake> {
        let kind = self.choice("kind", owner, choices)?.or(default);
        let (name, kind) = self.required("kind", kind)?;
        self.rename(format!("{} ({name})", self.name()));
        Ok(kind)
    }

    /// One number or an array of them.
    ///
    /// # Errors
    /// [`Mistake`] when the value is none.
    pub fn numbers(&mut self, key: &'static str) -> Result<Option<Vec<f64>>, Mistake> {
        let Some(value) = self.take(key) else { return Ok(None) };
        list(value, number).map(Some).ok_or_else(|| self.mistake_at(key, "must be a number, or an array of numbers"))
    }

    /// An array of whole numbers; the sentence of a mistake goes on with `wanted`.
    ///
    /// # Errors
    /// [`Mistake`] when the value is none.
    pub fn counts(&mut self, key: &'static str, wanted: &str) -> Result<Option<Vec<usize>>, Mistake> {
        let Some(value) = self.take(key) else { return Ok(None) };
        list(value, integer).map(Some).ok_or_else(|| self.mistake_at(key, wanted))
    }

    /// A whole number within `range`.
    ///
    /// # Errors
    /// [`Mistake`] when the value is none.
    pub fn count(&mut self, key: &'static str, range: Range<usize>) -> Result<Option<usize>, Mistake> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let wanted = format!("a whole number from {} to {}", range.start, range.end - 1);
        match integer(value) {
            Some(count) if range.contains(&count) => Ok(Some(count)),
            _ => Err(self.wrong_type(key, value, &wanted)),
        }
    }

    /// A whole number for both directions, or `[height, width]`.
    ///
    /// # Errors
    /// [`Mistake`] when the value is none.
    pub fn pair(&mut self, key: &'static str, range: Range<usize>) -> Result<Option<[usize; 2]>, Mistake> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let pair = match list(value, integer).as_deref() {
            Some(&[both]) if !value.is_array() => Some([both, both]),
            Some(&[height, width]) => Some([height, width]),
            _ => None,
        };
        let (start, last) = (range.start, range.end - 1);
        pair.filter(|pair| pair.iter().all(|extent| range.contains(extent))).map(Some).ok_or_else(|| {
            let what = format!("must be one whole number from {start} to {last}, or two, [height, width]");
            self.mistake_at(key, &what)
        })
    }

    /// A table under `key`, which errors call `name`.
    pub(crate) fn table(&mut self, key: &'static str, name: &str) -> Result<Option<Section<'a>>, Mistake> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let table = value.as_table().ok_or_else(|| self.wrong_type(key, value, name))?;
        let span = self.find(key).map_or_else(|| self.span.clone(), Spanned::span);
        Ok(Some(Section::new(self.text, name.to_owned(), span, table)))
    }

    /// The tables of an array under `key`, which errors call `name`; none when there is no such key.
    pub(crate) fn tables(&mut self, key: &'static str, name: &str) -> Result<Vec<Section<'a>>, Mistake> {
        let Some(value) = self.take(key) else { return Ok(Vec::new()) };
        let wrong = || self.wrong_type(key, value, name);
        let array = value.as_array().ok_or_else(wrong)?;
        let section = |element: &'a Spanned<DeValue<'a>>| {
            let table = element.get_ref().as_table().ok_or_else(wrong)?;
            Ok(Section::new(self.text, name.to_owned(), element.span(), table))
        };
        array.iter().map(section).collect()
    }

    /// A table without keys, which errors call `name`, for what has only defaults.
    pub(crate) fn empty(&self, name: &str) -> Section<'static> {
        static NOTHING: LazyLock<DeTable<'static>> = LazyLock::new(DeTable::new);
        Section { text: "", name: name.to_owned(), span: 0..0, table: &NOTHING, known: Vec::new() }
    }

    /// All that the table says, wherever its lines stand.
    pub(crate) fn stated(&self) -> String {
        stated(&DeValue::Table(self.table.clone()))
    }

    fn take(&mut self, key: &'static str) -> Option<&'a DeValue<'a>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.find(key).map(Spanned::get_ref)
    }

    fn find(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.iter().find(|(found, _)| found.get_ref() == key).map(|(_, value)| value)
    }

    fn wrong_type(&self, key: &str, value: &DeValue<'_>, wanted: &str) -> Mistake {
        let found = match value {
            DeValue::Integer(number) => format!("{number}"),
            DeValue::Float(number) => format!("{number}"),
            DeValue::Boolean(flag) => format!("{flag}"),
            DeValue::String(text) => format!("{text:?}"),
            other => format!("a {}", other.type_str()),
        };
        self.mistake_at(key, &format!("is {found}: it must be {wanted}"))
    }
}

/// A value without its place and its comments; keys are in order.
fn stated(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Table(table) => {
            let entry = |(key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
                format!("{} = {}", key.get_ref(), stated(value.get_ref()))
            };
            format!("{{{}}}", table.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        DeValue::Array(array) => {
            let elements = array.iter().map(|element| stated(element.get_ref()));
            format!("[{}]", elements.collect::<Vec<_>>().join(", "))
        }
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Integer(_) | DeValue::Float(_) => match (integer(value), number(value)) {
            (Some(whole), _) => whole.to_string(),
            (_, Some(number)) => number.to_string(),
            (None, None) => format!("{value:?}"),
        },
    }
}

fn integer(value: &DeValue<'_>) -> Option<usize> {
    let number = value.as_integer()?;
    usize::from_str_radix(number.as_str(), number.radix()).ok()
}

fn number(value: &DeValue<'_>) -> Option<f64> {
    let number = match value {
        // A hexadecimal one comes without its `0x`.
        DeValue::Integer(number) => {
            i128::from_str_radix(number.as_str(), number.radix()).ok()?.to_string().parse::<f64>().ok()?
        }
        DeValue::Float(number) => number.as_str().parse::<f64>().ok()?,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

fn list<T>(value: &DeValue<'_>, read: fn(&DeValue<'_>) -> Option<T>) -> Option<Vec<T>> {
    match value.as_array() {
        Some(array) => array.iter().map(|element| read(element.get_ref())).collect(),
        None => read(value).map(|one| vec![one]),
    }
}
