//! What a checkpoint says of a training, when one is written, and that none is written of a model that ran away.

use std::path::{Path, PathBuf};
use std::time::Instant;

use batchmill_protocol::ledger::{Entry, Ledger, LedgerError};
use batchmill_protocol::message::StreamDescription;
use batchmill_protocol::position::Position;
use burn::module::Module;

use super::error::FitError;
use super::training::compute;
use crate::checkpoint::best::{Best, Criterion};
use crate::checkpoint::shelf::{self, Shelf};
use crate::checkpoint::{self, About, FORMAT, Metrics, Versions};
use crate::cli::FitArgs;
use crate::fields::Fields;
use crate::learn::{Learner, Standing};
use crate::metrics::Score;
use crate::model::Sequential;
use crate::prepare::View;
use crate::resume::Settings;
use crate::run::{Recorder, RunError, Step, StepRow};
use crate::stop::Reason;

/// What changes with every step.
pub(super) struct Learned<'a> {
    pub(super) model: &'a Sequential,
    pub(super) learner: &'a Learner,
    pub(super) early_stopping: Standing,
}

/// What every checkpoint of a run has in common, and the ledger beside it.
pub(super) struct Keeper<'a> {
    pub(super) args: &'a FitArgs,
    pub(super) settings: Settings,
    /// None where another rank writes, and nothing is kept here.
    pub(super) shelf: Option<Shelf>,
    pub(super) model_text: String,
    pub(super) stream: StreamDescription,
    pub(super) fields: Fields,
    /// Of the stream tested on, or trained on where there is none.
    pub(super) view: View,
    pub(super) ledger: Option<Ledger>,
    /// None where another rank writes.
    pub(super) recorder: Option<Recorder>,
    pub(super) criterion: Criterion,
    pub(super) best: Option<Best>,
    /// The latest checkpoint, if there is one; where another rank writes, as it was at the beginning.
    pub(super) kept: Option<(Position, PathBuf)>,
    /// When it was written, or the training began.
    pub(super) since: Instant,
}

impl Keeper<'_> {
    /// Takes note of a batch that is trained on.
    pub(super) fn record(&mut self, entry: &Entry) -> Result<(), LedgerError> {
        self.ledger.as_mut().map_or(Ok(()), |ledger| ledger.record(entry))
    }

    /// Takes note of a step whose loss is not read yet.
    pub(super) fn step(&mut self, step: Step) {
        if let Some(recorder) = &mut self.recorder {
            recorder.step(step);
        }
    }

    /// Writes the rows of all steps since the last time and gives them back: `losses` are theirs, first to last.
    pub(super) fn collect(&mut self, losses: impl IntoIterator<Item = f32>) -> Result<Vec<StepRow>, RunError> {
        self.recorder.as_mut().map_or(Ok(Vec::new()), |recorder| recorder.collect(losses))
    }

    /// Takes note of the test of a model that is trained up to `position`.
    pub(super) fn test(&mut self, position: Position, score: Score) -> Result<(), RunError> {
        self.recorder.as_mut().map_or(Ok(()), |recorder| recorder.test(position, score))
    }

    /// After an epoch and its checkpoint.
    pub(super) fn end_epoch(&mut self) -> Result<(), RunError> {
        self.recorder.as_mut().map_or(Ok(()), Recorder::end_epoch)
    }

    /// Writes down how the training ended.
    pub(super) fn finish(self, outcome: &str) -> Result<(), RunError> {
        self.recorder.map_or(Ok(()), |recorder| recorder.finish(outcome))
    }

    /// Whether `--checkpoint-every` asks for a checkpoint at `position`.
    pub(super) fn is_due(&self, position: Position) -> bool {
        self.shelf.is_some()
            && self.args.checkpoint_every.is_some_and(|every| every.is_due(position, self.since.elapsed()))
    }

    /// Where the latest checkpoint stands.
    pub(super) fn kept_at(&self) -> Option<Position> {
        self.kept.as_ref().map(|(position, _)| *position)
    }

    /// Saves a model that is trained up to `position`, unless it ran away. Gives the checkpoint's folder; none where
    /// another rank saves.
    pub(super) fn keep(
        &mut self,
        learned: Learned<'_>,
        position: Position,
        metrics: Metrics,
    ) -> Result<Option<&Path>, FitError> {
        if let Some(score) = metrics.test.filter(|score| !score.loss.is_finite()) {
            return Err(self.diverged(format!("the test loss is {} before {position}", score.loss)));
        }
        let runaway = learned.model.valid().runaway().map_err(|source| compute(self.args, source))?;
        if let Some(parameter) = runaway {
            return Err(self.diverged(format!("parameter {parameter} is not finite before {position}")));
        }
        // First: what a ledger has too much of is cut off when the training goes on from the checkpoint.
        self.ledger.as_mut().map_or(Ok(()), Ledger::flush)?;
        self.recorder.as_mut().map_or(Ok(()), Recorder::flush)?;
        // Only whole epochs can be compared.
        let best = match position.step {
            0 => Best::of(self.best, self.criterion, &metrics, position),
            _ => self.best,
        };
        let Some(shelf) = &self.shelf else { return Ok(None) };
        let about = self.about(&learned, position, metrics, best);
        let write = |dir: &Path| checkpoint::write(dir, learned.model, learned.learner, &self.model_text, &about);
        let folder = shelf.add(position, best.map(|best| best.position), write)?;
        (self.best, self.since) = (best, Instant::now());
        Ok(Some(&self.kept.insert((position, folder)).1))
    }

    fn about(&self, learned: &Learned<'_>, position: Position, metrics: Metrics, best: Option<Best>) -> About {
        let Self { settings, stream, fields, criterion, .. } = self;
        About {
            format: FORMAT,
            stream: stream.name.clone(),
            spec_hash: stream.spec_hash.clone(),
            identity: stream.identity.clone(),
            stream_seed: stream.seed,
            seed: settings.seed,
            position,
            epoch_steps: stream.extent.steps(),
            classes: stream.classes.clone(),
            input: fields.input.clone(),
            target: fields.target.clone(),
            transforms: stream.transforms.clone(),
            view: self.view.clone(),
            optimizer: settings.optimizer,
            metrics,
            criterion: *criterion,
            best,
            early_stopping: learned.early_stopping,
            versions: Versions::current(),
        }
    }

    /// The latest checkpoint, whoever wrote it.
    fn latest(&self) -> Option<(Position, PathBuf)> {
        if self.shelf.is_some() { self.kept.clone() } else { shelf::newest(&self.args.out) }
    }

    /// What to say when the weights ran away.
    pub(super) fn diverged(&self, what: String) -> FitError {
        let lr = self.settings.optimizer.lr;
        let remedy = match self.latest() {
            Some((_, folder)) => {
                let folder = folder.display();
                format!("go on with --resume from the last good checkpoint, {folder}, and a lower --lr than {lr:?}")
            }
            None => format!("train anew with a lower --lr than {lr:?}"),
        };
        FitError::Diverged { what, remedy }
    }

    /// What to say when somebody ended the training.
    pub(super) fn farewell(&self, reason: Reason) -> String {
        match self.kept_at() {
            Some(position) => format!("ended by {reason} at {position}: go on with --resume"),
            None => format!("ended by {reason} before the first step"),
        }
    }

    /// What to do when no loader delivers any more.
    pub(super) fn remedy(&self) -> String {
        match self.latest() {
            Some((position, folder)) => {
                let folder = folder.display();
                format!(
                    "start it again and go on with --resume from the checkpoint {folder}, which stands at {position}"
                )
            }
            None => "start it again and train anew, there is no checkpoint yet".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use batchmill_protocol::message::StreamId;
    use batchmill_protocol::position::{Extent, Tail};
    use batchmill_protocol::tensor::{Dtype, FieldSpec, Shape};
    use burn::module::Param;
    use burn::nn::Linear;
    use burn::tensor::{Device, Tensor};
    use clap::Parser;
    use expect_test::{Expect, expect};

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::config::ModelSpec;
    use crate::learn::Batches;
    use crate::metrics::{LossSum, Score};
    use crate::optimizer::OptimizerSpec;
    use crate::registry::Registry;
    use crate::run::about;
    use crate::shape::ImageShape;

    fn stream(name: &str, classes: &[&str], side: usize, samples: u64) -> StreamDescription {
        StreamDescription {
            id: StreamId(0),
            name: name.to_owned(),
            fields: vec![
                FieldSpec::new("image", Dtype::U8, [side, side, 1]),
                FieldSpec::new("label", Dtype::I64, Shape::default()),
            ],
            extent: Extent { samples, batch_size: 4, tail: Tail::Drop },
            classes: classes.iter().map(ToString::to_string).collect(),
            transforms: Vec::new(),
            seed: 0,
            spec_hash: String::new(),
            identity: Default::default(),
            spec: serde_json::Value::Null,
        }
    }

    fn recorder(run: &Path) -> Recorder {
        let about = about::Beginning {
            from: Position::default(),
            train: &stream("train", &["cat", "dog"], 2, 10),
            test: None,
            settings: &serde_json::Value::Null,
            device: "cpu",
            model_file: Path::new("m.toml"),
            model_text: "",
        };
        Recorder::begin(run, about, false, false).expect("it can be written")
    }

    #[test]
    fn a_model_that_ran_away_is_not_kept() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (run, device) = (folder.path().join("run"), Device::flex());
        let arguments = ["trainer", "fit", "--model", "m.toml", "--lr", "2"];
        let Command::Fit(mut args) = Cli::try_parse_from(arguments).expect("a command line").command else {
            panic!("it says fit");
        };
        args.out.clone_from(&run);
        let text = "[[layer]]\nkind = 'flatten'\n[[layer]]\nkind = 'linear'\nout_features = 2\n";
        let shape = ImageShape { height: 2, width: 2, channels: 1 };
        let spec = ModelSpec::parse(text).expect("a model");
        let mut model = Sequential::build(&spec, shape, &device).expect("it fits");
        let mut keeper = Keeper {
            settings: Settings { optimizer: OptimizerSpec { lr: 2.0, ..OptimizerSpec::default() }, seed: 0 },
            shelf: Some(Shelf::open(&run, args.keep).expect("nothing is there")),
            args: &args,
            model_text: text.to_owned(),
            fields: Fields::of(&stream("train", &[], 2, 10), None, None).expect("it has labelled images"),
            view: View::default(),
            stream: stream("train", &["cat", "dog"], 2, 10),
            ledger: None,
            recorder: Some(recorder(&run)),
            criterion: Criterion::TestAccuracy,
            best: None,
            kept: None,
            since: Instant::now(),
        };
        let batches = Batches { per_epoch: 2, epochs: 3 };
        let learner = Learner::new(&spec.learn, 2, batches, &device).expect("it fits");
        let metrics = |test| Metrics { train: LossSum { sum: 4.0, rows: 8 }, test };
        let score = |loss| Some(Score { accuracy: Some(0.75), loss, mae: None, rmse: None });
        let mut keep = |model: &Sequential, epoch, metrics| {
            let learned = Learned { model, learner: &learner, early_stopping: Standing::default() };
            let kept = keeper.keep(learned, Position { epoch, step: 0 }, metrics);
            let kept = kept.map(|kept| kept.expect("there is a shelf").to_path_buf());
            kept.map_err(|error| error.to_string().replace(&folder.path().display().to_string(), "DIR"))
        };
        let mut refused = |model: &Sequential, metrics: Metrics, expected: Expect| {
            expected.assert_eq(&keep(model, 1, metrics).expect_err("it diverged"));
        };
        refused(
            &model,
            metrics(score(f64::INFINITY)),
            expect![
                "the test loss is inf before epoch 1 step 0: the training diverged: train anew with a lower --lr than 2.0"
            ],
        );
        let good = keep(&model, 1, metrics(score(0.25))).expect("all is finite");
        if let Some(layer) = model.layer_mut(1).and_then(|layer| layer.downcast_mut::<Linear>()) {
            layer.bias = Some(Param::from_tensor(Tensor::from_data([0.0, f32::NAN], &Device::flex())));
        }
        expect!["parameter 1.bias is not finite before epoch 2 step 0: the training diverged: go on with --resume from the last good checkpoint, DIR/run/checkpoints/0001-000000, and a lower --lr than 2.0"]
            .assert_eq(&keep(&model, 2, metrics(None)).expect_err("it diverged"));
        let about = checkpoint::load(&good, &Registry::builtin(), &device).expect("the good one is still there").about;
        assert_eq!(about.best, Some(Best { value: 0.75, position: Position { epoch: 1, step: 0 } }));
        // As another rank has it, which keeps nothing itself.
        (keeper.shelf, keeper.kept) = (None, None);
        assert_eq!(
            keeper.remedy(),
            format!(
                "start it again and go on with --resume from the checkpoint {}, which stands at epoch 1 step 0",
                good.display()
            )
        );
    }
}
