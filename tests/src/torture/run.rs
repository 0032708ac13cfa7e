//! One torture from its start to its verdict.

use std::error::Error;
use std::fs;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use batchmill_datasets::random::Rng;
use batchmill_protocol::position::Extent;
use batchmill_protocol::slab::Layout;
use rustix::process::Signal;
use tempfile::TempDir;

use super::agenda::Agenda;
use super::consumer::order;
use super::counts::{Check, Count, Counts};
use super::daemon::{Daemon, Place, State};
use super::data::Photos;
use super::leftovers;
use super::line::Line;
use super::mix::Mix;
use super::plan::{Harm, Kind, Length, Plan};
use super::process::{Process, now_us};
use super::reference::Reference;
use super::sequence::Sequence;
use super::trainer::{self, Trainer};
use super::waits::Cause;
use crate::{folder, marked, unique};

/// After how long without a batch a trainer counts as stalled.
const WATCHDOG: Duration = Duration::from_secs(120);

/// How long the workers of a dead loader may live on.
const ORPHAN_LIMIT: Duration = Duration::from_secs(30);

/// How often everything is looked at.
const TICK: Duration = Duration::from_millis(5);

/// How often things are looked at that take some time.
const SLOW_TICK: Duration = Duration::from_millis(200);

/// How often the counts are shown.
pub(super) const PROGRESS: Duration = Duration::from_secs(30);

/// Notices that may wait; whoever has more waits.
const NOTICES_MAX: usize = 64;

/// Slots of the stream: few, so that each is soon used again, but enough for four trainers that read by themselves and
/// for three that were killed and are not yet missed, with four batches in hand each, and for one that comes.
const SLOTS: u32 = 30;

/// Batches that each trainer must get when the harm is over.
const CALM_BATCHES: u64 = 30;

/// Processes that may end by themselves before it makes no sense to go on.
const FALLEN_MAX: u64 = 20;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What harm is done follows from it.
    pub seed: u64,
    /// For how long.
    pub length: Length,
    /// How trainers share the stream.
    pub mix: Mix,
    /// Whether counts are printed as JSON.
    pub json: bool,
    /// Whether the loader gives ranges out again without reaping, which must be found.
    pub negative_control: bool,
    /// How many photos are drawn.
    pub photos: u64,
    /// The longest side of one, in pixels.
    pub photo_side: u32,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Whether everything was as it must be.
    pub clean: bool,
    /// Whether what was found first is a batch that is wrong, or came at a wrong place or not at all.
    pub wrong_batch: bool,
    /// In a sentence.
    pub verdict: String,
}

/// What the threads that hear trainers pass on.
#[derive(Debug)]
pub(super) enum Notice {
    /// A trainer has said something, or something that cannot be read.
    Told { trainer: usize, line: Result<Line, String> },
    /// A trainer says nothing any more.
    Silent { trainer: usize, life: u32 },
}

/// What is on the agenda.
#[derive(Debug)]
pub(super) enum Due {
    Harm(Kind, Harm),
    /// A stopped process goes on.
    Continue(Stopped, Process, u64),
    /// A stopped worker is killed.
    KillStopped(Process, u64),
    /// The child that a killed trainer had forked ends.
    EndChild(Process),
    StartDaemon,
    /// That life of a trainer is killed.
    KillTrainer(usize, u32),
    /// That loader is killed.
    KillDaemon(u32),
    Progress,
}

/// Whose process was stopped.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stopped {
    Worker,
    /// Of that life.
    Trainer(usize, u32),
    Daemon(u32),
}

/// A worker that is to die.
#[derive(Debug)]
pub(super) struct Victim {
    pub(super) process: Process,
    pub(super) count: Count,
    pub(super) since: Instant,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Harm is done.
    Harm,
    /// No more; each trainer must get so many batches yet.
    Calm,
    /// The trainers have been told to leave.
    Leaving,
    /// The loader was told to end.
    Stopping,
    /// There is nothing more to wait for.
    Over,
}

/// One torture.
pub(super) struct Run {
    pub(super) options: Options,
    pub(super) agenda: Agenda<Due>,
    pub(super) plan: Plan,
    pub(super) counts: Counts,
    pub(super) place: Place,
    pub(super) daemon: Option<Daemon>,
    /// Since when there is no loader that is ready.
    pub(super) away_since_us: u64,
    pub(super) away_cause: Cause,
    pub(super) lives: u32,
    pub(super) trainers: Vec<Trainer>,
    pub(super) victims: Vec<Victim>,
    /// Marks of loaders that were killed, and when: their workers must end.
    pub(super) orphans: Vec<(String, Instant)>,
    /// Chooses whom the harm hits.
    pub(super) choice: Rng,
    pub(super) phase: Phase,
    pub(super) reference: Reference,
    pub(super) extent: Extent,
    stream: String,
    /// What trainers and their children carry.
    mark: String,
    notices: Receiver<Notice>,
    sender: SyncSender<Notice>,
    /// Has everything in it; goes last.
    _folder: TempDir,
}

/// Tortures, and tells on standard output what was done and found.
///
/// # Errors
/// When it cannot even begin, or not go on.
pub fn torture(options: Options) -> Result<Outcome, Box<dyn Error>> {
    let shared = leftovers::shared_memory();
    let mut run = Run::new(options)?;
    let outcome = run.run();
    run.end(&shared);
    run.counts.print(true);
    outcome?;
    if !run.counts.is_clean() && !options.negative_control {
        let kept = std::env::temp_dir().join(format!("batchmill-torture-{}.log", options.seed));
        if fs::copy(&run.place.log, &kept).is_ok() {
            eprintln!("what the loaders said is in {}", kept.display());
        }
    }
    Ok(Outcome {
        clean: run.counts.is_clean(),
        wrong_batch: run.counts.is_wrong_batch(),
        verdict: run.counts.verdict(),
    })
}

impl Run {
    fn new(options: Options) -> Result<Self, Box<dyn Error>> {
        let folder = folder();
        let photos = Photos::new(options.photos, options.photo_side, options.mix.tail());
        photos.write(folder.path(), options.seed)?;
        // A name of our own, by which its memory is known among that of others.
        let stream = format!("torture-{}", unique());
        let reference = Reference::open(&stream, &photos.table(), folder.path(), options.mix.shares())?;
        let extent = reference.extent();
        let layout = Layout::new(reference.fields(), extent.batch_size, SLOTS)?;
        let place = Place {
            door: folder.path().join("door"),
            config: folder.path().join("loader.toml"),
            log: folder.path().join("log"),
            without_reaping: options.negative_control,
        };
        fs::create_dir(&place.door)?;
        photos.configure(&place.config, &stream, layout.slab_bytes())?;
        let (sender, notices) = mpsc::sync_channel(NOTICES_MAX);
        let trainers = options.mix.shares().into_iter().enumerate();
        Ok(Self {
            options,
            agenda: Agenda::new(),
            plan: Plan::new(options.seed, options.length),
            counts: Counts::new(options.seed, options.json),
            place,
            daemon: None,
            away_since_us: now_us(),
            away_cause: Cause::DaemonDied,
            lives: 0,
            trainers: trainers.map(|(number, share)| Trainer::new(number, share)).collect(),
            victims: Vec::new(),
            orphans: Vec::new(),
            choice: Rng::new(options.seed, u64::MAX, 0, 0, 0),
            phase: Phase::Harm,
            reference,
            extent,
            stream,
            mark: unique(),
            notices,
            sender,
            _folder: folder,
        })
    }

    fn run(&mut self) -> Result<(), Box<dyn Error>> {
        self.start_daemon()?;
        for number in 0..self.trainers.len() {
            self.trainers[number].sequence = Sequence::new(self.first_place(number));
        }
        for number in 0..self.trainers.len() {
            self.start_trainer(number)?;
        }
        for kind in Kind::ALL {
            self.plan_next(kind);
        }
        self.agenda.after(PROGRESS, Due::Progress);
        let mut slow_tick = Instant::now();
        while self.phase != Phase::Over {
            while let Some(due) = self.agenda.due(Instant::now()) {
                self.act(due)?;
            }
            self.counts.late_max = self.agenda.late_max;
            let tick = Instant::now() + TICK;
            let until = self.agenda.next().map_or(tick, |next| next.min(tick));
            match self.notices.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(notice) => self.hear(notice)?,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            self.look_for_ready();
            self.look_at_daemon();
            self.look_at_victims();
            if slow_tick.elapsed() > SLOW_TICK {
                slow_tick = Instant::now();
                self.look_around();
            }
            self.go_on();
        }
        Ok(())
    }

    /// Puts the next harm of a kind on the agenda.
    pub(super) fn plan_next(&mut self, kind: Kind) {
        if let Some((pause, harm)) = self.plan.next(kind) {
            self.agenda.after(pause, Due::Harm(kind, harm));
        }
    }

    pub(super) fn start_daemon(&mut self) -> Result<(), Box<dyn Error>> {
        self.lives += 1;
        self.daemon = Some(self.place.start(self.lives)?);
        Ok(())
    }

    pub(super) fn start_trainer(&mut self, number: usize) -> Result<(), Box<dyn Error>> {
        let trainer = &mut self.trainers[number];
        trainer.start(&self.place, &self.stream, &self.mark, self.extent, &self.sender)?;
        if let Some(time) = trainer.successor_dies.take() {
            self.agenda.after(time, Due::KillTrainer(number, trainer.life));
        }
        Ok(())
    }

    /// Sees whether a loader that is starting has become ready. One that ended instead is looked after in a moment.
    fn look_for_ready(&mut self) {
        if self.daemon.as_mut().is_some_and(Daemon::gets_ready) {
            let now = now_us();
            // Nobody has waited for the first one.
            if self.lives > 1 {
                self.counts.waits.away_us = self.counts.waits.away_us.max(now - self.away_since_us);
            }
            self.counts.waits.happened(self.away_cause, self.away_since_us, now);
        }
    }

    /// What takes some time to look at, and so is looked at seldom.
    fn look_around(&mut self) {
        let counts = &mut self.counts;
        self.orphans.retain(|(mark, since)| {
            let left = marked(mark);
            if left.is_empty() {
                counts.orphans_max = counts.orphans_max.max(since.elapsed());
                return false;
            }
            let leaked = since.elapsed() > ORPHAN_LIMIT;
            if leaked {
                counts.find(Check::LeakedProcess, left.len() as u64, &format!("left of a killed loader: {left:?}"));
            }
            !leaked
        });
        let waits = |trainer: &&Trainer| {
            trainer.running.is_some() && !trainer.is_stopped() && trainer.alive.elapsed() > WATCHDOG
        };
        if self.phase != Phase::Leaving
            && let Some(trainer) = self.trainers.iter().find(waits)
        {
            let what = format!(
                "trainer {} (pid {}) waits for {} since {} s; {}",
                trainer.number,
                trainer.pid(),
                trainer::position(trainer.sequence.resume(), self.extent),
                WATCHDOG.as_secs(),
                self.standing()
            );
            self.counts.find(Check::Stalled, 1, &what);
            self.phase = Phase::Over;
        }
    }

    /// How the loader stands, for a person.
    fn standing(&self) -> String {
        let Some(daemon) = &self.daemon else { return "there is no loader".to_owned() };
        let status = match daemon.state {
            State::Up => self.place.status().map_or_else(|error| error, |status| format!("{status:?}")),
            other => format!("{other:?}"),
        };
        format!("the loader (pid {}): {status}", daemon.pid())
    }

    /// Moves on to the next phase when this one has done its work.
    fn go_on(&mut self) {
        if self.options.negative_control && !self.counts.is_clean() {
            self.phase = Phase::Over;
        }
        if self.counts.found(Check::Trainer) + self.counts.found(Check::Daemon) > FALLEN_MAX {
            self.phase = Phase::Over;
        }
        let quiet = |due: &Due| !matches!(due, Due::Progress);
        match self.phase {
            Phase::Harm => {
                let over = match self.options.length {
                    Length::Time(time) => self.counts.elapsed() >= time,
                    // The others are there to mix with these.
                    Length::Events { .. } => self
                        .agenda
                        .has_none(|due| matches!(due, Due::Harm(Kind::Worker | Kind::Trainer | Kind::Daemon, _))),
                };
                if over {
                    self.agenda.retain(|due| !matches!(due, Due::Harm(..)));
                    for trainer in &mut self.trainers {
                        trainer.batches_wanted = trainer.batches + CALM_BATCHES;
                    }
                    self.phase = Phase::Calm;
                }
            }
            Phase::Calm => {
                let all = self.trainers.iter().all(|trainer| trainer.batches >= trainer.batches_wanted);
                let settled = self.agenda.has_none(quiet) && self.victims.is_empty() && self.orphans.is_empty();
                if all && settled && self.daemon.as_ref().is_some_and(|daemon| daemon.state == State::Up) {
                    for running in self.trainers.iter_mut().filter_map(|trainer| trainer.running.as_mut()) {
                        running.doomed = true;
                        running.order(order::LEAVE);
                    }
                    self.phase = Phase::Leaving;
                }
            }
            Phase::Leaving if self.trainers.iter().all(|trainer| trainer.running.is_none()) => {
                self.phase = Phase::Stopping;
                if self.daemon.as_ref().is_some_and(|daemon| daemon.state == State::Up) {
                    self.status();
                }
                if let Some(daemon) = self.daemon.take() {
                    self.ask_to_end(daemon, None);
                }
            }
            // A loader that has fallen this late was found, and nothing more is to come.
            Phase::Stopping if self.daemon.is_none() => self.phase = Phase::Over,
            Phase::Leaving | Phase::Stopping | Phase::Over => {}
        }
    }

    /// Ends everything, in order if it was in order, and looks at what is left.
    fn end(&mut self, shared_before: &std::collections::BTreeMap<std::ffi::OsString, u64>) {
        self.agenda.retain(|due| {
            if let Due::EndChild(process) = due {
                process.signal(Signal::KILL);
            }
            false
        });
        self.trainers.iter_mut().for_each(|trainer| drop(trainer.running.take()));
        if self.daemon.take().is_some() {
            // It did not come so far as to end in order.
            return;
        }
        let left = leftovers::after_a_moment(|| marked(&self.mark));
        if !left.is_empty() {
            self.counts.find(Check::LeakedProcess, left.len() as u64, &format!("left of trainers: {left:?}"));
        }
        let left = leftovers::after_a_moment(|| leftovers::memory(&self.stream));
        if !left.is_empty() {
            self.counts.find(Check::LeakedMemfd, left.len() as u64, &format!("still hold its memory: {left:?}"));
        }
        let left = leftovers::shared_memory();
        let left: Vec<_> = left.iter().filter(|(name, _)| !shared_before.contains_key(*name)).collect();
        if !left.is_empty() {
            let bytes = left.iter().map(|(_, bytes)| **bytes).sum();
            self.counts.find(Check::LeakedShm, bytes, &format!("left in /dev/shm: {left:?}"));
        }
    }
}
