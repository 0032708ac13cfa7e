//! `trainer eval`: how well a trained model does on a stream, and on what it fails.

mod matrix;
mod picture;
mod table;
mod worst;

use std::io;
use std::path::{Path, PathBuf};

use batchmill_protocol::client::{Client, ClientError, Subscription};
use batchmill_protocol::message::StreamDescription;
use batchmill_protocol::tensor::{Dtype, FieldSpec};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorReadError};
use serde::Serialize;
use thiserror::Error;

use self::matrix::Matrix;
use self::worst::Worst;
use crate::checkpoint::{self, CheckpointError, Restored};
use crate::cli::EvalArgs;
use crate::config::ConfigError;
use crate::device::DeviceError;
use crate::feed::{Feed, FeedError, Samples};
use crate::fields::{Answer, Fields, FieldsError, Input, first_other_class};
use crate::loss::{LossError, Target};
use crate::metrics::{ClassReport, ClassScore, ClassTally, Score, Test};
use crate::model::ModelError;
use crate::normalize::Normalizer;
use crate::registry::Registry;
use crate::report::{json, note, progress, say};
use crate::whole;

/// The most classes that are counted one by one against each other: their matrix has half a gibibyte.
const CLASSES_MAX: usize = 8192;

/// Why a model cannot be evaluated.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "most are the error of the room they name")]
pub enum EvalError {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error(transparent)]
    Fields(#[from] FieldsError),
    #[error("evaluate {}", checkpoint.display())]
    Model { checkpoint: PathBuf, source: Box<ModelError> },
    #[error("test as {model} says")]
    Loss { model: String, source: LossError },
    #[error("compute on {device}")]
    Compute { device: String, source: TensorReadError },
    #[error("write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// Nobody knows how to write such a file.
    #[error("write to {}: its name must end in {wanted}", path.display())]
    Form { path: PathBuf, wanted: &'static str },
    /// The stream is of other samples.
    #[error(
        "evaluate on stream `{stream}`: its samples are {found}, the model was trained on {wanted}: give the stream the \
         transforms of `{trained_on}`"
    )]
    OtherSamples { stream: String, found: Input, wanted: Input, trained_on: String },
    /// The stream asks for something else than the model was taught.
    #[error("evaluate on stream `{stream}`: its target is {found}, but the model answers {wanted} with a class")]
    NoClasses { stream: String, found: Box<FieldSpec>, wanted: Box<FieldSpec> },
    /// Numbers are not mistaken for one another.
    #[error("draw what is mistaken for what: the model answers {target} with numbers: leave --out and --confusion out")]
    NoMistakes { target: FieldSpec },
    /// There are no pictures of them.
    #[error("draw the worst mistakes: the samples are {input}, not images: leave --out out")]
    NoImages { input: Input },
    /// A label means one class to the model and another in the stream.
    #[error(
        "evaluate on stream `{stream}`: its label {label} is class {found:?}, the model learned {wanted:?}: let both \
         lists name the same classes"
    )]
    OtherClasses { stream: String, label: usize, found: String, wanted: String },
    /// The matrix would fill the memory.
    #[error("count which of {classes} classes are taken for which: {CLASSES_MAX} are the most")]
    TooManyClasses { classes: usize },
    /// There is nothing to test on.
    #[error("not one sample of stream `{stream}` can be read: `loader quarantine` says why")]
    Unreadable { stream: String },
}

/// The object of `--json` where the model answers with numbers.
#[derive(Debug, Serialize)]
struct Errors<'a> {
    stream: &'a str,
    samples: u64,
    loss: f64,
    mae: f64,
    rmse: f64,
}

/// The object of `--json`.
#[derive(Debug, Serialize)]
struct Found<'a> {
    stream: &'a str,
    samples: u64,
    loss: f64,
    accuracy: f64,
    top_5: f64,
    classes: Vec<Class<'a>>,
    macro_average: ClassScore,
    /// Rows are true classes, columns predicted ones.
    confusion: Vec<&'a [u64]>,
}

#[derive(Debug, Serialize)]
struct Class<'a> {
    label: usize,
    class: &'a str,
    #[serde(flatten)]
    score: ClassScore,
}

impl<'a> Found<'a> {
    fn of(stream: &'a str, tally: &ClassTally, matrix: &'a Matrix, names: &'a [String], loss: f64) -> Self {
        let ClassReport { classes, macro_average } = tally.report();
        let class = |((label, class), score): ((usize, &'a String), ClassScore)| Class { label, class, score };
        Self {
            stream,
            samples: tally.rows(),
            loss,
            accuracy: tally.accuracy().unwrap_or_default(),
            top_5: tally.top(5).unwrap_or_default(),
            classes: names.iter().enumerate().zip(classes).map(class).collect(),
            macro_average,
            confusion: (0..matrix.classes()).map(|label| matrix.row(label)).collect(),
        }
    }
}

/// Tests a model on one epoch of a stream, prints what was found and draws what is asked for.
///
/// # Errors
/// [`EvalError`].
pub fn run(args: &EvalArgs, layers: &Registry) -> Result<(), EvalError> {
    args.confusion.iter().try_for_each(|path| check_file(path, &["csv", "png"], ".csv or .png"))?;
    args.out.iter().try_for_each(|path| check_file(path, &["png"], ".png"))?;
    let device = args.device.open()?;
    let checkpoint = checkpoint::locate(&args.checkpoint);
    let restored = checkpoint::load(&checkpoint, layers, &device)?;
    if args.out.is_some() && restored.input.stated().len() != 3 {
        return Err(EvalError::NoImages { input: restored.input });
    }
    let outputs = restored.model.outputs();
    let takes_classes = restored.spec.learn.loss.takes_classes();
    if !takes_classes && (args.out.is_some() || !args.confusion.is_empty()) {
        return Err(EvalError::NoMistakes { target: restored.about.target });
    }
    if takes_classes && outputs > CLASSES_MAX {
        return Err(EvalError::TooManyClasses { classes: outputs });
    }
    let subscription = Subscription::new(&args.stream).epochs(0, Some(1));
    let member = Client::connect(args.socket.as_deref())?.attach(&subscription)?;
    let stream = member.stream().clone();
    let fields = check_stream(&restored, &stream)?;
    let misfit = |source| EvalError::Model { checkpoint: checkpoint.clone(), source: Box::new(source) };
    let answer = fields.answer;
    restored.model.check_answer(answer, &stream.name, stream.classes.len()).map_err(misfit)?;

    let mut feed = Feed::start(member, fields, &restored.model, &device, None);
    let (test, worst) = judge(args, &restored, answer, &mut feed, &device)?;
    let unreadable = || EvalError::Unreadable { stream: stream.name.clone() };
    let Score { loss, mae, rmse, .. } = test.score().ok_or_else(unreadable)?;
    if let (Some(mae), Some(rmse)) = (mae, rmse) {
        let errors = Errors { stream: &stream.name, samples: test.rows(), loss, mae, rmse };
        if args.json {
            json(&errors);
        } else {
            say(&table::errors(&errors));
        }
        return Ok(());
    }
    let tally = test.classes();
    let matrix = Matrix::of(tally, outputs);
    let named = [&restored.about.classes, &stream.classes];
    let name = |label: usize| named.into_iter().find_map(|names| names.get(label)).cloned();
    let names: Vec<String> = (0..outputs).map(|label| name(label).unwrap_or_else(|| label.to_string())).collect();

    let found = Found::of(&stream.name, tally, &matrix, &names, loss);
    if args.json {
        json(&found);
    } else {
        say(&table::text(&found, &matrix, &names));
    }
    for path in &args.confusion {
        let table = path.extension().is_some_and(|extension| extension == "csv");
        let bytes = if table { table::csv(&matrix, &names) } else { picture::png(picture::confusion(&matrix, &names)) };
        write(path, &bytes)?;
    }
    if let Some(path) = &args.out {
        write(path, &picture::png(picture::mistakes(&worst.mistakes, &seen(&restored), &names)))?;
        let (shown, mistakes, path) = (worst.mistakes.len(), matrix.mistakes(), path.display());
        note(&format!("{shown} of {mistakes} mistakes, the worst first, are drawn in {path}"));
    }
    Ok(())
}

/// Shows the model every batch of an epoch.
fn judge(
    args: &EvalArgs,
    restored: &Restored,
    answer: Answer,
    feed: &mut Feed,
    device: &Device,
) -> Result<(Test, Worst), EvalError> {
    let normalizer = Normalizer::new(&restored.spec.normalize, &restored.input, device)
        .map_err(|mistake| ConfigError::Mistake { path: restored.model_file.clone(), mistake })?;
    let learns = |source| EvalError::Loss { model: restored.model_file.display().to_string(), source };
    let loss = restored.spec.learn.loss.init(restored.model.outputs(), device).map_err(learns)?;
    let compute = |source| EvalError::Compute { device: args.device.to_string(), source };
    // Pixels are looked for only where they are to be drawn.
    let most = if args.out.is_some() { args.worst.get() } else { 0 };
    let (mut test, mut worst) = (Test::default(), Worst::new(most));
    let bar = progress(feed.stream().extent.samples_delivered(), "samples");
    while feed.cursor().epoch == 0 {
        let Some(Samples { input, target, rows }) = feed.next()?.samples else { continue };
        let output = restored.model.answer(normalizer.apply(input.clone()), answer);
        test.add(output.clone(), target.clone(), loss.forward(output.clone(), target.clone()));
        test.collect().map_err(compute)?;
        if let (Target::Classes(labels), 1..) = (target, most) {
            let (said, labels) = read(output, labels).map_err(compute)?;
            worst.add(&said, &labels, &input).map_err(compute)?;
        }
        bar.inc(u64::try_from(rows).unwrap_or(0));
    }
    bar.finish_and_clear();
    Ok((test, worst))
}

/// The logarithms of probabilities, row by row, and the labels. Waits for the device.
fn read(logits: Tensor<2>, labels: Tensor<1, Int>) -> Result<(Vec<f32>, Vec<usize>), TensorReadError> {
    let said = log_softmax(logits, 1).try_into_data()?;
    let labels = labels.try_into_data()?;
    // The feed refuses labels that are none.
    let labels = labels.iter::<i64>().map(|label| usize::try_from(label).unwrap_or(0));
    Ok((said.iter::<f32>().collect(), labels.collect()))
}

/// How the images of mistakes lie: as in the stream, of `f32` where they are not of bytes.
fn seen(restored: &Restored) -> FieldSpec {
    let dtype = if let Input::Image(_) = restored.input { Dtype::U8 } else { Dtype::F32 };
    FieldSpec { dtype, ..restored.about.input.clone() }
}

/// Checks that a stream has samples, targets and classes as those that the model was trained on.
fn check_stream(restored: &Restored, stream: &StreamDescription) -> Result<Fields, EvalError> {
    let (about, name) = (&restored.about, || stream.name.clone());
    let fields = Fields::of(stream, Some(&about.input.name), Some(&about.target.name))?;
    if fields.kind != restored.input {
        let (found, wanted, trained_on) = (fields.kind, restored.input.clone(), about.stream.clone());
        return Err(EvalError::OtherSamples { stream: name(), found, wanted, trained_on });
    }
    let Ok(fields) = fields.clone().for_loss(restored.spec.learn.loss.takes_classes()) else {
        let (found, wanted) = (Box::new(fields.target), Box::new(about.target.clone()));
        return Err(EvalError::NoClasses { stream: name(), found, wanted });
    };
    match first_other_class(&stream.classes, &about.classes) {
        Some((label, found, wanted)) => Err(EvalError::OtherClasses { stream: name(), label, found, wanted }),
        None => Ok(fields),
    }
}

fn check_file(path: &Path, known: &[&str], wanted: &'static str) -> Result<(), EvalError> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    if extension.is_none_or(|extension| !known.contains(&extension)) {
        return Err(EvalError::Form { path: path.to_path_buf(), wanted });
    }
    whole::check(path).map_err(|source| EvalError::Write { path: path.to_path_buf(), source })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), EvalError> {
    whole::write(path, bytes).map_err(|source| EvalError::Write { path: path.to_path_buf(), source })
}
