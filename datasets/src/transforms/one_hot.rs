//! Makes a row of zeros with a one in it of a class.

use batchmill_protocol::tensor::Dtype;

use super::arguments::field;
use super::numbers::{Number, array, numbers, write};
use crate::options::Options;
use crate::random::Rng;
use crate::sample::Sample;
use crate::spec::SpecError;
use crate::transform::{LABEL, Transform, TransformError, value_of};

/// The most classes.
const CLASSES_MAX: usize = 1 << 20;

/// The most bytes of a result.
const BYTES_MAX: usize = 1 << 30;

/// Makes of every class a row of zeros with a one at its place.
///
/// Options: `classes`, how many there are; `dtype`: "i64" (default) or "f32", which a loss of probabilities needs;
/// `field` (default "label").
///
/// Shapes: `[]` becomes `[classes]`, and `[height, width]` of a mask `[height, width, classes]`.
///
/// Source: PyTorch's `one_hot`.
#[derive(Clone, Debug)]
pub struct OneHot {
    classes: usize,
    dtype: Dtype,
    field: String,
}

impl OneHot {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when `classes` is missing, or one has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let dtypes = [Dtype::I64, Dtype::F32].map(|dtype| (dtype.name(), dtype));
        Ok(Self {
            classes: options.integer("classes", 1..=CLASSES_MAX)?,
            dtype: options.optional_one_of("dtype", &dtypes)?.unwrap_or(Dtype::I64),
            field: field(options, LABEL)?,
        })
    }
}

impl Transform for OneHot {
    fn apply(&self, mut sample: Sample, _rng: &mut Rng) -> Result<Sample, TransformError> {
        let value = value_of(&mut sample, &self.field)?;
        let mut shape = value.shape();
        shape.0.push(self.classes);
        let row_bytes = self.classes * self.dtype.size_bytes();
        let bytes = shape.elements().and_then(|elements| elements.checked_mul(self.dtype.size_bytes()));
        let Some(bytes) = bytes.filter(|&bytes| bytes <= BYTES_MAX) else {
            return Err(TransformError::new(format!("{shape} of {} are more than {BYTES_MAX} bytes", self.dtype)));
        };
        let mut one = Vec::new();
        write(self.dtype, Number::Integer(1), &mut one).expect("every dtype has a one");
        let mut rows = vec![0; bytes];
        for (row, class) in rows.chunks_exact_mut(row_bytes).zip(numbers(value)) {
            let place = match class {
                Number::Integer(class) => usize::try_from(class).ok().filter(|&class| class < self.classes),
                Number::Real(_) => {
                    let found = value.field(&self.field);
                    return Err(TransformError::new(format!("{found} holds no classes, which are integers")));
                }
            };
            let place = place.ok_or_else(|| {
                TransformError::new(format!(
                    "the class {class} is none of `classes` = {}, 0 to {}",
                    self.classes,
                    self.classes - 1
                ))
            })?;
            row[place * one.len()..][..one.len()].copy_from_slice(&one);
        }
        *value = array(self.dtype, shape, rows)?;
        Ok(sample)
    }

    fn is_deterministic(&self) -> bool {
        true
    }
}
