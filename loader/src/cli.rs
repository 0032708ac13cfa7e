//! What can be typed.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

use batchmill_protocol::position::{Position, PositionError, Tail};
use batchmill_protocol::share::{Kind, Lag, Share, ShareError, Wish};
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

pub(crate) use values::{Bytes, Nice, Percent, Seconds, WORKERS_MAX, Workers};

mod values;

/// Runs a dataset across worker processes and streams its batches through shared memory to trainers.
#[derive(Debug, Parser)]
#[command(name = "loader", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve streams to trainers, until `loader stop`, SIGTERM or Ctrl-C.
    Serve(Serve),
    /// Read a stream as a trainer would, and measure it.
    Drain(Drain),
    /// Say how the loader stands: streams, slots, workers, trainers.
    Status(Status),
    /// Change the number of worker processes, while everything goes on.
    Scale(Scale),
    /// Serve more streams, while everything goes on.
    Open(Open),
    /// Serve a stream no longer, while everything goes on.
    Close(Close),
    /// List the samples that were substituted or masked, or ended their readers; or have them tried again.
    Quarantine(Quarantine),
    /// Say whether a run received its stream whole, and whether two runs received the same.
    Verify(Verify),
    /// End the loader.
    Stop(Stop),
    /// Draw a batch as it is after the transforms: a sheet of its images with their labels.
    Peek(Peek),
    /// Look at every sample of a stream: classes, image sizes, broken files, and how long an epoch takes.
    Inspect(Inspect),
    /// Fetch the data that streams lack and have `download = true` for, without serving them.
    Download(Download),
    /// Write a small set of drawn shapes to try things with.
    SampleData(SampleData),
    /// Be a worker process; only a loader starts this.
    #[command(hide = true)]
    Worker,
}

/// Where the loader is.
#[derive(Debug, Args)]
pub(crate) struct Address {
    /// The loader's socket [default: $XDG_RUNTIME_DIR/batchmill/default.sock]
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
}

/// Streams as they are typed: a configuration, or one folder.
#[derive(Debug, Args)]
pub(crate) struct Described {
    /// A file with one [stream.NAME] table for each stream
    #[arg(long, value_name = "FILE", conflicts_with_all = ["images", "labels"])]
    pub(crate) config: Option<PathBuf>,
    /// A folder of images, as the stream `train`
    #[arg(long, value_name = "DIR", requires = "labels")]
    pub(crate) images: Option<PathBuf>,
    /// A CSV whose rows name an image (a path in that folder) and its label
    #[arg(long, value_name = "FILE", requires = "images")]
    pub(crate) labels: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) one: OneStream,
}

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("what").args(["config", "images"]).required(true),
    after_help = "Examples:
  loader serve --config loader.toml --workers 4
  loader serve --config loader.toml --cpu-budget 40%
  loader serve --images photos --labels photos/labels.csv --shuffle --resize 256 --crop 224"
)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) described: Described,
    /// Worker processes: a number, or `auto` for one per CPU core
    #[arg(long, value_name = "N|auto")]
    pub(crate) workers: Option<Workers>,
    /// Shared memory for batches, all streams together, such as 256MiB or 2GiB
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<Bytes>,
    /// By how much workers give way to other processes, 0 to 19 as `nice` has it: 10 is enough to keep the pace of training
    /// beside them, where both were started from one terminal, or in one container [default: 0]
    #[arg(long, value_name = "N")]
    pub(crate) worker_nice: Option<Nice>,
    /// How much of the processors that the loader may run on all workers together use to make batches, at the most and on
    /// average, so that training beside them keeps its pace also when it was started elsewhere
    #[arg(long, value_name = "PERCENT")]
    pub(crate) cpu_budget: Option<Percent>,
    /// How long a range of samples may take, at least, before its worker is killed as hung [default: 30]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) hang_limit: Option<Seconds>,
    #[command(flatten)]
    pub(crate) address: Address,
    /// Print the line that says the loader is ready as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// The one stream of `--images` and `--labels`.
#[derive(Debug, Args)]
#[group(id = "one_stream", multiple = true, conflicts_with = "config", requires = "images")]
pub(crate) struct OneStream {
    /// Rows of a batch [default: 64]
    #[arg(long, value_name = "N")]
    pub(crate) batch_size: Option<u32>,
    /// Another order in each epoch
    #[arg(long)]
    pub(crate) shuffle: bool,
    /// What order and augmentation follow from [default: 0]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Scale each image so that its shorter side has N pixels
    #[arg(long, value_name = "N")]
    pub(crate) resize: Option<NonZeroU32>,
    /// Then cut N x N pixels from its middle
    #[arg(long, value_name = "N")]
    pub(crate) crop: Option<NonZeroU32>,
    /// Decode to colour or to gray [default: rgb]
    #[arg(long)]
    pub(crate) color: Option<Color>,
    /// A last batch that is not full: shorter, left out, or filled up [default: short]
    #[arg(long)]
    pub(crate) tail: Option<TailName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Rgb,
    Gray,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TailName {
    Short,
    Drop,
    Pad,
}

impl From<TailName> for Tail {
    fn from(name: TailName) -> Self {
        match name {
            TailName::Short => Self::Short,
            TailName::Drop => Self::Drop,
            TailName::Pad => Self::Pad,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  loader drain --stream train --epochs 2
  loader drain --stream train --from 3:100 --digest --json
  loader drain --stream train --ledger run.ledger --reconnect
  loader drain --stream train --share broadcast --lag wait
  loader drain --stream train --share sharded --rank 0 --world 4")]
pub(crate) struct Drain {
    /// The stream to read
    #[arg(long, value_name = "NAME")]
    pub(crate) stream: String,
    /// Epochs to read, the one begun with --from included
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) epochs: NonZeroU32,
    /// Where to begin
    #[arg(long, value_name = "EPOCH:STEP", default_value = "0:0")]
    pub(crate) from: Position,
    /// Read no more than so many batches
    #[arg(long, value_name = "N")]
    pub(crate) steps: Option<NonZeroU64>,
    #[command(flatten)]
    pub(crate) sharing: Sharing,
    /// Be busy with each batch for so long, as a training step is
    #[arg(long, value_name = "SECONDS")]
    pub(crate) step_time: Option<Seconds>,
    /// Also hash all bytes, labels and the order
    #[arg(long)]
    pub(crate) digest: bool,
    /// Write down every batch's digest, to be compared with `loader verify`
    #[arg(long, value_name = "FILE")]
    pub(crate) ledger: Option<PathBuf>,
    /// Go on where the ledger ends
    #[arg(long, requires = "ledger", conflicts_with = "from")]
    pub(crate) resume: bool,
    /// Go on also when spec or data have changed since
    #[arg(long, requires = "resume")]
    pub(crate) allow_changed: bool,
    /// When the loader ends, wait so long for the next one and go on there [default: 60]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "60")]
    pub(crate) reconnect: Option<Seconds>,
    /// Print one JSON object per epoch
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) address: Address,
}

/// How a stream is shared with others that read it.
#[derive(Debug, Args)]
pub(crate) struct Sharing {
    /// private: batches made for this one alone; broadcast: made once for all that read so; sharded: one rank's rows
    #[arg(long, value_name = "KIND")]
    share: Option<Kind>,
    /// With --share broadcast, when it lags behind the others: wait (they do), split (it reads on alone until it has
    /// caught up), drop (it is ended) [default: split]
    #[arg(long, value_name = "POLICY")]
    lag: Option<Lag>,
    /// With --share sharded, which rank [default: RANK, SLURM_PROCID or OMPI_COMM_WORLD_RANK]
    #[arg(long, value_name = "R")]
    rank: Option<u32>,
    /// With --share sharded, how many ranks [default: WORLD_SIZE, SLURM_NTASKS or OMPI_COMM_WORLD_SIZE]
    #[arg(long, value_name = "W")]
    world: Option<u32>,
    /// With --share sharded, whose ranks they are, when a stream has several such groups
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// With --share sharded, how many seconds a rank that is missing is waited for [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    rank_limit: Option<u32>,
}

impl Sharing {
    /// What these say together.
    pub(crate) fn share(&self) -> Result<Share, ShareError> {
        let Self { share, lag, rank, world, group, rank_limit } = self;
        let (share, lag, rank, world) = (*share, *lag, *rank, *world);
        Wish { share, lag, rank, world, group: group.clone(), limit_s: *rank_limit }.share()
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  loader status --json")]
pub(crate) struct Status {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) address: Address,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  loader scale 8")]
pub(crate) struct Scale {
    /// Worker processes wanted from now on
    #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(WORKERS_MAX)))]
    pub(crate) workers: u32,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) address: Address,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  loader open stream.toml --memory 512MiB

All streams of the file are opened, or none. Ctrl-C ends the waiting and not the opening; `loader close` does.")]
pub(crate) struct Open {
    /// A file with one [stream.NAME] table for each stream, and `memory` if wished
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Shared memory for their batches, all of them together, beside what the loader has [default: 256MiB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<Bytes>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) address: Address,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  loader close train
  loader close train --force")]
pub(crate) struct Close {
    /// The stream
    #[arg(value_name = "NAME")]
    pub(crate) stream: String,
    /// Also while trainers read it: they are told, and keep what they hold
    #[arg(long)]
    pub(crate) force: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) address: Address,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  loader quarantine
  loader quarantine --retry")]
pub(crate) struct Quarantine {
    /// Forget them and read the data's index anew, so that what was mended meanwhile is read again. Where the data have
    /// changed the stream is another from then on: trainers that read it go on, and what they resume from says so
    #[arg(long)]
    pub(crate) retry: bool,
    /// Print one JSON object per stream
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) address: Address,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  loader verify run.ledger
  loader verify run.ledger other.ledger
  loader verify run.ledger --remake 3:100")]
pub(crate) struct Verify {
    /// A ledger of `loader drain --ledger` or `trainer fit --ledger`
    #[arg(value_name = "LEDGER")]
    pub(crate) ledger: PathBuf,
    /// Another, to be compared with it
    #[arg(value_name = "LEDGER")]
    pub(crate) other: Option<PathBuf>,
    /// Make one batch of it, or all, from the data again and compare; no loader is needed, and a sample that ends its
    /// reader ends this command
    #[arg(long, value_name = "EPOCH:STEP|all", conflicts_with = "other")]
    pub(crate) remake: Option<Remake>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which batches to make again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remake {
    All,
    One(Position),
}

impl std::str::FromStr for Remake {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        text.parse().map(Self::One).map_err(|error: PositionError| format!("{error}, or `all`"))
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  loader stop")]
pub(crate) struct Stop {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) address: Address,
}

/// A stream to look at: of a configuration or a folder, else of the loader that runs.
#[derive(Debug, Args)]
pub(crate) struct Looked {
    /// The stream, where there are several
    #[arg(long, value_name = "NAME")]
    pub(crate) stream: Option<String>,
    #[command(flatten)]
    pub(crate) described: Described,
    #[command(flatten)]
    pub(crate) address: Address,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  loader peek --stream train --out sheet.png
  loader peek --config loader.toml --stream train --from 3:100 --out sheet.png

Without --config or --images it is a stream of the loader that runs. The batch is made here, from the data; it is the one \
that trainers get.")]
pub(crate) struct Peek {
    #[command(flatten)]
    pub(crate) looked: Looked,
    /// The batch to look at
    #[arg(long, value_name = "EPOCH:STEP", default_value = "0:0")]
    pub(crate) from: Position,
    /// The PNG to write; without it the rows are listed only
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Rows to show, at the most
    #[arg(long, value_name = "N", default_value = "64", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) rows: u32,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  loader inspect --stream train
  loader inspect --images photos --labels photos/labels.csv --broken broken.csv

Without --config or --images it is a stream of the loader that runs. Samples are read in this process, by as many threads \
as there are CPU cores: one that ends its reader ends this command.")]
pub(crate) struct Inspect {
    #[command(flatten)]
    pub(crate) looked: Looked,
    /// Samples to look at, spread evenly over the dataset [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) samples: Option<u64>,
    /// Write those that cannot be used into a CSV: index, name, reason
    #[arg(long, value_name = "FILE")]
    pub(crate) broken: Option<PathBuf>,
    /// Threads that read [default: one per CPU core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(WORKERS_MAX)))]
    pub(crate) threads: Option<u32>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  loader download --config loader.toml")]
pub(crate) struct Download {
    /// A file with one [stream.NAME] table for each stream
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Print one JSON object per stream
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  loader sample-data shapes && loader serve --config shapes/loader.toml")]
pub(crate) struct SampleData {
    /// The folder to make; it must not exist or be empty
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Images to train with, and a quarter of that to test with
    #[arg(long, value_name = "N", default_value = "8000", value_parser = clap::value_parser!(u32).range(40..=1_000_000))]
    pub(crate) images: u32,
    /// What the drawing follows from
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) seed: u64,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let help = command.clone().render_long_help().to_string();
            assert!(help.contains(&format!("\n  loader {}", command.get_name())), "{help}");
        }
    }
}
