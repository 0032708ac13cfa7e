//! That whole models begin to learn as in PyTorch: the first losses from the same weights on the same batches.
//!
//! All 50 of each model: `cargo run --release -p batchmill-trainer --example parity`.

#[path = "../examples/parity.rs"]
mod parity;

use self::parity::{golden, losses, relative};

fn check(model: &str, steps: usize) {
    let golden = golden(model);
    let pairs = losses(model).zip(golden).take(steps);
    let differences: Vec<_> = pairs.map(|(found, golden)| relative(found, golden)).collect();
    let largest = differences.iter().copied().fold(0.0, f64::max);
    println!("{model}: {steps} steps, largest relative difference {largest:.1e}");
    // Each by itself: `max` passes over what is no number.
    let all_close = differences.iter().all(|difference| *difference < 1e-4);
    assert!(differences.len() == steps && all_close, "{model}: {differences:?}");
}

#[test]
fn an_mlp_learns_as_in_pytorch() {
    check("mlp", 20);
}

#[test]
fn a_cnn_learns_as_in_pytorch() {
    check("cnn", 8);
}

#[test]
fn a_resnet_begins_to_learn_as_in_pytorch() {
    check("resnet-18", 2);
}
