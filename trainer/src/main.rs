//! The program `trainer`.

use std::process::ExitCode;

use batchmill_trainer::registry::Registry;

/// Keeps freed pages: burn's CPU backend allocates every tensor anew, and with the system's allocator spends a third
/// of its time on page faults.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    batchmill_trainer::run(&Registry::builtin(), &batchmill_datasets::builtin())
}
