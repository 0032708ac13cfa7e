//! What a list of files is, for a person: how many, how large, how old.

use std::cmp::Reverse;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::table::Table;

/// Writes `300 files, 12.3 MB, newest b/7.jpg of 2026-11-20T08:15:02.123456789Z` of a column of files: a file that is
/// edited later is the newest.
pub(super) fn of(table: &Table, column: usize) -> String {
    // Of several, the first.
    let newest = (0..).zip(table.modified_ns(column)).max_by_key(|&(row, modified_ns)| (modified_ns, Reverse(row)));
    let newest = newest.map(|(row, modified_ns)| (table.file(column, row).map_or("", |file| file.path), modified_ns));
    of_files(table.len(), table.bytes(column).map(u128::from).sum(), newest)
}

/// The same of so many files of so many bytes; the newest by its path and when it was written to, in nanoseconds since
/// 1970.
pub(in crate::sources) fn of_files(files: u64, bytes: u128, newest: Option<(&str, i64)>) -> String {
    let noun = if files == 1 { "file" } else { "files" };
    let summary = format!("{files} {noun}, {}", size(bytes));
    let Some((path, modified_ns)) = newest else { return summary };
    format!("{summary}, newest {} of {}", path.escape_debug(), instant(modified_ns))
}

/// A time in UTC (RFC 3339).
fn instant(since_1970_ns: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(since_1970_ns.into()).ok();
    // No `i64` of nanoseconds leaves the years that can be written.
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{since_1970_ns} ns"))
}

/// Writes `12.3 MB`, in powers of 1000, rounded down.
fn size(bytes: u128) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut tenths = bytes / 100;
    let mut units = UNITS.into_iter();
    let mut unit = units.next();
    while tenths >= 10_000
        && let Some(next) = units.next()
    {
        tenths /= 1000;
        unit = Some(next);
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, unit.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::table::{Column, FileEntry, FileList, Kind, pack};
    use super::*;

    #[test]
    fn the_newest_file_is_named() {
        let summary = |rows: &[(&str, u64, i64)]| {
            let mut files = FileList::default();
            for &(path, bytes, modified_ns) in rows {
                files.push(&FileEntry { path, bytes, modified_ns });
            }
            let index = pack(rows.len(), vec![Column::Files(files)]);
            of(&Table::new(index.into(), &[Kind::Files]).unwrap(), 0)
        };
        assert_eq!(
            summary(&[("a.jpg", 12_000_000, 5), ("b/7.jpg", 345_678, 1_795_162_502_123_456_789), ("c.jpg", 0, 6)]),
            "3 files, 12.3 MB, newest b/7.jpg of 2026-11-20T08:15:02.123456789Z"
        );
        assert_eq!(
            summary(&[("a\nb", 7, -1_500_000_000), ("c", 0, -1_500_000_000)]),
            r"2 files, 7 B, newest a\nb of 1969-12-31T23:59:58.5Z"
        );
        assert_eq!(summary(&[("a", 1, i64::MIN)]), "1 file, 1 B, newest a of 1677-09-21T00:12:43.145224192Z");
        assert_eq!(summary(&[("a", 1, i64::MAX)]), "1 file, 1 B, newest a of 2262-04-11T23:47:16.854775807Z");
    }

    #[test]
    fn sizes_are_rounded_down() {
        let sizes = [0, 999, 1000, 1999, 999_999, 1_000_000, 12_345_678_901, u128::from(u64::MAX)].map(size);
        assert_eq!(
            sizes,
            ["0 B", "999 B", "1.0 kB", "1.9 kB", "999.9 kB", "1.0 MB", "12.3 GB", "18446744.0 TB"].map(str::to_owned)
        );
    }
}
