//! How the trainers under torture share their stream, and where each begins to read it.

use batchmill_datasets::random::Rng;
use batchmill_protocol::share::{Lag, Shard, Share};
use clap::ValueEnum;

use super::run::Run;
use super::trainer::{EPOCHS, Trainer};

/// Seconds for which the ranks wait for one that is missing: longer than any is away.
const RANK_LIMIT_S: u32 = 1_000;

/// Draws where the ranks of a group begin, apart from all else that is drawn.
const ROUNDS: u64 = u64::MAX - 1;

/// How the trainers share the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mix {
    /// Four, each by itself.
    Private,
    /// Four that read the same batches, of all three ways to lag.
    Broadcast,
    /// Four ranks of one group.
    Sharded,
    /// Two that read the same batches, two ranks of a group, and one by itself.
    #[default]
    Mixed,
}

impl Mix {
    /// How each trainer shares.
    pub(super) fn shares(self) -> Vec<Share> {
        let broadcast = |lag| Share::Broadcast { lag };
        let ranks = |world| (0..world).map(move |rank| rank_of(rank, world));
        match self {
            Self::Private => vec![Share::Private; 4],
            Self::Broadcast => [Lag::Split, Lag::Wait, Lag::Drop, Lag::Split].map(broadcast).into(),
            Self::Sharded => ranks(4).collect(),
            Self::Mixed => {
                [Lag::Split, Lag::Drop].map(broadcast).into_iter().chain(ranks(2)).chain([Share::Private]).collect()
            }
        }
    }

    /// What becomes of the last batch: ranks cannot share one that is short.
    pub(super) fn tail(self) -> &'static str {
        match self {
            Self::Private | Self::Broadcast => "short",
            Self::Sharded | Self::Mixed => "pad",
        }
    }
}

fn rank_of(rank: u32, world: u32) -> Share {
    Share::Sharded(Shard { group: "ranks".to_owned(), rank, world, limit_s: RANK_LIMIT_S })
}

impl Run {
    /// Where a trainer begins anew: anywhere in the first half of what it may read; mostly where another stands that
    /// reads the same batches; all ranks of a group at one place.
    pub(super) fn first_place(&mut self, number: usize) -> u64 {
        let half = self.extent.steps() * EPOCHS / 2;
        let trainer = &self.trainers[number];
        match trainer.share {
            Share::Private => self.choice.below(half),
            Share::Broadcast { .. } => {
                let with_it =
                    |other: &&Trainer| other.number != number && matches!(other.share, Share::Broadcast { .. });
                let others = self.trainers.iter().filter(with_it).map(|other| other.sequence.resume());
                let hindmost = others.min().filter(|place| *place < half);
                let (joins, drawn) = (self.choice.below(4) > 0, self.choice.below(half));
                hindmost.filter(|_| joins).unwrap_or(drawn)
            }
            Share::Sharded(_) => Rng::new(self.options.seed, ROUNDS, trainer.rounds, 0, 0).below(half),
        }
    }
}
