//! The kind `tar-shards`: whole, strange and torn.

use std::fs;

use batchmill_datasets::pipeline::Pipeline;
use batchmill_datasets::random::Rng;
use batchmill_protocol::position::Position;
use expect_test::{Expect, expect};
use tar::{Builder, EntryType, Header};

use crate::support::{Batch, Folder, encode, gzip, png, survey, touch};

/// A tar file of names and contents.
fn tar<Bytes: AsRef<[u8]>>(members: impl IntoIterator<Item = (impl AsRef<str>, Bytes)>) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = Header::new_gnu();
        header.set_size(bytes.as_ref().len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        // Names of more than 100 bytes get a member of their own before.
        tar.append_data(&mut header, name.as_ref(), bytes.as_ref()).unwrap();
    }
    tar.into_inner().unwrap()
}

/// A gray image of 2 x 2 pixels of one shade.
fn gray(shade: u8) -> Vec<u8> {
    encode(image::GrayImage::from_pixel(2, 2, image::Luma([shade])), image::ImageFormat::Png)
}

/// Samples `start..end`, each an image of its shade and a label.
pub(crate) fn shard(start: u8, end: u8) -> Vec<u8> {
    tar((start..end).flat_map(|sample| {
        let name = |extension: &str| format!("set/{sample:03}.{extension}");
        // Each member may come first.
        let mut members = [(name("png"), gray(sample)), (name("cls"), (sample % 3).to_string().into_bytes())];
        members.rotate_left(usize::from(sample % 2));
        members
    }))
}

const TABLE: &str = "dataset = { kind = 'tar-shards', shards = 's-{0..2}.tar', color = 'gray' }";

/// 5, 0 and 40 samples.
fn folder() -> Folder {
    Folder::new().with("s-0.tar", shard(0, 5)).with("s-1.tar", shard(5, 5)).with("s-2.tar", shard(5, 45))
}

fn fields(pipeline: &Pipeline) -> Vec<String> {
    survey(pipeline).unwrap().iter().map(ToString::to_string).collect()
}

/// All rows of an epoch.
fn rows(pipeline: &Pipeline, epoch: u64) -> Vec<Vec<Vec<u8>>> {
    let fields = survey(pipeline).unwrap();
    let batch = |step| Batch::fill(pipeline, &fields, Position { epoch, step }).unwrap().rows;
    (0..pipeline.extent().steps()).flat_map(batch).collect()
}

/// The first sample of a shard `s.tar`, by field.
fn first(shard: impl AsRef<[u8]>, options: &str) -> Vec<Vec<u8>> {
    let folder = Folder::new().with("s.tar", shard);
    let table = format!("dataset = {{ kind = 'tar-shards', shards = 's.tar', {options} }}");
    rows(&folder.open(&table).unwrap(), 0).remove(0)
}

fn refused(shard: impl AsRef<[u8]>, options: &str, expected: Expect) {
    let folder = Folder::new().with("s.tar", shard);
    expected.assert_eq(&folder.refusal(&format!("dataset = {{ kind = 'tar-shards', shards = 's.tar', {options} }}")));
}

#[test]
fn samples_are_in_the_order_of_the_files() {
    let folder = folder();
    let pipeline = folder.open(TABLE).unwrap();
    assert_eq!(fields(&pipeline), ["image: u8 [2, 2, 1]", "label: i64 []"]);
    assert_eq!(pipeline.classes(), ["0", "1", "2"]);
    let expected: Vec<_> =
        (0..45_u8).map(|sample| vec![vec![sample; 4], i64::from(sample % 3).to_le_bytes().to_vec()]).collect();
    assert_eq!(rows(&pipeline, 0), expected);
}

#[test]
fn compressed_shards_hold_the_same() {
    let gz = Folder::new()
        .with("s-0.tar", gzip(shard(0, 5)))
        .with("s-1.tar", gzip(shard(5, 5)))
        .with("s-2.tar", gzip(shard(5, 45)));
    let plain = folder();
    for sampler in ["sequential", "shuffled"] {
        let table = format!("{TABLE}\nsampler = '{sampler}'\nbatch_size = 4");
        for epoch in 0..3 {
            assert_eq!(rows(&gz.open(&table).unwrap(), epoch), rows(&plain.open(&table).unwrap(), epoch), "{sampler}");
        }
    }
    // Several gzip files behind each other are one.
    let whole = shard(5, 45);
    let parts = [gzip(&whole[..7000]), gzip(&whole[7000..])].concat();
    let table = "dataset = { kind = 'tar-shards', shards = 's-2.tar', color = 'gray' }";
    assert_eq!(rows(&gz.with("s-2.tar", parts).open(table).unwrap(), 0), rows(&plain.open(table).unwrap(), 0));
}

#[test]
fn samples_are_named_by_file_and_stem() {
    let folder = folder();
    let pipeline = folder.open(TABLE).unwrap();
    let batch = Batch::fill(&pipeline, &survey(&pipeline).unwrap(), Position::default()).unwrap();
    let name = |row: usize| batch.attempts[row].1.replace(&folder.path("").display().to_string(), "~/");
    assert_eq!((name(4), name(5)), ("~/s-0.tar: set/004".to_owned(), "~/s-2.tar: set/005".to_owned()));
}

#[test]
fn a_stem_ends_at_the_first_dot_of_the_name() {
    let long = "d/".repeat(120);
    let members = [
        ("readme", "no dot"),
        (".hidden.txt", "a dot in front"),
        ("__meta__.txt__", "a note of the writer"),
        ("a.b/x.txt", "a stem with a dot in the folder"),
        ("./y.SEG.txt", "upper case, and two parts"),
        (&format!("{long}z.txt"), "long"),
    ];
    let folder = Folder::new().with("s.tar", tar(members));
    let dataset = "kind = 'tar-shards', shards = 's.tar'";
    let names = |fields: &str| {
        let pipeline = folder.open(&format!("dataset = {{ {dataset}{fields} }}\nbatch_size = 1")).unwrap();
        let steps = 0..pipeline.extent().steps();
        let batch = |step| Batch::fill(&pipeline, &[], Position { epoch: 0, step }).unwrap();
        steps.map(|step| batch(step).attempts[0].1.rsplit_once(": ").unwrap().1.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(""), ["a.b/x".to_owned(), format!("{long}z")]);
    assert_eq!(names(", fields = { what = 'seg.txt' }"), ["y"]);
}

#[test]
fn members_become_fields_by_their_extensions() {
    let json = r#"{ "x": 1.5, "box": [[1, 2], [3, 4]], "who": "é", "other": [null, {}] }"#;
    let members = |image: &str| {
        tar([
            (format!("0.{image}"), gray(7)),
            ("0.cls".to_owned(), b" 2\n".to_vec()),
            ("0.txt".to_owned(), "ü".into()),
            ("0.json".to_owned(), json.into()),
            ("0.bin".to_owned(), vec![1, 2]),
        ])
    };
    let (pixels, label) = (vec![7; 12], 2_i64.to_le_bytes().to_vec());
    assert_eq!(first(members("PNG"), ""), [pixels.clone(), label.clone(), "ü".into()]);
    let with_json = first(members("jpeg"), "color = 'gray', json = { x = 'f32', box = 'u8', who = 'text' }");
    assert_eq!(with_json[3..], [vec![1, 2, 3, 4], "é".into(), 1.5_f32.to_le_bytes().to_vec()]);
    let clear = first(members("png"), "color = 'rgba', exif_orientation = true");
    assert_eq!(clear[0], [7, 7, 7, 255].repeat(4));
    let chosen = first(members("png"), "fields = { raw = 'bin', picture = ['jpg', 'png'], class = 'cls' }");
    assert_eq!(chosen, [label, pixels, vec![1, 2]]);
}

#[test]
fn labels_are_classes_by_name_or_number() {
    let members = || tar([("0.cls", "dog"), ("1.cls", "cat"), ("2.cls", "dog")]);
    let labels = |options: &str| {
        let folder = Folder::new().with("s.tar", members());
        let table = format!("dataset = {{ kind = 'tar-shards', shards = 's.tar'{options} }}");
        let pipeline = folder.open(&table).unwrap();
        (rows(&pipeline, 0).iter().map(|row| row[0][0]).collect::<Vec<_>>(), pipeline.classes().to_vec())
    };
    assert_eq!(labels(""), (vec![1, 0, 1], vec!["cat".to_owned(), "dog".to_owned()]));
    assert_eq!(labels(", classes = ['dog', 'cat']").0, [0, 1, 0]);
}

#[test]
fn samples_that_are_not_whole_are_refused() {
    let cls = || "1".to_owned();
    refused(
        tar([("a.png", gray(0)), ("a.cls", cls().into()), ("b.png", gray(1)), ("c.png", gray(2))]),
        "",
        expect!["~/s.tar: b: has no member `cls`"],
    );
    refused(
        tar([("a.cls", cls()), ("a.txt", cls()), ("a.cls", cls())]),
        "",
        expect!["~/s.tar: a: has two members `cls`"],
    );
    refused(
        tar([("a.jpg", gray(0)), ("a.png", gray(0))]),
        "",
        expect!["~/s.tar: a: has `jpg` and `png` for the field `image`; say by `fields` which is meant"],
    );
    refused(
        tar([("a.cls", "one"), ("b.cls", "2")]),
        "",
        expect![
            "~/s.tar: b: `cls`: label `2` is an integer, but the labels before it are names; list the names under `classes`"
        ],
    );
    refused(tar([("a.cls", [0xff, 0xfe])]), "", expect!["~/s.tar: a: `cls` is not UTF-8"]);
    refused(
        tar([("a.cls", "1".repeat(2000))]),
        "",
        expect!["~/s.tar: a: its member `cls` has 2000 bytes, more than the limit of 1024"],
    );
    refused(tar([("a.bin", "")]), "", expect!["dataset `tar-shards` has no samples"]);
    refused(tar([("a.txt", "")]), "json = { x = 'f32' }", expect!["~/s.tar: a: has no member `json`"]);
}

#[test]
fn what_is_wrong_in_a_member_is_found_when_it_is_read() {
    let failure = |member: (&str, &str), options: &str| {
        let folder = Folder::new().with("s.tar", tar([member]));
        folder.failure(&format!("dataset = {{ kind = 'tar-shards', shards = 's.tar', {options} }}"))
    };
    expect![[r#"decode ~/s.tar: d/a: not an image: it begins with the text "not an image", unlike a JPEG, PNG, WebP, BMP, GIF or TIFF"#]]
        .assert_eq(&failure(("d/a.png", "not an image"), ""));
    expect!["~/s.tar: a: `json`: has no `x`"].assert_eq(&failure(("a.json", "{}"), "json = { x = 'f32' }"));
    expect!["~/s.tar: a: `json`: `x`: 300 is no u8 at line 2 column 8"]
        .assert_eq(&failure(("a.json", "{\n\"x\": 300}"), "json = { x = 'u8' }"));
}

#[test]
fn links_are_refused_where_they_are_wanted() {
    let with_link = |kind: EntryType, name: &str| {
        let mut tar = Builder::new(Vec::new());
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_cksum();
        tar.append_link(&mut header, name, "elsewhere").unwrap();
        let mut header = Header::new_ustar();
        header.set_size(1);
        tar.append_data(&mut header, "a.cls", &b"1"[..]).unwrap();
        tar.into_inner().unwrap()
    };
    let expected = "~/s.tar: a: its member `txt` is a link; store the file itself (`tar -h`)";
    for kind in [EntryType::Symlink, EntryType::Link] {
        let options = "fields = { label = 'cls', text = 'txt' }";
        let folder = Folder::new().with("s.tar", with_link(kind, "a.txt"));
        assert_eq!(
            folder.refusal(&format!("dataset = {{ kind = 'tar-shards', shards = 's.tar', {options} }}")),
            expected
        );
        assert_eq!(first(with_link(kind, "a.other"), ""), [1_i64.to_le_bytes()]);
        assert_eq!(first(with_link(kind, &format!("{}.other", "a".repeat(90))), ""), [1_i64.to_le_bytes()]);
    }
}

#[test]
fn names_of_pax_headers_count() {
    let name = format!("{}/é.txt", "n".repeat(120));
    let mut tar = Builder::new(Vec::new());
    tar.append_pax_extensions([("path", name.as_bytes()), ("size", b"3"), ("comment", b"none")]).unwrap();
    let mut header = Header::new_ustar();
    header.set_path("short").unwrap();
    // The size of the extensions counts.
    header.set_size(0);
    header.set_cksum();
    let mut bytes = tar.into_inner().unwrap();
    bytes.truncate(bytes.len() - 1024);
    bytes.extend(header.as_bytes());
    bytes.extend([&b"abc"[..], &[0; 509 + 1024]].concat());
    assert_eq!(first(&bytes, ""), [b"abc"]);
    let folder = Folder::new().with("s.tar", &bytes);
    let pipeline = folder.open("dataset = { kind = 'tar-shards', shards = 's.tar' }").unwrap();
    let batch = Batch::fill(&pipeline, &[], Position::default()).unwrap();
    assert!(batch.attempts[0].1.ends_with("/é"));

    let mut tar = Builder::new(Vec::new());
    tar.append_pax_extensions([("GNU.sparse.major", &b"1"[..])]).unwrap();
    let mut header = Header::new_ustar();
    header.set_size(1);
    tar.append_data(&mut header, "a.txt", &b"1"[..]).unwrap();
    refused(
        tar.into_inner().unwrap(),
        "",
        expect!["~/s.tar: a: its member `txt` is stored as a sparse file; pack it without `-S`"],
    );
}

#[test]
fn a_torn_shard_is_refused_wherever_it_ends() {
    let whole = tar([("a.txt", "a".repeat(700)), ("b.txt", "b".repeat(700))]);
    assert_eq!(whole.len(), 2 * (512 + 1024) + 1024);
    for gzipped in [false, true] {
        for len in (0..2 * (512 + 1024) + 512).step_by(64) {
            let torn = if gzipped { gzip(&whole[..len]) } else { whole[..len].to_vec() };
            let folder = Folder::new().with("s.tar", torn);
            let refusal = folder.refusal("dataset = { kind = 'tar-shards', shards = 's.tar' }");
            assert!(refusal.starts_with("~/s.tar: the file is torn: it ends "), "{len}: {refusal}");
        }
    }
    refused(
        &whole[..600],
        "",
        expect![
            "~/s.tar: the file is torn: it ends within `a.txt` or right behind it, without the mark of its end; copy or write it again"
        ],
    );
    refused(
        "",
        "",
        expect![
            "~/s.tar: the file is torn: it ends before its first member, without the mark of its end; copy or write it again"
        ],
    );
    // One block at the end, for one that was cut a little.
    assert_eq!(first(&whole[..whole.len() - 512], "")[0].len(), 700);
    let gz = gzip(&whole);
    for len in [gz.len() / 2, gz.len() - 5] {
        let refusal = Folder::new().with("s.tar", &gz[..len]);
        let refusal = refusal.refusal("dataset = { kind = 'tar-shards', shards = 's.tar' }");
        assert!(refusal.contains("torn") || refusal.starts_with("read ~/s.tar: "), "{refusal}");
    }
}

#[test]
fn damaged_shards_are_refused() {
    let mut whole = tar([("a.txt", "a".repeat(100)), ("b.txt", "b".repeat(100))]);
    refused("x".repeat(2048), "", expect!["~/s.tar: no tar file: there is no header at byte 0"]);
    whole[1024 + 3] ^= 1;
    refused(&whole, "", expect!["~/s.tar: a broken tar file: there is no header at byte 1024"]);
    // Sizes beyond the file, and beyond all files.
    for size in [
        b"77777777777\0",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let mut header = Header::new_gnu();
        header.set_path("a.txt").unwrap();
        header.as_mut_bytes()[124..136].copy_from_slice(size);
        header.set_cksum();
        let bytes = [header.as_bytes(), &[0; 1024][..]].concat();
        for bytes in [bytes.clone(), gzip(bytes)] {
            let folder = Folder::new().with("s.tar", bytes);
            let refusal = folder.refusal("dataset = { kind = 'tar-shards', shards = 's.tar' }");
            assert!(refusal.contains("it ends within `a.txt`"), "{refusal}");
        }
    }
    let mut gz = gzip(tar([("a.txt", "a".repeat(100))]));
    let crc = gz.len() - 6;
    gz[crc] ^= 1;
    refused(gz, "", expect!["read ~/s.tar: corrupt gzip stream does not have a matching checksum"]);
}

#[test]
fn no_damage_does_more_than_fail() {
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    println!("seed {seed}");
    let mut rng = Rng::new(seed, 0, 0, 0, 0);
    let whole = tar((0..6).flat_map(|sample| {
        // One name in three has a member of its own.
        let name = format!("{}/{sample}", "n".repeat(if sample % 3 == 0 { 120 } else { 3 }));
        [(format!("{name}.cls"), b"1".to_vec()), (format!("{name}.png"), png(64, 64))]
    }));
    let mut below = |bound: usize| usize::try_from(rng.below(bound as u64)).unwrap();
    let (mut refused, mut opened) = (0, 0);
    for round in 0..300 {
        let mut damaged = if round % 2 == 0 { whole.clone() } else { gzip(&whole) };
        for _ in 0..=below(4) {
            let place = below(damaged.len());
            damaged[place] = u8::try_from(below(256)).unwrap();
        }
        if below(4) == 0 {
            damaged.truncate(below(damaged.len()));
        }
        let folder = Folder::new().with("s.tar", damaged);
        match folder.open("dataset = { kind = 'tar-shards', shards = 's.tar' }\non_bad = 'mask'") {
            Err(_) => refused += 1,
            Ok(pipeline) => {
                opened += 1;
                if let Ok(fields) = survey(&pipeline) {
                    Batch::fill(&pipeline, &fields, Position::default()).unwrap();
                }
            }
        }
    }
    assert!(refused > 50 && opened > 20, "{refused} refused, {opened} opened");
}

#[test]
fn a_header_that_claims_a_long_name_costs_no_memory() {
    for kind in [EntryType::GNULongName, EntryType::XHeader] {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(1 << 31);
        header.set_cksum();
        // A compressed file does not say how long it is.
        let bomb = gzip([header.as_bytes(), &vec![b'a'; 4 << 20][..]].concat());
        refused(bomb, "", expect!["~/s.tar: a header has 2147483648 bytes, more than 1048576"]);
    }
}

#[test]
fn a_shard_that_changed_is_noticed() {
    for pack in [|bytes: Vec<u8>| bytes, |bytes: Vec<u8>| gzip(bytes)] {
        let folder = Folder::new().with("s-0.tar", pack(shard(0, 5))).with("s-1.tar", pack(shard(5, 9)));
        let table = "dataset = { kind = 'tar-shards', shards = 's-*.tar', color = 'gray' }\nbatch_size = 1\non_bad = 'substitute'";
        let pipeline = folder.open(table).unwrap();
        let fields = survey(&pipeline).unwrap();
        let failure = |step| {
            let batch = Batch::fill(&pipeline, &fields, Position { epoch: 0, step });
            batch.map_err(|error| folder.report(&error)).err()
        };
        assert_eq!(failure(1), None);
        touch(&folder.path("s-0.tar"), std::time::UNIX_EPOCH);
        for step in 1..3 {
            expect!["~/s-0.tar has changed since the loader read its index: it was written to; put it back as it was, or have the loader take it as it is with `loader quarantine --retry`"]
            .assert_eq(&failure(step).unwrap());
        }
        assert_eq!(failure(5), None);
        fs::remove_file(folder.path("s-1.tar")).unwrap();
        assert!(failure(5).unwrap().contains("it is gone"));
    }
}

#[test]
fn the_identity_follows_the_files_and_not_the_folder() {
    let identity = |folder: &Folder| folder.open(TABLE).unwrap().identity().hash();
    let (one, other) = (folder(), folder());
    for file in ["s-0.tar", "s-1.tar", "s-2.tar"] {
        touch(&one.path(file), std::time::UNIX_EPOCH);
        touch(&other.path(file), std::time::UNIX_EPOCH);
    }
    assert_eq!(identity(&one), identity(&other));
    touch(&other.path("s-1.tar"), std::time::UNIX_EPOCH + std::time::Duration::from_secs(1));
    assert_ne!(identity(&one), identity(&other));
}

#[test]
fn wrong_options_are_refused() {
    let refused = |options: &str, expected: Expect| {
        expected.assert_eq(&folder().refusal(&format!("dataset = {{ kind = 'tar-shards', {options} }}")));
    };
    refused("", expect!["dataset `tar-shards` needs the key `shards`"]);
    refused("shards = []", expect!["dataset `tar-shards`: `shards` is [], not the path of a file or a list of such"]);
    refused(
        "shards = 's-{0..}.tar'",
        expect![[
            r#"dataset `tar-shards`: `shards` is "s-{0..}.tar": `{0..}` does not count from a number up to another, as `{000..146}` does"#
        ]],
    );
    refused("shards = 's-{0..3}.tar'", expect!["~/s-3.tar: the file does not exist"]);
    let shards = |options: &str| format!("shards = 's-0.tar', {options}");
    refused(
        &shards("fields = 'png'"),
        expect![[
            r#"dataset `tar-shards`: `fields` is "png", not a table of names and extensions, such as { image = ["jpg", "png"], label = "cls" }"#
        ]],
    );
    refused(
        &shards("fields = { image = '.png' }"),
        expect![[
            r#"dataset `tar-shards`: `fields` has ".png" for `image`, not an extension or a list of such, without a dot in front"#
        ]],
    );
    refused(
        &shards("fields = { image = ['png', 'cls'] }"),
        expect!["dataset `tar-shards`: `fields` has for `image` both `png` and `cls`, which are of two kinds"],
    );
    refused(
        &shards("fields = { x = 'json' }"),
        expect![
            "dataset `tar-shards`: `fields` has the extension `json`; the option `json` says what is in such a file"
        ],
    );
    refused(
        &shards("fields = { x = 'cls', y = 'b.cls' }"),
        expect!["dataset `tar-shards`: `fields` has more than one label"],
    );
    refused(
        &shards("json = { x = 'f33' }"),
        expect![[
            r#"dataset `tar-shards`: `json` has "f33" for `x`, not bool, u8, i8, u16, i16, u32, i32, u64, i64, f16, bf16, f32, f64 or text"#
        ]],
    );
    refused(
        &shards("missing = 1"),
        expect!["dataset `tar-shards`: `missing` is for the numbers of `json`, which is not there"],
    );
    refused(
        &shards("json = { x = 'u8' }, missing = -1"),
        expect!["dataset `tar-shards`: `missing` cannot stand for `x`: -1 is no u8"],
    );
    refused(
        &shards("fields = { x = 'png' }, json = { x = 'u8' }"),
        expect!["dataset `tar-shards`: `json` has the key `x`, which is a field of `fields`, too"],
    );
    refused(&shards("field = 'png'"), expect!["unknown key `field` of dataset `tar-shards`; did you mean `fields`?"]);
}
