//! `trainer fit --world W`: starts the ranks of a training on this machine, and sees that they end together.
//!
//! Rank 0 has the terminal. The launcher tells all ranks what it is asked for, whoever else has told them: to them a second
//! signal says nothing new. Only the launcher ends at once by it, and all ranks end with the launcher, whatever ends that.

mod failure;
mod terminal;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use thiserror::Error;

use self::failure::{Failure, How};
use self::terminal::Terminal;
use crate::checkpoint::shelf;
use crate::cli::FitArgs;
use crate::device::DeviceChoice;
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

/// The variable that says which cards a process sees. Where it is not set, each rank gets a card, as far as there are enough.
const CARDS: &str = "CUDA_VISIBLE_DEVICES";

/// Where NVIDIA's driver lists them.
const CARD_FOLDER: &str = "/proc/driver/nvidia/gpus";

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
    /// Rank 0 could not go on without another, and has said so.
    #[error("the ranks have parted, as rank 0 says above")]
    Parted,
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
    let newest = || shelf::newest(&args.out).map(|(position, _)| position);
    // What somebody else has trained is gone on from by whoever asks for that.
    let is_ours = args.resume || newest().is_none();
    let our_ledger = args.ledger.as_deref().filter(|ledger| !args.resume && !ledger.exists());
    let (terminal, allowed, mut restarts) = (Terminal::now(), args.sharing.restarts, 0);
    loop {
        let before = newest();
        let mut ranks = Ranks::start(&arguments, world, args.device)?;
        ranks.wait(&stop)?;
        let failure = match ranks.outcome(stop.requested()) {
            Ok(ended) => return Ok(ended),
            Err(failure) => failure,
        };
        // Rank 0 may not have come to that.
        terminal.restore();
        let kept = newest();
        if stop.requested().is_some() || restarts == allowed || !is_ours || !failure.how.may_pass(kept > before) {
            return Err(failure.into_error(&args.out));
        }
        restarts += 1;
        note(&format!("{failure}: starting all ranks again, {restarts} of {allowed} times"));
        if let Some(ledger) = our_ledger.filter(|_| kept.is_none()) {
            // Of batches that nobody goes on from. What cannot be removed, rank 0 complains of.
            let _ = fs::remove_file(ledger);
        }
        arguments = again(arguments, args.resume, kept.is_some());
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
    fn start(arguments: &[OsString], world: u32, device: DeviceChoice) -> Result<Self, LaunchError> {
        let mut ranks = Self(Vec::new());
        let cards = cards(device);
        for rank in 0..world {
            let started = Rank::start(arguments, rank, world, cards);
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
                self.0.iter().for_each(|rank| rank.signal(reason));
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
    fn outcome(&self, asked: Option<Reason>) -> Result<Option<Reason>, Failure> {
        let world = u32::try_from(self.0.len()).expect("it was counted in 32 bits");
        // It ends a rank that does not listen yet.
        let by_request = |rank: &Rank| asked.is_some() && rank.signalled().is_some_and(is_request);
        let by_signal = |rank: &&Rank| rank.signalled().is_some() && !by_request(rank);
        let by_code = |rank: &&Rank| rank.code().is_some_and(|code| !is_orderly(code) && code != i32::from(LEFT));
        // Without one that was asked to end, the others end too.
        let is_asked = self.0.iter().any(by_request);
        let left = |rank: &&Rank| rank.code() == Some(LEFT.into()) && !is_asked;
        let find = |failed: &dyn Fn(&&Rank) -> bool| self.0.iter().find(failed);
        let Some(failed) = find(&by_signal).or_else(|| find(&by_code)).or_else(|| find(&left)) else {
            let codes = |reason: &Reason| self.0.iter().any(|rank| rank.code() == Some(reason.exit_code().into()));
            let heard = [Reason::Interrupt, Reason::Terminate].into_iter().find(codes);
            let is_done = self.0.iter().all(|rank| rank.code() == Some(0));
            return Ok(heard.or(asked.filter(|_| !is_done)));
        };
        let last_words = || failed.last_words.recv_timeout(LAST_WORDS).ok().flatten();
        let how = match (failed.signalled(), failed.code().unwrap_or_default()) {
            (Some(signal), _) => How::Signal(signal),
            (None, code) if code == i32::from(LEFT) => How::Left(last_words()),
            (None, code) => How::Code(code, last_words()),
        };
        Err(Failure { rank: failed.rank, world, how })
    }
}

impl Rank {
    fn start(arguments: &[OsString], rank: u32, world: u32, cards: Option<u32>) -> io::Result<Self> {
        // This very program, also when its file has been replaced meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("trainer").args(arguments);
        command.arg("--rank").arg(rank.to_string()).arg("--launcher").arg(std::process::id().to_string());
        if env::var_os(THREADS).is_none() {
            let cores = thread::available_parallelism().map_or(1, usize::from);
            let ranks = usize::try_from(world).unwrap_or(usize::MAX);
            command.env(THREADS, (cores / ranks).max(1).to_string());
        }
        if let Some(cards) = cards {
            command.env(CARDS, (rank % cards).to_string());
        }
        if rank > 0 {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
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

/// How many cards there are to share out among ranks that would all take the first one.
fn cards(device: DeviceChoice) -> Option<u32> {
    let takes_first = matches!(device, DeviceChoice::Auto | DeviceChoice::Cuda(0)) && env::var_os(CARDS).is_none();
    let cards = fs::read_dir(CARD_FOLDER).ok().filter(|_| takes_first)?.count();
    u32::try_from(cards).ok().filter(|cards| *cards > 1)
}

/// Whether a signal is a wish to end.
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
}
