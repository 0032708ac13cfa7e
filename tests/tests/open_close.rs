//! Streams come and go while a loader runs: each is what it would be alone, and one that has gone leaves nothing.

use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::Instant;

use batchmill_protocol::client::{Client, ClientError, Subscription};
use batchmill_protocol::message::Request;
use batchmill_protocol::position::Position;
use batchmill_protocol::status::{Status, WorkerState};
use batchmill_tests::{Contents, Loader, Programs, WATCHDOG, folder, programs, signal, take, told};
use expect_test::{Expect, expect};
use rustix::process::Signal;
use serde_json::{Value, json};

const PROGRAMS: Programs = programs!();

/// A table of numbers under a name; `more` goes into its dataset.
fn numbers(name: &str, more: &str) -> String {
    format!(
        "[stream.{name}]\nbatch_size = 16\nsampler = 'shuffled'\ndataset = {{ kind = 'numbers', len = 2000{more} }}\n"
    )
}

/// A loader of the stream `n` with that many workers.
fn loader_of_n(data: &Path, workers: u32) -> Loader {
    PROGRAMS.serve(data, &format!("workers = {workers}\nmemory = '1MiB'\n{}", numbers("n", "")))
}

/// Runs `loader open` with a file.
fn open(loader: &Loader, data: &Path, configuration: &str, more: &[&str]) -> Output {
    let file = data.join("stream.toml");
    fs::write(&file, configuration).expect("written");
    loader.command(&[&["open", file.to_str().expect("ours")], more].concat())
}

/// The same, which is to succeed.
fn opened(loader: &Loader, data: &Path, configuration: &str) {
    let output = open(loader, data, &format!("memory = '1MiB'\n{configuration}"), &[]);
    assert!(output.status.success(), "{output:?}");
}

fn close(loader: &Loader, name: &str) {
    let output = loader.command(&["close", name]);
    assert!(output.status.success(), "{output:?}");
}

/// What a loader says of a file that it will not open; the streams stay what they were.
fn refused(loader: &Loader, data: &Path, configuration: &str, more: &[&str], expected: &Expect) {
    let before: Vec<String> = loader.status().streams.into_iter().map(|stream| stream.name).collect();
    let told = told(&open(loader, data, configuration, more));
    expected.assert_eq(&told.replace(&data.display().to_string(), "DATA"));
    let after: Vec<String> = loader.status().streams.into_iter().map(|stream| stream.name).collect();
    assert_eq!(after, before);
}

/// The digests of two epochs of a stream that a loader serves alone.
fn alone(name: &str, more: &str) -> Vec<String> {
    let data = folder();
    let loader = PROGRAMS.serve(data.path(), &format!("workers = 2\nmemory = '1MiB'\n{}", numbers(name, more)));
    let digests = loader.digests(name, 2);
    loader.stop();
    digests
}

fn two_epochs(name: &str) -> Subscription {
    Subscription::new(name).epochs(0, Some(2))
}

#[test]
fn a_stream_that_is_opened_while_another_is_read_is_what_it_would_be_alone() {
    let data = folder();
    let loader = loader_of_n(data.path(), 2);
    let mut reader = loader.spawn(&["drain", "--stream", "n", "--epochs", "1000"]);
    loader.wait_until("read", |status| status.streams[0].samples_made > 0);
    let output = open(&loader, data.path(), &numbers("m", ", width = 7"), &["--json", "--memory", "2MiB"]);
    assert!(output.status.success(), "{output:?}");
    let printed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let stream = json!({ "name": "m", "samples": 2000, "classes": 0, "batches": 125,
        "fields": ["values: i64 [7]", "label: i64 []"] });
    assert_eq!(printed, json!({ "streams": [stream] }));
    assert_eq!(loader.digests("m", 2), alone("m", ", width = 7"));
    assert_eq!(loader.digests("n", 2), alone("n", ""), "the one it began with");

    let status = loader.status();
    let bytes: Vec<u64> = status.streams.iter().map(|stream| stream.slab_bytes).collect();
    assert!(bytes[0] <= 1 << 20 && bytes[1] > 0 && bytes[1] <= 2 << 20, "each has its own memory: {bytes:?}");
    assert!(reader.try_wait().expect("our child").is_none(), "it read all the time");
    let output = String::from_utf8(loader.command(&["close", "n", "--force"]).stdout).expect("text");
    assert_eq!(output, "stream `n` is closed; trainers that read it and were told: 1\n");
    let ended = reader.wait_with_output().expect("our child");
    assert!(told(&ended).ends_with(": stream `n` was closed"), "{ended:?}");
    loader.stop();
}

#[test]
fn a_stream_that_came_later_survives_what_others_survive() {
    let data = folder();
    let loader = loader_of_n(data.path(), 2);
    opened(&loader, data.path(), &numbers("m", ", work = 20000"));
    let undisturbed = take(&mut loader.attach(&two_epochs("m")), usize::MAX);
    let mut member = loader.attach(&two_epochs("m"));
    let mut seen = take(&mut member, 20);
    for worker in loader.workers() {
        signal(worker.pid, Signal::KILL);
        loader.wait_until("replaced", |status| status.workers.iter().all(|other| other.worker != worker.worker));
        seen.extend(take(&mut member, 20));
    }
    for workers in ["5", "1"] {
        assert!(loader.command(&["scale", workers]).status.success());
        loader.wait_until("scaled", |status| status.workers.len().to_string() == workers);
        seen.extend(take(&mut member, 20));
    }
    assert!(loader.command(&["quarantine", "--retry"]).status.success());
    seen.extend(take(&mut member, usize::MAX));
    assert_eq!(seen, undisturbed);
    drop(member);
    loader.stop();
}

/// How many descriptors a process has open, and its maps of what has no name: slabs and indices.
fn holds(pid: u32) -> (usize, Vec<String>) {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives").count();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("it lives");
    let names = maps.lines().filter_map(|line| Some(line.strip_suffix(" (deleted)")?.split_once('/')?.1.to_owned()));
    (descriptors, names.collect())
}

#[test]
fn a_stream_that_has_gone_leaves_nothing() {
    let data = PROGRAMS.sample_data(40);
    // One with an index, which the workers share, and one without.
    let shapes = "[stream.b]\nbatch_size = 8\ndataset = { kind = 'image-folder-csv', images = 'shapes', labels = 'shapes/train.csv' }\n";
    let loader = loader_of_n(data.path(), 2);
    let is_at_rest = |status: &Status| status.workers.iter().all(|worker| worker.state == WorkerState::Idle);
    let pids =
        |status: &Status| -> Vec<u32> { status.workers.iter().map(|worker| worker.pid).chain([status.pid]).collect() };
    let expected = loader.digests("n", 1);
    let status = loader.wait_until("at rest", is_at_rest);
    let all = || pids(&status).into_iter().map(holds).collect::<Vec<_>>();
    let before = all();
    for round in 0..20 {
        opened(&loader, data.path(), &format!("{}{shapes}", numbers("a", "")));
        if round % 5 == 0 {
            assert_eq!(loader.digests("a", 1), expected, "another number, and the same stream");
        }
        assert_ne!(all()[2], before[2], "it is seen where it is");

        close(&loader, "b");
        close(&loader, "a");
    }
    // Who was told that a stream is closed may not have read that yet.
    let start = Instant::now();
    let is_as_before = || all().iter().zip(&before).all(|(now, before)| now.0 <= before.0 && now.1 == before.1);
    while !is_as_before() {
        assert!(start.elapsed() < WATCHDOG, "{:#?} was {before:#?}", all());
        std::thread::yield_now();
    }
    assert_eq!(pids(&loader.status()), pids(&status), "nobody was killed for it");
    assert_eq!(loader.digests("n", 1), expected);
    loader.stop();
}

/// A line holds 278 messages that nobody reads; then its sender waits, and would with it everybody else.
#[test]
fn a_worker_that_hears_nothing_holds_up_nobody_who_opens_and_closes() {
    let data = folder();
    let loader = loader_of_n(data.path(), 2);
    let at_rest = |status: &Status| {
        status.workers.len() == 2 && status.workers.iter().all(|worker| worker.state == WorkerState::Idle)
    };
    // Streams are looked at by the other one, which is older.
    let stopped = loader.wait_until("at rest", at_rest).workers[1].pid;
    signal(stopped, Signal::STOP);
    for _ in 0..150 {
        opened(&loader, data.path(), &numbers("m", ""));
        close(&loader, "m");
    }
    assert_eq!(loader.digests("n", 2), alone("n", ""), "others go on");
    signal(stopped, Signal::CONT);
    let status = loader.wait_until("at rest", at_rest);
    assert_eq!(status.workers[1].pid, stopped, "it lives on");
    loader.stop();
}

#[test]
fn a_file_that_makes_no_sense_opens_nothing() {
    let data = folder();
    let loader = loader_of_n(data.path(), 2);
    let check = |configuration: &str, expected: &Expect| refused(&loader, data.path(), configuration, &[], expected);
    for key in ["workers = 2", "hang_limit = 3", "socket = 's'"] {
        let name = key.split_once(' ').expect("a key").0;
        let told = told(&open(&loader, data.path(), &format!("\n{key}\n{}", numbers("m", "")), &[]));
        let expected =
            "`KEY` is for `loader serve`: of a loader that runs, `memory` and tables [stream.NAME] can be asked";
        let file = data.path().join("stream.toml");
        assert_eq!(told, format!("{}:2: {}", file.display(), expected.replace("KEY", name)));
    }
    check("memory = '1MiB'\n", &expect!["DATA/stream.toml:1: there is no stream: add a table [stream.train]"]);
    check(
        &numbers("m", "").replace("'numbers'", "'nombers'"),
        &expect!["DATA/stream.toml:4: unknown dataset `nombers`; did you mean `numbers`?"],
    );
    check(
        &format!("{}{}", numbers("m", ""), numbers("n", "")),
        &expect![
            "this loader serves a stream `n` already: end that with `loader close n`, or give this one another name"
        ],
    );
    check(
        &format!("memory = '1KiB'\n{}", numbers("m", "")),
        &expect![
            "open stream `m`: a batch of 16 samples takes 8.0 KiB and 2 must fit its share of the memory, 1.0 KiB: raise --memory (or `memory`), or lower the batch size"
        ],
    );
    check(
        "[stream.m]\ndataset = { kind = 'image-folder', root = 'nowhere' }\n",
        &expect!["open stream `m`: DATA/nowhere: the folder with the images does not exist"],
    );
    check(
        &format!("{}{}", numbers("a", ""), numbers("b", ", trouble = 'unreadable'")),
        &expect!["open stream `b`: number 0: it is out of reach"],
    );
    check(
        &numbers("m", ", trouble = 'abort'"),
        &expect![
            "open stream `m`: number 0: 2 worker processes died on reading it; the last was killed by signal 6 (SIGABRT)"
        ],
    );
    for (head, more) in [("memory = '900TiB'\n", &[][..]), ("", &["--memory", "900TiB"])] {
        let told = told(&open(&loader, data.path(), &format!("{head}{}", numbers("m", "")), more));
        assert!(told.starts_with("shared memory of 900 TiB was asked for and "), "{told}");
        assert!(told.ends_with(" is available: lower --memory (or `memory`), or the batch size"), "{told}");
    }
    assert_eq!(loader.status().streams.len(), 1);
    assert_eq!(loader.digests("n", 2), alone("n", ""), "the loader goes on");
    loader.stop();
}

#[test]
fn what_a_stranger_asks_for_is_checked_by_the_daemon() {
    let data = folder();
    let loader = loader_of_n(data.path(), 1);
    let spec = |changes: Value| {
        let mut spec = loader.attach(&two_epochs("n")).stream().spec.clone();
        let changes = changes.as_object().expect("an object").clone();
        spec["name"] = "m".into();
        spec.as_object_mut().expect("an object").extend(changes);
        spec.to_string()
    };
    let check = |specs: Vec<String>, expected: &Expect| {
        let client = Client::connect(Some(&loader.socket())).expect("it answers");
        let Err(ClientError::Refused { reason }) = client.request(&Request::Open { specs, memory_bytes: 1 << 20 })
        else {
            panic!("it was opened");
        };
        expected.assert_eq(&reason);
    };
    check(vec![], &expect!["no stream was asked for"]);
    check(
        vec!["{".to_owned()],
        &expect!["the spec of a stream cannot be read: EOF while parsing an object at line 1 column 1"],
    );
    check(
        vec![format!("\"{}\"", "x".repeat(1 << 17))],
        &expect!["the spec of a stream has 131074 bytes and may have 65536: put long lists into files"],
    );
    check(vec![spec(json!({ "batch_size": 0 }))], &expect!["stream `m`: `batch_size` is 0"]);
    check(vec![spec(json!({ "on_bad_limit": 2.0 }))], &expect!["stream `m`: `on_bad_limit` is 2"]);
    check(vec![spec(json!({ "folder": "here" }))], &expect!["stream `m`: its folder here is not absolute"]);
    check(vec![spec(json!({})), spec(json!({}))], &expect!["two streams are called `m`"]);
    check(
        (0..64).map(|number| spec(json!({ "name": number.to_string() }))).collect(),
        &expect!["64 streams were asked for beside 1, and there may be 64 in all: end some with `loader close`"],
    );
    // What only a worker can know.
    check(
        vec![spec(json!({ "dataset": { "kind": "number", "options": {} } }))],
        &expect!["open stream `m`: unknown dataset `number`; did you mean `numbers`?"],
    );
    assert_eq!(loader.digests("n", 2), alone("n", ""));
    loader.stop();
}

#[test]
fn a_stream_that_is_read_is_closed_by_force_and_its_reader_keeps_what_it_holds() {
    let data = folder();
    let loader = loader_of_n(data.path(), 2);
    let expected = take(&mut loader.attach(&two_epochs("n")), usize::MAX);
    let mut member = loader.attach(&two_epochs("n"));
    let held = member.next().expect("a batch").expect("a batch");
    let refusal = told(&loader.command(&["close", "n"]));
    let pid = std::process::id();
    let trainer = loader.status().streams[0].members[0].member;
    assert_eq!(
        refusal,
        format!(
            "stream `n` is read by trainer {trainer} (pid {pid}): end what reads it, or close it all the same with --force"
        )
    );
    expect!["this loader serves no stream `nn`; there are `n`"].assert_eq(&told(&loader.command(&["close", "nn"])));

    let printed = loader.command(&["close", "n", "--force", "--json"]).stdout;
    let printed: Value = serde_json::from_slice(&printed).expect("JSON");
    assert_eq!(printed, json!({ "stream": "n", "trainers": [pid] }));
    let mut seen = vec![Contents::of(&held, &member)];
    let end = loop {
        match member.next() {
            Ok(batch) => seen.push(Contents::of(&batch.expect("not all of it"), &member)),
            Err(error) => break error,
        }
    };
    assert_eq!(seen, expected[..seen.len()], "what came before is right");
    let position = Position { epoch: 0, step: seen.len() as u64 };
    assert_eq!(end.to_string(), format!("the loader ended this trainer before {position}: stream `n` was closed"));

    // The last one has gone; the loader has not.
    assert_eq!(loader.status().streams, []);
    expect!["this loader serves no stream `n`; there are none"]
        .assert_eq(&told(&loader.command(&["drain", "--stream", "n"])));
    opened(&loader, data.path(), &numbers("n", ""));
    assert_eq!(take(&mut loader.attach(&two_epochs("n")), usize::MAX), expected);
    assert_eq!(Contents::of(&held, &member), expected[0], "nobody has written there since");
    drop((held, member));
    loader.stop();
}

/// A stream whose first sample is never read, so that its survey does not end.
fn endless() -> String {
    numbers("m", ", trouble = 'hang'")
}

/// Waits until a worker is at the first sample of [`endless`], and says which.
fn surveyor(loader: &Loader, but: Option<u32>) -> u32 {
    let at_it = |status: &Status| {
        let current = |current: &Option<String>| current.as_deref() == Some("number 0");
        let at_it = status.workers.iter().find(|worker| current(&worker.current) && Some(worker.pid) != but);
        at_it.map(|worker| worker.pid)
    };
    let status = loader.wait_until("surveyed", |status| at_it(status).is_some());
    at_it(&status).expect("just seen")
}

#[test]
fn a_stream_may_be_closed_while_it_is_being_opened() {
    let data = folder();
    let loader = loader_of_n(data.path(), 2);
    let file = data.path().join("endless.toml");
    fs::write(&file, endless()).expect("written");
    let waits = loader.spawn(&["open", file.to_str().expect("ours")]);
    let first = surveyor(&loader, None);
    let status = loader.command(&["status"]);
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("\nstream `m`: not open yet, its data are being looked at\n"), "{status}");
    expect!["the stream is not open yet: try again in a moment"]
        .assert_eq(&told(&loader.command(&["drain", "--stream", "m"])));

    // Another looks at it when the first one dies.
    signal(first, Signal::KILL);
    let second = surveyor(&loader, Some(first));
    assert_eq!(loader.digests("n", 2), alone("n", ""), "others go on");
    close(&loader, "m");
    expect!["the stream was closed before it was open"].assert_eq(&told(&waits.wait_with_output().expect("our child")));
    loader.wait_until("as before", |status| {
        status.streams.len() == 1
            && status.workers.len() == 2
            && status.workers.iter().all(|worker| worker.state == WorkerState::Idle && worker.pid != second)
    });
    loader.stop();
}

#[test]
fn a_daemon_that_ends_while_a_stream_is_opened_leaves_nothing() {
    let data = folder();
    let file = data.path().join("endless.toml");
    fs::write(&file, endless()).expect("written");
    let open = ["open", file.to_str().expect("ours")];

    let loader = loader_of_n(data.path(), 2);
    let waits = loader.spawn(&open);
    surveyor(&loader, None);
    let socket = loader.socket();
    let door = loader.kill_but(&[waits.id()]);
    let told_it = told(&waits.wait_with_output().expect("our child"));
    expect!["talk to the loader at SOCKET: the connection broke: unexpected end of file"]
        .assert_eq(&told_it.replace(&socket.display().to_string(), "SOCKET"));
    drop(door);

    let loader = loader_of_n(data.path(), 2);
    let waits = loader.spawn(&open);
    surveyor(&loader, None);
    let socket = loader.socket();
    assert!(loader.command(&["stop"]).status.success());
    let told_it = told(&waits.wait_with_output().expect("our child"));
    expect!["the loader at SOCKET is about to end: start the next one"]
        .assert_eq(&told_it.replace(&socket.display().to_string(), "SOCKET"));
    assert!(loader.ended().success());
}
