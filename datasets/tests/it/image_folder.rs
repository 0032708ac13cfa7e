//! The kind `image-folder`: the files torchvision's `ImageFolder` would find, and what a wrong folder is told.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::time::{Duration, UNIX_EPOCH};

use batchmill_datasets::dataset::MapDataset;
use batchmill_datasets::sources::ImageFolder;
use batchmill_protocol::position::Position;
use expect_test::{Expect, expect};

use crate::support::{Batch, Folder, png, survey};

const TABLE: &str = "dataset = { kind = 'image-folder', root = 'photos' }";

/// The table with one more option.
fn with(option: &str) -> String {
    TABLE.replace(" }", &format!(", {option} }}"))
}

/// A folder with these files below `photos`, all of them images.
fn photos(names: &[&str]) -> Folder {
    names.iter().fold(Folder::new(), |folder, name| folder.with(&format!("photos/{name}"), png(3, 2)))
}

fn open(folder: &Folder, table: &str) -> Box<dyn MapDataset> {
    folder.dataset(table, ImageFolder::from_options).unwrap_or_else(|error| panic!("{}", folder.report(&error)))
}

/// The files of the dataset below `photos`, with their labels.
fn listed(folder: &Folder, table: &str) -> Vec<String> {
    let dataset = open(folder, table);
    let root = format!("{}/", folder.path("photos").display());
    let labelled = |index| match dataset.number("label", index) {
        Some(label) => format!("{} {label}", dataset.name(index).replace(&root, "")),
        None => dataset.name(index).replace(&root, ""),
    };
    (0..dataset.len()).map(labelled).collect()
}

fn refused(folder: &Folder, table: &str, expected: Expect) {
    expected.assert_eq(&folder.refusal(table));
}

#[test]
fn a_sample_is_an_image_and_the_class_of_its_folder() {
    let folder = photos(&["dog/a.png", "cat/b.png"]);
    let pipeline = folder.open(TABLE).unwrap();
    let fields = survey(&pipeline).unwrap();
    assert_eq!(fields.iter().map(ToString::to_string).collect::<Vec<_>>(), ["image: u8 [2, 3, 3]", "label: i64 []"]);
    assert_eq!(pipeline.classes(), ["cat", "dog"]);
    let batch = Batch::fill(&pipeline, &fields, Position::default()).unwrap();
    assert_eq!(batch.rows[0][0], crate::support::picture(3, 2).into_raw());
    assert_eq!([&batch.rows[0][1], &batch.rows[1][1]], [&0_i64.to_le_bytes(), &1_i64.to_le_bytes()]);
    let path = |name| folder.path(name).display().to_string();
    let (cat, dog) = ((0, path("photos/cat/b.png")), (1, path("photos/dog/a.png")));
    // The next file is opened before the first is decoded, and said before that: it may hang.
    assert_eq!(batch.attempts, [dog.clone(), cat, dog]);
    let gray = folder.open(&with("color = 'gray'")).unwrap();
    assert_eq!(survey(&gray).unwrap()[0].to_string(), "image: u8 [2, 3, 1]");
}

#[test]
fn files_are_found_in_the_order_of_torchvision() {
    let folder = photos(&[
        "b/2.png",
        "b/10.PNG",
        "b/z/1.jpeg",
        "b/z-1/1.webp",
        "b/z/y/1.bmp",
        "b/README.txt",
        "b/noextension",
        "b/png",
        "B/1.jpg",
        "ä/1.tiff",
        "c/folder.png/1.Tif",
        "stray.png",
    ])
    .with("photos/c/2.ppm", "P6");
    // What `ImageFolder(..).samples` of torchvision is: folders are compared by their whole paths.
    assert_eq!(
        listed(&folder, TABLE),
        [
            "B/1.jpg 0",
            "b/10.PNG 1",
            "b/2.png 1",
            "b/z/1.jpeg 1",
            "b/z-1/1.webp 1",
            "b/z/y/1.bmp 1",
            "c/2.ppm 2",
            "c/folder.png/1.Tif 2",
            "ä/1.tiff 3"
        ]
    );
    assert_eq!(open(&folder, TABLE).classes(), ["B", "b", "c", "ä"]);
}

#[test]
fn extensions_are_as_asked_for() {
    let folder = photos(&["a/1.gif", "a/2.png", "a/3.GIF", "a/4.seg.png", "a/5-seg.png"]);
    assert_eq!(listed(&folder, &with("extensions = ['gif']")), ["a/1.gif 0", "a/3.GIF 0"]);
    assert_eq!(listed(&folder, &with("extensions = ['.PNG']")), ["a/2.png 0", "a/4.seg.png 0", "a/5-seg.png 0"]);
    assert_eq!(listed(&folder, &with("extensions = ['seg.png']")), ["a/4.seg.png 0"]);
    refused(
        &folder,
        &with("extensions = []"),
        expect![[r#"dataset `image-folder`: `extensions` must be a list of at least one, such as ["jpg", "png"]"#]],
    );
    refused(
        &folder,
        &with("extensions = ['.']"),
        expect![[r#"dataset `image-folder`: `extensions` must be a list of at least one, such as ["jpg", "png"]"#]],
    );
    refused(
        &folder,
        &with("extensions = 'png'"),
        expect![[r#"dataset `image-folder`: `extensions` is "png", not a list of texts in quotes"#]],
    );
    refused(
        &folder,
        &with("extensions = ['jpg', 'jpeg']"),
        expect![
            "~/photos: the class `a` has no image (a file that ends in .jpg, .jpeg); remove the folder, or set `allow_empty = true`"
        ],
    );
}

#[test]
fn hidden_files_are_left_out() {
    let folder = photos(&["a/1.png", "a/._1.png", "a/.thumbs/1.png", ".ipynb_checkpoints/1.png"]);
    assert_eq!(listed(&folder, TABLE), ["a/1.png 0"]);
    assert_eq!(open(&folder, TABLE).classes(), ["a"]);
}

#[test]
fn images_without_classes_have_no_label() {
    let folder = photos(&["b.png", "sub/a.png", "a.png", ".c.png"]);
    let table = with("labels = false");
    assert_eq!(listed(&folder, &table), ["a.png", "b.png", "sub/a.png"]);
    let pipeline = folder.open(&table).unwrap();
    assert_eq!(survey(&pipeline).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>(), ["image: u8 [2, 3, 3]"]);
    assert!(pipeline.classes().is_empty());
    refused(
        &folder,
        &with("labels = false, allow_empty = true"),
        expect!["dataset `image-folder`: `allow_empty` has no sense with `labels = false`: there are no classes"],
    );
    refused(
        &Folder::new().with("photos/a.txt", ""),
        &table,
        expect![
            "~/photos: no image in it; expected a file that ends in .jpg, .jpeg, .png, .ppm, .bmp, .pgm, .tif, .tiff, .webp"
        ],
    );
}

#[test]
fn classes_without_images_are_refused_unless_allowed() {
    let folder = photos(&["b/1.png", "a/notes.txt", "c/.hidden.png"]);
    refused(
        &folder,
        TABLE,
        expect![
            "~/photos: the classes `a`, `c` have no image (a file that ends in .jpg, .jpeg, .png, .ppm, .bmp, .pgm, .tif, .tiff, .webp); remove the folder, or set `allow_empty = true`"
        ],
    );
    refused(
        &photos(&["b/1.png", "a/notes.txt"]),
        &with("extensions = ['png']"),
        expect![
            "~/photos: the class `a` has no image (a file that ends in .png); remove the folder, or set `allow_empty = true`"
        ],
    );
    assert_eq!(listed(&folder, &with("allow_empty = true")), ["b/1.png 1"]);
    assert_eq!(open(&folder, &with("allow_empty = true")).classes(), ["a", "b", "c"]);
    let many = photos(&["1/x", "2/x", "3/x", "4/x", "5/x", "6/x", "7/x"]);
    refused(
        &many,
        &with("extensions = ['png']"),
        expect![
            "~/photos: the classes `1`, `2`, `3`, `4`, `5` and 2 more have no image (a file that ends in .png); remove the folder, or set `allow_empty = true`"
        ],
    );
    refused(
        &many,
        &with("extensions = ['png'], allow_empty = true"),
        expect!["~/photos: no image in it; expected a file that ends in .png"],
    );
}

#[test]
fn folders_that_are_none_are_refused() {
    refused(&Folder::new(), TABLE, expect!["~/photos: the folder with the images does not exist"]);
    refused(&Folder::new().with("photos", ""), TABLE, expect!["~/photos: a file, expected the folder with the images"]);
    refused(
        &Folder::new().with("photos/a.png", ""),
        TABLE,
        expect![
            "~/photos: no folder in it; expected one for each class, or `labels = false` for images without classes"
        ],
    );
    refused(
        &photos(&["a\nb/1.png"]),
        TABLE,
        expect![[r#"~/photos/a\nb: its name cannot be that of a class: it is blank or has a line break; rename it"#]],
    );
    refused(
        &photos(&[" /1.png"]),
        TABLE,
        expect!["~/photos/ : its name cannot be that of a class: it is blank or has a line break; rename it"],
    );
    refused(&Folder::new(), "dataset = 'image-folder'", expect!["dataset `image-folder` needs the key `root`"]);
    refused(
        &Folder::new(),
        &TABLE.replace("root", "rot"),
        expect!["unknown key `rot` of dataset `image-folder`; did you mean `root`?"],
    );
}

#[test]
fn links_are_followed_and_loops_refused() {
    let folder = photos(&["a/1.png"]).with("elsewhere/2.png", png(3, 2)).with("elsewhere/deep/3.png", png(3, 2));
    symlink(folder.path("elsewhere"), folder.path("photos/b")).unwrap();
    symlink(folder.path("elsewhere/2.png"), folder.path("photos/a/0.png")).unwrap();
    // The same folder twice is no loop.
    symlink("../../elsewhere/deep", folder.path("photos/a/again")).unwrap();
    let files = ["a/0.png 0", "a/1.png 0", "a/again/3.png 0", "b/2.png 1", "b/deep/3.png 1"];
    assert_eq!(listed(&folder, TABLE), files);

    symlink("..", folder.path("elsewhere/deep/up")).unwrap();
    refused(
        &folder,
        TABLE,
        expect!["~/photos/a/again/up/deep: leads back, by a link, to a folder that it lies in; remove the link"],
    );
    fs::remove_file(folder.path("elsewhere/deep/up")).unwrap();
    symlink(folder.path("photos"), folder.path("elsewhere/root")).unwrap();
    refused(
        &folder,
        TABLE,
        expect!["~/photos/b/root: leads back, by a link, to a folder that it lies in; remove the link"],
    );
    fs::remove_file(folder.path("elsewhere/root")).unwrap();
    symlink("self", folder.path("photos/a/self")).unwrap();
    refused(&folder, TABLE, expect!["read ~/photos/a/self: Too many levels of symbolic links (os error 40)"]);
    fs::remove_file(folder.path("photos/a/self")).unwrap();
    symlink("nowhere", folder.path("photos/c")).unwrap();
    refused(&folder, TABLE, expect!["~/photos/c: is a link to what does not exist; mend or remove it"]);
}

#[test]
fn names_that_are_no_text_are_refused_where_they_matter() {
    let folder = photos(&["a/1.png"]);
    let path = |name: &[u8]| folder.path("photos/a").join(OsStr::from_bytes(name));
    fs::write(path(b"\xff.txt"), "").unwrap();
    fs::write(path(b".\xff.png"), "").unwrap();
    assert_eq!(listed(&folder, TABLE), ["a/1.png 0"]);
    fs::write(path(b"\xff.png"), png(3, 2)).unwrap();
    refused(&folder, TABLE, expect!["~/photos/a/�.png: the name is not UTF-8; rename it"]);
    fs::remove_file(path(b"\xff.png")).unwrap();
    fs::create_dir(path(b"\xfe")).unwrap();
    refused(&folder, TABLE, expect!["~/photos/a/�: the name is not UTF-8; rename it"]);
}

#[test]
fn what_is_no_file_is_refused() {
    let folder = photos(&["a/1.png"]);
    let _socket = std::os::unix::net::UnixListener::bind(folder.path("photos/a/2.png")).unwrap();
    refused(&folder, TABLE, expect!["~/photos/a/2.png: is no file, but is called as an image is; remove it"]);
}

#[test]
fn what_was_done_to_the_files_is_seen() {
    let folder = photos(&["a/1.png", "b/2.png"]);
    let time = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for name in ["photos/a/1.png", "photos/b/2.png"] {
        crate::support::touch(&folder.path(name), time);
    }
    let pipeline = folder.open(TABLE).unwrap();
    let data = |table: &str| folder.open(table).unwrap().identity().parts.last().unwrap().1.clone();
    let first = data(TABLE);
    let bytes = 2 * png(3, 2).len();
    assert_eq!(first[34..], format!("2 files, {bytes} B, newest a/1.png of 2023-11-14T22:13:20Z"));
    assert_ne!(first, data(&with("labels = false")));
    crate::support::touch(&folder.path("photos/b/2.png"), time + Duration::from_secs(1));
    let changed = Batch::fill(&pipeline, &survey(&pipeline).unwrap(), Position::default()).unwrap_err();
    expect!["~/photos/b/2.png has changed since the loader read its index: it was written to; put it back as it was, or have the loader take it as it is with `loader quarantine --retry`"].assert_eq(&folder.report(&changed));
    assert!(data(TABLE).ends_with("newest b/2.png of 2023-11-14T22:13:21Z"));
    fs::rename(folder.path("photos/b"), folder.path("photos/c")).unwrap();
    assert_ne!(data(TABLE)[..32], first[..32]);
}
