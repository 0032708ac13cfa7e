//! The worker processes: wanted, starting, joined, leaving, killed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use batchmill_protocol::message::{StreamId, TaskId, WorkerId};

use super::budget::Out;
use super::{Action, slots};

/// How long a new worker may take to join its line.
const JOIN_LIMIT: Duration = Duration::from_secs(30);

/// How long a worker may take to open a stream.
const OPEN_LIMIT: Duration = Duration::from_secs(600);

/// How long a leaving worker may take to finish and exit.
const LEAVE_LIMIT: Duration = Duration::from_secs(30);

/// The tasks that a worker may have at once.
pub(super) const TASKS_MAX: usize = 32;

/// How much work a worker has before it gets no more: one task in hand, and enough behind it to cover the way to the
/// daemon and back. What others need more would have to wait behind any that is more than that.
const AHEAD: Duration = Duration::from_millis(8);

/// How many times the time of the slowest of late a task may take.
const TASK_LIMIT_FACTOR: u32 = 20;

/// The pause after the first worker that died before it had done anything; doubled with each further one.
const BACK_OFF: Duration = Duration::from_millis(100);

/// The longest such pause.
const BACK_OFF_MAX: Duration = Duration::from_secs(5);

/// Workers that may die before any has ever joined.
pub(super) const FALSE_STARTS_MAX: u32 = 3;

/// Where a worker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its process is being started.
    Starting,
    /// It takes tasks.
    Joined,
    /// It finishes what it has and takes no more.
    Leaving,
    /// It was killed and is not yet reaped; `wanted` when nothing was wrong with it but that it was one too many.
    Killed { wanted: bool },
}

impl Phase {
    /// Whether the end of a worker in this phase is what was wished for, and so blames nothing.
    pub(super) fn is_wanted_end(self) -> bool {
        matches!(self, Self::Leaving | Self::Killed { wanted: true })
    }
}

/// A task that a worker has.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) task: TaskId,
    /// What it should take.
    estimate: Duration,
    /// What it may take.
    limit: Duration,
}

/// One worker process.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) phase: Phase,
    /// Since when it is in this phase.
    since: Duration,
    /// The stream that it surveys.
    surveying: Option<StreamId>,
    /// The stream that it was told to open and has not said that it did.
    pub(super) opening: Option<StreamId>,
    /// Streams that it is to open when it is done with these. One at a time, however many come and go while it is busy
    /// with something else: a line that nobody reads holds only so many messages.
    to_open: BTreeSet<StreamId>,
    /// Streams it is ready for.
    pub(super) open: BTreeSet<StreamId>,
    /// Since when it has made no progress on a survey or an opening. It gets no tasks meanwhile: they would wait
    /// behind, and their time runs.
    occupied_since: Duration,
    /// How long it may make none.
    open_limit: Duration,
    /// Whether it reads an index. That may take as long as it takes: the data may have to be fetched first.
    indexing: bool,
    /// Its tasks, in the order it works on them.
    pub(super) tasks: VecDeque<Given>,
    /// Why it was killed, if it was.
    pub(super) killed_for: Option<String>,
    /// Since when it has had the first of them in hand.
    begun: Duration,
    pub(super) tasks_done: u64,
}

/// All workers.
#[derive(Debug)]
pub(super) struct Workers {
    all: BTreeMap<WorkerId, Worker>,
    wanted: u32,
    /// The least time that a task may take before its worker counts as hung.
    hang_limit: Duration,
    next: u32,
    /// Workers in a row that died before they had done anything.
    false_starts: u32,
    spawn_not_before: Duration,
    ever_joined: bool,
}

impl Workers {
    pub(super) fn new(wanted: u32, hang_limit: Duration) -> Self {
        Self {
            all: BTreeMap::new(),
            wanted,
            hang_limit,
            next: 0,
            false_starts: 0,
            spawn_not_before: Duration::ZERO,
            ever_joined: false,
        }
    }

    pub(super) fn wanted(&self) -> u32 {
        self.wanted
    }

    pub(super) fn want(&mut self, wanted: u32) {
        self.wanted = wanted;
    }

    pub(super) fn all(&self) -> &BTreeMap<WorkerId, Worker> {
        &self.all
    }

    /// Workers that take work, oldest first.
    pub(super) fn joined(&self) -> impl Iterator<Item = WorkerId> + '_ {
        self.all.iter().filter(|(_, worker)| worker.phase == Phase::Joined).map(|(&id, _)| id)
    }

    /// Notes that a worker takes tasks; `false` when it is not one that was starting.
    pub(super) fn join(&mut self, now: Duration, id: WorkerId) -> bool {
        let Some(worker) = self.all.get_mut(&id) else { return false };
        // Workers can start, also when this one is no longer wanted.
        self.ever_joined = true;
        let starts = worker.phase == Phase::Starting;
        if starts {
            worker.enter(now, Phase::Joined);
        }
        starts
    }

    /// Workers that take work and are not busy with surveys and openings.
    pub(super) fn unoccupied(&self) -> impl Iterator<Item = WorkerId> + '_ {
        self.joined().filter(|id| !self.all[id].is_occupied())
    }

    /// What all tasks that are out take of the processors.
    pub(super) fn out(&self, now: Duration) -> Out {
        let at_work = self.all.values().filter(|worker| !matches!(worker.phase, Phase::Killed { .. }));
        at_work.map(|worker| worker.out(now)).fold(Out::default(), |all, one| Out {
            estimated: all.estimated + one.estimated,
            so_far: all.so_far + one.so_far,
        })
    }

    /// Has a worker open a stream as soon as it can.
    pub(super) fn want_open(&mut self, id: WorkerId, stream: StreamId) {
        if let Some(worker) = self.all.get_mut(&id) {
            worker.to_open.insert(stream);
        }
    }

    /// Tells workers that have nothing else to open or to survey what they are to open next.
    pub(super) fn tell_to_open(&mut self, now: Duration, actions: &mut Vec<Action>) {
        for (&id, worker) in &mut self.all {
            if worker.phase == Phase::Joined
                && !worker.is_at_it()
                && let Some(stream) = worker.to_open.pop_first()
            {
                worker.opening = Some(stream);
                (worker.occupied_since, worker.open_limit) = (now, OPEN_LIMIT);
                actions.push(Action::Open { worker: id, stream });
            }
        }
    }

    /// Notes that a worker is asked to survey a stream.
    pub(super) fn told_to_survey(&mut self, now: Duration, id: WorkerId, stream: StreamId) {
        if let Some(worker) = self.all.get_mut(&id) {
            worker.surveying = Some(stream);
            worker.indexing = true;
            (worker.occupied_since, worker.open_limit) = (now, OPEN_LIMIT);
        }
    }

    /// Notes that a worker has read an index: from now on it tries samples, which may take no longer than others.
    pub(super) fn indexed(&mut self, now: Duration, id: WorkerId) {
        if let Some(worker) = self.all.get_mut(&id).filter(|worker| worker.surveying.is_some()) {
            (worker.occupied_since, worker.open_limit) = (now, self.hang_limit);
            worker.indexing = false;
        }
    }

    /// Notes that a worker is done with its survey.
    pub(super) fn surveyed(&mut self, id: WorkerId) {
        if let Some(worker) = self.all.get_mut(&id) {
            worker.surveying = None;
            worker.indexing = false;
        }
    }

    /// Notes that a worker is done with opening a stream, and says whether it is ready for it: it `is_served` still. One
    /// that it was not told to open changes nothing.
    pub(super) fn opened(&mut self, id: WorkerId, stream: StreamId, is_served: bool) -> bool {
        let Some(worker) = self.all.get_mut(&id).filter(|worker| worker.opening == Some(stream)) else { return false };
        worker.opening = None;
        if is_served {
            worker.open.insert(stream);
        }
        is_served
    }

    /// Has all workers forget a stream. One that surveys it is killed: that may take for ever, and is no longer wanted.
    pub(super) fn close(&mut self, now: Duration, stream: StreamId, actions: &mut Vec<Action>) {
        for (&id, worker) in &mut self.all {
            worker.to_open.remove(&stream);
            let was_told = worker.open.remove(&stream) || worker.opening == Some(stream);
            if worker.phase != Phase::Joined {
                continue;
            }
            if worker.surveying == Some(stream) {
                worker.enter(now, Phase::Killed { wanted: true });
                actions.push(Action::Kill { worker: id, why: "the stream that it looks at was closed".to_owned() });
            } else if was_told {
                actions.push(Action::Close { worker: id, stream });
            }
        }
    }

    /// Notes a task given to a worker that takes the time of `estimate`, and must be done within a limit that follows
    /// from that of the `slowest` of late.
    pub(super) fn begin(&mut self, now: Duration, id: WorkerId, task: TaskId, estimate: Duration, slowest: Duration) {
        let worker = self.all.get_mut(&id).expect("tasks go to workers that are there");
        if worker.tasks.is_empty() {
            worker.begun = now;
        }
        let limit = self.hang_limit.max(slowest.saturating_mul(TASK_LIMIT_FACTOR));
        worker.tasks.push_back(Given { task, estimate, limit });
    }

    /// Notes a task's end; `false` when the worker did not have it.
    pub(super) fn finish(&mut self, now: Duration, id: WorkerId, task: TaskId) -> bool {
        let Some(worker) = self.all.get_mut(&id) else { return false };
        let Some(place) = worker.tasks.iter().position(|given| given.task == task) else { return false };
        worker.tasks.remove(place);
        worker.tasks_done += 1;
        if place == 0 {
            worker.begun = now;
        }
        self.false_starts = 0;
        true
    }

    /// Sends away the workers that have had the first of their tasks in hand for longer than `limit`.
    #[cfg(any(test, feature = "negative-control"))]
    pub(super) fn dismiss_slower_than(&mut self, now: Duration, limit: Duration) -> Vec<WorkerId> {
        let is_slow = |worker: &Worker| !worker.tasks.is_empty() && now > worker.begun + limit;
        let slow = self.all.iter_mut().filter(|(_, worker)| is_slow(worker));
        slow.map(|(&id, worker)| {
            worker.enter(now, Phase::Leaving);
            id
        })
        .collect()
    }

    /// Takes a reaped worker out of the table.
    pub(super) fn remove(
        &mut self,
        now: Duration,
        id: WorkerId,
        how: &str,
        actions: &mut Vec<Action>,
    ) -> Option<Worker> {
        let worker = self.all.remove(&id)?;
        if worker.tasks_done == 0 && !worker.phase.is_wanted_end() {
            self.false_starts += 1;
            let doublings = (self.false_starts - 1).min(16);
            self.spawn_not_before = now + (BACK_OFF * 2_u32.pow(doublings)).min(BACK_OFF_MAX);
            if !self.ever_joined && self.false_starts == FALSE_STARTS_MAX {
                let reason =
                    format!("{FALSE_STARTS_MAX} worker processes ended before they could start; the last {how}");
                actions.push(Action::GiveUp { reason });
            }
        }
        Some(worker)
    }

    /// Starts, sends away and kills workers as wishes and limits call for.
    pub(super) fn keep_up(&mut self, now: Duration, actions: &mut Vec<Action>) {
        for (&id, worker) in &mut self.all {
            if let Some(why) = worker.overdue(now) {
                worker.enter(now, Phase::Killed { wanted: false });
                worker.killed_for = Some(why.clone());
                actions.push(Action::Kill { worker: id, why });
            }
        }
        let wanted = slots::count(self.wanted);
        let mut active: Vec<WorkerId> = self
            .all
            .iter()
            .filter(|(_, worker)| matches!(worker.phase, Phase::Starting | Phase::Joined))
            .map(|(&id, _)| id)
            .collect();
        while active.len() > wanted
            && let Some(newest) = active.pop()
        {
            let worker = self.all.get_mut(&newest).expect("listed above");
            if worker.phase == Phase::Starting {
                // It has no line yet on which it could be told.
                worker.enter(now, Phase::Killed { wanted: true });
                actions.push(Action::Kill { worker: newest, why: "it is no longer wanted".to_owned() });
            } else {
                worker.enter(now, Phase::Leaving);
                actions.push(Action::Leave(newest));
            }
        }
        while active.len() < wanted && now >= self.spawn_not_before {
            let id = WorkerId(self.next);
            self.next += 1;
            self.all.insert(id, Worker::new(now));
            active.push(id);
            actions.push(Action::Spawn(id));
        }
    }
}

impl Worker {
    fn new(now: Duration) -> Self {
        Self {
            phase: Phase::Starting,
            since: now,
            surveying: None,
            opening: None,
            to_open: BTreeSet::new(),
            open: BTreeSet::new(),
            occupied_since: now,
            open_limit: OPEN_LIMIT,
            indexing: false,
            tasks: VecDeque::new(),
            killed_for: None,
            begun: Duration::ZERO,
            tasks_done: 0,
        }
    }

    /// Whether it is busy with surveys and openings.
    pub(super) fn is_occupied(&self) -> bool {
        self.is_at_it() || !self.to_open.is_empty()
    }

    /// Whether it was told of a survey or an opening and has not said that it is done.
    fn is_at_it(&self) -> bool {
        self.surveying.is_some() || self.opening.is_some()
    }

    /// How long it should be busy with its tasks, unless it has enough of them.
    pub(super) fn busy_for(&self) -> Option<Duration> {
        let busy = self.tasks.iter().map(|given| given.estimate).sum();
        (self.tasks.len() < TASKS_MAX && busy < AHEAD).then_some(busy)
    }

    fn out(&self, now: Duration) -> Out {
        let Some(first) = self.tasks.front() else { return Out::default() };
        let more = now.saturating_sub(self.begun).saturating_sub(first.estimate);
        let estimated = self.tasks.iter().map(|given| given.estimate).sum();
        Out { estimated, so_far: estimated + more }
    }

    fn enter(&mut self, now: Duration, phase: Phase) {
        self.phase = phase;
        self.since = now;
    }

    /// Why the worker must be killed, if it must.
    fn overdue(&self, now: Duration) -> Option<String> {
        let (waited, unmoved) = (now.saturating_sub(self.since), now.saturating_sub(self.occupied_since));
        let late = self.tasks.front().filter(|first| now >= self.begun + first.limit);
        match self.phase {
            Phase::Starting if waited >= JOIN_LIMIT => {
                Some(format!("it did not start within {} s", JOIN_LIMIT.as_secs()))
            }
            Phase::Leaving if waited >= LEAVE_LIMIT => {
                Some(format!("it did not leave within {} s", LEAVE_LIMIT.as_secs()))
            }
            Phase::Joined if self.is_at_it() && !self.indexing && unmoved >= self.open_limit => {
                Some(format!("opening a stream took longer than {} s", self.open_limit.as_secs_f64()))
            }
            Phase::Joined | Phase::Leaving => {
                Some(format!("one range of samples took longer than {} s", late?.limit.as_secs_f64()))
            }
            _ => None,
        }
    }
}
