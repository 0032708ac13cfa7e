//! One kept sample: a head that says what it is, with checksums, and behind it the bytes of its values.
//!
//! ```text
//! checksum    u64   over the rest of the head
//! values      u64   checksum over the values behind it
//! index       u64   of the sample in its dataset
//! head_bytes  u32   of all of the head
//! fields      u32   how many, and then for each of them:
//!     name_bytes u32, kind u8, dtype u8, extents u16; u64 for each extent; the name
//! ```

use std::hash::Hasher as _;

use batchmill_protocol::tensor::{Dtype, FieldSpec, Shape};
use twox_hash::XxHash3_64;

use crate::sample::{Array, Image, Sample, Value};

/// What a head has before its fields.
pub(super) const FIXED_BYTES: usize = 3 * 8 + 2 * 4;

/// A longer head is none: names are short.
const HEAD_BYTES_MAX: usize = 1 << 16;

const FIELD_BYTES: usize = 4 + 1 + 1 + 2;

/// Numbers for what a value is.
const IMAGE: u8 = 0;
const MASK: u8 = 1;
const ARRAY: u8 = 2;

/// The head for a sample; `None` where it would be too long.
pub(super) fn head(index: u64, sample: &Sample) -> Option<Vec<u8>> {
    let mut head = vec![0; FIXED_BYTES];
    let (mut fields, mut values) = (0_u32, XxHash3_64::new());
    for (name, value) in sample.iter() {
        let kind = match value {
            Value::Image(_) => IMAGE,
            Value::Mask(_) => MASK,
            Value::Array(_) => ARRAY,
        };
        let shape = value.shape();
        let dtype = Dtype::ALL.iter().position(|dtype| *dtype == value.dtype())?;
        head.extend(u32::try_from(name.len()).ok()?.to_le_bytes());
        head.extend([kind, u8::try_from(dtype).ok()?]);
        head.extend(u16::try_from(shape.0.len()).ok()?.to_le_bytes());
        shape.0.iter().for_each(|extent| head.extend((*extent as u64).to_le_bytes()));
        head.extend(name.as_bytes());
        values.write(value.bytes());
        fields += 1;
    }
    let head_bytes = u32::try_from(head.len()).ok().filter(|_| head.len() <= HEAD_BYTES_MAX)?;
    head[8..16].copy_from_slice(&values.finish().to_le_bytes());
    head[16..24].copy_from_slice(&index.to_le_bytes());
    head[24..28].copy_from_slice(&head_bytes.to_le_bytes());
    head[28..32].copy_from_slice(&fields.to_le_bytes());
    let checksum = XxHash3_64::oneshot(&head[8..]);
    head[..8].copy_from_slice(&checksum.to_le_bytes());
    Some(head)
}

/// How long the head is that begins so; `None` where none does.
pub(super) fn head_bytes(start: &[u8]) -> Option<usize> {
    let bytes = usize::try_from(u32::from_le_bytes(*start.get(24..)?.first_chunk()?)).ok()?;
    (FIXED_BYTES..=HEAD_BYTES_MAX).contains(&bytes).then_some(bytes)
}

/// A head that is whole, and that of the sample asked for.
pub(crate) struct Head(Vec<u8>);

impl Head {
    /// Checks the bytes of a head.
    pub(super) fn parse(bytes: Vec<u8>, index: u64) -> Option<Self> {
        let is_right = bytes.len() >= FIXED_BYTES
            && super::u64_at(&bytes, 0) == XxHash3_64::oneshot(&bytes[8..])
            && super::u64_at(&bytes, 16) == index;
        is_right.then_some(Self(bytes))
    }

    pub(super) fn values_checksum(&self) -> u64 {
        super::u64_at(&self.0, 8)
    }

    /// The fields, in the order of their values.
    pub(crate) fn fields(&self) -> impl Iterator<Item = Field<'_>> {
        let mut rest = &self.0[FIXED_BYTES..];
        std::iter::from_fn(move || {
            let (field, behind) = Field::first(rest)?;
            rest = behind;
            Some(field)
        })
    }
}

/// One field of a kept sample.
pub(crate) struct Field<'a> {
    pub(crate) name: &'a str,
    kind: u8,
    dtype: Dtype,
    extents: &'a [[u8; 8]],
}

impl<'a> Field<'a> {
    fn first(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (fixed, rest) = bytes.split_at_checked(FIELD_BYTES)?;
        let name_bytes = usize::try_from(u32::from_le_bytes(*fixed.first_chunk()?)).ok()?;
        let dtype = *Dtype::ALL.get(usize::from(fixed[5]))?;
        let (extents, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([fixed[6], fixed[7]])) * 8)?;
        let (name, rest) = rest.split_at_checked(name_bytes)?;
        let name = std::str::from_utf8(name).ok()?;
        Some((Self { name, kind: fixed[4], dtype, extents: extents.as_chunks().0 }, rest))
    }

    fn extents(&self) -> impl ExactSizeIterator<Item = u64> {
        self.extents.iter().map(|extent| u64::from_le_bytes(*extent))
    }

    /// Whether this is just such a field.
    pub(crate) fn is(&self, field: &FieldSpec) -> bool {
        let extents = field.shape.0.iter().map(|extent| *extent as u64);
        self.name == field.name && self.dtype == field.dtype && self.extents().eq(extents)
    }

    /// The bytes of its value.
    pub(super) fn value_bytes(&self) -> Option<usize> {
        let extents = self.extents().map(|extent| usize::try_from(extent).ok());
        extents.into_iter().try_fold(self.dtype.size_bytes(), |bytes, extent| bytes.checked_mul(extent?))
    }

    pub(super) fn is_pixels(&self) -> bool {
        self.kind != ARRAY
    }

    /// Its value, of bytes that were read.
    pub(super) fn value(&self, bytes: Vec<u8>) -> Option<Value> {
        let extents: Vec<usize> = self.extents().map(|extent| usize::try_from(extent).ok()).collect::<Option<_>>()?;
        match (self.kind, &*extents) {
            (IMAGE, &[height, width, channels]) => Image::new(height, width, channels, bytes).ok().map(Value::Image),
            (MASK, &[height, width]) => Image::new(height, width, 1, bytes).ok().map(Value::Mask),
            (ARRAY, _) => Array::new(self.dtype, Shape(extents), bytes).ok().map(Value::Array),
            _ => None,
        }
    }
}
