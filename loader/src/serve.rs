//! `loader serve`: checks what was asked for, takes the address, and runs the daemon with its threads around it.

use std::thread;

use batchmill_datasets::registry::Registry;
use batchmill_protocol::message::StreamDescription;
use crossbeam::channel::{self, Sender};
use serde::Serialize;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::cli::Serve;
use crate::config::Config;
use crate::daemon::{Daemon, HAPPENINGS_MAX, Happening, check_memory};
use crate::error::Failure;
use crate::front_door::{self, Door};
use crate::output;
use crate::supervisor::{self, Room};

/// Serves until asked to stop, with a daemon that is prepared so.
pub(crate) fn serve(arguments: &Serve, registry: Registry, prepare: fn(&mut Daemon)) -> Result<(), Failure> {
    let config = Config::read(arguments, &registry)?;
    // From here on only workers need to know datasets.
    drop(registry);
    check_memory(config.memory_bytes, &config.streams, 0)?;
    let room = Room::make(config.streams.len());
    room.check(config.workers.into())?;
    let door = Door::open(&config.socket)?;
    // ipc-channel makes a socket for each new line in the temporary folder, and leaves it there when killed. In a
    // folder of ours the next daemon clears it.
    tempfile::env::override_temp_dir(door.lines()).map_err(|other| {
        format!("the temporary folder was set to {} before the loader could set its own", other.display())
    })?;

    let (happenings, inbox) = channel::bounded(HAPPENINGS_MAX);
    let (requests, requested) = mpsc::unbounded_channel();
    let (listener, nice) = (door.listener()?, config.worker_nice);
    let io = thread::Builder::new()
        .name("io".to_owned())
        .spawn(move || run_io(listener, requested, room, nice, &happenings))?;

    let say_ready = ready_line(arguments, &config);
    let mut daemon = Daemon::new(&config, room, inbox, requests, say_ready)?;
    prepare(&mut daemon);
    let ended = daemon.run();
    // The files go before the connections, which end with the daemon: a client that sees us gone sees nothing of us.
    drop(door);
    drop(daemon);
    match io.join() {
        Ok(Ok(())) => Ok(ended?),
        // It is the cause of whatever the daemon met.
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err("the loader's I/O thread panicked".into()),
    }
}

/// Runs front door, supervisor and signals until the daemon drops the supervisor's requests.
fn run_io(
    listener: std::os::unix::net::UnixListener,
    requests: mpsc::UnboundedReceiver<supervisor::Request>,
    room: Room,
    nice: u8,
    happenings: &Sender<Happening>,
) -> std::io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let supervised = supervisor::supervise(requests, room, nice, happenings.clone());
        tokio::select! {
            () = supervised => Ok(()),
            ended = front_door::serve(listener, happenings.clone()) => ended,
            ended = hear_signals(happenings.clone()) => ended,
        }
    })
}

/// Passes on each signal that asks for the end.
async fn hear_signals(happenings: Sender<Happening>) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hang_up.recv() => {}
        }
        let _ = happenings.send(Happening::Stop);
    }
}

#[derive(Serialize)]
struct Ready {
    address: String,
    workers: u32,
    pid: u32,
    streams: Vec<ReadyStream>,
}

/// A stream that can be read, as printed.
#[derive(Serialize)]
pub(crate) struct ReadyStream {
    name: String,
    samples: u64,
    classes: usize,
    batches: u64,
    fields: Vec<String>,
}

impl From<&StreamDescription> for ReadyStream {
    fn from(stream: &StreamDescription) -> Self {
        Self {
            name: stream.name.clone(),
            samples: stream.extent.samples,
            classes: stream.classes.len(),
            batches: stream.extent.steps(),
            fields: stream.fields.iter().map(ToString::to_string).collect(),
        }
    }
}

impl std::fmt::Display for ReadyStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` {} samples", self.name, self.samples)?;
        if self.classes > 0 {
            write!(f, " in {} classes", self.classes)?;
        }
        write!(f, ", {} batches of {}", self.batches, self.fields.join(", "))
    }
}

/// Prints the one line that says the loader is ready.
fn ready_line(arguments: &Serve, config: &Config) -> impl FnOnce(&[StreamDescription]) + 'static {
    let (json, workers, address) = (arguments.json, config.workers, config.socket.display().to_string());
    move |streams| {
        let streams = streams.iter().map(ReadyStream::from).collect();
        let ready = Ready { address, workers, pid: std::process::id(), streams };
        if let Err(error) = output::result(json, &ready, &ready.to_string()) {
            output::log(&format!("nobody reads standard output: {error}"));
        }
    }
}

impl std::fmt::Display for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ready at {} with {} workers: ", self.address, self.workers)?;
        if self.streams.is_empty() {
            return write!(f, "no stream");
        }
        for (place, stream) in self.streams.iter().enumerate() {
            let separator = if place == 0 { "" } else { "; " };
            write!(f, "{separator}{stream}")?;
        }
        Ok(())
    }
}
