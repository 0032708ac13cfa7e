//! How the ranks of one training add up what each of them computed.
//!
//! All ranks call the same things in the same order: [`gather`](Collective::gather) tells everybody's words to everybody,
//! [`sum`](Collective::sum) adds numbers place by place. A sum is made in the order of ranks, each place of it by one rank
//! alone, so all ranks have the same bits, in every run.
//!
//! | way | where | needs |
//! |---|---|---|
//! | [`Shared`] | ranks of one machine: numbers in shared memory, words over a Unix socket of rank 0 | nothing |
//! | `Mpi` | ranks that `mpirun` started, also on several machines | the feature `mpi`, Open MPI, libclang to build |
//!
//! On a GPU the numbers go over the host: burn 0.22 keeps its NCCL communicators to one process, and hands out no pointer
//! to a tensor that another library could take.

mod board;
mod error;
mod meeting;
#[cfg(feature = "mpi")]
mod mpi;
mod shared;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use batchmill_protocol::identity::Identity;
use batchmill_protocol::share::Shard;

pub use self::error::CollectiveError;
#[cfg(feature = "mpi")]
pub use self::mpi::Mpi;
pub use self::shared::Shared;

/// A rank's tie to the others.
#[derive(Debug)]
pub enum Collective {
    /// Over shared memory.
    Shared(Shared),
    /// Over MPI.
    #[cfg(feature = "mpi")]
    Mpi(Mpi),
}

/// Which of a group's trainings its ranks meet for.
#[derive(Clone, Copy, Debug)]
pub struct Joint<'a> {
    /// The folder of its run, without links.
    pub run: &'a Path,
    /// The process that started its ranks, if one did.
    pub launcher: Option<i32>,
    /// For how long a rank may wait for batches, and say nothing meanwhile, besides what a loader may take.
    pub wait_limit: Duration,
}

impl Collective {
    /// Meets the other ranks of the group. What each was started with, `plan`, must be the same.
    ///
    /// # Errors
    /// [`CollectiveError`] when a rank does not come in time, comes twice, or was started with something else.
    pub fn join(shard: &Shard, training: &Joint<'_>, plan: &Identity) -> Result<Self, CollectiveError> {
        #[cfg(feature = "mpi")]
        if training.launcher.is_none() && mpi::is_launcher() {
            return Mpi::join(shard, plan).map(Self::Mpi);
        }
        Shared::join(shard, training, plan).map(Self::Shared)
    }

    /// Which rank this is, from 0.
    pub fn rank(&self) -> u32 {
        match self {
            Self::Shared(shared) => shared.rank(),
            #[cfg(feature = "mpi")]
            Self::Mpi(mpi) => mpi.rank(),
        }
    }

    /// How many ranks there are.
    pub fn world(&self) -> u32 {
        match self {
            Self::Shared(shared) => shared.world(),
            #[cfg(feature = "mpi")]
            Self::Mpi(mpi) => mpi.world(),
        }
    }

    /// Ends it in order, when all ranks do: MPI wants to know. One that is dropped has failed.
    pub fn finish(self) {
        match self {
            Self::Shared(shared) => drop(shared),
            #[cfg(feature = "mpi")]
            Self::Mpi(mpi) => mpi.finish(),
        }
    }

    /// Tells `words` to all ranks, each as many, and gives those of every rank, in the order of ranks.
    ///
    /// # Errors
    /// [`CollectiveError::Gone`] or [`CollectiveError::Silent`] with the rank that does not answer.
    pub fn gather(&mut self, words: &[u64]) -> Result<Vec<Vec<u64>>, CollectiveError> {
        match self {
            Self::Shared(shared) => shared.gather(words),
            #[cfg(feature = "mpi")]
            Self::Mpi(mpi) => mpi.gather(words),
        }
    }

    /// Makes `numbers` their sum over all ranks, place by place, added in the order of ranks: the same bits on all.
    ///
    /// # Errors
    /// As [`gather`](Self::gather), and when there is no memory for it, or ranks bring different counts.
    pub fn sum(&mut self, numbers: &mut [f32]) -> Result<(), CollectiveError> {
        match self {
            Self::Shared(shared) => shared.sum(numbers),
            #[cfg(feature = "mpi")]
            Self::Mpi(mpi) => mpi.sum(numbers),
        }
    }
}

/// Numbers in each of the pieces that a sum is made in, one by each rank.
fn piece_numbers(numbers: usize, world: u32) -> usize {
    let world = usize::try_from(world).unwrap_or(usize::MAX);
    numbers.div_ceil(world.max(1)).max(1)
}

/// What of `plan` is another on `rank` than on rank 0.
fn check_plan(rank: u32, plan: &Identity, ours: &Identity) -> Result<(), CollectiveError> {
    let differs = plan.0.iter().zip(&ours.0).find(|(theirs, ours)| theirs != ours);
    match differs {
        Some((theirs, ours)) => Err(CollectiveError::OtherPlan {
            rank,
            what: theirs.name.clone(),
            theirs: theirs.value.clone(),
            ours: ours.value.clone(),
        }),
        None => Ok(()),
    }
}
