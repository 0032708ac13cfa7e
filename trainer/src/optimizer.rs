//! How a model learns from its gradients.
//!
//! ```toml
//! [optimizer]                    # optional; `--optimizer` and `--lr` override it
//! kind = "adam"                  # adam unless given
//! lr = 0.001                     # the learning rate
//! ```
//!
//! | kind | keys (PyTorch's names, meanings and defaults) |
//! |---|---|
//! | `sgd` | `lr` (0.001), `momentum` (0), `dampening` (0), `nesterov` (false), `weight_decay` (0) |
//! | `adam` | `lr` (0.001), `betas` ([0.9, 0.999]), `eps` (1e-8), `weight_decay` (0) |
//! | `adamw` | as `adam`, but `weight_decay` (0.01) shrinks the parameter itself |
//! | `rmsprop` | `lr` (0.01), `alpha` (0.99), `eps` (1e-8), `momentum` (0), `centered` (false), `weight_decay` (0) |

mod file;
mod gradients;
mod number;
mod pass;
mod rule;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub use self::file::OptimizerError;
pub(crate) use self::file::{Entries, below};
pub use self::gradients::Gradients;
use self::rule::State;
pub use self::rule::{Adam, RmsProp, Rule, Sgd};
use crate::model::Sequential;
use crate::section::{Bound, Mistake, Section};
use crate::state::Parameter;

/// A kind of optimizer, by the name that is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Stochastic gradient descent.
    Sgd,
    /// Adam.
    Adam,
    /// Adam with decoupled weight decay.
    #[value(name = "adamw")]
    AdamW,
    /// RMSprop.
    #[value(name = "rmsprop")]
    RmsProp,
}

/// Every kind of optimizer, by the name it has in a file.
const KINDS: [(&str, OptimizerKind); 4] = [
    ("sgd", OptimizerKind::Sgd),
    ("adam", OptimizerKind::Adam),
    ("adamw", OptimizerKind::AdamW),
    ("rmsprop", OptimizerKind::RmsProp),
];

impl std::fmt::Display for OptimizerKind {
    /// Writes it as it is typed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = KINDS.iter().find(|(_, kind)| kind == self).map(|(name, _)| name);
        f.write_str(name.expect("`KINDS` has them all"))
    }
}

impl OptimizerKind {
    /// Makes an optimizer with PyTorch's defaults that has seen no gradient.
    pub fn init(self) -> Optimizer {
        OptimizerSpec::of(self).init()
    }
}

/// An optimizer as the file or the command line states it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OptimizerSpec {
    /// The learning rate, above 0.
    pub lr: f64,
    /// What it does with a gradient.
    #[serde(flatten)]
    pub rule: Rule,
}

impl Default for OptimizerSpec {
    fn default() -> Self {
        Self::of(OptimizerKind::Adam)
    }
}

impl OptimizerSpec {
    /// A kind with PyTorch's defaults.
    pub fn of(kind: OptimizerKind) -> Self {
        match kind {
            OptimizerKind::Sgd => Self { lr: 1e-3, rule: Rule::Sgd(Sgd::default()) },
            OptimizerKind::Adam => Self { lr: 1e-3, rule: Rule::Adam(Adam::default()) },
            OptimizerKind::AdamW => Self { lr: 1e-3, rule: Rule::AdamW(Adam::decoupled()) },
            OptimizerKind::RmsProp => Self { lr: 1e-2, rule: Rule::RmsProp(RmsProp::default()) },
        }
    }

    /// What kind it is of.
    pub fn kind(&self) -> OptimizerKind {
        match self.rule {
            Rule::Sgd(_) => OptimizerKind::Sgd,
            Rule::Adam(_) => OptimizerKind::Adam,
            Rule::AdamW(_) => OptimizerKind::AdamW,
            Rule::RmsProp(_) => OptimizerKind::RmsProp,
        }
    }

    /// What it remembers of each parameter, by PyTorch's names.
    pub(crate) fn remembers(&self) -> &'static [&'static str] {
        self.rule.remembers()
    }

    /// This one where nothing else was typed. Another kind has its own defaults, also for the learning rate.
    pub fn or_typed(self, kind: Option<OptimizerKind>, lr: Option<f64>) -> Self {
        let spec = kind.filter(|kind| *kind != self.kind()).map_or(self, Self::of);
        Self { lr: lr.unwrap_or(spec.lr), ..spec }
    }

    /// Takes the keys of `[optimizer]`.
    pub(crate) fn parse(section: &mut Section<'_>) -> Result<Self, Mistake> {
        let kind = section.kind("optimizer", &KINDS, Some(("adam", OptimizerKind::Adam)))?;
        let Self { lr, rule } = Self::of(kind);
        let lr = section.bounded("lr", Bound::ABOVE_0)?.unwrap_or(lr);
        let rule = match rule {
            Rule::Sgd(default) => Rule::Sgd(parse_sgd(section, default)?),
            Rule::Adam(default) => Rule::Adam(parse_adam(section, default)?),
            Rule::AdamW(default) => Rule::AdamW(parse_adam(section, default)?),
            Rule::RmsProp(default) => Rule::RmsProp(parse_rms_prop(section, default)?),
        };
        Ok(Self { lr, rule })
    }

    /// Makes an optimizer that has seen no gradient.
    pub fn init(&self) -> Optimizer {
        Optimizer { rule: self.rule, states: Vec::new() }
    }
}

fn parse_sgd(section: &mut Section<'_>, default: Sgd) -> Result<Sgd, Mistake> {
    let sgd = Sgd {
        momentum: section.bounded("momentum", Bound::FROM_0)?.unwrap_or(default.momentum),
        dampening: section.bounded("dampening", Bound::FROM_0)?.unwrap_or(default.dampening),
        nesterov: section.boolean("nesterov")?.unwrap_or(default.nesterov),
        weight_decay: section.bounded("weight_decay", Bound::FROM_0)?.unwrap_or(default.weight_decay),
    };
    if sgd.nesterov && (sgd.momentum == 0.0 || sgd.dampening != 0.0) {
        return Err(section.mistake_at("nesterov", "needs a `momentum` above 0, and no `dampening`"));
    }
    Ok(sgd)
}

fn parse_adam(section: &mut Section<'_>, default: Adam) -> Result<Adam, Mistake> {
    let betas = match section.numbers("betas")?.as_deref() {
        None => default.betas,
        Some(&[beta_1, beta_2]) if Bound::BELOW_1.holds(&[beta_1, beta_2]) => [beta_1, beta_2],
        Some(_) => {
            return Err(section.mistake_at("betas", "must be two numbers from 0 to below 1, such as [0.9, 0.999]"));
        }
    };
    let eps = section.bounded("eps", Bound::FROM_0)?.unwrap_or(default.eps);
    let weight_decay = section.bounded("weight_decay", Bound::FROM_0)?.unwrap_or(default.weight_decay);
    Ok(Adam { betas, eps, weight_decay })
}

fn parse_rms_prop(section: &mut Section<'_>, default: RmsProp) -> Result<RmsProp, Mistake> {
    Ok(RmsProp {
        alpha: section.bounded("alpha", Bound::BELOW_1)?.unwrap_or(default.alpha),
        eps: section.bounded("eps", Bound::FROM_0)?.unwrap_or(default.eps),
        momentum: section.bounded("momentum", Bound::FROM_0)?.unwrap_or(default.momentum),
        centered: section.boolean("centered")?.unwrap_or(default.centered),
        weight_decay: section.bounded("weight_decay", Bound::FROM_0)?.unwrap_or(default.weight_decay),
    })
}

/// What an optimizer that counts calls the number of gradients it has seen.
const STEP: &str = "step";

/// An optimizer, and what it remembers of each parameter.
///
/// Burn's own `ModuleOptimizer` knows parameters by numbers that are drawn anew for every model, and reads its record
/// back on a device that it chooses itself. This one knows them by their place in the model, and by name in a file.
#[derive(Clone, Debug)]
pub struct Optimizer {
    rule: Rule,
    /// In the order of [`Sequential::parameters`]; none for what has seen no gradient, empty while nothing has.
    states: Vec<Option<State>>,
}

impl Optimizer {
    /// Changes every parameter that has a gradient. Takes the model whole: parameters are written in place when nobody
    /// else holds them.
    pub fn step(&mut self, lr: f64, model: Sequential, gradients: Gradients) -> Sequential {
        self.states.resize(gradients.each.len(), None);
        let each = gradients.each.into_iter().zip(&mut self.states);
        model.map(&mut Step { rule: self.rule, lr, each })
    }

    /// What it remembers of `model`, as a safetensors file; the same memory is always the same file.
    ///
    /// # Errors
    /// When the device fails, or there is too much of it.
    pub fn to_bytes(&self, model: &Sequential) -> Result<Vec<u8>, OptimizerError> {
        self.entries(&model.parameters())?.to_bytes()
    }

    /// Remembers what [`to_bytes`](Self::to_bytes) wrote for a model like `model`, on the device it computes on.
    ///
    /// # Errors
    /// [`OptimizerError`] when it was written for another model or by another kind of optimizer.
    pub fn restore(&mut self, bytes: &[u8], model: &Sequential, device: &Device) -> Result<(), OptimizerError> {
        *self = self.restored(Entries::parse(bytes)?, model, device)?;
        Ok(())
    }

    /// The same optimizer with what `entries` say of `model`, which must be all that they say.
    pub(crate) fn restored(
        &self,
        mut entries: Entries,
        model: &Sequential,
        device: &Device,
    ) -> Result<Self, OptimizerError> {
        let states = self.states_of(&mut entries, model, device);
        entries.finish()?;
        Ok(Self { rule: self.rule, states: states? })
    }

    /// What it remembers, under `NAME.exp_avg` and the like.
    pub(crate) fn entries(&self, parameters: &[Parameter]) -> Result<Entries, OptimizerError> {
        let mut entries = Entries::default();
        for (parameter, state) in parameters.iter().zip(&self.states) {
            let Some(State { steps, tensors }) = state else { continue };
            for (what, tensor) in self.rule.remembers().iter().zip(tensors) {
                entries.put(parameter, what, tensor)?;
            }
            if self.rule.counts() {
                entries.put_count(below(parameter, STEP), *steps);
            }
        }
        Ok(entries)
    }

    fn states_of(
        &self,
        entries: &mut Entries,
        model: &Sequential,
        device: &Device,
    ) -> Result<Vec<Option<State>>, OptimizerError> {
        let parameters = model.parameters();
        let state = |parameter| self.state_of(parameter, entries, device);
        // All are taken before the first mistake counts: what is left over then is foreign.
        let states: Vec<_> = parameters.iter().map(state).collect();
        let states: Vec<_> = states.into_iter().collect::<Result<_, _>>()?;
        if states.iter().all(Option::is_none) {
            // It has seen no gradient, or remembers nothing.
            return Ok(Vec::new());
        }
        complete(model, &parameters, states, |parameter| parameter.name.clone())
    }

    /// What is remembered of one parameter; none when nothing is.
    fn state_of(
        &self,
        parameter: &Parameter,
        entries: &mut Entries,
        device: &Device,
    ) -> Result<Option<State>, OptimizerError> {
        let remembers = self.rule.remembers();
        let tensors: Vec<_> = remembers.iter().map(|what| entries.take(parameter, what, device)).collect();
        let steps = if self.rule.counts() { entries.take_count(&below(parameter, STEP)) } else { None };
        if tensors.iter().all(Option::is_none) && steps.is_none() {
            return Ok(None);
        }
        let missing = |what: &str| OptimizerError::Missing { name: below(parameter, what) };
        let tensors = tensors.into_iter().zip(remembers).map(|(tensor, what)| tensor.ok_or_else(|| missing(what)));
        let tensors = tensors.collect::<Result<_, _>>()?;
        let steps = if self.rule.counts() { steps.ok_or_else(|| missing(STEP))? } else { 0 };
        Ok(Some(State { steps, tensors }))
    }
}

/// Makes sure that there is something `about` every parameter that learns; what there is not is missing under its name.
pub(crate) fn complete<T>(
    model: &Sequential,
    parameters: &[Parameter],
    about: Vec<Option<T>>,
    name: fn(&Parameter) -> String,
) -> Result<Vec<Option<T>>, OptimizerError> {
    let mut learns = Learns(Vec::new());
    model.visit(&mut learns);
    let missing = parameters.iter().zip(&about).zip(learns.0).find(|((_, about), learns)| about.is_none() && *learns);
    match missing {
        Some(((parameter, _), _)) => Err(OptimizerError::Missing { name: name(parameter) }),
        None => Ok(about),
    }
}

/// Walks a module and asks of each parameter whether it learns.
struct Learns(Vec<bool>);

impl ModuleVisitor for Learns {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push(param.is_require_grad());
    }
}

/// Walks a module and changes its parameters, each by its gradient.
struct Step<I> {
    rule: Rule,
    lr: f64,
    each: I,
}

impl<'a, I: Iterator<Item = (Option<Tensor<1>>, &'a mut Option<State>)>> ModuleMapper for Step<I> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (gradient, state) = self.each.next().expect("there is a place for each parameter");
        let Some(gradient) = gradient else { return param };
        let (id, tensor, mapper) = param.consume();
        let state = state.get_or_insert_with(|| State { steps: 0, tensors: Vec::new() });
        let tensor = self.rule.step(self.lr, tensor.inner(), gradient, state);
        Param::from_mapped_value(id, Tensor::from_inner(tensor).require_grad(), mapper)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use safetensors::SafeTensors;

    use super::*;
    use crate::learn::testing::{
        self, classes, golden, images, largest_difference, list, mistake, numbers_of, parse, singles, text,
        with_numbers,
    };
    use crate::loss::cross_entropy;

    fn model(outputs: usize) -> Sequential {
        testing::model(&[5, outputs])
    }

    fn gradients(model: &Sequential, step: u16) -> Gradients {
        let rows = 2 * step..2 * step + 2;
        let loss = cross_entropy(model.logits(images(rows.clone()).autodiff()), classes(rows).autodiff());
        Gradients::of(&loss, model)
    }

    #[test]
    fn a_hundred_steps_are_pytorchs() {
        let golden = golden("optimizers");
        let gradients: Vec<_> = list(&golden["gradients"]).iter().map(singles).collect();
        let (mut largest, mut seen_steps): (f64, usize) = (0.0, 0);
        for case in list(&golden["cases"]) {
            let spec = parse(text(&case["toml"]), OptimizerSpec::parse).expect("an optimizer");
            let mut model = with_numbers(testing::model(&[3]), &singles(&golden["first"]));
            let (mut optimizer, mut largest_here) = (spec.init(), 0.0_f64);
            let seen = list(&golden["seen"]).iter().zip(list(&case["seen"]));
            let mut seen = seen.map(|(step, numbers)| (step.as_u64(), singles(numbers))).peekable();
            for (step, numbers) in (1..).zip(&gradients) {
                let gradients = testing::gradients(&model, numbers);
                model = optimizer.step(spec.lr, model, gradients);
                if let Some((_, expected)) = seen.next_if(|(seen, _)| *seen == Some(step)) {
                    largest_here = largest_here.max(largest_difference(&numbers_of(&model), &expected, spec.lr));
                    seen_steps += 1;
                }
            }
            println!("{largest_here:.1e} {}", text(&case["toml"]).replace('\n', ", "));
            assert!(largest_here < 1e-5, "{spec:?}: {largest_here:.1e}");
            largest = largest.max(largest_here);
        }
        assert_eq!(seen_steps, 8 * 15);
        println!("largest difference from PyTorch over 100 steps, relative to a parameter or the rate: {largest:.1e}");
    }

    const EVERY_MEMORY: [&str; 8] = [
        "kind = 'sgd'",
        "kind = 'sgd'\nmomentum = 0.9",
        "kind = 'adam'",
        "kind = 'adamw'",
        "kind = 'rmsprop'",
        "kind = 'rmsprop'\nmomentum = 0.9",
        "kind = 'rmsprop'\ncentered = true",
        "kind = 'rmsprop'\nmomentum = 0.9\ncentered = true",
    ];

    #[test]
    fn what_it_remembers_survives_a_file() {
        for keys in EVERY_MEMORY {
            let spec = parse(keys, OptimizerSpec::parse).expect("an optimizer");
            let (mut model, mut optimizer) = (model(3), spec.init());
            let unused = optimizer.to_bytes(&model).expect("it fits into a file");
            optimizer.restore(&unused, &model, &Device::flex()).expect("it was written for it");
            for step in 0..3 {
                model = optimizer.step(0.01, model.clone(), gradients(&model, step));
            }
            let bytes = optimizer.to_bytes(&model).expect("it fits into a file");
            let mut restored = spec.init();
            restored.restore(&bytes, &model, &Device::flex()).expect("it was written for it");
            assert_eq!(restored.to_bytes(&model).expect("it fits into a file"), bytes, "{keys}");
            let next =
                |mut optimizer: Optimizer| numbers_of(&optimizer.step(0.01, model.clone(), gradients(&model, 3)));
            let expected = next(optimizer);
            assert_eq!(next(restored), expected, "{keys}");
            assert_eq!(next(spec.init()) != expected, keys != EVERY_MEMORY[0], "{keys}");
        }
    }

    #[test]
    fn a_file_has_pytorchs_words() {
        let names = |keys: &str| {
            let spec = parse(keys, OptimizerSpec::parse).expect("an optimizer");
            let (model, mut optimizer) = (testing::model(&[3]), spec.init());
            let model = optimizer.step(0.01, model.clone(), gradients(&model, 0));
            let bytes = optimizer.to_bytes(&model).expect("it fits into a file");
            let file = SafeTensors::deserialize(&bytes).expect("it was just written");
            let mut names: Vec<_> = file.iter().map(|(name, view)| format!("{name} {:?}", view.shape())).collect();
            names.retain(|name| name.contains("bias"));
            names.sort();
            names
                .iter()
                .map(|name| name.split_once("bias.").map_or("", |(_, rest)| rest))
                .collect::<Vec<_>>()
                .join(", ")
        };
        expect![[r#"
            kind = 'sgd': 
            kind = 'sgd', momentum = 0.9: momentum_buffer [3]
            kind = 'adam': exp_avg [3], exp_avg_sq [3], step []
            kind = 'adamw': exp_avg [3], exp_avg_sq [3], step []
            kind = 'rmsprop': square_avg [3]
            kind = 'rmsprop', momentum = 0.9: momentum_buffer [3], square_avg [3]
            kind = 'rmsprop', centered = true: grad_avg [3], square_avg [3]
            kind = 'rmsprop', momentum = 0.9, centered = true: grad_avg [3], momentum_buffer [3], square_avg [3]"#]]
        .assert_eq(&EVERY_MEMORY.map(|keys| format!("{}: {}", keys.replace('\n', ", "), names(keys))).join("\n"));
    }

    /// Where the numbers of each parameter lie; takes the model whole, so that nothing is copied.
    fn places(model: Sequential) -> (Sequential, Vec<*const u8>) {
        struct Places(Vec<*const u8>);
        impl ModuleMapper for Places {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let (id, tensor, mapper) = param.consume();
                let data = tensor.inner().into_data();
                self.0.push(data.as_bytes().as_ptr());
                let tensor = Tensor::from_data(data, &Device::flex().autodiff());
                Param::from_mapped_value(id, tensor.require_grad(), mapper)
            }
        }
        let mut places = Places(Vec::new());
        (model.map(&mut places), places.0)
    }

    #[test]
    fn a_model_that_nobody_else_holds_learns_where_it_lies() {
        let (mut model, before) = places(model(3));
        let mut optimizer = OptimizerKind::Adam.init();
        for step in 0..2 {
            let gradients = gradients(&model, step);
            model = optimizer.step(0.01, model, gradients);
        }
        assert_eq!(places(model).1, before);
        assert_eq!(before.len(), 4);
    }

    #[test]
    fn what_does_not_learn_stays_as_it_is() {
        for keys in EVERY_MEMORY {
            let spec = parse(keys, OptimizerSpec::parse).expect("an optimizer");
            let mut model = with_numbers(testing::model(&[3]), &[0.5; 15]);
            let layer =
                model.layer_mut(1).and_then(|layer| layer.downcast_mut::<burn::nn::Linear>()).expect("it is linear");
            layer.bias = layer.bias.take().map(|bias| bias.set_require_grad(false));
            let mut optimizer = spec.init();
            for step in 0..2 {
                model = optimizer.step(0.1, model.clone(), gradients(&model, step));
            }
            let numbers = numbers_of(&model);
            assert!(numbers[..12].iter().any(|number| *number != 0.5), "{keys}");
            assert_eq!(numbers[12..], [0.5; 3], "{keys}");
            let bytes = optimizer.to_bytes(&model).expect("it fits into a file");
            spec.init().restore(&bytes, &model, &Device::flex()).expect("nothing is missing");
        }
    }

    #[test]
    fn what_it_remembers_of_another_model_is_refused() {
        let (mut model, mut optimizer) = (model(3), OptimizerKind::Adam.init());
        model = optimizer.step(0.01, model.clone(), gradients(&model, 0));
        let refused = |kind: OptimizerKind, bytes: &[u8], outputs, expected: Expect| {
            let error = kind.init().restore(bytes, &self::model(outputs), &Device::flex());
            expected.assert_eq(&error.expect_err("it is of another").to_string());
        };
        let bytes = optimizer.to_bytes(&model).expect("it fits into a file");
        refused(
            OptimizerKind::Adam,
            &bytes,
            4,
            expect!["`3.bias.exp_avg` is not what this model's optimizer remembers"],
        );
        refused(
            OptimizerKind::Sgd,
            &bytes,
            3,
            expect!["`1.bias.exp_avg` is not what this model's optimizer remembers"],
        );
        let cut = &bytes[..bytes.len() - 1];
        refused(OptimizerKind::Adam, cut, 3, expect!["incomplete metadata, file not fully covered"]);
        let less = |change: fn(&mut Optimizer)| {
            let mut less = optimizer.clone();
            change(&mut less);
            less.to_bytes(&model).expect("it fits into a file")
        };
        let bytes = less(|optimizer| optimizer.states.truncate(3));
        refused(OptimizerKind::Adam, &bytes, 3, expect!["there is nothing about `3.bias`"]);
        let bytes = less(|optimizer| drop(optimizer.states[1].as_mut().expect("it was stepped").tensors.pop()));
        refused(OptimizerKind::Adam, &bytes, 3, expect!["there is nothing about `1.bias.exp_avg_sq`"]);
    }

    #[test]
    fn what_was_typed_comes_before_the_file() {
        let file = parse("kind = 'sgd'\nlr = 0.5\nmomentum = 0.9", OptimizerSpec::parse).expect("an optimizer");
        assert_eq!(file.or_typed(None, None), file);
        assert_eq!(file.or_typed(Some(OptimizerKind::Sgd), Some(0.25)), OptimizerSpec { lr: 0.25, ..file });
        assert_eq!(file.or_typed(Some(OptimizerKind::RmsProp), None), OptimizerSpec::of(OptimizerKind::RmsProp));
        assert_eq!(OptimizerSpec::default().or_typed(None, None), OptimizerSpec::of(OptimizerKind::Adam));
        for keys in EVERY_MEMORY {
            let spec = parse(keys, OptimizerSpec::parse).expect("an optimizer");
            let text = serde_json::to_string(&spec).expect("it has a JSON form");
            assert_eq!(serde_json::from_str::<OptimizerSpec>(&text).expect("it was just written"), spec);
        }
    }

    #[test]
    fn a_kind_is_called_the_same_everywhere() {
        for kind in OptimizerKind::value_variants() {
            let name = kind.to_string();
            assert_eq!(OptimizerKind::from_str(&name, false), Ok(*kind));
            assert_eq!(serde_json::json!(kind), serde_json::json!(name));
            assert_eq!(serde_json::json!(OptimizerSpec::of(*kind))["kind"], serde_json::json!(name));
        }
    }

    #[test]
    fn what_is_wrong_in_an_optimizer_is_said() {
        let check = |keys: &str, expected: Expect| expected.assert_eq(&mistake(keys, OptimizerSpec::parse));
        check("", expect!["nothing"]);
        check("kind = 'adma'", expect!["line 1: unknown kind of optimizer `adma`: did you mean `adam`?"]);
        check(
            "kind = 'lion'",
            expect!["line 1: unknown kind of optimizer `lion`: it may be `sgd`, `adam`, `adamw`, `rmsprop`"],
        );
        check("lr = 0", expect!["line 1: `lr` is 0: it must be above 0"]);
        check("lr = 'fast'", expect![[r#"line 1: `lr` is "fast": it must be a number"#]]);
        check(
            "kind = 'adam'\nmomentum = 0.9",
            expect![
                "line 2: unknown key `momentum` in [table] (adam): it may have `kind`, `lr`, `betas`, `eps`, `weight_decay`"
            ],
        );
        check("betas = 0.9", expect!["line 1: `betas` must be two numbers from 0 to below 1, such as [0.9, 0.999]"]);
        check(
            "betas = [0.9, 1]",
            expect!["line 1: `betas` must be two numbers from 0 to below 1, such as [0.9, 0.999]"],
        );
        check("kind = 'sgd'\nmomentum = -1", expect!["line 2: `momentum` is -1: it must be 0 or more"]);
        check(
            "kind = 'sgd'\nnesterov = true",
            expect!["line 2: `nesterov` needs a `momentum` above 0, and no `dampening`"],
        );
        check("kind = 'rmsprop'\nalpha = 1", expect!["line 2: `alpha` is 1: it must be from 0 to below 1"]);
        check("kind = 'rmsprop'\ncentered = 1", expect!["line 2: `centered` is 1: it must be true or false"]);
    }
}
