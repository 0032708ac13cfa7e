//! Streams that come and go: some are there from the start, others are opened later; each may be closed at any time.

use std::collections::{BTreeMap, BTreeSet};

use batchmill_protocol::message::StreamId;

use super::slab::Slab;
use super::trainers::Outcome;
use super::world::World;
use crate::scheduler::Event;

/// Streams there may be at once.
const STREAMS_MAX: usize = 3;

/// What trainers of a stream are told that is served no longer.
pub(super) const CLOSED: &str = "the stream was closed";

/// The streams that the daemon serves, and what is left of others.
#[derive(Debug, Default)]
pub(super) struct Streams {
    pub(super) served: BTreeSet<StreamId>,
    /// How many there ever were.
    count: u32,
    /// Those that cannot be served after all, and that nobody has closed yet.
    pub(super) failed: Vec<StreamId>,
    /// Memory that workers and trainers may still have mapped.
    pub(super) left: BTreeMap<StreamId, Slab>,
}

impl World {
    /// Somebody has one more stream served, if there are not many.
    pub(super) fn open_stream(&mut self) {
        if self.streams.served.len() < STREAMS_MAX {
            let stream = StreamId(self.streams.count);
            self.streams.count += 1;
            self.streams.served.insert(stream);
            self.tell(Event::StreamAdded(stream));
        }
    }

    /// Whether the daemon ends when a stream cannot be served: those that came later are only refused.
    pub(super) fn is_from_the_start(&self, stream: StreamId) -> bool {
        stream.0 < self.setup.streams
    }

    /// Somebody has a stream closed.
    pub(super) fn close_one(&mut self, choice: usize) {
        let served = &self.streams.served;
        if let Some(stream) = choice.checked_rem(served.len()).and_then(|place| served.iter().nth(place)) {
            self.tally.count("streams", "closed");
            self.close_stream(*stream);
        }
    }

    /// The daemon refuses what could not be opened.
    pub(super) fn close_failed(&mut self) {
        while let Some(stream) = self.streams.failed.pop() {
            self.tally.count("streams", "refused");
            self.close_stream(stream);
        }
    }

    fn close_stream(&mut self, stream: StreamId) {
        if !self.streams.served.remove(&stream) {
            return;
        }
        self.streams.left.extend(self.slabs.remove_entry(&stream));
        self.heard.surveys_out.remove(&stream);
        self.tell(Event::StreamClosed { stream, reason: CLOSED.to_owned() });
        for trainer in std::mem::take(&mut self.early) {
            self.knock(trainer);
        }
    }

    /// Whether a trainer may knock for a stream; else it is turned away.
    pub(super) fn is_served(&mut self, stream: StreamId, trainer: usize) -> bool {
        let is_served = self.streams.served.contains(&stream);
        if !is_served {
            self.trainers[trainer].outcome = Some(Outcome::Refused(CLOSED.to_owned()));
        }
        is_served
    }
}
