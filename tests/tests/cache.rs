//! Streams that keep their samples: the same bytes as without, whoever is killed and whatever lies in the folder.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use batchmill_protocol::status::CacheStatus;
use batchmill_tests::{Loader, Programs, folder, programs, signal};
use rustix::process::Signal;

const PROGRAMS: Programs = programs!();

const RAM: &str = "cache = { kind = 'ram', limit = '64MiB' }";
const DISK: &str = "cache = { kind = 'disk', limit = '64MiB', path = 'kept' }";

/// A chain that is kept as a whole, and one of which the end draws.
const CHAINS: [&str; 2] =
    ["{ kind = 'resize', size = 20 }", "{ kind = 'resize', size = 20 }, { kind = 'random-crop', size = 16 }"];

fn configuration(workers: u32, chain: &str, cache: &str) -> String {
    format!(
        "workers = {workers}\nmemory = '16MiB'\n[stream.train]\nbatch_size = 16\nsampler = 'shuffled'\ntransforms = [{chain}]\n\
         {cache}\ndataset = {{ kind = 'image-folder-csv', images = 'shapes', labels = 'shapes/train.csv' }}\n"
    )
}

fn serve(data: &Path, workers: u32, chain: &str, cache: &str) -> Loader {
    PROGRAMS.serve(data, &configuration(workers, chain, cache))
}

/// Three epochs, and how the cache stands after.
fn three_epochs(data: &Path, workers: u32, chain: &str, cache: &str) -> (Vec<String>, Option<CacheStatus>) {
    let loader = serve(data, workers, chain, cache);
    let digests = loader.digests("train", 3);
    let status = cache_of(&loader);
    loader.stop();
    (digests, status)
}

fn cache_of(loader: &Loader) -> Option<CacheStatus> {
    loader.status().streams.into_iter().next().expect("it has one").cache
}

/// The only file in the folder of caches.
fn kept_file(data: &Path) -> PathBuf {
    let files: Vec<_> =
        fs::read_dir(data.join("kept")).expect("there").map(|entry| entry.expect("read").path()).collect();
    let [file] = <[PathBuf; 1]>::try_from(files).expect("one stream, one file");
    file
}

#[test]
fn the_digests_are_those_without_a_cache_for_any_number_of_workers_and_across_restarts() {
    let data = PROGRAMS.sample_data(200);
    fs::create_dir(data.path().join("kept")).expect("made");
    for chain in CHAINS {
        let (expected, none) = three_epochs(data.path(), 2, chain, "");
        assert_eq!(none, None);
        assert_ne!(expected[0], expected[1]);
        for cache in [RAM, DISK] {
            for workers in [1, 2, 5] {
                let (digests, status) = three_epochs(data.path(), workers, chain, cache);
                assert_eq!(digests, expected, "{chain}, {cache}, {workers} workers");
                let status = status.expect("it has a cache");
                assert_eq!((status.kept, status.full, status.limit_bytes), (200, false, 64 << 20), "{status:?}");
            }
        }
    }
    // The head of both chains is the same.
    assert!(kept_file(data.path()).metadata().expect("there").len() > 200 * 20 * 20 * 3);
}

#[test]
fn a_small_cache_leaves_that_of_another_stream_in_its_folder() {
    let data = PROGRAMS.sample_data(100);
    fs::create_dir(data.path().join("kept")).expect("made");
    three_epochs(data.path(), 1, CHAINS[0], DISK);
    let kept = kept_file(data.path());
    let small = configuration(1, "{ kind = 'resize', size = 8 }", &DISK.replace("64MiB", "64KiB"));
    assert!(kept.metadata().expect("there").len() > 64 << 10);
    // The small one is surveyed first, when nobody has the other's file open.
    let small = small.replace("[stream.train]", "[stream.a]");
    let both = configuration(1, CHAINS[0], DISK).replace("workers = 1\nmemory = '16MiB'\n", &small);
    let loader = PROGRAMS.serve(data.path(), &both);
    let status = loader.status();
    let train = status.streams.iter().find(|stream| stream.name == "train").expect("served");
    assert_eq!(train.cache.as_ref().map(|cache| cache.kept), Some(100), "{status:?}");
    loader.stop();
}

#[test]
fn where_the_folder_has_gone_since_others_work_without() {
    let data = PROGRAMS.sample_data(60);
    fs::create_dir(data.path().join("kept")).expect("made");
    let (expected, _) = three_epochs(data.path(), 1, CHAINS[0], "");
    let loader = serve(data.path(), 1, CHAINS[0], DISK);
    fs::remove_dir_all(data.path().join("kept")).expect("removed");
    let first = loader.workers()[0].pid;
    signal(first, Signal::KILL);
    loader.wait_until("another worker", |status| status.workers.iter().any(|worker| worker.pid != first));
    assert_eq!(loader.digests("train", 3), expected);
    assert_eq!(loader.status().workers.len(), 1);
    loader.stop();
}

#[test]
fn what_was_kept_on_disk_is_not_made_again() {
    let data = PROGRAMS.sample_data(100);
    fs::create_dir(data.path().join("kept")).expect("made");
    let (expected, _) = three_epochs(data.path(), 2, CHAINS[0], DISK);
    // Nobody asks for the files any more. That they are gone would be noticed in the list, so they only say nothing.
    let csv = fs::read_to_string(data.path().join("shapes/train.csv")).expect("drawn");
    for name in csv.lines().skip(2).filter_map(|line| line.split(',').next()) {
        let path = data.path().join("shapes").join(name);
        let modified = path.metadata().expect("drawn").modified().expect("known");
        let file = fs::File::options().write(true).open(&path).expect("drawn");
        file.write_all_at(&[0; 64], 0).expect("spoiled");
        file.set_modified(modified).expect("set");
    }
    let (digests, _) = three_epochs(data.path(), 2, CHAINS[0], DISK);
    assert_eq!(digests, expected);
    let loader = serve(data.path(), 2, CHAINS[0], RAM);
    let output = loader.command(&["drain", "--stream", "train", "--epochs", "1"]);
    assert!(!output.status.success(), "without what was kept it fails: {output:?}");
    loader.stop();
}

#[test]
fn a_cache_that_was_cut_or_spoiled_or_is_another_file_changes_nothing() {
    let data = PROGRAMS.sample_data(100);
    fs::create_dir(data.path().join("kept")).expect("made");
    let (expected, _) = three_epochs(data.path(), 2, CHAINS[0], DISK);
    let file = kept_file(data.path());
    let whole = fs::read(&file).expect("kept");
    let spoil: [fn(&mut Vec<u8>); 5] = [
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| bytes.truncate(100),
        |bytes| bytes.iter_mut().skip(8192).step_by(997).for_each(|byte| *byte ^= 4),
        |bytes| bytes.iter_mut().take(8192).skip(4096).for_each(|byte| *byte = byte.wrapping_add(16)),
        |bytes| *bytes = b"something else, of somebody else".to_vec(),
    ];
    for (place, spoil) in spoil.into_iter().enumerate() {
        let mut bytes = whole.clone();
        spoil(&mut bytes);
        fs::write(&file, bytes).expect("written");
        let (digests, status) = three_epochs(data.path(), 2, CHAINS[0], DISK);
        assert_eq!(digests, expected, "case {place}");
        assert_eq!(status.map(|status| status.kept), Some(100), "case {place}");
    }
}

#[test]
fn data_that_changed_make_another_cache() {
    let data = PROGRAMS.sample_data(50);
    fs::create_dir(data.path().join("kept")).expect("made");
    let (before, _) = three_epochs(data.path(), 2, CHAINS[0], DISK);
    let csv = fs::read_to_string(data.path().join("shapes/train.csv")).expect("drawn");
    let images: Vec<_> = csv.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    fs::copy(data.path().join("shapes").join(images[1]), data.path().join("shapes").join(images[0])).expect("copied");
    let (expected, _) = three_epochs(data.path(), 2, CHAINS[0], "");
    assert_ne!(expected, before);
    assert_eq!(three_epochs(data.path(), 2, CHAINS[0], DISK).0, expected);
    assert_eq!(fs::read_dir(data.path().join("kept")).expect("there").count(), 2);
}

#[test]
fn a_retry_forgets_what_was_kept_of_the_data_before() {
    let data = PROGRAMS.sample_data(50);
    let csv = fs::read_to_string(data.path().join("shapes/train.csv")).expect("drawn");
    let images: Vec<_> = csv.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    let loader = serve(data.path(), 2, CHAINS[0], RAM);
    let before = loader.digests("train", 2);
    assert_eq!(cache_of(&loader).map(|cache| cache.kept), Some(50));
    fs::copy(data.path().join("shapes").join(images[1]), data.path().join("shapes").join(images[0])).expect("copied");
    assert_eq!(loader.digests("train", 2), before, "kept as it was when it was listed");
    assert!(loader.command(&["quarantine", "--retry"]).status.success());
    loader.wait_until("forgotten", |status| status.streams[0].cache.as_ref().is_some_and(|cache| cache.kept < 50));
    let (expected, _) = three_epochs(data.path(), 1, CHAINS[0], "");
    assert_ne!(expected[..2], before);
    assert_eq!(loader.digests("train", 2), expected[..2]);
    loader.stop();
}

#[test]
fn workers_that_are_killed_while_they_fill_it_leave_nothing_wrong() {
    let data = PROGRAMS.sample_data(400);
    fs::create_dir(data.path().join("kept")).expect("made");
    let (expected, _) = three_epochs(data.path(), 2, CHAINS[0], "");
    for cache in [RAM, DISK] {
        let loader = serve(data.path(), 3, CHAINS[0], cache);
        let reader = loader.spawn(&["drain", "--json", "--digest", "--stream", "train", "--epochs", "3"]);
        for kept in [20, 150, 300] {
            let status = loader.wait_until("filled so far", |status| {
                status.streams[0].cache.as_ref().is_some_and(|cache| cache.kept >= kept)
            });
            status.workers.iter().filter(|worker| worker.pid != 0).for_each(|worker| signal(worker.pid, Signal::KILL));
        }
        let output = reader.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{output:?}");
        assert_eq!(loader.digests("train", 3), expected, "{cache}");
        assert_eq!(cache_of(&loader).map(|cache| cache.kept), Some(400), "{cache}");
        loader.stop();
    }
}

#[test]
fn a_full_cache_says_so_and_changes_nothing() {
    let data = PROGRAMS.sample_data(100);
    let (expected, _) = three_epochs(data.path(), 2, CHAINS[0], "");
    let loader = serve(data.path(), 2, CHAINS[0], "cache = { kind = 'ram', limit = '64KiB' }");
    assert_eq!(loader.digests("train", 3), expected);
    let status = cache_of(&loader).expect("it has one");
    assert!(status.full && (10..60).contains(&status.kept) && status.bytes <= 64 << 10, "{status:?}");
    let told = loader.command(&["status"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let line = format!("  cache (ram): {} samples in ", status.kept);
    assert!(told.lines().any(|told| told.starts_with(&line) && told.ends_with(" of 64 KiB, full")), "{told}");
    loader.stop();
}

#[test]
fn what_cannot_be_is_refused() {
    let data = PROGRAMS.sample_data(40);
    fs::write(data.path().join("a-file"), "").expect("written");
    let refusal = |cache: &str| {
        let config = data.path().join("refused.toml");
        fs::write(&config, configuration(1, CHAINS[0], cache)).expect("written");
        let told = PROGRAMS.refusal(["--config".as_ref(), config.as_os_str()]);
        told.replace(&data.path().display().to_string(), "DATA")
    };
    assert_eq!(
        refusal("cache = { kind = 'disk', limit = '1MiB', path = 'none' }").trim(),
        "open stream `train`: the folder DATA/none for the cache does not exist: make it, or give another `path`"
    );
    assert_eq!(
        refusal("cache = { kind = 'disk', limit = '1MiB', path = 'a-file' }").trim(),
        "open stream `train`: DATA/a-file is a file, not a folder for the cache: give another `path`"
    );
    let told = refusal("cache = { kind = 'disk', limit = '1MiB', path = '/proc/self' }");
    let closed = "open stream `train`: cannot keep a cache in /proc/self: give a `path` that can be written to, or \
                  mend that: ";
    assert!(told.starts_with(closed), "{told}");
    let told = refusal("cache = { kind = 'disk', limit = '900TiB', path = '.' }");
    let start = "open stream `train`: its cache may take 900 TiB more and ";
    assert!(told.starts_with(start) && told.contains("lower `limit` under `cache`, or give another `path`"), "{told}");
    let told = refusal("cache = { kind = 'ram', limit = '900TiB' }");
    let start = "caches of 900 TiB in memory were asked for and ";
    let end = " is available beside 16 MiB for batches: lower `limit` under `cache`, or use `kind` = \"disk\"";
    assert!(told.starts_with(start) && told.trim().ends_with(end), "{told}");
}

#[test]
fn data_without_an_index_are_not_kept_between_runs() {
    let data = folder();
    let config = data.path().join("refused.toml");
    let stream = "workers = 1\n[stream.n]\ndataset = { kind = 'numbers', len = 40 }\n\
                  cache = { kind = 'disk', limit = '1MiB', path = '.' }\n";
    fs::write(&config, stream).expect("written");
    assert_eq!(
        PROGRAMS.refusal(["--config".as_ref(), config.as_os_str()]).trim(),
        "open stream `n`: its dataset has no index to tell when its data are others, so that no cache of it can be \
         kept between runs: use `cache = { kind = \"ram\", .. }`"
    );
}
