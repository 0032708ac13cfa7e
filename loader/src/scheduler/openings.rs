//! A stream at the workers: opened by each, given up when that ends whoever does it, closed.

use std::time::Duration;

use batchmill_protocol::message::{StreamId, WorkerId};

use super::{Action, Death, Scheduler, Stream};

impl Scheduler {
    /// Has every worker open a stream, or open it anew.
    pub(super) fn open_everywhere(&mut self, stream: StreamId) {
        let joined: Vec<_> = self.workers.joined().collect();
        joined.into_iter().for_each(|worker| self.workers.want_open(worker, stream));
    }

    /// Takes note that a worker is done with opening a stream, which may be served no longer.
    pub(super) fn worker_opened(&mut self, worker: WorkerId, stream: StreamId) {
        let open = match self.streams.get_mut(&stream) {
            Some(Stream::Open(open)) => Some(open),
            _ => None,
        };
        let is_ready = self.workers.opened(worker, stream, open.is_some());
        if let Some(open) = open.filter(|_| is_ready) {
            open.deaths_on_opening = None;
        }
    }

    /// Gives a stream up that nobody could open and too many died on.
    pub(super) fn opening_lost(&mut self, stream: StreamId, death: &Death) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        let Stream::Open(open) = state else { return };
        let Some(deaths) = &mut open.deaths_on_opening else { return };
        deaths.add(death);
        if deaths.are_too_many() {
            let reason = format!("{} worker processes died on opening it; the last {}", deaths.count(), death.how);
            *state = Stream::Failed;
            self.actions.push(Action::StreamFailed { stream, reason });
        }
    }

    /// Ends a stream and its members; what they hold they may read to the end.
    ///
    /// Its tasks that are out stay in the table until they end or their worker does, for the worker is busy with them;
    /// nothing follows from that.
    pub(super) fn stream_closed(&mut self, now: Duration, stream: StreamId, reason: &str) {
        if self.streams.remove(&stream).is_none() {
            return;
        }
        for (member, gone) in self.members.extract_if(.., |_, member| member.stream == stream) {
            // One that has all it asked for needs no excuse.
            if gone.lane.is_some() {
                let (position, reason) = (gone.cursor, reason.to_owned());
                self.actions.push(Action::Dismiss { member, position, reason });
            }
        }
        self.workers.close(now, stream, &mut self.actions);
    }
}
