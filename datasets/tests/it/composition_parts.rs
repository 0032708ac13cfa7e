//! Datasets made of others: what of the parts is told of the whole, and what cannot be made.

use batchmill_datasets::builtin;
use batchmill_datasets::dataset::MapDataset;
use batchmill_datasets::progress::Progress;
use batchmill_datasets::source::{Index, OpenError, Source};
use batchmill_protocol::position::Position;
use expect_test::{Expect, expect};

use crate::composition::{number, open};
use crate::rows::Rows;
use crate::support::{Batch, Folder, survey};

/// What a pipeline of shards becomes: blocks whose lanes tell the shards.
fn runs(dataset: &str) -> Vec<u64> {
    // One lane and blocks of one record: runs of ascending rows are shards, in whatever order.
    let pipeline = open(&format!(
        "dataset = {dataset}\nsampler = {{ kind = 'shuffled', lanes = 1, block = 1 }}\nbatch_size = 10000"
    ));
    let batch = Batch::fill(&pipeline, &survey(&pipeline).unwrap(), Position::default()).unwrap();
    let order: Vec<_> = batch.order().into_iter().map(|(index, _)| index).collect();
    let mut runs: Vec<_> = order.chunk_by(|one, next| one + 1 == *next).map(|run| (run[0], run.len() as u64)).collect();
    runs.sort_unstable();
    runs.into_iter().map(|(_, len)| len).collect()
}

#[test]
fn shards_are_kept_where_the_order_is() {
    let rows = "{ kind = 'rows', len = 300, shards = [100, 0, 150, 50] }";
    assert_eq!(runs(rows), [100, 150, 50]);
    assert_eq!(runs(&format!("{{ kind = 'take', skip = 90, len = 200, dataset = {rows} }}")), [10, 150, 40]);
    assert_eq!(runs(&format!("{{ kind = 'subset', range = [100, 250], dataset = {rows} }}")), [150]);
    assert_eq!(runs(&format!("{{ kind = 'repeat', times = 2, dataset = {rows} }}")), [100, 150, 50, 100, 150, 50]);
    assert_eq!(
        runs(&format!("{{ kind = 'zip', prefixes = ['', 'b'], datasets = [{{ kind = 'rows', len = 300 }}, {rows}] }}")),
        [100, 150, 50]
    );
    // What lies in no order is not read as one long shard.
    let plain = "{ kind = 'rows', len = 2500 }";
    assert_eq!(runs(&format!("{{ kind = 'concat', datasets = [{rows}, {plain}] }}")), [100, 150, 50, 1024, 1024, 452]);
    for other in [
        format!("{{ kind = 'subset', range = [0, 300, 2], dataset = {rows} }}"),
        format!("{{ kind = 'subset', split = [0.5, 0.5], part = 0, dataset = {rows} }}"),
        format!("{{ kind = 'mix', datasets = [{rows}, {rows}] }}"),
        format!("{{ kind = 'repeat', times = 1_000_000, dataset = {rows} }}"),
        format!("{{ kind = 'concat', datasets = [{plain}, {plain}] }}"),
    ] {
        let table = format!("dataset = {other}\nsampler = {{ kind = 'shuffled', lanes = 1 }}");
        let error = Folder::new().open_by(&Rows::registry(), &table).unwrap_err().to_string();
        assert!(error.contains("do not; leave it out"), "{other}: {error}");
    }
}

#[test]
fn numbers_are_those_of_the_samples() {
    // Of each dataset's rows only one weighs anything, so that it is the only one drawn.
    let drawn = |dataset: &str, column: &str| {
        let sampler = format!("{{ kind = 'weighted', column = '{column}', samples = 5 }}");
        let pipeline = open(&format!("dataset = {dataset}\nsampler = {sampler}"));
        let batch = Batch::fill(&pipeline, &survey(&pipeline).unwrap(), Position::default()).unwrap();
        let mut found: Vec<_> = batch.rows.iter().map(|row| number(&row[row.len() - 1])).collect();
        found.dedup();
        found
    };
    let none = "{ kind = 'rows', len = 4, weight = [0, 0, 0, 0] }";
    let one = "{ kind = 'rows', len = 4, weight = [0, 0, 1, 0], base = 10 }";
    assert_eq!(drawn(one, "weight"), [12]);
    assert_eq!(drawn(&format!("{{ kind = 'subset', indices = [3, 2], dataset = {one} }}"), "weight"), [12]);
    assert_eq!(drawn(&format!("{{ kind = 'subset', split = [1.0], part = 0, dataset = {one} }}"), "weight"), [12]);
    assert_eq!(drawn(&format!("{{ kind = 'concat', datasets = [{none}, {one}] }}"), "weight"), [12]);
    assert_eq!(drawn(&format!("{{ kind = 'mix', datasets = [{none}, {one}] }}"), "weight"), [12]);
    assert_eq!(drawn(&format!("{{ kind = 'repeat', times = 2, dataset = {one} }}"), "weight"), [12]);
    let zipped = format!("{{ kind = 'zip', prefixes = ['a_', 'b_'], datasets = [{none}, {one}] }}");
    assert_eq!(drawn(&zipped, "b_weight"), [12]);
    let untold = format!("dataset = {zipped}\nsampler = {{ kind = 'weighted', column = 'weight' }}");
    let error = Folder::new().open_by(&Rows::registry(), &untold).unwrap_err().to_string();
    assert!(
        error.contains("`column` is `weight`, but the dataset does not tell that number of row 0 with row 10"),
        "{error}"
    );
}

/// A dataset that is fetched under its name, and not opened here.
struct Lacking(String);

impl Source for Lacking {
    fn prepare(&self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), OpenError> {
        progress(Progress::Fetched { file: &self.0, bytes: 1 });
        Ok(())
    }

    fn open(self: Box<Self>, _: Index) -> Result<Box<dyn MapDataset>, OpenError> {
        Err(OpenError::other("not to be opened", None))
    }
}

#[test]
fn what_the_parts_lack_is_fetched() {
    let registry = builtin().dataset("lacking", |options| Ok(Lacking(options.string("file")?)));
    let [a, b, c] = ["a", "b", "c"].map(|file| format!("{{ kind = 'lacking', file = '{file}' }}"));
    let take = format!("{{ kind = 'take', len = 1, dataset = {a} }}");
    let subset = format!("{{ kind = 'subset', range = [0, 1], dataset = {b} }}");
    let concat = format!("{{ kind = 'concat', datasets = [{take}, {subset}] }}");
    let repeat = format!("{{ kind = 'repeat', times = 2, dataset = {c} }}");
    let mix = format!("{{ kind = 'mix', datasets = [{concat}, {repeat}] }}");
    let spec = Folder::new().spec(&format!("dataset = {{ kind = 'zip', datasets = [{mix}, {a}] }}")).unwrap();
    let mut fetched = Vec::new();
    registry.prepare(&spec, &mut |progress| fetched.push(progress.to_string())).unwrap();
    let files: Vec<_> = fetched.iter().map(|line| line.split([' ', ':']).nth(1).unwrap()).collect();
    assert_eq!(files, ["a", "b", "c", "a"], "{fetched:?}");
}

#[test]
fn classes_are_those_of_the_parts() {
    let named = "{ kind = 'rows', len = 3, classes = ['ant', 'bee'] }";
    let plain = "{ kind = 'rows', len = 3 }";
    let classes = |dataset: &str| open(&format!("dataset = {dataset}")).classes().to_vec();
    assert_eq!(classes(&format!("{{ kind = 'take', len = 1, dataset = {named} }}")), ["ant", "bee"]);
    assert_eq!(classes(&format!("{{ kind = 'concat', datasets = [{named}, {named}] }}")), ["ant", "bee"]);
    assert_eq!(
        classes(&format!("{{ kind = 'zip', prefixes = ['a', ''], datasets = [{plain}, {named}] }}")),
        ["ant", "bee"]
    );
    assert!(classes(&format!("{{ kind = 'mix', datasets = [{plain}, {plain}] }}")).is_empty());
}

#[test]
fn the_identity_tells_what_data_it_is() {
    let dataset = "{ kind = 'take', len = 1, dataset = { kind = 'concat', datasets = [{ kind = 'rows', len = 3 }, { kind = 'rows', len = 4 }] } }";
    let identity = open(&format!("dataset = {dataset}")).identity();
    let data = &identity.parts.iter().find(|(name, _)| name == "data").unwrap().1;
    assert!(data.ends_with(", 1 sample of 7 samples of 3 samples and 4 samples"), "{data}");
}

#[test]
fn a_broken_sample_is_named_wherever_it_is() {
    let broken = "{ kind = 'rows', len = 3, base = 5, broken = true }";
    let failure = |dataset: &str| {
        let pipeline = open(&format!("dataset = {dataset}"));
        let fields = survey(&pipeline).unwrap();
        Batch::fill(&pipeline, &fields, Position::default()).unwrap_err().to_string()
    };
    assert_eq!(
        failure(&format!("{{ kind = 'concat', datasets = [{{ kind = 'rows', len = 2 }}, {broken}] }}")),
        "row 7: is not there"
    );
    assert_eq!(failure(&format!("{{ kind = 'repeat', times = 2, dataset = {broken} }}")), "row 7: is not there");
    assert_eq!(
        failure(&format!(
            "{{ kind = 'zip', prefixes = ['', 'b'], datasets = [{{ kind = 'rows', len = 3 }}, {broken}] }}"
        )),
        "row 7: is not there"
    );
}

#[test]
fn fields_of_one_name_are_not_mixed_up() {
    let rows = "{ kind = 'rows', len = 3 }";
    let pipeline = open(&format!("dataset = {{ kind = 'zip', datasets = [{rows}, {rows}] }}"));
    let error = survey(&pipeline).unwrap_err().to_string();
    expect![[r#"row 0 with row 0: dataset 2 has a field `row`, as one before it has; tell them apart by `prefixes`, such as ["", "other_"]"#]]
        .assert_eq(&error);
    let pipeline =
        open(&format!("dataset = {{ kind = 'zip', prefixes = ['left_', 'right_'], datasets = [{rows}, {rows}] }}"));
    let fields = survey(&pipeline).unwrap();
    assert_eq!(fields.iter().map(ToString::to_string).collect::<Vec<_>>(), ["left_row: i64 []", "right_row: i64 []"]);
    let batch = Batch::fill(&pipeline, &fields, Position::default()).unwrap();
    assert_eq!(batch.attempts[2].1, "row 2 with row 2");
}

fn refused(dataset: &str, expected: Expect) {
    let folder = Folder::new();
    let text = match folder.open_by(&Rows::registry(), &format!("dataset = {dataset}")) {
        Err(OpenError::Spec(error)) => format!("{error}\nat {}", error.key.join(".")),
        other => panic!("{other:?}"),
    };
    expected.assert_eq(&text);
}

#[test]
fn what_cannot_be_made_is_refused() {
    let rows = "dataset = { kind = 'rows', len = 5 }";
    let refused_over = |options: &str, expected| refused(&format!("{{ {options}, {rows} }}"), expected);
    refused(
        "'take'",
        expect![[r#"
        dataset `take` needs the key `dataset`
        at dataset"#]],
    );
    refused(
        "{ kind = 'take', dataset = { kind = 'rows' }, len = 3 }",
        expect![[r#"
        dataset `rows` needs the key `len`
        at dataset.dataset"#]],
    );
    refused(
        "{ kind = 'concat', datasets = [{ kind = 'rows', len = 3 }, { kind = 'rowss', len = 3 }] }",
        expect![[r#"
        unknown dataset `rowss`; did you mean `rows`?
        at dataset.datasets.1.kind"#]],
    );
    refused(
        "{ kind = 'concat', datasets = [] }",
        expect![[r#"
        dataset `concat`: `datasets` is [], not a list of datasets
        at dataset.datasets"#]],
    );
    refused_over(
        "kind = 'take', len = 0",
        expect![[r#"
        dataset `take`: `len` is 0, not an integer from 1 to 1000000000000000
        at dataset.len"#]],
    );
    refused_over(
        "kind = 'take', len = 6",
        expect![[r#"
        dataset `take`: `len` is 6, but the dataset has 5 samples
        at dataset.len"#]],
    );
    refused_over(
        "kind = 'take', len = 3, skip = 3",
        expect![[r#"
        dataset `take`: `len` is 3 behind 3 that are skipped, but the dataset has 5 samples
        at dataset.len"#]],
    );
    refused_over(
        "kind = 'repeat', times = 0",
        expect![[r#"
        dataset `repeat`: `times` is 0, not an integer from 1 to 1000000000000000
        at dataset.times"#]],
    );
    refused_over(
        "kind = 'repeat', times = 1_000_000_000_000_000",
        expect![[r#"
        dataset `repeat`: `times` makes 5000000000000000 samples, more than 1000000000000000
        at dataset.times"#]],
    );
    refused_over(
        "kind = 'subset'",
        expect![[r#"
        dataset `subset`: `indices` or one of `range`, `file` and `split` is needed
        at dataset.indices"#]],
    );
    refused_over(
        "kind = 'subset', rnage = [1, 2]",
        expect![[r#"
        unknown key `rnage` of dataset `subset`; did you mean `range`?
        at dataset.rnage"#]],
    );
    refused_over(
        "kind = 'subset', range = [1, 6]",
        expect![[r#"
        dataset `subset`: `range` ends at 6, but the dataset has 5 samples
        at dataset.range"#]],
    );
    refused_over(
        "kind = 'subset', indices = [0, 7, 2]",
        expect![[r#"
        dataset `subset`: `indices` names sample 7, but the dataset has 5 samples
        at dataset.indices"#]],
    );
    refused_over(
        "kind = 'subset', indices = [1], split = [1], part = 0",
        expect![[r#"
        dataset `subset`: `indices` stands beside `split`; give one of them
        at dataset.indices"#]],
    );
    refused_over(
        "kind = 'subset', split = [0.5, 0.4], part = 0",
        expect![[r#"
        dataset `subset`: `split` is [0.5, 0.4], not a list of fractions that add up to 1, or of lengths
        at dataset.split"#]],
    );
    refused_over(
        "kind = 'subset', split = [1.5, -0.5], part = 0",
        expect![[r#"
        dataset `subset`: `split` is [1.5, -0.5], not a list of fractions that add up to 1, or of lengths
        at dataset.split"#]],
    );
    refused_over(
        "kind = 'subset', split = [nan], part = 0",
        expect![[r#"
        dataset `subset`: `split` is [nan], not a list of fractions that add up to 1, or of lengths
        at dataset.split"#]],
    );
    refused_over(
        "kind = 'subset', split = [2, 2], part = 0",
        expect![[r#"
        dataset `subset`: `split` adds up to 4, but the dataset has 5 samples
        at dataset.split"#]],
    );
    refused_over(
        "kind = 'subset', split = [0.5, 0.5]",
        expect![[r#"
        dataset `subset` needs the key `part`
        at dataset"#]],
    );
    refused_over(
        "kind = 'subset', split = [0.5, 0.5], part = 2",
        expect![[r#"
        dataset `subset`: `part` is 2, not an integer from 0 to 1
        at dataset.part"#]],
    );
    refused_over(
        "kind = 'subset', split = [], part = 0",
        expect![[r#"
        dataset `subset`: `split` is [], not a list of fractions that add up to 1, or of lengths
        at dataset.split"#]],
    );
    let two = |options: &str, one: &str, other: &str, expected| {
        let datasets = format!("datasets = [{{ kind = 'rows', {one} }}, {{ kind = 'rows', {other} }}]");
        refused(&format!("{{ {options}, {datasets} }}"), expected);
    };
    two(
        "kind = 'concat'",
        "len = 3, classes = ['a', 'b']",
        "len = 3, classes = ['b', 'a']",
        expect![[r#"
        dataset `concat`: `datasets` do not fit together: in dataset 2 the class 0 is `b`, which in the first is `a`; labels must mean the same in all: give them one list of `classes`
        at dataset.datasets"#]],
    );
    two(
        "kind = 'mix'",
        "len = 3, classes = ['a', 'b']",
        "len = 3",
        expect![[r#"
        dataset `mix`: `datasets` do not fit together: in dataset 2 there are 0 classes, but 2 in the first; labels must mean the same in all: give them one list of `classes`
        at dataset.datasets"#]],
    );
    two(
        "kind = 'mix', weights = [1]",
        "len = 3",
        "len = 3",
        expect![[r#"
        dataset `mix`: `weights` is a list of 1 for 2 datasets
        at dataset.weights"#]],
    );
    two(
        "kind = 'mix', weights = [1, 0]",
        "len = 3",
        "len = 3",
        expect![[r#"
        dataset `mix`: `weights` is [1, 0], not a list of numbers above 0
        at dataset.weights"#]],
    );
    two(
        "kind = 'mix', weights = [1, 1_000_000]",
        "len = 3",
        "len = 3",
        expect![[r#"
        dataset `mix`: `weights` is [1, 1000000], which are no multiples of one share of at least 1/65536 of their sum; round them
        at dataset.weights"#]],
    );
    two(
        "kind = 'mix', until = 'exhausted'",
        "len = 3",
        "len = 3",
        expect![[r#"
        dataset `mix`: `until` is "exhausted", not `first-exhausted` or `all-exhausted`; did you mean `all-exhausted`?
        at dataset.until"#]],
    );
    two(
        "kind = 'mix'",
        "len = 3",
        "len = 0",
        expect![[r#"
        dataset `mix`: `datasets` cannot be mixed: dataset 2 has no samples
        at dataset.datasets"#]],
    );
    two(
        "kind = 'mix', weights = [1, 65000], until = 'all-exhausted'",
        "len = 1_000_000_000_000",
        "len = 1",
        expect![[r#"
        dataset `mix`: `datasets` makes 65000999999967500 samples, more than 1000000000000000
        at dataset.datasets"#]],
    );
    two(
        "kind = 'zip'",
        "len = 3",
        "len = 4",
        expect![[r#"
        dataset `zip`: `datasets` must be of one length: dataset 2 has 4 samples, the first has 3
        at dataset.datasets"#]],
    );
    two(
        "kind = 'zip', prefixes = ['a']",
        "len = 3",
        "len = 3",
        expect![[r#"
        dataset `zip`: `prefixes` is a list of 1 for 2 datasets
        at dataset.prefixes"#]],
    );
}
