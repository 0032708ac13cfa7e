//! The ledger finds what it is there to find, and nothing where there is nothing.

use std::fs;
use std::path::{Path, PathBuf};

use batchmill_tests::{Loader, Programs, programs, told};
use expect_test::{Expect, expect};
use tempfile::TempDir;

const PROGRAMS: Programs = programs!();

/// A shuffled stream of the drawn shapes: 19 batches of 16 an epoch.
fn shapes(data: &Path, more: &str) -> Loader {
    let configuration = format!(
        "workers = 2\n[stream.train]\nbatch_size = 16\nsampler = 'shuffled'\n{more}\n\
         dataset = {{ kind = 'image-folder-csv', images = 'shapes', labels = 'shapes/train.csv' }}\n"
    );
    PROGRAMS.serve(data, &configuration)
}

/// Drains with a ledger of that name beside the data.
fn drain(loader: &Loader, data: &Path, name: &str, more: &[&str]) -> PathBuf {
    let path = data.join(name);
    let text = path.display().to_string();
    loader.drain(&[&["--stream", "train", "--ledger", &text], more].concat());
    path
}

/// The data, and the ledger of two epochs of them.
fn recorded() -> (TempDir, PathBuf) {
    let data = PROGRAMS.sample_data(300);
    let loader = shapes(data.path(), "");
    let ledger = drain(&loader, data.path(), "run.ledger", &["--epochs", "2"]);
    loader.stop();
    (data, ledger)
}

/// What `loader verify` says of these, without the folder's path and the digits of digests.
fn verify(data: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = PROGRAMS.run_loader(["verify"].iter().chain(arguments));
    let said = if output.status.success() {
        Ok(String::from_utf8(output.stdout).expect("text").trim_end().to_owned())
    } else {
        Err(told(&output))
    };
    let tidy = |text: String| {
        let text = text.replace(&data.display().to_string(), "DATA");
        let words = text.split_inclusive([' ', ',', '"']).map(|word| {
            let digest = word.len() >= 32 && word.as_bytes()[..32].iter().all(u8::is_ascii_hexdigit);
            if digest { format!("DIGEST{}", &word[32..]) } else { word.to_owned() }
        });
        words.collect::<String>()
    };
    said.map(tidy).map_err(tidy)
}

/// Changes the lines of a ledger and expects to be told.
fn spoilt(ledger: &Path, spoil: impl FnOnce(&mut Vec<String>), expected: &Expect) {
    let text = fs::read_to_string(ledger).expect("written");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    spoil(&mut lines);
    let path = ledger.with_file_name("spoilt.ledger");
    fs::write(&path, lines.join("\n") + "\n").expect("written");
    let told = verify(ledger.parent().expect("in a folder"), &[path.to_str().expect("text")]);
    expected.assert_eq(&told.expect_err("it goes unnoticed"));
}

#[test]
fn a_whole_run_is_verified_alone_against_another_and_against_the_data() {
    let (data, ledger) = recorded();
    let loader = shapes(data.path(), "");
    let again = drain(&loader, data.path(), "again.ledger", &["--epochs", "2"]);
    let later = drain(&loader, data.path(), "later.ledger", &["--from", "1:4"]);
    loader.stop();
    assert_eq!(fs::read(&ledger).ok(), fs::read(&again).ok());
    let text = |path: &PathBuf| path.display().to_string();
    let said = verify(data.path(), &[&text(&ledger), &text(&again)]).expect("it is the same");
    expect![[r#"
        stream `train`: 38 batches from epoch 0 step 0 to epoch 1 step 18, each once and in order, chain DIGEST
        38 batches are in both, and the same"#]]
    .assert_eq(&said);
    let said = verify(data.path(), &[&text(&ledger), &text(&later)]).expect("it is the same");
    assert!(said.ends_with("15 batches are in both, and the same"), "{said}");
    let said = verify(data.path(), &[&text(&ledger), "--remake", "all"]).expect("it is the same");
    assert!(said.ends_with("38 made again from the data, and the same"), "{said}");
    let said = verify(data.path(), &[&text(&later), "--remake", "1:5"]).expect("it is the same");
    assert!(said.ends_with("1 made again from the data, and the same"), "{said}");
    let said = verify(data.path(), &[&text(&later), "--remake", "0:5"]).expect_err("it is not there");
    expect!["DATA/later.ledger has no epoch 0 step 5: it goes from epoch 1 step 4 to epoch 1 step 18"].assert_eq(&said);
}

#[test]
fn a_repeated_dropped_or_reordered_batch_is_named() {
    let (_data, ledger) = recorded();
    let again = |lines: &mut Vec<String>| lines.insert(8, lines[7].clone());
    spoilt(&ledger, again, &expect!["DATA/spoilt.ledger:9: epoch 0 step 6 comes twice"]);
    let dropped = |lines: &mut Vec<String>| drop(lines.remove(8));
    spoilt(
        &ledger,
        dropped,
        &expect!["DATA/spoilt.ledger:9: epoch 0 step 7 is missing: epoch 0 step 8 follows epoch 0 step 6"],
    );
    spoilt(
        &ledger,
        |lines| lines.swap(8, 9),
        &expect!["DATA/spoilt.ledger:9: epoch 0 step 8 comes out of order: epoch 0 step 7 comes only at line 10"],
    );
    spoilt(
        &ledger,
        |lines| lines[8] = lines[8].replace("\"rows\":16", "\"rows\":15"),
        &expect!["DATA/spoilt.ledger:9: epoch 0 step 7 has 15 rows and 0 of padding, not 16 and 0"],
    );
    spoilt(
        &ledger,
        |lines| {
            let place = lines[8].find("\"digest\":\"").expect("it has one") + "\"digest\":\"".len();
            lines[8].replace_range(place..place + 32, "abc");
        },
        &expect![[r#"DATA/spoilt.ledger:9: "abc" is not a digest of 32 hexadecimal digits"#]],
    );
    let forged = |lines: &mut Vec<String>| {
        let digest = lines[9][lines[9].find("\"digest\"").expect("it has one")..][..43].to_owned();
        let place = lines[8].find("\"digest\"").expect("it has one");
        lines[8].replace_range(place..place + 43, &digest);
    };
    spoilt(
        &ledger,
        forged,
        &expect![
            "DATA/spoilt.ledger:9: the chain of digests breaks at epoch 0 step 7: lines were changed, taken out or put in by hand"
        ],
    );
}

#[test]
fn a_changed_file_is_found_and_named_in_another_run_and_in_the_data() {
    let (data, ledger) = recorded();
    let csv = fs::read_to_string(data.path().join("shapes/train.csv")).expect("drawn");
    let mut images =
        csv.lines().skip(1).filter_map(|line| Some(data.path().join("shapes").join(line.split(',').next()?)));
    let (one, other) = (images.next().expect("an image"), images.nth(20).expect("another"));
    fs::copy(other, one).expect("copied");
    let said = verify(data.path(), &[ledger.to_str().expect("text"), "--remake", "all"]).expect_err("it is changed");
    assert!(said.contains(" made again from the data is DIGEST, at DATA/run.ledger:"), "{said}");
    assert!(said.contains("`data` was DIGEST, 300 files") && said.contains("newest "), "{said}");

    let loader = shapes(data.path(), "");
    let changed = drain(&loader, data.path(), "changed.ledger", &["--epochs", "2"]);
    loader.stop();
    let both = [ledger.to_str().expect("text"), changed.to_str().expect("text")];
    let said = verify(data.path(), &both).expect_err("they are not the same");
    assert!(said.starts_with("they part at epoch 0 step "), "{said}");
    assert!(said.contains("`data` was ") && said.contains("newest train/"), "{said}");
}

#[test]
fn a_resume_one_step_off_is_found() {
    let (data, ledger) = recorded();
    let loader = shapes(data.path(), "");
    for (from, expected) in [
        ("0:6", expect!["DATA/off.ledger:8: epoch 0 step 5 is missing: epoch 0 step 6 follows epoch 0 step 4"]),
        ("0:4", expect!["DATA/off.ledger:8: epoch 0 step 4 comes twice"]),
    ] {
        // A run that was cut off behind step 4 and resumed at another step than the next.
        let off = data.path().join("off.ledger");
        let rest = drain(&loader, data.path(), &format!("{from}.ledger"), &["--from", from]);
        let head: Vec<_> = fs::read_to_string(&ledger).expect("written").lines().take(6).map(str::to_owned).collect();
        let rest = fs::read_to_string(rest).expect("written");
        let lines: Vec<_> = head.into_iter().chain(rest.lines().skip(1).map(str::to_owned)).collect();
        fs::write(&off, lines.join("\n") + "\n").expect("written");
        let said = verify(data.path(), &[off.to_str().expect("text")]).expect_err("it goes unnoticed");
        expected.assert_eq(&said.replace("off.ledger:7", "off.ledger:8"));
    }
    loader.stop();
}

#[test]
fn a_run_goes_on_in_its_ledger_and_is_refused_when_the_stream_changed() {
    let (data, whole) = recorded();
    let loader = shapes(data.path(), "");
    let ledger = drain(&loader, data.path(), "a.ledger", &[]);
    // Cut off in the middle of a line.
    let text = fs::read_to_string(&ledger).expect("written");
    fs::write(&ledger, &text[..text.len() - 300]).expect("written");
    drain(&loader, data.path(), "a.ledger", &["--resume", "--epochs", "2"]);
    loader.stop();
    assert_eq!(fs::read(&ledger).ok(), fs::read(&whole).ok());

    let text = fs::read_to_string(&ledger).expect("written");
    let half: String = text.lines().take(11).flat_map(|line| [line, "\n"]).collect();
    fs::write(&ledger, &half).expect("written");
    let loader = shapes(data.path(), "seed = 7");
    let path = ledger.display().to_string();
    let resume = ["drain", "--stream", "train", "--ledger", &path, "--resume"];
    expect!["stream `train` is no longer what it was: `seed` was 0 and is 7; undo that, or go on all the same with --allow-changed"]
        .assert_eq(&told(&loader.command(&resume)));
    assert_eq!(fs::read_to_string(&ledger).expect("written"), half, "a refusal leaves the ledger alone");
    let output = loader.command(&[&resume[..], &["--allow-changed"]].concat());
    assert!(output.status.success(), "{output:?}");
    loader.stop();
    let said = verify(data.path(), &[&path]).expect("it is whole");
    expect![[r#"
        stream `train`: 19 batches from epoch 0 step 0 to epoch 0 step 18, each once and in order, chain DIGEST
        the stream changed during the run: DATA/a.ledger:12: `seed` was 0 and is 7"#]]
    .assert_eq(&said);
}

#[test]
fn files_that_are_no_ledgers_and_disks_that_are_full() {
    let (data, ledger) = recorded();
    let other = data.path().join("shapes/train.csv");
    let said = verify(data.path(), &[other.to_str().expect("text")]).expect_err("it is no ledger");
    expect!["DATA/shapes/train.csv:1: this is no ledger: it does not begin with the head of one"].assert_eq(&said);
    let loader = shapes(data.path(), "");
    let exists = ledger.display().to_string();
    let output = loader.command(&["drain", "--stream", "train", "--ledger", &exists]);
    let expected = expect!["write the ledger DATA/run.ledger: it exists: name another file, or remove it"];
    expected.assert_eq(&told(&output).replace(&data.path().display().to_string(), "DATA"));
    let output = loader.command(&["drain", "--stream", "train", "--ledger", "/dev/full"]);
    expect!["write the ledger /dev/full: No space left on device (os error 28)"].assert_eq(&told(&output));
    loader.stop();
}
