//! One sample: named values, each an image or an array.

use std::borrow::Cow;

use batchmill_protocol::tensor::{Dtype, FieldSpec, Shape};
use smallvec::SmallVec;
use thiserror::Error;

/// One row of a stream before it becomes part of a batch: values by field name, in the order they were put in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    // Most have an image and a label: no sample allocates for those.
    fields: SmallVec<[(Cow<'static, str>, Value); 2]>,
}

impl Sample {
    /// A sample without fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a field, or replaces the one of that name.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Value>) -> Self {
        self.insert(name, value);
        self
    }

    /// Adds a field at the end, or replaces the one of that name where it stands and returns what it was.
    pub fn insert(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Value>) -> Option<Value> {
        let (name, value) = (name.into(), value.into());
        match self.fields.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => Some(std::mem::replace(known, value)),
            None => {
                self.fields.push((name, value));
                None
            }
        }
    }

    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The value of a field, to be changed in place.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.fields.iter_mut().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Takes a field out; those behind it move up.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let place = self.fields.iter().position(|(known, _)| known == name)?;
        Some(self.fields.remove(place).1)
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.fields.iter().map(|(name, value)| (name.as_ref(), value))
    }

    /// Names and values in order, the values to be changed in place.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Value)> {
        self.fields.iter_mut().map(|(name, value)| (&**name, value))
    }

    /// Names and values in order, to be taken over.
    pub fn into_fields(self) -> impl Iterator<Item = (Cow<'static, str>, Value)> {
        self.fields.into_iter()
    }

    /// The values in order, without their names.
    pub fn into_values(self) -> impl Iterator<Item = Value> {
        self.fields.into_iter().map(|(_, value)| value)
    }
}

/// What a field of a sample holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Pixels, 8 bits a channel.
    Image(Image),
    /// The class of every pixel of the sample's image, for segmentation: one channel, and no such extent in its shape.
    ///
    /// What moves the image's pixels moves the mask's to the same places and never mixes two; what changes colours
    /// leaves it alone. Source: torchvision's `tv_tensors.Mask`.
    Mask(Image),
    /// Anything else.
    Array(Array),
}

impl Value {
    /// The type of its elements.
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::Image(_) | Self::Mask(_) => Dtype::U8,
            Self::Array(array) => array.dtype,
        }
    }

    /// Its extents, outermost first.
    pub fn shape(&self) -> Shape {
        match self {
            Self::Image(image) => image.shape().into(),
            Self::Mask(mask) => [mask.height, mask.width].into(),
            Self::Array(array) => array.shape.clone(),
        }
    }

    /// Its elements, row-major, little-endian.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Image(image) | Self::Mask(image) => &image.pixels,
            Self::Array(array) => &array.bytes,
        }
    }

    /// Describes it as the field `name`.
    pub fn field(&self, name: &str) -> FieldSpec {
        FieldSpec::new(name, self.dtype(), self.shape())
    }

    /// Whether it has the dtype and the shape of `field`; its name does not matter.
    pub fn fits(&self, field: &FieldSpec) -> bool {
        let same_shape = match self {
            Self::Image(image) => image.shape() == *field.shape.0,
            Self::Mask(mask) => [mask.height, mask.width] == *field.shape.0,
            Self::Array(array) => array.shape == field.shape,
        };
        same_shape && self.dtype() == field.dtype
    }
}

impl From<Image> for Value {
    fn from(image: Image) -> Self {
        Self::Image(image)
    }
}

impl From<Array> for Value {
    fn from(array: Array) -> Self {
        Self::Array(array)
    }
}

/// Bytes that do not make up the value they should.
#[derive(Debug, Error)]
pub enum ValueError {
    /// The number of bytes is not that of the shape.
    #[error("{bytes} bytes do not make up {dtype} {shape}")]
    Length {
        /// The bytes given.
        bytes: usize,
        /// The type of one element.
        dtype: Dtype,
        /// The extents asked for.
        shape: Shape,
    },
}

/// Pixels of 8 bits a channel.
///
/// Shapes: [height, width, channels], row-major; 1 channel is gray, 3 are red, green and blue, 4 with alpha.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    height: usize,
    width: usize,
    channels: usize,
    pixels: Vec<u8>,
}

impl Image {
    /// Wraps pixels, row by row from the top, channels side by side.
    ///
    /// # Errors
    /// [`ValueError::Length`] when there are not `height * width * channels` bytes.
    pub fn new(height: usize, width: usize, channels: usize, pixels: Vec<u8>) -> Result<Self, ValueError> {
        let bytes = height.checked_mul(width).and_then(|pixels| pixels.checked_mul(channels));
        if bytes != Some(pixels.len()) {
            let shape = [height, width, channels].into();
            return Err(ValueError::Length { bytes: pixels.len(), dtype: Dtype::U8, shape });
        }
        Ok(Self { height, width, channels, pixels })
    }

    /// Rows of pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Pixels of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Bytes of a pixel.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// `[height, width, channels]`.
    pub fn shape(&self) -> [usize; 3] {
        [self.height, self.width, self.channels]
    }

    /// All bytes, row-major.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// All bytes, to be changed in place.
    pub fn pixels_mut(&mut self) -> &mut [u8] {
        &mut self.pixels
    }

    /// All bytes, row-major, without a copy.
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }
}

/// A tensor of any dtype.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    dtype: Dtype,
    shape: Shape,
    // A number lies in here.
    bytes: SmallVec<[u8; 8]>,
}

impl Array {
    /// Wraps elements stored row-major and little-endian.
    ///
    /// # Errors
    /// [`ValueError::Length`] when the bytes are not those of the shape.
    pub fn new(dtype: Dtype, shape: impl Into<Shape>, bytes: Vec<u8>) -> Result<Self, ValueError> {
        let shape = shape.into();
        let expected = shape.elements().and_then(|elements| elements.checked_mul(dtype.size_bytes()));
        if expected != Some(bytes.len()) {
            return Err(ValueError::Length { bytes: bytes.len(), dtype, shape });
        }
        Ok(Self { dtype, shape, bytes: bytes.into() })
    }

    /// One number without a shape, as a class label is.
    pub fn scalar_i64(value: i64) -> Self {
        Self { dtype: Dtype::I64, shape: Shape::default(), bytes: value.to_le_bytes().as_slice().into() }
    }

    /// One number without a shape.
    pub fn scalar_f32(value: f32) -> Self {
        Self { dtype: Dtype::F32, shape: Shape::default(), bytes: value.to_le_bytes().as_slice().into() }
    }

    /// Bytes, of a text for instance.
    ///
    /// Shapes: `[bytes.len()]`.
    pub fn from_u8(bytes: Vec<u8>) -> Self {
        Self { dtype: Dtype::U8, shape: [bytes.len()].into(), bytes: bytes.into() }
    }

    /// A row of numbers.
    ///
    /// Shapes: `[values.len()]`.
    pub fn from_f32(values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { dtype: Dtype::F32, shape: [values.len()].into(), bytes }
    }

    /// A row of numbers.
    ///
    /// Shapes: `[values.len()]`.
    pub fn from_i64(values: &[i64]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { dtype: Dtype::I64, shape: [values.len()].into(), bytes }
    }

    /// The type of its elements.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Its extents, outermost first.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Its elements, row-major, little-endian.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its elements, row-major, little-endian; more than a number without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes.into_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_order_and_are_replaced_in_place() {
        let mut sample = Sample::new().with("image", Array::from_f32(&[1.0])).with("label", Array::scalar_i64(3));
        assert_eq!(sample.insert("image", Array::from_f32(&[2.0])), Some(Array::from_f32(&[1.0]).into()));
        assert_eq!(sample.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["image", "label"]);
        assert_eq!(sample.remove("image"), Some(Array::from_f32(&[2.0]).into()));
        assert_eq!(sample.get("image"), None);
        assert_eq!(sample.get("label").map(Value::bytes), Some(&3_i64.to_le_bytes()[..]));
    }

    #[test]
    fn bytes_must_make_up_the_shape() {
        let wrong = |result: Result<(), ValueError>| result.err().map(|error| error.to_string());
        assert_eq!(
            wrong(Image::new(2, 2, 3, vec![0; 11]).map(drop)),
            Some("11 bytes do not make up u8 [2, 2, 3]".to_owned())
        );
        assert_eq!(
            wrong(Array::new(Dtype::F32, [usize::MAX, 2], vec![]).map(drop)),
            Some(format!("0 bytes do not make up f32 [{}, 2]", usize::MAX))
        );
        assert_eq!(wrong(Image::new(2, 2, 3, vec![0; 12]).map(drop)), None);
    }

    #[test]
    fn a_value_fits_a_field_of_its_dtype_and_shape() {
        let image: Value = Image::new(1, 2, 3, vec![0; 6]).unwrap().into();
        assert!(image.fits(&FieldSpec::new("any", Dtype::U8, [1, 2, 3])));
        assert!(!image.fits(&FieldSpec::new("any", Dtype::U8, [2, 1, 3])));
        assert!(!image.fits(&FieldSpec::new("any", Dtype::I8, [1, 2, 3])));
        assert!(!image.fits(&FieldSpec::new("any", Dtype::U8, [6])));
    }
}
