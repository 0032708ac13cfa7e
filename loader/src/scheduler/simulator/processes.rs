//! Worker processes: started, told, stopped, struck, reaped; what they write, and when.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use batchmill_datasets::spec::OnBad;
use batchmill_protocol::digest::Digest;
use batchmill_protocol::message::{BadSample, Quarantined, StreamId, Task, WorkerId};
use batchmill_protocol::slab::Making;

use super::events::{self, End};
use super::luck::Luck;
use super::scenario::{Fate, Mishap, Point, Spell};
use super::slab::{self, Content};
use super::world::{Happening, Line, Said, World};
use crate::scheduler::workers::TASKS_MAX;

/// How long a process usually takes to join its line.
const START: Duration = Duration::from_millis(20);

/// How long an index, or an opening, usually takes.
const OPEN: Duration = Duration::from_millis(5);

/// How long what is neither reading nor writing usually takes.
pub(super) const TURN: Duration = Duration::from_micros(10);

/// Orders that a worker's line may hold: a line holds 278 messages before its sender waits.
const UNREAD_MAX: usize = TASKS_MAX + 16;

/// Samples that are tried in the place of a bad one.
pub(super) const ATTEMPTS_MAX: u32 = 4;

/// Samples that must not be read, and why.
type Shunned = BTreeMap<u64, String>;

/// What a worker is told.
#[derive(Clone, Debug)]
pub(super) enum Order {
    Survey(StreamId, Vec<Quarantined>),
    Open(StreamId, u32, Vec<Quarantined>),
    Close(StreamId),
    Quarantine(StreamId, Quarantined),
    Task(Task),
    Leave,
}

/// What a worker does at present.
#[derive(Debug)]
enum Work {
    Starting,
    Waiting,
    /// It reads the index.
    Indexing(StreamId, Shunned),
    /// It tries a sample.
    Surveying(StreamId, Shunned, u64),
    Opening(StreamId, u32, Shunned),
    Filling(Job),
    /// It has nothing left to do but to say so.
    Filled(Job),
    Leaving,
}

impl Work {
    fn point(&self) -> Option<Point> {
        match self {
            Self::Starting => Some(Point::Starting),
            Self::Waiting => None,
            Self::Indexing(..) | Self::Surveying(..) => Some(Point::Surveying),
            Self::Opening(..) => Some(Point::Opening),
            Self::Filling(_) => Some(Point::Filling),
            Self::Filled(_) => Some(Point::Filled),
            Self::Leaving => Some(Point::Leaving),
        }
    }
}

/// One task under way.
#[derive(Debug)]
struct Job {
    task: Task,
    since: Duration,
    /// The row that it writes.
    row: u32,
    /// How many samples it has tried in vain for that row.
    attempt: u32,
    digest: Digest,
    bad: Vec<BadSample>,
    stopped_at: Option<BadSample>,
}

/// One worker process, until it is reaped.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) luck: Luck,
    pub(super) down: Line,
    up: Line,
    work: Work,
    inbox: VecDeque<Order>,
    alive: bool,
    /// How many signals to stop it has to be told to go on from.
    stops: u32,
    /// Whether it would have got on with its work while it was stopped.
    held: bool,
    pub(super) trap: Option<(Point, Mishap)>,
    /// Streams it is ready for, as they were when they were read so many times.
    open: BTreeMap<StreamId, (u32, Shunned)>,
    /// What its telemetry page says.
    making: Option<Making>,
}

impl Process {
    /// Whether it has not joined its line.
    pub(super) fn is_new(&self) -> bool {
        matches!(self.work, Work::Starting)
    }

    /// How often a stream's data had been read when it made itself ready for it.
    pub(super) fn edition(&self, stream: StreamId) -> Option<u32> {
        self.open.get(&stream).map(|(edition, _)| *edition)
    }

    /// Whether it has done all it was told, and that was heard.
    pub(super) fn is_idle(&self, now: Duration) -> bool {
        let quiet = self.down.last < now && self.up.last < now && self.inbox.is_empty();
        self.alive && self.stops == 0 && quiet && matches!(self.work, Work::Waiting)
    }
}

impl World {
    pub(super) fn spawned(&mut self, worker: WorkerId) {
        let mut luck = Luck::new(self.setup.seed, 1, worker.0);
        let at = self.now + luck.span(START);
        let process = Process {
            luck,
            down: Line::default(),
            up: Line::default(),
            work: Work::Starting,
            inbox: VecDeque::new(),
            alive: true,
            stops: 0,
            held: false,
            trap: self.trap.take(),
            open: BTreeMap::new(),
            making: None,
        };
        assert!(self.processes.insert(worker, process).is_none(), "a worker's id is never used again");
        self.enqueue(at, Happening::WorkerStep(worker));
    }

    fn process(&mut self, worker: WorkerId) -> &mut Process {
        self.processes.get_mut(&worker).expect("a worker that does something is not reaped")
    }

    /// Takes an order from the worker's line.
    pub(super) fn ordered(&mut self, worker: WorkerId, order: Order) {
        let Some(process) = self.processes.get_mut(&worker) else { return };
        process.inbox.push_back(order);
        assert!(process.inbox.len() <= UNREAD_MAX, "a worker's unread messages stay few: {:?}", process.inbox);
        self.take_order(worker);
    }

    /// Has a worker that waits begin with what it was told next.
    fn take_order(&mut self, worker: WorkerId) {
        let now = self.now;
        while let Some(process) = self.processes.get_mut(&worker)
            && process.alive
            && process.stops == 0
            && matches!(process.work, Work::Waiting)
            && let Some(order) = process.inbox.pop_front()
        {
            match order {
                Order::Quarantine(stream, Quarantined { index, reason }) => {
                    if let Some((_, shunned)) = process.open.get_mut(&stream) {
                        shunned.insert(index, reason);
                    }
                }
                Order::Close(stream) => drop(process.open.remove(&stream)),
                Order::Survey(stream, shunned) => {
                    process.making = Some(events::making(None, None));
                    self.begin(worker, Work::Indexing(stream, shunned_of(shunned)), OPEN);
                }
                Order::Open(stream, edition, shunned) => {
                    self.begin(worker, Work::Opening(stream, edition, shunned_of(shunned)), OPEN);
                }
                Order::Leave => self.begin(worker, Work::Leaving, TURN),
                Order::Task(task) => {
                    let digest = Digest::default();
                    let job = Job {
                        task,
                        since: now,
                        row: task.rows.lo,
                        attempt: 0,
                        digest,
                        bad: Vec::new(),
                        stopped_at: None,
                    };
                    self.begin_row(worker, job);
                }
            }
        }
    }

    /// Has a worker do something that usually takes as long as is `typical`.
    fn begin(&mut self, worker: WorkerId, work: Work, typical: Duration) {
        let now = self.now;
        let process = self.process(worker);
        process.work = work;
        let at = now + process.luck.span(typical);
        self.enqueue(at, Happening::WorkerStep(worker));
    }

    fn begin_row(&mut self, worker: WorkerId, job: Job) {
        self.slab(job.task.stream).begin(&job.task, job.row);
        self.attempt(worker, job);
    }

    /// Reads the next sample that may fill a row.
    fn attempt(&mut self, worker: WorkerId, job: Job) {
        let Job { task, row, attempt, .. } = job;
        let sample = self.sample(task.position, row, attempt);
        if let Some(reason) = self.process(worker).open[&task.stream].1.get(&sample).cloned() {
            return self.is_bad(worker, job, sample, &reason);
        }
        let fate = self.fates.get(&sample).copied();
        if matches!(fate, Some(Fate::Crash | Fate::Hang)) {
            let known = self.heard.quarantined.get(&(task.stream, sample)).is_some_and(|since| *since <= task.id);
            assert!(
                !known,
                "a worker hears of {sample}, which must not be read, before it gets its rows again: {task:?}"
            );
        }
        let row_time = self.setup.row_time;
        self.process(worker).making = Some(events::making(Some(task.id), Some(sample)));
        if fate == Some(Fate::Hang) {
            self.process(worker).work = Work::Filling(job);
        } else {
            self.begin(worker, Work::Filling(job), row_time);
        }
    }

    fn is_bad(&mut self, worker: WorkerId, mut job: Job, sample: u64, reason: &str) {
        let bad = events::bad_sample(job.row, sample, reason);
        match self.setup.on_bad {
            OnBad::Mask => {
                job.bad.push(bad);
                self.end_row(worker, job, None);
            }
            OnBad::Substitute if job.attempt < ATTEMPTS_MAX => {
                job.bad.push(bad);
                job.attempt += 1;
                self.attempt(worker, job);
            }
            OnBad::Fail | OnBad::Substitute => {
                job.stopped_at = Some(bad);
                self.begin(worker, Work::Filled(job), TURN);
            }
        }
    }

    fn end_row(&mut self, worker: WorkerId, mut job: Job, content: Content) {
        self.slab(job.task.stream).finish(&job.task, job.row, content);
        job.digest += slab::digest(job.task.position, job.row, content);
        job.row += 1;
        job.attempt = 0;
        if job.row < job.task.rows.hi {
            self.begin_row(worker, job);
        } else {
            self.begin(worker, Work::Filled(job), TURN);
        }
    }

    /// Has a worker end what it does and begin with what comes next.
    pub(super) fn worker_step(&mut self, worker: WorkerId) {
        let Some(process) = self.processes.get_mut(&worker).filter(|process| process.alive) else { return };
        if process.stops > 0 {
            process.held = true;
            return;
        }
        if let Some(point) = process.work.point()
            && self.is_struck(worker, point)
        {
            return;
        }
        match std::mem::replace(&mut self.process(worker).work, Work::Waiting) {
            Work::Waiting => {}
            Work::Starting => self.say(worker, Said::Event(events::worker_joined(worker))),
            Work::Indexing(stream, shunned) => {
                self.say(worker, Said::Event(events::indexed(worker)));
                self.survey(worker, stream, shunned, 0);
            }
            Work::Surveying(stream, shunned, sample) => match self.fates.get(&sample) {
                Some(Fate::Crash) => self.dies(worker, End::Crash),
                Some(Fate::Unreadable) if self.setup.on_bad == OnBad::Fail => self.say_surveyed(worker, stream, false),
                Some(Fate::Unreadable) => self.survey(worker, stream, shunned, sample + 1),
                Some(Fate::Hang) | None => self.say_surveyed(worker, stream, true),
            },
            Work::Opening(stream, edition, shunned) => {
                self.process(worker).open.insert(stream, (edition, shunned));
                self.say(worker, Said::Event(events::worker_opened(worker, stream)));
            }
            Work::Filling(job) => {
                let sample = self.sample(job.task.position, job.row, job.attempt);
                match self.fates.get(&sample) {
                    Some(Fate::Crash) => self.dies(worker, End::Crash),
                    Some(Fate::Unreadable) => self.is_bad(worker, job, sample, "it is damaged"),
                    Some(Fate::Hang) | None => self.end_row(worker, job, Some(sample)),
                }
            }
            Work::Filled(Job { task, since, digest, bad, stopped_at, .. }) => {
                self.process(worker).making = None;
                let busy = self.now.saturating_sub(since);
                self.say(worker, Said::Event(events::task_done(worker, task.id, busy, digest, bad, stopped_at)));
                self.is_struck(worker, Point::Said);
            }
            Work::Leaving => self.dies(worker, End::Clean),
        }
        self.take_order(worker);
    }

    /// Tries samples, from `sample` on, for one that can be read.
    fn survey(&mut self, worker: WorkerId, stream: StreamId, shunned: Shunned, sample: u64) {
        let untried = (sample..self.setup.extent.samples).find(|sample| !shunned.contains_key(sample));
        let first_must_do = self.setup.on_bad == OnBad::Fail;
        let Some(sample) = untried.filter(|sample| *sample == 0 || !first_must_do) else {
            return self.say_surveyed(worker, stream, false);
        };
        self.process(worker).making = Some(events::making(None, Some(sample)));
        let (work, row_time) = (Work::Surveying(stream, shunned, sample), self.setup.row_time);
        if self.fates.get(&sample) == Some(&Fate::Hang) {
            self.process(worker).work = work;
        } else {
            self.begin(worker, work, row_time);
        }
    }

    fn say_surveyed(&mut self, worker: WorkerId, stream: StreamId, found: bool) {
        self.process(worker).making = None;
        self.say(worker, Said::Surveyed { worker, stream, found });
    }

    fn say(&mut self, worker: WorkerId, said: Said) {
        let now = self.now;
        let process = self.process(worker);
        let at = process.up.arrival(now, &mut process.luck);
        self.enqueue(at, Happening::Heard(said));
    }

    /// Whether the worker's trap is at this point; it then does not get on.
    fn is_struck(&mut self, worker: WorkerId, point: Point) -> bool {
        let Some((_, mishap)) = self.process(worker).trap.take_if(|(at, _)| *at == point) else { return false };
        self.tally.count(
            "mishaps",
            match point {
                Point::Starting => "struck while starting",
                Point::Surveying => "struck while surveying",
                Point::Opening => "struck while opening",
                Point::Filling => "struck amid a row",
                Point::Filled => "struck before saying done",
                Point::Said => "struck after saying done",
                Point::Leaving => "struck while leaving",
            },
        );
        match mishap {
            Mishap::Crash => self.dies(worker, End::Crash),
            Mishap::Kill => self.dies(worker, End::Killed),
            Mishap::Stop(spell) => {
                self.stop(worker, spell);
                self.process(worker).held = true;
            }
        }
        true
    }

    /// A process ends: it writes and says no more. What it said is heard before it is reaped.
    pub(super) fn dies(&mut self, worker: WorkerId, end: End) {
        let now = self.now;
        let Some(process) = self.processes.get_mut(&worker) else { return };
        if !std::mem::replace(&mut process.alive, false) {
            return;
        }
        let at = process.up.end(now, &mut process.luck);
        let event = events::worker_gone(worker, end, process.making.clone());
        self.enqueue(at, Happening::Heard(Said::Event(event)));
    }

    /// One of the processes that are alive.
    fn one(&self, choice: usize) -> Option<WorkerId> {
        let alive: Vec<_> = self.processes.iter().filter(|(_, process)| process.alive).map(|(id, _)| *id).collect();
        Some(alive[choice.checked_rem(alive.len())?])
    }

    pub(super) fn kill_one(&mut self, choice: usize) {
        let Some(worker) = self.one(choice) else { return };
        self.tally.count("mishaps", "killed");
        self.dies(worker, End::Killed);
    }

    pub(super) fn stop_one(&mut self, choice: usize, spell: Spell) {
        let Some(worker) = self.one(choice) else { return };
        self.tally.count("mishaps", "stopped");
        self.stop(worker, spell);
    }

    fn stop(&mut self, worker: WorkerId, spell: Spell) {
        self.process(worker).stops += 1;
        self.enqueue(self.now + spell.time(), Happening::WorkerGoesOn(worker));
    }

    pub(super) fn worker_goes_on(&mut self, worker: WorkerId) {
        let Some(process) = self.processes.get_mut(&worker) else { return };
        process.stops -= 1;
        if process.stops == 0 && std::mem::replace(&mut process.held, false) {
            self.worker_step(worker);
        } else {
            self.take_order(worker);
        }
    }

    pub(super) fn set_trap(&mut self, choice: usize, point: Point, mishap: Mishap) {
        if matches!(point, Point::Starting | Point::Surveying | Point::Opening) {
            self.trap = Some((point, mishap));
        } else if let Some(worker) = self.one(choice) {
            self.process(worker).trap = Some((point, mishap));
        }
    }
}

fn shunned_of(samples: Vec<Quarantined>) -> Shunned {
    samples.into_iter().map(|Quarantined { index, reason }| (index, reason)).collect()
}
