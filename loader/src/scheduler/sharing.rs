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

/// No more than this counts at once. Time is looked at more often, unless machine or daemon sleep, and then nobody waits.
const AT_ONCE: Duration = Duration::from_millis(250);

/// What a lane's members have had to wait for one another.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Patience {
    lost: Duration,
    noted: Option<Duration>,
    /// From when on somebody waits, unless it gets something to read until then.
    waits_from: Option<Duration>,
}

impl Patience {
    /// Notes from when on somebody waits, as seen at `now`; until then it was as noted before.
    fn note(&mut self, now: Duration, waits_from: Option<Duration>) {
        let noted = self.noted.unwrap_or(now).max(now.saturating_sub(AT_ONCE));
        let waited = self.waits_from.map_or(Duration::ZERO, |from| now.saturating_sub(from.max(noted)));
        let passed = now.saturating_sub(noted);
        self.lost = (self.lost + waited).saturating_sub(passed.saturating_sub(waited) / FORGET);
        (self.noted, self.waits_from) = (Some(now), waits_from);
    }

    fn is_over(&self) -> bool {
        self.waits_from.is_some() && self.lost >= PATIENCE
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
            Stream::Open(open) => open.lanes.values().any(|lane| lane.party.is_shared()),
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
            let leader = open.lanes[&id].leader(&self.members).map(|(leader, _)| &self.members[&leader]);
            let waits_from = leader
                .filter(|_| open.is_held(id, &self.members))
                .map(|leader| leader.pace.busy_until(leader.leases.len()));
            let lane = open.lanes.get_mut(&id).expect("listed above");
            lane.patience.note(now, waits_from);
            if lane.patience.is_over() {
                self.part_lane(stream, id);
            }
        }
    }

    fn part_lane(&mut self, stream: StreamId, id: LaneId) {
        let Some(Stream::Open(open)) = self.streams.get_mut(&stream) else { return };
        let Some((_, front)) = open.lanes[&id].leader(&self.members) else { return };
        let (dropped, parting) = open.laggards(id, &self.members);
        let behind = |id: MemberId| (id, open.extent.distance(self.members[&id].cursor, front));
        let dropped: Vec<_> = dropped.into_iter().map(behind).collect();
        if !parting.is_empty() && open.may_split(id, &parting, &self.members) {
            let new = LaneId(self.next_lane);
            self.next_lane += 1;
            open.split(id, new, parting, self.fair_time, &mut self.members);
            open.partings.splits += 1;
            self.deliver_lane(stream, new);
            self.deliver_lane(stream, id);
        }
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
        lane.hindmost(members).into_iter().chain(self.missing(&lane.party).map(|(_, at)| at)).min()
    }

    /// The first position of a lane that a member keeps: that of the first of the slots before its cursor that it reads
    /// without a gap, or of the next that it will. A single older one that it does not give back keeps nobody waiting.
    pub(super) fn keeps_from(&self, lane: &Lane, member: &Member) -> Position {
        let reads = |slot| member.leases.values().any(|own| *own == slot);
        let read = lane.window.iter().rev().skip_while(|(position, _)| *position >= member.cursor);
        read.take_while(|(_, slot)| reads(*slot)).last().map_or(member.cursor, |(position, _)| *position)
    }

    /// What the slowest of a lane keeps first, members and missing ranks.
    fn kept_from(&self, lane: &Lane, members: &BTreeMap<MemberId, Member>) -> Option<Position> {
        let kept = lane.members.iter().map(|id| self.keeps_from(lane, &members[id]));
        kept.chain(self.missing(&lane.party).map(|(_, at)| at)).min()
    }

    /// Whether the leader of a lane gets nothing more to read because others have not yet read what fills its window.
    pub(super) fn is_held(&self, id: LaneId, members: &BTreeMap<MemberId, Member>) -> bool {
        let lane = &self.lanes[&id];
        let Some((leader, cursor)) = lane.leader(members) else { return false };
        let leader = &members[&leader];
        cursor == lane.next
            && lane.goes_on()
            && leader.leases.len() < self.leases_max(leader)
            && !self.may_begin(lane)
            && self.kept_from(lane, members).is_some_and(|kept| kept < self.keeps_from(lane, leader))
    }

    /// The members that keep a lane's oldest slots; none when a rank that is missing does.
    pub(super) fn holders(&self, lane: &Lane, members: &BTreeMap<MemberId, Member>) -> BTreeSet<MemberId> {
        let kept = self.kept_from(lane, members);
        lane.members.iter().filter(|id| Some(self.keeps_from(lane, &members[id])) == kept).copied().collect()
    }

    /// Who of a held lane lets the others wait and need not be waited for: those to be dropped that keep its oldest slot,
    /// for who is behind with them may be as fast as anybody; or else those to be split off of the older half of its window,
    /// when that is what it takes. Nobody as long as somebody who must be waited for keeps the oldest slot.
    fn laggards(&self, id: LaneId, members: &BTreeMap<MemberId, Member>) -> (BTreeSet<MemberId>, BTreeSet<MemberId>) {
        let (lane, none) = (&self.lanes[&id], BTreeSet::new);
        let (Some((leader, ahead)), Some(first)) = (lane.leader(members), self.kept_from(lane, members)) else {
            return (none(), none());
        };
        let may = |id: &MemberId, lag| members[id].share == Share::Broadcast { lag } && *id != leader;
        let holders = self.holders(lane, members);
        if !holders.iter().all(|id| may(id, Lag::Split) || may(id, Lag::Drop)) {
            return (none(), none());
        }
        let dropped: BTreeSet<MemberId> = holders.iter().filter(|id| may(id, Lag::Drop)).copied().collect();
        if holders.is_empty() || !dropped.is_empty() {
            return (dropped, none());
        }
        let lags = |id: &MemberId| {
            let from = self.keeps_from(lane, &members[id]);
            self.extent.distance(first, from) * 2 < self.extent.distance(first, ahead)
        };
        let parting = |id: &&MemberId| may(id, Lag::Split) && lags(id);
        let parting: BTreeSet<MemberId> = lane.members.iter().filter(parting).copied().collect();
        // Together only if what they have yet to read is not among what stays with the others.
        let rest = lane.members.difference(&parting).map(|id| members[id].cursor).min();
        let together = parting.iter().all(|id| rest.is_none_or(|rest| members[id].cursor <= rest));
        (none(), if together { parting } else { holders.into_iter().take(1).collect() })
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
                && self.may_meet(slow, fast, near)
                && ahead.reach(&self.extent) <= behind.next
                && !self.has_failed(behind)
                && !self.has_failed(ahead)
        });
        meeting.next().map(|((behind, ..), (ahead, ..))| (*behind, *ahead))
    }

    /// Whether members so far from one another may read on together: nobody will soon hold up others, or not more than
    /// some do already.
    fn may_meet(&self, slow: &Span, fast: &Span, near: u128) -> bool {
        let width = |span: &Span| self.extent.distance(span.from, span.front);
        let both = self.extent.distance(slow.from.min(fast.from), slow.front.max(fast.front));
        both <= near.max(width(slow)).max(width(fast))
    }

    /// How far a lane's members are from one another.
    fn span(lane: &Lane, members: &BTreeMap<MemberId, Member>) -> Option<Span> {
        let cursor = lane.hindmost(members)?;
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
