//! What cannot be: events that a peer has no right to. They must change nothing.

use std::time::Duration;

use batchmill_protocol::digest::Digest;
use batchmill_protocol::message::{LeaseId, MemberId, StreamId, TaskId, WorkerId};

use super::events::{self, End};
use super::world::World;
use crate::scheduler::Event;

/// What was true once and is no longer.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Members there ever were.
    pub(super) members: u32,
    /// Tasks that are done, or were lost with their worker.
    pub(super) tasks: Vec<TaskId>,
    /// Leases that have ended, with those who held them.
    pub(super) leases: Vec<(MemberId, LeaseId)>,
}

const NOBODY: WorkerId = WorkerId(u32::MAX);
const NOWHERE: StreamId = StreamId(u32::MAX);
const NO_TASK: TaskId = TaskId(u64::MAX);

impl World {
    /// Has the scheduler hear things that cannot be, and asserts that it does not care.
    pub(super) fn noise(&mut self, kinds: u16, choice: usize) {
        // What is due is done first, so that nothing else follows from hearing something now.
        self.tell(Event::Tick);
        let before = format!("{:?}", self.scheduler);
        let mut heard = Vec::new();
        for kind in (0..u16::BITS).filter(|kind| kinds & (1 << kind) != 0) {
            let Some(event) = self.impossible(kind, choice) else { continue };
            heard.push(event.clone());
            self.trace(format_args!("noise: {event:?}"));
            self.tally.count("noise", events::kind(&event));
            let actions = self.scheduler.handle(self.now, event);
            assert_eq!(actions, [], "nothing follows from {heard:?}");
        }
        assert_eq!(format!("{:?}", self.scheduler), before, "nothing changes by {heard:?}");
    }

    fn impossible(&self, kind: u32, choice: usize) -> Option<Event> {
        let done = |worker, task| events::task_done(worker, task, Duration::ZERO, Digest(1), Vec::new(), None);
        let one = |len: usize| choice.checked_rem(len);
        let joined: Vec<_> = self.scheduler.workers.joined().collect();
        let worker = one(joined.len()).map(|place| joined[place]);
        let out = one(self.heard.tasks_out.len()).and_then(|place| self.heard.tasks_out.iter().nth(place));
        let lease = || self.seats.iter().find_map(|(member, seat)| Some((*member, seat.leases.first()?.0)));
        match kind {
            0 => Some(done(worker?, NO_TASK)),
            1 => {
                let task = self.past.tasks[one(self.past.tasks.len())?];
                Some(done(worker?, task))
            }
            2 => {
                let (task, (holder, _)) = out?;
                let other = joined.iter().find(|worker| *worker != holder)?;
                Some(done(*other, *task))
            }
            3 => Some(done(NOBODY, *out?.0)),
            4 => {
                let (member, lease) = self.past.leases[one(self.past.leases.len())?];
                Some(events::released(member, lease))
            }
            5 => {
                let (holder, lease) = lease()?;
                let other = self.seats.keys().find(|member| **member != holder)?;
                Some(events::released(*other, lease))
            }
            6 => Some(events::released(MemberId(u32::MAX), lease()?.1)),
            7 => Some(events::worker_joined(worker.unwrap_or(NOBODY))),
            8 => Some(events::worker_opened(worker?, NOWHERE)),
            9 => {
                // Once more than it was asked to.
                let worker = worker?;
                let worker_is = &self.scheduler.workers.all()[&worker];
                let open = worker_is.open.iter().find(|&&stream| worker_is.opening != Some(stream))?;
                Some(events::worker_opened(worker, *open))
            }
            10 => {
                // It was not asked to read the index anew.
                let worker = worker.filter(|worker| self.heard.surveys_out.values().all(|asked| asked != worker))?;
                Some(events::retried(worker, StreamId(0), true))
            }
            11 => Some(events::worker_gone(NOBODY, End::Killed, Some(events::making(None, Some(0))))),
            12 => Some(events::member_gone(MemberId(u32::MAX))),
            13 => Some(events::worker_opened(NOBODY, StreamId(0))),
            14 => {
                // It was not asked to open anything yet.
                let starting = self.processes.iter().find(|(_, process)| process.is_new())?;
                Some(events::worker_opened(*starting.0, StreamId(0)))
            }
            _ => {
                let starting = self.processes.iter().find(|(_, process)| process.is_new())?;
                Some(events::stream_surveyed(*starting.0, StreamId(0)))
            }
        }
    }
}
