//! Why a training ends early.

use std::io;

use batchmill_protocol::client::ClientError;
use batchmill_protocol::ledger::LedgerError;
use batchmill_protocol::position::Position;
use batchmill_protocol::share::ShareError;
use batchmill_protocol::tensor::FieldSpec;
use thiserror::Error;

use super::init::InitError;
use crate::checkpoint::CheckpointError;
use crate::collective::CollectiveError;
use crate::config::ConfigError;
use crate::device::DeviceError;
use crate::feed::FeedError;
use crate::fields::{FieldsError, Input};
use crate::launch::LaunchError;
use crate::loss::LossError;
use crate::model::ModelError;
use crate::resume::ResumeError;
use crate::run::RunError;

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
    Init(#[from] InitError),
    #[error("learn as {model} says")]
    Loss { model: String, source: LossError },
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Run(#[from] RunError),
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
    /// Early stopping watches what nobody measures.
    #[error(
        "stop early: {model} watches what a test finds, and there is none: give --eval, or say metric = \"train_loss\""
    )]
    NoTest {
        /// The model file.
        model: String,
    },
    /// The best checkpoint is to be chosen by what nobody measures.
    #[error(
        "choose the best checkpoint by accuracy: the target {target} is a number here, not a class: say --best loss"
    )]
    NoAccuracy {
        /// The target.
        target: FieldSpec,
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
    /// The targets of training and test differ.
    #[error(
        "test on stream `{eval}`: its target is {found}, that of `{stream}` is {wanted}: let both be of the same kind"
    )]
    OtherTargets {
        /// The stream of `--eval`.
        eval: String,
        /// Its target.
        found: Box<FieldSpec>,
        /// The stream trained on.
        stream: String,
        /// Its target.
        wanted: Box<FieldSpec>,
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
    #[error("{what}: the training diverged: {remedy}")]
    Diverged {
        /// What is not a number, or infinite, and when.
        what: String,
        /// How to go on.
        remedy: String,
    },
    /// The ranks do not come together.
    #[error(transparent)]
    Ranks(CollectiveError),
    /// They part in the middle.
    #[error("{parted} at {position}: {remedy}")]
    Parted {
        /// Who is missing.
        parted: CollectiveError,
        /// What was being trained on.
        position: Position,
        /// How to go on.
        remedy: &'static str,
    },
    /// A rank trains on something else.
    #[error(
        "rank {rank} reads another stream `{stream}` than rank 0: attach all ranks to one loader, with the same --socket"
    )]
    OtherStream {
        /// Which.
        rank: u32,
        /// The stream.
        stream: String,
    },
    /// A rank computes in another way.
    #[error(
        "the weights of rank {rank} at {position} are not those of rank 0: run all ranks from one build, on devices of one \
         kind, and go on with --resume"
    )]
    OtherWeights {
        /// Which.
        rank: u32,
        /// When that was found.
        position: Position,
    },
    /// The ranks that were to be started were not.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// What was said of sharing makes no sense.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// The system takes no request to end from anybody.
    #[error("listen for Ctrl-C")]
    Listen(#[source] io::Error),
}

impl FitError {
    /// Whether this rank could not go on because of another.
    pub fn is_of_another_rank(&self) -> bool {
        match self {
            Self::Parted { parted: error, .. } | Self::Ranks(error) => error.is_of_another(),
            _ => false,
        }
    }

    /// Whether one of the ranks that were started here has said it already.
    pub fn is_said(&self) -> bool {
        matches!(self, Self::Launch(LaunchError::Parted))
    }
}
