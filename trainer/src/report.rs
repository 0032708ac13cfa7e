//! What `trainer fit` shows while it works: a bar on a terminal, lines elsewhere, JSON on request.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use batchmill_protocol::position::Position;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use serde::Serialize;

use crate::metrics::Score;

/// What one epoch came to.
#[derive(Clone, Debug, Serialize)]
pub struct EpochReport {
    /// From 0.
    pub epoch: u64,
    /// The mean loss of a sample.
    pub loss: f64,
    /// Samples trained on.
    pub samples: u64,
    /// The training's time, the test's not included; of a resumed epoch, since then.
    pub seconds: f64,
    /// Samples trained on in a second of that time.
    pub samples_per_s: f64,
    /// The part of that time spent waiting for batches.
    pub waited_s: f64,
    /// On the stream of `--eval`, if there is one.
    pub test: Option<Score>,
}

/// The first line of `--json`.
#[derive(Clone, Debug, Serialize)]
pub struct Start<'a> {
    /// As PyTorch prints it.
    pub model: String,
    /// Numbers that are learned.
    pub parameters: usize,
    /// The stream's name.
    pub stream: &'a str,
    /// Its samples in an epoch.
    pub samples: u64,
    /// Its classes.
    pub classes: &'a [String],
    /// The device.
    pub device: String,
    /// The first batch to train on.
    pub position: Position,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Line<'a> {
    Start(&'a Start<'a>),
    Epoch(&'a EpochReport),
    Checkpoint { path: String, position: Position },
}

/// Where it is shown.
#[derive(Clone, Debug)]
pub enum Report {
    /// A person at a terminal.
    Bar(ProgressBar),
    /// A log file or a pipe.
    Lines,
    /// A program.
    Json,
}

impl Report {
    /// Chooses by what standard error is.
    pub fn new(json: bool) -> Self {
        if json {
            Self::Json
        } else if io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {rate}/s eta {eta} {msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).with_key("rate", write_rate);
            Self::Bar(ProgressBar::new(0).with_style(style))
        } else {
            Self::Lines
        }
    }

    /// Before the first epoch.
    pub fn start(&self, start: &Start<'_>) {
        match self {
            Self::Json => json(&Line::Start(start)),
            _ => {
                say(&start.model);
                if start.position != Position::default() {
                    say(&format!("Going on at {}", start.position));
                }
            }
        }
    }

    /// Something to know that is no result: a line on standard error.
    pub fn note(&self, text: &str) {
        // Where nobody reads it, it is lost.
        let write = || drop(writeln!(io::stderr(), "{text}"));
        match self {
            Self::Bar(bar) => bar.suspend(write),
            Self::Lines | Self::Json => write(),
        }
    }

    /// Before an epoch of `samples` samples, of which `done` were trained on before.
    pub fn begin_epoch(&self, epoch: u64, done: u64, samples: u64) {
        match self {
            Self::Bar(bar) => {
                bar.reset();
                bar.set_length(samples);
                bar.set_position(done);
                bar.set_prefix(format!("epoch {epoch}"));
            }
            Self::Lines => say(&format!("Epoch {epoch}\n-------------------------------")),
            Self::Json => {}
        }
    }

    /// After `samples` more samples.
    pub fn advance(&self, samples: u64) {
        if let Self::Bar(bar) = self {
            bar.inc(samples);
        }
    }

    /// Now and then within an epoch: the mean `loss` since the last time, after `done` of `samples` samples.
    pub fn loss(&self, loss: f64, done: u64, samples: u64) {
        match self {
            Self::Bar(bar) => bar.set_message(format!("loss {loss:.4}")),
            Self::Lines => say(&format!("loss: {loss:>9.6}  [{done:>5}/{samples:>5}]")),
            Self::Json => {}
        }
    }

    /// After an epoch and its test.
    pub fn end_epoch(&self, epoch: &EpochReport) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
        if let Self::Json = self {
            return json(&Line::Epoch(epoch));
        }
        say(&format!(
            "Epoch {}: loss {:.4}, {:.1} s, {:.0} samples/s, waited for data {:.2} s",
            epoch.epoch, epoch.loss, epoch.seconds, epoch.samples_per_s, epoch.waited_s
        ));
        if let Some(Score { accuracy, loss, .. }) = epoch.test {
            let accuracy = accuracy.map(|accuracy| format!("Accuracy: {:.1}%, ", 100.0 * accuracy)).unwrap_or_default();
            say(&format!("Test Error:\n {accuracy}Avg loss: {loss:.6}\n"));
        }
    }

    /// After a checkpoint.
    pub fn checkpoint(&self, path: &Path, position: Position) {
        let path = path.display();
        match self {
            Self::Json => json(&Line::Checkpoint { path: path.to_string(), position }),
            Self::Bar(bar) => bar.suspend(|| say(&format!("Saved the model to {path}, trained up to {position}"))),
            Self::Lines => say(&format!("Saved the model to {path}, trained up to {position}")),
        }
    }
}

/// Samples a second, without the decimals that change too fast to be read.
fn write_rate(state: &ProgressState, out: &mut dyn fmt::Write) {
    // A bar is nothing to fail over.
    let _ = write!(out, "{:.0}", state.per_sec());
}

/// Prints a line of text.
pub(crate) fn say(text: &str) {
    // Whoever closed our standard output does not want to read it, but may want the checkpoint.
    let _ = writeln!(io::stdout(), "{text}");
}

/// Prints one JSON object on a line.
pub(crate) fn json(object: &impl Serialize) {
    say(&serde_json::to_string(object).expect("numbers and strings have a JSON form"));
}

/// A time in seconds per sample turned over.
pub(crate) fn rate(samples: u64, time: Duration) -> f64 {
    let samples = u32::try_from(samples).map_or(f64::INFINITY, f64::from);
    samples / time.as_secs_f64().max(f64::EPSILON)
}
