//! What rows of a batch amount to: a digest that does not depend on who made which of them.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use twox_hash::XxHash3_128;
use twox_hash::xxhash3_128::{DEFAULT_SECRET_LENGTH, RawHasher, SecretBuffer};

use crate::slab::RowRecord;

/// The digest of rows of one batch: the sum, modulo 2^128, of a hash of each.
///
/// Every hash begins with the row's number, so that rows in another order give another sum; a sum does not depend on the
/// ranges that the rows were made in. It finds what accidents do, and is no signature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(pub u128);

impl Add for Digest {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }
}

impl AddAssign for Digest {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Digest {
    fn sum<I: Iterator<Item = Self>>(digests: I) -> Self {
        digests.fold(Self::default(), Add::add)
    }
}

impl fmt::Display for Digest {
    /// Writes 32 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A text that is no digest.
#[derive(Debug, Error)]
#[error("{0:?} is not a digest of 32 hexadecimal digits")]
pub struct DigestError(String);

impl FromStr for Digest {
    type Err = DigestError;

    /// Reads 32 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, DigestError> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = if digits { u128::from_str_radix(text, 16).ok() } else { None };
        number.map(Self).ok_or_else(|| DigestError(text.to_owned()))
    }
}

/// Up to this many bytes of a row are put together and hashed at once: to begin and end a hash of parts costs as much as
/// to copy them.
const AT_ONCE_BYTES: usize = 2048;

/// XXH3-128 of parts, without an allocation.
type Xxh3 = RawHasher<&'static [u8; DEFAULT_SECRET_LENGTH]>;

/// The digest of one row after another, while their fields are read: XXH3-128 over the row's number, its record and its
/// fields in slot order.
#[derive(Default)]
pub struct RowDigest {
    /// What there is of a row that may be a small one.
    small: Vec<u8>,
    large: Option<Xxh3>,
}

impl RowDigest {
    /// Begins with what the slot says of row `row`.
    pub fn new(row: u32, record: RowRecord) -> Self {
        let mut digest = Self::default();
        digest.begin(row, record);
        digest
    }

    /// Begins another row.
    pub fn begin(&mut self, row: u32, record: RowRecord) {
        self.large = None;
        self.small.clear();
        self.small.extend_from_slice(&row.to_le_bytes());
        self.small.extend_from_slice(&record.bytes());
    }

    /// Takes in the next field.
    pub fn update(&mut self, field: &[u8]) {
        if self.large.is_none() && self.small.len() + field.len() <= AT_ONCE_BYTES {
            return self.small.extend_from_slice(field);
        }
        let large = self.large.get_or_insert_with(|| {
            let mut hash = Xxh3::new(SecretBuffer::default());
            hash.write(&self.small);
            hash
        });
        large.write(field);
    }

    /// What the row amounts to.
    pub fn finish(&self) -> Digest {
        Digest(self.large.as_ref().map_or_else(|| XxHash3_128::oneshot(&self.small), Xxh3::finish_128))
    }
}

impl fmt::Debug for RowDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RowDigest")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(row: u32, index: u64, field: &[u8]) -> Digest {
        let mut digest = RowDigest::new(row, RowRecord { index, padding: false, substituted: false, masked: false });
        digest.update(field);
        digest.finish()
    }

    #[test]
    fn a_sum_does_not_depend_on_ranges_but_on_rows_and_their_order() {
        let [first, second] = [row(0, 7, b"a"), row(1, 8, b"b")];
        assert_eq!(first + second, second + first);
        assert_ne!(first + second, row(0, 8, b"b") + row(1, 7, b"a"), "the same samples in another order");
        assert_ne!(first + second, first + row(1, 8, b"c"));
        assert_ne!(first + second, first + row(1, 9, b"b"));
        let masked = RowRecord { index: 7, padding: false, substituted: false, masked: true };
        assert_ne!(RowDigest::new(0, masked).finish(), row(0, 7, b""));
    }

    /// Ledgers of other releases must stay readable: a change here needs another version of their format.
    #[test]
    fn a_rows_digest_is_what_it_always_was() {
        assert_eq!(row(3, 41, b"batchmill").to_string(), "91fc14210e3e348360ac5075e388f09c");
    }

    #[test]
    fn a_row_amounts_to_the_same_however_long_it_is_and_whatever_was_before() {
        let record = RowRecord { index: 9, padding: false, substituted: true, masked: false };
        let mut again = RowDigest::default();
        for len in (0..600).chain(AT_ONCE_BYTES - 40..AT_ONCE_BYTES + 40) {
            let bytes: Vec<u8> = (0_u8..=250).cycle().take(len).collect();
            let (first, second) = bytes.split_at(len / 3);
            let mut whole = XxHash3_128::new();
            [&7_u32.to_le_bytes()[..], &record.bytes(), &bytes].into_iter().for_each(|part| whole.write(part));
            again.begin(7, record);
            again.update(first);
            again.update(second);
            assert_eq!(again.finish(), Digest(whole.finish_128()), "{len} bytes");
        }
    }

    #[test]
    fn a_digest_is_read_as_it_is_written() {
        let digest = Digest(0x0012_3456_789a_bcde_f012_3456_789a_bcde);
        assert_eq!(digest.to_string().parse::<Digest>().ok(), Some(digest));
        for wrong in ["", "12", "+0123456789abcdef0123456789abcde", "g0123456789abcdef0123456789abcdef"] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong:?} was read as a digest");
        }
    }
}
