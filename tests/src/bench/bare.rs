//! The bare work of a workload, with nothing around it: what its loader is measured against.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use batchmill_datasets::permutation::Permutation;
use batchmill_protocol::message::SlotIndex;
use batchmill_protocol::position::Rows;
use batchmill_protocol::slab::{Layout, Slab, SlabReader, SlabWriter};
use batchmill_protocol::tensor::{Dtype, FieldSpec};
use serde::Deserialize;

use super::account::{cpu_s, own_cpu_s};
use super::workload::{Bare, Workload};
use super::{Contender, Failure, Run, median};

/// Rounds of the bare loop, of which the first warms up.
const ROUNDS: &str = "8";

/// How long what is done in this program goes on.
const TIME: Duration = Duration::from_secs(2);

/// Rows and slots of the ring.
const ROWS: u32 = 64;
const SLOTS: u32 = 4;

/// The hidden command that [`ring`] starts.
pub const RING_WRITER: &str = "ring-writer";

/// Does the bare work of a workload; `program` is the example `bare-loop`.
///
/// # Errors
/// When a process cannot be started, or fails.
pub fn run(program: &Path, workload: &Workload) -> Result<Run, Failure> {
    let (samples_per_s, cpu_us) = match &workload.bare {
        Bare::Loop(arguments) => loops(program, arguments, workload.workers)?,
        Bare::Gather { file, row_bytes, batch } => gather(Path::new(file), *row_bytes, *batch)?,
        Bare::Ring { batch_bytes } => ring(*batch_bytes)?,
    };
    let workload = workload.name.to_owned();
    Ok(Run {
        workload,
        contender: Contender::Bare,
        version: String::new(),
        samples_per_s,
        cpu_us,
        cold_start_ms: None,
        pss_mb: None,
        beside_mb: None,
    })
}

/// A line of the bare loop.
#[derive(Debug, Deserialize)]
struct Round {
    samples_per_s: f64,
    cpu_us_per_sample: f64,
}

/// As many bare loops as there are workers, at the same time: what they do together.
fn loops(program: &Path, arguments: &[String], workers: u32) -> Result<(f64, f64), Failure> {
    let start = || {
        let mut command = Command::new(program);
        command.args(arguments).args(["--rounds", ROUNDS, "--json"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()
    };
    let started = (0..workers).map(|_| start()).collect::<io::Result<Vec<Child>>>();
    let started = started.map_err(|error| format!("start {}: {error}; scripts/bench builds it", program.display()))?;
    let (mut samples_per_s, mut cpu) = (0.0, Vec::new());
    for child in started {
        let output = child.wait_with_output()?;
        if !output.status.success() {
            return Err(format!("{} failed: it says why above", program.display()).into());
        }
        let rounds: Vec<Round> =
            serde_json::Deserializer::from_slice(&output.stdout).into_iter().collect::<Result<_, _>>()?;
        let late = rounds.get(1..).unwrap_or_default();
        samples_per_s +=
            median(late.iter().map(|round| round.samples_per_s)).ok_or("the bare loop went round once only")?;
        cpu.extend(late.iter().map(|round| round.cpu_us_per_sample));
    }
    Ok((samples_per_s, median(cpu).unwrap_or_default()))
}

/// Copies rows of a file in memory into batches, in random order: samples a second, and the CPU of one in microseconds.
fn gather(file: &Path, row_bytes: usize, batch: usize) -> Result<(f64, f64), Failure> {
    let bytes = fs::read(file)?;
    let rows = bytes.len() / row_bytes;
    let order = Permutation::new(rows as u64, 1, 0);
    let mut batches = vec![vec![0; batch * row_bytes]; SLOTS as usize];
    let (start, cpu, mut samples) = (Instant::now(), own_cpu_s(), 0_u64);
    for place in (0..rows as u64).cycle().step_by(batch) {
        let into = &mut batches[usize::try_from(samples)? / batch % SLOTS as usize];
        for (offset, row) in into.chunks_exact_mut(row_bytes).enumerate() {
            let index = usize::try_from(order.index((place + offset as u64) % rows as u64))?;
            row.copy_from_slice(&bytes[index * row_bytes..][..row_bytes]);
        }
        std::hint::black_box(&into);
        samples += batch as u64;
        if start.elapsed() > TIME {
            break;
        }
    }
    Ok(rates(samples, start, own_cpu_s() - cpu))
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53")]
fn rates(samples: u64, start: Instant, cpu_s: f64) -> (f64, f64) {
    (samples as f64 / start.elapsed().as_secs_f64(), cpu_s / samples as f64 * 1e6)
}

fn layout(batch_bytes: usize) -> Result<Layout, Failure> {
    Ok(Layout::new(&[FieldSpec::new("input", Dtype::U8, [batch_bytes / ROWS as usize])], ROWS, SLOTS)?)
}

/// Reads what another process writes into four slots, each announced by a byte and given back by one.
fn ring(batch_bytes: usize) -> Result<(f64, f64), Failure> {
    let layout = layout(batch_bytes)?;
    let slab = Slab::create("bench", &layout)?;
    let (mut ours, theirs) = UnixStream::pair()?;
    let memory: OwnedFd = slab.writable().try_clone_to_owned()?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args([RING_WRITER, &batch_bytes.to_string()])
        .stdin(Stdio::from(memory))
        .stdout(Stdio::from(OwnedFd::from(theirs)));
    let mut child = command.spawn()?;
    drop(command);
    let reader = SlabReader::open(slab.read_only(), layout)?;
    let mut token = [0];
    let mut touched = 0;
    let mut next = |slot: u32| -> Result<(), Failure> {
        ours.read_exact(&mut token)?;
        let bytes = reader.rows(SlotIndex(slot % SLOTS), 0, Rows { lo: 0, hi: ROWS });
        touched += bytes.iter().step_by(batch_bytes / ROWS as usize).map(|byte| u64::from(*byte)).sum::<u64>();
        Ok(ours.write_all(&token)?)
    };
    (0..SLOTS).try_for_each(&mut next)?;
    let used = |child: &Child| own_cpu_s() + cpu_s(&[child.id()]);
    let (start, cpu, mut batches) = (Instant::now(), used(&child), 0_u32);
    while start.elapsed() < TIME {
        next(batches)?;
        batches += 1;
    }
    let measured = rates(u64::from(batches) * u64::from(ROWS), start, used(&child) - cpu);
    std::hint::black_box(touched);
    child.kill()?;
    child.wait()?;
    Ok(measured)
}

/// The other process: fills slots that are free, row by row, until nobody gives one back.
///
/// # Errors
/// When it was not started by [`run`].
pub fn write_ring(batch_bytes: usize) -> Result<(), Failure> {
    let layout = layout(batch_bytes)?;
    let mut writer = SlabWriter::open(io::stdin(), layout)?;
    let mut theirs = UnixStream::from(io::stdout().as_fd().try_clone_to_owned()?);
    let row_bytes = batch_bytes / ROWS as usize;
    let template: Vec<u8> = (0..=250).cycle().take(batch_bytes).collect();
    let mut token = [0];
    for slot in 0_u32.. {
        if slot >= SLOTS && theirs.read_exact(&mut token).is_err() {
            break;
        }
        for (row, from) in (0..ROWS).zip(template.chunks_exact(row_bytes)) {
            writer.row_mut(SlotIndex(slot % SLOTS), 0, row).copy_from_slice(from);
        }
        if theirs.write_all(&token).is_err() {
            break;
        }
    }
    Ok(())
}
