//! The other side: what `loader worker` does. It fills the rows it is told to, and knows nothing else.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use batchmill_datasets::cache::CacheKind;
use batchmill_datasets::pipeline::{Pipeline, RowLabel, RowSink};
use batchmill_datasets::registry::Registry;
use batchmill_datasets::source::Index;
use batchmill_datasets::spec::StreamSpec;
use batchmill_protocol::digest::Digest;
use batchmill_protocol::fd;
use batchmill_protocol::message::{
    BadSample, Done, Filled, FromWorker, Quarantined, SlabHandOver, SlotIndex, StreamId, Survey, Task, ToWorker,
    WorkerHello, WorkerLine,
};
use batchmill_protocol::position::Rows;
use batchmill_protocol::slab::{Layout, RowRecord, Shared, SlabWriter, SlotHeader, Telemetry};
use batchmill_protocol::tensor::FieldSpec;
use ipc_channel::IpcError;
use ipc_channel::ipc::{self, IpcSender};

use crate::error::{Failure, report};

mod cache;

/// How long a slab that was announced may take to arrive.
const SLAB_TIMEOUT: Duration = Duration::from_secs(10);

/// Slabs that may arrive before they are announced.
const SLABS_MAX: usize = 1024;

/// How long a worker goes on with tasks of one stream before it says that some are done: as long as some messages take.
const SILENCE_MAX: Duration = Duration::from_micros(250);

/// The kernel's leaning, -1000 to 1000, to end this process first when memory runs out: a worker is replaced, a
/// trainer is not.
const OOM_SCORE_ADJ: &str = "500";

/// Fills rows until the daemon says to leave or is gone.
pub(crate) fn work(registry: &Registry) -> Result<(), Failure> {
    // Before anything else: should the daemon's thread be gone already, the life-line tells.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let life_line = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let (hello, page) = fd::receive::<WorkerHello>(&life_line)
        .map_err(|error| format!("`loader worker` is started by `loader serve` alone: {}", report(&error)))?;
    let mut telemetry = Telemetry::open(page.ok_or("the daemon's hello came without its page")?)?;
    // All are for comfort: a system without them loses a name in `ps`, or a preference. To be nicer, or ended sooner, needs
    // no privilege.
    let _ = fs::write("/proc/self/comm", "loader worker");
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ);
    // Of this thread, and of those that are started from here on.
    let _ = rustix::process::nice(hello.nice.into());

    let (slab_sender, slabs) = mpsc::sync_channel(SLABS_MAX);
    thread::Builder::new().name("life-line".to_owned()).spawn(move || hold(&life_line, &slab_sender))?;

    let (to_worker, tasks) = ipc::channel()?;
    let (answers, from_worker) = ipc::channel()?;
    IpcSender::connect(hello.line)?.send(WorkerLine { to_worker, from_worker })?;

    let mut streams = BTreeMap::new();
    let mut cpu = CpuTime::default();
    // No deadline: the life-line ends this process when the daemon ends.
    while let Ok(message) = tasks.recv() {
        let answer = match message {
            ToWorker::Survey { stream, spec, quarantined, anew, beside_bytes } => {
                let indexed = || answers.send(FromWorker::Indexed { stream });
                let survey = handed(&slabs, stream).and_then(|room| {
                    let asked = Asked { room, quarantined, anew, beside_bytes };
                    survey(registry, &spec, asked, indexed, &mut telemetry)
                });
                let survey = survey.map_err(|error| report(&*error));
                telemetry.clear();
                cpu.lap();
                FromWorker::Surveyed { stream, survey }
            }
            ToWorker::Open { stream, spec, fields, slots, quarantined } => {
                let mut opened = Stream::open(registry, &spec, fields, slots, stream, &slabs);
                if let Ok(opened) = &mut opened {
                    shun(&mut opened.pipeline, quarantined);
                }
                let outcome = opened.map(|opened| drop(streams.insert(stream, opened)));
                cpu.lap();
                FromWorker::Opened { stream, outcome: outcome.map_err(|error| report(&*error)) }
            }
            ToWorker::Quarantine { stream, sample } => {
                if let Some(stream) = streams.get_mut(&stream) {
                    shun(&mut stream.pipeline, [sample]);
                }
                continue;
            }
            ToWorker::Close { stream } => {
                streams.remove(&stream);
                continue;
            }
            ToWorker::Tasks(tasks) => {
                fill_all(&tasks, &mut streams, &mut telemetry, &mut cpu, |done| answers.send(FromWorker::Done(done)))?;
                continue;
            }
            ToWorker::Leave => return Ok(()),
        };
        answers.send(answer)?;
    }
    Ok(())
}

/// This process's processor time.
#[derive(Default)]
struct CpuTime(Duration);

impl CpuTime {
    /// What was used since the last time.
    fn lap(&mut self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let now = Duration::try_from(time).unwrap_or(self.0);
        now.saturating_sub(std::mem::replace(&mut self.0, now))
    }
}

/// Fills the rows of some tasks and says so: of several at once, if they take no time.
fn fill_all(
    tasks: &[Task],
    streams: &mut BTreeMap<StreamId, Stream>,
    telemetry: &mut Telemetry,
    cpu: &mut CpuTime,
    say: impl Fn(Vec<Done>) -> Result<(), IpcError>,
) -> Result<(), Failure> {
    let mut done = Vec::with_capacity(tasks.len());
    let (mut said, mut start) = (Instant::now(), Instant::now());
    let mut last = tasks.first().map(|task| task.stream);
    for task in tasks {
        // Those of another stream may take far longer, and what is done would have to wait for them.
        if last.replace(task.stream) != Some(task.stream) && !done.is_empty() {
            say(told(&mut done, cpu))?;
        }
        let stream = streams.get_mut(&task.stream).ok_or("the daemon gave a task of an unopened stream")?;
        telemetry.begin(Some(task.id));
        let outcome = stream.fill(task, telemetry);
        telemetry.begin(None);
        telemetry.clear();
        let end = Instant::now();
        let busy_ns = u64::try_from((end - start).as_nanos()).unwrap_or(u64::MAX);
        done.push(Done { task: task.id, busy_ns, cpu_ns: 0, outcome });
        start = end;
        if end - said >= SILENCE_MAX {
            say(told(&mut done, cpu))?;
            said = end;
        }
    }
    if !done.is_empty() {
        say(told(&mut done, cpu))?;
    }
    Ok(())
}

/// What is said of the tasks that are done. To ask for the processor time of each would be a call for each: the last has
/// that of all.
fn told(done: &mut Vec<Done>, cpu: &mut CpuTime) -> Vec<Done> {
    let cpu_ns = u64::try_from(cpu.lap().as_nanos()).unwrap_or(u64::MAX);
    if let Some(last) = done.last_mut() {
        last.cpu_ns = cpu_ns;
    }
    std::mem::take(done)
}

/// Takes slabs from the life-line until it ends, and this process with it.
#[expect(clippy::exit, reason = "the daemon is gone: whatever this process is doing, nobody wants it any more")]
fn hold(life_line: &UnixStream, slabs: &SyncSender<(StreamId, OwnedFd)>) {
    while let Ok((SlabHandOver { stream }, Some(slab))) = fd::receive(life_line) {
        if slabs.send((stream, slab)).is_err() {
            break;
        }
    }
    std::process::exit(0);
}

/// The next memory that came for a stream.
fn handed(slabs: &Receiver<(StreamId, OwnedFd)>, wanted: StreamId) -> Result<OwnedFd, Failure> {
    let (stream, memory) = slabs.recv_timeout(SLAB_TIMEOUT)?;
    if stream != wanted {
        return Err(format!("the memory of stream {stream} came where that of {wanted} was announced").into());
    }
    Ok(memory)
}

/// Keeps a pipeline from reading samples.
fn shun(pipeline: &mut Pipeline, samples: impl IntoIterator<Item = Quarantined>) {
    samples.into_iter().for_each(|Quarantined { index, reason }| pipeline.quarantine(index, reason));
}

/// What a survey needs beside the spec: as [`ToWorker::Survey`] has it, and room for the index.
struct Asked {
    room: OwnedFd,
    quarantined: Vec<Quarantined>,
    anew: bool,
    beside_bytes: u64,
}

/// Reads a stream's index into the room for it, and its first sample that can be read.
fn survey(
    registry: &Registry,
    spec: &str,
    Asked { room, quarantined, anew, beside_bytes }: Asked,
    indexed: impl FnOnce() -> Result<(), IpcError>,
    telemetry: &mut Telemetry,
) -> Result<Survey, Failure> {
    let spec: StreamSpec = serde_json::from_str(spec)?;
    telemetry.note(None, "the dataset's index");
    if anew {
        registry.forget_index(&spec)?;
    }
    let mut room = File::from(room);
    registry.index_into(&spec, &mut room, |room| Ok(Index::new(Shared::so_far(room)?)))?;
    let mut pipeline = registry.open(&spec, Index::new(Shared::freeze(room)?))?;
    shun(&mut pipeline, quarantined);
    indexed()?;
    // Before the first sample is made: what is wrong with the folder need not wait for that.
    let cache_file = cache::prepare(&spec, &pipeline, beside_bytes)?;
    let fields = pipeline.survey(&mut |index, name| telemetry.note(Some(index), name))?;
    let identity = pipeline.identity();
    Ok(Survey {
        fields,
        samples: pipeline.extent().samples,
        classes: pipeline.classes().to_vec(),
        cache_file,
        spec_hash: identity.hash(),
        identity: identity.parts.into_iter().collect(),
    })
}

/// One stream, open and mapped.
struct Stream {
    id: StreamId,
    pipeline: Pipeline,
    fields: Vec<FieldSpec>,
    slab: SlabWriter,
}

impl Stream {
    fn open(
        registry: &Registry,
        spec: &str,
        fields: Vec<FieldSpec>,
        slots: u32,
        id: StreamId,
        slabs: &Receiver<(StreamId, OwnedFd)>,
    ) -> Result<Self, Failure> {
        let memory = || handed(slabs, id);
        let spec: StreamSpec = serde_json::from_str(spec)?;
        let (slab, index) = (memory()?, memory()?);
        let in_memory = spec.cache.as_ref().is_some_and(|cache| cache.kind == CacheKind::Ram);
        let kept = if in_memory { Some(memory()?) } else { None };
        let mut pipeline = registry.open(&spec, Index::new(Shared::open(index)?))?;
        cache::open(&spec, &mut pipeline, kept);
        let layout = Layout::new(&fields, spec.batch_size, slots)?;
        Ok(Self { id, pipeline, fields, slab: SlabWriter::open(slab, layout)? })
    }

    fn fill(&mut self, task: &Task, telemetry: &mut Telemetry) -> Result<Filled, String> {
        if !self.slab.layout().holds(task.slot, task.rows) {
            return Err(format!("the daemon asked for {} of slot {}, which are not there", task.rows, task.slot));
        }
        if task.rows.lo == 0 {
            let extent = self.pipeline.extent();
            let (rows, padding) = (extent.rows(task.position.step), extent.padding(task.position.step));
            let header = SlotHeader { stream: self.id, position: task.position, rows, padding };
            self.slab.write_header(task.slot, &header);
        }
        let mut rows = SlotRows { slab: &mut self.slab, slot: task.slot, telemetry, digest: Digest::default() };
        let filled = self.pipeline.fill(&self.fields, task.position, task.rows, &mut rows);
        let bad = filled.map_err(|error| report(&error))?.into_iter().map(|bad| BadSample {
            row: bad.row,
            index: bad.index,
            name: bad.name,
            reason: bad.reason,
        });
        Ok(Filled { digest: rows.digest, bad: bad.collect() })
    }
}

/// The rows of a slot as the pipeline sees them.
struct SlotRows<'a> {
    slab: &'a mut SlabWriter,
    slot: SlotIndex,
    telemetry: &'a mut Telemetry,
    digest: Digest,
}

impl RowSink for SlotRows<'_> {
    fn attempt(&mut self, index: u64, name: &str) {
        self.telemetry.note(Some(index), name);
    }

    fn room(&mut self, row: u32, field: usize) -> &mut [u8] {
        self.slab.row_mut(self.slot, field, row)
    }

    fn finish(&mut self, row: u32, label: RowLabel) {
        self.digest += self.slab.finish_row(self.slot, row, record(label));
    }

    fn attempt_many(&mut self, first: &str) {
        self.telemetry.note(None, first);
    }

    fn rooms(&mut self, rows: Rows, field: usize) -> Option<&mut [u8]> {
        Some(self.slab.rows_mut(self.slot, field, rows))
    }

    fn finish_many(&mut self, first: u32, labels: &[RowLabel]) {
        self.digest += self.slab.finish_rows(self.slot, first, labels.iter().copied().map(record));
    }
}

fn record(RowLabel { index, padding, substituted, masked }: RowLabel) -> RowRecord {
    RowRecord { index, padding, substituted, masked }
}
