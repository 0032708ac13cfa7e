//! The kind `csv-table`: numbers and classes out of a CSV, and what is refused in one.

use batchmill_datasets::dataset::MapDataset;
use batchmill_datasets::options::{Options, Role};
use batchmill_datasets::source::Source;
use batchmill_datasets::sources::CsvTable;
use batchmill_datasets::spec::Component;
use batchmill_protocol::position::Position;
use expect_test::{Expect, expect};

use crate::support::{Batch, Folder, survey};

pub(crate) const IRIS: &str = "id,length,width,species\na,5.1,3.5,setosa\nb,7.0,-3.2e-1,versicolor\nc,+6,.5,setosa\n";

fn table(options: &str) -> String {
    format!("dataset = {{ kind = 'csv-table', file = 'table.csv'{options} }}")
}

fn folder(csv: impl AsRef<[u8]>) -> Folder {
    Folder::new().with("table.csv", csv)
}

/// The fields of a stream, and of each row the values of each field.
fn rows(csv: impl AsRef<[u8]>, options: &str) -> (String, Vec<Vec<Vec<f64>>>) {
    let pipeline = folder(csv).open(&table(options)).unwrap();
    let fields = survey(&pipeline).unwrap();
    let batch = Batch::fill(&pipeline, &fields, Position::default()).unwrap();
    let numbers = |bytes: &Vec<u8>, field: usize| match fields[field].dtype.name() {
        "f32" => bytes.as_chunks().0.iter().map(|number| f32::from_le_bytes(*number).into()).collect(),
        _ => bytes.as_chunks().0.iter().map(|number| i64::from_le_bytes(*number) as f64).collect::<Vec<_>>(),
    };
    let row = |row: &Vec<Vec<u8>>| row.iter().zip(0..).map(|(bytes, field)| numbers(bytes, field)).collect();
    let names = fields.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    (names, batch.rows.iter().map(row).collect())
}

fn refused(csv: impl AsRef<[u8]>, options: &str, expected: Expect) {
    expected.assert_eq(&folder(csv).refusal(&table(options)));
}

fn opened(folder: &Folder, options: &str) -> Box<dyn MapDataset> {
    let component =
        Component { kind: "csv-table".into(), options: format!("file = 'table.csv'\n{options}").parse().unwrap() };
    let source = CsvTable::from_options(&mut Options::new(Role::Dataset, &component, &folder.path(""))).unwrap();
    let index = source.index().unwrap();
    Box::new(source).open(index.into()).unwrap()
}

#[test]
fn names_of_classes_are_labels_and_numbers_are_input() {
    let (fields, rows) = rows(IRIS, ", targets = ['species']");
    assert_eq!(fields, "input: f32 [2], label: i64 []");
    let f32s = |numbers: [f32; 2]| numbers.map(f64::from).to_vec();
    assert_eq!(
        rows,
        [vec![f32s([5.1, 3.5]), vec![0.0]], vec![f32s([7.0, -0.32]), vec![1.0]], vec![f32s([6.0, 0.5]), vec![0.0]]]
    );
    assert_eq!(folder(IRIS).open(&table(", targets = ['species']")).unwrap().classes(), ["setosa", "versicolor"]);
}

#[test]
fn columns_are_taken_in_the_order_they_are_named() {
    let (fields, rows) = rows(IRIS, ", features = ['width', 'length']");
    assert_eq!(fields, "input: f32 [2]");
    assert_eq!(rows[0], [vec![3.5, f64::from(5.1_f32)]]);
}

#[test]
fn the_first_target_says_whether_targets_are_classes_or_numbers() {
    let check = |csv: &str, options: &str, expected: Expect| {
        let (fields, rows) = rows(csv, options);
        let targets: Vec<_> = rows.iter().map(|row| &row[1]).collect();
        expected.assert_eq(&format!("{fields}: {targets:?}"));
    };
    check("x,y\n1,3\n2,0", ", targets = ['y']", expect!["input: f32 [1], label: i64 []: [[3.0], [0.0]]"]);
    check("x,y\n1,3.0\n2,7", ", targets = ['y']", expect!["input: f32 [1], target: f32 []: [[3.0], [7.0]]"]);
    check(
        "x,y\n1,3\n2,0",
        ", targets = ['y'], target_kind = 'number'",
        expect!["input: f32 [1], target: f32 []: [[3.0], [0.0]]"],
    );
    check(
        "x,y,z\n1,3,4\n2,0,5",
        ", targets = ['z', 'y']",
        expect!["input: f32 [1], target: f32 [2]: [[4.0, 3.0], [5.0, 0.0]]"],
    );
    check(
        "x,y\n1,dog\n2,0",
        ", targets = ['y'], classes = ['cat', 'dog']",
        expect!["input: f32 [1], label: i64 []: [[1.0], [0.0]]"],
    );
    refused(
        "x,y\n1,3\n2,7.5",
        ", targets = ['y']",
        expect![[
            r#"~/table.csv:3: column `y`: label `7.5` is neither an integer, as the labels before it, nor a known class; for a number set `target_kind` to "number""#
        ]],
    );
    refused("x,y\n1,3.5\n2,dog", ", targets = ['y']", expect![[r#"~/table.csv:3: column `y`: "dog" is not a number"#]]);
}

#[test]
fn other_delimiters_quotes_and_tables_without_a_header_are_read() {
    let (_, rows) =
        rows("\u{feff}1.5\t\"2\"\r\n\r\n3\t 4 \r\n", r#", delimiter = "tab", header = false, targets = ['1']"#);
    assert_eq!(rows, [[vec![1.5], vec![2.0]], [vec![3.0], vec![4.0]]]);
}

#[test]
fn missing_features_are_refused_or_replaced_and_missing_targets_refused() {
    let csv = "x,w,y\n1,,3.5\nNaN,2,4.5\n n/a ,null,5.5\n";
    let (_, replaced) = rows(csv, ", targets = ['y'], missing = -1");
    assert_eq!(replaced.iter().map(|row| row[0].clone()).collect::<Vec<_>>(), [[1.0, -1.0], [-1.0, 2.0], [-1.0, -1.0]]);
    let (_, kept) = rows(csv, ", targets = ['y'], missing = nan");
    assert!(kept[0][0][1].is_nan() && kept[1][0][0].is_nan());
    refused(
        csv,
        ", targets = ['y']",
        expect!["~/table.csv:2: column `w`: nothing, expected a number; what to put there can be given as `missing`"],
    );
    refused(
        csv,
        ", features = ['x']",
        expect!["~/table.csv:3: column `x`: nothing, expected a number; what to put there can be given as `missing`"],
    );
    refused(
        "x,y\n1,3.5\n2,\n",
        ", targets = ['y'], missing = 0",
        expect!["~/table.csv:3: column `y`: nothing, expected a number; take the row out"],
    );
    refused(
        "x,y\n1,dog\n2,\n",
        ", targets = ['y'], missing = 0",
        expect!["~/table.csv:3: column `y`: the label is empty"],
    );
}

#[test]
fn every_number_is_finite() {
    let (_, numbers) = rows("x\n3.4028235e38\n-1e-400\n16777217\n", "");
    assert_eq!(numbers.concat().concat(), [f64::from(f32::MAX), 0.0, 16_777_216.0]);
    refused("x\n1\n\n1e400\n", "", expect!["~/table.csv:4: column `x`: 1e400 is beyond the largest f32, 3.4028235e38"]);
    refused("x\n1\n-4e38\n", "", expect!["~/table.csv:3: column `x`: -4e38 is beyond the largest f32, 3.4028235e38"]);
    refused("x\n1\n-inf\n", "", expect!["~/table.csv:3: column `x`: `-inf` is not finite"]);
    refused("x\n1\n-nan\n", "", expect!["~/table.csv:3: column `x`: `-nan` is not finite"]);
    refused(
        "x\n1\n1_000\n",
        "",
        expect![[r#"~/table.csv:3: column `x`: "1_000" is not a number; list the columns to read under `features`"#]],
    );
    refused(
        "x\n1\n0x10\n",
        "",
        expect![[r#"~/table.csv:3: column `x`: "0x10" is not a number; list the columns to read under `features`"#]],
    );
    refused(
        "x\n1\n\"1,5\"\n",
        "",
        expect![[r#"~/table.csv:3: column `x`: "1,5" is not a number; list the columns to read under `features`"#]],
    );
}

#[test]
fn tables_without_sense_are_refused_with_line_and_column() {
    refused("", "", expect!["~/table.csv: empty, expected a header and rows"]);
    refused("x,y\n", "", expect!["~/table.csv: has no rows"]);
    refused("", ", header = false", expect!["~/table.csv: has no rows"]);
    refused(
        "a;b\n1;2\n",
        "",
        expect![
            "~/table.csv: has no column with a number in its first row, besides the targets; is `delimiter` right?"
        ],
    );
    refused(
        "a,b\nx,y\n",
        "",
        expect![
            "~/table.csv: has no column with a number in its first row, besides the targets; is `delimiter` right?"
        ],
    );
    refused("a,b\n1,2\n3\n", "", expect!["~/table.csv:3: 1 column, expected 2"]);
    refused("a,b\n1,2\n3,4,5\n", "", expect!["~/table.csv:3: 3 columns, expected 2"]);
    refused(
        "length,b\n1,2\n",
        ", features = ['lenght']",
        expect!["~/table.csv: has no column `lenght`, as `features` says; did you mean `length`?"],
    );
    refused(
        "a,b\n1,2\n",
        ", targets = ['c']",
        expect!["~/table.csv: has no column `c`, as `targets` says; there are `a`, `b`"],
    );
    refused("a,a\n1,2\n", ", features = ['a']", expect!["~/table.csv: has several columns `a`; rename all but one"]);
    refused(
        "a,b\n1,2\n3,4 \"\n",
        "",
        expect![[r#"~/table.csv:3: column `b`: "4 \"" is not a number; list the columns to read under `features`"#]],
    );
    refused(b"a,b\n1,2\n3,\xff\n", "", expect!["~/table.csv:3: column 2 is not UTF-8; store the file as UTF-8"]);
    expect!["~/table.csv: the CSV file does not exist"].assert_eq(&Folder::new().refusal(&table("")));
}

#[test]
fn options_without_sense_are_refused() {
    refused(
        IRIS,
        ", features = []",
        expect!["dataset `csv-table`: `features` is an empty list; leave it out to take all numeric columns"],
    );
    refused(
        IRIS,
        ", features = ['a', 'a']",
        expect!["dataset `csv-table`: `features` has the column `a`, which is named before"],
    );
    refused(
        IRIS,
        ", features = ['a'], targets = ['a']",
        expect!["dataset `csv-table`: `targets` has the column `a`, which is named before"],
    );
    refused(
        IRIS,
        ", targets = ['a', 'b'], target_kind = 'class'",
        expect![[r#"dataset `csv-table`: `target_kind` is "class", which is for one target, not 2"#]],
    );
    refused(
        IRIS,
        ", target_kind = 'clas'",
        expect![[r#"dataset `csv-table`: `target_kind` is "clas", not `class` or `number`; did you mean `class`?"#]],
    );
    refused(IRIS, ", classes = ['x']", expect!["dataset `csv-table`: `classes` is for one target that is a class"]);
    refused(
        IRIS,
        ", delimiter = ';;'",
        expect![[r#"dataset `csv-table`: `delimiter` is ";;", not `,` or `;` or `tab`"#]],
    );
    refused(
        IRIS,
        ", delimiter = '|'",
        expect![[r#"dataset `csv-table`: `delimiter` is "|", not `,` or `;` or `tab`"#]],
    );
    refused(
        IRIS,
        ", missing = 'none'",
        expect![[r#"dataset `csv-table`: `missing` is "none", not a number that `f32` has, or nan"#]],
    );
    refused(
        IRIS,
        ", missing = 1e39",
        expect![
            "dataset `csv-table`: `missing` is 1000000000000000000000000000000000000000.0, not a number that `f32` has, or nan"
        ],
    );
    refused(
        IRIS,
        ", target = ['species']",
        expect!["unknown key `target` of dataset `csv-table`; did you mean `targets`?"],
    );
}

#[test]
fn numbers_are_known_without_reading_samples() {
    let folder = folder(IRIS);
    let dataset = opened(&folder, "targets = ['species']");
    assert_eq!(dataset.number("label", 1), Some(1.0));
    assert_eq!(dataset.number("species", 1), Some(1.0));
    assert_eq!(dataset.number("width", 0), Some(3.5));
    assert_eq!(dataset.number("input", 0), None);
    assert_eq!(dataset.number("id", 0), None);
    assert_eq!(dataset.number("label", 3), None);
    let dataset = opened(&folder, "features = ['width']\ntargets = ['length']");
    assert_eq!(dataset.number("input", 2), Some(0.5));
    assert_eq!(dataset.number("target", 2), Some(6.0));
    assert_eq!(dataset.number("length", 2), Some(6.0));
    assert_eq!(dataset.number("label", 2), None);
}

#[test]
fn what_a_stream_is_follows_from_the_numbers_and_not_from_the_file() {
    let identity = |csv: &str| folder(csv).open(&table(", targets = ['y']")).unwrap().identity().hash();
    assert_eq!(identity("x,y\n1,3\n2,0\n"), identity("\n\"x\" , y\r\n1.0,3\r\n2,0"));
    assert_ne!(identity("x,y\n1,3\n2,0\n"), identity("x,y\n1,3\n2,1\n"));
    assert_ne!(identity("x,y\n1,3\n2,0\n"), identity("z,y\n1,3\n2,0\n"));
}

#[test]
fn samples_do_not_need_the_file() {
    let folder = folder(IRIS);
    let dataset = opened(&folder, "");
    std::fs::remove_file(folder.path("table.csv")).unwrap();
    assert_eq!(dataset.len(), 3);
    assert!(dataset.get(2).is_ok());
    expect!["row 3 of ~/table.csv: not in the file"].assert_eq(&folder.report(&dataset.get(3).unwrap_err()));
}
