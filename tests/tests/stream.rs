//! The bytes of a stream depend on its spec, seed, epoch and step, and on nothing else.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use batchmill_protocol::client::Subscription;
use batchmill_protocol::position::Position;
use batchmill_protocol::status::WorkerState;
use batchmill_tests::{Loader, Programs, programs, take};

const PROGRAMS: Programs = programs!();

/// A shuffled stream of the drawn shapes, in colour.
fn shapes(data: &Path, workers: u32, more: &str) -> Loader {
    let configuration = format!(
        "workers = {workers}\n[stream.train]\nbatch_size = 8\nsampler = 'shuffled'\n{more}\n\
         dataset = {{ kind = 'image-folder-csv', images = 'shapes', labels = 'shapes/train.csv' }}\n"
    );
    PROGRAMS.serve(data, &configuration)
}

#[test]
fn any_number_of_workers_makes_one_digest() {
    let data = PROGRAMS.sample_data(300);
    let mut seen = Vec::new();
    for workers in [1, 2, 5] {
        let loader = shapes(data.path(), workers, "");
        loader.wait_until("all at work", |status| {
            status.workers.iter().filter(|worker| worker.state == WorkerState::Idle).count() == workers as usize
        });
        seen.push(loader.digests("train", 2));
        loader.stop();
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
    assert_ne!(seen[0][0], seen[0][1], "each epoch has its own order");
}

#[test]
fn scaling_during_an_epoch_changes_no_byte() {
    let data = PROGRAMS.sample_data(600);
    let loader = shapes(data.path(), 2, "");
    let undisturbed = take(&mut loader.attach(&Subscription::new("train").epochs(0, Some(2))), usize::MAX);

    let mut member = loader.attach(&Subscription::new("train").epochs(0, Some(2)));
    let mut disturbed = Vec::new();
    for (workers, batches) in [(7, 20), (1, 40), (4, 60)] {
        disturbed.extend(take(&mut member, batches));
        let output = loader.command(&["scale", &workers.to_string()]);
        assert!(output.status.success(), "{output:?}");
        loader.wait_until("as many as wanted", |status| status.workers.len() == workers);
    }
    disturbed.extend(take(&mut member, usize::MAX));
    assert_eq!(disturbed, undisturbed);
    drop(member);
    loader.stop();
}

#[test]
fn workers_that_are_no_longer_wanted_go_away_at_any_time() {
    let data = batchmill_tests::folder();
    let loader = PROGRAMS.serve(data.path(), "workers = 8\n[stream.n]\ndataset = { kind = 'numbers', len = 40 }\n");
    // Ready is said when one worker is; the others may have no process yet, no line, or no stream.
    for workers in [1, 9, 1, 12, 2] {
        let output = loader.command(&["scale", &workers.to_string()]);
        assert!(output.status.success(), "{output:?}");
    }
    loader.wait_until("two workers and no other process", |status| {
        status.workers.len() == 2
            && status.workers.iter().all(|worker| worker.state == WorkerState::Idle)
            && loader.processes() == 3
    });
    loader.stop();
}

#[test]
fn another_seed_is_another_order() {
    let data = PROGRAMS.sample_data(200);
    let (first, second) = (shapes(data.path(), 1, "seed = 1"), shapes(data.path(), 1, "seed = 2"));
    assert_ne!(first.digests("train", 1), second.digests("train", 1));
    first.stop();
    second.stop();
}

#[test]
fn a_member_that_begins_later_gets_the_same_batches_from_there() {
    let data = PROGRAMS.sample_data(200);
    let loader = shapes(data.path(), 2, "");
    let whole = take(&mut loader.attach(&Subscription::new("train").epochs(0, Some(3))), usize::MAX);
    let from = Position { epoch: 1, step: 7 };
    let later = Subscription::new("train").epochs(0, Some(3)).from(from);
    let later = take(&mut loader.attach(&later), usize::MAX);
    assert_eq!(later[0].position, from);
    assert_eq!(later, whole[25 + 7..]);
    loader.stop();
}

#[test]
fn members_at_their_own_pace_each_get_every_batch() {
    let data = PROGRAMS.sample_data(400);
    let loader = shapes(data.path(), 2, "");
    let subscription = Subscription::new("train").epochs(0, Some(2));
    let mut slow = loader.attach(&subscription);
    let mut seen_by_slow = take(&mut slow, 3);
    let seen_by_fast = take(&mut loader.attach(&subscription), usize::MAX);
    seen_by_slow.extend(take(&mut slow, usize::MAX));
    assert_eq!(seen_by_slow, seen_by_fast);
    drop(slow);
    loader.stop();
}

#[test]
fn the_tail_is_short_left_out_or_filled_up() {
    let data = batchmill_tests::folder();
    let configuration = |tail: &str| {
        format!("[stream.train]\nbatch_size = 16\ntail = '{tail}'\ndataset = {{ kind = 'numbers', len = 40 }}\n")
    };
    for (tail, expected) in [("short", vec![16, 16, 8]), ("drop", vec![16, 16]), ("pad", vec![16, 16, 16])] {
        let loader = PROGRAMS.serve(data.path(), &configuration(tail));
        let batches = take(&mut loader.attach(&Subscription::new("train").epochs(0, Some(1))), usize::MAX);
        assert_eq!(batches.iter().map(|batch| batch.rows.0).collect::<Vec<_>>(), expected, "{tail}");
        if tail == "pad" {
            assert_eq!(batches[2].rows, (16, 8));
            assert_eq!(batches[2].indices[8..], batches[0].indices[..8], "filled up with the epoch's first samples");
        }
        loader.stop();
    }
}

#[test]
fn a_third_partys_dataset_arrives_as_it_was_written() {
    let data = batchmill_tests::folder();
    let configuration = "[stream.n]\nbatch_size = 3\ndataset = { kind = 'numbers', len = 7, width = 2 }\n";
    let loader = PROGRAMS.serve(data.path(), configuration);
    let mut member = loader.attach(&Subscription::new("n").epochs(0, Some(1)));
    let fields: Vec<_> = member.stream().fields.iter().map(ToString::to_string).collect();
    assert_eq!(fields, ["values: i64 [2]", "label: i64 []"]);
    let batches = take(&mut member, usize::MAX);
    let labels: Vec<i64> = batches
        .iter()
        .flat_map(|batch| batch.fields[1].chunks(8).map(|bytes| i64::from_le_bytes(bytes.try_into().expect("8 bytes"))))
        .collect();
    assert_eq!(labels, [0, 1, 2, 3, 4, 5, 6]);
    let values: Vec<u8> = [5000_i64, 5001].iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(batches[1].fields[0][2 * 16..], values, "the last row of the middle batch");
    drop(member);
    loader.stop();
}

#[test]
fn idx_files_are_served_plain_and_compressed() {
    let data = batchmill_tests::folder();
    let images: Vec<u8> = [0, 0, 8, 3, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0, 0, 3].into_iter().chain(0..30).collect();
    let labels = [0, 0, 8, 1, 0, 0, 0, 5, 4, 3, 2, 1, 0];
    fs::write(data.path().join("images"), &images).expect("a file");
    fs::write(data.path().join("labels"), labels).expect("a file");
    let serve = |images: &str| {
        let dataset = format!("{{ kind = 'idx', images = '{images}', labels = 'labels' }}");
        let loader = PROGRAMS.serve(data.path(), &format!("[stream.train]\nbatch_size = 2\ndataset = {dataset}\n"));
        let batches = take(&mut loader.attach(&Subscription::new("train").epochs(0, Some(1))), usize::MAX);
        loader.stop();
        batches
    };
    let plain = serve("images");
    assert_eq!(plain[1].fields[0], (12..24).collect::<Vec<u8>>());
    assert_eq!(plain[1].fields[1], [2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);

    let file = fs::File::create(data.path().join("images.gz")).expect("a file");
    let mut zipped = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    zipped.write_all(&images).and_then(|()| zipped.finish().map(drop)).expect("written");
    assert_eq!(serve("images.gz"), plain);
}
