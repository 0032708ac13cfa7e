//! `trainer predict`: what a trained model sees in images.

mod files;
mod prediction;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use batchmill_datasets::registry::Registry as TransformRegistry;
use batchmill_protocol::tensor::FieldSpec;
use burn::tensor::activation::softmax;
use burn::tensor::{Device, TensorReadError};
use crossbeam::channel::bounded;
use thiserror::Error;

pub use self::files::FilesError;
use self::prediction::Form;
pub use self::prediction::{Guess, Prediction};
use crate::checkpoint::{self, CheckpointError, Restored};
use crate::cli::PredictArgs;
use crate::config::ConfigError;
use crate::device::DeviceError;
use crate::fields::Input;
use crate::normalize::{Normalizer, Raw};
use crate::prepare::{Preparation, PrepareError};
use crate::registry::Registry;
use crate::report::{json, note, progress, say};
use crate::{paragraph, whole};

/// Why there are no predictions, or not all.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "most are the error of the room they name")]
pub enum PredictError {
    /// It was trained on something else.
    #[error("predict with {}: its samples are {input}, not images", checkpoint.display())]
    NoImages { checkpoint: PathBuf, input: Input },
    /// It was taught something else.
    #[error("predict with {}: it answers `{target}`, not a class", checkpoint.display())]
    NoClasses { checkpoint: PathBuf, target: FieldSpec },
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("compute on {device}")]
    Compute { device: String, source: TensorReadError },
    /// No image can be brought to what the model takes.
    #[error("predict with {}", checkpoint.display())]
    Unprepared { checkpoint: PathBuf, source: PrepareError },
    /// Nobody knows how to write such a file.
    #[error("write the predictions to {}: its name must end in .csv or .json", path.display())]
    Form { path: PathBuf },
    #[error("write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// The others were predicted.
    #[error("{failed} of {images} images could not be read: each is named above")]
    Failed { failed: usize, images: usize },
}

/// Why one image has no prediction; the others have.
#[derive(Debug, Error)]
enum ImageError {
    #[error("read it")]
    Read(#[source] io::Error),
    #[error("read it: it is no file")]
    NoFile,
    #[error(transparent)]
    Prepare(#[from] PrepareError),
}

/// Prints, and writes where that is asked for, the most probable classes of every image.
///
/// # Errors
/// [`PredictError`]; [`PredictError::Failed`] after all others were predicted.
pub fn run(args: &PredictArgs, layers: &Registry, transforms: &TransformRegistry) -> Result<(), PredictError> {
    let form = |path: &PathBuf| Form::of(path).ok_or_else(|| PredictError::Form { path: path.clone() });
    let form = args.out.as_ref().map(form).transpose()?;
    let write = |path: &PathBuf, source| PredictError::Write { path: path.clone(), source };
    args.out.iter().try_for_each(|path| whole::check(path).map_err(|source| write(path, source)))?;
    let files = files::find(&args.images)?;
    let device = args.device.open()?;
    let checkpoint = checkpoint::locate(&args.checkpoint);
    let restored = checkpoint::load(&checkpoint, layers, &device)?;
    let about = &restored.about;
    if restored.input.stated().len() != 3 {
        return Err(PredictError::NoImages { checkpoint, input: restored.input });
    }
    if !restored.spec.learn.loss.takes_classes() {
        return Err(PredictError::NoClasses { checkpoint, target: about.target.clone() });
    }
    let normalizer = Normalizer::new(&restored.spec.normalize, &restored.input, &device)
        .map_err(|mistake| ConfigError::Mistake { path: restored.model_file.clone(), mistake })?;
    let preparation = Preparation::new(&about.view, &about.input, transforms)
        .map_err(|source| PredictError::Unprepared { checkpoint, source })?;
    preparation.notes().iter().for_each(|text| note(text));

    let model = Model { restored: &restored, normalizer, device };
    let compute = |source| PredictError::Compute { device: args.device.to_string(), source };
    let bar = progress(files.len().try_into().unwrap_or(u64::MAX), "images");
    let mut predictions = Vec::with_capacity(files.len());
    each_batch(&files, args.batch_size.get(), &preparation, |files, prepared| {
        for prediction in model.predict(files, prepared, args.top.get()).map_err(compute)? {
            bar.suspend(|| show(&prediction, args));
            bar.inc(1);
            predictions.push(prediction);
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    if let (Some(path), Some(form)) = (&args.out, form) {
        let top = args.top.get().min(restored.model.outputs());
        whole::write(path, &form.write(&predictions, top)).map_err(|source| write(path, source))?;
    }
    let failed = predictions.iter().filter(|prediction| prediction.outcome.is_err()).count();
    if failed > 0 {
        return Err(PredictError::Failed { failed, images: predictions.len() });
    }
    Ok(())
}

/// Prints a prediction. With `--out`, a person is told only what went wrong.
fn show(prediction: &Prediction, args: &PredictArgs) {
    if let Err(reason) = &prediction.outcome {
        note(&format!("{}: {reason}", prediction.image.display()));
    }
    if args.json {
        return json(&prediction.as_json());
    }
    if let (None, Some(line)) = (&args.out, prediction.to_line()) {
        say(&line);
    }
}

/// The bytes that a model takes of an image, or why there are none.
type Prepared = Result<Vec<u8>, String>;

/// Calls `done` with every batch of files and their bytes, in order, while the next one is prepared.
fn each_batch(
    files: &[PathBuf],
    batch_size: usize,
    preparation: &Preparation,
    mut done: impl FnMut(&[PathBuf], Vec<Prepared>) -> Result<(), PredictError>,
) -> Result<(), PredictError> {
    thread::scope(|scope| {
        let (made, ready) = bounded(1);
        scope.spawn(move || {
            for files in files.chunks(batch_size) {
                // An error here: nobody wants them any more.
                if made.send((files, prepare_all(files, preparation))).is_err() {
                    return;
                }
            }
        });
        // Dropped at the end of this scope, also by an error, and so the thread ends.
        let ready = ready;
        ready.iter().try_for_each(|(files, prepared)| done(files, prepared))
    })
}

/// Prepares files on as many threads as there are cores; which of them takes which changes nothing.
fn prepare_all(files: &[PathBuf], preparation: &Preparation) -> Vec<Prepared> {
    let next = AtomicUsize::new(0);
    let prepared = Mutex::new(vec![Err(String::new()); files.len()]);
    let threads = thread::available_parallelism().map_or(1, usize::from).min(files.len());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((place, file)) = files.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed)) {
                    let one = prepare(file, preparation).map_err(|error| paragraph(&error));
                    prepared.lock().unwrap_or_else(PoisonError::into_inner)[place] = one;
                }
            });
        }
    });
    prepared.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn prepare(file: &Path, preparation: &Preparation) -> Result<Vec<u8>, ImageError> {
    // A pipe would be waited for without an end.
    if !fs::metadata(file).map_err(ImageError::Read)?.is_file() {
        return Err(ImageError::NoFile);
    }
    Ok(preparation.apply(&fs::read(file).map_err(ImageError::Read)?)?)
}

/// A model and what it takes to ask it.
struct Model<'a> {
    restored: &'a Restored,
    normalizer: Normalizer,
    device: Device,
}

impl Model<'_> {
    /// The `top` most probable classes of every image that could be prepared.
    fn predict(
        &self,
        files: &[PathBuf],
        prepared: Vec<Prepared>,
        top: usize,
    ) -> Result<Vec<Prediction>, TensorReadError> {
        let pixels: Vec<&[u8]> = prepared.iter().filter_map(|prepared| prepared.as_deref().ok()).collect();
        let mut guesses = match pixels.len() {
            0 => Vec::new(),
            images => self.guesses(pixels.concat(), images, top)?,
        }
        .into_iter();
        let outcome =
            |prepared: Prepared| prepared.map(|_| guesses.next().expect("one for each image that is prepared"));
        let outcomes: Vec<_> = prepared.into_iter().map(outcome).collect();
        let predictions = files.iter().zip(outcomes);
        Ok(predictions.map(|(image, outcome)| Prediction { image: image.clone(), outcome }).collect())
    }

    /// The `top` most probable classes of each of `images` images, most probable first; of equals, the first.
    fn guesses(&self, pixels: Vec<u8>, images: usize, top: usize) -> Result<Vec<Vec<Guess>>, TensorReadError> {
        let Self { restored: Restored { model, about, input, .. }, normalizer, device } = self;
        let raw = Raw::new(pixels.into(), images, &about.input, input, device);
        let probabilities = softmax(model.logits(normalizer.apply(raw)), 1).try_into_data()?;
        let probabilities: Vec<f32> = probabilities.iter::<f32>().collect();
        let name = |label: usize| about.classes.get(label).cloned().unwrap_or_else(|| label.to_string());
        let ranked = |row: &[f32]| {
            let mut labels: Vec<usize> = (0..row.len()).collect();
            labels.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            labels.truncate(top);
            labels.into_iter().map(|label| Guess { label, class: name(label), probability: row[label] }).collect()
        };
        Ok(probabilities.chunks_exact(model.outputs()).map(ranked).collect())
    }
}
