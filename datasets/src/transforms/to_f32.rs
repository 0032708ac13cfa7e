//! Makes real numbers of integers: 0 to 1.

use batchmill_protocol::tensor::{Dtype, FieldSpec};

use super::arguments::image_field;
use super::numbers::{Number, array, largest, map, single};
use crate::options::Options;
use crate::random::Rng;
use crate::sample::{Sample, Value};
use crate::scratch;
use crate::spec::SpecError;
use crate::transform::{ByteTable, Transform, TransformError, value_of};

/// Makes an array of f32 of an image or array: integers are divided by the largest of their dtype, bytes by 255; reals
/// keep their values.
///
/// Options: `field` (default "image").
///
/// Shapes: as before; what acts on images comes before. Masks have no such values: they are refused.
///
/// Source: torchvision's `ToDtype(torch.float32, scale=True)`.
#[derive(Clone, Debug)]
pub struct ToF32 {
    field: String,
}

impl ToF32 {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when one has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        Ok(Self { field: image_field(options)? })
    }
}

impl Transform for ToF32 {
    fn apply(&self, mut sample: Sample, _rng: &mut Rng) -> Result<Sample, TransformError> {
        let value = value_of(&mut sample, &self.field)?;
        *value = match value {
            Value::Image(image) => {
                let image = std::mem::take(image);
                let shape = image.shape();
                let bytes = of_bytes(image.pixels(), &ByteTable::new(1, |_, byte| unit(byte)));
                scratch::give(image.into_pixels());
                array(Dtype::F32, shape.into(), bytes)?
            }
            Value::Mask(_) => return Err(TransformError::new(NO_MASK)),
            Value::Array(_) => scaled(value)?,
        };
        Ok(sample)
    }

    fn is_deterministic(&self) -> bool {
        true
    }

    fn table(&self, field: &FieldSpec) -> Option<ByteTable> {
        let is_image = field.name == self.field && field.dtype == Dtype::F32;
        is_image.then(|| ByteTable::new(1, |_, byte| unit(byte)))
    }
}

/// Why masks are not scaled.
const NO_MASK: &str = "a mask holds classes, which are not to be scaled; `cast` changes its dtype";

/// An array of f32 from 0 to 1.
fn scaled(value: &Value) -> Result<Value, TransformError> {
    let scale = largest(value.dtype()).map(|largest| 1.0 / largest);
    map(value, Dtype::F32, value.shape(), |_, number| match scale {
        Some(scale) => Ok(Number::Real(f64::from(single(number) * scale))),
        None => Ok(number),
    })
}

/// A byte as a number from 0 to 1.
pub(super) fn unit(byte: u8) -> f32 {
    f32::from(byte) * (1.0 / 255.0)
}

/// The bytes of the f32 that stand for bytes.
pub(super) fn of_bytes(bytes: &[u8], table: &ByteTable) -> Vec<u8> {
    let mut numbers = scratch::take(bytes.len() * size_of::<f32>());
    table.write(bytes, &mut numbers);
    numbers
}
