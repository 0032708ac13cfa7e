//! Samples kept behind the transforms that draw nothing, so that each is made in one epoch and not in all.
//!
//! ```toml
//! cache = { kind = "ram", limit = "4GiB" }                       # shared by all workers, gone with the loader
//! cache = { kind = "disk", limit = "40GiB", path = "cache" }     # a file in that folder, kept between runs
//! ```
//!
//! What is kept is the sample behind the longest beginning of the chain whose transforms are all
//! [deterministic](crate::transform::Transform::is_deterministic); those behind it vary as they do without a cache. A
//! stream's bytes are the same with and without one. A sample is kept as it was when it was first made, as the stream's
//! index has it: a file that is changed later is not noticed where its sample is kept.
//!
//! # The file
//!
//! ```text
//! header    magic, key u128, samples u64, checksum of those; limit at which it was full u64; zeros up to a page
//! table     u64 for each sample of the dataset: where its entry begins, or 0; zeros up to a page
//! entries   one behind the other, in the order they were made
//! ```
//!
//! Numbers are little-endian. Any number of processes read and write it without a lock: an entry is appended in one call,
//! which the kernel does for one process after the other, and only then the table says where it is. Nothing in the file is
//! believed: an entry has its index and checksums over all of it, and what is torn, cut, flipped or of another sample is
//! not there. A process that is killed leaves some bytes that nobody reads. Two that make one sample at the same time
//! append it twice.

mod entry;
pub mod folder;
mod spec;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::hash::Hasher as _;
use std::io::{self, IoSlice, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use twox_hash::XxHash3_64;

pub use self::spec::{CacheKind, CacheSpec};

use self::entry::Head;
use crate::sample::Sample;
use crate::scratch;

/// Counted up with every change of the file's layout; part of the magic.
const MAGIC: [u8; 8] = *b"bmcache1";

const PAGE_BYTES: u64 = 4096;

/// Where the header's parts begin: what is checked, its checksum, the limit at which the cache was full.
const CHECKED_BYTES: usize = 8 + 16 + 8;
const HEADER_BYTES: usize = CHECKED_BYTES + 8;
const FULL_AT: u64 = HEADER_BYTES as u64;

/// Where the table begins.
const TABLE_AT: u64 = PAGE_BYTES;

/// Most heads are shorter, so that one call reads them.
const HEAD_GUESS_BYTES: usize = 256;

/// Kept samples of one stream, in a file that other processes have open as well.
#[derive(Debug)]
pub struct Cache {
    file: File,
    /// The same file, to append to: with a place of its own, that tells where an entry came to be.
    appender: File,
    samples: u64,
    /// Where the entries begin.
    entries_at: u64,
    limit_bytes: u64,
    is_full: AtomicBool,
}

impl Cache {
    /// Opens the cache in `file`, which is laid out for `samples` samples that follow from `key` if it is empty; `None`
    /// when it is of another key, or no cache.
    ///
    /// It takes no more than `limit_bytes`, give or take the entry that another process appends at the same moment.
    ///
    /// # Errors
    /// The file cannot be read or written, or its table alone is larger than the limit.
    pub fn open(file: File, key: u128, samples: u64, limit_bytes: u64) -> io::Result<Option<Self>> {
        let entries_at = samples
            .checked_mul(8)
            .and_then(|table_bytes| (TABLE_AT + table_bytes).checked_next_multiple_of(PAGE_BYTES))
            .filter(|bytes| *bytes <= limit_bytes);
        let Some(entries_at) = entries_at else {
            let reason = format!("the table of {samples} samples does not fit into {limit_bytes} bytes: raise `limit`");
            return Err(io::Error::other(reason));
        };
        let expected = header(key, samples);
        let mut found = [0; HEADER_BYTES];
        let read = read_up_to(&file, &mut found, 0)?;
        // Zeros are the header of a file that another process is about to lay out.
        if found[..read].iter().all(|byte| *byte == 0) {
            file.write_all_at(&expected, 0)?;
        } else if found != expected {
            return Ok(None);
        }
        // The table's last byte is padding, or the highest of a place. To write it never cuts the file, as to set its
        // length might, when another process has appended meanwhile.
        if file.metadata()?.len() < entries_at {
            file.write_all_at(&[0], entries_at - 1)?;
        }
        // There is room again for a limit that is higher; others may have it open with this one, and have found it full.
        let mut full_at = [0; 8];
        read_up_to(&file, &mut full_at, FULL_AT)?;
        if u64::from_le_bytes(full_at) < limit_bytes {
            file.write_all_at(&[0; 8], FULL_AT)?;
        }
        // Reopened, not duplicated: a descriptor that came from another process shares its place with that.
        let appender = OpenOptions::new().append(true).open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        Ok(Some(Self { file, appender, samples, entries_at, limit_bytes, is_full: AtomicBool::new(false) }))
    }

    /// Whether sample `index` seems to be kept; only who reads it knows.
    pub(crate) fn has(&self, index: u64) -> bool {
        self.place(index).is_some()
    }

    /// Whether there is room, as far as this process knows.
    pub(crate) fn takes_more(&self) -> bool {
        !self.is_full.load(Ordering::Relaxed)
    }

    /// Where the entry of a sample begins, as the table has it.
    fn place(&self, index: u64) -> Option<u64> {
        if index >= self.samples {
            return None;
        }
        let mut place = [0; 8];
        self.file.read_exact_at(&mut place, TABLE_AT + index * 8).ok()?;
        Some(u64::from_le_bytes(place)).filter(|place| *place >= self.entries_at)
    }

    /// What is kept of sample `index`: its head and, to be read in turn, the values of its fields.
    pub(crate) fn find(&self, index: u64) -> Option<(Head, Values<'_>)> {
        let place = self.place(index)?;
        let mut start = vec![0; HEAD_GUESS_BYTES];
        let read = read_up_to(&self.file, &mut start, place).ok()?;
        start.truncate(read);
        let head_bytes = entry::head_bytes(&start)?;
        if head_bytes > read {
            self.extend(&mut start, head_bytes, place)?;
        }
        start.truncate(head_bytes);
        let head = Head::parse(start, index)?;
        let at = place.checked_add(head_bytes as u64)?;
        Some((head, Values { file: &self.file, at, hash: XxHash3_64::new() }))
    }

    /// Reads a head on up to its end.
    fn extend(&self, start: &mut Vec<u8>, head_bytes: usize, place: u64) -> Option<()> {
        let read = start.len();
        start.resize(head_bytes, 0);
        self.file.read_exact_at(&mut start[read..], place.checked_add(read as u64)?).ok()
    }

    /// What is kept of sample `index`, as it was put in.
    pub(crate) fn get(&self, index: u64) -> Option<Sample> {
        let (head, mut values) = self.find(index)?;
        let mut sample = Sample::new();
        for field in head.fields() {
            let len = field.value_bytes()?;
            // As the decoders do: the buffer of an image comes back when its row is written.
            let mut bytes = if field.is_pixels() { scratch::take(len) } else { vec![0; len] };
            values.read(&mut bytes)?;
            sample.insert(field.name.to_owned(), field.value(bytes)?);
        }
        values.are_those_of(&head).then_some(sample)
    }

    /// Keeps a sample, unless there is no more room.
    pub(crate) fn put(&self, index: u64, sample: &Sample) {
        if index >= self.samples || !self.takes_more() {
            return;
        }
        let Some(head) = entry::head(index, sample) else { return };
        match self.append(&head, sample) {
            // Without the table's word the entry is lost, and made again.
            Ok(Some(place)) => drop(self.file.write_all_at(&place.to_le_bytes(), TABLE_AT + index * 8)),
            // A disk that is full is a limit as well, and what else may be in the way is not for an epoch to fail of.
            Ok(None) | Err(_) => {
                self.is_full.store(true, Ordering::Relaxed);
                let _ = self.file.write_all_at(&self.limit_bytes.to_le_bytes(), FULL_AT);
            }
        }
    }

    /// Appends an entry and says where it begins; `None` when it would be above the limit.
    fn append(&self, head: &[u8], sample: &Sample) -> io::Result<Option<u64>> {
        let parts: Vec<_> = [head].into_iter().chain(sample.iter().map(|(_, value)| value.bytes())).collect();
        let bytes: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let end = self.appender.metadata()?.len().max(self.entries_at);
        if end.checked_add(bytes).is_none_or(|end| end > self.limit_bytes) {
            return Ok(None);
        }
        let parts: Vec<_> = parts.into_iter().map(IoSlice::new).collect();
        let written = (&self.appender).write_vectored(&parts)?;
        let place = (&self.appender).stream_position()?.checked_sub(written as u64);
        // Cut short, or in a file that somebody has cut, it is left where it is.
        let is_whole = written as u64 == bytes;
        match place.filter(|place| is_whole && *place >= self.entries_at) {
            Some(place) => Ok(Some(place)),
            None => Err(io::ErrorKind::StorageFull.into()),
        }
    }
}

/// The values of a kept sample, to be read one after the other.
pub(crate) struct Values<'a> {
    file: &'a File,
    at: u64,
    hash: XxHash3_64,
}

impl Values<'_> {
    /// Reads as many bytes as there is room; `None` when they are not there.
    pub(crate) fn read(&mut self, room: &mut [u8]) -> Option<()> {
        self.file.read_exact_at(room, self.at).ok()?;
        self.at += room.len() as u64;
        self.hash.write(room);
        Some(())
    }

    /// Whether what was read is, to its last byte, what the head was written for.
    pub(crate) fn are_those_of(&self, head: &Head) -> bool {
        self.hash.finish() == head.values_checksum()
    }
}

/// How much there is in a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Samples kept.
    pub kept: u64,
    /// The length of the file.
    pub bytes: u64,
    /// Whether there was no room for another, for a process that has it open.
    pub is_full: bool,
}

impl Usage {
    /// Looks at the file of a cache; nothing is kept in one that is not laid out yet.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(file: &File) -> io::Result<Self> {
        let bytes = file.metadata()?.len();
        let mut start = [0; HEADER_BYTES];
        let read = read_up_to(file, &mut start, 0)?;
        let (checked, checksum) = start.split_at(CHECKED_BYTES);
        if read < start.len() || u64_at(checksum, 0) != XxHash3_64::oneshot(checked) {
            return Ok(Self { bytes, ..Self::default() });
        }
        let (mut left, mut at, mut kept) = (u64_at(checked, CHECKED_BYTES - 8), TABLE_AT, 0);
        let mut places = vec![0; 1 << 16];
        while left > 0 {
            let part = usize::try_from(left.saturating_mul(8)).unwrap_or(usize::MAX).min(places.len());
            let read = read_up_to(file, &mut places[..part], at)?;
            kept += places[..read].as_chunks::<8>().0.iter().filter(|place| **place != [0; 8]).count() as u64;
            if read < part {
                break;
            }
            (left, at) = (left - part as u64 / 8, at + part as u64);
        }
        Ok(Self { kept, bytes, is_full: is_full(file) })
    }
}

/// Whether a process that has the cache in `file` open found no room for another sample.
pub fn is_full(file: &File) -> bool {
    let mut full_at = [0; 8];
    read_up_to(file, &mut full_at, FULL_AT).is_ok() && full_at != [0; 8]
}

/// What a file begins with.
fn header(key: u128, samples: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..24].copy_from_slice(&key.to_le_bytes());
    bytes[24..32].copy_from_slice(&samples.to_le_bytes());
    let checksum = XxHash3_64::oneshot(&bytes[..CHECKED_BYTES]);
    bytes[CHECKED_BYTES..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The number at `at`, which is inside.
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |number| u64::from_le_bytes(*number))
}

/// Reads from `at` on as much as there is, at most as there is room.
fn read_up_to(file: &File, room: &mut [u8], at: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < room.len() {
        match file.read_at(&mut room[read..], at.saturating_add(read as u64)) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
