//! Lanes, the decoding windows that move along a stream, and the members that read them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use batchmill_protocol::message::{LeaseId, MemberId, SlotIndex, StreamId};
use batchmill_protocol::position::{Extent, Position};
use batchmill_protocol::share::Share;

use super::pace::Pace;
use super::sharing::Patience;
use super::slots::{self, Filling, Slot};
use super::{Action, LANE_SLOTS_MIN, OpenStream, Scheduler, Stream};

/// One lane; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LaneId(pub(super) u32);

/// Who may read a lane together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Party {
    /// One member, for good.
    Alone,
    /// All that broadcast.
    Broadcast,
    /// The ranks of one group.
    Group(String),
}

impl Party {
    pub(super) fn of(share: &Share) -> Self {
        match share {
            Share::Private => Self::Alone,
            Share::Broadcast { .. } => Self::Broadcast,
            Share::Sharded(shard) => Self::Group(shard.group.clone()),
        }
    }

    /// Whether its members read a lane with others, where there are some.
    pub(super) fn is_shared(&self) -> bool {
        *self != Self::Alone
    }

    /// Whether members of both may read one lane.
    pub(super) fn joins(&self, other: &Self) -> bool {
        self.is_shared() && self == other
    }
}

/// A decoding window.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) party: Party,
    /// The first position not in the window.
    pub(super) next: Position,
    /// The epoch before which it ends, or never.
    pub(super) until_epoch: Option<u64>,
    /// Batches being made, made or read, in stream order.
    pub(super) window: VecDeque<(Position, SlotIndex)>,
    /// Who reads it.
    pub(super) members: BTreeSet<MemberId>,
    /// The workers' time that it has been given, on the clock of [`Scheduler::fair_time`].
    pub(super) given: Duration,
    /// What its members have had to wait for one another.
    pub(super) patience: Patience,
}

impl Lane {
    pub(super) fn new(party: Party, next: Position, given: Duration) -> Self {
        Self {
            party,
            next,
            until_epoch: Some(0),
            window: VecDeque::new(),
            members: BTreeSet::new(),
            given,
            patience: Patience::default(),
        }
    }

    /// Whether the stream goes on for this lane.
    pub(super) fn goes_on(&self) -> bool {
        self.until_epoch.is_none_or(|until| self.next.epoch < until)
    }

    /// The earliest position from which on the window has all up to its end.
    pub(super) fn reach(&self, extent: &Extent) -> Position {
        let whole = |end, &(position, _): &(Position, SlotIndex)| (extent.next(position) == end).then_some(position);
        let mut reach = self.next;
        for entry in self.window.iter().rev() {
            let Some(position) = whole(reach, entry) else { break };
            reach = position;
        }
        reach
    }

    /// The slot of a position.
    pub(super) fn slot_at(&self, position: Position) -> Option<SlotIndex> {
        let place = self.window.binary_search_by_key(&position, |entry| entry.0).ok()?;
        Some(self.window[place].1)
    }

    /// The member that is furthest ahead, and its cursor.
    pub(super) fn leader(&self, members: &BTreeMap<MemberId, Member>) -> Option<(MemberId, Position)> {
        self.members.iter().map(|id| (*id, members[id].cursor)).max_by_key(|(_, cursor)| *cursor)
    }

    /// Where the member stands that is furthest behind.
    pub(super) fn hindmost(&self, members: &BTreeMap<MemberId, Member>) -> Option<Position> {
        self.members.iter().map(|id| members[id].cursor).min()
    }

    /// Takes note of what its members want, when they have become others.
    pub(super) fn reconsider(&mut self, members: &BTreeMap<MemberId, Member>) {
        // `None`, which is no end, is beyond all others.
        let last = self.members.iter().map(|id| members[id].until_epoch).max_by_key(|until| until.unwrap_or(u64::MAX));
        self.until_epoch = last.unwrap_or(Some(0));
        self.patience = Patience::default();
    }
}

/// One attached trainer.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) stream: StreamId,
    /// `None` once it was told that nothing more comes.
    pub(super) lane: Option<LaneId>,
    /// The next position it will receive.
    pub(super) cursor: Position,
    /// The epoch before which it ends, or never.
    pub(super) until_epoch: Option<u64>,
    /// How many slots it may read at once.
    pub(super) credit: u32,
    /// How many more while it takes no time for one.
    pub(super) ahead: u32,
    /// What it reads.
    pub(super) leases: BTreeMap<LeaseId, SlotIndex>,
    pub(super) share: Share,
    pub(super) pace: Pace,
}

impl Member {
    /// Whether it has been given all that it wants.
    pub(super) fn is_done(&self) -> bool {
        self.until_epoch.is_some_and(|until| self.cursor.epoch >= until)
    }
}

impl Scheduler {
    /// Attaches a new member to a lane that has what it wants next, or to one of its own.
    pub(super) fn member_joined(&mut self, now: Duration, id: MemberId, stream: StreamId, member: Member) {
        let from = member.cursor;
        if let Err(reason) = self.room_for_member(stream, from, &member.share) {
            self.actions.push(Action::Dismiss { member: id, position: from, reason });
            return;
        }
        let Some(Stream::Open(open)) = self.streams.get_mut(&stream) else {
            unreachable!("a stream with room is open");
        };
        if let Share::Sharded(shard) = &member.share {
            open.take_seat(now, shard, id, from);
        }
        let party = Party::of(&member.share);
        let lane = open.lane_for(&party, from).unwrap_or_else(|| {
            let lane = LaneId(self.next_lane);
            self.next_lane += 1;
            open.lanes.insert(lane, Lane::new(party, from, self.fair_time));
            open.let_in(lane);
            lane
        });
        self.members.insert(id, Member { lane: Some(lane), ..member });
        let state = open.lanes.get_mut(&lane).expect("found or made above");
        state.members.insert(id);
        state.reconsider(&self.members);
        open.give_up_slots(&self.members);
        // What other lanes keep for a rank that was missing, it may read from its own.
        let party = Party::of(&self.members[&id].share);
        let lanes: BTreeSet<LaneId> = open.lanes_of(&party).chain([lane]).collect();
        lanes.into_iter().for_each(|lane| self.deliver_lane(stream, lane));
    }

    /// Ends a member, its leases, and its lane when it was the last one there.
    pub(super) fn member_gone(&mut self, now: Duration, id: MemberId) {
        let Some(member) = self.members.remove(&id) else { return };
        let Some(Stream::Open(open)) = self.streams.get_mut(&member.stream) else { return };
        // What it has been given and not given back it may not have read.
        let lane = member.lane.and_then(|lane| open.lanes.get(&lane));
        let kept_from = lane.map_or(member.cursor, |lane| open.keeps_from(lane, &member));
        let mut touched: BTreeSet<LaneId> = member.leases.values().filter_map(|slot| open.end_lease(*slot)).collect();
        if let Some(lane) = member.lane {
            open.leave_lane(lane, id, &self.members);
            touched.insert(lane);
        }
        if let Share::Sharded(shard) = &member.share {
            open.leave_seat(now, shard, id, kept_from, member.is_done());
            // What it leaves behind may be held for whoever takes its place, or no longer.
            touched.extend(open.lanes_of(&Party::of(&member.share)));
        }
        for lane in touched {
            self.deliver_lane(member.stream, lane);
        }
    }

    /// Takes a lease back; a lease that the member does not hold changes nothing.
    pub(super) fn released(&mut self, now: Duration, id: MemberId, lease: LeaseId) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let Some(slot) = member.leases.remove(&lease) else { return };
        member.pace.gives_back(now, member.leases.len());
        let (stream, own) = (member.stream, member.lane);
        let Some(Stream::Open(open)) = self.streams.get_mut(&stream) else { return };
        // The slot may have gone to another lane than its reader.
        let lanes: BTreeSet<LaneId> = open.end_lease(slot).into_iter().chain(own).collect();
        for lane in lanes {
            self.deliver_lane(stream, lane);
        }
    }
}

impl OpenStream {
    /// The lanes that members of `party` may read with others.
    fn lanes_of(&self, party: &Party) -> impl Iterator<Item = LaneId> {
        self.lanes.iter().filter(|(_, lane)| lane.party.joins(party)).map(|(id, _)| *id)
    }

    /// The lane that has all from a position on, and that members of `party` may read.
    fn lane_for(&self, party: &Party, from: Position) -> Option<LaneId> {
        let has = |lane: &Lane| lane.reach(&self.extent) <= from && from <= lane.next && !self.has_failed(lane);
        let found = self.lanes.iter().find(|(_, lane)| lane.party.joins(party) && has(lane));
        found.map(|(id, _)| *id)
    }

    /// Whether a lane has come to a batch that cannot be made.
    pub(super) fn has_failed(&self, lane: &Lane) -> bool {
        self.window(lane).any(|slot| matches!(slot, Slot::Failed { .. }))
    }

    /// Whether one more member finds room.
    ///
    /// # Errors
    /// One sentence fragment with the remedy when it does not.
    pub(super) fn room_for(
        &self,
        from: Position,
        share: &Share,
        members: &BTreeMap<MemberId, Member>,
    ) -> Result<(), String> {
        if let Share::Sharded(shard) = share {
            self.check_seat(shard)?;
        }
        if self.lane_for(&Party::of(share), from).is_some() {
            return Ok(());
        }
        // Of what a lane holds, what somebody reads or has yet to read cannot be counted on.
        let held: usize = self.lanes.values().map(|lane| self.bound(lane, members).max(LANE_SLOTS_MIN)).sum();
        if held + self.orphans() + LANE_SLOTS_MIN <= self.slots.len() {
            return Ok(());
        }
        let trainers = match self.lanes.values().map(|lane| lane.members.len()).sum() {
            1_usize => "a trainer".to_owned(),
            more => format!("{more} trainers"),
        };
        let remedy = if *share == Share::Private { ", share them with --share broadcast" } else { "" };
        Err(format!(
            "the {} slots of the stream's shared memory are taken by {trainers}: raise --memory (or `memory`){remedy}, or \
             end one of the trainers",
            self.slots.len(),
        ))
    }

    /// How many slots of a lane it cannot give up: those that members read, and those that its leader has read and
    /// others have yet to. What it keeps for ranks that are missing it can: it is made again for them.
    pub(super) fn bound(&self, lane: &Lane, members: &BTreeMap<MemberId, Member>) -> usize {
        let passed = lane.leader(members).map(|(_, cursor)| cursor);
        let wanted = lane.hindmost(members);
        let is_bound = |&&(position, slot): &&(Position, SlotIndex)| {
            let is_wanted = wanted.is_some_and(|wanted| position >= wanted);
            is_wanted && passed.is_some_and(|cursor| position < cursor) || self.slots[slots::place(slot)].is_read()
        };
        lane.window.iter().filter(is_bound).count()
    }

    /// How many slots are read whose lane has them no more.
    pub(super) fn orphans(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot, Slot::Ready { lane: None, .. })).count()
    }

    /// Notes that one member fewer reads `slot`. Gives the lane that has it.
    fn end_lease(&mut self, slot: SlotIndex) -> Option<LaneId> {
        let Slot::Ready { leases, lane, .. } = self.slot(slot) else { unreachable!("a leased slot is ready") };
        *leases -= 1;
        let (last, lane) = (*leases == 0, *lane);
        if last && lane.is_none() {
            *self.slot(slot) = Slot::Free;
        }
        lane
    }

    /// Takes a member out of its lane, and the lane away when it is empty.
    pub(super) fn leave_lane(&mut self, id: LaneId, member: MemberId, members: &BTreeMap<MemberId, Member>) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.members.remove(&member);
        if !lane.members.is_empty() {
            return lane.reconsider(members);
        }
        let lane = self.lanes.remove(&id).expect("found above");
        for (_, slot) in lane.window {
            self.abandon(slot);
        }
    }

    /// Has every lane that holds more than its part give up the batches furthest ahead, then those that it keeps for
    /// ranks that are missing. They will be made again.
    pub(super) fn give_up_slots(&mut self, members: &BTreeMap<MemberId, Member>) {
        let part = self.lane_slots_max();
        let mut given_up = Vec::new();
        for lane in self.lanes.values_mut() {
            let passed = lane.leader(members).map(|(_, cursor)| cursor);
            while lane.window.len() > part
                && let Some(&(position, slot)) = lane.window.back()
                && passed.is_none_or(|cursor| position >= cursor)
                && !self.slots[slots::place(slot)].is_read()
            {
                lane.window.pop_back();
                lane.next = position;
                given_up.push(slot);
            }
            let wanted = lane.hindmost(members);
            while lane.window.len() > part
                && let Some(&(position, slot)) = lane.window.front()
                && wanted.is_some_and(|cursor| position < cursor)
                && !self.slots[slots::place(slot)].is_read()
            {
                lane.window.pop_front();
                given_up.push(slot);
            }
        }
        for slot in given_up {
            self.abandon(slot);
        }
    }

    /// Frees a slot that its lane gives up, as soon as nobody reads or writes it.
    pub(super) fn abandon(&mut self, slot: SlotIndex) {
        let state = self.slot(slot);
        match state {
            Slot::Filling(Filling { lane, todo, tasks_out: 1.., .. }) => {
                *lane = None;
                todo.clear();
            }
            Slot::Ready { leases: 1.., lane, .. } => *lane = None,
            Slot::Free | Slot::Filling(_) | Slot::Ready { .. } | Slot::Failed { .. } => *state = Slot::Free,
        }
    }

    /// Makes a slot another lane's.
    pub(super) fn hand_over(&mut self, slot: SlotIndex, to: LaneId) {
        match self.slot(slot) {
            Slot::Filling(filling) => (filling.lane, filling.is_unasked) = (Some(to), false),
            Slot::Ready { lane, .. } => *lane = Some(to),
            Slot::Free | Slot::Failed { .. } => {}
        }
    }
}
