//! A file in the making: nobody sees it under its name before it is whole, and two processes never make it at once.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};
use thiserror::Error;

/// The bytes moved at once.
const PIECE_BYTES: usize = 1 << 16;

/// What could not be done in the folder of a file; no other server helps.
#[derive(Debug, Error)]
#[error("{doing} {}", path.display())]
pub(crate) struct WriteError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Why a file did not get its bytes.
#[derive(Debug)]
pub(super) enum FillError {
    /// They could not be had.
    Read(io::Error),
    /// They could not be written.
    Write(WriteError),
    /// There are more than there may be.
    TooMany,
}

/// `NAME.part` beside the file it is to become, locked.
///
/// It outlives a process that is killed: the next one goes on with it.
#[derive(Debug)]
pub(super) struct Part {
    file: PathBuf,
    path: PathBuf,
    opened: File,
    len: u64,
}

impl Part {
    /// Begins `file`, or goes on with it; `None` when it is there already.
    ///
    /// `waiting` is called before it waits for another process that makes the file. That one has a deadline on all that
    /// it waits for, and its lock ends with it.
    pub(super) fn open(file: &Path, waiting: impl FnOnce()) -> Result<Option<Self>, WriteError> {
        let mut name = OsString::from(file);
        name.push(".part");
        let path = PathBuf::from(name);
        let mut waiting = Some(waiting);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).map_err(failed("make the folder", folder))?;
        }
        loop {
            if file.exists() {
                return Ok(None);
            }
            let options = File::options().read(true).write(true).create(true).truncate(false).clone();
            let opened = options.open(&path).map_err(failed("write", &path))?;
            match opened.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    if let Some(waiting) = waiting.take() {
                        waiting();
                    }
                    opened.lock().map_err(failed("lock", &path))?;
                }
                Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
            }
            // Whoever had the lock has published what we hold, or removed it.
            let metadata = opened.metadata().map_err(failed("look at", &path))?;
            let is_ours =
                fs::metadata(&path).is_ok_and(|named| (named.dev(), named.ino()) == (metadata.dev(), metadata.ino()));
            if is_ours {
                let part = Self { file: file.to_owned(), path, opened, len: metadata.len() };
                // Between the look above and the lock.
                if !file.exists() {
                    return Ok(Some(part));
                }
                part.discard()?;
                return Ok(None);
            }
        }
    }

    /// The bytes that are there.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Where they are.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Begins anew.
    pub(super) fn clear(&mut self) -> Result<(), WriteError> {
        // A device, such as /dev/full, has no length to be set.
        if self.len > 0 {
            self.opened.set_len(0).map_err(failed("write", &self.path))?;
        }
        self.len = 0;
        Ok(())
    }

    /// Adds all that `from` has, up to `bytes_max` in the whole file; `tell` hears of every piece how many bytes are
    /// there. What has been added stays when there is an error.
    pub(super) fn fill(
        &mut self,
        from: &mut dyn Read,
        bytes_max: u64,
        tell: &mut dyn FnMut(u64),
    ) -> Result<(), FillError> {
        let mut piece = vec![0; PIECE_BYTES];
        let failed = |error| FillError::Write(failed("write", &self.path)(error));
        self.opened.seek(SeekFrom::Start(self.len)).map_err(failed)?;
        loop {
            let count = match from.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(FillError::Read(error)),
            };
            if self.len + count as u64 > bytes_max {
                return Err(FillError::TooMany);
            }
            self.opened.write_all(&piece[..count]).map_err(failed)?;
            self.len += count as u64;
            tell(self.len);
        }
    }

    /// The MD5 of its bytes, in hexadecimal digits.
    pub(super) fn md5(&mut self) -> Result<String, WriteError> {
        let mut hash = Md5::new();
        let hashed = self.opened.rewind().and_then(|()| io::copy(&mut self.opened, &mut hash));
        hashed.map_err(failed("read", &self.path))?;
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Gives the file its name. Its bytes are on the disk before: a machine that loses power must not find the name
    /// without them.
    pub(super) fn publish(self) -> Result<PathBuf, WriteError> {
        self.opened.sync_all().map_err(failed("write", &self.path))?;
        fs::rename(&self.path, &self.file).map_err(failed("write", &self.file))?;
        Ok(self.file)
    }

    /// Removes what there is of it.
    pub(super) fn discard(self) -> Result<(), WriteError> {
        fs::remove_file(&self.path).map_err(failed("remove", &self.path))
    }
}

fn failed(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> WriteError + use<> {
    let path = path.to_owned();
    move |source| WriteError { doing, path: path.clone(), source }
}
