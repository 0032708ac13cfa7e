//! The kind `jsonl`: lines of objects, by number and in order.

use batchmill_datasets::pipeline::Pipeline;
use batchmill_protocol::position::Position;
use expect_test::{Expect, expect};

use crate::support::{Batch, Folder, gzip, survey};

fn table(options: &str) -> String {
    format!("dataset = {{ kind = 'jsonl', files = 'data.jsonl', {options} }}")
}

/// All rows of an epoch.
fn rows(pipeline: &Pipeline, epoch: u64) -> Vec<Vec<Vec<u8>>> {
    let fields = survey(pipeline).unwrap();
    let batch = |step| Batch::fill(pipeline, &fields, Position { epoch, step }).unwrap().rows;
    (0..pipeline.extent().steps()).flat_map(batch).collect()
}

/// The fields of one line, with their bytes.
fn line(text: &str, options: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Folder::new().with("data.jsonl", text);
    let pipeline = folder.open(&table(options)).unwrap();
    let fields = survey(&pipeline).unwrap();
    fields.iter().map(ToString::to_string).zip(rows(&pipeline, 0).remove(0)).collect()
}

fn failure(text: &str, options: &str, expected: Expect) {
    expected.assert_eq(&Folder::new().with("data.jsonl", text).failure(&table(options)));
}

fn field(name: &str, bytes: impl AsRef<[u8]>) -> (String, Vec<u8>) {
    (name.to_owned(), bytes.as_ref().to_vec())
}

#[test]
fn values_become_fields() {
    let text = r#"{"s": 2.5, "n": [1, -2, 3], "t": "é", "m": [[1, 2, 3], [4, 5, 6]], "b": [true, false], "z": {"a": []}, "l": 4}"#;
    assert_eq!(
        line(text, "fields = { t = 'text', s = 'f32', n = 'i16', m = 'u8', b = 'bool' }, label = 'l'"),
        [
            field("b: bool [2]", [1, 0]),
            field("m: u8 [2, 3]", [1, 2, 3, 4, 5, 6]),
            field("n: i16 [3]", [1, 0, 0xfe, 0xff, 3, 0]),
            field("s: f32 []", 2.5_f32.to_le_bytes()),
            field("t: u8 [2]", "é"),
            field("label: i64 []", 4_i64.to_le_bytes()),
        ]
    );
    let floats = line(r#"{"x": [1, 0.1, true, -0.0]}"#, "fields = { x = 'f64' }");
    let expected: Vec<u8> = [1.0_f64, 0.1, 1.0, -0.0].iter().flat_map(|number| number.to_le_bytes()).collect();
    assert_eq!(floats, [field("x: f64 [4]", expected)]);
    assert_eq!(line(r#"{"x": [[], []]}"#, "fields = { x = 'u8' }"), [field("x: u8 [2, 0]", [])]);
    assert_eq!(line(r#"{"x": 18446744073709551615}"#, "fields = { x = 'u64' }"), [field("x: u64 []", [0xff; 8])]);
    assert_eq!(line(r#"{"x": [1.5, -2]}"#, "fields = { x = 'f16' }"), [field("x: f16 [2]", [0, 0x3e, 0, 0xc0])]);
    assert_eq!(line(r#"{"x": [1.5, -2]}"#, "fields = { x = 'bf16' }"), [field("x: bf16 [2]", [0xc0, 0x3f, 0, 0xc0])]);
}

#[test]
fn a_number_stands_for_what_is_missing() {
    let options = "fields = { x = 'i8', y = 'f32' }, missing = -1";
    assert_eq!(
        line(r#"{"x": [1, null]}"#, options),
        [field("x: i8 [2]", [1, 0xff]), field("y: f32 []", (-1.0_f32).to_le_bytes())]
    );
}

#[test]
fn labels_are_integers_or_names() {
    let label = |text: &str, options: &str| line(text, &format!("label = 'l'{options}")).remove(0);
    let expected = |label: i64| field("label: i64 []", label.to_le_bytes());
    assert_eq!(label(r#"{"l": -7}"#, ""), expected(-7));
    assert_eq!(label(r#"{"l": "7"}"#, ""), expected(7));
    assert_eq!(label(r#"{"l": "cat"}"#, ", classes = ['dog', 'cat']"), expected(1));
    assert_eq!(label(r#"{"l": 1}"#, ", classes = ['dog', 'cat']"), expected(1));
}

/// 3,000 lines of up to 400 bytes, some blank ones between them.
fn lines() -> (String, Vec<Vec<Vec<u8>>>) {
    let (mut text, mut expected) = (String::new(), Vec::new());
    for number in 0..3000_i64 {
        text +=
            &format!("{{\"pad\": \"{}\", \"n\": {number}}}\n", "x".repeat(usize::try_from(number * 7 % 400).unwrap()));
        if number % 17 == 0 {
            text += "\n  \r\n";
        }
        expected.push(vec![number.to_le_bytes().to_vec()]);
    }
    (text, expected)
}

#[test]
fn any_line_is_reached_and_every_line_comes_once() {
    let (text, expected) = lines();
    for packed in [text.clone().into_bytes(), gzip(&text)] {
        // The last line may end without a line feed.
        let folder = Folder::new().with("a.jsonl", &packed).with("b.jsonl", "").with("c.jsonl", r#"{"n": 3000}"#);
        let open = |rest: &str| {
            let dataset = "dataset = { kind = 'jsonl', files = '*.jsonl', fields = { n = 'i64' } }";
            folder.open(&format!("{dataset}\n{rest}")).unwrap()
        };
        let expected: Vec<_> = expected.iter().cloned().chain([vec![3000_i64.to_le_bytes().to_vec()]]).collect();
        assert_eq!(rows(&open("batch_size = 100"), 0), expected);
        let mut shuffled = rows(&open("sampler = 'shuffled'"), 1);
        assert_ne!(shuffled, expected);
        shuffled.sort_by_key(|row| i64::from_le_bytes(*row[0].first_chunk().unwrap()));
        assert_eq!(shuffled, expected);
        // Each reached by a process that has read nothing else.
        for step in [0, 1, 500, 1999, 2999, 3000] {
            let pipeline = open("batch_size = 1");
            let fields = survey(&pipeline).unwrap();
            let batch = Batch::fill(&pipeline, &fields, Position { epoch: 0, step }).unwrap();
            assert_eq!(batch.rows[0], expected[usize::try_from(step).unwrap()]);
        }
    }
}

#[test]
fn what_is_wrong_is_named_by_file_and_line() {
    let x = "fields = { x = 'u8' }";
    failure("\n{\"x\": 300}", x, expect!["~/data.jsonl:2: `x`: 300 is no u8 at column 9"]);
    failure("{\"x\": 1.5}", x, expect!["~/data.jsonl:1: `x`: 1.5 is no u8 at column 9"]);
    failure(
        "{\"x\": null}",
        x,
        expect!["~/data.jsonl:1: `x`: is null; `missing` may say which number that is at column 10"],
    );
    failure(
        "{\"x\": [[1], [1, 2]]}",
        x,
        expect!["~/data.jsonl:1: `x`: a list has 2 elements, and one before it had 1 at column 18"],
    );
    failure(
        "{\"x\": [1, [2]]}",
        x,
        expect!["~/data.jsonl:1: `x`: a list stands where a number was before at column 11"],
    );
    failure(
        "{\"x\": [[], 1]}",
        x,
        expect!["~/data.jsonl:1: `x`: a number stands where a list was before at column 12"],
    );
    failure(
        "{\"x\": [[[[[[[[[1]]]]]]]]]}",
        x,
        expect!["~/data.jsonl:1: `x`: there are more than 8 lists in each other at column 15"],
    );
    failure(
        "{\"x\": \"1\"}",
        x,
        expect![[
            r#"~/data.jsonl:1: `x`: invalid type: string "1", expected a number or a list of numbers at column 9"#
        ]],
    );
    failure("{\"x\": 1, \"x\": 2}", x, expect!["~/data.jsonl:1: `x` is there twice at column 16"]);
    failure("{}", x, expect!["~/data.jsonl:1: has no `x`"]);
    failure("[1]", x, expect!["~/data.jsonl:1: invalid type: sequence, expected an object at column 0"]);
    failure("{\"x\": 1} {}", x, expect!["~/data.jsonl:1: trailing characters at column 10"]);
    failure("{\"x\": 1", x, expect!["~/data.jsonl:1: EOF while parsing an object at column 7"]);
    failure("{\"x\": 1e39}", "fields = { x = 'f32' }", expect!["~/data.jsonl:1: `x`: 1e39 is no f32 at column 10"]);
    failure(
        "{\"x\": 1}",
        "fields = { x = 'text' }",
        expect!["~/data.jsonl:1: `x`: invalid type: integer `1`, expected a string at column 7"],
    );
    failure(
        "{\"l\": \"cow\"}",
        "label = 'l'",
        expect!["~/data.jsonl:1: `l`: label `cow` is no integer; list the names under `classes` at column 11"],
    );
    failure(
        "{\"l\": 2}",
        "label = 'l', classes = ['a', 'b']",
        expect![
            "~/data.jsonl:1: `l`: label `2` is none of the 2 names in `classes`, nor an integer below 2 at column 7"
        ],
    );
}

#[test]
fn a_line_without_end_costs_no_memory() {
    let bomb = gzip(vec![b' '; (64 << 20) + 1]);
    expect!["~/data.jsonl:1: has more than 67108864 bytes"]
        .assert_eq(&Folder::new().with("data.jsonl", bomb).refusal(&table("fields = { x = 'u8' }")));
}

#[test]
fn wrong_options_are_refused() {
    let refused = |options: &str, expected: Expect| {
        expected.assert_eq(&Folder::new().with("data.jsonl", "{}").refusal(&table(options)));
    };
    refused("", expect!["dataset `jsonl` needs the key `fields`"]);
    refused(
        "fields = { x = 'u8' }, classes = ['a']",
        expect!["dataset `jsonl`: `classes` is for the labels under the key `label`, which is not there"],
    );
    refused(
        "fields = { x = 'u8' }, label = 'x'",
        expect!["dataset `jsonl`: `label` is `x`, but there is a field of that name, or of the name `label`"],
    );
    refused(
        "fields = { x = 8 }",
        expect![
            "dataset `jsonl`: `fields` has 8 for `x`, not bool, u8, i8, u16, i16, u32, i32, u64, i64, f16, bf16, f32, f64 or text"
        ],
    );
}
