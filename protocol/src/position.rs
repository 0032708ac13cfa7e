//! Where a batch stands in its stream, and which rows of it are meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The place of a batch in a stream: epoch and step, both counted from 0. Ordered as delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Passes over the data before this one.
    pub epoch: u64,
    /// Batches of this epoch before this one.
    pub step: u64,
}

impl fmt::Display for Position {
    /// Writes `epoch 2 step 17`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {} step {}", self.epoch, self.step)
    }
}

/// A text that is not a position.
#[derive(Debug, Error)]
#[error("position {0:?} is not of the form EPOCH:STEP, such as 2:0")]
pub struct PositionError(String);

impl FromStr for Position {
    type Err = PositionError;

    /// Reads `EPOCH:STEP`, as `--from` takes it.
    fn from_str(text: &str) -> Result<Self, PositionError> {
        let wrong = || PositionError(text.to_owned());
        let (epoch, step) = text.split_once(':').ok_or_else(wrong)?;
        Ok(Self { epoch: epoch.parse().map_err(|_| wrong())?, step: step.parse().map_err(|_| wrong())? })
    }
}

/// What becomes of the samples left over when the batch size does not divide the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tail {
    /// The last batch is shorter (PyTorch's `drop_last=False`).
    #[default]
    Short,
    /// They are left out of the epoch (PyTorch's `drop_last=True`).
    Drop,
    /// The last batch is filled up with the epoch's first samples, marked as padding.
    Pad,
}

/// The rows `lo..hi` of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rows {
    /// The first row.
    pub lo: u32,
    /// One past the last row.
    pub hi: u32,
}

impl Rows {
    /// How many rows these are.
    pub const fn len(self) -> u32 {
        self.hi - self.lo
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.lo >= self.hi
    }
}

impl fmt::Display for Rows {
    /// Writes `rows 0..16`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rows {}..{}", self.lo, self.hi)
    }
}

/// How far one epoch of a stream reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Samples the sampler yields in an epoch.
    pub samples: u64,
    /// Rows of a full batch.
    pub batch_size: u32,
    /// What becomes of the rest.
    pub tail: Tail,
}

impl Extent {
    /// The batches of one epoch.
    pub fn steps(&self) -> u64 {
        let batch_size = u64::from(self.batch_size);
        match self.tail {
            Tail::Drop => self.samples / batch_size,
            Tail::Short | Tail::Pad => self.samples.div_ceil(batch_size),
        }
    }

    /// The samples that an epoch delivers, padding not counted.
    pub fn samples_delivered(&self) -> u64 {
        match self.tail {
            Tail::Drop => self.steps() * u64::from(self.batch_size),
            Tail::Short | Tail::Pad => self.samples,
        }
    }

    /// The rows of batch `step`, padding included.
    pub fn rows(&self, step: u64) -> u32 {
        match self.tail {
            Tail::Pad | Tail::Drop => self.batch_size,
            Tail::Short => self.rows_of_samples(step),
        }
    }

    /// The rows of batch `step` that only fill it up; they stand at its end.
    pub fn padding(&self, step: u64) -> u32 {
        self.rows(step) - self.rows_of_samples(step).min(self.rows(step))
    }

    /// The position after `position`.
    pub fn next(&self, position: Position) -> Position {
        if position.step + 1 < self.steps() {
            Position { epoch: position.epoch, step: position.step + 1 }
        } else {
            Position { epoch: position.epoch + 1, step: 0 }
        }
    }

    /// How many batches there are from `from` on and before `to`; none when that is no later.
    pub fn distance(&self, from: Position, to: Position) -> u128 {
        let place =
            |position: Position| u128::from(position.epoch) * u128::from(self.steps()) + u128::from(position.step);
        place(to).saturating_sub(place(from))
    }

    fn rows_of_samples(&self, step: u64) -> u32 {
        let before = step.saturating_mul(u64::from(self.batch_size));
        let rows = self.samples.saturating_sub(before).min(u64::from(self.batch_size));
        u32::try_from(rows).expect("rows are at most the batch size, a u32")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_decides_steps_and_rows() {
        let extent = |tail| Extent { samples: 10, batch_size: 4, tail };
        let shape = |tail| {
            let extent = extent(tail);
            let rows: Vec<_> = (0..extent.steps()).map(|step| (extent.rows(step), extent.padding(step))).collect();
            (rows, extent.samples_delivered())
        };
        assert_eq!(shape(Tail::Short), (vec![(4, 0), (4, 0), (2, 0)], 10));
        assert_eq!(shape(Tail::Drop), (vec![(4, 0), (4, 0)], 8));
        assert_eq!(shape(Tail::Pad), (vec![(4, 0), (4, 0), (4, 2)], 10));
    }

    #[test]
    fn after_the_last_step_comes_the_next_epoch() {
        let extent = Extent { samples: 10, batch_size: 4, tail: Tail::Short };
        assert_eq!(extent.next(Position { epoch: 3, step: 1 }), Position { epoch: 3, step: 2 });
        assert_eq!(extent.next(Position { epoch: 3, step: 2 }), Position { epoch: 4, step: 0 });
    }

    #[test]
    fn a_distance_counts_batches_over_the_ends_of_epochs() {
        let extent = Extent { samples: 10, batch_size: 4, tail: Tail::Short };
        let (early, late) = (Position { epoch: 1, step: 2 }, Position { epoch: 3, step: 1 });
        assert_eq!((extent.distance(early, late), extent.distance(late, early)), (5, 0));
    }

    #[test]
    fn a_position_is_read_as_epoch_and_step() {
        assert_eq!("2:17".parse::<Position>().ok(), Some(Position { epoch: 2, step: 17 }));
        for wrong in ["", "2", "2:", ":3", "a:b", "1:2:3", "-1:0"] {
            assert!(wrong.parse::<Position>().is_err(), "{wrong:?} was read as a position");
        }
    }
}
