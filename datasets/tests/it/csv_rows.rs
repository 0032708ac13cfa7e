//! The kind `csv-rows`: the samples of `csv-table`, out of files that are not kept in memory.

use batchmill_datasets::pipeline::Pipeline;
use batchmill_protocol::position::Position;
use expect_test::{Expect, expect};

use crate::support::{Batch, Folder, gzip, survey};

/// All rows of an epoch.
fn rows(pipeline: &Pipeline, epoch: u64) -> Vec<Vec<Vec<u8>>> {
    let fields = survey(pipeline).unwrap();
    let batch = |step| Batch::fill(pipeline, &fields, Position { epoch, step }).unwrap().rows;
    (0..pipeline.extent().steps()).flat_map(batch).collect()
}

const HEADER: &str = "note,x,kind,y\n";

/// Rows with quoted line breaks and blank lines between them, and nothing behind the last one.
fn csv(range: std::ops::Range<u32>) -> String {
    let row = |number: u32| {
        let note = "\"\n".repeat(usize::try_from(number * 7 % 90).unwrap()).replace('"', "\"\"");
        let kind = ["cat", "dog", "ant"][number as usize % 3];
        let blank = if number.is_multiple_of(11) { "\r\n\n" } else { "" };
        format!("{blank}\"{note}\",{number}.5, {kind} ,-{number}\r\n")
    };
    range.map(row).collect::<String>().trim_end().to_owned()
}

#[test]
fn rows_are_those_of_a_table() {
    let whole = Folder::new().with("all.csv", format!("{HEADER}{}", csv(0..2000)));
    let table = |options: &str| whole.open(&format!("dataset = {{ kind = 'csv-table', file = 'all.csv', {options} }}"));
    // Three files, one of them without rows, and an empty one behind them.
    let part = |range| format!("{HEADER}{}", csv(range));
    let plain = Folder::new()
        .with("0.csv", part(0..700))
        .with("1.csv", HEADER)
        .with("2.csv", part(700..2000))
        .with("3.csv", "");
    let packed = Folder::new().with("0.csv", gzip(part(0..700))).with("2.csv", gzip(part(700..2000)));
    for options in ["features = ['y', 'x'], targets = ['kind']", "features = ['y'], targets = ['x']"] {
        let table = table(options).unwrap();
        let expected = rows(&table, 0);
        for folder in [&plain, &packed] {
            let open = |rest: &str| {
                folder.open(&format!("dataset = {{ kind = 'csv-rows', files = '*.csv', {options} }}\n{rest}")).unwrap()
            };
            let sequential = open("batch_size = 100");
            assert_eq!(survey(&sequential).unwrap(), survey(&table).unwrap());
            assert_eq!(sequential.classes(), table.classes());
            assert_eq!(rows(&sequential, 0), expected);
            let sorted = |mut rows: Vec<Vec<Vec<u8>>>| {
                rows.sort_unstable();
                rows
            };
            assert_eq!(sorted(rows(&open("sampler = 'shuffled'"), 1)), sorted(expected.clone()));
            // Each reached by a process that has read nothing else.
            for step in [0, 1, 699, 700, 1500, 1999] {
                let pipeline = open("batch_size = 1");
                let batch = Batch::fill(&pipeline, &survey(&pipeline).unwrap(), Position { epoch: 0, step }).unwrap();
                assert_eq!(batch.rows[0], expected[usize::try_from(step).unwrap()]);
            }
        }
    }
}

#[test]
fn missing_numbers_may_be_nan() {
    let folder = Folder::new().with("a.csv", "x,y\n1,2\n,na\n");
    let pipeline = folder.open("dataset = { kind = 'csv-rows', files = 'a.csv', missing = nan }").unwrap();
    let row = rows(&pipeline, 0).remove(1).remove(0);
    assert!(row.as_chunks().0.iter().all(|bytes| f32::from_le_bytes(*bytes).is_nan()));
}

#[test]
fn files_without_a_header_have_numbered_columns() {
    let folder = Folder::new().with("a.tsv", "1\t2\t3\n").with("b.tsv", "4\t5\t6\n");
    let dataset = "dataset = { kind = 'csv-rows', files = ['b.tsv', 'a.tsv'], header = false, targets = ['1'] }";
    let labels = rows(&folder.open(dataset).unwrap(), 0);
    assert_eq!(labels.iter().map(|row| row[1][0]).collect::<Vec<_>>(), [5, 2]);
}

#[test]
fn what_is_wrong_is_found_when_the_stream_is_opened() {
    let refused = |text: &str, options: &str, expected: Expect| {
        for packed in [text.as_bytes().to_vec(), gzip(text)] {
            let folder = Folder::new().with("0.csv", "x,k\n1,a\n").with("1.csv", packed);
            let table = format!("dataset = {{ kind = 'csv-rows', files = '*.csv', {options} }}");
            expected.assert_eq(&folder.refusal(&table));
        }
    };
    let options = "features = ['x'], targets = ['k']";
    refused(
        "x,k\n1,b\none,b\n",
        options,
        expect![[r#"~/1.csv:3: column `x`: "one" is not a number; list the columns to read under `features`"#]],
    );
    refused("x,k\n1,b\n1\n", options, expect!["~/1.csv:3: 1 column, expected 2"]);
    refused(
        "x,k\n1,b\n1,7\n",
        options,
        expect![[
            r#"~/1.csv:3: column `k`: label `7` is an integer, but the labels before it are names; list the names under `classes`; for a number set `target_kind` to "number""#
        ]],
    );
    refused(
        "k,x\n1,b\n",
        options,
        expect![[r#"~/1.csv:1: the header is ["k", "x"], and in the files before ["x", "k"]"#]],
    );
    refused(
        "x,k\n1,b\n",
        "features = ['z']",
        expect!["~/0.csv: has no column `z`, as `features` says; there are `x`, `k`"],
    );
    refused(
        "x,k\n1,b\n,b\n",
        options,
        expect!["~/1.csv:3: column `x`: nothing, expected a number; what to put there can be given as `missing`"],
    );
    let one = |text: &[u8], expected: Expect| {
        let folder = Folder::new().with("a.csv", text);
        expected.assert_eq(&folder.refusal("dataset = { kind = 'csv-rows', files = 'a.csv' }"));
    };
    one(
        b"x\n1\n\n\ntwo\n",
        expect![[r#"~/a.csv:5: column `x`: "two" is not a number; list the columns to read under `features`"#]],
    );
    one(
        b"x\r\n1\r\n\r\ntwo\r\n",
        expect![[r#"~/a.csv:4: column `x`: "two" is not a number; list the columns to read under `features`"#]],
    );
    one(b"x\n1\n\xff\n", expect!["~/a.csv:3: column 1 is not UTF-8; store the file as UTF-8"]);
    one(b"x\n", expect!["~/a.csv: has no rows"]);
    one(b"", expect!["~/a.csv: has no rows"]);
}

#[test]
fn an_open_quotation_costs_no_memory() {
    let bomb = gzip([&b"x\n1\n\""[..], &vec![b'a'; 65 << 20]].concat());
    let folder = Folder::new().with("a.csv", bomb);
    expect!["~/a.csv:3: has more than 67108864 bytes; is a quotation mark not closed?"]
        .assert_eq(&folder.refusal("dataset = { kind = 'csv-rows', files = 'a.csv' }"));
}
