//! Samples that cannot be read: what stands in their place follows from the stream's policy and from nothing else.

use std::fs;
use std::path::Path;

use batchmill_protocol::client::{ClientError, Subscription};
use batchmill_protocol::position::Position;
use batchmill_tests::{Contents, Loader, Programs, folder, programs, take, told};
use serde_json::Value;
use tempfile::TempDir;

const PROGRAMS: Programs = programs!();

/// Drawn shapes, of which every `step`-th is cut short; their batches of 16.
fn broken(step: usize) -> TempDir {
    let data = PROGRAMS.sample_data(400);
    for image in images(data.path()).iter().step_by(step) {
        let bytes = fs::read(image).expect("drawn");
        fs::write(image, &bytes[..bytes.len() / 2]).expect("written");
    }
    data
}

fn images(data: &Path) -> Vec<std::path::PathBuf> {
    let csv = fs::read_to_string(data.join("shapes/train.csv")).expect("drawn");
    let names = csv.lines().skip(1).filter_map(|line| line.split(',').next());
    names.map(|name| data.join("shapes").join(name)).collect()
}

fn serve(data: &Path, workers: u32, policy: &str) -> Loader {
    let configuration = format!(
        "workers = {workers}\n[stream.train]\nbatch_size = 16\nsampler = 'shuffled'\n{policy}\n\
         dataset = {{ kind = 'image-folder-csv', images = 'shapes', labels = 'shapes/train.csv' }}\n"
    );
    PROGRAMS.serve(data, &configuration)
}

fn two_epochs() -> Subscription {
    Subscription::new("train").epochs(0, Some(2))
}

/// What `loader quarantine --json` says of the only stream.
fn quarantine(loader: &Loader) -> Value {
    let output = loader.command(&["quarantine", "--json"]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

#[test]
fn any_number_of_workers_and_a_resume_give_the_same_bytes_with_one_and_ten_percent_broken() {
    for step in [100, 10] {
        let data = broken(step);
        for policy in ["substitute", "mask"] {
            let policy = format!("on_bad = '{policy}'\non_bad_limit = 0.1");
            let one = serve(data.path(), 1, &policy);
            let expected = take(&mut one.attach(&two_epochs()), usize::MAX);
            let listed = quarantine(&one);
            one.stop();
            let eight = serve(data.path(), 8, &policy);
            assert_eq!(take(&mut eight.attach(&two_epochs()), usize::MAX), expected);
            assert_eq!(quarantine(&eight)["count"], listed["count"]);
            let from = Position { epoch: 1, step: 7 };
            eight.stop();
            let resumed = serve(data.path(), 3, &policy);
            assert_eq!(take(&mut resumed.attach(&two_epochs().from(from)), usize::MAX), expected[25 + 7..]);
            resumed.stop();
            assert_eq!(listed["count"], 400 / step, "{listed}");
            let sample = &listed["samples"][0];
            assert_eq!(sample["index"], 0, "{sample}");
            assert!(sample["name"].as_str().is_some_and(|name| name.ends_with(".png")), "{sample}");
            assert!(sample["reason"].as_str().is_some_and(|reason| reason.contains("broken PNG")), "{sample}");
        }
    }
}

#[test]
fn other_rows_stay_what_they_were() {
    let whole = PROGRAMS.sample_data(400);
    let loader = serve(whole.path(), 2, "");
    let expected = take(&mut loader.attach(&two_epochs()), usize::MAX);
    loader.stop();
    let data = broken(10);
    let bad: Vec<u64> = (0..400).step_by(10).collect();
    for policy in ["substitute", "mask"] {
        let loader = serve(data.path(), 2, &format!("on_bad = '{policy}'"));
        let mut member = loader.attach(&two_epochs());
        let mut masked = 0;
        for expected in &expected {
            let batch = member.next().expect("a batch").expect("as many as before");
            let found = Contents::of(&batch, &member);
            let mask: Vec<u32> = batch.masked().collect();
            masked += mask.len();
            for row in 0..expected.rows.0 {
                let at = row as usize;
                let bytes = |contents: &Contents| {
                    let fields =
                        contents.fields.iter().map(|field| field.chunks(field.len() / 16).nth(at).map(<[u8]>::to_vec));
                    fields.collect::<Vec<_>>()
                };
                let was_bad = bad.contains(&expected.indices[at]);
                if !was_bad {
                    assert_eq!(bytes(&found), bytes(expected), "{policy} {} row {row}", batch.position());
                } else if policy == "mask" {
                    assert!(mask.contains(&row) && bytes(&found).iter().flatten().flatten().all(|byte| *byte == 0));
                } else {
                    assert!(!bad.contains(&found.indices[at]), "the record names the sample that is there");
                }
            }
        }
        assert_eq!(masked, if policy == "mask" { 2 * bad.len() } else { 0 });
        drop(member);
        loader.stop();
    }
}

#[test]
fn too_many_bad_samples_fail_the_step() {
    let data = broken(10);
    let loader = serve(data.path(), 2, "on_bad = 'substitute'\non_bad_limit = 0.05");
    let told = told(&loader.command(&["drain", "--stream", "train"]));
    assert!(told.starts_with("epoch 0 step "), "{told}");
    assert!(
        told.ends_with(
            "more than 20 samples cannot be read, the limit (`on_bad_limit`): `loader quarantine` lists them; mend the \
             data, or raise the limit"
        ),
        "{told}"
    );
    loader.stop();
}

#[test]
fn a_poison_sample_is_found_by_name_within_two_deaths_and_handled_as_any_bad_one() {
    let data = folder();
    for (trouble, how) in [
        ("abort", "was killed by signal 6 (SIGABRT)"),
        ("panic", "exited with code 101"),
        ("exit", "exited with code 3"),
        ("hog", "was killed by signal 6 (SIGABRT)"),
        ("hang", "was killed: one range of samples took longer than 1 s"),
    ] {
        let configuration = |trouble: &str, workers: u32| {
            // Only what hangs is to meet the limit: a panic that prints its stack takes a while.
            let limit = if trouble == "hang" { 1 } else { 60 };
            format!(
                "workers = {workers}\nhang_limit = {limit}\n[stream.train]\nbatch_size = 16\non_bad = 'mask'\n\
                 dataset = {{ kind = 'numbers', len = 640, trouble = '{trouble}', at = 0, every = 500 }}\n"
            )
        };
        let mut seen = Vec::new();
        for workers in [1, 4] {
            let loader = PROGRAMS.serve(data.path(), &configuration(trouble, workers));
            seen.push(take(&mut loader.attach(&two_epochs()), usize::MAX));
            let listed = quarantine(&loader);
            assert_eq!(listed["count"], 2, "{listed}");
            for (sample, index) in [(&listed["samples"][0], 0), (&listed["samples"][1], 500)] {
                assert_eq!(
                    (&sample["index"], &sample["attempts"], &sample["poison"]),
                    (&index.into(), &2.into(), &true.into())
                );
                assert_eq!(sample["name"], format!("number {index}"));
                // The first hangs in the survey, the other in a range.
                let how =
                    if index == 0 { how.replace("one range of samples", "opening a stream") } else { how.to_owned() };
                // A sample that happened to take long raises the limit of the ranges after it.
                let limit = sample["reason"].as_str().and_then(|reason| reason.rsplit_once(" longer than "));
                let how = match limit {
                    Some((_, limit)) => how.replace("1 s", limit),
                    None => how,
                };
                assert_eq!(sample["reason"], format!("2 worker processes died on reading it; the last {how}"));
            }
            loader.stop();
        }
        assert_eq!(seen[0], seen[1], "{trouble}");
        let unreadable = PROGRAMS.serve(data.path(), &configuration("unreadable", 2));
        assert_eq!(take(&mut unreadable.attach(&two_epochs()), usize::MAX), seen[0], "{trouble}");
        unreadable.stop();
    }
}

#[test]
fn what_was_mended_is_read_again_on_request_and_is_another_stream() {
    let data = broken(10);
    let loader = serve(data.path(), 2, "on_bad = 'substitute'");
    let mut member = loader.attach(&two_epochs());
    let before = member.stream().clone();
    let first: Vec<Contents> = take(&mut member, 25);
    assert_eq!(quarantine(&loader)["count"], 40);
    drop(member);
    let whole = PROGRAMS.sample_data(400);
    for (broken, whole) in images(data.path()).iter().zip(images(whole.path())).step_by(10) {
        fs::copy(whole, broken).expect("mended");
    }

    // As long as nobody says so, a file that changed is no bad sample: its step fails, whatever the policy.
    let mut member = loader.attach(&two_epochs());
    let failed = loop {
        match member.next() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("changed files went unnoticed"),
            Err(failed) => break failed,
        }
    };
    assert!(matches!(&failed, ClientError::BatchFailed { reason, .. } if reason.contains("changed")), "{failed:?}");

    let output = loader.command(&["quarantine", "--retry"]);
    assert!(output.status.success(), "{output:?}");
    loader.wait_until("forgotten", |status| status.streams[0].bad_samples == 0);
    let mut member = loader.attach(&two_epochs());
    assert_ne!(member.stream().spec_hash, before.spec_hash);
    let mended = take(&mut member, 25);
    assert_ne!(mended, first);
    assert_eq!(quarantine(&loader)["count"], 0);
    drop(member);
    loader.stop();
    let loader = serve(data.path(), 1, "on_bad = 'substitute'");
    assert_eq!(take(&mut loader.attach(&two_epochs()), 25), mended, "as a loader that starts with the mended files");
    loader.stop();
}
