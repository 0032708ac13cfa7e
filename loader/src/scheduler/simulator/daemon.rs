//! What the daemon does between the scheduler and all others: passes on what they say, does what it says. What it says is
//! checked here.

use std::collections::{BTreeMap, BTreeSet};

use batchmill_protocol::digest::Digest;
use batchmill_protocol::message::{Filled, Quarantined, StreamId, Task, TaskId, WorkerId};
use batchmill_protocol::position::Position;
use batchmill_protocol::share::{Lag, Share};

use super::events;
use super::processes::{ATTEMPTS_MAX, Order, TURN};
use super::scenario::{Fate, Setup};
use super::slab::Slab;
use super::streams::CLOSED;
use super::trainers::Seat;
use super::world::{Control, Happening, REAP, World};
use crate::scheduler::slots;
use crate::scheduler::workers::FALSE_STARTS_MAX;
use crate::scheduler::{Action, CRASHES_MAX, Event, LANE_SLOTS_MIN, UNNAMED_DEATHS_MAX};

/// What the daemon has heard, and so what it may be told.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Tasks that a worker was told about and that neither it nor its end has taken back: it may write their rows.
    pub(super) tasks_out: BTreeMap<TaskId, (WorkerId, Task)>,
    next_task: u64,
    ever_joined: bool,
    /// Who was asked what a stream delivers and has not said so.
    pub(super) surveys_out: BTreeMap<StreamId, WorkerId>,
    /// Who was told to open a stream and has not said so.
    openings_out: BTreeMap<WorkerId, StreamId>,
    /// Deaths of those who surveyed a stream or opened it.
    survey_deaths: u32,
    /// Streams that some worker was ever ready for.
    ready: BTreeSet<StreamId>,
    /// How often the data of an open stream were read anew.
    editions: BTreeMap<StreamId, u32>,
    /// Deaths, by the sample that was being made.
    deaths: BTreeMap<Option<u64>, u32>,
    /// Samples that must not be read, and the first task that was given out when that was known.
    pub(super) quarantined: BTreeMap<(StreamId, u64), TaskId>,
    /// Samples that were said to be bad.
    bad: BTreeSet<(StreamId, u64)>,
    /// What each batch amounted to when it was first delivered.
    digests: BTreeMap<(StreamId, Position), Digest>,
    /// Whether it may amount to something else by now: a bad sample was mended, or a good one taken for bad.
    differs: bool,
}

impl World {
    /// Takes note of what the scheduler is about to hear, as far as the world must know it, and has it hear it.
    pub(super) fn hear(&mut self, event: Event) {
        if !is_of_batches(&event) {
            self.decide();
        }
        match &event {
            Event::TaskDone { task, outcome, .. } => {
                if let Some((_, task)) = self.heard.tasks_out.remove(task) {
                    self.slab(task.stream).accept(&task);
                    self.past.tasks.push(task.id);
                    if let Ok(Filled { bad, .. }) = outcome {
                        self.heard.bad.extend(bad.iter().map(|bad| (task.stream, bad.index)));
                    }
                }
            }
            Event::WorkerGone { worker, death } => {
                self.processes.remove(worker).expect("a worker is reaped once");
                let lost = self.heard.tasks_out.extract_if(.., |_, (told, _)| told == worker);
                self.past.tasks.extend(lost.map(|(task, _)| task));
                let making = death.making.as_ref().and_then(|making| making.index);
                *self.heard.deaths.entry(making).or_default() += 1;
                let asked = self.heard.surveys_out.extract_if(.., |_, asked| asked == worker).count();
                let asked = asked + self.heard.openings_out.extract_if(.., |asked, _| asked == worker).count();
                self.heard.survey_deaths += u32::try_from(asked).expect("few");
            }
            Event::WorkerJoined(_) => self.heard.ever_joined = true,
            Event::MemberJoined { member, stream, from, .. } => {
                self.seats.get_mut(member).expect("it has asked to be let in").has_joined = true;
                if !self.streams.served.contains(stream) {
                    return self.dismiss(*member, *from, CLOSED.to_owned());
                }
            }
            Event::WorkerOpened { worker, stream } => {
                self.heard.openings_out.remove(worker);
                self.heard.ready.insert(*stream);
            }
            Event::Released { member, lease } => self.lease_ends(*member, *lease),
            Event::MemberGone(member) => self.seat_empties(*member),
            _ => {}
        }
        self.tell(event);
    }

    /// A worker has looked at a stream's data: what the daemon makes of it.
    pub(super) fn surveyed(&mut self, worker: WorkerId, stream: StreamId, found: bool) {
        if !self.streams.served.contains(&stream) {
            return;
        }
        self.heard.surveys_out.retain(|of, asked| (*of, *asked) != (stream, worker));
        // What was not asked about yet is decided by the data as they were.
        self.decide();
        if self.slabs.contains_key(&stream) {
            // Data that are of another shape are not used.
            let anew = found && !self.luck.once_in(4);
            if anew {
                *self.heard.editions.entry(stream).or_default() += 1;
                self.heard.differs = true;
                self.heard.quarantined.retain(|(of, _), _| *of != stream);
            }
            return self.tell(events::retried(worker, stream, anew));
        }
        if !found && !self.is_from_the_start(stream) {
            self.streams.failed.push(stream);
            return self.tell(events::stream_surveyed(worker, stream));
        }
        if !found {
            self.tally.count("daemon ended", "no sample can be read");
            self.over = true;
            return;
        }
        let Setup { extent, slots, bad_limit, .. } = self.setup;
        self.tell(events::stream_surveyed(worker, stream));
        self.slabs.insert(stream, Slab::new(extent, slots));
        self.tell(events::stream_opened(stream, extent, slots, bad_limit));
        for trainer in std::mem::take(&mut self.early) {
            self.knock(trainer);
        }
    }

    /// Somebody has the bad samples of a stream tried again.
    pub(super) fn retry(&mut self, choice: usize, mended: bool) {
        if mended {
            self.fates.clear();
            self.heard.differs = true;
        }
        if let Some(stream) = choice.checked_rem(self.slabs.len()).and_then(|place| self.slabs.keys().nth(place)) {
            self.tell(Event::Retry(*stream));
        }
    }

    /// Takes note of samples that are not read any more.
    fn note_quarantined(&mut self, stream: StreamId, samples: &[Quarantined]) {
        for Quarantined { index, .. } in samples {
            self.heard.bad.insert((stream, *index));
            // Who was only unlucky, or slow, was read before, and may be in batches.
            if !matches!(self.setup.fates.get(index), Some(Fate::Crash | Fate::Hang)) {
                self.heard.differs = true;
            }
        }
    }

    /// Has the scheduler hear something and does what it says.
    pub(super) fn tell(&mut self, event: Event) {
        self.tally.count("heard", events::kind(&event));
        if !matches!(event, Event::Tick) {
            self.trace(format_args!("{event:?}"));
        }
        let (dies, next_task) = (matches!(event, Event::WorkerGone { .. }), TaskId(self.heard.next_task));
        let is_of_batches = is_of_batches(&event);
        if !is_of_batches {
            self.decide();
        }
        self.scheduler.note(self.now, event);
        self.undecided = true;
        if is_of_batches && self.luck.once_in(2) {
            // More of it may be heard before it is asked what to do.
            let at = self.now + self.luck.span(TURN);
            return self.enqueue(at, Happening::Decides);
        }
        self.undecided = false;
        let actions = self.scheduler.decide(self.now);
        for stream in self.slabs.keys().filter(|_| dies) {
            // Whoever is given its rows from now on has been told.
            for Quarantined { index, .. } in self.scheduler.poisonous(*stream) {
                self.heard.quarantined.entry((*stream, index)).or_insert(next_task);
            }
        }
        self.act_all(actions);
    }

    /// Has the scheduler say what follows from what it was not asked about.
    pub(super) fn decide(&mut self) {
        if std::mem::take(&mut self.undecided) {
            let actions = self.scheduler.decide(self.now);
            self.act_all(actions);
        }
    }

    fn act_all(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.trace(format_args!("    {action:?}"));
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Spawn(worker) => self.spawned(worker),
            Action::Survey { worker, stream, quarantined } => {
                self.heard.surveys_out.insert(stream, worker);
                self.order(worker, Order::Survey(stream, quarantined));
            }
            Action::Open { worker, stream } => {
                let quarantined = self.scheduler.poisonous(stream);
                self.note_quarantined(stream, &quarantined);
                let edition = self.heard.editions.get(&stream).copied().unwrap_or_default();
                let busy = self.heard.openings_out.insert(worker, stream);
                assert_eq!(busy, None, "a worker is told to open one stream at a time");
                self.order(worker, Order::Open(stream, edition, quarantined));
            }
            Action::Close { worker, stream } => self.order(worker, Order::Close(stream)),
            Action::Quarantine { worker, stream, sample } => {
                self.note_quarantined(stream, std::slice::from_ref(&sample));
                self.order(worker, Order::Quarantine(stream, sample));
            }
            Action::Assign { worker, task } => self.assigned(worker, task),
            Action::Leave(worker) => self.order(worker, Order::Leave),
            Action::Kill { worker, why } => {
                assert!(!self.processes[&worker].is_idle(self.now), "who does what it is told is not killed: {why}");
                let at = self.now + self.luck.span(REAP);
                self.enqueue(at, Happening::Dies(worker));
            }
            Action::Deliver { member, lease, slot, position, digest } => {
                let stream = self.seats.get(&member).expect("a batch goes to a member").stream;
                assert_eq!(self.slab(stream).check(slot, position), digest, "a digest is that of what is read");
                let first = *self.heard.digests.entry((stream, position)).or_insert(digest);
                assert!(first == digest || self.heard.differs, "a batch follows from its position: {position}");
                self.tally.count("actions", "Deliver");
                self.deliver(member, lease, slot, position);
            }
            Action::Fail { member, position, reason } => {
                let stream = self.seats.get(&member).expect("a member is told").stream;
                assert!(self.is_excused(stream, position, &reason), "batches fail for a reason: {reason}");
                self.tally.count("actions", "Fail");
                self.fail(member, position, reason);
            }
            Action::Dismiss { member, position, reason } => self.dismiss(member, position, reason),
            Action::End(member) => self.end(member),
            Action::StreamFailed { stream, reason } => {
                assert!(self.heard.survey_deaths >= CRASHES_MAX, "a stream fails for a reason: {reason}");
                // One that can be read stays as it is.
                if self.heard.ready.contains(&stream) {
                    return;
                }
                if self.is_from_the_start(stream) {
                    self.tally.count("daemon ended", "a stream failed");
                    self.over = true;
                } else {
                    self.streams.failed.push(stream);
                }
            }
            Action::GiveUp { reason } => {
                let deaths: u32 = self.heard.deaths.values().sum();
                assert!(
                    !self.heard.ever_joined && deaths >= FALSE_STARTS_MAX,
                    "the daemon gives up for a reason: {reason}"
                );
                self.tally.count("daemon ended", "no worker starts");
                self.over = true;
            }
        }
    }

    fn assigned(&mut self, worker: WorkerId, task: Task) {
        let batch = self.setup.extent.rows(task.position.step);
        assert!(task.rows.lo < task.rows.hi && task.rows.hi <= batch, "rows of the batch: {task:?}");
        assert!(task.id.0 >= self.heard.next_task, "a task's id is never used again");
        self.heard.next_task = task.id.0 + 1;
        if self.control != Control::WithoutReapingUnwatched {
            self.watch(worker, &task);
        }
        assert!(self.heard.tasks_out.insert(task.id, (worker, task)).is_none(), "a task is given out once");
        self.order(worker, Order::Task(task));
    }

    /// Asserts that a worker may be given a task.
    fn watch(&self, worker: WorkerId, task: &Task) {
        let same_rows = |other: &Task| {
            other.position != task.position || (other.rows.lo < task.rows.hi && task.rows.lo < other.rows.hi)
        };
        let same_slot = |other: &Task| (other.stream, other.slot) == (task.stream, task.slot);
        let other = self.heard.tasks_out.values().find(|(_, other)| same_slot(other) && same_rows(other));
        assert!(other.is_none(), "rows that a living worker may still write are not given out: {task:?}, {other:?}");
        let ready = self.processes[&worker].edition(task.stream);
        let edition = self.heard.editions.get(&task.stream).copied().unwrap_or_default();
        // What a dismissed worker says of a stream's data is heard by the daemon alone.
        let excused = self.control != Control::None;
        assert!(
            excused || ready == Some(edition),
            "a worker gets tasks of a stream that it has opened as it is: {task:?}"
        );
    }

    fn order(&mut self, worker: WorkerId, order: Order) {
        let now = self.now;
        let process = self.processes.get_mut(&worker).expect("actions go to workers that are not reaped");
        let at = process.down.arrival(now, &mut process.luck);
        self.enqueue(at, Happening::Ordered(worker, order));
    }

    /// Whether what happened so far is reason enough for a batch to fail.
    fn is_excused(&self, stream: StreamId, position: Position, reason: &str) -> bool {
        if reason.contains("on_bad_limit") {
            let bad = self.heard.bad.iter().filter(|(of, _)| *of == stream).count();
            return u64::try_from(bad).is_ok_and(|bad| bad > self.setup.bad_limit);
        }
        if reason.contains("samples that cannot be named") {
            return self.heard.deaths.get(&None).is_some_and(|deaths| *deaths >= UNNAMED_DEATHS_MAX);
        }
        let rows = 0..self.setup.extent.rows(position.step);
        let samples = rows.flat_map(|row| (0..=ATTEMPTS_MAX).map(move |attempt| (row, attempt)));
        samples.map(|(row, attempt)| self.sample(position, row, attempt)).any(|sample| {
            let named = reason.starts_with(&format!("{}: ", events::sample_name(sample)));
            let unreadable = self.setup.fates.get(&sample) == Some(&Fate::Unreadable);
            named && (unreadable || self.heard.deaths.get(&Some(sample)).is_some_and(|deaths| *deaths >= CRASHES_MAX))
        })
    }

    /// Whether a trainer that would share in this way may be told `reason` beside `others` of the stream.
    pub(super) fn is_turned_away(&self, stream: StreamId, share: &Share, others: &[&Seat], reason: &str) -> bool {
        if reason == CLOSED {
            return !self.streams.served.contains(&stream);
        }
        if reason.contains("raise --memory") {
            let read = self.slabs.get(&stream).map_or(0, Slab::lent);
            let few = read + (others.len() + 1) * LANE_SLOTS_MIN > slots::count(self.setup.slots);
            // What some have read and others have not is not to be had either.
            return few || others.iter().any(|seat| seat.share != Share::Private);
        }
        if reason.contains("lags") {
            let broadcast = others.iter().any(|seat| matches!(seat.share, Share::Broadcast { .. }));
            return *share == Share::Broadcast { lag: Lag::Drop } && broadcast;
        }
        let Share::Sharded(own) = share else { return false };
        let ranks: Vec<_> = others
            .iter()
            .filter(|seat| seat.has_joined)
            .filter_map(|seat| if let Share::Sharded(other) = &seat.share { Some((seat.is_over, other)) } else { None })
            .filter(|(_, other)| other.group == own.group)
            .collect();
        if reason.contains("is there already") {
            return ranks.iter().any(|(_, other)| other.rank == own.rank);
        }
        if reason.contains("end those first") {
            return ranks.iter().any(|(_, other)| other.world != own.world);
        }
        // A rank is missing.
        let waited = reason.contains("did not come") || reason.contains(" been gone for ");
        let is_there = |rank| ranks.iter().any(|(is_over, at)| !is_over && (at.rank, at.world) == (rank, own.world));
        waited && (0..own.world).any(|rank| rank != own.rank && !is_there(rank))
    }
}

/// Whether many such events are heard before the scheduler is asked what to do.
fn is_of_batches(event: &Event) -> bool {
    matches!(event, Event::TaskDone { .. } | Event::Released { .. })
}
