//! The files of a list: looked at when they are listed, and read only as long as they are still the same.

use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io::{IoSliceMut, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::{Mode, OFlags};

use super::table::FileEntry;
use crate::dataset::SampleError;
use crate::scratch;
use crate::sources::stamp::Stamp;

/// Files that are held for what is to come: the one about to be read, and the next.
const AHEAD_MAX: usize = 2;

impl<'a> FileEntry<'a> {
    /// What is kept of the file called `path`.
    pub(in crate::sources) fn new(path: &'a str, metadata: &Metadata) -> Self {
        let Stamp { bytes, modified_ns } = Stamp::of(metadata);
        Self { path, bytes, modified_ns }
    }

    fn stamp(&self) -> Stamp {
        Stamp { bytes: self.bytes, modified_ns: self.modified_ns }
    }
}

/// Larger files are not read ahead, but fetched by the system: their bytes would have left the nearer caches by the time
/// that they are decoded.
const READ_AHEAD_MAX: u64 = 16 << 10;

/// A file that is to be read next.
#[derive(Debug)]
enum Ahead {
    /// Its bytes are here already.
    Read(Vec<u8>),
    /// The system fetches them.
    Fetched(File),
}

/// The folder that listed files are in. It is held open: a file is found from there, not from the root.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// `None` where it cannot be opened, which every file then says.
    handle: Option<OwnedFd>,
    /// Files that are to be read next, by their rows.
    ahead: Mutex<VecDeque<(u64, Ahead)>>,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        let handle = rustix::fs::open(&path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok();
        Self { path, handle, ahead: Mutex::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Has the file of a row at hand when it is read, if that is possible without waiting.
    pub(super) fn expect(&self, row: u64, entry: &FileEntry<'_>) {
        let Some(file) = self.open(entry) else { return };
        let ahead = match read_at_hand(&file, entry) {
            Some(bytes) => Ahead::Read(bytes),
            None => {
                // A hint, which no file system need follow.
                #[cfg(target_os = "linux")]
                let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::WillNeed);
                Ahead::Fetched(file)
            }
        };
        if let Ok(mut known) = self.ahead.try_lock() {
            known.truncate(AHEAD_MAX - 1);
            known.push_front((row, ahead));
        }
    }

    /// Reads the whole file of a row, which must still be the one that was listed: that of its `entry`.
    pub(super) fn read<'a>(
        &self,
        row: u64,
        entry: impl FnOnce() -> Result<FileEntry<'a>, SampleError>,
    ) -> Result<Vec<u8>, SampleError> {
        let ahead = self.ahead.try_lock().ok().and_then(|mut ahead| {
            let place = ahead.iter().position(|(of, _)| *of == row)?;
            ahead.remove(place)
        });
        let fetched = match ahead {
            Some((_, Ahead::Read(bytes))) => return Ok(bytes),
            Some((_, Ahead::Fetched(file))) => Some(file),
            None => None,
        };
        let entry = entry()?;
        match fetched.or_else(|| self.open(&entry)) {
            Some(file) => read_from(file, || self.path.join(entry.path), &entry),
            // Why not, and whether it ever could be.
            None => read(&self.path.join(entry.path), &entry),
        }
    }

    fn open(&self, entry: &FileEntry<'_>) -> Option<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
        rustix::fs::openat(self.handle.as_ref()?, entry.path, flags, Mode::empty()).ok().map(File::from)
    }
}

/// Reads the whole file, which must still be the one that was listed.
pub(super) fn read(path: &Path, entry: &FileEntry<'_>) -> Result<Vec<u8>, SampleError> {
    read_from(entry.stamp().open(path)?, || path.to_owned(), entry)
}

/// The bytes of a file that is still the one that was listed, where the system has them in memory.
#[cfg(target_os = "linux")]
fn read_at_hand(file: &File, entry: &FileEntry<'_>) -> Option<Vec<u8>> {
    let len = Some(entry.bytes).filter(|bytes| *bytes <= READ_AHEAD_MAX)?;
    let mut bytes = scratch::take(usize::try_from(len).ok()?);
    let room = &mut [IoSliceMut::new(&mut bytes)];
    let read = rustix::io::preadv2(file, room, 0, rustix::io::ReadWriteFlags::NOWAIT);
    if read == Ok(bytes.len()) && entry.stamp().is_of(file) {
        return Some(bytes);
    }
    scratch::give(bytes);
    None
}

#[cfg(not(target_os = "linux"))]
fn read_at_hand(_: &File, _: &FileEntry<'_>) -> Option<Vec<u8>> {
    None
}

fn read_from(mut file: File, path: impl Fn() -> PathBuf, entry: &FileEntry<'_>) -> Result<Vec<u8>, SampleError> {
    let name = || path().display().to_string();
    let len = usize::try_from(entry.bytes)
        .map_err(|_| SampleError::new(name(), format!("{} bytes do not fit into memory", entry.bytes)))?;
    let mut bytes = scratch::take(len);
    let outcome = file.read_exact(&mut bytes);
    // After reading, so that what is written meanwhile is noticed as well.
    if !entry.stamp().is_of(&file) {
        entry.stamp().check(&path(), &file)?;
    }
    outcome.map_err(|source| SampleError::Read { sample: name(), source })?;
    Ok(bytes)
}
