//! Child processes: start them, hear their standard error, end them, reap them.
//!
//! All of it runs on one long-lived thread, because a child's parent-death signal is tied to the thread that started
//! it. A child is never forked without exec: nothing of this process is inherited but its standard streams, of which
//! standard input is the life-line.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use batchmill_protocol::fd;
use batchmill_protocol::message::{WorkerHello, WorkerId};
use batchmill_protocol::slab::Telemetry;
use crossbeam::channel::Sender;
use ipc_channel::ipc::IpcOneShotServer;
use rustix::process::{Resource, Rlimit, Signal};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::{mpsc, oneshot};

use crate::daemon::Happening;
use crate::error::report;
use crate::output;
use crate::peer;

/// Descriptors that the daemon has beside those below: its sockets and pipes, what the start of a worker or of a stream
/// takes for a moment, and some trainers of four each.
const DESCRIPTORS: u64 = 40;

/// Descriptors of one stream: its memory, once for writing and once for reading, its index and its cache.
const DESCRIPTORS_OF_A_STREAM: u64 = 4;

/// Descriptors of one worker: its life-line, both directions of its line, its standard error, its process.
const DESCRIPTORS_OF_A_WORKER: u64 = 5;

/// What the daemon asks of the supervisor.
#[derive(Debug)]
pub(crate) enum Request {
    /// Start a worker under this number.
    Spawn(WorkerId),
    /// Kill that worker.
    Kill(WorkerId),
}

/// How a worker process ended.
#[derive(Clone, Debug)]
pub(crate) struct End {
    /// For a person: `was killed by signal 9 (SIGKILL)`.
    pub(crate) how: String,
    /// Whether it ended by itself and content.
    pub(crate) clean: bool,
    /// Whether by what it did, rather than by a signal that somebody sent.
    pub(crate) crashed: bool,
}

/// What the daemon holds of a started worker.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pid: u32,
    /// Its end makes the worker exit; slabs travel on it.
    pub(crate) life_line: UnixStream,
    /// What the worker is making, also after its death.
    pub(crate) telemetry: Telemetry,
}

/// How many files this process may have open, and so how many workers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    limit: u64,
    streams: usize,
}

/// More workers than there is room for.
#[derive(Debug, Error)]
#[error(
    "{workers} workers need {needed} open files and the limit is {limit}: raise it with `ulimit -n {needed}`, or lower \
     --workers (or `workers`)"
)]
pub(crate) struct NoRoom {
    workers: u64,
    needed: u64,
    limit: u64,
}

impl Room {
    /// Raises the limit as far as it goes. There will be `streams` streams.
    pub(crate) fn make(streams: usize) -> Self {
        let limits = rustix::process::getrlimit(Resource::Nofile);
        let raised = Rlimit { current: limits.maximum, maximum: limits.maximum };
        let limit = match rustix::process::setrlimit(Resource::Nofile, raised) {
            Ok(()) => limits.maximum,
            Err(_) => limits.current,
        };
        Self { limit: limit.unwrap_or(u64::MAX), streams }
    }

    /// The same beside so many streams.
    pub(crate) fn beside(self, streams: usize) -> Self {
        Self { streams, ..self }
    }

    /// Sees that so many workers can be there at once, and some trainers beside them.
    pub(crate) fn check(self, workers: u64) -> Result<(), NoRoom> {
        let beside = DESCRIPTORS + DESCRIPTORS_OF_A_STREAM * self.streams as u64;
        let needed = beside + DESCRIPTORS_OF_A_WORKER * workers;
        if needed <= self.limit { Ok(()) } else { Err(NoRoom { workers, needed, limit: self.limit }) }
    }
}

/// Serves requests until the daemon drops its end. Workers give way to other processes by `nice`.
pub(crate) async fn supervise(
    mut requests: mpsc::UnboundedReceiver<Request>,
    room: Room,
    nice: u8,
    happenings: Sender<Happening>,
) {
    let mut kills = std::collections::HashMap::new();
    while let Some(request) = requests.recv().await {
        kills.retain(|_, kill: &mut oneshot::Sender<()>| !kill.is_closed());
        match request {
            Request::Spawn(worker) => {
                let (kill, killed) = oneshot::channel();
                let started = room.check(kills.len() as u64 + 1).map_err(io::Error::other);
                match started.and_then(|()| start(worker, nice, &happenings)) {
                    Ok(started) => {
                        kills.insert(worker, kill);
                        tokio::spawn(watch(worker, started, killed, happenings.clone()));
                    }
                    Err(error) => {
                        let how = format!("could not be started: {}", report(&error));
                        // The daemon waits for both ends of a worker's life.
                        let _ = happenings
                            .send(Happening::WorkerReaped { worker, end: End { how, clean: false, crashed: false } });
                        let _ = happenings.send(Happening::WorkerSilent(worker));
                    }
                }
            }
            Request::Kill(worker) => {
                if let Some(kill) = kills.remove(&worker) {
                    // The child may be gone already.
                    let _ = kill.send(());
                }
            }
        }
    }
}

struct Running {
    child: Child,
    stderr: ChildStderr,
    line: String,
    /// Set when it is reaped: a child that it forked may hold its line open.
    ended: Arc<AtomicBool>,
}

fn start(worker: WorkerId, nice: u8, happenings: &Sender<Happening>) -> io::Result<Running> {
    let (life_line, theirs) = UnixStream::pair()?;
    let (telemetry, page) = Telemetry::create()?;
    let (server, line) = IpcOneShotServer::new()?;
    // This very program, also when its file has been replaced meanwhile.
    let mut child = Command::new("/proc/self/exe")
        .arg0("loader")
        .arg("worker")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // Ctrl-C in the terminal is for the daemon, which ends its workers in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let pid = child.id().ok_or_else(|| io::Error::other("it ended at once"))?;
    let stderr = child.stderr.take().ok_or_else(|| io::Error::other("it has no standard error"))?;
    life_line.set_write_timeout(Some(peer::WRITE_TIMEOUT))?;
    fd::send(&life_line, &WorkerHello { line: line.clone(), nice }, Some(page.as_fd())).map_err(io::Error::other)?;
    let started = Started { pid, life_line, telemetry };
    let _ = happenings.send(Happening::WorkerStarted { worker, started });
    let (listener, ended) = (happenings.clone(), Arc::new(AtomicBool::new(false)));
    let flag = Arc::clone(&ended);
    thread::Builder::new().name(format!("line of worker {worker}")).spawn(move || {
        if let Err(error) = peer::hear_worker(worker, server, &flag, &listener) {
            output::log(&format!("worker {worker} {error}"));
        }
    })?;
    Ok(Running { child, stderr, line, ended })
}

/// Forwards a worker's words and, when it has ended, says how.
async fn watch(worker: WorkerId, running: Running, killed: oneshot::Receiver<()>, happenings: Sender<Happening>) {
    let Running { mut child, stderr, line, ended } = running;
    let log = tokio::spawn(forward(worker, stderr));
    let status = tokio::select! {
        status = child.wait() => status,
        Ok(()) = killed => {
            // An error here means that it has ended by itself.
            let _ = child.start_kill();
            child.wait().await
        }
    };
    let end = match status {
        Ok(status) => {
            let sent = [Signal::KILL, Signal::TERM, Signal::INT, Signal::HUP].map(Signal::as_raw);
            let crashed = status.signal().is_none_or(|signal| !sent.contains(&signal));
            End { how: how_it_ended(status), clean: status.success(), crashed }
        }
        Err(error) => End { how: format!("was lost: {error}"), clean: false, crashed: false },
    };
    ended.store(true, Ordering::Relaxed);
    // What it said last is on its way; a grandchild that holds the pipe must not keep us.
    let _ = tokio::time::timeout(peer::LAST_WORDS, log).await;
    // If it died before it joined its line, the thread that awaits it there must be let go.
    peer::let_go(&line);
    let _ = happenings.send(Happening::WorkerReaped { worker, end });
}

async fn forward(worker: WorkerId, stderr: ChildStderr) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        output::log(&format!("worker {worker}: {line}"));
    }
}

/// Writes how a process ended: `was killed by signal 9 (SIGKILL)`, `exited with code 3`.
fn how_it_ended(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => {
            let name = match signal {
                4 => " (SIGILL)",
                6 => " (SIGABRT)",
                7 => " (SIGBUS)",
                8 => " (SIGFPE)",
                9 => " (SIGKILL, by hand or for want of memory)",
                11 => " (SIGSEGV)",
                15 => " (SIGTERM)",
                _ => "",
            };
            format!("was killed by signal {signal}{name}")
        }
        (None, Some(code)) => format!("exited with code {code}"),
        (None, None) => "ended".to_owned(),
    }
}
