//! A trained model on disk: a folder that is replaced whole, so that a kill leaves the old one or the new one.
//!
//! | file | holds |
//! |---|---|
//! | `model.safetensors` | the parameters, under the names `trainer summary` prints; a linear layer's weight is `[inputs, outputs]` |
//! | `model.toml` | the model file, as it was given to `trainer fit` |
//! | `optimizer.safetensors` | what the optimizer remembers of each parameter, under `layers.1.weight.` and more |
//! | `checkpoint.json` | [`About`]: stream, position, classes, input, transforms, optimizer, metrics |

mod lock;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use batchmill_protocol::identity::Identity;
use batchmill_protocol::position::Position;
use batchmill_protocol::tensor::FieldSpec;
use burn::module::Module;
use burn::tensor::Device;
use burn_store::{ModuleSnapshot, SafetensorsStore, SafetensorsStoreError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use self::lock::Lock;
use crate::config::{ConfigError, ModelSpec};
use crate::fields::Input;
use crate::metrics::Score;
use crate::model::{ModelError, Sequential};
use crate::optimizer::{Optimizer, OptimizerError, OptimizerKind};

/// The version of the folder's contents.
pub const FORMAT: u32 = 3;

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
    /// The first batch that it was not trained on.
    pub position: Position,
    /// Class names in label order; empty when the dataset has none.
    pub classes: Vec<String>,
    /// What it computes from.
    pub input: FieldSpec,
    /// What it was taught to answer.
    pub target: FieldSpec,
    /// What the stream did to each sample, first to last.
    pub transforms: Vec<serde_json::Value>,
    /// What it learned with.
    pub optimizer: OptimizerKind,
    /// The learning rate.
    pub lr: f64,
    /// How well it did.
    pub metrics: Metrics,
}

/// How well a model did in the epoch before its checkpoint, or in that under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// The mean loss of a sample while training; none when not one could be read so far.
    pub train_loss: Option<f64>,
    /// Samples trained on.
    pub samples: u64,
    /// On the stream of `--eval`, if there was one.
    pub test: Option<Score>,
}

/// Why a checkpoint cannot be written or read.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// There is something else in its place.
    #[error("write a checkpoint to {}: it exists and is no checkpoint: choose another --out", dir.display())]
    Occupied {
        /// Where.
        dir: PathBuf,
    },
    /// Each would replace the other's.
    #[error("another trainer writes to {}: name another folder with --out", dir.display())]
    Busy {
        /// Where.
        dir: PathBuf,
    },
    /// It cannot be exchanged with a new folder: it is a mount point, or somebody else's.
    #[error("make {} a checkpoint: name another folder with --out", dir.display())]
    Fixed {
        /// Where.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
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
        /// `write`, `read`, `replace`, `remove`, `lock`.
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
    Collect(#[source] SafetensorsStoreError),
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

/// A folder that may become a checkpoint, and by no other trainer's hand.
#[derive(Debug)]
pub struct Target {
    dir: PathBuf,
    _lock: Lock,
}

impl Target {
    /// Makes sure, before any training, that a checkpoint can be written to `dir`. What is there stays.
    ///
    /// # Errors
    /// [`CheckpointError::Occupied`] when something else is there, [`CheckpointError::Busy`] when another target has it,
    /// [`CheckpointError::Fixed`] and [`CheckpointError::Io`] when the system does not let us.
    pub fn prepare(dir: &Path) -> Result<Self, CheckpointError> {
        let occupied = || CheckpointError::Occupied { dir: dir.to_path_buf() };
        if dir.file_name().is_none() || dir.is_file() {
            return Err(occupied());
        }
        let parent = parent(dir);
        fs::create_dir_all(parent).map_err(io_error("write", parent))?;
        let path = beside(dir, "lock");
        let lock = Lock::take(&path).map_err(io_error("lock", &path))?;
        let Some(lock) = lock else { return Err(CheckpointError::Busy { dir: dir.to_path_buf() }) };
        if dir.is_dir() {
            let mut entries = fs::read_dir(dir).map_err(io_error("read", dir))?;
            if entries.next().is_some() && !is_checkpoint(dir) {
                return Err(occupied());
            }
        }
        let target = Self { dir: dir.to_path_buf(), _lock: lock };
        target.rehearse()?;
        Ok(target)
    }

    /// Does what [`save`](Self::save) will do and undoes it, so that a folder that cannot be replaced, such as a mount
    /// point, is found before hours of training.
    fn rehearse(&self) -> Result<(), CheckpointError> {
        let partial = self.begin()?;
        // A kill between doing and undoing leaves these in place, and so a whole checkpoint.
        for file in [PARAMETERS, OPTIMIZER, MODEL, ABOUT] {
            let (from, to) = (self.dir.join(file), partial.join(file));
            if from.is_file() {
                let linked = fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop));
                linked.map_err(io_error("write", &to))?;
            }
        }
        let replaces = self.dir.exists();
        put_in_place(&partial, &self.dir).map_err(|source| CheckpointError::Fixed { dir: self.dir.clone(), source })?;
        let undone = if replaces { put_in_place(&partial, &self.dir) } else { fs::rename(&self.dir, &partial) };
        undone.map_err(io_error("replace", &self.dir))?;
        remove_dir(&partial)
    }

    /// Where the checkpoint is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Replaces the checkpoint by this model, whose file read `model_text`, and what its optimizer remembers.
    ///
    /// # Errors
    /// When a file cannot be written; the old checkpoint is then still there.
    pub fn save(
        &self,
        model: &Sequential,
        optimizer: &Optimizer,
        model_text: &str,
        about: &About,
    ) -> Result<(), CheckpointError> {
        let partial = self.begin()?;
        write(&partial.join(PARAMETERS), &parameters(model)?)?;
        write(&partial.join(OPTIMIZER), &optimizer.to_bytes(model).map_err(CheckpointError::Remember)?)?;
        write(&partial.join(MODEL), model_text.as_bytes())?;
        let about = serde_json::to_vec_pretty(about).expect("numbers and strings have a JSON form");
        write(&partial.join(ABOUT), &about)?;
        File::open(&partial).and_then(|dir| dir.sync_all()).map_err(io_error("write", &partial))?;
        put_in_place(&partial, &self.dir).map_err(io_error("replace", &self.dir))?;
        let parent = parent(&self.dir);
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(io_error("write", parent))?;
        remove_dir(&partial)
    }

    /// Makes an empty folder for the files until all of them are written; hidden, beside the checkpoint, on the same
    /// file system.
    fn begin(&self) -> Result<PathBuf, CheckpointError> {
        let partial = beside(&self.dir, "partial");
        remove_dir(&partial)?;
        fs::create_dir(&partial).map_err(io_error("write", &partial))?;
        Ok(partial)
    }
}

/// The hidden path `.NAME.suffix` beside `dir`.
fn beside(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(dir.file_name().unwrap_or_default());
    name.push(".");
    name.push(suffix);
    dir.with_file_name(name)
}

/// The folder that `dir` is in.
fn parent(dir: &Path) -> &Path {
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Whether there is a checkpoint in `dir`, whole or damaged.
pub fn is_checkpoint(dir: &Path) -> bool {
    dir.join(ABOUT).is_file()
}

/// Reads a checkpoint back, to be trained on on `device`, with what its optimizer remembers.
///
/// # Errors
/// As [`load`].
pub fn load_training(dir: &Path, device: &Device) -> Result<(Restored, Optimizer), CheckpointError> {
    let restored = load(dir, &device.clone().autodiff())?;
    let path = dir.join(OPTIMIZER);
    if !path.is_file() {
        return Err(CheckpointError::Missing { dir: dir.to_path_buf(), file: OPTIMIZER });
    }
    let bytes = fs::read(&path).map_err(io_error("read", &path))?;
    let mut optimizer = restored.about.optimizer.init();
    optimizer.restore(&bytes, &restored.model, device).map_err(|error| damaged(&path)(error.into()))?;
    Ok((restored, optimizer))
}

/// Reads a checkpoint back.
///
/// # Errors
/// [`CheckpointError::Missing`] when a file is not there; [`CheckpointError::Damaged`], [`CheckpointError::Format`] and
/// those of the model file when one cannot be used.
pub fn load(dir: &Path, device: &Device) -> Result<Restored, CheckpointError> {
    for file in [ABOUT, MODEL, PARAMETERS] {
        if !dir.join(file).is_file() {
            return Err(CheckpointError::Missing { dir: dir.to_path_buf(), file });
        }
    }
    let about = read_about(&dir.join(ABOUT))?;
    let model_file = dir.join(MODEL);
    let (spec, _) = ModelSpec::read(&model_file)?;
    let input = Input::of(&about.input, &about.transforms)
        .map_err(|problem| damaged(&dir.join(ABOUT))(format!("`input` is {problem}").into()))?;
    let mut model = Sequential::build(&spec, input.clone(), device)?;
    let path = dir.join(PARAMETERS);
    let bytes = fs::read(&path).map_err(io_error("read", &path))?;
    let mut store = SafetensorsStore::from_bytes(Some(bytes)).skip_enum_variants(true);
    model.load_from(&mut store).map_err(|error| damaged(&path)(error.into()))?;
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

fn parameters(model: &Sequential) -> Result<Vec<u8>, CheckpointError> {
    // Burn's own metadata come in an order that changes from run to run; equal models are to be equal files.
    let store = SafetensorsStore::from_bytes(None).skip_enum_variants(true);
    let mut store = store.clear_metadata().metadata("format", "safetensors");
    model.valid().save_into(&mut store).map_err(CheckpointError::Collect)?;
    store.get_bytes().map_err(CheckpointError::Collect)
}

/// Makes `new` be `dir` in one step. What was `dir`, if anything, is `new` afterwards.
fn put_in_place(new: &Path, dir: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};

    if !dir.exists() {
        return fs::rename(new, dir);
    }
    match renameat_with(CWD, new, CWD, dir, RenameFlags::EXCHANGE) {
        // Some file systems, such as NFS, cannot exchange.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => exchange_in_steps(new, dir),
        exchanged => Ok(exchanged?),
    }
}

/// Exchanges two folders by way of `.NAME.old`: there is a moment without a checkpoint, and a kill in it leaves the old
/// one under that name.
fn exchange_in_steps(new: &Path, dir: &Path) -> io::Result<()> {
    let old = beside(dir, "old");
    // Of an earlier kill: what is in place now was saved later.
    match fs::remove_dir_all(&old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(dir, &old)?;
    fs::rename(new, dir)?;
    fs::rename(&old, new)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(io_error("write", path))
}

fn remove_dir(dir: &Path) -> Result<(), CheckpointError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", dir)(error)),
        _ => Ok(()),
    }
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
    use burn::tensor::Tensor;
    use expect_test::expect;

    use super::*;
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
            classes: vec!["cat".to_owned(), "dog".to_owned(), "fish".to_owned()],
            input: FieldSpec::new("image", Dtype::U8, [4, 5, 1]),
            target: FieldSpec::new("label", Dtype::I64, Shape::default()),
            transforms: vec![serde_json::json!({"kind": "resize", "size": [4, 5]})],
            optimizer: OptimizerKind::Adam,
            lr: 1e-3,
            metrics: Metrics { train_loss: Some(0.5), samples: 9, test: Some(Score { accuracy: 0.75, loss: 0.25 }) },
        }
    }

    fn model(device: &Device) -> Sequential {
        let spec = ModelSpec::parse(TEXT).expect("a model");
        Sequential::build(&spec, INPUT, device).expect("it fits")
    }

    fn unused() -> Optimizer {
        OptimizerKind::Adam.init()
    }

    fn logits(model: &Sequential, device: &Device) -> Vec<f32> {
        let images = Tensor::<1>::from_data((0..40_u8).map(f32::from).collect::<Vec<_>>().as_slice(), device);
        model.logits(images.reshape([2, 1, 4, 5])).into_data().iter::<f32>().collect()
    }

    #[test]
    fn what_was_saved_gives_the_same_logits() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (dir, device) = (folder.path().join("new/checkpoint"), Device::flex());
        let target = Target::prepare(&dir).expect("nothing is there");
        // On the training device, as `fit` saves it.
        let first = model(&device.clone().autodiff());
        target.save(&first, &unused(), TEXT, &about(1)).expect("it can be written");
        let restored = load(&dir, &device).expect("it was written");
        assert_eq!(logits(&restored.model, &device), logits(&first.valid(), &device));
        assert_eq!((restored.about, restored.input), (about(1), INPUT.into()));

        drop(target);
        let second = model(&device);
        Target::prepare(&dir)
            .expect("a checkpoint may be replaced")
            .save(&second, &unused(), TEXT, &about(2))
            .expect("written");
        let restored = load(&dir, &device).expect("it was written");
        assert_eq!(logits(&restored.model, &device), logits(&second, &device));
        assert_eq!(restored.about, about(2));
        let names: Vec<_> = fs::read_dir(dir.parent().expect("it has one")).expect("a folder").collect();
        assert_eq!(names.len(), 1, "something was left beside the checkpoint: {names:?}");
    }

    #[test]
    fn parameters_are_saved_under_their_names_and_always_alike() {
        let model = model(&Device::flex());
        let names: Vec<_> = model.parameters().into_iter().map(|parameter| parameter.name).collect();
        let bytes = parameters(&model).expect("the CPU does not fail");
        assert_eq!(bytes, parameters(&model).expect("the CPU does not fail"));
        let header = String::from_utf8_lossy(&bytes[8..]);
        for name in &names {
            assert!(header.contains(&format!("\"{name}\"")), "{name} is not in {header}");
        }
    }

    #[test]
    fn a_folder_of_something_else_is_not_replaced() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("thesis.tex"), "").expect("it can be written");
        let error = Target::prepare(folder.path()).expect_err("it is not empty").to_string();
        assert!(error.ends_with("it exists and is no checkpoint: choose another --out"), "{error}");
        assert!(Target::prepare(&folder.path().join("thesis.tex")).is_err());
        assert!(Target::prepare(&folder.path().join("thesis.tex/inside")).is_err());
    }

    /// Names in `folder`, sorted.
    fn names(folder: &Path) -> Vec<OsString> {
        let entries = fs::read_dir(folder).expect("a folder");
        let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_has_one_trainer_at_a_time() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let dir = folder.path().join("checkpoint");
        let first = Target::prepare(&dir).expect("nobody writes there");
        let error = Target::prepare(&dir).expect_err("the first is still there").to_string();
        expect!["another trainer writes to DIR: name another folder with --out"]
            .assert_eq(&error.replace(&dir.display().to_string(), "DIR"));
        Target::prepare(&folder.path().join("other")).expect("another folder is free");
        drop(first);
        assert_eq!(names(folder.path()), [""; 0], "something was left");
        // A trainer that was killed leaves its file, but no lock.
        fs::write(folder.path().join(".checkpoint.lock"), "").expect("it can be written");
        Target::prepare(&dir).expect("nobody holds the lock");
    }

    #[test]
    fn preparing_leaves_what_is_there() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let dir = folder.path().join("checkpoint");
        fs::create_dir(&dir).expect("it can be made");
        Target::prepare(&dir).expect("an empty folder will do");
        for file in [ABOUT, "notes.txt"] {
            fs::write(dir.join(file), file).expect("it can be written");
        }
        let before = fs::metadata(&dir).expect("a folder").modified().expect("a time");
        Target::prepare(&dir).expect("a checkpoint may be replaced");
        assert_eq!(names(&dir), [ABOUT, "notes.txt"]);
        assert_eq!(fs::metadata(&dir).expect("a folder").modified().expect("a time"), before);
        assert_eq!(names(folder.path()), ["checkpoint"]);
    }

    #[test]
    fn a_place_that_cannot_be_replaced_is_refused_before_training() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let dir = folder.path().join("checkpoint");
        std::os::unix::fs::symlink("nowhere", &dir).expect("it can be made");
        let error = Target::prepare(&dir).expect_err("a folder cannot take a link's place").to_string();
        expect!["make DIR a checkpoint: name another folder with --out"]
            .assert_eq(&error.replace(&dir.display().to_string(), "DIR"));
    }

    #[test]
    fn folders_are_exchanged_in_steps_whatever_a_kill_left() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        for name in ["checkpoint", ".checkpoint.partial", ".checkpoint.old"] {
            fs::create_dir(path(name)).expect("it can be made");
            fs::write(path(name).join(name), "").expect("it can be written");
        }
        exchange_in_steps(&path(".checkpoint.partial"), &path("checkpoint")).expect("they can be renamed");
        assert_eq!(names(&path("checkpoint")), [".checkpoint.partial"]);
        assert_eq!(names(&path(".checkpoint.partial")), ["checkpoint"]);
        assert_eq!(names(folder.path()), [".checkpoint.partial", "checkpoint"]);
    }

    #[test]
    fn an_older_checkpoint_is_refused_by_its_format() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (dir, model) = (folder.path().join("checkpoint"), model(&Device::flex()));
        let target = Target::prepare(&dir).expect("nothing is there");
        target.save(&model, &unused(), TEXT, &about(1)).expect("it can be written");
        // Format 2 had neither an identity nor an optimizer's memory.
        let mut older = serde_json::to_value(about(1)).expect("it has a JSON form");
        older["format"] = 2.into();
        older.as_object_mut().expect("an object").remove("identity");
        fs::write(dir.join(ABOUT), older.to_string()).expect("it can be written");
        fs::remove_file(dir.join(OPTIMIZER)).expect("it is there");
        let error = load_training(&dir, &Device::flex()).expect_err("it is older").to_string();
        expect!["read DIR/checkpoint.json: it has format 2, this trainer reads 3: use the trainer that wrote it"]
            .assert_eq(&error.replace(&dir.display().to_string(), "DIR"));
    }

    #[test]
    fn an_incomplete_or_damaged_checkpoint_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (dir, device) = (folder.path().join("checkpoint"), Device::flex());
        let message = || {
            let error = load(&dir, &device).expect_err("it is wrong").to_string();
            error.replace(&dir.display().to_string(), "DIR")
        };
        expect!["read the checkpoint DIR: it has no checkpoint.json: name a folder that `trainer fit --out` wrote"]
            .assert_eq(&message());
        let target = Target::prepare(&dir).expect("nothing is there");
        let model = model(&device);
        target.save(&model, &unused(), TEXT, &about(1)).expect("it can be written");
        let path = dir.join(PARAMETERS);
        let bytes = fs::read(&path).expect("it was written");
        fs::write(&path, &bytes[..bytes.len() / 2]).expect("it can be written");
        expect![
            "read DIR/model.safetensors: it is damaged, or was changed by hand: train again, or take another checkpoint"
        ]
        .assert_eq(&message());
        fs::remove_file(&path).expect("it is there");
        expect!["read the checkpoint DIR: it has no model.safetensors: name a folder that `trainer fit --out` wrote"]
            .assert_eq(&message());
        let about = About { format: 9, ..about(1) };
        target.save(&model, &unused(), TEXT, &about).expect("it can be written");
        expect!["read DIR/checkpoint.json: it has format 9, this trainer reads 3: use the trainer that wrote it"]
            .assert_eq(&message());
        fs::write(dir.join(ABOUT), "{\"format\": 3}").expect("it can be written");
        expect![
            "read DIR/checkpoint.json: it is damaged, or was changed by hand: train again, or take another checkpoint"
        ]
        .assert_eq(&message());
    }
}
