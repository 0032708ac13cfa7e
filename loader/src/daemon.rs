//! The loop: what happened in, the scheduler asked, its actions out.
//!
//! The daemon runs no user code and touches no tensor. It does not wait for its peers: a worker has few tasks at a time,
//! and a member must have read a batch's message to make room for another, so their unread messages stay far below what
//! a line holds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use batchmill_datasets::spec::StreamSpec;
use batchmill_protocol::message::{
    FromMember, FromWorker, Lent, MemberId, StreamDescription, StreamId, ToMember, ToWorker, WorkerId,
};
use crossbeam::channel::{Receiver, RecvTimeoutError};
use ipc_channel::ipc::IpcSender;
use thiserror::Error;
use tokio::sync::mpsc;

use crate::cli::Percent;
use crate::config::Config;
use crate::front_door::Asked;
use crate::output;
use crate::scheduler::{Action, Death, Event, Scheduler};
use crate::supervisor::{self, End, Room, Started};
use cache::StreamCache;
pub(crate) use cache::check_memory;
use clock::Clock;
use cpus::Cpus;
use members::{Gone, Member};
use openings::Opening;
use outbox::Outbox;
use streams::{SLOTS_MAX, Served};

mod answers;
mod cache;
mod clock;
mod cpus;
mod ending;
mod members;
mod openings;
mod outbox;
mod rate;
mod streams;
mod workers;

/// What may wait for the daemon; whoever has more to say waits.
pub(crate) const HAPPENINGS_MAX: usize = 4096;

/// What is heard before something follows from it.
const ROUND_MAX: usize = 64;

/// How often time is looked at when nothing happens.
const TICK: Duration = Duration::from_millis(100);

/// How long a worker whose line has ended may take to end itself, before it is killed: it may have last words.
const SILENCE_GRACE: Duration = Duration::from_secs(2);

/// What happened outside.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A client asks something.
    Asked(Asked),
    /// A worker process runs.
    WorkerStarted { worker: WorkerId, started: Started },
    /// It has joined its line.
    WorkerJoined { worker: WorkerId, line: IpcSender<ToWorker> },
    /// It said something.
    WorkerSays { worker: WorkerId, message: FromWorker },
    /// All it ever said was heard.
    WorkerSilent(WorkerId),
    /// Its process is gone.
    WorkerReaped { worker: WorkerId, end: End },
    /// A trainer has joined its line.
    MemberJoined { member: MemberId, line: IpcSender<ToMember> },
    /// It said something.
    MemberSays { member: MemberId, message: FromMember },
    /// It is gone.
    MemberGone(MemberId),
    /// A signal asks for the end.
    Stop,
}

impl Happening {
    /// Whether it is what is heard all the time: rows are made, or batches read.
    fn is_of_batches(&self) -> bool {
        matches!(self, Self::MemberSays { .. } | Self::WorkerSays { message: FromWorker::Done(_), .. })
    }
}

/// Why the daemon ends other than on request.
#[derive(Debug, Error)]
pub(crate) enum DaemonError {
    /// A stream cannot be served.
    #[error("open stream `{stream}`: {reason}")]
    Stream { stream: String, reason: String },
    /// No worker can be started.
    #[error("start workers: {0}")]
    Workers(String),
    /// The threads around the daemon have ended.
    #[error("the daemon lost its front door")]
    Alone,
}

/// All that the daemon knows beside the scheduler: names, lines and descriptors.
pub(crate) struct Daemon {
    scheduler: Scheduler,
    born: Instant,
    clock: Clock,
    cpus: Cpus,
    streams: BTreeMap<StreamId, Served>,
    next_stream: u32,
    /// Streams that somebody waits for since all began.
    openings: Vec<Opening>,
    room: Room,
    workers: BTreeMap<WorkerId, Worker>,
    /// Workers asked for and not yet reaped.
    alive: BTreeSet<WorkerId>,
    members: BTreeMap<MemberId, Member>,
    next_member: u32,
    /// Members that went away, the last one first.
    gone: VecDeque<Gone>,
    outbox: Outbox,
    /// Whether the scheduler knows of something that it was not asked about.
    undecided: bool,
    stopping: bool,
    failure: Option<DaemonError>,
    happenings: Receiver<Happening>,
    /// Holds no more than a start and an end of each worker there is.
    supervisor: mpsc::UnboundedSender<supervisor::Request>,
    on_ready: Option<OnReady>,
    /// Who wanted to read, or open, a stream before those of the configuration were open. There are no more of them than
    /// the front door lets in.
    early: Vec<Asked>,
}

/// What is done when every stream can be read.
type OnReady = Box<dyn FnOnce(&[StreamDescription])>;

#[derive(Default)]
struct Worker {
    started: Option<Started>,
    line: Option<IpcSender<ToWorker>>,
    /// Since when nothing can be heard from it.
    silent: Option<Instant>,
    reaped: Option<End>,
    /// Whether its end was asked for already.
    killed: bool,
}

impl Daemon {
    /// Is to serve what `config` says.
    ///
    /// `on_ready` is called once, when every stream can be read.
    pub(crate) fn new(
        config: &Config,
        room: Room,
        happenings: Receiver<Happening>,
        supervisor: mpsc::UnboundedSender<supervisor::Request>,
        on_ready: impl FnOnce(&[StreamDescription]) + 'static,
    ) -> Result<Self, serde_json::Error> {
        let share_bytes = config.memory_bytes / config.streams.len().max(1) as u64;
        let served = |(id, spec): (u32, &StreamSpec)| Ok((StreamId(id), Served::new(spec, share_bytes)?));
        let streams: BTreeMap<_, _> =
            (0..).zip(&config.streams).map(served).collect::<Result<_, serde_json::Error>>()?;
        let mut scheduler = Scheduler::new(config.workers, config.hang_limit);
        let cpus = Cpus::new();
        scheduler.allow_cpus(config.cpu_budget.map(|Percent(share)| share * f64::from(cpus.count)));
        Ok(Self {
            scheduler,
            born: Instant::now(),
            clock: Clock::new(),
            cpus,
            next_stream: streams.last_key_value().map_or(0, |(id, _)| id.0 + 1),
            streams,
            openings: Vec::new(),
            room,
            workers: BTreeMap::new(),
            alive: BTreeSet::new(),
            members: BTreeMap::new(),
            next_member: 0,
            gone: VecDeque::new(),
            outbox: Outbox::default(),
            undecided: false,
            stopping: false,
            failure: None,
            happenings,
            supervisor,
            on_ready: Some(Box::new(on_ready)),
            early: Vec::new(),
        })
    }

    /// Has it do what it must not, so that a test can be seen to notice.
    #[cfg(feature = "negative-control")]
    pub(crate) fn give_out_without_reaping(&mut self) {
        self.scheduler.without_reaping = true;
    }

    /// Serves until asked to stop or until it cannot, and leaves no process behind.
    pub(crate) fn run(&mut self) -> Result<(), DaemonError> {
        let streams: Vec<StreamId> = self.streams.keys().copied().collect();
        for stream in streams {
            self.tell(Event::StreamAdded(stream));
        }
        let mut next_tick = Instant::now() + TICK;
        while !self.stopping && self.failure.is_none() {
            let deadline = self.wakes_at().map_or(next_tick, |at| at.min(next_tick));
            match self.happenings.recv_deadline(deadline) {
                Ok(happening) => self.note_all(happening),
                Err(RecvTimeoutError::Timeout) => self.tell(Event::Tick),
                Err(RecvTimeoutError::Disconnected) => self.fail(DaemonError::Alone),
            }
            self.answer_openings();
            // Also when something always happens.
            if Instant::now() >= next_tick {
                next_tick = Instant::now() + TICK;
                self.tell(Event::Tick);
                self.measure();
                self.end_the_unreserved();
                self.end_the_silent();
            }
            self.send_all();
        }
        self.end_workers();
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Takes note of what happened and of all that waits behind it, then does what follows from it: where much happens, a
    /// peer is told of many batches at once.
    fn note_all(&mut self, first: Happening) {
        self.note(first);
        for _ in 1..ROUND_MAX {
            let Ok(happening) = self.happenings.try_recv() else { break };
            self.note(happening);
        }
        self.settle();
    }

    fn note(&mut self, happening: Happening) {
        if !happening.is_of_batches() {
            self.settle();
        }
        match happening {
            Happening::Asked(asked) => self.answer(asked),
            Happening::WorkerStarted { worker, started } => {
                self.workers.entry(worker).or_default().started = Some(started);
            }
            Happening::WorkerJoined { worker, line } => {
                self.workers.entry(worker).or_default().line = Some(line);
                self.tell(Event::WorkerJoined(worker));
            }
            Happening::WorkerSays { worker, message } => self.worker_says(worker, message),
            Happening::WorkerSilent(worker) => {
                self.workers.entry(worker).or_default().silent = Some(Instant::now());
                self.bury(worker);
            }
            Happening::WorkerReaped { worker, end } => {
                self.alive.remove(&worker);
                self.workers.entry(worker).or_default().reaped = Some(end);
                self.bury(worker);
            }
            Happening::MemberJoined { member, line } => self.member_joined(member, line),
            Happening::MemberSays { member, message: FromMember::Release { leases } } => {
                // It has no more, whatever it says.
                for lease in leases.into_iter().take(SLOTS_MAX) {
                    self.note_quietly(Event::Released { member, lease });
                }
            }
            Happening::MemberGone(member) => {
                self.member_gone(member);
            }
            Happening::Stop => self.stopping = true,
        }
    }

    /// Kills workers that have lost their line and do not end: without one they are of no use.
    fn end_the_silent(&mut self) {
        let silent = |worker: &Worker| worker.silent.is_some_and(|since| since.elapsed() > SILENCE_GRACE);
        let useless: Vec<_> = self.workers.iter().filter(|(_, worker)| silent(worker)).map(|(id, _)| *id).collect();
        useless.into_iter().for_each(|worker| self.kill(worker));
    }

    /// Ends a worker's part once it is reaped and all its messages are read, in whichever order that came.
    fn bury(&mut self, id: WorkerId) {
        let Some(Worker { silent: Some(_), reaped: Some(end), started, .. }) = self.workers.get(&id) else { return };
        let making = started.as_ref().and_then(|started| started.telemetry.read());
        let pid = started.as_ref().map_or(0, |started| started.pid);
        let End { how, clean, crashed } = end.clone();
        self.workers.remove(&id);
        if !clean {
            let at = making.as_ref().map(|making| format!(" while making {}", making.name)).unwrap_or_default();
            output::log(&format!("worker {id} (pid {pid}) {how}{at}"));
        }
        self.tell(Event::WorkerGone { worker: id, death: Death { how, crashed, making } });
    }

    fn tell(&mut self, event: Event) {
        let now = self.clock.now();
        self.scheduler.note(now, event);
        self.decide(now);
    }

    /// Does what follows from what was noted quietly.
    fn settle(&mut self) {
        if self.undecided {
            let now = self.clock.now();
            self.decide(now);
        }
    }

    /// Has the scheduler know what many peers say of batches. What is to be done is asked when all that waits was heard, or
    /// before anything else happens.
    fn note_quietly(&mut self, event: Event) {
        self.scheduler.note(self.clock.now(), event);
        self.undecided = true;
    }

    fn decide(&mut self, now: Duration) {
        self.undecided = false;
        for action in self.scheduler.decide(now) {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Spawn(worker) => {
                self.alive.insert(worker);
                self.supervise(supervisor::Request::Spawn(worker));
            }
            Action::Survey { worker, stream, quarantined } => self.survey_at(worker, stream, quarantined),
            Action::Close { worker, stream } => self.send_worker(worker, ToWorker::Close { stream }),
            Action::Quarantine { worker, stream, sample } => {
                self.send_worker(worker, ToWorker::Quarantine { stream, sample });
            }
            Action::Open { worker, stream } => self.open_at(worker, stream),
            Action::Assign { worker, task } => self.outbox.assign(worker, task),
            Action::Leave(worker) => self.send_worker(worker, ToWorker::Leave),
            Action::Kill { worker, why } => {
                let making = self.workers.get(&worker).and_then(|worker| worker.started.as_ref()?.telemetry.read());
                let at = making.map(|making| format!(", it was making {}", making.name)).unwrap_or_default();
                output::log(&format!("worker {worker} is killed: {why}{at}"));
                self.kill(worker);
            }
            Action::Deliver { member, lease, slot, position, digest } => {
                self.outbox.lend(member, Lent { lease, slot, position, digest });
            }
            Action::Fail { member, position, reason } => {
                self.send_member(member, ToMember::Failed { position, reason });
            }
            Action::Dismiss { member, position, reason } => {
                self.send_member(member, ToMember::Dismissed { position, reason });
            }
            Action::End(member) => self.send_member(member, ToMember::End),
            Action::StreamFailed { stream, reason } => self.fail_stream(stream, reason),
            Action::GiveUp { reason } => self.fail(DaemonError::Workers(reason)),
        }
    }

    /// Has a worker killed, once; also one of which nothing was heard yet.
    fn kill(&mut self, id: WorkerId) {
        if self.alive.contains(&id) && !std::mem::replace(&mut self.workers.entry(id).or_default().killed, true) {
            self.supervise(supervisor::Request::Kill(id));
        }
    }

    fn supervise(&mut self, request: supervisor::Request) {
        if self.supervisor.send(request).is_err() {
            self.fail(DaemonError::Alone);
        }
    }

    /// Ends the daemon; the first reason is the one told.
    fn fail(&mut self, error: DaemonError) {
        self.failure.get_or_insert(error);
    }

    /// Ends the daemon for want of a stream of its configuration; one that came later is refused. A stream that is open
    /// already stays as it is, and the reason is remembered.
    fn fail_stream(&mut self, stream: StreamId, reason: String) {
        let Some(served) = self.streams.get_mut(&stream) else { return };
        let name = served.name.clone();
        served.index = None;
        if served.ready
            && let Some(opened) = &mut served.opened
        {
            output::log(&format!("stream `{name}` stays as it was: {reason}"));
            opened.retry_failed = Some(reason);
            return;
        }
        let error = DaemonError::Stream { stream: name, reason };
        match self.openings.iter_mut().find(|opening| opening.streams.contains(&stream)) {
            Some(opening) => drop(opening.failure.get_or_insert(error.to_string())),
            None => self.fail(error),
        }
    }

    /// Tells whoever started us, once every stream of the configuration could be opened; others do not come before.
    fn say_ready(&mut self) {
        if !self.streams.values().all(|served| served.ready) {
            return;
        }
        let Some(on_ready) = self.on_ready.take() else { return };
        let descriptions: Vec<_> =
            self.streams.values().filter_map(|served| Some(served.opened.as_ref()?.description.clone())).collect();
        on_ready(&descriptions);
        for asked in std::mem::take(&mut self.early) {
            self.answer(asked);
        }
    }

    fn measure(&mut self) {
        let now = self.born.elapsed();
        self.cpus.note(now, self.scheduler.cpu_used());
        for (&id, served) in &mut self.streams {
            served.rate.note(now, self.scheduler.samples_made(id));
            let cache = served.opened.as_mut().and_then(|opened| opened.cache.as_mut());
            if let Some(news) = cache.and_then(StreamCache::news) {
                output::log(&format!("stream `{}`: {news}", served.name));
            }
        }
    }
}
