//! The first samples of a dataset.

use super::{Composed, Parts};
use crate::dataset::MapDataset;
use crate::options::{OptionKey, Options};
use crate::progress::Progress;
use crate::selection::{Selected, counted};
use crate::source::{Index, OpenError, Source};
use crate::spec::SpecError;

/// The kind `take`: some samples from the start of a dataset, as a slice `dataset[skip:skip + len]`.
///
/// Options: `dataset`; `len`, how many samples; `skip` (default 0), how many are left out before them.
///
/// Order: the dataset's.
///
/// A dataset that has fewer is refused: that an experiment is smaller than it says should not pass unseen.
#[derive(Debug)]
pub struct Take {
    parts: Parts,
    len: u64,
    skip: u64,
    key: OptionKey,
}

impl Take {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when one is missing or has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        Ok(Self {
            parts: Parts::one(options)?,
            len: options.integer("len", 1..=super::LEN_MAX)?,
            skip: options.optional_integer("skip", 0..=super::LEN_MAX)?.unwrap_or(0),
            key: options.key("len"),
        })
    }
}

impl Source for Take {
    fn prepare(&self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), OpenError> {
        self.parts.prepare(progress)
    }

    fn forget_index(&self) {
        self.parts.forget_index();
    }

    fn index(&self) -> Result<Vec<u8>, OpenError> {
        self.parts.index(Vec::new())
    }

    fn open(self: Box<Self>, index: Index) -> Result<Box<dyn MapDataset>, OpenError> {
        let Self { parts, len, skip, key } = *self;
        let (datasets, _) = parts.open(&index)?;
        let samples = datasets[0].len();
        if skip + len > samples {
            let behind = if skip == 0 { String::new() } else { format!(" behind {skip} that are skipped") };
            return Err(key.error(format_args!("is {len}{behind}, but the dataset has {}", counted(samples))).into());
        }
        Ok(Box::new(Composed { datasets, route: Selected::Span { lo: skip, len, step: 1 } }))
    }
}
