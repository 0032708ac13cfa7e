//! The gradients of a model, by the place of their parameters, and what is done to them before a step.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{self, Tensor};

use super::pass::{is_here, numbers};
use crate::model::Sequential;

/// What keeps a norm of 0 from dividing, as in `torch.nn.utils.clip_grad_norm_`.
const NORM_EPSILON: f64 = 1e-6;

/// One gradient for each parameter that learns, in the order of [`Sequential::parameters`].
#[derive(Clone, Debug)]
pub struct Gradients {
    /// Flat; none for what does not learn.
    pub(crate) each: Vec<Option<Tensor<1>>>,
}

impl Gradients {
    /// The gradients of `loss`. *Shape* `[1]`.
    pub fn of(loss: &Tensor<1>, model: &Sequential) -> Self {
        let mut take = Take { gradients: loss.backward(), each: Vec::new() };
        model.visit(&mut take);
        Self { each: take.each }
    }

    /// The sum of both, place by place.
    pub(crate) fn add(self, other: Self) -> Self {
        let each = self.each.into_iter().zip(other.each).map(|pair| match pair {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        });
        Self { each: each.collect() }
    }

    /// All of them multiplied by the same.
    pub(crate) fn times(self, factor: f64) -> Self {
        self.map(|gradient| gradient.mul_scalar(factor))
    }

    /// Makes every number at least `-limit` and at most `limit`.
    ///
    /// *Source* `torch.nn.utils.clip_grad_value_`.
    pub fn clip_value(self, limit: f64) -> Self {
        self.map(|gradient| gradient.clamp(-limit, limit))
    }

    /// Shortens all gradients, taken as one vector, to the length `max_norm` where it is longer. Gives the length that
    /// it had, *shape* `[1]`, without waiting for the device.
    ///
    /// *Source* `torch.nn.utils.clip_grad_norm_`; in this process's memory the squares are summed in `f64`, so the sum
    /// does not depend on the number of threads.
    pub fn clip_norm(self, max_norm: f64) -> (Self, Option<Tensor<1>>) {
        if self.each.iter().flatten().all(is_here) {
            self.clip_norm_here(max_norm)
        } else {
            self.clip_norm_there(max_norm)
        }
    }

    /// As [`clip_norm`](Self::clip_norm), always summed in this process's memory, wherever the gradients are: the same bits
    /// in all processes that have the same gradients.
    pub(crate) fn clip_norm_here(self, max_norm: f64) -> (Self, Option<Tensor<1>>) {
        let Some(device) = self.each.iter().flatten().map(Tensor::device).next() else { return (self, None) };
        let mut squares = 0.0;
        let measured = self.map(|gradient| {
            let mut data = gradient.into_data();
            squares += sum_of_squares(numbers(&mut data));
            Tensor::from_data(data, &device)
        });
        let norm = squares.sqrt();
        let factor = max_norm / (norm + NORM_EPSILON);
        // Not so for NaN: it spreads, as it does in PyTorch, and the training says that it diverges.
        let clipped = if factor >= 1.0 { measured } else { measured.times(factor) };
        (clipped, Some(Tensor::from_data([norm], &device)))
    }

    fn clip_norm_there(self, max_norm: f64) -> (Self, Option<Tensor<1>>) {
        let squares = self.each.iter().flatten().map(|gradient| gradient.clone().square().sum());
        let Some(norm) = squares.reduce(|sum, squares| sum + squares).map(Tensor::sqrt) else { return (self, None) };
        let factor = norm.clone().add_scalar(NORM_EPSILON).recip().mul_scalar(max_norm).clamp_max(1.0);
        (self.map(|gradient| gradient * factor.clone()), Some(norm))
    }

    fn map(self, change: impl FnMut(Tensor<1>) -> Tensor<1>) -> Self {
        let mut change = change;
        Self { each: self.each.into_iter().map(|gradient| gradient.map(&mut change)).collect() }
    }
}

/// In an order that is always the same. Eight sums side by side: no addition waits for the one before.
fn sum_of_squares(numbers: &[f32]) -> f64 {
    let mut sums = [0.0; 8];
    for numbers in numbers.chunks(sums.len()) {
        for (sum, number) in sums.iter_mut().zip(numbers) {
            *sum += f64::from(*number) * f64::from(*number);
        }
    }
    sums.iter().sum()
}

/// Walks a module and takes what was computed for each of its parameters.
struct Take {
    gradients: tensor::Gradients,
    each: Vec<Option<Tensor<1>>>,
}

impl ModuleVisitor for Take {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // The statistics of a batch norm are parameters that do not learn.
        let gradient = if param.is_require_grad() { param.val().grad_remove(&mut self.gradients) } else { None };
        self.each.push(gradient.map(|gradient| gradient.flatten(0, -1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::testing::{golden, gradients, largest_difference, list, model, numbers_of_gradients, singles};

    #[test]
    fn clipping_is_pytorchs() {
        let (golden, model) = (golden("clipping"), model(&[3]));
        let first = || gradients(&model, &singles(&golden["first"]));
        let mut largest: f64 = 0.0;
        for case in list(&golden["norms"]) {
            let [scale, max_norm] = ["scale", "max_norm"].map(|name| case[name].as_f64().expect("a number"));
            let first = || first().times(scale);
            for (clipped, norm) in [first().clip_norm_here(max_norm), first().clip_norm_there(max_norm)] {
                let norm: f32 = norm.expect("there are gradients").into_scalar();
                let norm = largest_difference(&[norm], &singles(&serde_json::json!([case["norm"]])), 0.0);
                let numbers = numbers_of_gradients(&clipped);
                largest = largest.max(norm).max(largest_difference(&numbers, &singles(&case["gradients"]), 0.0));
            }
        }
        println!("largest relative difference from PyTorch: {largest:.1e}");
        assert!(largest < 1e-6, "{largest:.1e}");
        assert_eq!(numbers_of_gradients(&first().clip_value(0.75)), singles(&golden["value"]));
    }

    #[test]
    fn a_sum_of_squares_is_that_of_all_numbers() {
        for count in 0..40_u16 {
            let numbers: Vec<f32> = (1..=count).map(f32::from).collect();
            let expected: f64 = (1..=count).map(|number| f64::from(number).powi(2)).sum();
            assert_eq!(sum_of_squares(&numbers), expected);
        }
    }

    #[test]
    fn what_is_no_number_spreads_and_nothing_is_clipped_to_itself() {
        let model = model(&[3]);
        let mut numbers = [1.0; 15];
        let clip = |numbers: &[f32]| numbers_of_gradients(&gradients(&model, numbers).clip_norm(4.0).0);
        assert_eq!(clip(&numbers), numbers);
        numbers[3] = f32::NAN;
        assert!(clip(&numbers).iter().all(|number| number.is_nan()));
        let (none, norm) = Gradients { each: vec![None, None] }.clip_norm(1.0);
        assert!(none.each.iter().all(Option::is_none) && norm.is_none());
    }
}
