//! A trained model on disk: a folder with all that it takes to predict, or to train on as if nothing had happened.
//!
//! | file | holds |
//! |---|---|
//! | `model.safetensors` | the parameters, as `safetensors.torch.load_file` gives them to a PyTorch module of these layers |
//! | `model.toml` | the model file, as it was given to `trainer fit` |
//! | `optimizer.safetensors` | what the optimizer remembers of each parameter, under `1.weight.` and more |
//! | `checkpoint.json` | [`About`]: stream, position, classes, input, transforms, optimizer, metrics |
//!
//! A run has several of them ([`shelf`]).

pub mod best;
mod lock;
pub mod shelf;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use batchmill_protocol::identity::Identity;
use batchmill_protocol::position::Position;
use batchmill_protocol::tensor::FieldSpec;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use self::best::{Best, Criterion};
use crate::config::{ConfigError, ModelSpec};
use crate::fields::Input;
use crate::learn::{Learner, Standing};
use crate::metrics::{LossSum, Score};
use crate::model::{ModelError, Sequential};
use crate::optimizer::{OptimizerError, OptimizerSpec};
use crate::prepare::View;
use crate::registry::Registry;
use crate::state::{self, StateError};

/// The version of the folder's contents.
pub const FORMAT: u32 = 5;

/// Burn's version, which it does not tell itself.
const BURN: &str = "0.22.1";

const PARAMETERS: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const MODEL: &str = "model.toml";
const ABOUT: &str = "checkpoint.json";

/// What a checkpoint says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// [`FORMAT`] of the trainer that wrote it.
    pub format: u32,
    /// The stream it was trained on.
    pub stream: String,
    /// The hash of that stream's spec and data.
    pub spec_hash: String,
    /// What those follow from: a training goes on only where it is still the same, or on request.
    pub identity: Identity,
    /// The seed of that stream's order and augmentation.
    pub stream_seed: u64,
    /// The seed of the initial parameters and of dropout.
    pub seed: u64,
    /// The first batch that it was not trained on. At the step after the last one of an epoch that epoch's test is still
    /// to be done.
    pub position: Position,
    /// Batches of an epoch.
    pub epoch_steps: u64,
    /// Class names in label order; empty when the dataset has none.
    pub classes: Vec<String>,
    /// What it computes from.
    pub input: FieldSpec,
    /// What it was taught to answer.
    pub target: FieldSpec,
    /// What the stream did to each sample, first to last.
    pub transforms: Vec<serde_json::Value>,
    /// How images came to be in the stream of `--eval`, or in the one it was trained on where there was none: what a
    /// prediction does to other images.
    pub view: View,
    /// What it learned with.
    pub optimizer: OptimizerSpec,
    /// How well it did.
    pub metrics: Metrics,
    /// What the checkpoints of its run are compared by.
    pub criterion: Criterion,
    /// The best of its run so far, which may be itself.
    pub best: Option<Best>,
    /// How early stopping stands.
    pub early_stopping: Standing,
    /// What wrote it.
    pub versions: Versions,
}

/// How well a model did in the epoch before its checkpoint, or in that under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// The losses of all samples trained on, exact to the bit.
    pub train: LossSum,
    /// On the stream of `--eval`, if there was one.
    pub test: Option<Score>,
}

impl Metrics {
    /// The mean loss of a sample while training; none when not one could be read.
    pub fn train_loss(&self) -> Option<f64> {
        self.train.mean()
    }
}

/// The programs whose arithmetic a checkpoint's numbers are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// This crate.
    pub trainer: String,
    /// Burn.
    pub burn: String,
}

impl Versions {
    /// Those of this program.
    pub fn current() -> Self {
        Self { trainer: env!("CARGO_PKG_VERSION").to_owned(), burn: BURN.to_owned() }
    }
}

/// Why a checkpoint cannot be written or read.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// There is something else in its place.
    #[error("write to {}: it exists and is not the folder of a run: choose another --out", run.display())]
    Occupied {
        /// Where.
        run: PathBuf,
    },
    /// A training of which something is there.
    #[error("write to {}: it holds a training already: go on with --resume, or choose another --out", run.display())]
    Taken {
        /// Where.
        run: PathBuf,
    },
    /// Each would remove the other's.
    #[error("another trainer writes to {}: name another folder with --out", run.display())]
    Busy {
        /// Where.
        run: PathBuf,
    },
    /// It is not even a folder.
    #[error("read the checkpoint {}: it is a file: name a folder that `trainer fit --out` wrote", path.display())]
    File {
        /// Where.
        path: PathBuf,
    },
    /// There is none.
    #[error("read the checkpoint {}: it has no {file}: name a folder that `trainer fit --out` wrote", dir.display())]
    Missing {
        /// Where.
        dir: PathBuf,
        /// The first file that is not there.
        file: &'static str,
    },
    /// The system does not let us.
    #[error("{doing} {}", path.display())]
    Io {
        /// `write`, `read`, `make`, `link`, `remove`, `lock`.
        doing: &'static str,
        /// What.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of it does not hold what it should.
    #[error("read {}: it is damaged, or was changed by hand: train again, or take another checkpoint", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It is of another trainer.
    #[error("read {}: it has format {found}, this trainer reads {FORMAT}: use the trainer that wrote it", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The parameters cannot be taken from the device.
    #[error("collect the model's parameters")]
    Collect(#[source] StateError),
    /// What the optimizer remembers cannot become a file.
    #[error("collect what the optimizer remembers")]
    Remember(#[source] OptimizerError),
    /// Its model file is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its model does not fit its own input.
    #[error("rebuild the model of the checkpoint")]
    Model(#[from] ModelError),
}

/// A model that was read back.
#[derive(Debug)]
pub struct Restored {
    /// The model, on the device asked for.
    pub model: Sequential,
    /// Its file's place.
    pub model_file: PathBuf,
    /// What that file says.
    pub spec: ModelSpec,
    /// What samples are to it.
    pub input: Input,
    /// The rest.
    pub about: About,
}

/// What a learner remembered, to be given to one that has not begun.
#[derive(Debug)]
pub struct Memory {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Memory {
    /// Has `learner` remember it, which learned `model`, on the device it computes on.
    ///
    /// # Errors
    /// [`CheckpointError::Damaged`] when it is that of another model, or learned in another way.
    pub fn restore(&self, learner: &mut Learner, model: &Sequential, device: &Device) -> Result<(), CheckpointError> {
        learner.restore(&self.bytes, model, device).map_err(|error| damaged(&self.path)(error.into()))
    }
}

/// Writes a model, whose file read `model_text`, and what its learner remembers into an empty folder.
///
/// # Errors
/// When a file cannot be written.
pub fn write(
    dir: &Path,
    model: &Sequential,
    learner: &Learner,
    model_text: &str,
    about: &About,
) -> Result<(), CheckpointError> {
    write_file(&dir.join(PARAMETERS), &state::to_bytes(model).map_err(CheckpointError::Collect)?)?;
    write_file(&dir.join(OPTIMIZER), &learner.to_bytes(model).map_err(CheckpointError::Remember)?)?;
    write_file(&dir.join(MODEL), model_text.as_bytes())?;
    let about = serde_json::to_vec_pretty(about).expect("numbers and strings have a JSON form");
    write_file(&dir.join(ABOUT), &about)
}

/// Whether there is a checkpoint in `dir`, whole or damaged.
pub fn is_checkpoint(dir: &Path) -> bool {
    dir.join(ABOUT).is_file()
}

/// The checkpoint that is meant by `path`: the path itself, or that of a run's folder, the best one where it is known,
/// else the latest.
pub fn locate(path: &Path) -> PathBuf {
    if is_checkpoint(path) {
        return path.to_path_buf();
    }
    let linked = ["best", "latest"].map(|link| path.join(link)).into_iter().find(|link| is_checkpoint(link));
    // Followed once, so that a link that is moved meanwhile does not mix two checkpoints.
    linked.map_or_else(|| path.to_path_buf(), |link| fs::canonicalize(&link).unwrap_or(link))
}

/// Reads a checkpoint back, to be trained on on `device`, with what its learner remembered.
///
/// # Errors
/// As [`load`].
pub fn load_training(dir: &Path, registry: &Registry, device: &Device) -> Result<(Restored, Memory), CheckpointError> {
    let restored = load(dir, registry, &device.clone().autodiff())?;
    let path = dir.join(OPTIMIZER);
    if !path.is_file() {
        return Err(CheckpointError::Missing { dir: dir.to_path_buf(), file: OPTIMIZER });
    }
    let bytes = fs::read(&path).map_err(io_error("read", &path))?;
    Ok((restored, Memory { path, bytes }))
}

/// Reads a checkpoint back, whose model's layers may be any of `registry`.
///
/// # Errors
/// [`CheckpointError::File`] and [`CheckpointError::Missing`] when there is no folder or a file of it is not there;
/// [`CheckpointError::Damaged`], [`CheckpointError::Format`] and those of the model file when one cannot be used.
pub fn load(dir: &Path, registry: &Registry, device: &Device) -> Result<Restored, CheckpointError> {
    if dir.is_file() {
        return Err(CheckpointError::File { path: dir.to_path_buf() });
    }
    for file in [ABOUT, MODEL, PARAMETERS] {
        if !dir.join(file).is_file() {
            return Err(CheckpointError::Missing { dir: dir.to_path_buf(), file });
        }
    }
    let about = read_about(&dir.join(ABOUT))?;
    let model_file = dir.join(MODEL);
    let (spec, _) = ModelSpec::read(&model_file, registry)?;
    let input = Input::of(&about.input, &about.transforms)
        .map_err(|problem| damaged(&dir.join(ABOUT))(format!("`input` is {problem}").into()))?;
    let mut model = Sequential::build(&spec, input.clone(), device)?;
    let path = dir.join(PARAMETERS);
    let bytes = fs::read(&path).map_err(io_error("read", &path))?;
    state::from_bytes(&mut model, &bytes).map_err(|error| damaged(&path)(error.into()))?;
    Ok(Restored { model, model_file, spec, input, about })
}

fn read_about(path: &Path) -> Result<About, CheckpointError> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let text = fs::read(path).map_err(io_error("read", path))?;
    let Format { format } = serde_json::from_slice(&text).map_err(|error| damaged(path)(error.into()))?;
    if format != FORMAT {
        return Err(CheckpointError::Format { path: path.to_path_buf(), found: format });
    }
    serde_json::from_slice(&text).map_err(|error| damaged(path)(error.into()))
}

/// Writes a file so that it outlives the system.
fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(io_error("write", path))
}

/// Lets what was made or renamed in a folder outlive the system.
fn sync(dir: &Path) -> Result<(), CheckpointError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error("write", dir))
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
    move |source| CheckpointError::Io { doing, path: path.to_path_buf(), source }
}

fn damaged(path: &Path) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> CheckpointError {
    move |source| CheckpointError::Damaged { path: path.to_path_buf(), source }
}

#[cfg(test)]
mod tests {
    use batchmill_protocol::tensor::{Dtype, Shape};
    use burn::module::Module;
    use burn::tensor::Tensor;
    use expect_test::expect;

    use super::*;
    use crate::learn::{Batches, LearnSpec};
    use crate::shape::ImageShape;

    const TEXT: &str = "[[layer]]\nkind = 'conv2d'\nout_channels = 2\nkernel_size = 3\n[[layer]]\nkind = 'flatten'\n\
        [[layer]]\nkind = 'linear'\nout_features = 3\n";
    const INPUT: ImageShape = ImageShape { height: 4, width: 5, channels: 1 };

    fn about(epoch: u64) -> About {
        About {
            format: FORMAT,
            stream: "train".to_owned(),
            spec_hash: "abc".to_owned(),
            identity: [("batch_size".to_owned(), "64".to_owned())].into_iter().collect(),
            stream_seed: 1,
            seed: 2,
            position: Position { epoch, step: 0 },
            epoch_steps: 10,
            classes: vec!["cat".to_owned(), "dog".to_owned(), "fish".to_owned()],
            input: FieldSpec::new("image", Dtype::U8, [4, 5, 1]),
            target: FieldSpec::new("label", Dtype::I64, Shape::default()),
            transforms: vec![serde_json::json!({"kind": "resize", "size": [4, 5]})],
            view: View::default(),
            optimizer: OptimizerSpec::default(),
            // No decimal number, and nothing that text with fewer digits would bring back.
            metrics: Metrics {
                train: LossSum { sum: 0.1 + 0.2, rows: 9 },
                test: Some(Score { accuracy: Some(0.75), loss: 1.0 / 3.0, mae: None, rmse: None }),
            },
            criterion: Criterion::TestAccuracy,
            best: Some(Best { value: 0.75, position: Position { epoch, step: 0 } }),
            early_stopping: Standing { best: Some(1.0 / 3.0), epochs_since: 2 },
            versions: Versions::current(),
        }
    }

    fn model(device: &Device) -> Sequential {
        let spec = ModelSpec::parse(TEXT).expect("a model");
        Sequential::build(&spec, INPUT, device).expect("it fits")
    }

    fn unused() -> Learner {
        let batches = Batches { per_epoch: 9, epochs: 2 };
        Learner::new(&LearnSpec::default(), 3, batches, &Device::flex()).expect("it fits")
    }

    fn logits(model: &Sequential, device: &Device) -> Vec<f32> {
        let images = Tensor::<1>::from_data((0..40_u8).map(f32::from).collect::<Vec<_>>().as_slice(), device);
        model.logits(images.reshape([2, 1, 4, 5])).into_data().iter::<f32>().collect()
    }

    /// Writes a model into a new folder in `folder`.
    fn saved(folder: &Path, model: &Sequential, about: &About) -> PathBuf {
        let dir = folder.join(format!("checkpoint-{}", fs::read_dir(folder).expect("a folder").count()));
        fs::create_dir(&dir).expect("it can be made");
        write(&dir, model, &unused(), TEXT, about).expect("it can be written");
        dir
    }

    #[test]
    fn what_was_saved_gives_the_same_logits() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let device = Device::flex();
        // On the training device, as `fit` saves it.
        let model = model(&device.clone().autodiff());
        let dir = saved(folder.path(), &model, &about(1));
        let restored = load(&dir, &Registry::builtin(), &device).expect("it was written");
        assert_eq!(logits(&restored.model, &device), logits(&model.valid(), &device));
        assert_eq!((restored.about, restored.input), (about(1), INPUT.into()));
    }

    #[test]
    fn parameters_are_saved_under_their_names_and_always_alike() {
        let model = model(&Device::flex());
        let names: Vec<_> = model.parameters().into_iter().map(|parameter| parameter.name).collect();
        let bytes = state::to_bytes(&model).expect("the CPU does not fail");
        assert_eq!(bytes, state::to_bytes(&model).expect("the CPU does not fail"));
        let header = String::from_utf8_lossy(&bytes[8..]);
        for name in &names {
            assert!(header.contains(&format!("\"{name}\"")), "{name} is not in {header}");
        }
    }

    /// What is said when a checkpoint is loaded that was spoilt, with its causes.
    fn refused(dir: &Path) -> String {
        let device = Device::flex();
        let read = |(restored, memory): (Restored, Memory)| memory.restore(&mut unused(), &restored.model, &device);
        let error = load_training(dir, &Registry::builtin(), &device).and_then(read).expect_err("it is wrong");
        crate::paragraph(&error).replace(&dir.display().to_string(), "DIR")
    }

    #[test]
    fn a_run_means_its_best_checkpoint_or_its_latest() {
        let run = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| run.path().join(name);
        assert_eq!(locate(run.path()), run.path(), "there is none, which `load` will say");
        for name in ["checkpoints/0000-000100", "checkpoints/0001-000000"] {
            fs::create_dir_all(path(name)).expect("it can be made");
            fs::write(path(name).join(ABOUT), "").expect("it can be written");
        }
        let link = |name: &str, to: &str| std::os::unix::fs::symlink(to, path(name)).expect("it can be made");
        let found = || locate(run.path()).file_name().expect("a folder's").to_owned();
        link("latest", "checkpoints/0001-000000");
        assert_eq!(found(), "0001-000000");
        link("best", "checkpoints/0000-000100");
        assert_eq!(found(), "0000-000100");
        fs::remove_dir_all(path("checkpoints/0000-000100")).expect("it is there");
        assert_eq!(found(), "0001-000000", "a link to nothing is none");
        assert_eq!(locate(&path("checkpoints/0001-000000")), path("checkpoints/0001-000000"));
    }

    #[test]
    fn a_checkpoint_of_another_trainer_is_refused_by_its_format() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let dir = saved(folder.path(), &model(&Device::flex()), &about(1));
        // Format 3 knew neither runs nor exact sums.
        let mut older = serde_json::to_value(about(1)).expect("it has a JSON form");
        older["format"] = 3.into();
        older["metrics"] = serde_json::json!({"train_loss": 0.5, "samples": 9, "test": null});
        fs::write(dir.join(ABOUT), older.to_string()).expect("it can be written");
        expect!["read DIR/checkpoint.json: it has format 3, this trainer reads 5: use the trainer that wrote it"]
            .assert_eq(&refused(&dir));
        let dir = saved(folder.path(), &model(&Device::flex()), &About { format: 9, ..about(1) });
        expect!["read DIR/checkpoint.json: it has format 9, this trainer reads 5: use the trainer that wrote it"]
            .assert_eq(&refused(&dir));
    }

    #[test]
    fn an_incomplete_or_damaged_checkpoint_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let model = model(&Device::flex());
        for file in [PARAMETERS, OPTIMIZER, MODEL, ABOUT] {
            let dir = saved(folder.path(), &model, &about(1));
            let path = dir.join(file);
            let bytes = fs::read(&path).expect("it was written");
            // A model file that is cut short may be one of another model.
            if file != MODEL {
                for length in [0, 4, bytes.len() / 2, bytes.len() - 1] {
                    fs::write(&path, &bytes[..length]).expect("it can be written");
                    let refused = refused(&dir);
                    let start = format!("read DIR/{file}: it is damaged, or was changed by hand: train again, or take");
                    assert!(refused.starts_with(&start) && !refused.contains('\n'), "{length}: {refused}");
                }
            }
            fs::remove_file(&path).expect("it is there");
            let expected = format!("read the checkpoint DIR: it has no {file}: name a folder that");
            assert!(refused(&dir).starts_with(&expected), "{}", refused(&dir));
        }
    }

    #[test]
    fn what_is_no_checkpoint_of_this_model_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let device = Device::flex();
        let dir = saved(folder.path(), &model(&device), &about(1));
        let spec = ModelSpec::parse(&TEXT.replace("out_features = 3", "out_features = 4")).expect("a model");
        let other = Sequential::build(&spec, INPUT, &device).expect("it fits");
        fs::write(dir.join(PARAMETERS), state::to_bytes(&other).expect("the CPU does not fail"))
            .expect("it can be written");
        expect!["read DIR/model.safetensors: it is damaged, or was changed by hand: train again, or take another checkpoint: the weights are those of another model: `2.weight` is [4, 12] instead of [3, 12], `2.bias` is [4] instead of [3]"].assert_eq(&refused(&dir));
        let spec = ModelSpec::parse(&TEXT.replace("kind = 'flatten'", "kind = 'relu'\n[[layer]]\nkind = 'flatten'"));
        let other = Sequential::build(&spec.expect("a model"), INPUT, &device).expect("it fits");
        fs::write(dir.join(PARAMETERS), state::to_bytes(&other).expect("the CPU does not fail"))
            .expect("it can be written");
        expect!["read DIR/model.safetensors: it is damaged, or was changed by hand: train again, or take another checkpoint: the weights are those of another model: missing `2.weight`, `2.bias`; unexpected `3.bias`, `3.weight`"].assert_eq(&refused(&dir));
        // What `torch.save` writes is a zip archive.
        let file = folder.path().join("model.pth");
        fs::write(&file, b"PK\x03\x04").expect("it can be written");
        fs::copy(&file, dir.join(PARAMETERS)).expect("it can be written");
        expect!["read DIR/model.safetensors: it is damaged, or was changed by hand: train again, or take another checkpoint: header too small"].assert_eq(&refused(&dir));
        expect!["read the checkpoint DIR: it is a file: name a folder that `trainer fit --out` wrote"]
            .assert_eq(&refused(&file));
    }

    #[test]
    fn burn_is_of_the_version_that_a_checkpoint_names() {
        let manifest = include_str!("../../Cargo.toml");
        assert!(manifest.contains(&format!("burn = {{ version = \"={BURN}\"")), "BURN is another version");
    }
}
