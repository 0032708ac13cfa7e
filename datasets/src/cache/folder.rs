//! The folder of caches on disk: a file for each key, and those that were not used for longest go first.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};
use thiserror::Error;

use super::Cache;

/// What the files of caches end with. Only those are ever removed.
const EXTENSION: &str = "batchmill-cache";

/// A folder that no cache can be kept in.
#[derive(Debug, Error)]
pub enum FolderError {
    /// There is none.
    #[error("the folder {} for the cache does not exist: make it, or give another `path`", .0.display())]
    Missing(PathBuf),
    /// It is a file.
    #[error("{} is a file, not a folder for the cache: give another `path`", .0.display())]
    File(PathBuf),
    /// It, or a file in it, cannot be used.
    #[error("cannot keep a cache in {}: give a `path` that can be written to, or mend that", folder.display())]
    Io {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The file in `folder` where samples that follow from `key` are kept.
pub fn file_of(folder: &Path, key: u128) -> PathBuf {
    folder.join(format!("{key:032x}.{EXTENSION}"))
}

/// Opens the cache of a key in a folder, which is made when there is none, or one that cannot be believed.
///
/// As long as it is open, [`make_room`] in any process leaves it alone.
///
/// # Errors
/// [`FolderError`] when there is no such folder, or the file cannot be written.
pub fn open(folder: &Path, key: u128, samples: u64, limit_bytes: u64) -> Result<Cache, FolderError> {
    let failed = |source| FolderError::Io { folder: folder.to_owned(), source };
    match fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(FolderError::File(folder.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(FolderError::Missing(folder.to_owned())),
        Err(error) => return Err(failed(error)),
    }
    let path = file_of(folder, key);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    if let Some(cache) = use_file(file.map_err(failed)?, key, samples, limit_bytes).map_err(failed)? {
        return Ok(cache);
    }
    // Whoever has the old one open keeps it to himself from now on.
    fs::remove_file(&path).map_err(failed)?;
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let cache = use_file(file.map_err(failed)?, key, samples, limit_bytes).map_err(failed)?;
    cache.ok_or_else(|| failed(io::Error::other(format!("{} changes while it is opened", path.display()))))
}

fn use_file(file: File, key: u128, samples: u64, limit_bytes: u64) -> io::Result<Option<Cache>> {
    // Where there are no locks, or somebody holds one on purpose, the file may go and its samples are made again.
    let _ = file.try_lock_shared();
    // Opened is used: what was not, for longest, goes first.
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let _ = futimens(&file, &Timestamps { last_access: now, last_modification: now });
    Cache::open(file, key, samples, limit_bytes)
}

/// Removes files of other keys that nobody has open, the longest unused first, until all in `folder` together take no more
/// than `limit_bytes`, if that can be.
///
/// # Errors
/// [`FolderError::Io`] when the folder cannot be read.
pub fn make_room(folder: &Path, key: u128, limit_bytes: u64) -> Result<(), FolderError> {
    let failed = |source| FolderError::Io { folder: folder.to_owned(), source };
    let own = file_of(folder, key);
    let (mut all_bytes, mut others) = (0_u64, Vec::new());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_none_or(|extension| extension != EXTENSION) {
            continue;
        }
        // One that goes meanwhile takes no room.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        all_bytes += metadata.len();
        if path != own && metadata.is_file() {
            others.push(((metadata.mtime(), metadata.mtime_nsec()), metadata.len(), path));
        }
    }
    others.sort();
    for (_, bytes, path) in others {
        if all_bytes <= limit_bytes {
            break;
        }
        if remove_unused(&path).is_ok_and(|removed| removed) {
            all_bytes -= bytes;
        }
    }
    Ok(())
}

/// Removes a file unless somebody uses it, and says whether it did.
fn remove_unused(path: &Path) -> io::Result<bool> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => fs::remove_file(path).map(|()| true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
