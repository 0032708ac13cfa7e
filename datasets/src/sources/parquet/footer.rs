//! What a Parquet file says of itself, at its end.

use std::fs::File;
use std::os::unix::fs::FileExt;

use parquet::file::FOOTER_SIZE;
use parquet::file::metadata::{FooterTail, ParquetMetaData, ParquetMetaDataReader};

use super::group::{Failure, contained};

/// The most groups within groups that a schema may have.
const DEPTH_MAX: usize = 32;

/// Reads the metadata.
///
/// # Errors
/// It is no Parquet file, or damaged.
pub(super) fn metadata(file: &File, file_bytes: u64) -> Result<ParquetMetaData, Failure> {
    let mut footer = [0; FOOTER_SIZE];
    let footer_start = file_bytes.checked_sub(FOOTER_SIZE as u64).ok_or("it is too short to be one")?;
    file.read_exact_at(&mut footer, footer_start)?;
    let tail = FooterTail::try_new(&footer)?;
    if tail.is_encrypted_footer() {
        return Err("it is encrypted; store it in the clear".into());
    }
    let start = footer_start.checked_sub(tail.metadata_length() as u64);
    let start = start.ok_or("it claims to say more of itself than it has bytes")?;
    let mut bytes = vec![0; tail.metadata_length()];
    file.read_exact_at(&mut bytes, start)?;
    Thrift(&bytes).check_schema().ok_or("its schema has no sense")?;
    contained(|| Ok(ParquetMetaDataReader::decode_metadata(&bytes)?))
}

/// The rest of a message in Thrift's compact protocol.
///
/// The `parquet` crate makes room for as many columns as a group of the schema claims, and descends as deep as groups go,
/// either of which may be the end of the process. So the schema, and nothing else, is looked at first.
///
/// Source: <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>, and `parquet.thrift` of the
/// Parquet format.
struct Thrift<'a>(&'a [u8]);

// Types of the compact protocol.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;

impl Thrift<'_> {
    /// `FileMetaData`: field 2 is the schema. `None` when that is no tree.
    fn check_schema(mut self) -> Option<()> {
        let mut field = 0;
        while let Some(kind) = self.field(&mut field)? {
            if (field, kind) == (2, LIST) {
                return self.check_tree();
            }
            self.skip(kind, DEPTH_MAX)?;
        }
        None
    }

    /// A list of `SchemaElement`s, depth first; field 5 is how many children one has.
    fn check_tree(&mut self) -> Option<()> {
        let (elements, kind) = self.list()?;
        // The children still to come, of each group that the next element is in.
        let mut open: Vec<u64> = vec![1];
        for _ in 0..elements {
            let mut children = 0;
            if kind != STRUCT {
                return None;
            }
            let mut field = 0;
            while let Some(kind) = self.field(&mut field)? {
                if (field, kind) == (5, I32) {
                    // Zigzag: an even number is twice the value, an odd one negative.
                    children = self.varint().filter(|twice| twice % 2 == 0)? / 2;
                } else {
                    self.skip(kind, DEPTH_MAX)?;
                }
            }
            while open.last() == Some(&0) {
                open.pop();
            }
            *open.last_mut()? -= 1;
            if children > elements || open.len() > DEPTH_MAX {
                return None;
            }
            if children > 0 {
                open.push(children);
            }
        }
        open.iter().all(|&children| children == 0).then_some(())
    }

    /// The type of a struct's next field, whose number is put into `field`; `Some(None)` at its end.
    fn field(&mut self, field: &mut i64) -> Option<Option<u8>> {
        let head = self.byte()?;
        if head == 0 {
            return Some(None);
        }
        *field = match head >> 4 {
            0 => {
                let zigzag = self.varint()?;
                (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed()
            }
            delta => field.checked_add(delta.into())?,
        };
        Some(Some(head & 0x0f))
    }

    /// The length of a list, and the type of its elements.
    fn list(&mut self) -> Option<(u64, u8)> {
        let head = self.byte()?;
        let len = if head >> 4 == 15 { self.varint()? } else { (head >> 4).into() };
        Some((len, head & 0x0f))
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match kind {
            TRUE | FALSE => (),
            BYTE => drop(self.byte()?),
            I16 | I32 | I64 => drop(self.varint()?),
            DOUBLE => drop(self.bytes(8)?),
            BINARY => {
                let len = self.varint()?;
                self.bytes(len)?;
            }
            LIST | SET => {
                let (len, kind) = self.list()?;
                for _ in 0..len {
                    self.skip_element(kind, depth)?;
                }
            }
            MAP => {
                let len = self.varint()?;
                let kinds = if len == 0 { 0 } else { self.byte()? };
                for _ in 0..len {
                    self.skip_element(kinds >> 4, depth)?;
                    self.skip_element(kinds & 0x0f, depth)?;
                }
            }
            STRUCT => {
                let mut field = 0;
                while let Some(kind) = self.field(&mut field)? {
                    self.skip(kind, depth)?;
                }
            }
            _ => return None,
        }
        Some(())
    }

    /// A boolean takes a byte here, and none as a field.
    fn skip_element(&mut self, kind: u8, depth: usize) -> Option<()> {
        self.skip(if matches!(kind, TRUE | FALSE) { BYTE } else { kind }, depth)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn byte(&mut self) -> Option<u8> {
        self.bytes(1)?.first().copied()
    }

    fn bytes(&mut self, len: u64) -> Option<&[u8]> {
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(len).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Metadata whose schema has groups of so many children, depth first.
    fn metadata(children: &[u64]) -> Vec<u8> {
        let mut bytes = vec![0x15, 2, 0x19, 0xf0 | STRUCT];
        varint(children.len() as u64, &mut bytes);
        for &children in children {
            // Field 4, the name; field 5, if there are any.
            bytes.extend([0x48, 1, b'x']);
            if children > 0 {
                bytes.push(0x15);
                varint(2 * children, &mut bytes);
            }
            bytes.push(0);
        }
        bytes
    }

    fn varint(mut value: u64, out: &mut Vec<u8>) {
        while value >= 0x80 {
            out.push(0x80 | u8::try_from(value & 0x7f).unwrap());
            value >>= 7;
        }
        out.push(u8::try_from(value).unwrap());
    }

    fn is_tree(children: &[u64]) -> bool {
        Thrift(&metadata(children)).check_schema().is_some()
    }

    #[test]
    fn only_a_tree_is_a_schema() {
        assert!(is_tree(&[2, 0, 0]));
        assert!(is_tree(&[3, 0, 2, 0, 0, 1, 0]));
        assert!(is_tree(&[0]));
        assert!(!is_tree(&[]));
        assert!(!is_tree(&[2, 0]));
        assert!(!is_tree(&[1, 0, 0]));
        assert!(!is_tree(&[1 << 31, 0]));
        assert!(!is_tree(&[1, u64::from(u32::MAX) / 2]));
    }

    #[test]
    fn groups_lie_in_groups_only_so_deep() {
        let nested = |depth: usize| is_tree(&[vec![1; depth], vec![0]].concat());
        assert!(nested(DEPTH_MAX - 1));
        assert!(!nested(DEPTH_MAX + 1));
        assert!(!nested(1_000_000));
    }

    #[test]
    fn metadata_that_is_cut_short_has_no_schema() {
        let whole = metadata(&[3, 0, 2, 0, 0, 1, 0]);
        for len in 0..whole.len() {
            assert!(Thrift(&whole[..len]).check_schema().is_none(), "{len} of {} bytes", whole.len());
        }
    }
}
