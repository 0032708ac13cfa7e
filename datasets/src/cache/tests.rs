//! What a cache gives back, and what it takes for nothing.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::{Timespec, Timestamps, futimens};

use super::folder::{self, file_of, make_room};
use super::*;
use crate::sample::{Array, Image, Value};

const KEY: u128 = 7;
const LIMIT: u64 = 1 << 20;

fn sample(number: u8) -> Sample {
    let image = |channels: u8| Image::new(2, 3, channels.into(), vec![number; 6 * usize::from(channels)]).unwrap();
    Sample::new()
        .with("image", image(3))
        .with("mask", Value::Mask(image(1)))
        .with("label", Array::scalar_i64(number.into()))
        .with("tokens", Array::from_f32(&vec![0.5; number.into()]))
}

fn open(file: &File) -> Cache {
    Cache::open(file.try_clone().unwrap(), KEY, 9, LIMIT).unwrap().expect("ours")
}

/// A file with three samples in it.
fn filled() -> File {
    let file = tempfile::tempfile().unwrap();
    let cache = open(&file);
    [1, 4, 8].into_iter().for_each(|index| cache.put(index, &sample(index.try_into().unwrap())));
    file
}

fn kept(cache: &Cache) -> Vec<u64> {
    (0..10).filter(|index| cache.get(*index).is_some()).collect()
}

#[test]
fn what_one_puts_in_another_takes_out() {
    let file = filled();
    let cache = open(&file);
    assert_eq!(kept(&cache), [1, 4, 8]);
    for index in [1, 4, 8] {
        assert_eq!(cache.get(index), Some(sample(index.try_into().unwrap())));
    }
    let usage = Usage::of(&file).unwrap();
    assert_eq!((usage.kept, usage.is_full), (3, false));
    assert_eq!(usage.bytes, file.metadata().unwrap().len());
}

#[test]
fn a_long_head_is_read_to_its_end() {
    let file = tempfile::tempfile().unwrap();
    let long =
        (0..40).fold(Sample::new(), |sample, field| sample.with(format!("field {field}"), Array::scalar_i64(field)));
    open(&file).put(3, &long);
    assert_eq!(open(&file).get(3), Some(long));
}

#[test]
fn a_cut_file_gives_what_is_left_and_takes_the_rest_again() {
    let whole = filled().metadata().unwrap().len();
    for len in 0..=whole {
        let file = filled();
        file.set_len(len).unwrap();
        // Cut in the header it is no cache, or an empty one.
        let Some(cache) = Cache::open(file.try_clone().unwrap(), KEY, 9, LIMIT).unwrap() else {
            assert!(len < HEADER_BYTES as u64, "{len} of {whole} bytes");
            continue;
        };
        for index in kept(&cache) {
            assert_eq!(cache.get(index), Some(sample(index.try_into().unwrap())), "{len} of {whole} bytes");
        }
        assert!(len == whole || cache.get(8).is_none(), "{len} of {whole} bytes");
        (0..9).for_each(|index| cache.put(index, &sample(index.try_into().unwrap())));
        assert_eq!(kept(&cache), (0..9).collect::<Vec<_>>(), "{len} of {whole} bytes");
    }
}

#[test]
fn no_flipped_bit_is_believed() {
    let whole = filled().metadata().unwrap().len();
    let interesting = (0..HEADER_BYTES as u64 + 8).chain(TABLE_AT..TABLE_AT + 72).chain(2 * PAGE_BYTES..whole);
    for at in interesting {
        let file = filled();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1 << (at % 8)], at).unwrap();
        let Some(cache) = Cache::open(file, KEY, 9, LIMIT).unwrap() else {
            assert!(at < HEADER_BYTES as u64, "byte {at}");
            continue;
        };
        for index in 0..9 {
            let found = cache.get(index);
            assert!(found.is_none_or(|found| found == sample(index.try_into().unwrap())), "byte {at}");
        }
        cache.put(4, &sample(4));
        assert_eq!(cache.get(4), Some(sample(4)), "byte {at}");
    }
}

#[test]
fn the_entry_of_another_sample_is_none() {
    let file = filled();
    let mut place = [0; 8];
    file.read_exact_at(&mut place, TABLE_AT + 8).unwrap();
    file.write_all_at(&place, TABLE_AT + 8 * 5).unwrap();
    assert_eq!(kept(&open(&file)), [1, 4, 8]);
}

#[test]
fn a_cache_of_another_key_or_length_is_none() {
    let of = |key, samples| Cache::open(filled(), key, samples, LIMIT).unwrap().is_some();
    assert_eq!([of(KEY, 9), of(KEY + 1, 9), of(KEY, 8)], [true, false, false]);
    let other = tempfile::tempfile().unwrap();
    other.write_all_at(b"somebody's letters to somebody else", 0).unwrap();
    assert!(Cache::open(other, KEY, 9, LIMIT).unwrap().is_none());
}

#[test]
fn a_full_cache_keeps_what_it_has() {
    let file = tempfile::tempfile().unwrap();
    let limit = 2 * PAGE_BYTES + 600;
    let cache = Cache::open(file.try_clone().unwrap(), KEY, 9, limit).unwrap().unwrap();
    (0..9).for_each(|index| cache.put(index, &sample(index.try_into().unwrap())));
    let usage = Usage::of(&file).unwrap();
    assert!((1..9).contains(&usage.kept) && usage.is_full && usage.bytes <= limit, "{usage:?}");
    assert_eq!(kept(&cache), (0..usage.kept).collect::<Vec<_>>());
    // With more room it takes more.
    let cache = open(&file);
    cache.put(8, &sample(8));
    assert_eq!(cache.get(8), Some(sample(8)));
    assert!(!Usage::of(&file).unwrap().is_full);
}

#[test]
fn a_table_above_the_limit_is_refused() {
    let error = Cache::open(tempfile::tempfile().unwrap(), KEY, 1000, 4096).unwrap_err();
    assert_eq!(error.to_string(), "the table of 1000 samples does not fit into 4096 bytes: raise `limit`");
}

#[test]
fn processes_that_append_at_once_do_not_overwrite_each_other() {
    let file = tempfile::tempfile().unwrap();
    let open = || Cache::open(file.try_clone().unwrap(), KEY, 400, LIMIT).unwrap().unwrap();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let cache = open();
            scope.spawn(move || {
                (worker..400).step_by(4).for_each(|index| cache.put(index, &sample((index % 99) as u8)))
            });
        }
    });
    let cache = open();
    assert!((0..400).all(|index| cache.get(index) == Some(sample((index % 99) as u8))));
}

#[test]
fn a_folder_keeps_a_file_for_each_key_and_replaces_what_it_cannot_believe() {
    let folder = tempfile::tempdir().unwrap();
    let open = |key| folder::open(folder.path(), key, 9, LIMIT).unwrap();
    open(1).put(4, &sample(4));
    assert_eq!((kept(&open(1)), kept(&open(2))), (vec![4], vec![]));
    std::fs::write(file_of(folder.path(), 1), "somebody's letters to somebody else").unwrap();
    assert!(kept(&open(1)).is_empty());
}

#[test]
fn the_longest_unused_files_make_room_but_none_that_is_used_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let age = |key, seconds| {
        drop(folder::open(path, key, 9, LIMIT).unwrap());
        let file = File::options().write(true).open(file_of(path, key)).unwrap();
        file.set_len(10_000).unwrap();
        let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
        futimens(&file, &Timestamps { last_access: time, last_modification: time }).unwrap();
    };
    [(1, 40), (2, 10), (3, 20), (4, 30)].into_iter().for_each(|(key, seconds)| age(key, seconds));
    std::fs::write(path.join("notes.txt"), [0; 50_000]).unwrap();
    let there = || (1..=4).filter(|key| file_of(path, *key).exists()).collect::<Vec<_>>();
    let used = folder::open(path, 2, 9, LIMIT).unwrap();
    make_room(path, 1, 40_000).unwrap();
    assert_eq!(there(), [1, 2, 3, 4]);
    make_room(path, 1, 30_000).unwrap();
    assert_eq!(there(), [1, 2, 4]);
    make_room(path, 1, 1).unwrap();
    assert_eq!(there(), [1, 2]);
    drop(used);
    make_room(path, 1, 1).unwrap();
    assert_eq!(there(), [1]);
    assert!(path.join("notes.txt").exists());
}

#[test]
fn a_folder_that_cannot_be_used_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let refused = |path: &std::path::Path| {
        let error = folder::open(path, KEY, 9, LIMIT).unwrap_err();
        error.to_string().replace(&folder.path().display().to_string(), "FOLDER")
    };
    let missing = "the folder FOLDER/none for the cache does not exist: make it, or give another `path`";
    assert_eq!(refused(&folder.path().join("none")), missing);
    assert_eq!(refused(&file), "FOLDER/file is a file, not a folder for the cache: give another `path`");
    // Nobody, not even root, makes a file there.
    let closed = "cannot keep a cache in /proc/self: give a `path` that can be written to, or mend that";
    assert_eq!(refused("/proc/self".as_ref()), closed);
}
