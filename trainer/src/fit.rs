//! `trainer fit`: attaches to a loader, trains, tests, saves.

use std::time::Instant;

use batchmill_protocol::client::{Client, ClientError, Member, Subscription};
use batchmill_protocol::message::StreamDescription;
use batchmill_protocol::position::Position;
use batchmill_protocol::tensor::FieldSpec;
use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, TensorReadError};
use thiserror::Error;

use crate::checkpoint::{About, CheckpointError, FORMAT, Metrics, Target};
use crate::cli::FitArgs;
use crate::config::{ConfigError, ModelSpec};
use crate::device::DeviceError;
use crate::feed::{Feed, FeedError, IMAGE, image_shape};
use crate::loss::cross_entropy;
use crate::metrics::{MeanLoss, Score, Test};
use crate::model::{ModelError, Sequential};
use crate::normalize::Normalizer;
use crate::report::{EpochReport, Report, Start, rate};
use crate::shape::ImageShape;

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
    Feed(#[from] FeedError),
    #[error("build the model of {model}")]
    Model { model: String, source: Box<ModelError> },
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("compute on {device}")]
    Compute { device: String, source: TensorReadError },
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
        "test on stream `{eval}`: its images are {found}, those of `{stream}` are {wanted}: give both the same transforms"
    )]
    OtherImages {
        /// The stream of `--eval`.
        eval: String,
        /// Its images.
        found: ImageShape,
        /// The stream trained on.
        stream: String,
        /// Its images.
        wanted: ImageShape,
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
    let (mut job, mut model) = Job::start(args, &spec, &device)?;
    let report = Report::new(args.json);
    let stream = job.train.stream().clone();
    report.start(&Start {
        model: model.to_torch_string(),
        parameters: model.parameters().iter().map(|parameter| parameter.count).sum(),
        stream: &stream.name,
        samples: stream.extent.samples_delivered(),
        classes: &stream.classes,
        device: args.device.to_string(),
    });
    let keeper = Keeper { args, target, model_text, stream };
    for epoch in 0..args.epochs {
        let (trained, mut done) = job.train_epoch(model, epoch, &report)?;
        model = trained;
        let tested = job.test(&model.valid());
        done.test = tested.as_ref().ok().copied().flatten();
        keeper.keep(&model, &done, job.train.cursor())?;
        report.end_epoch(&done);
        report.checkpoint(keeper.target.dir());
        // Only now: an epoch that could not be tested was trained all the same.
        tested?;
    }
    Ok(())
}

/// What every checkpoint of a run has in common.
struct Keeper<'a> {
    args: &'a FitArgs,
    target: Target,
    model_text: String,
    stream: StreamDescription,
}

impl Keeper<'_> {
    /// Saves a model that is trained up to `position`; one that ran away takes no checkpoint's place.
    fn keep(&self, model: &Sequential, done: &EpochReport, position: Position) -> Result<(), FitError> {
        let Self { args, stream, .. } = self;
        if let Some(score) = done.test {
            finite(args, "the test loss", score.loss, done.epoch)?;
        }
        if let Some(parameter) = model.valid().runaway().map_err(|source| compute(args, source))? {
            let what = format!("parameter {parameter} is not finite");
            return Err(FitError::Diverged { what, epoch: done.epoch, lr: args.lr });
        }
        let input = stream.fields.iter().find(|field: &&FieldSpec| field.name == IMAGE);
        let about = About {
            format: FORMAT,
            stream: stream.name.clone(),
            spec_hash: stream.spec_hash.clone(),
            stream_seed: stream.seed,
            seed: args.seed,
            position,
            classes: stream.classes.clone(),
            input: input.expect("`image_shape` found the field").clone(),
            transforms: stream.transforms.clone(),
            optimizer: args.optimizer,
            lr: args.lr,
            metrics: Metrics { train_loss: done.loss, test: done.test },
        };
        Ok(self.target.save(model, &self.model_text, &about)?)
    }
}

/// A training under way.
struct Job<'a> {
    args: &'a FitArgs,
    optimizer: ModuleOptimizer,
    normalizer: Normalizer,
    train: Feed,
    eval: Option<Feed>,
}

impl<'a> Job<'a> {
    /// Attaches to the streams and makes a model for them.
    fn start(args: &'a FitArgs, spec: &ModelSpec, device: &Device) -> Result<(Self, Sequential), FitError> {
        let attach = |stream: &str| {
            let subscription = Subscription::new(stream).epochs(0, Some(args.epochs));
            Client::connect(args.socket.as_deref())?.attach(&subscription)
        };
        let train = attach(&args.stream)?;
        let eval = args.eval.as_deref().map(attach).transpose()?;
        let input = image_shape(train.stream())?;
        for member in eval.iter().chain([&train]) {
            check_stream(train.stream(), input, member.stream())?;
        }
        device.seed(args.seed);
        let fits = |source| FitError::Model { model: args.model.display().to_string(), source: Box::new(source) };
        let model = Sequential::build(spec, input, &device.clone().autodiff()).map_err(fits)?;
        for stream in [&train].into_iter().chain(&eval).map(Member::stream) {
            model.check_classes(&stream.name, stream.classes.len()).map_err(fits)?;
        }
        let normalizer = Normalizer::new(&spec.normalize, input, device)
            .map_err(|mistake| ConfigError::Mistake { path: args.model.clone(), mistake })?;
        let outputs = model.outputs();
        let job = Self {
            args,
            optimizer: args.optimizer.init(),
            normalizer,
            train: Feed::start(train, outputs, device)?,
            eval: eval.map(|member| Feed::start(member, outputs, device)).transpose()?,
        };
        Ok((job, model))
    }

    /// Trains on every batch of an epoch once. Takes the model whole: the optimizer writes into parameters in place
    /// when nobody else holds them.
    fn train_epoch(
        &mut self,
        mut model: Sequential,
        epoch: u64,
        report: &Report,
    ) -> Result<(Sequential, EpochReport), FitError> {
        let extent = self.train.stream().extent;
        let samples = extent.samples_delivered();
        report.begin_epoch(epoch, samples);
        let (start, waited_before) = (Instant::now(), self.train.waited());
        let mut mean = MeanLoss::default();
        let mut done = 0;
        for step in 1..=extent.steps() {
            let batch = self.train.next()?;
            let rows = batch.rows;
            let images = self.normalizer.apply(batch.pixels).autodiff();
            let loss = cross_entropy(model.logits(images), batch.labels.autodiff());
            mean.add(loss.clone(), rows);
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            model = self.optimizer.step(self.args.lr, model, gradients);
            let rows = u64::try_from(rows).expect("rows fit 64 bits");
            done += rows;
            report.advance(rows);
            if step % STEPS_PER_READING == 0 || step == extent.steps() {
                let recent = mean.collect().map_err(|source| compute(self.args, source))?;
                report.loss(finite(self.args, "the loss", recent, epoch)?, done, samples);
            }
        }
        let time = start.elapsed();
        let report = EpochReport {
            epoch,
            loss: mean.mean(),
            samples: done,
            seconds: time.as_secs_f64(),
            samples_per_s: rate(done, time),
            waited_s: (self.train.waited() - waited_before).as_secs_f64(),
            test: None,
        };
        Ok((model, report))
    }

    /// Measures a model on every batch of the test stream's next epoch.
    fn test(&mut self, model: &Sequential) -> Result<Option<Score>, FitError> {
        let Some(feed) = &mut self.eval else { return Ok(None) };
        let mut test = Test::default();
        let steps = feed.stream().extent.steps();
        for step in 1..=steps {
            let batch = feed.next()?;
            let logits = model.logits(self.normalizer.apply(batch.pixels));
            let loss = cross_entropy(logits.clone(), batch.labels.clone());
            test.add(logits, batch.labels, loss);
            if step % STEPS_PER_READING == 0 || step == steps {
                test.collect().map_err(|source| compute(self.args, source))?;
            }
        }
        Ok(Some(test.score()))
    }
}

fn finite(args: &FitArgs, name: &str, loss: f64, epoch: u64) -> Result<f64, FitError> {
    if !loss.is_finite() {
        return Err(FitError::Diverged { what: format!("{name} is {loss}"), epoch, lr: args.lr });
    }
    Ok(loss)
}

fn compute(args: &FitArgs, source: TensorReadError) -> FitError {
    FitError::Compute { device: args.device.to_string(), source }
}

/// Checks that a stream has batches, and images and classes as those of the stream trained on.
fn check_stream(train: &StreamDescription, wanted: ImageShape, stream: &StreamDescription) -> Result<(), FitError> {
    let eval = || stream.name.clone();
    if stream.extent.steps() == 0 {
        return Err(FitError::Empty { stream: eval(), samples: stream.extent.samples });
    }
    let found = image_shape(stream)?;
    if found != wanted {
        return Err(FitError::OtherImages { eval: eval(), found, stream: train.name.clone(), wanted });
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
    use burn::tensor::Tensor;
    use clap::Parser;
    use expect_test::{Expect, expect};

    use super::*;
    use crate::checkpoint;
    use crate::cli::{Cli, Command};
    use crate::layers::Layer;

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
            let shape = image_shape(&train).expect("it has labelled images");
            let message = check_stream(&train, shape, eval).err().map(|error| error.to_string());
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
                "test on stream `test`: its images are 32x32x1, those of `train` are 28x28x1: give both the same transforms"
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
        let mut model = Sequential::build(&ModelSpec::parse(text).expect("a model"), shape, &device).expect("it fits");
        let keeper = Keeper {
            args: &args,
            target: Target::prepare(&dir).expect("nothing is there"),
            model_text: text.to_owned(),
            stream: stream("train", &["cat", "dog"], 2, 10),
        };
        let done = |epoch, test| EpochReport {
            epoch,
            loss: 0.5,
            samples: 8,
            seconds: 1.0,
            samples_per_s: 8.0,
            waited_s: 0.0,
            test,
        };
        let good = done(0, Some(Score { accuracy: 0.75, loss: 0.25 }));
        keeper.keep(&model, &good, Position { epoch: 1, step: 0 }).expect("all is finite");

        let refused = |model: &Sequential, done: &EpochReport, expected: Expect| {
            let error = keeper.keep(model, done, Position { epoch: 2, step: 0 }).expect_err("it diverged");
            expected.assert_eq(&error.to_string());
            let about = checkpoint::load(&dir, &device).expect("the good one is still there").about;
            assert_eq!(about.metrics.test, good.test);
        };
        refused(
            &model,
            &done(1, Some(Score { accuracy: 0.5, loss: f64::INFINITY })),
            expect!["the test loss is inf in epoch 1: the training diverged, lower --lr (now 2)"],
        );
        if let Some(Layer::Linear(layer)) = model.layers.last_mut() {
            layer.bias = Some(Param::from_tensor(Tensor::from_data([0.0, f32::NAN], &Device::flex())));
        }
        refused(
            &model,
            &done(1, None),
            expect!["parameter layers.1.bias is not finite in epoch 1: the training diverged, lower --lr (now 2)"],
        );
    }
}
