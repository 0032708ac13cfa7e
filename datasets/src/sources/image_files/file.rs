//! One file of a list: looked at when it is listed, and read only as long as it is still the same.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::table::FileEntry;
use crate::dataset::SampleError;
use crate::quarantine::is_passing_io;
use crate::scratch;

impl<'a> FileEntry<'a> {
    /// What is kept of the file called `path`.
    pub(in crate::sources) fn new(path: &'a str, metadata: &Metadata) -> Self {
        Self { path, bytes: metadata.len(), modified_ns: modified_ns(metadata) }
    }
}

/// When a file was last written to, in nanoseconds since 1970; 0 where the file system does not say.
fn modified_ns(metadata: &Metadata) -> i64 {
    let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
    let ns = |time: Result<std::time::Duration, _>| time.ok().and_then(|time| i64::try_from(time.as_nanos()).ok());
    let after = ns(modified.duration_since(UNIX_EPOCH));
    let before = ns(SystemTime::UNIX_EPOCH.duration_since(modified)).map(|ns| -ns);
    after.or(before).unwrap_or(0)
}

/// Reads the whole file, which must still be the one that was listed.
///
/// Otherwise an epoch before the change and one after it would differ, with nothing to show for it.
pub(super) fn read(path: &Path, entry: &FileEntry<'_>) -> Result<Vec<u8>, SampleError> {
    let name = || path.display().to_string();
    let failed = |source| SampleError::Read { sample: name(), source };
    let mut file = File::open(path).map_err(|error| not_opened(path, entry, error))?;
    let len = usize::try_from(entry.bytes)
        .map_err(|_| SampleError::new(name(), format!("{} bytes do not fit into memory", entry.bytes)))?;
    let mut bytes = scratch::take(len);
    let outcome = file.read_exact(&mut bytes);
    // Looked at after reading, so that what is written meanwhile is noticed as well.
    check_unchanged(path, entry, &file.metadata().map_err(failed)?)?;
    outcome.map_err(failed)?;
    Ok(bytes)
}

/// Why a file cannot be opened: it is not the one that was listed any more, or it never could be.
fn not_opened(path: &Path, entry: &FileEntry<'_>, error: io::Error) -> SampleError {
    let sample = || path.display().to_string();
    match fs::metadata(path) {
        Ok(metadata) => match check_unchanged(path, entry, &metadata) {
            Ok(()) => SampleError::Read { sample: sample(), source: error },
            Err(changed) => changed,
        },
        Err(error) if is_passing_io(&error) => SampleError::Read { sample: sample(), source: error },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            SampleError::Changed { sample: sample(), found: "it is gone".to_owned() }
        }
        // It could be looked at when it was listed.
        Err(error) => SampleError::Changed { sample: sample(), found: format!("it cannot be looked at: {error}") },
    }
}

fn check_unchanged(path: &Path, entry: &FileEntry<'_>, metadata: &Metadata) -> Result<(), SampleError> {
    let found = if metadata.len() != entry.bytes {
        format!("it has {} bytes and had {}", metadata.len(), entry.bytes)
    } else if modified_ns(metadata) != entry.modified_ns {
        "it was written to".to_owned()
    } else {
        return Ok(());
    };
    Err(SampleError::Changed { sample: path.display().to_string(), found })
}
