//! What the arithmetic of an optimizer needs of a number, so that it is written once: for an `f32`, and for a tensor.

use std::ops::{Add, Div, Mul, Sub};

use burn::tensor::Tensor;

/// One `f32`, or many in a tensor; the same arithmetic gives the same bits for both.
pub(super) trait Number:
    Clone + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    /// Adds the same to each.
    fn plus(self, term: f64) -> Self;
    /// Multiplies each by the same.
    fn times(self, factor: f64) -> Self;
    /// Divides each by the same.
    fn over(self, divisor: f64) -> Self;
    /// The square root of each.
    fn root(self) -> Self;

    /// Goes a part of the way to `end`, as `torch.lerp`.
    fn lerp(self, end: Self, weight: f64) -> Self {
        let way = end.clone() - self.clone();
        if weight < 0.5 { self + way.times(weight) } else { end - way.times(1.0 - weight) }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "burn, as PyTorch, rounds a factor to the tensor's dtype")]
impl Number for f32 {
    fn plus(self, term: f64) -> Self {
        self + term as Self
    }

    fn times(self, factor: f64) -> Self {
        self * factor as Self
    }

    fn over(self, divisor: f64) -> Self {
        self / divisor as Self
    }

    fn root(self) -> Self {
        self.sqrt()
    }
}

impl Number for Tensor<1> {
    fn plus(self, term: f64) -> Self {
        self.add_scalar(term)
    }

    fn times(self, factor: f64) -> Self {
        self.mul_scalar(factor)
    }

    fn over(self, divisor: f64) -> Self {
        self.div_scalar(divisor)
    }

    fn root(self) -> Self {
        self.sqrt()
    }
}
