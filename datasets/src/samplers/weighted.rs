//! Samples drawn by weight.

use toml::Value;

use super::numbers::Field;
use crate::column::Column;
use crate::nearest::suggestion;
use crate::options::{OptionKey, Options, real};
use crate::random::{Rng, WEIGHTED_OP};
use crate::sampler::{Population, Sampler, SamplerSource};
use crate::source::{Index, OpenError};
use crate::spec::SpecError;

/// The kind `weighted`: every place of an epoch is a draw of its own from all samples, each as likely as its weight
/// says (PyTorch's `WeightedRandomSampler`).
///
/// Options:
/// - one of `weights` and `column`:
///   - `weights`, by class: a table such as `{ cat = 2.0, dog = 0.5 }`, in which a class that is not named weighs 1, or
///     a list with a number for each class. It is the weight of each sample of the class, not of all together;
///   - `column`, the name of a number that the dataset knows of each sample: its weight;
/// - `field` (default "label"), which number of a sample is its class, for `weights`;
/// - `samples`, the draws of an epoch; as many as the dataset has samples where left out.
///
/// Weights are from 0 up, and need not add up to 1. A sample that weighs 0 is never drawn.
///
/// PyTorch's `replacement=False` is missing on purpose: which sample is drawn would then follow from all draws before
/// it, and a place could not be reached without them. `class-balanced` visits classes equally often without it.
#[derive(Debug)]
pub struct Weighted {
    weights: Weights,
    samples: Option<u64>,
}

#[derive(Debug)]
enum Weights {
    Column(Field),
    Classes { label: Field, weights: ByClass, key: OptionKey },
}

#[derive(Debug)]
enum ByClass {
    Named(Vec<(String, f64)>),
    Listed(Vec<f64>),
}

impl Weighted {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when one is missing or has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let samples = super::samples_from_options(options)?;
        if options.optional_boolean("replacement")? == Some(false) {
            let why = "each draw would follow from all before it; leave it out, or use the sampler `class-balanced`";
            return Err(options.error("replacement", format_args!("is false: {why}")));
        }
        let column = options.optional_string("column")?;
        let weights = match (options.value("weights"), column) {
            (None, Some(name)) => Weights::Column(Field { name, key: options.key("column") }),
            (Some(value), None) => {
                let expected = "a table { CLASS = WEIGHT, .. } or a list of weights, which are numbers from 0 up";
                let weights = by_class(&value)
                    .ok_or_else(|| options.error("weights", format_args!("is {value}, not {expected}")))?;
                let label = super::label_from_options(options)?;
                Weights::Classes { label, weights, key: options.key("weights") }
            }
            (Some(_), Some(_)) => return Err(options.error("weights", "stands beside `column`; give one of them")),
            (None, None) => {
                options.finish()?;
                return Err(options.error("weights", "or `column` is needed"));
            }
        };
        Ok(Self { weights, samples })
    }
}

impl SamplerSource for Weighted {
    /// The sums of the weights up to each sample.
    fn index(&self, population: &Population) -> Result<Vec<u8>, OpenError> {
        let (mut sums, mut sum) = (Vec::new(), 0.0_f64);
        let mut add = |weight: f64| {
            sum += weight;
            sums.extend(sum.to_le_bytes());
        };
        let key = match &self.weights {
            Weights::Column(field) => {
                let add = |weight| is_weight(weight).then(|| add(weight)).ok_or("a number from 0 up");
                field.each(population, add)?;
                &field.key
            }
            Weights::Classes { label, weights, key } => {
                let weights = weights.by_label(population.dataset.classes(), key)?;
                let weight = |number| class(number).and_then(|label| weights.get(label));
                let expected = || format!("a class from 0 to {}", weights.len().saturating_sub(1));
                label.each(population, |number| weight(number).map(|&weight| add(weight)).ok_or_else(expected))?;
                key
            }
        };
        // A subnormal sum has too few digits to be divided by draws.
        if population.samples > 0 && !sum.is_normal() {
            return Err(key.error(format_args!("has weights that add up to {sum:?}; no sample can be drawn")).into());
        }
        Ok(sums)
    }

    fn open(self: Box<Self>, population: &Population, index: Index) -> Result<Box<dyn Sampler>, OpenError> {
        let &Population { samples, seed, .. } = population;
        let sums = Column::open_of(index, samples)?;
        Ok(Box::new(Opened { samples: super::epoch_len(self.samples, samples), sums, seed }))
    }
}

impl ByClass {
    /// The weights by label, for a dataset of these classes.
    fn by_label(&self, classes: &[String], key: &OptionKey) -> Result<Vec<f64>, SpecError> {
        match self {
            Self::Listed(weights) if classes.is_empty() || classes.len() == weights.len() => Ok(weights.clone()),
            Self::Listed(weights) => {
                Err(key.error(format_args!("is a list of {} for {} classes", weights.len(), classes.len())))
            }
            Self::Named(named) => {
                let mut weights = vec![1.0; classes.len()];
                for (name, weight) in named {
                    let Some(label) = classes.iter().position(|class| class == name) else {
                        let right = suggestion(name, classes.iter().take(20).map(String::as_str));
                        return Err(
                            key.error(format_args!("names the class `{name}`, which the dataset does not have{right}"))
                        );
                    };
                    weights[label] = *weight;
                }
                Ok(weights)
            }
        }
    }
}

fn by_class(value: &Value) -> Option<ByClass> {
    let weight = |value: &Value| real(value).filter(|&number| is_weight(number));
    match value {
        Value::Array(items) => items.iter().map(weight).collect::<Option<_>>().map(ByClass::Listed),
        Value::Table(table) => {
            let named = table.iter().map(|(name, value)| Some((name.clone(), weight(value)?)));
            named.collect::<Option<_>>().map(ByClass::Named)
        }
        _ => None,
    }
}

fn is_weight(number: f64) -> bool {
    number >= 0.0 && number.is_finite()
}

/// The label that a number is, if it is one.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number from 0 to 2^32")]
fn class(number: f64) -> Option<usize> {
    (number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number)).then_some(number as usize)
}

/// The sums of the weights up to each sample.
#[derive(Debug)]
struct Opened {
    samples: u64,
    sums: Column,
    seed: u64,
}

impl Sampler for Opened {
    fn len(&self) -> u64 {
        self.samples
    }

    fn index(&self, epoch: u64, position: u64) -> u64 {
        let sums = self.sums.numbers();
        let total = sums.last().map_or(0.0, |sum| f64::from_le_bytes(*sum));
        let drawn = Rng::new(self.seed, epoch, position, 0, WEIGHTED_OP).uniform() * total;
        // The first whose sum is above: one that weighs nothing adds nothing, and is passed over.
        sums.partition_point(|sum| f64::from_le_bytes(*sum) <= drawn) as u64
    }
}
