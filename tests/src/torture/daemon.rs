//! The loader under torture: one process after another at one address.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use batchmill_protocol::client::{Client, ClientError};
use batchmill_protocol::message::{Reply, Request};
use batchmill_protocol::status::Status;
use rustix::process::{Resource, Rlimit, Signal};

use super::process::Process;
use super::report;
use crate::{MARK, WITHOUT_REAPING, unique};

/// How long a loader may take to say that it is ready, to end, or to be refused.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// This very program, also when its file has been replaced meanwhile.
pub(super) const SELF: &str = "/proc/self/exe";

/// The name under which this program is the loader.
pub const LOADER: &str = "loader";

/// How a loader ends that was asked to.
pub(super) const SUCCESS: &str = "exit status: 0";

/// Lines of the log that go with a finding.
const LOG_LINES: usize = 4;

/// Where loaders are started, one after another.
#[derive(Debug)]
pub(super) struct Place {
    /// Of the socket.
    pub(super) door: PathBuf,
    pub(super) config: PathBuf,
    /// What loaders and trainers write on standard error.
    pub(super) log: PathBuf,
    /// Whether ranges are given out again while the worker that had them still runs.
    pub(super) without_reaping: bool,
}

/// One loader.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Child,
    pub(super) process: Process,
    /// What it and its workers carry.
    pub(super) mark: String,
    /// Which loader of this torture it is.
    pub(super) life: u32,
    pub(super) state: State,
    /// Lanes that it has split and merged, as far as they were counted.
    pub(super) partings: [u64; 2],
    /// Its first line, read by a thread; whether it says that it is ready.
    ready: Receiver<bool>,
}

/// How a loader stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Starting,
    Up,
    Stopped,
    /// It was asked to end; the next one starts some time after, if there is to be one.
    Ending {
        since: Instant,
        away: Option<Duration>,
    },
}

/// Becomes `loader ARGUMENTS`, which ends with the thread that started this process and leaves no core file.
///
/// # Errors
/// When that cannot be.
pub fn become_loader(arguments: &[std::ffi::OsString]) -> io::Error {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let leashed = rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .and_then(|()| rustix::process::setrlimit(Resource::Core, none));
    leashed.map_or_else(io::Error::from, |()| Command::new(SELF).arg0(LOADER).args(arguments).exec())
}

impl Place {
    pub(super) fn socket(&self) -> PathBuf {
        self.door.join("s")
    }

    /// The file to which standard error goes.
    pub(super) fn log(&self) -> io::Result<File> {
        File::options().append(true).create(true).open(&self.log)
    }

    fn command(&self, mark: &str) -> io::Result<Command> {
        let mut command = Command::new(SELF);
        command.args(["leashed", "serve", "--config"]).arg(&self.config).arg("--socket").arg(self.socket());
        command.env(MARK, mark).stdin(Stdio::null());
        if self.without_reaping {
            command.env(WITHOUT_REAPING, "1");
        }
        Ok(command)
    }

    /// Starts the next loader.
    pub(super) fn start(&self, life: u32) -> io::Result<Daemon> {
        let mark = unique();
        let mut child = self.command(&mark)?.stdout(Stdio::piped()).stderr(self.log()?).spawn()?;
        let process = Process::open(child.id()).ok_or_else(|| io::Error::other("it cannot be watched"))?;
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("it has no standard output"))?;
        let (sender, ready) = mpsc::sync_channel(1);
        thread::Builder::new().name("ready".to_owned()).spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(stdout).read_line(&mut line);
            sender.send(line.starts_with("ready "))
        })?;
        Ok(Daemon { child, process, mark, life, state: State::Starting, partings: [0; 2], ready })
    }

    /// Starts a second loader, which must say that there is one; says what it did otherwise.
    pub(super) fn second(&self) -> Result<(), String> {
        let command = self.command(&unique()).map(|mut command| {
            command.stdout(Stdio::null()).stderr(Stdio::piped());
            command
        });
        let mut child = command.and_then(|mut command| command.spawn()).map_err(|error| error.to_string())?;
        if !Process::open(child.id()).is_none_or(|process| process.is_gone_within(LIMIT)) {
            let _ = child.kill();
            let _ = child.wait();
            return Err("a second loader at the address was not refused".to_owned());
        }
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.code() == Some(1) && said.contains("another loader already serves at") {
            return Ok(());
        }
        Err(format!("a second loader was not refused for the first: {}: {said}", output.status))
    }

    fn ask(&self, request: &Request) -> Result<Reply, ClientError> {
        Client::connect(Some(&self.socket()))?.request(request)
    }

    /// How the loader stands.
    pub(super) fn status(&self) -> Result<Status, String> {
        match self.ask(&Request::Status) {
            Ok(Reply::Status(status)) => Ok(*status),
            Ok(other) => Err(format!("asked for its status, it said {other:?}")),
            Err(error) => Err(format!("asked for its status: {}", report(&error))),
        }
    }

    /// Sets the number of workers.
    pub(super) fn scale(&self, workers: u32) -> Result<(), String> {
        match self.ask(&Request::Scale { workers }) {
            Ok(Reply::Scaled { now, .. }) if now == workers => Ok(()),
            Ok(other) => Err(format!("asked to scale to {workers}, it said {other:?}")),
            Err(error) => Err(format!("asked to scale to {workers}: {}", report(&error))),
        }
    }

    /// Asks the loader to end, as `loader stop` does.
    pub(super) fn ask_to_end(&self) -> Result<(), String> {
        match self.ask(&Request::Stop) {
            Ok(Reply::Stopping { .. }) => Ok(()),
            Ok(other) => Err(format!("asked to stop, it said {other:?}")),
            Err(error) => Err(format!("asked to stop: {}", report(&error))),
        }
    }

    /// The last lines of the log.
    pub(super) fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().rev().take(LOG_LINES).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }
}

impl Daemon {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has become ready since it was last asked.
    pub(super) fn gets_ready(&mut self) -> bool {
        let ready = self.state == State::Starting && self.ready.try_recv() == Ok(true);
        if ready {
            self.state = State::Up;
        }
        ready
    }

    /// Whether it was asked to end long ago.
    pub(super) fn is_overdue(&self) -> bool {
        matches!(self.state, State::Ending { since, .. } if since.elapsed() > LIMIT)
    }

    /// Kills it if it still runs, and says how it ended.
    pub(super) fn end(&mut self) -> String {
        let _ = self.child.kill();
        self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}
