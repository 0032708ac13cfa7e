//! What the tests need to run loaders and trainers from outside, and to see that nothing is left of them.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use batchmill_datasets::registry::Registry;
use batchmill_datasets::transform::{from_fn, image_mut};
use batchmill_protocol::client::{Batch, Client, Member, Subscription};
use batchmill_protocol::message::{Reply, Request};
use batchmill_protocol::position::Position;
use batchmill_protocol::status::{Status, WorkerState, WorkerStatus};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde_json::Value;
use tempfile::TempDir;

pub mod bench;
pub mod desk;
pub mod reader;
pub mod torture;

/// After this long a wait is a failed test. Nothing here is expected to take a hundredth of it.
pub const WATCHDOG: Duration = Duration::from_secs(120);

/// Marks every process of one loader or trainer, down to its grandchildren.
pub(crate) const MARK: &str = "BATCHMILL_TEST";

/// Set to `1`, it has [`run_loader`] give ranges out again while the worker that had them may still write.
pub const WITHOUT_REAPING: &str = "BATCHMILL_TEST_WITHOUT_REAPING";

/// The programs, as cargo tells the test that uses them.
#[derive(Clone, Copy, Debug)]
pub struct Programs {
    /// `env!("CARGO_BIN_EXE_test-loader")`
    pub loader: &'static str,
    /// `env!("CARGO_BIN_EXE_test-trainer")`
    pub trainer: &'static str,
}

/// The [`Programs`] of this package; only its tests can ask.
#[macro_export]
macro_rules! programs {
    () => {
        $crate::Programs { loader: env!("CARGO_BIN_EXE_test-loader"), trainer: env!("CARGO_BIN_EXE_test-trainer") }
    };
}

/// Runs the program `loader`, or the negative control of the tests for it when the environment asks for that.
#[must_use]
pub fn run_loader(registry: Registry) -> ExitCode {
    if std::env::var_os(WITHOUT_REAPING).is_some() {
        return batchmill_loader::run_without_reaping(registry);
    }
    batchmill_loader::run(registry)
}

/// What Batchmill brings along and a transform of this package's own, as the loader and the trainer both must know it.
#[must_use]
pub fn registry() -> Registry {
    batchmill_datasets::builtin().transform("negative", |_options| {
        Ok(from_fn(|mut sample, _rng| {
            image_mut(&mut sample)?.pixels_mut().iter_mut().for_each(|byte| *byte = 255 - *byte);
            Ok(sample)
        }))
    })
}

/// A seed for random tests, to be printed.
pub fn another_seed() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// A folder of a test's own, with a short path, gone at its end.
pub fn folder() -> TempDir {
    tempfile::Builder::new().prefix("bm").tempdir_in("/tmp").expect("a folder")
}

impl Programs {
    /// The same, with every loader started by a shell: `line` says how, and calls it `"$LOADER" "$@"`.
    #[must_use]
    pub fn through(self, folder: &Path, line: &str) -> Self {
        let path = folder.join(format!("{}.sh", unique()));
        let script = format!("#!/bin/sh\nLOADER='{}'\n{line}\n", self.loader);
        // Written by another process: a file that this one has open for writing, or a child that it forks meanwhile,
        // cannot be run.
        let write = "printf %s \"$1\" >\"$2\" && chmod +x \"$2\"";
        let written = run("sh", ["-c".as_ref(), write.as_ref(), "sh".as_ref(), script.as_ref(), path.as_os_str()]);
        assert!(written.status.success(), "{written:?}");
        let loader = path.into_os_string().into_string().expect("our own folder");
        Self { loader: loader.leak(), ..self }
    }

    /// Draws `images` shapes and a quarter more into a new folder.
    pub fn sample_data(self, images: u32) -> TempDir {
        let folder = folder();
        let path = folder.path().join("shapes");
        let output = self.run_loader([
            "sample-data".as_ref(),
            path.as_os_str(),
            "--images".as_ref(),
            images.to_string().as_ref(),
        ]);
        assert!(output.status.success(), "{output:?}");
        folder
    }

    /// Runs a loader command to its end.
    pub fn run_loader<I: IntoIterator<Item: AsRef<OsStr>>>(self, arguments: I) -> Output {
        run(self.loader, arguments)
    }

    /// Runs a trainer command to its end.
    pub fn run_trainer<I: IntoIterator<Item: AsRef<OsStr>>>(self, arguments: I) -> Output {
        run(self.trainer, arguments)
    }

    /// Runs a loader command that is to succeed, and returns what it printed.
    pub fn says<I: IntoIterator<Item: AsRef<OsStr>>>(self, arguments: I) -> String {
        let output = self.run_loader(arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Serves what the configuration says, with its relative paths starting at `data`.
    pub fn serve(self, data: &Path, configuration: &str) -> Loader {
        let name = format!("{}.toml", unique());
        let config = data.join(name);
        fs::write(&config, configuration).expect("a file");
        Loader::start(self, ["--config".as_ref(), config.as_os_str()])
    }

    /// What `loader serve` says when it will not serve this; also sees that it left nothing.
    pub fn refusal<I: IntoIterator<Item: AsRef<OsStr>>>(self, arguments: I) -> String {
        let door = folder();
        let before = Before::now();
        let mut command = Command::new(self.loader);
        command.arg("serve").args(arguments).arg("--socket").arg(door.path().join("s")).env(MARK, &before.mark);
        let output = finish(command);
        assert!(!output.status.success(), "it was served: {output:?}");
        before.nothing_is_left(door.path());
        told(&output)
    }
}

/// The one paragraph of a failed command, without its `error: `.
///
/// A command that fails in any other way, by a panic or a signal, fails the test.
pub fn told(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code().map(|code| code == 1 || code == 2), Some(true), "{:?}: {stderr}", output.status);
    assert!(!stderr.contains("panicked"), "{stderr}");
    let last = stderr.trim_end().lines().last().unwrap_or_default();
    let told = last.strip_prefix("error: ").unwrap_or_else(|| panic!("no paragraph: {stderr}"));
    told.to_owned()
}

fn run<I: IntoIterator<Item: AsRef<OsStr>>>(program: &str, arguments: I) -> Output {
    let mut command = Command::new(program);
    command.args(arguments);
    finish(command)
}

/// Runs a command to its end, under the watchdog.
fn finish(mut command: Command) -> Output {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    end(child)
}

/// Waits for the end of a process, under the watchdog.
fn end(child: Child) -> Output {
    let pid = child.id();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(WATCHDOG) {
        Ok(output) => output.expect("its output"),
        Err(_) => {
            signal(pid, Signal::KILL);
            panic!("process {pid} does not end");
        }
    }
}

/// A number that no other test of this machine uses.
pub(crate) fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Sends a signal to a process; one that is gone already is not hit.
pub fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("not 0");
    let _ = rustix::process::kill_process(pid, signal);
}

/// Waits until the kernel has a process in a state, as `/proc/PID/stat` names it.
pub fn wait_for_state(pid: u32, state: char) {
    let start = Instant::now();
    let reached = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(state))
    };
    while !reached() {
        assert!(start.elapsed() < WATCHDOG, "never in state {state}");
        thread::yield_now();
    }
}

/// A running loader.
#[derive(Debug)]
pub struct Loader {
    programs: Programs,
    child: Child,
    door: TempDir,
    before: Before,
    /// Its first line.
    pub ready: String,
}

impl Loader {
    /// Starts `loader serve` and waits until it is ready.
    pub fn start<I: IntoIterator<Item: AsRef<OsStr>>>(programs: Programs, arguments: I) -> Self {
        Self::start_at(programs, arguments, folder())
    }

    /// As [`start`](Self::start), with the socket in a folder that may hold what a dead loader left.
    pub fn start_at<I: IntoIterator<Item: AsRef<OsStr>>>(programs: Programs, arguments: I, door: TempDir) -> Self {
        Self::start_command(programs, Command::new(programs.loader), arguments, door)
    }

    /// As [`start_at`](Self::start_at), with an environment, or another program that becomes the loader.
    pub fn start_command<I: IntoIterator<Item: AsRef<OsStr>>>(
        programs: Programs,
        mut command: Command,
        arguments: I,
        door: TempDir,
    ) -> Self {
        let before = Before::now();
        command.arg("serve").args(arguments).arg("--socket").arg(door.path().join("s")).env(MARK, &before.mark);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it runs");
        let stdout = child.stdout.take().expect("piped");
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(stdout).read_line(&mut line);
            sender.send(line)
        });
        let mut loader = Self { programs, child, door, before, ready: String::new() };
        loader.ready = receiver.recv_timeout(WATCHDOG).expect("the loader gets ready");
        assert!(loader.ready.starts_with("ready "), "it is ready, or says why not above: {:?}", loader.ready);
        loader
    }

    /// Its address.
    pub fn socket(&self) -> PathBuf {
        self.door.path().join("s")
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs a client command against it.
    pub fn command(&self, arguments: &[&str]) -> Output {
        let socket = self.socket();
        self.programs.run_loader(arguments.iter().map(OsStr::new).chain(["--socket".as_ref(), socket.as_os_str()]))
    }

    /// A client command against it, to be started.
    pub fn client(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.loader);
        command.args(arguments).arg("--socket").arg(self.socket()).env(MARK, &self.before.mark);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts a client command against it.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.client(arguments).spawn().expect("it runs")
    }

    /// A trainer that must end before [`stop`](Self::stop), with all that it starts.
    pub fn trainer(&self) -> Command {
        let mut command = Command::new(self.programs.trainer);
        command.env(MARK, &self.before.mark);
        command
    }

    /// Runs `loader drain --json --digest` and returns its lines.
    pub fn drain(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.command(&[&["drain", "--json", "--digest"], arguments].concat());
        assert!(output.status.success(), "{output:?}");
        let lines = String::from_utf8(output.stdout).expect("JSON is UTF-8");
        lines.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
    }

    /// The digests of a stream's first `epochs` epochs.
    pub fn digests(&self, stream: &str, epochs: u32) -> Vec<String> {
        let lines = self.drain(&["--stream", stream, "--epochs", &epochs.to_string()]);
        lines.iter().map(|line| line["digest"].as_str().expect("asked for").to_owned()).collect()
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        let client = Client::connect(Some(&self.socket())).expect("it answers");
        match client.request(&Request::Status).expect("it answers") {
            Reply::Status(status) => *status,
            other => panic!("asked for the status, got {other:?}"),
        }
    }

    /// Asks for its status until it is as wished.
    pub fn wait_until(&self, what: &str, wished: impl Fn(&Status) -> bool) -> Status {
        let start = Instant::now();
        loop {
            let status = self.status();
            if wished(&status) {
                return status;
            }
            assert!(start.elapsed() < WATCHDOG, "never {what}: {status:#?}");
            thread::yield_now();
        }
    }

    /// Its workers, once all of them have started: what a new process is told, it may not have done yet.
    pub fn workers(&self) -> Vec<WorkerStatus> {
        let has_started = |worker: &WorkerStatus| worker.state != WorkerState::Starting;
        self.wait_until("all started", |status| status.workers.iter().all(has_started)).workers
    }

    /// How many processes it is: itself, its workers and its clients.
    pub fn processes(&self) -> usize {
        marked(&self.before.mark).len()
    }

    /// Attaches this process to a stream.
    pub fn attach(&self, subscription: &Subscription) -> Member {
        Client::connect(Some(&self.socket())).and_then(|client| client.attach(subscription)).expect("it lets us in")
    }

    /// Sends it a signal.
    pub fn signal(&self, name: Signal) {
        signal(self.pid(), name);
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a pid")).expect("not 0");
        let ended = rustix::process::pidfd_open(pid, PidfdFlags::empty()).expect("our child");
        let limit = Timespec { tv_sec: WATCHDOG.as_secs().cast_signed(), tv_nsec: 0 };
        let ready = rustix::event::poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&limit)).expect("a poll");
        assert_eq!(ready, 1, "the loader does not end");
        self.child.wait().expect("our child")
    }

    /// Ends it with `loader stop`, and sees that nothing is left.
    pub fn stop(mut self) {
        let output = self.command(&["stop"]);
        assert!(output.status.success(), "{output:?}");
        nothing_is_left_of_files(self.door.path());
        assert!(self.wait().success());
        self.before.nothing_is_left(self.door.path());
    }

    /// Kills it, waits until its workers are gone too, and returns the folder of its socket.
    pub fn kill(self) -> TempDir {
        self.kill_but(&[])
    }

    /// As [`kill`](Self::kill), with clients that live on.
    pub fn kill_but(mut self, clients: &[u32]) -> TempDir {
        self.signal(Signal::KILL);
        assert_eq!(self.wait().signal(), Some(Signal::KILL.as_raw()));
        let start = Instant::now();
        let is_client = |process: &String| clients.iter().any(|pid| process.starts_with(&format!("/proc/{pid}: ")));
        while let Some(left) = marked(&self.before.mark).into_iter().find(|process| !is_client(process)) {
            assert!(start.elapsed() < WATCHDOG, "{left} is left");
            thread::yield_now();
        }
        std::mem::replace(&mut self.door, folder())
    }

    /// Waits until it has ended by itself, and sees that nothing is left.
    pub fn ended(mut self) -> ExitStatus {
        let status = self.wait();
        self.before.nothing_is_left(self.door.path());
        status
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // A failed test must not leave its loader running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All that a batch holds, to be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Its place.
    pub position: Position,
    /// Its rows and how many of them are padding.
    pub rows: (u32, u32),
    /// The dataset index of each row.
    pub indices: Vec<u64>,
    /// The bytes of every field.
    pub fields: Vec<Vec<u8>>,
}

impl Contents {
    /// Copies a batch.
    pub fn of(batch: &Batch, member: &Member) -> Self {
        let fields = member.stream().fields.iter();
        Self {
            position: batch.position(),
            rows: (batch.rows(), batch.padding()),
            indices: batch.indices().collect(),
            fields: fields.map(|field| batch.field(&field.name).expect("it says so").to_vec()).collect(),
        }
    }
}

/// Takes the next `count` batches, or all that come.
pub fn take(member: &mut Member, count: usize) -> Vec<Contents> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let Some(batch) = member.next().expect("a batch") else { break };
        taken.push(Contents::of(&batch, member));
    }
    taken
}

/// The living processes that carry `mark`, with their command lines.
pub(crate) fn marked(mark: &str) -> BTreeSet<String> {
    let entry = format!("{MARK}={mark}");
    let processes = fs::read_dir("/proc").expect("a proc").filter_map(|process| {
        let path = process.ok()?.path();
        let environment = fs::read(path.join("environ")).ok()?;
        let carries = environment.split(|byte| *byte == 0).any(|variable| variable == entry.as_bytes());
        carries.then(|| format!("{}: {}", path.display(), fs::read_to_string(path.join("cmdline")).unwrap_or_default()))
    });
    processes.collect()
}

fn nothing_is_left_of_files(door: &Path) {
    let files: Vec<_> = fs::read_dir(door).expect("our folder").filter_map(|entry| Some(entry.ok()?.path())).collect();
    assert!(files.is_empty(), "files are left: {files:?}");
}

/// What there was before a loader started, to see that nothing was added.
#[derive(Debug)]
struct Before {
    /// What its processes carry.
    mark: String,
    shared: BTreeSet<OsString>,
}

impl Before {
    fn now() -> Self {
        Self { mark: unique(), shared: shared_memory() }
    }

    /// A loader that has ended leaves no process, no file at its address, and nothing in /dev/shm.
    fn nothing_is_left(&self, door: &Path) {
        let left = marked(&self.mark);
        assert!(left.is_empty(), "processes are left: {left:?}");
        nothing_is_left_of_files(door);
        let left: Vec<_> = shared_memory().difference(&self.shared).cloned().collect();
        assert!(left.is_empty(), "shared memory is left: {left:?}");
    }
}

/// The names in /dev/shm; none where there is no such folder.
fn shared_memory() -> BTreeSet<OsString> {
    fs::read_dir("/dev/shm").into_iter().flatten().flatten().map(|entry| entry.file_name()).collect()
}
