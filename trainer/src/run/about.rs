//! `run.json`: everything needed to repeat a training.

use std::env;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use batchmill_protocol::identity::Identity;
use batchmill_protocol::message::{PROTOCOL, StreamDescription};
use batchmill_protocol::position::{Extent, Position};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::clock::rfc3339;
use super::{RunError, io_error};
use crate::checkpoint::Versions;
use crate::whole;

/// The name of the file in a run's folder.
pub const NAME: &str = "run.json";

/// The version of the file.
pub const FORMAT: u32 = 1;

/// The longest value that a difference shows whole, in letters.
const VALUE_LETTERS_MAX: usize = 60;

/// What a run says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// [`FORMAT`] of the trainer that wrote it.
    pub format: u32,
    /// What it trains, and with what: as of the last start.
    pub training: Training,
    /// Each time it was started: once, and once more for each `--resume`.
    pub starts: Vec<Start>,
}

/// What decides about the numbers of a training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// The stream trained on.
    pub train: Stream,
    /// The stream tested on.
    pub test: Option<Stream>,
    /// How it learns: seed, epochs, optimizer, learning rate and more.
    pub settings: Value,
    /// Where it computes, such as `cpu` or `cuda:0`.
    pub device: String,
    /// Threads that the CPU computes with.
    pub threads: usize,
    /// What it was computed by.
    pub versions: Versions,
    /// The version of what loader and trainer say to each other.
    pub protocol: u32,
    /// What the program was compiled for, such as `x86_64-linux-gnu`.
    pub target: String,
    /// The model.
    pub model: Model,
}

/// A model file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Where it was.
    pub path: String,
    /// What it said.
    pub text: String,
}

/// A stream, as its loader described it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// The seed of its order and augmentation.
    pub seed: u64,
    /// Samples, batch size and tail.
    pub extent: Extent,
    /// Batches of an epoch.
    pub steps: u64,
    /// The hash of `identity`.
    pub spec_hash: String,
    /// What its bytes follow from.
    pub identity: Identity,
    /// What is done to each sample, first to last.
    pub transforms: Vec<Value>,
    /// The whole spec: a loader given this serves the stream again.
    pub spec: Value,
}

impl From<&StreamDescription> for Stream {
    fn from(stream: &StreamDescription) -> Self {
        Self {
            name: stream.name.clone(),
            seed: stream.seed,
            extent: stream.extent,
            steps: stream.extent.steps(),
            spec_hash: stream.spec_hash.clone(),
            identity: stream.identity.clone(),
            transforms: stream.transforms.clone(),
            spec: stream.spec.clone(),
        }
    }
}

/// One start of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// The first batch to train on.
    pub from: Position,
    /// The command line, word by word.
    pub command: Vec<String>,
    /// The folder it was typed in.
    pub folder: String,
    /// When, as RFC 3339 writes it.
    pub started: String,
    /// When it ended; none while it goes on, or when it was killed.
    pub ended: Option<String>,
    /// How it ended: `done`, `stopped`, or what went wrong.
    pub outcome: Option<String>,
    /// What is not as it was at the start before.
    pub changes: Vec<String>,
}

/// What a start of a training is described with.
#[derive(Clone, Copy, Debug)]
pub struct Beginning<'a> {
    /// The first batch to train on.
    pub from: Position,
    /// The stream trained on.
    pub train: &'a StreamDescription,
    /// The stream tested on.
    pub test: Option<&'a StreamDescription>,
    /// Seed, epochs, optimizer and more: an object with a key for each.
    pub settings: &'a Value,
    /// Where it computes.
    pub device: &'a str,
    /// Where the model file is.
    pub model_file: &'a Path,
    /// What it says.
    pub model_text: &'a str,
}

impl About {
    /// Writes the description of a training that begins; with `resumed` as one more start of that in `folder`.
    ///
    /// # Errors
    /// When it cannot be written, or that in the folder is damaged.
    pub(super) fn begin(folder: &Path, beginning: Beginning<'_>, resumed: bool) -> Result<Self, RunError> {
        let before = if resumed { Self::read(folder)? } else { None };
        let training = Training {
            train: beginning.train.into(),
            test: beginning.test.map(Into::into),
            settings: beginning.settings.clone(),
            device: beginning.device.to_owned(),
            threads: threads(),
            versions: Versions::current(),
            protocol: PROTOCOL,
            target: target(),
            model: Model { path: beginning.model_file.display().to_string(), text: beginning.model_text.to_owned() },
        };
        let changes = before.as_ref().map(|before| changes(&before.training, &training)).unwrap_or_default();
        let start = Start {
            from: beginning.from,
            command: env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
            folder: env::current_dir().map(|folder| folder.display().to_string()).unwrap_or_default(),
            started: rfc3339(SystemTime::now()),
            ended: None,
            outcome: None,
            changes: changes
                .iter()
                .map(|Change { key, one, other }| format!("{key} was {one} and is {other}"))
                .collect(),
        };
        let mut starts = before.map(|before| before.starts).unwrap_or_default();
        starts.push(start);
        let about = Self { format: FORMAT, training, starts };
        about.write(folder)?;
        Ok(about)
    }

    /// Writes down that the training has ended.
    pub(super) fn end(&mut self, folder: &Path, outcome: &str) -> Result<(), RunError> {
        if let Some(start) = self.starts.last_mut() {
            start.ended = Some(rfc3339(SystemTime::now()));
            start.outcome = Some(outcome.to_owned());
        }
        self.write(folder)
    }

    /// The description in a run's folder, `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub fn read(folder: &Path) -> Result<Option<Self>, RunError> {
        let path = folder.join(NAME);
        if !path.is_file() {
            return Ok(None);
        }
        let text = fs::read(&path).map_err(io_error("read", &path))?;
        serde_json::from_slice(&text).map(Some).map_err(|source| RunError::About { path, source })
    }

    fn write(&self, folder: &Path) -> Result<(), RunError> {
        let mut text = serde_json::to_vec_pretty(self).expect("numbers and strings have a JSON form");
        text.push(b'\n');
        let path = folder.join(NAME);
        whole::write(&path, &text).map_err(io_error("write", &path))
    }

    /// What it is, in a few words.
    pub(super) fn title(&self) -> String {
        let Training { train, device, model, .. } = &self.training;
        let file = Path::new(&model.path).file_name().unwrap_or_default().to_string_lossy();
        format!("{file} on stream {}, {device}", train.name)
    }
}

/// A value that is not the same in two descriptions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Where, such as `settings.lr`.
    pub key: String,
    /// Here, as JSON.
    pub one: String,
    /// There, as JSON; of long values and texts both are the first part that differs.
    pub other: String,
}

/// What differs between two trainings.
pub fn changes(one: &Training, other: &Training) -> Vec<Change> {
    let mut found = Vec::new();
    let value = |training| serde_json::to_value(training).expect("numbers and strings have a JSON form");
    let (mut one, mut other) = (value(one), value(other));
    for training in [&mut one, &mut other] {
        // Where the model file lies does not matter; the hash follows from the parts beside it.
        for hidden in ["/model/path", "/train/spec_hash", "/test/spec_hash", "/train/steps", "/test/steps"] {
            if let Some(value) = training.pointer_mut(hidden) {
                *value = Value::Null;
            }
        }
        for stream in ["/train", "/test"] {
            // A list of named parts is compared by name.
            if let Some(Value::Array(parts)) = training.pointer_mut(&format!("{stream}/identity")).map(Value::take) {
                let part = |part: &Value| Some((part["name"].as_str()?.to_owned(), part["value"].clone()));
                training[&stream[1..]]["identity"] = parts.iter().filter_map(part).collect();
            }
            // The identity says the same in fewer words.
            for hidden in ["spec", "transforms", "seed", "extent"] {
                if let Some(value) = training.pointer_mut(&format!("{stream}/{hidden}")) {
                    *value = Value::Null;
                }
            }
        }
    }
    compare("", &one, &other, &mut found);
    found
}

fn compare(key: &str, one: &Value, other: &Value, found: &mut Vec<Change>) {
    if one == other {
        return;
    }
    match (one, other) {
        (Value::Object(left), Value::Object(right)) => {
            let added = right.keys().filter(|name| !left.contains_key(*name));
            for name in left.keys().chain(added) {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                compare(&key, &one[name], &other[name], found);
            }
        }
        (Value::String(left), Value::String(right)) if left.contains('\n') || right.contains('\n') => {
            let line = (1..).zip(left.lines().zip(right.lines())).find(|(_, (left, right))| left != right);
            let count = |text: &str| format!("{} lines", text.lines().count());
            let (line, (left, right)) = match line {
                Some((line, (left, right))) => (line, (left.trim().to_owned(), right.trim().to_owned())),
                None => (left.lines().count().min(right.lines().count()) + 1, (count(left), count(right))),
            };
            found.push(Change { key: format!("{key} line {line}"), one: shorten(&left), other: shorten(&right) });
        }
        _ => found.push(Change { key: key.to_owned(), one: shorten(&plain(one)), other: shorten(&plain(other)) }),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(VALUE_LETTERS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// The threads of rayon, which burn's CPU backend computes with.
fn threads() -> usize {
    let asked = env::var("RAYON_NUM_THREADS").ok().and_then(|threads| threads.parse().ok());
    asked.filter(|threads| *threads > 0).unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into))
}

fn target() -> String {
    let libc = if cfg!(target_env = "gnu") { "-gnu" } else { "" };
    format!("{}-{}{libc}", env::consts::ARCH, env::consts::OS)
}

#[cfg(test)]
pub(crate) mod tests {
    use batchmill_protocol::message::StreamId;
    use batchmill_protocol::position::Tail;
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    /// A stream of 8 samples in 2 batches.
    pub(crate) fn stream(name: &str, seed: u64) -> StreamDescription {
        StreamDescription {
            id: StreamId(0),
            name: name.to_owned(),
            fields: Vec::new(),
            extent: Extent { samples: 8, batch_size: 4, tail: Tail::Short },
            classes: Vec::new(),
            transforms: Vec::new(),
            seed,
            spec_hash: format!("hash of {seed}"),
            identity: [("seed".to_owned(), seed.to_string())].into_iter().collect(),
            spec: json!({ "sampler": "shuffled" }),
        }
    }

    pub(crate) fn beginning<'a>(
        train: &'a StreamDescription,
        settings: &'a Value,
        model_text: &'a str,
        from: Position,
    ) -> Beginning<'a> {
        let model_file = Path::new("models/mlp.toml");
        Beginning { from, train, test: None, settings, device: "cpu", model_file, model_text }
    }

    #[test]
    fn every_start_is_told_with_what_it_changed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let begin = |seed, lr: f64, text: &str, from, resumed| {
            let (train, settings) = (stream("train", seed), json!({ "lr": lr, "seed": 3 }));
            About::begin(folder.path(), beginning(&train, &settings, text, from), resumed).expect("it can be written")
        };
        begin(0, 0.5, "a\nb\n", Position::default(), false);
        let mut first = begin(0, 0.5, "a\nb\n", Position::default(), false);
        first.end(folder.path(), "stopped").expect("it can be written");
        let from = Position { epoch: 1, step: 1 };
        begin(0, 0.5, "a\nb\n", from, true);
        begin(9, 0.25, "a\nc\n", from, true);

        let about = About::read(folder.path()).expect("it is whole").expect("it is there");
        assert_eq!(about.starts.iter().map(|start| start.from).collect::<Vec<_>>(), [Position::default(), from, from]);
        assert_eq!(about.starts[0].outcome.as_deref(), Some("stopped"));
        assert_eq!((&about.starts[0].ended.is_some(), &about.starts[1].ended), (&true, &None));
        assert!(about.starts[1].changes.is_empty());
        assert_eq!(
            about.starts[2].changes,
            [
                "model.text line 2 was b and is c",
                "settings.lr was 0.5 and is 0.25",
                "train.identity.seed was 0 and is 9"
            ]
        );
        assert!(!about.starts[0].command.is_empty() && about.training.threads > 0);
        assert_eq!(about.title(), "mlp.toml on stream train, cpu");
    }

    #[test]
    fn a_damaged_description_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(About::read(folder.path()).expect("nothing is there"), None);
        fs::write(folder.path().join(NAME), "{").expect("it can be written");
        let error = About::read(folder.path()).expect_err("it is damaged").to_string();
        expect!["read RUN/run.json: it is damaged, or was changed by hand: move it away to go on without it"]
            .assert_eq(&error.replace(&folder.path().display().to_string(), "RUN"));
    }
}
