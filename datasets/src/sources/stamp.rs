//! Whether a file is still the one that was indexed.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::dataset::SampleError;
use crate::quarantine::is_passing_io;

/// How a file was when the index was made. It is part of the index: a file that changes makes another stream.
///
/// Without it an epoch before the change and one after it would differ, with nothing to show for it.
///
/// A file that is replaced by one of equal size and equal modification time is not noticed: by `cp -p` or `rsync -t`, or
/// by a second write within one tick of the file system's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    /// The size of the file.
    pub(super) bytes: u64,
    /// When the file was last written to, in nanoseconds since 1970; 0 where the file system does not say.
    pub(super) modified_ns: i64,
}

impl Stamp {
    /// How a file is now.
    pub(super) fn of(metadata: &Metadata) -> Self {
        let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
        let ns = |time: Result<std::time::Duration, _>| time.ok().and_then(|time| i64::try_from(time.as_nanos()).ok());
        let after = ns(modified.duration_since(UNIX_EPOCH));
        let before = ns(SystemTime::UNIX_EPOCH.duration_since(modified)).map(|ns| -ns);
        Self { bytes: metadata.len(), modified_ns: after.or(before).unwrap_or(0) }
    }

    /// Whether an opened file is certainly the one that was indexed, by the cheapest question there is.
    pub(super) fn is_of(&self, file: &File) -> bool {
        let Ok(now) = rustix::fs::fstat(file) else { return false };
        let modified_ns = i128::from(now.st_mtime) * 1_000_000_000 + i128::from(now.st_mtime_nsec);
        u64::try_from(now.st_size) == Ok(self.bytes) && modified_ns == i128::from(self.modified_ns)
    }

    /// Opens the file, which need not be the indexed one: [`check`](Self::check) after reading.
    ///
    /// # Errors
    /// [`SampleError`]: it is not the one that was indexed any more, or it never could be opened.
    pub(super) fn open(&self, path: &Path) -> Result<File, SampleError> {
        let sample = || path.display().to_string();
        let changed = |found| SampleError::Changed { sample: sample(), found };
        let failed = |source| SampleError::Read { sample: sample(), source };
        let error = match File::open(path) {
            Ok(file) => return Ok(file),
            Err(error) => error,
        };
        Err(match fs::metadata(path) {
            Ok(metadata) => self.compare(path, &metadata).err().unwrap_or_else(|| failed(error)),
            Err(error) if is_passing_io(&error) => failed(error),
            Err(error) if error.kind() == io::ErrorKind::NotFound => changed("it is gone".to_owned()),
            // It could be looked at when it was indexed.
            Err(error) => changed(format!("it cannot be looked at: {error}")),
        })
    }

    /// Requires that an opened file is the one that was indexed. Call it after reading, so that what is written meanwhile
    /// is noticed as well.
    ///
    /// # Errors
    /// [`SampleError::Changed`], or [`SampleError::Read`] when the file cannot be looked at.
    pub(super) fn check(&self, path: &Path, file: &File) -> Result<(), SampleError> {
        let metadata = file.metadata();
        let metadata = metadata.map_err(|source| SampleError::Read { sample: path.display().to_string(), source })?;
        self.compare(path, &metadata)
    }

    fn compare(&self, path: &Path, metadata: &Metadata) -> Result<(), SampleError> {
        let now = Self::of(metadata);
        let found = if now.bytes != self.bytes {
            format!("it has {} bytes and had {}", now.bytes, self.bytes)
        } else if now.modified_ns != self.modified_ns {
            "it was written to".to_owned()
        } else {
            return Ok(());
        };
        Err(SampleError::Changed { sample: path.display().to_string(), found })
    }
}
