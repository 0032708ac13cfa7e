//! The vocabulary of a tensor: its dtype, its shape and its name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The type of one tensor element, stored little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned, 8 bits.
    U8,
    /// Signed, 8 bits.
    I8,
    /// Unsigned, 16 bits.
    U16,
    /// Signed, 16 bits.
    I16,
    /// Unsigned, 32 bits.
    U32,
    /// Signed, 32 bits.
    I32,
    /// Unsigned, 64 bits.
    U64,
    /// Signed, 64 bits.
    I64,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an `F32`.
    Bf16,
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 double precision.
    F64,
}

impl Dtype {
    /// All there are.
    pub const ALL: [Self; 13] = [
        Self::Bool,
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::U64,
        Self::I64,
        Self::F16,
        Self::Bf16,
        Self::F32,
        Self::F64,
    ];

    /// The bytes of one element.
    pub const fn size_bytes(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 | Self::Bf16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// The name used in configurations and messages: `u8`, `f32`, `bf16`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The extents of a tensor, outermost first; row-major. A scalar has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shape(pub Vec<usize>);

impl Shape {
    /// The number of elements, or `None` when it does not fit a `usize`.
    pub fn elements(&self) -> Option<usize> {
        self.0.iter().try_fold(1_usize, |product, &extent| product.checked_mul(extent))
    }
}

impl<const RANK: usize> From<[usize; RANK]> for Shape {
    fn from(extents: [usize; RANK]) -> Self {
        Self(extents.to_vec())
    }
}

impl fmt::Display for Shape {
    /// Writes `[224, 224, 3]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// One named tensor of a sample: what every row of a batch holds under that name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldSpec {
    /// The name trainers ask for, such as `image` or `label`.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// The shape of one row, without the batch.
    pub shape: Shape,
}

impl FieldSpec {
    /// Names a tensor.
    pub fn new(name: impl Into<String>, dtype: Dtype, shape: impl Into<Shape>) -> Self {
        Self { name: name.into(), dtype, shape: shape.into() }
    }

    /// The bytes of one row, or `None` when they do not fit a `usize`.
    pub fn row_bytes(&self) -> Option<usize> {
        self.shape.elements()?.checked_mul(self.dtype.size_bytes())
    }

    /// The bytes of one item along the first extent of a row, or `None` when a row is a single element.
    pub fn item_bytes(&self) -> Option<usize> {
        Shape(self.shape.0.get(1..)?.to_vec()).elements()?.checked_mul(self.dtype.size_bytes())
    }
}

impl fmt::Display for FieldSpec {
    /// Writes `image: u8 [224, 224, 3]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.name, self.dtype, self.shape)
    }
}

/// Rows of different lengths, one behind the other: what a field of kind `ragged` is.
///
/// Row `r` is `values[offsets[r]..offsets[r + 1]]`, counted in items of the field. Source: PyTorch's jagged
/// `torch.nested.nested_tensor_from_jagged(values, offsets)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ragged {
    /// The items of all rows, row-major, little-endian.
    pub values: Vec<u8>,
    /// Where each row begins, and where the last ends: one more than there are rows.
    pub offsets: Vec<u64>,
}

impl Ragged {
    /// Takes from `rows`, which have equal room, as many items as `lens` says: the field `NAME_len`, i64.
    ///
    /// `None` when the two do not belong together.
    pub fn new(rows: &[u8], lens: &[u8], item_bytes: usize) -> Option<Self> {
        let (lens, []) = lens.as_chunks::<8>() else { return None };
        let room_bytes = rows.len().checked_div(lens.len()).unwrap_or(0);
        if room_bytes * lens.len() != rows.len() {
            return None;
        }
        let (mut values, mut offsets, mut offset) = (Vec::new(), vec![0], 0);
        for (row, len) in lens.iter().enumerate() {
            let len = u64::try_from(i64::from_le_bytes(*len)).ok()?;
            let bytes = usize::try_from(len).ok()?.checked_mul(item_bytes).filter(|&bytes| bytes <= room_bytes)?;
            values.extend_from_slice(&rows[row * room_bytes..][..bytes]);
            offset += len;
            offsets.push(offset);
        }
        Some(Self { values, offsets })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ragged_rows_stand_behind_one_another() {
        let lens = [2_i64, 0, 3].map(i64::to_le_bytes).concat();
        let rows = [1, 2, 0, 0, 0, 0, 3, 4, 5];
        let ragged = Ragged::new(&rows, &lens, 1).unwrap();
        assert_eq!(ragged, Ragged { values: vec![1, 2, 3, 4, 5], offsets: vec![0, 2, 2, 5] });
        assert_eq!(Ragged::new(&[], &[], 4), Some(Ragged { values: vec![], offsets: vec![0] }));
        // Items of three bytes: one fits.
        let lens = [1_i64, 0, 1].map(i64::to_le_bytes).concat();
        assert_eq!(Ragged::new(&rows, &lens, 3).unwrap().offsets, [0, 1, 1, 2]);
    }

    #[test]
    fn lengths_that_the_rows_do_not_have_are_no_ragged_rows() {
        assert_eq!(Ragged::new(&[0; 3], &[], 1), None);
        for len in [4, -1, i64::MAX] {
            assert_eq!(Ragged::new(&[0; 3], &len.to_le_bytes(), 1), None, "{len}");
        }
        assert_eq!(Ragged::new(&[0; 5], &[0; 16], 1), None);
        assert_eq!(Ragged::new(&[0; 4], &[0; 15], 1), None);
    }
}
