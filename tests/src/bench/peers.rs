//! Other loaders: the scripts of their benchmark, run with the interpreters that have them.

use std::collections::HashMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::workload::{Peer, Workload};
use super::{Contender, Failure, Run, median};

/// The exit status of a script that cannot do a workload.
const UNSUPPORTED: i32 = 3;

/// Rows of a carried batch.
const CARRIED_ROWS: f64 = 64.0;

/// Where the peers are.
#[derive(Debug)]
pub struct Peers {
    /// The folder of the scripts, `PEERS`.
    folder: PathBuf,
    /// `PY_TORCH`.
    torch: Option<PathBuf>,
    /// `PY_PEERS`.
    others: Option<PathBuf>,
    /// What SPDL needs to find.
    libraries: Option<String>,
}

impl Peers {
    /// What the environment says; `None` when it names no scripts.
    ///
    /// # Errors
    /// When it names scripts and no interpreter.
    pub fn from_environment() -> Result<Option<Self>, Failure> {
        let path = |name| env::var_os(name).map(PathBuf::from);
        let Some(folder) = path("PEERS") else { return Ok(None) };
        let (torch, others) = (path("PY_TORCH"), path("PY_PEERS"));
        if torch.is_none() && others.is_none() {
            return Err(
                "PEERS names other loaders' scripts: say with PY_TORCH or PY_PEERS which Python runs them".into()
            );
        }
        let libraries = others.as_deref().and_then(|python| {
            let output = Command::new(python).arg(folder.join("spdl_setup.py")).stdin(Stdio::null()).output().ok()?;
            String::from_utf8(output.stdout).ok().filter(|_| output.status.success())
        });
        Ok(Some(Self { folder, torch, others, libraries: libraries.map(|text| text.trim().to_owned()) }))
    }

    /// Has one do its work; `None` when its interpreter is not named or it says that it cannot do it.
    ///
    /// # Errors
    /// One sentence when it fails.
    pub fn run(&self, workload: &Workload, peer: &Peer, data: &Path, limit: u32) -> Result<Option<Run>, Failure> {
        let Some(python) = (if peer.torch { self.torch.as_ref() } else { self.others.as_ref() }) else {
            return Ok(None);
        };
        let mut command = Command::new(python);
        command.current_dir(&self.folder).args(&peer.arguments).env("DATA", data).env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("TF_CPP_MIN_LOG_LEVEL", "3");
        if limit > 0 && !peer.arguments.iter().any(|argument| argument == "--payload") {
            command.args(["--limit", &limit.to_string()]);
        }
        if let Some(libraries) = self.libraries.as_ref().filter(|_| peer.arguments[0].contains("spdl")) {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output()?;
        if status.code() == Some(UNSUPPORTED) {
            return Ok(None);
        }
        let failed = |why: &str| format!("{} failed at {}: {why}", peer.name, workload.name);
        if !status.success() {
            let said = String::from_utf8_lossy(&stderr);
            return Err(failed(said.lines().last().unwrap_or("it says nothing")).into());
        }
        let lines = String::from_utf8_lossy(&stdout);
        let epochs: Vec<HashMap<String, Value>> =
            lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let is_wrong = |key| epochs.iter().any(|epoch| epoch.get(key) == Some(&Value::Bool(false)));
        if is_wrong("count_ok") || is_wrong("labels_ok") {
            return Err(failed("it gave other samples than there are").into());
        }
        let run =
            summed_up(workload, peer, &epochs).ok_or_else(|| failed("its lines are not those of the benchmark"))?;
        Ok(Some(run))
    }
}

/// The medians of the epochs; of several the first only says how long it took to start.
fn summed_up(workload: &Workload, peer: &Peer, epochs: &[HashMap<String, Value>]) -> Option<Run> {
    let number = |epoch: &HashMap<String, Value>, key: &str| epoch.get(key).and_then(Value::as_f64);
    let carries = epochs.iter().any(|epoch| epoch.contains_key("items_per_s"));
    let late = if epochs.len() > 1 && !carries { &epochs[1..] } else { epochs };
    let middle =
        |key: &str, scale: f64| median(late.iter().filter_map(|epoch| number(epoch, key))).map(|value| value * scale);
    let (samples_per_s, cpu_us) = if carries {
        (middle("items_per_s", CARRIED_ROWS)?, middle("cpu_us_per_item", 1.0 / CARRIED_ROWS)?)
    } else {
        (middle("images_per_s", 1.0)?, middle("cpu_s_per_image", 1e6)?)
    };
    Some(Run {
        workload: workload.name.to_owned(),
        contender: Contender::Peer(peer.name.to_owned()),
        version: epochs.first()?.get("version").and_then(Value::as_str).unwrap_or_default().to_owned(),
        samples_per_s,
        cpu_us,
        cold_start_ms: median(epochs.iter().filter_map(|epoch| number(epoch, "cold_start_ms"))),
        pss_mb: median(epochs.iter().filter_map(|epoch| number(epoch, "pss_mib"))).map(|mib| mib * 1.048_576),
        beside_mb: None,
    })
}
