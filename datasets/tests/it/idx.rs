//! The kind `idx`: MNIST's files, whole and broken.

use batchmill_protocol::position::Position;
use expect_test::{Expect, expect};

use crate::support::{Batch, Folder, gzip, survey};

pub(crate) const TABLE: &str = r#"dataset = { kind = "idx", images = "images", labels = "labels" }"#;

/// Three images of 2 x 4 pixels that count up from 0.
pub(crate) fn images() -> Vec<u8> {
    let mut file = vec![0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 4];
    file.extend(0..24);
    file
}

pub(crate) fn labels() -> Vec<u8> {
    vec![0, 0, 8, 1, 0, 0, 0, 3, 7, 0, 9]
}

fn refused(images: impl AsRef<[u8]>, labels: impl AsRef<[u8]>, expected: Expect) {
    expected.assert_eq(&Folder::new().with("images", images).with("labels", labels).refusal(TABLE));
}

#[test]
fn plain_and_compressed_files_hold_the_same() {
    let folders = [
        Folder::new().with("images", images()).with("labels", labels()),
        Folder::new().with("images", gzip(images())).with("labels", gzip(labels())),
    ];
    for folder in folders {
        let pipeline = folder.open(TABLE).unwrap();
        let fields = survey(&pipeline).unwrap();
        assert_eq!(
            fields.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["image: u8 [2, 4, 1]", "label: i64 []"]
        );
        let batch = Batch::fill(&pipeline, &fields, Position::default()).unwrap();
        assert_eq!(batch.rows[1][0], (8..16).collect::<Vec<u8>>());
        assert_eq!(batch.rows.iter().map(|row| row[1][0]).collect::<Vec<_>>(), [7, 0, 9]);
        assert_eq!(batch.attempts[2].1, format!("row 2 of {}", folder.path("images").display()));
        assert_eq!(pipeline.classes().len(), 10);
        assert_eq!(pipeline.classes()[9], "9");
    }
}

#[test]
fn labels_are_known_without_reading_the_image() {
    let folder = Folder::new().with("images", images()).with("labels", labels());
    // Only what has the label 9 weighs anything.
    let sampler = "sampler = { kind = 'weighted', weights = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1], samples = 8 }";
    let pipeline = folder.open(&format!("{TABLE}\n{sampler}")).unwrap();
    let batch = Batch::fill(&pipeline, &survey(&pipeline).unwrap(), Position::default()).unwrap();
    assert_eq!(batch.rows.iter().map(|row| row[1][0]).collect::<Vec<_>>(), [9; 8]);
}

#[test]
fn classes_may_be_named() {
    let folder = Folder::new().with("images", images()).with("labels", labels());
    let names = "classes = ['T-shirt', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'boot'] }";
    let pipeline = folder.open(&TABLE.replace(" }", &format!(", {names}"))).unwrap();
    assert_eq!(pipeline.classes()[9], "boot");
    expect!["~/labels: holds the label 9, but `classes` has 2 names"]
        .assert_eq(&folder.refusal(&TABLE.replace(" }", ", classes = ['a', 'b'] }")));
}

#[test]
fn files_that_are_no_idx_are_refused() {
    refused(
        "hello world",
        labels(),
        expect!["~/images: no IDX file of images: it begins with [68, 65, 6c, 6c], expected [00, 00, 08, 03]"],
    );
    refused("", labels(), expect!["~/images: no IDX file of images: it begins with [], expected [00, 00, 08, 03]"]);
    refused(
        labels(),
        images(),
        expect!["~/images: no IDX file of images: it begins with [00, 00, 08, 01], expected [00, 00, 08, 03]"],
    );
    refused(
        images(),
        images(),
        expect!["~/labels: no IDX file of labels: it begins with [00, 00, 08, 03], expected [00, 00, 08, 01]"],
    );
    refused(&images()[..10], labels(), expect!["~/images: ends within its header, after 10 bytes"]);
    refused(
        &images()[..39],
        labels(),
        expect!["~/images: ends after 23 of the 24 bytes of data that its header promises"],
    );
    refused(
        [images(), vec![1]].concat(),
        labels(),
        expect!["~/images: goes on after the 24 bytes of data that its header promises"],
    );
    refused(images(), [0, 0, 8, 1, 0, 0, 0, 2, 7, 0], expect!["~/labels: holds 2 labels for the 3 images of ~/images"]);
    refused(
        [0, 0, 8, 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        labels(),
        expect!["~/images: claims 4294967295 images of 4294967295 x 4294967295 pixels, more than 4294967296 bytes"],
    );
    // One pixel more than the limit, in a file that could be decompressed to that.
    refused(
        gzip([0, 0, 8, 3, 1, 0, 0, 1, 0, 0, 0, 16, 0, 0, 0, 16]),
        labels(),
        expect!["~/images: claims 16777217 images of 16 x 16 pixels, more than 4294967296 bytes"],
    );
    refused(
        [0, 0, 8, 3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 4],
        [0, 0, 8, 1, 0, 0, 0, 0],
        expect!["~/images: holds 0 images of 2 x 4 pixels"],
    );
    let half = gzip(images());
    refused(&half[..half.len() / 2], labels(), expect!["read ~/images: incomplete deflate stream"]);
    expect!["read ~/labels: No such file or directory (os error 2)"]
        .assert_eq(&Folder::new().with("images", images()).refusal(TABLE));
}
