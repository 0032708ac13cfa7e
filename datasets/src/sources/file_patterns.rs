//! Files named by patterns: `train-{000..146}.tar`, `part-{a,b}.csv`, `logs/*.jsonl`.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use toml::Value;

use crate::options::Options;
use crate::source::OpenError;
use crate::spec::SpecError;

/// The most files that braces may stand for.
const FILES_MAX: usize = 1 << 20;

/// One option: a text or a list of texts. Braces stand for several texts, as in a shell: `{000..146}` for numbers, with
/// zeros in front where the first or the last has them, `{a,b}` for words. A `*` stands for any part of the name of a
/// file or folder that does not begin with a dot.
///
/// Order: as written; what a `*` stands for by name, byte by byte.
#[derive(Clone, Debug)]
pub(super) struct FilePatterns {
    /// Where relative paths start.
    folder: PathBuf,
    /// Without braces.
    patterns: Vec<String>,
    /// The files of a folder that is named itself; without, none may be.
    in_folders: Option<&'static str>,
}

impl FilePatterns {
    pub(super) fn from_options(options: &mut Options, key: &str) -> Result<Self, SpecError> {
        let value = options.value(key);
        let value = options.required(key, value)?;
        let texts = match &value {
            Value::String(text) => Some(vec![text.as_str()]),
            Value::Array(texts) => texts.iter().map(Value::as_str).collect(),
            _ => None,
        };
        let texts = texts.filter(|texts| !texts.is_empty() && texts.iter().all(|text| !text.is_empty()));
        let Some(texts) = texts else {
            return Err(options.error(key, format_args!("is {value}, not the path of a file or a list of such")));
        };
        let mut patterns = Vec::new();
        for text in texts {
            expand(text, &mut patterns).map_err(|reason| options.error(key, format_args!("is {text:?}: {reason}")))?;
        }
        Ok(Self { folder: options.folder().to_owned(), patterns, in_folders: None })
    }

    /// Lets a folder stand for its files of such names: `*.parquet`.
    #[cfg(feature = "parquet")]
    pub(super) fn with_folders_of(self, names: &'static str) -> Self {
        Self { in_folders: Some(names), ..self }
    }

    /// One of the names.
    pub(super) fn first(&self) -> &Path {
        self.patterns.first().map_or(Path::new(""), |pattern| Path::new(pattern))
    }

    /// Where the paths of [`find`](Self::find) start.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The paths of all files, each of which exists when this is called.
    ///
    /// # Errors
    /// [`OpenError`]: there is no such file, or one is named twice.
    pub(super) fn find(&self) -> Result<Vec<String>, OpenError> {
        let mut files = Vec::new();
        for pattern in &self.patterns {
            let pattern = self.in_folder(pattern);
            if pattern.contains('*') {
                let start = files.len();
                matches(&self.folder, &pattern, &mut files)?;
                if files.len() == start {
                    return Err(OpenError::file(self.folder.join(&*pattern), "no file has such a name"));
                }
                files[start..].sort_unstable();
            } else {
                let file = self.folder.join(&*pattern);
                match fs::metadata(&file) {
                    Ok(metadata) if metadata.is_file() => files.push(pattern.into_owned()),
                    Ok(_) => return Err(OpenError::file(file, "no file")),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        return Err(OpenError::file(file, "the file does not exist"));
                    }
                    Err(error) => return Err(OpenError::read(file, error)),
                }
            }
        }
        let mut seen = HashSet::new();
        match files.iter().find(|file| !seen.insert(file.as_str())) {
            None => Ok(files),
            Some(twice) => Err(OpenError::file(self.folder.join(twice), "is named twice: each sample would be, too")),
        }
    }

    /// The pattern itself, or that of the files in the folder that it names.
    fn in_folder<'a>(&self, pattern: &'a str) -> Cow<'a, str> {
        match self.in_folders {
            Some(names) if self.folder.join(pattern).is_dir() => {
                format!("{}/{names}", pattern.trim_end_matches('/')).into()
            }
            _ => pattern.into(),
        }
    }
}

/// Writes out the braces of a pattern.
fn expand(text: &str, out: &mut Vec<String>) -> Result<(), String> {
    let Some((before, rest)) = text.split_once('{') else {
        if text.contains('}') {
            return Err("a `}` has no `{` before it".to_owned());
        }
        if out.len() == FILES_MAX {
            return Err(format!("it stands for more than {FILES_MAX} files"));
        }
        out.push(text.to_owned());
        return Ok(());
    };
    if before.contains('}') {
        return Err("a `}` has no `{` before it".to_owned());
    }
    let Some((inside, after)) = rest.split_once('}') else { return Err("a `{` has no `}` behind it".to_owned()) };
    if inside.contains('{') {
        return Err("braces stand in braces; write them out as a list".to_owned());
    }
    let mut each = |word: &str| expand(&format!("{before}{word}{after}"), out);
    if let Some((first, last)) = inside.split_once("..") {
        let numbers = number(first).zip(number(last)).filter(|(first, last)| first <= last);
        let Some((lowest, highest)) = numbers else {
            return Err(format!("`{{{inside}}}` does not count from a number up to another, as `{{000..146}}` does"));
        };
        let has_zeros = |text: &str| text.len() > 1 && text.starts_with('0');
        let width = if has_zeros(first) || has_zeros(last) { first.len().max(last.len()) } else { 0 };
        (lowest..=highest).try_for_each(|number| each(&format!("{number:0width$}")))
    } else if inside.contains(',') {
        inside.split(',').try_for_each(each)
    } else {
        Err(format!("`{{{inside}}}` is neither `{{first..last}}` nor `{{one,another}}`"))
    }
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Adds the files below `folder` whose path is like `pattern`.
fn matches(folder: &Path, pattern: &str, out: &mut Vec<String>) -> Result<(), OpenError> {
    let parts: Vec<&str> = pattern.split('/').collect();
    let Some(place) = parts.iter().position(|part| part.contains('*')) else {
        if fs::metadata(folder.join(pattern)).is_ok_and(|metadata| metadata.is_file()) {
            out.push(pattern.to_owned());
        }
        return Ok(());
    };
    let above = folder.join(parts[..place].join("/") + "/");
    let listed = match fs::read_dir(if place == 0 { folder } else { &above }) {
        Ok(listed) => listed,
        // As good as a folder without a file of that name.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        Err(error) => return Err(OpenError::read(above, error)),
    };
    for entry in listed {
        let entry = entry.map_err(|error| OpenError::read(&above, error))?;
        let name = entry.file_name();
        if !is_like(name.as_encoded_bytes(), parts[place].as_bytes()) || name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let Some(name) = name.to_str().filter(|name| !name.contains('*')) else {
            return Err(OpenError::file(entry.path(), "the name is not UTF-8, or has a `*`; rename the file"));
        };
        let found = [&parts[..place], &[name], &parts[place + 1..]].concat().join("/");
        matches(folder, &found, out)?;
    }
    Ok(())
}

/// Whether `name` is `pattern` with something, or nothing, in the place of each `*`.
fn is_like(name: &[u8], pattern: &[u8]) -> bool {
    let mut parts = pattern.split(|&byte| byte == b'*');
    let (Some(first), last) = (parts.next(), parts.next_back()) else { return false };
    let Some(last) = last else { return name == first };
    let rest = name.strip_prefix(first).and_then(|rest| rest.strip_suffix(last));
    let Some(mut rest) = rest else { return false };
    // The earliest place of each part leaves the most room for the next.
    for part in parts.filter(|part| !part.is_empty()) {
        let Some(place) = rest.windows(part.len()).position(|window| window == part) else { return false };
        rest = &rest[place + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_are_written_out_in_order() {
        let expanded = |text: &str| {
            let mut out = Vec::new();
            expand(text, &mut out).map(|()| out)
        };
        assert_eq!(expanded("a.tar").unwrap(), ["a.tar"]);
        assert_eq!(expanded("s-{08..11}.tar").unwrap(), ["s-08.tar", "s-09.tar", "s-10.tar", "s-11.tar"]);
        assert_eq!(expanded("{9..10}").unwrap(), ["9", "10"]);
        assert_eq!(expanded("{0..2}").unwrap(), ["0", "1", "2"]);
        assert_eq!(expanded("{b,a,}-{1..2}").unwrap(), ["b-1", "b-2", "a-1", "a-2", "-1", "-2"]);
        let refused = |text: &str| expanded(text).unwrap_err();
        assert_eq!(refused("{1..2"), "a `{` has no `}` behind it");
        assert_eq!(refused("1}"), "a `}` has no `{` before it");
        assert_eq!(refused("a}{b,c}"), "a `}` has no `{` before it");
        assert_eq!(refused("{a,{b,c}}"), "braces stand in braces; write them out as a list");
        assert_eq!(refused("{abc}"), "`{abc}` is neither `{first..last}` nor `{one,another}`");
        for wrong in ["{2..1}", "{a..c}", "{..3}", "{-1..3}", "{1..2..3}", "{0..99999999999999999999}"] {
            assert_eq!(
                refused(wrong),
                format!("`{wrong}` does not count from a number up to another, as `{{000..146}}` does")
            );
        }
        assert_eq!(refused("{0..9999}{0..9999}"), "it stands for more than 1048576 files");
    }

    #[test]
    fn a_star_is_any_part_of_a_name() {
        let like = |name: &str, pattern: &str| is_like(name.as_bytes(), pattern.as_bytes());
        assert!(like("a-1.tar", "*.tar") && like("a-1.tar", "a-*") && like("a-1.tar", "a*1*r") && like("a", "*"));
        assert!(like("aXbXc", "a*X*c") && like("ab", "a**b") && like("a.tar.tar", "*.tar"));
        assert!(!like("a-1.tar.gz", "*.tar") && !like("aba", "ab*ba") && !like("a", "b") && !like("abc", "a*x*c"));
    }

    #[test]
    fn files_are_found_in_order_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["d/b.x", "d/a.x", "d/.c.x", "d/c.y", "e/a.x"] {
            let file = folder.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        let find_in = |patterns: &[&str], in_folders| {
            let patterns = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
            let found = FilePatterns { folder: folder.path().to_owned(), patterns, in_folders }.find();
            found.map_err(|error| error.to_string().replace(&folder.path().display().to_string(), "~"))
        };
        let find = |patterns| find_in(patterns, None);
        assert_eq!(find(&["d/c.y", "*/*.x"]).unwrap(), ["d/c.y", "d/a.x", "d/b.x", "e/a.x"]);
        assert_eq!(find(&["*/a.x"]).unwrap(), ["d/a.x", "e/a.x"]);
        assert_eq!(find(&["d/q.x"]).unwrap_err(), "~/d/q.x: the file does not exist");
        assert_eq!(find(&["d"]).unwrap_err(), "~/d: no file");
        assert_eq!(find(&["q/*"]).unwrap_err(), "~/q/*: no file has such a name");
        assert_eq!(find(&["*"]).unwrap_err(), "~/*: no file has such a name");
        assert_eq!(find(&["d/*.x", "d/a.x"]).unwrap_err(), "~/d/a.x: is named twice: each sample would be, too");
        let absolute = folder.path().join("e/*").display().to_string();
        assert_eq!(find(&[&absolute]).unwrap(), [folder.path().join("e/a.x").display().to_string()]);
        assert_eq!(find_in(&["e/", "d", "d/c.y"], Some("*.x")).unwrap(), ["e/a.x", "d/a.x", "d/b.x", "d/c.y"]);
        assert_eq!(find_in(&["e"], Some("*.y")).unwrap_err(), "~/e/*.y: no file has such a name");
    }
}
