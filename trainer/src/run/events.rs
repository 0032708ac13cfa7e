//! The rows of a run as TensorBoard reads them.
//!
//! A file is a row of records, each a length, the length's checksum, that many bytes and their checksum; the bytes are a
//! protobuf message `Event`. Of that only a few fields are written here, by hand.
//!
//! Sources: `tensorflow/core/lib/io/record_writer.cc`, `tensorflow/core/util/event.proto` and
//! `tensorflow/core/framework/summary.proto`.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::table::{Row, StepRow, TestRow};
use super::{RunError, io_error};

/// What all names of such files begin with.
const PREFIX: &str = "events.out.tfevents.";

/// What the first event of a file must say.
const VERSION: &str = "brain.Event:2";

/// `Event.wall_time`, `.step`, `.file_version`, `.summary` and `.session_log`, with their wire types.
const WALL_TIME: u8 = 1 << 3 | FIXED64;
const STEP: u8 = 2 << 3 | VARINT;
const FILE_VERSION: u8 = 3 << 3 | BYTES;
const SUMMARY: u8 = 5 << 3 | BYTES;
const SESSION_LOG: u8 = 7 << 3 | BYTES;

/// `Summary.value`, `Summary.Value.tag` and `.simple_value`.
const VALUE: u8 = 1 << 3 | BYTES;
const TAG: u8 = 1 << 3 | BYTES;
const SIMPLE_VALUE: u8 = 2 << 3 | FIXED32;

/// `SessionLog.status`, and that a session starts.
const STATUS: u8 = 1 << 3 | VARINT;
const START: u8 = 1;

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;
const FIXED32: u8 = 5;

/// A file being written. Events reach it when it is [flushed](Self::flush), or when there are many.
#[derive(Debug)]
pub(super) struct Events {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Events {
    /// Begins a file in a run's folder. Where the run goes on at `step`, TensorBoard is told to forget what other files
    /// have from there on.
    pub(super) fn create(folder: &Path, step: Option<u64>) -> Result<Self, RunError> {
        let now = now();
        // Only to tell files apart.
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = if host.trim().is_empty() { "host" } else { host.trim() };
        let path = folder.join(format!("{PREFIX}{now:.6}.{host}.{}", std::process::id()));
        let file = File::create_new(&path).map_err(io_error("write", &path))?;
        let mut events = Self { path, file: BufWriter::new(file) };
        let mut version = event(now, 0);
        put_bytes(&mut version, FILE_VERSION, VERSION.as_bytes());
        events.write(&version)?;
        if let Some(step) = step {
            let mut restart = event(now, step);
            put_bytes(&mut restart, SESSION_LOG, &[STATUS, START]);
            events.write(&restart)?;
        }
        events.flush()?;
        Ok(events)
    }

    /// Adds a row, which is of the run's `step`.
    pub(super) fn push(&mut self, step: u64, row: &Row) -> Result<(), RunError> {
        #[expect(clippy::cast_possible_truncation, reason = "it is for the eye")]
        let single = |number: f64| number as f32;
        let scalars = match *row {
            Row::Step(StepRow { loss, lr, grad_norm, .. }) => {
                vec![("loss/train", Some(loss)), ("lr", Some(single(lr))), ("grad_norm", grad_norm)]
            }
            Row::Test(TestRow { loss, accuracy, .. }) => {
                vec![("loss/test", Some(single(loss))), ("accuracy/test", accuracy.map(single))]
            }
        };
        let scalars: Vec<_> = scalars.into_iter().filter_map(|(tag, number)| Some((tag, number?))).collect();
        self.write(&summary(now(), step, &scalars))
    }

    /// Writes out what was added.
    pub(super) fn flush(&mut self) -> Result<(), RunError> {
        self.file.flush().map_err(io_error("write", &self.path))
    }

    fn write(&mut self, event: &[u8]) -> Result<(), RunError> {
        self.file.write_all(&record(event)).map_err(io_error("write", &self.path))
    }
}

/// Removes the files of a run that was there before.
pub(super) fn remove_all(folder: &Path) -> Result<(), RunError> {
    for entry in fs::read_dir(folder).map_err(io_error("read", folder))? {
        let entry = entry.map_err(io_error("read", folder))?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            fs::remove_file(entry.path()).map_err(io_error("remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// An event that has scalars.
fn summary(wall_time: f64, step: u64, scalars: &[(&str, f32)]) -> Vec<u8> {
    let mut values = Vec::new();
    for (tag, number) in scalars {
        let mut value = Vec::new();
        put_bytes(&mut value, TAG, tag.as_bytes());
        value.push(SIMPLE_VALUE);
        value.extend(number.to_le_bytes());
        put_bytes(&mut values, VALUE, &value);
    }
    let mut event = event(wall_time, step);
    put_bytes(&mut event, SUMMARY, &values);
    event
}

/// The beginning of every event.
fn event(wall_time: f64, step: u64) -> Vec<u8> {
    let mut event = vec![WALL_TIME];
    event.extend(wall_time.to_le_bytes());
    event.push(STEP);
    put_varint(&mut event, step);
    event
}

fn put_bytes(message: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    message.push(field);
    put_varint(message, u64::try_from(bytes.len()).expect("a length fits 64 bits"));
    message.extend(bytes);
}

fn put_varint(message: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            return message.push(low & 0x7f);
        }
        message.push(low | 0x80);
    }
}

/// Frames an event.
fn record(event: &[u8]) -> Vec<u8> {
    let length = u64::try_from(event.len()).expect("a length fits 64 bits").to_le_bytes();
    let checksum = |bytes: &[u8]| masked(crc32c::crc32c(bytes)).to_le_bytes();
    [&length[..], &checksum(&length), event, &checksum(event)].concat()
}

/// A checksum of data that has checksums in it is a bad one; so those are stored in disguise.
fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_the_bytes_that_tensorboard_writes() {
        // python: `e = event_pb2.Event(wall_time=1.5, step=300); e.summary.value.add(tag="lr", simple_value=0.25);
        // RecordWriter(f).write(e.SerializeToString())` of tensorboard 2.x, in hexadecimal.
        let expected = "19000000000000008bf1082809000000000000f83f10ac022a0b0a090a026c72150000803e45fb0cd9";
        let hex: String =
            record(&summary(1.5, 300, &[("lr", 0.25)])).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
    }

    #[test]
    fn a_run_that_begins_anew_leaves_no_old_events() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let events = Events::create(folder.path(), Some(7)).expect("it can be written");
        let there = || fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(there(), 1);
        let name = events.path.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(name.starts_with(PREFIX) && name.ends_with(&std::process::id().to_string()), "{name}");
        remove_all(folder.path()).expect("it can be removed");
        assert_eq!(there(), 0);
    }
}
