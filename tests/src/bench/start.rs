//! How long a trainer's client takes that starts beside a loader which has long been running.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Failure;
use super::ours::{Loader, STREAM};
use super::workload::Workload;

/// What is between two starts: a loader makes ready again what was taken.
const PAUSE: Duration = Duration::from_millis(300);

/// Milliseconds from the start of a client's process to its end, with the first batch read: the middle and the 99th of
/// 100.
#[derive(Clone, Copy, Debug)]
pub struct WarmStart {
    /// Half of the starts took no longer.
    pub p50_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
}

/// Starts a client `times` times.
///
/// # Errors
/// When one fails.
pub fn warm(
    program: &Path,
    workload: &Workload,
    workers: u32,
    scratch: &Path,
    times: u32,
) -> Result<WarmStart, Failure> {
    let loader = Loader::serve(program, workload, workers, 0, scratch)?;
    let mut taken = Vec::new();
    for _ in 0..times {
        thread::sleep(PAUSE);
        let mut command = Command::new(program);
        command.args(["drain", "--stream", STREAM, "--steps", "1", "--json", "--socket"]).arg(&loader.socket);
        let start = Instant::now();
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
        if !status.success() {
            return Err("the client fails: it says why above".into());
        }
        taken.push(start.elapsed().as_secs_f64() * 1e3);
    }
    taken.sort_by(f64::total_cmp);
    let at = |share: usize| taken[(taken.len() * share / 100).min(taken.len() - 1)];
    Ok(WarmStart { p50_ms: at(50), p99_ms: at(99) })
}
