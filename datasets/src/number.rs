//! A number of a configuration as one element of a tensor.

use batchmill_protocol::tensor::Dtype;
use half::{bf16, f16};
use toml::Value;

/// The bytes of `value`, little-endian; `None` when it is no number, or none that `dtype` has.
///
/// A real is rounded to the nearest of its dtype; an integer must be one.
pub(crate) fn element(dtype: Dtype, value: &Value) -> Option<Vec<u8>> {
    let integer = || match *value {
        Value::Integer(number) => Some(number),
        Value::Boolean(flag) => Some(flag.into()),
        _ => None,
    };
    let real = || match *value {
        // Configurations have no integers that a padding or a fill would lose digits of.
        #[expect(clippy::cast_precision_loss, reason = "rounded to the nearest, as said")]
        Value::Integer(number) => Some(number as f64),
        Value::Float(number) => Some(number),
        _ => None,
    };
    #[expect(clippy::cast_possible_truncation, reason = "rounded to the nearest, as said")]
    let single = || real().map(|number| number as f32);
    Some(match dtype {
        Dtype::Bool => vec![u8::try_from(integer()?).ok().filter(|flag| *flag <= 1)?],
        Dtype::U8 => u8::try_from(integer()?).ok()?.to_le_bytes().into(),
        Dtype::I8 => i8::try_from(integer()?).ok()?.to_le_bytes().into(),
        Dtype::U16 => u16::try_from(integer()?).ok()?.to_le_bytes().into(),
        Dtype::I16 => i16::try_from(integer()?).ok()?.to_le_bytes().into(),
        Dtype::U32 => u32::try_from(integer()?).ok()?.to_le_bytes().into(),
        Dtype::I32 => i32::try_from(integer()?).ok()?.to_le_bytes().into(),
        Dtype::U64 => u64::try_from(integer()?).ok()?.to_le_bytes().into(),
        Dtype::I64 => integer()?.to_le_bytes().into(),
        Dtype::F16 => f16::from_f64(real()?).to_le_bytes().into(),
        Dtype::Bf16 => bf16::from_f64(real()?).to_le_bytes().into(),
        Dtype::F32 => single()?.to_le_bytes().into(),
        Dtype::F64 => real()?.to_le_bytes().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(element(Dtype::F64, &Value::String("1".to_owned())), None);
    }
}
