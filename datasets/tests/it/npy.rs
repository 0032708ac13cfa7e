//! The kinds `npy` and `npz`: arrays as numpy saves them, whole and broken.

use std::io::{Cursor, Write};
use std::time::{Duration, UNIX_EPOCH};

use batchmill_datasets::dataset::MapDataset;
use batchmill_datasets::options::{Options, Role};
use batchmill_datasets::random::Rng;
use batchmill_datasets::sample::Value;
use batchmill_datasets::source::Source;
use batchmill_datasets::sources::{Npy, Npz};
use batchmill_datasets::spec::Component;
use batchmill_protocol::position::Position;
use expect_test::{Expect, expect};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::support::{Batch, Folder, survey, touch};

/// An npy file of version 1.0, as numpy pads it.
pub(crate) fn npy(descr: &str, shape: &str, elements: &[u8]) -> Vec<u8> {
    ordered(descr, "False", shape, elements)
}

fn ordered(descr: &str, fortran_order: &str, shape: &str, elements: &[u8]) -> Vec<u8> {
    let mut literal = format!("{{'descr': '{descr}', 'fortran_order': {fortran_order}, 'shape': {shape}, }}");
    while (literal.len() + 11) % 64 != 0 {
        literal.push(' ');
    }
    literal.push('\n');
    let length = u16::try_from(literal.len()).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], literal.as_bytes(), elements].concat()
}

/// An npz file as `numpy.savez` writes it, or `numpy.savez_compressed`.
pub(crate) fn npz(method: CompressionMethod, arrays: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in arrays {
        writer.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// Three samples of 2 x 2 big-endian i16.
pub(crate) fn x() -> Vec<u8> {
    npy(">i2", "(3, 2, 2)", &(0..12_i16).flat_map(|number| (number * -100).to_be_bytes()).collect::<Vec<_>>())
}

/// Three labels.
pub(crate) fn y() -> Vec<u8> {
    npy("|u1", "(3,)", &[2, 0, 1])
}

const TABLE: &str = "dataset = { kind = 'npy', input = 'x.npy', label = 'y.npy' }";
const TABLE_NPZ: &str = "dataset = { kind = 'npz', file = 'data.npz' }";

fn refused(x: impl AsRef<[u8]>, expected: Expect) {
    expected.assert_eq(&Folder::new().with("x.npy", x).with("y.npy", y()).refusal(TABLE));
}

fn refused_npz(file: impl AsRef<[u8]>, expected: Expect) {
    expected.assert_eq(&Folder::new().with("data.npz", file).refusal(TABLE_NPZ));
}

/// Opens a dataset of either kind.
fn opened(folder: &Folder, kind: &str, options: &str) -> Box<dyn MapDataset> {
    fn open(source: impl Source) -> Box<dyn MapDataset> {
        let index = source.index().unwrap();
        Box::new(source).open(index.into()).unwrap()
    }
    let component = Component { kind: kind.into(), options: options.parse().unwrap() };
    let folder = folder.path("");
    let mut options = Options::new(Role::Dataset, &component, &folder);
    match kind {
        "npy" => open(Npy::from_options(&mut options).unwrap()),
        _ => open(Npz::from_options(&mut options).unwrap()),
    }
}

#[test]
fn arrays_of_any_kind_of_file_hold_the_same() {
    let arrays = [("input.npy", &x()[..]), ("label.npy", &y())];
    let folder = Folder::new()
        .with("x.npy", x())
        .with("y.npy", y())
        .with("data.npz", npz(CompressionMethod::Stored, &arrays))
        .with("deflated.npz", npz(CompressionMethod::Deflated, &arrays));
    for table in [
        TABLE,
        "dataset = { kind = 'npy', fields = { input = 'x.npy', label = 'y.npy' } }",
        TABLE_NPZ,
        "dataset = { kind = 'npz', file = 'deflated.npz' }",
        "dataset = { kind = 'npz', file = 'deflated.npz', fields = { label = 'label', input = 'input' } }",
    ] {
        let pipeline = folder.open(table).unwrap();
        let fields = survey(&pipeline).unwrap();
        let described: Vec<_> = fields.iter().map(ToString::to_string).collect();
        assert_eq!(described, ["input: i16 [2, 2]", "label: i64 []"], "{table}");
        let batch = Batch::fill(&pipeline, &fields, Position::default()).unwrap();
        let second: Vec<_> = (4..8_i16).flat_map(|number| (number * -100).to_le_bytes()).collect();
        assert_eq!(batch.rows[1][0], second, "{table}");
        assert_eq!(batch.rows.iter().map(|row| row[1][0]).collect::<Vec<_>>(), [2, 0, 1]);
        assert_eq!(pipeline.classes(), ["0", "1", "2"]);
    }
}

#[test]
fn every_dtype_keeps_its_values() {
    let check = |descr: &str, elements: &[u8], expected: Expect| {
        let folder = Folder::new().with("x.npy", npy(descr, "(2, 1)", elements));
        let dataset = opened(&folder, "npy", "input = 'x.npy'");
        let values: Vec<_> = (0..2)
            .map(|row| {
                let sample = dataset.get(row).unwrap();
                let value = sample.get("input").unwrap();
                format!("{} {:?}", value.field(""), value.bytes())
            })
            .collect();
        expected.assert_eq(&values.join(", "));
    };
    check("|b1", &[7, 0], expect![": bool [1] [1], : bool [1] [0]"]);
    check("|i1", &[0xff, 1], expect![": i8 [1] [255], : i8 [1] [1]"]);
    check("<u2", &[1, 2, 3, 4], expect![": u16 [1] [1, 2], : u16 [1] [3, 4]"]);
    check(">u2", &[1, 2, 3, 4], expect![": u16 [1] [2, 1], : u16 [1] [4, 3]"]);
    check(">f2", &[0x3c, 0, 0xc0, 0], expect![": f16 [1] [0, 60], : f16 [1] [0, 192]"]);
    check(">f4", &[0x3f, 0x80, 0, 0, 0xc0, 0, 0, 0], expect![": f32 [1] [0, 0, 128, 63], : f32 [1] [0, 0, 0, 192]"]);
    check(
        "<f8",
        &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
        expect![": f64 [1] [1, 2, 3, 4, 5, 6, 7, 8], : f64 [1] [9, 10, 11, 12, 13, 14, 15, 16]"],
    );
    check(
        ">u8",
        &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
        expect![": u64 [1] [8, 7, 6, 5, 4, 3, 2, 1], : u64 [1] [16, 15, 14, 13, 12, 11, 10, 9]"],
    );
}

#[test]
fn bytes_named_image_are_images() {
    let check = |field: &str, descr: &str, shape: &str, bytes: usize, expected: Expect| {
        let folder = Folder::new().with("x.npy", npy(descr, shape, &vec![5; bytes]));
        let dataset = opened(&folder, "npy", &format!("fields.{field} = 'x.npy'"));
        let sample = dataset.get(0).unwrap();
        let value = sample.get(field).unwrap();
        let what = if matches!(value, Value::Image(_)) { "image" } else { "array" };
        expected.assert_eq(&format!("{what} {}", value.field("")));
    };
    check("image", "|u1", "(2, 4, 3, 3)", 72, expect!["image : u8 [4, 3, 3]"]);
    check("image", "|u1", "(2, 4, 3, 4)", 96, expect!["image : u8 [4, 3, 4]"]);
    check("image", "|u1", "(2, 4, 3)", 24, expect!["image : u8 [4, 3, 1]"]);
    check("image", "|u1", "(2, 4, 3, 2)", 48, expect!["array : u8 [4, 3, 2]"]);
    check("image", "|i1", "(2, 4, 3, 3)", 72, expect!["array : i8 [4, 3, 3]"]);
    check("other", "|u1", "(2, 4, 3, 3)", 72, expect!["array : u8 [4, 3, 3]"]);
    // What transforms act on.
    let folder = Folder::new().with("x.npy", npy("|u1", "(2, 28, 28)", &[9; 2 * 28 * 28]));
    let table = "dataset = { kind = 'npy', image = 'x.npy' }\ntransforms = [{ kind = 'resize', size = 14 }]";
    assert_eq!(survey(&folder.open(table).unwrap()).unwrap()[0].to_string(), "image: u8 [14, 14, 1]");
}

#[test]
fn labels_are_classes_and_may_be_named() {
    let folder = |labels: &[u8], descr: &str, shape: &str| {
        Folder::new().with("x.npy", x()).with("y.npy", npy(descr, shape, labels))
    };
    let named = TABLE.replace(" }", ", classes = ['cat', 'dog'] }");
    expect!["~/y.npy: holds the label 2, but `classes` has 2 names"]
        .assert_eq(&folder(&[2, 0, 1], "|u1", "(3,)").refusal(&named));
    expect!["~/y.npy: holds the label -1, but `classes` has 2 names"]
        .assert_eq(&folder(&[0xff, 0, 1], "|i1", "(3,)").refusal(&named));
    expect!["~/y.npy: holds a label beyond the largest i64"]
        .assert_eq(&folder(&[0xff; 24], "<u8", "(3,)").refusal(TABLE));
    expect!["`classes` are named, but there is no array `label` with one integer for each sample"]
        .assert_eq(&folder(&[0; 12], "<f4", "(3,)").refusal(&named));
    assert_eq!(folder(&[1, 0, 1], "|u1", "(3,)").open(&named).unwrap().classes(), ["cat", "dog"]);
    // Numbers below zero are no classes, but may be predicted.
    let numbers = folder(&[0xff, 0, 1], "|i1", "(3,)");
    let pipeline = numbers.open(TABLE).unwrap();
    assert_eq!((pipeline.classes(), survey(&pipeline).unwrap()[1].to_string()), (&[][..], "label: i64 []".to_owned()));
    // Several integers a sample are no class.
    let several = folder(&[1, 0, 1], "|u1", "(3, 1)");
    let pipeline = several.open(TABLE).unwrap();
    assert_eq!(survey(&pipeline).unwrap()[1].to_string(), "label: u8 [1]");
}

#[test]
fn numbers_are_known_without_reading_samples() {
    let weights: Vec<u8> = [0.5_f32, -2.0, 7.25].iter().flat_map(|weight| weight.to_be_bytes()).collect();
    let folder = Folder::new().with("x.npy", x()).with("y.npy", y()).with("w.npy", npy(">f4", "(3,)", &weights));
    let dataset = opened(&folder, "npy", "input = 'x.npy'\nlabel = 'y.npy'\nfields.weight = 'w.npy'");
    assert_eq!([0, 1, 2, 3].map(|row| dataset.number("weight", row)), [Some(0.5), Some(-2.0), Some(7.25), None]);
    assert_eq!(dataset.number("label", 0), Some(2.0));
    assert_eq!(dataset.number("input", 0), None);
    assert_eq!(dataset.number("wieght", 0), None);
    let numbers = npz(CompressionMethod::Deflated, &[("n.npy", &npy(">u8", "(1,)", &(1_u64 << 60).to_be_bytes()))]);
    let dataset = opened(&Folder::new().with("data.npz", numbers), "npz", "file = 'data.npz'");
    assert_eq!(dataset.number("n", 0), Some(2_f64.powi(60)));
}

#[test]
fn arrays_that_do_not_fit_are_refused() {
    refused("", expect!["~/x.npy: no npy file: it begins with [], expected [93, 4e, 55, 4d, 50, 59]"]);
    refused(npy("|O", "(3,)", b"..."), expect!["~/x.npy: its elements are Python objects (dtype `|O`); store numbers"]);
    refused(
        npy("<f4", "()", &[0; 4]),
        expect!["~/x.npy: a single number, expected an array whose first axis counts the samples"],
    );
    refused(npy("<f4", "(3, 0)", &[]), expect!["~/x.npy: holds f32 [3, 0], no elements at all"]);
    refused(npy("<f4", "(2, 1)", &[0; 8]), expect!["~/y.npy: has 3 samples, but ~/x.npy has 2"]);
    refused(npy("<f4", "(3, 1)", &[0; 11]), expect!["~/x.npy: has 11 bytes of elements, but f32 [3, 1] takes 12"]);
    refused(npy("<f4", "(3, 1)", &[0; 13]), expect!["~/x.npy: has 13 bytes of elements, but f32 [3, 1] takes 12"]);
    refused(
        ordered("<f4", "True", "(3, 2)", &[0; 24]),
        expect![
            "~/x.npy: is in Fortran order, which has each sample all over the file; save `numpy.ascontiguousarray` of it"
        ],
    );
    refused(
        npy("<f4", "(4294967295, 4294967295, 4294967295)", &[]),
        expect!["~/x.npy: claims to hold f32 [4294967295, 4294967295, 4294967295]"],
    );
    refused(
        npy("<f4", "(4294967295, 100)", &[]),
        expect!["~/x.npy: has 0 bytes of elements, but f32 [4294967295, 100] takes 1717986918000"],
    );
    expect!["read ~/x.npy: No such file or directory (os error 2)"]
        .assert_eq(&Folder::new().with("y.npy", y()).refusal(TABLE));
    // One axis is in both orders.
    let folder = Folder::new().with("x.npy", ordered("<f4", "True", "(3, 1)", &[0; 12])).with("y.npy", y());
    assert!(folder.open(TABLE).is_ok());
    // The first is one too many.
    let folder = Folder::new().with("x.npy", x()).with("y.npy", npy("|u1", "(4,)", &[2, 0, 1, 1]));
    expect!["~/y.npy: has 4 samples, but ~/x.npy has 3"].assert_eq(&folder.refusal(TABLE));
}

#[test]
fn archives_without_sense_are_refused() {
    let arrays = [("input.npy", &x()[..]), ("label.npy", &y())];
    refused_npz("", expect!["~/data.npz: no npz file: invalid Zip archive: Could not find EOCD"]);
    refused_npz("no zip at all", expect!["~/data.npz: no npz file: invalid Zip archive: Could not find EOCD"]);
    refused_npz(npz(CompressionMethod::Stored, &[]), expect!["~/data.npz: an npz file without arrays"]);
    refused_npz(
        npz(CompressionMethod::Stored, &[("notes.txt", b"hello")]),
        expect!["~/data.npz: an npz file without arrays"],
    );
    refused_npz(
        npz(CompressionMethod::Stored, &[("a.npy", b"hello")]),
        expect![
            "~/data.npz: array `a`: no npy file: it begins with [68, 65, 6c, 6c, 6f], expected [93, 4e, 55, 4d, 50, 59]"
        ],
    );
    refused_npz(
        npz(CompressionMethod::Deflated, &[arrays[0], ("b.npy", &npy("|u1", "(2,)", &[1, 2]))]),
        expect!["~/data.npz: array `b`: has 2 samples, but `input` has 3"],
    );
    let folder = Folder::new().with("data.npz", npz(CompressionMethod::Stored, &arrays));
    let table = |options: &str| TABLE_NPZ.replace(" }", &format!(", {options} }}"));
    expect!["~/data.npz: has no array `inputs`; did you mean `input`?"]
        .assert_eq(&folder.refusal(&table("fields = { image = 'inputs' }")));
    expect!["dataset `npz`: `fields` is empty; leave it out to take all arrays"]
        .assert_eq(&folder.refusal(&table("fields = {}")));
    expect!["`fields` of dataset `npz`: `image` is 3, not a text in quotes"]
        .assert_eq(&folder.refusal(&table("fields = { image = 3 }")));
    expect!["dataset `npy` needs the key `input`"].assert_eq(&folder.refusal("dataset = { kind = 'npy' }"));
    expect!["unknown key `inputs` of dataset `npy`; did you mean `input`?"]
        .assert_eq(&folder.refusal("dataset = { kind = 'npy', inputs = 'x.npy' }"));
    expect!["`fields` of dataset `npy`: `input` is named outside of `fields` as well"]
        .assert_eq(&folder.refusal("dataset = { kind = 'npy', input = 'x.npy', fields = { input = 'x.npy' } }"));
    // A checksum that is wrong: nobody knows which of the numbers are.
    let mut damaged = npz(CompressionMethod::Deflated, &[("label.npy", &y())]);
    let place = damaged.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
    damaged[place + 16] ^= 1;
    refused_npz(damaged, expect!["~/data.npz: array `label`: Invalid checksum"]);
}

#[test]
fn a_file_that_changes_is_refused() {
    let folder = Folder::new().with("x.npy", x()).with("y.npy", y());
    let pipeline = folder.open(TABLE).unwrap();
    let (fields, identity) = (survey(&pipeline).unwrap(), pipeline.identity().hash());
    touch(&folder.path("x.npy"), UNIX_EPOCH + Duration::from_secs(1));
    let failure = || folder.report(&Batch::fill(&pipeline, &fields, Position::default()).unwrap_err());
    expect!["~/x.npy has changed since the loader read its index: it was written to; put it back as it was, or have the loader take it as it is with `loader quarantine --retry`"].assert_eq(&failure());
    let other = folder.open(TABLE).unwrap();
    assert_ne!(other.identity().hash(), identity);
    // A worker that opens it later than the loader looked at it.
    std::fs::remove_file(folder.path("x.npy")).unwrap();
    expect!["~/x.npy has changed since the loader read its index: it is gone; put it back as it was, or have the loader take it as it is with `loader quarantine --retry`"].assert_eq(&folder.report(&survey(&other).unwrap_err()));
    // A file that was cut short is no end of the process, as it would be if it were mapped.
    let folder = Folder::new().with("x.npy", x()).with("y.npy", y());
    let pipeline = folder.open(TABLE).unwrap();
    let fields = survey(&pipeline).unwrap();
    std::fs::File::options().write(true).open(folder.path("x.npy")).unwrap().set_len(130).unwrap();
    let failure = || folder.report(&Batch::fill(&pipeline, &fields, Position::default()).unwrap_err());
    expect!["~/x.npy has changed since the loader read its index: it has 130 bytes and had 152; put it back as it was, or have the loader take it as it is with `loader quarantine --retry`"].assert_eq(&failure());
}

#[test]
fn damaged_files_are_refused_or_read_and_never_end_the_process() {
    let seed = UNIX_EPOCH.elapsed().unwrap().as_secs();
    println!("seed {seed}");
    let mut rng = Rng::new(seed, 0, 0, 0, 0);
    let arrays = [("input.npy", &x()[..]), ("label.npy", &y())];
    let files = [
        ("x.npy", x()),
        ("data.npz", npz(CompressionMethod::Stored, &arrays)),
        ("data.npz", npz(CompressionMethod::Deflated, &arrays)),
    ];
    let folder = Folder::new().with("y.npy", y());
    let mut opened = 0;
    for round in 0..600 {
        let (name, whole) = &files[round % files.len()];
        let mut file = whole.clone();
        for _ in 0..=rng.below(4) {
            let place = usize::try_from(rng.below(file.len() as u64)).unwrap();
            match rng.below(3) {
                0 => file[place] = u8::try_from(rng.below(256)).unwrap(),
                1 => file[place] ^= 1 << rng.below(8),
                _ => file.truncate(place.max(1)),
            }
        }
        std::fs::write(folder.path(name), &file).unwrap();
        let pipeline = folder.open(if *name == "x.npy" { TABLE } else { TABLE_NPZ });
        if let Ok(pipeline) = pipeline
            && let Ok(fields) = survey(&pipeline)
        {
            opened += 1;
            let _ = Batch::fill(&pipeline, &fields, Position::default());
        }
    }
    assert!((20..580).contains(&opened), "{opened} of 600 damaged files were opened");
}
