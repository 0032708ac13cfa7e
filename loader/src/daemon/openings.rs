//! Streams that come and go while the daemon runs.

use batchmill_datasets::spec::StreamSpec;
use batchmill_protocol::message::{MemberId, Quarantined, Reply, StreamId, ToWorker, WorkerId};
use tokio::sync::oneshot;

use super::cache::check_memory;
use super::streams::Served;
use super::{Daemon, DaemonError};
use crate::config;
use crate::front_door::Answer;
use crate::output;
use crate::scheduler::Event;

/// The most streams that may be added to. Each may be closed while a worker is busy, and the worker's line must hold the
/// messages that say so.
const STREAMS_MAX: usize = 64;

/// Streams that somebody asked for and waits for: all are served, or none.
pub(super) struct Opening {
    pub(super) streams: Vec<StreamId>,
    /// Why one of them cannot be served.
    pub(super) failure: Option<String>,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// What trainers of a stream are told that is served no longer.
pub(super) fn closed(name: &str) -> String {
    format!("stream `{name}` was closed")
}

impl Daemon {
    /// Has more streams surveyed; the answer follows when they can be read, or one of them cannot.
    pub(super) fn open(&mut self, specs: &[String], memory_bytes: u64, answer: oneshot::Sender<Answer>) {
        let added = match self.added(specs, memory_bytes) {
            Ok(added) => added,
            // A client that has gone meanwhile needs no answer.
            Err(reason) => return drop(answer.send(Answer::Reply(Reply::Refused { reason }))),
        };
        let streams: Vec<StreamId> = (self.next_stream..).map(StreamId).take(added.len()).collect();
        self.streams.extend(streams.iter().copied().zip(added));
        self.streams_changed();
        self.openings.push(Opening { streams: streams.clone(), failure: None, answer });
        streams.into_iter().for_each(|stream| self.tell(Event::StreamAdded(stream)));
    }

    /// Checks what a client says that it has checked.
    fn added(&self, specs: &[String], memory_bytes: u64) -> Result<Vec<Served>, String> {
        let specs: Vec<StreamSpec> = specs.iter().map(|spec| config::received(spec)).collect::<Result<_, _>>()?;
        for (place, StreamSpec { name, .. }) in specs.iter().enumerate() {
            if self.find(name).is_ok() {
                return Err(format!(
                    "this loader serves a stream `{name}` already: end that with `loader close {name}`, or give this one \
                     another name"
                ));
            }
            if specs[..place].iter().any(|other| other.name == *name) {
                return Err(format!("two streams are called `{name}`"));
            }
        }
        let streams = self.streams.len() + specs.len();
        if specs.is_empty() {
            return Err("no stream was asked for".to_owned());
        }
        if streams > STREAMS_MAX {
            return Err(format!(
                "{} streams were asked for beside {}, and there may be {STREAMS_MAX} in all: end some with `loader close`",
                specs.len(),
                self.streams.len()
            ));
        }
        let room = self.room.beside(streams).check(self.scheduler.workers_wanted().into());
        room.map_err(|error| format!("beside {streams} streams {error}"))?;
        check_memory(memory_bytes, &specs, self.streams.values().map(Served::promised_bytes).sum())?;
        let share_bytes = memory_bytes / specs.len() as u64;
        let served = specs.iter().map(|spec| Served::new(spec, share_bytes));
        served.collect::<Result<_, _>>().map_err(|error| error.to_string())
    }

    /// Has a worker look at the data, and gives it room for the index.
    pub(super) fn survey_at(&mut self, id: WorkerId, stream: StreamId, quarantined: Vec<Quarantined>) {
        let folder = self.streams.get(&stream).and_then(Served::cache_on_disk).map(|(folder, _)| folder.to_owned());
        let others = self.streams.iter().filter(|(other, _)| **other != stream);
        let beside = others.filter_map(|(_, served)| served.cache_on_disk());
        let beside = beside.filter(|(other, _)| Some(*other) == folder.as_deref()).map(|(_, limit_bytes)| limit_bytes);
        let beside_bytes = beside.fold(0, u64::saturating_add);
        let (Some(served), Some(worker)) = (self.streams.get_mut(&stream), self.workers.get(&id)) else { return };
        let Some(started) = &worker.started else { return };
        if let Err(reason) = served.hand_over_room(stream, &started.life_line) {
            output::log(&format!("worker {id} cannot be told to look at stream `{}`: {reason}", served.name));
            return self.kill(id);
        }
        let (spec, anew) = (served.spec.clone(), served.opened.is_some());
        self.send_worker(id, ToWorker::Survey { stream, spec, quarantined, anew, beside_bytes });
    }

    /// Gives a worker the slab and all it needs to fill it.
    pub(super) fn open_at(&mut self, id: WorkerId, stream: StreamId) {
        let served = &self.streams[&stream];
        let (Some(opened), Some(worker)) = (&served.opened, self.workers.get(&id)) else { return };
        let Some(started) = &worker.started else { return };
        if opened.hand_over(stream, &started.life_line).is_err() {
            return self.kill(id);
        }
        let message = ToWorker::Open {
            stream,
            spec: served.spec.clone(),
            fields: opened.description.fields.clone(),
            slots: opened.layout.slots(),
            quarantined: self.scheduler.poisonous(stream),
        };
        self.send_worker(id, message);
    }

    /// Answers those who wait for streams that can be read by now, or of which one cannot.
    ///
    /// Not at once when that is known: a stream must not go away while the scheduler's actions are carried out.
    pub(super) fn answer_openings(&mut self) {
        while let Some((place, reply)) = self.settled() {
            let Opening { streams, answer, .. } = self.openings.remove(place);
            if matches!(reply, Reply::Refused { .. }) {
                streams.into_iter().for_each(|stream| self.end_stream(stream, closed));
            }
            let _ = answer.send(Answer::Reply(reply));
        }
    }

    /// Somebody who can be answered, and how.
    fn settled(&self) -> Option<(usize, Reply)> {
        let reply = |opening: &Opening| {
            if let Some(reason) = opening.failure.clone() {
                return Some(Reply::Refused { reason });
            }
            let streams: Vec<&Served> = opening.streams.iter().filter_map(|stream| self.streams.get(stream)).collect();
            if streams.is_empty() {
                return Some(Reply::Refused { reason: "the stream was closed before it was open".to_owned() });
            }
            let open = streams.into_iter().map(|served| served.opened.as_ref().filter(|_| served.ready));
            Some(Reply::Opened(open.map(|opened| Some(opened?.description.clone())).collect::<Option<_>>()?))
        };
        self.openings.iter().enumerate().find_map(|(place, opening)| Some((place, reply(opening)?)))
    }

    /// Serves a stream no longer; its trainers are told.
    pub(super) fn close(&mut self, name: &str, force: bool) -> Reply {
        let stream = match self.find(name) {
            Ok((stream, _)) => stream,
            Err(reason) => return Reply::Refused { reason },
        };
        let readers = self.members.iter().filter(|(_, member)| member.stream == stream);
        let readers: Vec<(MemberId, u32)> = readers.map(|(id, member)| (*id, member.pid)).collect();
        if !force && !readers.is_empty() {
            let told: Vec<String> = readers.iter().map(|(id, pid)| format!("trainer {id} (pid {pid})")).collect();
            let reason = format!(
                "stream `{name}` is read by {}: end what reads it, or close it all the same with --force",
                told.join(", ")
            );
            return Reply::Refused { reason };
        }
        self.end_stream(stream, closed);
        self.say_ready();
        Reply::Closed { trainers: readers.into_iter().map(|(_, pid)| pid).collect() }
    }

    /// Forgets a stream, and has everybody else do so; its trainers are told what `reason` makes of its name.
    fn end_stream(&mut self, stream: StreamId, reason: impl FnOnce(&str) -> String) {
        let Some(served) = self.streams.remove(&stream) else { return };
        self.streams_changed();
        self.gone.retain(|gone| gone.stream != stream);
        self.tell(Event::StreamClosed { stream, reason: reason(&served.name) });
    }

    /// Ends streams that there is no memory for after all: what was available has gone to others meanwhile.
    pub(super) fn end_the_unreserved(&mut self) {
        let failures =
            self.streams.iter_mut().filter_map(|(id, served)| Some((*id, served.opened.as_mut()?.reserve_failure()?)));
        for (stream, reason) in failures.collect::<Vec<_>>() {
            let Some(Served { name, .. }) = self.streams.get(&stream) else { continue };
            if self.on_ready.is_some() {
                let stream = name.clone();
                self.fail(DaemonError::Stream { stream, reason });
            } else if let Some(opening) = self.openings.iter_mut().find(|opening| opening.streams.contains(&stream)) {
                let error = DaemonError::Stream { stream: name.clone(), reason };
                opening.failure.get_or_insert(error.to_string());
            } else {
                output::log(&format!("stream `{name}` is closed: {reason}"));
                self.end_stream(stream, |name| format!("{}: {reason}", closed(name)));
            }
        }
    }

    /// Takes note of how many streams there are, and that their numbers are never used again.
    fn streams_changed(&mut self) {
        self.room = self.room.beside(self.streams.len());
        let next = self.streams.last_key_value().map_or(0, |(id, _)| id.0 + 1);
        self.next_stream = self.next_stream.max(next);
    }
}
