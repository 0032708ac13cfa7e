//! What dies is noticed, replaced or ended, and changes no byte of the stream.

use std::os::unix::process::ExitStatusExt;

use batchmill_protocol::client::{ClientError, Subscription};
use batchmill_protocol::position::Position;
use batchmill_tests::{Loader, Programs, folder, programs, signal, take, told};
use rustix::process::Signal;

const PROGRAMS: Programs = programs!();

const NUMBERS: &str = "[stream.n]\nbatch_size = 16\nsampler = 'shuffled'\n\
                       dataset = { kind = 'numbers', len = 4000, width = 200 }\n";

/// A stream of 250 batches an epoch, with sample number `at` being trouble.
fn troubled(trouble: &str, at: u32) -> String {
    format!("workers = 2\n{}", NUMBERS.replace("width = 200", &format!("trouble = '{trouble}', at = {at}")))
}

/// The stream that a lone and undisturbed trainer gets.
fn undisturbed(loader: &Loader) -> Vec<batchmill_tests::Contents> {
    take(&mut loader.attach(&two_epochs()), usize::MAX)
}

fn two_epochs() -> Subscription {
    Subscription::new("n").epochs(0, Some(2))
}

#[test]
fn killed_workers_lose_no_batch() {
    let data = folder();
    let loader = PROGRAMS.serve(data.path(), &format!("workers = 3\n{NUMBERS}"));
    let expected = undisturbed(&loader);
    let mut member = loader.attach(&two_epochs());
    let mut seen = Vec::new();
    for _ in 0..10 {
        seen.extend(take(&mut member, 40));
        let victim = loader.wait_until("a worker at work", |status| {
            status.workers.iter().any(|worker| worker.pid != 0 && ["idle", "busy"].contains(&&*worker.state))
        });
        let victim = victim.workers.iter().find(|worker| worker.pid != 0).expect("just seen");
        signal(victim.pid, Signal::KILL);
        let dead = victim.worker;
        loader.wait_until("replaced", |status| {
            status.workers.len() == 3 && status.workers.iter().all(|worker| worker.worker != dead)
        });
    }
    seen.extend(take(&mut member, usize::MAX));
    assert_eq!(seen, expected);
    drop(member);
    loader.stop();
}

#[test]
fn a_paused_worker_holds_nobody_up_for_ever_and_changes_nothing() {
    let data = folder();
    let loader = PROGRAMS.serve(data.path(), &format!("workers = 2\n{NUMBERS}"));
    let expected = undisturbed(&loader);
    let mut member = loader.attach(&two_epochs());
    let mut seen = take(&mut member, 100);
    let pids: Vec<u32> = loader.status().workers.iter().map(|worker| worker.pid).collect();
    pids.iter().for_each(|pid| signal(*pid, Signal::STOP));
    pids.iter().for_each(|pid| signal(*pid, Signal::CONT));
    seen.extend(take(&mut member, usize::MAX));
    assert_eq!(seen, expected);
    drop(member);
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
            Ok(Some(batch)) => seen.push(batchmill_tests::Contents::of(&batch, &member)),
            Err(ClientError::LoaderLost { resume }) => break resume,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(resume, Position { epoch: 1, step: seen.len() as u64 - 250 });

    // The next one clears what the dead one left at the address, and the stream goes on there.
    let config = std::fs::read_dir(data.path()).expect("ours").find_map(|entry| Some(entry.ok()?.path()));
    let config = config.expect("the configuration is still there");
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
    let config = std::fs::read_dir(data.path()).expect("ours").find_map(|entry| Some(entry.ok()?.path()));
    let socket = loader.socket();
    let output = PROGRAMS.run_loader([
        "serve".as_ref(),
        "--config".as_ref(),
        config.expect("the configuration").as_os_str(),
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
        let expected =
            format!("epoch 0 step 43 cannot be made: 3 worker processes died on reading number 700; the last {how}");
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
