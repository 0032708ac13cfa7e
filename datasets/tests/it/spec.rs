//! The `[stream.NAME]` table: its defaults, and what wrong keys and values are told.

use std::collections::BTreeMap;
use std::path::PathBuf;

use batchmill_datasets::spec::{Component, OnBad, StreamSpec};
use batchmill_protocol::position::Tail;
use expect_test::{Expect, expect};

use crate::support::Folder;

const DATASET: &str = "dataset = { kind = 'idx', images = 'i', labels = 'l' }";

#[test]
fn a_table_has_defaults() {
    let spec = StreamSpec::from_table("test", DATASET.parse().unwrap(), "/data".as_ref()).unwrap();
    let expected = StreamSpec {
        name: "test".to_owned(),
        dataset: Component::new("idx").with("images", "i").with("labels", "l"),
        sampler: Component::new("sequential"),
        transforms: vec![],
        collate: BTreeMap::new(),
        fields: None,
        batch_size: 64,
        tail: Tail::Short,
        seed: 0,
        on_bad: OnBad::Fail,
        on_bad_limit: 0.1,
        cache: None,
        folder: PathBuf::from("/data"),
    };
    assert_eq!(spec, expected);
}

#[test]
fn a_table_says_it_all() {
    let table = format!(
        "{DATASET}
         sampler = 'shuffled'
         transforms = [{{ kind = 'resize', size = [3, 4] }}, 'invert']
         collate = {{ tokens = {{ kind = 'padded', max_len = 9 }}, boxes = 'ragged' }}
         fields = ['tokens', 'label']
         batch_size = 7
         tail = 'pad'
         seed = 42
         on_bad = 'mask'
         on_bad_limit = 1"
    );
    let spec = StreamSpec::from_table("test", table.parse().unwrap(), "/data".as_ref()).unwrap();
    assert_eq!(spec.sampler, Component::new("shuffled"));
    assert_eq!(spec.transforms, [Component::new("resize").with("size", vec![3, 4]), Component::new("invert")]);
    let rules = [("tokens", Component::new("padded").with("max_len", 9)), ("boxes", Component::new("ragged"))];
    assert_eq!(spec.collate, rules.map(|(field, rule)| (field.to_owned(), rule)).into());
    assert_eq!(spec.fields, Some(vec!["tokens".to_owned(), "label".to_owned()]));
    assert_eq!((spec.batch_size, spec.tail, spec.seed), (7, Tail::Pad, 42));
    assert_eq!((spec.on_bad, spec.on_bad_limit), (OnBad::Mask, 1.0));
    // Specs travel from the loader to its workers.
    let json = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<StreamSpec>(&json).unwrap(), spec);
}

fn refused(table: &str, expected: Expect) {
    let folder = Folder::new();
    let error = folder.spec(table).and_then(|spec| batchmill_datasets::builtin().check(&spec)).unwrap_err();
    expected.assert_eq(&format!("{}\nat {}", error, error.key.join(".")));
}

#[test]
fn wrong_tables_are_refused_by_key() {
    refused(
        "",
        expect![[r#"
        stream `train` needs the key `dataset`
        at "#]],
    );
    refused(
        "datset = 'idx'",
        expect![[r#"
        unknown key `datset` of stream `train`; did you mean `dataset`?
        at datset"#]],
    );
    refused(
        "dataset = 3",
        expect![[r#"
        a dataset is a name or a table with the key `kind`, not 3
        at dataset"#]],
    );
    refused(
        "dataset = { images = 'i' }",
        expect![[r#"
        a dataset is a name or a table with the key `kind`, not { images = "i" }
        at dataset"#]],
    );
    refused(
        "dataset = { kind = 3 }",
        expect![[r#"
        a dataset is a name or a table with the key `kind`, not a table whose `kind` is 3
        at dataset"#]],
    );
    refused(
        "dataset = 'image-folder-cvs'",
        expect![[r#"
        unknown dataset `image-folder-cvs`; did you mean `image-folder-csv`?
        at dataset.kind"#]],
    );
    refused(
        "dataset = 'tar'",
        expect![[r#"
            unknown dataset `tar`; there are `cifar10`, `cifar100`, `concat`, `csv-rows`, `csv-table`, `emnist`, `fashion-mnist`, `idx`, `image-folder`, `image-folder-csv`, `jsonl`, `kmnist`, `mix`, `mnist`, `npy`, `npz`, `parquet`, `repeat`, `subset`, `synthetic`, `take`, `tar-shards`, `zip`
            at dataset.kind"#]],
    );
    let refused = |line: &str, expected| refused(&format!("{DATASET}\n{line}"), expected);
    refused(
        "batch-size = 3",
        expect![[r#"
        unknown key `batch-size` of stream `train`; did you mean `batch_size`?
        at batch-size"#]],
    );
    refused(
        "batch_size = 0",
        expect![[r#"
        stream `train`: `batch_size` is 0, not an integer from 1 to 16777216
        at batch_size"#]],
    );
    refused(
        "batch_size = '64'",
        expect![[r#"
        stream `train`: `batch_size` is "64", not an integer from 1 to 16777216
        at batch_size"#]],
    );
    refused(
        "sampler = 'random'",
        expect![[r#"
        unknown sampler `random`; there are `batch-by-length`, `class-balanced`, `from-file`, `sequential`, `shuffled`, `subset`, `weighted`, `with-replacement`
        at sampler.kind"#]],
    );
    refused(
        "sampler = 'shuffle'",
        expect![[r#"
        unknown sampler `shuffle`; did you mean `shuffled`?
        at sampler.kind"#]],
    );
    refused(
        "sampler = { kind = 'shuffled', seed = 3 }",
        expect![[r#"
        unknown key `seed` of sampler `shuffled`; there are `samples`, `window`, `lanes`, `block`
        at sampler.seed"#]],
    );
    refused(
        "transforms = 'resize'",
        expect![[r#"
        stream `train`: `transforms` is "resize", not a list
        at transforms"#]],
    );
    refused(
        "transforms = ['color']",
        expect![[r#"
        transform `color` needs the key `mode`
        at transforms.0"#]],
    );
    refused(
        "transforms = [{ kind = 'resize', size = 4 }, { kind = 'center-crop', size = 0 }]",
        expect![[r#"
        transform `center-crop`: `size` is 0, not an integer from 1 to 65535 or [height, width]
        at transforms.1.size"#]],
    );
    refused(
        "transforms = [{ kind = 'centercrop', size = 3 }]",
        expect![[r#"
        unknown transform `centercrop`; did you mean `center-crop`?
        at transforms.0.kind"#]],
    );
    refused(
        "tail = 'padding'",
        expect![[r#"
        stream `train`: `tail` is "padding", not `short` or `drop` or `pad`
        at tail"#]],
    );
    refused(
        "tail = 'dorp'",
        expect![[r#"
        stream `train`: `tail` is "dorp", not `short` or `drop` or `pad`; did you mean `drop`?
        at tail"#]],
    );
    refused(
        "seed = -1",
        expect![[r#"
        stream `train`: `seed` is -1, not an integer from 0 to 9223372036854775807
        at seed"#]],
    );
    refused(
        "on_bad = 'skip'",
        expect![[r#"
        stream `train`: `on_bad` is "skip", not `fail` or `substitute` or `mask`
        at on_bad"#]],
    );
    refused(
        "on_bad_limit = 10",
        expect![[r#"
        stream `train`: `on_bad_limit` is 10, not a number from 0 to 1
        at on_bad_limit"#]],
    );
    refused(
        "on_bad_limit = nan",
        expect![[r#"
        stream `train`: `on_bad_limit` is nan, not a number from 0 to 1
        at on_bad_limit"#]],
    );
}
