//! A desk to train at: drawn shapes, a model that draws numbers in every step, and trainers that can be watched.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{Loader, Programs, WATCHDOG, signal, told};

/// Draws numbers in every step, so that a training that goes on must draw the same.
pub const MODEL: &str = "[[layer]]\nkind = 'flatten'\n[[layer]]\nkind = 'linear'\nout_features = 24\n\
                     [[layer]]\nkind = 'relu'\n[[layer]]\nkind = 'dropout'\np = 0.25\n[[layer]]\nkind = 'linear'\nout_features = 10\n";

/// What a training leaves behind, by file name.
pub const FILES: [&str; 3] = ["model.safetensors", "optimizer.safetensors", "ledger"];

/// Drawn shapes to train on and to be tested with, and a model.
#[derive(Debug)]
pub struct Desk {
    programs: Programs,
    /// Where all of it is.
    pub folder: TempDir,
}

impl Desk {
    /// Draws `images` shapes to train on.
    pub fn new(programs: Programs, images: u32) -> Self {
        let folder = programs.sample_data(images);
        fs::write(folder.path().join("model.toml"), MODEL).expect("written");
        Self { programs, folder }
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the configuration of 25 or more steps an epoch, with `more` for the stream that is trained on.
    pub fn configure(&self, batch_size: u32, more: &str) -> [OsString; 2] {
        let stream = |name: &str, sampler: &str| {
            format!(
                "[stream.{name}]\nbatch_size = {batch_size}\nsampler = '{sampler}'\ndataset = {{ kind = \
                 'image-folder-csv', images = 'shapes', labels = 'shapes/{name}.csv', color = 'gray' }}\n"
            )
        };
        let streams = format!("workers = 2\n{}{more}{}", stream("train", "shuffled"), stream("test", "sequential"));
        fs::write(self.path("loader.toml"), streams).expect("written");
        ["--config".into(), self.path("loader.toml").into()]
    }

    /// Serves both streams.
    pub fn serve(&self) -> Loader {
        Loader::start(self.programs, self.configure(8, ""))
    }

    /// The command line of a training that leaves its files in `out`.
    pub fn fit(&self, socket: &Path, out: &str, more: &[&str]) -> Vec<OsString> {
        let (out, ledger) = (self.path(out), self.path(out).with_extension("ledger"));
        let mut arguments: Vec<OsString> = vec!["fit".into(), "--model".into(), self.path("model.toml").into()];
        for (flag, path) in [("--socket", socket), ("--out", &out), ("--ledger", &ledger)] {
            arguments.extend([flag.into(), path.into()]);
        }
        arguments.extend(more.iter().map(Into::into));
        arguments
    }

    /// Trains to the end.
    pub fn trained(&self, socket: &Path, out: &str, more: &[&str]) -> Output {
        let output = self.programs.run_trainer(self.fit(socket, out, more));
        assert!(output.status.success(), "{}", told(&output));
        output
    }

    /// What a training says that fails.
    pub fn refused(&self, socket: &Path, out: &str, more: &[&str]) -> String {
        let told = told(&self.programs.run_trainer(self.fit(socket, out, more)));
        told.replace(&self.folder.path().display().to_string(), "DESK")
    }

    /// The bytes of [`FILES`].
    pub fn files(&self, out: &str) -> [Vec<u8>; 3] {
        FILES.map(|file| {
            let path = match file {
                "ledger" => self.path(out).with_extension(file),
                _ => self.path(out).join("latest").join(file),
            };
            fs::read(path).expect("the training left it")
        })
    }

    /// Sees that two trainings left the same.
    pub fn assert_same(&self, out: &str, other: &str) {
        for ((ours, theirs), file) in self.files(out).into_iter().zip(self.files(other)).zip(FILES) {
            // Not `assert_eq!`: nobody wants to read ten thousand bytes.
            assert!(ours == theirs, "{file} of {out} and {other} differ");
        }
    }

    /// What the checkpoint that a link of a run shows says of itself.
    pub fn about(&self, out: &str, link: &str) -> Value {
        let text = fs::read(self.path(out).join(link).join("checkpoint.json")).expect("there is a checkpoint");
        serde_json::from_slice(&text).expect("JSON")
    }

    /// The position of the latest checkpoint: epoch and step.
    pub fn position(&self, out: &str) -> (u64, u64) {
        let about = self.about(out, "latest");
        let number = |key: &str| about["position"][key].as_u64().expect("a number");
        (number("epoch"), number("step"))
    }
}

/// A trainer at work.
#[derive(Debug)]
pub struct Trainer {
    child: Child,
    lines: Receiver<String>,
    stderr: Option<JoinHandle<String>>,
}

impl Trainer {
    /// Starts it with these arguments.
    pub fn start(programs: Programs, arguments: Vec<OsString>) -> Self {
        Self::start_command(Command::new(programs.trainer), arguments)
    }

    /// As [`start`](Self::start), with an environment.
    pub fn start_command(mut command: Command, arguments: Vec<OsString>) -> Self {
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it runs");
        let (stdout, mut stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let stderr = thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        Self { child, lines, stderr: Some(stderr) }
    }

    /// Waits until it says a line that begins so.
    pub fn wait_until_it_says(&self, beginning: &str) {
        loop {
            match self.lines.recv_timeout(WATCHDOG) {
                Ok(line) if line.starts_with(beginning) => return,
                Ok(_) => {}
                Err(error) => panic!("it never said {beginning:?}: {error}"),
            }
        }
    }

    /// Waits until this holds; `false` when it has ended before.
    pub fn wait_until(&mut self, holds: impl Fn() -> bool) -> bool {
        let start = Instant::now();
        loop {
            // First: what it did last counts.
            let ended = self.child.try_wait().expect("our child").is_some();
            if holds() {
                return true;
            }
            if ended {
                return false;
            }
            assert!(start.elapsed() < WATCHDOG, "it never came so far");
            thread::yield_now();
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it at once; `false` when it had ended well before.
    pub fn kill_if_it_lives(mut self) -> bool {
        signal(self.child.id(), Signal::KILL);
        let status = self.child.wait().expect("our child");
        assert!(status.success() || status.signal() == Some(Signal::KILL.as_raw()), "it failed: {status}");
        !status.success()
    }

    /// Kills it at once.
    pub fn kill(mut self) {
        signal(self.child.id(), Signal::KILL);
        let status = self.child.wait().expect("our child");
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "it was still at work");
    }

    /// Waits for its end; gives what it said on standard error.
    pub fn end(mut self) -> Output {
        loop {
            match self.lines.recv_timeout(WATCHDOG) {
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("it does not end"),
            }
        }
        let status = self.child.wait().expect("our child");
        let stderr = self.stderr.take().expect("asked once").join().expect("it reads").into_bytes();
        Output { status, stdout: Vec::new(), stderr }
    }
}

impl Drop for Trainer {
    fn drop(&mut self) {
        // A failed test must not leave its trainer running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
