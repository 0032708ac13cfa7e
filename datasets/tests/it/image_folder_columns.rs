//! The kind `image-folder-csv` with the option `columns`: several fields from one list, and what a wrong list is told.

use std::time::{Duration, UNIX_EPOCH};

use batchmill_datasets::dataset::MapDataset;
use batchmill_datasets::sample::{Array, Sample, Value};
use batchmill_datasets::sources::ImageFolderCsv;
use batchmill_protocol::position::Position;
use batchmill_protocol::tensor::Dtype;
use expect_test::{Expect, expect};
use image::{GrayImage, ImageFormat};

use crate::support::{Batch, Folder, encode, png, survey};

/// All kinds of columns, not in the order of the file.
const PETS: &str = r#"
    [dataset]
    kind = "image-folder-csv"
    images = "images"
    labels = "train.csv"
    path_column = "file"
    columns = [
        { column = "breed", field = "label" },
        { column = "mask file", kind = "mask", folder = "masks" },
        { column = "age", kind = "number" },
        { column = "tags", kind = "multi-label" },
    ]"#;

const LIST: &str = "age,file,tags,note,mask file,breed
1.5,a.png,old|brown,x,a.png,pug
-2e3,c.PNG,,\"x, y\",sub/c.png,boxer
";

fn gray(width: u32, height: u32) -> Vec<u8> {
    let image = GrayImage::from_fn(width, height, |x, y| image::Luma([u8::try_from(x + 10 * y).unwrap()]));
    encode(image, ImageFormat::Png)
}

/// Two images with masks, and a list.
fn folder(list: impl AsRef<[u8]>) -> Folder {
    Folder::new()
        .with("images/a.png", png(3, 2))
        .with("images/c.PNG", png(3, 2))
        .with("masks/a.png", gray(3, 2))
        .with("masks/sub/c.png", gray(3, 2))
        .with("train.csv", list)
}

/// A list of columns, with one more than the path.
fn one(column: &str) -> String {
    format!("dataset = {{ kind = 'image-folder-csv', images = 'images', labels = 'train.csv', columns = [{column}] }}")
}

fn open(folder: &Folder, table: &str) -> Box<dyn MapDataset> {
    folder.dataset(table, ImageFolderCsv::from_options).unwrap_or_else(|error| panic!("{}", folder.report(&error)))
}

fn field(sample: &Sample, name: &str) -> Value {
    sample.get(name).unwrap_or_else(|| panic!("{sample:?} has no {name}")).clone()
}

fn refused(table: &str, list: impl AsRef<[u8]>, expected: Expect) {
    expected.assert_eq(&folder(list).refusal(table));
}

#[test]
fn each_column_is_a_field() {
    let folder = folder(LIST);
    let pipeline = folder.open(PETS).unwrap();
    let fields = survey(&pipeline).unwrap();
    assert_eq!(
        fields.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["image: u8 [2, 3, 3]", "label: i64 []", "mask: u8 [2, 3]", "age: f32 []", "tags: f32 [2]"]
    );
    assert_eq!(pipeline.classes(), ["boxer", "pug"]);
    let batch = Batch::fill(&pipeline, &fields, Position::default()).unwrap();
    assert_eq!(batch.rows[0][0], crate::support::picture(3, 2).into_raw());
    assert_eq!(batch.rows[0][1], 1_i64.to_le_bytes());
    assert_eq!(batch.rows[0][2], [0, 1, 2, 10, 11, 12]);
    assert_eq!(batch.rows[0][3], 1.5_f32.to_le_bytes());
    // `brown` and `old`, in alphabetical order.
    assert_eq!(batch.rows[0][4], [1.0_f32.to_le_bytes(); 2].concat());
    assert_eq!(batch.rows[1][1], 0_i64.to_le_bytes());
    assert_eq!(batch.rows[1][3], (-2000.0_f32).to_le_bytes());
    assert_eq!(batch.rows[1][4], [0; 8]);
}

#[test]
fn numbers_are_known_without_an_image() {
    let folder = folder(LIST);
    let dataset = open(&folder, PETS);
    std::fs::remove_dir_all(folder.path("images")).unwrap();
    let numbers = |field| [0, 1, 2].map(|index| dataset.number(field, index));
    assert_eq!(numbers("label"), [Some(1.0), Some(0.0), None]);
    assert_eq!(numbers("age"), [Some(1.5), Some(-2000.0), None]);
    for none in ["tags", "mask", "image", "note"] {
        assert_eq!(numbers(none), [None; 3], "{none}");
    }
}

#[test]
fn a_missing_value_is_what_was_declared() {
    let list = "file,breed,age\na.png,,\nc.PNG,pug,3\n";
    let folder = folder(list);
    let table = one(
        "{ column = 'breed', field = 'label', missing = -100 }, { column = 'age', kind = 'number', missing = nan }",
    );
    let dataset = open(&folder, &table);
    let sample = dataset.get(0).unwrap();
    assert_eq!(field(&sample, "label"), Array::scalar_i64(-100).into());
    assert_eq!(field(&sample, "age").bytes(), f32::NAN.to_le_bytes());
    assert_eq!(dataset.number("label", 0), Some(-100.0));
    assert!(dataset.number("age", 0).unwrap().is_nan());
    assert_eq!(field(&dataset.get(1).unwrap(), "label"), Array::scalar_i64(0).into());
    assert_eq!(dataset.classes(), ["pug"]);
    let whole = one("{ column = 'age', kind = 'number', missing = -1 }");
    assert_eq!(open(&folder, &whole).number("age", 0), Some(-1.0));

    refused(&table.replace(", missing = -100", ""), list, expect!["~/train.csv:2: column `breed`: the label is empty"]);
    refused(
        &table.replace(", missing = nan", ""),
        list,
        expect!["~/train.csv:2: column `age`: the number is empty; `missing` may say what an empty one is"],
    );
    refused(
        &table.replace("-100", "0"),
        list,
        expect!["`columns[0]` of dataset `image-folder-csv`: `missing` is 0, not an integer from -2147483648 to -1"],
    );
    refused(
        &table.replace("nan", "'none'"),
        list,
        expect![[r#"`columns[1]` of dataset `image-folder-csv`: `missing` is "none", not a number or nan"#]],
    );

    // A plain list has the option too.
    let plain = "dataset = { kind = 'image-folder-csv', images = 'images', labels = 'train.csv', missing = -1 }";
    let folder = folder.with("train.csv", "a.png,\nc.PNG,cat\n");
    let dataset = open(&folder, plain);
    assert_eq!([0, 1].map(|index| dataset.number("label", index)), [Some(-1.0), Some(0.0)]);
    assert_eq!(dataset.classes(), ["cat"]);
}

#[test]
fn several_classes_are_ones_among_zeros() {
    let list = "file,tags\na.png, b ; c\nc.PNG,c;c\n";
    let folder = folder(list);
    let of = |options: &str| {
        let dataset =
            open(&folder, &one(&format!("{{ column = 'tags', kind = 'multi-label', separator = ';'{options} }}")));
        [0, 1].map(|index| field(&dataset.get(index).unwrap(), "tags"))
    };
    assert_eq!(of(""), [[1.0, 1.0], [0.0, 1.0]].map(|values| Array::from_f32(&values).into()));
    let bools = [[0_u8, 1, 1], [0, 0, 1]].map(|bytes| Array::new(Dtype::Bool, [3], bytes.to_vec()).unwrap().into());
    assert_eq!(of(", classes = ['a', 'b', 'c'], dtype = 'bool'"), bools);

    let table = one("{ column = 'tags', kind = 'multi-label' }");
    refused(
        &table,
        "file,tags\na.png,b||c\n",
        expect![[r#"~/train.csv:2: column `tags`: a class is empty between the separators of "b||c""#]],
    );
    refused(
        &table,
        "file,tags\na.png,b|3\n",
        expect![
            "~/train.csv:2: column `tags`: label `3` is an integer, but the labels before it are names; list the names under `classes`"
        ],
    );
    refused(
        &table,
        "file,tags\na.png,\nc.PNG,\n",
        expect!["~/train.csv: column `tags`: names no class in any row; list the names under `classes`"],
    );
    refused(
        &one("{ column = 'tags', kind = 'multi-label', separator = '||' }"),
        list,
        expect![[r#"`columns[0]` of dataset `image-folder-csv`: `separator` is "||", not one character"#]],
    );
    refused(
        &one("{ column = 'tags', kind = 'multi-label', dtype = 'i64' }"),
        list,
        expect![[r#"`columns[0]` of dataset `image-folder-csv`: `dtype` is "i64", not `f32` or `bool`"#]],
    );
    refused(
        &one("{ column = 'tags', kind = 'multi-label', missing = -1 }"),
        list,
        expect![
            "unknown key `missing` of `columns[0]` of dataset `image-folder-csv`; there are `column`, `kind`, `classes`, `classes_file`, `separator`, `dtype`, `field`"
        ],
    );
}

#[test]
fn a_list_without_other_columns_is_of_images_alone() {
    let folder = folder("note,file\nx,a.png\ny,c.PNG\n");
    let table = "dataset = { kind = 'image-folder-csv', images = 'images', labels = 'train.csv', path_column = 'file',
        columns = [] }";
    let dataset = open(&folder, table);
    assert_eq!(dataset.len(), 2);
    assert_eq!(dataset.get(1).unwrap().iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>(), ["image"]);
    assert!(dataset.classes().is_empty());
}

#[test]
fn names_of_classes_may_lie_in_a_file() {
    let labels = |name: &str, classes: &str, cells: [&str; 2]| {
        let list = format!("file,breed\na.png,\"{}\"\nc.PNG,{}\n", cells[0], cells[1]);
        let folder = folder(list).with(name, classes);
        let dataset = open(&folder, &one(&format!("{{ column = 'breed', field = 'label', classes_file = '{name}' }}")));
        let numbers = [0, 1].map(|index| dataset.number("label", index).unwrap());
        (numbers, dataset.classes().join("/"))
    };
    let lines = "\u{feff}tench, Tinca tinca\r\n pug \nboxer\n\n";
    assert_eq!(
        labels("c.txt", lines, ["tench, Tinca tinca", "2"]),
        ([0.0, 2.0], "tench, Tinca tinca/pug/boxer".into())
    );
    // Integers number the classes, in any order and below a header or none.
    for header in ["", "label,name\n", "class_id,class_name\n"] {
        let table = format!("{header}1,pug\n0,boxer\n2,\"a, b\"\n");
        assert_eq!(labels("c.csv", &table, ["pug", "2"]), ([1.0, 2.0], "boxer/pug/a, b".into()), "{header:?}");
    }
    // Other labels stand for names.
    let table = "label\tname\nn01\tpug\nn02\tboxer\n";
    assert_eq!(labels("c.tsv", table, ["n02", "pug"]), ([1.0, 0.0], "pug/boxer".into()));
}

#[test]
fn wrong_files_of_names_are_refused() {
    let refused = |name: &str, classes: &[u8], expected: Expect| {
        let table =
            "dataset = { kind = 'image-folder-csv', images = 'images', labels = 'train.csv', classes_file = 'NAME' }";
        let folder = folder("a.png,pug\nc.PNG,cow\n").with(name, classes);
        expected.assert_eq(&folder.refusal(&table.replace("NAME", name)));
    };
    refused(
        "c.txt",
        b"pug\nboxer\n",
        expect!["~/train.csv:2: label `cow` is none of the 2 names in ~/c.txt, nor an integer below 2"],
    );
    refused("c.txt", b"pug\n\nboxer\n", expect![[r#"~/c.txt:2: "" is no name for a class"#]]);
    refused("c.txt", b"pug\nboxer\npug", expect!["~/c.txt: has the name `pug` twice"]);
    refused("c.txt", b"\n", expect!["~/c.txt: has no names of classes"]);
    refused("c.txt", b"pug\xff", expect!["~/c.txt: no UTF-8; store the file as UTF-8"]);
    refused("c.csv", b"0,pug\n1\n", expect!["~/c.csv:2: 1 column, expected 2 (label, name)"]);
    refused("c.csv", b"0,pug\n,cow\n", expect!["~/c.csv:2: the label is empty"]);
    refused("c.csv", b"0,pug\n1,\n", expect![[r#"~/c.csv:2: "" is no name for a class"#]]);
    refused("c.csv", b"0,pug\n2,cow\n", expect!["~/c.csv: has 2 rows and the label 2; integers are 0 to 1, each once"]);
    refused("c.csv", b"0,pug\n0,cow\n", expect!["~/c.csv: has 2 rows and the label 0; integers are 0 to 1, each once"]);
    refused("c.csv", b"a,pug\na,cow\n", expect!["~/c.csv: has the label `a` twice"]);
    refused(
        "c.csv",
        b"a,pug\n1,cow\nb,boxer\n",
        expect!["~/c.csv: labels that are integers: 1 of 2, expected all or none"],
    );
    refused(
        "c.csv",
        b"a,pug\npug,cow\n",
        expect!["~/c.csv: has `pug` as the name of one class and the label of another"],
    );
    refused("c.csv", b"", expect!["~/c.csv: has no names of classes"]);
    let missing =
        "dataset = { kind = 'image-folder-csv', images = 'images', labels = 'train.csv', classes_file = 'no' }";
    expect!["~/no: the file with the names of the classes does not exist"]
        .assert_eq(&folder("a.png,pug\n").refusal(missing));
    expect!["~/no.csv: the file with the names of the classes does not exist"]
        .assert_eq(&folder("a.png,pug\n").refusal(&missing.replace("'no'", "'no.csv'")));
    expect!["dataset `image-folder-csv`: `classes_file` and `classes` exclude each other"]
        .assert_eq(&folder("a.png,pug\n").refusal(&missing.replace("'no'", "'no', classes = ['pug']")));
}

#[test]
fn cells_are_separated_by_what_is_said_or_usual() {
    let rows = "file,breed\na.png,\"pug, \"\"old\"\"\"\nc.PNG,boxer\n";
    let table = one("{ column = 'breed', field = 'label' }");
    let classes = |name: &str, list: &str, table: &str| {
        let folder = folder("").with(name, list);
        open(&folder, &table.replace("train.csv", name)).classes().join("/")
    };
    let with = |delimiter: &str| table.replace("columns", &format!("delimiter = '{delimiter}', columns"));
    assert_eq!(classes("train.csv", rows, &table), "boxer/pug, \"old\"");
    assert_eq!(
        classes("train.csv", &rows.replace("e,b", "e;b").replace("g,\"", "g;\"").replace("G,", "G;"), &with(";")),
        "boxer/pug, \"old\""
    );
    let tabs = "file\tbreed\r\na.png\tpug, old\r\nc.PNG\t boxer\r\n";
    assert_eq!(classes("train.tsv", tabs, &table), "boxer/pug, old");
    assert_eq!(classes("train.TSV", tabs, &table), "boxer/pug, old");
    assert_eq!(classes("train.txt", tabs, &with("tab")), "boxer/pug, old");
    assert_eq!(classes("train.tsv", rows, &with(",")), "boxer/pug, \"old\"");
    refused(&with("|"), rows, expect![[r#"dataset `image-folder-csv`: `delimiter` is "|", not `,` or `;` or `tab`"#]]);
    refused(&with("tab"), rows, expect!["~/train.csv:1: the header has no column `breed`; there are `file,breed`"]);
}

#[test]
fn wrong_lists_are_refused_by_line_and_column() {
    refused(PETS, "", expect!["~/train.csv: empty, expected a header and a row for each image"]);
    refused(PETS, "\n\n", expect!["~/train.csv: empty, expected a header and a row for each image"]);
    refused(
        PETS,
        LIST.lines().next().unwrap(),
        expect!["~/train.csv: a header and no rows, expected a header and a row for each image"],
    );
    refused(
        PETS,
        LIST.replace("age", "Age "),
        expect!["~/train.csv:1: the header has no column `age`; did you mean `Age`?"],
    );
    refused(PETS, LIST.replace("note", "age"), expect!["~/train.csv:1: the header has the column `age` twice"]);
    refused(
        &PETS.replace("\"file\"", "\"path\""),
        LIST,
        expect![
            "~/train.csv:1: the header has no column `path`; there are `age`, `file`, `tags`, `note`, `mask file`, `breed`"
        ],
    );
    refused(
        &PETS.replace("\"age\"", "\"weight\""),
        LIST,
        expect![
            "~/train.csv:1: the header has no column `weight`; there are `age`, `file`, `tags`, `note`, `mask file`, `breed`"
        ],
    );
    refused(PETS, LIST.replace("\"x, y\"", "x, y"), expect!["~/train.csv:3: 7 columns, expected 6 as in the header"]);
    refused(PETS, LIST.replace("c.PNG", "d.png"), expect!["~/train.csv:3: d.png does not exist in ~/images"]);
    refused(
        PETS,
        LIST.replace("sub/c.png", "c.png"),
        expect!["~/train.csv:3: column `mask file`: c.png does not exist in ~/masks"],
    );
    refused(PETS, LIST.replace("sub/c.png", ""), expect!["~/train.csv:3: column `mask file`: the path is empty"]);
    refused(PETS, LIST.replace("-2e3", "old"), expect!["~/train.csv:3: column `age`: `old` is no finite number (f32)"]);
    refused(
        PETS,
        LIST.replace("-2e3", "1e39"),
        expect!["~/train.csv:3: column `age`: `1e39` is no finite number (f32)"],
    );
    refused(PETS, LIST.replace("-2e3", "nan"), expect!["~/train.csv:3: column `age`: `nan` is no finite number (f32)"]);
    refused(
        PETS,
        LIST.replace("-2e3", ""),
        expect!["~/train.csv:3: column `age`: the number is empty; `missing` may say what an empty one is"],
    );
    refused(PETS, LIST.replace("boxer", ""), expect!["~/train.csv:3: column `breed`: the label is empty"]);
    refused(
        PETS,
        LIST.replace("boxer", "17"),
        expect![
            "~/train.csv:3: column `breed`: label `17` is an integer, but the labels before it are names; list the names under `classes`"
        ],
    );
    refused(
        PETS,
        LIST.replace("boxer", "\"a\nb\""),
        expect![[r#"~/train.csv:3: column `breed`: the label "a\nb" has a line break"#]],
    );
}

#[test]
fn wrong_columns_are_refused_by_key() {
    let refused = |from: &str, to: &str, expected: Expect| {
        assert!(PETS.contains(from), "{from}");
        refused(&PETS.replace(from, to), LIST, expected);
    };
    refused(
        "kind = \"number\"",
        "kind = \"float\"",
        expect![[
            r#"`columns[2]` of dataset `image-folder-csv`: `kind` is "float", not `label` or `number` or `multi-label` or `mask`"#
        ]],
    );
    refused(
        "column = \"age\"",
        "colum = \"age\"",
        expect!["unknown key `colum` of `columns[2]` of dataset `image-folder-csv`; did you mean `column`?"],
    );
    refused("column = \"age\", ", "", expect!["`columns[2]` of dataset `image-folder-csv` needs the key `column`"]);
    refused(
        "kind = \"number\"",
        "field = \"mask\"",
        expect![[r#"`columns[2]` of dataset `image-folder-csv`: `field` is "mask", as that of a column before it"#]],
    );
    refused(
        "kind = \"number\"",
        "field = \"image\"",
        expect![[
            r#"`columns[2]` of dataset `image-folder-csv`: `field` is "image"; give it a name other than `image`"#
        ]],
    );
    refused(
        "kind = \"number\"",
        "field = \"\"",
        expect![[r#"`columns[2]` of dataset `image-folder-csv`: `field` is ""; give it a name other than `image`"#]],
    );
    refused(
        "kind = \"number\"",
        "kind = \"number\", folder = \"x\"",
        expect![
            "unknown key `folder` of `columns[2]` of dataset `image-folder-csv`; there are `column`, `kind`, `missing`, `field`"
        ],
    );
    refused(
        "path_column",
        "classes = ['a']\npath_column",
        expect![
            "dataset `image-folder-csv`: `classes` is for a list without `columns`; put it into the entry of its column"
        ],
    );
    refused(
        "path_column",
        "missing = -1\npath_column",
        expect![
            "dataset `image-folder-csv`: `missing` is for a list without `columns`; put it into the entry of its column"
        ],
    );
    let without =
        "dataset = { kind = 'image-folder-csv', images = 'images', labels = 'train.csv', path_column = 'file' }";
    expect!["dataset `image-folder-csv`: `path_column` needs `columns`, which says where labels and others stand"]
        .assert_eq(&folder(LIST).refusal(without));
    expect![[r#"dataset `image-folder-csv`: `columns` is ["age"], not a list of tables"#]]
        .assert_eq(&folder(LIST).refusal(&one("'age'")));
    let key = |table: &str| {
        folder(LIST).spec(table).and_then(|spec| batchmill_datasets::builtin().check(&spec)).unwrap_err().key
    };
    assert_eq!(key(&PETS.replace("\"number\"", "\"float\"")), ["dataset", "columns", "2", "kind"]);
}

#[test]
fn a_mask_is_of_its_images_size_and_unchanged() {
    let with_mask = |mask: &[u8]| folder(LIST).with("masks/a.png", mask).failure(PETS);
    expect!["~/masks/a.png: the mask has 3 x 3 pixels, and its image 2 x 3 (height x width); they must be of one size"]
        .assert_eq(&with_mask(&gray(3, 3)));
    expect![[r#"decode ~/masks/a.png: not an image: it begins with the text "no image at ", unlike a JPEG, PNG, WebP, BMP, GIF or TIFF"#]]
        .assert_eq(&with_mask(b"no image at all"));
    let folder = folder(LIST);
    let pipeline = folder.open(PETS).unwrap();
    crate::support::touch(&folder.path("masks/a.png"), UNIX_EPOCH + Duration::from_secs(1));
    expect!["~/masks/a.png has changed since the loader read its index: it was written to; put it back as it was, or have the loader take it as it is with `loader quarantine --retry`"].assert_eq(&folder.report(&survey(&pipeline).unwrap_err()));
}

#[test]
fn what_was_done_to_masks_is_seen() {
    let data = |time: u64| {
        let folder = folder(LIST);
        let time = |seconds| UNIX_EPOCH + Duration::from_secs(seconds + time);
        for (name, seconds) in [("images/a.png", 1), ("images/c.PNG", 1), ("masks/a.png", 1), ("masks/sub/c.png", 2)] {
            crate::support::touch(&folder.path(name), time(seconds));
        }
        let identity = folder.open(PETS).unwrap().identity();
        let (name, value) = identity.parts.last().unwrap().clone();
        assert_eq!(name, "data");
        (value[..32].to_owned(), value[34..].to_owned())
    };
    let (first, second) = (data(0), data(60));
    expect!["2 files, 176 B, newest a.png of 1970-01-01T00:00:01Z; mask: 2 files, 152 B, newest sub/c.png of 1970-01-01T00:00:02Z"].assert_eq(&first.1);
    assert_ne!(first.0, second.0);
}
