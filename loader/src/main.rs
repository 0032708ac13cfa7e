//! The `loader` program with the datasets, samplers and transforms that come with Batchmill.

use std::process::ExitCode;

fn main() -> ExitCode {
    batchmill_loader::run(batchmill_datasets::builtin())
}
