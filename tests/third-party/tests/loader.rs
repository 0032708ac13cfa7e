//! Somebody else's loader is a loader like ours.

use batchmill_tests::Programs;

const PROGRAMS: Programs = Programs { loader: env!("CARGO_BIN_EXE_third-party-loader"), trainer: "" };

/// Serves its own dataset, sampler and transform, and returns the digests of two epochs.
fn digests(workers: u32) -> Vec<String> {
    let folder = batchmill_tests::folder();
    let configuration = format!(
        "workers = {workers}
         [stream.tones]
         dataset = {{ kind = 'tones', len = 1000 }}
         sampler = 'backwards'
         transforms = [{{ kind = 'volume', most = 2 }}]
         batch_size = 32"
    );
    let loader = PROGRAMS.serve(folder.path(), &configuration);
    let epochs = loader.drain(&["--stream", "tones", "--epochs", "2"]);
    loader.stop();
    assert_eq!(epochs.iter().map(|epoch| epoch["samples"].as_u64()).collect::<Vec<_>>(), [Some(1000); 2]);
    epochs.iter().map(|epoch| epoch["digest"].to_string()).collect()
}

#[test]
fn what_a_third_party_adds_is_served_like_everything_else() {
    let one = digests(1);
    assert_ne!(one[0], one[1]);
    assert_eq!(one, digests(3));
}

#[test]
fn it_takes_fewer_than_sixty_lines() {
    let lines = include_str!("../src/main.rs").lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines < 60, "{lines}");
}
