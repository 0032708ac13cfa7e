//! Files out of an archive: those that are asked for by name, and no others.
//!
//! What an archive calls a file only ever selects it; it never becomes a path of ours.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;
use tar::{Archive, EntryType};
use zip::ZipArchive;
use zip::result::ZipError;

use super::part::{FillError, Part};
use crate::progress::Progress;
use crate::source::OpenError;

/// The largest file that is taken out; the largest published is a fifth of it.
const MEMBER_BYTES_MAX: u64 = 1 << 30;

/// A file in an archive.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// What it is called there, such as `cifar-10-batches-bin/test_batch.bin`.
    pub(crate) path: String,
    /// Where it is to go.
    pub(crate) file: PathBuf,
}

/// Takes files out of a `.zip` or `.tar.gz`; those that are there already stay as they are.
///
/// # Errors
/// [`OpenError`]: the archive cannot be read or lacks one, or one cannot be written.
pub(crate) fn unpack(
    archive: &Path,
    members: &[Member],
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), OpenError> {
    let opened = BufReader::new(File::open(archive).map_err(|error| OpenError::read(archive, error))?);
    let mut missing: Vec<&Member> = members.iter().collect();
    if archive.extension().is_some_and(|extension| extension == "zip") {
        let mut zip = ZipArchive::new(opened).map_err(|error| damaged(archive, error))?;
        for member in std::mem::take(&mut missing) {
            match zip.by_name(&member.path) {
                Ok(mut entry) => write(archive, member, &mut entry, progress)?,
                Err(ZipError::FileNotFound) => missing.push(member),
                Err(error) => return Err(damaged(archive, error)),
            }
        }
    } else {
        let mut tar = Archive::new(GzDecoder::new(opened));
        let mut entries = tar.entries().map_err(|error| damaged(archive, error))?;
        while !missing.is_empty()
            && let Some(entry) = entries.next()
        {
            let mut entry = entry.map_err(|error| damaged(archive, error))?;
            let path = entry.path().map_err(|error| damaged(archive, error))?.into_owned();
            let is_named = |member: &&Member| path_of(&path).eq(Path::new(&member.path).components());
            if entry.header().entry_type() == EntryType::Regular
                && let Some(place) = missing.iter().position(is_named)
            {
                write(archive, missing.swap_remove(place), &mut entry, progress)?;
            }
        }
    }
    match missing.first() {
        None => Ok(()),
        Some(member) => Err(OpenError::file(archive, format!("holds no {}; {REMEDY}", member.path))),
    }
}

const REMEDY: &str = "remove it to have it fetched again";

/// Some archives begin every path with `./`.
fn path_of(path: &Path) -> impl Iterator<Item = Component<'_>> {
    path.components().filter(|component| *component != Component::CurDir)
}

fn write(
    archive: &Path,
    member: &Member,
    from: &mut dyn Read,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), OpenError> {
    let [file, archive_name] =
        [&member.file, archive].map(|path| path.file_name().unwrap_or_default().to_string_lossy());
    let refuse = |error| OpenError::other(format!("unpack {}", archive.display()), Some(Box::new(error)));
    let waiting = || progress(Progress::Waiting { file: &file });
    let Some(mut part) = Part::open(&member.file, waiting).map_err(refuse)? else { return Ok(()) };
    progress(Progress::Unpacking { file: &file, archive: &archive_name });
    // What an unpacking before left is not worth knowing how whole it is.
    let filled = match part.clear() {
        Ok(()) => part.fill(from, MEMBER_BYTES_MAX, &mut |_| ()),
        Err(error) => Err(FillError::Write(error)),
    };
    let error = match filled {
        Ok(()) => return part.publish().map(drop).map_err(refuse),
        Err(FillError::Write(error)) => refuse(error),
        Err(FillError::Read(error)) => damaged(archive, error),
        Err(FillError::TooMany) => {
            let reason = format!("{} in it has more than {MEMBER_BYTES_MAX} bytes; {REMEDY}", member.path);
            OpenError::file(archive, reason)
        }
    };
    // The first error is what the user is to hear.
    let _ = part.discard();
    Err(error)
}

fn damaged(archive: &Path, error: impl Into<io::Error>) -> OpenError {
    OpenError::other(format!("unpack {}; if it is damaged, {REMEDY}", archive.display()), Some(Box::new(error.into())))
}
