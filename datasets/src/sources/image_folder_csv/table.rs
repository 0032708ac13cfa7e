//! The index: a packed list of files and labels that is read where it lies.
//!
//! ```text
//! magic              8 bytes
//! rows, classes      u64 each
//! paths              u64, bytes of all paths
//! path_ends          u64 for each row: where its path ends among the paths; it starts where the last one ends
//! bytes              u64 for each row: the size of its file
//! modified_ns        i64 for each row: when the file was last written to
//! labels             u32 for each row
//! paths              UTF-8, one behind the other
//! classes            UTF-8, each with a line feed behind it
//! ```
//! All numbers are little-endian. Ten million rows of 30-byte paths take 560 MB once, not once for every worker.

use crate::source::Index;

const MAGIC: [u8; 8] = *b"bmfiles1";
const HEADER_BYTES: usize = 8 + 3 * 8;

/// Bytes of a row besides its path.
const ROW_BYTES: usize = 8 + 8 + 8 + 4;

/// One row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// The path as the CSV has it.
    pub(super) path: &'a str,
    /// The number of the class.
    pub(super) label: u32,
    /// The size of the file.
    pub(super) bytes: u64,
    /// When the file was last written to, in nanoseconds since 1970.
    pub(super) modified_ns: i64,
}

/// The rows while they are collected.
#[derive(Debug, Default)]
pub(super) struct TableBuilder {
    path_ends: Vec<u64>,
    bytes: Vec<u64>,
    modified_ns: Vec<i64>,
    labels: Vec<u32>,
    paths: String,
}

impl TableBuilder {
    pub(super) fn push(&mut self, entry: &Entry<'_>) {
        self.paths.push_str(entry.path);
        self.path_ends.push(self.paths.len() as u64);
        self.bytes.push(entry.bytes);
        self.modified_ns.push(entry.modified_ns);
        self.labels.push(entry.label);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The labels, to be renumbered when all names are known.
    pub(super) fn labels_mut(&mut self) -> &mut [u32] {
        &mut self.labels
    }

    /// Packs the table. No class has a line feed in its name.
    pub(super) fn finish(self, classes: &[String]) -> Vec<u8> {
        let class_bytes: usize = classes.iter().map(|name| name.len() + 1).sum();
        let rows = self.labels.len();
        let mut out = Vec::with_capacity(HEADER_BYTES + rows * ROW_BYTES + self.paths.len() + class_bytes);
        out.extend(MAGIC);
        for count in [rows, classes.len(), self.paths.len()] {
            out.extend((count as u64).to_le_bytes());
        }
        // Each column is given back as soon as it is packed, while the room for the rest is only reserved: no more than
        // one of them is held twice.
        self.path_ends.into_iter().for_each(|end| out.extend(end.to_le_bytes()));
        self.bytes.into_iter().for_each(|bytes| out.extend(bytes.to_le_bytes()));
        self.modified_ns.into_iter().for_each(|time| out.extend(time.to_le_bytes()));
        self.labels.into_iter().for_each(|label| out.extend(label.to_le_bytes()));
        out.extend(self.paths.into_bytes());
        for class in classes {
            out.extend(class.as_bytes());
            out.push(b'\n');
        }
        out
    }
}

/// The packed rows, wherever they lie.
#[derive(Clone, Debug)]
pub(super) struct Table {
    index: Index,
    rows: usize,
    classes: usize,
    path_bytes: usize,
}

impl Table {
    /// Reads the header; `None` when the bytes are no table.
    pub(super) fn new(index: Index) -> Option<Self> {
        if index.get(..8)? != MAGIC {
            return None;
        }
        let count = |place: usize| usize::try_from(u64::from_le_bytes(*index.get(place..)?.first_chunk()?)).ok();
        let table = Self { rows: count(8)?, classes: count(16)?, path_bytes: count(24)?, index: index.clone() };
        let fixed = table.rows.checked_mul(ROW_BYTES)?.checked_add(table.path_bytes)?.checked_add(HEADER_BYTES)?;
        (fixed <= index.len()).then_some(table)
    }

    pub(super) fn len(&self) -> u64 {
        self.rows as u64
    }

    /// Row `row`; `None` when there is no such row.
    pub(super) fn get(&self, row: u64) -> Option<Entry<'_>> {
        let row = usize::try_from(row).ok().filter(|&row| row < self.rows)?;
        let path_start = match row.checked_sub(1) {
            Some(before) => usize::try_from(self.number(0, before)?).ok()?,
            None => 0,
        };
        let path_end = usize::try_from(self.number(0, row)?).ok()?;
        let paths = HEADER_BYTES + self.rows * ROW_BYTES;
        let label_at = HEADER_BYTES + self.rows * 24 + row * 4;
        Some(Entry {
            path: std::str::from_utf8(self.index.get(paths..paths + self.path_bytes)?.get(path_start..path_end)?)
                .ok()?,
            label: u32::from_le_bytes(*self.index.get(label_at..)?.first_chunk()?),
            bytes: self.number(1, row)?,
            modified_ns: self.number(2, row)?.cast_signed(),
        })
    }

    /// The size of every row's file.
    pub(super) fn bytes(&self) -> impl Iterator<Item = u64> {
        self.column(1)
    }

    /// When every row's file was last written to, in nanoseconds since 1970.
    pub(super) fn modified_ns(&self) -> impl Iterator<Item = i64> {
        self.column(2).map(u64::cast_signed)
    }

    /// The names of the classes by label.
    pub(super) fn classes(&self) -> Vec<String> {
        let names = self.index.get(HEADER_BYTES + self.rows * ROW_BYTES + self.path_bytes..).unwrap_or_default();
        String::from_utf8_lossy(names).lines().take(self.classes).map(str::to_owned).collect()
    }

    /// One of the columns that hold 8 bytes a row.
    fn column(&self, column: usize) -> impl Iterator<Item = u64> {
        let start = HEADER_BYTES + column * self.rows * 8;
        let bytes = self.index.get(start..start + self.rows * 8).unwrap_or_default();
        bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes))
    }

    /// Entry `row` of one of the columns that hold 8 bytes a row.
    fn number(&self, column: usize, row: usize) -> Option<u64> {
        let place = HEADER_BYTES + (column * self.rows + row) * 8;
        Some(u64::from_le_bytes(*self.index.get(place..)?.first_chunk()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, label: u32) -> Entry<'_> {
        Entry { path, label, bytes: path.len() as u64 * 1000, modified_ns: -i64::from(label) }
    }

    #[test]
    fn rows_come_back_as_they_were_put_in() {
        let rows = [entry("a.png", 1), entry("", 0), entry("sub/ä.jpg", 7), entry("a.png", u32::MAX)];
        let mut builder = TableBuilder::default();
        rows.iter().for_each(|row| builder.push(row));
        let classes = ["cat".to_owned(), "two words".to_owned()];
        let table = Table::new(builder.finish(&classes).into()).unwrap();
        assert_eq!(table.len(), 4);
        for (row, expected) in (0..).zip(&rows) {
            assert_eq!(table.get(row).as_ref(), Some(expected));
        }
        assert_eq!(table.get(4), None);
        assert_eq!(table.classes(), classes);
    }

    #[test]
    fn damaged_bytes_are_no_table() {
        let mut builder = TableBuilder::default();
        builder.push(&entry("a.png", 1));
        let bytes = builder.finish(&[]);
        for len in 0..bytes.len() {
            assert!(Table::new(bytes[..len].to_vec().into()).is_none(), "{len} of {} bytes", bytes.len());
        }
        let mut huge = bytes;
        huge[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(Table::new(huge.into()).is_none());
    }
}
