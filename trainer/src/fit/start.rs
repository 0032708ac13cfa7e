//! What a training begins with: streams that are attached and checked, and a model that fits them.

use batchmill_protocol::client::{Client, Member, Subscription};
use batchmill_protocol::identity::Identity;
use batchmill_protocol::message::StreamDescription;
use batchmill_protocol::position::Position;
use batchmill_protocol::share::Share;
use burn::module::Module as _;
use burn::tensor::Device;

use super::error::FitError;
use super::init::begin_with;
use super::losses::Losses;
use super::team::Team;
use super::training::Training;
use crate::checkpoint::best::BestBy;
use crate::cli::{FitArgs, Seconds};
use crate::config::{ConfigError, ModelSpec};
use crate::feed::{Feed, Successor};
use crate::fields::{Answer, Fields, first_other_class};
use crate::learn::{Batches, LearnSpec, Learner, Standing};
use crate::model::Sequential;
use crate::normalize::Normalizer;
use crate::report::Report;
use crate::resume::Beginning;
use crate::stop::Stop;

/// Attaches to the streams, and makes a model for them or takes the one trained so far.
pub(super) fn start<'a>(
    args: &'a FitArgs,
    spec: &ModelSpec,
    device: &Device,
    beginning: Beginning,
    report: &'a Report,
    share: &Share,
    team: Option<Team<'a>>,
) -> Result<Training<'a>, FitError> {
    let mut team = team;
    let Beginning { settings, position, next, input, target, trained, .. } = beginning;
    let attach = |stream: &str, from: Position, expected: Option<Identity>, share: &Share| {
        // An epoch of which only the test is left may be the last one; there is always one more to attach to.
        let until = args.epochs.max(from.epoch + 1);
        let subscription = Subscription::new(stream).epochs(0, Some(until)).from(from).expecting(expected);
        let subscription = subscription.sharing(share.clone());
        Client::connect(args.socket.as_deref())?.attach(&subscription)
    };
    let expected = trained.as_ref().map(|trained| trained.identity.clone()).filter(|_| !args.allow_changed);
    let train = attach(&args.stream, next, expected, share)?;
    if let Some(team) = &mut team {
        team.check_stream(&args.stream, &train.stream().spec_hash, position)?;
    }
    // The test of an epoch comes at its end.
    let tested = Position { step: 0, ..position };
    // Among ranks, one tests for all.
    let (tests, eval_share) = match share {
        Share::Sharded(shard) => (shard.rank == 0, &Share::Private),
        shared => (true, shared),
    };
    let eval = args.eval.as_deref().filter(|_| tests);
    let eval = eval.map(|stream| attach(stream, tested, None, eval_share)).transpose()?;
    let fields = Fields::of(train.stream(), input.as_deref(), target.as_deref())?;
    let fields = fields.for_loss(spec.learn.loss.takes_classes())?;
    check_best(args.best, &fields)?;
    // A number may be of another dtype there: each stream is read by its own fields.
    let eval_fields = eval.as_ref().map(|eval| check_stream(train.stream(), &fields, eval.stream())).transpose()?;
    check_stream(train.stream(), &fields, train.stream())?;
    let fits = |source| FitError::Model { model: args.model.display().to_string(), source: Box::new(source) };
    let batches = Batches { per_epoch: train.stream().extent.steps(), epochs: args.epochs };
    let learn = LearnSpec { optimizer: settings.optimizer, ..spec.learn.clone() };
    let is_among_ranks = team.is_some();
    let learner = |model: &Sequential| {
        let model_file = || args.model.display().to_string();
        Learner::new(&learn, model.outputs(), batches, device)
            .map(|learner| if is_among_ranks { learner.among_ranks() } else { learner })
            .map_err(|source| FitError::Loss { model: model_file(), source })
    };
    let (mut losses, mut early_stopping) = (Losses::default(), Standing::default());
    let (model, learner) = if let Some(trained) = trained {
        if position.step > 0 {
            losses = Losses::resumed(&trained.metrics);
        }
        early_stopping = trained.early_stopping;
        let (model, memory) = trained.for_samples(&args.stream, &fields.kind)?;
        let mut learner = learner(&model)?;
        memory.restore(&mut learner, &model, device)?;
        (model, learner)
    } else {
        // Drawn on the CPU: a seed means the same first weights wherever they are trained.
        let host = Device::flex().autodiff();
        host.seed(settings.seed);
        let model = Sequential::build(spec, fields.kind.clone(), &host).map_err(fits)?;
        model.draw();
        let mut model = model.fork(&device.clone().autodiff());
        begin_with(&mut model, args, report)?;
        let learner = learner(&model)?;
        (model, learner)
    };
    if args.eval.is_none() && spec.learn.train.early_stopping.is_some_and(|early| early.metric.needs_test()) {
        return Err(FitError::NoTest { model: args.model.display().to_string() });
    }
    for stream in [&train].into_iter().chain(&eval).map(Member::stream) {
        model.check_answer(fields.answer, &stream.name, stream.classes.len()).map_err(fits)?;
    }
    let normalizer = Normalizer::new(&spec.normalize, &fields.kind, device)
        .map_err(|mistake| ConfigError::Mistake { path: args.model.clone(), mistake })?;
    let feed = |member, fields| {
        let successor = args.reconnect.map(|Seconds(limit)| Successor { limit, report: report.clone() });
        Feed::start(member, fields, &model, device, successor)
    };
    let eval = eval.zip(eval_fields).map(|(eval, fields)| feed(eval, fields));
    let train = feed(train, fields.clone());
    let (device, epoch) = (device.clone(), position.epoch);
    Ok(Training {
        args,
        settings,
        device,
        fields,
        model,
        learner,
        normalizer,
        train,
        eval,
        epoch,
        losses,
        early: spec.learn.train.early_stopping,
        early_stopping,
        report,
        asked: Stop::default(),
        stop: Stop::default(),
        team,
    })
}

/// Checks that what the best checkpoint is chosen by will be measured.
fn check_best(best: Option<BestBy>, fields: &Fields) -> Result<(), FitError> {
    match (best, fields.answer) {
        (Some(BestBy::Accuracy), Answer::Numbers(_)) => Err(FitError::NoAccuracy { target: fields.target.clone() }),
        _ => Ok(()),
    }
}

/// Checks that a stream has batches, and samples, targets and classes as those of the stream trained on. Gives its fields.
fn check_stream(train: &StreamDescription, wanted: &Fields, stream: &StreamDescription) -> Result<Fields, FitError> {
    let eval = || stream.name.clone();
    if stream.extent.steps() == 0 {
        return Err(FitError::Empty { stream: eval(), samples: stream.extent.samples });
    }
    let found = Fields::of(stream, Some(&wanted.input.name), Some(&wanted.target.name))?;
    if found.kind != wanted.kind {
        let (found, wanted) = (found.kind, wanted.kind.clone());
        return Err(FitError::OtherSamples { eval: eval(), found, stream: train.name.clone(), wanted });
    }
    let found = match found.clone().for_loss(wanted.answer == Answer::Class) {
        Ok(same) if same.answer == wanted.answer => same,
        _ => {
            let (found, wanted) = (Box::new(found.target), Box::new(wanted.target.clone()));
            return Err(FitError::OtherTargets { eval: eval(), found, stream: train.name.clone(), wanted });
        }
    };
    match first_other_class(&stream.classes, &train.classes) {
        Some((label, found, wanted)) => {
            Err(FitError::OtherClasses { eval: eval(), label, found, stream: train.name.clone(), wanted })
        }
        None => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use batchmill_protocol::message::StreamId;
    use batchmill_protocol::position::{Extent, Tail};
    use batchmill_protocol::tensor::{Dtype, FieldSpec, Shape};
    use expect_test::{Expect, expect};

    use super::*;

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
    fn a_test_stream_is_read_by_its_own_fields() {
        let train = stream("train", &[], 2, 10);
        let fields = Fields::of(&train, None, None).expect("it has labelled images");
        let with_target = |target: FieldSpec| {
            let mut eval = stream("test", &[], 2, 10);
            eval.fields[1] = target;
            check_stream(&train, &fields, &eval)
        };
        let bytes = FieldSpec::new("label", Dtype::U8, Shape::default());
        assert_eq!(with_target(bytes.clone()).map(|fields| fields.target).ok(), Some(bytes));
        for other in [FieldSpec::new("label", Dtype::I64, [2]), FieldSpec::new("label", Dtype::F32, Shape::default())] {
            let error = with_target(other).expect_err("it is no class").to_string();
            assert!(error.starts_with("test on stream `test`: its target is label"), "{error}");
        }
    }

    #[test]
    fn numbers_have_no_accuracy_to_be_the_best_by() {
        let fields = Fields::of(&stream("train", &["cat", "dog"], 2, 10), None, None).expect("it has labelled images");
        let check = |takes_classes, best| {
            let fields = fields.clone().for_loss(takes_classes).expect("a class is a number too");
            check_best(best, &fields).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(check(true, Some(BestBy::Accuracy)) + &check(false, Some(BestBy::Loss)) + &check(false, None), "");
        expect!["choose the best checkpoint by accuracy: the target label: i64 [] is a number here, not a class: say --best loss"]
            .assert_eq(&check(false, Some(BestBy::Accuracy)));
    }
}
