//! The files that are meant by what was typed: files as they are, and the images in folders.

use std::cmp::Ordering;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use batchmill_datasets::decode::EXTENSIONS;
use thiserror::Error;

/// Why it is not clear which files are meant.
#[derive(Debug, Error)]
pub enum FilesError {
    /// There is nothing to see in a folder.
    #[error(
        "look for images in {}: it has none, at no depth; images are files whose names end in {}",
        folder.display(), EXTENSIONS.map(|extension| format!(".{extension}")).join(", ")
    )]
    Empty {
        /// The folder.
        folder: PathBuf,
    },
    /// The search would have no end.
    #[error("look for images in {}: it leads back, by a link, to a folder that it lies in: remove the link", folder.display())]
    Loop {
        /// The folder.
        folder: PathBuf,
    },
    /// The system does not let us.
    #[error("look for images in {}", folder.display())]
    Read {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The files of `paths`, in their order; those of a folder, at any depth, where it stands.
///
/// A file that is named need not look like an image, nor exist. In a folder, what is hidden or has another extension is
/// left out. Order: by name, folder by folder, where numbers in names count as numbers: `2.png` is before `10.png`.
///
/// # Errors
/// [`FilesError`], with the first folder of which it cannot be said.
pub(super) fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>, FilesError> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        visit(path, &mut Vec::new(), &mut files)?;
        if files.len() == before {
            return Err(FilesError::Empty { folder: path.clone() });
        }
    }
    Ok(files)
}

/// Adds the images of a folder; `ancestors` are those above, by device and number.
fn visit(folder: &Path, ancestors: &mut Vec<(u64, u64)>, files: &mut Vec<PathBuf>) -> Result<(), FilesError> {
    let read = |source| FilesError::Read { folder: folder.to_path_buf(), source };
    let metadata = fs::metadata(folder).map_err(read)?;
    let id = (metadata.dev(), metadata.ino());
    if ancestors.contains(&id) {
        return Err(FilesError::Loop { folder: folder.to_path_buf() });
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(read)? {
        names.push(entry.map_err(read)?.file_name());
    }
    names.retain(|name| !name.as_encoded_bytes().starts_with(b"."));
    names.sort_by(|a, b| natural(a.as_encoded_bytes(), b.as_encoded_bytes()));
    ancestors.push(id);
    for path in names.into_iter().map(|name| folder.join(name)) {
        if path.is_dir() {
            visit(&path, ancestors, files)?;
        } else if is_image(&path) {
            files.push(path);
        }
    }
    ancestors.pop();
    Ok(())
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

/// Compares names as a person counts: digits side by side are one number. Names that are then equal, such as `1` and
/// `01`, are compared byte by byte.
fn natural(a: &[u8], b: &[u8]) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        let ((one, rest), (other, other_rest)) = (piece(left), piece(right));
        if one.is_empty() || other.is_empty() {
            return left.len().cmp(&right.len()).then_with(|| a.cmp(b));
        }
        let numbers = one[0].is_ascii_digit() && other[0].is_ascii_digit();
        let order = if numbers { number(one).cmp(&number(other)) } else { one.cmp(other) };
        if order.is_ne() {
            return order;
        }
        (left, right) = (rest, other_rest);
    }
}

/// The digits that a name begins with, or what is before the first digit; and the rest.
fn piece(name: &[u8]) -> (&[u8], &[u8]) {
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let digits = name.first().is_some_and(is_digit);
    name.split_at(name.iter().position(|byte| is_digit(byte) != digits).unwrap_or(name.len()))
}

/// Digits as a number of any size: how many there are, without leading zeros, and which.
fn number(digits: &[u8]) -> (usize, &[u8]) {
    let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
    (digits.len() - zeros, &digits[zeros..])
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn names_are_sorted_as_a_person_counts() {
        let mut names = ["b", "a10", "a9", "a", "10", "9", "a010", "1a", "a9b", "a1x2", "a1x10", "00", "A"];
        names.sort_by(|a, b| natural(a.as_bytes(), b.as_bytes()));
        assert_eq!(names, ["00", "1a", "9", "10", "A", "a", "a1x2", "a1x10", "a9", "a9b", "a010", "a10", "b"]);
        let huge = ["9".repeat(40), format!("1{}", "0".repeat(40))];
        assert_eq!(natural(huge[0].as_bytes(), huge[1].as_bytes()), Ordering::Less);
    }

    #[test]
    fn a_folder_is_its_images_at_any_depth() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for file in ["10.png", "2.JPG", "notes.txt", ".hidden.png", "b/1.webp", "a/deep/3.tif", "a/x.gif"] {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().expect("it has one")).expect("it can be made");
            fs::write(path, "").expect("it can be written");
        }
        let found = |paths: &[PathBuf]| -> Result<Vec<String>, String> {
            let named = |path: PathBuf| path.display().to_string().replace(&folder.path().display().to_string(), "DIR");
            let found = find(paths).map_err(|error| named(error.to_string().into()))?;
            Ok(found.into_iter().map(named).collect())
        };
        let missing = PathBuf::from("DIR/none");
        let all = found(&[missing, folder.path().to_path_buf()]);
        let expected = ["none", "2.JPG", "10.png", "a/deep/3.tif", "a/x.gif", "b/1.webp"];
        assert_eq!(all, Ok(expected.map(|file| format!("DIR/{file}")).to_vec()));

        fs::create_dir(folder.path().join("empty")).expect("it can be made");
        let error = found(&[folder.path().join("empty")]).expect_err("it is empty");
        expect!["look for images in DIR/empty: it has none, at no depth; images are files whose names end in .jpg, .jpeg, .png, .webp, .bmp, .gif, .tif, .tiff"]
            .assert_eq(&error);
        std::os::unix::fs::symlink(folder.path(), folder.path().join("b/up")).expect("it can be made");
        let error = found(&[folder.path().to_path_buf()]).expect_err("it has no end");
        expect!["look for images in DIR/b/up: it leads back, by a link, to a folder that it lies in: remove the link"]
            .assert_eq(&error);
    }
}
