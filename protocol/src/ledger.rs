//! The ledger of a run: every batch that was received, in order, under a chain of digests.
//!
//! A text file of JSON objects, one a line: a [`Head`] that says what the stream is, then an [`Entry`] for each batch.
//! Another head follows where a run went on although the stream had changed.
//!
//! ```text
//! {"head":{"format":1,"stream":"train","spec_hash":"...","identity":[...],"spec":{...},"extent":{...},"fields":[...]}}
//! {"batch":{"epoch":0,"step":0,"rows":64,"padding":0,"digest":"...","chain":"..."}}
//! ```
//! Each epoch has a chain of its own: XXH3-128 over the last link, the epoch, the step, rows, padding and digest of the
//! batch. The first link's predecessor is the hash of the spec hash's text. Two runs with the same last link of an epoch
//! received the same bytes in it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use twox_hash::XxHash3_128;

use crate::digest::Digest;
use crate::identity::Identity;
use crate::message::StreamDescription;
use crate::position::{Extent, Position};
use crate::tensor::FieldSpec;

/// The version of the file.
pub const FORMAT: u32 = 1;

/// The longest line that is read: a head names every option of a spec.
const LINE_BYTES_MAX: u64 = 1 << 24;

/// Why a ledger cannot be written or read.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// It is there already.
    #[error("write the ledger {}: it exists: name another file, or remove it", .0.display())]
    Exists(PathBuf),
    /// The system does not let us.
    #[error("{doing} the ledger {}", path.display())]
    Io {
        /// `write` or `read`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The last line is not whole.
    #[error("{}:{line}: the line is cut short: the run was killed as it was written", path.display())]
    CutShort {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
    },
    /// It is not the ledger of what goes on.
    #[error("go on in the ledger {}: {reason}; name another file with --ledger", path.display())]
    Another {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A line is not what it should be.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What was found.
        reason: String,
    },
}

/// What a ledger says of its stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// [`FORMAT`] of the program that wrote it.
    pub format: u32,
    /// The stream's name.
    pub stream: String,
    /// The hash of its identity.
    pub spec_hash: String,
    /// What its bytes follow from.
    pub identity: Identity,
    /// The loader's spec of it.
    pub spec: serde_json::Value,
    /// How far an epoch reaches.
    pub extent: Extent,
    /// The tensors of a batch.
    pub fields: Vec<FieldSpec>,
}

impl Head {
    /// The head of a ledger of `stream`.
    pub fn of(stream: &StreamDescription) -> Self {
        Self {
            format: FORMAT,
            stream: stream.name.clone(),
            spec_hash: stream.spec_hash.clone(),
            identity: stream.identity.clone(),
            spec: stream.spec.clone(),
            extent: stream.extent,
            fields: stream.fields.clone(),
        }
    }
}

/// One batch that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub position: Position,
    /// Its rows, padding included.
    pub rows: u32,
    /// Rows at its end that only fill it up.
    pub padding: u32,
    /// What its rows amount to.
    pub digest: Digest,
}

/// The chain of one epoch after another.
#[derive(Clone, Debug)]
pub struct Chain {
    seed: Digest,
    last: Option<(u64, Digest)>,
}

impl Chain {
    /// The chain of a stream whose spec has this hash.
    pub fn new(spec_hash: &str) -> Self {
        Self { seed: Digest(XxHash3_128::oneshot(spec_hash.as_bytes())), last: None }
    }

    /// The link of the next batch; with another epoch another chain begins.
    pub fn link(&mut self, entry: &Entry) -> Digest {
        let Entry { position: Position { epoch, step }, rows, padding, digest } = *entry;
        let before = self.last.filter(|(last_epoch, _)| *last_epoch == epoch).map_or(self.seed, |(_, link)| link);
        let mut bytes = Vec::with_capacity(56);
        bytes.extend(before.0.to_le_bytes());
        bytes.extend([epoch, step].map(u64::to_le_bytes).concat());
        bytes.extend([rows, padding].map(u32::to_le_bytes).concat());
        bytes.extend(digest.0.to_le_bytes());
        let link = Digest(XxHash3_128::oneshot(&bytes));
        self.last = Some((epoch, link));
        link
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Head(Box<Head>),
    Batch(BatchLine),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchLine {
    epoch: u64,
    step: u64,
    rows: u32,
    padding: u32,
    digest: String,
    chain: String,
}

/// A ledger being written. Lines reach the file when it is [flushed](Self::flush) or dropped, or when there are many.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: BufWriter<File>,
    chain: Chain,
}

impl Ledger {
    /// Begins a ledger of `stream`.
    ///
    /// # Errors
    /// [`LedgerError::Exists`] when there is such a file, [`LedgerError::Io`] when it cannot be written.
    pub fn create(path: &Path, stream: &StreamDescription) -> Result<Self, LedgerError> {
        let file = File::options().write(true).create_new(true).open(path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists if path.is_file() => LedgerError::Exists(path.to_path_buf()),
            _ => failed("write", path)(source),
        });
        // A device such as /dev/full is there, and may be written to all the same.
        let file = match file {
            Err(LedgerError::Io { .. }) if path.exists() => {
                File::options().write(true).open(path).map_err(failed("write", path))?
            }
            file => file?,
        };
        let mut ledger =
            Self { path: path.to_path_buf(), file: BufWriter::new(file), chain: Chain::new(&stream.spec_hash) };
        ledger.write(&Line::Head(Box::new(Head::of(stream))))?;
        ledger.flush()?;
        Ok(ledger)
    }

    /// Goes on in a ledger, or begins one where there is none. Batches that it has from `from` on are cut off: they will
    /// come again. When the stream has changed since, a head says so.
    ///
    /// # Errors
    /// [`LedgerError::Another`] when it is of a stream of another name or ends before `from`, and all others when it is
    /// damaged, but for a last line that a kill cut short, or cannot be written. It then stays as it is.
    pub fn resume(path: &Path, stream: &StreamDescription, from: Position) -> Result<Self, LedgerError> {
        if !path.exists() {
            return Self::create(path, stream);
        }
        let another = |reason| LedgerError::Another { path: path.to_path_buf(), reason };
        let mut reading = Reading::open(path)?;
        if reading.head.stream != stream.name {
            return Err(another(format!("it is of stream `{}` and not of `{}`", reading.head.stream, stream.name)));
        }
        let mut kept = (reading.bytes, reading.chain.clone(), reading.head.spec_hash.clone());
        let mut next = None;
        while let Some(recorded) = reading.next_whole()? {
            if recorded.entry.position < from {
                kept = (reading.bytes, reading.chain.clone(), reading.head.spec_hash.clone());
                next = Some(reading.head.extent.next(recorded.entry.position));
            }
        }
        // The extent may be another now, but an epoch's end remains one.
        let follows = |next: Position| next == from || (next.epoch == from.epoch && from.step == 0);
        if let Some(next) = next.filter(|next| !follows(*next)) {
            return Err(another(format!("it has no batch from {next} to {from}")));
        }
        let (bytes, chain, spec_hash) = kept;
        let mut file = File::options().write(true).open(path).map_err(failed("write", path))?;
        file.set_len(bytes).map_err(failed("cut", path))?;
        file.seek(io::SeekFrom::End(0)).map_err(failed("write", path))?;
        let mut ledger = Self { path: path.to_path_buf(), file: BufWriter::new(file), chain };
        if spec_hash != stream.spec_hash {
            ledger.write(&Line::Head(Box::new(Head::of(stream))))?;
            ledger.chain = Chain::new(&stream.spec_hash);
        }
        Ok(ledger)
    }

    /// Takes note of a batch.
    ///
    /// # Errors
    /// [`LedgerError::Io`] when it cannot be written.
    pub fn record(&mut self, entry: &Entry) -> Result<(), LedgerError> {
        let chain = self.chain.link(entry);
        self.write(&Line::Batch(BatchLine {
            epoch: entry.position.epoch,
            step: entry.position.step,
            rows: entry.rows,
            padding: entry.padding,
            digest: entry.digest.to_string(),
            chain: chain.to_string(),
        }))
    }

    /// Hands all lines to the system, so that they survive this process.
    ///
    /// # Errors
    /// [`LedgerError::Io`] when they cannot be written.
    pub fn flush(&mut self) -> Result<(), LedgerError> {
        self.file.flush().map_err(failed("write", &self.path))
    }

    fn write(&mut self, line: &Line) -> Result<(), LedgerError> {
        let written = serde_json::to_writer(&mut self.file, line).map_err(io::Error::from);
        written.and_then(|()| self.file.write_all(b"\n")).map_err(failed("write", &self.path))
    }
}

/// A batch as a ledger has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its line, counted from 1.
    pub line: u64,
    /// The batch.
    pub entry: Entry,
    /// Its link of the chain.
    pub link: Digest,
    /// Whether the link follows from the line before: lines were not changed, taken out or put in.
    pub chained: bool,
}

/// A ledger being read: its head, then entry after entry.
#[derive(Debug)]
pub struct Reading {
    /// What it says of its stream, as far as it was read.
    pub head: Head,
    /// Where the stream changed: the line and what changed there.
    pub changes: Vec<(u64, Vec<String>)>,
    path: PathBuf,
    file: BufReader<File>,
    chain: Chain,
    line: u64,
    /// Where the next line begins.
    bytes: u64,
}

impl Reading {
    /// Reads the head.
    ///
    /// # Errors
    /// [`LedgerError`] when there is none, or it is of another version.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let mut file = BufReader::new(File::open(path).map_err(failed("read", path))?);
        let refuse = |reason: &str| LedgerError::Line { path: path.to_path_buf(), line: 1, reason: reason.to_owned() };
        let text = read_line(&mut file).map_err(failed("read", path))?;
        let head = parse_head(&text).map_err(|reason| refuse(&reason))?;
        let chain = Chain::new(&head.spec_hash);
        let bytes = text.len() as u64;
        Ok(Self { head, changes: Vec::new(), path: path.to_path_buf(), file, chain, line: 1, bytes })
    }

    /// The next batch; `None` at the end, which a line that a kill cut short is too.
    ///
    /// # Errors
    /// [`LedgerError`] when the ledger is damaged.
    pub fn next_whole(&mut self) -> Result<Option<Recorded>, LedgerError> {
        match self.next().transpose() {
            Err(LedgerError::CutShort { .. }) => Ok(None),
            other => other,
        }
    }

    /// Reads a line; `None` when it was another head.
    fn parse(&mut self, text: &str) -> Result<Option<Recorded>, String> {
        let Ok(Line::Batch(line)) = serde_json::from_str(text) else {
            let head = parse_head(text).map_err(|_| "the line is not that of a batch: the ledger was damaged")?;
            self.chain = Chain::new(&head.spec_hash);
            self.changes.push((self.line, head.identity.changes_since(&self.head.identity)));
            self.head = head;
            return Ok(None);
        };
        let digest = |text: &str| text.parse::<Digest>().map_err(|error| error.to_string());
        let entry = Entry {
            position: Position { epoch: line.epoch, step: line.step },
            rows: line.rows,
            padding: line.padding,
            digest: digest(&line.digest)?,
        };
        let link = digest(&line.chain)?;
        let chained = self.chain.link(&entry) == link;
        // A break is told once: what follows is judged by the lines' own links.
        self.chain.last = Some((entry.position.epoch, link));
        Ok(Some(Recorded { line: self.line, entry, link, chained }))
    }
}

impl Iterator for Reading {
    type Item = Result<Recorded, LedgerError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let text = match read_line(&mut self.file) {
                Ok(text) if text.is_empty() => return None,
                Ok(text) => text,
                Err(source) => return Some(Err(failed("read", &self.path)(source))),
            };
            self.line += 1;
            let line = self.line;
            if !text.ends_with('\n') {
                return Some(Err(LedgerError::CutShort { path: self.path.clone(), line }));
            }
            let parsed =
                self.parse(&text).map_err(|reason| LedgerError::Line { path: self.path.clone(), line, reason });
            self.bytes += text.len() as u64;
            if let Some(recorded) = parsed.transpose() {
                return Some(recorded);
            }
        }
    }
}

fn parse_head(text: &str) -> Result<Head, String> {
    match serde_json::from_str(text) {
        Ok(Line::Head(head)) if head.format == FORMAT && head.extent.batch_size > 0 && head.extent.steps() > 0 => {
            Ok(*head)
        }
        Ok(Line::Head(head)) if head.format == FORMAT => Err("an epoch of it has no batch".to_owned()),
        Ok(Line::Head(head)) => Err(format!("the ledger has format {}, this program reads {FORMAT}", head.format)),
        _ => Err("this is no ledger: it does not begin with the head of one".to_owned()),
    }
}

fn read_line(file: &mut BufReader<File>) -> io::Result<String> {
    let mut text = String::new();
    io::Read::take(file, LINE_BYTES_MAX).read_line(&mut text)?;
    Ok(text)
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LedgerError {
    let path = path.to_path_buf();
    move |source| LedgerError::Io { doing, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::StreamId;
    use crate::position::Tail;
    use crate::tensor::{Dtype, Shape};

    fn stream(seed: u64) -> StreamDescription {
        StreamDescription {
            id: StreamId(0),
            name: "train".to_owned(),
            fields: vec![FieldSpec::new("label", Dtype::I64, Shape::default())],
            extent: Extent { samples: 10, batch_size: 4, tail: Tail::Short },
            classes: Vec::new(),
            transforms: Vec::new(),
            seed,
            spec_hash: format!("hash {seed}"),
            identity: [("seed".to_owned(), seed.to_string())].into_iter().collect(),
            spec: serde_json::Value::Null,
        }
    }

    fn entries() -> Vec<Entry> {
        let extent = stream(0).extent;
        let positions = std::iter::successors(Some(Position::default()), |position| Some(extent.next(*position)));
        let entry = |position: Position| Entry {
            position,
            rows: extent.rows(position.step),
            padding: 0,
            digest: Digest(u128::from(position.epoch * 100 + position.step)),
        };
        positions.take(7).map(entry).collect()
    }

    fn write(ledger: Result<Ledger, LedgerError>, entries: &[Entry]) {
        let mut ledger = ledger.expect("a file");
        entries.iter().for_each(|entry| ledger.record(entry).expect("written"));
        ledger.flush().expect("written");
    }

    fn read(path: &Path) -> Vec<Recorded> {
        Reading::open(path).expect("a ledger").map(|recorded| recorded.expect("an entry")).collect()
    }

    #[test]
    fn what_is_recorded_is_read_and_every_epoch_has_its_chain() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.ledger");
        write(Ledger::create(&path, &stream(0)), &entries());
        let recorded = read(&path);
        assert_eq!(recorded.iter().map(|recorded| recorded.entry).collect::<Vec<_>>(), entries());
        assert!(recorded.iter().all(|recorded| recorded.chained));
        assert_eq!(Reading::open(&path).expect("a ledger").head, Head::of(&stream(0)));
        assert!(matches!(Ledger::create(&path, &stream(0)), Err(LedgerError::Exists(_))));

        // The second epoch alone has the same links as behind the first.
        let second = folder.path().join("second.ledger");
        write(Ledger::create(&second, &stream(0)), &entries()[3..]);
        assert_eq!(read(&second)[1].link, recorded[4].link);
    }

    #[test]
    fn a_changed_line_breaks_the_chain_behind_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.ledger");
        write(Ledger::create(&path, &stream(0)), &entries());
        let text = std::fs::read_to_string(&path).expect("written");
        let lines: Vec<&str> = text.lines().collect();
        let chained = |lines: &[&str]| {
            std::fs::write(&path, lines.join("\n") + "\n").expect("written");
            read(&path).iter().map(|recorded| recorded.chained).collect::<Vec<_>>()
        };
        let without = [&lines[..2], &lines[3..]].concat();
        assert_eq!(chained(&without), [true, false, true, true, true, true]);
        let twice = [&lines[..3], &lines[2..]].concat();
        assert_eq!(chained(&twice), [true, true, false, true, true, true, true, true]);
    }

    #[test]
    fn a_run_goes_on_where_it_was_cut_off() {
        let folder = tempfile::tempdir().expect("a folder");
        let (whole, path) = (folder.path().join("whole.ledger"), folder.path().join("a.ledger"));
        write(Ledger::create(&whole, &stream(0)), &entries());
        write(Ledger::create(&path, &stream(0)), &entries()[..5]);
        // As a kill leaves it.
        let text = std::fs::read_to_string(&path).expect("written");
        std::fs::write(&path, &text[..text.len() - 9]).expect("written");
        let last = Reading::open(&path).expect("a ledger").last().expect("an entry").expect_err("cut short");
        assert!(
            last.to_string().ends_with(":6: the line is cut short: the run was killed as it was written"),
            "{last}"
        );
        write(Ledger::resume(&path, &stream(0), entries()[2].position), &entries()[2..]);
        assert_eq!(std::fs::read(&path).ok(), std::fs::read(&whole).ok());
    }

    #[test]
    fn a_ledger_that_is_damaged_or_of_something_else_stays_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.ledger");
        write(Ledger::create(&path, &stream(0)), &entries());
        let refused = |stream: &StreamDescription, from: usize| {
            let before = std::fs::read(&path).expect("written");
            let refused = Ledger::resume(&path, stream, entries()[from].position).expect_err("it is not taken");
            assert_eq!(std::fs::read(&path).ok(), Some(before));
            refused.to_string().replace(&folder.path().display().to_string(), "DIR")
        };
        let other = StreamDescription { name: "test".to_owned(), ..stream(0) };
        assert_eq!(
            refused(&other, 3),
            "go on in the ledger DIR/a.ledger: it is of stream `train` and not of `test`; name another file with --ledger"
        );
        let text = std::fs::read_to_string(&path).expect("written");
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        std::fs::write(&path, lines[..3].concat()).expect("written");
        assert_eq!(
            refused(&stream(0), 4),
            "go on in the ledger DIR/a.ledger: it has no batch from epoch 0 step 2 to epoch 1 step 1; name another file \
             with --ledger"
        );
        std::fs::write(&path, text.replacen("\"step\":2", "\"step\":", 1)).expect("written");
        assert_eq!(refused(&stream(0), 6), "DIR/a.ledger:4: the line is not that of a batch: the ledger was damaged");
    }

    #[test]
    fn a_run_that_goes_on_with_another_stream_says_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.ledger");
        write(Ledger::create(&path, &stream(0)), &entries()[..2]);
        write(Ledger::resume(&path, &stream(1), entries()[2].position), &entries()[2..]);
        let mut reading = Reading::open(&path).expect("a ledger");
        assert!(reading.by_ref().all(|recorded| recorded.expect("an entry").chained));
        assert_eq!(reading.changes, [(4, vec!["`seed` was 0 and is 1".to_owned()])]);
    }
}
