//! `trainer fit`: attaches to a loader, trains, tests, saves.

use std::mem;
use std::time::Instant;

use batchmill_protocol::client::{Client, ClientError, Member, Subscription};
use batchmill_protocol::identity::Identity;
use batchmill_protocol::ledger::{Entry, Ledger, LedgerError};
use batchmill_protocol::message::StreamDescription;
use batchmill_protocol::position::Position;
use batchmill_protocol::tensor::FieldSpec;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, TensorReadError};
use thiserror::Error;

use crate::checkpoint::{About, CheckpointError, FORMAT, Metrics, Target};
use crate::cli::{FitArgs, Seconds};
use crate::config::{ConfigError, ModelSpec};
use crate::device::DeviceError;
use crate::feed::{Feed, FeedError, Samples, Successor};
use crate::fields::{Fields, FieldsError, Input};
use crate::loss::{self, cross_entropy};
use crate::metrics::{MeanLoss, Score, Test};
use crate::model::{ModelError, Sequential};
use crate::normalize::Normalizer;
use crate::optimizer::Optimizer;
use crate::report::{EpochReport, Report, Start, rate};
use crate::resume::{Beginning, ResumeError, Settings};

/// Steps between two readings of the loss. Reading waits for the device.
const STEPS_PER_READING: u64 = 100;

/// Why a training ended early.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "each is the error of the room it names")]
pub enum FitError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Fields(#[from] FieldsError),
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error("build the model of {model}")]
    Model { model: String, source: Box<ModelError> },
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Resume(#[from] ResumeError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("compute on {device}")]
    Compute { device: String, source: TensorReadError },
    /// No loader delivers any more.
    #[error("{lost}: {remedy}")]
    LoaderLost {
        /// What was next.
        lost: FeedError,
        /// How to go on.
        remedy: String,
    },
    /// Samples there are, but they cannot be read.
    #[error("not one sample of stream `{stream}` can be read in epoch {epoch}: `loader quarantine` says why")]
    Unreadable {
        /// The stream.
        stream: String,
        /// When.
        epoch: u64,
    },
    /// There is nothing to train on.
    #[error(
        "stream `{stream}` has no batch: its {samples} samples are fewer than its batch size, and its tail is dropped"
    )]
    Empty {
        /// The stream.
        stream: String,
        /// Its samples.
        samples: u64,
    },
    /// The streams of training and test differ.
    #[error(
        "test on stream `{eval}`: its samples are {found}, those of `{stream}` are {wanted}: give both the same transforms"
    )]
    OtherSamples {
        /// The stream of `--eval`.
        eval: String,
        /// Its samples.
        found: Input,
        /// The stream trained on.
        stream: String,
        /// Its samples.
        wanted: Input,
    },
    /// A label means one class in one stream and another in the other.
    #[error(
        "test on stream `{eval}`: its label {label} is class {found:?}, in stream `{stream}` it is {wanted:?}: \
         let both lists name the same classes"
    )]
    OtherClasses {
        /// The stream of `--eval`.
        eval: String,
        /// The first label that differs.
        label: usize,
        /// Its class there.
        found: String,
        /// The stream trained on.
        stream: String,
        /// Its class here.
        wanted: String,
    },
    /// The weights ran away.
    #[error("{what} in epoch {epoch}: the training diverged, lower --lr (now {lr})")]
    Diverged {
        /// What is not a number, or infinite.
        what: String,
        /// When.
        epoch: u64,
        /// The learning rate.
        lr: f64,
    },
}

/// Trains as `args` say.
///
/// # Errors
/// [`FitError`]; the last checkpoint stays.
pub fn run(args: &FitArgs) -> Result<(), FitError> {
    let (spec, model_text) = ModelSpec::read(&args.model)?;
    let device = args.device.open()?;
    let target = Target::prepare(&args.out)?;
    let beginning = Beginning::of(args, &spec, &device)?;
    let report = Report::new(args.json);
    let position = beginning.position;
    if position.epoch >= args.epochs {
        let dir = target.dir().display();
        report.note(&format!("{dir} is trained for all {} epochs already: raise --epochs to go on", args.epochs));
        return Ok(());
    }
    let (mut job, model) = Job::start(args, &spec, &device, beginning, &report)?;
    let stream = job.train.stream().clone();
    let ledger = match &args.ledger {
        Some(path) if args.resume => Some(Ledger::resume(path, &stream, position)?),
        Some(path) => Some(Ledger::create(path, &stream)?),
        None => None,
    };
    report.start(&Start {
        model: model.to_string(),
        parameters: model.parameters().iter().map(|parameter| parameter.count).sum(),
        stream: &stream.name,
        samples: stream.extent.samples_delivered(),
        classes: &stream.classes,
        device: args.device.to_string(),
        position,
    });
    let kept = args.resume.then_some(position);
    let fields = job.fields.clone();
    let mut keeper = Keeper { args, settings: job.settings, target, model_text, stream, fields, ledger, kept };
    job.train(model, &mut keeper, &report).map_err(|error| match error {
        FitError::Feed(lost @ FeedError::LoaderLost { .. }) => FitError::LoaderLost { lost, remedy: keeper.remedy() },
        other => other,
    })
}

/// What every checkpoint of a run has in common, and the ledger beside it.
struct Keeper<'a> {
    args: &'a FitArgs,
    settings: Settings,
    target: Target,
    model_text: String,
    stream: StreamDescription,
    fields: Fields,
    ledger: Option<Ledger>,
    /// The checkpoint's position, if there is one of this training.
    kept: Option<Position>,
}

impl Keeper<'_> {
    /// Takes note of a batch that is trained on.
    fn record(&mut self, entry: &Entry) -> Result<(), LedgerError> {
        self.ledger.as_mut().map_or(Ok(()), |ledger| ledger.record(entry))
    }

    /// Whether `--checkpoint-every` asks for a checkpoint at `position`.
    fn is_due(&self, position: Position) -> bool {
        self.args.checkpoint_every.is_some_and(|every| position.step % every == 0)
    }

    /// Saves a model that is trained up to `position`; one that ran away takes no checkpoint's place.
    fn keep(
        &mut self,
        model: &Sequential,
        optimizer: &Optimizer,
        metrics: Metrics,
        position: Position,
    ) -> Result<(), FitError> {
        let Self { settings, stream, .. } = self;
        let diverged = |what| FitError::Diverged { what, epoch: epoch_before(position), lr: settings.lr };
        if let Some(score) = metrics.test.filter(|score| !score.loss.is_finite()) {
            return Err(diverged(format!("the test loss is {}", score.loss)));
        }
        if let Some(parameter) = model.valid().runaway().map_err(|source| compute(self.args, source))? {
            return Err(diverged(format!("parameter {parameter} is not finite")));
        }
        // First: what a ledger has too much of is cut off when the training goes on from the checkpoint.
        self.ledger.as_mut().map_or(Ok(()), Ledger::flush)?;
        let about = About {
            format: FORMAT,
            stream: stream.name.clone(),
            spec_hash: stream.spec_hash.clone(),
            identity: stream.identity.clone(),
            stream_seed: stream.seed,
            seed: settings.seed,
            position,
            classes: stream.classes.clone(),
            input: self.fields.input.clone(),
            target: self.fields.target.clone(),
            transforms: stream.transforms.clone(),
            optimizer: settings.optimizer,
            lr: settings.lr,
            metrics,
        };
        self.target.save(model, optimizer, &self.model_text, &about)?;
        self.kept = Some(position);
        Ok(())
    }

    /// What to do when no loader delivers any more.
    fn remedy(&self) -> String {
        match self.kept {
            Some(position) => {
                let dir = self.target.dir().display();
                format!("start it again and go on with --resume from the checkpoint {dir}, which stands at {position}")
            }
            None => "start it again and train anew, there is no checkpoint yet".to_owned(),
        }
    }
}

/// A training under way.
struct Job<'a> {
    args: &'a FitArgs,
    settings: Settings,
    device: Device,
    fields: Fields,
    optimizer: Optimizer,
    normalizer: Normalizer,
    train: Feed,
    eval: Option<Feed>,
    /// Of the epoch under way.
    loss: MeanLoss,
    /// Trained on in the epoch under way.
    samples: u64,
}

impl<'a> Job<'a> {
    /// Attaches to the streams, and makes a model for them or takes the one trained so far.
    fn start(
        args: &'a FitArgs,
        spec: &ModelSpec,
        device: &Device,
        beginning: Beginning,
        report: &Report,
    ) -> Result<(Self, Sequential), FitError> {
        let Beginning { settings, position, trained } = beginning;
        let attach = |stream: &str, from: Position, expected: Option<Identity>| {
            let subscription = Subscription::new(stream).epochs(0, Some(args.epochs)).from(from).expecting(expected);
            Client::connect(args.socket.as_deref())?.attach(&subscription)
        };
        let expected = trained.as_ref().map(|trained| trained.identity.clone()).filter(|_| !args.allow_changed);
        let train = attach(&args.stream, position, expected)?;
        // The test of an epoch comes at its end.
        let tested = Position { step: 0, ..position };
        let eval = args.eval.as_deref().map(|stream| attach(stream, tested, None)).transpose()?;
        let fields = Fields::of(train.stream(), args.input.as_deref(), args.target.as_deref())?;
        for member in eval.iter().chain([&train]) {
            check_stream(train.stream(), &fields, member.stream())?;
        }
        let fits = |source| FitError::Model { model: args.model.display().to_string(), source: Box::new(source) };
        let (mut loss, mut samples) = (MeanLoss::default(), 0);
        let (model, optimizer) = if let Some(trained) = trained {
            if let (Some(mean), 1..) = (trained.metrics.train_loss, position.step) {
                samples = trained.metrics.samples;
                loss = MeanLoss::resumed(mean, samples);
            }
            trained.for_samples(&args.stream, &fields.kind)?
        } else {
            device.seed(settings.seed);
            let model = Sequential::build(spec, fields.kind.clone(), &device.clone().autodiff()).map_err(fits)?;
            model.draw();
            (model, settings.optimizer.init())
        };
        for stream in [&train].into_iter().chain(&eval).map(Member::stream) {
            model.check_classes(&stream.name, stream.classes.len()).map_err(fits)?;
        }
        let normalizer = Normalizer::new(&spec.normalize, &fields.kind, device)
            .map_err(|mistake| ConfigError::Mistake { path: args.model.clone(), mistake })?;
        let feed = |member| {
            let successor = args.reconnect.map(|Seconds(limit)| Successor { limit, report: report.clone() });
            Feed::start(member, fields.clone(), model.outputs(), device, successor)
        };
        let (train, eval) = (feed(train), eval.map(feed));
        let device = device.clone();
        Ok((Self { args, settings, device, fields, optimizer, normalizer, train, eval, loss, samples }, model))
    }

    /// Trains all epochs that are left, tests and saves the model after each.
    fn train(&mut self, mut model: Sequential, keeper: &mut Keeper<'_>, report: &Report) -> Result<(), FitError> {
        while self.train.cursor().epoch < self.args.epochs {
            let (trained, mut done) = self.train_epoch(model, keeper, report)?;
            model = trained;
            let tested = self.test(&model.valid(), done.epoch);
            done.test = tested.as_ref().ok().copied().flatten();
            let metrics = Metrics { train_loss: Some(done.loss), samples: done.samples, test: done.test };
            let position = self.train.cursor();
            keeper.keep(&model, &self.optimizer, metrics, position)?;
            report.end_epoch(&done);
            report.checkpoint(keeper.target.dir(), position);
            // Only now: an epoch that could not be tested was trained all the same.
            tested?;
        }
        Ok(())
    }

    /// Trains on every batch that is left of an epoch once. Takes the model whole: the optimizer writes into parameters
    /// in place when nobody else holds them.
    fn train_epoch(
        &mut self,
        mut model: Sequential,
        keeper: &mut Keeper<'_>,
        report: &Report,
    ) -> Result<(Sequential, EpochReport), FitError> {
        let Position { epoch, .. } = self.train.cursor();
        let expected = self.train.stream().extent.samples_delivered();
        report.begin_epoch(epoch, self.samples, expected);
        let (start, waited_before, samples_before) = (Instant::now(), self.train.waited(), self.samples);
        let mut last = false;
        while !last {
            let batch = self.train.next()?;
            keeper.record(&batch.entry)?;
            if let Some(samples) = batch.samples {
                let rows = u64::try_from(samples.rows).expect("rows fit 64 bits");
                model = self.learn(model, samples, batch.entry.position);
                self.samples += rows;
                report.advance(rows);
            }
            let next = self.train.cursor();
            last = next.epoch > epoch;
            let due = !last && keeper.is_due(next);
            if last || due || next.step.is_multiple_of(STEPS_PER_READING) {
                self.read_loss(expected, report)?;
            }
            if due {
                let metrics = Metrics { train_loss: self.loss.mean(), samples: self.samples, test: None };
                keeper.keep(&model, &self.optimizer, metrics, next)?;
                report.checkpoint(keeper.target.dir(), next);
            }
        }
        let time = start.elapsed();
        let (loss, samples) = (mem::take(&mut self.loss), mem::take(&mut self.samples));
        let stream = || self.train.stream().name.clone();
        let report = EpochReport {
            epoch,
            loss: loss.mean().ok_or_else(|| FitError::Unreadable { stream: stream(), epoch })?,
            samples,
            seconds: time.as_secs_f64(),
            samples_per_s: rate(samples - samples_before, time),
            waited_s: (self.train.waited() - waited_before).as_secs_f64(),
            test: None,
        };
        Ok((model, report))
    }

    /// Trains on one batch.
    fn learn(&mut self, model: Sequential, samples: Samples, position: Position) -> Sequential {
        // So a training that goes on somewhere draws what it would have drawn there.
        self.device.seed(step_seed(self.settings.seed, position));
        let x = self.normalizer.apply(samples.input).autodiff();
        let loss::Target::Classes(labels) = samples.target else { unreachable!("`start` refuses other answers") };
        let loss = cross_entropy(model.logits(x), labels.autodiff());
        self.loss.add(loss.clone(), samples.rows);
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        self.optimizer.step(self.settings.lr, model, gradients)
    }

    /// Shows the mean loss since the last time, and ends a training that diverges.
    fn read_loss(&mut self, expected: u64, report: &Report) -> Result<(), FitError> {
        let recent = self.loss.collect().map_err(|source| compute(self.args, source))?;
        match recent {
            Some(recent) if !recent.is_finite() => {
                let (what, epoch) = (format!("the loss is {recent}"), epoch_before(self.train.cursor()));
                Err(FitError::Diverged { what, epoch, lr: self.settings.lr })
            }
            Some(recent) => {
                report.loss(recent, self.samples, expected);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Measures a model on every batch of the test stream's epoch.
    fn test(&mut self, model: &Sequential, epoch: u64) -> Result<Option<Score>, FitError> {
        let Some(feed) = &mut self.eval else { return Ok(None) };
        let mut test = Test::default();
        while feed.cursor().epoch <= epoch {
            let batch = feed.next()?;
            if let Some(Samples { input, target: loss::Target::Classes(labels), .. }) = batch.samples {
                let logits = model.logits(self.normalizer.apply(input));
                let loss = cross_entropy(logits.clone(), labels.clone());
                test.add(logits, labels, loss);
            }
            if feed.cursor().step.is_multiple_of(STEPS_PER_READING) {
                test.collect().map_err(|source| compute(self.args, source))?;
            }
        }
        let unreadable = || FitError::Unreadable { stream: feed.stream().name.clone(), epoch };
        test.score().map(Some).ok_or_else(unreadable)
    }
}

/// The epoch of the batch before `position`.
fn epoch_before(position: Position) -> u64 {
    if position.step > 0 { position.epoch } else { position.epoch.saturating_sub(1) }
}

/// The seed of what is drawn in one step, such as dropout: each number is mixed into it as SplitMix64 does.
fn step_seed(seed: u64, Position { epoch, step }: Position) -> u64 {
    [seed, epoch, step].into_iter().fold(0, |mixed: u64, number| {
        let mixed = (mixed ^ number).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

fn compute(args: &FitArgs, source: TensorReadError) -> FitError {
    FitError::Compute { device: args.device.to_string(), source }
}

/// Checks that a stream has batches, and samples and classes as those of the stream trained on.
fn check_stream(train: &StreamDescription, wanted: &Fields, stream: &StreamDescription) -> Result<(), FitError> {
    let eval = || stream.name.clone();
    if stream.extent.steps() == 0 {
        return Err(FitError::Empty { stream: eval(), samples: stream.extent.samples });
    }
    let found = Fields::of(stream, Some(&wanted.input.name), Some(&wanted.target.name))?;
    if found.kind != wanted.kind {
        let (found, wanted) = (found.kind, wanted.kind.clone());
        return Err(FitError::OtherSamples { eval: eval(), found, stream: train.name.clone(), wanted });
    }
    // One stream may know more classes than the other, as long as a label means the same in both.
    let mut classes = stream.classes.iter().zip(&train.classes).enumerate();
    match classes.find(|(_, (found, wanted))| found != wanted) {
        Some((label, (found, wanted))) => Err(FitError::OtherClasses {
            eval: eval(),
            label,
            found: found.clone(),
            stream: train.name.clone(),
            wanted: wanted.clone(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use batchmill_protocol::message::StreamId;
    use batchmill_protocol::position::{Extent, Tail};
    use batchmill_protocol::tensor::{Dtype, Shape};
    use burn::module::Param;
    use burn::nn::Linear;
    use burn::tensor::Tensor;
    use clap::Parser;
    use expect_test::{Expect, expect};

    use super::*;
    use crate::checkpoint;
    use crate::cli::{Cli, Command};
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

    #[test]
    fn a_test_stream_must_resemble_the_one_trained_on() {
        let train = stream("train", &["cat", "dog"], 28, 10);
        let check = |eval: &StreamDescription, expected: Expect| {
            let fields = Fields::of(&train, None, None).expect("it has labelled images");
            let message = check_stream(&train, &fields, eval).err().map(|error| error.to_string());
            expected.assert_eq(&message.unwrap_or_default());
        };
        check(&stream("test", &["cat", "dog"], 28, 10), expect![]);
        check(&stream("test", &["cat"], 28, 10), expect![]);
        check(
            &stream("test", &["dog"], 28, 10),
            expect![[
                r#"test on stream `test`: its label 0 is class "dog", in stream `train` it is "cat": let both lists name the same classes"#
            ]],
        );
        check(
            &stream("test", &["cat", "dog"], 32, 10),
            expect![
                "test on stream `test`: its samples are 32x32x1, those of `train` are 28x28x1: give both the same transforms"
            ],
        );
        check(
            &stream("test", &["cat", "dog"], 28, 3),
            expect!["stream `test` has no batch: its 3 samples are fewer than its batch size, and its tail is dropped"],
        );
    }

    #[test]
    fn a_model_that_ran_away_replaces_no_checkpoint() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (dir, device) = (folder.path().join("checkpoint"), Device::flex());
        let arguments = ["trainer", "fit", "--model", "m.toml", "--lr", "2"];
        let Command::Fit(args) = Cli::try_parse_from(arguments).expect("a command line").command else {
            panic!("it says fit");
        };
        let text = "[[layer]]\nkind = 'flatten'\n[[layer]]\nkind = 'linear'\nout_features = 2\n";
        let shape = ImageShape { height: 2, width: 2, channels: 1 };
        let spec = ModelSpec::parse(text).expect("a model");
        let mut model = Sequential::build(&spec, shape, &device).expect("it fits");
        let beginning = Beginning::of(&args, &spec, &device).expect("nothing is to be found");
        let mut keeper = Keeper {
            args: &args,
            settings: beginning.settings,
            target: Target::prepare(&dir).expect("nothing is there"),
            model_text: text.to_owned(),
            fields: Fields::of(&stream("train", &[], 2, 10), None, None).expect("it has labelled images"),
            stream: stream("train", &["cat", "dog"], 2, 10),
            ledger: None,
            kept: None,
        };
        let optimizer = keeper.settings.optimizer.init();
        let metrics = |test| Metrics { train_loss: Some(0.5), samples: 8, test };
        let good = metrics(Some(Score { accuracy: 0.75, loss: 0.25 }));
        keeper.keep(&model, &optimizer, good.clone(), Position { epoch: 1, step: 0 }).expect("all is finite");

        let mut refused = |model: &Sequential, metrics: Metrics, expected: Expect| {
            let error = keeper.keep(model, &optimizer, metrics, Position { epoch: 2, step: 0 });
            expected.assert_eq(&error.expect_err("it diverged").to_string());
            let about = checkpoint::load(&dir, &device).expect("the good one is still there").about;
            assert_eq!((about.metrics, about.position.epoch), (good.clone(), 1));
        };
        refused(
            &model,
            metrics(Some(Score { accuracy: 0.5, loss: f64::INFINITY })),
            expect!["the test loss is inf in epoch 1: the training diverged, lower --lr (now 2)"],
        );
        if let Some(layer) = model.layer_mut(1).and_then(|layer| layer.downcast_mut::<Linear>()) {
            layer.bias = Some(Param::from_tensor(Tensor::from_data([0.0, f32::NAN], &Device::flex())));
        }
        refused(
            &model,
            metrics(None),
            expect!["parameter 1.bias is not finite in epoch 1: the training diverged, lower --lr (now 2)"],
        );
    }

    #[test]
    fn every_step_of_every_seed_draws_something_else() {
        let seeds: std::collections::BTreeSet<u64> = (0..8_u64)
            .flat_map(|seed| (0..8).flat_map(move |epoch| (0..8).map(move |step| (seed, Position { epoch, step }))))
            .map(|(seed, position)| step_seed(seed, position))
            .collect();
        assert_eq!(seeds.len(), 512);
    }
}
