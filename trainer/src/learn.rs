//! How a model learns from batch after batch: loss, schedule, clipping, accumulation and optimizer together.
//!
//! ```toml
//! [train]                        # optional
//! accumulate = 4                 # batches whose gradients are one step; 1 unless given
//! clip_norm = 1.0                # of all gradients as one vector
//! clip_value = 0.5               # of each number of them, before `clip_norm`
//! early_stopping = { metric = "test_loss", patience = 5, min_delta = 0, mode = "min" }
//! ```
//!
//! Accumulated gradients are averaged over their rows, as if they were those of one larger batch (with class weights in
//! the loss, a batch counts by its rows all the same). At the end of an epoch what is left over makes a step.
//!
//! A training that goes on (`--resume`) may have another schedule, clipping, patience, or numbers of the same optimizer,
//! and says so; not another loss, `accumulate`, or metric to stop by, for which what it remembers is of no use.
//!
//! All that decides about a step follows from its batch's position: its number, whether it is due, its rate.

mod early_stopping;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use batchmill_protocol::position::Position;
use burn::tensor::{Device, Tensor};

pub use self::early_stopping::{EarlyStopping, Standing, Watched};
use crate::loss::{Loss, LossError, LossSpec};
use crate::metrics::exact;
use crate::model::Sequential;
use crate::optimizer::{Entries, Gradients, Optimizer, OptimizerError, OptimizerSpec, below, complete};
use crate::schedule::{Length, Schedule};
use crate::section::{Bound, Mistake, Section};

/// What is accumulated, beside what the optimizer remembers: PyTorch's name.
const GRADIENT: &str = "grad";

/// What the rows of the accumulated gradients are called in the file.
const ROWS: &str = "accumulated_rows";

/// How a model learns, as the file states it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LearnSpec {
    /// `[loss]`.
    pub loss: LossSpec,
    /// `[optimizer]`.
    pub optimizer: OptimizerSpec,
    /// `[schedule]`.
    pub schedule: Schedule,
    /// `[train]`.
    pub train: TrainSpec,
}

/// What is done with gradients on their way to the optimizer, and when to stop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainSpec {
    /// Batches to a step, at least 1.
    pub accumulate: u64,
    /// The longest that all gradients may be, as one vector.
    pub clip_norm: Option<f64>,
    /// The largest that a number of them may be.
    pub clip_value: Option<f64>,
    /// When to end before the last epoch.
    pub early_stopping: Option<EarlyStopping>,
}

impl Default for TrainSpec {
    fn default() -> Self {
        Self { accumulate: 1, clip_norm: None, clip_value: None, early_stopping: None }
    }
}

impl LearnSpec {
    /// Takes the tables of a model file that say how to learn.
    pub(crate) fn parse(root: &mut Section<'_>) -> Result<Self, Mistake> {
        let spec = Self {
            loss: table(root, "loss", "[loss]", LossSpec::parse)?,
            optimizer: table(root, "optimizer", "[optimizer]", OptimizerSpec::parse)?,
            schedule: table(root, "schedule", "[schedule]", Schedule::parse)?,
            train: table(root, "train", "[train]", TrainSpec::parse)?,
        };
        let classes = spec.loss.takes_classes();
        match spec.train.early_stopping {
            Some(early) if !early.metric.is_of(classes) => {
                let targets = if classes { "classes" } else { "numbers" };
                let what = format!("has early_stopping by a metric that a loss of {targets} has not: take test_loss");
                Err(root.mistake_at("train", &what))
            }
            _ => Ok(spec),
        }
    }
}

/// What a model file says of learning that a checkpoint was not trained with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What the checkpoint's numbers do not serve any more.
    pub unfit: Option<&'static str>,
    /// What counts from the next step on.
    pub from_now_on: Vec<&'static str>,
}

impl LearnSpec {
    /// What is another in this one than in `before`, by which a checkpoint was trained. More patience, or early stopping
    /// where there was none, is no change: no step depends on it.
    pub fn changes_since(&self, before: &Self) -> Changes {
        let early = self.train.early_stopping.zip(before.train.early_stopping);
        let remembered = before.optimizer.remembers();
        let unfit = [
            ("[loss]", self.loss != before.loss),
            ("[optimizer] momentum or centered", !remembered.is_empty() && self.optimizer.remembers() != remembered),
            ("[train] accumulate", self.train.accumulate != before.train.accumulate),
            ("[train] early_stopping", early.is_some_and(|(now, before)| !now.watches_the_same(before))),
        ];
        let from_now_on = [
            ("[optimizer]", self.optimizer != before.optimizer),
            ("[schedule]", self.schedule != before.schedule),
            ("[train] clip_norm", self.train.clip_norm != before.train.clip_norm),
            ("[train] clip_value", self.train.clip_value != before.train.clip_value),
        ];
        let changed = |(what, changed): (&'static str, bool)| changed.then_some(what);
        Changes {
            unfit: unfit.into_iter().find_map(changed),
            from_now_on: from_now_on.into_iter().filter_map(changed).collect(),
        }
    }
}

/// Reads the table under `key` whole; without one it is as the default.
fn table<T: Default>(
    root: &mut Section<'_>,
    key: &'static str,
    name: &str,
    parse: impl FnOnce(&mut Section<'_>) -> Result<T, Mistake>,
) -> Result<T, Mistake> {
    let Some(mut section) = root.table(key, name)? else { return Ok(T::default()) };
    let parsed = parse(&mut section)?;
    section.finish()?;
    Ok(parsed)
}

impl TrainSpec {
    fn parse(section: &mut Section<'_>) -> Result<Self, Mistake> {
        let accumulate = section.count("accumulate", 1..(1 << 20) + 1)?.unwrap_or(1);
        let clip_norm = section.bounded("clip_norm", Bound::ABOVE_0)?;
        let clip_value = section.bounded("clip_value", Bound::ABOVE_0)?;
        let early_stopping = match section.table("early_stopping", "a table, such as { patience = 5 }")? {
            Some(mut section) => {
                section.rename("early_stopping".to_owned());
                let parsed = EarlyStopping::parse(&mut section)?;
                section.finish()?;
                Some(parsed)
            }
            None => None,
        };
        let accumulate = u64::try_from(accumulate).expect("it is 2^20 at the most");
        Ok(Self { accumulate, clip_norm, clip_value, early_stopping })
    }
}

/// How many batches a training has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batches {
    /// In each epoch, at least 1.
    pub per_epoch: u64,
    /// Epochs in all.
    pub epochs: u64,
}

/// What a step was like.
#[derive(Clone, Debug)]
pub struct Stepped {
    /// Its number, from 0.
    pub step: u64,
    /// The learning rate.
    pub rate: f64,
    /// With `clip_norm`, how long the gradients were before; still on the device. *Shape* `[1]`.
    pub norm: Option<Tensor<1>>,
}

/// All that makes a model learn, and what of it must be remembered.
#[derive(Clone, Debug)]
pub struct Learner {
    loss: Loss,
    optimizer: Optimizer,
    lr: f64,
    schedule: Schedule,
    train: TrainSpec,
    batches: Batches,
    accumulated: Option<Accumulated>,
    /// Whether other ranks make the same steps.
    is_among_ranks: bool,
}

/// Gradients that wait for their step.
#[derive(Clone, Debug)]
struct Accumulated {
    /// The sum over rows.
    gradients: Gradients,
    rows: u64,
}

impl Learner {
    /// Makes one that has learned nothing, for a model of so many outputs.
    ///
    /// # Errors
    /// [`LossError`] when the loss does not fit the model.
    pub fn new(spec: &LearnSpec, outputs: usize, batches: Batches, device: &Device) -> Result<Self, LossError> {
        let LearnSpec { loss, optimizer, schedule, train } = spec;
        Ok(Self {
            loss: loss.init(outputs, device)?,
            optimizer: optimizer.init(),
            lr: optimizer.lr,
            schedule: schedule.clone(),
            train: *train,
            batches,
            accumulated: None,
            is_among_ranks: false,
        })
    }

    /// Has it make steps of the same bits as those of other ranks that have the same gradients.
    pub(crate) fn among_ranks(self) -> Self {
        Self { is_among_ranks: true, ..self }
    }

    /// How wrong a model is.
    pub fn loss(&self) -> &Loss {
        &self.loss
    }

    /// The number of the step, from 0, that the batch at `position` is part of.
    pub fn step_of(&self, position: Position) -> u64 {
        position.epoch * self.steps_per_epoch() + position.step / self.train.accumulate
    }

    /// The learning rate of the step that the batch at `position` is part of.
    pub fn rate(&self, position: Position) -> f64 {
        let length = Length { steps_per_epoch: self.steps_per_epoch(), epochs: self.batches.epochs };
        self.schedule.rate(self.lr, self.step_of(position), length)
    }

    /// Learns from the batch at `position`: `gradients` are those of the mean loss over its `rows`. Gives the step, when
    /// one was due.
    pub fn learn(
        &mut self,
        model: Sequential,
        gradients: Gradients,
        rows: usize,
        position: Position,
    ) -> (Sequential, Option<Stepped>) {
        if self.train.accumulate == 1 {
            return self.step(model, gradients, position);
        }
        let rows = u64::try_from(rows).expect("rows fit 64 bits");
        let gradients = gradients.times(exact(rows));
        self.accumulated = Some(match self.accumulated.take() {
            Some(before) => Accumulated { gradients: before.gradients.add(gradients), rows: before.rows + rows },
            None => Accumulated { gradients, rows },
        });
        self.finish(model, position)
    }

    /// Passes over the batch at `position`, of which no row could be read: a step may be due all the same.
    pub fn pass(&mut self, model: Sequential, position: Position) -> (Sequential, Option<Stepped>) {
        self.finish(model, position)
    }

    /// Does the step that the batch at `position` completes, if any.
    fn finish(&mut self, model: Sequential, position: Position) -> (Sequential, Option<Stepped>) {
        let next = position.step + 1;
        if !next.is_multiple_of(self.train.accumulate) && next < self.batches.per_epoch {
            return (model, None);
        }
        let Some(Accumulated { gradients, rows }) = self.accumulated.take() else { return (model, None) };
        let gradients = gradients.times(1.0 / exact(rows));
        self.step(model, gradients, position)
    }

    fn step(&mut self, model: Sequential, gradients: Gradients, position: Position) -> (Sequential, Option<Stepped>) {
        let gradients = match self.train.clip_value {
            Some(limit) => gradients.clip_value(limit),
            None => gradients,
        };
        let (gradients, norm) = match self.train.clip_norm {
            // A device may add up in another order each time: by another norm, the weights of ranks would part.
            Some(max_norm) if self.is_among_ranks => gradients.clip_norm_here(max_norm),
            Some(max_norm) => gradients.clip_norm(max_norm),
            None => (gradients, None),
        };
        let rate = self.rate(position);
        let model = self.optimizer.step(rate, model, gradients);
        (model, Some(Stepped { step: self.step_of(position), rate, norm }))
    }

    fn steps_per_epoch(&self) -> u64 {
        self.batches.per_epoch.div_ceil(self.train.accumulate)
    }

    /// What it remembers of `model`, as a safetensors file: that of the optimizer, and gradients that wait for their step.
    /// The same memory is always the same file.
    ///
    /// # Errors
    /// When the device fails, or there is too much of it.
    pub fn to_bytes(&self, model: &Sequential) -> Result<Vec<u8>, OptimizerError> {
        let parameters = model.parameters();
        let mut entries = self.optimizer.entries(&parameters)?;
        if let Some(Accumulated { gradients, rows }) = &self.accumulated {
            for (parameter, gradient) in parameters.iter().zip(&gradients.each) {
                if let Some(gradient) = gradient {
                    entries.put(parameter, GRADIENT, gradient)?;
                }
            }
            entries.put_count(ROWS.to_owned(), *rows);
        }
        entries.to_bytes()
    }

    /// Remembers what [`to_bytes`](Self::to_bytes) wrote for a model like `model`, on the device it computes on.
    ///
    /// # Errors
    /// [`OptimizerError`] when it was written for another model or by another kind of optimizer.
    pub fn restore(&mut self, bytes: &[u8], model: &Sequential, device: &Device) -> Result<(), OptimizerError> {
        let mut entries = Entries::parse(bytes)?;
        let accumulated = entries.take_count(ROWS).map(|rows| {
            let parameters = model.parameters();
            let taken: Vec<_> = parameters.iter().map(|parameter| entries.take(parameter, GRADIENT, device)).collect();
            (parameters, taken, rows)
        });
        let optimizer = self.optimizer.restored(entries, model, device)?;
        let accumulated = accumulated.map(|(parameters, taken, rows)| {
            let each = complete(model, &parameters, taken, |parameter| below(parameter, GRADIENT))?;
            Ok::<_, OptimizerError>(Accumulated { gradients: Gradients { each }, rows })
        });
        (self.optimizer, self.accumulated) = (optimizer, accumulated.transpose()?);
        Ok(())
    }
}
