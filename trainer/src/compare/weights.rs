//! The weights of two runs' checkpoints, where both have one of the same position.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;

use super::CompareError;
use crate::run::RunError;

/// Where a run's folder has its checkpoints, and what their weights are called.
const CHECKPOINTS: &str = "checkpoints";
const WEIGHTS: &str = "model.safetensors";

/// Two files of weights, of the same position.
pub(super) struct Common {
    /// Such as `0001-000037`.
    pub(super) name: String,
    pub(super) one: PathBuf,
    pub(super) other: PathBuf,
}

/// The checkpoints that both runs have, earliest first.
pub(super) fn common(one: &Path, other: &Path) -> Vec<Common> {
    let checkpoints = |run: &Path| run.join(CHECKPOINTS);
    // A run without any has none in common.
    let names = fs::read_dir(checkpoints(one)).into_iter().flatten().flatten();
    let names: BTreeSet<String> = names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let weights = |run: &Path, name: &str| checkpoints(run).join(name).join(WEIGHTS);
    let pairs = names.into_iter().filter(|name| !name.starts_with('.')).map(|name| {
        let (one, other) = (weights(one, &name), weights(other, &name));
        Common { name, one, other }
    });
    pairs.filter(|pair| pair.one.is_file() && pair.other.is_file()).collect()
}

/// The first parameter, by name, that two files do not have the same bytes of; `None` when they have all.
pub(super) fn compare(one: &Path, other: &Path) -> Result<Option<String>, CompareError> {
    let read =
        |path: &Path| fs::read(path).map_err(|source| RunError::Io { doing: "read", path: path.to_path_buf(), source });
    let (left, right) = (read(one)?, read(other)?);
    if left == right {
        return Ok(None);
    }
    // Names may stand in another order.
    let (left, right) = (parse(one, &left)?, parse(other, &right)?);
    let names: BTreeSet<&str> = left.names().into_iter().chain(right.names()).collect();
    let differs = |name: &&str| left.tensor(name).ok() != right.tensor(name).ok();
    Ok(names.into_iter().find(differs).map(str::to_owned))
}

fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<SafeTensors<'a>, CompareError> {
    SafeTensors::deserialize(bytes)
        .map_err(|error| CompareError::Weights { path: path.to_path_buf(), source: error.into() })
}
