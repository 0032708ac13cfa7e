//! Which samples of a dataset are meant: a list of indices, a range, or a file with a list.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use toml::Value;

use crate::column::Column;
use crate::options::{OptionKey, Options};
use crate::source::{Index, OpenError};
use crate::spec::SpecError;

/// The most bytes of a line with an index: what is longer is no list, and is not read whole to find that out.
const LINE_BYTES_MAX: u64 = 64;

/// A choice of samples as the options say it, before the dataset is known.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    chosen: Chosen,
    key: OptionKey,
}

#[derive(Clone, Debug)]
enum Chosen {
    Indices(Vec<u64>),
    Range { lo: u64, hi: u64, step: u64 },
    File(PathBuf),
}

impl Selection {
    /// Reads the one of the options `indices`, `range` and `file` that is there; none of them is no selection.
    ///
    /// # Errors
    /// [`SpecError`]: there are two, or the one has no sense.
    pub(crate) fn from_options(options: &mut Options) -> Result<Option<Self>, SpecError> {
        let mut found: Option<Self> = None;
        for (key, read) in [
            ("indices", indices as fn(&mut Options) -> _),
            ("range", range),
            ("file", |options| Ok(options.optional_path("file")?.map(Chosen::File))),
        ] {
            let Some(chosen) = read(options)? else { continue };
            let key = options.key(key);
            if let Some(other) = &found {
                return Err(other.key.error(format_args!("stands beside `{}`; give one of them", key.name())));
            }
            found = Some(Self { chosen, key });
        }
        Ok(found)
    }

    /// The same for one that is a file.
    pub(crate) fn file(options: &mut Options) -> Result<Self, SpecError> {
        Ok(Self { chosen: Chosen::File(options.path("file")?), key: options.key("file") })
    }

    /// The option that says it.
    pub(crate) fn key(&self) -> &OptionKey {
        &self.key
    }

    /// Prepares the list, if it is one: the indices, and behind them the largest.
    ///
    /// # Errors
    /// [`OpenError`]: the file cannot be read, or holds something else.
    pub(crate) fn index(&self) -> Result<Vec<u8>, OpenError> {
        let list = match &self.chosen {
            Chosen::Range { .. } => return Ok(Vec::new()),
            Chosen::Indices(indices) => indices.clone(),
            Chosen::File(file) => read(file)?,
        };
        let largest = list.iter().copied().max();
        Ok(Column::pack(list.into_iter().chain(largest)))
    }

    /// Opens it over what [`index`](Self::index) returned, for a dataset of so many samples.
    ///
    /// # Errors
    /// [`OpenError`] when a sample is meant that the dataset does not have.
    pub(crate) fn open(self, samples: u64, index: Index) -> Result<Selected, OpenError> {
        let has = |samples| format!("but the dataset has {}", counted(samples));
        if let Chosen::Range { lo, hi, step } = self.chosen {
            if hi > samples {
                return Err(self.key.error(format_args!("ends at {hi}, {}", has(samples))).into());
            }
            return Ok(Selected::Span { lo, len: (hi - lo).div_ceil(step), step });
        }
        let list = Column::open(index)?;
        let len = list.len().saturating_sub(1);
        let largest = list.at(len);
        if largest >= samples {
            return Err(self.key.error(format_args!("names sample {largest}, {}", has(samples))).into());
        }
        Ok(Selected::List { list, len })
    }
}

/// "1 sample", "2 samples".
pub(crate) fn counted(samples: u64) -> String {
    format!("{samples} sample{}", if samples == 1 { "" } else { "s" })
}

/// The samples that are meant, in order.
#[derive(Clone, Debug)]
pub(crate) enum Selected {
    /// From `lo`, each the `step`-th after the last.
    Span { lo: u64, len: u64, step: u64 },
    /// The first `len` numbers of a list.
    List { list: Column, len: u64 },
}

impl Selected {
    /// How many are meant.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Span { len, .. } | Self::List { len, .. } => *len,
        }
    }

    /// The index of the one at `place`, which is below the length.
    pub(crate) fn index(&self, place: u64) -> u64 {
        match self {
            Self::Span { lo, step, .. } => lo + place * step,
            Self::List { list, .. } => list.at(place),
        }
    }
}

/// The option `indices`.
fn indices(options: &mut Options) -> Result<Option<Chosen>, SpecError> {
    let Some(value) = options.value("indices") else { return Ok(None) };
    let list = integers(&value).ok_or_else(|| options.error("indices", "is no list of integers from 0 up"))?;
    if list.is_empty() {
        return Err(options.error("indices", "is an empty list"));
    }
    Ok(Some(Chosen::Indices(list)))
}

/// The option `range`, read as Python's `range` reads its arguments.
fn range(options: &mut Options) -> Result<Option<Chosen>, SpecError> {
    let Some(value) = options.value("range") else { return Ok(None) };
    let (lo, hi, step) = match integers(&value).as_deref() {
        Some(&[lo, hi]) => (lo, hi, 1),
        Some(&[lo, hi, step]) if step > 0 => (lo, hi, step),
        _ => return Err(options.error("range", format_args!("is {value}, not [first, end] or [first, end, step]"))),
    };
    if lo >= hi {
        return Err(
            options.error("range", format_args!("is {value}, which holds no sample; the end is behind the last"))
        );
    }
    Ok(Some(Chosen::Range { lo, hi, step }))
}

fn integers(value: &Value) -> Option<Vec<u64>> {
    value.as_array()?.iter().map(|item| u64::try_from(item.as_integer()?).ok()).collect()
}

/// Reads a file with an index on each line; blank lines do not count.
fn read(file: &Path) -> Result<Vec<u64>, OpenError> {
    let failed = |error| OpenError::read(file, error);
    let mut opened = BufReader::new(File::open(file).map_err(failed)?);
    let (mut list, mut line, mut number) = (Vec::new(), Vec::new(), 0);
    // As bytes: a file that is no text is refused like any other line without an index.
    while opened.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(failed)? > 0 {
        number += 1;
        let text = line.trim_ascii();
        let is_whole = line.ends_with(b"\n") || (line.len() as u64) < LINE_BYTES_MAX;
        if !text.is_empty() || !is_whole {
            let index = str::from_utf8(text).ok().filter(|_| is_whole).and_then(|text| text.parse().ok());
            list.push(index.ok_or_else(|| {
                let found = String::from_utf8_lossy(&text[..text.len().min(32)]);
                OpenError::line(file, number, format!("{found:?} is no index of a sample, an integer from 0 up"))
            })?);
        }
        line.clear();
    }
    if list.is_empty() {
        return Err(OpenError::file(file, "empty, expected the index of a sample on each line"));
    }
    Ok(list)
}
