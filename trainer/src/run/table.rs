//! `metrics.csv`: a row for each training step and each test.

use std::fmt;
use std::fs::{self, File};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use batchmill_protocol::position::Position;

use super::{RunError, io_error};

/// The name of the file in a run's folder.
pub const NAME: &str = "metrics.csv";

/// The file's first line.
const HEADER: &str = "split,epoch,step,samples,loss,accuracy,lr,grad_norm,seconds,waited_s";

/// One training step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepRow {
    /// The batch that was trained on.
    pub position: Position,
    /// Samples of its epoch trained on so far, this batch included.
    pub samples: u64,
    /// The mean loss of its samples, as the device computed it.
    pub loss: f32,
    /// The learning rate.
    pub lr: f64,
    /// The norm of the gradient before any clipping, where it is known.
    pub grad_norm: Option<f32>,
    /// Seconds of training since the run began; time between a kill and its resumption does not count.
    pub seconds: f64,
    /// Those of them that were spent waiting for data.
    pub waited_s: f64,
}

/// One test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TestRow {
    /// The last batch of the epoch that it is of.
    pub position: Position,
    /// The mean loss of a sample.
    pub loss: f64,
    /// The share of samples told right, 0 to 1.
    pub accuracy: Option<f64>,
    /// As [`StepRow::seconds`].
    pub seconds: f64,
    /// As [`StepRow::waited_s`].
    pub waited_s: f64,
}

/// One line of the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Row {
    /// `train`.
    Step(StepRow),
    /// `test`.
    Test(TestRow),
}

impl Row {
    /// The batch it is about, or the last one before the test.
    pub fn position(&self) -> Position {
        match self {
            Self::Step(StepRow { position, .. }) | Self::Test(TestRow { position, .. }) => *position,
        }
    }

    /// Whether a training that goes on at `from` has this behind it. The test of an epoch comes after all its batches.
    fn is_before(&self, from: Position) -> bool {
        match self {
            Self::Step(StepRow { position, .. }) => *position < from,
            Self::Test(TestRow { position, .. }) => position.epoch < from.epoch,
        }
    }

    /// How long the run had taken so far.
    pub fn spent(&self) -> Spent {
        match *self {
            Self::Step(StepRow { seconds, waited_s, .. }) | Self::Test(TestRow { seconds, waited_s, .. }) => {
                Spent { seconds, waited_s }
            }
        }
    }

    fn parse(line: &str) -> Result<Self, String> {
        let cells: Vec<&str> = line.split(',').collect();
        let [split, epoch, step, samples, loss, accuracy, lr, grad_norm, seconds, waited_s] = cells[..] else {
            return Err(format!("it has {} cells, not {}", cells.len(), HEADER.split(',').count()));
        };
        let position = Position { epoch: cell("epoch", epoch)?, step: cell("step", step)? };
        let (seconds, waited_s) = (cell("seconds", seconds)?, cell("waited_s", waited_s)?);
        match split {
            "train" => Ok(Self::Step(StepRow {
                position,
                samples: cell("samples", samples)?,
                loss: cell("loss", loss)?,
                lr: cell("lr", lr)?,
                grad_norm: optional("grad_norm", grad_norm)?,
                seconds,
                waited_s,
            })),
            "test" => Ok(Self::Test(TestRow {
                position,
                loss: cell("loss", loss)?,
                accuracy: optional("accuracy", accuracy)?,
                seconds,
                waited_s,
            })),
            _ => Err(format!("`split` is {split:?}, not train or test")),
        }
    }
}

/// Writes the shortest digits that are read back as the same bits: `{:?}` of a float is that.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { epoch, step } = self.position();
        match self {
            Self::Step(StepRow { samples, loss, lr, grad_norm, .. }) => {
                let grad_norm = grad_norm.map(|norm| format!("{norm:?}")).unwrap_or_default();
                write!(f, "train,{epoch},{step},{samples},{loss:?},,{lr:?},{grad_norm}")?;
            }
            Self::Test(TestRow { loss, accuracy, .. }) => {
                let accuracy = accuracy.map(|accuracy| format!("{accuracy:?}")).unwrap_or_default();
                write!(f, "test,{epoch},{step},,{loss:?},{accuracy},,")?;
            }
        }
        let Spent { seconds, waited_s } = self.spent();
        write!(f, ",{seconds:.3},{waited_s:.3}")
    }
}

fn cell<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{name}` is {text:?}, which is not a number it can be"))
}

fn optional<T: std::str::FromStr>(name: &str, text: &str) -> Result<Option<T>, String> {
    if text.is_empty() { Ok(None) } else { cell(name, text).map(Some) }
}

/// How long a run took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// Training, tests and checkpoints.
    pub seconds: f64,
    /// Of it, waiting for data.
    pub waited_s: f64,
}

/// The file being written. Rows reach it when it is [flushed](Self::flush), or when there are many.
#[derive(Debug)]
pub struct Table {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Table {
    /// Begins the file of a run anew.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(folder: &Path) -> Result<Self, RunError> {
        let path = folder.join(NAME);
        let file = File::create(&path).map_err(io_error("write", &path))?;
        let mut table = Self { file: BufWriter::new(file), path };
        table.line(HEADER)?;
        table.flush()?;
        Ok(table)
    }

    /// Goes on in a file, or begins it where there is none. Rows from the batch `from` on are cut off, for they will come
    /// again, and so is a last line that a kill cut short. Gives also how long the run took until then.
    ///
    /// # Errors
    /// When a row before that is damaged, or the file cannot be read and written.
    pub fn resume(folder: &Path, from: Position) -> Result<(Self, Spent), RunError> {
        let path = folder.join(NAME);
        if !path.exists() {
            return Ok((Self::create(folder)?, Spent::default()));
        }
        let text = fs::read_to_string(&path).map_err(io_error("read", &path))?;
        let (mut bytes, mut spent) = (HEADER.len() + 1, Spent::default());
        for line in Lines::of(&path, &text)? {
            let (end, row) = line?;
            if !row.is_before(from) {
                break;
            }
            (bytes, spent) = (end, row.spent());
        }
        let mut file = File::options().write(true).open(&path).map_err(io_error("write", &path))?;
        let bytes = u64::try_from(bytes).expect("a file's length fits 64 bits");
        file.set_len(bytes).and_then(|()| file.seek(SeekFrom::End(0))).map_err(io_error("cut", &path))?;
        Ok((Self { path, file: BufWriter::new(file) }, spent))
    }

    /// Adds a row.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn push(&mut self, row: &Row) -> Result<(), RunError> {
        self.line(&row.to_string())
    }

    /// Writes out what was added.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn flush(&mut self) -> Result<(), RunError> {
        self.file.flush().map_err(io_error("write", &self.path))
    }

    fn line(&mut self, line: &str) -> Result<(), RunError> {
        writeln!(self.file, "{line}").map_err(io_error("write", &self.path))
    }
}

/// All rows of a run's file; a last line that is not whole is not one of them.
///
/// # Errors
/// [`RunError::NotARun`] when there is no such file, [`RunError::Line`] when a line of it is damaged.
pub fn read(folder: &Path) -> Result<Vec<Row>, RunError> {
    let path = folder.join(NAME);
    if !path.is_file() {
        return Err(RunError::NotARun { folder: folder.to_path_buf() });
    }
    let text = fs::read_to_string(&path).map_err(io_error("read", &path))?;
    Lines::of(&path, &text)?.map(|line| line.map(|(_, row)| row)).collect()
}

/// The whole lines of a file's text after its header: each with the byte where it ends.
struct Lines<'a> {
    path: &'a Path,
    text: &'a str,
    /// Where the next line begins.
    bytes: usize,
    /// Its number, from 1.
    line: u64,
}

impl<'a> Lines<'a> {
    fn of(path: &'a Path, text: &'a str) -> Result<Self, RunError> {
        // A run that is killed at once leaves nothing, or a part of the header.
        let header = text.lines().next().unwrap_or_default();
        if text.split_once('\n').is_none_or(|(first, _)| first != HEADER) {
            let reason = format!("the header is {header:?}, not {HEADER:?}: move the file away");
            return Err(RunError::Line { path: path.to_path_buf(), line: 1, reason });
        }
        Ok(Self { path, text, bytes: HEADER.len() + 1, line: 2 })
    }
}

impl Iterator for Lines<'_> {
    type Item = Result<(usize, Row), RunError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (line, _) = self.text.get(self.bytes..)?.split_once('\n')?;
        let number = self.line;
        self.bytes += line.len() + 1;
        self.line += 1;
        let damaged = |reason| RunError::Line { path: self.path.to_path_buf(), line: number, reason };
        Some(Row::parse(line).map(|row| (self.bytes, row)).map_err(damaged))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn step(epoch: u64, step: u64, loss: f32) -> Row {
        let position = Position { epoch, step };
        let (seconds, waited_s) = (0.5, 0.25);
        Row::Step(StepRow { position, samples: 64 * (step + 1), loss, lr: 0.001, grad_norm: None, seconds, waited_s })
    }

    fn test(epoch: u64, step: u64) -> Row {
        let position = Position { epoch, step };
        Row::Test(TestRow { position, loss: 0.7, accuracy: Some(0.875), seconds: 1.5, waited_s: 0.25 })
    }

    fn folder_with(rows: &[Row]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut table = Table::create(folder.path()).expect("it can be written");
        rows.iter().for_each(|row| table.push(row).expect("it can be written"));
        table.flush().expect("it can be written");
        folder
    }

    #[test]
    fn a_file_reads_as_a_spreadsheet_wants_it() {
        let folder = folder_with(&[step(0, 0, 2.302_001), step(0, 1, f32::NAN), test(0, 1)]);
        expect![[r"
            split,epoch,step,samples,loss,accuracy,lr,grad_norm,seconds,waited_s
            train,0,0,64,2.302001,,0.001,,0.500,0.250
            train,0,1,128,NaN,,0.001,,0.500,0.250
            test,0,1,,0.7,0.875,,,1.500,0.250
        "]]
        .assert_eq(&fs::read_to_string(folder.path().join(NAME)).expect("a file"));
    }

    #[test]
    fn every_loss_is_read_back_to_the_bit() {
        let losses = [0.1, f32::MIN_POSITIVE, 1e-45, f32::MAX, 16_777_217.0, 0.412_341, -0.0, f32::INFINITY];
        let rows: Vec<Row> = losses.iter().map(|loss| step(0, 0, *loss)).collect();
        let back = read(folder_with(&rows).path()).expect("it is whole");
        let bits = |rows: &[Row]| -> Vec<u32> {
            let loss = |row: &Row| if let Row::Step(step) = row { step.loss.to_bits() } else { 0 };
            rows.iter().map(loss).collect()
        };
        assert_eq!(bits(&back), bits(&rows));
    }

    #[test]
    fn a_killed_run_that_goes_on_has_the_rows_of_one_that_was_not() {
        let rows = [step(0, 0, 1.0), step(0, 1, 0.5), test(0, 1), step(1, 0, 0.25), step(1, 1, 0.125), test(1, 1)];
        let whole = fs::read_to_string(folder_with(&rows).path().join(NAME)).expect("a file");
        // The checkpoint stood at some batch; the kill came later, in the middle of a line or not.
        for (from, kept) in
            [((0, 0), 0_usize), ((0, 1), 1), ((0, 2), 2), ((1, 0), 3), ((1, 1), 4), ((1, 2), 5), ((2, 0), 6)]
        {
            for torn in ["", "train,1,1,12"] {
                let folder = folder_with(&rows);
                let path = folder.path().join(NAME);
                fs::write(&path, whole.clone() + torn).expect("it can be written");
                let from = Position { epoch: from.0, step: from.1 };
                let (mut table, spent) = Table::resume(folder.path(), from).expect("it is whole");
                assert_eq!(spent, kept.checked_sub(1).map(|last| rows[last].spent()).unwrap_or_default());
                rows[kept..].iter().for_each(|row| table.push(row).expect("it can be written"));
                drop(table);
                assert_eq!(fs::read_to_string(&path).expect("a file"), whole, "from {from} after {torn:?}");
            }
        }
    }

    #[test]
    fn where_there_is_no_file_one_begins() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (_, spent) = Table::resume(folder.path(), Position { epoch: 1, step: 0 }).expect("it can be written");
        assert_eq!((spent, read(folder.path()).expect("it is whole")), (Spent::default(), vec![]));
    }

    #[test]
    fn a_damaged_line_is_named() {
        let check = |text: &str, expected: Expect| {
            let folder = tempfile::tempdir().expect("a temporary folder");
            fs::write(folder.path().join(NAME), text).expect("it can be written");
            let error = read(folder.path()).expect_err("it is damaged").to_string();
            expected.assert_eq(&error.replace(&folder.path().display().to_string(), "RUN"));
        };
        let with = |line: &str| format!("{HEADER}\ntrain,0,0,64,1.0,,0.001,,0.1,0.0\n{line}\n");
        check(&with("train,0,1"), expect!["RUN/metrics.csv:3: it has 3 cells, not 10"]);
        check(
            &with("train,0,one,64,1.0,,0.001,,0.1,0.0"),
            expect![[r#"RUN/metrics.csv:3: `step` is "one", which is not a number it can be"#]],
        );
        check(
            &with("dev,0,1,64,1.0,,0.001,,0.1,0.0"),
            expect![[r#"RUN/metrics.csv:3: `split` is "dev", not train or test"#]],
        );
        check(
            "step,loss\n0,1.0\n",
            expect![[
                r#"RUN/metrics.csv:1: the header is "step,loss", not "split,epoch,step,samples,loss,accuracy,lr,grad_norm,seconds,waited_s": move the file away"#
            ]],
        );
    }

    #[test]
    fn what_is_no_run_is_said_to_be_none() {
        let error = read(Path::new("/nowhere")).expect_err("there is nothing").to_string();
        expect!["read the run /nowhere: it has no metrics.csv: name a folder that `trainer fit --out` wrote"]
            .assert_eq(&error);
    }
}
