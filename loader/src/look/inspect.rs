//! `loader inspect`: every sample of a stream read once, and what was found.

use std::any::Any;
use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use batchmill_datasets::pipeline::Pipeline;
use batchmill_datasets::registry::Registry;
use batchmill_datasets::sample::{Sample, Value};
use batchmill_protocol::tensor::{Dtype, FieldSpec};
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde::Serialize;
use thiserror::Error;

use super::report;
use crate::cli::Inspect;
use crate::error::{self, Failure};
use crate::output;

/// How often a log that is no terminal is told how far it is.
const NOTE_INTERVAL: Duration = Duration::from_secs(10);

/// The list of broken samples could not be written.
#[derive(Debug, Error)]
#[error("write {}", path.display())]
struct WriteError {
    path: PathBuf,
    source: csv::Error,
}

/// What was found, as printed.
#[derive(Debug, Default, Serialize)]
pub(super) struct Inspected {
    pub(super) stream: String,
    /// Samples of the dataset, and of an epoch.
    pub(super) samples: u64,
    pub(super) epoch_samples: u64,
    /// Samples that were read.
    pub(super) inspected: u64,
    pub(super) fields: Vec<String>,
    /// How many samples were found of each class, by label.
    pub(super) classes: Vec<Class>,
    /// The sizes of images as they are stored, most frequent first.
    pub(super) sizes: Vec<Size>,
    pub(super) broken: Vec<Broken>,
    /// Seconds of one core's work for one epoch: reading, decoding, transforms.
    pub(super) epoch_core_s: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Class {
    pub(super) label: i64,
    pub(super) name: String,
    pub(super) samples: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Size {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
    pub(super) samples: u64,
}

/// A sample that cannot be used.
#[derive(Debug, Serialize)]
pub(super) struct Broken {
    pub(super) index: u64,
    pub(super) name: String,
    pub(super) reason: String,
}

/// What one thread has found.
#[derive(Debug, Default)]
struct Found {
    labels: BTreeMap<i64, u64>,
    sizes: BTreeMap<[usize; 3], u64>,
    broken: Vec<Broken>,
    busy: Duration,
}

/// Reads the samples and prints what was found.
pub(crate) fn inspect(arguments: &Inspect, registry: &Registry) -> Result<(), Failure> {
    let (spec, pipeline) = super::open(&arguments.looked, registry)?;
    let samples = pipeline.dataset().len();
    let inspected = arguments.samples.unwrap_or(samples).min(samples);
    let threads = match arguments.threads {
        Some(threads) => threads as usize,
        None => thread::available_parallelism().map_or(1, usize::from),
    };
    // Where no sample can be used, each says why.
    let fields = pipeline.survey(&mut |_, _| ()).ok();
    let mut found = read(&pipeline, fields.as_deref(), inspected, threads);
    found.broken.sort_by_key(|broken| broken.index);
    if let Some(path) = &arguments.broken {
        write(path, &found.broken).map_err(|source| WriteError { path: path.clone(), source })?;
    }

    let epoch_samples = pipeline.extent().samples;
    let mut sizes: Vec<_> = found.sizes.into_iter().collect();
    sizes.sort_by_key(|&(size, samples)| (std::cmp::Reverse(samples), size));
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let epoch_core_s = found.busy.as_secs_f64() / inspected.max(1) as f64 * epoch_samples as f64;
    let result = Inspected {
        stream: spec.name,
        samples,
        epoch_samples,
        inspected,
        fields: fields.unwrap_or_default().iter().map(ToString::to_string).collect(),
        classes: classes(&found.labels, pipeline.dataset().classes()),
        sizes: sizes
            .into_iter()
            .map(|([height, width, channels], samples)| Size { height, width, channels, samples })
            .collect(),
        broken: found.broken,
        epoch_core_s,
    };
    Ok(output::result(arguments.json, &result, &report::text(&result, arguments.broken.as_deref()))?)
}

/// Reads `inspected` samples, evenly spread over the dataset.
fn read(pipeline: &Pipeline, fields: Option<&[FieldSpec]>, inspected: u64, threads: usize) -> Found {
    let samples = pipeline.dataset().len();
    let bar = ProgressBar::with_draw_target(Some(inspected), ProgressDrawTarget::stderr())
        .with_style(output::bar_style("{bar:40} {pos}/{len} samples, {eta} left"));
    let is_drawn = std::io::stderr().is_terminal();
    let (next, noted) = (AtomicU64::new(0), Mutex::new(Instant::now()));
    let all = Mutex::new(Found::default());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut found = Found::default();
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    if place >= inspected {
                        break;
                    }
                    // In 128 bits, in which no product of the two overflows.
                    let index = u128::from(place) * u128::from(samples) / u128::from(inspected);
                    found.take(pipeline, fields, u64::try_from(index).unwrap_or(u64::MAX));
                    bar.inc(1);
                    if !is_drawn
                        && let Ok(mut noted) = noted.try_lock()
                        && noted.elapsed() > NOTE_INTERVAL
                    {
                        *noted = Instant::now();
                        output::log(&format!("{place} of {inspected} samples"));
                    }
                }
                all.lock().unwrap_or_else(PoisonError::into_inner).add(found);
            });
        }
    });
    bar.finish_and_clear();
    all.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Found {
    /// Reads one sample and notes what it is.
    fn take(&mut self, pipeline: &Pipeline, fields: Option<&[FieldSpec]>, index: u64) {
        let start = Instant::now();
        // What panics here would end a worker; the pipeline holds nothing that a panic could leave half done.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.look(pipeline, fields, index)));
        let outcome = outcome.unwrap_or_else(|panic| Err(format!("its reader panicked: {}", message(&*panic))));
        self.busy += start.elapsed();
        if let Err(reason) = outcome {
            self.broken.push(Broken { index, name: pipeline.dataset().name(index), reason });
        }
    }

    fn look(&mut self, pipeline: &Pipeline, fields: Option<&[FieldSpec]>, index: u64) -> Result<(), String> {
        let sample = pipeline.dataset().get(index).map_err(|error| error::report(&error))?;
        if let Some(label) = label(&sample) {
            *self.labels.entry(label).or_default() += 1;
        }
        if let Some((_, Value::Image(image))) = sample.iter().find(|(_, value)| matches!(value, Value::Image(_))) {
            *self.sizes.entry(image.shape()).or_default() += 1;
        }
        let prepared = pipeline.prepare(index, sample).map_err(|error| error::report(&error))?;
        for field in fields.unwrap_or_default() {
            match prepared.get(&field.name) {
                Some(value) if value.fits(field) => {}
                Some(value) => return Err(format!("{}, where others have {field}", value.field(&field.name))),
                None => return Err(format!("no field `{}`, which others have", field.name)),
            }
        }
        Ok(())
    }

    fn add(&mut self, other: Self) {
        other.labels.into_iter().for_each(|(label, samples)| *self.labels.entry(label).or_default() += samples);
        other.sizes.into_iter().for_each(|(size, samples)| *self.sizes.entry(size).or_default() += samples);
        self.broken.extend(other.broken);
        self.busy += other.busy;
    }
}

/// The class of a sample, where it has one.
fn label(sample: &Sample) -> Option<i64> {
    let label = sample.get("label").filter(|label| label.dtype() == Dtype::I64)?;
    // A scalar's eight bytes; a label of several numbers has more.
    Some(i64::from_le_bytes(label.bytes().try_into().ok()?))
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("for no reason given")
}

/// All classes that have a name or a sample, by label.
fn classes(found: &BTreeMap<i64, u64>, names: &[String]) -> Vec<Class> {
    let named = (0..).zip(names).map(|(label, name)| (label, name.clone()));
    let mut classes: BTreeMap<i64, String> = found.keys().map(|label| (*label, label.to_string())).collect();
    classes.extend(named);
    let samples = |label| found.get(&label).copied().unwrap_or(0);
    classes.into_iter().map(|(label, name)| Class { label, name, samples: samples(label) }).collect()
}

fn write(path: &Path, broken: &[Broken]) -> Result<(), csv::Error> {
    let mut file = csv::Writer::from_path(path)?;
    // By hand, so that a list of none has its header too.
    file.write_record(["index", "name", "reason"])?;
    for Broken { index, name, reason } in broken {
        file.write_record([&index.to_string(), name, reason])?;
    }
    Ok(file.flush()?)
}
