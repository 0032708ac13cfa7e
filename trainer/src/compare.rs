//! `trainer compare`: whether runs are the same to the last bit, and if not, from which step on they part.

mod weights;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use batchmill_protocol::position::Position;
use serde::Serialize;
use thiserror::Error;

use crate::cli::CompareArgs;
use crate::report::{columns, json, say};
use crate::run::about::{Change, changes};
use crate::run::curves::{self, Curve};
use crate::run::table::{self, Row, Spent};
use crate::run::{About, RunError, StepRow};

/// The most differences of `run.json` that a person is shown.
const CHANGES_SHOWN: usize = 12;

/// Why runs are not the same, or cannot be compared.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "each is one row of two runs")]
pub enum CompareError {
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("read {}: it is damaged: compare other runs, or move this checkpoint away", path.display())]
    Weights { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{one} and {other} part at {position}: {numbers}")]
    Part { one: String, other: String, position: Position, numbers: String },
    #[error("{one} and {other} part at {position}: only {one} has {what} there")]
    Only { one: String, other: String, position: Position, what: &'static str },
    #[error("{one} and {other} have the same losses, but their checkpoints {checkpoint} part at parameter {parameter}")]
    Parameter { one: String, other: String, checkpoint: String, parameter: String },
    #[error("write to {}: its name must end in .png", path.display())]
    Form { path: PathBuf },
    #[error("{one} and {other} have no step in common")]
    Apart { one: String, other: String },
}

/// One run, read.
struct Run {
    folder: PathBuf,
    about: Option<About>,
    rows: Vec<Row>,
}

/// What a run came to.
#[derive(Debug, Serialize)]
struct Outcome {
    run: String,
    /// Training steps.
    steps: usize,
    /// The loss of the last epoch's steps, in the mean.
    loss: Option<f64>,
    /// Of the last test.
    test_loss: Option<f64>,
    /// Of the best test, 0 to 1.
    best_accuracy: Option<f64>,
    seconds: f64,
    waited_s: f64,
}

/// How a run stands to the first one.
#[derive(Debug, Serialize)]
struct Comparison {
    run: String,
    /// In all steps and checkpoints in common.
    identical: bool,
    /// Steps in common that are the same, from the first one on.
    same_steps: usize,
    /// Checkpoints in common that are the same.
    same_checkpoints: usize,
    /// Where they part, in words.
    part: Option<String>,
    /// The step they part at, if it is a step.
    position: Option<Position>,
    /// What was not the same from the outset.
    changes: Vec<Change>,
}

#[derive(Serialize)]
struct Compared<'a> {
    identical: bool,
    runs: &'a [Outcome],
    comparisons: &'a [Comparison],
}

/// Compares runs with the first one, shows what they came to, and draws them.
///
/// # Errors
/// [`CompareError`]: where the first two that are not the same part, or why they cannot be compared.
pub fn run(args: &CompareArgs) -> Result<(), CompareError> {
    if let Some(path) = args.out.as_ref().filter(|path| path.extension().is_none_or(|extension| extension != "png")) {
        return Err(CompareError::Form { path: path.clone() });
    }
    let runs = args.runs.iter().map(|folder| Run::read(folder)).collect::<Result<Vec<_>, _>>()?;
    let Some((first, others)) = runs.split_first() else { return Ok(()) };
    let outcomes: Vec<_> = runs.iter().map(Run::outcome).collect();
    let mut parted = None;
    let mut comparisons = Vec::new();
    for other in others {
        let (comparison, error) = compare(first, other)?;
        comparisons.push(comparison);
        parted = parted.or(error);
    }
    if let Some(path) = &args.out {
        let steps = runs.iter().map(Run::steps_of_epoch).max().unwrap_or(1);
        let curves: Vec<_> = runs.iter().map(|run| Curve::new(&run.short_name(), &run.rows, steps)).collect();
        curves::save(path, &format!("{} runs", runs.len()), &curves)?;
    }
    if args.json {
        json(&Compared { identical: parted.is_none(), runs: &outcomes, comparisons: &comparisons });
    } else {
        say(&table_of(&outcomes));
        comparisons.iter().for_each(|comparison| say(&comparison.to_text(&first.name())));
        args.out.iter().for_each(|path| say(&format!("Drawn in {}", path.display())));
    }
    parted.map_or(Ok(()), Err)
}

impl Run {
    fn read(folder: &Path) -> Result<Self, RunError> {
        Ok(Self { folder: folder.to_path_buf(), rows: table::read(folder)?, about: About::read(folder)? })
    }

    fn name(&self) -> String {
        self.folder.display().to_string()
    }

    /// For a legend.
    fn short_name(&self) -> String {
        self.folder.file_name().map_or_else(|| self.name(), |name| name.to_string_lossy().into_owned())
    }

    fn steps(&self) -> impl Iterator<Item = &StepRow> {
        self.rows.iter().filter_map(|row| if let Row::Step(step) = row { Some(step) } else { None })
    }

    fn steps_of_epoch(&self) -> u64 {
        match &self.about {
            Some(about) => about.training.train.steps,
            None => self.rows.iter().map(|row| row.position().step + 1).max().unwrap_or(1),
        }
    }

    fn outcome(&self) -> Outcome {
        let tests = || self.rows.iter().filter_map(|row| if let Row::Test(test) = row { Some(test) } else { None });
        let epoch = self.steps().last().map_or(0, |step| step.position.epoch);
        let (mut sum, mut count) = (0.0, 0.0);
        for step in self.steps().filter(|step| step.position.epoch == epoch) {
            sum += f64::from(step.loss);
            count += 1.0;
        }
        let Spent { seconds, waited_s } = self.rows.last().map(Row::spent).unwrap_or_default();
        Outcome {
            run: self.name(),
            steps: self.steps().count(),
            loss: (count > 0.0).then(|| sum / count),
            test_loss: tests().next_back().map(|test| test.loss),
            best_accuracy: tests().filter_map(|test| test.accuracy).max_by(f64::total_cmp),
            seconds,
            waited_s,
        }
    }
}

/// How two runs stand, and the error that says where they part.
fn compare(one: &Run, other: &Run) -> Result<(Comparison, Option<CompareError>), CompareError> {
    let (same_steps, mut part) = compare_rows(one, other);
    let mut same_checkpoints = 0;
    if part.is_none() {
        for checkpoint in weights::common(&one.folder, &other.folder) {
            match weights::compare(&checkpoint.one, &checkpoint.other)? {
                None => same_checkpoints += 1,
                Some(parameter) => {
                    let (one, other, checkpoint) = (one.name(), other.name(), checkpoint.name);
                    part = Some(CompareError::Parameter { one, other, checkpoint, parameter });
                    break;
                }
            }
        }
    }
    let changes = match (&one.about, &other.about) {
        (Some(one), Some(other)) => changes(&one.training, &other.training),
        _ => Vec::new(),
    };
    let position = match &part {
        Some(CompareError::Part { position, .. } | CompareError::Only { position, .. }) => Some(*position),
        _ => None,
    };
    let comparison = Comparison {
        run: other.name(),
        identical: part.is_none(),
        same_steps,
        same_checkpoints,
        part: part.as_ref().map(ToString::to_string),
        position,
        changes,
    };
    Ok((comparison, part))
}

/// Counts the steps that are the same, up to the first row that is not. Runs may begin and end at different steps.
fn compare_rows(one: &Run, other: &Run) -> (usize, Option<CompareError>) {
    let names = || (one.name(), other.name());
    let bounds = |run: &Run| Some((run.rows.first()?.position(), run.rows.last()?.position()));
    let apart = || {
        let (one, other) = names();
        (0, Some(CompareError::Apart { one, other }))
    };
    let (Some(ours), Some(theirs)) = (bounds(one), bounds(other)) else { return apart() };
    let (start, end) = (ours.0.max(theirs.0), ours.1.min(theirs.1));
    let common = |run: &Run| -> Vec<Row> {
        let within = |row: &&Row| (start..=end).contains(&row.position());
        run.rows.iter().filter(within).copied().collect()
    };
    let (ours, theirs) = (common(one), common(other));
    let has_steps = |rows: &[Row]| rows.iter().any(|row| matches!(row, Row::Step(_)));
    if !has_steps(&ours) || !has_steps(&theirs) {
        return apart();
    }
    let mut same = 0;
    let mut rows = (ours.iter().peekable(), theirs.iter().peekable());
    loop {
        let (left, right) = (rows.0.peek(), rows.1.peek());
        let (left, right) = match (left, right) {
            (None, None) => return (same, None),
            // A run that was ended there may lack its last test.
            (Some(Row::Test(test)), None) | (None, Some(Row::Test(test))) if test.position == end => {
                return (same, None);
            }
            (Some(left), Some(right)) if key(left) == key(right) => (*left, *right),
            (left, right) => {
                // The row that comes first is the other's lack.
                let only_ours = right.is_none_or(|right| left.is_some_and(|left| key(left) < key(right)));
                let row = if only_ours { left } else { right };
                let position = row.map(|row| row.position()).unwrap_or_default();
                let what = if matches!(row, Some(Row::Test(_))) { "a test" } else { "a step" };
                let (one, other) = if only_ours { names() } else { (other.name(), one.name()) };
                return (same, Some(CompareError::Only { one, other, position, what }));
            }
        };
        if let Some((what, mine, yours)) = difference(left, right) {
            let ((one, other), position) = (names(), left.position());
            let numbers = format!("{what} {mine} and {yours}");
            return (same, Some(CompareError::Part { one, other, position, numbers }));
        }
        same += usize::from(matches!(left, Row::Step(_)));
        rows.0.next();
        rows.1.next();
    }
}

/// A test comes after the step that it is of.
fn key(row: &Row) -> (Position, bool) {
    (row.position(), matches!(row, Row::Test(_)))
}

/// The first number of two rows of the same place that is not the same, and what it is in each. Times are not compared.
fn difference(left: &Row, right: &Row) -> Option<(&'static str, String, String)> {
    let numbers = |row: &Row| match row {
        Row::Step(step) => vec![
            ("loss", format!("{:?}", step.loss)),
            ("learning rate", format!("{:?}", step.lr)),
            ("samples", step.samples.to_string()),
            ("gradient norm", step.grad_norm.map_or("unknown".to_owned(), |norm| format!("{norm:?}"))),
        ],
        Row::Test(test) => vec![
            ("test loss", format!("{:?}", test.loss)),
            ("accuracy", test.accuracy.map_or("unknown".to_owned(), |accuracy| format!("{accuracy:?}"))),
        ],
    };
    // The shortest digits are the same exactly where the bits are.
    let mut pairs = numbers(left).into_iter().zip(numbers(right));
    pairs.find(|(left, right)| left != right).map(|((what, left), (_, right))| (what, left, right))
}

impl Comparison {
    fn to_text(&self, first: &str) -> String {
        let Self { run, same_steps, same_checkpoints, .. } = self;
        let mut text = if self.identical {
            format!(
                "{run} is {first} to the last bit, in all {same_steps} steps and {same_checkpoints} checkpoints in common"
            )
        } else if *same_steps == 0 {
            format!("{run} is another than {first} from the first step in common on")
        } else {
            format!("{run} is {first} in the first {same_steps} steps in common")
        };
        for Change { key, one, other } in self.changes.iter().take(CHANGES_SHOWN) {
            let _ = write!(text, "\n  {key}: {one} and {other}");
        }
        if let Some(more @ 1..) = self.changes.len().checked_sub(CHANGES_SHOWN) {
            let _ = write!(text, "\n  and {more} more: --json has all");
        }
        text
    }
}

/// One line a run, in columns.
fn table_of(outcomes: &[Outcome]) -> String {
    let shown = |number: Option<f64>| number.map_or("-".to_owned(), |number| format!("{number:.4}"));
    let header = ["run", "steps", "loss", "test loss", "best accuracy", "seconds", "waited"].map(str::to_owned);
    let row = |outcome: &Outcome| {
        vec![
            outcome.run.clone(),
            outcome.steps.to_string(),
            shown(outcome.loss),
            shown(outcome.test_loss),
            outcome.best_accuracy.map_or("-".to_owned(), |best| format!("{:.2} %", 100.0 * best)),
            format!("{:.1}", outcome.seconds),
            format!("{:.1}", outcome.waited_s),
        ]
    };
    let rows: Vec<_> = [header.to_vec()].into_iter().chain(outcomes.iter().map(row)).collect();
    columns(&rows, "<>>>>>>")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use expect_test::{Expect, expect};
    use safetensors::Dtype;
    use safetensors::tensor::TensorView;

    use super::*;
    use crate::run::table::{Table, TestRow};

    /// Writes a run of one epoch with these losses and a test, and gives its folder.
    fn write(folder: &Path, name: &str, losses: &[f32]) -> PathBuf {
        let run = folder.join(name);
        fs::create_dir_all(&run).expect("a folder");
        let mut table = Table::create(&run).expect("it can be written");
        let (mut seconds, waited_s, lr, grad_norm) = (0.0, 0.0, 0.1, None);
        for (step, loss) in (0..).zip(losses.iter().copied()) {
            let position = Position { epoch: 0, step };
            seconds += 1.0;
            let row = StepRow { position, samples: 4, loss, lr, grad_norm, seconds, waited_s };
            table.push(&Row::Step(row)).expect("it can be written");
        }
        if let Some(step) = u64::try_from(losses.len()).ok().and_then(|steps| steps.checked_sub(1)) {
            let position = Position { epoch: 0, step };
            let row = TestRow { position, loss: 0.5, accuracy: Some(0.875), seconds, waited_s };
            table.push(&Row::Test(row)).expect("it can be written");
        }
        table.flush().expect("it can be written");
        run
    }

    fn checkpoint(run: &Path, name: &str, weights: &[(&str, f32)]) {
        let bytes: Vec<_> = weights.iter().map(|(name, weight)| (*name, weight.to_le_bytes())).collect();
        let view = |bytes| TensorView::new(Dtype::F32, vec![1], bytes).expect("a tensor");
        let tensors = bytes.iter().map(|(name, bytes)| (*name, view(bytes)));
        let folder = run.join("checkpoints").join(name);
        fs::create_dir_all(&folder).expect("a folder");
        let file = safetensors::serialize(tensors, None).expect("a file");
        fs::write(folder.join("model.safetensors"), file).expect("it can be written");
    }

    fn check(folder: &Path, runs: &[&PathBuf], expected: Expect) {
        let runs = runs.iter().map(|run| (*run).clone()).collect();
        let compared = run(&CompareArgs { runs, out: None, json: false });
        let said = compared.err().map(|error| error.to_string()).unwrap_or_default();
        expected.assert_eq(&said.replace(&folder.display().to_string(), "DIR"));
    }

    #[test]
    fn the_first_step_that_is_not_the_same_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let dir = folder.path();
        let run = |name: &str, losses: &[f32]| write(dir, name, losses);
        let (a, same) = (run("a", &[1.0, 0.412_34, 0.25]), run("same", &[1.0, 0.412_34, 0.25]));
        let longer = run("longer", &[1.0, 0.412_34, 0.25, 0.125]);
        check(dir, &[&a, &same, &longer], expect![""]);
        // The last bit but none.
        let other = run("other", &[1.0, f32::from_bits(0.412_34_f32.to_bits() + 1), 0.25]);
        check(
            dir,
            &[&a, &same, &other],
            expect!["DIR/a and DIR/other part at epoch 0 step 1: loss 0.41234 and 0.41234002"],
        );
        let nan = run("nan", &[f32::NAN, 1.0]);
        check(dir, &[&nan, &nan], expect![""]);
        check(dir, &[&a, &run("empty", &[])], expect!["DIR/a and DIR/empty have no step in common"]);
        check(
            dir,
            &[&a, &dir.join("none")],
            expect!["read the run DIR/none: it has no metrics.csv: name a folder that `trainer fit --out` wrote"],
        );
    }

    #[test]
    fn the_last_test_counts_where_both_have_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let run = |name: &str, from: &str, to: &str| {
            let run = write(folder.path(), name, &[1.0, 0.5]);
            let path = run.join(table::NAME);
            let text = fs::read_to_string(&path).expect("a file");
            fs::write(&path, text.replace(from, to)).expect("it can be written");
            run
        };
        let whole = run("a", "", "");
        let check = |other: &PathBuf, expected| check(folder.path(), &[&whole, other], expected);
        check(
            &run("loss", "test,0,1,,0.5,", "test,0,1,,0.25,"),
            expect!["DIR/a and DIR/loss part at epoch 0 step 1: test loss 0.5 and 0.25"],
        );
        check(
            &run("accuracy", ",0.875,", ",0.75,"),
            expect!["DIR/a and DIR/accuracy part at epoch 0 step 1: accuracy 0.875 and 0.75"],
        );
        check(&run("untested", "test,0,1,,0.5,0.875,,,2.000,0.000\n", ""), expect![""]);
    }

    #[test]
    fn a_row_that_one_run_lacks_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (a, b) = (write(folder.path(), "a", &[1.0, 0.5, 0.25]), write(folder.path(), "b", &[1.0, 0.5, 0.25]));
        let path = b.join(table::NAME);
        let text = fs::read_to_string(&path).expect("a file");
        let without: String = text.split_inclusive('\n').filter(|line| !line.starts_with("train,0,1,")).collect();
        fs::write(&path, without).expect("it can be written");
        check(folder.path(), &[&a, &b], expect!["DIR/a and DIR/b part at epoch 0 step 1: only DIR/a has a step there"]);
        check(folder.path(), &[&b, &a], expect!["DIR/a and DIR/b part at epoch 0 step 1: only DIR/a has a step there"]);
    }

    #[test]
    fn weights_are_compared_where_both_have_them() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (a, b) = (write(folder.path(), "a", &[1.0]), write(folder.path(), "b", &[1.0]));
        checkpoint(&a, "0000-000001", &[("x", 1.0), ("y", 2.0)]);
        checkpoint(&b, "0000-000001", &[("x", 1.0), ("y", 2.0)]);
        checkpoint(&b, "0001-000000", &[("x", 7.0)]);
        check(folder.path(), &[&a, &b], expect![""]);
        checkpoint(&a, "0001-000000", &[("x", 7.5)]);
        check(
            folder.path(),
            &[&a, &b],
            expect!["DIR/a and DIR/b have the same losses, but their checkpoints 0001-000000 part at parameter x"],
        );
        fs::write(b.join("checkpoints/0001-000000/model.safetensors"), "torn").expect("it can be written");
        check(
            folder.path(),
            &[&a, &b],
            expect![
                "read DIR/b/checkpoints/0001-000000/model.safetensors: it is damaged: compare other runs, or move this checkpoint away"
            ],
        );
    }

    #[test]
    fn what_runs_came_to_stands_in_columns() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let runs = [write(folder.path(), "a", &[1.0, 0.5]), write(folder.path(), "empty", &[])];
        let outcomes = runs.map(|run| Run::read(&run).expect("a run").outcome());
        let text = table_of(&outcomes).replace(&folder.path().display().to_string(), "DIR");
        expect![[r#"
            run steps loss test loss best accuracy seconds waited
            DIR/a 2 0.7500 0.5000 87.50 % 2.0 0.0
            DIR/empty 0 - - - 0.0 0.0
        "#]]
        .assert_eq(
            &text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect::<String>(),
        );
    }

    #[test]
    fn curves_are_drawn_on_top_of_one_another() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let runs = vec![write(folder.path(), "a", &[1.0, 0.5]), write(folder.path(), "b", &[1.0, 0.5])];
        let out = folder.path().join("compare.png");
        // Somebody's own, of a name that is like the picture's.
        let own = folder.path().join("compare.partial");
        fs::write(&own, "own").expect("it can be written");
        let compare =
            |out: &str| run(&CompareArgs { runs: runs.clone(), out: Some(folder.path().join(out)), json: true });
        compare("compare.png").expect("they are the same");
        assert_eq!(image::image_dimensions(&out).expect("a picture").0, 1600);
        assert_eq!(fs::read_to_string(own).expect("it is there still"), "own");
        let refused = |out: &str| {
            let error = compare(out).expect_err("it cannot be written").to_string();
            error.replace(&folder.path().display().to_string(), "DIR")
        };
        expect!["write to DIR/compare.csv: its name must end in .png"].assert_eq(&refused("compare.csv"));
        expect!["write DIR/none/compare.png"].assert_eq(&refused("none/compare.png"));
    }
}
