//! What passes between two layers: its shape, known before a tensor is made, then the tensor itself.

use std::fmt;

use burn::tensor::{Int, Tensor};
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extents {
    /// Real numbers: `[features]`, `[channels, length]` or `[channels, height, width]`.
    Floats(Vec<usize>),
    /// Whole numbers, such as the words of a text: `[length]`.
    Indices(Vec<usize>),
}

impl Extents {
    /// The features of each row, when rows arrive.
    pub fn features(&self) -> Option<usize> {
        match *self {
            Self::Floats(ref extents) => <[usize; 1]>::try_from(&extents[..]).ok().map(|[features]| features),
            Self::Indices(_) => None,
        }
    }

    /// `[channels, length]`, when sequences arrive.
    pub fn sequence(&self) -> Option<[usize; 2]> {
        match self {
            Self::Floats(extents) => extents[..].try_into().ok(),
            Self::Indices(_) => None,
        }
    }

    /// `[channels, height, width]`, when images arrive.
    pub fn image(&self) -> Option<[usize; 3]> {
        match self {
            Self::Floats(extents) => extents[..].try_into().ok(),
            Self::Indices(_) => None,
        }
    }

    /// All extents, whatever they hold.
    pub fn as_slice(&self) -> &[usize] {
        match self {
            Self::Floats(extents) | Self::Indices(extents) => extents,
        }
    }

    /// How many numbers one sample has; `usize::MAX` when they are more than can be counted.
    pub fn numbers(&self) -> usize {
        self.as_slice().iter().fold(1, |product: usize, &extent| product.saturating_mul(extent))
    }
}

impl From<ImageShape> for Extents {
    fn from(ImageShape { height, width, channels }: ImageShape) -> Self {
        Self::Floats(vec![channels, height, width])
    }
}

impl fmt::Display for Extents {
    /// Writes the shape of a batch: `[batch, 784]`, `[batch, 3, 32, 32]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[batch")?;
        self.as_slice().iter().try_for_each(|extent| write!(f, ", {extent}"))?;
        f.write_str(if let Self::Floats(_) = self { "]" } else { "] of whole numbers" })
    }
}

/// What one layer hands to the next. Burn's tensors carry their rank in the type; a model from a file cannot.
#[derive(Clone, Debug)]
pub enum Activation {
    /// *Shape* `[batch, features]`.
    Flat(Tensor<2>),
    /// *Shape* `[batch, channels, length]`.
    Sequence(Tensor<3>),
    /// *Shape* `[batch, channels, height, width]`.
    Image(Tensor<4>),
    /// *Shape* `[batch, length]`.
    Indices(Tensor<2, Int>),
}

impl From<Tensor<2>> for Activation {
    fn from(rows: Tensor<2>) -> Self {
        Self::Flat(rows)
    }
}

impl From<Tensor<3>> for Activation {
    fn from(sequences: Tensor<3>) -> Self {
        Self::Sequence(sequences)
    }
}

impl From<Tensor<4>> for Activation {
    fn from(images: Tensor<4>) -> Self {
        Self::Image(images)
    }
}

impl Activation {
    /// Makes its tensor one that gradients flow through.
    #[must_use]
    pub fn autodiff(self) -> Self {
        match self {
            Self::Flat(x) => Self::Flat(x.autodiff()),
            Self::Sequence(x) => Self::Sequence(x.autodiff()),
            Self::Image(x) => Self::Image(x.autodiff()),
            Self::Indices(x) => Self::Indices(x.autodiff()),
        }
    }

    /// Its shape without the batch, as [`Layer::leaves`](crate::layer::Layer::leaves) has to foretell it.
    pub fn extents(&self) -> Extents {
        match self {
            Self::Flat(x) => Extents::Floats(x.dims()[1..].to_vec()),
            Self::Sequence(x) => Extents::Floats(x.dims()[1..].to_vec()),
            Self::Image(x) => Extents::Floats(x.dims()[1..].to_vec()),
            Self::Indices(x) => Extents::Indices(x.dims()[1..].to_vec()),
        }
    }
}

/// Applies one expression to the numbers of an activation, whatever their rank, and wraps what it gives as they were.
/// Whole numbers are for an embedding alone: no other layer's `leaves` lets them in.
macro_rules! map_floats {
    ($activation:expr, $x:ident => $mapped:expr) => {
        match $activation {
            $crate::shape::Activation::Flat($x) => $crate::shape::Activation::Flat($mapped),
            $crate::shape::Activation::Sequence($x) => $crate::shape::Activation::Sequence($mapped),
            $crate::shape::Activation::Image($x) => $crate::shape::Activation::Image($mapped),
            $crate::shape::Activation::Indices(_) => unreachable!("`leaves` refuses whole numbers"),
        }
    };
}
pub(crate) use map_floats;

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
