//! Samplers that cannot be: what is said of each.

use expect_test::{Expect, expect};

use crate::rows::Rows;
use crate::samplers::table;
use crate::support::Folder;

fn refused(dataset: &str, sampler: &str, expected: Expect) {
    let folder = Folder::new().with("bad.txt", "3\n-1\n").with("empty.txt", "\n\n").with("long.txt", [b'7'; 100_000]);
    let error = folder.open_by(&Rows::registry(), &table(dataset, sampler, "")).unwrap_err();
    expected.assert_eq(&folder.report(&error));
}

#[test]
fn what_cannot_be_drawn_is_refused() {
    refused(
        "len = 5",
        "'shuffled', samples = 0",
        expect!["sampler `shuffled`: `samples` is 0, not an integer from 1 to 1000000000000000"],
    );
    refused(
        "len = 5",
        "'shuffled', window = 2, block = 3",
        expect!["sampler `shuffled`: `block` stands beside `window`; give one of them"],
    );
    refused(
        "len = 5",
        "'shuffled', lanes = 2",
        expect![
            "sampler `shuffled`: `lanes` is for a dataset whose samples lie in shards, and those of this one do not; leave it out, or give `window`"
        ],
    );
    refused("len = 5, shards = [2, 2]", "'shuffled'", expect!["the dataset's 2 shards do not add up to its 5 samples"]);
    refused(
        "len = 5, shards = [5]",
        "'shuffled', lanes = 65",
        expect!["sampler `shuffled`: `lanes` is 65, not an integer from 1 to 64"],
    );
    refused("len = 5", "'weighted'", expect!["sampler `weighted`: `weights` or `column` is needed"]);
    refused(
        "len = 5",
        "'weighted', colunm = 'weight'",
        expect!["unknown key `colunm` of sampler `weighted`; did you mean `column`?"],
    );
    refused(
        "len = 5",
        "'weighted', column = 'weight', weights = [1]",
        expect!["sampler `weighted`: `weights` stands beside `column`; give one of them"],
    );
    refused(
        "len = 5",
        "'weighted', column = 'weight', replacement = false",
        expect![
            "sampler `weighted`: `replacement` is false: each draw would follow from all before it; leave it out, or use the sampler `class-balanced`"
        ],
    );
    refused(
        "len = 5",
        "'weighted', column = 'weight'",
        expect![
            "sampler `weighted`: `column` is `weight`, but the dataset does not tell that number of row 0 without reading it; name a field that stands in its table or index, as labels, weights and lengths do"
        ],
    );
    refused(
        "len = 2, weight = [1, -1]",
        "'weighted', column = 'weight'",
        expect!["sampler `weighted`: `column` is `weight`, which is -1 for row 1, not a number from 0 up"],
    );
    refused(
        "len = 2, weight = [1, nan]",
        "'weighted', column = 'weight'",
        expect!["sampler `weighted`: `column` is `weight`, which is NaN for row 1, not a number from 0 up"],
    );
    refused(
        "len = 2, weight = [0, 0]",
        "'weighted', column = 'weight'",
        expect!["sampler `weighted`: `column` has weights that add up to 0.0; no sample can be drawn"],
    );
    refused(
        "len = 2, weight = [1e308, 1e308]",
        "'weighted', column = 'weight'",
        expect!["sampler `weighted`: `column` has weights that add up to inf; no sample can be drawn"],
    );
    // The smallest number there is: a draw from it would be rounded up to it, behind the last sample.
    refused(
        "len = 2, weight = [5e-324, 0]",
        "'weighted', column = 'weight'",
        expect!["sampler `weighted`: `column` has weights that add up to 5e-324; no sample can be drawn"],
    );
    refused(
        "len = 2, label = [0, 2]",
        "'weighted', weights = [1, 2]",
        expect!["sampler `weighted`: `field` is `label`, which is 2 for row 1, not a class from 0 to 1"],
    );
    refused(
        "len = 2, label = [0, 0.5]",
        "'weighted', weights = [1, 2]",
        expect!["sampler `weighted`: `field` is `label`, which is 0.5 for row 1, not a class from 0 to 1"],
    );
    refused(
        "len = 2, label = [0, 1]",
        "'weighted', weights = [1, -2]",
        expect![
            "sampler `weighted`: `weights` is [1, -2], not a table { CLASS = WEIGHT, .. } or a list of weights, which are numbers from 0 up"
        ],
    );
    refused(
        "len = 2, label = [0, 1]",
        "'weighted', weights = 'cat'",
        expect![[
            r#"sampler `weighted`: `weights` is "cat", not a table { CLASS = WEIGHT, .. } or a list of weights, which are numbers from 0 up"#
        ]],
    );
    let named = "len = 2, label = [0, 1], classes = ['cat', 'dog']";
    refused(
        named,
        "'weighted', weights = { catt = 1 }",
        expect![
            "sampler `weighted`: `weights` names the class `catt`, which the dataset does not have; did you mean `cat`?"
        ],
    );
    refused(
        named,
        "'weighted', weights = { elephant = 1 }",
        expect![
            "sampler `weighted`: `weights` names the class `elephant`, which the dataset does not have; there are `cat`, `dog`"
        ],
    );
    refused(
        named,
        "'weighted', weights = [1, 2, 3]",
        expect!["sampler `weighted`: `weights` is a list of 3 for 2 classes"],
    );
    refused(
        "len = 5",
        "'class-balanced'",
        expect![
            "sampler `class-balanced`: `field` is `label`, but the dataset does not tell that number of row 0 without reading it; name a field that stands in its table or index, as labels, weights and lengths do"
        ],
    );
    refused(
        "len = 2, label = [0, inf]",
        "'class-balanced'",
        expect!["sampler `class-balanced`: `field` is `label`, which is inf for row 1, not a finite number"],
    );
    refused(
        "len = 3, label = [0, -1, 1]",
        "'class-balanced'",
        expect![
            "sampler `class-balanced`: `field` is `label`, which is -1 for row 1, not a class from 0 up; leave it out by the dataset `subset`"
        ],
    );
    refused(
        "len = 3, label = [0, 1, 7]",
        "'class-balanced', samples = 10",
        expect!["sampler `class-balanced`: `samples` is 10, no multiple of 3 classes; give 9 or 12"],
    );
    refused(
        "len = 3, label = [0, 1, 7]",
        "'class-balanced', samples = 2",
        expect!["sampler `class-balanced`: `samples` is 2, no multiple of 3 classes; give 3"],
    );
    refused("len = 5", "'batch-by-length'", expect!["sampler `batch-by-length` needs the key `field`"]);
    refused(
        "len = 5",
        "'batch-by-length', field = 'tokens_len'",
        expect![
            "sampler `batch-by-length`: `field` is `tokens_len`, but the dataset does not tell that number of row 0 without reading it; name a field that stands in its table or index, as labels, weights and lengths do"
        ],
    );
    refused("len = 5", "'subset'", expect!["sampler `subset`: `indices` or one of `range` and `file` is needed"]);
    refused(
        "len = 5",
        "'subset', indeces = [1]",
        expect!["unknown key `indeces` of sampler `subset`; did you mean `indices`?"],
    );
    refused("len = 5", "'subset', indices = []", expect!["sampler `subset`: `indices` is an empty list"]);
    refused(
        "len = 5",
        "'subset', indices = [1, -1]",
        expect!["sampler `subset`: `indices` is no list of integers from 0 up"],
    );
    refused(
        "len = 5",
        "'subset', indices = [1, 5]",
        expect!["sampler `subset`: `indices` names sample 5, but the dataset has 5 samples"],
    );
    refused(
        "len = 5",
        "'subset', indices = [1], range = [1, 2]",
        expect!["sampler `subset`: `indices` stands beside `range`; give one of them"],
    );
    refused(
        "len = 5",
        "'subset', range = [1]",
        expect!["sampler `subset`: `range` is [1], not [first, end] or [first, end, step]"],
    );
    refused(
        "len = 5",
        "'subset', range = [1, 3, 0]",
        expect!["sampler `subset`: `range` is [1, 3, 0], not [first, end] or [first, end, step]"],
    );
    refused(
        "len = 5",
        "'subset', range = [3, 3]",
        expect!["sampler `subset`: `range` is [3, 3], which holds no sample; the end is behind the last"],
    );
    refused(
        "len = 5",
        "'subset', range = [3, 6]",
        expect!["sampler `subset`: `range` ends at 6, but the dataset has 5 samples"],
    );
    refused(
        "len = 5",
        "'from-file', file = 'none.txt'",
        expect!["read ~/none.txt: No such file or directory (os error 2)"],
    );
    refused(
        "len = 5",
        "'from-file', file = 'bad.txt'",
        expect![[r#"~/bad.txt:2: "-1" is no index of a sample, an integer from 0 up"#]],
    );
    refused(
        "len = 5",
        "'from-file', file = 'empty.txt'",
        expect!["~/empty.txt: empty, expected the index of a sample on each line"],
    );
    refused(
        "len = 5",
        "'from-file', file = 'long.txt'",
        expect![[r#"~/long.txt:1: "77777777777777777777777777777777" is no index of a sample, an integer from 0 up"#]],
    );
}

#[test]
fn a_dataset_without_samples_is_refused_by_every_sampler() {
    for sampler in [
        "'sequential'",
        "'shuffled'",
        "'shuffled', window = 3, samples = 7",
        "'with-replacement', samples = 7",
        "'weighted', column = 'weight', samples = 7",
        "'weighted', weights = [1]",
        "'class-balanced', samples = 7",
        "'batch-by-length', field = 'length'",
    ] {
        let folder = Folder::new();
        let error = folder.open_by(&Rows::registry(), &table("len = 0", sampler, "")).unwrap_err();
        assert_eq!(error.to_string(), "dataset `rows` has no samples", "{sampler}");
    }
}

#[test]
fn a_table_of_a_trillion_is_refused() {
    let table = "dataset = { kind = 'synthetic', len = 1_000_000_000_000 }\nsampler = 'class-balanced'";
    expect!["sampler `class-balanced`: `field` is `label`, which asks for a table of 1000000000000 samples, more than 1073741824"].assert_eq(&Folder::new().refusal(table));
}
