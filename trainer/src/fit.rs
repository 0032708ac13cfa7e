//! `trainer fit`: attaches to a loader, trains, tests, saves.
//!
//! The command is here; [`start`] attaches and checks, [`training`] is the loop, [`losses`] are read and summed exactly,
//! [`keeper`] writes checkpoints, [`team`] makes one training of several ranks.

mod error;
mod every;
mod init;
mod keeper;
mod losses;
mod start;
pub(crate) mod team;
mod training;

use std::time::Instant;

use batchmill_protocol::ledger::Ledger;
use batchmill_protocol::share::Share;
use serde_json::json;

pub use self::error::FitError;
pub use self::every::Every;
pub use self::init::InitError;
use self::keeper::Keeper;
use self::team::Team;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::best::Criterion;
use crate::checkpoint::shelf::Shelf;
use crate::cli::{FitArgs, Part};
use crate::config::ModelSpec;
use crate::device;
use crate::feed::{Feed, FeedError};
use crate::fields::Answer;
use crate::launch::{self, LaunchError};
use crate::learn::EarlyStopping;
use crate::paragraph;
use crate::prepare::View;
use crate::registry::Registry;
use crate::report::{Report, Start};
use crate::resume::Beginning;
use crate::run::{self, Recorder};
use crate::stop::{Reason, Stop};

/// Trains as `args` say. Gives who ended it before its time, if anybody did.
///
/// # Errors
/// [`FitError`]; the last checkpoint stays.
pub fn run(args: &FitArgs, layers: &Registry) -> Result<Option<Reason>, FitError> {
    match args.sharing.part(&args.out)? {
        Part::Launch { world } => launch::run(args, world).map_err(FitError::from),
        Part::Train(_) if args.sharing.restarts > 0 && args.sharing.launcher.is_none() => {
            Err(LaunchError::NothingToRestart.into())
        }
        Part::Train(share) => train(args, layers, &share),
    }
}

fn train(args: &FitArgs, layers: &Registry, share: &Share) -> Result<Option<Reason>, FitError> {
    args.sharing.follow_launcher()?;
    let (spec, model_text) = ModelSpec::read(&args.model, layers)?;
    let (place, device) = args.device.open_and_name()?;
    let shard = match share {
        Share::Sharded(shard) => Some(shard),
        Share::Private | Share::Broadcast { .. } => None,
    };
    // Of several ranks the first one alone writes and reports.
    let is_first = shard.is_none_or(|shard| shard.rank == 0);
    let shelf = is_first.then(|| Shelf::open(&args.out, args.keep)).transpose()?;
    let mut newest = shelf.as_ref().map_or(Ok(None), Shelf::newest)?;
    if newest.is_some() && !args.resume {
        return Err(CheckpointError::Taken { run: args.out.clone() }.into());
    }
    let team = shard.filter(|shard| shard.world > 1).map(|shard| Team::join(shard, args, &model_text));
    let mut team = team.transpose()?;
    if let Some(team) = &mut team {
        newest = team.agree_on(newest.map(|(position, _)| position))?;
    }
    let beginning = Beginning::of(args, newest.as_ref().map(|(_, folder)| folder.as_path()), &spec, layers, &device)?;
    let report = if is_first { Report::new(args.view, args.json) } else { Report::Quiet };
    let (position, next) = (beginning.position, beginning.next);
    if let Some(why) = over(args, spec.learn.train.early_stopping, &beginning) {
        report.note(&why);
        if let Some(team) = team {
            team.finish();
        }
        return Ok(None);
    }
    if !beginning.changed.is_empty() {
        let (changed, model) = (beginning.changed.join(" and "), args.model.display());
        report.note(&format!("from {position} on it learns by another {changed} than before, as {model} says"));
    }
    let best = beginning.trained.as_ref().and_then(|trained| trained.best);
    let criterion = beginning.trained.as_ref().map(|trained| trained.criterion);
    let mut training = start::start(args, &spec, &device, beginning, &report, share, team)?;
    let stream = training.train.stream().clone();
    let ledger = match args.ledger.as_ref().filter(|_| is_first) {
        Some(path) if args.resume => Some(Ledger::resume(path, &stream, next)?),
        Some(path) => Some(Ledger::create(path, &stream)?),
        None => None,
    };
    let settings = training.settings;
    let mut told = json!({ "epochs": args.epochs, "optimizer": settings.optimizer, "seed": settings.seed });
    if let Some(shard) = shard {
        told["world"] = shard.world.into();
    }
    let about = run::about::Beginning {
        from: position,
        train: &stream,
        test: training.eval.as_ref().map(Feed::stream),
        settings: &told,
        device: &place.to_string(),
        model_file: &args.model,
        model_text: &model_text,
    };
    let recorder = || Recorder::begin(&args.out, about, args.resume, args.tensorboard);
    let recorder = is_first.then(recorder).transpose()?;
    // Only now: what was done so far may be ended at once.
    let stop = Stop::install().map_err(FitError::Listen)?;
    let stop = if args.sharing.launcher.is_some() { stop.led() } else { stop };
    training.asked = stop.clone();
    training.stop = training.team.as_mut().map_or(stop.clone(), |team| team.obey(&stop));
    let begun = Start {
        model: training.model.to_string(),
        parameters: training.model.parameters().iter().map(|parameter| parameter.count).sum(),
        stream: &stream.name,
        samples: stream.extent.samples_delivered(),
        epochs: args.epochs,
        classes: &stream.classes,
        device: place.to_string(),
        position,
    };
    report.start(&begun, &stop).map_err(FitError::Listen)?;
    // With a loss of numbers a class is one, and its accuracy is not measured.
    let has_classes = training.fields.answer == Answer::Class && !stream.classes.is_empty();
    let criterion = criterion.unwrap_or_else(|| Criterion::choose(args.best, args.eval.is_some(), has_classes));
    let (fields, since) = (training.fields.clone(), Instant::now());
    let view = View::of(training.eval.as_ref().map_or(&stream, Feed::stream));
    let mut keeper = Keeper {
        args,
        settings,
        shelf,
        model_text,
        stream,
        fields,
        view,
        ledger,
        recorder,
        criterion,
        best,
        kept: newest,
        since,
    };
    let guarded = device::guarded(format_args!("train on {place}"), || training.run(&mut keeper));
    let ended = guarded.map_err(FitError::from).flatten().map_err(|error| match error {
        FitError::Feed(lost @ FeedError::LoaderLost { .. }) => FitError::LoaderLost { lost, remedy: keeper.remedy() },
        other => other,
    });
    let outcome = match &ended {
        Ok(None) => "done".to_owned(),
        Ok(Some(reason)) => format!("stopped by {reason}"),
        Err(error) => paragraph(error),
    };
    if let Ok(Some(reason)) = ended {
        report.note(&keeper.farewell(reason));
    }
    report.finish();
    let recorded = keeper.finish(&outcome);
    let ended = ended?;
    recorded?;
    Ok(ended)
}

/// Why there is nothing left to train, if there is not.
fn over(args: &FitArgs, early: Option<EarlyStopping>, beginning: &Beginning) -> Option<String> {
    let (run, position) = (args.out.display(), beginning.position);
    if position.epoch >= args.epochs {
        return Some(format!("{run} is trained for all {} epochs already: raise --epochs to go on", args.epochs));
    }
    let (early, trained) = early.zip(beginning.trained.as_ref())?;
    let was_over = early.was_over(trained.early_stopping);
    was_over.then(|| format!("{run} was stopped early at {position}: raise the patience of early_stopping to go on"))
}
