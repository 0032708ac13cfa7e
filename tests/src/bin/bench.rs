//! The benchmark as a program: `scripts/bench` builds all that it needs and starts it.

use std::env;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use batchmill_tests::bench::data::Data;
use batchmill_tests::bench::peers::Peers;
use batchmill_tests::bench::start::{WarmStart, warm};
use batchmill_tests::bench::workload::{self, Workload};
use batchmill_tests::bench::{Failure, Run, bare, ours, table};
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

/// Measures the loader beside the bare work that it does and, where the environment says how, beside other loaders, in
/// turn, and prints a table.
///
/// `PEERS` is the folder of the other loaders' scripts, `PY_TORCH` and `PY_PEERS` are the Python interpreters with PyTorch
/// and with the rest. Rates are medians over rounds in which everybody has a turn.
#[derive(Debug, Parser)]
#[command(
    name = "bench",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  scripts/bench --only W1,W3
  PEERS=peers PY_TORCH=venv/bin/python PY_PEERS=venv/bin/python scripts/bench --data data --rounds 3"
)]
struct Cli {
    #[command(flatten)]
    bench: Bench,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, clap::Args)]
struct Bench {
    /// A folder with `imagenet1k/labels.csv`, `cifar10/train.csv` and `mnist-idx/` [default: DATA, or some is drawn]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Workloads: W1, W1c, W1f, W1r, W2, W3, W3f, W4, W4t, warm [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// How often everybody has a turn
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Worker processes, and threads or processes of the others
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// Give the loaders no more files than this, to try it out
    #[arg(long, value_name = "N", default_value = "0")]
    limit: u32,
    /// Leave the others out
    #[arg(long)]
    alone: bool,
    /// Print a JSON object for each run instead of the table
    #[arg(long)]
    json: bool,
    /// Add a JSON object for each run to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Be the other process of the ring.
    #[command(hide = true, name = bare::RING_WRITER)]
    RingWriter { batch_bytes: usize },
}

/// What the warm start is asked for by.
const WARM: &str = "warm";

/// Starts of a client beside a running loader.
const STARTS: u32 = 100;

fn main() -> ExitCode {
    let Cli { bench, role } = Cli::parse();
    let done = match role {
        Some(Role::RingWriter { batch_bytes }) => bare::write_ring(batch_bytes),
        None => run(&bench),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Bench) -> Result<(), Failure> {
    let folder = tempfile::Builder::new().prefix("bm").tempdir()?;
    let named = arguments.data.clone().or_else(|| env::var_os("DATA").map(PathBuf::from));
    let data = match &named {
        Some(root) => Data::open(root)?,
        None => {
            eprintln!("drawing data; --data names a folder with real images");
            Data::draw(&folder.path().join("data"))?
        }
    };
    let mut workloads = workload::all(&data, folder.path(), arguments.workers)?;
    let known: Vec<&str> = workloads.iter().map(|workload| workload.name).chain([WARM]).collect();
    if let Some(stranger) = arguments.only.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("--only names `{stranger}`; there are {}", known.join(", ")).into());
    }
    let is_wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
    let warm_start = is_wanted(WARM).then(|| warm_start(&workloads[0], arguments, &folder)).transpose()?;
    workloads.retain(|workload| is_wanted(workload.name));
    let (runs, gaps) = measure(arguments, &workloads, &data, &folder)?;
    if arguments.json {
        return Ok(());
    }
    print!("{}", table::table(&workloads, &runs));
    for (name, beside_mb) in table::beside(&workloads, &runs) {
        println!("{name}: loader and workers take {beside_mb:.0} MB beside batches and cache");
    }
    for (name, gap) in gaps {
        println!("{name}: from one epoch's last batch to the next one's first takes {gap:.2} of a step");
    }
    if let Some(WarmStart { p50_ms, p99_ms }) = warm_start {
        println!("warm start of a client, process start to end with one batch: p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms");
    }
    Ok(())
}

fn warm_start(workload: &Workload, arguments: &Bench, folder: &tempfile::TempDir) -> Result<WarmStart, Failure> {
    warm(&program("loader")?, workload, arguments.workers, folder.path(), STARTS)
}

/// What was measured: the runs, and for each workload the gap between epochs, in steps.
type Measured = (Vec<Run>, Vec<(&'static str, f64)>);

/// Gives everybody a turn on every workload, in each round.
fn measure(
    arguments: &Bench,
    workloads: &[Workload],
    data: &Data,
    folder: &tempfile::TempDir,
) -> Result<Measured, Failure> {
    let peers = if arguments.alone { None } else { Peers::from_environment()? };
    let (loader, bare_loop) = (program("loader")?, program("examples/bare-loop")?);
    let mut out =
        arguments.out.as_ref().map(|path| File::options().create(true).append(true).open(path)).transpose()?;
    let turns: usize = workloads.iter().map(|workload| 2 + peers.as_ref().map_or(0, |_| workload.peers.len())).sum();
    let bar = ProgressBar::new(turns as u64 * u64::from(arguments.rounds));
    bar.set_style(ProgressStyle::with_template("{msg:30} {bar:40} {pos}/{len} runs, {eta} left")?);
    let (mut runs, mut gaps, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    let mut note = |run: Run| -> Result<(), Failure> {
        let line = serde_json::to_string(&run)?;
        if let Some(out) = &mut out {
            writeln!(out, "{line}")?;
        }
        if arguments.json {
            println!("{line}");
        }
        if bar.is_hidden() {
            eprintln!("{} {}: {:.0} samples/s", run.workload, run.contender.name(), run.samples_per_s);
        }
        runs.push(run);
        bar.inc(1);
        Ok(())
    };
    for round in 0..arguments.rounds {
        for workload in workloads {
            bar.set_message(format!("{} {}", workload.name, workload.what));
            note(bare::run(&bare_loop, workload)?)?;
            let (run, gap) = ours::run(&loader, workload, arguments.limit, folder.path())?;
            note(run)?;
            gaps.extend(gap.filter(|_| round == 0).map(|gap| (workload.name, gap)));
            for peer in peers.iter().flat_map(|peers| workload.peers.iter().map(move |peer| (peers, peer))) {
                match peer.0.run(workload, peer.1, data.root(), arguments.limit) {
                    Ok(Some(run)) => note(run)?,
                    Ok(None) => missing.push(format!("{} cannot do {} here", peer.1.name, workload.name)),
                    Err(error) => missing.push(error.to_string()),
                }
            }
        }
    }
    bar.finish_and_clear();
    missing.sort();
    missing.dedup();
    missing.iter().for_each(|line| eprintln!("{line}"));
    Ok((runs, gaps))
}

/// A program that was built beside this one.
fn program(name: &str) -> Result<PathBuf, Failure> {
    let path = env::current_exe()?.parent().ok_or("a program without a folder")?.join(name);
    if !path.is_file() {
        return Err(format!("{} is missing: scripts/bench builds it", path.display()).into());
    }
    Ok(path)
}
