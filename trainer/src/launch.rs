//! `trainer fit --world W`: starts the ranks of a training on this machine, and sees that they end together.
//!
//! Rank 0 has the terminal. The others are in groups of their own, so that Ctrl-C is for the launcher and rank 0: it tells
//! the others, and whoever hears of it first tells all with the next step. A rank gets no signal twice. All of them end
//! with the launcher, whatever ends that.

use std::env;
use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use thiserror::Error;

use crate::checkpoint::shelf;
use crate::cli::FitArgs;
use crate::fit::team::remedy;
use crate::report::note;
use crate::stop::{Reason, Stop};
use crate::{INTERRUPTED, LEFT, TERMINATED};

/// How long rank 0 may take to write down how far it came when another rank has failed.
const GRACE: Duration = Duration::from_secs(10);

/// How long a wait for ranks lasts until somebody looks whether the end is asked for.
const LOOK_UP: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// How long a rank that ends because of itself may take to say why.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The variable that says how many threads burn computes with on the CPU. Where it is not set, the ranks share the cores:
/// each would start as many as there are.
const THREADS: &str = "RAYON_NUM_THREADS";

/// What begins the one paragraph of a program that fails.
const ERROR: &str = "error: ";

/// Why a training of several ranks ended early.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// Somebody else starts the ranks, or there is one trainer alone.
    #[error(
        "--restarts is for ranks that are started here, and this is one trainer: give --world of 2 or more without a rank, \
         or leave --restarts out"
    )]
    NothingToRestart,
    /// This rank would outlive its launcher.
    #[error("the trainer that started this rank has ended")]
    Orphan,
    /// A rank does not come to be.
    #[error("start rank {rank}")]
    Start {
        /// Which.
        rank: u32,
        /// What the system said.
        source: io::Error,
    },
    /// The ranks cannot be waited for.
    #[error("wait for the ranks")]
    Wait(#[source] io::Error),
    /// The system takes no request to end from anybody.
    #[error("listen for Ctrl-C")]
    Listen(#[source] io::Error),
    /// A rank has ended too early.
    #[error("rank {rank} of {world} {how}")]
    Failed {
        /// Which.
        rank: u32,
        /// Of how many.
        world: u32,
        /// How it ended, and what to do.
        how: String,
    },
}

/// Trains by `world` processes of this very program, with the same arguments. Gives who ended the training, if anybody did.
///
/// # Errors
/// [`LaunchError`]; no rank lives any more.
pub fn run(args: &FitArgs, world: u32) -> Result<Option<Reason>, LaunchError> {
    let stop = Stop::install().map_err(LaunchError::Listen)?;
    stop.arm().map_err(LaunchError::Listen)?;
    let mut arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let mut restarts = 0;
    loop {
        let mut ranks = Ranks::start(&arguments, world)?;
        ranks.wait(&stop)?;
        let ended = ranks.outcome(&args.out, stop.requested());
        let failed = match ended {
            Err(failed) if stop.requested().is_none() && restarts < args.sharing.restarts => failed,
            ended => return ended,
        };
        restarts += 1;
        note(&format!("{failed}: starting all ranks again, {restarts} of {} times", args.sharing.restarts));
        arguments = again(arguments, args.resume, shelf::newest(&args.out).is_some());
    }
}

/// The arguments of the next start: with `--resume` instead of what is for a beginning, once there is a checkpoint.
fn again(arguments: Vec<OsString>, resumes: bool, has_latest: bool) -> Vec<OsString> {
    if !has_latest {
        return arguments;
    }
    let mut kept = Vec::with_capacity(arguments.len() + 1);
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--init") => drop(arguments.next()),
            Some("--init-partial") => {}
            Some(init) if init.starts_with("--init=") => {}
            _ => kept.push(argument),
        }
    }
    if !resumes && !kept.iter().any(|argument| argument == "--resume") {
        kept.push("--resume".into());
    }
    kept
}

/// All ranks of one start; they end when this does.
struct Ranks(Vec<Rank>);

/// One process.
struct Rank {
    rank: u32,
    child: Child,
    /// Readable when it has ended.
    ends: OwnedFd,
    ended: Option<ExitStatus>,
    /// Whether the launcher ended it.
    is_ours: bool,
    /// Its paragraph, if it failed with one.
    last_words: Receiver<Option<String>>,
}

impl Drop for Ranks {
    fn drop(&mut self) {
        for Rank { child, .. } in &mut self.0 {
            // One that has ended is not hit.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Ranks {
    fn start(arguments: &[OsString], world: u32) -> Result<Self, LaunchError> {
        let mut ranks = Self(Vec::new());
        for rank in 0..world {
            let started = Rank::start(arguments, rank, world);
            ranks.0.push(started.map_err(|source| LaunchError::Start { rank, source })?);
        }
        Ok(ranks)
    }

    /// Waits until all have ended. Tells them when the end is asked for; when one has failed, ends the others.
    fn wait(&mut self, stop: &Stop) -> Result<(), LaunchError> {
        let mut told = false;
        let mut failed: Option<Instant> = None;
        loop {
            let living = self.0.iter().filter(|rank| rank.ended.is_none());
            let mut ends: Vec<_> = living.map(|rank| PollFd::new(&rank.ends, PollFlags::IN)).collect();
            if ends.is_empty() {
                return Ok(());
            }
            match poll(&mut ends, Some(&LOOK_UP)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(LaunchError::Wait(error.into())),
            }
            for rank in &mut self.0 {
                if rank.ended.is_none() {
                    rank.ended = rank.child.try_wait().map_err(LaunchError::Wait)?;
                }
            }
            if let Some(reason) = stop.requested().filter(|_| !told) {
                told = true;
                // Rank 0 shares the terminal, and is told by the others where the signal did not come from there.
                self.0.iter().skip(1).for_each(|rank| rank.signal(reason));
            }
            if self.0.iter().any(Rank::has_failed) {
                failed.get_or_insert_with(Instant::now);
            }
            // Those that train end by themselves; those that have not met yet would wait for long.
            let patience = match self.0[0].ended {
                None => GRACE,
                Some(status) if status.code() == Some(LEFT.into()) => LAST_WORDS,
                Some(_) => Duration::ZERO,
            };
            if failed.is_some_and(|failed| failed.elapsed() >= patience) {
                for rank in self.0.iter_mut().filter(|rank| rank.ended.is_none()) {
                    rank.is_ours = true;
                    // One that has just ended is not hit.
                    let _ = rank.child.kill();
                }
            }
        }
    }

    /// What came of it, when all have ended.
    fn outcome(&self, run: &Path, asked: Option<Reason>) -> Result<Option<Reason>, LaunchError> {
        let world = u32::try_from(self.0.len()).expect("it was counted in 32 bits");
        let by_signal = |rank: &&Rank| rank.signalled().is_some_and(|signal| !(asked.is_some() && is_request(signal)));
        let by_code = |rank: &&Rank| rank.code().is_some_and(|code| !is_orderly(code) && code != i32::from(LEFT));
        let left = |rank: &&Rank| rank.code() == Some(LEFT.into());
        let find = |failed: &dyn Fn(&&Rank) -> bool| self.0.iter().find(failed);
        let Some(failed) = find(&by_signal).or_else(|| find(&by_code)).or_else(|| find(&left)) else {
            let codes = |reason: &Reason| self.0.iter().any(|rank| rank.code() == Some(reason.exit_code().into()));
            let heard = [Reason::Interrupt, Reason::Terminate].into_iter().find(codes);
            let is_done = self.0.iter().all(|rank| rank.code() == Some(0));
            return Ok(heard.or(asked.filter(|_| !is_done)));
        };
        let how = match (failed.signalled(), failed.code()) {
            (Some(signal), _) => format!("was ended by {}: {}", name(signal), remedy(run)),
            (None, code) => match failed.last_words.recv_timeout(LAST_WORDS) {
                Ok(Some(words)) => format!("failed: {words}"),
                _ => format!("ended with exit code {}, as it says above", code.unwrap_or_default()),
            },
        };
        Err(LaunchError::Failed { rank: failed.rank, world, how })
    }
}

impl Rank {
    fn start(arguments: &[OsString], rank: u32, world: u32) -> io::Result<Self> {
        // This very program, also when its file has been replaced meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("trainer").args(arguments);
        command.arg("--rank").arg(rank.to_string()).arg("--launcher").arg(std::process::id().to_string());
        if env::var_os(THREADS).is_none() {
            let cores = thread::available_parallelism().map_or(1, usize::from);
            let ranks = usize::try_from(world).unwrap_or(usize::MAX);
            command.env(THREADS, (cores / ranks).max(1).to_string());
        }
        if rank > 0 {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        }
        let mut child = command.spawn()?;
        let (sender, last_words) = mpsc::channel();
        if let Some(stderr) = child.stderr.take() {
            thread::spawn(move || sender.send(pass_on(stderr, rank)));
        }
        let ends = match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
            Ok(ends) => ends,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error.into());
            }
        };
        Ok(Self { rank, child, ends, ended: None, is_ours: false, last_words })
    }

    /// Asks it to end, if it has not.
    fn signal(&self, reason: Reason) {
        let signal = match reason {
            Reason::Interrupt => Signal::INT,
            Reason::Terminate => Signal::TERM,
        };
        if self.ended.is_none() {
            // Not reaped: the number is still its own. One that has just ended is not hit.
            let _ = kill_process(Pid::from_child(&self.child), signal);
        }
    }

    /// Its exit code, when it ended by itself.
    fn code(&self) -> Option<i32> {
        self.ended?.code()
    }

    /// What ended it, if not the launcher.
    fn signalled(&self) -> Option<i32> {
        self.ended?.signal().filter(|_| !self.is_ours)
    }

    fn has_failed(&self) -> bool {
        self.ended.is_some_and(|status| !status.code().is_some_and(is_orderly))
    }
}

/// Whether a trainer that ends so has saved what it was to save.
fn is_orderly(code: i32) -> bool {
    [0, INTERRUPTED.into(), TERMINATED.into()].contains(&code)
}

/// Whether a signal is a wish to end: it ends a rank that does not listen yet.
fn is_request(signal: i32) -> bool {
    [Signal::INT, Signal::TERM].map(Signal::as_raw).contains(&signal)
}

/// Passes on what a rank says on standard error, with its number, but for the paragraph that it fails with: gives that.
fn pass_on(stderr: ChildStderr, rank: u32) -> Option<String> {
    let mut last = None;
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        match line.strip_prefix(ERROR) {
            Some(words) => last = Some(words.to_owned()),
            None => note(&format!("rank {rank}: {line}")),
        }
    }
    last
}

/// A signal as people know it.
fn name(signal: i32) -> String {
    let known = [
        (Signal::KILL, "SIGKILL"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::ILL, "SIGILL"),
        (Signal::TERM, "SIGTERM"),
        (Signal::INT, "SIGINT"),
        (Signal::HUP, "SIGHUP"),
    ];
    let found = known.into_iter().find(|(known, _)| known.as_raw() == signal);
    found.map_or_else(|| format!("signal {signal}"), |(_, name)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_start_goes_on_where_there_is_a_checkpoint() {
        let next = |line: &str, resumes, has_latest| {
            let arguments = line.split(' ').map(OsString::from).collect();
            let next: Vec<_> = again(arguments, resumes, has_latest);
            next.iter().map(|argument| argument.to_string_lossy()).collect::<Vec<_>>().join(" ")
        };
        let fit = "fit --model m --world 2 --init w.pth --init-partial --out run";
        assert_eq!(next(fit, false, false), fit);
        assert_eq!(next(fit, false, true), "fit --model m --world 2 --out run --resume");
        assert_eq!(next("fit --init=w --resume", true, true), "fit --resume");
    }

    #[test]
    fn signals_have_their_names() {
        assert_eq!([9, 15, 63].map(name), ["SIGKILL", "SIGTERM", "signal 63"]);
    }
}
