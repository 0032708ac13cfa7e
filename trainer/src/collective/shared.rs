//! Ranks of one machine: numbers in shared memory, words over a Unix socket, with rank 0 in the middle.
//!
//! A word goes from each rank to rank 0, and all words back to each: whoever has them knows that every rank came as far.
//! A rank that ends is an end-of-file at rank 0, which names it to the others.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use batchmill_protocol::fd::{self, WireError};
use batchmill_protocol::identity::Identity;
use batchmill_protocol::share::Shard;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::board::Board;
use super::meeting::{self, Links};
use super::{CollectiveError, Joint};

/// How long a rank that lives may say nothing, at the least. As long as it waits for a batch: first of all it says itself
/// what is missing. And rank 0 may be writing a checkpoint to a slow disk. Whoever ends is noticed in the next round.
const SILENCE_LIMIT: Duration = Duration::from_secs(600);

/// So much longer is it given than it waits for anything.
const MARGIN: Duration = Duration::from_secs(60);

/// The time that silence is counted in: a pause of all ranks, as by Ctrl-Z, is one such slice at the most.
const SLICE: Duration = Duration::from_secs(1);

/// So much longer the others wait for rank 0, which then has the time to say whom it waited for.
const NAMING: Duration = Duration::from_secs(30);

/// What rank 0 hears.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FromRank {
    /// First of all.
    Hello { rank: u32, plan: Identity },
    /// In every round.
    Words(Vec<u64>),
}

/// What rank 0 says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ToRank {
    /// All are there.
    Welcome,
    /// They do not come together.
    Refused { reason: String },
    /// Those of all ranks, in order.
    Words(Vec<Vec<u64>>),
    /// Shared memory, whose descriptor comes along.
    Board,
    /// This rank has ended.
    Gone { rank: u32 },
    /// This rank has said nothing for so long.
    Silent { rank: u32, limit_s: u64 },
}

/// A rank's tie to the others of its machine.
#[derive(Debug)]
pub struct Shared {
    rank: u32,
    world: u32,
    links: Links,
    board: Option<Board>,
    silence_limit: Duration,
}

impl Shared {
    /// Meets the others at a socket that follows from their group and training.
    ///
    /// # Errors
    /// [`CollectiveError`].
    pub fn join(shard: &Shard, training: &Joint<'_>, plan: &Identity) -> Result<Self, CollectiveError> {
        let silence_limit = SILENCE_LIMIT.max(training.wait_limit).saturating_add(MARGIN);
        Self::join_at(&meeting::place(&shard.group, training), shard, plan, silence_limit)
    }

    /// As [`join`](Self::join), at a place that is known; whoever says nothing for `silence_limit` is given up.
    pub(super) fn join_at(
        socket: &Path,
        shard: &Shard,
        plan: &Identity,
        silence_limit: Duration,
    ) -> Result<Self, CollectiveError> {
        let links = meeting::meet(socket, shard, plan)?;
        Ok(Self { rank: shard.rank, world: shard.world, links, board: None, silence_limit })
    }

    /// Which rank this is, from 0.
    pub fn rank(&self) -> u32 {
        self.rank
    }

    /// How many ranks there are.
    pub fn world(&self) -> u32 {
        self.world
    }

    /// As [`super::Collective::gather`].
    ///
    /// # Errors
    /// [`CollectiveError`].
    pub fn gather(&mut self, words: &[u64]) -> Result<Vec<Vec<u64>>, CollectiveError> {
        match &self.links {
            Links::Ranks(links) => {
                let all = self.hear_all(links, words)?;
                self.tell(links, &ToRank::Words(all.clone()))?;
                Ok(all)
            }
            Links::Zero(link) => {
                // Where it cannot be told any more, it may have said why.
                let told = self.at_zero(fd::send(link, &FromRank::Words(words.to_vec()), None));
                let heard = self.hear_zero(link)?;
                told?;
                match heard {
                    (ToRank::Words(all), _) => Ok(all),
                    _ => Err(CollectiveError::Gone { rank: 0, world: self.world }),
                }
            }
        }
    }

    /// As [`super::Collective::sum`].
    ///
    /// # Errors
    /// [`CollectiveError`].
    pub fn sum(&mut self, numbers: &mut [f32]) -> Result<(), CollectiveError> {
        let mut board = match self.board.take() {
            Some(board) if board.numbers() == numbers.len() => board,
            _ => self.new_board(numbers.len())?,
        };
        // No rank reads these any more: to get here it went through the last round of the sum before.
        board.write(numbers);
        self.gather(&[])?;
        board.add();
        self.gather(&[])?;
        board.read(numbers);
        self.board = Some(board);
        Ok(())
    }

    /// Makes shared memory for sums of so many numbers.
    fn new_board(&mut self, numbers: usize) -> Result<Board, CollectiveError> {
        let ours = u64::try_from(numbers).unwrap_or(u64::MAX);
        let counts = self.gather(&[ours])?;
        let uneven =
            (0..).zip(counts).find_map(|(rank, count)| Some((rank, *count.first()?)).filter(|it| it.1 != ours));
        if let Some((rank, theirs)) = uneven {
            return Err(CollectiveError::Uneven { rank, what: "numbers", theirs, ours });
        }
        match &self.links {
            Links::Ranks(links) => {
                let slab = Board::create(self.world, numbers).inspect_err(|error| refuse(links, error))?;
                for (rank, link) in (1..).zip(links) {
                    let sent = fd::send(link, &ToRank::Board, Some(slab.writable()));
                    sent.map_err(|error| self.of_wire(error, rank))?;
                }
                Board::open(slab.writable(), self.rank, self.world, numbers)
            }
            Links::Zero(link) => match self.hear_zero(link)? {
                (ToRank::Board, Some(memory)) => Board::open(memory, self.rank, self.world, numbers),
                _ => Err(CollectiveError::Gone { rank: 0, world: self.world }),
            },
        }
    }

    /// The words of every rank. Whoever has ended is found while others still compute.
    fn hear_all(&self, links: &[UnixStream], words: &[u64]) -> Result<Vec<Vec<u64>>, CollectiveError> {
        let mut heard: Vec<Option<Vec<u64>>> = vec![None; links.len()];
        let mut slices = 0;
        while heard.contains(&None) {
            let silent: Vec<usize> = (0..links.len()).filter(|place| heard[*place].is_none()).collect();
            let ready = readable(silent.iter().map(|place| &links[*place]), SLICE);
            if ready.is_empty() {
                slices += 1;
                if SLICE * slices < self.silence_limit {
                    continue;
                }
                let rank = rank_at(silent[0]);
                let limit_s = self.silence_limit.as_secs();
                tell_but(links, rank, &ToRank::Silent { rank, limit_s });
                return Err(CollectiveError::Silent { rank, world: self.world, limit_s });
            }
            for place in ready.into_iter().map(|nth| silent[nth]) {
                let rank = rank_at(place);
                heard[place] = match fd::receive(&links[place]) {
                    Ok((FromRank::Words(theirs), _)) => Some(theirs),
                    Ok((FromRank::Hello { .. }, _)) => return Err(CollectiveError::Twice { rank, world: self.world }),
                    Err(error) => {
                        tell_but(links, rank, &ToRank::Gone { rank });
                        return Err(self.of_wire(error, rank));
                    }
                };
            }
        }
        let others = heard.into_iter().flatten();
        Ok(std::iter::once(words.to_vec()).chain(others).collect())
    }

    fn tell(&self, links: &[UnixStream], message: &ToRank) -> Result<(), CollectiveError> {
        for (rank, link) in (1..).zip(links) {
            if let Err(error) = fd::send(link, message, None) {
                tell_but(links, rank, &ToRank::Gone { rank });
                return Err(self.of_wire(error, rank));
            }
        }
        Ok(())
    }

    /// The next message of rank 0 that is no bad news.
    fn hear_zero(&self, link: &UnixStream) -> Result<(ToRank, Option<std::os::fd::OwnedFd>), CollectiveError> {
        let (world, limit) = (self.world, self.silence_limit.saturating_add(NAMING));
        let mut slices = 0;
        while readable([link].into_iter(), SLICE).is_empty() {
            slices += 1;
            if SLICE * slices >= limit {
                return Err(CollectiveError::Silent { rank: 0, world, limit_s: limit.as_secs() });
            }
        }
        match self.at_zero(fd::receive(link))? {
            (ToRank::Refused { reason }, _) => Err(CollectiveError::Refused { reason }),
            (ToRank::Gone { rank }, _) => Err(CollectiveError::Gone { rank, world }),
            (ToRank::Silent { rank, limit_s }, _) => Err(CollectiveError::Silent { rank, world, limit_s }),
            news => Ok(news),
        }
    }

    fn at_zero<T>(&self, done: Result<T, WireError>) -> Result<T, CollectiveError> {
        done.map_err(|error| self.of_wire(error, 0))
    }

    fn of_wire(&self, error: WireError, rank: u32) -> CollectiveError {
        CollectiveError::of_wire(error, rank, self.world, self.silence_limit.as_secs())
    }
}

/// Tells everybody but one what became of it.
fn tell_but(links: &[UnixStream], but: u32, message: &ToRank) {
    for (_, link) in (1..).zip(links).filter(|(rank, _)| *rank != but) {
        // Who cannot hear it any more finds out in another way.
        let _ = fd::send(link, message, None);
    }
}

/// The rank at this place among the others.
fn rank_at(place: usize) -> u32 {
    u32::try_from(place + 1).expect("ranks are counted in 32 bits")
}

/// Tells all ranks why nothing comes of it.
pub(super) fn refuse<'a>(links: impl IntoIterator<Item = &'a UnixStream>, error: &CollectiveError) {
    for link in links {
        // Who is gone needs no reason.
        let _ = fd::send(link, &ToRank::Refused { reason: error.to_string() }, None);
    }
}

/// Which of the links, by number, have something to be read or have ended; none when the time is over.
pub(super) fn readable<'a>(
    links: impl Iterator<Item = &'a (impl std::os::fd::AsFd + 'a)>,
    limit: Duration,
) -> Vec<usize> {
    let mut polled: Vec<_> = links.map(|link| PollFd::new(link, PollFlags::IN)).collect();
    let deadline = Instant::now() + limit;
    loop {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).ok();
        match poll(&mut polled, left.as_ref()) {
            // A signal: whoever asked for the end is heard at the next step.
            Err(rustix::io::Errno::INTR) => {}
            Err(_) | Ok(0) => return Vec::new(),
            Ok(_) => break,
        }
    }
    let ready = |(nth, polled): (usize, &PollFd<'_>)| (!polled.revents().is_empty()).then_some(nth);
    polled.iter().enumerate().filter_map(ready).collect()
}
