//! What a machine may lack, or do to a loader in the middle of an epoch, is said in a sentence or changes nothing.
//!
//! Where a fault cannot be made, for want of privilege or of the thing itself, the test says so and ends.

use std::cell::{Cell, RefCell};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use batchmill_protocol::client::{Client, ClientError, Member, Subscription};
use batchmill_protocol::position::Position;
use batchmill_tests::{Contents, Loader, Programs, folder, programs, signal, take};
use expect_test::expect;
use rustix::process::{Pid, Resource, Rlimit, Signal};

const PROGRAMS: Programs = programs!();

/// A stream of 250 batches an epoch.
fn numbers(workers: u32, width: u32) -> String {
    format!(
        "workers = {workers}\nmemory = '16MiB'\n[stream.n]\nbatch_size = 16\nsampler = 'shuffled'\n\
         dataset = {{ kind = 'numbers', len = 4000, width = {width} }}\n"
    )
}

fn two_epochs() -> Subscription {
    Subscription::new("n").epochs(0, Some(2))
}

fn all(loader: &Loader) -> Vec<Contents> {
    take(&mut loader.attach(&two_epochs()), usize::MAX)
}

/// The stream as a loader on a healthy machine serves it.
fn healthy(width: u32) -> Vec<Contents> {
    let data = folder();
    let loader = PROGRAMS.serve(data.path(), &numbers(2, width));
    let batches = all(&loader);
    loader.stop();
    batches
}

/// What a loader says when it will not serve a configuration on this machine.
fn refusal(programs: Programs, data: &Path, configuration: &str) -> String {
    let config = data.join("refused.toml");
    fs::write(&config, configuration).expect("written");
    programs.refusal(["--config".as_ref(), config.as_os_str()])
}

/// Whether a command can be run here; if not, says that the test cannot either.
fn possible(line: &str) -> bool {
    let tried = Command::new("sh").args(["-c", line]).stdin(Stdio::null()).output().expect("a shell");
    if !tried.status.success() {
        println!("skipped: `{line}`: {}", String::from_utf8_lossy(&tried.stderr).trim());
    }
    tried.status.success()
}

#[test]
fn more_workers_than_files_may_be_open_are_refused_with_both_numbers() {
    let data = folder();
    let programs = PROGRAMS.through(data.path(), "ulimit -n 64; exec \"$LOADER\" \"$@\"");
    expect!["32 workers need 204 open files and the limit is 64: raise it with `ulimit -n 204`, or lower --workers (or `workers`)"].assert_eq(&refusal(programs, data.path(), &numbers(32, 4)));
}

#[test]
fn a_limit_of_open_files_that_may_be_raised_is_raised() {
    let data = folder();
    let programs = PROGRAMS.through(data.path(), "ulimit -S -n 32; exec \"$LOADER\" \"$@\"");
    let loader = programs.serve(data.path(), &numbers(4, 4));
    assert_eq!(all(&loader), healthy(4));
    loader.stop();
}

#[test]
fn with_few_open_files_there_is_the_same_stream_and_who_is_too_many_is_refused() {
    let data = folder();
    let log = data.path().join("log");
    let line = format!("ulimit -n 64; exec \"$LOADER\" \"$@\" 2>>'{}'", log.display());
    let loader = PROGRAMS.through(data.path(), &line).serve(data.path(), &numbers(4, 4));
    let mut member = loader.attach(&two_epochs());
    let mut seen = take(&mut member, 100);
    // More workers, and more trainers, than it can have.
    assert_eq!(loader.command(&["scale", "30"]).status.code(), Some(1));
    let mut others: Vec<Member> = Vec::new();
    let refused = loop {
        match Client::connect(Some(&loader.socket())).and_then(|client| client.attach(&two_epochs())) {
            Ok(mut other) => match other.next() {
                Ok(_) => others.push(other),
                Err(error) => break error,
            },
            Err(error) => break error,
        }
        assert!(others.len() < 30, "it has room for all of them");
    };
    assert_eq!(
        refused.to_string(),
        "the loader cannot open a line (Too many open files (os error 24)): raise its limit of open files, `ulimit -n`"
    );
    drop(others);
    seen.extend(take(&mut member, usize::MAX));
    assert_eq!(seen, healthy(4));
    drop(member);
    loader.wait_until("alone", |status| status.streams[0].members.is_empty());
    assert_eq!(all(&loader), seen, "there is room again");
    loader.stop();
    let log = fs::read_to_string(log).expect("a log");
    let expected = "error: 30 workers need 194 open files and the limit is 64: raise it with `ulimit -n 194`, or lower";
    assert!(log.contains(expected) && !log.contains("panicked"), "{log}");
}

#[test]
fn an_address_space_too_small_for_the_memory_is_refused_with_both_sizes() {
    let data = folder();
    let programs = PROGRAMS.through(data.path(), "ulimit -v 400000; exec \"$LOADER\" \"$@\"");
    let configuration = numbers(2, 4).replace("16MiB", "1GiB");
    expect!["shared memory of 1.0 GiB was asked for and 327 MiB is available: lower --memory (or `memory`), or the batch size"].assert_eq(&refusal(programs, data.path(), &configuration));
}

/// Reads the stream again and again while `disturb` does what it does, and sees that it stays what it is.
fn read_along<T>(loader: &Loader, expected: &[Contents], disturb: impl FnOnce() -> T) -> T {
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !enough.load(Ordering::Relaxed) {
                assert!(all(loader) == expected, "the stream is another");
            }
        });
        let disturbed = catch_unwind(AssertUnwindSafe(disturb));
        enough.store(true, Ordering::Relaxed);
        reader.join().expect("it reads on");
        disturbed.unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Does something to a worker that is good for nothing afterwards, and waits until it is replaced.
///
/// To one only: they would end at the same sample, and that would be blamed.
fn spoil_a_worker(loader: &Loader, spoil: impl Fn(u32)) {
    let status = loader.wait_until("at work", |status| status.workers.iter().any(|worker| worker.tasks_done > 0));
    let victim = status.workers.iter().find(|worker| worker.tasks_done > 0).expect("just seen");
    spoil(victim.pid);
    loader.wait_until("replaced", |status| {
        status.workers.len() == 2 && status.workers.iter().all(|worker| worker.worker != victim.worker)
    });
}

#[test]
fn a_worker_that_gets_no_more_memory_is_replaced() {
    let data = folder();
    // Samples of a size for which memory is asked anew.
    let width = 50_000;
    let configuration = numbers(2, width).replace("len = 4000", "len = 64");
    let loader = PROGRAMS.serve(data.path(), &configuration);
    let expected = all(&loader);
    read_along(&loader, &expected, || {
        spoil_a_worker(&loader, |pid| {
            let pid = Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("not 0");
            let nothing = Rlimit { current: Some(0), maximum: Some(0) };
            rustix::process::prlimit(Some(pid), Resource::As, nothing).expect("our own process");
        });
    });
    loader.stop();
}

#[test]
fn a_log_that_nobody_can_write_changes_nothing() {
    let data = folder();
    let loader =
        PROGRAMS.through(data.path(), "exec \"$LOADER\" \"$@\" 2>/dev/full").serve(data.path(), &numbers(2, 4));
    let expected = all(&loader);
    // Its death is a line in the log.
    read_along(&loader, &expected, || spoil_a_worker(&loader, |pid| signal(pid, Signal::KILL)));
    assert_eq!(expected, healthy(4));
    loader.stop();
}

#[test]
fn neither_shared_memory_nor_temporary_files_of_the_machine_are_needed() {
    let full = "mount -t tmpfs -o size=4k,ro none /dev/shm && mount -t tmpfs -o size=4k,ro none /var/tmp";
    if !possible(&format!("unshare -m sh -c '{full}'")) {
        return;
    }
    let data = folder();
    let line = format!("TMPDIR=/nonexistent exec unshare -m sh -c '{full} && exec \"$@\"' sh \"$LOADER\" \"$@\"");
    let loader = PROGRAMS.through(data.path(), &line).serve(data.path(), &numbers(2, 4));
    assert_eq!(all(&loader), healthy(4));
    let output = loader.command(&["drain", "--stream", "n"]);
    assert!(output.status.success(), "{output:?}");
    loader.stop();
}

/// A memory cgroup of this test's own, gone at its end.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(limit_bytes: u64) -> Option<Self> {
        let name = format!("batchmill-test-{}-{limit_bytes}", std::process::id());
        for (root, limit) in [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")] {
            let made = Self(Path::new(root).join(&name));
            if Path::new(root).join("cgroup.procs").exists() && fs::create_dir(&made.0).is_ok() {
                if fs::write(made.0.join(limit), limit_bytes.to_string()).is_ok() {
                    return Some(made);
                }
                drop(made);
            }
        }
        println!("skipped: no memory cgroup can be made here");
        None
    }

    /// Has a process, or who starts it, live here.
    fn processes(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_cgroup_too_small_for_the_memory_is_refused_with_both_sizes() {
    let Some(cgroup) = Cgroup::new(200 << 20) else { return };
    let data = folder();
    let line = format!("echo $$ >'{}'; exec \"$LOADER\" \"$@\"", cgroup.processes().display());
    let programs = PROGRAMS.through(data.path(), &line);
    let told = refusal(programs, data.path(), &numbers(2, 4).replace("16MiB", "400MiB"));
    assert!(told.starts_with("shared memory of 400 MiB was asked for and 13"), "{told}");
    assert!(told.ends_with(" MiB is available: lower --memory (or `memory`), or the batch size"), "{told}");

    // What fits is served.
    let loader = programs.serve(data.path(), &numbers(2, 4));
    assert_eq!(all(&loader), healthy(4));
    loader.stop();
}

#[test]
fn a_worker_that_its_cgroup_ends_is_replaced() {
    let Some(cgroup) = Cgroup::new(64 << 10) else { return };
    let data = folder();
    let configuration = numbers(2, 50_000).replace("len = 4000", "len = 64");
    let loader = PROGRAMS.serve(data.path(), &configuration);
    let expected = all(&loader);
    read_along(&loader, &expected, || {
        spoil_a_worker(&loader, |pid| fs::write(cgroup.processes(), pid.to_string()).expect("our own process"));
    });
    loader.stop();
}

/// Images in an order that can be told beforehand, few of them made ahead.
fn shapes(data: &Path) -> Loader {
    PROGRAMS.serve(
        data,
        "workers = 2\nmemory = '300KiB'\n[stream.train]\nbatch_size = 8\n\
         dataset = { kind = 'image-folder-csv', images = 'shapes', labels = 'shapes/train.csv' }\n",
    )
}

fn one_epoch() -> Subscription {
    Subscription::new("train").epochs(0, Some(1))
}

/// Reads until a step fails; what came before, which step it is, and why.
fn until_it_fails(member: &mut Member) -> (Vec<Contents>, Position, String) {
    let mut seen = Vec::new();
    loop {
        match member.next() {
            Ok(Some(batch)) => seen.push(Contents::of(&batch, member)),
            Ok(None) => panic!("no step failed"),
            Err(ClientError::BatchFailed { position, reason }) => return (seen, position, reason),
            Err(other) => panic!("{other}"),
        }
    }
}

/// An epoch in the middle of which `harm` is done, and after whose failure `repair`.
fn through_harm(harm: impl FnOnce(&Path), repair: impl FnOnce(&Path)) -> (Position, String) {
    let data = PROGRAMS.sample_data(400);
    let loader = shapes(data.path());
    let expected = take(&mut loader.attach(&one_epoch()), usize::MAX);
    let mut member = loader.attach(&one_epoch());
    let mut seen = take(&mut member, 3);
    harm(data.path());
    let (more, failed, reason) = until_it_fails(&mut member);
    seen.extend(more);
    assert_eq!(failed, Position { epoch: 0, step: seen.len() as u64 }, "the first step that could not be made");
    assert_eq!(seen, expected[..seen.len()], "what could be made was right");
    drop(member);
    assert_eq!(loader.status().workers.len(), 2, "no worker died of it");

    repair(data.path());
    seen.extend(take(&mut loader.attach(&one_epoch().from(failed)), usize::MAX));
    assert_eq!(seen, expected, "a trainer that comes after the repair reads on there");
    loader.stop();
    (failed, reason.replace(&data.path().display().to_string(), "DATA"))
}

#[test]
fn a_folder_that_goes_away_in_the_middle_of_an_epoch() {
    let images = |data: &Path| (data.join("shapes/train"), data.join("shapes/elsewhere"));
    let (failed, reason) = through_harm(
        |data| {
            let (here, away) = images(data);
            fs::rename(here, away).expect("renamed");
        },
        |data| {
            let (here, away) = images(data);
            fs::rename(away, here).expect("renamed");
        },
    );
    // Which step that is depends on how many were made ahead, and which of its files on who was there first.
    let told =
        (0..8).flat_map(|row| ["png", "jpg"].map(|extension| format!("{:06}.{extension}", failed.step * 8 + row)));
    let mut told = told.map(|file| {
        format!(
            "DATA/shapes/train/{file} has changed since the loader read its index: it is gone; put it back as it was,"
        )
    });
    assert!(told.any(|told| reason.starts_with(&told)), "{failed}: {reason}");
}

/// What is said when the file of a sample of step 40 is `changed` in the middle of an epoch, given its bytes.
fn through_change(change: impl FnOnce(&Path, &[u8])) -> String {
    let file = |data: &Path| data.join("shapes/train/000321.png");
    let before = RefCell::new(None);
    let had = Cell::new(0);
    let (failed, reason) = through_harm(
        |data| {
            let file = file(data);
            let bytes = fs::read(&file).expect("an image");
            had.set(bytes.len());
            let modified = fs::metadata(&file).and_then(|metadata| metadata.modified()).expect("a time");
            change(&file, &bytes);
            before.replace(Some((bytes, modified)));
        },
        |data| {
            let (bytes, modified) = before.take().expect("it was changed");
            fs::write(file(data), bytes).expect("written");
            fs::File::options().write(true).open(file(data)).and_then(|file| file.set_modified(modified)).expect("set");
        },
    );
    assert_eq!(failed, Position { epoch: 0, step: 40 });
    reason.replace(&format!("had {}", had.get()), "had SO MANY")
}

#[test]
fn a_file_that_is_replaced_in_the_middle_of_an_epoch() {
    expect!["DATA/shapes/train/000321.png has changed since the loader read its index: it has 7 bytes and had SO MANY; put it back as it was, or have the loader take it as it is with `loader quarantine --retry`"].assert_eq(&through_change(|file, _| fs::write(file, "another").expect("written")));
}

#[test]
fn a_file_that_is_written_to_in_the_middle_of_an_epoch() {
    let touched = |file: &Path, bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        *bytes.last_mut().expect("an image") ^= 1;
        fs::write(file, bytes).expect("written");
    };
    expect!["DATA/shapes/train/000321.png has changed since the loader read its index: it was written to; put it back as it was, or have the loader take it as it is with `loader quarantine --retry`"].assert_eq(&through_change(touched));
}

#[test]
fn a_file_that_is_removed_in_the_middle_of_an_epoch() {
    expect!["DATA/shapes/train/000321.png has changed since the loader read its index: it is gone; put it back as it was, or have the loader take it as it is with `loader quarantine --retry`"]
        .assert_eq(&through_change(|file, _| fs::remove_file(file).expect("removed")));
}

/// The machine's clock may jump: whatever waits or measures asks the other one, `Instant`. Times of files are the only
/// times of day that anyone looks at.
#[test]
fn no_time_of_day_is_looked_at() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package is a folder of the repository");
    let mut folders: Vec<PathBuf> =
        ["protocol", "datasets", "loader", "trainer"].map(|krate| root.join(krate).join("src")).into();
    let mut looked_at = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            looked_at += 1;
            // When a run began is told, and decides nothing.
            if path.starts_with(root.join("trainer/src/run")) {
                continue;
            }
            let text = fs::read_to_string(&path).expect("a source file");
            for asks in
                ["SystemTime::now", "UNIX_EPOCH.elapsed", "ClockId::Realtime", "chrono::", "now_utc", "now_local"]
            {
                assert!(!text.contains(asks), "{} asks for the time of day: {asks}", path.display());
            }
            let times_of_files = path.starts_with(root.join("datasets/src/sources"));
            assert!(times_of_files || !text.contains("SystemTime"), "{} knows times of day", path.display());
        }
    }
    assert!(looked_at > 50, "{looked_at} sources");
}
