//! The trainer as it is, under a name that this package's tests can find.

use std::process::ExitCode;

fn main() -> ExitCode {
    batchmill_trainer::run()
}
