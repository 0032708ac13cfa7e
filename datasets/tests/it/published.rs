//! Published sets by name, from files as they are published.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;

use batchmill_datasets::pipeline::Pipeline;
use batchmill_datasets::source::Index;
use batchmill_protocol::position::Position;
use expect_test::expect;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::support::{Batch, Folder, report, survey};

/// An IDX file of two images or labels that count up from `first`.
fn idx(shape: &[u8], first: u8) -> Vec<u8> {
    let rank = u8::try_from(shape.len() + 1).unwrap();
    let mut file = vec![0, 0, 8, rank];
    for &extent in [2].iter().chain(shape) {
        file.extend([0, 0, 0, extent]);
    }
    let bytes = 2 * shape.iter().map(|&extent| usize::from(extent)).product::<usize>();
    file.extend((first..=u8::MAX).cycle().take(bytes));
    file
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The first batch, and the fields of the stream.
fn first(pipeline: &Pipeline) -> (Vec<String>, Batch) {
    let fields = survey(pipeline).unwrap();
    let batch = Batch::fill(pipeline, &fields, Position::default()).unwrap();
    (fields.iter().map(ToString::to_string).collect(), batch)
}

fn labels(batch: &Batch) -> Vec<i64> {
    batch.rows.iter().map(|row| i64::from_le_bytes(row[1][..].try_into().unwrap())).collect()
}

#[test]
fn mnist_and_its_relatives_lie_where_torchvision_leaves_them() {
    let kinds = [
        ("mnist", "MNIST", "2 - two", "9 - nine"),
        ("fashion-mnist", "FashionMNIST", "Pullover", "Ankle boot"),
        ("kmnist", "KMNIST", "su", "wo"),
    ];
    for (kind, folder, two, nine) in kinds {
        let data = Folder::new()
            .with(&format!("data/{folder}/raw/train-images-idx3-ubyte.gz"), gzip(&idx(&[28, 28], 5)))
            .with(&format!("data/{folder}/raw/train-labels-idx1-ubyte"), idx(&[], 2))
            .with(&format!("data/{folder}/raw/t10k-images-idx3-ubyte"), idx(&[28, 28], 6))
            .with(&format!("data/{folder}/raw/t10k-labels-idx1-ubyte.gz"), gzip(&idx(&[], 8)));
        let train = data.open(&format!("dataset = {{ kind = '{kind}', root = 'data' }}")).unwrap();
        let (fields, batch) = first(&train);
        assert_eq!(fields, ["image: u8 [28, 28, 1]", "label: i64 []"]);
        assert_eq!((batch.rows[0][0][0], labels(&batch)), (5, vec![2, 3]));
        assert_eq!(
            batch.attempts[1].1,
            format!("row 1 of {}", data.path(&format!("data/{folder}/raw/train-images-idx3-ubyte.gz")).display())
        );
        assert_eq!((train.classes().len(), &train.classes()[2][..], &train.classes()[9][..]), (10, two, nine));

        let test = data.open(&format!("dataset = {{ kind = '{kind}', root = 'data', train = false }}")).unwrap();
        let (_, batch) = first(&test);
        assert_eq!((batch.rows[0][0][0], labels(&batch)), (6, vec![8, 9]));
    }
}

#[test]
fn a_split_of_emnist_has_its_own_files_and_classes() {
    let mut data = Folder::new();
    for split in ["byclass", "bymerge", "balanced", "letters", "digits", "mnist"] {
        let file = |what: &str| format!("data/EMNIST/raw/emnist-{split}-test-{what}-ubyte.gz");
        data = data.with(&file("images-idx3"), gzip(&idx(&[28, 28], 0))).with(&file("labels-idx1"), gzip(&idx(&[], 1)));
    }
    let classes = |split: &str| {
        let pipeline =
            data.open(&format!("dataset = {{ kind = 'emnist', root = 'data', train = false, split = '{split}' }}"));
        let pipeline = pipeline.unwrap();
        // As they are published: columns by columns.
        assert_eq!(first(&pipeline).1.rows[0][0][..3], [0, 1, 2]);
        pipeline.classes().join("")
    };
    assert_eq!(classes("byclass"), "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");
    assert_eq!(classes("bymerge"), "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt");
    assert_eq!(classes("balanced"), classes("bymerge"));
    assert_eq!(classes("letters"), "N/Aabcdefghijklmnopqrstuvwxyz");
    assert_eq!((classes("digits"), classes("mnist")), ("0123456789".to_owned(), "0123456789".to_owned()));

    expect!["~/data/EMNIST/raw/emnist-mnist-train-images-idx3-ubyte.gz: does not exist; `download = true` fetches it"]
        .assert_eq(&data.refusal("dataset = { kind = 'emnist', root = 'data', split = 'mnist' }"));
    expect!["dataset `emnist` needs the key `split`"]
        .assert_eq(&data.refusal("dataset = { kind = 'emnist', root = 'data' }"));
    expect![[r#"dataset `emnist`: `split` is "letter", not `byclass` or `bymerge` or `balanced` or `letters` or `digits` or `mnist`; did you mean `letters`?"#]].assert_eq(&data.refusal("dataset = { kind = 'emnist', root = 'data', split = 'letter' }"));
}

#[test]
fn options_without_sense_are_refused() {
    let refused = |options: &str| Folder::new().refusal(&format!("dataset = {{ kind = 'mnist', {options} }}"));
    expect!["dataset `mnist` needs the key `root`"].assert_eq(&refused("train = true"));
    expect![[r#"dataset `mnist`: `download` is "yes", not `true` or `false`"#]]
        .assert_eq(&refused("root = 'data', download = 'yes'"));
    expect![[r#"dataset `mnist`: `mirror` is "/mnt/mnist", not the address of a folder such as "http://host/mnist/""#]]
        .assert_eq(&refused("root = 'data', mirror = '/mnt/mnist'"));
    expect!["unknown key `coarse` of dataset `mnist`; there are `root`, `train`, `download`, `mirror`"]
        .assert_eq(&refused("root = 'data', coarse = true"));
    expect!["~/data/MNIST/raw/train-images-idx3-ubyte.gz: does not exist; `download = true` fetches it"]
        .assert_eq(&refused("root = 'data'"));
}

/// Writes a file of CIFAR of which only the given samples are not zero: its row, its labels, and its first red, green
/// and blue bytes in the file.
fn cifar(data: &Folder, name: &str, labels: usize, rows: u64, samples: &[(u64, &[u8])]) {
    let path = data.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = File::create(path).unwrap();
    let record = labels as u64 + 3072;
    // Holes: the file takes no room.
    file.set_len(rows * record).unwrap();
    for &(row, bytes) in samples {
        let start = row * record;
        file.write_all_at(&bytes[..labels], start).unwrap();
        for (plane, byte) in (0..).zip(&bytes[labels..]) {
            file.write_all_at(&[*byte], start + labels as u64 + plane * 1024 + 33).unwrap();
        }
    }
}

/// The three bytes of the pixel in row 1 and column 1, and whether all others are zero.
fn pixel(image: &[u8]) -> (&[u8], bool) {
    let place = (32 + 1) * 3;
    (
        &image[place..place + 3],
        image.iter().enumerate().all(|(at, byte)| (place..place + 3).contains(&at) || *byte == 0),
    )
}

#[test]
fn planes_of_cifar10_become_pixels() {
    let data = Folder::new();
    cifar(
        &data,
        "data/cifar-10-batches-bin/test_batch.bin",
        1,
        10_000,
        &[(0, &[3, 10, 20, 30]), (9_999, &[9, 1, 2, 3])],
    );
    let table = "dataset = { kind = 'cifar10', root = 'data', train = false }\nbatch_size = 10000";
    let pipeline = data.open(table).unwrap();
    let (fields, batch) = first(&pipeline);
    assert_eq!(fields, ["image: u8 [32, 32, 3]", "label: i64 []"]);
    assert_eq!((labels(&batch)[0], pixel(&batch.rows[0][0])), (3, (&[10, 20, 30][..], true)));
    assert_eq!((labels(&batch)[9_999], pixel(&batch.rows[9_999][0])), (9, (&[1, 2, 3][..], true)));
    assert_eq!(
        batch.attempts[1].1,
        format!("row 1 of {}", data.path("data/cifar-10-batches-bin/test_batch.bin").display())
    );
    let classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
    assert_eq!(pipeline.classes(), classes);
}

#[test]
fn the_five_files_of_cifar10_follow_each_other() {
    let data = Folder::new();
    for file in 1..=5 {
        cifar(&data, &format!("data/cifar-10-batches-bin/data_batch_{file}.bin"), 1, 10_000, &[(7, &[file, file])]);
    }
    let pipeline = data.open("dataset = { kind = 'cifar10', root = 'data' }\nbatch_size = 50000").unwrap();
    assert_eq!(pipeline.extent().samples, 50_000);
    let (_, batch) = first(&pipeline);
    let found: Vec<_> = labels(&batch).into_iter().enumerate().filter(|(_, label)| *label != 0).collect();
    assert_eq!(found, [(7, 1), (10_007, 2), (20_007, 3), (30_007, 4), (40_007, 5)]);
}

#[test]
fn cifar100_has_coarse_and_fine_labels() {
    let data = Folder::new();
    cifar(&data, "data/cifar-100-binary/test.bin", 2, 10_000, &[(1, &[19, 99, 10, 20, 30])]);
    let table = "dataset = { kind = 'cifar100', root = 'data', train = false }";
    let fine = data.open(table).unwrap();
    let (fields, batch) = first(&fine);
    assert_eq!(fields, ["image: u8 [32, 32, 3]", "label: i64 []"]);
    assert_eq!((labels(&batch)[1], pixel(&batch.rows[1][0])), (99, (&[10, 20, 30][..], true)));
    assert_eq!((fine.classes().len(), &fine.classes()[0][..], &fine.classes()[99][..]), (100, "apple", "worm"));
    let coarse = data.open(&table.replace(" }", ", coarse = true }")).unwrap();
    assert_eq!(labels(&first(&coarse).1)[1], 19);
    let classes = coarse.classes();
    assert_eq!((classes.len(), &classes[0][..], &classes[19][..]), (20, "aquatic_mammals", "vehicles_2"));
    // Each name once: none was lost or doubled when the lists were written down.
    for classes in [fine.classes(), classes] {
        let mut names = classes.to_vec();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), classes.len());
        // Both lists are in the order of the alphabet.
        assert_eq!(names, classes);
    }
}

#[test]
fn files_that_are_not_cifar_are_refused() {
    let data = Folder::new();
    let (name, table) =
        ("data/cifar-100-binary/test.bin", "dataset = { kind = 'cifar100', root = 'data', train = false }");
    let refusal = |rows: u64, samples: &[(u64, &[u8])]| {
        cifar(&data, name, 2, rows, samples);
        data.refusal(table)
    };
    expect!["~/data/cifar-100-binary/test.bin: does not exist; `download = true` fetches it"]
        .assert_eq(&data.refusal(table));
    expect!["~/data/cifar-100-binary/test.bin: has 30736926 bytes, expected 30740000: 10000 samples of 3074; is it the binary version?"].assert_eq(&refusal(9_999, &[]));
    expect!["~/data/cifar-100-binary/test.bin: has 0 bytes, expected 30740000: 10000 samples of 3074; is it the binary version?"].assert_eq(&refusal(0, &[]));
    expect!["~/data/cifar-100-binary/test.bin: has 30743074 bytes, expected 30740000: 10000 samples of 3074; is it the binary version?"].assert_eq(&refusal(10_001, &[]));
    expect!["~/data/cifar-100-binary/test.bin: sample 4321 has the label 100, expected 0 to 99"]
        .assert_eq(&refusal(10_000, &[(4321, &[0, 100])]));
    cifar(&data, name, 2, 10_000, &[(5, &[20, 1])]);
    data.open(table).unwrap();
    expect!["~/data/cifar-100-binary/test.bin: sample 5 has the label 20, expected 0 to 19"]
        .assert_eq(&data.refusal(&table.replace(" }", ", coarse = true }")));
}

#[test]
fn a_sample_that_changed_is_refused_and_the_same_set_again_is_not() {
    let data = Folder::new();
    let (name, table) =
        ("data/cifar-10-batches-bin/test_batch.bin", "dataset = { kind = 'cifar10', root = 'data', train = false }");
    let write = |samples: &[(u64, &[u8])]| cifar(&data, name, 1, 10_000, samples);
    write(&[(1, &[3, 10])]);
    let pipeline = data.open(table).unwrap();
    let fields = survey(&pipeline).unwrap();
    let identity = pipeline.identity().hash();
    let fill = || Batch::fill(&pipeline, &fields, Position::default()).map_err(|error| data.report(&error));
    let before = fill().unwrap();

    // Another time of the file, and another machine's file, are the same set.
    write(&[(1, &[3, 10])]);
    assert_eq!(fill().unwrap(), before);
    assert_eq!(data.open(table).unwrap().identity().hash(), identity);

    write(&[(1, &[3, 11])]);
    expect!["row 1 of ~/data/cifar-10-batches-bin/test_batch.bin has changed since the loader read its index: its bytes are others; put it back as it was, or have the loader take it as it is with `loader quarantine --retry`"].assert_eq(&fill().unwrap_err());
    assert_ne!(data.open(table).unwrap().identity().hash(), identity);
    write(&[(1, &[4, 10])]);
    expect!["row 1 of ~/data/cifar-10-batches-bin/test_batch.bin has changed since the loader read its index: its bytes are others; put it back as it was, or have the loader take it as it is with `loader quarantine --retry`"].assert_eq(&fill().unwrap_err());
    File::options().write(true).open(data.path(name)).unwrap().set_len(2 * 3073 - 1).unwrap();
    expect!["row 1 of ~/data/cifar-10-batches-bin/test_batch.bin has changed since the loader read its index: its file ends before it; put it back as it was, or have the loader take it as it is with `loader quarantine --retry`"].assert_eq(&fill().unwrap_err());

    // Another order of the same samples is another set.
    write(&[(2, &[3, 10])]);
    assert_ne!(data.open(table).unwrap().identity().hash(), identity);
}

#[test]
fn an_index_of_another_version_is_refused() {
    let data = Folder::new();
    cifar(&data, "data/cifar-10-batches-bin/test_batch.bin", 1, 10_000, &[]);
    let spec = data.spec("dataset = { kind = 'cifar10', root = 'data', train = false }").unwrap();
    let index = Index::join([vec![0; 9], vec![]]);
    let error = batchmill_datasets::builtin().open(&spec, index.into()).unwrap_err();
    expect!["the index is damaged or of another version; open it again"].assert_eq(&report(&error));
}

#[cfg(not(feature = "download"))]
#[test]
fn nothing_is_fetched_by_a_build_that_cannot() {
    let folder = Folder::new();
    expect!["dataset `mnist`: `download` is true, but this program was built without the feature `download`; fetch the files yourself"].assert_eq(&folder.refusal("dataset = { kind = 'mnist', root = 'data', download = true }"));
}
