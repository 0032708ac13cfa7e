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
}

impl fmt::Display for FieldSpec {
    /// Writes `image: u8 [224, 224, 3]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.name, self.dtype, self.shape)
    }
}
