//! Datasets made of others: that each is what a list of its samples would be.

use batchmill_datasets::builtin;
use batchmill_datasets::dataset::MapDataset;
use batchmill_datasets::permutation::Permutation;
use batchmill_datasets::pipeline::Pipeline;
use batchmill_datasets::progress::Progress;
use batchmill_datasets::source::{Index, OpenError, Source};
use batchmill_protocol::position::Position;
use expect_test::{Expect, expect};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::rows::Rows;
use crate::support::{Batch, Folder, survey};

fn open(table: &str) -> Pipeline {
    Folder::new().open_by(&Rows::registry(), table).unwrap()
}

/// All samples of a dataset, by what `read` makes of a row.
fn all<T>(dataset: &str, read: impl Fn(&Batch, usize) -> T) -> Vec<T> {
    let pipeline = open(&format!("dataset = {dataset}\nbatch_size = 7"));
    let fields = survey(&pipeline).unwrap();
    let mut found = Vec::new();
    for step in 0..pipeline.extent().steps() {
        let batch = Batch::fill(&pipeline, &fields, Position { epoch: 0, step }).unwrap();
        found.extend((0..batch.rows.len()).map(|row| read(&batch, row)));
    }
    found
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(*bytes.first_chunk().unwrap())
}

/// The rows of a dataset; their names say the same.
fn rows(dataset: &str) -> Vec<u64> {
    all(dataset, |batch, row| {
        let found = number(&batch.rows[row][0]);
        assert_eq!(batch.attempts[row].1, format!("row {found}"));
        found
    })
}

/// A composition as it is drawn; what does not fit the length of what is within is made to.
#[derive(Clone, Debug)]
enum Tree {
    Rows(u64),
    Take(Box<Tree>, u64, u64),
    Repeat(Box<Tree>, u64),
    Range(Box<Tree>, u64, u64, u64),
    Indices(Box<Tree>, Vec<u64>),
    Fractions(Box<Tree>, usize, usize, u64),
    Lengths(Box<Tree>, u64, bool, u64),
    Concat(Vec<Tree>),
    Mix(Vec<(Tree, u32)>, bool),
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf = (1_u64..12).prop_map(Tree::Rows);
    leaf.prop_recursive(4, 24, 3, |inner| {
        let tree = inner.clone().prop_map(Box::new);
        prop_oneof![
            (tree.clone(), any::<u64>(), any::<u64>()).prop_map(|(tree, skip, len)| Tree::Take(tree, skip, len)),
            (tree.clone(), 1_u64..4).prop_map(|(tree, times)| Tree::Repeat(tree, times)),
            (tree.clone(), any::<u64>(), any::<u64>(), 1_u64..5)
                .prop_map(|(tree, lo, len, step)| Tree::Range(tree, lo, len, step)),
            (tree.clone(), vec(any::<u64>(), 1..10)).prop_map(|(tree, indices)| Tree::Indices(tree, indices)),
            (tree.clone(), 1_usize..5, any::<usize>(), 0_u64..1000)
                .prop_map(|(tree, parts, part, seed)| Tree::Fractions(tree, parts, part, seed)),
            (tree, any::<u64>(), any::<bool>(), 0_u64..1000)
                .prop_map(|(tree, first, second, seed)| Tree::Lengths(tree, first, second, seed)),
            vec(inner.clone(), 1..4).prop_map(Tree::Concat),
            (vec((inner, 1_u32..5), 1..4), any::<bool>()).prop_map(|(trees, all)| Tree::Mix(trees, all)),
        ]
    })
}

/// The dataset of a tree as it is written, and its rows as a list.
fn written(tree: &Tree, base: &mut u64) -> (String, Vec<u64>) {
    let below = |number: u64, len: usize| usize::try_from(number % (len as u64).max(1)).unwrap();
    match tree {
        Tree::Rows(len) => {
            let first = *base;
            *base += len;
            (format!("{{ kind = 'rows', base = {first}, len = {len} }}"), (first..first + len).collect())
        }
        Tree::Take(tree, skip, len) => {
            let (inner, rows) = written(tree, base);
            let skip = below(*skip, rows.len());
            let len = 1 + below(*len, rows.len() - skip);
            (
                format!("{{ kind = 'take', skip = {skip}, len = {len}, dataset = {inner} }}"),
                rows[skip..skip + len].into(),
            )
        }
        Tree::Repeat(tree, times) => {
            let (inner, rows) = written(tree, base);
            let again = rows.repeat(usize::try_from(*times).unwrap());
            (format!("{{ kind = 'repeat', times = {times}, dataset = {inner} }}"), again)
        }
        Tree::Range(tree, lo, len, step) => {
            let (inner, rows) = written(tree, base);
            let lo = below(*lo, rows.len());
            let hi = lo + 1 + below(*len, rows.len() - lo);
            let step = usize::try_from(*step).unwrap();
            let kept = rows[lo..hi].iter().step_by(step).copied().collect();
            (format!("{{ kind = 'subset', range = [{lo}, {hi}, {step}], dataset = {inner} }}"), kept)
        }
        Tree::Indices(tree, indices) => {
            let (inner, rows) = written(tree, base);
            let indices: Vec<_> = indices.iter().map(|&index| below(index, rows.len())).collect();
            let kept = indices.iter().map(|&index| rows[index]).collect();
            (format!("{{ kind = 'subset', indices = {indices:?}, dataset = {inner} }}"), kept)
        }
        Tree::Fractions(tree, parts, part, seed) => {
            let (inner, rows) = written(tree, base);
            let split = vec![1.0 / *parts as f64; *parts];
            // Equal fractions: each the quotient, and the remainder from the first on. Part 0 is never empty.
            let part = if rows.len() < *parts { 0 } else { part % parts };
            let size = |part| rows.len() / parts + usize::from(part < rows.len() % parts);
            let first = (0..part).map(size).sum();
            let text =
                format!("{{ kind = 'subset', split = {split:?}, part = {part}, seed = {seed}, dataset = {inner} }}");
            (text, dealt(&rows, *seed, first, size(part)))
        }
        Tree::Lengths(tree, first, second, seed) => {
            let (inner, rows) = written(tree, base);
            let first = below(*first, rows.len());
            let rest = rows.len() - first;
            let (part, kept) = if *second || first == 0 { (1, (first, rest)) } else { (0, (0, first)) };
            let text = format!(
                "{{ kind = 'subset', split = [{first}, {rest}], part = {part}, seed = {seed}, dataset = {inner} }}"
            );
            // A sum of 1 makes them fractions, of the same parts.
            (text, dealt(&rows, *seed, kept.0, kept.1))
        }
        Tree::Concat(trees) => {
            let parts: Vec<_> = trees.iter().map(|tree| written(tree, base)).collect();
            let texts: Vec<_> = parts.iter().map(|(text, _)| text.as_str()).collect();
            let text = format!("{{ kind = 'concat', datasets = [{}] }}", texts.join(", "));
            (text, parts.into_iter().flat_map(|(_, rows)| rows).collect())
        }
        Tree::Mix(trees, all) => {
            let parts: Vec<_> = trees.iter().map(|(tree, _)| written(tree, base)).collect();
            let texts: Vec<_> = parts.iter().map(|(text, _)| text.as_str()).collect();
            let weights: Vec<_> = trees.iter().map(|(_, weight)| *weight).collect();
            let until = if *all { "all-exhausted" } else { "first-exhausted" };
            let text = format!(
                "{{ kind = 'mix', weights = {weights:?}, until = '{until}', datasets = [{}] }}",
                texts.join(", ")
            );
            let rows: Vec<_> = parts.into_iter().map(|(_, rows)| rows).collect();
            (text, mixed(&rows, &weights, *all))
        }
    }
}

/// One part of a random split of `rows`.
fn dealt(rows: &[u64], seed: u64, first: usize, len: usize) -> Vec<u64> {
    let order = Permutation::new(rows.len() as u64, seed, u64::MAX - 16);
    (first..first + len).map(|place| rows[usize::try_from(order.index(place as u64)).unwrap()]).collect()
}

/// Lists in turns, one sample after the other: next is always the one whose turn was due first.
fn mixed(lists: &[Vec<u64>], weights: &[u32], all: bool) -> Vec<u64> {
    let mut had = vec![0_usize; lists.len()];
    let mut mixed = Vec::new();
    loop {
        let due = |list: &usize| (2.0 * had[*list] as f64 + 1.0) / f64::from(weights[*list]);
        // Of equal ones the first; the numbers are small, and their quotients differ by far more than a rounding.
        let next = (0..lists.len()).min_by(|one, other| {
            let (one, other) = (due(one), due(other));
            if (one - other).abs() < 1e-9 { std::cmp::Ordering::Equal } else { one.total_cmp(&other) }
        });
        let next = next.unwrap();
        if !all && had[next] == lists[next].len() {
            return mixed;
        }
        mixed.push(lists[next][had[next] % lists[next].len()]);
        had[next] += 1;
        if all && had.iter().zip(lists).all(|(had, list)| *had >= list.len()) {
            return mixed;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_composition_is_the_list_of_its_samples(tree in trees()) {
        let (text, list) = written(&tree, &mut 0);
        prop_assume!(!list.is_empty());
        prop_assert_eq!(rows(&text), list, "{}", text);
    }

    #[test]
    fn any_two_zipped_are_pairs((one, other) in (trees(), trees())) {
        let mut base = 0;
        let (one, other) = (written(&one, &mut base), written(&other, &mut base));
        let len = one.1.len().min(other.1.len());
        prop_assume!(len > 0);
        let cut = |text: &str| format!("{{ kind = 'take', len = {len}, dataset = {text} }}");
        let text = format!(
            "{{ kind = 'zip', prefixes = ['', 'other_'], datasets = [{}, {}] }}",
            cut(&one.0),
            cut(&other.0)
        );
        let found = all(&text, |batch, row| (number(&batch.rows[row][0]), number(&batch.rows[row][1])));
        let pairs: Vec<_> = one.1.into_iter().zip(other.1).collect();
        prop_assert_eq!(found, pairs, "{}", text);
    }

    #[test]
    fn the_parts_of_a_split_have_every_sample_once(len in 1_u64..200, weights in vec(1_u64..100, 1..6), seed in 0_u64..1000) {
        let sum = weights.iter().sum::<u64>() as f64;
        let split: Vec<_> = weights.iter().map(|&weight| weight as f64 / sum).collect();
        let mut seen = Vec::new();
        for part in 0..split.len() {
            let dataset = format!(
                "{{ kind = 'subset', split = {split:?}, part = {part}, seed = {seed}, dataset = {{ kind = 'rows', len = {len} }} }}"
            );
            match Folder::new().open_by(&Rows::registry(), &format!("dataset = {dataset}")) {
                Ok(_) => seen.extend(rows(&dataset)),
                Err(error) => prop_assert_eq!(error.to_string(), "dataset `subset` has no samples"),
            }
        }
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..len).collect::<Vec<_>>());
    }
}

#[test]
fn splits_are_what_they_always_were() {
    // Golden, from a second implementation in Python.
    let split =
        |options: &str| rows(&format!("{{ kind = 'subset', {options}, dataset = {{ kind = 'rows', len = 12 }} }}"));
    assert_eq!(split("split = [1.0], part = 0"), [6, 1, 11, 8, 3, 2, 0, 5, 9, 7, 10, 4]);
    assert_eq!(split("split = [8, 4], part = 1, seed = 5"), [6, 10, 2, 9]);
    assert_eq!(split("split = [0.7, 0.3], part = 0, seed = 5"), [11, 7, 5, 3, 1, 4, 0, 8, 6]);
    let dataset = "{ kind = 'synthetic', len = 1_000_000_000_000, shape = [1] }";
    let table = format!(
        "dataset = {{ kind = 'subset', split = [0.8, 0.2], part = 1, seed = 3, dataset = {dataset} }}\nbatch_size = 1"
    );
    let pipeline = open(&table);
    let extent = pipeline.extent();
    assert_eq!(extent.samples, 200_000_000_000);
    let name = |step| {
        let fields = survey(&pipeline).unwrap();
        Batch::fill(&pipeline, &fields, Position { epoch: 0, step }).unwrap().attempts[0].1.clone()
    };
    assert_eq!(name(0), "synthetic sample 373312849491");
    assert_eq!(name(199_999_999_999), "synthetic sample 567701597873");
}

#[test]
fn a_list_may_be_read_from_a_file() {
    let folder = Folder::new().with("indices.txt", "4\n\n0\n4\n");
    let table = "dataset = { kind = 'subset', file = 'indices.txt', dataset = { kind = 'rows', len = 5 } }";
    let pipeline = folder.open_by(&Rows::registry(), table).unwrap();
    let batch = Batch::fill(&pipeline, &survey(&pipeline).unwrap(), Position::default()).unwrap();
    assert_eq!(batch.rows.iter().map(|row| number(&row[0])).collect::<Vec<_>>(), [4, 0, 4]);
    let before = pipeline.identity().hash();
    let folder = folder.with("indices.txt", "4\n\n0\n3\n");
    assert_ne!(folder.open_by(&Rows::registry(), table).unwrap().identity().hash(), before);
}

#[test]
fn a_trillion_samples_need_no_list() {
    const MANY: u64 = 1_000_000_000_000;
    let synthetic = "{ kind = 'synthetic', len = 1_000_000_000_000, shape = [1] }";
    let two = format!("datasets = [{synthetic}, {synthetic}]");
    let twice = format!("{{ kind = 'concat', {two} }}");
    for (dataset, samples, last) in [
        (twice.clone(), 2 * MANY, MANY - 1),
        (format!("{{ kind = 'repeat', times = 300, dataset = {twice} }}"), 600 * MANY, MANY - 1),
        (
            format!("{{ kind = 'take', skip = 10, len = 1_999_999_999_900, dataset = {twice} }}"),
            2 * MANY - 100,
            MANY - 91,
        ),
        (
            format!("{{ kind = 'subset', range = [3, 1_000_000_000_000, 3], dataset = {synthetic} }}"),
            MANY / 3,
            MANY - 1,
        ),
        // Nine of the first for one of the second: the first ends within a period, behind its first place.
        (format!("{{ kind = 'mix', weights = [0.9, 0.1], {two} }}"), 1_111_111_111_111, MANY - 1),
        // The second has its turn at the sixth place of each.
        (format!("{{ kind = 'mix', weights = [9, 1], until = 'all-exhausted', {two} }}"), 9_999_999_999_996, MANY - 1),
    ] {
        let pipeline = open(&format!("dataset = {dataset}\nbatch_size = 1"));
        assert_eq!(pipeline.extent().samples, samples, "{dataset}");
        let position = Position { epoch: 0, step: samples - 1 };
        let batch = Batch::fill(&pipeline, &survey(&pipeline).unwrap(), position).unwrap();
        assert_eq!(batch.attempts[0].1, format!("synthetic sample {last}"), "{dataset}");
    }
}

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
