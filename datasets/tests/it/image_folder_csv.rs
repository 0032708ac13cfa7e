//! The kind `image-folder-csv`: what a CSV may say, and what a wrong one is told.

use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use batchmill_datasets::options::{Options, Role};
use batchmill_datasets::source::Source;
use batchmill_datasets::sources::ImageFolderCsv;
use batchmill_protocol::position::Position;
use expect_test::{Expect, expect};

use crate::support::{Batch, Folder, jpeg, png, report, survey};

const TABLE: &str = r#"dataset = { kind = "image-folder-csv", images = "images", labels = "train.csv" }"#;

/// Three images and a CSV.
fn folder(csv: impl AsRef<[u8]>) -> Folder {
    let image = png(3, 2);
    Folder::new()
        .with("images/a.png", &image)
        .with("images/sub/b.jpg", jpeg(3, 2))
        .with("images/c.PNG", &image)
        .with("train.csv", csv)
}

/// The labels of a stream, and the names of its classes.
fn labels(csv: &str) -> (Vec<u8>, Vec<String>) {
    let folder = folder(csv);
    let pipeline = folder.open(TABLE).unwrap_or_else(|error| panic!("{}", report(&error)));
    let fields = survey(&pipeline).unwrap();
    let batch = Batch::fill(&pipeline, &fields, Position::default()).unwrap();
    (batch.rows.iter().map(|row| row[1][0]).collect(), pipeline.classes().to_vec())
}

fn refused(csv: impl AsRef<[u8]>, expected: Expect) {
    expected.assert_eq(&folder(csv).refusal(TABLE));
}

#[test]
fn a_sample_is_an_image_and_a_label() {
    let folder = folder("a.png,1\nsub/b.jpg,0\n");
    let pipeline = folder.open(TABLE).unwrap();
    let fields = survey(&pipeline).unwrap();
    assert_eq!(fields.iter().map(ToString::to_string).collect::<Vec<_>>(), ["image: u8 [2, 3, 3]", "label: i64 []"]);
    let batch = Batch::fill(&pipeline, &fields, Position::default()).unwrap();
    assert_eq!(batch.rows[0][0], crate::support::picture(3, 2).into_raw());
    assert_eq!(batch.rows[0][1], 1_i64.to_le_bytes());
    assert_eq!(batch.order(), [(0, false), (1, false)]);
    assert_eq!(batch.attempts[2], (1, folder.path("images/sub/b.jpg").display().to_string()));
}

#[test]
fn a_header_is_recognised_and_left_out() {
    let numbers = ["0", "1"].map(str::to_owned).to_vec();
    for header in ["", "filepath,label\n", "\u{feff}image,class\r\n", "\n\nfile name,\"a, b\"\n"] {
        let csv = format!("{header}a.png,1\n sub/b.jpg , 0 \n\n\"c.PNG\",1\n");
        assert_eq!(labels(&csv), (vec![1, 0, 1], numbers.clone()), "{csv:?}");
    }
}

#[test]
fn labels_are_names_or_integers() {
    let classes = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    assert_eq!(labels("a.png,dog\nsub/b.jpg,cat\nc.PNG,dog"), (vec![1, 0, 1], classes(&["cat", "dog"])));
    assert_eq!(labels("a.png,3\nsub/b.jpg,1"), (vec![3, 1], classes(&["0", "1", "2", "3"])));
}

#[test]
fn given_classes_fix_the_labels() {
    let table = TABLE.replace(" }", r#", classes = ["dog", "cat"] }"#);
    let pipeline = folder("a.png,cat\nsub/b.jpg,0").open(&table).unwrap();
    assert_eq!(pipeline.classes(), ["dog", "cat"]);
    expect!["~/train.csv:2: label `cow` is none of the 2 names in `classes`, nor an integer below 2"]
        .assert_eq(&folder("a.png,cat\nsub/b.jpg,cow").refusal(&table));
}

#[test]
fn wrong_rows_are_refused_by_line() {
    refused("path,label\na.png,1\na.png,1,2\n", expect!["~/train.csv:3: 3 columns, expected 2 (path, label)"]);
    refused("path,label\n\n\na.png\n", expect!["~/train.csv:4: 1 column, expected 2 (path, label)"]);
    refused("a.png,1\n\"sub/\nb.jpg\",1\n", expect![[r#"~/train.csv:2: sub/\nb.jpg does not exist in ~/images"#]]);
    refused("a.png,1\nmissing.png,1\n", expect!["~/train.csv:2: missing.png does not exist in ~/images"]);
    refused("missing.png,cat\na.png,cat\n", expect!["~/train.csv:1: missing.png does not exist in ~/images"]);
    refused("missing,3\na.png,3\n", expect!["~/train.csv:1: missing does not exist in ~/images"]);
    refused("a.png,1\nsub,1\n", expect!["~/train.csv:2: sub in ~/images is no file"]);
    refused("a.png,1\n,1\n", expect!["~/train.csv:2: the path is empty"]);
    refused("a.png,1\nc.PNG,\n", expect!["~/train.csv:2: the label is empty"]);
    refused(
        "a.png,1\nc.PNG,cat\n",
        expect!["~/train.csv:2: label `cat` is neither an integer, as the labels before it, nor a known class"],
    );
    refused(
        "a.png,cat\nc.PNG,1\n",
        expect![
            "~/train.csv:2: label `1` is an integer, but the labels before it are names; list the names under `classes`"
        ],
    );
    refused("a.png,-1\n", expect!["~/train.csv:1: label -1 is no class number: they go from 0 to 1048575"]);
    refused(b"a.png,1\nc.PNG,\xff\n", expect!["~/train.csv:2: column 2 is not UTF-8; store the file as UTF-8"]);
}

#[test]
fn an_empty_csv_is_refused() {
    refused("", expect!["~/train.csv: empty, expected a row (path, label) for each image"]);
    refused("\n\n", expect!["~/train.csv: empty, expected a row (path, label) for each image"]);
    refused(
        "filepath,label\n",
        expect!["~/train.csv: a header and no rows, expected a row (path, label) for each image"],
    );
}

#[test]
fn missing_folders_and_files_are_refused() {
    expect!["~/images: the folder with the images does not exist"]
        .assert_eq(&Folder::new().with("train.csv", "a.png,1").refusal(TABLE));
    expect!["~/train.csv: the CSV file with the labels does not exist"]
        .assert_eq(&Folder::new().with("images/a.png", png(1, 1)).refusal(TABLE));
    expect!["~/images: a file, expected the folder with the images"]
        .assert_eq(&Folder::new().with("images", "").with("train.csv", "").refusal(TABLE));
    expect!["read ~/train.csv: Is a directory (os error 21)"]
        .assert_eq(&Folder::new().with("images/a.png", "").with("train.csv/x", "").refusal(TABLE));
}

#[test]
fn unreadable_images_fail_by_name() {
    let failure = |name: &str, bytes: &[u8]| {
        let csv = format!("{name},1\n");
        Folder::new().with(&format!("images/{name}"), bytes).with("train.csv", csv).failure(TABLE)
    };
    expect![[r#"decode ~/images/text.png: not an image: it begins with the text "hello, I am ", unlike a JPEG, PNG, WebP, BMP, GIF or TIFF"#]]
    .assert_eq(&failure("text.png", b"hello, I am a text\n"));
    expect!["decode ~/images/empty.png: not an image: it is empty"].assert_eq(&failure("empty.png", b""));
    expect!["decode ~/images/bits.jpg: not an image: it begins with the bytes [00, 01, 02, ff], unlike a JPEG, PNG, WebP, BMP, GIF or TIFF"]
        .assert_eq(&failure("bits.jpg", &[0, 1, 2, 0xff]));
    expect!["decode ~/images/other.png: a .qoi file, whatever its name; only JPEG, PNG, WebP, BMP, GIF and TIFF are read: convert it"].assert_eq(&failure("other.png", b"qoif and more"));
    let whole = png(30, 20);
    expect!["decode ~/images/half.png: broken PNG: unexpected end of file"]
        .assert_eq(&failure("half.png", &whole[..whole.len() / 2]));
}

#[test]
fn a_truncated_jpeg_fails_by_name() {
    let whole = jpeg(64, 48);
    for len in [whole.len() / 2, whole.len() - 2] {
        let folder = Folder::new().with("images/half.jpg", &whole[..len]).with("train.csv", "half.jpg,1\n");
        let failure = folder.failure(TABLE);
        assert!(failure.starts_with("decode ~/images/half.jpg: broken JPEG: "), "{len} bytes: {failure}");
    }
}

#[test]
fn a_changed_file_fails_by_name() {
    let folder = folder("a.png,1\n");
    let file = folder.path("images/a.png");
    let first = fs::metadata(&file).unwrap().modified().unwrap();
    let pipeline = folder.open(TABLE).unwrap();
    let refused = || folder.report(&survey(&pipeline).unwrap_err());
    assert!(survey(&pipeline).is_ok());

    crate::support::touch(&file, UNIX_EPOCH + Duration::from_secs(1));
    expect!["~/images/a.png has changed since the loader read its index: it was written to; put it back as it was, or have the loader take it as it is with `loader quarantine --retry`"]
    .assert_eq(&refused());
    fs::write(&file, b"short").unwrap();
    expect!["~/images/a.png has changed since the loader read its index: it has 5 bytes and had 88; put it back as it was, or have the loader take it as it is with `loader quarantine --retry`"]
    .assert_eq(&refused());
    fs::remove_file(&file).unwrap();
    expect!["~/images/a.png has changed since the loader read its index: it is gone; put it back as it was, or have the loader take it as it is with `loader quarantine --retry`"]
    .assert_eq(&refused());
    fs::write(&file, png(3, 2)).unwrap();
    crate::support::touch(&file, first);
    assert!(survey(&pipeline).is_ok());
}

#[test]
fn images_of_different_sizes_need_a_transform() {
    let folder = Folder::new()
        .with("images/a.png", png(8, 6))
        .with("images/b.png", png(9, 6))
        .with("train.csv", "a.png,1\nb.png,1\n");
    expect![[r#"
        ~/images/b.png: image: u8 [6, 9, 3], but that of the stream's first sample is u8 [6, 8, 3]; a batch needs images of one size: add the transforms `resize` and `center-crop` (--resize N --crop N)"#]]
    .assert_eq(&folder.failure(TABLE));

    let table =
        format!("{TABLE}\ntransforms = [{{ kind = 'resize', size = 6 }}, {{ kind = 'center-crop', size = 6 }}]");
    let pipeline = folder.open(&table).unwrap();
    let fields = survey(&pipeline).unwrap();
    assert_eq!(fields[0].to_string(), "image: u8 [6, 6, 3]");
    assert_eq!(Batch::fill(&pipeline, &fields, Position::default()).unwrap().order(), [(0, false), (1, false)]);
}

#[test]
fn gray_images_have_one_channel() {
    let table = TABLE.replace(" }", r#", color = "gray" }"#);
    let folder = folder("a.png,1\nsub/b.jpg,0\n");
    let pipeline = folder.open(&table).unwrap();
    assert_eq!(survey(&pipeline).unwrap()[0].to_string(), "image: u8 [2, 3, 1]");
}

#[test]
fn the_hash_knows_files_and_labels() {
    let hash = |folder: &Folder, table: &str| folder.open(table).unwrap().identity().hash();
    let time = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let make = |csv: &str| {
        let folder = folder(csv);
        for name in ["a.png", "sub/b.jpg", "c.PNG"] {
            crate::support::touch(&folder.path("images").join(name), time);
        }
        folder
    };
    let first = hash(&make("a.png,1\nc.PNG,0\n"), TABLE);
    assert_eq!(first.len(), 32);
    assert_eq!(first, hash(&make("path,label\na.png,1\nc.PNG,0\n"), TABLE), "a header is no content");
    assert_ne!(first, hash(&make("a.png,0\nc.PNG,0\n"), TABLE));
    assert_ne!(first, hash(&make("a.png,1\n"), TABLE));
    assert_ne!(first, hash(&make("a.png,1\nc.PNG,0\n"), &format!("{TABLE}\nseed = 1")));
    let changed = make("a.png,1\nc.PNG,0\n").with("images/a.png", png(4, 4));
    assert_ne!(first, hash(&changed, TABLE));
}

#[test]
fn the_index_of_a_plain_list_is_what_it_always_was() {
    let folder = folder("path,breed\na.png,pug\nsub/b.jpg,cat\n");
    for (name, seconds) in [("images/a.png", 1), ("images/sub/b.jpg", 2)] {
        crate::support::touch(&folder.path(name), UNIX_EPOCH + Duration::from_secs(seconds));
    }
    let mut expected = b"bmfiles1".to_vec();
    // Rows, classes, bytes of paths; then for both files where the path ends, the size, the time.
    let [png, jpeg] = [png(3, 2), jpeg(3, 2)].map(|bytes| bytes.len() as u64);
    for number in [2, 2, 14, 5, 14, png, jpeg, 1_000_000_000, 2_000_000_000] {
        expected.extend(number.to_le_bytes());
    }
    expected.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend(b"a.pngsub/b.jpgcat\npug\n");
    let spec = folder.spec(TABLE).unwrap();
    let mut options = Options::new(Role::Dataset, &spec.dataset, &spec.folder);
    // Checkpoints keep its hash.
    assert_eq!(ImageFolderCsv::from_options(&mut options).unwrap().index().unwrap(), expected);
}

#[test]
fn wrong_options_are_refused_by_key() {
    let folder = folder("a.png,1\n");
    let key =
        |table: &str| folder.spec(table).and_then(|spec| batchmill_datasets::builtin().check(&spec)).unwrap_err().key;
    let misspelled = TABLE.replace("images =", "imgaes =");
    expect!["unknown key `imgaes` of dataset `image-folder-csv`; did you mean `images`?"]
        .assert_eq(&folder.refusal(&misspelled));
    assert_eq!(key(&misspelled), ["dataset", "imgaes"]);
    let extra = TABLE.replace(" }", ", colour = 'rgb' }");
    expect!["unknown key `colour` of dataset `image-folder-csv`; did you mean `color`?"]
        .assert_eq(&folder.refusal(&extra));
    assert_eq!(key(&extra), ["dataset", "colour"]);
    expect!["unknown key `depth` of dataset `image-folder-csv`; there are `images`, `labels`, `color`, `exif_orientation`, `draft`, `delimiter`, `path_column`, `columns`, `classes`, `classes_file`, `missing`, `keep_index`"]
        .assert_eq(&folder.refusal(&TABLE.replace(" }", ", depth = 3 }")));
    expect![[r#"dataset `image-folder-csv`: `color` is "rbg", not `rgb` or `gray` or `rgba`; did you mean `rgb`?"#]]
        .assert_eq(&folder.refusal(&TABLE.replace(" }", ", color = 'rbg' }")));
    expect!["dataset `image-folder-csv`: `color` is 3, not `rgb` or `gray` or `rgba`"]
        .assert_eq(&folder.refusal(&TABLE.replace(" }", ", color = 3 }")));
    expect!["dataset `image-folder-csv`: `classes` has the name `a` twice"]
        .assert_eq(&folder.refusal(&TABLE.replace(" }", ", classes = ['a', 'a'] }")));
    expect!["dataset `image-folder-csv`: `classes` is an empty list; leave it out to take the classes from the labels"]
        .assert_eq(&folder.refusal(&TABLE.replace(" }", ", classes = [] }")));
    expect!["dataset `image-folder-csv` needs the key `images`"]
        .assert_eq(&folder.refusal("dataset = 'image-folder-csv'"));
    assert_eq!(key("dataset = 'image-folder-csv'"), ["dataset"]);
}
