//! The index: what is known of a list of image files, packed by columns and read where it lies.
//!
//! ```text
//! magic    8 bytes
//! rows     u64
//! counts   u64 for each column, the last column's first
//! arrays   of each column in turn: an entry for each row
//! heaps    of each column in turn: what does not fit into an entry
//!
//! column    array                                       heap                                    count
//! files     path_ends u64, bytes u64, modified_ns i64   paths, one behind the other             bytes of the heap
//! classes   class u32                                   names, each with a line feed behind it  names
//! numbers   number f32                                                                          0
//! sets      set_ends u64                                members u32, then names as above        names
//! ```
//! All numbers are little-endian, all texts UTF-8. The three arrays of `files` follow one another. `path_ends` and
//! `set_ends` say where a row's path or members end in the heap; they start where those of the row before end.
//!
//! The class or the number of any row is read without its image: an entry is found by a multiplication. Ten million
//! files with a class each take 580 MB at 30 bytes a path, once and not once for every worker.
//!
//! Which columns there are is not in it: it follows from the options, which a stream's identity has as well. A list of
//! images and labels is, byte for byte, what it was before there were other columns (the count of labels came first):
//! the identities of its streams, which checkpoints keep, hold.

use std::ops::Range;

use crate::source::Index;

const MAGIC: [u8; 8] = *b"bmfiles1";
const HEADER_BYTES: usize = 8 + 8;

/// The class of a row that has none.
pub(in crate::sources) const NO_CLASS: u32 = u32::MAX;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sources) enum Kind {
    /// A file for each row.
    Files,
    /// A class, by number.
    Classes,
    /// A number.
    Numbers,
    /// Any number of classes.
    Sets,
}

impl Kind {
    /// The bytes of a row in the arrays.
    const fn entry_bytes(self) -> usize {
        match self {
            Self::Files => 3 * 8,
            Self::Classes | Self::Numbers => 4,
            Self::Sets => 8,
        }
    }
}

/// A file as it was when it was listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sources) struct FileEntry<'a> {
    /// The path, relative to the folder of its column.
    pub(in crate::sources) path: &'a str,
    /// The size of the file.
    pub(in crate::sources) bytes: u64,
    /// When the file was last written to, in nanoseconds since 1970.
    pub(in crate::sources) modified_ns: i64,
}

/// A column while it is collected. No class has a line feed in its name.
#[derive(Debug)]
pub(in crate::sources) enum Column {
    Files(FileList),
    Classes { classes: Vec<u32>, names: Vec<String> },
    Numbers(Vec<f32>),
    Sets { sets: SetList, names: Vec<String> },
}

/// A column of files.
#[derive(Debug, Default)]
pub(in crate::sources) struct FileList {
    path_ends: Vec<u64>,
    bytes: Vec<u64>,
    modified_ns: Vec<i64>,
    paths: String,
}

impl FileList {
    pub(in crate::sources) fn push(&mut self, file: &FileEntry<'_>) {
        self.paths.push_str(file.path);
        self.path_ends.push(self.paths.len() as u64);
        self.bytes.push(file.bytes);
        self.modified_ns.push(file.modified_ns);
    }

    pub(in crate::sources) fn len(&self) -> usize {
        self.path_ends.len()
    }
}

/// A column of sets.
#[derive(Debug, Default)]
pub(in crate::sources) struct SetList {
    ends: Vec<u64>,
    members: Vec<u32>,
}

impl SetList {
    /// Adds a member to the set of the row that [`close`](Self::close) ends.
    pub(in crate::sources) fn add(&mut self, class: u32) {
        self.members.push(class);
    }

    pub(in crate::sources) fn close(&mut self) {
        self.ends.push(self.members.len() as u64);
    }

    /// All members, to be renumbered when all names are known.
    pub(in crate::sources) fn members_mut(&mut self) -> &mut [u32] {
        &mut self.members
    }
}

/// Packs columns of `rows` rows each.
pub(in crate::sources) fn pack(rows: usize, columns: Vec<Column>) -> Vec<u8> {
    let bytes: usize = columns.iter().map(|column| rows * column.kind().entry_bytes() + column.heap_bytes()).sum();
    let mut out = Vec::with_capacity(HEADER_BYTES + columns.len() * 8 + bytes);
    out.extend(MAGIC);
    out.extend((rows as u64).to_le_bytes());
    for column in columns.iter().rev() {
        out.extend((column.count() as u64).to_le_bytes());
    }
    // Each array is given back as soon as it is packed, while the room for the rest is only reserved: no more than one
    // of them is held twice.
    let heaps: Vec<Heap> = columns.into_iter().map(|column| column.pack_arrays(&mut out)).collect();
    for Heap { paths, members, names } in heaps {
        out.extend(paths.into_bytes());
        members.into_iter().for_each(|member| out.extend(member.to_le_bytes()));
        for name in names {
            out.extend(name.into_bytes());
            out.push(b'\n');
        }
    }
    out
}

/// What is packed of a column behind all arrays.
#[derive(Debug, Default)]
struct Heap {
    paths: String,
    members: Vec<u32>,
    names: Vec<String>,
}

impl Column {
    fn kind(&self) -> Kind {
        match self {
            Self::Files(_) => Kind::Files,
            Self::Classes { .. } => Kind::Classes,
            Self::Numbers(_) => Kind::Numbers,
            Self::Sets { .. } => Kind::Sets,
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::Files(files) => files.paths.len(),
            Self::Classes { names, .. } | Self::Sets { names, .. } => names.len(),
            Self::Numbers(_) => 0,
        }
    }

    fn heap_bytes(&self) -> usize {
        let names_bytes = |names: &[String]| names.iter().map(|name| name.len() + 1).sum::<usize>();
        match self {
            Self::Files(files) => files.paths.len(),
            Self::Classes { names, .. } => names_bytes(names),
            Self::Numbers(_) => 0,
            Self::Sets { sets, names } => sets.members.len() * 4 + names_bytes(names),
        }
    }

    fn pack_arrays(self, out: &mut Vec<u8>) -> Heap {
        match self {
            Self::Files(FileList { path_ends, bytes, modified_ns, paths }) => {
                path_ends.into_iter().for_each(|end| out.extend(end.to_le_bytes()));
                bytes.into_iter().for_each(|bytes| out.extend(bytes.to_le_bytes()));
                modified_ns.into_iter().for_each(|time| out.extend(time.to_le_bytes()));
                Heap { paths, ..Heap::default() }
            }
            Self::Classes { classes, names } => {
                classes.into_iter().for_each(|class| out.extend(class.to_le_bytes()));
                Heap { names, ..Heap::default() }
            }
            Self::Numbers(numbers) => {
                numbers.into_iter().for_each(|number| out.extend(number.to_le_bytes()));
                Heap::default()
            }
            Self::Sets { sets: SetList { ends, members }, names } => {
                ends.into_iter().for_each(|end| out.extend(end.to_le_bytes()));
                Heap { members, names, ..Heap::default() }
            }
        }
    }
}

/// The packed rows, wherever they lie. Columns and rows are counted from 0.
#[derive(Clone, Debug)]
pub(in crate::sources) struct Table {
    index: Index,
    rows: usize,
    columns: Vec<Packed>,
}

/// Where a column lies.
#[derive(Clone, Debug)]
struct Packed {
    kind: Kind,
    /// Where its arrays begin.
    arrays: usize,
    /// Its paths or members.
    heap: Range<usize>,
    names: Range<usize>,
    count: usize,
}

impl Table {
    /// Finds the columns, which must be of these `kinds`; `None` when the bytes are no such table.
    pub(in crate::sources) fn new(index: Index, kinds: &[Kind]) -> Option<Self> {
        if index.get(..8)? != MAGIC {
            return None;
        }
        let count = |place: usize| usize::try_from(u64_at(&index, HEADER_BYTES - 8, place)?).ok();
        let rows = count(0)?;
        let mut at = HEADER_BYTES + kinds.len() * 8;
        let mut columns = Vec::new();
        for (place, &kind) in kinds.iter().enumerate() {
            let arrays = at;
            at = rows.checked_mul(kind.entry_bytes())?.checked_add(at).filter(|&end| end <= index.len())?;
            columns.push(Packed { kind, arrays, heap: 0..0, names: 0..0, count: count(kinds.len() - place)? });
        }
        for column in &mut columns {
            let heap_bytes = match column.kind {
                Kind::Files => column.count,
                Kind::Classes | Kind::Numbers => 0,
                Kind::Sets => match rows.checked_sub(1) {
                    Some(last) => usize::try_from(u64_at(&index, column.arrays, last)?).ok()?.checked_mul(4)?,
                    None => 0,
                },
            };
            column.heap = at..at.checked_add(heap_bytes)?;
            let names = match column.kind {
                Kind::Classes | Kind::Sets => column.count,
                Kind::Files | Kind::Numbers => 0,
            };
            column.names =
                column.heap.end..column.heap.end.checked_add(lines_bytes(index.get(column.heap.end..)?, names)?)?;
            at = column.names.end;
        }
        Some(Self { index, rows, columns })
    }

    pub(in crate::sources) fn len(&self) -> u64 {
        self.rows as u64
    }

    /// The file of a row.
    pub(in crate::sources) fn file(&self, column: usize, row: u64) -> Option<FileEntry<'_>> {
        let (Packed { arrays, heap, .. }, row) = self.find(column, Kind::Files, row)?;
        let path = self.index.get(heap.clone())?.get(self.span(*arrays, row)?)?;
        Some(FileEntry {
            path: std::str::from_utf8(path).ok()?,
            bytes: u64_at(&self.index, *arrays, self.rows + row)?,
            modified_ns: u64_at(&self.index, *arrays, 2 * self.rows + row)?.cast_signed(),
        })
    }

    /// The class of a row, or [`NO_CLASS`].
    pub(in crate::sources) fn class(&self, column: usize, row: u64) -> Option<u32> {
        let (Packed { arrays, .. }, row) = self.find(column, Kind::Classes, row)?;
        u32_at(&self.index, *arrays, row)
    }

    /// The number of a row.
    pub(in crate::sources) fn number(&self, column: usize, row: u64) -> Option<f32> {
        let (Packed { arrays, .. }, row) = self.find(column, Kind::Numbers, row)?;
        u32_at(&self.index, *arrays, row).map(f32::from_bits)
    }

    /// The classes of a row, in no order.
    pub(in crate::sources) fn set(&self, column: usize, row: u64) -> Option<impl Iterator<Item = u32>> {
        let (Packed { arrays, heap, .. }, row) = self.find(column, Kind::Sets, row)?;
        let members = self.index.get(heap.clone())?.as_chunks::<4>().0.get(self.span(*arrays, row)?)?;
        Some(members.iter().map(|bytes| u32::from_le_bytes(*bytes)))
    }

    /// The size of every row's file.
    pub(in crate::sources) fn bytes(&self, column: usize) -> impl Iterator<Item = u64> {
        self.file_array(column, 1)
    }

    /// When every row's file was last written to, in nanoseconds since 1970.
    pub(in crate::sources) fn modified_ns(&self, column: usize) -> impl Iterator<Item = i64> {
        self.file_array(column, 2).map(u64::cast_signed)
    }

    /// How many classes there are; 0 in a column without.
    pub(in crate::sources) fn class_count(&self, column: usize) -> usize {
        match self.columns.get(column) {
            Some(Packed { kind: Kind::Classes | Kind::Sets, count, .. }) => *count,
            _ => 0,
        }
    }

    /// The names of the classes by number; none in a column without.
    pub(in crate::sources) fn names(&self, column: usize) -> Vec<String> {
        let names = self.columns.get(column).and_then(|column| self.index.get(column.names.clone()));
        // Not `str::lines`, which takes a carriage return at the end of a name for a part of the line's end.
        names.unwrap_or_default().split_inclusive(|&byte| byte == b'\n').map(name_of_line).collect()
    }

    /// A column, which must be of this kind, and a row, which must exist.
    fn find(&self, column: usize, kind: Kind, row: u64) -> Option<(&Packed, usize)> {
        let column = self.columns.get(column).filter(|column| column.kind == kind)?;
        Some((column, usize::try_from(row).ok().filter(|&row| row < self.rows)?))
    }

    /// What belongs to a row in a heap, by an array of ends.
    fn span(&self, ends: usize, row: usize) -> Option<Range<usize>> {
        let start = match row.checked_sub(1) {
            Some(before) => usize::try_from(u64_at(&self.index, ends, before)?).ok()?,
            None => 0,
        };
        Some(start..usize::try_from(u64_at(&self.index, ends, row)?).ok()?)
    }

    /// One of the three arrays of files.
    fn file_array(&self, column: usize, array: usize) -> impl Iterator<Item = u64> {
        let column = self.columns.get(column).filter(|column| column.kind == Kind::Files);
        let start = column.map(|column| column.arrays + array * self.rows * 8);
        let bytes = start.and_then(|start| self.index.get(start..start + self.rows * 8)).unwrap_or_default();
        bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes))
    }
}

fn name_of_line(line: &[u8]) -> String {
    String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line)).into_owned()
}

/// How long the first `lines` lines are, with their line feeds; `None` where there are fewer.
fn lines_bytes(bytes: &[u8], lines: usize) -> Option<usize> {
    let Some(last) = lines.checked_sub(1) else { return Some(0) };
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(last).map(|(place, _)| place + 1)
}

/// Entry `entry` of the array of 8 bytes an entry that begins at `start`.
fn u64_at(bytes: &[u8], start: usize, entry: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(start + entry * 8..)?.first_chunk()?))
}

/// Entry `entry` of the array of 4 bytes an entry that begins at `start`.
fn u32_at(bytes: &[u8], start: usize, entry: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(start + entry * 4..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Kind; 4] = [Kind::Files, Kind::Classes, Kind::Numbers, Kind::Sets];

    fn file(path: &str) -> FileEntry<'_> {
        FileEntry { path, bytes: path.len() as u64 * 1000, modified_ns: -i64::try_from(path.len()).unwrap() }
    }

    fn files(paths: &[&str]) -> Column {
        let mut files = FileList::default();
        paths.iter().for_each(|path| files.push(&file(path)));
        Column::Files(files)
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn sets(rows: &[&[u32]], of: &[&str]) -> Column {
        let mut sets = SetList::default();
        for row in rows {
            row.iter().for_each(|&class| sets.add(class));
            sets.close();
        }
        Column::Sets { sets, names: names(of) }
    }

    /// Two rows of every kind of column.
    fn packed() -> Vec<u8> {
        let classes = Column::Classes { classes: vec![7, NO_CLASS], names: names(&["cat", "two words", "cr\r"]) };
        let numbers = Column::Numbers(vec![0.5, f32::INFINITY]);
        pack(2, vec![files(&["a.png", "sub/ä.jpg"]), classes, numbers, sets(&[&[2, 0], &[]], &["x", "", "z"])])
    }

    #[test]
    fn rows_come_back_as_they_were_put_in() {
        let table = Table::new(packed().into(), &ALL).unwrap();
        assert_eq!(table.len(), 2);
        assert_eq!([0, 1, 2].map(|row| table.file(0, row)), [Some(file("a.png")), Some(file("sub/ä.jpg")), None]);
        assert_eq!([0, 1, 2].map(|row| table.class(1, row)), [Some(7), Some(NO_CLASS), None]);
        assert_eq!([0, 1, 2].map(|row| table.number(2, row)), [Some(0.5), Some(f32::INFINITY), None]);
        let set = |row| table.set(3, row).map(Iterator::collect::<Vec<_>>);
        assert_eq!([0, 1, 2].map(set), [Some(vec![2, 0]), Some(vec![]), None]);
        assert_eq!([0, 1, 2, 3].map(|column| table.class_count(column)), [0, 3, 0, 3]);
        assert_eq!(table.names(1), ["cat", "two words", "cr\r"]);
        assert_eq!(table.names(3), ["x", "", "z"]);
        assert_eq!(table.bytes(0).collect::<Vec<_>>(), [5000, 10_000]);
        assert_eq!(table.modified_ns(0).collect::<Vec<_>>(), [-5, -10]);
        assert_eq!(table.number(1, 0), None, "a class is no number");
    }

    #[test]
    fn images_and_labels_are_packed_as_they_always_were() {
        let classes = Column::Classes { classes: vec![1, 0], names: names(&["cat", "dog"]) };
        let mut expected = b"bmfiles1".to_vec();
        // Rows, classes, bytes of paths; path_ends, bytes, modified_ns of each file.
        for number in [2, 2, 10, 5, 10, 5000, 5000, -5, -5_i64] {
            expected.extend(number.to_le_bytes());
        }
        expected.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend(b"a.pngb.pngcat\ndog\n");
        assert_eq!(pack(2, vec![files(&["a.png", "b.png"]), classes]), expected);
    }

    #[test]
    fn damaged_bytes_are_no_table() {
        let bytes = packed();
        for len in 0..bytes.len() {
            assert!(Table::new(bytes[..len].to_vec().into(), &ALL).is_none(), "{len} of {} bytes", bytes.len());
        }
        // Rows and counts that are too large, and a last set that ends too late.
        for place in [8, 16, 32, 40, 48 + 2 * 24 + 2 * 4 + 2 * 4 + 8] {
            let mut huge = bytes.clone();
            huge[place..place + 8].copy_from_slice(&u64::MAX.to_le_bytes());
            assert!(Table::new(huge.into(), &ALL).is_none(), "byte {place}");
        }
    }
}
