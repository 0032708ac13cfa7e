//! What is left of loaders and trainers that have ended.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How long what was killed a moment ago, or ends by itself, may take to go.
const MOMENT: Duration = Duration::from_secs(10);

/// What is `left`, unless it goes in a moment.
pub(super) fn after_a_moment<Left: IntoIterator<Item = String>>(left: impl Fn() -> Left) -> Vec<String> {
    let start = Instant::now();
    loop {
        let left: Vec<_> = left().into_iter().collect();
        if left.is_empty() || start.elapsed() > MOMENT {
            return left;
        }
        thread::yield_now();
    }
}

/// The processes that hold memory of the stream `name`, open or mapped: each with how they do.
pub(super) fn memory(name: &str) -> Vec<String> {
    let wanted = format!("/memfd:batchmill-{name} ");
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        // Not `self` and `thread-self`, which are one of the others.
        if !process.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let path = process.path();
        let open = fs::read_dir(path.join("fd")).into_iter().flatten().flatten();
        let open = open.filter_map(|entry| fs::read_link(entry.path()).ok());
        let open = open.filter(|target| format!("{} ", target.display()).starts_with(&wanted)).count();
        let maps = fs::read_to_string(path.join("maps")).unwrap_or_default();
        let mapped = maps.lines().filter(|line| format!("{line} ").contains(&wanted)).count();
        if open + mapped > 0 {
            found.push(format!("{}: {open} open, {mapped} mapped", path.display()));
        }
    }
    found
}

/// The bytes of each file in /dev/shm; none where there is no such folder.
pub(super) fn shared_memory() -> BTreeMap<OsString, u64> {
    let entries = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name(), entry.metadata().ok()?.len()))).collect()
}

/// What lies in a folder.
pub(super) fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().display().to_string()).collect()
}

/// How many files a process has open.
pub(super) fn open_files(pid: u32) -> u64 {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |entries| entries.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_found_while_somebody_holds_it() {
        let name = format!("left-{}", crate::unique());
        assert_eq!(memory(&name), [""; 0]);
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let held = rustix::fs::memfd_create(format!("batchmill-{name}"), flags).expect("memory");
        assert_eq!(memory(&name), [format!("/proc/{}: 1 open, 0 mapped", std::process::id())]);
        drop(held);
        assert_eq!(memory(&name), [""; 0]);
    }
}
