//! One trainer a folder: a lock file beside it, held for the run.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The right to write a checkpoint; ends with the process at the latest.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    /// The lock is this open file's.
    _file: File,
}

impl Lock {
    /// Takes the lock, or `None` when somebody has it.
    ///
    /// # Errors
    /// When the file cannot be made, or its file system knows no locks.
    pub(super) fn take(path: &Path) -> io::Result<Option<Self>> {
        loop {
            let file = File::options().create(true).truncate(false).write(true).open(path)?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(source)) => return Err(source),
                Ok(()) => {}
            }
            // A trainer that ended between our open and our lock has removed the file: a lock on it keeps nobody out.
            let ours = file.metadata()?.ino();
            if fs::metadata(path).is_ok_and(|there| there.ino() == ours) {
                return Ok(Some(Self { path: path.to_path_buf(), _file: file }));
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Still locked here. A file that stays is taken over by the next trainer.
        let _ = fs::remove_file(&self.path);
    }
}
