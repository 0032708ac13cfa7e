//! What a user says of a stream's cache: where it is, and how large it may become.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::options::Options;
use crate::spec::SpecError;

/// The table `cache` of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheSpec {
    /// Where it is.
    pub kind: CacheKind,
    /// What it may take, the table of its entries included.
    pub limit_bytes: u64,
}

/// Where a cache is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheKind {
    /// In memory that all workers share.
    Ram,
    /// In a file of this folder.
    Disk(PathBuf),
}

impl CacheSpec {
    /// Reads the options `kind`, `limit` and, for a cache on disk, `path`.
    ///
    /// # Errors
    /// [`SpecError`] when one is missing or has no sense.
    pub(crate) fn from_options(mut options: Options) -> Result<Self, SpecError> {
        let is_disk = options.one_of("kind", &[("ram", false), ("disk", true)])?;
        let limit_bytes = options.size("limit")?;
        let kind = if is_disk {
            CacheKind::Disk(options.path("path")?)
        } else if options.optional_path("path")?.is_some() {
            return Err(options.error("path", "is for `kind` = \"disk\": a cache in memory has no file"));
        } else {
            CacheKind::Ram
        };
        options.finish()?;
        Ok(Self { kind, limit_bytes })
    }

    /// What it may take of the memory.
    pub fn ram_bytes(&self) -> u64 {
        match self.kind {
            CacheKind::Ram => self.limit_bytes,
            CacheKind::Disk(_) => 0,
        }
    }
}
