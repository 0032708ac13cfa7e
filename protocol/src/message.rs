//! The messages, one enum per direction.
//!
//! No message carries tensor bytes, or sample indices but those of samples that cannot be read. Whatever comes in from a
//! peer is checked by its receiver before it is used: these types say what may be said, not what is true.

use std::fmt;
use std::path::PathBuf;

use ipc_channel::ipc::{IpcReceiver, IpcSender};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::identity::Identity;
use crate::position::{Extent, Position, Rows};
use crate::share::Share;
use crate::status::{Quarantine, Status};
use crate::tensor::FieldSpec;

/// The version of everything two processes say to each other; the shared-memory layout included.
pub const PROTOCOL: u32 = 5;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id! {
    /// One stream of one daemon.
    StreamId(u32)
}
id! {
    /// One slot of a stream's slab.
    SlotIndex(u32)
}
id! {
    /// One range given to one worker; never used again.
    TaskId(u64)
}
id! {
    /// One member's right to read one slot; never used again.
    LeaseId(u64)
}
id! {
    /// One worker process; never used again.
    WorkerId(u32)
}
id! {
    /// One attached trainer; never used again.
    MemberId(u32)
}

/// What a client asks at the front door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Become a member of a stream; the connection then is the life-line.
    Attach(Attach),
    /// Say how things stand.
    Status,
    /// Run this many workers from now on.
    Scale {
        /// Worker processes wanted.
        workers: u32,
    },
    /// List the samples that cannot be read.
    Quarantine {
        /// Also forget them and read the data's index anew, so that they are tried again.
        retry: bool,
    },
    /// Serve more streams: all of them, or none.
    Open {
        /// Their specs, as JSON.
        specs: Vec<String>,
        /// Shared memory for their batches, all together.
        memory_bytes: u64,
    },
    /// Serve a stream no longer.
    Close {
        /// Its name.
        stream: String,
        /// Also while trainers read it.
        force: bool,
    },
    /// End in order.
    Stop,
}

/// Which part of a stream a member wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// The stream's name.
    pub stream: String,
    /// The first position wanted.
    pub from: Position,
    /// The epoch before which the member ends, or `None` for no end.
    pub until_epoch: Option<u64>,
    /// How many batches the member may hold at once; the loader may grant fewer.
    pub leases: u32,
    /// The bytes of batches that may be lent to it beyond those, before it comes to them: where batches are small, a message
    /// for each is what costs.
    pub ahead_bytes: u64,
    /// What the stream was when the member began; when it has changed since, the member is refused.
    pub expected: Option<Identity>,
    /// How it shares the stream with others.
    pub share: Share,
}

/// What the front door answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// The member is expected at `line`; the frame carries the slab's descriptor.
    Attached(Box<Attached>),
    /// How things stand.
    Status(Box<Status>),
    /// The number of workers wanted before and now.
    Scaled {
        /// Before.
        before: u32,
        /// From now on.
        now: u32,
    },
    /// The samples that cannot be read, stream by stream.
    Quarantine(Vec<Quarantine>),
    /// The streams asked for can be read; this may take long to come.
    Opened(Vec<StreamDescription>),
    /// The stream is served no longer.
    Closed {
        /// The processes of the trainers that read it and were told.
        trainers: Vec<u32>,
    },
    /// The daemon ends; the connection closes when it has.
    Stopping {
        /// The daemon's process.
        pid: u32,
    },
    /// No, and why.
    Refused {
        /// One sentence fragment with the remedy.
        reason: String,
    },
    /// Not by this daemon: it is about to end.
    Ending,
}

/// What a member needs to read a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attached {
    /// What it will receive.
    pub stream: StreamDescription,
    /// Slots of the slab whose descriptor comes with this reply.
    pub slots: u32,
    /// The name of the one-shot server where the member's [`MemberLine`] is awaited.
    pub line: String,
}

/// What a stream delivers: everything a trainer must know to build a model for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamDescription {
    /// Its number in this daemon, repeated in every slot's header.
    pub id: StreamId,
    /// Its name.
    pub name: String,
    /// The tensors of a batch, in slot order.
    pub fields: Vec<FieldSpec>,
    /// Samples, batch size and tail.
    pub extent: Extent,
    /// Class names in label order; empty when the dataset has none.
    pub classes: Vec<String>,
    /// What is done to each sample, first to last: objects such as `{"kind": "resize", "size": 256}`, with which a
    /// prediction can prepare an image as the stream's were.
    pub transforms: Vec<serde_json::Value>,
    /// The seed of order and augmentation.
    pub seed: u64,
    /// The hash of [`identity`](Self::identity): two streams of one hash deliver the same bytes.
    pub spec_hash: String,
    /// What its bytes follow from.
    pub identity: Identity,
    /// The whole spec as the loader's `StreamSpec` writes it, from which a ledger's reader can make the stream again.
    pub spec: serde_json::Value,
}

/// The two ends of a member's line that it hands to the daemon.
#[derive(Debug, Serialize, Deserialize)]
pub struct MemberLine {
    /// Where the daemon sends, once, the end at which the member is to listen: of a line that the daemon made itself, so
    /// that no stranger can have filled it and hold the daemon up.
    pub to_member: IpcSender<IpcReceiver<ToMember>>,
    /// Where the daemon listens.
    pub from_member: IpcReceiver<FromMember>,
}

/// Daemon to member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToMember {
    /// Some batches, one after the other as the stream has them.
    Batches(Vec<Lent>),
    /// The batch at `position` cannot be made; nothing comes after it.
    Failed {
        /// Which batch.
        position: Position,
        /// One sentence fragment: file, row, what was found.
        reason: String,
    },
    /// The member is ended before its time; nothing comes after it.
    Dismissed {
        /// The batch that it would have received next.
        position: Position,
        /// One sentence fragment with the remedy.
        reason: String,
    },
    /// All asked for was delivered.
    End,
}

/// A batch that a member may read until it releases the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lent {
    /// The right to read.
    pub lease: LeaseId,
    /// Where the batch lies.
    pub slot: SlotIndex,
    /// Which batch it is.
    pub position: Position,
    /// What its rows amount to, as the workers wrote them.
    pub digest: Digest,
}

/// Member to daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromMember {
    /// Slots are no longer read: room for other batches.
    Release {
        /// The leases that end.
        leases: Vec<LeaseId>,
    },
}

/// The two ends of a worker's line that it hands to the daemon.
#[derive(Debug, Serialize, Deserialize)]
pub struct WorkerLine {
    /// Where the daemon sends.
    pub to_worker: IpcSender<ToWorker>,
    /// Where the daemon listens.
    pub from_worker: IpcReceiver<FromWorker>,
}

/// The daemon's first frame on a worker's life-line, with the descriptor of its [`Telemetry`] page.
///
/// [`Telemetry`]: crate::slab::Telemetry
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerHello {
    /// The name of the one-shot server where the worker's [`WorkerLine`] is awaited.
    pub line: String,
    /// By how much the worker is to give way to other processes, 0 to 19 as `nice` has it.
    pub nice: u8,
}

/// What comes with a descriptor of a stream on a worker's life-line: as [`ToWorker`] says, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlabHandOver {
    /// The stream whose memory it is.
    pub stream: StreamId,
}

/// Daemon to worker.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToWorker {
    /// Read the stream's index into the empty memory whose descriptor waits on the life-line, freeze it, and say what the
    /// stream delivers.
    Survey {
        /// The number to answer under.
        stream: StreamId,
        /// The stream's spec, as JSON.
        spec: String,
        /// Samples that must not be read.
        quarantined: Vec<Quarantined>,
        /// Whether to look at all data again, whatever is kept of them.
        anew: bool,
        /// What caches of other streams may take in the folder of its own.
        beside_bytes: u64,
    },
    /// Map the slab and the index that one worker made for all, whose descriptors wait on the life-line, with that of the
    /// cache behind them where the stream keeps samples in memory, and be ready for tasks. A stream that was open already
    /// is opened anew.
    Open {
        /// The number tasks will name.
        stream: StreamId,
        /// The stream's spec, as JSON.
        spec: String,
        /// The tensors of a batch, in slot order.
        fields: Vec<FieldSpec>,
        /// Slots of the slab.
        slots: u32,
        /// Samples that must not be read.
        quarantined: Vec<Quarantined>,
    },
    /// Read a sample no more, from the next task on.
    Quarantine {
        /// The stream whose dataset has it.
        stream: StreamId,
        /// Which and why.
        sample: Quarantined,
    },
    /// Forget a stream and unmap its slab. Tasks of it that came before are done before.
    Close {
        /// Its number, which does not come again.
        stream: StreamId,
    },
    /// Fill rows, task after task.
    Tasks(Vec<Task>),
    /// Finish what was given, then leave.
    Leave,
}

/// A sample that is not to be read, because it ends whoever reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Its index in the dataset.
    pub index: u64,
    /// One sentence fragment.
    pub reason: String,
}

/// One range to fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// What the answer must name.
    pub id: TaskId,
    /// Of which stream.
    pub stream: StreamId,
    /// Where to.
    pub slot: SlotIndex,
    /// Which batch.
    pub position: Position,
    /// Which rows of it.
    pub rows: Rows,
}

/// Worker to daemon.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromWorker {
    /// On the way to the answer to [`ToWorker::Survey`]: the index is read, samples are tried from now on.
    Indexed {
        /// The stream asked about.
        stream: StreamId,
    },
    /// The answer to [`ToWorker::Survey`].
    Surveyed {
        /// The stream asked about.
        stream: StreamId,
        /// What it delivers, or one sentence fragment why it cannot be opened.
        survey: Result<Survey, String>,
    },
    /// The answer to [`ToWorker::Open`].
    Opened {
        /// The stream asked about.
        stream: StreamId,
        /// Or one sentence fragment why it cannot be opened.
        outcome: Result<(), String>,
    },
    /// The answer to some of the [`ToWorker::Tasks`], in their order.
    Done(Vec<Done>),
}

/// What became of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The task that ends.
    pub task: TaskId,
    /// Time spent on it, in nanoseconds.
    pub busy_ns: u64,
    /// Processor time of the whole process, in nanoseconds, since it last said so: of tasks that are told of at once the last
    /// has that of all.
    pub cpu_ns: u64,
    /// Or one sentence fragment why a sample cannot be read.
    pub outcome: Result<Filled, String>,
}

/// What a worker says of rows that it has filled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filled {
    /// What they amount to.
    pub digest: Digest,
    /// Samples among them that cannot be read, and what stands in their rows follows from the stream's policy.
    pub bad: Vec<BadSample>,
}

/// A sample that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadSample {
    /// The row that it was to fill.
    pub row: u32,
    /// Its index in the dataset.
    pub index: u64,
    /// What a person calls it, such as its file.
    pub name: String,
    /// One sentence fragment: what was found.
    pub reason: String,
}

/// What reading a stream's index told.
#[derive(Debug, Serialize, Deserialize)]
pub struct Survey {
    /// The tensors of a batch, in slot order.
    pub fields: Vec<FieldSpec>,
    /// Samples an epoch has.
    pub samples: u64,
    /// Class names in label order.
    pub classes: Vec<String>,
    /// What its bytes follow from.
    pub identity: Identity,
    /// The hash of it.
    pub spec_hash: String,
    /// The file where its samples are kept, when that is on disk.
    pub cache_file: Option<PathBuf>,
}
