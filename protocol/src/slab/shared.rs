//! Bytes that one process writes and others then read where they lie: the index of a dataset.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::SealFlags;

use super::map::ReadMap;
use super::unnamed;

/// Under these no byte changes any more, and none is taken away.
const FROZEN: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::FUTURE_WRITE);

/// Bytes in memory that others may have mapped as well.
#[derive(Debug)]
pub struct Shared {
    map: ReadMap,
    bytes: usize,
}

impl Shared {
    /// Makes memory to be written as a file is. It is empty, has no name, and goes with the last who has it open.
    ///
    /// # Errors
    /// As `memfd_create(2)`.
    pub fn memory(name: &str) -> io::Result<OwnedFd> {
        Ok(unnamed(&format!("batchmill:{name}"))?)
    }

    /// What was written to `memory` so far; there may come more behind it, but nothing is taken back any more.
    ///
    /// # Errors
    /// As `fcntl(2)` and `mmap(2)`.
    pub fn so_far(memory: impl AsFd) -> io::Result<Self> {
        rustix::fs::fcntl_add_seals(&memory, SealFlags::SHRINK)?;
        Self::map(memory)
    }

    /// What was written to `memory`, which nobody can change from now on: it is ready to be handed over.
    ///
    /// # Errors
    /// As `fcntl(2)` and `mmap(2)`.
    pub fn freeze(memory: impl AsFd) -> io::Result<Self> {
        rustix::fs::fcntl_add_seals(&memory, FROZEN | SealFlags::SEAL)?;
        Self::map(memory)
    }

    /// What another process wrote.
    ///
    /// # Errors
    /// When it did not [`freeze`](Self::freeze) it, and as `mmap(2)`.
    pub fn open(memory: impl AsFd) -> io::Result<Self> {
        if !rustix::fs::fcntl_get_seals(&memory)?.contains(FROZEN) {
            return Err(io::Error::other("the memory of the index could still change"));
        }
        Self::map(memory)
    }

    /// To be called when the memory can no longer be shortened.
    fn map(memory: impl AsFd) -> io::Result<Self> {
        let bytes = usize::try_from(rustix::fs::fstat(&memory)?.st_size).map_err(io::Error::other)?;
        Ok(Self { map: ReadMap::open(memory, bytes)?, bytes })
    }
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.map.bytes(0..self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn what_one_writes_all_read_and_nobody_changes() {
        let mut memory = File::from(Shared::memory("test").expect("a memfd"));
        memory.write_all(b"some").expect("a page");
        let other = memory.try_clone().expect("a descriptor");
        assert_eq!(
            Shared::open(&other).expect_err("unsealed").to_string(),
            "the memory of the index could still change"
        );

        let some = Shared::so_far(&memory).expect("mapped");
        assert!(memory.set_len(0).is_err(), "what is mapped must not go");
        memory.write_all(b", then more").expect("a page");
        assert_eq!(some.as_ref(), b"some");
        assert!(Shared::open(&other).is_err(), "there could come more");

        let all = Shared::freeze(&memory).expect("mapped");
        assert_eq!(all.as_ref(), b"some, then more");
        assert_eq!(Shared::open(&other).expect("mapped").as_ref(), all.as_ref());
        assert!(memory.write_all(b"!").is_err() && memory.set_len(0).is_err() && memory.set_len(99).is_err());
        assert!(rustix::io::pwrite(&other, b"!", 0).is_err());
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn nothing_is_a_content_too() {
        let memory = Shared::memory("test").expect("a memfd");
        assert_eq!(Shared::freeze(&memory).expect("mapped").as_ref(), b"");
        assert_eq!(Shared::open(&memory).expect("mapped").as_ref(), b"");
    }
}
