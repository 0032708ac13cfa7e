//! Which files are meant by a path, a folder or a pattern.

use std::fs;
use std::path::{Path, PathBuf};

use crate::source::OpenError;

/// The files that a path of the configuration stands for.
#[derive(Debug)]
pub(super) enum Listed {
    /// The path itself.
    One,
    /// Files in a folder by their names, in alphabetical order.
    Several { folder: PathBuf, names: Vec<String> },
}

/// Lists what `path` stands for.
///
/// # Errors
/// [`OpenError`]: there is nothing, or a name that is no UTF-8.
pub(super) fn list(path: &Path) -> Result<Listed, OpenError> {
    let pattern = match path.file_name().and_then(|name| name.to_str()) {
        Some(name) if name.contains('*') && !path.exists() => name,
        _ if path.is_dir() => "*.parquet",
        _ => return Ok(Listed::One),
    };
    let folder = folder(path).to_owned();
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).map_err(|error| OpenError::read(&folder, error))? {
        let entry = entry.map_err(|error| OpenError::read(&folder, error))?;
        let name = entry.file_name().into_string();
        let name = name.map_err(|name| OpenError::file(folder.join(name), "its name is not UTF-8; rename it"))?;
        if matches(pattern, &name) && !folder.join(&name).is_dir() {
            names.push(name);
        }
    }
    if names.is_empty() {
        return Err(OpenError::file(folder, format!("has no file `{pattern}`")));
    }
    names.sort_unstable();
    Ok(Listed::Several { folder, names })
}

/// The folder of the files that a pattern or a folder stands for.
pub(super) fn folder(path: &Path) -> &Path {
    if path.is_dir() { path } else { path.parent().unwrap_or(path) }
}

/// Whether a name is what a pattern says, where `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|name| {
            // Any run of bytes may be the star's: the shortest that lets the rest match.
            (0..=name.len()).filter_map(|end| name.get(end..)).any(|name| matches(rest, name))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, expected) in [
            ("*.parquet", "a.parquet", true),
            ("*.parquet", ".parquet", true),
            ("*.parquet", "a.parquet.tmp", false),
            ("train-*-of-*.parquet", "train-00000-of-00002.parquet", true),
            ("train-*-of-*.parquet", "test-00000-of-00002.parquet", false),
            ("*", "ä", true),
            ("a**b", "ab", true),
            ("a", "b", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
