//! A file that is there whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Checks that a file can be there at all, before anything is computed for it.
///
/// # Errors
/// What the system says of the folder it would be in.
pub(crate) fn check(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::read_dir(folder).map(drop)
}

/// Writes a file, or replaces it: under a hidden name beside it first, so that a kill leaves the old one or the new one.
///
/// # Errors
/// What the system said; the old file is then still there, and no other.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it names no file"));
    };
    let mut partial = OsString::from(".");
    partial.push(name);
    partial.push(".partial");
    let partial = path.with_file_name(partial);
    let written = File::create(&partial).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let placed = written.and_then(|()| fs::rename(&partial, path));
    if placed.is_err() {
        // Nothing more can be done about what is left than to say what went wrong first.
        let _ = fs::remove_file(&partial);
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_no_folder_is_refused_before() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        check(Path::new("table.csv")).expect("where we are is a folder");
        check(&folder.path().join("table.csv")).expect("it is a folder");
        assert!(check(&folder.path().join("none/table.csv")).is_err());
    }

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("table.csv");
        for text in ["a longer first one", "second"] {
            write(&path, text.as_bytes()).expect("it can be written");
            assert_eq!(fs::read_to_string(&path).expect("it is there"), text);
        }
        // A folder stands where the file should: no file is left beside it.
        let taken = folder.path().join("taken");
        fs::create_dir_all(taken.join("inside")).expect("it can be made");
        assert!(write(&taken, b"text").is_err());
        assert!(write(Path::new("/"), b"text").is_err());
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2);
    }
}
