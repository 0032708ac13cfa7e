//! How a dataset comes to be: from checked options over an index to an opened dataset.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::ops::{Deref, Range};
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use crate::dataset::MapDataset;
use crate::progress::Progress;
use crate::spec::SpecError;

/// A dataset whose options are read and checked, but of which no file has been touched yet.
///
/// A dataset that needs no preparation is its own source. One that has to read something first separates the work that
/// is done once, in the loader ([`index`](Self::index)), from what every worker does ([`open`](Self::open)):
///
/// ```
/// use batchmill_datasets::dataset::{MapDataset, SampleError};
/// use batchmill_datasets::sample::{Array, Sample};
/// use batchmill_datasets::source::{Index, OpenError, Source};
/// use std::path::PathBuf;
///
/// /// The lengths of a text file's lines.
/// struct Lines {
///     file: PathBuf,
/// }
///
/// impl Source for Lines {
///     fn index(&self) -> Result<Vec<u8>, OpenError> {
///         std::fs::read(&self.file).map_err(|source| OpenError::read(&self.file, source))
///     }
///
///     fn open(self: Box<Self>, index: Index) -> Result<Box<dyn MapDataset>, OpenError> {
///         let text = String::from_utf8_lossy(&index);
///         Ok(Box::new(Lengths(text.lines().map(str::len).collect())))
///     }
/// }
///
/// #[derive(Debug)]
/// struct Lengths(Vec<usize>);
///
/// impl MapDataset for Lengths {
///     fn len(&self) -> u64 {
///         self.0.len() as u64
///     }
///
///     fn get(&self, index: u64) -> Result<Sample, SampleError> {
///         Ok(Sample::new().with("length", Array::scalar_i64(self.0[index as usize] as i64)))
///     }
///
///     fn name(&self, index: u64) -> String {
///         format!("line {}", index + 1)
///     }
/// }
///
/// let registry = batchmill_datasets::builtin().dataset("lines", |options| Ok(Lines { file: options.path("file")? }));
/// # let folder = tempfile::tempdir()?;
/// # std::fs::write(folder.path().join("poem.txt"), "one\nthree\n")?;
/// # let table = r#"dataset = { kind = "lines", file = "poem.txt" }"#.parse()?;
/// # let spec = batchmill_datasets::spec::StreamSpec::from_table("poem", table, folder.path())?;
/// # assert_eq!(registry.pipeline(&spec)?.extent().samples, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Source {
    /// Fetches what the data lacks, where the user wants that; `progress` hears how far it is.
    ///
    /// Called before [`index`](Self::index), and by whoever wants the data without opening them. What consists of other
    /// sources prepares each of them. Without an implementation nothing is lacking.
    ///
    /// # Errors
    /// [`OpenError`], naming address and file.
    fn prepare(&self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), OpenError> {
        let _ = progress;
        Ok(())
    }

    /// Reads and checks the data once, into bytes that every worker then maps without a copy of its own.
    ///
    /// They are part of the stream's hash: two different contents should give two different indexes. Without an
    /// implementation there are none.
    ///
    /// # Errors
    /// [`OpenError`], naming file and line.
    fn index(&self) -> Result<Vec<u8>, OpenError> {
        Ok(Vec::new())
    }

    /// Writes what [`index`](Self::index) returns to `room`, which is empty.
    ///
    /// Without an implementation it is made first, and copied. One that lies in a file already need not be in memory twice.
    ///
    /// # Errors
    /// As [`index`](Self::index), and when the room does not take it.
    fn index_into(&self, room: &mut dyn IndexRoom) -> Result<(), OpenError> {
        room.write_all(&self.index()?).map_err(OpenError::room)
    }

    /// Removes what an earlier [`index`](Self::index) kept beside the data, so that the next one looks at all of them.
    ///
    /// What consists of other sources has each of them do so. Without an implementation nothing is kept.
    fn forget_index(&self) {}

    /// Opens the dataset over what [`index`](Self::index) returned. Each worker does so; it should be quick.
    ///
    /// # Errors
    /// [`OpenError`], naming the file.
    fn open(self: Box<Self>, index: Index) -> Result<Box<dyn MapDataset>, OpenError>;
}

impl<Dataset: MapDataset + 'static> Source for Dataset {
    fn open(self: Box<Self>, _: Index) -> Result<Box<dyn MapDataset>, OpenError> {
        Ok(self)
    }
}

/// Where an index is written: memory that is shared, for one.
pub trait IndexRoom: Write {
    /// Takes back all that was written.
    ///
    /// # Errors
    /// Those of the room.
    fn clear(&mut self) -> io::Result<()>;
}

impl IndexRoom for Vec<u8> {
    fn clear(&mut self) -> io::Result<()> {
        self.truncate(0);
        Ok(())
    }
}

impl IndexRoom for File {
    fn clear(&mut self) -> io::Result<()> {
        self.set_len(0)?;
        self.rewind()
    }
}

/// The bytes of an index, shared: in memory of our own, or mapped by the one who opens the dataset.
#[derive(Clone)]
pub struct Index {
    bytes: Arc<dyn AsRef<[u8]> + Send + Sync>,
    part: Range<usize>,
}

impl Index {
    /// Wraps bytes that something else owns, a mapping for instance.
    pub fn new(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        let part = 0..bytes.as_ref().len();
        Self { bytes: Arc::new(bytes), part }
    }

    /// Makes one index of several, for a source that is made of others: their bytes, and behind them the length of each.
    ///
    /// Where all are empty, so is the whole.
    pub fn join(parts: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
        let (mut joined, mut lengths) = (Vec::new(), Vec::new());
        for part in parts {
            lengths.push(part.len());
            // The first is taken as it is: it may be large.
            if joined.is_empty() { joined = part } else { joined.extend(part) }
        }
        joined.extend(Self::ending(&lengths));
        joined
    }

    /// What stands behind parts of these lengths that are joined.
    pub(crate) fn ending(lengths: &[usize]) -> Vec<u8> {
        if lengths.iter().all(|length| *length == 0) {
            return Vec::new();
        }
        lengths.iter().flat_map(|length| (*length as u64).to_le_bytes()).collect()
    }

    /// The `parts` indexes that were [joined](Self::join), without a copy; `None` where these are not their bytes.
    pub fn split(&self, parts: usize) -> Option<Vec<Self>> {
        if self.is_empty() {
            return Some(vec![self.clone(); parts]);
        }
        let (bytes, lengths) = self.split_at_checked(self.len().checked_sub(parts.checked_mul(8)?)?)?;
        let mut place = 0_usize;
        let mut split = Vec::with_capacity(parts);
        for length in lengths.as_chunks().0 {
            let end = place.checked_add(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
            bytes.get(place..end)?;
            split.push(Self { bytes: self.bytes.clone(), part: self.part.start + place..self.part.start + end });
            place = end;
        }
        (place == bytes.len()).then_some(split)
    }
}

impl Deref for Index {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &(*self.bytes).as_ref()[self.part.clone()]
    }
}

impl From<Vec<u8>> for Index {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Index({} bytes)", self.len())
    }
}

/// A dataset that could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The spec asks for what there is not.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A file could not be read.
    #[error("read {}", file.display())]
    Read {
        /// The file or folder.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file holds what it should not.
    #[error("{}: {reason}", file.display())]
    File {
        /// The file or folder.
        file: PathBuf,
        /// What was found, what was expected, what to do.
        reason: String,
    },
    /// A line of a file holds what it should not.
    #[error("{}:{line}: {reason}", file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// What was found, what was expected, what to do.
        reason: String,
        /// What it came from, if anything.
        source: Option<io::Error>,
    },
    /// Anything else; for sources of your own.
    #[error("{reason}")]
    Other {
        /// What was found, what was expected, what to do.
        reason: String,
        /// What it came from, if anything.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
}

impl OpenError {
    /// Says that a file could not be read.
    pub fn read(file: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Read { file: file.into(), source }
    }

    /// Says that there is no room for an index.
    pub(crate) fn room(source: io::Error) -> Self {
        Self::other("keep the dataset's index in memory", Some(source.into()))
    }

    /// Says what is wrong with a file.
    pub fn file(file: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::File { file: file.into(), reason: reason.into() }
    }

    /// Says what is wrong with a line of a file, counted from 1.
    pub fn line(file: impl Into<PathBuf>, line: u64, reason: impl Into<String>) -> Self {
        Self::Line { file: file.into(), line, reason: reason.into(), source: None }
    }

    /// Says anything else, with the error it came from.
    pub fn other(reason: impl Into<String>, source: Option<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Other { reason: reason.into(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_that_were_joined_are_split_again() {
        for parts in
            [vec![], vec![vec![]], vec![vec![], vec![]], vec![vec![1, 2]], vec![vec![], vec![3], vec![], vec![4, 5]]]
        {
            let joined = Index::from(Index::join(parts.clone()));
            let split = joined.split(parts.len()).unwrap();
            assert_eq!(split.iter().map(|part| part.to_vec()).collect::<Vec<_>>(), parts);
            // A part may itself be joined.
            let nested = Index::from(Index::join([joined.to_vec(), vec![9]]));
            let again = nested.split(2).unwrap()[0].split(parts.len()).unwrap();
            assert_eq!(again.iter().map(|part| part.to_vec()).collect::<Vec<_>>(), parts);
        }
    }

    #[test]
    fn bytes_that_were_not_joined_are_not_split() {
        let joined = Index::join([vec![1, 2, 3], vec![4]]);
        assert!(Index::from(joined.clone()).split(3).is_none());
        assert!(Index::from(joined[1..].to_vec()).split(2).is_none());
        assert!(Index::from(vec![7]).split(1).is_none());
        assert!(Index::from([&[0xff; 8][..], &[0xff; 8]].concat()).split(2).is_none());
    }
}
