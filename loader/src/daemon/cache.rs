//! The cache of a stream as the daemon sees it: made and counted here, read and written by workers alone.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use batchmill_datasets::cache::{self, CacheKind, CacheSpec, Usage};
use batchmill_datasets::spec::StreamSpec;
use batchmill_protocol::slab::{self, SlabError, size};
use batchmill_protocol::status::CacheStatus;

/// Where a stream's samples are kept.
pub(super) struct StreamCache {
    spec: CacheSpec,
    file: File,
    /// On disk.
    path: Option<PathBuf>,
    said_full: bool,
}

impl StreamCache {
    /// Makes room in memory for the cache of the stream `name`, or opens the file that a worker says it is in.
    ///
    /// # Errors
    /// One sentence fragment.
    pub(super) fn open(name: &str, spec: &CacheSpec, path: Option<PathBuf>) -> Result<Self, String> {
        let failed = |error| format!("its cache cannot be opened: {error}");
        let file = match (&spec.kind, &path) {
            (CacheKind::Ram, _) => File::from(slab::growing(name).map_err(failed)?),
            (CacheKind::Disk(_), Some(path)) => File::open(path).map_err(failed)?,
            (CacheKind::Disk(_), None) => return Err("no worker says in which file its cache is".to_owned()),
        };
        Ok(Self { spec: spec.clone(), file, path, said_full: false })
    }

    /// The same for data that are others: nothing of this one is in it.
    ///
    /// # Errors
    /// One sentence fragment.
    pub(super) fn anew(&self, name: &str, path: Option<PathBuf>) -> Result<Self, String> {
        Self::open(name, &self.spec, path)
    }

    /// What workers are handed: memory; a file they open themselves.
    pub(super) fn memory(&self) -> Option<BorrowedFd<'_>> {
        (self.spec.kind == CacheKind::Ram).then(|| self.file.as_fd())
    }

    /// The memory that it may come to take beside what it takes now.
    pub(super) fn promised_bytes(&self) -> u64 {
        let taken = self.file.metadata().map_or(0, |metadata| metadata.len());
        self.spec.ram_bytes().saturating_sub(taken)
    }

    pub(super) fn status(&self) -> CacheStatus {
        // A file that cannot be read keeps nothing.
        let Usage { kept, bytes, is_full } = Usage::of(&self.file).unwrap_or_default();
        let place = self.path.as_ref().map_or_else(|| "ram".to_owned(), |path| path.display().to_string());
        CacheStatus { place, kept, bytes, limit_bytes: self.spec.limit_bytes, full: is_full }
    }

    /// A line for the log, once, when the cache has become full.
    pub(super) fn news(&mut self) -> Option<String> {
        if self.said_full || !cache::is_full(&self.file) {
            return None;
        }
        self.said_full = true;
        let CacheStatus { kept, bytes, limit_bytes, .. } = self.status();
        Some(format!(
            "its cache is full with {kept} samples in {} of {}; the others are made in every epoch: raise `limit` under \
             `cache`",
            size(bytes),
            size(limit_bytes)
        ))
    }
}

/// Requires that there is memory for batches and for the caches of `streams`, beside what others were promised.
///
/// # Errors
/// One sentence fragment with the remedy.
pub(crate) fn check_memory(memory_bytes: u64, streams: &[StreamSpec], promised_bytes: u64) -> Result<(), String> {
    let available_bytes = slab::available_bytes().saturating_sub(promised_bytes);
    if memory_bytes > available_bytes {
        return Err(SlabError::NoMemory { needed_bytes: memory_bytes, available_bytes }.to_string());
    }
    let caches = streams.iter().filter_map(|stream| stream.cache.as_ref());
    let cache_bytes = caches.fold(0, |sum: u64, cache| sum.saturating_add(cache.ram_bytes()));
    if cache_bytes > available_bytes - memory_bytes {
        return Err(format!(
            "caches of {} in memory were asked for and {} is available beside {} for batches: lower `limit` under \
             `cache`, or use `kind` = \"disk\"",
            size(cache_bytes),
            size(available_bytes - memory_bytes),
            size(memory_bytes)
        ));
    }
    Ok(())
}
