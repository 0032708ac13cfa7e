//! What dies is noticed, replaced or ended, and changes no byte of the stream.

use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use batchmill_protocol::client::{ClientError, Subscription};
use batchmill_protocol::position::Position;
use batchmill_protocol::status::{WorkerState, WorkerStatus};
use batchmill_tests::{Contents, Loader, Programs, WATCHDOG, folder, programs, signal, take, told, wait_for_state};
use rustix::process::{Pid, Signal};

const PROGRAMS: Programs = programs!();

const NUMBERS: &str = "[stream.n]\nbatch_size = 16\nsampler = 'shuffled'\n\
                       dataset = { kind = 'numbers', len = 4000, width = 200 }\n";

/// A stream of 250 batches an epoch, with sample number `at` being trouble.
fn troubled(trouble: &str, at: u32) -> String {
    format!("workers = 2\n{}", NUMBERS.replace("width = 200", &format!("trouble = '{trouble}', at = {at}")))
}

/// The only file in `data`.
fn configuration(data: &Path) -> PathBuf {
    let mut files = fs::read_dir(data).expect("ours").filter_map(|entry| Some(entry.ok()?.path()));
    files.next().expect("the configuration is still there")
}

/// The stream that a lone and undisturbed trainer gets.
fn undisturbed(loader: &Loader) -> Vec<Contents> {
    take(&mut loader.attach(&two_epochs()), usize::MAX)
}

fn two_epochs() -> Subscription {
    Subscription::new("n").epochs(0, Some(2))
}

#[test]
fn killed_workers_lose_no_batch() {
    let data = folder();
    // Few slots and some work a sample, so that a worker that is killed has rows half made.
    let configuration =
        format!("workers = 3\nmemory = '200KiB'\n{}", NUMBERS.replace("len = 4000", "len = 4000, work = 20000"));
    let loader = PROGRAMS.serve(data.path(), &configuration);
    let expected = undisturbed(&loader);
    let mut member = loader.attach(&two_epochs());
    let seen = thread::spawn(move || take(&mut member, usize::MAX));
    let signals = [Signal::KILL, Signal::SEGV, Signal::ABORT, Signal::BUS, Signal::TERM];
    for signal_name in signals.into_iter().cycle().take(10) {
        let busy = |worker: &&WorkerStatus| worker.state == WorkerState::Busy && worker.current.is_some();
        let status = loader.wait_until("at work", |status| status.workers.iter().any(|worker| busy(&worker)));
        let victim = status.workers.iter().find(busy).expect("just seen");
        loader.wait_until("replaced", |status| {
            // Again and again: the first SIGSEGV or SIGBUS that is sent, and no fault, only removes Rust's own handler.
            signal(victim.pid, signal_name);
            status.workers.len() == 3 && status.workers.iter().all(|worker| worker.worker != victim.worker)
        });
    }
    assert_eq!(seen.join().expect("it reads on"), expected);
    loader.stop();
}

#[test]
fn workers_that_die_before_they_say_a_word_are_replaced() {
    let data = folder();
    let (config, lots, door) = (data.path().join("loader.toml"), data.path().join("lots"), folder());
    fs::write(&config, format!("workers = 2\n{NUMBERS}")).expect("written");
    fs::create_dir(&lots).expect("made");
    let draw = |lot: u32| fs::write(lots.join(lot.to_string()), "").expect("written");
    draw(0);
    let mut command = Command::new(PROGRAMS.loader);
    command.env("BATCHMILL_TEST_STILLBORN", &lots);
    let loader = Loader::start_command(PROGRAMS, command, ["--config".as_ref(), config.as_os_str()], door);
    let expected = undisturbed(&loader);
    let mut member = loader.attach(&two_epochs());
    let mut seen = take(&mut member, 100);
    (1..4).for_each(draw);
    assert!(loader.command(&["scale", "8"]).status.success());
    loader.wait_until("all at work in spite of it", |status| {
        status.workers.len() == 8 && status.workers.iter().all(|worker| worker.state == WorkerState::Idle)
    });
    assert_eq!(fs::read_dir(&lots).expect("ours").count(), 0, "four died");
    seen.extend(take(&mut member, usize::MAX));
    assert_eq!(seen, expected);
    drop(member);
    loader.stop();
}

#[test]
fn paused_workers_change_nothing() {
    let data = folder();
    let loader = PROGRAMS.serve(data.path(), &format!("workers = 2\n{NUMBERS}"));
    let expected = undisturbed(&loader);
    let mut member = loader.attach(&two_epochs());
    let mut seen = take(&mut member, 100);
    let pids: Vec<u32> = loader.workers().iter().map(|worker| worker.pid).collect();
    pids.iter().for_each(|pid| signal(*pid, Signal::STOP));
    pids.iter().for_each(|pid| wait_for_state(*pid, 'T'));
    let rest = thread::spawn(move || take(&mut member, usize::MAX));
    pids.iter().for_each(|pid| signal(*pid, Signal::CONT));
    seen.extend(rest.join().expect("it reads on"));
    assert_eq!(seen, expected);
    loader.stop();
}

#[test]
fn a_batch_outlives_its_member() {
    let data = folder();
    let loader = PROGRAMS.serve(data.path(), &format!("memory = '200KiB'\n{NUMBERS}"));
    let mut member = loader.attach(&two_epochs());
    let batch = member.next().expect("a batch").expect("the first");
    let before = Contents::of(&batch, &member);
    let fields: Vec<_> = member.stream().fields.iter().map(|field| batch.shared_field(&field.name)).collect();
    drop(batch);
    drop(member);
    // Others fill every slot that they may have, many times.
    assert_eq!(undisturbed(&loader).len(), 500);
    for (field, bytes) in fields.into_iter().zip(before.fields) {
        assert!(*field.expect("it has it") == *bytes, "a slot that is still read was filled again");
    }
    loader.wait_until("let go", |status| status.streams[0].members.is_empty());
    loader.stop();
}

#[test]
fn a_killed_trainer_leaves_its_slots_to_the_others() {
    let data = folder();
    let loader = PROGRAMS.serve(data.path(), NUMBERS);
    let expected = undisturbed(&loader);
    let mut trainer = loader.spawn(&["drain", "--stream", "n", "--epochs", "4000000000"]);
    loader.wait_until("attached", |status| status.streams[0].members.iter().any(|member| member.cursor.epoch > 0));
    signal(trainer.id(), Signal::KILL);
    assert_eq!(trainer.wait().expect("our child").signal(), Some(Signal::KILL.as_raw()));
    let status = loader.wait_until("noticed", |status| status.streams[0].members.is_empty());
    assert_eq!(status.streams[0].slots.leased, 0);
    assert_eq!(undisturbed(&loader), expected);
    loader.stop();
}

#[test]
fn a_paused_trainer_holds_up_nobody_and_goes_on_where_it_was() {
    let data = folder();
    let loader = PROGRAMS.serve(data.path(), NUMBERS);
    let expected = loader.digests("n", 40);
    let trainer = loader.spawn(&["drain", "--stream", "n", "--epochs", "40", "--digest", "--json"]);
    loader.wait_until("reading", |status| status.streams[0].members.iter().any(|member| member.cursor.epoch > 0));
    signal(trainer.id(), Signal::STOP);
    wait_for_state(trainer.id(), 'T');
    assert_eq!(loader.digests("n", 2), expected[..2]);
    signal(trainer.id(), Signal::CONT);
    let output = trainer.wait_with_output().expect("it ends");
    let lines = String::from_utf8(output.stdout).expect("JSON");
    let digests = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    assert_eq!(
        digests.map(|line| line["digest"].as_str().map(str::to_owned)).collect::<Option<Vec<_>>>(),
        Some(expected)
    );
    loader.stop();
}

#[test]
fn a_trainer_that_waits_for_the_next_loader_goes_on_there_at_the_exact_batch() {
    let data = folder();
    let mut loader = PROGRAMS.serve(data.path(), NUMBERS);
    let config = configuration(data.path());
    let expected = loader.digests("n", 60);
    let ledger = data.path().join("run.ledger");
    let ledger = ledger.to_str().expect("text");
    let arguments = ["drain", "--stream", "n", "--epochs", "60", "--digest", "--json", "--reconnect=100"];
    let trainer = loader.spawn(&[&arguments[..], &["--ledger", ledger]].concat());
    for epoch in [3, 6] {
        loader
            .wait_until("reading", |status| status.streams[0].members.iter().any(|member| member.cursor.epoch > epoch));
        let door = loader.kill_but(&[trainer.id()]);
        loader = Loader::start_at(PROGRAMS, ["--config".as_ref(), config.as_os_str()], door);
    }
    let output = trainer.wait_with_output().expect("it ends");
    let lines = String::from_utf8(output.stdout).expect("JSON");
    let digests = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let digests = digests.map(|line| line["digest"].as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
    assert_eq!(digests, Some(expected));
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(told.matches("the loader has ended: waiting up to 100 s for the next").count(), 2, "{told}");
    loader.stop();
    assert!(PROGRAMS.says(["verify", ledger]).contains("15000 batches from epoch 0 step 0 to epoch 59 step 249"));
}

#[test]
fn a_trainer_does_not_go_on_with_a_loader_of_another_stream() {
    let data = folder();
    let loader = PROGRAMS.serve(data.path(), NUMBERS);
    let config = configuration(data.path());
    let mut member = loader.attach(&two_epochs());
    take(&mut member, 5);
    let door = loader.kill();
    fs::write(&config, NUMBERS.replace("width = 200", "width = 100")).expect("written");
    let next = Loader::start_at(PROGRAMS, ["--config".as_ref(), config.as_os_str()], door);
    while member.next().is_ok() {}
    let refused = member.reconnect(WATCHDOG).expect_err("it is another stream").to_string();
    assert!(refused.starts_with("stream `n` is no longer what it was: `dataset` was numbers {"), "{refused}");
    assert!(refused.contains("width = 200") && refused.contains("width = 100"), "{refused}");
    next.stop();
}

#[test]
fn ctrl_c_in_a_terminal_leaves_nothing() {
    let data = folder();
    let config = data.path().join("loader.toml");
    fs::write(&config, NUMBERS).expect("written");
    // A terminal sends the signal to every process of its foreground group.
    let mut command = Command::new(PROGRAMS.loader);
    command.process_group(0);
    let loader = Loader::start_command(PROGRAMS, command, ["--config".as_ref(), config.as_os_str()], folder());
    let _member = loader.attach(&two_epochs());
    let group = Pid::from_raw(loader.pid().cast_signed()).expect("not 0");
    rustix::process::kill_process_group(group, Signal::INT).expect("it is there");
    assert!(loader.ended().success());
}

#[test]
fn a_killed_loader_takes_its_workers_along_and_names_the_batch_to_resume_at() {
    let data = folder();
    let loader = PROGRAMS.serve(data.path(), NUMBERS);
    let expected = undisturbed(&loader);
    let mut member = loader.attach(&two_epochs());
    let mut seen = take(&mut member, 260);
    let door = loader.kill();
    // What it had handed over is still there to be read.
    let resume = loop {
        match member.next() {
            Ok(Some(batch)) => seen.push(Contents::of(&batch, &member)),
            Err(ClientError::LoaderLost { resume }) => break resume,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(resume, Position { epoch: 1, step: seen.len() as u64 - 250 });

    // The next one clears what the dead one left at the address, and the stream goes on there.
    let config = configuration(data.path());
    let next = Loader::start_at(PROGRAMS, ["--config".as_ref(), config.as_os_str()], door);
    seen.extend(take(&mut next.attach(&two_epochs().from(resume)), usize::MAX));
    assert_eq!(seen, expected);
    next.stop();
}

#[test]
fn signals_that_ask_for_the_end_leave_nothing() {
    let data = folder();
    for name in [Signal::TERM, Signal::INT, Signal::HUP] {
        let loader = PROGRAMS.serve(data.path(), NUMBERS);
        let _member = loader.attach(&two_epochs());
        loader.signal(name);
        assert!(loader.ended().success(), "{name:?}");
    }
}

#[test]
fn a_second_loader_is_kept_out_while_the_first_lives() {
    let data = folder();
    let loader = PROGRAMS.serve(data.path(), NUMBERS);
    let config = configuration(data.path());
    let socket = loader.socket();
    let output = PROGRAMS.run_loader([
        "serve".as_ref(),
        "--config".as_ref(),
        config.as_os_str(),
        "--socket".as_ref(),
        socket.as_os_str(),
    ]);
    let expected = format!(
        "another loader already serves at {}: end it with `loader stop`, or choose another address with --socket",
        socket.display()
    );
    assert_eq!(told(&output), expected);
    assert_eq!(loader.status().pid, loader.pid(), "the first one is not disturbed");
    loader.stop();
}

#[test]
fn a_sample_that_ends_every_worker_fails_its_step_by_name_and_nothing_else() {
    let data = folder();
    for (trouble, how) in [
        ("abort", "was killed by signal 6 (SIGABRT)"),
        ("panic", "exited with code 101"),
        ("exit", "exited with code 3"),
    ] {
        let loader = PROGRAMS.serve(data.path(), &troubled(trouble, 700).replace("'shuffled'", "'sequential'"));
        // Number 700 is in step 43 of batches of 16.
        let output = loader.command(&["drain", "--stream", "n"]);
        let expected = format!(
            "epoch 0 step 43 cannot be made: number 700: 2 worker processes died on reading it; the last {how}"
        );
        assert_eq!(told(&output), expected);
        let behind = two_epochs().from(Position { epoch: 0, step: 44 });
        assert_eq!(take(&mut loader.attach(&behind), 10).len(), 10, "what comes after can still be read");
        loader.stop();
    }
}

#[test]
fn a_sample_that_cannot_be_read_fails_its_step_by_name() {
    let data = folder();
    let loader = PROGRAMS.serve(data.path(), &troubled("unreadable", 700).replace("'shuffled'", "'sequential'"));
    let output = loader.command(&["drain", "--stream", "n"]);
    let told = told(&output);
    assert!(told.starts_with("epoch 0 step 43 cannot be made: "), "{told}");
    assert!(told.contains("number 700") && told.ends_with("it is out of reach"), "{told}");
    assert_eq!(loader.status().streams[0].members.len(), 0);
    loader.stop();
}
