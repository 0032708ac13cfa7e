//! One number for all that a trainer sees of a batch.

use batchmill_protocol::client::Batch;
use twox_hash::XxHash3_128;

/// XXH3-128 over rows, padding, the index of every row and all bytes of all fields.
pub(super) fn digest<'a>(
    rows: u32,
    padding: u32,
    indices: impl Iterator<Item = u64>,
    fields: impl Iterator<Item = &'a [u8]>,
) -> u128 {
    let mut hash = XxHash3_128::new();
    hash.write(&rows.to_le_bytes());
    hash.write(&padding.to_le_bytes());
    indices.for_each(|index| hash.write(&index.to_le_bytes()));
    fields.for_each(|bytes| hash.write(bytes));
    hash.finish_128()
}

/// The [`digest`] of a batch, read where the workers wrote it.
pub(super) fn of_batch(batch: &Batch, fields: &[String]) -> u128 {
    let bytes = fields.iter().map(|field| batch.field(field).unwrap_or_default());
    digest(batch.rows(), batch.padding(), batch.indices(), bytes)
}
