//! Batchmill at work: a loader of its own for each run, and this process as its client.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use batchmill_protocol::client::{Batch, Client, Member, Subscription};
use batchmill_protocol::message::{Reply, Request};
use rustix::process::{Pid, Signal};

use super::account::{cpu_s, family, own_cpu_s, pss_mb};
use super::workload::Workload;
use super::{Contender, Failure, Run};

/// The name of the one stream.
pub const STREAM: &str = "bench";

/// How long a loader may take to end.
const END_LIMIT: Duration = Duration::from_secs(10);

/// A running loader; it ends with this.
#[derive(Debug)]
pub struct Loader {
    child: Child,
    started: Instant,
    /// Its address.
    pub socket: PathBuf,
}

impl Loader {
    /// Serves a workload with so many workers, out of files in `scratch`.
    ///
    /// # Errors
    /// When it will not.
    pub fn serve(
        program: &Path,
        workload: &Workload,
        workers: u32,
        limit: u32,
        scratch: &Path,
    ) -> Result<Self, Failure> {
        let (config, socket) = (scratch.join("loader.toml"), scratch.join("socket"));
        fs::write(&config, format!("[stream.{STREAM}]\nseed = 1\n{}", limited(&workload.stream, limit)))?;
        let mut command = Command::new(program);
        command
            .args(["serve", "--workers", &workers.to_string()])
            .arg("--config")
            .arg(&config)
            .arg("--socket")
            .arg(&socket);
        let started = Instant::now();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or("a pipe")?;
        let loader = Self { child, started, socket };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if line.is_empty() {
            return Err(format!("{} does not serve {}: it says why above", program.display(), workload.name).into());
        }
        Ok(loader)
    }

    /// Attaches this process.
    ///
    /// # Errors
    /// When it does not let us in.
    pub fn attach(&self, epochs: u32) -> Result<Member, Failure> {
        let subscription = Subscription::new(STREAM).epochs(0, Some(epochs.into()));
        Ok(Client::connect(Some(&self.socket))?.attach(&subscription)?)
    }
}

impl Loader {
    /// What is cached in memory, in MB.
    fn cached_mb(&self) -> Result<f64, Failure> {
        let Reply::Status(status) = Client::connect(Some(&self.socket))?.request(&Request::Status)? else {
            return Err("the loader does not say how it stands".into());
        };
        let in_memory =
            status.streams.iter().filter_map(|stream| stream.cache.as_ref()).filter(|cache| cache.place == "ram");
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53")]
        Ok(in_memory.map(|cache| cache.bytes).sum::<u64>() as f64 / 1e6)
    }
}

/// The stream with so many samples only, if any number is named.
fn limited(stream: &str, limit: u32) -> String {
    match stream.strip_prefix("dataset = ").and_then(|rest| rest.split_once('\n')) {
        Some((dataset, rest)) if limit > 0 && dataset.contains("image-folder-csv") => {
            format!("dataset = {{ kind = 'take', len = {limit}, dataset = {dataset} }}\n{rest}")
        }
        _ => stream.to_owned(),
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + END_LIMIT;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a workload's epochs, the first of which only says how long it took to start; also the gap between two epochs
/// in the time that a step takes on average: batches that were delivered together follow in no time.
///
/// # Errors
/// When the loader fails.
pub fn run(program: &Path, workload: &Workload, limit: u32, scratch: &Path) -> Result<(Run, Option<f64>), Failure> {
    let loader = Loader::serve(program, workload, workload.workers, limit, scratch)?;
    let mut member = loader.attach(workload.epochs)?;
    let fields: Vec<String> = member.stream().fields.iter().map(|field| field.name.clone()).collect();
    let mut cold_start = None;
    let (mut steps, mut gaps) = (Vec::new(), Vec::new());
    let (mut samples, mut touched) = (0_u64, 0);
    let mut begun: Option<(Instant, f64)> = None;
    let mut last = Instant::now();
    let processes = family(loader.child.id());
    let used = |processes: &[u32]| cpu_s(processes) + own_cpu_s();
    while let Some(batch) = member.next()? {
        let now = Instant::now();
        cold_start.get_or_insert_with(|| now.duration_since(loader.started));
        let position = batch.position();
        if position.epoch > 0 {
            let (taken, step) = (if position.step == 0 { &mut gaps } else { &mut steps }, now.duration_since(last));
            // A few thousand say enough of how they spread.
            if taken.len() < 4096 {
                taken.push(step.as_secs_f64());
            }
            samples += u64::from(batch.rows() - batch.padding());
        }
        touched += touch(&batch, &fields);
        let is_last = member.stream().extent.next(position).epoch > position.epoch;
        drop(batch);
        if is_last && begun.is_none() {
            begun = Some((Instant::now(), used(&processes)));
        }
        last = now;
    }
    std::hint::black_box(touched);
    let (start, cpu_before) = begun.ok_or("the stream has no epoch")?;
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), used(&processes) - cpu_before);
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53")]
    let (samples, count) = (samples as f64, steps.len() as f64);
    let step = (!steps.is_empty()).then(|| steps.iter().sum::<f64>() / count);
    let gap = super::median(gaps).zip(step).map(|(gap, step)| gap / step);
    let run = Run {
        workload: workload.name.to_owned(),
        contender: Contender::Ours,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        samples_per_s: samples / seconds,
        cpu_us: cpu / samples * 1e6,
        cold_start_ms: cold_start.map(|time| time.as_secs_f64() * 1e3),
        pss_mb: Some(pss_mb(&[&processes[..], &[std::process::id()]].concat()).0 + loader.cached_mb()?),
        beside_mb: Some(pss_mb(&processes).1),
    };
    Ok((run, gap))
}

/// Looks at a byte of every row, as the other loaders' consumers do.
fn touch(batch: &Batch, fields: &[String]) -> u64 {
    let bytes = fields.iter().filter_map(|field| batch.field(field));
    bytes
        .map(|bytes| {
            let row_bytes = (bytes.len() / batch.rows().max(1) as usize).max(1);
            bytes.iter().step_by(row_bytes).map(|byte| u64::from(*byte)).sum::<u64>()
        })
        .sum()
}
