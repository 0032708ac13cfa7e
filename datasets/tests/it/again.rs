//! Tests that run a second time, in a process of their own with little memory.

use std::env;
use std::process::{Command, Output};

/// Names the test that this process is to run with little memory.
const AGAIN: &str = "BATCHMILL_TEST_AGAIN";

/// The processor time after which an endless loop is one.
const PROCESSOR_S: u64 = 3600;

/// Runs the test that calls it again, in a process that may hold `mib` MiB of data; `None` in that process.
///
/// What asks for more there is aborted by Rust, or refused by a C library: either way the test fails. Nothing else could
/// notice memory that is reserved and given back.
pub(crate) fn with_memory(test: &str, mib: u64, environment: &[(&str, String)]) -> Option<Output> {
    if env::var_os(AGAIN).is_some_and(|again| again == test) {
        return None;
    }
    let limits = format!(r#"ulimit -d {} && ulimit -t {PROCESSOR_S} && exec "$@""#, mib << 10);
    let output = Command::new("/bin/sh")
        .args(["-c", &limits, "sh"])
        .arg(env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(AGAIN, test)
        // Of a panic that is caught, one line will do: the symbols of a backtrace take more memory than there is.
        .env("RUST_BACKTRACE", "0")
        .envs(environment.iter().map(|(key, value)| (key, value)))
        .output()
        .unwrap();
    // With a wrong name no test would run, and none fail.
    assert!(String::from_utf8_lossy(&output.stdout).contains("running 1 test"), "{test}: {output:?}");
    Some(output)
}

/// The same for a test that only has to succeed; whether the caller is to do its work.
pub(crate) fn must_pass_with_memory(test: &str, mib: u64) -> bool {
    let Some(output) = with_memory(test, mib, &[]) else { return true };
    assert!(output.status.success(), "{test} with {mib} MiB: {}\n{}", output.status, said(&output));
    false
}

/// All that the test wrote.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}
