//! The benchmark: the loader beside the bare work that it does, and beside other loaders, in one run.

pub mod account;
pub mod bare;
pub mod data;
pub mod ours;
pub mod peers;
pub mod start;
pub mod table;
pub mod workload;

use std::error::Error;

use serde::{Deserialize, Serialize};

/// What may go wrong in a benchmark is told and ends it.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Who was measured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Contender {
    /// The loop that does the work and nothing else.
    Bare,
    /// Batchmill's loader, with its workers and a client.
    Ours,
    /// Another loader, by its name.
    Peer(String),
}

impl Contender {
    /// What the table calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Bare => "bare loop",
            Self::Ours => "batchmill",
            Self::Peer(name) => name,
        }
    }
}

/// One run of one contender on one workload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// Which work, as [`workload::Workload::name`] has it.
    pub workload: String,
    /// Who did it.
    pub contender: Contender,
    /// Its version, where it is known.
    pub version: String,
    /// Samples in a second of wall time; epochs after the first count.
    pub samples_per_s: f64,
    /// Microseconds of CPU for a sample, of all processes together.
    pub cpu_us: f64,
    /// Milliseconds from the process's start to the first batch, where it was seen.
    pub cold_start_ms: Option<f64>,
    /// Memory of all processes, shared pages divided among them, and of what is cached: MB of 10^6 bytes.
    pub pss_mb: Option<f64>,
    /// What of it loader and workers take beside batches and cache; known of ours.
    pub beside_mb: Option<f64>,
}

/// The middle one of some values; of an even number the lower of the middle two. `None` of none.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_one_of_the_values() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.0));
        assert_eq!(median([]), None);
    }
}
