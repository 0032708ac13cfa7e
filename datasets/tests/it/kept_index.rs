//! The option `keep_index`: the index in its file is the one that would be made, or is not used.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use batchmill_datasets::registry::Registry;
use batchmill_datasets::source::Index;
use batchmill_protocol::position::Position;

use crate::support::{Batch, Folder, png, report, survey, touch};

const TABLE: &str =
    "dataset = { kind = 'image-folder-csv', images = 'images', labels = 'train.csv', keep_index = true }";

const FILE: &str = "train.csv.index";

/// Two images of a list whose index was kept.
fn kept() -> Folder {
    let folder = Folder::new()
        .with("images/a.png", png(3, 2))
        .with("images/b.png", png(3, 2))
        .with("train.csv", "a.png,cat\nb.png,dog\n");
    folder.open(TABLE).unwrap();
    folder
}

fn index(folder: &Folder, table: &str) -> Result<Vec<u8>, String> {
    let spec = folder.spec(table).unwrap();
    batchmill_datasets::builtin().index(&spec).map_err(|error| folder.report(&error))
}

/// The index as it is written to a file, which stands for the memory of workers.
fn index_in_file(folder: &Folder, table: &str) -> Result<Vec<u8>, String> {
    let read = |file: &File| {
        let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).unwrap()];
        file.read_exact_at(&mut bytes, 0).map(|()| bytes)
    };
    let (mut room, spec) = (tempfile::tempfile().unwrap(), folder.spec(table).unwrap());
    let look = |file: &File| read(file).map(Index::from);
    let written = batchmill_datasets::builtin().index_into(&spec, &mut room, look);
    written.map(|()| read(&room).unwrap()).map_err(|error| folder.report(&error))
}

/// What is said where the files are looked at, of which one is gone.
const LOOKED_AT: &str = "~/train.csv:2: the file ~/images/b.png does not exist";

/// Whether the index comes from its file, so that a file which is gone meanwhile is not missed.
fn is_used(folder: &Folder, table: &str) -> bool {
    let path = folder.path("images/b.png");
    let away = folder.path("b.png");
    fs::rename(&path, &away).unwrap();
    let index = index(folder, table);
    fs::rename(&away, &path).unwrap();
    match index {
        Ok(_) => true,
        Err(error) => {
            assert!(error.starts_with("~/train.csv:2: "), "{error}, not as {LOOKED_AT}");
            false
        }
    }
}

#[test]
fn the_index_that_is_kept_is_the_one_that_would_be_made() {
    let folder = kept();
    let plain = TABLE.replace(", keep_index = true", "");
    for table in [TABLE, &plain, &format!("{TABLE}\nsampler = 'class-balanced'")] {
        assert_eq!(index(&folder, table), index_in_file(&folder, table), "{table}");
    }
    assert_eq!(index(&folder, TABLE), index(&folder, &plain));
    assert!(is_used(&folder, TABLE));
    assert!(!is_used(&folder, &plain), "only where it is asked for");
    let nested = |table: &str| format!("dataset = {{ kind = 'take', len = 1, {table} }}");
    for [with, without] in [[TABLE.to_owned(), plain.clone()], [nested(TABLE), nested(&plain)]] {
        let hash = |table: &str| folder.open(table).unwrap().identity().hash();
        assert_eq!(hash(&with), hash(&without), "it changes no byte");
    }
    assert!(is_used(&folder, &nested(TABLE)));
}

#[test]
fn another_list_or_other_options_have_another_index() {
    let list = |folder: &Folder| folder.path("train.csv");
    let folder = kept();
    let time = list(&folder).metadata().unwrap().modified().unwrap();
    // Of the same size and time.
    fs::write(list(&folder), "a.png,dog\nb.png,cat\n").unwrap();
    touch(&list(&folder), time);
    assert!(!is_used(&folder, TABLE), "other content");

    let folder = kept();
    touch(&list(&folder), std::time::UNIX_EPOCH);
    assert!(!is_used(&folder, TABLE), "another time");

    let folder = kept();
    assert!(!is_used(&folder, &TABLE.replace("keep_index", "classes = ['cat', 'dog'], keep_index")), "other options");

    let with_file = TABLE.replace("keep_index", "classes_file = 'classes.txt', keep_index");
    let folder = kept().with("classes.txt", "cat\ndog\n");
    index(&folder, &with_file).unwrap();
    assert!(is_used(&folder, &with_file));
    let folder = folder.with("classes.txt", "dog\ncat\n");
    assert!(!is_used(&folder, &with_file), "other classes");
}

#[test]
fn a_file_that_is_cut_or_flipped_is_made_again() {
    let folder = kept();
    let (file, whole) = (folder.path(FILE), fs::read(folder.path(FILE)).unwrap());
    let expected = index(&folder, TABLE);
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        for bytes in [&flipped[..], &whole[..at]] {
            for index in [index, index_in_file] {
                fs::write(&file, bytes).unwrap();
                assert_eq!(index(&folder, TABLE), expected, "byte {at}");
                assert!(fs::read(&file).unwrap() == whole, "byte {at}");
            }
        }
    }
    fs::write(&file, [&whole[..], b"more"].concat()).unwrap();
    assert!(!is_used(&folder, TABLE));
}

#[test]
fn a_file_found_changed_or_a_wish_has_it_made_anew() {
    let folder = kept();
    fs::write(folder.path("images/b.png"), png(4, 4)).unwrap();
    let pipeline = folder.open(TABLE).unwrap();
    let fields = survey(&pipeline).unwrap();
    let error = Batch::fill(&pipeline, &fields, Position::default()).unwrap_err();
    assert!(folder.report(&error).starts_with("~/images/b.png has changed since"), "{}", folder.report(&error));
    assert!(!folder.path(FILE).exists());
    assert!(!is_used(&folder, TABLE));

    for table in [TABLE.to_owned(), format!("dataset = {{ kind = 'repeat', times = 2, {TABLE} }}")] {
        let folder = kept();
        let registry: Registry = batchmill_datasets::builtin();
        registry.forget_index(&folder.spec(&table).unwrap()).unwrap();
        assert!(!is_used(&folder, &table), "{table}");
    }
}

#[test]
fn where_it_cannot_be_kept_the_stream_opens_all_the_same() {
    let folder = Folder::new()
        .with("images/a.png", png(3, 2))
        .with("images/b.png", png(3, 2))
        .with("train.csv", "a.png,cat\nb.png,dog\n")
        .with("train.csv.index.partial/in the way", "");
    assert_eq!(folder.open(TABLE).map(|pipeline| pipeline.extent().samples).map_err(|error| report(&error)), Ok(2));
    assert!(!folder.path(FILE).exists());
}
