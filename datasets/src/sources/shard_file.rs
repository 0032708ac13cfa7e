//! A file that is read from one of its records on: plain or compressed, and unchanged since it was indexed.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use serde::{Deserialize, Serialize};

use super::gzip::is_gzip;
use super::image_files::summary;
use super::stamp::Stamp;
use crate::dataset::SampleError;
use crate::source::OpenError;

/// What the index keeps of a file of records.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ShardFile {
    /// As the options name it, so that data that is moved stays the same.
    pub(super) path: String,
    stamp: Stamp,
    /// Whether it is compressed: told by content.
    is_gzip: bool,
    /// Its records.
    pub(super) records: u64,
}

impl ShardFile {
    /// Opens a file to be indexed, from its beginning.
    ///
    /// # Errors
    /// [`OpenError::Read`].
    pub(super) fn index(folder: &Path, path: &str) -> Result<(Self, ShardReader), OpenError> {
        let full = folder.join(path);
        let opened = || -> io::Result<_> {
            let mut file = File::open(&full)?;
            let stamp = Stamp::of(&file.metadata()?);
            let is_gzip = is_gzip(&mut file)?;
            Ok((file, stamp, is_gzip))
        };
        let (file, stamp, is_gzip) = opened().map_err(|error| OpenError::read(&full, error))?;
        let shard = Self { path: path.to_owned(), stamp, is_gzip, records: 0 };
        let reader = shard.reader(full, file);
        Ok((shard, reader))
    }

    /// Opens the file, from its beginning, to read records of it.
    ///
    /// # Errors
    /// [`SampleError`]: it cannot be opened, or has changed.
    pub(super) fn open(&self, folder: &Path) -> Result<ShardReader, SampleError> {
        let full = folder.join(&self.path);
        let file = self.stamp.open(&full)?;
        Ok(self.reader(full, file))
    }

    /// Whether any place of it can be read without what stands before.
    pub(super) fn is_seekable(&self) -> bool {
        !self.is_gzip
    }

    fn reader(&self, path: PathBuf, file: File) -> ShardReader {
        let file = BufReader::new(file);
        let content = if self.is_gzip {
            Content::Gzip(Box::new(BufReader::new(MultiGzDecoder::new(file))))
        } else {
            Content::Plain(file)
        };
        ShardReader { path, stamp: self.stamp, content, position: 0 }
    }
}

/// A line for a person: how many files of what size, and the one that was written to last.
pub(super) fn summary(files: &[ShardFile]) -> String {
    // Of several, the first.
    let newest = files.iter().rev().max_by_key(|file| file.stamp.modified_ns);
    let newest = newest.map(|file| (file.path.as_str(), file.stamp.modified_ns));
    summary::of_files(files.len() as u64, files.iter().map(|file| u128::from(file.stamp.bytes)).sum(), newest)
}

/// An opened file of records.
#[derive(Debug)]
pub(super) struct ShardReader {
    path: PathBuf,
    stamp: Stamp,
    content: Content,
    /// Bytes of the content before what is read next.
    position: u64,
}

#[derive(Debug)]
enum Content {
    Plain(BufReader<File>),
    Gzip(Box<BufReader<MultiGzDecoder<BufReader<File>>>>),
}

impl ShardReader {
    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the content before what is read next.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Goes on at `position` of the content, which is not before where it is.
    pub(super) fn skip_to(&mut self, position: u64) -> io::Result<()> {
        match &mut self.content {
            Content::Plain(plain) => {
                match i64::try_from(i128::from(position) - i128::from(self.position)) {
                    // Within what is buffered this asks nothing of the system.
                    Ok(far) => plain.seek_relative(far)?,
                    Err(_) => drop(plain.seek(SeekFrom::Start(position))?),
                }
                self.position = position;
            }
            Content::Gzip(_) => {
                let far = position.checked_sub(self.position).ok_or(io::ErrorKind::NotSeekable)?;
                let skipped = io::copy(&mut Read::by_ref(self).take(far), &mut io::sink())?;
                if skipped < far {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
        Ok(())
    }

    /// Requires that the file is the one that was indexed; call it after reading.
    ///
    /// # Errors
    /// [`SampleError::Changed`], or why the file cannot be looked at.
    pub(super) fn check(&self) -> Result<(), SampleError> {
        let file = match &self.content {
            Content::Plain(plain) => plain.get_ref(),
            Content::Gzip(gzip) => gzip.get_ref().get_ref().get_ref(),
        };
        self.stamp.check(&self.path, file)
    }

    /// What reading `sample` came to: a file that has changed is to blame before anything else is.
    ///
    /// # Errors
    /// [`SampleError`], and that of `outcome`.
    pub(super) fn checked<T>(&self, sample: impl FnOnce() -> String, outcome: io::Result<T>) -> Result<T, SampleError> {
        self.check()?;
        outcome.map_err(|source| SampleError::Read { sample: sample(), source })
    }

    /// Reads to the end, for a checksum that stands there, and requires that nothing was written meanwhile.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(super) fn finish(mut self) -> Result<(), OpenError> {
        if matches!(self.content, Content::Gzip(_)) {
            io::copy(&mut self, &mut io::sink()).map_err(|error| OpenError::read(&self.path, error))?;
        }
        let now = fs::metadata(&self.path).map_err(|error| OpenError::read(&self.path, error))?;
        if Stamp::of(&now) != self.stamp {
            return Err(OpenError::file(&self.path, "was written to while it was read; try again when it is whole"));
        }
        Ok(())
    }

    /// Whether the content is not what is on disk.
    pub(super) fn is_gzip(&self) -> bool {
        matches!(self.content, Content::Gzip(_))
    }

    /// The size of the content, where that is known without reading it.
    pub(super) fn content_bytes(&self) -> Option<u64> {
        matches!(self.content, Content::Plain(_)).then_some(self.stamp.bytes)
    }
}

impl Read for ShardReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.content {
            Content::Plain(plain) => plain.read(out),
            Content::Gzip(gzip) => gzip.read(out),
        }?;
        self.position += read as u64;
        Ok(read)
    }
}

impl BufRead for ShardReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match &mut self.content {
            Content::Plain(plain) => plain.fill_buf(),
            Content::Gzip(gzip) => gzip.fill_buf(),
        }
    }

    fn consume(&mut self, bytes: usize) {
        self.position += bytes as u64;
        match &mut self.content {
            Content::Plain(plain) => plain.consume(bytes),
            Content::Gzip(gzip) => gzip.consume(bytes),
        }
    }
}
