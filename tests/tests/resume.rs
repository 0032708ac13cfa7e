//! A training that is interrupted, however it is, ends with the weights and the ledger of one that was not.

use std::fs;
use std::path::Path;

use batchmill_tests::desk::{Desk, MODEL, Trainer};
use batchmill_tests::{Loader, Programs, programs, signal, told};
use expect_test::expect;
use rustix::process::Signal;
use serde_json::Value;

const PROGRAMS: Programs = programs!();

#[test]
fn two_epochs_and_two_more_are_four() {
    let desk = Desk::new(PROGRAMS, 120);
    let loader = desk.serve();
    let socket = loader.socket();
    for optimizer in ["adam", "sgd"] {
        let [whole, parts] = ["whole", "parts"].map(|name| format!("{optimizer}-{name}"));
        let fit = |out: &str, more: &[&str]| {
            let fixed = ["--optimizer", optimizer, "--eval", "test", "--lr", "3e-3"];
            desk.trained(&socket, out, &[&fixed, more].concat())
        };
        fit(&whole, &["--epochs", "4"]);
        fit(&parts, &["--epochs", "2"]);
        assert_eq!(desk.position(&parts), (2, 0));
        fit(&parts, &["--epochs", "4", "--resume"]);
        desk.assert_same(&whole, &parts);

        let before = desk.files(&parts);
        let stderr = fit(&parts, &["--epochs", "4", "--resume"]).stderr;
        let stderr = String::from_utf8_lossy(&stderr);
        assert!(stderr.ends_with("is trained for all 4 epochs already: raise --epochs to go on\n"), "{stderr}");
        assert!(desk.files(&parts) == before, "it was trained all the same");
    }
    loader.stop();
}

#[test]
fn a_training_that_stopped_early_is_over() {
    let desk = Desk::new(PROGRAMS, 120);
    let loader = desk.serve();
    let socket = loader.socket();
    // The loss of an epoch is no higher than that of the first one, so one more epoch is one too many.
    let learns = "[train]\nearly_stopping = { metric = 'train_loss', mode = 'max', patience = 1 }\n";
    fs::write(desk.path("model.toml"), format!("{MODEL}{learns}")).expect("written");
    let fixed = ["--epochs", "9", "--lr", "3e-3"];
    desk.trained(&socket, "out", &fixed);
    assert_eq!(desk.position("out"), (2, 0));
    let before = desk.files("out");
    let stderr = desk.trained(&socket, "out", &[&fixed[..], &["--resume"]].concat()).stderr;
    let stderr = String::from_utf8_lossy(&stderr);
    let said = "was stopped early at epoch 2 step 0: raise the patience of early_stopping to go on\n";
    assert!(stderr.ends_with(said), "{stderr}");
    assert!(desk.files("out") == before, "it was trained all the same");
    loader.stop();
}

#[test]
fn a_trainer_that_is_killed_and_goes_on_ends_as_if_it_was_not() {
    let desk = Desk::new(PROGRAMS, 200);
    let loader = desk.serve();
    let socket = loader.socket();
    let fixed = ["--epochs", "5", "--checkpoint-every", "7"];
    desk.trained(&socket, "whole", &fixed);
    let mut reached = (0, 0);
    for life in 0..3 {
        let resume: &[&str] = if life == 0 { &[] } else { &["--resume"] };
        let trainer = Trainer::start(PROGRAMS, desk.fit(&socket, "killed", &[&fixed, resume].concat()));
        if life > 0 {
            trainer.wait_until_it_says(&format!("Going on at epoch {} step {}", reached.0, reached.1));
        }
        trainer.wait_until_it_says("Saved the model");
        trainer.kill();
        assert!(desk.position("killed") > reached, "the checkpoint moves on");
        reached = desk.position("killed");
    }
    assert!(reached < (5, 0), "something is left to do");
    desk.trained(&socket, "killed", &[&fixed, &["--resume"][..]].concat());
    desk.assert_same("whole", "killed");
    let ledgers = ["killed.ledger", "whole.ledger"].map(|ledger| desk.path(ledger).into_os_string());
    let verified = PROGRAMS.run_loader(["verify".into(), ledgers[0].clone(), ledgers[1].clone()]);
    assert!(verified.status.success(), "{}", told(&verified));
    loader.stop();
}

#[test]
fn a_trainer_goes_on_with_the_next_loader_at_the_exact_batch() {
    let desk = Desk::new(PROGRAMS, 200);
    let loader = desk.serve();
    let fixed = ["--epochs", "4", "--eval", "test"];
    desk.trained(&loader.socket(), "whole", &fixed);
    let reconnect = [&fixed[..], &["--checkpoint-every", "9", "--reconnect"]].concat();
    let trainer = Trainer::start(PROGRAMS, desk.fit(&loader.socket(), "orphaned", &reconnect));
    trainer.wait_until_it_says("Saved the model");
    // So that it is still in the middle of it when the loader is gone.
    signal(trainer.pid(), Signal::STOP);
    let door = loader.kill();
    signal(trainer.pid(), Signal::CONT);
    let next = Loader::start_at(PROGRAMS, desk.configure(8, ""), door);
    let output = trainer.end();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    for stream in ["train", "test"] {
        for said in ["the loader has ended: waiting up to 60 s for the next", "another loader goes on at epoch "] {
            assert!(stderr.contains(&format!("stream `{stream}`: {said}")), "{stream}, {said}: {stderr}");
        }
    }
    desk.assert_same("whole", "orphaned");
    next.stop();
}

#[test]
fn a_loader_that_ends_leaves_the_checkpoint_and_says_how_to_go_on() {
    let desk = Desk::new(PROGRAMS, 200);
    let loader = desk.serve();
    let fixed = ["--epochs", "4"];
    let often = [&fixed[..], &["--checkpoint-every", "9"]].concat();
    desk.trained(&loader.socket(), "whole", &fixed);
    let start = |out: &'static str, more: &[&str], beginning: &str| {
        let trainer = Trainer::start(PROGRAMS, desk.fit(&loader.socket(), out, more));
        trainer.wait_until_it_says(beginning);
        // So that it is still in the middle of it when the loader is gone.
        signal(trainer.pid(), Signal::STOP);
        (out, trainer)
    };
    let trainers = [
        start("kept", &often, "Saved the model"),
        start("patient", &[&often[..], &["--reconnect=0.2"]].concat(), "Saved the model"),
        start("new", &fixed, "Sequential("),
    ];
    let door = loader.kill();
    let said = trainers.map(|(out, trainer)| {
        signal(trainer.pid(), Signal::CONT);
        let told = told(&trainer.end()).replace(&desk.folder.path().display().to_string(), "DESK");
        // How far it came is chance, but what it says of the checkpoint is true.
        let (before, after) = told.split_once("epoch ").expect("it names the batch");
        let (_, after) = after.split_once(" of stream").expect("it names the stream");
        let mut after = after.to_owned();
        if desk.path(out).join("latest").exists() {
            let (epoch, step) = desk.position(out);
            for kept in [format!("{epoch:04}-{step:06}"), format!("epoch {epoch} step {step}")] {
                after = after.replace(&kept, "KEPT");
            }
        }
        format!("{before}NEXT of stream{after}")
    });
    expect![[r#"
        the loader has ended; NEXT of stream `train` is the next batch: start it again and go on with --resume from the checkpoint DESK/kept/checkpoints/KEPT, which stands at KEPT
        the loader has ended and no other came for 0.2 s; NEXT of stream `train` is the next batch: start it again and go on with --resume from the checkpoint DESK/patient/checkpoints/KEPT, which stands at KEPT
        the loader has ended; NEXT of stream `train` is the next batch: start it again and train anew, there is no checkpoint yet"#]].assert_eq(&said.join("\n"));
    assert!(!desk.path("new").join("latest").exists(), "there was nothing to keep");
    let next = Loader::start_at(PROGRAMS, desk.configure(8, ""), door);
    desk.trained(&next.socket(), "kept", &[&fixed[..], &["--resume"]].concat());
    desk.assert_same("whole", "kept");
    next.stop();
}

#[test]
fn a_training_goes_on_only_where_its_stream_is_what_it_was_or_on_request() {
    let desk = Desk::new(PROGRAMS, 120);
    let loader = desk.serve();
    desk.trained(&loader.socket(), "out", &["--epochs", "1"]);
    loader.stop();
    let resume = ["--epochs", "2", "--resume"];
    let files = desk.files("out");
    let refused = |socket: &Path| {
        let told = desk.refused(socket, "out", &resume);
        assert!(desk.files("out") == files, "a refusal changes nothing");
        told
    };

    let loader = Loader::start(PROGRAMS, desk.configure(4, ""));
    expect![[
        "stream `train` is no longer what it was: `batch_size` was 8 and is 4; undo that, or go on all the same with --allow-changed"
    ]]
    .assert_eq(&refused(&loader.socket()));
    loader.stop();

    let image = desk.path("shapes/train/000003.png");
    let whole = fs::read(&image).expect("drawn");
    fs::write(&image, [&whole[..], b"more"].concat()).expect("written");
    let loader = desk.serve();
    let told = refused(&loader.socket());
    let data = told.strip_prefix("stream `train` is no longer what it was: `data` was ");
    let data = data.and_then(|told| told.strip_suffix("; undo that, or go on all the same with --allow-changed"));
    assert!(data.is_some_and(|data| data.contains(" and is ")), "{told}");
    let output = desk.trained(&loader.socket(), "out", &[&resume[..], &["--allow-changed", "--json"]].concat());
    let stdout = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let start: Value = serde_json::from_str(stdout.lines().next().expect("a line")).expect("JSON a line");
    assert_eq!(start["position"], serde_json::json!({"epoch": 1, "step": 0}));
    assert_eq!(desk.position("out"), (2, 0));
    let [.., ledger] = desk.files("out");
    let heads = String::from_utf8_lossy(&ledger).matches("{\"head\":").count();
    assert_eq!(heads, 2, "the ledger says where the stream changed");
    loader.stop();
}

#[test]
fn samples_that_cannot_be_read_are_left_out() {
    let desk = Desk::new(PROGRAMS, 120);
    let bad = [desk.path("shapes/train/000003.png"), desk.path("shapes/train/000017.jpg")];
    bad.iter().for_each(|image| fs::write(image, "no image").expect("written"));
    // Batches of one, so that two of them have no row left.
    let loader = Loader::start(PROGRAMS, desk.configure(1, "on_bad = 'mask'\non_bad_limit = 0.5\n"));
    let output = desk.trained(&loader.socket(), "out", &["--json"]);
    let stdout = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let mut lines = stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON a line"));
    let epoch = lines.find(|line| line["event"] == "epoch").expect("it was trained");
    assert_eq!(epoch["samples"], 118);
    assert!(epoch["loss"].as_f64().is_some_and(f64::is_finite), "{epoch}");
    assert_eq!(desk.position("out"), (1, 0));
    let [.., ledger] = desk.files("out");
    assert_eq!(ledger.iter().filter(|byte| **byte == b'\n').count(), 1 + 120, "a head and every batch");
    loader.stop();
}

#[test]
fn a_ledger_that_cannot_be_written_ends_the_training() {
    let desk = Desk::new(PROGRAMS, 40);
    let loader = desk.serve();
    let fit = |ledger: &str, more: &[&str]| {
        let out = desk.path("out");
        let mut arguments = desk.fit(&loader.socket(), "out", more);
        let place = arguments.iter().position(|argument| argument == "--ledger").expect("it is there") + 1;
        arguments[place] = desk.path(ledger).into();
        let told = told(&PROGRAMS.run_trainer(arguments));
        assert!(!out.exists(), "what has no ledger is not kept");
        told.replace(&desk.folder.path().display().to_string(), "DESK")
    };
    expect!["write the ledger DESK/no/such/ledger: No such file or directory (os error 2)"]
        .assert_eq(&fit("no/such/ledger", &[]));
    fs::write(desk.path("other"), "").expect("written");
    expect!["write the ledger DESK/other: it exists: name another file, or remove it"].assert_eq(&fit("other", &[]));
    expect!["write the ledger /dev/full: No space left on device (os error 28)"].assert_eq(&fit("/dev/full", &[]));
    expect!["resume from DESK/out: there is no checkpoint: leave --resume out to begin, or name the folder of a run with --out"]
        .assert_eq(&fit("ledger", &["--resume"]));
    loader.stop();
}
