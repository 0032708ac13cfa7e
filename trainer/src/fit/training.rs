//! The training loop: the steps of an epoch, its test, and a checkpoint where one is due.

use std::mem;
use std::time::{Duration, Instant};

use batchmill_protocol::position::Position;
use burn::module::Module;
use burn::tensor::{Device, TensorReadError};

use super::error::FitError;
use super::keeper::{Keeper, Learned};
use super::losses::{Losses, mean};
use super::team::{Computed, Team};
use crate::cli::FitArgs;
use crate::device::{self, DeviceError};
use crate::feed::{Feed, Minibatch, Samples};
use crate::fields::Fields;
use crate::learn::{EarlyStopping, Learner, Standing};
use crate::metrics::{Score, Test};
use crate::model::Sequential;
use crate::normalize::Normalizer;
use crate::optimizer::Gradients;
use crate::report::{EpochReport, Report, rate};
use crate::resume::Settings;
use crate::run::Step;
use crate::stop::{Reason, Stop};

/// Steps between two readings of the losses. Reading waits for the device.
const STEPS_PER_READING: u64 = 100;

/// A training under way.
pub(super) struct Training<'a> {
    pub(super) args: &'a FitArgs,
    pub(super) settings: Settings,
    pub(super) device: Device,
    pub(super) fields: Fields,
    pub(super) model: Sequential,
    pub(super) learner: Learner,
    pub(super) normalizer: Normalizer,
    pub(super) train: Feed,
    pub(super) eval: Option<Feed>,
    /// The epoch under way: over when its test is done.
    pub(super) epoch: u64,
    /// Of that epoch.
    pub(super) losses: Losses,
    /// When to stop early.
    pub(super) early: Option<EarlyStopping>,
    /// How early stopping stands.
    pub(super) early_stopping: Standing,
    pub(super) report: &'a Report,
    /// Who wants this process to end: looked at while it waits for batches.
    pub(super) asked: Stop,
    /// The same; among ranks, what all have agreed on: looked at between two steps.
    pub(super) stop: Stop,
    /// The other ranks, where there are some.
    pub(super) team: Option<Team<'a>>,
}

/// What the training of an epoch took, or of what was left of it.
struct Lap {
    time: Duration,
    waited: Duration,
    samples: u64,
}

impl Training<'_> {
    /// Trains all epochs that are left, tests and saves the model after each. Ends early, with a checkpoint, when that is
    /// asked for: then it says by whom.
    pub(super) fn run(&mut self, keeper: &mut Keeper<'_>) -> Result<Option<Reason>, FitError> {
        self.compare_weights()?;
        let ended = self.run_epochs(keeper)?;
        for (rank, hash) in (0..).zip(self.compare_weights()?) {
            self.report.weights(rank, hash);
        }
        if let Some(team) = self.team.take() {
            team.finish();
        }
        Ok(ended)
    }

    /// The hash of the weights on each rank, which are to be the same; nothing where there is no other.
    fn compare_weights(&mut self) -> Result<Vec<u64>, FitError> {
        let position = self.position();
        self.team.as_mut().map_or(Ok(Vec::new()), |team| team.compare_weights(&self.model, position))
    }

    fn run_epochs(&mut self, keeper: &mut Keeper<'_>) -> Result<Option<Reason>, FitError> {
        while self.epoch < self.args.epochs {
            let lap = self.train_epoch(keeper)?;
            let tested = self.test();
            let reason = self.stop.requested();
            if reason.is_some() || tested.is_err() {
                // An epoch without its test is not over: the test is the first thing to do when the training goes on.
                self.keep_within_epoch(keeper)?;
                return tested.map(|_| reason);
            }
            if self.end_epoch(&lap, tested?, keeper)? {
                break;
            }
        }
        Ok(None)
    }

    /// The first batch that the model is not trained on, as [`About::position`](crate::checkpoint::About) has it.
    fn position(&self) -> Position {
        let cursor = self.train.cursor();
        if cursor.epoch == self.epoch {
            return cursor;
        }
        Position { epoch: self.epoch, step: self.train.stream().extent.steps() }
    }

    /// Trains on every batch that is left of the epoch, or until it is to stop.
    fn train_epoch(&mut self, keeper: &mut Keeper<'_>) -> Result<Lap, FitError> {
        self.report.begin_epoch(self.epoch, self.losses.rows(), self.train.stream().extent.samples_delivered());
        let (start, waited_before, samples_before) = (Instant::now(), self.train.waited(), self.losses.rows());
        while self.train.cursor().epoch == self.epoch && self.next_is_here()? {
            let batch = self.train.next()?;
            keeper.record(&batch.entry)?;
            self.learn(batch, keeper)?;
            let cursor = self.train.cursor();
            if cursor.epoch > self.epoch || cursor.step.is_multiple_of(STEPS_PER_READING) {
                self.read_losses(keeper)?;
            }
            if cursor.epoch == self.epoch && keeper.is_due(cursor) {
                self.keep_within_epoch(keeper)?;
            }
        }
        Ok(Lap {
            time: start.elapsed(),
            waited: self.train.waited() - waited_before,
            samples: self.losses.rows() - samples_before,
        })
    }

    /// Waits for the next batch; `false` when it is not to be trained on, because somebody wants the end.
    ///
    /// Among ranks all have it, or none uses it: one that waits for a loader which delivers nothing must be able to leave.
    fn next_is_here(&mut self) -> Result<bool, FitError> {
        if self.stop.requested().is_some() {
            return Ok(false);
        }
        let (is_here, position) = (self.train.wait_unless(&self.asked)?, self.position());
        // Whoever has no batch was asked to end, and says so.
        self.team.as_mut().map_or(Ok(is_here), |team| team.go_on(position))
    }

    /// Trains on one batch.
    fn learn(&mut self, batch: Minibatch, keeper: &mut Keeper<'_>) -> Result<(), FitError> {
        let position = batch.entry.position;
        let own = batch.samples.map(|samples| self.compute(samples, position)).transpose()?;
        // Whole: parameters are written in place when nobody else holds them.
        let model = mem::take(&mut self.model);
        let (model, computed) = match &mut self.team {
            Some(team) => team.average(model, own, position, &self.device)?,
            None => (model, own),
        };
        let Some(Computed { loss, rows, gradients }) = computed else {
            (self.model, _) = self.learner.pass(model, position);
            return Ok(());
        };
        let counted = u32::try_from(rows).expect("a batch has fewer than 2^32 rows");
        self.losses.add(position, counted, loss);
        let (doing, learner) = (self.doing(position), &mut self.learner);
        let step = move || learner.learn(model, gradients, rows, position);
        let (model, stepped) = device::on_its_threads(&self.device, doing, step)?;
        self.model = model;
        let (samples, lr, waited) = (self.losses.rows(), self.learner.rate(position), self.train.waited());
        let grad_norm = stepped.and_then(|stepped| stepped.norm);
        keeper.step(Step { position, samples, lr, grad_norm, waited });
        self.report.advance(counted.into(), waited);
        Ok(())
    }

    /// What this process's rows of a batch come to.
    fn compute(&mut self, samples: Samples, position: Position) -> Result<Computed, FitError> {
        // So a training that goes on somewhere draws what it would have drawn there.
        let rank = self.team.as_ref().map_or(0, Team::rank);
        let seed = step_seed(self.settings.seed, position, rank);
        let (doing, answer, model) = (self.doing(position), self.fields.answer, mem::take(&mut self.model));
        let Self { device, normalizer, learner, .. } = &*self;
        let (model, computed) = device::on_its_threads(device, doing, move || {
            device.seed(seed);
            let x = normalizer.apply(samples.input).autodiff();
            let loss = learner.loss().forward(model.answer(x, answer), samples.target);
            let gradients = Gradients::of(&loss, &model);
            (model, Computed { loss, rows: samples.rows, gradients })
        })?;
        self.model = model;
        Ok(computed)
    }

    fn doing(&self, position: Position) -> String {
        format!("train on {} at {position}", self.args.device)
    }

    /// Looks at the losses of all steps since the last time, in order, and ends a training that diverges.
    fn read_losses(&mut self, keeper: &mut Keeper<'_>) -> Result<(), FitError> {
        let steps = self.losses.read().map_err(|source| compute(self.args, source))?;
        self.report.steps(&keeper.collect(steps.iter().map(|step| step.loss))?);
        if let Some(step) = steps.iter().find(|step| !step.loss.is_finite()) {
            return Err(keeper.diverged(format!("the loss is {} at {}", step.loss, step.position)));
        }
        if let Some(recent) = mean(&steps) {
            self.report.loss(recent, self.losses.rows(), self.train.stream().extent.samples_delivered());
        }
        Ok(())
    }

    /// Measures the model on every batch of the test stream's epoch, unless it is to stop.
    ///
    /// Among ranks it is rank 0 that tests, so that the score is that of a lone trainer, and the others that wait for it.
    fn test(&mut self) -> Result<Option<Score>, FitError> {
        // First: all ranks have agreed on it, so none of them waits for what will not be tested.
        if self.stop.requested().is_some() {
            return Ok(None);
        }
        let position = self.position();
        let Some(feed) = &mut self.eval else {
            let waits = self.args.eval.is_some();
            let team = self.team.as_mut().filter(|_| waits);
            return team.map_or(Ok(None), |team| team.await_score(position));
        };
        let (mut test, model) = (Test::default(), self.model.valid());
        while feed.cursor().epoch <= self.epoch {
            let Some(batch) = feed.next_unless(&self.asked)? else {
                // The others wait for the test.
                self.team.as_mut().map_or(Ok(true), |team| team.go_on_testing(position))?;
                return Ok(None);
            };
            if let Some(Samples { input, target, .. }) = batch.samples {
                let output = model.answer(self.normalizer.apply(input), self.fields.answer);
                let loss = self.learner.loss().forward(output.clone(), target.clone());
                test.add(output, target, loss);
            }
            if feed.cursor().step.is_multiple_of(STEPS_PER_READING) {
                test.collect().map_err(|source| compute(self.args, source))?;
            }
            if let Some(team) = &mut self.team
                && !team.go_on_testing(position)?
            {
                return Ok(None);
            }
        }
        let unreadable = || FitError::Unreadable { stream: feed.stream().name.clone(), epoch: self.epoch };
        let score = test.score().ok_or_else(unreadable)?;
        self.team.as_mut().map_or(Ok(Some(score)), |team| team.tell_score(score))
    }

    /// Saves the model within an epoch, unless that is done or nothing is trained yet.
    fn keep_within_epoch(&mut self, keeper: &mut Keeper<'_>) -> Result<(), FitError> {
        self.read_losses(keeper)?;
        let (position, metrics) = (self.position(), self.losses.metrics(None));
        if position == Position::default() || keeper.kept_at() == Some(position) {
            return Ok(());
        }
        if let Some(folder) = keeper.keep(self.learned(), position, metrics)? {
            self.report.checkpoint(folder, position);
        }
        Ok(())
    }

    /// Saves the model after an epoch and its test, and begins the next epoch, unless it got no better for too long:
    /// then it is over.
    fn end_epoch(&mut self, lap: &Lap, test: Option<Score>, keeper: &mut Keeper<'_>) -> Result<bool, FitError> {
        let metrics = self.losses.metrics(test);
        let early = self.early.and_then(|early| {
            let now = early.metric.of(metrics.train_loss(), test.as_ref())?;
            Some(early.is_over(&mut self.early_stopping, now))
        });
        let stream = || self.train.stream().name.clone();
        let done = EpochReport {
            epoch: self.epoch,
            loss: metrics.train_loss().ok_or_else(|| FitError::Unreadable { stream: stream(), epoch: self.epoch })?,
            samples: metrics.train.rows,
            seconds: lap.time.as_secs_f64(),
            samples_per_s: rate(lap.samples, lap.time),
            waited_s: lap.waited.as_secs_f64(),
            test,
        };
        let position = Position { epoch: self.epoch + 1, step: 0 };
        test.map_or(Ok(()), |score| keeper.test(position, score))?;
        // First: weights that are not the same on all ranks are not to be gone on from.
        self.compare_weights()?;
        let folder = keeper.keep(self.learned(), position, metrics)?;
        self.report.end_epoch(&done);
        if let Some(folder) = folder {
            self.report.checkpoint(folder, position);
        }
        keeper.end_epoch()?;
        self.epoch += 1;
        self.losses = Losses::default();
        if early == Some(true) && self.epoch < self.args.epochs {
            let Standing { best, epochs_since } = self.early_stopping;
            let best = best.map_or_else(|| "no number".to_owned(), |best| best.to_string());
            let epochs = if epochs_since == 1 { "epoch was" } else { "epochs were" };
            self.report.note(&format!("stopped early: {epochs_since} {epochs} no better than {best}"));
        }
        Ok(early == Some(true))
    }

    fn learned(&self) -> Learned<'_> {
        let Self { model, learner, early_stopping, .. } = self;
        Learned { model, learner, early_stopping: *early_stopping }
    }
}

/// The seed of what is drawn in one step, such as dropout: each number is mixed into it as SplitMix64 does. Rank 0 draws
/// what a lone trainer would.
fn step_seed(seed: u64, Position { epoch, step }: Position, rank: u32) -> u64 {
    let rank = (rank > 0).then_some(rank.into());
    [seed, epoch, step].into_iter().chain(rank).fold(0, |mixed: u64, number| {
        let mixed = (mixed ^ number).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

/// A device that fails.
pub(super) fn compute(args: &FitArgs, source: TensorReadError) -> FitError {
    DeviceError::while_doing(format_args!("train on {}", args.device), source).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_of_every_seed_draws_something_else_on_every_rank() {
        let seeds: std::collections::BTreeSet<u64> = (0..8_u64)
            .flat_map(|seed| (0..8).flat_map(move |epoch| (0..8).map(move |step| (seed, Position { epoch, step }))))
            .flat_map(|(seed, position)| (0..3).map(move |rank| step_seed(seed, position, rank)))
            .collect();
        assert_eq!(seeds.len(), 3 * 512);
    }
}
