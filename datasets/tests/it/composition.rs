//! Datasets made of others: that each is what a list of its samples would be.

use batchmill_datasets::permutation::Permutation;
use batchmill_datasets::pipeline::Pipeline;
use batchmill_protocol::position::Position;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::rows::Rows;
use crate::support::{Batch, Folder, survey};

pub(crate) fn open(table: &str) -> Pipeline {
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

pub(crate) fn number(bytes: &[u8]) -> u64 {
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
