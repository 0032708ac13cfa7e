//! The elements of an array one by one, whatever their dtype.

use batchmill_protocol::tensor::{Dtype, Shape};
use half::{bf16, f16};

use crate::sample::{Array, Value};
use crate::transform::TransformError;

/// One element of an array: no dtype has a value that is neither.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Integer(i128),
    Real(f64),
}

impl Number {
    /// The nearest f64.
    pub(super) fn real(self) -> f64 {
        match self {
            Self::Integer(number) => number as f64,
            Self::Real(number) => number,
        }
    }

    /// The number without its fraction; nothing for infinities and what is no number.
    #[expect(clippy::cast_possible_truncation, reason = "the cast of a float saturates, far beyond every dtype")]
    fn integer(self) -> Option<i128> {
        match self {
            Self::Integer(number) => Some(number),
            Self::Real(number) => number.is_finite().then_some(number as i128),
        }
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Integer(number) => number.fmt(f),
            Self::Real(number) => number.fmt(f),
        }
    }
}

/// The elements of a value, in order; those of an image are its bytes.
pub(super) fn numbers(value: &Value) -> impl Iterator<Item = Number> {
    let dtype = value.dtype();
    let read = reader(dtype);
    value.bytes().chunks_exact(dtype.size_bytes()).map(read)
}

/// Appends a number as an element of `dtype`; nothing where it has none like it.
///
/// Fractions are cut off for integers, and reals rounded to the nearest of the dtype, beyond its largest to infinity:
/// PyTorch's `to`. What is out of an integer's range is refused; there it is undefined.
pub(super) fn write(dtype: Dtype, number: Number, bytes: &mut Vec<u8>) -> Option<()> {
    match dtype {
        Dtype::Bool => bytes.push(u8::from(number != Number::Integer(0) && number != Number::Real(0.0))),
        Dtype::U8 => bytes.extend(u8::try_from(number.integer()?).ok()?.to_le_bytes()),
        Dtype::I8 => bytes.extend(i8::try_from(number.integer()?).ok()?.to_le_bytes()),
        Dtype::U16 => bytes.extend(u16::try_from(number.integer()?).ok()?.to_le_bytes()),
        Dtype::I16 => bytes.extend(i16::try_from(number.integer()?).ok()?.to_le_bytes()),
        Dtype::U32 => bytes.extend(u32::try_from(number.integer()?).ok()?.to_le_bytes()),
        Dtype::I32 => bytes.extend(i32::try_from(number.integer()?).ok()?.to_le_bytes()),
        Dtype::U64 => bytes.extend(u64::try_from(number.integer()?).ok()?.to_le_bytes()),
        Dtype::I64 => bytes.extend(i64::try_from(number.integer()?).ok()?.to_le_bytes()),
        Dtype::F16 => bytes.extend(f16::from_f64(number.real()).to_le_bytes()),
        Dtype::Bf16 => bytes.extend(bf16::from_f64(number.real()).to_le_bytes()),
        Dtype::F32 => bytes.extend(single(number).to_le_bytes()),
        Dtype::F64 => bytes.extend(number.real().to_le_bytes()),
    }
    Some(())
}

/// Rounded once, also from an integer that has more digits than an f64.
pub(super) fn single(number: Number) -> f32 {
    match number {
        Number::Integer(number) => number as f32,
        Number::Real(number) => super::pixels::single(number),
    }
}

/// Changes every element of a value and makes an array of one dtype and one shape of them.
pub(super) fn map(
    value: &Value,
    dtype: Dtype,
    shape: Shape,
    mut change: impl FnMut(usize, Number) -> Result<Number, TransformError>,
) -> Result<Value, TransformError> {
    let elements = value.bytes().len() / value.dtype().size_bytes();
    let mut bytes = Vec::with_capacity(elements * dtype.size_bytes());
    for (place, number) in numbers(value).enumerate() {
        let changed = change(place, number)?;
        write(dtype, changed, &mut bytes).ok_or_else(|| {
            TransformError::new(format!("the value {changed} at place {place} is not in range of {dtype}"))
        })?;
    }
    array(dtype, shape, bytes)
}

/// An array as the value of a field.
pub(super) fn array(dtype: Dtype, shape: Shape, bytes: Vec<u8>) -> Result<Value, TransformError> {
    let array = Array::new(dtype, shape, bytes);
    Ok(array.map_err(|error| TransformError::caused_by("put the array together", error))?.into())
}

/// The largest value of a dtype of integers, by which its numbers are scaled to 1; none for those of reals.
///
/// Source: torchvision's `_max_value`.
pub(super) fn largest(dtype: Dtype) -> Option<f32> {
    match dtype {
        Dtype::Bool => Some(1.0),
        Dtype::U8 => Some(f32::from(u8::MAX)),
        Dtype::I8 => Some(f32::from(i8::MAX)),
        Dtype::U16 => Some(f32::from(u16::MAX)),
        Dtype::I16 => Some(f32::from(i16::MAX)),
        Dtype::U32 => Some(u32::MAX as f32),
        Dtype::I32 => Some(i32::MAX as f32),
        Dtype::U64 => Some(u64::MAX as f32),
        Dtype::I64 => Some(i64::MAX as f32),
        Dtype::F16 | Dtype::Bf16 | Dtype::F32 | Dtype::F64 => None,
    }
}

/// What reads one element of a dtype.
fn reader(dtype: Dtype) -> fn(&[u8]) -> Number {
    match dtype {
        Dtype::Bool | Dtype::U8 => |bytes| Number::Integer(u8::from_le_bytes(element(bytes)).into()),
        Dtype::I8 => |bytes| Number::Integer(i8::from_le_bytes(element(bytes)).into()),
        Dtype::U16 => |bytes| Number::Integer(u16::from_le_bytes(element(bytes)).into()),
        Dtype::I16 => |bytes| Number::Integer(i16::from_le_bytes(element(bytes)).into()),
        Dtype::U32 => |bytes| Number::Integer(u32::from_le_bytes(element(bytes)).into()),
        Dtype::I32 => |bytes| Number::Integer(i32::from_le_bytes(element(bytes)).into()),
        Dtype::U64 => |bytes| Number::Integer(u64::from_le_bytes(element(bytes)).into()),
        Dtype::I64 => |bytes| Number::Integer(i64::from_le_bytes(element(bytes)).into()),
        Dtype::F16 => |bytes| Number::Real(f16::from_le_bytes(element(bytes)).to_f64()),
        Dtype::Bf16 => |bytes| Number::Real(bf16::from_le_bytes(element(bytes)).to_f64()),
        Dtype::F32 => |bytes| Number::Real(f32::from_le_bytes(element(bytes)).into()),
        Dtype::F64 => |bytes| Number::Real(f64::from_le_bytes(element(bytes))),
    }
}

fn element<const BYTES: usize>(bytes: &[u8]) -> [u8; BYTES] {
    *bytes.first_chunk().expect("chunks of a dtype's size are as long as its elements")
}
