//! The samples of one stream that cannot be read: remembered, counted, and kept from ending more workers.

use std::collections::BTreeMap;

use batchmill_protocol::message::{BadSample, Quarantined};
use batchmill_protocol::position::Position;
use batchmill_protocol::status::QuarantinedSample;

/// The most samples that are remembered, and so the most that a stream can do without.
pub(crate) const SAMPLES_MAX: u64 = 100_000;

/// How many samples are told of, and for how many batches each.
const TOLD_MAX: usize = 1_000;
const POSITIONS_MAX: usize = 4;

/// The samples of one stream that cannot be read, by index.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    samples: BTreeMap<u64, QuarantinedSample>,
    /// Above this many a batch with one of them fails.
    limit: u64,
}

impl Quarantine {
    /// The same under a limit.
    pub(super) fn within(self, limit: u64) -> Self {
        Self { limit, ..self }
    }

    /// How many there may be.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Takes note of a sample that a worker could not read.
    ///
    /// # Errors
    /// One sentence fragment with the remedy when there are too many.
    pub(super) fn note(&mut self, bad: BadSample, position: Position) -> Result<(), String> {
        let BadSample { index, name, reason, .. } = bad;
        if self.count() < SAMPLES_MAX || self.samples.contains_key(&index) {
            let new = || QuarantinedSample { index, name, reason, ..QuarantinedSample::default() };
            let sample = self.samples.entry(index).or_insert_with(new);
            // A poisonous one was not tried again.
            sample.attempts += u64::from(!sample.poison);
            if sample.positions.len() < POSITIONS_MAX && !sample.positions.contains(&position) {
                sample.positions.push(position);
            }
        }
        if self.count() <= self.limit {
            return Ok(());
        }
        Err(format!(
            "more than {} samples cannot be read, the limit (`on_bad_limit`): `loader quarantine` lists them; mend the data, \
             or raise the limit",
            self.limit
        ))
    }

    /// Takes note of a sample that ended `deaths` workers so far, the last of which `how`: it is not to be read any more.
    /// `None` when that was known; workers that had begun with it may still die.
    pub(super) fn poison(
        &mut self,
        index: u64,
        name: &str,
        deaths: u32,
        how: &str,
        position: Option<Position>,
    ) -> Option<Quarantined> {
        let sample = self.samples.entry(index).or_default();
        if sample.poison {
            return None;
        }
        let reason = format!("{deaths} worker processes died on reading it; the last {how}");
        *sample = QuarantinedSample {
            index,
            name: name.to_owned(),
            reason: reason.clone(),
            attempts: sample.attempts + u64::from(deaths),
            poison: true,
            positions: position.into_iter().collect(),
        };
        Some(Quarantined { index, reason })
    }

    /// Those that must not be read.
    pub(super) fn poisonous(&self) -> Vec<Quarantined> {
        let poisonous = self.samples.values().filter(|sample| sample.poison);
        poisonous.map(|sample| Quarantined { index: sample.index, reason: sample.reason.clone() }).collect()
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.samples.len() as u64
    }

    /// The first of them.
    pub(super) fn told(&self) -> Vec<QuarantinedSample> {
        self.samples.values().take(TOLD_MAX).cloned().collect()
    }
}
