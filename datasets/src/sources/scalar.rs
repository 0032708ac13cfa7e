//! One number out of its little-endian bytes.

use batchmill_protocol::tensor::Dtype;
use half::{bf16, f16};

/// Whether numbers of this dtype are integers; booleans are none.
pub(super) fn is_integer(dtype: Dtype) -> bool {
    !matches!(dtype, Dtype::Bool | Dtype::F16 | Dtype::Bf16 | Dtype::F32 | Dtype::F64)
}

/// An integer or a boolean; `None` for other dtypes, and bytes of another length.
pub(super) fn integer(dtype: Dtype, bytes: &[u8]) -> Option<i128> {
    Some(match dtype {
        Dtype::U8 | Dtype::Bool => u8::from_le_bytes(bytes.try_into().ok()?).into(),
        Dtype::I8 => i8::from_le_bytes(bytes.try_into().ok()?).into(),
        Dtype::U16 => u16::from_le_bytes(bytes.try_into().ok()?).into(),
        Dtype::I16 => i16::from_le_bytes(bytes.try_into().ok()?).into(),
        Dtype::U32 => u32::from_le_bytes(bytes.try_into().ok()?).into(),
        Dtype::I32 => i32::from_le_bytes(bytes.try_into().ok()?).into(),
        Dtype::U64 => u64::from_le_bytes(bytes.try_into().ok()?).into(),
        Dtype::I64 => i64::from_le_bytes(bytes.try_into().ok()?).into(),
        Dtype::F16 | Dtype::Bf16 | Dtype::F32 | Dtype::F64 => return None,
    })
}

/// A number of any dtype; `None` for bytes of another length.
///
/// Integers above 2^53 are rounded: nobody weighs or sorts by their last bits.
pub(super) fn number(dtype: Dtype, bytes: &[u8]) -> Option<f64> {
    Some(match dtype {
        Dtype::F16 => f16::from_le_bytes(bytes.try_into().ok()?).into(),
        Dtype::Bf16 => bf16::from_le_bytes(bytes.try_into().ok()?).into(),
        Dtype::F32 => f32::from_le_bytes(bytes.try_into().ok()?).into(),
        Dtype::F64 => f64::from_le_bytes(bytes.try_into().ok()?),
        _ => integer(dtype, bytes)? as f64,
    })
}
