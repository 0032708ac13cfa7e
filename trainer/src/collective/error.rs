//! Why ranks do not come together, or part.

use std::io;
use std::path::PathBuf;

use batchmill_protocol::fd::WireError;
use batchmill_protocol::slab::{LayoutError, SlabError, size};
use thiserror::Error;

/// Why ranks do not come together, or part.
#[derive(Debug, Error)]
pub enum CollectiveError {
    /// The system does not let them meet.
    #[error("{doing} {}", path.display())]
    Meet {
        /// What was being done, such as `listen for the other ranks at`.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The place to meet has too long a name.
    #[error(
        "meet the other ranks at {}: that is {over} bytes too long for a socket: set XDG_RUNTIME_DIR to a shorter folder",
        path.display()
    )]
    TooLong {
        /// Where.
        path: PathBuf,
        /// By how many bytes.
        over: usize,
    },
    /// The place to meet is another user's.
    #[error(
        "meet the other ranks in {}: it is not this user's folder: set XDG_RUNTIME_DIR to one that is",
        folder.display()
    )]
    Foreign {
        /// Where.
        folder: PathBuf,
    },
    /// Somebody did not come.
    #[error(
        "{} not come for {limit_s} s: start all ranks with the same --out, --group and --world, or wait longer with --rank-limit",
        told_ranks(ranks, *world)
    )]
    Missing {
        /// Who.
        ranks: Vec<u32>,
        /// Of how many.
        world: u32,
        /// How long they were waited for.
        limit_s: u32,
    },
    /// Two say that they are the same.
    #[error("two trainers say that they are rank {rank} of {world}: give each its own --rank")]
    Twice {
        /// Which.
        rank: u32,
        /// Of how many.
        world: u32,
    },
    /// The rank was started otherwise.
    #[error("rank {rank} was started with {what} {theirs}, rank 0 with {ours}: start all ranks alike")]
    OtherPlan {
        /// Which.
        rank: u32,
        /// What differs.
        what: String,
        /// What the rank has.
        theirs: String,
        /// What rank 0 has.
        ours: String,
    },
    /// Rank 0 says what went wrong among others.
    #[error("{reason}")]
    Refused {
        /// Its words.
        reason: String,
    },
    /// A rank has ended.
    #[error("rank {rank} of {world} has gone")]
    Gone {
        /// Which.
        rank: u32,
        /// Of how many.
        world: u32,
    },
    /// A rank does not answer, though it lives.
    #[error("rank {rank} of {world} has said nothing for {limit_s} s")]
    Silent {
        /// Which.
        rank: u32,
        /// Of how many.
        world: u32,
        /// How long it was waited for.
        limit_s: u64,
    },
    /// A rank says what cannot be understood.
    #[error("talk to rank {rank}")]
    Wire {
        /// Which.
        rank: u32,
        /// What is wrong with it.
        source: WireError,
    },
    /// A rank is elsewhere in the training.
    #[error("rank {rank} brings {theirs} {what}, this one {ours}: run all ranks from one build")]
    Uneven {
        /// Which.
        rank: u32,
        /// Of what.
        what: &'static str,
        /// What it brings.
        theirs: u64,
        /// What this one brings.
        ours: u64,
    },
    /// MPI can be started once in a process.
    #[error("start MPI: this process has used it before")]
    MpiInUse,
    /// MPI has started another number of ranks.
    #[error(
        "MPI has started {theirs} ranks, but --world is {ours}: leave --world out, or start as many with mpirun -n {ours}"
    )]
    OtherMpiWorld {
        /// How many MPI knows.
        theirs: u64,
        /// How many this trainer was told of.
        ours: u64,
    },
    /// There is no room for the numbers.
    #[error(
        "reserve {} for the gradients of {world} ranks: {} is available: train with fewer ranks",
        size(*needed_bytes), size(*available_bytes)
    )]
    NoMemory {
        /// Of how many.
        world: u32,
        /// What they need.
        needed_bytes: u64,
        /// What there is.
        available_bytes: u64,
    },
    /// The kernel refuses shared memory.
    #[error(transparent)]
    Slab(SlabError),
    /// There are more numbers than memory has addresses.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

fn told_ranks(ranks: &[u32], world: u32) -> String {
    match ranks {
        [rank] => format!("rank {rank} of {world} has"),
        _ => {
            let ranks: Vec<_> = ranks.iter().map(ToString::to_string).collect();
            format!("ranks {} of {world} have", ranks.join(", "))
        }
    }
}

impl CollectiveError {
    /// Whether another rank is not there, or has said what is wrong.
    pub fn is_of_another(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::Refused { .. } | Self::Gone { .. } | Self::Silent { .. })
    }

    /// Of shared memory that could not be had.
    pub(super) fn of_slab(error: SlabError, world: u32) -> Self {
        match error {
            SlabError::NoMemory { needed_bytes, available_bytes } => {
                Self::NoMemory { world, needed_bytes, available_bytes }
            }
            other => Self::Slab(other),
        }
    }

    /// Of a line to `rank`, whose time to say something was `limit_s`.
    pub(super) fn of_wire(error: WireError, rank: u32, world: u32, limit_s: u64) -> Self {
        match error {
            WireError::Io(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Self::Silent { rank, world, limit_s }
            }
            WireError::Io(_) => Self::Gone { rank, world },
            source @ WireError::Frame(_) => Self::Wire { rank, source },
        }
    }
}
