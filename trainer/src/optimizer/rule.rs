//! The arithmetic of each optimizer: what PyTorch computes, in PyTorch's order.
//!
//! Burn's own optimizers differ from it: Adam's and RMSprop's epsilons are others, and Adam's powers of the betas are
//! rounded to `f32`, which moves its first steps by 3e-5 of their length.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::number::Number;
use super::pass::pass;

/// Stochastic gradient descent. Source: `torch.optim.SGD`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sgd {
    /// How much of the last step each step repeats; 0 remembers nothing.
    pub momentum: f64,
    /// How much of a gradient the momentum leaves out.
    pub dampening: f64,
    /// Whether a step looks ahead by the momentum.
    pub nesterov: bool,
    /// How much of a parameter is added to its gradient.
    pub weight_decay: f64,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { momentum: 0.0, dampening: 0.0, nesterov: false, weight_decay: 0.0 }
    }
}

/// Adaptive moments. Source: `torch.optim.Adam` and `torch.optim.AdamW`, without AMSGrad.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adam {
    /// How much of the mean gradient, and of the mean square, each step keeps.
    pub betas: [f64; 2],
    /// Added to what divides.
    pub eps: f64,
    /// Adam: how much of a parameter is added to its gradient. `AdamW`: how much of it each step takes off.
    pub weight_decay: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Self { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0 }
    }
}

impl Adam {
    /// As `AdamW` begins.
    pub(super) fn decoupled() -> Self {
        Self { weight_decay: 1e-2, ..Self::default() }
    }
}

/// Gradients over the root of their mean square. Source: `torch.optim.RMSprop`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RmsProp {
    /// How much of the mean square each step keeps.
    pub alpha: f64,
    /// Added to what divides.
    pub eps: f64,
    /// How much of the last step each step repeats.
    pub momentum: f64,
    /// Whether to divide by the standard deviation instead.
    pub centered: bool,
    /// How much of a parameter is added to its gradient.
    pub weight_decay: f64,
}

impl Default for RmsProp {
    fn default() -> Self {
        Self { alpha: 0.99, eps: 1e-8, momentum: 0.0, centered: false, weight_decay: 0.0 }
    }
}

/// How a gradient changes a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Rule {
    /// `sgd`.
    Sgd(Sgd),
    /// `adam`.
    Adam(Adam),
    /// `adamw`.
    AdamW(Adam),
    /// `rmsprop`.
    RmsProp(RmsProp),
}

/// What is remembered of one parameter.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// Gradients seen.
    pub(super) steps: u64,
    /// As many numbers each as the parameter, in the order of [`Rule::remembers`]; none before the first gradient.
    pub(super) tensors: Vec<Tensor<1>>,
}

impl Rule {
    /// What it remembers of each parameter, by PyTorch's names.
    pub(super) fn remembers(&self) -> &'static [&'static str] {
        match self {
            Self::Sgd(sgd) if sgd.momentum == 0.0 => &[],
            Self::Sgd(_) => &["momentum_buffer"],
            Self::Adam(_) | Self::AdamW(_) => &["exp_avg", "exp_avg_sq"],
            Self::RmsProp(rule) => match (rule.centered, rule.momentum > 0.0) {
                (false, false) => &["square_avg"],
                (true, false) => &["square_avg", "grad_avg"],
                (false, true) => &["square_avg", "momentum_buffer"],
                (true, true) => &["square_avg", "grad_avg", "momentum_buffer"],
            },
        }
    }

    /// Whether it remembers how many gradients it has seen.
    pub(super) fn counts(&self) -> bool {
        matches!(self, Self::Adam(_) | Self::AdamW(_))
    }

    /// Changes one parameter by one gradient, at the rate `lr`.
    pub(super) fn step<const D: usize>(
        &self,
        lr: f64,
        parameter: Tensor<D>,
        gradient: Tensor<1>,
        state: &mut State,
    ) -> Tensor<D> {
        let first = state.tensors.is_empty();
        state.steps += 1;
        let tensors = &mut state.tensors;
        match *self {
            Self::Sgd(rule) if rule.momentum == 0.0 => {
                pass::<0, D>(&PlainSgd { rule, lr }, parameter, gradient, tensors)
            }
            Self::Sgd(rule) => pass::<1, D>(&MomentumSgd { rule, lr, first }, parameter, gradient, tensors),
            Self::Adam(rule) => {
                pass::<2, D>(&AdamStep::new(rule, lr, false, state.steps), parameter, gradient, tensors)
            }
            Self::AdamW(rule) => {
                pass::<2, D>(&AdamStep::new(rule, lr, true, state.steps), parameter, gradient, tensors)
            }
            Self::RmsProp(rule) => {
                let step = RmsPropStep { rule, lr };
                match self.remembers().len() {
                    1 => pass::<1, D>(&step, parameter, gradient, tensors),
                    2 => pass::<2, D>(&step, parameter, gradient, tensors),
                    _ => pass::<3, D>(&step, parameter, gradient, tensors),
                }
            }
        }
    }
}

/// One step over one number, or over all of a parameter at once; `M` numbers are remembered of each.
pub(super) trait Arithmetic<const M: usize>: Sync {
    /// The changed parameter, and what is remembered from now on. It remembers 0 before its first step.
    fn update<N: Number>(&self, parameter: N, gradient: N, memory: [N; M]) -> (N, [N; M]);
}

/// Adds the gradient of `decay / 2` times the parameter's square.
fn decayed<N: Number>(gradient: N, parameter: &N, decay: f64) -> N {
    if decay == 0.0 { gradient } else { gradient + parameter.clone().times(decay) }
}

struct PlainSgd {
    rule: Sgd,
    lr: f64,
}

impl Arithmetic<0> for PlainSgd {
    fn update<N: Number>(&self, parameter: N, gradient: N, memory: [N; 0]) -> (N, [N; 0]) {
        let gradient = decayed(gradient, &parameter, self.rule.weight_decay);
        (parameter - gradient.times(self.lr), memory)
    }
}

struct MomentumSgd {
    rule: Sgd,
    lr: f64,
    first: bool,
}

impl Arithmetic<1> for MomentumSgd {
    fn update<N: Number>(&self, parameter: N, gradient: N, [buffer]: [N; 1]) -> (N, [N; 1]) {
        let Sgd { momentum, dampening, nesterov, weight_decay } = self.rule;
        let gradient = decayed(gradient, &parameter, weight_decay);
        let buffer = if self.first {
            gradient.clone()
        } else {
            buffer.times(momentum) + gradient.clone().times(1.0 - dampening)
        };
        let way = if nesterov { gradient + buffer.clone().times(momentum) } else { buffer.clone() };
        (parameter - way.times(self.lr), [buffer])
    }
}

struct AdamStep {
    rule: Adam,
    lr: f64,
    decoupled: bool,
    /// `lr` over what the mean gradient still lacks.
    length: f64,
    /// The root of what the mean square still lacks.
    lacks: f64,
}

impl AdamStep {
    fn new(rule: Adam, lr: f64, decoupled: bool, steps: u64) -> Self {
        // Far later both powers are 0.
        let steps = i32::try_from(steps).unwrap_or(i32::MAX);
        let [lacks_1, lacks_2] = rule.betas.map(|beta| 1.0 - beta.powi(steps));
        Self { rule, lr, decoupled, length: lr / lacks_1, lacks: lacks_2.sqrt() }
    }
}

impl Arithmetic<2> for AdamStep {
    fn update<N: Number>(&self, parameter: N, gradient: N, [mean, square]: [N; 2]) -> (N, [N; 2]) {
        let Adam { betas: [beta_1, beta_2], eps, weight_decay } = self.rule;
        let (parameter, gradient) = if self.decoupled {
            (parameter.times(1.0 - self.lr * weight_decay), gradient)
        } else {
            let gradient = decayed(gradient, &parameter, weight_decay);
            (parameter, gradient)
        };
        let mean = mean.lerp(gradient.clone(), 1.0 - beta_1);
        let square = square.times(beta_2) + gradient.clone().times(1.0 - beta_2) * gradient;
        let divisor = square.clone().root().over(self.lacks).plus(eps);
        (parameter - mean.clone().times(self.length) / divisor, [mean, square])
    }
}

struct RmsPropStep {
    rule: RmsProp,
    lr: f64,
}

impl RmsPropStep {
    /// What all variants have in common; gives back what it was given to remember.
    fn update_some<N: Number>(
        &self,
        parameter: N,
        gradient: N,
        square: N,
        mean: Option<N>,
        buffer: Option<N>,
    ) -> (N, N, Option<N>, Option<N>) {
        let RmsProp { alpha, eps, momentum, weight_decay, .. } = self.rule;
        let gradient = decayed(gradient, &parameter, weight_decay);
        let square = square.times(alpha) + gradient.clone().times(1.0 - alpha) * gradient.clone();
        let mean = mean.map(|mean| mean.lerp(gradient.clone(), 1.0 - alpha));
        let variance = match &mean {
            Some(mean) => square.clone() - mean.clone() * mean.clone(),
            None => square.clone(),
        };
        let divisor = variance.root().plus(eps);
        match buffer {
            Some(buffer) => {
                let buffer = buffer.times(momentum) + gradient / divisor;
                (parameter - buffer.clone().times(self.lr), square, mean, Some(buffer))
            }
            None => (parameter - gradient.times(self.lr) / divisor, square, mean, None),
        }
    }
}

/// What is remembered comes back as it went in.
const KEPT: &str = "what was there stays there";

impl Arithmetic<1> for RmsPropStep {
    fn update<N: Number>(&self, parameter: N, gradient: N, [square]: [N; 1]) -> (N, [N; 1]) {
        let (parameter, square, _, _) = self.update_some(parameter, gradient, square, None, None);
        (parameter, [square])
    }
}

impl Arithmetic<2> for RmsPropStep {
    fn update<N: Number>(&self, parameter: N, gradient: N, [square, other]: [N; 2]) -> (N, [N; 2]) {
        let (mean, buffer) = if self.rule.centered { (Some(other), None) } else { (None, Some(other)) };
        let (parameter, square, mean, buffer) = self.update_some(parameter, gradient, square, mean, buffer);
        (parameter, [square, mean.or(buffer).expect(KEPT)])
    }
}

impl Arithmetic<3> for RmsPropStep {
    fn update<N: Number>(&self, parameter: N, gradient: N, [square, mean, buffer]: [N; 3]) -> (N, [N; 3]) {
        let (mean, buffer) = (Some(mean), Some(buffer));
        let (parameter, square, mean, buffer) = self.update_some(parameter, gradient, square, mean, buffer);
        (parameter, [square, mean.expect(KEPT), buffer.expect(KEPT)])
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::super::pass::{as_operations, in_one_pass};
    use super::*;

    /// Numbers from -2 to 2 that are all different.
    fn tensor(seed: u32) -> Tensor<2> {
        let numbers = (0..1000_u32).map(|idx| (idx * 7919 + seed * 104_729) % 10_007);
        let numbers: Vec<f32> =
            numbers.map(|number| f32::from(u16::try_from(number).expect("small")) / 2500.0 - 2.0).collect();
        Tensor::from_data(TensorData::new(numbers, [25, 40]), &Device::flex())
    }

    fn check<const M: usize>(step: &impl Arithmetic<M>) {
        let flat = |seed| tensor(seed).flatten::<1>(0, -1);
        let memory = || std::array::from_fn(|which| flat(u32::try_from(which).expect("small") + 2).square() * 3.0);
        let all = |(parameter, memory): (Tensor<2>, [Tensor<1>; M])| {
            let mut bits: Vec<u32> = parameter.into_data().iter::<f32>().map(f32::to_bits).collect();
            bits.extend(
                memory
                    .into_iter()
                    .flat_map(|memory| memory.into_data().try_into_vec::<f32>().expect("f32"))
                    .map(f32::to_bits),
            );
            bits
        };
        let operations = all(as_operations(step, tensor(0), flat(1), memory()));
        assert_eq!(all(in_one_pass(step, tensor(0), flat(1), memory())), operations);
        assert_eq!(operations.len(), 1000 * (M + 1));
    }

    #[test]
    fn one_pass_gives_the_bits_of_the_operations() {
        let sgd = Sgd { momentum: 0.9, dampening: 0.3, weight_decay: 0.1, ..Sgd::default() };
        check(&PlainSgd { rule: sgd, lr: 0.1 });
        for nesterov in [false, true] {
            for first in [false, true] {
                check(&MomentumSgd { rule: Sgd { nesterov, ..sgd }, lr: 0.1, first });
            }
        }
        for weight_decay in [0.0, 0.1] {
            for decoupled in [false, true] {
                check(&AdamStep::new(Adam { weight_decay, ..Adam::default() }, 0.1, decoupled, 7));
            }
        }
        let rule = RmsProp { weight_decay: 0.1, momentum: 0.5, ..RmsProp::default() };
        check::<1>(&RmsPropStep { rule, lr: 0.1 });
        check::<2>(&RmsPropStep { rule, lr: 0.1 });
        check::<3>(&RmsPropStep { rule: RmsProp { centered: true, ..rule }, lr: 0.1 });
    }

    #[test]
    fn a_parameter_that_nobody_else_holds_is_written_where_it_lies() {
        let mut data = TensorData::from([[1.0_f32, 2.0], [3.0, 4.0]]);
        let place = data.as_bytes().as_ptr();
        let gradient = || Tensor::from_data([1.0, 1.0, 1.0, 1.0], &Device::flex());
        let rule = Rule::Adam(Adam::default());
        let mut state = State { steps: 0, tensors: Vec::new() };
        for _ in 0..2 {
            let parameter: Tensor<2> = Tensor::from_data(data, &Device::flex());
            data = rule.step(0.1, parameter, gradient(), &mut state).into_data();
        }
        assert_eq!(data.as_bytes().as_ptr(), place);
        assert_ne!(data.as_slice::<f32>().expect("f32"), [1.0, 2.0, 3.0, 4.0]);
    }
}
