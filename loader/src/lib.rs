//! Who makes which batch, where and when: the daemon, its workers, and the commands around them.
//!
//! A third party that adds a dataset, sampler or transform builds its own `loader` from this library:
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     let registry = batchmill_datasets::builtin(); // .dataset("my-kind", ...)
//!     batchmill_loader::run(registry)
//! }
//! ```
//! The same program runs as daemon, as worker and as client, so the workers know the third party's code too.

use std::io;
use std::process::ExitCode;

use batchmill_datasets::registry::Registry;
use clap::Parser as _;

mod cli;
mod config;
mod control;
mod daemon;
mod download;
mod drain;
mod error;
mod front_door;
mod look;
mod output;
mod peer;
mod sample_data;
mod scheduler;
mod serve;
mod supervisor;
mod verify;
mod worker;

/// Runs the `loader` program: reads the command line, does what it says.
///
/// The exit code is 0 when that was done, 1 when it could not be, 2 when the command line makes no sense. What went
/// wrong is one paragraph on standard error.
#[must_use]
pub fn run(registry: Registry) -> ExitCode {
    run_prepared(registry, |_| {})
}

/// Runs the same program, but its daemon gives rows out again while their worker lives, and so delivers wrong batches.
///
/// For tests alone: whoever compares what is delivered must notice.
#[cfg(feature = "negative-control")]
#[must_use]
pub fn run_without_reaping(registry: Registry) -> ExitCode {
    run_prepared(registry, daemon::Daemon::give_out_without_reaping)
}

/// Runs the program with a daemon that is prepared so.
fn run_prepared(registry: Registry, prepare: fn(&mut daemon::Daemon)) -> ExitCode {
    let done = match cli::Cli::parse().command {
        cli::Command::Serve(arguments) => serve::serve(&arguments, registry, prepare),
        cli::Command::Worker => worker::work(&registry),
        cli::Command::Drain(arguments) => drain::drain(&arguments),
        cli::Command::Status(arguments) => control::status(&arguments),
        cli::Command::Scale(arguments) => control::scale(&arguments),
        cli::Command::Open(arguments) => control::open(&arguments, &registry),
        cli::Command::Close(arguments) => control::close(&arguments),
        cli::Command::Quarantine(arguments) => control::quarantine(&arguments),
        cli::Command::Verify(arguments) => verify::verify(&arguments, &registry),
        cli::Command::Stop(arguments) => control::stop(&arguments),
        cli::Command::Peek(arguments) => look::peek::peek(&arguments, &registry),
        cli::Command::Inspect(arguments) => look::inspect::inspect(&arguments, &registry),
        cli::Command::Download(arguments) => download::download(&arguments, &registry),
        cli::Command::SampleData(arguments) => sample_data::write(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough.
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            output::log(&format!("error: {}", error::report(error.as_ref())));
            ExitCode::FAILURE
        }
    }
}
