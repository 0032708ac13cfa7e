//! What becomes of a sample that cannot be used.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::iter;

use crate::random::{Rng, SUBSTITUTE_OP};

/// Substitutes that are tried for one sample. Where one file in ten is broken, that many are broken in a row once in
/// 10^32 samples; where all are, the row fails soon enough.
pub const ATTEMPTS_MAX: u64 = 32;

/// The largest number of files that this process, or the machine, may have open: `EMFILE`, `ENFILE` (errno(3)).
const TOO_MANY_FILES: [i32; 2] = [24, 23];

/// A sample that could not be used, and was substituted or masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSample {
    /// The row of the batch it should have filled, or filled as another's substitute.
    pub row: u32,
    /// Its index in the dataset.
    pub index: u64,
    /// What a person calls it.
    pub name: String,
    /// Why not: the error and what it came from, outermost first.
    pub reason: String,
}

/// Samples of the dataset that must not be read any more, with the reason.
#[derive(Debug, Default)]
pub(crate) struct Quarantine(BTreeMap<u64, String>);

impl Quarantine {
    pub(crate) fn add(&mut self, index: u64, reason: String) {
        self.0.insert(index, reason);
    }

    /// Why sample `index` must not be read, if it must not.
    pub(crate) fn reason(&self, index: u64) -> Option<&str> {
        self.0.get(&index).map(String::as_str)
    }
}

/// The place of an epoch of `samples` whose sample stands in for that of `place`, at the given attempt, counted from 1;
/// `None` where there is no other place.
///
/// Every other place is equally likely. Golden values hold it for good: changing it changes every stream with a
/// substitute.
pub(crate) fn substitute(seed: u64, epoch: u64, place: u64, attempt: u64, samples: u64) -> Option<u64> {
    let others = samples.checked_sub(1).filter(|&others| others > 0)?;
    let drawn = Rng::new(seed, epoch, place, attempt, SUBSTITUTE_OP).below(others);
    // The places behind the one to be substituted move up by one.
    Some(if drawn < place { drawn } else { drawn + 1 })
}

/// Writes an error and what it came from, outermost first.
pub(crate) fn report(error: &(dyn Error + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Whether an error came from what this process or the way to the data lacks just now. It says nothing of the sample:
/// another process would read it.
pub(crate) fn is_passing(error: &(dyn Error + 'static)) -> bool {
    causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).any(is_passing_io)
}

/// The same for one error of the system.
pub(crate) fn is_passing_io(error: &io::Error) -> bool {
    let is_of_memory_or_network = matches!(
        error.kind(),
        io::ErrorKind::OutOfMemory
            | io::ErrorKind::Interrupted
            | io::ErrorKind::WouldBlock
            | io::ErrorKind::TimedOut
            | io::ErrorKind::NotConnected
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::StaleNetworkFileHandle
    );
    is_of_memory_or_network || error.raw_os_error().is_some_and(|number| TOO_MANY_FILES.contains(&number))
}

/// An error, what it came from, and so on.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |&error| error.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn substitutes_are_what_they_always_were() {
        // Golden, from a second implementation in Python: a change here changes every stream with a bad sample.
        let draws = |seed, epoch, place, samples| {
            [1, 2, 3, 4, 32].map(|attempt| substitute(seed, epoch, place, attempt, samples))
        };
        assert_eq!(draws(0, 0, 0, 10), [7, 3, 7, 1, 7].map(Some));
        assert_eq!(draws(7, 3, 9, 10), [2, 0, 5, 5, 5].map(Some));
        assert_eq!(
            draws(42, 1, 123_456, 1_000_000_007),
            [859_275_342, 674_540_056, 63_667_063, 902_188_309, 742_201_386].map(Some)
        );
        assert_eq!(
            draws(u64::MAX, u64::MAX, (1 << 40) - 1, 1 << 40),
            [188_840_970_786, 455_459_538_706, 968_569_561_584, 1_047_592_022_568, 637_900_903_531].map(Some)
        );
    }

    #[test]
    fn every_other_place_is_as_likely_and_its_own_never_drawn() {
        for samples in [2, 3, 7] {
            let mut counts = vec![0_u32; samples];
            for epoch in 0..7000 {
                let place = substitute(5, epoch, 1, 1, samples as u64).unwrap();
                counts[usize::try_from(place).unwrap()] += 1;
            }
            let expected = 7000 / (u32::try_from(samples).unwrap() - 1);
            for (place, count) in counts.into_iter().enumerate() {
                // Four standard deviations, which are at most 42.
                let fair = if place == 1 { 0..=0 } else { expected - 168..=expected + 168 };
                assert!(fair.contains(&count), "place {place} of {samples} was drawn {count} times");
            }
        }
        assert_eq!(substitute(5, 0, 0, 1, 1), None);
    }
}
