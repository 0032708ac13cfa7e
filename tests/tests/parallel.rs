//! Several ranks train one model: as one trainer would, with the same weights on all, and through deaths.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};
use std::time::Instant;

use batchmill_tests::desk::{Desk, Trainer};
use batchmill_tests::{Loader, Programs, WATCHDOG, programs, signal, told};
use expect_test::expect;
use rustix::process::{Pid, Signal};
use serde_json::Value;

const PROGRAMS: Programs = programs!();

/// Draws nothing in a step, and its layers see each row for itself.
const PLAIN: &str = "[[layer]]\nkind = 'flatten'\n[[layer]]\nkind = 'linear'\nout_features = 24\n\
                     [[layer]]\nkind = 'relu'\n[[layer]]\nkind = 'linear'\nout_features = 10\n";

/// Draws numbers, and keeps statistics of its rows.
const WHOLE: &str = "[[layer]]\nkind = 'flatten'\n[[layer]]\nkind = 'linear'\nout_features = 24\n\
                     [[layer]]\nkind = 'batch-norm'\n[[layer]]\nkind = 'relu'\n[[layer]]\nkind = 'dropout'\np = 0.25\n\
                     [[layer]]\nkind = 'linear'\nout_features = 10\n[train]\nclip_norm = 1.0\naccumulate = 2\n";

/// A desk, and a loader that ranks share.
struct Hall {
    desk: Desk,
    loader: Loader,
}

impl Hall {
    fn open(images: u32, batch_size: u32, model: &str) -> Self {
        Self::open_with(images, batch_size, model, "tail = 'drop'\n")
    }

    fn open_with(images: u32, batch_size: u32, model: &str, more: &str) -> Self {
        let desk = Desk::new(PROGRAMS, images);
        fs::write(desk.path("model.toml"), model).expect("written");
        fs::create_dir(desk.path("r")).expect("made");
        let loader = Loader::start(PROGRAMS, desk.configure(batch_size, more));
        Self { desk, loader }
    }

    /// A trainer whose ranks meet in a folder of this hall.
    fn command(&self) -> Command {
        let mut command = self.loader.trainer();
        command.env("XDG_RUNTIME_DIR", self.desk.path("r"));
        command
    }

    fn start(&self, out: &str, more: &[&str]) -> Trainer {
        Trainer::start_command(self.command(), self.fit(out, more))
    }

    fn fit(&self, out: &str, more: &[&str]) -> Vec<OsString> {
        self.desk.fit(&self.loader.socket(), out, more)
    }

    fn run(&self, out: &str, more: &[&str]) -> Output {
        let output = self.command().args(self.fit(out, more)).output().expect("it runs");
        self.nothing_is_left();
        output
    }

    /// Trains to the end; gives the lines of `--json`.
    fn trained(&self, out: &str, more: &[&str]) -> Vec<Value> {
        let output = self.run(out, &[more, &["--json"]].concat());
        assert!(output.status.success(), "{}", told(&output));
        let stdout = String::from_utf8(output.stdout).expect("JSON is UTF-8");
        stdout.lines().map(|line| serde_json::from_str(line).expect("JSON a line")).collect()
    }

    /// Ranks leave no socket where they met.
    fn nothing_is_left(&self) {
        let left: Vec<_> = fs::read_dir(self.desk.path("r/batchmill")).into_iter().flatten().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    /// Every loss of a training, step by step.
    fn losses(&self, out: &str) -> Vec<f64> {
        let table = fs::read_to_string(self.desk.path(out).join("metrics.csv")).expect("written");
        let rows = table.lines().filter_map(|line| line.strip_prefix("train,"));
        rows.map(|row| row.split(',').nth(3).and_then(|loss| loss.parse().ok()).expect("a loss")).collect()
    }

    /// Also sees that no process is left.
    fn close(self) {
        self.loader.stop();
    }
}

/// The hashes of weights that were told, one for each of `world` ranks, all the same.
fn one_hash(lines: &[Value], world: usize) -> String {
    let weights: Vec<_> = lines.iter().filter(|line| line["event"] == "weights").collect();
    let ranks: Vec<_> = weights.iter().filter_map(|line| line["rank"].as_u64()).collect();
    assert_eq!(ranks, (0..world as u64).collect::<Vec<_>>());
    let hashes: Vec<_> = weights.iter().filter_map(|line| line["hash"].as_str()).collect();
    assert!(hashes.len() == world && hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    hashes[0].to_owned()
}

/// The process of a rank that `launcher` started.
fn rank_of(launcher: u32, rank: u32) -> u32 {
    let wanted = format!("\0--rank\0{rank}\0--launcher\0{launcher}\0");
    let start = Instant::now();
    loop {
        let processes = fs::read_dir("/proc").expect("a proc").flatten();
        let found = processes.filter_map(|process| {
            let line = fs::read(process.path().join("cmdline")).ok()?;
            let is_it = String::from_utf8_lossy(&line).ends_with(&wanted);
            process.file_name().to_str()?.parse().ok().filter(|_| is_it)
        });
        if let Some(pid) = found.into_iter().next() {
            return pid;
        }
        assert!(start.elapsed() < WATCHDOG, "there is no rank {rank}");
        std::thread::yield_now();
    }
}

fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

#[test]
fn ranks_learn_what_one_trainer_learns_of_the_whole_batch() {
    let hall = Hall::open(330, 64, PLAIN);
    let fixed = ["--epochs", "4", "--eval", "test", "--lr", "3e-3"];
    hall.trained("one", &fixed);
    let expected = hall.losses("one");
    assert_eq!(expected.len(), 20);
    for (out, world) in [("two", 2), ("four", 4)] {
        let lines = hall.trained(out, &[&fixed[..], &["--world", &world.to_string()]].concat());
        one_hash(&lines, world);
        let losses = hall.losses(out);
        assert_eq!(losses.len(), expected.len());
        let differences = losses.iter().zip(&expected).map(|(found, expected)| (found - expected).abs() / expected);
        let largest = differences.fold(0.0, f64::max);
        println!("{world} ranks: largest relative difference of a loss {largest:.1e}");
        assert!(largest < 1e-5, "{world} ranks: {largest:.1e}");
        let [.., ledger] = hall.desk.files(out);
        assert!(ledger == hall.desk.files("one")[2], "another ledger");
        let test =
            |out: &str| hall.desk.about(out, "latest")["metrics"]["test"]["loss"].as_f64().expect("it was tested");
        let (found, expected) = (test(out), test("one"));
        assert!((found - expected).abs() < 1e-5 * expected, "{found} {expected}");
    }
    hall.close();
}

#[test]
fn a_rank_without_a_row_that_counts_counts_nowhere() {
    // The last batch of an epoch has one row, and three ranks of it none.
    let hall = Hall::open_with(41, 8, PLAIN, "tail = 'pad'\n");
    let fixed = ["--epochs", "2", "--optimizer", "sgd", "--lr", "0.1"];
    hall.trained("one", &fixed);
    one_hash(&hall.trained("four", &[&fixed[..], &["--world", "4"]].concat()), 4);
    let (found, expected) = (hall.losses("four"), hall.losses("one"));
    assert_eq!(found.len(), 12);
    for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!((found - expected).abs() < 1e-5 * expected, "step {step}: {found} {expected}");
    }
    // Nor do its statistics.
    fs::write(hall.desk.path("model.toml"), WHOLE).expect("written");
    one_hash(&hall.trained("whole", &[&fixed[..], &["--world", "4"]].concat()), 4);
    hall.close();
}

#[test]
fn a_rank_that_is_killed_ends_all_and_they_go_on_as_if_it_was_not() {
    let hall = Hall::open(200, 8, WHOLE);
    let fixed = ["--epochs", "4", "--eval", "test", "--world", "2", "--checkpoint-every", "7"];
    let whole = one_hash(&hall.trained("whole", &fixed), 2);
    for victim in [1, 0] {
        let out = format!("killed-{victim}");
        let trainer = hall.start(&out, &fixed);
        trainer.wait_until_it_says("Saved the model");
        let ranks = [0, 1].map(|rank| rank_of(trainer.pid(), rank));
        signal(ranks[victim], Signal::KILL);
        let output = trainer.end();
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(
            told(&output),
            format!("rank {victim} of 2 was ended by SIGKILL: start all ranks again with --resume")
        );
        if victim == 1 {
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(stderr.contains("error: rank 1 of 2 has gone at epoch "), "{stderr}");
        }
        assert!(ranks.iter().all(|pid| !is_alive(*pid)), "a rank lives on");
        hall.nothing_is_left();
        let lines = hall.trained(&out, &[&fixed[..], &["--resume"]].concat());
        assert_eq!(one_hash(&lines, 2), whole);
        hall.desk.assert_same("whole", &out);
    }
    hall.close();
}

#[test]
fn ranks_are_started_again_as_often_as_asked() {
    let hall = Hall::open(200, 8, WHOLE);
    let fixed = ["--epochs", "4", "--world", "2", "--checkpoint-every", "7"];
    hall.trained("whole", &fixed);
    let trainer = hall.start("again", &[&fixed[..], &["--restarts", "1"]].concat());
    trainer.wait_until_it_says("Saved the model");
    signal(rank_of(trainer.pid(), 1), Signal::KILL);
    trainer.wait_until_it_says("Going on at epoch ");
    let output = trainer.end();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("rank 1 of 2 was ended by SIGKILL: starting all ranks again, 1 of 1 times\n"), "{stderr}");
    hall.desk.assert_same("whole", "again");

    // Before the first checkpoint: what the first start made is no hindrance.
    let mut trainer = hall.start("early", &["--epochs", "4", "--world", "2", "--restarts", "1"]);
    let (rank, ledger) = (rank_of(trainer.pid(), 1), hall.desk.path("early.ledger"));
    assert!(trainer.wait_until(|| ledger.exists()), "it trains");
    signal(rank, Signal::KILL);
    let output = trainer.end();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains(": starting all ranks again, 1 of 1 times\n"), "{stderr}");
    hall.desk.assert_same("whole", "early");
    hall.close();
}

#[test]
fn what_nobody_asked_for_is_not_gone_on_with_and_a_mistake_is_made_once() {
    let hall = Hall::open(200, 8, PLAIN);
    let restarts = ["--world", "2", "--restarts", "2", "--epochs", "2"];
    hall.trained("taken", &["--epochs", "1"]);
    let before = hall.desk.position("taken");
    let refused = |out: &str, expected: &str| {
        let output = hall.run(out, &restarts);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(expected) && !stderr.contains("starting all ranks again"), "{stderr}");
    };
    refused("taken", "it holds a training already: go on with --resume");
    fs::write(hall.desk.path("model.toml"), "[[layer]]\nkind = 'liner'\n").expect("written");
    refused("none", "`liner`");
    assert_eq!(hall.desk.position("taken"), before);
    hall.close();
}

#[test]
fn ranks_that_wait_for_data_hear_of_the_end() {
    let hall = Hall::open(200, 8, WHOLE);
    let fixed = ["--epochs", "6", "--world", "2"];
    hall.trained("whole", &fixed);
    let trainer = hall.start("waiting", &[&fixed[..], &["--checkpoint-every", "7"]].concat());
    trainer.wait_until_it_says("Saved the model");
    let workers: Vec<u32> = hall.loader.workers().iter().map(|worker| worker.pid).collect();
    workers.iter().for_each(|pid| signal(*pid, Signal::STOP));
    hall.loader.wait_until("all batches are taken", |status| {
        let mut members = status.streams.iter().flat_map(|stream| &stream.members);
        members.all(|member| member.ready == 0 && member.leases == 0)
    });
    // Nor does it start other workers.
    hall.loader.signal(Signal::STOP);
    signal(trainer.pid(), Signal::TERM);
    let output = trainer.end();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(143), "{stderr}");
    assert!(stderr.contains("ended by SIGTERM at epoch "), "{stderr}");
    workers.iter().for_each(|pid| signal(*pid, Signal::CONT));
    hall.loader.signal(Signal::CONT);
    hall.trained("waiting", &[&fixed[..], &["--resume"]].concat());
    hall.desk.assert_same("whole", "waiting");
    hall.close();
}

#[test]
fn another_number_of_ranks_goes_on_in_the_same_order() {
    let hall = Hall::open(200, 8, PLAIN);
    hall.trained("one", &["--epochs", "3"]);
    hall.trained("changing", &["--epochs", "1", "--world", "4"]);
    hall.trained("changing", &["--epochs", "2", "--world", "2", "--resume"]);
    hall.trained("changing", &["--epochs", "3", "--resume"]);
    let ledgers = ["changing.ledger", "one.ledger"].map(|ledger| hall.desk.path(ledger).into_os_string());
    let verified = PROGRAMS.run_loader(["verify".into(), ledgers[0].clone(), ledgers[1].clone()]);
    assert!(verified.status.success(), "{}", told(&verified));
    let (found, expected) = (hall.losses("changing"), hall.losses("one"));
    assert_eq!(found.len(), expected.len());
    for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!((found - expected).abs() < 1e-4 * expected, "step {step}: {found} {expected}");
    }
    hall.close();
}

#[test]
fn ranks_that_somebody_else_started_stop_behind_the_same_step() {
    let hall = Hall::open(200, 8, WHOLE);
    let fixed = ["--epochs", "4", "--share", "sharded"];
    let start = |rank: &str, more: &[&str]| {
        let mut command = hall.command();
        command.env("RANK", rank).env("WORLD_SIZE", "2");
        Trainer::start_command(command, hall.fit("out", &[&fixed[..], more].concat()))
    };
    let every = ["--checkpoint-every", "7"];
    let ranks = [start("0", &every), start("1", &every)];
    ranks[0].wait_until_it_says("Saved the model");
    signal(ranks[1].pid(), Signal::INT);
    for (rank, output) in ranks.map(Trainer::end).into_iter().enumerate() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "rank {rank}: {stderr}");
        assert_eq!(stderr.contains("ended by Ctrl-C at epoch "), rank == 0, "{stderr}");
    }
    let (epoch, step) = hall.desk.position("out");
    assert!(epoch < 4, "it was stopped at epoch {epoch} step {step}");
    // Now by a launcher, and to the end.
    one_hash(&hall.trained("out", &["--epochs", "4", "--world", "2", "--resume"]), 2);
    hall.trained("whole", &["--epochs", "4", "--world", "2"]);
    hall.desk.assert_same("whole", "out");
    hall.close();
}

#[test]
fn ranks_end_with_their_launcher_in_order_or_at_once() {
    let hall = Hall::open(200, 8, WHOLE);
    let fixed = ["--epochs", "100", "--world", "2", "--checkpoint-every", "7"];
    let trainer = hall.start("asked", &fixed);
    trainer.wait_until_it_says("Saved the model");
    signal(trainer.pid(), Signal::TERM);
    let output = trainer.end();
    assert_eq!(output.status.code(), Some(143), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("ended by SIGTERM at epoch "));

    // As systemd does: to all that there are.
    let trainer = hall.start("all", &fixed);
    trainer.wait_until_it_says("Saved the model");
    let all = [trainer.pid(), rank_of(trainer.pid(), 0), rank_of(trainer.pid(), 1)];
    all.into_iter().for_each(|pid| signal(pid, Signal::TERM));
    let output = trainer.end();
    assert_eq!(output.status.code(), Some(143), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("ended by SIGTERM at epoch "));

    // As a terminal does: to all that are in its group.
    let mut command = hall.command();
    command.process_group(0);
    let trainer = Trainer::start_command(command, hall.fit("interrupted", &fixed));
    trainer.wait_until_it_says("Saved the model");
    let group = Pid::from_raw(trainer.pid().cast_signed()).expect("not 0");
    rustix::process::kill_process_group(group, Signal::INT).expect("it is there");
    let output = trainer.end();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("ended by Ctrl-C at epoch "));

    let trainer = hall.start("killed", &fixed);
    trainer.wait_until_it_says("Saved the model");
    let ranks = [0, 1].map(|rank| rank_of(trainer.pid(), rank));
    trainer.kill();
    let start = Instant::now();
    while ranks.iter().any(|pid| is_alive(*pid)) {
        assert!(start.elapsed() < WATCHDOG, "a rank outlives its launcher");
        std::thread::yield_now();
    }
    hall.close();
}

#[test]
fn what_ranks_cannot_do_together_is_said() {
    let hall = Hall::open(200, 8, PLAIN);
    let refused = |more: &[&str]| told(&hall.run("out", more));
    let alone = |more: &[&str]| told_by_rank(&hall.run("out", more), 3);
    expect![[
        "rank 0 of 2 has not come for 1 s: start all ranks with the same --out, --group and --world, or wait longer with --rank-limit"
    ]]
    .assert_eq(&alone(&["--world", "2", "--rank", "1", "--rank-limit", "1"]));
    expect![[
        "rank 1 of 2 has not come for 1 s: start all ranks with the same --out, --group and --world, or wait longer with --rank-limit"
    ]]
    .assert_eq(&alone(&["--world", "2", "--rank", "0", "--rank-limit", "1"]));
    let unequal = hall.run("out", &["--world", "3"]);
    let stderr = String::from_utf8_lossy(&unequal.stderr);
    assert!(stderr.contains("3 ranks cannot share batches of 8 rows equally: let batch_size be 6"), "{stderr}");
    assert_eq!(told(&unequal), "rank 0 of 3 ended with exit code 1, as it says above");
    expect![["--world means nothing without --share sharded"]].assert_eq(&refused(&[
        "--share",
        "broadcast",
        "--world",
        "2",
    ]));
    let nothing_to_restart = expect![[
        "--restarts is for ranks that are started here, and this is one trainer: give --world of 2 or more without a rank, or leave --restarts out"
    ]];
    for alone in [&["--world", "1"][..], &["--world", "2", "--rank", "1"]] {
        nothing_to_restart.assert_eq(&refused(&[alone, &["--restarts", "3"]].concat()));
    }
    assert!(!hall.desk.path("out").exists(), "nothing came of it");

    let fit = |rank: &str, epochs: &str| {
        let more = ["--world", "2", "--rank", rank, "--epochs", epochs];
        Trainer::start_command(hall.command(), hall.fit("out", &more))
    };
    hall.trained("taken", &[]);
    let taken = hall.run("taken", &["--world", "2"]);
    let stderr = String::from_utf8_lossy(&taken.stderr);
    assert!(stderr.contains("it holds a training already: go on with --resume"), "{stderr}");
    assert_eq!(told(&taken), "rank 0 of 2 ended with exit code 1, as it says above");

    let ranks = [(fit("0", "2"), 1), (fit("1", "3"), 3)];
    let said = ranks.map(|(trainer, code)| told_by_rank(&trainer.end(), code));
    let expected = "rank 1 was started with --epochs 3, rank 0 with 2: start all ranks alike";
    assert_eq!(said, [expected, expected]);
    hall.close();
}

#[test]
fn a_trainer_that_shares_its_stream_trains_as_one_that_does_not() {
    let hall = Hall::open(120, 8, PLAIN);
    let fixed = ["--epochs", "2", "--eval", "test"];
    hall.trained("private", &fixed);
    for lag in ["wait", "split"] {
        hall.trained(lag, &[&fixed[..], &["--share", "broadcast", "--lag", lag]].concat());
        hall.desk.assert_same("private", lag);
    }
    hall.close();
}

/// The paragraph of a rank that failed: with code 3 because of another.
fn told_by_rank(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    stderr.trim_end().strip_prefix("error: ").unwrap_or_else(|| panic!("no paragraph: {stderr}")).to_owned()
}
