//! Samples out of a cache: what stands before the first transform that draws is made once.

use batchmill_protocol::tensor::FieldSpec;
use twox_hash::XxHash3_128;

use super::{FillError, Named, Pipeline, Place, RowSink};
use crate::cache::Cache;
use crate::identity::{dataset, decoder};
use crate::sample::Sample;

/// A cache, and what of the chain is kept in it.
#[derive(Debug)]
pub(super) struct Kept {
    cache: Cache,
    /// How many transforms a kept sample is behind.
    head: usize,
    /// Whether a kept sample is a row as it is.
    is_row: bool,
}

impl Pipeline {
    /// Keeps samples in `cache` from now on, which must have been opened under [`cache_key`](Self::cache_key), and takes
    /// them from there.
    pub fn keep_in(&mut self, cache: Cache) {
        let head = self.head_to_keep();
        let is_row = head == self.transforms.len() && self.collate.is_nothing();
        self.kept = Some(Kept { cache, head, is_row });
    }

    /// What the samples that can be kept follow from: pipelines of one key make the same ones.
    ///
    /// `program` says what code it is that makes them, as far as that is not of this crate.
    pub fn cache_key(&self, program: &str) -> u128 {
        let data = self.index.split(2).and_then(|parts| parts.into_iter().next());
        let transforms: Vec<_> =
            self.spec.transforms.iter().take(self.head_to_keep()).map(ToString::to_string).collect();
        let parts = [
            decoder(),
            program.to_owned(),
            dataset(&self.spec),
            self.spec.folder.display().to_string(),
            self.dataset.len().to_string(),
            format!("{:032x}", XxHash3_128::oneshot(&data.unwrap_or_else(|| self.index.clone()))),
            transforms.join(", "),
        ];
        // Debug quotes each, so that no two lists are written alike.
        XxHash3_128::oneshot(format!("{parts:?}").as_bytes())
    }

    /// Whether the dataset's index tells when its data are others.
    pub fn knows_its_data(&self) -> bool {
        self.index.split(2).is_some_and(|parts| !parts[0].is_empty())
    }

    /// The transforms from the first on that draw nothing.
    fn head_to_keep(&self) -> usize {
        self.transforms.iter().take_while(|Named { transform, .. }| transform.is_deterministic()).count()
    }

    /// Writes a row from the cache, where a kept sample is a row and has just these fields.
    ///
    /// Where it says no, something may be written: the row is to be made then.
    pub(super) fn write_kept(&self, fields: &[FieldSpec], index: u64, row: u32, out: &mut dyn RowSink) -> bool {
        let Some(Kept { cache, is_row: true, .. }) = &self.kept else { return false };
        if self.quarantine.reason(index).is_some() {
            return false;
        }
        let Some((head, mut values)) = cache.find(index) else { return false };
        let mut count = 0;
        for field in head.fields() {
            // In the order of the values, which need not be that of the row.
            let Some(place) = fields.iter().position(|wanted| field.is(wanted)) else { return false };
            if values.read(out.room(row, place)).is_none() {
                return false;
            }
            count += 1;
        }
        count == fields.len() && values.are_those_of(&head)
    }

    /// Whether a sample is kept, so that its data are not about to be read.
    pub(super) fn is_kept(&self, index: u64) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.cache.has(index))
    }

    /// A sample from the cache, or made and kept, and behind how many transforms it is; `None` where none is kept.
    pub(super) fn kept_or_made(&self, place: Place) -> Result<Option<(usize, Sample)>, FillError> {
        let Some(Kept { cache, head, .. }) = &self.kept else { return Ok(None) };
        if let Some(sample) = cache.get(place.index) {
            return Ok(Some((*head, sample)));
        }
        if !cache.takes_more() {
            return Ok(None);
        }
        match self.make_until(place, *head) {
            Ok(sample) => {
                cache.put(place.index, &sample);
                Ok(Some((*head, sample)))
            }
            // Without a cache less of it may be looked at: what is broken elsewhere must not tell whether there is one.
            Err(error) if error.is_bad_sample() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
