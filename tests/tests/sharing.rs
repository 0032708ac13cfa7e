//! Readers that share a stream get every batch, made once, however they come, lag, and go.

use batchmill_protocol::client::{Member, Subscription};
use batchmill_protocol::position::Position;
use batchmill_protocol::share::{Lag, Share};
use batchmill_protocol::status::{MemberStatus, Status, StreamStatus};
use batchmill_tests::reader::Reader;
use batchmill_tests::{Loader, Programs, folder, programs, take};
use expect_test::expect;
use tempfile::TempDir;

const PROGRAMS: Programs = programs!();

/// Samples and batches of an epoch.
const SAMPLES: u64 = 4_000;
const STEPS: u64 = 250;

/// Slots of the stream.
const SLOTS: u64 = 16;

/// So far may one of those that read together be ahead of the others; two slots are left for who begins elsewhere.
const WINDOW: u64 = SLOTS - 2;

/// Serves a stream of numbers.
fn numbers() -> (TempDir, Loader) {
    let data = folder();
    let configuration = "workers = 2\nmemory = '128KiB'\n[stream.n]\nbatch_size = 16\nsampler = 'shuffled'\n\
                         dataset = { kind = 'numbers', len = 4000, width = 8 }\n";
    let loader = PROGRAMS.serve(data.path(), configuration);
    let slots = loader.status().streams[0].slots;
    // What nobody reads are the first batches, which wait for whoever begins there.
    assert_eq!(u64::from(slots.free + slots.filling + slots.ready), SLOTS, "{slots:?}");
    (data, loader)
}

fn stream(status: &Status) -> &StreamStatus {
    &status.streams[0]
}

/// Starts a reader of one epoch that shares all batches.
fn broadcast(loader: &Loader, lag: &str, more: &[&str]) -> Reader {
    Reader::start(loader, &[&["--stream", "n", "--share", "broadcast", "--lag", lag], more].concat())
}

/// Has this process share all batches, from a step on.
fn join(loader: &Loader, lag: Lag, step: u64) -> Member {
    let from = Subscription::new("n").epochs(0, Some(1)).from(Position { epoch: 0, step });
    loader.attach(&from.sharing(Share::Broadcast { lag }))
}

/// The digest of what a lone reader gets.
fn alone(loader: &Loader, more: &[&str]) -> Vec<String> {
    Reader::start(loader, &[&["--stream", "n"], more].concat()).digests()
}

/// Waits until so many read one window together.
fn wait_for_company(loader: &Loader, members: usize) {
    loader.wait_until(
        "all in one lane",
        |status| matches!(&stream(status).lanes[..], [lane] if lane.members.len() == members),
    );
}

#[test]
fn what_three_read_is_made_once_and_is_what_a_lone_reader_gets() {
    let (_data, loader) = numbers();
    let expected = alone(&loader, &[]);
    let before = stream(&loader.status()).samples_made;
    assert_eq!(before, SAMPLES);
    // It keeps the beginning until all are there.
    let gate = join(&loader, Lag::Wait, 0);
    let readers: Vec<_> = (0..3).map(|_| broadcast(&loader, "wait", &[])).collect();
    wait_for_company(&loader, 4);
    drop(gate);
    for reader in readers {
        assert_eq!(reader.digests(), expected);
    }
    let status = loader.status();
    assert_eq!(stream(&status).samples_made - before, SAMPLES);
    assert_eq!((stream(&status).splits, stream(&status).merges), (0, 0));
    loader.stop();
}

#[test]
fn readers_come_and_go_at_any_time_and_each_gets_all_from_where_it_came() {
    let (_data, loader) = numbers();
    let (whole, half) = (alone(&loader, &[]), alone(&loader, &["--from", "0:100"]));
    let batches = take(&mut loader.attach(&Subscription::new("n").epochs(0, Some(1))), usize::MAX);

    let before = stream(&loader.status()).samples_made;
    let mut first = join(&loader, Lag::Wait, 0);
    let mut seen = take(&mut first, 100);
    // What it wants is no longer there: it reads by itself until it has caught up.
    let late = broadcast(&loader, "wait", &[]);
    loader.wait_until("caught up", |status| stream(status).merges == 1);
    let amid = broadcast(&loader, "wait", &["--from", "0:100"]);
    let leaves = broadcast(&loader, "wait", &["--from", "0:100", "--step-time", "0.001"]);
    wait_for_company(&loader, 4);
    leaves.wait_until(&loader, "in the middle", |member| member.cursor.step > 105);
    leaves.kill();
    seen.extend(take(&mut first, usize::MAX));
    assert_eq!(seen, batches);
    assert_eq!(amid.digests(), half);
    assert_eq!(late.digests(), whole);
    let made = stream(&loader.status()).samples_made - before - SAMPLES;
    assert!(made <= (100 + WINDOW) * 16, "{made} samples were made twice: more than before they met");
    drop(first);
    loader.stop();
}

/// A reader that is stopped, with nothing in hand, behind the first window, and one in good health in the same lane.
fn one_stopped(loader: &Loader, lag: &str) -> (Reader, Reader) {
    // As long as it keeps the beginning the others get no further than the window.
    let gate = join(loader, Lag::Wait, 0);
    let at_the_end = |member: &MemberStatus| member.cursor.step == WINDOW && member.leases == 0;
    let stopped = broadcast(loader, lag, &[]);
    stopped.wait_until(loader, "at the window's end", at_the_end);
    stopped.pause();
    let other = broadcast(loader, "wait", &[]);
    other.wait_until(loader, "at the window's end", at_the_end);
    drop(gate);
    (stopped, other)
}

#[test]
fn who_is_stopped_is_left_behind_and_gets_all_when_it_goes_on() {
    let (_data, loader) = numbers();
    let expected = alone(&loader, &[]);
    let (stopped, other) = one_stopped(&loader, "split");
    assert_eq!(other.digests(), expected, "it does not wait for long");
    let status = loader.status();
    assert!(stream(&status).splits >= 1, "{status:#?}");
    assert!(stopped.member(&status).is_some_and(|member| member.cursor.step < 2 * WINDOW), "{status:#?}");
    stopped.go_on();
    assert_eq!(stopped.digests(), expected);
    loader.stop();
}

#[test]
fn who_must_be_waited_for_is_until_it_goes_on() {
    let (_data, loader) = numbers();
    let (expected, half) = (alone(&loader, &[]), alone(&loader, &["--from", "0:100"]));
    let (stopped, other) = one_stopped(&loader, "wait");
    let held = |status: &Status| {
        let keeps = stopped.member(status).map(|member| member.member);
        matches!(&stream(status).lanes[..], [lane] if keeps.is_some_and(|member| lane.held_by == [member]))
    };
    let since = loader.wait_until("held", held).uptime_s;
    // One that may be left behind would be by then.
    let status = loader.wait_until("some time later", |status| status.uptime_s > since + 1.5);
    assert!(held(&status), "{status:#?}");
    assert_eq!(other.member(&status).map(|member| member.cursor.step), Some(2 * WINDOW), "no further than a window");
    assert_eq!(broadcast(&loader, "split", &["--from", "0:100"]).digests(), half, "who begins elsewhere finds room");
    stopped.go_on();
    assert_eq!((stopped.digests(), other.digests()), (expected.clone(), expected));
    assert_eq!(stream(&loader.status()).splits, 0);
    loader.stop();
}

#[test]
fn who_is_to_be_dropped_is_told_why_and_nobody_else_notices() {
    let (_data, loader) = numbers();
    let expected = alone(&loader, &[]);
    let (stopped, other) = one_stopped(&loader, "drop");
    assert_eq!(other.digests(), expected);
    stopped.go_on();
    expect![[r"
        the loader ended this trainer before epoch 0 step 18: it lags 10 batches behind trainers that wait for it: with --lag split it reads on by itself, with --lag wait they wait"]]
    .assert_eq(&stopped.told());
    let status = loader.status();
    assert_eq!((stream(&status).splits, stream(&status).samples_made), (0, 2 * SAMPLES), "{status:#?}");
    loader.stop();
}

#[test]
fn streams_of_slow_and_of_fast_samples_are_both_served() {
    let data = folder();
    let table = |name: &str, work: u32| {
        format!("[stream.{name}]\nbatch_size = 16\ndataset = {{ kind = 'numbers', len = 4000, work = {work} }}\n")
    };
    // One worker, so that what one stream gets the other does not.
    let configuration = format!("workers = 1\n{}{}", table("slow", 500_000), table("fast", 0));
    let loader = PROGRAMS.serve(data.path(), &configuration);
    let readers = ["slow", "fast"].map(|name| Reader::start(&loader, &["--stream", name, "--epochs", "1000000"]));
    let made = |status: &Status| {
        let named = |name| status.streams.iter().find(move |stream| stream.name == name).expect("it is served");
        ["slow", "fast"].map(|name| named(name).samples_made)
    };
    let both = loader.wait_until("both read", |status| readers.iter().all(|reader| reader.member(status).is_some()));
    let [slow, fast] = made(&both);
    loader.wait_until("both well served", |status| {
        let now = made(status);
        now[0] >= slow + 160 && now[1] >= fast + 16_000
    });
    readers.into_iter().for_each(Reader::kill);
    loader.stop();
}

#[test]
fn flags_that_make_no_sense_together_are_refused() {
    let (_data, loader) = numbers();
    let told = |more: &[&str]| Reader::start(&loader, &[&["--stream", "n"], more].concat()).told();
    expect!["--lag means nothing without --share broadcast"].assert_eq(&told(&["--lag", "split"]));
    expect!["--rank means nothing without --share sharded"].assert_eq(&told(&[
        "--share",
        "broadcast",
        "--rank",
        "0",
        "--world",
        "2",
    ]));
    expect!["rank 2 of 2 does not exist: ranks count from 0, so the last one is 1"]
        .assert_eq(&told(&["--share", "sharded", "--rank", "2", "--world", "2"]));
    assert_eq!(STEPS, stream(&loader.status()).steps);
    loader.stop();
}
