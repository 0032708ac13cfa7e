//! The table of `src/pytorch.rs`: every public name of PyTorch's and torchvision's has a row, and what it names is here.

use std::collections::BTreeSet;

use super::report;

const PAGE: &str = include_str!("../../../src/pytorch.rs");

const MODULES: [&str; 3] = ["torch.utils.data", "torchvision.datasets", "torchvision.transforms.v2"];

/// One row: the names of theirs that it is about, what it says of ours, and how the two compare.
#[derive(Debug)]
struct Row {
    there: Vec<&'static str>,
    here: &'static str,
    how: &'static str,
}

/// The cells of the table under the heading `# name`, row by row.
fn table(name: &str) -> impl Iterator<Item = Vec<&'static str>> {
    let lines = PAGE.lines().filter_map(|line| line.strip_prefix("//!")).map(str::trim);
    let section = lines.skip_while(move |line| *line != format!("# {name}")).skip(1);
    let rows = section.take_while(|line| !line.starts_with("# ")).filter(|line| line.starts_with('|'));
    // Behind the head and the line below it.
    rows.skip(2).map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect())
}

fn rows(module: &str) -> Vec<Row> {
    let row = |cells: Vec<&'static str>| match cells[..] {
        [there, here, how] => Row { there: words(there), here, how },
        _ => panic!("{cells:?}"),
    };
    table(module).map(row).collect()
}

/// What stands in backticks.
fn words(text: &'static str) -> Vec<&'static str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Kinds are the only words in backticks that are all lower case and hyphens.
fn kinds(text: &'static str) -> impl Iterator<Item = &'static str> {
    let is_kind =
        |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    words(text).into_iter().filter(is_kind)
}

#[test]
fn every_class_of_pytorch_has_a_row() {
    for (module, names) in report("names").as_object().unwrap() {
        let mut there: Vec<_> = rows(module).into_iter().flat_map(|row| row.there).collect();
        there.sort_unstable();
        let names: Vec<_> = names.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(there, names, "{module}");
    }
}

#[test]
fn every_row_says_how_the_two_compare() {
    for module in MODULES {
        for row in rows(module) {
            let verdict = row.how.split([':', ' ']).next().unwrap();
            assert!(["same", "renamed", "differs", "missing"].contains(&verdict), "{row:?}");
            assert_eq!(verdict == "missing", row.here == "-", "{row:?}");
            assert!(verdict == "same" || verdict == "renamed" || row.how.contains(": "), "{row:?} does not say why");
        }
    }
}

#[test]
fn every_kind_is_on_the_page_and_no_other() {
    let registered = format!("{:?}", batchmill_datasets::builtin());
    let registered: BTreeSet<_> = registered.split('"').skip(1).step_by(2).collect();
    let only_here = table("Only here").map(|cells| cells[0]);
    let here = MODULES.into_iter().flat_map(rows).map(|row| row.here).chain(only_here);
    let is_built = |kind: &&str| cfg!(feature = "parquet") || *kind != "parquet";
    let named: BTreeSet<_> = here.flat_map(kinds).filter(is_built).collect();
    assert_eq!(named.difference(&registered).copied().collect::<Vec<_>>(), [""; 0], "not registered");
    assert_eq!(registered.difference(&named).copied().collect::<Vec<_>>(), [""; 0], "not on the page");
}
