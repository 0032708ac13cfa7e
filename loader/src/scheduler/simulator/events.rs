//! The one place where the world's happenings become the scheduler's events.

use std::time::Duration;

use batchmill_protocol::digest::Digest;
use batchmill_protocol::message::{BadSample, Filled, LeaseId, MemberId, StreamId, TaskId, WorkerId};
use batchmill_protocol::position::{Extent, Position};
use batchmill_protocol::share::Share;
use batchmill_protocol::slab::Making;

use crate::scheduler::{Death, Event};

/// Batches that a quick trainer is lent beyond those that it wants to hold.
pub(super) const AHEAD: u32 = 4;

/// How a process comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It did what it was told and left.
    Clean,
    /// It crashed on what it was doing.
    Crash,
    /// Somebody killed it.
    Killed,
}

/// The name of a sample in this world.
pub(super) fn sample_name(sample: u64) -> String {
    format!("sample {sample}")
}

/// What a worker's telemetry page says.
pub(super) fn making(task: Option<TaskId>, sample: Option<u64>) -> Making {
    let name = sample.map_or_else(|| "the dataset's index".to_owned(), sample_name);
    Making { task, index: sample, name }
}

/// A sample that cannot be used, and why.
pub(super) fn bad_sample(row: u32, sample: u64, reason: &str) -> BadSample {
    BadSample { row, index: sample, name: sample_name(sample), reason: reason.to_owned() }
}

pub(super) fn indexed(worker: WorkerId) -> Event {
    Event::Indexed(worker)
}

pub(super) fn retried(worker: WorkerId, stream: StreamId, anew: bool) -> Event {
    Event::Retried { worker, stream, anew }
}

pub(super) fn worker_joined(worker: WorkerId) -> Event {
    Event::WorkerJoined(worker)
}

pub(super) fn stream_surveyed(worker: WorkerId, stream: StreamId) -> Event {
    Event::StreamSurveyed { worker, stream }
}

pub(super) fn stream_opened(stream: StreamId, extent: Extent, slots: u32, bad_limit: u64) -> Event {
    Event::StreamOpened { stream, extent, slots, bad_limit }
}

pub(super) fn worker_opened(worker: WorkerId, stream: StreamId) -> Event {
    Event::WorkerOpened { worker, stream }
}

/// The worker has filled all rows with what amounts to `digest`, or had to stop at a bad sample.
pub(super) fn task_done(
    worker: WorkerId,
    task: TaskId,
    busy: Duration,
    digest: Digest,
    bad: Vec<BadSample>,
    stopped_at: Option<BadSample>,
) -> Event {
    let outcome = match stopped_at {
        Some(BadSample { name, reason, .. }) => Err(format!("{name}: {reason}")),
        None => Ok(Filled { digest, bad }),
    };
    Event::TaskDone { worker, task, busy, cpu: busy, outcome }
}

pub(super) fn worker_gone(worker: WorkerId, end: End, making: Option<Making>) -> Event {
    let (how, crashed) = match end {
        End::Clean => ("exited with code 0", false),
        End::Crash => ("was killed by signal 11 (SIGSEGV)", true),
        End::Killed => ("was killed by signal 9 (SIGKILL)", false),
    };
    Event::WorkerGone { worker, death: Death { how: how.to_owned(), crashed, making } }
}

pub(super) fn member_joined(
    member: MemberId,
    stream: StreamId,
    from: Position,
    until_epoch: Option<u64>,
    leases: u32,
    share: Share,
) -> Event {
    Event::MemberJoined { member, stream, from, until_epoch, leases, ahead: AHEAD, share }
}

pub(super) fn released(member: MemberId, lease: LeaseId) -> Event {
    Event::Released { member, lease }
}

pub(super) fn member_gone(member: MemberId) -> Event {
    Event::MemberGone(member)
}

/// An event's kind, for counts.
pub(super) fn kind(event: &Event) -> &'static str {
    match event {
        Event::StreamAdded(_) => "StreamAdded",
        Event::Indexed(_) => "Indexed",
        Event::StreamClosed { .. } => "StreamClosed",
        Event::Retry(_) => "Retry",
        Event::Retried { .. } => "Retried",
        Event::StreamSurveyed { .. } => "StreamSurveyed",
        Event::StreamOpened { .. } => "StreamOpened",
        Event::WorkerJoined(_) => "WorkerJoined",
        Event::WorkerOpened { .. } => "WorkerOpened",
        Event::TaskDone { .. } => "TaskDone",
        Event::WorkerGone { .. } => "WorkerGone",
        Event::Scaled(_) => "Scaled",
        Event::MemberJoined { .. } => "MemberJoined",
        Event::Released { .. } => "Released",
        Event::MemberGone(_) => "MemberGone",
        Event::Tick => "Tick",
    }
}
