//! How a model learns from its gradients.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::{Adam, AdamConfig, DynOptimizer, DynState, GradientsParams, Sgd, SgdConfig, StateSink, StateSource};
use burn::tensor::{DType, Device, Tensor, TensorData};
use clap::ValueEnum;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::model::Sequential;
use crate::state::Parameter;

/// An optimizer with PyTorch's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Plain stochastic gradient descent.
    Sgd,
    /// Adam: betas 0.9 and 0.999, epsilon 1e-8.
    Adam,
}

impl std::fmt::Display for OptimizerKind {
    /// Writes it as it is typed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sgd => "sgd",
            Self::Adam => "adam",
        })
    }
}

impl OptimizerKind {
    /// Makes an optimizer that has seen no gradient.
    pub fn init(self) -> Optimizer {
        let rule = match self {
            Self::Sgd => Rule::Sgd(SgdConfig::new().build()),
            // Burn's own epsilon is 1e-5.
            Self::Adam => Rule::Adam(AdamConfig::new().with_epsilon(1e-8).build()),
        };
        Optimizer { rule, states: Vec::new() }
    }
}

/// Why what an optimizer remembers cannot be written or read.
#[derive(Debug, Error)]
pub enum OptimizerError {
    /// It is no safetensors file.
    #[error(transparent)]
    File(#[from] SafeTensorError),
    /// It is that of another model.
    #[error("`{name}` is not what this model's optimizer remembers")]
    Foreign {
        /// A tensor of it.
        name: String,
    },
    /// It ends too early.
    #[error("there is nothing about `{name}`")]
    Missing {
        /// A parameter.
        name: String,
    },
}

/// An optimizer, and what it remembers of each parameter.
///
/// Burn's own `ModuleOptimizer` knows parameters by numbers that are drawn anew for every model, and reads its record
/// back on a device that it chooses itself. This one knows them by their place in the model, and by name in a file.
#[derive(Clone)]
pub struct Optimizer {
    rule: Rule,
    /// In the order of [`Sequential::parameters`]; shorter while a parameter has seen no gradient.
    states: Vec<Option<DynState>>,
}

#[derive(Clone)]
enum Rule {
    Sgd(Sgd),
    Adam(Adam),
}

impl Rule {
    fn as_dyn(&self) -> &dyn DynOptimizer {
        match self {
            Self::Sgd(sgd) => sgd,
            Self::Adam(adam) => adam,
        }
    }
}

impl std::fmt::Debug for Optimizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rule = match self.rule {
            Rule::Sgd(_) => OptimizerKind::Sgd,
            Rule::Adam(_) => OptimizerKind::Adam,
        };
        f.debug_struct("Optimizer").field("rule", &rule).finish_non_exhaustive()
    }
}

impl Optimizer {
    /// Changes every parameter that has a gradient. Takes the model whole: parameters are written in place when nobody
    /// else holds them.
    pub fn step(&mut self, lr: f64, model: Sequential, gradients: GradientsParams) -> Sequential {
        model.map(&mut Step { optimizer: self, lr, gradients, parameter_idx: 0 })
    }

    /// What it remembers of `model`, as a safetensors file; the same memory is always the same file. Counts are numbers
    /// without a dimension.
    ///
    /// # Errors
    /// [`OptimizerError::File`] when there is too much of it.
    pub fn to_bytes(&self, model: &Sequential) -> Result<Vec<u8>, OptimizerError> {
        let mut sink = StateSink::default();
        for (parameter, state) in model.parameters().iter().zip(&self.states) {
            if let Some(state) = state {
                self.rule.as_dyn().state_flatten(&parameter.name, state, &mut sink);
            }
        }
        let tensors: Vec<_> = sink.tensors.into_iter().map(|(name, data)| (name, data.convert::<f32>())).collect();
        let counts = sink.scalars.into_iter().map(|(name, count)| {
            let count = u64::try_from(count).expect("the steps seen are all that SGD and Adam count");
            (name, count.to_le_bytes())
        });
        let counts: Vec<_> = counts.collect();
        let tensors = tensors.iter().map(|(name, data)| (name, Dtype::F32, data.shape().to_vec(), data.as_bytes()));
        let counts = counts.iter().map(|(name, count)| (name, Dtype::U64, Vec::new(), &count[..]));
        let views =
            tensors.chain(counts).map(|(name, dtype, shape, bytes)| Ok((name, TensorView::new(dtype, shape, bytes)?)));
        let views: Vec<_> = views.collect::<Result<_, SafeTensorError>>()?;
        Ok(safetensors::serialize(views, None)?)
    }

    /// Remembers what [`to_bytes`](Self::to_bytes) wrote for a model like `model`, on the device it computes on.
    ///
    /// # Errors
    /// [`OptimizerError`] when it was written for another model or by another kind of optimizer.
    pub fn restore(&mut self, bytes: &[u8], model: &Sequential, device: &Device) -> Result<(), OptimizerError> {
        let parameters = model.parameters();
        let file = SafeTensors::deserialize(bytes)?;
        let (mut counts, mut tensors) = (BTreeMap::new(), Vec::new());
        for (name, view) in &file.iter().collect::<BTreeMap<_, _>>() {
            let of = parameters.iter().find(|parameter| is_below(&parameter.name, name));
            let fits = |parameter: &&Parameter| view.dtype() == Dtype::F32 && view.shape() == parameter.burn_shape();
            match (of, <[u8; 8]>::try_from(view.data())) {
                (Some(_), Ok(count)) if view.dtype() == Dtype::U64 => {
                    counts.insert((*name).to_owned(), u64::from_le_bytes(count).into());
                }
                (Some(parameter), _) if fits(&parameter) => {
                    let data = TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), DType::F32);
                    tensors.push(((*name).to_owned(), data));
                }
                _ => return Err(OptimizerError::Foreign { name: (*name).to_owned() }),
            }
        }
        let mut source = StateSource::new(counts);
        tensors.into_iter().for_each(|(name, data)| source.insert_tensor(name, data));
        let state = |parameter: &Parameter| {
            let state = self.rule.as_dyn().state_unflatten(parameter.shape.len(), &parameter.name, &mut source, device);
            state.map(Some).ok_or_else(|| OptimizerError::Missing { name: parameter.name.clone() })
        };
        // An empty file: it has seen no gradient yet, or remembers nothing.
        self.states =
            if file.is_empty() { Vec::new() } else { parameters.iter().map(state).collect::<Result<_, _>>()? };
        Ok(())
    }
}

/// Whether `name` is `parent.` and something more.
fn is_below(parent: &str, name: &str) -> bool {
    name.strip_prefix(parent).is_some_and(|rest| rest.starts_with('.'))
}

/// Walks a module and changes its parameters.
struct Step<'a> {
    optimizer: &'a mut Optimizer,
    lr: f64,
    gradients: GradientsParams,
    parameter_idx: usize,
}

impl ModuleMapper for Step<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let states = &mut self.optimizer.states;
        if states.len() <= self.parameter_idx {
            states.push(None);
        }
        let state = &mut states[self.parameter_idx];
        self.parameter_idx += 1;
        let (id, tensor, mapper) = param.consume();
        let tensor = match self.gradients.remove(id) {
            Some(gradient) => {
                let before = state.take();
                let (tensor, after) = match &self.optimizer.rule {
                    Rule::Sgd(sgd) => step(sgd, self.lr, tensor.inner(), gradient, before),
                    Rule::Adam(adam) => step(adam, self.lr, tensor.inner(), gradient, before),
                };
                *state = after;
                Tensor::from_inner(tensor).require_grad()
            }
            None => tensor,
        };
        Param::from_mapped_value(id, tensor, mapper)
    }
}

/// Changes one parameter by one gradient.
fn step<O: burn::optim::Optimizer, const D: usize>(
    rule: &O,
    lr: f64,
    tensor: Tensor<D>,
    gradient: Tensor<D>,
    state: Option<DynState>,
) -> (Tensor<D>, Option<DynState>) {
    let (tensor, state) = rule.step(lr, tensor, gradient, state.map(DynState::downcast));
    (tensor, state.map(|state| DynState::create(state, D)))
}

#[cfg(test)]
mod tests {
    use burn::optim::ModuleOptimizer;
    use expect_test::{Expect, expect};

    use super::*;
    use crate::config::ModelSpec;
    use crate::loss::cross_entropy;
    use crate::shape::ImageShape;

    const SHAPE: ImageShape = ImageShape { height: 2, width: 2, channels: 1 };

    fn model(outputs: usize) -> Sequential {
        let text = format!(
            "[[layer]]\nkind = 'flatten'\n[[layer]]\nkind = 'linear'\nout_features = 5\n[[layer]]\nkind = 'relu'\n\
             [[layer]]\nkind = 'linear'\nout_features = {outputs}\n"
        );
        let spec = ModelSpec::parse(&text).expect("a model");
        Sequential::build(&spec, SHAPE, &Device::flex().autodiff()).expect("it fits")
    }

    fn gradients(model: &Sequential, step: u8) -> GradientsParams {
        let images: Vec<f32> = (0..8).map(|pixel| f32::from(pixel * 31 % 7 + step) / 7.0).collect();
        let images = Tensor::<1>::from_data(images.as_slice(), &Device::flex()).reshape([2, 1, 2, 2]).autodiff();
        let labels = Tensor::from_data([0, 1], &Device::flex());
        let loss = cross_entropy(model.logits(images), labels.autodiff());
        GradientsParams::from_grads(loss.backward(), model)
    }

    fn numbers(model: &Sequential) -> Vec<f32> {
        struct Numbers(Vec<f32>);
        impl burn::module::ModuleVisitor for Numbers {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                self.0.extend(param.val().into_data().iter::<f32>());
            }
        }
        let mut numbers = Numbers(Vec::new());
        model.visit(&mut numbers);
        numbers.0
    }

    #[test]
    fn it_learns_as_burns_own_does_to_the_bit() {
        let burns: [(OptimizerKind, ModuleOptimizer); 2] = [
            (OptimizerKind::Sgd, SgdConfig::new().init()),
            (OptimizerKind::Adam, AdamConfig::new().with_epsilon(1e-8).init()),
        ];
        for (kind, mut burns) in burns {
            let first = model(3);
            let (mut ours, mut theirs, mut optimizer) = (first.clone(), first.clone(), kind.init());
            for step in 0..5 {
                ours = optimizer.step(0.01, ours.clone(), gradients(&ours, step));
                theirs = burns.step(0.01, theirs.clone(), gradients(&theirs, step));
            }
            assert_eq!(numbers(&ours), numbers(&theirs), "{kind:?}");
            assert_ne!(numbers(&ours), numbers(&first), "{kind:?}");
        }
    }

    #[test]
    fn what_it_remembers_survives_a_file() {
        for (kind, remembers) in [(OptimizerKind::Sgd, false), (OptimizerKind::Adam, true)] {
            let (mut model, mut optimizer) = (model(3), kind.init());
            let unused = optimizer.to_bytes(&model).expect("it fits into a file");
            optimizer.restore(&unused, &model, &Device::flex()).expect("it was written for it");
            for step in 0..3 {
                model = optimizer.step(0.01, model.clone(), gradients(&model, step));
            }
            let bytes = optimizer.to_bytes(&model).expect("it fits into a file");
            let mut restored = kind.init();
            restored.restore(&bytes, &model, &Device::flex()).expect("it was written for it");
            assert_eq!(restored.to_bytes(&model).expect("it fits into a file"), bytes, "{kind:?}");
            let next = |mut optimizer: Optimizer| numbers(&optimizer.step(0.01, model.clone(), gradients(&model, 3)));
            let expected = next(optimizer);
            assert_eq!(next(restored), expected, "{kind:?}");
            assert_eq!(next(kind.init()) != expected, remembers, "{kind:?}");
        }
    }

    #[test]
    fn what_it_remembers_of_another_model_is_refused() {
        let (mut model, mut optimizer) = (model(3), OptimizerKind::Adam.init());
        model = optimizer.step(0.01, model.clone(), gradients(&model, 0));
        let bytes = optimizer.to_bytes(&model).expect("it fits into a file");
        let refused = |bytes: &[u8], outputs, expected: Expect| {
            let error = OptimizerKind::Adam.init().restore(bytes, &self::model(outputs), &Device::flex());
            expected.assert_eq(&error.expect_err("it is of another").to_string());
        };
        refused(&bytes, 4, expect!["`3.bias.momentum.moment_1` is not what this model's optimizer remembers"]);
        refused(&bytes[..bytes.len() - 1], 3, expect!["incomplete metadata, file not fully covered"]);
        let mut less = optimizer.clone();
        less.states.truncate(3);
        refused(&less.to_bytes(&model).expect("it fits into a file"), 3, expect!["there is nothing about `3.bias`"]);
    }
}
