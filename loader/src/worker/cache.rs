//! Where a worker keeps samples: in the memory that the daemon handed over, or in a file that it opens itself.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use batchmill_datasets::cache::{Cache, CacheKind, CacheSpec, folder};
use batchmill_datasets::pipeline::Pipeline;
use batchmill_datasets::spec::StreamSpec;
use batchmill_protocol::slab::size;

use crate::error::{Failure, report};

/// Sees that a stream's cache can be kept on disk, where it is to be there, removes what was not used for longest if it
/// must, and says which file it is. Other streams have theirs in the same folder, of `beside_bytes` at the most.
pub(super) fn prepare(spec: &StreamSpec, pipeline: &Pipeline, beside_bytes: u64) -> Result<Option<PathBuf>, Failure> {
    let Some((cache, CacheKind::Disk(folder))) = spec.cache.as_ref().map(|cache| (cache, &cache.kind)) else {
        return Ok(None);
    };
    if !pipeline.knows_its_data() {
        let reason = "its dataset has no index to tell when its data are others, so that no cache of it can be kept \
                      between runs: use `cache = { kind = \"ram\", .. }`";
        return Err(reason.into());
    }
    let key = pipeline.cache_key(&program());
    drop(folder::open(folder, key, pipeline.dataset().len(), cache.limit_bytes)?);
    folder::make_room(folder, key, cache.limit_bytes.saturating_add(beside_bytes))?;
    let file = folder::file_of(folder, key);
    let has_bytes = fs::metadata(&file)?.blocks() * 512;
    let disk = rustix::fs::statvfs(folder)?;
    let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
    let wanted_bytes = cache.limit_bytes.saturating_sub(has_bytes);
    if wanted_bytes > free_bytes {
        return Err(format!(
            "its cache may take {} more and {} is free in {}: lower `limit` under `cache`, or give another `path`",
            size(wanted_bytes),
            size(free_bytes),
            folder.display()
        )
        .into());
    }
    Ok(Some(file))
}

/// Has a pipeline keep samples, if the stream is to; `memory` is where, unless that is on disk.
///
/// What is wrong with its place [`prepare`] has told. Where it has gone wrong since, samples are made as without one.
pub(super) fn open(spec: &StreamSpec, pipeline: &mut Pipeline, memory: Option<OwnedFd>) {
    let Some(cache) = &spec.cache else { return };
    match opened(cache, pipeline, memory) {
        Ok(kept) => pipeline.keep_in(kept),
        Err(error) => eprintln!("it does without the cache of stream `{}`: {}", spec.name, report(&*error)),
    }
}

fn opened(cache: &CacheSpec, pipeline: &Pipeline, memory: Option<OwnedFd>) -> Result<Cache, Failure> {
    let samples = pipeline.dataset().len();
    match (&cache.kind, memory) {
        (CacheKind::Disk(folder), _) => {
            Ok(folder::open(folder, pipeline.cache_key(&program()), samples, cache.limit_bytes)?)
        }
        (CacheKind::Ram, Some(memory)) => {
            // No other program than the daemon's ever has it.
            let kept = Cache::open(File::from(memory), pipeline.cache_key(""), samples, cache.limit_bytes)?;
            Ok(kept.ok_or("its memory is not that of this stream")?)
        }
        (CacheKind::Ram, None) => Err("it came without its memory".into()),
    }
}

/// What code this is. Datasets and transforms of other crates have no version: another build counts as another program.
fn program() -> String {
    fs::metadata("/proc/self/exe")
        .map(|file| format!("{} bytes of {}.{:09}", file.len(), file.mtime(), file.mtime_nsec()))
        .unwrap_or_default()
}
