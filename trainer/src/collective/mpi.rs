//! Ranks that `mpirun` or `srun` started: numbers and words over MPI.
//!
//! MPI has no deadlines, and promises equal bits on all ranks for no reduction: each rank adds one piece of the numbers, in
//! the order of ranks, as in shared memory. A rank that ends without [`finish`](Mpi::finish) has failed: `mpirun` then ends
//! the others, which wait for it and could not find out.
//!
//! Open MPI lets a rank that waits spin on a core of its own. Where ranks are more than cores, or the cores are wanted for
//! workers, `mpirun --mca mpi_yield_when_idle 1` lets others have them.

use std::env;
use std::fmt;
use std::mem;

use batchmill_protocol::identity::Identity;
use batchmill_protocol::share::Shard;
use mpi::Threading;
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator as _, CommunicatorCollectives as _};

use super::{CollectiveError, check_plan, piece_numbers};

/// Whether this process was started by a launcher that speaks MPI.
pub(super) fn is_launcher() -> bool {
    ["OMPI_COMM_WORLD_RANK", "PMIX_RANK"].iter().any(|variable| env::var_os(variable).is_some())
}

/// A rank's tie to all others that its launcher started.
pub struct Mpi {
    rank: u32,
    world: u32,
    communicator: SimpleCommunicator,
    /// Taken by [`finish`](Self::finish).
    universe: Option<Universe>,
}

impl fmt::Debug for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mpi").field("rank", &self.rank).field("world", &self.world).finish_non_exhaustive()
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        // To finalize would wait for ranks that wait for this one.
        mem::forget(self.universe.take());
    }
}

impl Mpi {
    /// Joins all processes of the launcher.
    ///
    /// # Errors
    /// [`CollectiveError`].
    pub fn join(shard: &Shard, plan: &Identity) -> Result<Self, CollectiveError> {
        let Shard { rank, world, .. } = *shard;
        // Batches come on a thread of their own, which has nothing to do with this.
        let (universe, _) = mpi::initialize_with_threading(Threading::Funneled).ok_or(CollectiveError::MpiInUse)?;
        let communicator = universe.world();
        let mut joined = Self { rank, world, communicator, universe: Some(universe) };
        let [theirs, ours] = [i64::from(joined.communicator.size()).cast_unsigned(), world.into()];
        if theirs != ours {
            return Err(CollectiveError::OtherMpiWorld { theirs, ours });
        }
        for (place, told) in (0_u64..).zip(joined.gather(&[rank.into()])?) {
            if told != [place] {
                return Err(CollectiveError::Twice { rank, world });
            }
        }
        joined.check_plans(plan)?;
        Ok(joined)
    }

    /// Which rank this is, from 0.
    pub fn rank(&self) -> u32 {
        self.rank
    }

    /// How many ranks there are.
    pub fn world(&self) -> u32 {
        self.world
    }

    /// Ends it in order: all ranks do.
    pub fn finish(mut self) {
        drop(self.universe.take());
    }

    /// As [`super::Collective::gather`].
    ///
    /// # Errors
    /// None: MPI ends the process.
    pub fn gather(&mut self, words: &[u64]) -> Result<Vec<Vec<u64>>, CollectiveError> {
        let ranks = usize::try_from(self.world).unwrap_or(usize::MAX);
        let mut all = vec![0; words.len() * ranks];
        self.communicator.all_gather_into(words, &mut all[..]);
        let of_rank = |rank: usize| all[rank * words.len()..(rank + 1) * words.len()].to_vec();
        Ok((0..ranks).map(of_rank).collect())
    }

    /// As [`super::Collective::sum`].
    ///
    /// # Errors
    /// None: MPI ends the process.
    pub fn sum(&mut self, numbers: &mut [f32]) -> Result<(), CollectiveError> {
        let ranks = usize::try_from(self.world).unwrap_or(usize::MAX);
        let piece = piece_numbers(numbers.len(), self.world);
        let mut own = numbers.to_vec();
        own.resize(piece * ranks, 0.0);
        // This rank's piece of every rank's numbers, in the order of ranks.
        let mut pieces = vec![0.0_f32; own.len()];
        self.communicator.all_to_all_into(&own[..], &mut pieces[..]);
        let (sum, others) = pieces.split_at_mut(piece);
        for other in others.chunks(piece) {
            sum.iter_mut().zip(other).for_each(|(sum, other)| *sum += *other);
        }
        self.communicator.all_gather_into(&*sum, &mut own[..]);
        numbers.copy_from_slice(&own[..numbers.len()]);
        Ok(())
    }

    /// Checks that all were started alike.
    fn check_plans(&mut self, plan: &Identity) -> Result<(), CollectiveError> {
        let text = serde_json::to_vec(plan).expect("strings have a JSON form");
        let words = |bytes: &[u8]| -> Vec<u64> { bytes.iter().copied().map(u64::from).collect() };
        let lengths = self.gather(&[u64::try_from(text.len()).unwrap_or(u64::MAX)])?;
        let longest = lengths.iter().flatten().max().and_then(|length| usize::try_from(*length).ok()).unwrap_or(0);
        let mut padded = words(&text);
        // JSON does not mind.
        padded.resize(longest, u64::from(b' '));
        let plans: Vec<Option<Identity>> = self.gather(&padded)?.iter().map(|words| parse(words)).collect();
        for (rank, theirs) in (0..).zip(&plans) {
            if let (Some(theirs), Some(Some(ours))) = (theirs, plans.first()) {
                check_plan(rank, theirs, ours)?;
            }
        }
        Ok(())
    }
}

fn parse(words: &[u64]) -> Option<Identity> {
    let bytes: Option<Vec<u8>> = words.iter().map(|word| u8::try_from(*word).ok()).collect();
    serde_json::from_slice(&bytes?).ok()
}
