//! An index in a file beside its list, for as long as list and options are what they were.
//!
//! ```text
//! index     as it was made
//! key       u128, of the options and of every file that was read for the index: size, time and content
//! checksum  u64, over all before it
//! ```
//! Numbers are little-endian. The index comes first, so that it is read to where it stays.

use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::Hasher as _;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;

use twox_hash::{XxHash3_64, XxHash3_128};

use super::stamp::Stamp;
use crate::source::{IndexRoom, OpenError};

/// Counted up when the same list and options come to give another index.
const VERSION: u32 = 1;

const KEY_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 8;

/// How much of a file is read at a time: what the nearer caches hold until it is hashed and copied.
const CHUNK_BYTES: usize = 256 << 10;

/// Where the index of a list is kept: `labels.csv.index`.
pub(super) fn path_of(list: &Path) -> PathBuf {
    beside(list, ".index")
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

/// Writes the index of `list` to `room` as it was kept, or else what `make` makes of it, which then is kept.
///
/// `options` says what else the index follows from, `files` which files beside the list are read for it. A folder that
/// cannot be written to is no failure; a line on standard error says so.
///
/// # Errors
/// Those of `make`, and when the room does not take it.
pub(super) fn kept_or(
    list: &Path,
    options: &str,
    files: &[&Path],
    make: impl FnOnce() -> Result<Vec<u8>, OpenError>,
    room: &mut dyn IndexRoom,
) -> Result<(), OpenError> {
    let path = path_of(list);
    let key = || key(list, options, files).ok();
    // Each is tens of megabytes for a million files: on a thread of its own the list costs no time.
    let (before, kept) = thread::scope(|scope| {
        let before = scope.spawn(key);
        let kept = copy(&path, room);
        (before.join().ok().flatten(), kept)
    });
    let kept = kept.map_err(OpenError::room)?;
    if kept.is_some_and(|key| Some(key) == before) {
        return Ok(());
    }
    room.clear().map_err(OpenError::room)?;
    let mut index = make()?;
    // A list that was changed meanwhile has an index that belongs to neither.
    if let Some(key) = before.filter(|before| key() == Some(*before))
        && let Err(error) = write(&path, key, &mut index)
    {
        let list = list.display();
        // Where nobody reads the line, it is lost.
        let _ = writeln!(
            io::stderr().lock(),
            "the index of {list} is not kept, all its files are looked at each time: {error}"
        );
    }
    room.write_all(&index).map_err(OpenError::room)
}

/// Removes the index of a list, so that the next one is made anew.
pub(super) fn forget(list: &Path) {
    // What cannot be removed could not be written either.
    let _ = fs::remove_file(path_of(list));
}

/// What an index follows from.
fn key(list: &Path, options: &str, files: &[&Path]) -> io::Result<u128> {
    let mut text = format!("{VERSION} {options}");
    for path in [list].iter().chain(files) {
        let mut file = File::open(path)?;
        let Stamp { bytes, modified_ns } = Stamp::of(&file.metadata()?);
        let (mut hash, mut chunk) = (XxHash3_128::new(), vec![0; CHUNK_BYTES]);
        loop {
            let read = file.read(&mut chunk)?;
            if read == 0 {
                break;
            }
            hash.write(&chunk[..read]);
        }
        text.push_str(&format!(" {path:?} {bytes} {modified_ns} {:032x}", hash.finish_128()));
    }
    Ok(XxHash3_128::oneshot(text.as_bytes()))
}

/// Writes the index that was kept to `room`, and says under which key that was, if the file is there and whole. Where it is
/// not, some of it may be written.
///
/// It is not mapped where it lies: whoever cuts the file would end this process. What was hashed is what was written.
///
/// # Errors
/// Those of the room.
fn copy(path: &Path, room: &mut dyn IndexRoom) -> io::Result<Option<u128>> {
    let Ok(mut file) = File::open(path) else { return Ok(None) };
    let bytes = file.metadata().map_or(0, |metadata| metadata.len());
    let Some(mut left) = bytes.checked_sub((KEY_BYTES + CHECKSUM_BYTES) as u64) else { return Ok(None) };
    let (mut hash, mut chunk) = (XxHash3_64::new(), vec![0; CHUNK_BYTES]);
    while left > 0 {
        let bytes = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        let chunk = &mut chunk[..bytes];
        if file.read_exact(chunk).is_err() {
            return Ok(None);
        }
        hash.write(chunk);
        room.write_all(chunk)?;
        left -= bytes as u64;
    }
    let (mut key, mut checksum) = ([0; KEY_BYTES], [0; CHECKSUM_BYTES]);
    if file.read_exact(&mut key).and_then(|()| file.read_exact(&mut checksum)).is_err() {
        return Ok(None);
    }
    hash.write(&key);
    Ok((hash.finish() == u64::from_le_bytes(checksum)).then_some(u128::from_le_bytes(key)))
}

/// Writes the file under another name first: under its own it is whole, or the one before.
fn write(path: &Path, key: u128, index: &mut Vec<u8>) -> io::Result<()> {
    let index_bytes = index.len();
    index.extend(key.to_le_bytes());
    let checksum = XxHash3_64::oneshot(index);
    index.extend(checksum.to_le_bytes());
    let partial = beside(path, ".partial");
    let written = fs::write(&partial, &*index).and_then(|()| fs::rename(&partial, path));
    index.truncate(index_bytes);
    if written.is_err() {
        let _ = fs::remove_file(&partial);
    }
    written
}
