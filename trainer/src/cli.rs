//! What is typed after `trainer`.

mod sharing;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub(crate) use self::sharing::real;
pub use self::sharing::{Part, Sharing};
use crate::checkpoint::best::BestBy;
use crate::device::DeviceChoice;
use crate::fields::Input;
use crate::fit::Every;
use crate::optimizer::OptimizerKind;
use crate::report::View;

/// Train models on batches from a Batchmill loader.
#[derive(Debug, Parser)]
#[command(name = "trainer", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model on a stream of the loader, test it after each epoch, save it
    #[command(after_help = "Examples:\n  \
        trainer fit --model model.toml --stream train --eval test --epochs 3 --out run\n  \
        trainer fit --model model.toml --epochs 30 --checkpoint-every 5m --reconnect --ledger run.ledger\n  \
        trainer fit --model model.toml --epochs 30 --resume --ledger run.ledger\n  \
        trainer fit --model model.toml --epochs 30 --world 4 --restarts 3 --checkpoint-every 5m\n  \
        mpirun -n 4 trainer fit --model model.toml --epochs 30 --share sharded\n\n\
        The exit code is 1 when it fails, 3 when it is one of several ranks and another is missing, 130 after Ctrl-C,\n\
        143 after SIGTERM.\n\n\
        The model file:\n  \
        [normalize]            # optional: (byte * scale - mean) / std; scale is 1/255 unless given\n  \
        mean = 0.5             # one number, or one per channel\n  \
        std = 0.5\n\n  \
        [[layer]]\n  \
        kind = \"flatten\"       # linear, relu, conv2d, max-pool2d, batch-norm, dropout, residual, ...\n\n  \
        [[layer]]\n  \
        kind = \"linear\"\n  \
        out_features = 10      # keys, meanings and defaults are PyTorch's; in_features is inferred")]
    Fit(Box<FitArgs>),
    /// List the layers and parameters of a model file: names, shapes, counts, memory
    #[command(after_help = "Example:\n  trainer summary --model model.toml --input 28x28x1")]
    Summary(SummaryArgs),
    /// Say whether runs are the same to the last bit, else from which step on they part and what was not the same
    #[command(after_help = "Example:\n  trainer compare runs/a runs/b --out compare.png\n\n\
        The exit code is 0 when every loss and every checkpoint that the runs have in common is the same, else 1.")]
    Compare(CompareArgs),
    /// Say what a trained model sees in images
    #[command(after_help = "Examples:\n  \
        trainer predict --checkpoint checkpoint --top 3 my/image.png\n  \
        trainer predict --checkpoint checkpoint my/images --out predictions.csv\n\n\
        Images are decoded and transformed as those of the stream it was tested on (--eval), or else of the one it was\n\
        trained on; what that draws at random is left out, or made of the middle, and said. Where it has no transform\n\
        of sizes, an image of another size is scaled until its shorter side fits, then cropped in the middle.\n\n\
        An image that cannot be read is named on standard error, and in the column `error`; the others are predicted,\n\
        and the exit code is 1.")]
    Predict(PredictArgs),
    /// Say how well a trained model does on a stream of the loader, class by class
    #[command(after_help = "Examples:\n  \
        trainer eval --checkpoint checkpoint --stream test\n  \
        trainer eval --checkpoint checkpoint --stream test --out errors.png --confusion confusion.png --json\n\n\
        Precision, recall and F1 are those of scikit-learn's classification_report; a division by zero gives 0.")]
    Eval(EvalArgs),
    /// List what there is to compute on: the values of --device
    #[command(after_help = "Example:\n  trainer devices\n\n\
        A graphics adapter that is only software (llvmpipe) computes as a GPU does, but slower than the CPU: `auto`\n\
        never takes it. Should Mesa complain about XDG_RUNTIME_DIR, set that to a folder of yours: it does no harm.")]
    Devices(DevicesArgs),
}

/// How to train.
#[derive(Args, Debug)]
pub struct FitArgs {
    /// The model file
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// The stream to train on
    #[arg(long, value_name = "NAME", default_value = "train")]
    pub stream: String,
    /// The stream to test on after each epoch
    #[arg(long, value_name = "NAME")]
    pub eval: Option<String>,
    /// The field that the model computes from [default: image, or input, or the checkpoint's with --resume]
    #[arg(long, value_name = "FIELD")]
    pub input: Option<String>,
    /// The field that it should answer [default: label, or target, or the checkpoint's with --resume]
    #[arg(long, value_name = "FIELD")]
    pub target: Option<String>,
    /// Where to compute: cpu, wgpu[:N], cuda[:N], or auto for the best there is; see `trainer devices`
    #[arg(long, default_value = "cpu")]
    pub device: DeviceChoice,
    /// How often to go through the stream
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub epochs: u64,
    /// How to learn [default: the model file's, else adam; the checkpoint's with --resume]
    #[arg(long, value_enum)]
    pub optimizer: Option<OptimizerKind>,
    /// The learning rate [default: the model file's, else the optimizer's own; the checkpoint's with --resume]
    #[arg(long, value_name = "RATE", value_parser = learning_rate)]
    pub lr: Option<f64>,
    /// Begin with the weights of this file: .safetensors, PyTorch's .pth of a state dict, or the folder of a run
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    pub init: Option<PathBuf>,
    /// Take of --init what fits by name and shape, and tell what does not, such as the last layer of other classes
    #[arg(long, requires = "init")]
    pub init_partial: bool,
    /// The folder of the run: gets a checkpoint after each epoch, and links to the latest and the best one
    #[arg(long, value_name = "DIR", default_value = "run")]
    pub out: PathBuf,
    /// Save the model also within an epoch: each so many steps (500), or each so often (30s, 5m)
    #[arg(long, value_name = "N|Ns|Nm")]
    pub checkpoint_every: Option<Every>,
    /// How many of the newest checkpoints to keep, besides the best one
    #[arg(long, value_name = "K", default_value = "2")]
    pub keep: NonZeroUsize,
    /// What the best checkpoint is chosen by, after each epoch [default: the test's accuracy where there are classes,
    /// else its loss; without --eval the training's loss]
    #[arg(long, value_enum, value_name = "METRIC", requires_if("accuracy", "eval"))]
    pub best: Option<BestBy>,
    /// Go on from the latest checkpoint in --out, at the exact batch, up to --epochs in all
    #[arg(long)]
    pub resume: bool,
    /// Go on also when the stream's spec or data have changed since
    #[arg(long, requires = "resume")]
    pub allow_changed: bool,
    /// When the loader ends, wait so long for the next one and go on there [default: 60]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "60")]
    pub reconnect: Option<Seconds>,
    /// Write every batch trained on, with its digest, to this file, for `loader verify`; with --resume go on in it
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// The loader's address, when it is not the default one
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// The seed of initial weights and dropout; the order of samples has the loader's [default: 0, or the checkpoint's
    /// with --resume]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// What to look at meanwhile: in `live`, q stops and l draws the loss on a log scale [default: live on a terminal,
    /// plain elsewhere]
    #[arg(long, value_enum, conflicts_with = "json")]
    pub view: Option<View>,
    /// Write events for TensorBoard too, beside `metrics.csv`
    #[arg(long)]
    pub tensorboard: bool,
    /// Print one JSON object a line: start, epochs, checkpoints, and of several ranks the hash of each one's weights
    #[arg(long)]
    pub json: bool,
    /// With whom it trains, or shares its stream; last, for its options have a heading of their own.
    #[command(flatten)]
    pub sharing: Sharing,
}

/// What to compare.
#[derive(Args, Debug)]
pub struct CompareArgs {
    /// Folders that `trainer fit --out` wrote; each is compared with the first
    #[arg(value_name = "RUN", required = true, num_args = 2..)]
    pub runs: Vec<PathBuf>,
    /// Draw their curves on top of one another
    #[arg(long, value_name = "FILE.png")]
    pub out: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What to list.
#[derive(Args, Debug)]
pub struct SummaryArgs {
    /// The model file
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// The samples it is for, when the file does not say: HEIGHTxWIDTHxCHANNELS of images, or FEATURES
    #[arg(long, value_name = "EXTENTS")]
    pub input: Option<Input>,
    /// The batch whose memory is to be told
    #[arg(long, value_name = "ROWS", default_value = "64")]
    pub batch_size: NonZeroUsize,
    /// Print one JSON object a line: layers, parameters, then the totals
    #[arg(long)]
    pub json: bool,
}

/// What to look at.
#[derive(Args, Debug)]
pub struct PredictArgs {
    /// A folder that `trainer fit --out` wrote: a checkpoint, or a run, of which the best is taken, else the latest
    #[arg(long, value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// Image files, and folders with images at any depth
    #[arg(value_name = "IMAGE|FOLDER", required = true)]
    pub images: Vec<PathBuf>,
    /// Where to compute: cpu, wgpu[:N], cuda[:N], or auto for the best there is; see `trainer devices`
    #[arg(long, default_value = "cpu")]
    pub device: DeviceChoice,
    /// How many classes to name
    #[arg(long, value_name = "K", default_value = "1")]
    pub top: NonZeroUsize,
    /// How many images to compute at once
    #[arg(long, value_name = "IMAGES", default_value = "64")]
    pub batch_size: NonZeroUsize,
    /// Write the predictions to this file, a table (.csv) or a list (.json), and print only what went wrong
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print one JSON object a line: an image each
    #[arg(long)]
    pub json: bool,
}

/// What to test on.
#[derive(Args, Debug)]
pub struct EvalArgs {
    /// A folder that `trainer fit --out` wrote: a checkpoint, or a run, of which the best is taken, else the latest
    #[arg(long, value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// The stream to test on, for one epoch
    #[arg(long, value_name = "NAME", default_value = "test")]
    pub stream: String,
    /// Where to compute: cpu, wgpu[:N], cuda[:N], or auto for the best there is; see `trainer devices`
    #[arg(long, default_value = "cpu")]
    pub device: DeviceChoice,
    /// Write the confusion matrix to this file, as a table (.csv) or drawn (.png); may be given twice
    #[arg(long, value_name = "FILE")]
    pub confusion: Vec<PathBuf>,
    /// Draw the worst mistakes, those of the largest loss first, with what they are and what the model said
    #[arg(long, value_name = "FILE.png")]
    pub out: Option<PathBuf>,
    /// How many mistakes to draw
    #[arg(long, value_name = "N", default_value = "36")]
    pub worst: NonZeroUsize,
    /// The loader's address, when it is not the default one
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What to list of the devices.
#[derive(Args, Debug)]
pub struct DevicesArgs {
    /// Print one JSON object a line: a device each
    #[arg(long)]
    pub json: bool,
}

/// A time to wait at the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(pub Duration);

impl std::str::FromStr for Seconds {
    type Err = String;

    /// Reads `30` or `0.5`.
    fn from_str(text: &str) -> Result<Self, String> {
        let seconds = text.parse().ok().filter(|seconds| (0.001..=1e6).contains(seconds));
        let seconds = seconds.ok_or("it must be a number of seconds from 0.001 to 1000000")?;
        Ok(Self(Duration::from_secs_f64(seconds)))
    }
}

fn learning_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "it must be a number above 0, such as 0.001".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_commands_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        for command in Cli::command().get_subcommands() {
            let example = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(example.contains(&format!("trainer {}", command.get_name())), "{}", command.get_name());
        }
    }

    #[test]
    fn an_option_of_several_commands_is_described_alike() {
        let command = Cli::command();
        let described = |name: &str| {
            let options = command.get_subcommands().flat_map(clap::Command::get_arguments);
            let texts: Vec<_> = options.filter(|option| option.get_id() == name).map(clap::Arg::get_help).collect();
            assert!(texts.len() > 1 && texts.iter().all(|text| *text == texts[0]), "{name}: {texts:?}");
        };
        ["device", "socket"].into_iter().for_each(described);
    }

    #[test]
    fn wrong_values_are_refused() {
        let fit = |more: &[&str]| Cli::try_parse_from([&["trainer", "fit", "--model", "m"], more].concat());
        assert!(fit(&[]).is_ok());
        let pairs = [
            ["--lr", "0"],
            ["--lr", "nan"],
            ["--epochs", "0"],
            ["--device", "gpu"],
            ["--checkpoint-every", "0"],
            ["--keep", "0"],
            ["--best", "accuracy"],
        ];
        for wrong in pairs {
            assert!(fit(&wrong).is_err(), "{wrong:?} was taken");
        }
        for wrong in ["--optimizer=lbfgs", "--reconnect=0", "--reconnect=soon", "--allow-changed"] {
            assert!(fit(&[wrong]).is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn a_successor_is_waited_for_as_long_as_asked_or_a_minute() {
        let limit = |flag: &[&str]| {
            let line = [&["trainer", "fit", "--model", "m"], flag].concat();
            let Command::Fit(args) = Cli::try_parse_from(line).expect("a command line").command else {
                panic!("it says fit");
            };
            args.reconnect.map(|Seconds(limit)| limit.as_secs_f64())
        };
        assert_eq!(limit(&[]), None);
        assert_eq!(limit(&["--reconnect"]), Some(60.0));
        assert_eq!(limit(&["--reconnect=0.5"]), Some(0.5));
    }
}
