//! All decisions and no I/O: who makes which rows of which batch, where, and who may read it.
//!
//! Everything that happens outside becomes one [`Event`]; the answer is a list of [`Action`]s, which the daemon carries
//! out. There is no clock, no thread and no process in here, so every order of events can be tried in a test. After each
//! event of a debug or test build the invariants of the design are checked (`invariants`).

use std::collections::BTreeMap;
use std::hash::RandomState;
use std::time::Duration;

use batchmill_protocol::digest::Digest;
use batchmill_protocol::message::{
    Filled, LeaseId, MemberId, Quarantined, SlotIndex, StreamId, Task, TaskId, WorkerId,
};
use batchmill_protocol::position::{Extent, Position};
use batchmill_protocol::share::Share;
use batchmill_protocol::slab::Making;

use budget::Budget;
use groups::Group;
use lanes::{Lane, LaneId, Member};
use lobby::Lobby;
use pace::Pace;
use quarantine::Quarantine;
use sharing::Partings;
use slots::{Deaths, Slot};
use survey::Survey;
use workers::Workers;

pub(crate) use quarantine::SAMPLES_MAX as BAD_SAMPLES_MAX;

mod assign;
mod budget;
mod cost;
mod deliver;
mod groups;
#[cfg(any(test, debug_assertions))]
mod invariants;
mod lanes;
mod lobby;
#[cfg(any(test, feature = "negative-control"))]
mod negative_control;
mod openings;
mod pace;
mod quarantine;
mod report;
mod sharing;
#[cfg(test)]
mod simulator;
mod slots;
mod survey;
#[cfg(test)]
mod tests;
mod workers;

/// The fewest slots a lane can work with: one is read while the other is filled.
pub(crate) const LANE_SLOTS_MIN: usize = 2;

/// Workers that may crash on one sample before it is not read any more.
const CRASHES_MAX: u32 = 2;

/// Workers that may be killed from outside while making one sample of one batch before it is not read any more: by hand,
/// which says nothing about the sample, or by the kernel for want of memory, which does.
const KILLS_MAX: u32 = 5;

/// Workers that may die while making a batch, but none of its samples that can be named, before it is given up.
const UNNAMED_DEATHS_MAX: u32 = 20;

/// What happened outside.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A stream shall be served; a worker is to say what it delivers.
    StreamAdded(StreamId),
    /// A worker that surveys a stream has read its index, and tries samples.
    Indexed(WorkerId),
    /// A worker said what a stream delivers.
    StreamSurveyed { worker: WorkerId, stream: StreamId },
    /// A stream has its memory; of its samples `bad_limit` may be bad.
    StreamOpened { stream: StreamId, extent: Extent, slots: u32, bad_limit: u64 },
    /// A stream shall be served no longer; its members are told the reason.
    StreamClosed { stream: StreamId, reason: String },
    /// The samples of a stream that cannot be read are to be tried again, after its index was read anew.
    Retry(StreamId),
    /// It was read anew, and every worker is to use it; or it could not be.
    Retried { worker: WorkerId, stream: StreamId, anew: bool },
    /// A worker process has joined its line.
    WorkerJoined(WorkerId),
    /// A worker is ready for tasks of a stream.
    WorkerOpened { worker: WorkerId, stream: StreamId },
    /// A worker is done with a task, or says why a sample cannot be made.
    TaskDone { worker: WorkerId, task: TaskId, busy: Duration, cpu: Duration, outcome: Result<Filled, String> },
    /// A worker process was reaped, and all it ever said was heard.
    WorkerGone { worker: WorkerId, death: Death },
    /// So many workers are wanted.
    Scaled(u32),
    /// A trainer has joined its line.
    MemberJoined {
        member: MemberId,
        stream: StreamId,
        from: Position,
        until_epoch: Option<u64>,
        leases: u32,
        /// Beyond those, for one that is quick.
        ahead: u32,
        share: Share,
    },
    /// A trainer reads a slot no longer.
    Released { member: MemberId, lease: LeaseId },
    /// A trainer is gone.
    MemberGone(MemberId),
    /// Time has passed.
    Tick,
}

/// How a worker process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Death {
    /// For a person: `was killed by signal 9 (SIGKILL)`.
    pub(crate) how: String,
    /// Whether it was by what it did, rather than by what was done to it.
    pub(crate) crashed: bool,
    /// What it was making.
    pub(crate) making: Option<Making>,
}

/// What is to be done outside.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Start a worker process.
    Spawn(WorkerId),
    /// Have a worker say what a stream delivers, without reading the samples that must not be read.
    Survey { worker: WorkerId, stream: StreamId, quarantined: Vec<Quarantined> },
    /// Have a worker make itself ready for a stream.
    Open { worker: WorkerId, stream: StreamId },
    /// Have a worker forget a stream.
    Close { worker: WorkerId, stream: StreamId },
    /// Have a worker read a sample no more.
    Quarantine { worker: WorkerId, stream: StreamId, sample: Quarantined },
    /// Give a worker rows to fill.
    Assign { worker: WorkerId, task: Task },
    /// Have a worker finish and leave.
    Leave(WorkerId),
    /// Kill a worker.
    Kill { worker: WorkerId, why: String },
    /// Let a member read a slot.
    Deliver { member: MemberId, lease: LeaseId, slot: SlotIndex, position: Position, digest: Digest },
    /// Tell a member that its next batch cannot be made.
    Fail { member: MemberId, position: Position, reason: String },
    /// Tell a member that it is ended before its time.
    Dismiss { member: MemberId, position: Position, reason: String },
    /// Tell a member that it has all it asked for.
    End(MemberId),
    /// A stream cannot be served.
    StreamFailed { stream: StreamId, reason: String },
    /// No worker can be started at all.
    GiveUp { reason: String },
}

/// The one authority over slots, workers and members.
#[derive(Debug)]
pub(crate) struct Scheduler {
    streams: BTreeMap<StreamId, Stream>,
    workers: Workers,
    members: BTreeMap<MemberId, Member>,
    tasks: BTreeMap<TaskId, Task>,
    next_task: u64,
    next_lease: u64,
    /// Makes lease ids of their numbers that a member cannot guess, having seen others: it must have read a batch's
    /// message to release it, and so never has more unread messages than its credit.
    lease_key: RandomState,
    next_lane: u32,
    /// The clock of fair shares: the workers' time that the lane served last had been given by then (`assign`).
    fair_time: Duration,
    /// How much of the processors the workers may use, if that is limited.
    budget: Option<Budget>,
    /// What they have used.
    cpu_used: Duration,
    actions: Vec<Action>,
    /// Whether it does what it must not, so that a test can be seen to notice (`negative_control`).
    #[cfg(any(test, feature = "negative-control"))]
    pub(crate) without_reaping: bool,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are open")]
enum Stream {
    /// A worker is asked, or still to be asked, what it delivers.
    Survey(Survey),
    /// The daemon lays it out in memory.
    Surveyed(Quarantine),
    /// It can be read.
    Open(OpenStream),
    /// It cannot be served.
    Failed,
}

#[derive(Debug)]
struct OpenStream {
    extent: Extent,
    slots: Vec<Slot>,
    lanes: BTreeMap<LaneId, Lane>,
    lobby: Lobby,
    groups: BTreeMap<String, Group>,
    partings: Partings,
    cost: cost::Cost,
    samples_made: u64,
    quarantine: Quarantine,
    /// Workers that died on opening it, until one has opened it.
    deaths_on_opening: Option<Deaths>,
    /// Its index is being read anew.
    retry: Option<Survey>,
    /// Tasks before this one were given out before that.
    since_retry: TaskId,
}

impl OpenStream {
    /// The most slots that one lane may hold. Where members wait for one another, a little is left, so that whoever begins
    /// elsewhere finds room meanwhile.
    fn lane_slots_max(&self) -> usize {
        let is_shared = self.lanes.values().any(|lane| lane.party.is_shared());
        let left = if is_shared { LANE_SLOTS_MIN } else { 0 };
        (self.slots.len().saturating_sub(left) / self.lanes.len().max(1)).max(LANE_SLOTS_MIN)
    }

    fn slot(&mut self, slot: SlotIndex) -> &mut Slot {
        &mut self.slots[slots::place(slot)]
    }

    /// Makes no more of a batch, because of what its row `row` met.
    fn give_up(&mut self, slot: SlotIndex, row: u32, reason: String) {
        if let Slot::Filling(filling) = self.slot(slot) {
            filling.todo.clear();
            filling.given_up = true;
            filling.fault = Some((row, reason));
        }
    }

    /// The workers that died on a sample, over all batches that are being made.
    fn deaths_on(&self, index: u64) -> Deaths {
        let fillings = self.slots.iter().filter_map(|slot| match slot {
            Slot::Filling(filling) => filling.deaths.get(&Some(index)),
            _ => None,
        });
        fillings.fold(Deaths::default(), |sum, deaths| Deaths {
            crashes: sum.crashes + deaths.crashes,
            kills: sum.kills + deaths.kills,
        })
    }

    /// The slots of a lane's window, in stream order.
    fn window<'a>(&'a self, lane: &'a Lane) -> impl Iterator<Item = &'a Slot> {
        lane.window.iter().map(|&(_, slot)| &self.slots[slots::place(slot)])
    }
}

impl Scheduler {
    /// Begins with nothing but the wish for `wanted` workers, which may take at least `hang_limit` for a task.
    pub(crate) fn new(wanted: u32, hang_limit: Duration) -> Self {
        Self {
            streams: BTreeMap::new(),
            workers: Workers::new(wanted, hang_limit),
            members: BTreeMap::new(),
            tasks: BTreeMap::new(),
            next_task: 0,
            next_lease: 0,
            lease_key: RandomState::new(),
            next_lane: 0,
            fair_time: Duration::ZERO,
            budget: None,
            cpu_used: Duration::ZERO,
            actions: Vec::new(),
            #[cfg(any(test, feature = "negative-control"))]
            without_reaping: false,
        }
    }

    /// Takes note of what happened and says what to do.
    #[cfg(test)]
    pub(crate) fn handle(&mut self, now: Duration, event: Event) -> Vec<Action> {
        self.note(now, event);
        self.decide(now)
    }

    /// Takes note of what happened at `now` (since any fixed moment).
    ///
    /// Events that make no sense, such as an answer to a task that is not out, change nothing.
    pub(crate) fn note(&mut self, now: Duration, event: Event) {
        match event {
            Event::StreamAdded(stream) => {
                self.streams.insert(stream, Stream::Survey(Survey::default()));
            }
            Event::Indexed(worker) => self.workers.indexed(now, worker),
            Event::StreamSurveyed { worker, stream } => self.stream_surveyed(worker, stream),
            Event::StreamOpened { stream, extent, slots, bad_limit } => {
                self.stream_opened(stream, extent, slots, bad_limit);
            }
            Event::StreamClosed { stream, reason } => self.stream_closed(now, stream, &reason),
            Event::Retry(stream) => self.retry(stream),
            Event::Retried { worker, stream, anew } => self.retried(worker, stream, anew),
            Event::WorkerJoined(worker) => self.worker_joined(now, worker),
            Event::WorkerOpened { worker, stream } => self.worker_opened(worker, stream),
            Event::TaskDone { worker, task, busy, cpu, outcome } => {
                self.note_cpu(cpu);
                self.task_done(now, worker, task, busy, outcome);
            }
            Event::WorkerGone { worker, death } => self.worker_gone(now, worker, death),
            Event::Scaled(wanted) => self.workers.want(wanted),
            Event::MemberJoined { member, stream, from: cursor, until_epoch, leases, ahead, share } => {
                let (lane, credit, leases) = (None, leases.max(1), BTreeMap::new());
                let pace = Pace::new(now);
                let joining = Member { stream, lane, cursor, until_epoch, credit, ahead, leases, share, pace };
                self.member_joined(now, member, stream, joining);
            }
            Event::Released { member, lease } => self.released(now, member, lease),
            Event::MemberGone(member) => self.member_gone(now, member),
            Event::Tick => {}
        }
        #[cfg(any(test, debug_assertions))]
        self.check_invariants();
    }

    /// Says what to do after all that was noted since it was asked last.
    pub(crate) fn decide(&mut self, now: Duration) -> Vec<Action> {
        #[cfg(any(test, feature = "negative-control"))]
        self.forget_slow_workers(now);
        self.workers.keep_up(now, &mut self.actions);
        self.workers.tell_to_open(now, &mut self.actions);
        self.ask_for_surveys(now);
        self.keep_company(now);
        self.assign(now);
        self.keep_lobbies(now);
        #[cfg(any(test, debug_assertions))]
        self.check_invariants();
        std::mem::take(&mut self.actions)
    }

    /// How many workers are wanted.
    pub(crate) fn workers_wanted(&self) -> u32 {
        self.workers.wanted()
    }

    /// Whether one more member finds room.
    ///
    /// # Errors
    /// One sentence fragment with the remedy when it does not.
    pub(crate) fn room_for_member(&self, stream: StreamId, from: Position, share: &Share) -> Result<(), String> {
        match self.streams.get(&stream) {
            Some(Stream::Open(open)) => open.room_for(from, share, &self.members),
            _ => Err("the stream is not open yet: try again in a moment".to_owned()),
        }
    }

    fn stream_opened(&mut self, stream: StreamId, extent: Extent, slots: u32, bad_limit: u64) {
        assert!(slots::count(slots) >= LANE_SLOTS_MIN, "the daemon reserves at least {LANE_SLOTS_MIN} slots");
        assert!(extent.steps() > 0, "datasets refuse an epoch without batches");
        let Some(state @ Stream::Surveyed(_)) = self.streams.get_mut(&stream) else { return };
        let Stream::Surveyed(quarantine) = std::mem::replace(state, Stream::Failed) else { return };
        *state = Stream::Open(OpenStream {
            extent,
            slots: (0..slots).map(|_| Slot::Free).collect(),
            lanes: BTreeMap::new(),
            lobby: Lobby::default(),
            groups: BTreeMap::new(),
            partings: Partings::default(),
            cost: cost::Cost::default(),
            samples_made: 0,
            quarantine: quarantine.within(bad_limit),
            deaths_on_opening: Some(Deaths::default()),
            retry: None,
            since_retry: TaskId(0),
        });
        self.open_everywhere(stream);
    }

    fn worker_joined(&mut self, now: Duration, worker: WorkerId) {
        if !self.workers.join(now, worker) {
            return;
        }
        for (&stream, state) in &self.streams {
            if matches!(state, Stream::Open(_)) {
                self.workers.want_open(worker, stream);
            }
        }
    }

    fn worker_gone(&mut self, now: Duration, worker: WorkerId, mut death: Death) {
        let Some(gone) = self.workers.remove(now, worker, &death.how, &mut self.actions) else { return };
        let expected = gone.phase.is_wanted_end();
        if let Some(why) = &gone.killed_for {
            (death.crashed, death.how) = (true, format!("was killed: {why}"));
        }
        // With a task in hand it did not get to a survey or an opening.
        let on_stream = (gone.tasks.is_empty() && !expected).then_some(&death);
        self.survey_lost(worker, on_stream);
        if let (Some(stream), Some(death)) = (gone.opening, on_stream) {
            self.opening_lost(stream, death);
        }
        // Only one was being worked on: that which it said so of, or the first. Of those before it nothing was heard yet, the
        // others waited in its line.
        let said = death.making.as_ref().and_then(|making| making.task);
        let said = said.filter(|said| gone.tasks.iter().any(|given| given.task == *said));
        let in_hand = said.or_else(|| gone.tasks.front().map(|given| given.task));
        for given in gone.tasks {
            let task = self.tasks.remove(&given.task).expect("a worker's tasks are in the table");
            self.task_lost(&task, (in_hand == Some(task.id) && !expected).then_some(&death));
        }
    }

    /// Puts the rows of a dead worker's task back, to be given out again under another id.
    fn task_lost(&mut self, task: &Task, death: Option<&Death>) {
        let Some(Stream::Open(open)) = self.streams.get_mut(&task.stream) else { return };
        let Slot::Filling(filling) = open.slot(task.slot) else { unreachable!("a slot with tasks is being filled") };
        filling.tasks_out -= 1;
        if !filling.given_up {
            filling.put_back(task.rows);
        }
        let death = death.filter(|_| !open.is_lost_in_lobby(task.slot));
        if let Some(death @ Death { how, making, .. }) = death
            && task.id >= open.since_retry
        {
            let index = making.as_ref().and_then(|making| making.index);
            let Slot::Filling(filling) = open.slot(task.slot) else { unreachable!("looked at above") };
            let deaths = filling.deaths.entry(index).or_default();
            deaths.add(death);
            let deaths = *deaths;
            if let Some(Making { index: Some(index), name, .. }) = making {
                // The sample may be wanted for several batches at once.
                let deaths = open.deaths_on(*index);
                if deaths.are_too_many() {
                    match open.quarantine.poison(*index, name, deaths.count(), how, Some(task.position)) {
                        Ok(Some(sample)) => self.quarantine_everywhere(task.stream, &sample),
                        Ok(None) => {}
                        Err(reason) => open.give_up(task.slot, task.rows.lo, reason),
                    }
                }
            } else if deaths.count() >= UNNAMED_DEATHS_MAX {
                let reason = format!(
                    "{UNNAMED_DEATHS_MAX} worker processes died on reading samples that cannot be named; the last {how}"
                );
                open.give_up(task.slot, task.rows.lo, reason);
            }
        }
        self.settle(task.stream, task.slot);
    }

    /// Has every worker read a sample no more. A worker hears of it before it gets the sample's rows again.
    fn quarantine_everywhere(&mut self, stream: StreamId, sample: &Quarantined) {
        for worker in self.workers.joined() {
            self.actions.push(Action::Quarantine { worker, stream, sample: sample.clone() });
        }
    }

    fn task_done(
        &mut self,
        now: Duration,
        worker: WorkerId,
        task: TaskId,
        busy: Duration,
        outcome: Result<Filled, String>,
    ) {
        if !self.workers.finish(now, worker, task) {
            return;
        }
        let task = self.tasks.remove(&task).expect("a worker's tasks are in the table");
        let Some(Stream::Open(open)) = self.streams.get_mut(&task.stream) else { return };
        open.cost.learn(task.rows.len(), busy);
        let outcome = open.note_made(&task, outcome);
        let Slot::Filling(filling) = open.slot(task.slot) else { unreachable!("a slot with tasks is being filled") };
        filling.tasks_out -= 1;
        let bad = match outcome {
            Ok(Filled { digest, bad }) => {
                filling.digest += digest;
                bad
            }
            Err(reason) => {
                filling.blame(task.rows.lo, reason);
                Vec::new()
            }
        };
        let bad = if task.id >= open.since_retry { bad } else { Vec::new() };
        for sample in bad {
            if let Err(reason) = open.quarantine.note(sample, task.position)
                && let Slot::Filling(filling) = open.slot(task.slot)
            {
                filling.blame(task.rows.lo, reason);
            }
        }
        self.settle(task.stream, task.slot);
    }

    /// Moves a slot on when the last of its rows is done.
    fn settle(&mut self, stream: StreamId, slot: SlotIndex) {
        let Some(Stream::Open(open)) = self.streams.get_mut(&stream) else { return };
        let state = open.slot(slot);
        let Slot::Filling(filling) = state else { return };
        let Some(lane) = filling.lane else {
            // Nobody waits for it; it is free once no worker may write any more.
            filling.todo.clear();
            if filling.tasks_out == 0 {
                *state = Slot::Free;
            }
            return;
        };
        if filling.tasks_out > 0 || !filling.todo.is_empty() {
            return;
        }
        *state = match filling.fault.take() {
            Some((_, reason)) => Slot::Failed { reason },
            None => Slot::Ready { lane: Some(lane), leases: 0, digest: filling.digest },
        };
        self.deliver_lane(stream, lane);
    }
}
