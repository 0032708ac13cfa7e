//! A number that was written down as one element of a tensor.

use std::fmt;

use batchmill_protocol::tensor::Dtype;
use half::{bf16, f16};
use toml::Value;

/// A number as it is written down, before it is one of a dtype.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Real(f64),
}

impl Number {
    /// What a value of a configuration is; `None` when it is no number.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        match *value {
            Value::Boolean(flag) => Some(Self::Bool(flag)),
            Value::Integer(number) => Some(Self::Signed(number)),
            Value::Float(number) => Some(Self::Real(number)),
            _ => None,
        }
    }

    /// Writes it as an element of `dtype`, little-endian.
    ///
    /// A real is rounded to the nearest of its dtype and stays finite; an integer must be one. `true` is 1.
    ///
    /// # Errors
    /// The dtype has no such number.
    pub(crate) fn write(self, dtype: Dtype, out: &mut Vec<u8>) -> Result<(), String> {
        self.element(dtype, out).ok_or_else(|| format!("{self} is no {dtype}"))
    }

    fn element(self, dtype: Dtype, out: &mut Vec<u8>) -> Option<()> {
        match dtype {
            Dtype::Bool => out.push(self.integer().filter(|flag: &u8| *flag <= 1)?),
            Dtype::U8 => out.extend(self.integer::<u8>()?.to_le_bytes()),
            Dtype::I8 => out.extend(self.integer::<i8>()?.to_le_bytes()),
            Dtype::U16 => out.extend(self.integer::<u16>()?.to_le_bytes()),
            Dtype::I16 => out.extend(self.integer::<i16>()?.to_le_bytes()),
            Dtype::U32 => out.extend(self.integer::<u32>()?.to_le_bytes()),
            Dtype::I32 => out.extend(self.integer::<i32>()?.to_le_bytes()),
            Dtype::U64 => out.extend(self.integer::<u64>()?.to_le_bytes()),
            Dtype::I64 => out.extend(self.integer::<i64>()?.to_le_bytes()),
            Dtype::F16 => out.extend(self.rounded(f16::from_f64, f16::to_f64)?.to_le_bytes()),
            Dtype::Bf16 => out.extend(self.rounded(bf16::from_f64, bf16::to_f64)?.to_le_bytes()),
            #[expect(clippy::cast_possible_truncation, reason = "rounded to the nearest, as said")]
            Dtype::F32 => out.extend(self.rounded(|real| real as f32, f64::from)?.to_le_bytes()),
            Dtype::F64 => out.extend(self.real().to_le_bytes()),
        }
        Some(())
    }

    fn integer<T: TryFrom<u64> + TryFrom<i64>>(self) -> Option<T> {
        match self {
            Self::Bool(flag) => T::try_from(u64::from(flag)).ok(),
            Self::Unsigned(number) => T::try_from(number).ok(),
            Self::Signed(number) => T::try_from(number).ok(),
            Self::Real(_) => None,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "rounded to the nearest, as said")]
    fn real(self) -> f64 {
        match self {
            Self::Bool(flag) => f64::from(u8::from(flag)),
            Self::Unsigned(number) => number as f64,
            Self::Signed(number) => number as f64,
            Self::Real(number) => number,
        }
    }

    /// The nearest number of a narrower dtype, unless only an infinite one is.
    fn rounded<T: Copy>(self, narrow: impl Fn(f64) -> T, widen: impl Fn(T) -> f64) -> Option<T> {
        let real = self.real();
        let rounded = narrow(real);
        (widen(rounded).is_finite() || !real.is_finite()).then_some(rounded)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(flag) => flag.fmt(f),
            Self::Unsigned(number) => number.fmt(f),
            Self::Signed(number) => number.fmt(f),
            // As JSON and TOML have it: 1e39 in four signs.
            Self::Real(number) => write!(f, "{number:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of `value`; `None` when it is no number, or none that `dtype` has.
    fn element(dtype: Dtype, value: &Value) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        Number::of(value)?.write(dtype, &mut bytes).ok()?;
        Some(bytes)
    }

    #[test]
    fn a_number_becomes_an_element_where_the_dtype_has_it() {
        assert_eq!(element(Dtype::I16, &Value::Integer(-2)), Some(vec![0xfe, 0xff]));
        assert_eq!(element(Dtype::U8, &Value::Integer(256)), None);
        assert_eq!(element(Dtype::U8, &Value::Float(1.0)), None);
        assert_eq!(element(Dtype::Bool, &Value::Boolean(true)), Some(vec![1]));
        assert_eq!(element(Dtype::Bool, &Value::Integer(2)), None);
        assert_eq!(element(Dtype::F32, &Value::Integer(1)), Some(1_f32.to_le_bytes().into()));
        assert_eq!(element(Dtype::F16, &Value::Float(0.5)), Some(vec![0x00, 0x38]));
        assert_eq!(element(Dtype::Bf16, &Value::Float(0.5)), Some(vec![0x00, 0x3f]));
        assert_eq!(element(Dtype::F32, &Value::Float(1e39)), None);
        assert_eq!(element(Dtype::F32, &Value::Float(f64::INFINITY)), Some(f32::INFINITY.to_le_bytes().into()));
        assert_eq!(element(Dtype::F64, &Value::String("1".to_owned())), None);
    }
}
