//! A trainer that is killed at any step, or while it writes a checkpoint, goes on as if it had not been.

use std::fs;
use std::path::Path;

use batchmill_protocol::position::Position;
use batchmill_tests::desk::{Desk, MODEL, Trainer};
use batchmill_tests::{Loader, Programs, another_seed, programs};
use serde_json::Value;

const PROGRAMS: Programs = programs!();

/// Trainings that are killed.
const SEEDS: u64 = 20;

/// Epochs of each.
const EPOCHS: u64 = 3;

/// Images on the desk, and rows of a batch: 15 steps an epoch.
const IMAGES: u32 = 120;
const ROWS: u32 = 8;

/// How a model learns: simply, or with gradients that are added up over steps and rates that differ from step to step.
const LEARNS: [&str; 2] =
    ["", "[train]\naccumulate = 4\nclip_norm = 1.0\n[schedule]\nkind = 'cosine'\nunit = 'step'\nwarmup = 3\n"];

/// The next of a row of numbers that look random, below `bound`.
fn draw(state: &mut u64, bound: u64) -> u64 {
    // The generator that Vigna calls xorshift64*.
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
}

/// Serves images that are moved and turned over at random, and the same for tests as they are.
fn serve(desk: &Desk) -> Loader {
    let stream = |name: &str, sampler: &str, transforms: &str| {
        format!(
            "[stream.{name}]\nbatch_size = {ROWS}\nsampler = '{sampler}'\ntransforms = [{transforms}]\ndataset = {{ kind \
             = 'image-folder-csv', images = 'shapes', labels = 'shapes/{name}.csv', color = 'gray' }}\n"
        )
    };
    let random = "{ kind = 'random-crop', size = 24, padding = 2 }, 'horizontal-flip'";
    let streams =
        [stream("train", "shuffled", random), stream("test", "sequential", "{ kind = 'center-crop', size = 24 }")];
    PROGRAMS.serve(desk.folder.path(), &format!("workers = 2\n{}", streams.concat()))
}

/// Steps that a position stands after the beginning.
fn place(epoch: u64, step: u64) -> u64 {
    epoch * u64::from(IMAGES / ROWS) + step
}

/// Waits until the loader has given a trainer the batch before `target`; `false` when that ended before.
fn wait_until_it_reaches(trainer: &mut Trainer, loader: &Loader, target: u64) -> bool {
    let pid = trainer.pid();
    trainer.wait_until(|| {
        let streams = loader.status().streams.into_iter().filter(|stream| stream.name == "train");
        let members = streams.flat_map(|stream| stream.members);
        let mut cursors = members.filter(|member| member.pid == pid).map(|member| member.cursor);
        cursors.any(|Position { epoch, step }| place(epoch, step) >= target)
    })
}

/// What must be the same in the end besides the files: how well the model did, and which was the best.
fn verdict(desk: &Desk, out: &str) -> Value {
    let about = desk.about(out, "latest");
    serde_json::json!([about["position"], about["metrics"], about["best"], desk.about(out, "best")["metrics"]])
}

#[test]
fn twenty_trainings_that_are_killed_at_random_end_as_if_they_were_not() {
    let first = another_seed();
    let desk = Desk::new(PROGRAMS, IMAGES);
    let loader = serve(&desk);
    let socket = loader.socket();
    let (mut kills, mut resumed) = (0_u64, 0);
    for number in 0..SEEDS {
        // 0 alone has no successor.
        let seed = first.wrapping_add(number).max(1);
        println!("seed {seed}");
        let mut random = seed;
        let optimizer = ["adam", "sgd"][usize::try_from(draw(&mut random, 2)).expect("0 or 1")];
        let (weights, epochs) = (draw(&mut random, 1 << 20).to_string(), EPOCHS.to_string());
        let fixed =
            ["--epochs", &epochs, "--eval", "test", "--seed", &weights, "--optimizer", optimizer, "--lr", "3e-3"];
        let (whole, killed) = (format!("whole-{number}"), format!("killed-{number}"));
        let learns = LEARNS[usize::try_from(draw(&mut random, 2)).expect("0 or 1")];
        fs::write(desk.path("model.toml"), format!("{MODEL}{learns}")).expect("written");
        desk.trained(&socket, &whole, &fixed);

        for _ in 0..=draw(&mut random, 3) {
            let is_resumed = desk.path(&killed).join("latest").exists();
            let begun = if is_resumed { desk.position(&killed) } else { (0, 0) };
            let left = place(EPOCHS, 0) - place(begun.0, begun.1);
            if left == 0 {
                break;
            }
            let every = (1 + draw(&mut random, 12)).to_string();
            let target = place(begun.0, begun.1) + 1 + draw(&mut random, left);
            let resume: &[&str] = if is_resumed { &["--resume"] } else { &[] };
            if !is_resumed {
                // It goes back to where there is no ledger either.
                let _ = fs::remove_file(desk.path(&killed).with_extension("ledger"));
            }
            let arguments = [&fixed[..], &["--checkpoint-every", &every], resume].concat();
            let mut trainer = Trainer::start(PROGRAMS, desk.fit(&socket, &killed, &arguments));
            if wait_until_it_reaches(&mut trainer, &loader, target) && trainer.kill_if_it_lives() {
                kills += 1;
            }
            resumed += u32::from(is_resumed);
        }
        if desk.path(&killed).join("latest").exists() {
            desk.trained(&socket, &killed, &[&fixed[..], &["--resume"]].concat());
        } else {
            let _ = fs::remove_file(desk.path(&killed).with_extension("ledger"));
            desk.trained(&socket, &killed, &fixed);
        }
        desk.assert_same(&whole, &killed);
        assert_eq!(verdict(&desk, &whole), verdict(&desk, &killed));
        for out in [&whole, &killed] {
            fs::remove_dir_all(desk.path(out)).expect("it was trained");
        }
    }
    println!("{SEEDS} of {SEEDS} the same, after {kills} kills");
    assert!(kills >= SEEDS / 2 && resumed > 0, "{kills} kills, {resumed} resumed: the test tests nothing");
    loader.stop();
}

#[test]
fn a_trainer_killed_while_it_writes_a_checkpoint_leaves_a_whole_one() {
    const KILLS: u32 = 12;
    let desk = Desk::new(PROGRAMS, IMAGES);
    let loader = serve(&desk);
    let socket = loader.socket();
    let fixed = ["--epochs", "2", "--eval", "test", "--lr", "3e-3"];
    desk.trained(&socket, "whole", &fixed);
    let checkpoints = desk.path("killed/checkpoints");
    let (partial, mut halves) = (checkpoints.join(".partial"), 0);
    // The first one is not to be killed: there would be nothing yet to go on from.
    let often = [&fixed[..], &["--checkpoint-every", "1"]].concat();
    let trainer = Trainer::start(PROGRAMS, desk.fit(&socket, "killed", &often));
    trainer.wait_until_it_says("Saved the model");
    trainer.kill();
    for kill in 0..KILLS {
        let mut trainer = Trainer::start(PROGRAMS, desk.fit(&socket, "killed", &[&often[..], &["--resume"]].concat()));
        // It has read the checkpoint that the last kill left.
        trainer.wait_until_it_says("Going on at");
        // The moment within the writing differs from kill to kill: at once, with the first file, and so on.
        let file = ["", "model.safetensors", "optimizer.safetensors", "checkpoint.json"][kill as usize % 4];
        assert!(trainer.wait_until(|| partial.join(file).exists()), "it writes checkpoints");
        trainer.kill();
        halves += u32::from(partial.exists());
        assert_whole(&checkpoints);
    }
    println!("{halves} of {KILLS} kills left half a checkpoint");
    assert!(halves > 0, "no kill hit a checkpoint that was being written");
    desk.trained(&socket, "killed", &[&fixed[..], &["--resume"]].concat());
    desk.assert_same("whole", "killed");
    assert_eq!(verdict(&desk, "whole"), verdict(&desk, "killed"));
    assert!(!partial.exists(), "half a checkpoint is cleared away");
    loader.stop();
}

/// Sees that every checkpoint under its own name has all its files, none of them empty.
fn assert_whole(checkpoints: &Path) {
    let entries = fs::read_dir(checkpoints).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut whole = 0;
    for folder in entries.filter(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))) {
        for file in ["model.safetensors", "optimizer.safetensors", "model.toml", "checkpoint.json"] {
            let bytes = fs::metadata(folder.join(file)).map(|file| file.len());
            assert!(bytes.is_ok_and(|bytes| bytes > 0), "{} has no {file}", folder.display());
        }
        whole += 1;
    }
    assert!(whole > 0, "there is none");
}
