//! The shared memory of one stream: created and sealed by the daemon, filled by workers, read by trainers.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags};
use thiserror::Error;

pub use layout::{Layout, LayoutError, PAGE_BYTES, RowRecord, SlotHeader};
pub use shared::Shared;
pub use telemetry::{Making, Telemetry};

use crate::digest::{Digest, RowDigest};
use crate::message::SlotIndex;
use crate::position::Rows;
use map::{ReadMap, WriteMap};

mod layout;
mod map;
mod shared;
mod telemetry;

/// What is left to the machine when a slab is reserved.
const HEADROOM_BYTES: u64 = 64 << 20;

/// What is reserved in one call: a signal has the kernel begin the call anew.
const CHUNK_BYTES: usize = 64 << 20;

/// Why a slab cannot be had.
#[derive(Debug, Error)]
pub enum SlabError {
    /// More was asked for than the machine, or the container, has.
    #[error(
        "shared memory of {needed} was asked for and {available} is available: lower --memory (or `memory`), or the \
         batch size",
        needed = size(*needed_bytes), available = size(*available_bytes)
    )]
    NoMemory {
        /// Bytes asked for.
        needed_bytes: u64,
        /// Bytes that could be had.
        available_bytes: u64,
    },
    /// The kernel refused a step.
    #[error("{step} shared memory of {needed}", needed = size(*needed_bytes))]
    Io {
        /// What was being done.
        step: &'static str,
        /// Bytes asked for.
        needed_bytes: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// The descriptor is not what the daemon should have sent.
    #[error("the loader's shared memory is not sealed or not {expected_bytes} bytes long")]
    NotASlab {
        /// The length the layout calls for.
        expected_bytes: u64,
    },
}

/// Writes a size for a person: `64 KiB`, `12.5 MiB`, `900 TiB`.
#[expect(clippy::cast_precision_loss, reason = "for a person")]
pub fn size(bytes: u64) -> String {
    let mut amount = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter().peekable();
    let mut unit = "B";
    while let Some(next) = units.next() {
        unit = next;
        if amount < 1024.0 || units.peek().is_none() {
            break;
        }
        amount /= 1024.0;
    }
    if amount < 10.0 && bytes >= 1024 { format!("{amount:.1} {unit}") } else { format!("{amount:.0} {unit}") }
}

/// The daemon's hold on a slab: descriptors, no mapping.
#[derive(Debug)]
pub struct Slab {
    memory: OwnedFd,
    read_only: OwnedFd,
}

impl Slab {
    /// Reserves and seals the memory of `layout`. All of it is there from now on: nobody meets a SIGBUS later.
    ///
    /// # Errors
    /// [`SlabError::NoMemory`] when the machine or the cgroup has less, [`SlabError::Io`] when the kernel refuses.
    pub fn create(name: &str, layout: &Layout) -> Result<Self, SlabError> {
        let (slab, reservation) = Self::begin(name, layout)?;
        reservation.make()?;
        Ok(slab)
    }

    /// The same, with the memory still to be reserved, which takes a quarter of a second for each GiB. It can be used
    /// meanwhile: where nothing is reserved yet, it is there as long as the machine has what it had when this was asked.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn begin(name: &str, layout: &Layout) -> Result<(Self, Reservation), SlabError> {
        let needed_bytes = layout.slab_bytes() as u64;
        let available_bytes = available_bytes();
        if needed_bytes > available_bytes {
            return Err(SlabError::NoMemory { needed_bytes, available_bytes });
        }
        let failed = |step, source: io::Error| SlabError::Io { step, needed_bytes, source };
        let memory = sealed(name, needed_bytes).map_err(|(step, source)| failed(step, source.into()))?;
        // Another open file description: through this one no member can write, whatever it tries.
        let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
        let read_only = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let read_only = read_only.map_err(|source| failed("reopen", source.into()))?;
        let reserved = memory.try_clone().map_err(|source| failed("reopen", source))?;
        Ok((Self { memory, read_only }, Reservation { memory: reserved, needed_bytes, available_bytes }))
    }

    /// The descriptor for workers.
    pub fn writable(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }

    /// The descriptor for trainers.
    pub fn read_only(&self) -> BorrowedFd<'_> {
        self.read_only.as_fd()
    }
}

/// Memory of a slab that is still to be reserved.
#[derive(Debug)]
pub struct Reservation {
    memory: OwnedFd,
    needed_bytes: u64,
    /// When it was asked for.
    available_bytes: u64,
}

impl Reservation {
    /// Reserves it.
    ///
    /// # Errors
    /// [`SlabError::NoMemory`] when there is less by now, [`SlabError::Io`] when the kernel refuses.
    pub fn make(&self) -> Result<(), SlabError> {
        let &Self { needed_bytes, available_bytes, .. } = self;
        fill(&self.memory, needed_bytes).map_err(|source| match source {
            rustix::io::Errno::NOSPC | rustix::io::Errno::NOMEM => {
                SlabError::NoMemory { needed_bytes, available_bytes }
            }
            _ => SlabError::Io { step: "reserve", needed_bytes, source: source.into() },
        })
    }
}

/// A trainer's view of a slab.
#[derive(Debug)]
pub struct SlabReader {
    map: ReadMap,
    layout: Layout,
}

impl SlabReader {
    /// Maps a slab for reading.
    ///
    /// # Errors
    /// [`SlabError::NotASlab`] when the descriptor is not sealed or not as long as `layout` says.
    pub fn open(fd: impl AsFd, layout: Layout) -> Result<Self, SlabError> {
        check(fd.as_fd(), &layout)?;
        let map = ReadMap::open(fd, layout.slab_bytes()).map_err(|source| map_error(&layout, source))?;
        Ok(Self { map, layout })
    }

    /// Where everything lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What the slot says of its batch, or `None` when it holds none.
    ///
    /// To be called, as all of these, only under a lease of the slot.
    pub fn header(&self, slot: SlotIndex) -> Option<SlotHeader> {
        SlotHeader::read(self.map.bytes(self.layout.header(slot)))
    }

    /// What the slot says of one row.
    pub fn record(&self, slot: SlotIndex, row: u32) -> RowRecord {
        RowRecord::read(self.map.bytes(self.layout.records(slot, Rows { lo: row, hi: row + 1 })))
    }

    /// The rows of one field, row-major.
    pub fn rows(&self, slot: SlotIndex, field: usize, rows: Rows) -> &[u8] {
        self.map.bytes(self.layout.rows(slot, field, rows))
    }

    /// The digest of `rows`, from the bytes that are there.
    pub fn digest(&self, slot: SlotIndex, rows: Rows) -> Digest {
        let fields = self.layout.fields().len();
        let mut digest = RowDigest::default();
        let digest = |row| {
            let only = Rows { lo: row, hi: row + 1 };
            digest.begin(row, self.record(slot, row));
            (0..fields).for_each(|field| digest.update(self.rows(slot, field, only)));
            digest.finish()
        };
        (rows.lo..rows.hi).map(digest).sum()
    }
}

/// A worker's view of a slab.
#[derive(Debug)]
pub struct SlabWriter {
    map: WriteMap,
    layout: Layout,
    digest: RowDigest,
}

impl SlabWriter {
    /// Maps a slab for writing.
    ///
    /// # Errors
    /// [`SlabError::NotASlab`] when the descriptor is not sealed or not as long as `layout` says.
    pub fn open(fd: impl AsFd, layout: Layout) -> Result<Self, SlabError> {
        check(fd.as_fd(), &layout)?;
        let map = WriteMap::open(fd, layout.slab_bytes()).map_err(|source| map_error(&layout, source))?;
        Ok(Self { map, layout, digest: RowDigest::default() })
    }

    /// Where everything lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Writes the header of a slot; the task that holds row 0 does this.
    pub fn write_header(&mut self, slot: SlotIndex, header: &SlotHeader) {
        header.write(self.map.bytes_mut(self.layout.header(slot)));
    }

    /// The bytes of one field of one row.
    pub fn row_mut(&mut self, slot: SlotIndex, field: usize, row: u32) -> &mut [u8] {
        self.rows_mut(slot, field, Rows { lo: row, hi: row + 1 })
    }

    /// The bytes of one field of some rows, row-major.
    pub fn rows_mut(&mut self, slot: SlotIndex, field: usize, rows: Rows) -> &mut [u8] {
        self.map.bytes_mut(self.layout.rows(slot, field, rows))
    }

    /// Writes the record of a row whose fields are written, and digests all of it while it is in the cache.
    pub fn finish_row(&mut self, slot: SlotIndex, row: u32, record: RowRecord) -> Digest {
        self.finish_rows(slot, row, [record])
    }

    /// The same for the rows from `first` on: what they amount to together.
    pub fn finish_rows(&mut self, slot: SlotIndex, first: u32, records: impl IntoIterator<Item = RowRecord>) -> Digest {
        let Self { map, layout, digest } = self;
        let fields = layout.fields().len();
        let finish = |(row, record): (u32, RowRecord)| {
            let only = Rows { lo: row, hi: row + 1 };
            map.bytes_mut(layout.records(slot, only)).copy_from_slice(&record.bytes());
            digest.begin(row, record);
            (0..fields).for_each(|field| digest.update(map.bytes_mut(layout.rows(slot, field, only))));
            digest.finish()
        };
        (first..).zip(records).map(finish).sum()
    }
}

/// Makes sealed memory of a fixed length.
fn sealed(name: &str, bytes: u64) -> Result<OwnedFd, (&'static str, rustix::io::Errno)> {
    let memory = unnamed(&format!("batchmill-{name}")).map_err(|errno| ("create", errno))?;
    rustix::fs::ftruncate(&memory, bytes).map_err(|errno| ("size", errno))?;
    rustix::fs::fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
        .map_err(|errno| ("seal", errno))?;
    Ok(memory)
}

/// Has all of a memory be there.
fn fill(memory: &OwnedFd, bytes: u64) -> Result<(), rustix::io::Errno> {
    for at in (0..bytes).step_by(CHUNK_BYTES) {
        let chunk = (bytes - at).min(CHUNK_BYTES as u64);
        rustix::io::retry_on_intr(|| rustix::fs::fallocate(memory, FallocateFlags::empty(), at, chunk))?;
    }
    Ok(())
}

/// Makes memory of no length that this user alone can open.
fn unnamed(name: &str) -> Result<OwnedFd, rustix::io::Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        // Linux before 6.3 does not know NOEXEC_SEAL.
        Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create(name, flags),
        made => made,
    }?;
    // A memfd is born 0777: without this another user could reopen it for writing through /proc.
    rustix::fs::fchmod(&memory, Mode::RUSR | Mode::WUSR)?;
    Ok(memory)
}

/// Memory for what workers share beside the batches: it has no name, grows as it is written, and goes with whoever has it
/// open.
///
/// # Errors
/// As `memfd_create(2)`.
pub fn growing(name: &str) -> io::Result<OwnedFd> {
    Ok(unnamed(&format!("batchmill-{name}"))?)
}

fn check(fd: BorrowedFd<'_>, layout: &Layout) -> Result<(), SlabError> {
    let expected_bytes = layout.slab_bytes() as u64;
    let sealed = rustix::fs::fcntl_get_seals(fd).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
    let length = rustix::fs::fstat(fd).ok().and_then(|stat| u64::try_from(stat.st_size).ok());
    if sealed && length == Some(expected_bytes) { Ok(()) } else { Err(SlabError::NotASlab { expected_bytes }) }
}

fn map_error(layout: &Layout, source: io::Error) -> SlabError {
    SlabError::Io { step: "map", needed_bytes: layout.slab_bytes() as u64, source }
}

/// The bytes that could still be reserved and mapped: the least of what the machine, each enclosing cgroup and this
/// process's address space leave.
pub fn available_bytes() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| meminfo_available_bytes(&text));
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let cgroups = cgroup_free_bytes(&cgroups, Path::new("/sys/fs/cgroup"));
    // Workers have the same limit, and map every slab.
    let address_space = rustix::process::getrlimit(rustix::process::Resource::As).current;
    let free = machine.into_iter().chain(cgroups).chain(address_space).min().unwrap_or(u64::MAX);
    free.saturating_sub(HEADROOM_BYTES)
}

fn meminfo_available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The free bytes of the memory cgroups that `own`, a `/proc/PID/cgroup`, lies in, and of all above them.
fn cgroup_free_bytes(own: &str, root: &Path) -> Vec<u64> {
    let mut free = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        // Version 2 has one tree for everything, version 1 has one for memory.
        let (root, limit, used, prefix) = if controllers.is_empty() {
            (root.to_path_buf(), "memory.max", "memory.current", "")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            (root.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
        } else {
            continue;
        };
        let free_in = |folder: &Path| {
            let text = |name: &str| fs::read_to_string(folder.join(name)).ok();
            let number = |name: &str| text(name)?.trim().parse::<u64>().ok();
            // The kernel keeps what was read from files as long as nobody needs the room.
            let stat = text("memory.stat").unwrap_or_default();
            let kept = |kind: &str| stat_bytes(&stat, &format!("{prefix}{kind}_file"));
            let used = number(used)?.saturating_sub(kept("active") + kept("inactive"));
            Some(number(limit)?.saturating_sub(used))
        };
        // In a container the path may be that of the host, where only the root is there.
        let own = root.join(path.trim_start_matches('/'));
        free.extend(own.ancestors().take_while(|folder| folder.starts_with(&root)).filter_map(free_in));
    }
    free
}

/// A line of a `memory.stat`, or 0 where it has none.
fn stat_bytes(stat: &str, name: &str) -> u64 {
    let value = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::mem::{ManuallyDrop, forget};

    use super::map::Anonymous;
    use super::*;
    use crate::message::StreamId;
    use crate::position::Position;
    use crate::tensor::{Dtype, FieldSpec};

    fn layout() -> Layout {
        let fields = [FieldSpec::new("image", Dtype::U8, [3]), FieldSpec::new("label", Dtype::I64, [])];
        Layout::new(&fields, 4, 2).expect("small")
    }

    fn record(row: u32) -> RowRecord {
        RowRecord { index: u64::from(row), padding: false, substituted: false, masked: false }
    }

    /// Fills a row with its number.
    fn fill(writer: &mut SlabWriter, slot: SlotIndex, row: u32) {
        let value = u8::try_from(row).expect("few rows");
        writer.row_mut(slot, 0, row).fill(value);
        writer.row_mut(slot, 1, row).fill(value);
        writer.finish_row(slot, row, record(row));
    }

    /// In one process the views share their memory, and Miri sees whether one touches what another has.
    #[test]
    fn views_touch_the_rows_they_were_asked_for_and_no_other() {
        let memory = Anonymous::new(layout().slab_bytes());
        // The mapping is lent: a view ends without it.
        let write = |work: &dyn Fn(&mut SlabWriter)| {
            let mut writer =
                ManuallyDrop::new(SlabWriter { map: memory.writer(), layout: layout(), digest: RowDigest::default() });
            work(&mut writer);
            forget(ManuallyDrop::into_inner(writer).map);
        };
        let reader = ManuallyDrop::new(SlabReader { map: memory.reader(), layout: layout() });
        let (done, open) = (SlotIndex(0), SlotIndex(1));
        let header = SlotHeader { stream: StreamId(3), position: Position { epoch: 1, step: 2 }, rows: 4, padding: 0 };
        let check = |slot| {
            assert_eq!(reader.header(slot), Some(header));
            for row in 0..4 {
                let value = u8::try_from(row).expect("few rows");
                assert_eq!(reader.record(slot, row), record(row));
                assert_eq!(reader.rows(slot, 0, Rows { lo: row, hi: row + 1 }), [value; 3]);
                assert_eq!(reader.rows(slot, 1, Rows { lo: row, hi: row + 1 }), [value; 8]);
            }
            assert_eq!(reader.rows(slot, 0, Rows { lo: 1, hi: 3 }), [1, 1, 1, 2, 2, 2]);
        };
        write(&|writer| {
            writer.write_header(done, &header);
            (0..4).for_each(|row| fill(writer, done, row));
        });
        std::thread::scope(|scope| {
            // One reads a batch, while two others make the next: the header, and every second row each.
            scope.spawn(|| check(done));
            scope.spawn(|| {
                write(&|writer| {
                    writer.write_header(open, &header);
                    (0..4).step_by(2).for_each(|row| fill(writer, open, row));
                });
            });
            scope.spawn(|| write(&|writer| (1..4).step_by(2).for_each(|row| fill(writer, open, row))));
        });
        check(open);
        forget(ManuallyDrop::into_inner(reader).map);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn what_a_worker_writes_a_member_reads() {
        let slab = Slab::create("test", &layout()).expect("a few pages");
        let mut writer = SlabWriter::open(slab.writable(), layout()).expect("our own");
        let reader = SlabReader::open(slab.read_only(), layout()).expect("our own");
        let slot = SlotIndex(1);
        assert_eq!(reader.header(slot), None, "a fresh slot holds no batch");

        let header = SlotHeader { stream: StreamId(0), position: Position { epoch: 2, step: 5 }, rows: 4, padding: 1 };
        writer.write_header(slot, &header);
        writer.row_mut(slot, 0, 3).copy_from_slice(&[7, 8, 9]);
        let record = RowRecord { index: 41, padding: true, substituted: false, masked: false };
        let digest = writer.finish_row(slot, 3, record);

        assert_eq!(reader.header(slot), Some(header));
        assert_eq!(reader.record(slot, 3), record);
        assert_eq!(reader.digest(slot, Rows { lo: 3, hi: 4 }), digest);
        assert_eq!(reader.rows(slot, 0, Rows { lo: 2, hi: 4 }), [0, 0, 0, 7, 8, 9]);
        assert_eq!(reader.header(SlotIndex(0)), None, "the other slot is untouched");
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn a_member_cannot_write_through_its_descriptor() {
        let slab = Slab::create("test", &layout()).expect("a few pages");
        assert!(SlabWriter::open(slab.read_only(), layout()).is_err());
        assert!(rustix::io::write(slab.read_only(), b"x").is_err());
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn memory_of_another_length_or_without_seals_is_refused() {
        let slab = Slab::create("test", &layout()).expect("a few pages");
        let longer = Layout::new(&[FieldSpec::new("image", Dtype::U8, [3])], 4, 9).expect("small");
        assert!(matches!(SlabReader::open(slab.read_only(), longer), Err(SlabError::NotASlab { .. })));
        let unsealed = rustix::fs::memfd_create("unsealed", MemfdFlags::CLOEXEC).expect("a memfd");
        rustix::fs::ftruncate(&unsealed, layout().slab_bytes() as u64).expect("sized");
        assert!(matches!(SlabReader::open(unsealed, layout()), Err(SlabError::NotASlab { .. })));
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn more_than_the_machine_has_is_refused_with_both_sizes() {
        let huge = Layout::new(&[FieldSpec::new("image", Dtype::U8, [1 << 40])], 16, 16).expect("fits the addresses");
        let error = Slab::create("test", &huge).expect_err("256 TiB");
        assert!(matches!(error, SlabError::NoMemory { needed_bytes, available_bytes }
            if needed_bytes >> 40 == 256 && available_bytes < needed_bytes));
        assert!(error.to_string().contains("lower --memory"), "{error}");
    }

    #[test]
    fn sizes_are_written_in_the_unit_that_fits() {
        let written = [0, 1000, 1 << 10, 5 << 19, 300 << 20, 900 << 40, u64::MAX].map(size);
        assert_eq!(written, ["0 B", "1000 B", "1.0 KiB", "2.5 MiB", "300 MiB", "900 TiB", "16777216 TiB"]);
    }

    #[test]
    fn available_memory_is_read_from_meminfo() {
        let meminfo = "MemTotal:       24000000 kB\nMemFree: 1 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(meminfo_available_bytes(meminfo), Some(2 << 20));
        assert_eq!(meminfo_available_bytes("MemTotal: 1 kB\n"), None);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri makes no folders")]
    fn available_memory_is_that_of_the_narrowest_cgroup() {
        let root = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("in a folder")).expect("made");
            fs::write(path, text).expect("written");
        };
        // Version 2, with 300 of 1000 bytes used, of which 100 are kept from files; without limit at the root.
        write("pod/memory.max", "1000\n");
        write("pod/memory.current", "300\n");
        write("pod/memory.stat", "anon 200\nactive_file 60\ninactive_file 40\nworkingset_activate_file 7\n");
        write("pod/job/memory.max", "max\n");
        write("pod/job/memory.current", "300\n");
        assert_eq!(cgroup_free_bytes("0::/pod/job\n", root.path()), [800]);
        // Version 1, seen from a container that knows its path on the host.
        write("memory/memory.limit_in_bytes", "500\n");
        write("memory/memory.usage_in_bytes", "200\n");
        write("memory/memory.stat", "active_file 1\ntotal_active_file 20\ntotal_inactive_file 30\n");
        let own = "9:name=systemd:/x\n4:hugetlb,memory:/docker/0123\n1:cpu:/x\n0::/\n";
        assert_eq!(cgroup_free_bytes(own, root.path()), [350]);
        assert!(cgroup_free_bytes("", root.path()).is_empty());
    }
}
