//! Trainers: they come, read at their own pace, hold what they read, stop, die, come back where they were.

use std::collections::VecDeque;
use std::time::Duration;

use batchmill_protocol::message::{LeaseId, MemberId, SlotIndex, StreamId};
use batchmill_protocol::position::Position;
use batchmill_protocol::share::Share;

use super::events::{self, AHEAD};
use super::luck::Luck;
use super::scenario::{Attach, Spell};
use super::world::{Control, Happening, Line, Said, World};
use crate::scheduler::slots;

/// How long it usually takes to be let in.
const KNOCK: Duration = Duration::from_millis(1);

/// How long a trainer that died usually takes to come back.
const RESTART: Duration = Duration::from_millis(50);

/// Batches that a trainer without end still reads once the world is left in peace.
const LAST_BATCHES: u32 = 3;

/// What a trainer is told.
#[derive(Clone, Debug)]
pub(super) enum ToTrainer {
    Batch { lease: LeaseId, slot: SlotIndex, position: Position },
    Failed { position: Position, reason: String },
    Dismissed { reason: String },
    End,
}

/// How it ended for a trainer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has all it asked for.
    Whole,
    /// It was told why not.
    Failed(String),
    /// It was not let in.
    Refused(String),
    /// It left.
    Left,
}

/// One trainer, over all its lives.
#[derive(Debug)]
pub(super) struct Trainer {
    luck: Luck,
    wants: Attach,
    /// How long it usually works on a batch.
    pace: Duration,
    /// The position that it takes next.
    pub(super) cursor: Position,
    life: Option<Life>,
    pub(super) outcome: Option<Outcome>,
    stops: u32,
    held: bool,
    batches_left: u32,
}

/// One of them.
#[derive(Debug)]
struct Life {
    member: MemberId,
    up: Line,
    inbox: VecDeque<(LeaseId, SlotIndex, Position)>,
    reads: Vec<(LeaseId, SlotIndex, Position)>,
    last: Option<Outcome>,
    /// Whether its next step is on its way.
    steps: bool,
}

/// What the daemon would know of a member.
#[derive(Debug)]
pub(super) struct Seat {
    trainer: usize,
    pub(super) stream: StreamId,
    down: Line,
    luck: Luck,
    /// The position that it must be given next.
    next: Position,
    pub(super) share: Share,
    /// Whether the scheduler has heard of it.
    pub(super) has_joined: bool,
    pub(super) leases: Vec<(LeaseId, SlotIndex)>,
    pub(super) is_over: bool,
}

impl World {
    /// A trainer comes.
    pub(super) fn attach(&mut self, mut wants: Attach) {
        let id = u32::try_from(self.trainers.len()).expect("few");
        let served = &self.streams.served;
        let place = slots::count(wants.stream.0).checked_rem(served.len());
        let Some(stream) = place.and_then(|place| served.iter().nth(place)) else { return };
        wants.stream = *stream;
        wants.from.step %= self.setup.extent.steps();
        let mut luck = Luck::new(self.setup.seed, 2, id);
        if let Share::Sharded(shard) = &mut wants.share {
            shard.rank = id % shard.world;
        }
        let paces = [0, 1, 5, 20, 100].map(Duration::from_millis);
        let pace = paces[luck.place(paces.len())];
        let at = self.now + luck.span(KNOCK);
        self.trainers.push(Trainer {
            luck,
            pace,
            cursor: wants.from,
            wants,
            life: None,
            outcome: None,
            stops: 0,
            held: false,
            batches_left: LAST_BATCHES,
        });
        self.enqueue(at, Happening::Knock(self.trainers.len() - 1));
    }

    /// A trainer asks to be let in, once its stream is open.
    pub(super) fn knock(&mut self, id: usize) {
        let trainer = &mut self.trainers[id];
        let stream = trainer.wants.stream;
        if !self.is_served(stream, id) {
            return;
        }
        let trainer = &mut self.trainers[id];
        if !self.slabs.contains_key(&stream) {
            return self.early.push(id);
        }
        let until_epoch = trainer.wants.until_epoch;
        if until_epoch.is_some_and(|until| trainer.cursor.epoch >= until) {
            // It died when it had read all and not yet heard that this was all.
            trainer.outcome = Some(Outcome::Whole);
            return;
        }
        if let Err(reason) = self.scheduler.room_for_member(stream, trainer.cursor, &trainer.wants.share) {
            let share = trainer.wants.share.clone();
            let others: Vec<_> = self.seats.values().filter(|seat| seat.stream == stream).collect();
            let excused = self.is_turned_away(stream, &share, &others, &reason);
            assert!(excused || self.control == Control::WithoutReapingUnwatched, "there is a reason: {reason}");
            self.trainers[id].outcome = Some(Outcome::Refused(reason));
            return;
        }
        let trainer = &mut self.trainers[id];
        let member = MemberId(self.past.members);
        self.past.members += 1;
        let (from, leases, share) = (trainer.cursor, trainer.wants.leases, trainer.wants.share.clone());
        let mut up = Line::default();
        let at = up.arrival(self.now, &mut trainer.luck);
        trainer.life = Some(Life { member, up, inbox: VecDeque::new(), reads: Vec::new(), last: None, steps: false });
        let seat = Seat {
            trainer: id,
            stream,
            down: Line::default(),
            luck: Luck::new(self.setup.seed, 3, member.0),
            next: from,
            share: share.clone(),
            has_joined: false,
            leases: Vec::new(),
            is_over: false,
        };
        self.seats.insert(member, seat);
        self.enqueue(
            at,
            Happening::Heard(Said::Event(events::member_joined(member, stream, from, until_epoch, leases, share))),
        );
    }

    pub(super) fn deliver(&mut self, member: MemberId, lease: LeaseId, slot: SlotIndex, position: Position) {
        let seat = self.seats.get_mut(&member).expect("a batch goes to a member");
        assert!(!seat.is_over, "nothing comes after the end");
        assert_eq!(position, seat.next, "a member receives positions in order, without gaps");
        seat.next = self.setup.extent.next(position);
        seat.leases.push((lease, slot));
        let credit = self.trainers[seat.trainer].wants.leases + AHEAD;
        assert!(seat.leases.len() <= slots::count(credit), "leases and unread batches stay under the credit");
        let stream = seat.stream;
        self.slab(stream).lend(slot);
        self.tell_trainer(member, ToTrainer::Batch { lease, slot, position });
    }

    pub(super) fn fail(&mut self, member: MemberId, position: Position, reason: String) {
        let seat = self.seats.get_mut(&member).expect("a member is told");
        assert!(!std::mem::replace(&mut seat.is_over, true), "nothing comes after the end");
        assert_eq!(position, seat.next, "the batch that fails is the one that comes next");
        self.tell_trainer(member, ToTrainer::Failed { position, reason });
    }

    pub(super) fn dismiss(&mut self, member: MemberId, position: Position, reason: String) {
        let seat = self.seats.get_mut(&member).expect("a member is told");
        assert!(!std::mem::replace(&mut seat.is_over, true), "nothing comes after the end");
        assert_eq!(position, seat.next, "a member is told what would have come");
        let (stream, share) = (seat.stream, seat.share.clone());
        let others: Vec<_> = self.seats.iter().filter(|(id, at)| **id != member && at.stream == stream).collect();
        let others: Vec<_> = others.into_iter().map(|(_, seat)| seat).collect();
        assert!(self.is_turned_away(stream, &share, &others, &reason), "members are ended for a reason: {reason}");
        self.tally.count("actions", "Dismiss");
        self.tell_trainer(member, ToTrainer::Dismissed { reason });
    }

    pub(super) fn end(&mut self, member: MemberId) {
        let seat = self.seats.get_mut(&member).expect("a member is told");
        assert!(!std::mem::replace(&mut seat.is_over, true), "nothing comes after the end");
        let until = self.trainers[seat.trainer].wants.until_epoch;
        assert_eq!(Some(seat.next.epoch), until, "a member ends when it was given all it asked for");
        self.tell_trainer(member, ToTrainer::End);
    }

    fn tell_trainer(&mut self, member: MemberId, message: ToTrainer) {
        let now = self.now;
        let seat = self.seats.get_mut(&member).expect("a member is told");
        let at = seat.down.arrival(now, &mut seat.luck);
        self.enqueue(at, Happening::Told(member, message));
    }

    /// The daemon is about to hear that a lease has ended.
    pub(super) fn lease_ends(&mut self, member: MemberId, lease: LeaseId) {
        let Some(seat) = self.seats.get_mut(&member) else { return };
        let Some(place) = seat.leases.iter().position(|(held, _)| *held == lease) else { return };
        let (_, slot) = seat.leases.remove(place);
        let stream = seat.stream;
        self.slab(stream).give_back(slot);
        self.past.leases.push((member, lease));
    }

    /// The daemon is about to hear that a member has gone.
    pub(super) fn seat_empties(&mut self, member: MemberId) {
        let Some(seat) = self.seats.remove(&member) else { return };
        for (lease, slot) in seat.leases {
            let stream = seat.stream;
            self.slab(stream).give_back(slot);
            self.past.leases.push((member, lease));
        }
    }

    /// A trainer reads a message.
    pub(super) fn told(&mut self, member: MemberId, message: ToTrainer) {
        let Some(id) = self.seats.get(&member).map(|seat| seat.trainer) else { return };
        let trainer = &mut self.trainers[id];
        // What was sent to an earlier life is lost.
        let Some(life) = trainer.life.as_mut().filter(|life| life.member == member) else { return };
        match message {
            ToTrainer::Batch { lease, slot, position } => life.inbox.push_back((lease, slot, position)),
            ToTrainer::Failed { position, reason } => {
                let next = life.inbox.back().map_or(trainer.cursor, |last| self.setup.extent.next(last.2));
                assert_eq!(position, next, "the batch that fails is the one that comes next");
                life.last = Some(Outcome::Failed(reason));
            }
            ToTrainer::Dismissed { reason } => life.last = Some(Outcome::Failed(reason)),
            ToTrainer::End => life.last = Some(Outcome::Whole),
        }
        self.trainer_gets_on(id);
    }

    /// Has a trainer that has something to do, do it after a while.
    fn trainer_gets_on(&mut self, id: usize) {
        let now = self.now;
        let trainer = &mut self.trainers[id];
        let Some(life) = &mut trainer.life else { return };
        let idle = life.inbox.is_empty() && life.reads.is_empty() && life.last.is_none();
        if life.steps || idle {
            return;
        }
        life.steps = true;
        let at = now + trainer.luck.span(trainer.pace);
        self.enqueue(at, Happening::TrainerStep(id));
    }

    pub(super) fn trainer_step(&mut self, id: usize) {
        let trainer = &mut self.trainers[id];
        let Some(life) = trainer.life.as_mut().filter(|life| life.steps) else { return };
        if trainer.stops > 0 {
            trainer.held = true;
            return;
        }
        life.steps = false;
        let keeps = life.reads.len() < trainer.wants.holds || life.reads.is_empty();
        if let Some((lease, slot, position)) = life.inbox.pop_front_if(|_| keeps) {
            assert_eq!(position, trainer.cursor, "a trainer sees every batch once, whatever became of it");
            trainer.cursor = self.setup.extent.next(position);
            life.reads.push((lease, slot, position));
            let endless = self.peace && trainer.wants.until_epoch.is_none();
            trainer.batches_left -= u32::from(endless);
            let leaves = trainer.batches_left == 0;
            let stream = trainer.wants.stream;
            self.slab(stream).check(slot, position);
            self.tally.count("trainers", "batches read");
            if leaves {
                self.trainers[id].outcome = Some(Outcome::Left);
                self.life_ends(id);
            }
        } else if !life.reads.is_empty() {
            let (lease, slot, position) = life.reads.remove(trainer.luck.place(life.reads.len()));
            let at = life.up.arrival(self.now, &mut trainer.luck);
            let (member, stream) = (life.member, trainer.wants.stream);
            self.slab(stream).check(slot, position);
            self.enqueue(at, Happening::Heard(Said::Event(events::released(member, lease))));
        } else if life.last.is_some() {
            trainer.outcome = life.last.take();
            let whole = trainer.outcome == Some(Outcome::Whole);
            assert!(!whole || Some(trainer.cursor.epoch) == trainer.wants.until_epoch, "it has all it asked for");
            self.tally.count("trainers", if whole { "ended whole" } else { "ended with a reason" });
            self.life_ends(id);
        }
        self.trainer_gets_on(id);
    }

    /// A trainer's process ends, with all it holds.
    fn life_ends(&mut self, id: usize) {
        let now = self.now;
        let trainer = &mut self.trainers[id];
        let Some(life) = trainer.life.take() else { return };
        trainer.held = false;
        let at = life.up.end(now, &mut trainer.luck);
        self.enqueue(at, Happening::Heard(Said::Event(events::member_gone(life.member))));
    }

    /// One of the trainers that are alive.
    fn one_trainer(&self, choice: usize) -> Option<usize> {
        let alive: Vec<_> = (0..self.trainers.len()).filter(|id| self.trainers[*id].life.is_some()).collect();
        Some(alive[choice.checked_rem(alive.len())?])
    }

    pub(super) fn trainer_dies(&mut self, choice: usize) {
        let Some(id) = self.one_trainer(choice) else { return };
        self.tally.count("mishaps", "trainer killed");
        self.life_ends(id);
        let trainer = &mut self.trainers[id];
        let at = self.now + trainer.luck.span(RESTART);
        self.enqueue(at, Happening::Knock(id));
    }

    pub(super) fn trainer_leaves(&mut self, choice: usize) {
        let Some(id) = self.one_trainer(choice) else { return };
        self.trainers[id].outcome = Some(Outcome::Left);
        self.life_ends(id);
    }

    pub(super) fn trainer_stops(&mut self, choice: usize, spell: Spell) {
        let Some(id) = self.one_trainer(choice) else { return };
        self.tally.count("mishaps", "trainer stopped");
        self.trainers[id].stops += 1;
        self.enqueue(self.now + spell.time(), Happening::TrainerGoesOn(id));
    }

    pub(super) fn trainer_goes_on(&mut self, id: usize) {
        let trainer = &mut self.trainers[id];
        trainer.stops -= 1;
        if trainer.stops == 0 && std::mem::replace(&mut trainer.held, false) {
            self.trainer_step(id);
        }
    }
}
