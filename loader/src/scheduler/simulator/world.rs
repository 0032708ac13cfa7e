//! Virtual time: what is on its way, what happens next, and what the scheduler says to it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use batchmill_protocol::message::{MemberId, StreamId, WorkerId};
use batchmill_protocol::position::Position;

use super::daemon::Heard;
use super::events::End;
use super::luck::Luck;
use super::noise::Past;
use super::processes::{Order, Process};
use super::scenario::{Fate, Mishap, Move, Point, Scenario, Setup, What};
use super::slab::Slab;
use super::streams::Streams;
use super::tally::Tally;
use super::trainers::{Seat, ToTrainer, Trainer};
use crate::scheduler::slots;
use crate::scheduler::{Event, Scheduler};

/// How often the daemon looks at the time.
const TICK: Duration = Duration::from_millis(100);

/// How rarely the world does when nothing else happens.
const TICK_MAX: Duration = Duration::from_secs(100);

/// How long something said usually is on its way.
const MESSAGE: Duration = Duration::from_micros(200);

/// How long a signal and the reaping usually take.
pub(super) const REAP: Duration = Duration::from_millis(1);

/// As many happenings does it count for when nothing happens but that the daemon looks at the time.
const TICK_COUNTS: u16 = 8;

/// Happenings after which a world that is left in peace must have come to rest.
const PEACE_MAX: u32 = 50_000;

/// What comes to pass at its time.
#[derive(Debug)]
pub(super) enum Happening {
    /// The scheduler hears something.
    Heard(Said),
    /// A worker's line brings something.
    Ordered(WorkerId, Order),
    /// A worker gets on with what it does.
    WorkerStep(WorkerId),
    /// A signal to go on reaches a worker.
    WorkerGoesOn(WorkerId),
    /// A signal to die reaches it.
    Dies(WorkerId),
    /// A trainer's line brings something.
    Told(MemberId, ToTrainer),
    TrainerStep(usize),
    TrainerGoesOn(usize),
    /// A trainer asks to be let in.
    Knock(usize),
    /// The daemon has the scheduler say what follows from what it noted.
    Decides,
}

/// What the daemon hears.
#[derive(Debug)]
pub(super) enum Said {
    /// What it only passes on.
    Event(Event),
    /// A worker has looked at a stream's data, and they are of use or not.
    Surveyed { worker: WorkerId, stream: StreamId, found: bool },
}

/// One way of a peer's line: what is said first comes first.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) last: Duration,
}

impl Line {
    /// When something said now comes.
    pub(super) fn arrival(&mut self, now: Duration, luck: &mut Luck) -> Duration {
        self.last = (now + luck.span(MESSAGE)).max(self.last + Duration::from_nanos(1));
        self.last
    }

    /// When its end is noticed, after all that was said.
    pub(super) fn end(&self, now: Duration, luck: &mut Luck) -> Duration {
        (now + luck.span(REAP)).max(self.last + Duration::from_nanos(1))
    }
}

/// What makes a world other than it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    /// Nothing: all must go well.
    None,
    /// Rows go out again while their worker lives.
    WithoutReaping,
    /// The same, and the world does not look at who is given what, only at what a member reads.
    WithoutReapingUnwatched,
}

/// The scheduler with everything around it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) scheduler: Scheduler,
    pub(super) setup: Setup,
    pub(super) now: Duration,
    pub(super) luck: Luck,
    /// By time, then by chance.
    queue: BTreeMap<(Duration, u64, u64), Happening>,
    entries: u64,
    next_tick: Duration,
    tick: Duration,
    pub(super) processes: BTreeMap<WorkerId, Process>,
    /// What will strike the next worker that is started.
    pub(super) trap: Option<(Point, Mishap)>,
    pub(super) trainers: Vec<Trainer>,
    /// Trainers that came before their stream was open.
    pub(super) early: Vec<usize>,
    pub(super) seats: BTreeMap<MemberId, Seat>,
    /// The memory of those streams that can be read.
    pub(super) slabs: BTreeMap<StreamId, Slab>,
    pub(super) streams: Streams,
    /// What was true once.
    pub(super) past: Past,
    /// What comes of reading which sample.
    pub(super) fates: BTreeMap<u64, Fate>,
    /// What the daemon has heard.
    pub(super) heard: Heard,
    /// Whether the scheduler has heard what it was not asked about.
    pub(super) undecided: bool,
    pub(super) peace: bool,
    /// Whether the daemon would end.
    pub(super) over: bool,
    pub(super) control: Control,
    pub(super) tally: Tally,
    /// Whether to print what the scheduler hears and says.
    traced: bool,
}

impl World {
    pub(super) fn new(setup: &Setup, control: Control, traced: bool) -> Self {
        let mut scheduler = Scheduler::new(setup.workers, setup.hang_limit);
        scheduler.allow_cpus(setup.cpu_budget);
        scheduler.without_reaping = control != Control::None;
        let mut world = Self {
            scheduler,
            setup: setup.clone(),
            now: Duration::ZERO,
            luck: Luck::new(setup.seed, 0, 0),
            queue: BTreeMap::new(),
            entries: 0,
            next_tick: TICK,
            tick: TICK,
            processes: BTreeMap::new(),
            trap: None,
            trainers: Vec::new(),
            early: Vec::new(),
            seats: BTreeMap::new(),
            slabs: BTreeMap::new(),
            streams: Streams::default(),
            past: Past::default(),
            fates: setup.fates.clone(),
            heard: Heard::default(),
            undecided: false,
            peace: false,
            over: false,
            control,
            tally: Tally::default(),
            traced,
        };
        (0..setup.streams).for_each(|_| world.open_stream());
        world
    }

    /// Does all that a scenario says, then leaves the world in peace until it has come to rest.
    pub(super) fn live(scenario: &Scenario, control: Control, traced: bool) -> Tally {
        let mut world = Self::new(&scenario.setup, control, traced);
        let mut happened = 0;
        for Move { after, what } in &scenario.moves {
            while happened < *after && !world.over {
                // Time alone goes by quickly.
                happened += if world.step() { 1 } else { TICK_COUNTS };
            }
            if world.over {
                break;
            }
            world.trace(format_args!("{what:?}"));
            world.suffer(what);
        }
        world.rest();
        for stream in world.slabs.keys() {
            let (splits, merges) = world.scheduler.partings(*stream);
            world.tally.count_many("lanes", "split", splits);
            world.tally.count_many("lanes", "merged", merges);
        }
        world.tally.sequences = 1;
        world.tally
    }

    /// Lets everything go well until nothing more happens: then every trainer has what it asked for, or the reason why
    /// not, and no slot and no worker is bound.
    pub(super) fn rest(&mut self) {
        self.peace = true;
        self.trap = None;
        for process in self.processes.values_mut() {
            process.trap = None;
        }
        for _ in 0..PEACE_MAX {
            if self.over || self.is_at_rest() {
                return;
            }
            self.step();
        }
        if self.control != Control::None {
            // Who is always slow is never waited for.
            return;
        }
        panic!("once nothing goes wrong any more, everything asked for is delivered: {:#?}", self.trainers);
    }

    fn is_at_rest(&self) -> bool {
        let served = self.trainers.iter().all(|trainer| trainer.outcome.is_some()) && self.seats.is_empty();
        if !served || !self.heard.tasks_out.is_empty() {
            return false;
        }
        // Others are on their way, or to be reaped.
        let joined = self.scheduler.workers.joined().count();
        if joined != slots::count(self.scheduler.workers_wanted()) || joined != self.processes.len() {
            return false;
        }
        for stream in self.slabs.keys() {
            let status = self.scheduler.stream_status(*stream, |_| 0);
            if status.slots.filling > 0 {
                // The lobby, which lacks somebody who is ready for the stream.
                return false;
            }
            let free = status.slots.free + status.lobby;
            assert_eq!(free, self.setup.slots, "when all have left, every slot is free or of the lobby");
        }
        true
    }

    fn suffer(&mut self, what: &What) {
        match what {
            What::Attach(attach) => self.attach(attach.clone()),
            What::Kill(choice) => self.kill_one(*choice),
            What::Stop(choice, spell) => self.stop_one(*choice, *spell),
            What::Trap(choice, point, mishap) => self.set_trap(*choice, *point, *mishap),
            What::Scale(workers) => self.tell(Event::Scaled(*workers)),
            What::Retry(choice, mended) => self.retry(*choice, *mended),
            What::TrainerDies(choice) => self.trainer_dies(*choice),
            What::TrainerLeaves(choice) => self.trainer_leaves(*choice),
            What::TrainerStops(choice, spell) => self.trainer_stops(*choice, *spell),
            What::Open => self.open_stream(),
            What::Close(choice) => self.close_one(*choice),
            What::Noise(kinds, choice) => self.noise(*kinds, *choice),
        }
    }

    /// Lets the next thing come to pass, or time go by.
    fn step(&mut self) -> bool {
        let next = self.queue.first_key_value().map(|((at, ..), _)| *at);
        if next.is_none_or(|at| at >= self.next_tick) {
            self.now = self.next_tick;
            self.next_tick += self.tick;
            // A daemon may be held up, and an idle world is of no interest.
            self.tick = (self.tick * 2).min(TICK_MAX);
            self.tell(Event::Tick);
            return false;
        }
        let Some(((at, ..), happening)) = self.queue.pop_first() else { return false };
        self.now = at;
        self.tick = TICK;
        self.next_tick = self.next_tick.min(at + TICK);
        match happening {
            Happening::Heard(Said::Event(event)) => self.hear(event),
            Happening::Heard(Said::Surveyed { worker, stream, found }) => self.surveyed(worker, stream, found),
            Happening::Ordered(worker, order) => self.ordered(worker, order),
            Happening::WorkerStep(worker) => self.worker_step(worker),
            Happening::WorkerGoesOn(worker) => self.worker_goes_on(worker),
            Happening::Dies(worker) => self.dies(worker, End::Killed),
            Happening::Told(member, message) => self.told(member, message),
            Happening::TrainerStep(trainer) => self.trainer_step(trainer),
            Happening::TrainerGoesOn(trainer) => self.trainer_goes_on(trainer),
            Happening::Knock(trainer) => self.knock(trainer),
            Happening::Decides => self.decide(),
        }
        self.close_failed();
        true
    }

    /// Has something come to pass at its time.
    pub(super) fn enqueue(&mut self, at: Duration, happening: Happening) {
        self.entries += 1;
        self.queue.insert((at, self.luck.draw(), self.entries), happening);
    }

    /// The slab of a stream that is open, or was.
    pub(super) fn slab(&mut self, stream: StreamId) -> &mut Slab {
        let slab = self.slabs.get_mut(&stream).or_else(|| self.streams.left.get_mut(&stream));
        slab.expect("the stream is or was open")
    }

    /// The sample in a row, or the one that is tried after so many that are bad.
    pub(super) fn sample(&self, position: Position, row: u32, attempt: u32) -> u64 {
        let extent = self.setup.extent;
        let place = position.step * u64::from(extent.batch_size) + u64::from(row) + u64::from(attempt) * 11;
        // Another order in each epoch.
        (place + position.epoch * 7) % extent.samples
    }

    pub(super) fn trace(&self, line: fmt::Arguments<'_>) {
        if self.traced {
            eprintln!("{:>12.3} ms  {line}", self.now.as_secs_f64() * 1e3);
        }
    }
}
