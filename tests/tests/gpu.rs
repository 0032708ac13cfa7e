//! A training on a graphics adapter is that on the CPU, as far as numbers on another device can be the same.
//!
//! Where there is no GPU, a Vulkan driver that is only software does (`mesa-vulkan-drivers`; `scripts/test` installs it).
#![cfg(feature = "wgpu")]

use std::fs;

use batchmill_tests::{Loader, Programs, programs, told};
use serde_json::Value;

const PROGRAMS: Programs = programs!();

/// The quickstart's, with a smaller hidden layer: software needs seconds for a step of the large one.
const MODEL: &str = "[[layer]]\nkind = 'flatten'\n[[layer]]\nkind = 'linear'\nout_features = 48\n\
                     [[layer]]\nkind = 'relu'\n[[layer]]\nkind = 'linear'\nout_features = 10\n";

#[test]
fn an_epoch_on_an_adapter_ends_where_it_ends_on_the_cpu() {
    let data = PROGRAMS.sample_data(600);
    let config = data.path().join("shapes/loader.toml");
    let loader = Loader::start(PROGRAMS, ["--config".as_ref(), config.as_os_str()]);
    let model = data.path().join("model.toml");
    fs::write(&model, MODEL).expect("written");
    // The mean loss and the accuracy of each epoch.
    let train = |device: &str| -> Vec<(f64, f64)> {
        let mut arguments = vec!["fit".into(), "--model".into(), model.clone().into_os_string()];
        arguments.extend(["--socket".into(), loader.socket().into_os_string()]);
        arguments.extend(["--out".into(), data.path().join(device).into_os_string()]);
        arguments.extend(["--device", device, "--eval", "test", "--epochs", "2", "--json"].map(Into::into));
        let output = PROGRAMS.run_trainer(arguments);
        assert!(output.status.success(), "a Vulkan driver? Debian: mesa-vulkan-drivers: {}", told(&output));
        let stdout = String::from_utf8(output.stdout).expect("JSON is UTF-8");
        let lines = stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON a line"));
        lines.filter_map(|line| Some((line["loss"].as_f64()?, line["test"]["accuracy"].as_f64()?))).collect()
    };
    let (cpu, wgpu) = (train("cpu"), train("wgpu"));
    assert_eq!((cpu.len(), wgpu.len()), (2, 2));
    for ((cpu_loss, cpu_accuracy), (loss, accuracy)) in cpu.iter().zip(&wgpu) {
        assert!((cpu_loss - loss).abs() < 1e-3, "{cpu:?} on the CPU is {wgpu:?} on wgpu");
        // One image of a hundred may lie on the border of two classes.
        assert!((cpu_accuracy - accuracy).abs() < 0.02, "{cpu:?} on the CPU is {wgpu:?} on wgpu");
    }
    loader.stop();
}
