//! The kind `synthetic`: what it draws, for any length.

use batchmill_protocol::position::Position;
use expect_test::{Expect, expect};

use crate::support::{Batch, Folder, survey};

fn table(options: &str) -> String {
    format!("dataset = {{ kind = 'synthetic', {options} }}")
}

/// The fields of a stream.
fn fields(options: &str) -> Vec<String> {
    let pipeline = Folder::new().open(&table(options)).unwrap();
    survey(&pipeline).unwrap().iter().map(ToString::to_string).collect()
}

/// The bytes of sample `index`, of at most 10^12, by field.
fn sample(options: &str, index: u64) -> Vec<Vec<u8>> {
    let pipeline = Folder::new().open(&format!("{}\nbatch_size = 1", table(options))).unwrap();
    let position = Position { epoch: 0, step: index };
    Batch::fill(&pipeline, &survey(&pipeline).unwrap(), position).unwrap().rows.remove(0)
}

#[test]
fn samples_are_what_they_always_were() {
    // Golden, from a second implementation in Python.
    const LAST: u64 = 999_999_999_999;
    let bytes = |index| sample("len = 1_000_000_000_000, shape = [1, 3, 3]", index);
    assert_eq!(bytes(0)[0][..8], [194, 206, 184, 71, 82, 206, 63, 184]);
    assert_eq!(bytes(1)[0][..8], [211, 103, 94, 94, 35, 21, 160, 179]);
    assert_eq!(bytes(LAST)[0][..8], [30, 241, 81, 133, 84, 23, 226, 189]);
    assert_eq!([0, 1, LAST].map(|index| bytes(index)[1][0]), [1, 6, 3]);
    let floats = |index| {
        let bytes = sample("len = 1_000_000_000_000, shape = [3], dtype = 'f32'", index).remove(0);
        bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect::<Vec<_>>()
    };
    assert_eq!(floats(1), [0.701_661_4, 0.128_036_02, 0.358_375_13]);
    let integers = |index| {
        let bytes = sample("len = 1_000_000_000_000, shape = [3], dtype = 'i64'", index).remove(0);
        bytes.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect::<Vec<_>>()
    };
    assert_eq!(integers(LAST), [189, 63, 135]);
}

#[test]
fn bytes_of_three_extents_are_an_image() {
    assert_eq!(fields("len = 1"), ["image: u8 [224, 224, 3]", "label: i64 []"]);
    assert_eq!(fields("len = 1, shape = [5, 4, 1]"), ["image: u8 [5, 4, 1]", "label: i64 []"]);
    assert_eq!(fields("len = 1, shape = [5, 4, 2]"), ["input: u8 [5, 4, 2]", "label: i64 []"]);
    assert_eq!(fields("len = 1, shape = [5, 4, 3], dtype = 'f32'"), ["input: f32 [5, 4, 3]", "label: i64 []"]);
    assert_eq!(fields("len = 1, shape = [128], dtype = 'i64'"), ["input: i64 [128]", "label: i64 []"]);
    assert_eq!(fields("len = 1, shape = []"), ["input: u8 []", "label: i64 []"]);
    let cropped = format!("{}\ntransforms = [{{ kind = 'center-crop', size = 16 }}]", table("len = 2"));
    let pipeline = Folder::new().open(&cropped).unwrap();
    assert_eq!(survey(&pipeline).unwrap()[0].to_string(), "image: u8 [16, 16, 3]");
}

#[test]
fn samples_follow_from_their_index_alone() {
    let first = |rest: &str, position| {
        let pipeline = Folder::new().open(&format!("{}\nbatch_size = 1\n{rest}", table("len = 1000"))).unwrap();
        Batch::fill(&pipeline, &survey(&pipeline).unwrap(), position).unwrap()
    };
    let here = first("sampler = 'shuffled'\nseed = 3", Position { epoch: 4, step: 5 });
    let index = here.order()[0].0;
    assert_ne!(index, 5);
    assert_eq!(here.rows, first("", Position { epoch: 0, step: index }).rows);
    assert_ne!(here.rows, first("", Position { epoch: 0, step: index + 1 }).rows);
}

#[test]
fn labels_are_even_and_of_their_classes() {
    let pipeline =
        Folder::new().open(&format!("{}\nbatch_size = 5000", table("len = 5000, shape = [1], classes = 5"))).unwrap();
    assert_eq!(pipeline.classes(), ["0", "1", "2", "3", "4"]);
    let batch = Batch::fill(&pipeline, &survey(&pipeline).unwrap(), Position::default()).unwrap();
    let mut counts = [0_u32; 5];
    batch.rows.iter().for_each(|row| counts[usize::from(row[1][0])] += 1);
    // 1000 each, with a standard deviation of 28.
    assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
}

#[test]
fn labels_are_known_without_drawing_the_sample() {
    let rest = "sampler = 'class-balanced'\nbatch_size = 1000";
    let pipeline = Folder::new().open(&format!("{}\n{rest}", table("len = 1000, shape = [1], classes = 5"))).unwrap();
    let batch = Batch::fill(&pipeline, &survey(&pipeline).unwrap(), Position::default()).unwrap();
    let mut counts = [0_u32; 5];
    batch.rows.iter().for_each(|row| counts[usize::from(row[1][0])] += 1);
    assert_eq!(counts, [200; 5]);
}

#[test]
fn floats_are_from_zero_to_below_one() {
    let bytes = sample("len = 1, shape = [10000], dtype = 'f32'", 0).remove(0);
    let floats: Vec<_> = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    assert!(floats.iter().all(|float| (0.0..1.0).contains(float)));
    let mean = floats.iter().sum::<f32>() / 10_000.0;
    assert!((0.48..0.52).contains(&mean), "{mean}");
}

#[test]
fn the_longest_is_reached_at_both_ends() {
    let pipeline = Folder::new()
        .open(&format!("{}\nsampler = 'shuffled'\nbatch_size = 7", table("len = 1_000_000_000_000, shape = [2, 2, 3]")))
        .unwrap();
    let fields = survey(&pipeline).unwrap();
    let steps = pipeline.extent().steps();
    assert_eq!(steps, 142_857_142_858);
    for step in [0, steps - 1] {
        let batch = Batch::fill(&pipeline, &fields, Position { epoch: 9, step }).unwrap();
        assert!(batch.order().iter().all(|(index, _)| *index < 1_000_000_000_000));
        assert!(batch.attempts[0].1.starts_with("synthetic sample "));
    }
}

#[test]
fn wrong_options_are_refused() {
    let refused = |options: &str, expected: Expect| expected.assert_eq(&Folder::new().refusal(&table(options)));
    expect!["dataset `synthetic` needs the key `len`"].assert_eq(&Folder::new().refusal("dataset = 'synthetic'"));
    refused("len = 0", expect!["dataset `synthetic`: `len` is 0, not an integer from 1 to 1000000000000"]);
    refused(
        "len = 1_000_000_000_001",
        expect!["dataset `synthetic`: `len` is 1000000000001, not an integer from 1 to 1000000000000"],
    );
    refused(
        "len = 1, shape = 3",
        expect!["dataset `synthetic`: `shape` is 3, not a list of at most 8 integers from 1 up, such as [224, 224, 3]"],
    );
    refused(
        "len = 1, shape = [3, 0]",
        expect![
            "dataset `synthetic`: `shape` is [3, 0], not a list of at most 8 integers from 1 up, such as [224, 224, 3]"
        ],
    );
    refused(
        "len = 1, shape = [1, 1, 1, 1, 1, 1, 1, 1, 1]",
        expect![
            "dataset `synthetic`: `shape` is [1, 1, 1, 1, 1, 1, 1, 1, 1], not a list of at most 8 integers from 1 up, such as [224, 224, 3]"
        ],
    );
    refused(
        "len = 1, shape = [32768, 32769]",
        expect!["dataset `synthetic`: `shape` is [32768, 32769], more than 1073741824 bytes a sample"],
    );
    refused(
        "len = 1, shape = [4294967296, 4294967296]",
        expect!["dataset `synthetic`: `shape` is [4294967296, 4294967296], more than 1073741824 bytes a sample"],
    );
    refused(
        "len = 1, dtype = 'f64'",
        expect![[r#"dataset `synthetic`: `dtype` is "f64", not `u8` or `f32` or `i64`; did you mean `i64`?"#]],
    );
    refused("len = 1, classes = 0", expect!["dataset `synthetic`: `classes` is 0, not an integer from 1 to 1048576"]);
    refused(
        "len = 1, size = 3",
        expect!["unknown key `size` of dataset `synthetic`; there are `len`, `shape`, `dtype`, `classes`"],
    );
}
