//! What shall be served: command line and configuration file, checked once and trusted after.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use batchmill_datasets::nearest::suggestion;
use batchmill_datasets::registry::Registry;
use batchmill_datasets::spec::{BATCH_SIZE_MAX, Component, SpecError, StreamSpec};
use batchmill_protocol::address;
use thiserror::Error;
use toml::Value;
use toml::de::{DeTable, DeValue};

use crate::cli::{Bytes, Color, Described, Nice, Percent, Seconds, Serve, TailName, WORKERS_MAX, Workers};

/// The name of the stream of `--images` and `--labels`.
const STREAM_NAME: &str = "train";

/// Shared memory for batches where nobody says.
const MEMORY_DEFAULT_BYTES: u64 = 256 << 20;

/// How long a range of samples may take where nobody says.
const HANG_LIMIT_DEFAULT: Duration = Duration::from_secs(30);

/// The keys outside `[stream.NAME]`.
const KEYS: [&str; 7] = ["workers", "memory", "cpu_budget", "worker_nice", "hang_limit", "socket", "stream"];

/// Those that are of no use to a loader that runs.
const KEYS_OF_THE_LOADER: [&str; 5] = ["workers", "cpu_budget", "worker_nice", "hang_limit", "socket"];

/// The longest spec that a running loader takes, as JSON: a worker's line must hold it while the worker is busy.
const SPEC_BYTES_MAX: usize = 64 << 10;

/// Why a configuration cannot be served.
#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("read the configuration {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The file is not TOML.
    #[error("{}:{line}: {message}", path.display())]
    Syntax { path: PathBuf, line: usize, message: String },
    /// The file asks for what there is not.
    #[error("{}:{line}: {source}", path.display())]
    Wrong { path: PathBuf, line: usize, source: SpecError },
    /// The command line does.
    #[error("{0}")]
    Arguments(SpecError),
    /// The working folder has gone.
    #[error("find the working folder")]
    Folder(#[source] io::Error),
}

/// What shall be served.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) streams: Vec<StreamSpec>,
    pub(crate) workers: u32,
    pub(crate) memory_bytes: u64,
    /// How much of the processors the workers may use, if that is limited.
    pub(crate) cpu_budget: Option<Percent>,
    /// By how much workers give way to other processes.
    pub(crate) worker_nice: u8,
    /// The least time that a range of samples may take before its worker counts as hung.
    pub(crate) hang_limit: Duration,
    pub(crate) socket: PathBuf,
}

impl Config {
    /// Reads what was typed and, if one was named, the configuration file; what was typed wins.
    ///
    /// # Errors
    /// When the file cannot be read, or file or command line ask for what there is not. No data is looked at yet.
    pub(crate) fn read(arguments: &Serve, registry: &Registry) -> Result<Self, ConfigError> {
        let file = File::described(&arguments.described, registry)?;
        let workers = match arguments.workers.or(file.workers).unwrap_or(Workers::Auto) {
            Workers::Exactly(count) => count,
            Workers::Auto => {
                let cores = thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
                cores.min(WORKERS_MAX)
            }
        };
        Ok(Self {
            streams: file.streams,
            workers,
            memory_bytes: arguments.memory.or(file.memory).map_or(MEMORY_DEFAULT_BYTES, |Bytes(bytes)| bytes),
            cpu_budget: arguments.cpu_budget.or(file.cpu_budget),
            worker_nice: arguments.worker_nice.or(file.worker_nice).map_or(0, |Nice(nice)| nice),
            hang_limit: arguments.hang_limit.or(file.hang_limit).map_or(HANG_LIMIT_DEFAULT, |Seconds(limit)| limit),
            socket: arguments.address.socket.clone().or(file.socket).unwrap_or_else(address::default_socket),
        })
    }
}

/// The streams that were typed, and nothing else of their configuration.
///
/// # Errors
/// As [`Config::read`].
pub(crate) fn streams(described: &Described, registry: &Registry) -> Result<Vec<StreamSpec>, ConfigError> {
    Ok(File::described(described, registry)?.streams)
}

/// The streams of a configuration file, and nothing else of it.
///
/// # Errors
/// As [`Config::read`].
pub(crate) fn streams_of_file(path: &Path, registry: &Registry) -> Result<Vec<StreamSpec>, ConfigError> {
    Ok(File::read(path, registry)?.streams)
}

/// The streams of a file for a loader that runs, and the memory that they shall have; what was typed wins.
///
/// # Errors
/// As [`Config::read`], and for keys that are the loader's own.
pub(crate) fn streams_to_open(
    path: &Path,
    memory: Option<Bytes>,
    registry: &Registry,
) -> Result<(Vec<StreamSpec>, u64), ConfigError> {
    let file = File::read_checked(path, registry, no_keys_of_the_loader)?;
    Ok((file.streams, memory.or(file.memory).map_or(MEMORY_DEFAULT_BYTES, |Bytes(bytes)| bytes)))
}

fn no_keys_of_the_loader(table: &toml::Table) -> Result<(), SpecError> {
    let Some(key) = KEYS_OF_THE_LOADER.into_iter().find(|key| table.contains_key(*key)) else { return Ok(()) };
    let message =
        format!("`{key}` is for `loader serve`: of a loader that runs, `memory` and tables [stream.NAME] can be asked");
    Err(SpecError::new(vec![key.to_owned()], message))
}

/// Reads a spec that a client sent. What only the registry knows is left to the workers: no code of a dataset runs in the
/// daemon.
///
/// # Errors
/// One sentence fragment.
pub(crate) fn received(text: &str) -> Result<StreamSpec, String> {
    if text.len() > SPEC_BYTES_MAX {
        return Err(format!(
            "the spec of a stream has {} bytes and may have {SPEC_BYTES_MAX}: put long lists into files",
            text.len()
        ));
    }
    let spec: StreamSpec =
        serde_json::from_str(text).map_err(|error| format!("the spec of a stream cannot be read: {error}"))?;
    let wrong = if !(1..=BATCH_SIZE_MAX).contains(&spec.batch_size) {
        format!("`batch_size` is {}", spec.batch_size)
    } else if !(0.0..=1.0).contains(&spec.on_bad_limit) {
        format!("`on_bad_limit` is {}", spec.on_bad_limit)
    } else if !spec.folder.is_absolute() {
        format!("its folder {} is not absolute", spec.folder.display())
    } else {
        return Ok(spec);
    };
    Err(format!("stream `{}`: {wrong}", spec.name))
}

/// What a configuration file says.
#[derive(Debug, Default)]
struct File {
    streams: Vec<StreamSpec>,
    workers: Option<Workers>,
    memory: Option<Bytes>,
    cpu_budget: Option<Percent>,
    worker_nice: Option<Nice>,
    hang_limit: Option<Seconds>,
    socket: Option<PathBuf>,
}

impl File {
    fn described(described: &Described, registry: &Registry) -> Result<Self, ConfigError> {
        match &described.config {
            Some(path) => Self::read(path, registry),
            None => Ok(Self { streams: vec![one_stream(described, registry)?], ..Self::default() }),
        }
    }

    fn read(path: &Path, registry: &Registry) -> Result<Self, ConfigError> {
        Self::read_checked(path, registry, |_| Ok(()))
    }

    /// Reads a file whose keys are also to pass `check`.
    fn read_checked(
        path: &Path,
        registry: &Registry,
        check: fn(&toml::Table) -> Result<(), SpecError>,
    ) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Read { path: path.to_path_buf(), source };
        let text = fs::read_to_string(path).map_err(failed)?;
        let path = fs::canonicalize(path).map_err(failed)?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
            path: path.clone(),
            line: line_of(&text, error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        })?;
        check(&table).and_then(|()| Self::from_table(table, folder, registry)).map_err(|source| ConfigError::Wrong {
            line: line_of(&text, place_of(&text, &source.key)),
            path: path.clone(),
            source,
        })
    }

    fn from_table(mut table: toml::Table, folder: &Path, registry: &Registry) -> Result<Self, SpecError> {
        if let Some(unknown) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            let message = format!("unknown key `{unknown}`{}", suggestion(unknown, KEYS));
            return Err(SpecError::new(vec![unknown.clone()], message));
        }
        let mut file = Self {
            workers: parsed(&table, "workers")?,
            memory: parsed(&table, "memory")?,
            cpu_budget: parsed(&table, "cpu_budget")?,
            worker_nice: parsed(&table, "worker_nice")?,
            hang_limit: parsed(&table, "hang_limit")?,
            socket: parsed::<PathBuf>(&table, "socket")?.map(|socket| folder.join(socket)),
            streams: Vec::new(),
        };
        let streams = match table.remove("stream") {
            Some(Value::Table(streams)) if !streams.is_empty() => streams,
            _ => return Err(SpecError::new(Vec::new(), "there is no stream: add a table [stream.train]")),
        };
        for (name, value) in streams {
            let below = |error: SpecError| {
                let key = ["stream".to_owned(), name.clone()].into_iter().chain(error.key).collect();
                SpecError::new(key, error.message)
            };
            let Value::Table(stream) = value else {
                let message = format!("stream `{name}` is {value}, not a table [stream.{name}]");
                return Err(below(SpecError::new(Vec::new(), message)));
            };
            let spec = StreamSpec::from_table(&name, stream, folder).map_err(below)?;
            registry.check(&spec).map_err(below)?;
            file.streams.push(spec);
        }
        Ok(file)
    }
}

/// Reads a text or number as what the command line would take it for.
fn parsed<T: std::str::FromStr<Err: ToString>>(table: &toml::Table, key: &str) -> Result<Option<T>, SpecError> {
    let text = match table.get(key) {
        None => return Ok(None),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let wrong = |error: T::Err| SpecError::new(vec![key.to_owned()], format!("`{key}`: {}", error.to_string()));
    text.parse().map(Some).map_err(wrong)
}

/// The stream that `--images`, `--labels` and their companions describe.
fn one_stream(described: &Described, registry: &Registry) -> Result<StreamSpec, ConfigError> {
    let folder = std::env::current_dir().map_err(ConfigError::Folder)?;
    let text = |path: &Option<PathBuf>| path.as_deref().unwrap_or(Path::new("")).display().to_string();
    let stream = &described.one;
    let color = match stream.color.unwrap_or(Color::Rgb) {
        Color::Rgb => "rgb",
        Color::Gray => "gray",
    };
    let size = |kind: &str, size: Option<std::num::NonZeroU32>| {
        size.map(|size| Component::new(kind).with("size", i64::from(size.get())))
    };
    let mut table = toml::Table::new();
    // Through the same door as a file's table, so that both are checked alike.
    if let Some(batch_size) = stream.batch_size {
        table.insert("batch_size".to_owned(), i64::from(batch_size).into());
    }
    if let Some(seed) = stream.seed {
        let seed = i64::try_from(seed).map_err(|_| {
            ConfigError::Arguments(SpecError::new(Vec::new(), format!("--seed {seed} is above {}", i64::MAX)))
        })?;
        table.insert("seed".to_owned(), seed.into());
    }
    table.insert("dataset".to_owned(), "image-folder-csv".into());
    let mut spec = StreamSpec::from_table(STREAM_NAME, table, &folder).map_err(ConfigError::Arguments)?;
    spec.dataset = Component::new("image-folder-csv")
        .with("images", text(&described.images))
        .with("labels", text(&described.labels))
        .with("color", color);
    spec.sampler = Component::new(if stream.shuffle { "shuffled" } else { "sequential" });
    spec.transforms = [size("resize", stream.resize), size("center-crop", stream.crop)].into_iter().flatten().collect();
    spec.tail = stream.tail.unwrap_or(TailName::Short).into();
    registry.check(&spec).map_err(ConfigError::Arguments)?;
    Ok(spec)
}

/// The line, counted from 1, of the byte at `place`.
fn line_of(text: &str, place: usize) -> usize {
    text.as_bytes()[..place.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// The place of a key, or of the longest beginning of it that is there.
fn place_of(text: &str, key: &[String]) -> usize {
    let Ok(document) = DeTable::parse(text) else { return 0 };
    let document = document.into_inner();
    let mut place = 0;
    let mut table = Some(&document);
    let mut array = None;
    for part in key {
        let value = if let Some((name, value)) = table.and_then(|table| table.get_key_value(part.as_str())) {
            place = name.span().start;
            value
        } else if let Some(value) =
            array.zip(part.parse::<usize>().ok()).and_then(|(array, at): (&[_], _)| array.get(at))
        {
            place = toml::Spanned::span(value).start;
            value
        } else {
            break;
        };
        table = DeValue::as_table(value.get_ref());
        array = value.get_ref().as_array().map(|array| &array[..]);
    }
    place
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(text: &str, expected: &Expect) {
        let table: toml::Table = text.parse().expect("TOML");
        let told = match File::from_table(table, Path::new("/data"), &batchmill_datasets::builtin()) {
            Ok(file) => format!("{file:#?}"),
            Err(error) => format!("line {}: {error}", line_of(text, place_of(text, &error.key))),
        };
        expected.assert_eq(&told);
    }

    const STREAM: &str = "\n[stream.train]\ndataset = { kind = 'idx', images = 'a', labels = 'b' }\n";

    #[test]
    fn a_wrong_key_or_value_is_named_with_its_line_and_the_right_one() {
        let with = |head: &str, tail: &str| format!("{head}{STREAM}{tail}");
        check(&with("wrokers = 4", ""), &expect!["line 1: unknown key `wrokers`; did you mean `workers`?"]);
        check(
            &with("\nworkers = 'many'", ""),
            &expect![[r#"line 2: `workers`: "many" is neither a number from 1 to 1024 nor `auto`"#]],
        );
        check(
            &with("memory = '256 apples'", ""),
            &expect![[r#"line 1: `memory`: "256 apples" is not a size such as 256MiB or 2GiB"#]],
        );
        check(
            &with("cpu_budget = 0.4", ""),
            &expect![[r#"line 1: `cpu_budget`: "0.4" is no share from 1% to 100%, such as 40%"#]],
        );
        check(&with("worker_nice = 20", ""), &expect![[r#"line 1: `worker_nice`: "20" is no number from 0 to 19"#]]);
        check("workers = 2", &expect!["line 1: there is no stream: add a table [stream.train]"]);
        check(
            &with("", "batch_sise = 2"),
            &expect!["line 4: unknown key `batch_sise` of stream `train`; did you mean `batch_size`?"],
        );
        check(
            &with("", "batch_size = 0"),
            &expect!["line 4: stream `train`: `batch_size` is 0, not an integer from 1 to 16777216"],
        );
        check(
            &with("", "tail = 'dorp'"),
            &expect![[
                r#"line 4: stream `train`: `tail` is "dorp", not `short` or `drop` or `pad`; did you mean `drop`?"#
            ]],
        );
        check(
            &with("", "transforms = [\n  'color',\n  { kind = 'resize', sise = 3 },\n]"),
            &expect!["line 5: transform `color` needs the key `mode`"],
        );
        check(
            &with("", "sampler = 'shufled'"),
            &expect!["line 4: unknown sampler `shufled`; did you mean `shuffled`?"],
        );
    }

    #[test]
    fn values_are_read_as_the_command_line_reads_them() {
        let text = format!("workers = 'auto'\nmemory = '1GiB'\nsocket = 'a.sock'\n{STREAM}");
        let file = File::from_table(text.parse().expect("TOML"), Path::new("/data"), &batchmill_datasets::builtin());
        let file = file.expect("all is right");
        assert_eq!((file.workers, file.memory), (Some(Workers::Auto), Some(Bytes(1 << 30))));
        assert_eq!(file.socket.as_deref(), Some(Path::new("/data/a.sock")));
        assert_eq!(file.streams.len(), 1);
    }
}
