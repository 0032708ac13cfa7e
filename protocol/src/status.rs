//! How a daemon stands: the answers to `loader status` and `loader quarantine`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::position::Position;

/// How a daemon stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's process.
    pub pid: u32,
    /// Seconds since it was ready.
    pub uptime_s: f64,
    /// Worker processes wanted.
    pub workers_wanted: u32,
    /// Processors that the loader may use.
    pub cpus: u32,
    /// How many of them all workers together may keep busy, if that was limited.
    pub cpus_allowed: Option<f64>,
    /// How many of them they did over the last seconds, surveys and openings left out.
    pub cpus_used: f64,
    /// Its streams, in configuration order.
    pub streams: Vec<StreamStatus>,
    /// Its worker processes.
    pub workers: Vec<WorkerStatus>,
}

/// How one stream stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StreamStatus {
    /// Its name.
    pub name: String,
    /// Whether it can be read; else its data are being looked at, and nothing more is known of it.
    pub open: bool,
    /// Samples of an epoch.
    pub samples: u64,
    /// Batches of an epoch.
    pub steps: u64,
    /// Shared memory reserved for it.
    pub slab_bytes: u64,
    /// Its slots by state.
    pub slots: SlotCounts,
    /// Samples decoded per second over the last seconds.
    pub samples_per_s: f64,
    /// Samples decoded for its members since the start; what waits in the lobby counts when somebody takes it.
    pub samples_made: u64,
    /// Samples found that cannot be read.
    pub bad_samples: u64,
    /// Its cache, if it has one.
    pub cache: Option<CacheStatus>,
    /// Its members.
    pub members: Vec<MemberStatus>,
    /// The windows that they read.
    pub lanes: Vec<LaneStatus>,
    /// Batches from the first on that are ready for whoever begins there.
    pub lobby: u32,
    /// How often a lane was split, because a member in it kept others waiting.
    pub splits: u64,
    /// How often two lanes became one, because their members had met.
    pub merges: u64,
    /// Members that went away lately, the last one first.
    pub gone: Vec<GoneMember>,
}

/// How the cache of a stream stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheStatus {
    /// Where it is: `ram`, or the file on disk.
    pub place: String,
    /// Samples kept.
    pub kept: u64,
    /// What it takes.
    pub bytes: u64,
    /// What it may take.
    pub limit_bytes: u64,
    /// Whether there is no room for more.
    pub full: bool,
}

/// A member that went away.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GoneMember {
    /// Its number.
    pub member: u32,
    /// Its process.
    pub pid: u32,
    /// The position after the last batch that was given to it.
    pub cursor: Position,
    /// Seconds since.
    pub gone_s: f64,
}

/// Slots by state; their sum is constant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotCounts {
    /// Holding nothing.
    pub free: u32,
    /// Being filled.
    pub filling: u32,
    /// Holding a batch that nobody reads yet.
    pub ready: u32,
    /// Of a batch that cannot be made.
    pub failed: u32,
    /// Read by a member.
    pub leased: u32,
    /// Given up by their lane, but a worker may still write.
    pub abandoned: u32,
}

/// How one lane stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneStatus {
    /// Its number.
    pub lane: u32,
    /// The first position of its window, and the first behind it.
    pub window: [Position; 2],
    /// Slots of its window.
    pub slots: u32,
    /// The most that it may have.
    pub slots_max: u32,
    /// Who reads it.
    pub members: Vec<u32>,
    /// Who keeps others waiting, if somebody does.
    pub held_by: Vec<u32>,
    /// Ranks of its group that are missing; their batches are kept.
    pub misses: Vec<u32>,
}

/// How one member stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its number.
    pub member: u32,
    /// Its process.
    pub pid: u32,
    /// The next position it will receive.
    pub cursor: Position,
    /// Batches it holds.
    pub leases: u32,
    /// Batches ready and waiting for it.
    pub ready: u32,
    /// How it shares the stream: `private`, `broadcast, split`, `rank 2 of 4`.
    pub share: String,
    /// The lane that it reads, unless nothing more comes for it.
    pub lane: Option<u32>,
    /// How many batches it is behind the one furthest ahead of those that share with it.
    pub lag: u64,
}

/// How one worker stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its number.
    pub worker: u32,
    /// Its process; 0 until it is started.
    pub pid: u32,
    /// Where it is in its life.
    pub state: WorkerState,
    /// The sample it is making, such as its file.
    pub current: Option<String>,
    /// Ranges it has filled.
    pub tasks_done: u64,
}

/// Where a worker is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    /// Its process is being started, or it opens the streams.
    #[default]
    Starting,
    /// It has nothing to do.
    Idle,
    /// It makes samples.
    Busy,
    /// It finishes what it has and then ends.
    Leaving,
    /// It was killed and is not yet gone.
    Killed,
}

impl fmt::Display for WorkerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Leaving => "leaving",
            Self::Killed => "killed",
        })
    }
}

/// The samples of one stream that cannot be read: the answer to `loader quarantine`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// The stream's name.
    pub stream: String,
    /// How many there are.
    pub count: u64,
    /// Above how many a step fails.
    pub limit: u64,
    /// The first of them, by index.
    pub samples: Vec<QuarantinedSample>,
    /// Why the last attempt to read the data's index anew came to nothing.
    pub retry_failed: Option<String>,
}

/// One sample that cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantinedSample {
    /// Its index in the dataset; for a CSV, its row counted from 0 without the header.
    pub index: u64,
    /// What a person calls it, such as its file.
    pub name: String,
    /// What was found.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u64,
    /// Whether it ended the workers that read it, and is not read any more.
    pub poison: bool,
    /// The first few batches that it was wanted for.
    pub positions: Vec<Position>,
}
