//! What ends a training before its time, and what is left then: a signal, a loss that is no number, a full disk.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use batchmill_tests::desk::{Desk, Trainer};
use batchmill_tests::{Loader, Programs, WATCHDOG, programs, signal, told};
use expect_test::expect;
use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

const PROGRAMS: Programs = programs!();

/// More than any of these trainings comes to.
const EPOCHS: &str = "1000";

/// The exit code of a trainer, and the last line of what it said.
fn ended(trainer: Trainer) -> (Option<i32>, String) {
    let output = trainer.end();
    let stderr = String::from_utf8_lossy(&output.stderr);
    (output.status.code(), stderr.lines().last().unwrap_or_default().to_owned())
}

/// Waits until the loader has given a trainer that many batches.
fn wait_for_batches(trainer: &mut Trainer, loader: &Loader, batches: u64) {
    // From here on it listens to signals.
    trainer.wait_until_it_says("Epoch 0");
    let pid = trainer.pid();
    let reached = trainer.wait_until(|| {
        let streams = loader.status().streams.into_iter().filter(|stream| stream.name == "train");
        let members = streams.flat_map(|stream| stream.members);
        members
            .filter(|member| member.pid == pid)
            .any(|member| member.cursor.step >= batches || member.cursor.epoch > 0)
    });
    assert!(reached, "it is at work");
}

#[test]
fn a_signal_ends_the_step_saves_it_and_goes_on_exactly() {
    let desk = Desk::new(PROGRAMS, 120);
    let loader = desk.serve();
    let socket = loader.socket();
    for (name, code, said) in [(Signal::INT, 130, "Ctrl-C"), (Signal::TERM, 143, "SIGTERM")] {
        let out = said.to_lowercase();
        // With a test, so that some signals come in the midst of one.
        let fixed = ["--eval", "test", "--lr", "3e-3"];
        let arguments = desk.fit(&socket, &out, &[&fixed[..], &["--epochs", EPOCHS]].concat());
        let mut trainer = Trainer::start(PROGRAMS, arguments);
        wait_for_batches(&mut trainer, &loader, 7);
        signal(trainer.pid(), name);
        let (exit, line) = ended(trainer);
        assert_eq!(exit, Some(code), "{line}");
        let (epoch, step) = desk.position(&out);
        assert_eq!(line, format!("ended by {said} at epoch {epoch} step {step}: go on with --resume"));
        let epochs = (epoch + 1).to_string();
        desk.trained(&socket, &out, &[&fixed[..], &["--resume", "--epochs", &epochs]].concat());
        let whole = format!("{out}-whole");
        desk.trained(&socket, &whole, &[&fixed[..], &["--epochs", &epochs]].concat());
        desk.assert_same(&whole, &out);
        assert_eq!(desk.about(&whole, "latest")["metrics"], desk.about(&out, "latest")["metrics"]);
    }
    loader.stop();
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let desk = Desk::new(PROGRAMS, 120);
    let loader = desk.serve();
    let mut trainer = Trainer::start(PROGRAMS, desk.fit(&loader.socket(), "out", &["--epochs", EPOCHS]));
    wait_for_batches(&mut trainer, &loader, 3);
    // Both are there when it goes on, so it cannot end well between them.
    let pid = trainer.pid();
    signal(pid, Signal::STOP);
    for name in [Signal::INT, Signal::TERM, Signal::CONT] {
        signal(pid, name);
    }
    let (exit, line) = ended(trainer);
    assert!(exit == Some(130) || exit == Some(143), "{exit:?}");
    assert!(!line.starts_with("ended by"), "{line}");
    loader.stop();
}

#[test]
fn signals_that_come_together_leave_the_terminal_as_it_was() {
    const TAKEN: &[u8] = b"\x1b[?1049h";
    const GIVEN_BACK: &[u8] = b"\x1b[?1049l";
    let count = |screen: &[u8], word: &[u8]| screen.windows(word.len()).filter(|part| *part == word).count();
    let desk = Desk::new(PROGRAMS, 120);
    let loader = desk.serve();
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&master).and_then(|()| unlockpt(&master)).expect("it is ours");
    let name = ptsname(&master, Vec::new()).expect("it has a name");
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let terminal = rustix::fs::open(OsStr::from_bytes(name.to_bytes()), flags, Mode::empty()).expect("it opens");
    let size = Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&terminal, size).expect("it has any size");
    let before = tcgetattr(&terminal).expect("a terminal");

    let end = || terminal.try_clone().expect("a descriptor");
    let mut command = Command::new(PROGRAMS.trainer);
    command.args(desk.fit(&loader.socket(), "out", &["--epochs", EPOCHS])).env("TERM", "xterm");
    let mut trainer = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("it runs");
    // It, too, holds ends of the terminal.
    drop(command);
    let (sender, parts) = mpsc::channel();
    thread::spawn(move || {
        let (mut master, mut part) = (File::from(master), [0; 4096]);
        while let Ok(len @ 1..) = master.read(&mut part) {
            let _ = sender.send(part[..len].to_vec());
        }
    });
    let mut screen = Vec::new();
    while count(&screen, TAKEN) == 0 {
        screen.extend(parts.recv_timeout(WATCHDOG).expect("it draws"));
    }
    // Both are there when it goes on.
    for name in [Signal::STOP, Signal::INT, Signal::TERM, Signal::CONT] {
        signal(trainer.id(), name);
    }
    let exit = trainer.wait().expect("our child").code();
    assert!(exit == Some(130) || exit == Some(143), "{exit:?}");
    let after = tcgetattr(&terminal).expect("a terminal");
    assert_eq!((after.local_modes, after.input_modes), (before.local_modes, before.input_modes));
    drop(terminal);
    screen.extend(parts.iter().flatten());
    assert_eq!((count(&screen, TAKEN), count(&screen, GIVEN_BACK)), (1, 1));
    loader.stop();
}

#[test]
fn a_signal_is_heard_while_no_batch_comes() {
    let desk = Desk::new(PROGRAMS, 120);
    // A second worker leaves batches behind the one that is missing: ready, but not yet to be had.
    let alone = ["--workers", "1"].map(OsString::from);
    let loader = Loader::start(PROGRAMS, desk.configure(8, "").into_iter().chain(alone));
    let mut trainer = Trainer::start(PROGRAMS, desk.fit(&loader.socket(), "out", &["--epochs", EPOCHS]));
    wait_for_batches(&mut trainer, &loader, 3);
    let worker = loader.workers()[0].pid;
    signal(worker, Signal::STOP);
    let has_none = || {
        let streams = loader.status().streams;
        streams.iter().flat_map(|stream| &stream.members).all(|member| (member.leases, member.ready) == (0, 0))
    };
    assert!(trainer.wait_until(has_none), "it waits");
    signal(trainer.pid(), Signal::INT);
    let (exit, line) = ended(trainer);
    let (epoch, step) = desk.position("out");
    assert_eq!((exit, line), (Some(130), format!("ended by Ctrl-C at epoch {epoch} step {step}: go on with --resume")));
    signal(worker, Signal::CONT);
    loader.stop();
}

#[test]
fn a_loss_that_is_no_number_ends_the_training_at_its_step() {
    let desk = Desk::new(PROGRAMS, 120);
    let loader = desk.serve();
    let socket = loader.socket();
    let wild = ["--epochs", "2", "--optimizer", "sgd", "--lr", "1e30"];
    // Step 0 has the loss of the weights that were drawn.
    expect!["the loss is NaN at epoch 0 step 1: the training diverged: train anew with a lower --lr than 1e30"]
        .assert_eq(&desk.refused(&socket, "anew", &wild));
    assert!(!desk.path("anew").join("latest").exists(), "no model is kept of it");

    desk.trained(&socket, "out", &["--epochs", "1", "--optimizer", "sgd"]);
    let files = desk.files("out");
    expect!["the loss is NaN at epoch 1 step 1: the training diverged: go on with --resume from the last good checkpoint, DESK/out/checkpoints/0001-000000, and a lower --lr than 1e30"]
        .assert_eq(&desk.refused(&socket, "out", &[&wild[..], &["--resume"]].concat()));
    assert!(desk.files("out")[..2] == files[..2], "the last good checkpoint stays");
    desk.trained(&socket, "out", &["--epochs", "2", "--lr", "1e-3", "--resume"]);
    loader.stop();
}

#[test]
fn a_checkpoint_for_which_there_is_no_room_leaves_the_last_one() {
    let desk = Desk::new(PROGRAMS, 120);
    let loader = desk.serve();
    let socket = loader.socket();
    desk.trained(&socket, "out", &["--epochs", "1"]);
    let files = desk.files("out");
    // No file may grow beyond 20 KiB (in some shells 40): so far the model's comes, as on a disk that fills up.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 40; exec \"$@\"", "sh", PROGRAMS.trainer]);
    command.args(desk.fit(&socket, "out", &["--epochs", "2", "--resume"]));
    let output = command.output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let told = told(&output).replace(&desk.folder.path().display().to_string(), "DESK");
    expect!["write DESK/out/checkpoints/.partial/model.safetensors: File too large (os error 27)"].assert_eq(&told);
    assert!(desk.files("out")[..2] == files[..2], "the last checkpoint stays");
    assert!(!desk.path("out/checkpoints/.partial").exists(), "half a checkpoint takes no room");
    desk.trained(&socket, "out", &["--epochs", "2", "--resume"]);
    desk.trained(&socket, "whole", &["--epochs", "2"]);
    desk.assert_same("whole", "out");
    loader.stop();
}

#[test]
fn what_is_no_run_of_this_training_is_named() {
    let desk = Desk::new(PROGRAMS, 120);
    let loader = desk.serve();
    let socket = loader.socket();
    desk.trained(&socket, "out", &["--epochs", "1"]);
    let refused = |more: &[&str]| desk.refused(&socket, "out", &[&["--epochs", "2"][..], more].concat());
    expect!["write to DESK/out: it holds a training already: go on with --resume, or choose another --out"]
        .assert_eq(&refused(&[]));
    // As `torch.save` begins.
    fs::write(desk.path("out/latest/model.safetensors"), b"PK\x03\x04").expect("written");
    expect!["read DESK/out/checkpoints/0001-000000/model.safetensors: it is damaged, or was changed by hand: train again, or take another checkpoint: header too small"].assert_eq(&refused(&["--resume"]));
    let about = desk.path("out/latest/checkpoint.json");
    let text = fs::read_to_string(&about).expect("it was written");
    fs::write(&about, text.replace("\"format\": 5", "\"format\": 3")).expect("written");
    expect!["read DESK/out/checkpoints/0001-000000/checkpoint.json: it has format 3, this trainer reads 5: use the trainer that wrote it"].assert_eq(&refused(&["--resume"]));
    fs::write(&about, &text[..text.len() / 2]).expect("written");
    let cut = refused(&["--resume"]);
    let start =
        "read DESK/out/checkpoints/0001-000000/checkpoint.json: it is damaged, or was changed by hand: train again";
    assert!(cut.starts_with(start), "{cut}");
    loader.stop();
}
