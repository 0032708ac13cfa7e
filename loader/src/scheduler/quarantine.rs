//! The samples of one stream that cannot be read: remembered, counted, and kept from ending more workers.

use std::collections::BTreeMap;

use batchmill_protocol::message::{BadSample, Quarantined};
use batchmill_protocol::position::Position;
use batchmill_protocol::status::QuarantinedSample;

/// The most samples that a stream can do without. One more is remembered, so that it is known when there are too many.
pub(crate) const SAMPLES_MAX: u64 = 100_000;

/// The most of them that may have ended workers: each costs two, and every worker is told of each.
const POISONOUS_MAX: usize = 100;

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
        if self.count() <= SAMPLES_MAX || self.samples.contains_key(&index) {
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
    ///
    /// # Errors
    /// One sentence fragment when there are too many such samples.
    pub(super) fn poison(
        &mut self,
        index: u64,
        name: &str,
        deaths: u32,
        how: &str,
        position: Option<Position>,
    ) -> Result<Option<Quarantined>, String> {
        let poisonous = self.poisonous().count();
        let sample = self.samples.entry(index).or_default();
        if sample.poison {
            return Ok(None);
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
        if poisonous >= POISONOUS_MAX {
            return Err(format!(
                "more than {POISONOUS_MAX} samples end whoever reads them, the last was {name}: {reason}"
            ));
        }
        Ok(Some(Quarantined { index, reason }))
    }

    /// Those that must not be read.
    pub(super) fn poisonous(&self) -> impl Iterator<Item = Quarantined> + '_ {
        let poisonous = self.samples.values().filter(|sample| sample.poison);
        poisonous.map(|sample| Quarantined { index: sample.index, reason: sample.reason.clone() })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(index: u64) -> BadSample {
        BadSample { row: 0, index, name: format!("{index}.jpg"), reason: "it is broken".to_owned() }
    }

    #[test]
    fn one_more_than_the_limit_is_too_many_also_for_the_largest_limit() {
        for limit in [0, 3, SAMPLES_MAX] {
            let mut quarantine = Quarantine::default().within(limit);
            let noted = |quarantine: &mut Quarantine, index| quarantine.note(bad(index), Position::default());
            assert!((0..limit).all(|index| noted(&mut quarantine, index).is_ok()));
            assert!((0..limit).all(|index| noted(&mut quarantine, index).is_ok()), "the same ones again");
            assert!(
                noted(&mut quarantine, limit).is_err_and(|reason| reason.starts_with(&format!("more than {limit} ")))
            );
            assert!(noted(&mut quarantine, limit + 1).is_err());
            assert!(quarantine.count() <= SAMPLES_MAX + 1);
        }
    }

    #[test]
    fn samples_that_end_workers_are_told_once_and_are_not_without_number() {
        let mut quarantine = Quarantine::default().within(SAMPLES_MAX);
        let mut poison = |index| quarantine.poison(index, "a.jpg", 2, "aborted", None);
        assert!(poison(7).is_ok_and(|told| told.is_some_and(|sample| sample.index == 7)));
        assert_eq!(poison(7), Ok(None));
        assert!((100..199).all(|index| poison(index).is_ok()));
        assert!(poison(200).is_err());
    }
}
