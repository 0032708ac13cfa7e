//! What was done, what was found, and how it is shown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::waits::Waits;

/// Findings that are told in full; all are counted.
const TOLD_MAX: usize = 50;

/// Something that was done or came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Count {
    Deliveries,
    Epochs,
    Splits,
    Merges,
    Dismissals,
    WorkerKill,
    WorkerStop,
    WorkerStopAndKill,
    WorkerSegv,
    WorkerAbort,
    WorkerStarve,
    TrainerKill,
    TrainerStop,
    TrainerExit,
    TrainerFork,
    TrainerReconnect,
    DaemonKill,
    DaemonStop,
    DaemonEnd,
    Scale,
    SecondRefused,
}

impl Count {
    const ALL: [Self; 21] = [
        Self::Deliveries,
        Self::Epochs,
        Self::Splits,
        Self::Merges,
        Self::Dismissals,
        Self::WorkerKill,
        Self::WorkerStop,
        Self::WorkerStopAndKill,
        Self::WorkerSegv,
        Self::WorkerAbort,
        Self::WorkerStarve,
        Self::TrainerKill,
        Self::TrainerStop,
        Self::TrainerExit,
        Self::TrainerFork,
        Self::TrainerReconnect,
        Self::DaemonKill,
        Self::DaemonStop,
        Self::DaemonEnd,
        Self::Scale,
        Self::SecondRefused,
    ];

    /// Whom it befell, and what.
    fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::Deliveries => ("stream", "batches"),
            Self::Epochs => ("stream", "read_to_the_end"),
            Self::Splits => ("stream", "lanes_split"),
            Self::Merges => ("stream", "lanes_merged"),
            Self::Dismissals => ("stream", "dropped_for_lag"),
            Self::WorkerKill => ("workers", "kill"),
            Self::WorkerStop => ("workers", "stop"),
            Self::WorkerStopAndKill => ("workers", "stop_and_kill"),
            Self::WorkerSegv => ("workers", "segv"),
            Self::WorkerAbort => ("workers", "abort"),
            Self::WorkerStarve => ("workers", "oom"),
            Self::TrainerKill => ("trainers", "kill"),
            Self::TrainerStop => ("trainers", "stop"),
            Self::TrainerExit => ("trainers", "silent_exit"),
            Self::TrainerFork => ("trainers", "kill_with_forked_child"),
            Self::TrainerReconnect => ("trainers", "reconnect"),
            Self::DaemonKill => ("daemons", "kill"),
            Self::DaemonStop => ("daemons", "stop"),
            Self::DaemonEnd => ("daemons", "ended_by_loader_stop"),
            Self::Scale => ("daemons", "scale"),
            Self::SecondRefused => ("daemons", "second_refused"),
        }
    }

    /// Whether a process died of it.
    fn is_death(self, of: &str) -> bool {
        let stopped = matches!(
            self,
            Self::WorkerStop
                | Self::TrainerStop
                | Self::TrainerReconnect
                | Self::DaemonStop
                | Self::Scale
                | Self::SecondRefused
        );
        self.name().0 == of && !stopped
    }
}

/// Something that must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Check {
    /// A batch did not come.
    Lost,
    /// A batch came twice.
    Duplicated,
    /// A batch came after a later one.
    Reordered,
    /// A batch was not what it must be, at the end of its lease.
    Corrupt,
    /// A batch could not be made.
    FailedStep,
    /// The client saw the protocol broken.
    Protocol,
    /// A trainer was ended that should not be.
    Dismissed,
    /// A trainer ended by itself.
    Trainer,
    /// A loader ended by itself, did not start or did not end, or a second one was let in.
    Daemon,
    /// A trainer got no batch any more.
    Stalled,
    /// A process was left behind.
    LeakedProcess,
    /// A file was left at the address.
    LeakedFile,
    /// Memory of the stream is still held by some process.
    LeakedMemfd,
    /// So many bytes are left in /dev/shm.
    LeakedShm,
}

impl Check {
    const ALL: [Self; 14] = [
        Self::Lost,
        Self::Duplicated,
        Self::Reordered,
        Self::Corrupt,
        Self::FailedStep,
        Self::Protocol,
        Self::Dismissed,
        Self::Trainer,
        Self::Daemon,
        Self::Stalled,
        Self::LeakedProcess,
        Self::LeakedFile,
        Self::LeakedMemfd,
        Self::LeakedShm,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Duplicated => "duplicated",
            Self::Reordered => "reordered",
            Self::Corrupt => "corrupt",
            Self::FailedStep => "failed_steps",
            Self::Protocol => "protocol_broken",
            Self::Dismissed => "dismissed",
            Self::Trainer => "trainers_fallen",
            Self::Daemon => "daemons_fallen",
            Self::Stalled => "stalled",
            Self::LeakedProcess => "leaked_processes",
            Self::LeakedFile => "leaked_files",
            Self::LeakedMemfd => "leaked_memfds",
            Self::LeakedShm => "shm_bytes",
        }
    }
}

/// What was found first.
#[derive(Debug)]
struct First {
    check: Check,
    after: Duration,
    what: String,
}

/// The books of one torture.
#[derive(Debug)]
pub(super) struct Counts {
    start: Instant,
    seed: u64,
    json: bool,
    done: BTreeMap<Count, u64>,
    found: BTreeMap<Check, u64>,
    told: usize,
    first: Option<First>,
    pub(super) waits: Waits,
    /// Why trainers were not let in, and how often.
    refusals: BTreeMap<String, u64>,
    /// Open files of a daemon, and the memory it holds in RAM, at most.
    pub(super) daemon_files_max: u64,
    /// By how much the torture itself was late, for want of processor time.
    pub(super) late_max: Duration,
    /// The longest time that a dead daemon's workers lived on.
    pub(super) orphans_max: Duration,
}

impl Counts {
    pub(super) fn new(seed: u64, json: bool) -> Self {
        Self {
            start: Instant::now(),
            seed,
            json,
            done: Count::ALL.map(|count| (count, 0)).into(),
            found: Check::ALL.map(|check| (check, 0)).into(),
            told: 0,
            first: None,
            waits: Waits::default(),
            refusals: BTreeMap::new(),
            daemon_files_max: 0,
            late_max: Duration::ZERO,
            orphans_max: Duration::ZERO,
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub(super) fn add(&mut self, count: Count) {
        self.add_times(count, 1);
    }

    pub(super) fn add_times(&mut self, count: Count, times: u64) {
        *self.done.entry(count).or_default() += times;
    }

    pub(super) fn of(&self, count: Count) -> u64 {
        self.done[&count]
    }

    /// Notes, and tells on standard error, something that must not be, so many times.
    pub(super) fn find(&mut self, check: Check, times: u64, what: &str) {
        *self.found.entry(check).or_default() += times;
        let after = self.elapsed();
        self.told += 1;
        if self.told <= TOLD_MAX {
            eprintln!("{:.1} s: {}: {what}", after.as_secs_f64(), check.name());
        }
        self.first.get_or_insert_with(|| First { check, after, what: what.to_owned() });
    }

    /// Notes why a trainer was not let in; it asks again.
    pub(super) fn refused(&mut self, reason: String) {
        if self.refusals.len() < TOLD_MAX {
            *self.refusals.entry(reason).or_default() += 1;
        }
    }

    /// Takes back that a batch was lost: it came late.
    pub(super) fn not_lost(&mut self) {
        let lost = self.found.entry(Check::Lost).or_default();
        *lost = lost.saturating_sub(1);
    }

    /// How often that was found.
    pub(super) fn found(&self, check: Check) -> u64 {
        self.found[&check]
    }

    /// Whether everything was as it must be.
    pub(super) fn is_clean(&self) -> bool {
        self.first.is_none()
    }

    /// Whether what was found first is a batch that is wrong, or came at a wrong place or not at all.
    pub(super) fn is_wrong_batch(&self) -> bool {
        let wrong = [Check::Lost, Check::Duplicated, Check::Reordered, Check::Corrupt, Check::Protocol];
        self.first.as_ref().is_some_and(|first| wrong.contains(&first.check))
    }

    /// The one sentence about what was found first.
    pub(super) fn verdict(&self) -> String {
        match &self.first {
            None => format!("nothing was found in {:.1} s", self.elapsed().as_secs_f64()),
            Some(First { check, after, what }) => {
                format!("the check `{}` failed after {:.1} s: {what}", check.name(), after.as_secs_f64())
            }
        }
    }

    /// Prints how things stand, or what came of it all.
    pub(super) fn print(&self, last: bool) {
        let text = match (self.json, last) {
            (true, _) => format!("{}\n", self.to_json(last)),
            (false, false) => self.line(),
            (false, true) => self.table(),
        };
        // Whoever reads it may have seen enough; the exit code is still to come.
        let _ = io::stdout().write_all(text.as_bytes());
    }

    fn deaths(&self, of: &str) -> u64 {
        self.done.iter().filter(|(count, _)| count.is_death(of)).map(|(_, times)| times).sum()
    }

    fn line(&self) -> String {
        let found: u64 = self.found.values().sum();
        format!(
            "{:5.0} s: {} batches; {} workers, {} trainers, {} loaders died; {found} faults; worst wait {:.0} ms\n",
            self.elapsed().as_secs_f64(),
            self.of(Count::Deliveries),
            self.deaths("workers"),
            self.deaths("trainers"),
            self.deaths("daemons"),
            self.waits.worst_ms(),
        )
    }

    fn table(&self) -> String {
        let mut text = format!("seed {}, {:.1} s\n", self.seed, self.elapsed().as_secs_f64());
        for group in ["stream", "workers", "trainers", "daemons"] {
            let named = self.done.iter().map(|(count, times)| (count.name(), times));
            let of_it: Vec<_> = named
                .filter(|((whom, _), _)| *whom == group)
                .map(|((_, what), times)| format!("{} {times}", what.replace('_', " ")))
                .collect();
            let deaths = if group == "stream" { String::new() } else { format!(" ({} died)", self.deaths(group)) };
            let _ = writeln!(text, "{group:>9}: {}{deaths}", of_it.join(", "));
        }
        let found: Vec<_> =
            self.found.iter().map(|(check, times)| format!("{} {times}", check.name().replace('_', " "))).collect();
        let _ = writeln!(text, "{:>9}: {}", "found", found.join(", "));
        let _ = writeln!(text, "{:>9}: {}", "worst wait", self.waits);
        let _ = writeln!(
            text,
            "{:>9}: a loader had {} open files at most; the workers of a dead one were gone within {:.0} ms; the \
             torture itself was late by {:.0} ms at most",
            "besides",
            self.daemon_files_max,
            self.orphans_max.as_secs_f64() * 1e3,
            self.late_max.as_secs_f64() * 1e3
        );
        for (reason, times) in &self.refusals {
            let _ = writeln!(text, "{:>9}  {times} times a trainer had to ask again: {reason}", "");
        }
        text
    }

    fn to_json(&self, last: bool) -> Value {
        let mut done = Map::new();
        for (count, times) in &self.done {
            let (whom, what) = count.name();
            done.entry(whom).or_insert_with(|| json!({}))[what] = json!(times);
        }
        for group in ["workers", "trainers", "daemons"] {
            done[group]["died"] = json!(self.deaths(group));
        }
        let found: Map<_, _> =
            self.found.iter().map(|(check, times)| (check.name().to_owned(), json!(times))).collect();
        let first = self.first.as_ref().map(|First { check, after, what }| {
            json!({ "check": check.name(), "after_s": after.as_secs_f64(), "what": what })
        });
        json!({
            "last": last,
            "seed": self.seed,
            "seconds": self.elapsed().as_secs_f64(),
            "done": done,
            "found": found,
            "first": first,
            "worst_wait_ms": self.waits.to_json(),
            "refusals": self.refusals,
            "daemon_files_max": self.daemon_files_max,
            "late_max_ms": self.late_max.as_secs_f64() * 1e3,
            "orphans_max_ms": self.orphans_max.as_secs_f64() * 1e3,
        })
    }
}
