//! What a stream's content follows from: every part counts, and nothing else does.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use batchmill_datasets::builtin;
use batchmill_datasets::identity::Identity;
use batchmill_datasets::spec::StreamSpec;
use expect_test::expect;

use crate::support::{Folder, png, touch};

const TABLE: &str = "
    dataset = { kind = 'image-folder-csv', labels = 'train.csv', images = 'images' }
    sampler = 'shuffled'
    transforms = [{ kind = 'resize', size = [3, 4] }, { kind = 'color', mode = 'gray' }]
    collate = { label = { kind = 'ragged', max_len = 3 } }
    fields = ['image', 'label']
    batch_size = 1
    tail = 'drop'
    seed = 7
    on_bad = 'mask'";

/// 2023-11-14T22:13:20Z.
fn time() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

/// Two images of the same age, and a list of one row for a different `labels`.
fn folder() -> Folder {
    let folder = Folder::new()
        .with("images/a.png", png(3, 2))
        .with("images/sub/b.png", png(5, 4))
        .with("train.csv", "a.png,1\nsub/b.png,0\n");
    for name in ["images/a.png", "images/sub/b.png"] {
        touch(&folder.path(name), time());
    }
    folder
}

fn identity(folder: &Folder, table: &str) -> Identity {
    folder.open(table).unwrap().identity()
}

/// The names of the parts in which two identities differ; the hashes differ exactly when one does.
fn differing(left: &Identity, right: &Identity) -> Vec<String> {
    assert_eq!(left.parts.len(), right.parts.len());
    let pairs = left.parts.iter().zip(&right.parts);
    let names: Vec<_> = pairs.filter(|(left, right)| left != right).map(|(left, _)| left.0.clone()).collect();
    assert_eq!(names.is_empty(), left.hash() == right.hash(), "{left:#?} {right:#?}");
    names
}

#[test]
fn an_identity_can_be_read() {
    let identity = identity(&folder(), TABLE);
    let text: String = identity.parts.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    let decoder = if cfg!(feature = "turbojpeg") { "libjpeg-turbo" } else { "zune-jpeg" };
    let sizes = png(3, 2).len() + png(5, 4).len();
    expect![[r#"
        dataset: image-folder-csv {images = "images", labels = "train.csv"}
        sampler: shuffled
        transforms: [resize {size = [3, 4]}, color {mode = "gray"}]
        collate: ["label": ragged {max_len = 3}]
        fields: ["image", "label"]
        batch_size: 1
        tail: drop
        seed: 7
        on_bad: mask
        decoder: DECODER, version 3
        data: HASH, 2 files, SIZE B, newest a.png of 2023-11-14T22:13:20Z
    "#]]
    .assert_eq(
        &text
            .replace(decoder, "DECODER")
            .replace(&format!("{sizes} B"), "SIZE B")
            .replace(&identity.parts[10].1[..32], "HASH"),
    );
    assert_eq!(identity.hash().len(), 32);
}

#[test]
fn every_key_is_a_part_of_its_own() {
    let folder = folder().with("other.csv", "a.png,1\nsub/b.png,0\n");
    let first = identity(&folder, TABLE);
    let differing = |from: &str, to: &str| {
        assert!(TABLE.contains(from), "{from}");
        differing(&first, &identity(&folder, &TABLE.replace(from, to)))
    };
    assert_eq!(differing("shuffled", "sequential"), ["sampler"]);
    assert_eq!(differing("[3, 4]", "[4, 3]"), ["transforms"]);
    assert_eq!(differing(", { kind = 'color', mode = 'gray' }", ""), ["transforms"]);
    assert_eq!(differing("max_len = 3", "max_len = 4"), ["collate"]);
    assert_eq!(differing("label = { kind = 'ragged'", "image = { kind = 'ragged'"), ["collate"]);
    assert_eq!(differing("fields = ['image', 'label']", ""), ["fields"]);
    assert_eq!(differing("['image', 'label']", "['label', 'image']"), ["fields"]);
    assert_eq!(differing("batch_size = 1", "batch_size = 2"), ["batch_size"]);
    assert_eq!(differing("'drop'", "'pad'"), ["tail"]);
    assert_eq!(differing("seed = 7", "seed = 8"), ["seed"]);
    assert_eq!(differing("'mask'", "'substitute'"), ["on_bad"]);
    assert_eq!(differing("'mask'", "'fail'"), ["on_bad"]);
    // The same content under another name is data of the same hash.
    assert_eq!(differing("train.csv", "other.csv"), ["dataset"]);
    assert_eq!(differing("images = 'images'", "images = './images'"), ["dataset"]);
    // The same table, written otherwise, or with what changes no byte.
    assert!(differing("'shuffled'", "{ kind = 'shuffled' }").is_empty());
    assert!(differing("labels = 'train.csv', images = 'images'", "images = 'images', labels = 'train.csv'").is_empty());
    assert!(differing("on_bad = 'mask'", "on_bad = 'mask'\non_bad_limit = 0.5").is_empty());
}

#[test]
fn name_and_folder_are_no_part() {
    let (first, second) = (folder(), folder());
    assert!(differing(&identity(&first, TABLE), &identity(&second, TABLE)).is_empty());
    let spec = StreamSpec::from_table("other", TABLE.parse().unwrap(), &second.path("")).unwrap();
    let registry = builtin();
    let renamed = registry.pipeline(&spec).unwrap().identity();
    assert!(differing(&identity(&first, TABLE), &renamed).is_empty());
}

#[test]
fn what_was_done_to_the_data_is_seen() {
    let first = identity(&folder(), TABLE);
    let data = |change: &dyn Fn(&Folder)| {
        let folder = folder();
        change(&folder);
        let changed = identity(&folder, TABLE);
        assert_eq!(differing(&first, &changed), ["data"]);
        changed.parts[10].1[34..].to_owned()
    };
    let csv = |folder: &Folder, text: &str| fs::write(folder.path("train.csv"), text).unwrap();
    // Another label, another order, a row less: the hash alone tells, or the number of files.
    let summary = &first.parts[10].1[34..];
    assert_eq!(data(&|folder| csv(folder, "a.png,0\nsub/b.png,1\n")), summary);
    assert!(data(&|folder| csv(folder, "sub/b.png,0\na.png,1\n")).contains("newest sub/b.png of 2023-11-14T22:13:20Z"));
    assert!(data(&|folder| csv(folder, "a.png,1\n")).starts_with("1 file, "));
    // A file edited in its place, with its size kept, is named.
    let later = time() + Duration::from_millis(1500);
    assert!(
        data(&|folder| touch(&folder.path("images/sub/b.png"), later))
            .ends_with("newest sub/b.png of 2023-11-14T22:13:21.5Z")
    );
    // One of the same age and another size.
    let shorter = data(&|folder| {
        let file = folder.path("images/sub/b.png");
        fs::write(&file, "short").unwrap();
        touch(&file, time());
    });
    let bytes = png(3, 2).len() + "short".len();
    assert_eq!(shorter, format!("2 files, {bytes} B, newest a.png of 2023-11-14T22:13:20Z"));
}

#[test]
fn a_dataset_of_which_nothing_is_known_tells_its_length() {
    let data = |len: u64| {
        let table = format!("dataset = {{ kind = 'synthetic', len = {len} }}");
        identity(&Folder::new(), &table).parts[10].1.clone()
    };
    // The first is the XXH3-128 of nothing.
    assert_eq!(data(1000), "99aa06d3014798d86001c324468d497f, 1000 samples");
    assert_eq!(data(1), "99aa06d3014798d86001c324468d497f, 1 sample");
}

#[test]
fn the_hash_is_what_it_always_was() {
    let hash = |parts: &[(&str, &str)]| {
        let parts = parts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Identity { parts }.hash()
    };
    // Golden: checkpoints keep it.
    expect!["cc92d69eb6ff691e33cfb8408859c481"].assert_eq(&hash(&[("seed", "7"), ("tail", "drop")]));
    // No text runs into its neighbour.
    let hashes = [
        hash(&[("ab", "c")]),
        hash(&[("a", "bc")]),
        hash(&[("", "abc")]),
        hash(&[("a", "b"), ("c", "")]),
        hash(&[("a", "b"), ("", "c")]),
    ];
    let mut sorted = hashes.to_vec();
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted.len(), hashes.len());
}
