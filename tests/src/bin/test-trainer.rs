//! The trainer with one more layer and the loader's one more transform, written as a third party would.

use std::process::ExitCode;

use batchmill_trainer::layer::AnyLayer;
use batchmill_trainer::layers::Relu;
use batchmill_trainer::registry::Registry;

fn main() -> ExitCode {
    let layers = Registry::builtin().layer("rectifier", |_, _| Ok(Box::new(|_, _| Ok(AnyLayer::new(Relu)))));
    batchmill_trainer::run(&layers, &batchmill_tests::registry())
}
