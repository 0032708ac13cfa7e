//! A loader that is warm hands out its first batches at once, and one that is to leave room for others does.

use std::fs;

use batchmill_protocol::client::Subscription;
use batchmill_tests::{Loader, Programs, folder, programs, signal, take};
use expect_test::expect;
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

const PROGRAMS: Programs = programs!();

/// A stream whose samples take their time.
fn numbers(head: &str) -> String {
    format!(
        "workers = 2\nmemory = '1MiB'\n{head}[stream.n]\nbatch_size = 16\nsampler = 'shuffled'\n\
         dataset = {{ kind = 'numbers', len = 4000, width = 8 }}\n"
    )
}

fn serve(head: &str) -> (TempDir, Loader) {
    let data = folder();
    let loader = PROGRAMS.serve(data.path(), &numbers(head));
    (data, loader)
}

fn wait_until_warm(loader: &Loader) {
    loader.wait_until("warm", |status| status.streams[0].lobby == 2);
}

/// How many ranges the workers of a loader have filled.
fn ranges(loader: &Loader) -> u64 {
    loader.status().workers.iter().map(|worker| worker.tasks_done).sum()
}

fn signal_workers(loader: &Loader, what: Signal) {
    loader.workers().iter().for_each(|worker| signal(worker.pid, what));
}

#[test]
fn what_was_made_before_anybody_asked_is_what_the_data_give() {
    let (data, loader) = serve("");
    let ledger = data.path().join("run.ledger");
    let ledger = ledger.to_str().expect("UTF-8");
    // The first of them is given what was begun when it came, if anything.
    for _ in 0..3 {
        let _ = fs::remove_file(ledger);
        loader.drain(&["--stream", "n", "--steps", "4", "--ledger", ledger]);
        let verified = PROGRAMS.run_loader(["verify", ledger, "--remake", "all"]);
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
        wait_until_warm(&loader);
    }
    loader.stop();
}

#[test]
fn a_warm_loader_has_the_first_batches_and_nothing_else_to_make_for_them() {
    let (_data, loader) = serve("");
    let first = Subscription::new("n").epochs(0, Some(1));
    let cold = take(&mut loader.attach(&first), 2);
    wait_until_warm(&loader);
    let before = ranges(&loader);
    // Who stops all workers stops nobody who wants what is there.
    signal_workers(&loader, Signal::STOP);
    let mut member = loader.attach(&first);
    assert_eq!(take(&mut member, 2), cold);
    assert_eq!(ranges(&loader), before);
    signal_workers(&loader, Signal::CONT);
    assert_eq!(take(&mut member, usize::MAX).len(), 248);
    drop(member);
    loader.stop();
}

#[test]
fn a_loader_that_may_use_little_says_so_and_its_stream_is_the_same() {
    let (_data, loader) = serve("");
    let all = loader.digests("n", 1);
    loader.stop();
    let (_data, loader) = serve("cpu_budget = '10%'\n");
    let status = loader.status();
    let allowed = status.cpus_allowed.expect("it is limited");
    assert!((allowed - 0.1 * f64::from(status.cpus)).abs() < 1e-9, "{status:?}");
    assert_eq!(loader.digests("n", 1), all);
    loader.stop();
}

#[test]
fn workers_that_are_to_give_way_do_and_nobody_else() {
    let (_data, loader) = serve("worker_nice = 7\n");
    let own = rustix::process::getpriority_process(None).expect("of this process");
    let nice = |pid: u32| {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        rustix::process::getpriority_process(pid).expect("it lives") - own
    };
    // Nobody is nicer than 19.
    let most = 7.min(19 - own);
    let workers: Vec<_> = loader.workers().iter().map(|worker| nice(worker.pid)).collect();
    assert_eq!(workers, [most; 2]);
    assert_eq!(nice(loader.pid()), 0);
    loader.stop();
}

#[test]
fn a_share_of_the_processors_that_makes_no_sense_is_refused() {
    let data = folder();
    let config = data.path().join("loader.toml");
    fs::write(&config, numbers("cpu_budget = '140%'\n")).expect("written");
    let told = PROGRAMS.refusal(["--config".as_ref(), config.as_os_str()]);
    let told = told.replace(&data.path().display().to_string(), "DIR");
    expect![[r#"DIR/loader.toml:3: `cpu_budget`: "140%" is no share from 1% to 100%, such as 40%"#]].assert_eq(&told);
}
