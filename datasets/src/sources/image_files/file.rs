//! One file of a list: looked at when it is listed, and read only as long as it is still the same.

use std::fs::Metadata;
use std::io::Read;
use std::path::Path;

use super::table::FileEntry;
use crate::dataset::SampleError;
use crate::scratch;
use crate::sources::stamp::Stamp;

impl<'a> FileEntry<'a> {
    /// What is kept of the file called `path`.
    pub(in crate::sources) fn new(path: &'a str, metadata: &Metadata) -> Self {
        let Stamp { bytes, modified_ns } = Stamp::of(metadata);
        Self { path, bytes, modified_ns }
    }
}

/// Reads the whole file, which must still be the one that was listed.
pub(super) fn read(path: &Path, entry: &FileEntry<'_>) -> Result<Vec<u8>, SampleError> {
    let name = || path.display().to_string();
    let stamp = Stamp { bytes: entry.bytes, modified_ns: entry.modified_ns };
    let mut file = stamp.open(path)?;
    let len = usize::try_from(entry.bytes)
        .map_err(|_| SampleError::new(name(), format!("{} bytes do not fit into memory", entry.bytes)))?;
    let mut bytes = scratch::take(len);
    let outcome = file.read_exact(&mut bytes);
    stamp.check(path, &file)?;
    outcome.map_err(|source| SampleError::Read { sample: name(), source })?;
    Ok(bytes)
}
