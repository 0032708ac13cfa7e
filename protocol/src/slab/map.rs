//! Mapped memory as checked byte ranges: with `decode/jpeg.rs` the only unsafe code of the workspace.
//!
//! Memory that other processes also map cannot be proved exclusive by the compiler. Each `open` below names the
//! promise that takes the proof's place; everything after it is bounds.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use memmap2::{MmapOptions, MmapRaw};

/// A read-only mapping of a slab, or of what one process writes for others.
#[derive(Debug)]
pub(super) struct ReadMap(MmapRaw);

impl ReadMap {
    /// Maps `len_bytes` of `fd` for reading.
    ///
    /// The promise: bytes handed out are not written by anyone while they are borrowed, because the daemon lends a slot
    /// to readers only after its writers are done, and to writers only after its readers released it. What is no slab
    /// is sealed against writing, or written on behind `len_bytes` by who maps it.
    pub(super) fn open(fd: impl AsFd, len_bytes: usize) -> io::Result<Self> {
        Ok(Self(MmapOptions::new().len(len_bytes).map_raw_read_only(fd.as_fd().as_raw_fd())?))
    }

    /// The bytes at `range`.
    #[expect(unsafe_code, reason = "shared memory")]
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.0.len(), "{range:?} is outside the mapping");
        // SAFETY: `range.start` is inside the mapping (asserted above).
        let start = unsafe { self.0.as_ptr().add(range.start) };
        // SAFETY: the range is inside the mapping (asserted above), which lives as long as `self`; its file cannot
        // shrink, because it is sealed (by `check` of slabs, by `Shared`); nobody writes it meanwhile (the promise of
        // `open`).
        unsafe { std::slice::from_raw_parts(start, range.len()) }
    }
}

/// A writable mapping of a slab.
#[derive(Debug)]
pub(super) struct WriteMap(MmapRaw);

impl WriteMap {
    /// Maps `len_bytes` of `fd` for reading and writing.
    ///
    /// The promise: the rows of a task are this process's alone until it says `Done` or is dead. The daemon gives rows
    /// out once, and again only after the process that had them was reaped (ARCHITECTURE 1.4).
    pub(super) fn open(fd: impl AsFd, len_bytes: usize) -> io::Result<Self> {
        Ok(Self(MmapOptions::new().len(len_bytes).map_raw(fd.as_fd().as_raw_fd())?))
    }

    /// The bytes at `range`, for writing.
    #[expect(unsafe_code, reason = "shared memory")]
    pub(super) fn bytes_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        assert!(range.start <= range.end && range.end <= self.0.len(), "{range:?} is outside the mapping");
        // SAFETY: `range.start` is inside the mapping (asserted above).
        let start = unsafe { self.0.as_mut_ptr().add(range.start) };
        // SAFETY: the range is inside the mapping (asserted above), which lives as long as `self` and cannot shrink
        // (sealed); `&mut self` is the only reference in this process, and no other process touches these rows
        // meanwhile (the promise of `open`).
        unsafe { std::slice::from_raw_parts_mut(start, range.len()) }
    }
}

/// A mapping that two processes use at the same time, as atomic words.
#[derive(Debug)]
pub(super) struct Words(MmapRaw);

impl Words {
    /// Maps `words` 8-byte words of `fd`.
    pub(super) fn open(fd: impl AsFd, words: usize) -> io::Result<Self> {
        Ok(Self(MmapOptions::new().len(words * 8).map_raw(fd.as_fd().as_raw_fd())?))
    }

    /// All words.
    #[expect(unsafe_code, reason = "shared memory")]
    pub(super) fn all(&self) -> &[AtomicU64] {
        let start = NonNull::new(self.0.as_mut_ptr()).expect("a mapping is not at 0").cast::<AtomicU64>();
        // SAFETY: a mapping begins on a page and so on a multiple of 8; it holds `len / 8` words, lives as long as
        // `self` and its file cannot shrink (sealed); any bytes are a valid `AtomicU64`, and every access anywhere is
        // atomic.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), self.0.len() / 8) }
    }
}

/// Memory of this process in the place of a file's: Miri, which maps no files, can follow what the views do with it.
///
/// `MIRIFLAGS=-Zmiri-many-seeds cargo +nightly miri test -p batchmill-protocol --lib slab`
#[cfg(test)]
#[derive(Debug)]
pub(super) struct Anonymous(MmapRaw);

#[cfg(test)]
impl Anonymous {
    /// Reserves zeros.
    pub(super) fn new(len_bytes: usize) -> Self {
        Self(MmapOptions::new().len(len_bytes).map_anon().expect("a few pages").into())
    }

    /// A view of it as a trainer has one. As the others below it must be forgotten, not dropped.
    pub(super) fn reader(&self) -> ReadMap {
        ReadMap(self.again())
    }

    /// A view of it as a worker has one.
    pub(super) fn writer(&self) -> WriteMap {
        WriteMap(self.again())
    }

    /// A view of it as words.
    pub(super) fn words(&self) -> Words {
        Words(self.again())
    }

    #[expect(unsafe_code, reason = "stands for a second mapping of the same memory")]
    fn again(&self) -> MmapRaw {
        // SAFETY: a `MmapRaw` is a pointer and a length; this one is never dropped, so that it unmaps nothing.
        unsafe { std::ptr::read(&raw const self.0) }
    }
}
