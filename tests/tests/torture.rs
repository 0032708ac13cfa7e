//! A short torture finds nothing, and the same with a loader that does not reap finds it.

use std::process::{Command, Stdio};

use batchmill_tests::another_seed;
use serde_json::Value;

/// Runs the torture with so much harm to workers, trainers and loaders; returns its exit code and its last line.
fn torture(seed: u64, events: &str, more: &[&str]) -> (Option<i32>, Value) {
    println!("torture --events {events} --seed {seed} {}", more.join(" "));
    let output = Command::new(env!("CARGO_BIN_EXE_torture"))
        .args(["--events", events, "--seed", &seed.to_string(), "--photos", "100", "--photo-side", "90", "--json"])
        .args(more)
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{stderr}");
    let last = stdout.lines().last().expect("it counts");
    (output.status.code(), serde_json::from_str(last).expect("a JSON object a line"))
}

#[test]
fn harm_to_anyone_changes_no_batch_and_leaves_nothing() {
    let (code, counts) = torture(another_seed(), "25:5:2", &[]);
    assert_eq!(code, Some(0), "{counts:#}");
    let found = counts["found"].as_object().expect("by name");
    assert!(found.values().all(|times| *times == 0), "{counts:#}");
    // It was done: 25 to workers, of which a loader's death may take some along, 5 to trainers, 2 to loaders.
    let done = |of: &str, kinds: &[&str]| -> u64 {
        kinds.iter().map(|kind| counts["done"][of][kind].as_u64().expect("a number")).sum()
    };
    assert!(done("workers", &["kill", "stop", "stop_and_kill", "segv", "abort", "oom"]) >= 10, "{counts:#}");
    assert!(done("trainers", &["kill", "stop", "silent_exit", "kill_with_forked_child"]) >= 3, "{counts:#}");
    assert!(done("daemons", &["kill", "stop", "ended_by_loader_stop"]) >= 2, "{counts:#}");
    // And all five trainers read on, at least what they must read when it is over.
    assert!(done("stream", &["batches"]) >= 150, "{counts:#}");
}

#[test]
fn a_loader_that_does_not_reap_is_found_out() {
    let (code, counts) = torture(another_seed(), "400:30:10", &["--negative-control", "--share", "private"]);
    assert_eq!(code, Some(1), "{counts:#}");
    // The header of a batch is among what a late worker writes over; the client looks at that before it hands it out.
    let check = counts["first"]["check"].as_str().expect("a name");
    assert!(["corrupt", "protocol_broken"].contains(&check), "{counts:#}");
}
