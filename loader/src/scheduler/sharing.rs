//! Members that read together: who is split off because the others wait for it, and who comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use batchmill_protocol::message::{MemberId, StreamId};
use batchmill_protocol::position::Position;
use batchmill_protocol::share::{Lag, Share};

use super::lanes::{Lane, LaneId, Member};
use super::slots::{self, Slot};
use super::{Action, LANE_SLOTS_MIN, OpenStream, Scheduler, Stream};

/// How much time the members of a lane lose to one that lags before they no longer wait for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// For each so much time without waiting, one such unit of it is forgotten: to be slower by less than a fifth is never
/// too much, as decoding everything twice would cost more.
const FORGET: u32 = 4;

/// What a lane's members have had to wait for one another.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Patience {
    lost: Duration,
    noted: Option<Duration>,
    waits: bool,
}

impl Patience {
    /// Notes whether they wait at `now`; until then it was as noted before.
    fn note(&mut self, now: Duration, waits: bool) {
        let passed = self.noted.map_or(Duration::ZERO, |noted| now.saturating_sub(noted));
        self.lost = if self.waits { self.lost + passed } else { self.lost.saturating_sub(passed / FORGET) };
        (self.noted, self.waits) = (Some(now), waits);
    }

    fn is_over(&self) -> bool {
        self.waits && self.lost >= PATIENCE
    }
}

/// How far the members of a lane are from one another.
struct Span {
    /// The first slot that one of them reads or will.
    from: Position,
    /// The slowest.
    cursor: Position,
    /// The leader.
    front: Position,
}

/// How a stream's lanes have fared.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Partings {
    pub(super) splits: u64,
    pub(super) merges: u64,
}

impl Scheduler {
    /// Has members part that keep others waiting, and those meet that have caught up.
    pub(super) fn keep_company(&mut self, now: Duration) {
        let shared = |stream: &Stream| match stream {
            Stream::Open(open) => open.lanes.values().any(|lane| lane.party.joins(&lane.party)),
            _ => false,
        };
        let streams: Vec<StreamId> = self.streams.iter().filter(|(_, at)| shared(at)).map(|(id, _)| *id).collect();
        for stream in streams {
            self.miss_ranks(now, stream);
            self.meet(stream);
            self.part(now, stream);
        }
    }

    /// Merges lanes whose members are near enough to read on together.
    fn meet(&mut self, stream: StreamId) {
        while let Some(Stream::Open(open)) = self.streams.get_mut(&stream)
            && let Some((behind, ahead)) = open.meeting(&self.members)
        {
            open.merge(behind, ahead, &mut self.members);
            open.partings.merges += 1;
            self.deliver_lane(stream, ahead);
        }
    }

    /// Splits off, or ends, members that have kept the others of their lane waiting for too long.
    fn part(&mut self, now: Duration, stream: StreamId) {
        let Some(Stream::Open(open)) = self.streams.get_mut(&stream) else { return };
        let lanes: Vec<LaneId> = open.lanes.iter().filter(|(_, lane)| lane.members.len() > 1).map(|at| *at.0).collect();
        for id in lanes {
            let Some(Stream::Open(open)) = self.streams.get_mut(&stream) else { return };
            let waits = open.is_held(id, &self.members);
            let lane = open.lanes.get_mut(&id).expect("listed above");
            lane.patience.note(now, waits);
            if lane.patience.is_over() {
                self.part_lane(stream, id);
            }
        }
    }

    fn part_lane(&mut self, stream: StreamId, id: LaneId) {
        let Some(Stream::Open(open)) = self.streams.get_mut(&stream) else { return };
        let Some((_, front)) = open.lanes[&id].leader(&self.members) else { return };
        let laggards = open.laggards(id, &self.members);
        let is_dropped = |id: &&MemberId| self.members[id].share == Share::Broadcast { lag: Lag::Drop };
        let behind = |id: &MemberId| (*id, open.extent.distance(self.members[id].cursor, front));
        let dropped: Vec<_> = laggards.iter().filter(is_dropped).map(behind).collect();
        if dropped.is_empty() && !laggards.is_empty() && open.may_split(id, &laggards, &self.members) {
            let new = LaneId(self.next_lane);
            self.next_lane += 1;
            open.split(id, new, laggards, self.fair_time, &mut self.members);
            open.partings.splits += 1;
            self.deliver_lane(stream, new);
            self.deliver_lane(stream, id);
        }
        // That may be enough: whether the others are to be split off is seen when these are gone.
        for (member, behind) in dropped {
            let reason = format!(
                "it lags {behind} batches behind trainers that wait for it: with --lag split it reads on by itself, with \
                 --lag wait they wait"
            );
            self.dismiss(member, reason);
        }
    }

    /// Ends a member before its time. What it reads it may read on.
    pub(super) fn dismiss(&mut self, id: MemberId, reason: String) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let Some(lane) = member.lane.take() else { return };
        let (stream, position) = (member.stream, member.cursor);
        if let Some(Stream::Open(open)) = self.streams.get_mut(&stream) {
            open.leave_lane(lane, id, &self.members);
        }
        self.actions.push(Action::Dismiss { member: id, position, reason });
        self.deliver_lane(stream, lane);
    }
}

impl OpenStream {
    /// The slowest of a lane: no slot from there on is free. Ranks that are missing count as where they left.
    pub(super) fn slowest(&self, lane: &Lane, members: &BTreeMap<MemberId, Member>) -> Option<Position> {
        lane.members.iter().map(|id| members[id].cursor).chain(self.missing(&lane.party)).min()
    }

    /// The first position of a lane that a member keeps: that of the first slot that it reads, or of the next that it
    /// will.
    fn keeps_from(&self, lane: &Lane, member: &Member) -> Position {
        let read: BTreeSet<_> = member.leases.values().collect();
        let first = lane.window.iter().find(|(_, slot)| read.contains(slot)).map(|(position, _)| *position);
        first.map_or(member.cursor, |first| first.min(member.cursor))
    }

    /// Whether the leader of a lane has nothing to read because the others have not yet read what fills its window.
    pub(super) fn is_held(&self, id: LaneId, members: &BTreeMap<MemberId, Member>) -> bool {
        let lane = &self.lanes[&id];
        let Some((leader, cursor)) = lane.leader(members) else { return false };
        let leader = &members[&leader];
        let Some(&(first, _)) = lane.window.front() else { return false };
        cursor == lane.next
            && lane.goes_on()
            && leader.leases.len() < self.leases_max(leader)
            && !self.may_begin(lane)
            && first < self.keeps_from(lane, leader)
    }

    /// The members that keep the oldest slot of a lane.
    pub(super) fn holders(&self, lane: &Lane, members: &BTreeMap<MemberId, Member>) -> BTreeSet<MemberId> {
        let Some(&(first, _)) = lane.window.front() else { return BTreeSet::new() };
        lane.members.iter().filter(|id| self.keeps_from(lane, &members[id]) <= first).copied().collect()
    }

    /// Who of a held lane lets the others wait and need not be waited for: those in the older half of its window. Nobody
    /// as long as somebody who must be waited for keeps its oldest slot.
    fn laggards(&self, id: LaneId, members: &BTreeMap<MemberId, Member>) -> BTreeSet<MemberId> {
        let lane = &self.lanes[&id];
        let (Some((leader, ahead)), Some(&(first, _))) = (lane.leader(members), lane.window.front()) else {
            return BTreeSet::new();
        };
        let lags = |id: &MemberId| {
            let from = self.keeps_from(lane, &members[id]);
            self.extent.distance(first, from) * 2 < self.extent.distance(first, ahead)
        };
        let may_go = |id: &MemberId| {
            matches!(members[id].share, Share::Broadcast { lag: Lag::Split | Lag::Drop }) && *id != leader
        };
        let holders = self.holders(lane, members);
        if holders.is_empty() || !holders.iter().all(may_go) {
            return BTreeSet::new();
        }
        let laggards: BTreeSet<MemberId> = lane.members.iter().filter(|id| may_go(id) && lags(id)).copied().collect();
        // Together only if what they have yet to read is not among what stays with the others.
        let rest = lane.members.difference(&laggards).map(|id| members[id].cursor).min();
        let together = laggards.iter().all(|id| rest.is_none_or(|rest| members[id].cursor <= rest));
        if together { laggards } else { holders.into_iter().take(1).collect() }
    }

    /// Whether there is room for one more lane once `parting` have left theirs.
    fn may_split(&self, id: LaneId, parting: &BTreeSet<MemberId>, members: &BTreeMap<MemberId, Member>) -> bool {
        let bound = |lane: &Lane| self.bound(lane, members).max(LANE_SLOTS_MIN);
        let others: usize = self.lanes.iter().filter(|(at, _)| **at != id).map(|(_, lane)| bound(lane)).sum();
        let lane = &self.lanes[&id];
        // What those that part have yet to read they can do without.
        let rest = lane.members.difference(parting).map(|id| members[id].cursor).min();
        let kept = |&&(position, slot): &&(Position, _)| {
            rest.is_none_or(|rest| position >= rest) || self.slots[slots::place(slot)].is_read()
        };
        let own = lane.window.iter().filter(kept).count().max(LANE_SLOTS_MIN);
        others + own + self.orphans() + LANE_SLOTS_MIN <= self.slots.len()
    }

    /// Takes `parting` out of their lane into a new one, with what they alone have yet to read.
    fn split(
        &mut self,
        id: LaneId,
        new: LaneId,
        parting: BTreeSet<MemberId>,
        given: Duration,
        members: &mut BTreeMap<MemberId, Member>,
    ) {
        let furthest = parting.iter().map(|id| members[id].cursor).max().expect("somebody parts");
        let lane = self.lanes.get_mut(&id).expect("it was looked at");
        lane.members.retain(|id| !parting.contains(id));
        let party = lane.party.clone();
        let rest = lane.members.iter().map(|id| members[id].cursor).min().expect("the leader stays");
        let mut split = Lane::new(party, rest.max(furthest), given);
        let lane = self.lanes.get_mut(&id).expect("looked at above");
        let stays = lane.window.partition_point(|(position, _)| *position < rest);
        split.window = lane.window.drain(..stays).collect();
        split.members = parting;
        for member in &split.members {
            members.get_mut(member).expect("a lane's members are in the table").lane = Some(new);
        }
        lane.reconsider(members);
        split.reconsider(members);
        let handed_over: Vec<_> = split.window.iter().map(|(_, slot)| *slot).collect();
        self.lanes.insert(new, split);
        handed_over.into_iter().for_each(|slot| self.hand_over(slot, new));
        self.give_up_slots(members);
    }

    /// Two lanes, the one behind first, that can go on as one: the window of the one behind has reached that of the
    /// other, and their members are so near that none will soon hold up the others.
    fn meeting(&self, members: &BTreeMap<MemberId, Member>) -> Option<(LaneId, LaneId)> {
        let near = self.slots.len() / self.lanes.len().saturating_sub(1).max(1) / 2;
        let near = u128::try_from(near.max(LANE_SLOTS_MIN)).expect("few");
        let spans: Vec<_> =
            self.lanes.iter().filter_map(|(id, lane)| Some((*id, lane, Self::span(lane, members)?))).collect();
        let pairs = spans.iter().flat_map(|behind| spans.iter().map(move |ahead| (behind, ahead)));
        let mut meeting = pairs.filter(|((a, behind, slow), (b, ahead, fast))| {
            behind.party.joins(&ahead.party)
                && (slow.cursor, a) < (fast.cursor, b)
                && ahead.reach(&self.extent) <= behind.next
                && self.extent.distance(slow.from.min(fast.from), slow.front.max(fast.front)) <= near
                && !self.has_failed(behind)
                && !self.has_failed(ahead)
        });
        meeting.next().map(|((behind, ..), (ahead, ..))| (*behind, *ahead))
    }

    /// How far a lane's members are from one another.
    fn span(lane: &Lane, members: &BTreeMap<MemberId, Member>) -> Option<Span> {
        let cursor = lane.members.iter().map(|id| members[id].cursor).min()?;
        let (_, front) = lane.leader(members)?;
        let from = lane.window.front().map_or(cursor, |(first, _)| cursor.min(*first));
        Some(Span { from, cursor, front })
    }

    /// Makes one lane of two, the other of which is ahead. Where both have a batch, one of them is kept.
    fn merge(&mut self, behind: LaneId, ahead: LaneId, members: &mut BTreeMap<MemberId, Member>) {
        let Lane { window, members: coming, next, given, .. } = self.lanes.remove(&behind).expect("it was found");
        for (position, slot) in window {
            let lane = self.lanes.get_mut(&ahead).expect("it was found");
            let given_up = match lane.window.binary_search_by_key(&position, |entry| entry.0) {
                Err(place) => {
                    lane.window.insert(place, (position, slot));
                    self.hand_over(slot, ahead);
                    continue;
                }
                Ok(place) => {
                    let is_ready = |slot| matches!(self.slots[slots::place(slot)], Slot::Ready { .. });
                    let (_, other) = lane.window[place];
                    if is_ready(slot) && !is_ready(other) {
                        lane.window[place].1 = slot;
                        self.hand_over(slot, ahead);
                        other
                    } else {
                        slot
                    }
                }
            };
            self.abandon(given_up);
        }
        let lane = self.lanes.get_mut(&ahead).expect("it was found");
        (lane.next, lane.given) = (lane.next.max(next), lane.given.max(given));
        for member in &coming {
            members.get_mut(member).expect("a lane's members are in the table").lane = Some(ahead);
        }
        lane.members.extend(coming);
        lane.reconsider(members);
    }

    /// Whether others that read the stream with this lane are ahead of it.
    pub(super) fn is_behind(&self, lane: &Lane) -> bool {
        self.lanes.values().any(|other| other.party.joins(&lane.party) && other.next > lane.next)
    }
}
