//! The torture as a program, which is also the loaders, workers and trainers that it tortures.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use batchmill_protocol::position::Position;
use batchmill_protocol::share::Share;
use batchmill_tests::run_loader;
use batchmill_tests::torture::{
    LOADER, Length, Mix, Options, Outcome, Reading, become_loader, consume, report, torture,
};
use clap::{Parser, Subcommand};

/// Something was found.
const FOUND: u8 = 1;

/// The torture could not go on.
const BROKEN: u8 = 2;

/// The negative control passed all checks, so they are worth nothing.
const NOT_CAUGHT: u8 = 3;

/// Kills, stops and starves workers, trainers and loaders at random, while every batch that a trainer gets is compared
/// with what it must be.
///
/// The exit code is 0 when nothing was found, 1 when something was, 2 when the torture could not go on, and 3 when the
/// negative control was not caught.
#[derive(Debug, Parser)]
#[command(
    name = "torture",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  cargo run -p batchmill-tests --release --bin torture -- --minutes 30 --seed 7
  cargo run -p batchmill-tests --release --bin torture -- --minutes 5 --share sharded
  cargo run -p batchmill-tests --release --bin torture -- --minutes 5 --negative-control"
)]
struct Cli {
    #[command(flatten)]
    torture: Torture,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, clap::Args)]
struct Torture {
    /// How long it goes on
    #[arg(long, value_name = "N", default_value = "1", value_parser = minutes)]
    minutes: Duration,
    /// So much harm instead, one soon after the other: WORKERS:TRAINERS:LOADERS, such as 25:5:2
    #[arg(long, value_name = "EVENTS", conflicts_with = "minutes", value_parser = events)]
    events: Option<Length>,
    /// How the trainers share the stream: each by itself, all the same batches, as ranks of one group, or some of each
    #[arg(long, value_name = "MIX", value_enum, default_value = "mixed")]
    share: Mix,
    /// What harm is done follows from it [default: another one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Photos to draw
    #[arg(long, value_name = "N", default_value = "400", value_parser = clap::value_parser!(u64).range(32..=9_999))]
    photos: u64,
    /// The longest side of a photo, in pixels: larger ones keep workers busy for longer
    #[arg(long, value_name = "N", default_value = "320", value_parser = clap::value_parser!(u32).range(32..=2_000))]
    photo_side: u32,
    /// Print the counts as one JSON object a line
    #[arg(long)]
    json: bool,
    /// Torture a loader that gives work out again while a worker may still write, which must be found
    #[arg(long)]
    negative_control: bool,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Be a trainer.
    #[command(hide = true)]
    Consumer {
        #[arg(long)]
        socket: PathBuf,
        #[arg(long)]
        stream: String,
        #[arg(long)]
        from: Position,
        #[arg(long)]
        until: u64,
        #[arg(long)]
        leases: u32,
        /// As JSON.
        #[arg(long, value_parser = share)]
        share: Share,
        #[arg(long)]
        seed: u64,
    },
    /// Be a loader that ends with whoever started it.
    #[command(hide = true)]
    Leashed {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

fn minutes(text: &str) -> Result<Duration, String> {
    let minutes = text.parse::<f64>().ok().filter(|minutes| *minutes > 0.0 && *minutes <= 10_000.0);
    minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0)).ok_or_else(|| "name a number up to 10000".to_owned())
}

fn events(text: &str) -> Result<Length, String> {
    let counts: Option<Vec<u64>> = text.split(':').map(|count| count.parse().ok()).collect();
    match counts.as_deref() {
        Some(&[worker, trainer, daemon]) => Ok(Length::Events { worker, trainer, daemon }),
        _ => Err("name three numbers, WORKERS:TRAINERS:LOADERS, such as 25:5:2".to_owned()),
    }
}

fn share(text: &str) -> Result<Share, serde_json::Error> {
    serde_json::from_str(text)
}

fn main() -> ExitCode {
    // The loader starts its workers under this name too.
    if env::args_os().next().is_some_and(|name| name == LOADER) {
        return run_loader(batchmill_datasets::builtin());
    }
    let Cli { torture, role } = Cli::parse();
    let done = match role {
        None => return run(&torture),
        Some(Role::Consumer { socket, stream, from, until, leases, share, seed }) => {
            consume(Reading { socket, stream, from, until, share, leases, seed })
        }
        Some(Role::Leashed { arguments }) => Err(become_loader(&arguments).into()),
    };
    done.map_or_else(|error| broken(error.as_ref()), |()| ExitCode::SUCCESS)
}

fn run(arguments: &Torture) -> ExitCode {
    let Torture { minutes, events, share: mix, seed, photos, photo_side, json, negative_control } = *arguments;
    let seed = seed.unwrap_or_else(batchmill_tests::another_seed);
    eprintln!("seed {seed}");
    let length = events.unwrap_or(Length::Time(minutes));
    match torture(Options { seed, length, mix, json, negative_control, photos, photo_side }) {
        Err(error) => broken(error.as_ref()),
        Ok(Outcome { clean, wrong_batch, verdict }) => match (negative_control, clean) {
            (false, true) => {
                eprintln!("{verdict}");
                ExitCode::SUCCESS
            }
            (true, true) => {
                eprintln!("error: the loader without reaping passed every check: {verdict}");
                ExitCode::from(NOT_CAUGHT)
            }
            (true, false) if !wrong_batch => {
                eprintln!("error: the loader without reaping came to no batch that could be wrong: {verdict}");
                ExitCode::from(BROKEN)
            }
            (_, false) => {
                eprintln!("error: {verdict}");
                ExitCode::from(FOUND)
            }
        },
    }
}

fn broken(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("error: {}", report(error));
    ExitCode::from(BROKEN)
}
