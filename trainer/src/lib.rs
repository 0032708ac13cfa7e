//! The trainer: burn models, trained on batches that a loader leaves in shared memory.
//!
//! `trainer fit` attaches to a stream ([`fit`]), takes its batches as tensors ([`feed`]), normalizes them on the
//! device ([`normalize`]) and trains the [`model::Sequential`] that a model file ([`config`]) describes. A
//! [`checkpoint`] is what `trainer fit` goes on from ([`resume`]), and what `trainer predict` ([`predict`]) reads, to look
//! at images that it prepares ([`prepare`]) as the stream did: by the transforms of `batchmill_datasets` themselves.
//! Several ranks train one model together ([`collective`]), whom `trainer fit --world` starts ([`launch`]).
//! `trainer eval` ([`eval`]) says how well a model does on a stream, and on what it fails.

pub mod cli;
pub mod compare;
pub mod config;
pub mod device;
pub mod eval;
pub mod fit;
pub mod predict;
pub mod summary;

pub mod feed;
pub mod fields;
pub mod layer;
pub mod layers;
pub mod learn;
pub mod loss;
pub mod metrics;
pub mod model;
pub mod normalize;
pub mod optimizer;
pub mod prepare;
pub mod registry;
pub mod schedule;
pub mod shape;
pub mod state;

pub mod collective;
pub mod launch;

pub mod checkpoint;
pub mod live;
pub mod report;
pub mod resume;
pub mod run;
pub mod section;
pub mod stop;
mod whole;

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::registry::Registry;

/// The exit code of a command that failed; a wrong command line is clap's 2.
const FAILED: u8 = 1;

/// The exit code of one of several ranks that could not go on without another.
pub(crate) const LEFT: u8 = 3;

/// The exit code after Ctrl-C, as shells have it: 128 and the signal's number.
pub(crate) const INTERRUPTED: u8 = 130;

/// The exit code after SIGTERM.
pub(crate) const TERMINATED: u8 = 143;

/// Does what the command line says. Whatever goes wrong is one paragraph on standard error.
///
/// A trainer with layers of your own, or for a loader with transforms of your own, is a `main` that calls this with
/// more than [`Registry::builtin`] and [`batchmill_datasets::builtin`]. `transforms` are those of your loader.
pub fn run(layers: &Registry, transforms: &batchmill_datasets::registry::Registry) -> ExitCode {
    let done: Result<(), Box<dyn Error>> = match Cli::parse().command {
        Command::Fit(args) => match fit::run(&args, layers) {
            Ok(Some(reason)) => return ExitCode::from(reason.exit_code()),
            Err(error) if error.is_said() => return ExitCode::from(FAILED),
            Err(error) if error.is_of_another_rank() => return failed(&error, LEFT),
            done => done.map(drop).map_err(Into::into),
        },
        Command::Summary(args) => summary::run(&args, layers).map_err(Into::into),
        Command::Compare(args) => compare::run(&args).map_err(Into::into),
        Command::Devices(args) => {
            device::list(&args);
            Ok(())
        }
        Command::Predict(args) => predict::run(&args, layers, transforms).map_err(Into::into),
        Command::Eval(args) => eval::run(&args, layers).map_err(Into::into),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(error.as_ref(), FAILED),
    }
}

fn failed(error: &dyn Error, code: u8) -> ExitCode {
    // Where nobody reads it, the exit code has to do.
    let _ = writeln!(std::io::stderr(), "error: {}", paragraph(error));
    ExitCode::from(code)
}

/// An error and its causes, outermost first.
pub(crate) fn paragraph(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
