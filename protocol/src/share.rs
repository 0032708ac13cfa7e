//! How a trainer shares a stream with others: not at all, all rows with all, or each its rows.

use std::env;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::position::{Extent, Rows};

/// How long the ranks of a group wait for one that is missing where nobody says.
pub const RANK_LIMIT_S: u32 = 60;

/// The most ranks of a group.
const WORLD_MAX: u32 = 1024;

/// The longest name of a group: room for any path.
const GROUP_BYTES_MAX: usize = 4096;

/// The group of ranks where nobody says.
const GROUP: &str = "default";

/// The variables in which launchers tell a process its rank and how many there are: PyTorch's `torchrun`, Open MPI's
/// `mpirun`, Slurm's `srun`.
const LAUNCHERS: [(&str, &str); 3] =
    [("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS"), ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE")];

/// How a member shares a stream with others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Share {
    /// Not at all: batches are made for it alone.
    #[default]
    Private,
    /// It reads the very batches that all others of this kind read, made once.
    Broadcast {
        /// What becomes of it when it lags behind the others.
        lag: Lag,
    },
    /// It reads its rows of every batch, and the other ranks of its group read theirs.
    Sharded(Shard),
}

/// What becomes of a member for which the others must wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lag {
    /// They wait.
    Wait,
    /// It reads on by itself, from batches made anew, until it has caught up.
    #[default]
    Split,
    /// It is ended.
    Drop,
}

/// Which part of every batch a member reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// Whose ranks these are: a stream may have several such groups.
    pub group: String,
    /// Which of them, from 0.
    pub rank: u32,
    /// How many there are.
    pub world: u32,
    /// Seconds that the group waits for a rank that is missing.
    pub limit_s: u32,
}

/// Why what was asked for cannot be.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ShareError {
    /// Another word.
    #[error("{word:?} is not {right}")]
    Word {
        /// What was given.
        word: String,
        /// What could have been.
        right: &'static str,
    },
    /// It means nothing here.
    #[error("--{flag} means nothing without --share {share}")]
    Idle {
        /// The flag.
        flag: &'static str,
        /// With which it would.
        share: &'static str,
    },
    /// Nobody says which rank.
    #[error(
        "--share sharded needs a rank and how many there are: give --rank and --world, or start with a launcher that \
         sets {} and {}",
        LAUNCHERS[0].0, LAUNCHERS[0].1
    )]
    Unranked,
    /// The launcher says another number.
    #[error("--world is {typed}, but {variable} says {told}: give the same, or leave --world out")]
    OtherWorld {
        /// What was typed.
        typed: u32,
        /// Who says another number.
        variable: &'static str,
        /// Which.
        told: u32,
    },
    /// What a launcher says is no number.
    #[error("{variable} is {text:?}, not a number from 0 on: unset it, or give --rank and --world")]
    Variable {
        /// Where.
        variable: &'static str,
        /// What it says.
        text: String,
    },
    /// There is no such rank.
    #[error("rank {rank} of {world} does not exist: ranks count from 0, so the last one is {}", world.saturating_sub(1))]
    Rank {
        /// Which.
        rank: u32,
        /// Of how many.
        world: u32,
    },
}

/// What a command line says about sharing.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// `--share`.
    pub share: Option<Kind>,
    /// `--lag`.
    pub lag: Option<Lag>,
    /// `--rank`.
    pub rank: Option<u32>,
    /// `--world`.
    pub world: Option<u32>,
    /// `--group`.
    pub group: Option<String>,
    /// `--rank-limit`, in seconds.
    pub limit_s: Option<u32>,
}

/// The word of `--share`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Share::Private`].
    Private,
    /// [`Share::Broadcast`].
    Broadcast,
    /// [`Share::Sharded`].
    Sharded,
}

impl FromStr for Kind {
    type Err = ShareError;

    fn from_str(word: &str) -> Result<Self, ShareError> {
        match word {
            "private" => Ok(Self::Private),
            "broadcast" => Ok(Self::Broadcast),
            "sharded" => Ok(Self::Sharded),
            _ => Err(ShareError::Word { word: word.to_owned(), right: "`private`, `broadcast` or `sharded`" }),
        }
    }
}

impl FromStr for Lag {
    type Err = ShareError;

    fn from_str(word: &str) -> Result<Self, ShareError> {
        match word {
            "wait" => Ok(Self::Wait),
            "split" => Ok(Self::Split),
            "drop" => Ok(Self::Drop),
            _ => Err(ShareError::Word { word: word.to_owned(), right: "`wait`, `split` or `drop`" }),
        }
    }
}

impl Wish {
    /// What is wished for; what is not said is as the launcher's variables say, or as usual.
    ///
    /// # Errors
    /// [`ShareError`] when it makes no sense.
    pub fn share(&self) -> Result<Share, ShareError> {
        let idle = |flag, share| Err(ShareError::Idle { flag, share });
        let kind = self.share.unwrap_or(Kind::Private);
        match self {
            Self { lag: Some(_), .. } if kind != Kind::Broadcast => return idle("lag", "broadcast"),
            Self { rank: Some(_), .. } if kind != Kind::Sharded => return idle("rank", "sharded"),
            Self { world: Some(_), .. } if kind != Kind::Sharded => return idle("world", "sharded"),
            Self { group: Some(_), .. } if kind != Kind::Sharded => return idle("group", "sharded"),
            Self { limit_s: Some(_), .. } if kind != Kind::Sharded => return idle("rank-limit", "sharded"),
            _ => {}
        }
        match kind {
            Kind::Private => Ok(Share::Private),
            Kind::Broadcast => Ok(Share::Broadcast { lag: self.lag.unwrap_or_default() }),
            Kind::Sharded => {
                let told = told_rank(|variable| env::var(variable).ok())?;
                self.shard(told)?.ok_or(ShareError::Unranked).map(Share::Sharded)
            }
        }
    }

    /// The part of every batch that is wished for, if it says one or a launcher has told one.
    ///
    /// # Errors
    /// [`ShareError`] when there is no such rank, or the two do not agree.
    pub fn shard(&self, told: Option<Told>) -> Result<Option<Shard>, ShareError> {
        let (rank, world) = match (self.rank, self.world, told) {
            (Some(rank), Some(world), _) => (rank, world),
            (None, Some(typed), Some(Told { world, variable, .. })) if typed != world => {
                return Err(ShareError::OtherWorld { typed, variable, told: world });
            }
            (rank, _, Some(told)) => (rank.unwrap_or(told.rank), told.world),
            _ => return Ok(None),
        };
        if rank >= world {
            return Err(ShareError::Rank { rank, world });
        }
        let group = self.group.clone().unwrap_or_else(|| GROUP.to_owned());
        Ok(Some(Shard { group, rank, world, limit_s: self.limit_s.unwrap_or(RANK_LIMIT_S) }))
    }
}

/// What a launcher tells a process that it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its rank.
    pub rank: u32,
    /// How many there are.
    pub world: u32,
    /// The variable that says how many.
    variable: &'static str,
}

/// What the variables of a launcher say, if there is one: of torchrun's, Open MPI's and Slurm's the first that are set.
///
/// # Errors
/// [`ShareError::Variable`] when they are no numbers.
pub fn told_rank(value: impl Fn(&str) -> Option<String>) -> Result<Option<Told>, ShareError> {
    let number = |variable, text: String| text.parse().map_err(|_| ShareError::Variable { variable, text });
    for (rank, world) in LAUNCHERS {
        if let (Some(ranked), Some(worlds)) = (value(rank), value(world)) {
            return Ok(Some(Told { rank: number(rank, ranked)?, world: number(world, worlds)?, variable: world }));
        }
    }
    Ok(None)
}

impl Shard {
    /// Its rows of a batch of `rows`: `rank * rows / world` to `(rank + 1) * rows / world`.
    pub fn rows(&self, rows: u32) -> Rows {
        let share = |rank: u32| {
            let bound = u64::from(rank) * u64::from(rows) / u64::from(self.world.max(1));
            u32::try_from(bound).expect("no more than all rows")
        };
        Rows { lo: share(self.rank), hi: share(self.rank + 1) }
    }

    /// Checks that there is such a rank, and that every batch of a stream can be shared out equally.
    ///
    /// # Errors
    /// One sentence fragment with the remedy.
    pub fn check(&self, extent: &Extent) -> Result<(), String> {
        let Self { rank, world, .. } = *self;
        if rank >= world {
            return Err(ShareError::Rank { rank, world }.to_string());
        }
        if world > WORLD_MAX {
            return Err(format!("there may be {WORLD_MAX} ranks, not {world}"));
        }
        if self.group.len() > GROUP_BYTES_MAX || self.group.chars().any(char::is_control) {
            return Err(format!("a group's name has at most {GROUP_BYTES_MAX} bytes and no control characters"));
        }
        let batch_size = extent.batch_size;
        if !batch_size.is_multiple_of(world) {
            let below = batch_size - batch_size % world;
            let near = if below == 0 { world } else { below };
            return Err(format!(
                "{world} ranks cannot share batches of {batch_size} rows equally: let batch_size be {near}, or another \
                 multiple of {world}"
            ));
        }
        let last = extent.rows(extent.steps() - 1);
        if !last.is_multiple_of(world) {
            return Err(format!(
                "{world} ranks cannot share the last batch of an epoch equally, it has {last} rows: let tail be \"drop\" \
                 or \"pad\""
            ));
        }
        Ok(())
    }
}

impl fmt::Display for Share {
    /// Writes `broadcast, split` or `rank 2 of 4`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private => f.write_str("private"),
            Self::Broadcast { lag: Lag::Wait } => f.write_str("broadcast, wait"),
            Self::Broadcast { lag: Lag::Split } => f.write_str("broadcast, split"),
            Self::Broadcast { lag: Lag::Drop } => f.write_str("broadcast, drop"),
            Self::Sharded(Shard { group, rank, world, .. }) if group == GROUP => write!(f, "rank {rank} of {world}"),
            Self::Sharded(Shard { group, rank, world, .. }) => write!(f, "rank {rank} of {world} of {group}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Tail;

    fn shard(rank: u32, world: u32) -> Shard {
        Shard { group: GROUP.to_owned(), rank, world, limit_s: RANK_LIMIT_S }
    }

    #[test]
    fn shares_of_a_batch_are_disjoint_equal_and_all_of_it() {
        for (rows, world) in [(8, 1), (8, 2), (8, 4), (60, 5), (u32::MAX, 3)] {
            let shares: Vec<Rows> = (0..world).map(|rank| shard(rank, world).rows(rows)).collect();
            assert_eq!((shares[0].lo, shares[shares.len() - 1].hi), (0, rows));
            assert!(shares.windows(2).all(|pair| pair[0].hi == pair[1].lo));
            assert!(shares.iter().all(|share| share.len() == rows / world));
        }
    }

    #[test]
    fn a_stream_that_cannot_be_shared_equally_is_refused_with_what_to_change() {
        let check = |samples, batch_size, tail, rank, world| {
            shard(rank, world).check(&Extent { samples, batch_size, tail }).expect_err("it is refused")
        };
        assert_eq!(
            check(100, 10, Tail::Drop, 0, 4),
            "4 ranks cannot share batches of 10 rows equally: let batch_size be 8, or another multiple of 4"
        );
        assert_eq!(
            check(21, 8, Tail::Short, 0, 4),
            "4 ranks cannot share the last batch of an epoch equally, it has 5 rows: let tail be \"drop\" or \"pad\""
        );
        assert_eq!(
            check(16, 8, Tail::Short, 4, 4),
            "rank 4 of 4 does not exist: ranks count from 0, so the last one is 3"
        );
        for (samples, tail) in [(21, Tail::Drop), (21, Tail::Pad), (20, Tail::Short)] {
            assert_eq!(shard(3, 4).check(&Extent { samples, batch_size: 8, tail }), Ok(()));
        }
    }

    #[test]
    fn a_rank_is_what_was_typed_or_what_the_launcher_tells() {
        let told = |pairs: &'static [(&'static str, &'static str)]| {
            told_rank(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        let ranked = |wish: &Wish, pairs| wish.shard(told(pairs)?).map(|shard| shard.map(|is| (is.rank, is.world)));
        let typed = Wish { rank: Some(1), world: Some(2), ..Wish::default() };
        assert_eq!(ranked(&typed, &[]), Ok(Some((1, 2))));
        assert_eq!(ranked(&typed, &[("RANK", "0"), ("WORLD_SIZE", "4")]), Ok(Some((1, 2))), "what was typed wins");
        let silent = Wish::default();
        assert_eq!(ranked(&silent, &[]), Ok(None));
        assert_eq!(ranked(&silent, &[("RANK", "3"), ("WORLD_SIZE", "4")]), Ok(Some((3, 4))));
        assert_eq!(ranked(&silent, &[("SLURM_PROCID", "1"), ("SLURM_NTASKS", "2")]), Ok(Some((1, 2))));
        let mpi: &[_] = &[("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "2")];
        assert_eq!(ranked(&silent, mpi), Ok(Some((0, 2))));
        let error = |wish: &Wish, pairs| ranked(wish, pairs).expect_err("it is refused").to_string();
        assert_eq!(
            error(&Wish { world: Some(4), ..Wish::default() }, mpi),
            "--world is 4, but OMPI_COMM_WORLD_SIZE says 2: give the same, or leave --world out"
        );
        assert_eq!(
            error(&silent, &[("RANK", "one"), ("WORLD_SIZE", "2")]),
            "RANK is \"one\", not a number from 0 on: unset it, or give --rank and --world"
        );
        assert_eq!(
            error(&silent, &[("RANK", "2"), ("WORLD_SIZE", "2")]),
            "rank 2 of 2 does not exist: ranks count from 0, so the last one is 1"
        );
    }

    #[test]
    fn a_flag_without_its_kind_is_refused() {
        let error = |wish: Wish| wish.share().expect_err("it is refused").to_string();
        assert_eq!(
            error(Wish { lag: Some(Lag::Wait), ..Wish::default() }),
            "--lag means nothing without --share broadcast"
        );
        assert_eq!(error(Wish { rank: Some(0), ..Wish::default() }), "--rank means nothing without --share sharded");
        assert_eq!(
            "brodcast".parse::<Kind>().expect_err("a slip").to_string(),
            "\"brodcast\" is not `private`, `broadcast` or `sharded`"
        );
    }
}
