//! Random samples out of nothing, to try and measure everything else with.

use batchmill_protocol::tensor::{Dtype, Shape};
use toml::Value;

use super::numbered_classes;
use crate::dataset::{MapDataset, SampleError};
use crate::options::Options;
use crate::random::{Rng, SYNTHETIC_OP};
use crate::sample::{Array, Image, Sample, ValueError};
use crate::scratch;
use crate::spec::SpecError;
use crate::transform::IMAGE;

/// The most samples.
const LEN_MAX: u64 = 1_000_000_000_000;

/// The most classes: each has a name in memory.
const CLASSES_MAX: usize = 1 << 20;

/// The most extents of a sample, and the most bytes.
const RANK_MAX: usize = 8;
const SAMPLE_BYTES_MAX: usize = 1 << 30;

/// The kind `synthetic`: torchvision's `FakeData`. It needs no file, no memory and no time to open, however long it is.
///
/// Options: `len`, the number of samples; `shape` (default `[224, 224, 3]`); `dtype`, "u8" (default), "f32" or "i64";
/// `classes`, how many (default 10).
///
/// What is in a sample follows from its index alone: the same in every stream, whatever its seed. Numbers of "u8" and
/// "i64" are 0 to 255, those of "f32" from 0.0 to below 1.0, each equally likely.
///
/// Shapes: `image`: [height, width, 3 or 1], u8, for a `shape` and `dtype` that make an image; otherwise `input`, of
/// `shape` and `dtype`; `label`: [], i64, 0 to `classes` - 1.
#[derive(Clone, Debug)]
pub struct Synthetic {
    len: u64,
    dtype: Dtype,
    shape: Shape,
    sample_bytes: usize,
    classes: Vec<String>,
}

impl Synthetic {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when `len` is missing, or one has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let len = options.integer("len", 1..=LEN_MAX)?;
        let shape = match options.value("shape") {
            None => Shape::from([224, 224, 3]),
            Some(value) => shape(&value).ok_or_else(|| {
                let expected = format!("a list of at most {RANK_MAX} integers from 1 up, such as [224, 224, 3]");
                options.error("shape", format_args!("is {value}, not {expected}"))
            })?,
        };
        let dtypes = [Dtype::U8, Dtype::F32, Dtype::I64].map(|dtype| (dtype.name(), dtype));
        let dtype = options.optional_one_of("dtype", &dtypes)?.unwrap_or(Dtype::U8);
        let sample_bytes = shape.elements().and_then(|elements| elements.checked_mul(dtype.size_bytes()));
        let Some(sample_bytes) = sample_bytes.filter(|&bytes| bytes <= SAMPLE_BYTES_MAX) else {
            let reason = format!("is {shape}, more than {SAMPLE_BYTES_MAX} bytes a sample");
            return Err(options.error("shape", reason));
        };
        let classes = numbered_classes(options.optional_integer("classes", 1..=CLASSES_MAX)?.unwrap_or(10));
        Ok(Self { len, dtype, shape, sample_bytes, classes })
    }

    /// The label of sample `index`, and the generator that draws the rest.
    fn label(&self, index: u64) -> (u64, Rng) {
        let mut rng = Rng::new(0, 0, 0, index, SYNTHETIC_OP);
        (rng.below(self.classes.len() as u64), rng)
    }

    fn make(&self, index: u64) -> Result<Sample, ValueError> {
        let (label, mut rng) = self.label(index);
        let mut bytes = scratch::take(self.sample_bytes);
        match self.dtype {
            Dtype::F32 => {
                for element in bytes.as_chunks_mut().0 {
                    *element = uniform_f32(&mut rng).to_le_bytes();
                }
            }
            Dtype::I64 => {
                for element in bytes.as_chunks_mut().0 {
                    *element = (rng.next_u64() >> 56).to_le_bytes();
                }
            }
            _ => {
                for bytes in bytes.chunks_mut(8) {
                    bytes.copy_from_slice(&rng.next_u64().to_le_bytes()[..bytes.len()]);
                }
            }
        }
        let label = Array::scalar_i64(label.cast_signed());
        Ok(match (self.dtype, &self.shape.0[..]) {
            (Dtype::U8, &[height, width, channels @ (1 | 3)]) => {
                Sample::new().with(IMAGE, Image::new(height, width, channels, bytes)?)
            }
            _ => Sample::new().with("input", Array::new(self.dtype, self.shape.clone(), bytes)?),
        }
        .with("label", label))
    }
}

impl MapDataset for Synthetic {
    fn len(&self) -> u64 {
        self.len
    }

    fn get(&self, index: u64) -> Result<Sample, SampleError> {
        if index >= self.len {
            return Err(SampleError::new(self.name(index), format!("there are {} samples", self.len)));
        }
        self.make(index).map_err(|error| SampleError::caused_by(self.name(index), "draw it", error))
    }

    fn name(&self, index: u64) -> String {
        format!("synthetic sample {index}")
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn number(&self, field: &str, index: u64) -> Option<f64> {
        // Below 2^20.
        let label = u32::try_from(self.label(index).0).ok()?;
        (field == "label" && index < self.len).then(|| label.into())
    }
}

fn shape(value: &Value) -> Option<Shape> {
    let extents = value.as_array().filter(|extents| extents.len() <= RANK_MAX)?;
    let extents = extents.iter().map(|extent| usize::try_from(extent.as_integer()?).ok().filter(|&extent| extent > 0));
    extents.collect::<Option<_>>().map(Shape)
}

/// A number of `0.0..1.0`, one of 2^24 equally spaced ones.
fn uniform_f32(rng: &mut Rng) -> f32 {
    const STEP: f32 = 1.0 / 16_777_216.0;
    // 24 bits: the conversion is exact.
    (rng.next_u64() >> 40) as f32 * STEP
}
