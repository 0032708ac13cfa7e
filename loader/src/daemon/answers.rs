//! What clients at the front door are told.

use std::os::fd::OwnedFd;

use batchmill_datasets::nearest::suggestion;
use batchmill_protocol::message::{Attach, MemberId, Reply, Request, StreamDescription, StreamId};
use batchmill_protocol::status::{GoneMember, Quarantine, Status};

use super::streams::Served;
use super::{Daemon, Member};
use crate::cli::WORKERS_MAX;
use crate::front_door::{Admission, Answer, Asked};
use crate::scheduler::Event;

impl Daemon {
    /// Answers what a client asks.
    pub(super) fn answer(&mut self, asked: Asked) {
        if self.on_ready.is_some() && matches!(asked.request, Request::Attach(_) | Request::Open { .. }) {
            return self.early.push(asked);
        }
        let answer = match asked.request {
            Request::Attach(attach) => self.attach(attach, asked.pid),
            Request::Status => Answer::Reply(Reply::Status(Box::new(self.status()))),
            Request::Scale { workers: now } => match self.room.check(now.into()) {
                Ok(()) => {
                    let before = self.scheduler.workers_wanted();
                    self.tell(Event::Scaled(now.clamp(1, WORKERS_MAX)));
                    Answer::Reply(Reply::Scaled { before, now: self.scheduler.workers_wanted() })
                }
                Err(error) => Answer::Reply(Reply::Refused { reason: error.to_string() }),
            },
            Request::Quarantine { retry } => {
                let listed = Answer::Reply(Reply::Quarantine(self.quarantine()));
                if retry {
                    let streams: Vec<StreamId> = self.streams.keys().copied().collect();
                    streams.into_iter().for_each(|stream| self.tell(Event::Retry(stream)));
                }
                listed
            }
            Request::Open { specs, memory_bytes } => return self.open(&specs, memory_bytes, asked.answer),
            Request::Close { stream, force } => Answer::Reply(self.close(&stream, force)),
            Request::Stop => {
                self.stopping = true;
                Answer::Reply(Reply::Stopping { pid: std::process::id() })
            }
        };
        // A client that has gone meanwhile needs no answer; a member among them is noticed by the front door.
        let _ = asked.answer.send(answer);
    }

    fn attach(&mut self, attach: Attach, pid: u32) -> Answer {
        match self.admissible(&attach) {
            Ok((stream, description, slots, slab)) => {
                let member = MemberId(self.next_member);
                self.next_member += 1;
                self.members.insert(member, Member { stream, attach, pid, line: None });
                Answer::Attach(Box::new(Admission { member, stream: description, slots, slab }))
            }
            Err(reason) => Answer::Reply(Reply::Refused { reason }),
        }
    }

    /// Says what a trainer that asks for this will get, or why it gets nothing.
    fn admissible(&self, attach: &Attach) -> Result<(StreamId, StreamDescription, u32, OwnedFd), String> {
        let (id, served) = self.find(&attach.stream)?;
        let (description, slots, slab) = served.admit(attach)?;
        self.scheduler.room_for_member(id, attach.from, &attach.share)?;
        Ok((id, description, slots, slab))
    }

    /// The stream of a name.
    pub(super) fn find(&self, name: &str) -> Result<(StreamId, &Served), String> {
        let found = self.streams.iter().find(|(_, served)| served.name == name);
        let found = found.map(|(&id, served)| (id, served));
        found.ok_or_else(|| format!("this loader serves no stream `{name}`{}", suggestion(name, self.names())))
    }

    fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.streams.values().map(|served| served.name.as_str())
    }

    fn quarantine(&self) -> Vec<Quarantine> {
        let stream = |(&id, served): (&StreamId, &Served)| {
            let (count, limit, samples) = self.scheduler.quarantine(id);
            let retry_failed = served.opened.as_ref().and_then(|opened| opened.retry_failed.clone());
            Quarantine { stream: served.name.clone(), count, limit, samples, retry_failed }
        };
        self.streams.iter().map(stream).collect()
    }

    fn status(&self) -> Status {
        let pid_of = |member: MemberId| self.members.get(&member).map_or(0, |member| member.pid);
        let streams = self.streams.iter().map(|(&id, served)| {
            let mut status = self.scheduler.stream_status(id, pid_of);
            status.name.clone_from(&served.name);
            status.slab_bytes = served.opened.as_ref().map_or(0, |opened| opened.layout.slab_bytes() as u64);
            status.cache = served.opened.as_ref().and_then(|opened| Some(opened.cache.as_ref()?.status()));
            status.open = served.ready;
            status.samples_per_s = served.rate.per_s();
            let gone = self.gone.iter().filter(|gone| gone.stream == id).map(|gone| GoneMember {
                member: gone.member.0,
                pid: gone.pid,
                cursor: gone.cursor,
                gone_s: gone.since.elapsed().as_secs_f64(),
            });
            status.gone = gone.collect();
            status
        });
        let workers = self.scheduler.worker_status().into_iter().map(|(id, mut status)| {
            let started = self.workers.get(&id).and_then(|worker| worker.started.as_ref());
            status.pid = started.map_or(0, |started| started.pid);
            status.current = started.and_then(|started| started.telemetry.read()).map(|making| making.name);
            status
        });
        Status {
            pid: std::process::id(),
            uptime_s: self.born.elapsed().as_secs_f64(),
            workers_wanted: self.scheduler.workers_wanted(),
            cpus: self.cpus.count,
            cpus_allowed: self.scheduler.cpus_allowed(),
            cpus_used: self.cpus.used(),
            streams: streams.collect(),
            workers: workers.collect(),
        }
    }
}

/// Answers a client that comes when all is over.
pub(super) fn decline(asked: Asked) {
    let reply = match asked.request {
        Request::Stop => Reply::Stopping { pid: std::process::id() },
        _ => Reply::Ending,
    };
    // A client that has gone meanwhile needs no answer.
    let _ = asked.answer.send(Answer::Reply(reply));
}
