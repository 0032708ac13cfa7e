//! The harm itself, and what comes right after it.

use std::error::Error;
use std::time::{Duration, Instant};

use batchmill_protocol::share::Share;
use batchmill_protocol::status::{Status, StreamStatus, WorkerState, WorkerStatus};
use rustix::process::Signal;

use super::consumer::order;
use super::counts::{Check, Count};
use super::daemon::{Daemon, SUCCESS, State};
use super::leftovers;
use super::plan::{DaemonHarm, Harm, TrainerHarm, WorkerHarm};
use super::process::{Process, now_us};
use super::run::{Due, Phase, Run, Stopped, Victim};
use super::waits::Cause;
use crate::marked;

/// After how long harm that could not be done is tried again.
const LATER: Duration = Duration::from_millis(50);

/// After how long a worker that lives on with no more memory is killed.
const STARVING_MAX: Duration = Duration::from_secs(3);

/// After how long a signal that ends a process is sent again: Rust's runtime takes the first SIGSEGV for a stack
/// overflow, looks, and lets the process run on.
const AGAIN: Duration = Duration::from_millis(20);

/// How long a loader that has fallen stays away.
const FALLEN_AWAY: Duration = Duration::from_millis(200);

impl Run {
    /// Does what is due.
    pub(super) fn act(&mut self, due: Due) -> Result<(), Box<dyn Error>> {
        match due {
            Due::Harm(kind, harm) => {
                if self.harm(harm) {
                    self.plan_next(kind);
                } else {
                    self.agenda.after(LATER, Due::Harm(kind, harm));
                }
            }
            Due::Continue(whose, process, since_us) => self.goes_on(whose, &process, since_us),
            Due::KillStopped(process, since_us) => {
                self.counts.waits.happened(Cause::WorkerStopped, since_us, now_us());
                if process.signal(Signal::KILL) {
                    self.doom(process, Count::WorkerStopAndKill);
                }
            }
            Due::EndChild(process) => {
                process.signal(Signal::KILL);
            }
            Due::StartDaemon => self.start_daemon()?,
            Due::KillTrainer(number, life) => {
                if self.trainers[number].life == life && self.trainers[number].well().is_some() {
                    self.kill_trainer(number);
                }
            }
            Due::KillDaemon(life) => {
                if let Some(daemon) = self.daemon.take_if(|daemon| daemon.life == life) {
                    self.kill_daemon(daemon, Duration::ZERO);
                }
            }
            Due::Progress => {
                self.counts.print(false);
                self.agenda.after(super::run::PROGRESS, Due::Progress);
            }
        }
        Ok(())
    }

    /// Does harm; `false` when there is nobody to do it to now.
    fn harm(&mut self, harm: Harm) -> bool {
        match harm {
            Harm::Worker(harm) => self.harm_worker(harm),
            Harm::Trainer(harm) => self.harm_trainer(harm),
            Harm::Daemon(harm) => self.harm_daemon(harm),
            Harm::Scale(workers) => {
                self.is_up() && {
                    let scaled = self.place.scale(workers);
                    self.note_asked(scaled, Count::Scale)
                }
            }
            Harm::Second => {
                self.is_up() && {
                    let refused = self.place.second();
                    self.note_asked(refused, Count::SecondRefused)
                }
            }
        }
    }

    fn note_asked(&mut self, outcome: Result<(), String>, count: Count) -> bool {
        match outcome {
            Ok(()) => self.counts.add(count),
            Err(error) => self.counts.find(Check::Daemon, 1, &error),
        }
        true
    }

    fn is_up(&self) -> bool {
        self.daemon.as_ref().is_some_and(|daemon| daemon.state == State::Up && !daemon.process.is_gone())
    }

    fn harm_worker(&mut self, harm: WorkerHarm) -> bool {
        let Some(process) = self.some_worker() else { return false };
        let hit = match harm {
            WorkerHarm::Kill => process.signal(Signal::KILL),
            WorkerHarm::Stop(_) | WorkerHarm::StopAndKill(_) => process.signal(Signal::STOP),
            WorkerHarm::Segv => process.signal(Signal::SEGV),
            WorkerHarm::Abort => process.signal(Signal::ABORT),
            WorkerHarm::Starve => process.starve(),
        };
        if !hit {
            return false;
        }
        match harm {
            WorkerHarm::Kill => self.doom(process, Count::WorkerKill),
            WorkerHarm::Segv => self.doom(process, Count::WorkerSegv),
            WorkerHarm::Abort => self.doom(process, Count::WorkerAbort),
            WorkerHarm::Starve => self.doom(process, Count::WorkerStarve),
            WorkerHarm::Stop(time) => self.agenda.after(time, Due::Continue(Stopped::Worker, process, now_us())),
            WorkerHarm::StopAndKill(time) => self.agenda.after(time, Due::KillStopped(process, now_us())),
        }
        true
    }

    fn doom(&mut self, process: Process, count: Count) {
        self.victims.push(Victim { process, count, since: Instant::now() });
    }

    /// A worker, mostly one that is at work.
    fn some_worker(&mut self) -> Option<Process> {
        if !self.is_up() {
            return None;
        }
        let status = self.status()?;
        let busy = self.choice.below(100) < 80;
        let fit = |worker: &&WorkerStatus| worker.pid != 0 && (!busy || worker.state == WorkerState::Busy);
        let fit: Vec<_> = status.workers.iter().filter(fit).collect();
        let place = usize::try_from(self.choice.below(fit.len() as u64)).ok()?;
        Process::child_of(fit.get(place)?.pid, status.pid)
    }

    /// How the loader stands, which is up; counts the lanes that were split and merged since it was last asked.
    pub(super) fn status(&mut self) -> Option<Status> {
        match self.place.status() {
            Ok(status) => {
                let sum = |count: fn(&StreamStatus) -> u64| status.streams.iter().map(count).sum();
                let now = [sum(|stream| stream.splits), sum(|stream| stream.merges)];
                let counted = self.daemon.as_mut().map(|daemon| std::mem::replace(&mut daemon.partings, now))?;
                for (count, (now, counted)) in
                    [Count::Splits, Count::Merges].into_iter().zip(now.into_iter().zip(counted))
                {
                    self.counts.add_times(count, now.saturating_sub(counted));
                }
                Some(status)
            }
            Err(error) => {
                self.counts.find(Check::Daemon, 1, &error);
                None
            }
        }
    }

    /// Counts the workers that have died, and sees to it that the others do.
    pub(super) fn look_at_victims(&mut self) {
        let (counts, now) = (&mut self.counts, now_us());
        self.victims.retain_mut(|victim| {
            if victim.process.is_gone() {
                counts.add(victim.count);
                counts.waits.happened(Cause::WorkerDied, now, now);
                return false;
            }
            match victim.count {
                Count::WorkerSegv if victim.since.elapsed() > AGAIN => {
                    victim.process.signal(Signal::SEGV);
                    victim.since = Instant::now();
                }
                Count::WorkerStarve if victim.since.elapsed() > STARVING_MAX => {
                    // It has all the memory that it needs.
                    victim.process.signal(Signal::KILL);
                    victim.count = Count::WorkerKill;
                }
                _ => {}
            }
            true
        });
    }

    fn harm_trainer(&mut self, harm: TrainerHarm) -> bool {
        let number = usize::try_from(self.choice.below(self.trainers.len() as u64)).unwrap_or(0);
        let life = self.trainers[number].life;
        let Some(running) = self.trainers[number].well() else { return false };
        match harm {
            TrainerHarm::Kill => return self.kill_trainer(number),
            TrainerHarm::KillTwice(time) => {
                self.trainers[number].successor_dies = Some(time);
                return self.kill_trainer(number);
            }
            TrainerHarm::Exit => {
                running.doomed = true;
                running.order(order::EXIT);
                self.counts.add(Count::TrainerExit);
            }
            TrainerHarm::Fork(time) => {
                running.doomed = true;
                running.forks = Some(time);
                running.order(order::FORK);
            }
            TrainerHarm::Stop(time) => {
                let Some(process) = Process::open(running.pid()) else { return false };
                if !process.signal(Signal::STOP) {
                    return false;
                }
                let now = now_us();
                self.trainers[number].stopped_us = Some((now, None));
                self.agenda.after(time, Due::Continue(Stopped::Trainer(number, life), process, now));
            }
        }
        true
    }

    fn kill_trainer(&mut self, number: usize) -> bool {
        let Some(running) = &mut self.trainers[number].running else { return false };
        let hit = running.process.signal(Signal::KILL);
        if hit {
            running.doomed = true;
            self.counts.add(Count::TrainerKill);
            self.was_away(number, now_us());
        }
        hit
    }

    /// Those that share with a trainer may have waited for it since then.
    fn was_away(&mut self, number: usize, since_us: u64) {
        if self.trainers[number].share != Share::Private {
            self.counts.waits.happened(Cause::TrainerAway, since_us, now_us());
        }
    }

    /// A trainer has a child that holds its sockets: now it is killed, and the child some time later.
    pub(super) fn forked(&mut self, number: usize, pid: u32) {
        let Some(running) = &mut self.trainers[number].running else { return };
        let Some(time) = running.forks.take() else { return };
        // One that has lost its parent already ends by itself.
        if let Some(child) = Process::child_of(pid, running.pid()) {
            self.agenda.after(time, Due::EndChild(child));
        }
        running.process.signal(Signal::KILL);
        self.counts.add(Count::TrainerFork);
        self.was_away(number, now_us());
    }

    fn harm_daemon(&mut self, harm: DaemonHarm) -> bool {
        if !self.is_up() {
            return false;
        }
        self.status();
        let Some(mut daemon) = self.daemon.take() else { return false };
        self.counts.daemon_files_max = self.counts.daemon_files_max.max(leftovers::open_files(daemon.pid()));
        match harm {
            DaemonHarm::Kill(away) => self.kill_daemon(daemon, away),
            DaemonHarm::KillTwice(time) => {
                self.agenda.after(time, Due::KillDaemon(daemon.life + 1));
                self.kill_daemon(daemon, Duration::ZERO);
            }
            DaemonHarm::End(away) => self.ask_to_end(daemon, Some(away)),
            DaemonHarm::Stop(time) => {
                let process = Process::open(daemon.pid()).filter(|process| process.signal(Signal::STOP));
                if let Some(process) = process {
                    daemon.state = State::Stopped;
                    self.agenda.after(time, Due::Continue(Stopped::Daemon(daemon.life), process, now_us()));
                }
                self.daemon = Some(daemon);
            }
        }
        true
    }

    fn kill_daemon(&mut self, mut daemon: Daemon, away: Duration) {
        daemon.end();
        self.counts.add(Count::DaemonKill);
        self.bury_daemon(&daemon, away);
    }

    /// A loader was killed or has fallen: its workers must end, and another takes its place.
    fn bury_daemon(&mut self, daemon: &Daemon, away: Duration) {
        if daemon.state != State::Starting {
            (self.away_since_us, self.away_cause) = (now_us(), Cause::DaemonDied);
        }
        // Their deaths are the daemon's.
        self.victims.clear();
        self.orphans.push((daemon.mark.clone(), Instant::now()));
        self.agenda.after(away, Due::StartDaemon);
    }

    /// Has a loader end in order; the next one starts some time after, if there is to be one.
    pub(super) fn ask_to_end(&mut self, mut daemon: Daemon, away: Option<Duration>) {
        (self.away_since_us, self.away_cause) = (now_us(), Cause::DaemonEnded);
        match self.place.ask_to_end() {
            Ok(()) => {
                daemon.state = State::Ending { since: Instant::now(), away };
                self.daemon = Some(daemon);
            }
            Err(error) => {
                self.counts.find(Check::Daemon, 1, &format!("{error}: {}", daemon.end()));
                self.bury_daemon(&daemon, FALLEN_AWAY);
            }
        }
    }

    /// Sees whether the loader still lives, and starts another if not.
    pub(super) fn look_at_daemon(&mut self) {
        let Some(mut daemon) = self.daemon.take_if(|daemon| daemon.process.is_gone() || daemon.is_overdue()) else {
            return;
        };
        let State::Ending { away, .. } = daemon.state else {
            let what = format!("the loader (pid {}) ended by itself: {}", daemon.pid(), daemon.end());
            self.counts.find(Check::Daemon, 1, &format!("{what}: {}", self.place.last_words()));
            return self.bury_daemon(&daemon, FALLEN_AWAY);
        };
        let how = daemon.end();
        if how == SUCCESS {
            self.counts.add(Count::DaemonEnd);
            self.nothing_is_left(&daemon.mark);
        } else {
            self.counts.find(Check::Daemon, 1, &format!("asked to stop, the loader did not, or ended with {how}"));
        }
        self.victims.clear();
        match away {
            Some(away) => self.agenda.after(away, Due::StartDaemon),
            None => self.phase = Phase::Over,
        }
    }

    /// Sees that a loader that has ended in order left neither file nor process.
    fn nothing_is_left(&mut self, mark: &str) {
        let left = leftovers::files(&self.place.door);
        if !left.is_empty() {
            self.counts.find(Check::LeakedFile, left.len() as u64, &format!("left at the address: {left:?}"));
        }
        let left = marked(mark);
        if !left.is_empty() {
            self.counts.find(Check::LeakedProcess, left.len() as u64, &format!("left of a stopped loader: {left:?}"));
        }
    }

    /// A stopped process goes on, unless it has died meanwhile.
    fn goes_on(&mut self, whose: Stopped, process: &Process, since_us: u64) {
        if !process.signal(Signal::CONT) {
            return;
        }
        let now = now_us();
        match whose {
            Stopped::Worker => {
                self.counts.add(Count::WorkerStop);
                self.counts.waits.happened(Cause::WorkerStopped, since_us, now);
            }
            Stopped::Trainer(number, life) => {
                let trainer = &mut self.trainers[number];
                if trainer.life == life {
                    trainer.stopped_us = Some((since_us, Some(now)));
                    trainer.alive = Instant::now();
                }
                self.counts.add(Count::TrainerStop);
                self.was_away(number, since_us);
            }
            Stopped::Daemon(life) => {
                if let Some(daemon) = self.daemon.as_mut().filter(|daemon| daemon.life == life) {
                    daemon.state = State::Up;
                }
                self.counts.add(Count::DaemonStop);
                self.counts.waits.happened(Cause::DaemonStopped, since_us, now);
            }
        }
    }
}
