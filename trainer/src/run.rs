//! What a training leaves to look at, in its run's folder.
//!
//! | file | holds |
//! |---|---|
//! | `run.json` | [`About`]: everything needed to repeat it, and when it was started and ended |
//! | `metrics.csv` | a [`Row`](table::Row) for each training step and each test |
//! | `curves.png` | these rows, drawn ([`curves`]) |
//! | `events.out.tfevents.*` | these rows for TensorBoard, where it was asked for ([`events`]) |
//!
//! A training calls [`Recorder::begin`] before its first step, [`step`](Recorder::step) after each,
//! [`collect`](Recorder::collect) whenever it reads from the device, [`test`](Recorder::test) after a test,
//! [`flush`](Recorder::flush) before each checkpoint, [`end_epoch`](Recorder::end_epoch) after an epoch and its
//! checkpoint, and at last [`finish`](Recorder::finish).

pub mod about;
mod canvas;
mod clock;
pub mod curves;
pub mod events;
mod pending;
pub mod table;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use batchmill_protocol::position::{Extent, Position};
use burn::tensor::TensorReadError;
use thiserror::Error;

pub use self::about::About;
use self::curves::Curve;
use self::events::Events;
use self::pending::Pending;
pub use self::pending::Step;
pub use self::table::StepRow;
use self::table::{Row, Spent, Table, TestRow};
use crate::metrics::Score;

/// The picture's name in a run's folder.
pub const PICTURE: &str = "curves.png";

/// The picture is drawn again when so many times its own time has passed: epochs of a second are not spent drawing.
const DRAWINGS_APART: u32 = 20;

/// Why a run's folder cannot be written or read.
#[derive(Debug, Error)]
pub enum RunError {
    /// The system does not let us.
    #[error("{doing} {}", path.display())]
    Io {
        /// `write`, `read`, `cut`, `remove`.
        doing: &'static str,
        /// What.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line of a table is damaged.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What was found.
        reason: String,
    },
    /// A description cannot be understood.
    #[error("read {}: it is damaged, or was changed by hand: move it away to go on without it", path.display())]
    About {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The folder is none of a run.
    #[error("read the run {}: it has no {}: name a folder that `trainer fit --out` wrote", folder.display(), table::NAME)]
    NotARun {
        /// Where.
        folder: PathBuf,
    },
    /// It cannot become a picture.
    #[error("draw {}", path.display())]
    Draw {
        /// The picture.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The norms cannot be read.
    #[error("read the gradients' norms from the device")]
    Device(#[from] TensorReadError),
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RunError {
    move |source| RunError::Io { doing, path: path.to_path_buf(), source }
}

/// What a training writes down of itself.
#[derive(Debug)]
pub struct Recorder {
    folder: PathBuf,
    about: About,
    table: Table,
    events: Option<Events>,
    pending: Pending,
    extent: Extent,
    start: Instant,
    /// Before this start.
    before: Spent,
    /// Waiting for data since this start, when last told.
    waited: Duration,
    /// When the picture was drawn last, and how long that took.
    drawn: Option<(Instant, Duration)>,
}

impl Recorder {
    /// Begins the files of a run, or with `resumed` goes on in those of `folder`: rows of batches from `about`'s
    /// position on are taken out, for they will come again.
    ///
    /// # Errors
    /// When a file cannot be written, or one to go on in is damaged.
    pub fn begin(
        folder: &Path,
        about: about::Beginning<'_>,
        resumed: bool,
        tensorboard: bool,
    ) -> Result<Self, RunError> {
        fs::create_dir_all(folder).map_err(io_error("write", folder))?;
        let (from, extent) = (about.from, about.train.extent);
        let (table, before) = if resumed {
            Table::resume(folder, from)?
        } else {
            events::remove_all(folder)?;
            (Table::create(folder)?, Spent::default())
        };
        let about = About::begin(folder, about, resumed)?;
        let events =
            if tensorboard { Some(Events::create(folder, resumed.then(|| steps(extent, from)))?) } else { None };
        let (start, pending, waited, drawn) = (Instant::now(), Pending::default(), Duration::ZERO, None);
        let folder = folder.to_path_buf();
        Ok(Self { folder, about, table, events, pending, extent, start, before, waited, drawn })
    }

    /// Takes note of a training step whose loss is not read yet.
    pub fn step(&mut self, step: Step) {
        self.waited = step.waited;
        self.pending.add(step, self.spent());
    }

    /// Writes the rows of all steps since the last time and gives them back: `losses` are theirs, first to last.
    ///
    /// # Errors
    /// When the device fails, or a file cannot be written.
    pub fn collect(&mut self, losses: impl IntoIterator<Item = f32>) -> Result<Vec<StepRow>, RunError> {
        let rows = self.pending.collect(losses)?;
        for row in &rows {
            self.push(&Row::Step(*row))?;
        }
        Ok(rows)
    }

    /// Takes note of a test of a model that is trained up to `position`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn test(&mut self, position: Position, score: Score) -> Result<(), RunError> {
        let Spent { seconds, waited_s } = self.spent();
        let position = before(self.extent, position);
        let Score { loss, accuracy, .. } = score;
        self.push(&Row::Test(TestRow { position, loss, accuracy, seconds, waited_s }))
    }

    /// Writes out all rows, so that no checkpoint is ahead of them.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn flush(&mut self) -> Result<(), RunError> {
        self.table.flush()?;
        self.events.as_mut().map_or(Ok(()), Events::flush)
    }

    /// Draws the curves again, unless that was done a moment ago.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn end_epoch(&mut self) -> Result<(), RunError> {
        self.flush()?;
        match self.drawn {
            Some((when, took)) if when.elapsed() < took * DRAWINGS_APART => Ok(()),
            _ => self.draw(),
        }
    }

    /// Writes down how the training ended: `done`, `stopped` or what went wrong.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn finish(mut self, outcome: &str) -> Result<(), RunError> {
        self.flush()?;
        self.about.end(&self.folder, outcome)?;
        self.draw()
    }

    fn push(&mut self, row: &Row) -> Result<(), RunError> {
        self.table.push(row)?;
        let step = steps(self.extent, row.position());
        self.events.as_mut().map_or(Ok(()), |events| events.push(step, row))
    }

    fn draw(&mut self) -> Result<(), RunError> {
        let begun = Instant::now();
        let rows = table::read(&self.folder)?;
        let name = self.folder.file_name().unwrap_or_default().to_string_lossy();
        let curve = Curve::new(&name, &rows, self.extent.steps());
        curves::save(&self.folder.join(PICTURE), &self.about.title(), &[curve])?;
        self.drawn = Some((Instant::now(), begun.elapsed()));
        Ok(())
    }

    fn spent(&self) -> Spent {
        let Spent { seconds, waited_s } = self.before;
        Spent { seconds: seconds + self.start.elapsed().as_secs_f64(), waited_s: waited_s + self.waited.as_secs_f64() }
    }
}

/// Batches before `position`, from the run's first.
fn steps(extent: Extent, Position { epoch, step }: Position) -> u64 {
    epoch.saturating_mul(extent.steps()).saturating_add(step)
}

/// The position before `position`.
fn before(extent: Extent, Position { epoch, step }: Position) -> Position {
    match (epoch, step) {
        (0, 0) => Position::default(),
        (_, 0) => Position { epoch: epoch - 1, step: extent.steps().saturating_sub(1) },
        _ => Position { epoch, step: step - 1 },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::about::tests::{beginning, stream};
    use super::*;

    /// Trains on the batches of epochs 0 and 1, two each, from `from` on; ends as if killed before `until`.
    fn train(folder: &Path, from: Position, until: Position, resumed: bool) -> Recorder {
        let (stream, settings) = (stream("train", 0), Value::Null);
        let mut run = Recorder::begin(folder, beginning(&stream, &settings, "", from), resumed, true).expect("written");
        let mut position = from;
        while position < until {
            let place = u16::try_from(position.epoch * 2 + position.step).map(f32::from).expect("few steps");
            let step = Step { position, samples: 4, lr: 0.1, grad_norm: None, waited: Duration::ZERO };
            run.step(step);
            position = stream.extent.next(position);
            assert_eq!(run.collect([1.0 / (place + 3.0)]).expect("written").len(), 1);
            if position.step == 0 {
                run.test(position, Score { accuracy: Some(0.5), loss: 0.25, mae: None, rmse: None }).expect("written");
                run.end_epoch().expect("written");
            }
        }
        run.flush().expect("written");
        run
    }

    fn timeless(folder: &Path) -> Vec<Row> {
        let mut rows = table::read(folder).expect("whole");
        for row in &mut rows {
            match row {
                Row::Step(StepRow { seconds, waited_s, .. }) | Row::Test(TestRow { seconds, waited_s, .. }) => {
                    (*seconds, *waited_s) = (0.0, 0.0);
                }
            }
        }
        rows
    }

    #[test]
    fn a_killed_and_resumed_run_leaves_what_one_in_a_row_leaves() {
        let end = Position { epoch: 2, step: 0 };
        let whole = tempfile::tempdir().expect("a temporary folder");
        train(whole.path(), Position::default(), end, false).finish("done").expect("written");
        let expected = timeless(whole.path());
        assert_eq!(expected.len(), 6);
        for (checkpoint, kill) in [((0, 1), (1, 0)), ((1, 0), (1, 1)), ((1, 1), (2, 0)), ((0, 0), (0, 0))] {
            let place = |(epoch, step)| Position { epoch, step };
            let killed = tempfile::tempdir().expect("a temporary folder");
            drop(train(killed.path(), Position::default(), place(kill), false));
            train(killed.path(), place(checkpoint), end, true).finish("done").expect("written");
            assert_eq!(timeless(killed.path()), expected, "killed at {kill:?}, resumed at {checkpoint:?}");
            let about = About::read(killed.path()).expect("whole").expect("there");
            let ends: Vec<_> = about.starts.iter().map(|start| (start.from, start.outcome.as_deref())).collect();
            assert_eq!(ends, [(Position::default(), None), (place(checkpoint), Some("done"))]);
        }
    }

    #[test]
    fn a_run_leaves_its_files_and_no_others() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let run = folder.path().join("runs/a");
        train(&run, Position::default(), Position { epoch: 1, step: 0 }, false).finish("done").expect("written");
        let names = fs::read_dir(&run).expect("a folder").map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        assert!(names[1].starts_with("events.out.tfevents."), "{names:?}");
        names.remove(1);
        assert_eq!(names, ["curves.png", "metrics.csv", "run.json"]);
        assert_eq!(image::image_dimensions(run.join(PICTURE)).expect("a picture"), (1600, 1200));
    }

    #[test]
    fn a_test_is_of_the_batch_before_it() {
        let extent = stream("train", 0).extent;
        for (after, expected) in [((0, 1), (0, 0)), ((1, 0), (0, 1)), ((0, 0), (0, 0))] {
            let place = |(epoch, step)| Position { epoch, step };
            assert_eq!(before(extent, place(after)), place(expected));
        }
    }
}
