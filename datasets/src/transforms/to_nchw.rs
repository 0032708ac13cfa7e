//! Puts the channels of images first.

use super::arguments::image_field;
use super::numbers::array;
use crate::options::Options;
use crate::random::Rng;
use crate::sample::{Sample, Value};
use crate::scratch;
use crate::spec::SpecError;
use crate::transform::{Transform, TransformError, value_of};

/// Puts the channels before the rows: the order of PyTorch's tensors.
///
/// Options: `field` (default "image").
///
/// Shapes: [height, width, channels] becomes [channels, height, width], and what has more extents before these keeps
/// them, as the five of `five-crop`; an image becomes an array, so that what acts on images comes before.
///
/// Source: torchvision's `ToImage`, and `permute` where it is an array already.
#[derive(Clone, Debug)]
pub struct ToNchw {
    field: String,
}

impl ToNchw {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when one has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        Ok(Self { field: image_field(options)? })
    }
}

impl Transform for ToNchw {
    fn apply(&self, mut sample: Sample, _rng: &mut Rng) -> Result<Sample, TransformError> {
        let value = value_of(&mut sample, &self.field)?;
        let (dtype, mut shape) = (value.dtype(), value.shape());
        let Some(&mut [ref mut height, ref mut width, ref mut channels]) = shape.0.last_chunk_mut::<3>() else {
            let field = value.field(&self.field);
            return Err(TransformError::new(format!("{field} has not the shape [height, width, channels]")));
        };
        let (pixels, parts) = (*height * *width, *channels);
        (*height, *width, *channels) = (parts, *height, *width);
        let mut bytes = scratch::take(value.bytes().len());
        match dtype.size_bytes() {
            1 => transpose::<1>(value.bytes(), &mut bytes, pixels, parts),
            2 => transpose::<2>(value.bytes(), &mut bytes, pixels, parts),
            4 => transpose::<4>(value.bytes(), &mut bytes, pixels, parts),
            _ => transpose::<8>(value.bytes(), &mut bytes, pixels, parts),
        }
        if let Value::Image(image) | Value::Mask(image) = value {
            scratch::give(std::mem::take(image).into_pixels());
        }
        *value = array(dtype, shape, bytes)?;
        Ok(sample)
    }

    fn is_deterministic(&self) -> bool {
        true
    }

    fn puts_channels_first(&self, field: &str) -> bool {
        field == self.field
    }
}

/// Turns tables of `rows` x `columns` elements around, one after the other.
fn transpose<const BYTES: usize>(from: &[u8], to: &mut [u8], rows: usize, columns: usize) {
    let (from, to) = (from.as_chunks::<BYTES>().0, to.as_chunks_mut::<BYTES>().0);
    let table = (rows * columns).max(1);
    for (from, to) in from.chunks_exact(table).zip(to.chunks_exact_mut(table)) {
        for (column, target) in to.chunks_exact_mut(rows).enumerate() {
            let source = from.iter().skip(column).step_by(columns);
            target.iter_mut().zip(source).for_each(|(target, source)| *target = *source);
        }
    }
}
