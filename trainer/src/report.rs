//! What `trainer fit` shows while it works: curves on a terminal, lines elsewhere, a bar or JSON on request.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use batchmill_protocol::position::Position;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use serde::Serialize;

use crate::live::Live;
use crate::metrics::Score;
use crate::run::StepRow;
use crate::stop::Stop;

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
    /// Passes over them in all.
    pub epochs: u64,
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
    Weights { rank: u32, hash: String },
}

/// How a person wants to see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum View {
    /// Curves, progress and events on the whole terminal
    Live,
    /// A bar on standard error
    Bar,
    /// Lines
    Plain,
}

/// Where it is shown.
#[derive(Clone, Debug)]
pub enum Report {
    /// A person at a terminal.
    Live(Arc<Live>),
    /// A person at a terminal, who wants to see what was there before.
    Bar(ProgressBar),
    /// A log file or a pipe.
    Lines,
    /// A program.
    Json,
    /// Nobody: another rank reports.
    Quiet,
}

impl Report {
    /// As asked for; else by where standard input, output and error go.
    pub fn new(view: Option<View>, json: bool) -> Self {
        let style = || {
            let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {rate}/s eta {eta} {msg}");
            style.unwrap_or_else(|_| ProgressStyle::default_bar()).with_key("rate", write_rate)
        };
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let fallback = match (io::stderr().is_terminal(), io::stdout().is_terminal() && io::stdin().is_terminal()) {
            (true, true) if !dumb => View::Live,
            (true, _) => View::Bar,
            (false, _) => View::Plain,
        };
        match view.unwrap_or(fallback) {
            _ if json => Self::Json,
            View::Live => Self::Live(Arc::default()),
            View::Bar => Self::Bar(ProgressBar::new(0).with_style(style())),
            View::Plain => Self::Lines,
        }
    }

    /// Before the first epoch. From now on a second signal ends the process at once, or with a view from its end on.
    ///
    /// # Errors
    /// When the system does not let us listen to signals.
    pub fn start(&self, start: &Start<'_>, stop: &Stop) -> io::Result<()> {
        let Self::Live(live) = self else {
            stop.arm()?;
            match self {
                Self::Json => json(&Line::Start(start)),
                Self::Quiet => {}
                _ => {
                    say(&start.model);
                    self.going_on(start.position);
                }
            }
            return Ok(());
        };
        let Start { parameters, stream, device, .. } = start;
        let title = format!("{parameters} parameters on stream {stream}, {device}");
        // Where nothing can be drawn, lines have to do.
        if let Err(error) = live.open(title, start.epochs, stop.clone()) {
            stop.arm()?;
            self.line(&format!("there is no live view: {error}"));
        }
        self.going_on(start.position);
        Ok(())
    }

    fn going_on(&self, position: Position) {
        if position != Position::default() {
            self.line(&format!("Going on at {position}"));
        }
    }

    /// After the training, whatever came of it: the terminal is a terminal again.
    pub fn finish(&self) {
        match self {
            Self::Live(live) => live.close(),
            Self::Bar(bar) => bar.finish_and_clear(),
            Self::Lines | Self::Json | Self::Quiet => {}
        }
    }

    /// Something to know that is no result: a line on standard error.
    pub fn note(&self, text: &str) {
        match self {
            Self::Live(live) => live.say(text),
            Self::Bar(bar) => bar.suspend(|| note(text)),
            Self::Lines | Self::Json => note(text),
            Self::Quiet => {}
        }
    }

    /// Before an epoch of `samples` samples, of which `done` were trained on before.
    pub fn begin_epoch(&self, epoch: u64, done: u64, samples: u64) {
        match self {
            Self::Live(live) => live.begin_epoch(epoch, done, samples),
            Self::Bar(bar) => {
                bar.reset();
                bar.set_length(samples);
                bar.set_position(done);
                bar.set_prefix(format!("epoch {epoch}"));
            }
            Self::Lines => say(&format!("Epoch {epoch}\n-------------------------------")),
            Self::Json | Self::Quiet => {}
        }
    }

    /// After `samples` more samples; `waited` for data since the training was started.
    pub fn advance(&self, samples: u64, waited: Duration) {
        match self {
            Self::Live(live) => live.advance(samples, waited),
            Self::Bar(bar) => bar.inc(samples),
            Self::Lines | Self::Json | Self::Quiet => {}
        }
    }

    /// Now and then within an epoch: each step since the last time.
    pub fn steps(&self, rows: &[StepRow]) {
        if let Self::Live(live) = self {
            live.steps(rows);
        }
    }

    /// Now and then within an epoch: the mean `loss` since the last time, after `done` of `samples` samples.
    pub fn loss(&self, loss: f64, done: u64, samples: u64) {
        match self {
            Self::Bar(bar) => bar.set_message(format!("loss {loss:.4}")),
            Self::Lines => say(&format!("loss: {loss:>9.6}  [{done:>5}/{samples:>5}]")),
            Self::Live(_) | Self::Json | Self::Quiet => {}
        }
    }

    /// After an epoch and its test.
    pub fn end_epoch(&self, epoch: &EpochReport) {
        match self {
            Self::Json => return json(&Line::Epoch(epoch)),
            Self::Live(live) => epoch.test.into_iter().for_each(|score| live.tested(score)),
            Self::Bar(bar) => bar.finish_and_clear(),
            Self::Quiet => return,
            Self::Lines => {}
        }
        self.line(&format!(
            "Epoch {}: loss {:.4}, {:.1} s, {:.0} samples/s, waited for data {:.2} s",
            epoch.epoch, epoch.loss, epoch.seconds, epoch.samples_per_s, epoch.waited_s
        ));
        if let Some(Score { accuracy, loss, mae, rmse }) = epoch.test {
            let accuracy = accuracy.map(|accuracy| format!("Accuracy: {:.1}%, ", 100.0 * accuracy)).unwrap_or_default();
            let error = |name: &str, error: Option<f64>| error.map(|error| format!("{name}: {error:.6}, "));
            let (mae, rmse) = (error("MAE", mae).unwrap_or_default(), error("RMSE", rmse).unwrap_or_default());
            self.line(&format!("Test Error:\n {accuracy}{mae}{rmse}Avg loss: {loss:.6}\n"));
        }
    }

    /// After a checkpoint.
    pub fn checkpoint(&self, path: &Path, position: Position) {
        let path = path.display();
        match self {
            Self::Json => json(&Line::Checkpoint { path: path.to_string(), position }),
            _ => self.line(&format!("Saved the model to {path}, trained up to {position}")),
        }
    }

    /// At the end of a training of several ranks: what the weights are that one of them has.
    pub fn weights(&self, rank: u32, hash: u64) {
        let hash = format!("{hash:016x}");
        match self {
            Self::Json => json(&Line::Weights { rank, hash }),
            _ => self.line(&format!("Rank {rank} has the weights {hash}")),
        }
    }

    /// A line for a person.
    fn line(&self, text: &str) {
        match self {
            Self::Live(live) => live.say(text),
            Self::Bar(bar) => bar.suspend(|| say(text)),
            Self::Lines | Self::Json => say(text),
            Self::Quiet => {}
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

/// A bar of how far a command is with so many `things`, such as "images", for a person at a terminal.
pub(crate) fn progress(count: u64, things: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(&format!("{{wide_bar}} {{pos}}/{{len}} {things}, {{eta}} left"));
    ProgressBar::with_draw_target(Some(count), ProgressDrawTarget::stderr())
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Rows of cells as lines of columns, each as wide as its widest cell; `aligned` says for each column to which side it
/// leans, `<` or `>`.
pub(crate) fn columns(rows: &[Vec<String>], aligned: &str) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..aligned.len()).map(width).collect();
    let cell = |((text, side), width): ((&String, char), &usize)| match side {
        '<' => format!("{text:<width$}"),
        _ => format!("{text:>width$}"),
    };
    let line = |row: &Vec<String>| {
        let cells: Vec<_> = row.iter().zip(aligned.chars()).zip(&widths).map(cell).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Prints a line of text on standard error.
pub(crate) fn note(text: &str) {
    // Where nobody reads it, it is lost.
    let _ = writeln!(io::stderr(), "{text}");
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
