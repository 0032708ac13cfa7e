//! What passes between two layers: its shape, known before a tensor is made, then the tensor itself.

use std::fmt;

use burn::tensor::Tensor;
use thiserror::Error;

/// The shape of one image as it arrives: height, width, channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageShape {
    /// Rows of pixels.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Numbers of a pixel: 1 for gray, 3 for colour.
    pub channels: usize,
}

/// A text that is not an image's shape.
#[derive(Debug, Error)]
#[error("{0:?} is not of the form HEIGHTxWIDTHxCHANNELS, such as 28x28x1")]
pub struct ImageShapeError(String);

/// The longest side, and the most channels, of an image that a model takes.
pub(crate) const SIDE_MAX: usize = 1 << 16;

impl ImageShape {
    /// Takes `[height, width, channels]`, each from 1 to 65536.
    pub fn from_extents(extents: &[usize]) -> Option<Self> {
        match *extents {
            [height, width, channels] if extents.iter().all(|extent| (1..=SIDE_MAX).contains(extent)) => {
                Some(Self { height, width, channels })
            }
            _ => None,
        }
    }

    /// The bytes of one image, a byte a number.
    pub fn bytes(self) -> usize {
        self.height * self.width * self.channels
    }
}

impl std::str::FromStr for ImageShape {
    type Err = ImageShapeError;

    /// Reads `28x28x1`, as `--input` takes it.
    fn from_str(text: &str) -> Result<Self, ImageShapeError> {
        let extents: Option<Vec<usize>> = text.split('x').map(|extent| extent.parse().ok()).collect();
        extents.and_then(|extents| Self::from_extents(&extents)).ok_or_else(|| ImageShapeError(text.to_owned()))
    }
}

impl fmt::Display for ImageShape {
    /// Writes `28x28x1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.height, self.width, self.channels)
    }
}

/// The shape of an [`Activation`], without the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extents {
    /// Rows of numbers.
    Flat {
        /// Numbers of a row.
        features: usize,
    },
    /// Images, channels first.
    Image {
        /// Planes of an image.
        channels: usize,
        /// Rows of a plane.
        height: usize,
        /// Numbers of a row.
        width: usize,
    },
}

impl From<ImageShape> for Extents {
    fn from(ImageShape { height, width, channels }: ImageShape) -> Self {
        Self::Image { channels, height, width }
    }
}

impl fmt::Display for Extents {
    /// Writes the shape of a batch: `[batch, 784]`, `[batch, 3, 32, 32]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flat { features } => write!(f, "[batch, {features}]"),
            Self::Image { channels, height, width } => write!(f, "[batch, {channels}, {height}, {width}]"),
        }
    }
}

/// What one layer hands to the next. Burn's tensors carry their rank in the type; a model from a file cannot.
#[derive(Clone, Debug)]
pub enum Activation {
    /// *Shape* `[batch, features]`.
    Flat(Tensor<2>),
    /// *Shape* `[batch, channels, height, width]`.
    Image(Tensor<4>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_shape_is_read_as_it_is_written() {
        let shape: ImageShape = "28x32x3".parse().expect("this is the form");
        assert_eq!(shape, ImageShape { height: 28, width: 32, channels: 3 });
        assert_eq!(shape.to_string(), "28x32x3");
        for wrong in ["", "28", "28x28", "28x28x0", "28x28x1x1", "ax28x1", "28x28x70000"] {
            assert!(wrong.parse::<ImageShape>().is_err(), "{wrong:?} was read as a shape");
        }
    }
}
