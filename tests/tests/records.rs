//! Datasets that are read in order, served: the same for any number of workers, and rows of different lengths.

use std::fmt::Write as _;
use std::fs;

use batchmill_protocol::client::Subscription;
use batchmill_tests::{Programs, programs, signal};
use rustix::process::Signal;
use tempfile::TempDir;

const PROGRAMS: Programs = programs!();

const STREAM: &str = "
    [stream.lines]
    dataset = { kind = 'jsonl', files = 'part-{0..3}.jsonl', fields = { tokens = 'i64' }, label = 'number' }
    sampler = { kind = 'shuffled', lanes = 2, block = 16 }
    collate = { tokens = { kind = 'ragged', max_len = 8 } }
    batch_size = 32";

/// Four files of 700, 0, 41 and 2,000 lines; line `n` of all has `n % 8` tokens, each `n`.
fn lines() -> TempDir {
    let folder = batchmill_tests::folder();
    let mut number = 0;
    for (part, lines) in [700, 0, 41, 2000].into_iter().enumerate() {
        let mut text = String::new();
        for _ in 0..lines {
            let tokens = vec![number.to_string(); number % 8].join(", ");
            writeln!(text, "{{\"tokens\": [{tokens}], \"number\": {number}}}").expect("memory");
            number += 1;
        }
        fs::write(folder.path().join(format!("part-{part}.jsonl")), text).expect("written");
    }
    folder
}

#[test]
fn records_are_the_same_for_any_workers_also_killed_ones() {
    let data = lines();
    let digests = |workers: u32, kill: bool| {
        let loader = PROGRAMS.serve(data.path(), &format!("workers = {workers}\n{STREAM}"));
        if kill {
            let mut member = loader.attach(&Subscription::new("lines").epochs(0, Some(2)));
            for victim in loader.workers() {
                member.next().expect("a batch").expect("an epoch is longer");
                signal(victim.pid, Signal::KILL);
            }
            while member.next().expect("a batch").is_some() {}
        }
        let epochs = loader.drain(&["--stream", "lines", "--epochs", "2"]);
        loader.stop();
        epochs.into_iter().map(|epoch| (epoch["samples"].clone(), epoch["digest"].clone())).collect::<Vec<_>>()
    };
    let one = digests(1, false);
    assert_eq!(one[0].0, 2741);
    assert_ne!(one[0].1, one[1].1, "another order in every epoch");
    assert_eq!(one, digests(3, true));
}

#[test]
fn rows_of_different_lengths_are_read_as_values_and_offsets() {
    let data = lines();
    let loader = PROGRAMS.serve(data.path(), &format!("workers = 2\n{STREAM}"));
    let mut member = loader.attach(&Subscription::new("lines").epochs(0, Some(1)));
    let mut seen = Vec::new();
    while let Some(batch) = member.next().expect("a batch") {
        let integers =
            |bytes: &[u8]| -> Vec<i64> { bytes.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect() };
        let labels = integers(batch.field("label").expect("labels"));
        let tokens = batch.ragged("tokens").expect("it is ragged");
        assert_eq!(tokens.offsets.len(), labels.len() + 1);
        let values = integers(&tokens.values);
        for (row, label) in labels.iter().enumerate() {
            let [begin, end] = [row, row + 1].map(|row| usize::try_from(tokens.offsets[row]).expect("in memory"));
            let len = usize::try_from(label % 8).expect("a remainder");
            assert_eq!(values[begin..end], vec![*label; len]);
        }
        assert!(batch.ragged("label").is_none());
        seen.extend(labels);
    }
    drop(member);
    loader.stop();
    seen.sort_unstable();
    assert_eq!(seen, (0..2741).collect::<Vec<_>>(), "every record once");
}
