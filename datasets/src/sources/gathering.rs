//! Rows of one length out of memory, many at once.

use batchmill_protocol::tensor::{Dtype, FieldSpec};

/// Copies the rows of `indices` out of `table`, whose rows are `row_bytes` long, to `room`; `false` when one is not there.
pub(super) fn rows(table: &[u8], row_bytes: usize, indices: &[u64], room: &mut [u8]) -> bool {
    parts(table, row_bytes, 0, row_bytes, indices, room)
}

/// The same for `part_bytes` of each row, from `offset` on.
pub(super) fn parts(
    table: &[u8],
    row_bytes: usize,
    offset: usize,
    part_bytes: usize,
    indices: &[u64],
    room: &mut [u8],
) -> bool {
    let row = |index: u64| {
        let start = usize::try_from(index).ok()?.checked_mul(row_bytes)?.checked_add(offset)?;
        table.get(start..start.checked_add(part_bytes)?)
    };
    fill(indices, part_bytes, room, |index, room| row(index).map(|row| room.copy_from_slice(row)).is_some())
}

/// Writes a label for each of `indices`; `false` when `field` is none, or one is not there.
pub(super) fn labels(
    field: &FieldSpec,
    indices: &[u64],
    room: &mut [u8],
    label: impl Fn(usize) -> Option<i64>,
) -> bool {
    let is_label = field.dtype == Dtype::I64 && field.shape.0.is_empty();
    let label = |index: u64| label(usize::try_from(index).ok()?);
    is_label
        && fill(indices, size_of::<i64>(), room, |index, room| {
            label(index).map(|label| room.copy_from_slice(&label.to_le_bytes())).is_some()
        })
}

/// Has `write` fill the place of each of `indices`, until it cannot.
pub(super) fn fill(
    indices: &[u64],
    part_bytes: usize,
    room: &mut [u8],
    mut write: impl FnMut(u64, &mut [u8]) -> bool,
) -> bool {
    room.len() == indices.len() * part_bytes
        && indices.iter().zip(room.chunks_exact_mut(part_bytes.max(1))).all(|(&index, room)| write(index, room))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_parts_of_them_are_copied_in_the_order_asked_for() {
        let table = [0, 1, 2, 10, 11, 12, 20, 21, 22];
        let mut room = [0xff; 6];
        assert!(rows(&table, 3, &[2, 0], &mut room));
        assert_eq!(room, [20, 21, 22, 0, 1, 2]);
        let mut room = [0xff; 6];
        assert!(parts(&table, 3, 1, 2, &[1, 1, 0], &mut room));
        assert_eq!(room, [11, 12, 11, 12, 1, 2]);
        assert!(rows(&table, 3, &[], &mut []));
    }

    #[test]
    fn what_is_not_there_is_not_copied() {
        let table = [0; 9];
        for (indices, bytes) in [(&[3][..], 3), (&[0, u64::MAX], 6), (&[0], 4), (&[0, 1], 3), (&[], 1)] {
            assert!(!rows(&table, 3, indices, &mut vec![0; bytes]), "{indices:?} in {bytes} bytes");
        }
        let label = |row: usize| [7, -1].get(row).copied();
        let field = FieldSpec::new("label", Dtype::I64, []);
        let mut room = [0; 16];
        assert!(labels(&field, &[1, 0], &mut room, label));
        assert_eq!(room.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect::<Vec<_>>(), [-1, 7]);
        assert!(!labels(&field, &[2], &mut [0; 8], label));
        assert!(!labels(&FieldSpec::new("label", Dtype::F64, []), &[0], &mut [0; 8], label));
        assert!(!labels(&FieldSpec::new("label", Dtype::I64, [1]), &[0], &mut [0; 8], label));
    }
}
