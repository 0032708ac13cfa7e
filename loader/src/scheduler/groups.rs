//! Groups of ranks that read a stream as one: who is there, who is missing, and since when.

use std::time::Duration;

use batchmill_protocol::message::{MemberId, StreamId};
use batchmill_protocol::position::Position;
use batchmill_protocol::share::Shard;

use super::lanes::Party;
use super::slots;
use super::{OpenStream, Scheduler, Stream};

/// The ranks of one group. It lasts as long as one of them is there.
#[derive(Debug)]
pub(super) struct Group {
    seats: Vec<Seat>,
    /// How long a rank may be missing.
    limit: Duration,
}

/// One rank's place.
#[derive(Clone, Copy, Debug)]
enum Seat {
    Taken(MemberId),
    /// Its batches are kept from `at` on, as far as the window goes.
    Missing {
        at: Position,
        since: Duration,
        /// Whether it was there before.
        came: bool,
    },
    /// It has all that it asked for, and has left.
    Done,
}

impl Group {
    fn is_empty(&self) -> bool {
        !self.seats.iter().any(|seat| matches!(seat, Seat::Taken(_)))
    }

    /// One sentence fragment about the ranks that have been missing for too long, if there are any.
    fn overdue(&self, now: Duration) -> Option<String> {
        let world = self.seats.len();
        let limit_s = self.limit.as_secs();
        let named = |wanted: bool| {
            let is_late = |seat: &Seat| match seat {
                Seat::Missing { since, came, .. } => *came == wanted && now.saturating_sub(*since) >= self.limit,
                Seat::Taken(_) | Seat::Done => false,
            };
            let late = (0_u32..).zip(&self.seats).filter(|(_, seat)| is_late(seat)).map(|(rank, _)| rank);
            list(&late.collect::<Vec<_>>(), world)
        };
        let lost = named(true).map(|(ranks, have)| {
            format!(
                "{ranks} {have} been gone for {limit_s} s: start it again, or all ranks from their common checkpoint"
            )
        });
        let late =
            || named(false).map(|(ranks, _)| format!("{ranks} did not come within {limit_s} s: start all ranks"));
        lost.or_else(late)
    }
}

/// Writes `rank 2 of 4` or `ranks 1, 2 and 5 more of 8`, with the verb that follows; nothing of none.
fn list(ranks: &[u32], world: usize) -> Option<(String, &'static str)> {
    const NAMED: usize = 8;
    let names: Vec<String> = ranks.iter().take(NAMED).map(u32::to_string).collect();
    match &names[..] {
        [] => None,
        [one] => Some((format!("rank {one} of {world}"), "has")),
        [before @ .., last] if ranks.len() == names.len() => {
            Some((format!("ranks {} and {last} of {world}", before.join(", ")), "have"))
        }
        some => Some((format!("ranks {} and {} more of {world}", some.join(", "), ranks.len() - NAMED), "have")),
    }
}

impl Scheduler {
    /// Ends the ranks that have waited too long for one that is missing.
    pub(super) fn miss_ranks(&mut self, now: Duration, stream: StreamId) {
        let Some(Stream::Open(open)) = self.streams.get_mut(&stream) else { return };
        let overdue = |(name, group): (&String, &Group)| Some((name.clone(), group.overdue(now)?));
        let over: Vec<_> = open.groups.iter().filter_map(overdue).collect();
        let mut waiting = Vec::new();
        for (name, reason) in over {
            // Whoever comes now is of a new group: these have no more to do with it, also while they end.
            let group = open.groups.remove(&name).expect("listed above");
            let taken = group.seats.into_iter().filter_map(|seat| match seat {
                Seat::Taken(member) => Some(member),
                Seat::Missing { .. } | Seat::Done => None,
            });
            waiting.extend(taken.map(|member| (member, reason.clone())));
        }
        for (member, reason) in waiting {
            self.dismiss(member, reason);
        }
    }
}

impl OpenStream {
    /// Whether a rank's place is free.
    ///
    /// # Errors
    /// One sentence fragment with the remedy when it is not.
    pub(super) fn check_seat(&self, shard: &Shard) -> Result<(), String> {
        let Shard { group: name, rank, world, .. } = shard;
        let Some(group) = self.groups.get(name) else { return Ok(()) };
        let there = group.seats.len();
        if there != slots::count(*world) {
            return Err(format!(
                "group `{name}` has {there} ranks, not {world}: end those first, or give these another --group"
            ));
        }
        match group.seats.get(slots::count(*rank)) {
            Some(Seat::Taken(_)) => Err(format!(
                "rank {rank} of {world} is there already: wait until it has ended, give each its own --rank, or another run \
                 another --group"
            )),
            _ => Ok(()),
        }
    }

    /// Gives a rank its place, which is free.
    pub(super) fn take_seat(&mut self, now: Duration, shard: &Shard, member: MemberId, from: Position) {
        let missing = Seat::Missing { at: from, since: now, came: false };
        let group = self.groups.entry(shard.group.clone()).or_insert_with(|| Group {
            seats: vec![missing; slots::count(shard.world)],
            limit: Duration::from_secs(shard.limit_s.into()),
        });
        if let Some(seat) = group.seats.get_mut(slots::count(shard.rank)) {
            *seat = Seat::Taken(member);
        }
    }

    /// Notes that a rank has left that had read all before `at`; `done` if that was all it asked for.
    pub(super) fn leave_seat(&mut self, now: Duration, shard: &Shard, member: MemberId, at: Position, done: bool) {
        let Some(group) = self.groups.get_mut(&shard.group) else { return };
        let own = |seat: &&mut Seat| matches!(seat, Seat::Taken(other) if *other == member);
        if let Some(seat) = group.seats.iter_mut().find(own) {
            *seat = if done { Seat::Done } else { Seat::Missing { at, since: now, came: true } };
        }
        if group.is_empty() {
            self.groups.remove(&shard.group);
        }
    }

    /// The ranks that a party misses, and where they stand.
    pub(super) fn missing(&self, party: &Party) -> impl Iterator<Item = (u32, Position)> {
        let group = if let Party::Group(name) = party { self.groups.get(name) } else { None };
        let seats = (0..).zip(group.into_iter().flat_map(|group| &group.seats));
        seats.filter_map(|(rank, seat)| match seat {
            Seat::Missing { at, .. } => Some((rank, *at)),
            Seat::Taken(_) | Seat::Done => None,
        })
    }
}
