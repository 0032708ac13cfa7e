//! The members of a tar file, from header to header.

use std::io::{self, Read};

use tar::{EntryType, Header, PaxExtensions};

use crate::source::OpenError;
use crate::sources::shard_file::ShardReader;

const BLOCK_BYTES: u64 = 512;

/// The longest name, and the longest header of extensions: both are read into memory.
const EXTENSION_BYTES_MAX: u64 = 1 << 20;

/// One member.
#[derive(Debug)]
pub(super) struct Member {
    /// Its whole name.
    pub(super) path: String,
    /// Where its bytes begin.
    pub(super) start: u64,
    /// How many there are.
    pub(super) bytes: u64,
    pub(super) kind: MemberKind,
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MemberKind {
    File,
    /// It has no bytes of its own.
    Link,
    /// A file of which only a part is there.
    Sparse,
    /// A folder or a device.
    Other,
}

/// Reads all headers of a file and, of what is between them, what it is asked to.
///
/// The old format, ustar, GNU and PAX. Source: "The Basic Tar Format" and "GNU Extensions to the Archive Format" of the
/// GNU tar manual; pax of POSIX.1-2024.
#[derive(Debug)]
pub(super) struct Members {
    reader: ShardReader,
    /// Where the next header is.
    next: u64,
    /// The last member, for the report of a file that ends in it.
    last: String,
}

impl Members {
    pub(super) fn new(reader: ShardReader) -> Self {
        Self { reader, next: 0, last: String::new() }
    }

    /// The next member; `None` after the last, when the file is read to its end.
    ///
    /// # Errors
    /// [`OpenError`]: the file is no tar file, or ends too early.
    pub(super) fn next(&mut self) -> Result<Option<Member>, OpenError> {
        let (mut long_name, mut long_size, mut is_sparse) = (None, None, false);
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            let kind = header.entry_type();
            let bytes = header.entry_size().map_err(|error| self.wrong(&format!("a header is broken: {error}")))?;
            let bytes = if is_extension(kind) { bytes } else { long_size.unwrap_or(bytes) };
            let start = self.next + BLOCK_BYTES;
            let end = start.checked_add(bytes).filter(|&end| end < u64::MAX - BLOCK_BYTES);
            let Some(end) = end.filter(|&end| self.reader.content_bytes().is_none_or(|content| end <= content)) else {
                self.last = String::from_utf8_lossy(&header.path_bytes()).into_owned();
                return Err(self.torn());
            };
            self.next = end.next_multiple_of(BLOCK_BYTES);
            match kind {
                EntryType::GNULongName => {
                    let mut name = self.extension(bytes)?;
                    name.truncate(name.iter().position(|&byte| byte == 0).unwrap_or(name.len()));
                    long_name = Some(name);
                }
                EntryType::XHeader => {
                    let extensions = self.extension(bytes)?;
                    for extension in PaxExtensions::new(&extensions) {
                        let extension =
                            extension.map_err(|error| self.wrong(&format!("a header is broken: {error}")))?;
                        match extension.key_bytes() {
                            b"path" => long_name = Some(extension.value_bytes().to_vec()),
                            b"size" => {
                                let size = extension.value().ok().and_then(|size| size.parse().ok());
                                long_size =
                                    Some(size.ok_or_else(|| self.wrong("a header has a size that is no number"))?);
                            }
                            key => is_sparse |= key.starts_with(b"GNU.sparse."),
                        }
                    }
                }
                EntryType::GNULongLink | EntryType::XGlobalHeader => {}
                _ => {
                    let name = long_name.unwrap_or_else(|| header.path_bytes().into_owned());
                    let path = String::from_utf8(name).map_err(|error| {
                        let name = String::from_utf8_lossy(error.as_bytes());
                        self.wrong(&format!("the name {name:?} of a member is not UTF-8"))
                    })?;
                    let kind = match kind {
                        _ if is_sparse => MemberKind::Sparse,
                        EntryType::Regular | EntryType::Continuous if path.ends_with('/') => MemberKind::Other,
                        EntryType::Regular | EntryType::Continuous => MemberKind::File,
                        EntryType::Link | EntryType::Symlink => MemberKind::Link,
                        EntryType::GNUSparse => MemberKind::Sparse,
                        _ => MemberKind::Other,
                    };
                    self.last.clone_from(&path);
                    return Ok(Some(Member { path, start, bytes, kind }));
                }
            }
        }
    }

    /// All bytes of the member that [`next`](Self::next) returned last, which are no more than `most`.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(super) fn content(&mut self, member: &Member, most: u64) -> Result<Vec<u8>, OpenError> {
        let mut content = Vec::new();
        let bytes = member.bytes.min(most);
        self.reader.skip_to(member.start).map_err(|error| self.failed(error))?;
        let read = Read::by_ref(&mut self.reader).take(bytes).read_to_end(&mut content);
        if (read.map_err(|error| self.failed(error))? as u64) < bytes {
            return Err(self.torn());
        }
        Ok(content)
    }

    /// The file, of which all members have been read.
    pub(super) fn into_reader(self) -> ShardReader {
        self.reader
    }

    /// The next header; `None` where the end is marked.
    fn header(&mut self) -> Result<Option<Header>, OpenError> {
        self.reader.skip_to(self.next).map_err(|error| self.failed(error))?;
        let mut block = Vec::new();
        let read = Read::by_ref(&mut self.reader).take(BLOCK_BYTES).read_to_end(&mut block);
        read.map_err(|error| self.failed(error))?;
        let mut header = Header::new_old();
        if block.len() < header.as_bytes().len() {
            return Err(self.torn());
        }
        if block.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        header.as_mut_bytes().copy_from_slice(&block);
        // The checksum counts its own place as blanks.
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        let own: u32 = block[148..156].iter().map(|&byte| u32::from(byte)).sum();
        if header.cksum().ok() != Some(sum - own + 8 * u32::from(b' ')) {
            let what = if self.next == 0 { "no tar file" } else { "a broken tar file" };
            return Err(self.wrong(&format!("{what}: there is no header at byte {}", self.next)));
        }
        Ok(Some(header))
    }

    /// The bytes of a header of extensions.
    fn extension(&mut self, bytes: u64) -> Result<Vec<u8>, OpenError> {
        if bytes > EXTENSION_BYTES_MAX {
            return Err(self.wrong(&format!("a header has {bytes} bytes, more than {EXTENSION_BYTES_MAX}")));
        }
        let mut extension = Vec::new();
        let read = Read::by_ref(&mut self.reader).take(bytes).read_to_end(&mut extension);
        if (read.map_err(|error| self.failed(error))? as u64) < bytes {
            return Err(self.torn());
        }
        Ok(extension)
    }

    fn wrong(&self, reason: &str) -> OpenError {
        OpenError::file(self.reader.path(), reason)
    }

    fn failed(&self, error: io::Error) -> OpenError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => self.torn(),
            _ => OpenError::read(self.reader.path(), error),
        }
    }

    fn torn(&self) -> OpenError {
        let place = match self.last.as_str() {
            "" => "before its first member".to_owned(),
            last => format!("within `{}` or right behind it", last.escape_debug()),
        };
        self.wrong(&format!("the file is torn: it ends {place}, without the mark of its end; copy or write it again"))
    }
}

/// Whether a member says something of the next and is none itself.
fn is_extension(kind: EntryType) -> bool {
    matches!(kind, EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader | EntryType::XGlobalHeader)
}
