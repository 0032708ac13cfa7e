//! The torture's side of a trainer: one process after another, each going on where the last one was.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

use batchmill_protocol::position::{Extent, Position};
use batchmill_protocol::share::Share;
use rustix::process::Signal;

use super::daemon::{Place, SELF};
use super::process::Process;
use super::run::Notice;
use super::sequence::Sequence;
use crate::MARK;

/// Epochs that a trainer reads before it begins anew; so the reference makes each batch once.
pub(super) const EPOCHS: u64 = 16;

/// Batches that a trainer asks to hold at once.
pub(super) const LEASES: u32 = 4;

/// One trainer.
#[derive(Debug)]
pub(super) struct Trainer {
    pub(super) number: usize,
    pub(super) share: Share,
    /// Which of its processes it is.
    pub(super) life: u32,
    pub(super) running: Option<Running>,
    pub(super) sequence: Sequence,
    /// When it last told of a batch, or was last started or continued.
    pub(super) alive: Instant,
    /// How often it has read to the end.
    pub(super) rounds: u64,
    /// Batches it has told of, in all its lives.
    pub(super) batches: u64,
    /// How many it is to tell of before all ends.
    pub(super) batches_wanted: u64,
    /// How long after its start its next process is killed.
    pub(super) successor_dies: Option<Duration>,
    /// When it was last stopped and continued; a stop that still lasts has no end.
    pub(super) stopped_us: Option<(u64, Option<u64>)>,
}

/// One process of a trainer.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    orders: ChildStdin,
    pub(super) process: Process,
    /// Whether its end was brought about by the torture.
    pub(super) doomed: bool,
    /// After how long its forked child ends, from the order to fork until it has forked.
    pub(super) forks: Option<Duration>,
    /// Whether it has said that it read all.
    pub(super) ended: bool,
}

impl Trainer {
    pub(super) fn new(number: usize, share: Share) -> Self {
        Self {
            number,
            share,
            life: 0,
            running: None,
            sequence: Sequence::new(0),
            alive: Instant::now(),
            rounds: 0,
            batches: 0,
            batches_wanted: 0,
            successor_dies: None,
            stopped_us: None,
        }
    }

    /// Starts its next process, which goes on after the last batch told of.
    pub(super) fn start(
        &mut self,
        place: &Place,
        stream: &str,
        mark: &str,
        extent: Extent,
        notices: &SyncSender<Notice>,
    ) -> io::Result<()> {
        self.life += 1;
        self.sequence = Sequence::new(self.sequence.resume());
        let from = position(self.sequence.resume(), extent);
        let (trainer, life) = (self.number, self.life);
        let mut child = Command::new(SELF)
            .args(["consumer", "--stream", stream, "--socket"])
            .arg(place.socket())
            .args(["--from", &format!("{}:{}", from.epoch, from.step)])
            .args(["--until", &EPOCHS.to_string(), "--leases", &LEASES.to_string()])
            .args(["--share", &serde_json::to_string(&self.share)?])
            .args(["--seed", &format!("{}", trainer * 1_000_000 + life as usize)])
            .env(MARK, mark)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(place.log()?)
            .spawn()?;
        let process = Process::open(child.id()).ok_or_else(|| io::Error::other("it cannot be watched"))?;
        let piped = || io::Error::other("it has no standard streams");
        let (orders, told) = (child.stdin.take().ok_or_else(piped)?, child.stdout.take().ok_or_else(piped)?);
        let notices = notices.clone();
        thread::Builder::new().name(format!("trainer {trainer}")).spawn(move || {
            let mut told = BufReader::new(told);
            let mut text = String::new();
            // A line without its end was cut off by the death of who wrote it.
            while told.read_line(&mut text).is_ok_and(|_| text.ends_with('\n')) {
                let line = text.trim_end().parse().map_err(|_| text.clone());
                if notices.send(Notice::Told { trainer, line }).is_err() {
                    return;
                }
                text.clear();
            }
            let _ = notices.send(Notice::Silent { trainer, life });
        })?;
        self.running = Some(Running { child, orders, process, doomed: false, forks: None, ended: false });
        (self.alive, self.stopped_us) = (Instant::now(), None);
        Ok(())
    }

    /// Its process, unless that is stopped or about to die.
    pub(super) fn well(&mut self) -> Option<&mut Running> {
        let stopped = self.is_stopped();
        self.running.as_mut().filter(|running| !stopped && !running.doomed && !running.ended)
    }

    pub(super) fn is_stopped(&self) -> bool {
        matches!(self.stopped_us, Some((_, None)))
    }

    /// Whether it was stopped by the torture between two times.
    pub(super) fn was_stopped(&self, from_us: u64, to_us: u64) -> bool {
        self.stopped_us.is_some_and(|(from, to)| from <= to_us && to.is_none_or(|to| from_us <= to))
    }

    /// Waits for the end of its process, whose standard output has ended.
    pub(super) fn bury(&mut self, limit: Duration) -> Option<(Running, io::Result<ExitStatus>)> {
        let mut running = self.running.take()?;
        if !running.process.is_gone_within(limit) {
            running.process.signal(Signal::KILL);
        }
        let status = running.child.wait();
        Some((running, status))
    }

    pub(super) fn pid(&self) -> u32 {
        self.running.as_ref().map_or(0, |running| running.child.id())
    }
}

impl Running {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells it what to do; one that has just died does not hear it.
    pub(super) fn order(&mut self, order: &str) {
        let _ = writeln!(self.orders, "{order}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The position of a place that counts the batches of all epochs.
pub(super) fn position(place: u64, extent: Extent) -> Position {
    Position { epoch: place / extent.steps(), step: place % extent.steps() }
}

/// The place of a position.
pub(super) fn place(position: Position, extent: Extent) -> u64 {
    position.epoch.saturating_mul(extent.steps()).saturating_add(position.step)
}
