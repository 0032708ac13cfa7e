//! How wrong a model is.
//!
//! ```toml
//! [loss]                         # optional
//! kind = "cross-entropy"         # cross-entropy unless given
//! ```
//!
//! | kind | takes | keys (PyTorch's names, meanings and defaults) |
//! |---|---|---|
//! | `cross-entropy` | a class | `label_smoothing` (0), `weight` (1 for each class) |
//! | `mse`, `l1` | numbers | |
//! | `smooth-l1` | numbers | `beta` (1) |
//! | `bce-with-logits` | numbers from 0 to 1 | `pos_weight` (1; one number, or one per output) |

use burn::tensor::activation::{log_sigmoid, log_softmax};
use burn::tensor::kind::Autodiff;
use burn::tensor::{Device, Int, Tensor, TensorData};
use thiserror::Error;

use crate::section::{Bound, Mistake, Section};

/// What a model should have said.
#[derive(Clone, Debug)]
pub enum Target {
    /// A class for each row. *Shape* `[batch]`.
    Classes(Tensor<1, Int>),
    /// A number for each output. *Shape* `[batch, outputs]`.
    Numbers(Tensor<2>),
}

/// A loss as the file states it.
#[derive(Clone, Debug, PartialEq)]
pub enum LossSpec {
    /// `cross-entropy`. Source: `torch.nn.CrossEntropyLoss`, for targets that are classes.
    CrossEntropy {
        /// How much of each target goes to all classes alike, from 0 to 1.
        label_smoothing: f64,
        /// How much each class counts; empty: all the same.
        weight: Vec<f64>,
    },
    /// `mse`. Source: `torch.nn.MSELoss`.
    Mse,
    /// `l1`. Source: `torch.nn.L1Loss`.
    L1,
    /// `smooth-l1`. Source: `torch.nn.SmoothL1Loss`.
    SmoothL1 {
        /// Below it an error counts squared; 0 is `l1`.
        beta: f64,
    },
    /// `bce-with-logits`. Source: `torch.nn.BCEWithLogitsLoss`.
    BceWithLogits {
        /// How much a target of 1 counts: one number, or one per output; empty: 1.
        pos_weight: Vec<f64>,
    },
}

impl Default for LossSpec {
    fn default() -> Self {
        Self::CrossEntropy { label_smoothing: 0.0, weight: Vec::new() }
    }
}

/// Why a loss does not fit a model.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LossError {
    /// One number too many or too few.
    #[error("[loss] says {found} numbers for `{key}`, but the model has {outputs} outputs: write one for each")]
    Weights {
        /// The key.
        key: &'static str,
        /// How many numbers it has.
        found: usize,
        /// How many the model gives.
        outputs: usize,
    },
}

impl LossSpec {
    /// Whether its targets are classes; otherwise they are numbers.
    pub fn takes_classes(&self) -> bool {
        matches!(self, Self::CrossEntropy { .. })
    }

    /// Takes the keys of `[loss]`.
    pub(crate) fn parse(section: &mut Section<'_>) -> Result<Self, Mistake> {
        type Parse = fn(&mut Section<'_>) -> Result<LossSpec, Mistake>;
        const CROSS_ENTROPY: (&str, Parse) = ("cross-entropy", |section| {
            Ok(LossSpec::CrossEntropy {
                label_smoothing: section.bounded("label_smoothing", Bound::UP_TO_1)?.unwrap_or(0.0),
                weight: weights(section, "weight")?,
            })
        });
        const KINDS: [(&str, Parse); 5] = [
            CROSS_ENTROPY,
            ("mse", |_| Ok(LossSpec::Mse)),
            ("l1", |_| Ok(LossSpec::L1)),
            ("smooth-l1", |section| {
                Ok(LossSpec::SmoothL1 { beta: section.bounded("beta", Bound::FROM_0)?.unwrap_or(1.0) })
            }),
            ("bce-with-logits", |section| Ok(LossSpec::BceWithLogits { pos_weight: weights(section, "pos_weight")? })),
        ];
        section.kind("loss", &KINDS, Some(CROSS_ENTROPY))?(section)
    }

    /// Makes the loss for a model of so many outputs.
    ///
    /// # Errors
    /// [`LossError`] when it has a weight too many or too few.
    pub fn init(&self, outputs: usize, device: &Device) -> Result<Loss, LossError> {
        let check = |key, numbers: &[f64], wanted: &[usize]| match numbers.len() {
            found if found == 0 || wanted.contains(&found) => Ok(()),
            found => Err(LossError::Weights { key, found, outputs }),
        };
        let tensor = |numbers: &[f64]| {
            let data = TensorData::new(numbers.to_vec(), [numbers.len()]);
            (!numbers.is_empty()).then(|| Tensor::from_data(data, device))
        };
        Ok(match self {
            Self::CrossEntropy { label_smoothing, weight } => {
                check("weight", weight, &[outputs])?;
                Loss::CrossEntropy { label_smoothing: *label_smoothing, weight: tensor(weight) }
            }
            Self::Mse => Loss::Mse,
            Self::L1 => Loss::L1,
            Self::SmoothL1 { beta } => Loss::SmoothL1 { beta: *beta },
            Self::BceWithLogits { pos_weight } => {
                check("pos_weight", pos_weight, &[1, outputs])?;
                Loss::BceWithLogits { pos_weight: tensor(pos_weight) }
            }
        })
    }
}

/// Numbers that weigh, none of them below 0.
fn weights(section: &mut Section<'_>, key: &'static str) -> Result<Vec<f64>, Mistake> {
    let Some(numbers) = section.numbers(key)? else { return Ok(Vec::new()) };
    if numbers.is_empty() || !Bound::FROM_0.holds(&numbers) {
        return Err(section.mistake_at(key, "must have a number, and none of them below 0"));
    }
    Ok(numbers)
}

/// A loss, ready to be computed.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each is the one of that name in `LossSpec`")]
pub enum Loss {
    CrossEntropy { label_smoothing: f64, weight: Option<Tensor<1>> },
    Mse,
    L1,
    SmoothL1 { beta: f64 },
    BceWithLogits { pos_weight: Option<Tensor<1>> },
}

impl Loss {
    /// The mean over the batch, as PyTorch's default reduction has it; the gradient flows to `output` where that is
    /// tracked.
    ///
    /// *Shapes* output `[batch, outputs]`, result `[1]`.
    ///
    /// # Panics
    /// When the target is not of the kind of [`LossSpec::takes_classes`], or numbers have not the shape of the output.
    pub fn forward(&self, output: Tensor<2>, target: Target) -> Tensor<1> {
        match (self, target) {
            (Self::CrossEntropy { label_smoothing, weight }, Target::Classes(labels)) => {
                let labels = beside(labels, &output);
                let weight = weight.clone().map(|weight| beside(weight, &output));
                if *label_smoothing == 0.0 && weight.is_none() {
                    return cross_entropy(output, labels);
                }
                smoothed_cross_entropy(output, labels, weight, *label_smoothing)
            }
            (Self::CrossEntropy { .. }, Target::Numbers(_)) => panic!("cross-entropy takes classes"),
            (_, Target::Classes(_)) => panic!("this loss takes numbers"),
            (_, Target::Numbers(target)) => {
                // Burn would spread one column over all outputs.
                assert_eq!(target.dims(), output.dims(), "there is a number for each output");
                let target = beside(target, &output);
                self.of_numbers(output, target).mean()
            }
        }
    }

    fn of_numbers(&self, output: Tensor<2>, target: Tensor<2>) -> Tensor<2> {
        match self {
            Self::CrossEntropy { .. } => unreachable!("`forward` refuses numbers"),
            Self::Mse => (output - target).square(),
            Self::SmoothL1 { beta } if *beta > 0.0 => {
                let error = (output - target).abs();
                let squared = error.clone().square().mul_scalar(0.5).div_scalar(*beta);
                let small = error.clone().lower_scalar(*beta);
                error.sub_scalar(0.5 * beta).mask_where(small, squared)
            }
            Self::L1 | Self::SmoothL1 { .. } => (output - target).abs(),
            Self::BceWithLogits { pos_weight } => {
                // -log(1 - sigmoid(x)) is x - log sigmoid(x).
                let log_sigmoid = log_sigmoid(output.clone());
                let hit = match pos_weight {
                    Some(weight) => {
                        let weight = beside(weight.clone(), &output).unsqueeze::<2>();
                        log_sigmoid * (target.clone() * weight.sub_scalar(1.0)).add_scalar(1.0)
                    }
                    None => log_sigmoid,
                };
                (target.neg().add_scalar(1.0)) * output - hit
            }
        }
    }
}

/// A tensor that can be computed with beside `output`: burn does not mix tracked and other tensors.
fn beside<const D: usize, K: Autodiff>(tensor: Tensor<D, K>, output: &Tensor<2>) -> Tensor<D, K> {
    if output.device().is_autodiff() { tensor.autodiff() } else { tensor }
}

/// The mean over the batch of `-log softmax(logits)[label]`, as `torch.nn.CrossEntropyLoss`.
///
/// *Shapes* logits `[batch, classes]`, labels `[batch]`, result `[1]`.
pub fn cross_entropy(logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
    let picked = log_softmax(logits, 1).gather(1, labels.unsqueeze_dim(1));
    picked.mean().neg()
}

/// The same, where a part of each target goes to all classes and each row counts as much as its class does.
fn smoothed_cross_entropy(
    logits: Tensor<2>,
    labels: Tensor<1, Int>,
    weight: Option<Tensor<1>>,
    label_smoothing: f64,
) -> Tensor<1> {
    let [_, classes] = logits.dims();
    let weight = weight.unwrap_or_else(|| Tensor::ones([classes], &logits.device()));
    let log = log_softmax(logits, 1).neg() * weight.clone().unsqueeze();
    // Weighed by its own class already.
    let picked = log.clone().gather(1, labels.clone().unsqueeze_dim(1)).sum();
    let all = weight.select(0, labels).sum();
    let share = label_smoothing / crate::metrics::exact_count(classes);
    (picked.mul_scalar(1.0 - label_smoothing) + log.sum().mul_scalar(share)) / all
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::learn::testing::{golden, labels, largest_difference, list, mistake, parse, singles, tensor, text};

    const SHAPE: [usize; 2] = [5, 4];

    #[test]
    fn losses_and_their_gradients_are_pytorchs() {
        let (golden, mut largest) = (golden("losses"), (0.0_f64, 0.0_f64));
        for case in list(&golden["cases"]) {
            let spec = parse(text(&case["toml"]), LossSpec::parse).expect("a loss");
            let loss = spec.init(SHAPE[1], &Device::flex()).expect("it fits");
            let target = || match spec.takes_classes() {
                true => Target::Classes(labels(&case["target"])),
                false => Target::Numbers(tensor(&case["target"], SHAPE)),
            };
            let output: Tensor<2> = tensor(&golden["output"], SHAPE);
            let untracked: f32 = loss.forward(output.clone(), target()).into_scalar();
            let leaf = output.autodiff().require_grad();
            let value = loss.forward(leaf.clone(), target());
            let gradient = leaf.grad(&value.backward()).expect("it is tracked");
            let gradient: Vec<f32> = gradient.try_into_vec_as().expect("the CPU does not fail");
            let value: f32 = value.into_scalar();
            assert_eq!(value, untracked, "{spec:?}");
            let expected = singles(&serde_json::json!([case["loss"]]));
            let value = largest_difference(&[value], &expected, 0.0);
            // A gradient is a mean's: of 20 numbers, or of 5 rows.
            let gradient = largest_difference(&gradient, &singles(&case["gradient"]), 1e-2);
            assert!(value < 1e-6 && gradient < 1e-6, "{spec:?}: {value:.1e}, gradient {gradient:.1e}");
            largest = (largest.0.max(value), largest.1.max(gradient));
        }
        println!("largest differences from PyTorch: of a loss {:.1e}, of a gradient {:.1e}", largest.0, largest.1);
    }

    #[test]
    fn a_loss_far_out_is_still_a_number() {
        let device = Device::flex();
        let output = || Tensor::<2>::from_data([[200.0, -200.0]], &device).autodiff().require_grad();
        let target = Target::Numbers(Tensor::from_data([[0.0, 1.0]], &device));
        let loss = LossSpec::BceWithLogits { pos_weight: Vec::new() }.init(2, &device).expect("it fits");
        let leaf = output();
        let value = loss.forward(leaf.clone(), target);
        assert_eq!(
            leaf.grad(&value.backward()).expect("it is tracked").into_data(),
            TensorData::from([[0.5_f32, -0.5]])
        );
        assert_eq!(value.into_scalar::<f32>(), 200.0);
        let loss = LossSpec::default().init(2, &device).expect("it fits");
        let value = loss.forward(output(), Target::Classes(Tensor::from_data([1], &device)));
        assert_eq!(value.into_scalar::<f32>(), 400.0);
    }

    #[test]
    fn what_is_wrong_in_a_loss_is_said() {
        let check = |keys: &str, expected: Expect| expected.assert_eq(&mistake(keys, LossSpec::parse));
        check("", expect!["nothing"]);
        check(
            "kind = 'crossentropy'",
            expect!["line 1: unknown kind of loss `crossentropy`: did you mean `cross-entropy`?"],
        );
        check(
            "kind = 'hinge'",
            expect![
                "line 1: unknown kind of loss `hinge`: it may be `cross-entropy`, `mse`, `l1`, `smooth-l1`, `bce-with-logits`"
            ],
        );
        check("kind = 'mse'\nbeta = 1", expect!["line 2: unknown key `beta` in [table] (mse): it may have `kind`"]);
        check("label_smoothing = 1.5", expect!["line 1: `label_smoothing` is 1.5: it must be from 0 to 1"]);
        check("weight = [1, -1]", expect!["line 1: `weight` must have a number, and none of them below 0"]);
        check("kind = 'smooth-l1'\nbeta = -1", expect!["line 2: `beta` is -1: it must be 0 or more"]);
        let misfit = |keys: &str| {
            let spec = parse(keys, LossSpec::parse).expect("a loss");
            spec.init(4, &Device::flex()).map_or_else(|error| error.to_string(), |_| "nothing".to_owned())
        };
        expect!["[loss] says 2 numbers for `weight`, but the model has 4 outputs: write one for each"]
            .assert_eq(&misfit("weight = [1, 2]"));
        expect!["[loss] says 1 numbers for `weight`, but the model has 4 outputs: write one for each"]
            .assert_eq(&misfit("weight = 1"));
        expect!["nothing"].assert_eq(&misfit("kind = 'bce-with-logits'\npos_weight = 2"));
    }
}
