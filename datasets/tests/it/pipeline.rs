//! The pure function: the same bytes for a position, whoever asks, in whatever order.

use std::thread;

use batchmill_datasets::pipeline::Pipeline;
use batchmill_protocol::position::{Position, Rows};
use batchmill_protocol::tensor::{Dtype, FieldSpec};
use expect_test::expect;

use crate::support::{Batch, Folder, jpeg, png, survey};

/// Ten images, PNG and JPEG by turns, of different sizes.
fn folder() -> Folder {
    let mut csv = String::new();
    let mut folder = Folder::new();
    for number in 0..10 {
        let extension = if number % 2 == 0 { "png" } else { "jpg" };
        let (width, height) = (20 + number, 30 - number);
        let bytes = if number % 2 == 0 { png(width, height) } else { jpeg(width, height) };
        folder = folder.with(&format!("images/{number}.{extension}"), bytes);
        csv += &format!("{number}.{extension},{}\n", number % 3);
    }
    folder.with("train.csv", csv)
}

fn table(rest: &str) -> String {
    format!(
        "dataset = {{ kind = 'image-folder-csv', images = 'images', labels = 'train.csv' }}
         transforms = [{{ kind = 'resize', size = 16 }}, {{ kind = 'center-crop', size = 16 }}]
         {rest}"
    )
}

fn at(epoch: u64, step: u64) -> Position {
    Position { epoch, step }
}

fn order(pipeline: &Pipeline, position: Position) -> Vec<(u64, bool)> {
    let fields = survey(pipeline).unwrap();
    Batch::fill(pipeline, &fields, position).unwrap().order()
}

#[test]
fn ranges_in_any_order_fill_what_the_whole_fills() {
    let folder = folder();
    let pipeline = folder.open(&table("sampler = 'shuffled'\nbatch_size = 7\ntail = 'pad'")).unwrap();
    let fields = survey(&pipeline).unwrap();
    for position in [at(0, 0), at(0, 1), at(5, 1)] {
        let whole = Batch::fill(&pipeline, &fields, position).unwrap();
        // Another process would open its own.
        let other = folder.open(&table("sampler = 'shuffled'\nbatch_size = 7\ntail = 'pad'")).unwrap();
        for ranges in [[(4, 7), (0, 2), (2, 4)], [(6, 7), (0, 0), (0, 6)]] {
            let mut parts = Batch::empty(&fields, 7);
            for (lo, hi) in ranges {
                parts.fill_rows(&other, &fields, position, Rows { lo, hi }).unwrap();
            }
            assert_eq!((parts.rows, parts.labels), (whole.rows.clone(), whole.labels.clone()), "{position}");
        }
    }
}

#[test]
fn threads_fill_what_one_fills() {
    let folder = folder();
    let pipeline = folder.open(&table("sampler = 'shuffled'\nbatch_size = 10")).unwrap();
    let fields = survey(&pipeline).unwrap();
    let alone = Batch::fill(&pipeline, &fields, at(2, 0)).unwrap();
    thread::scope(|scope| {
        let threads = [(); 4].map(|()| scope.spawn(|| Batch::fill(&pipeline, &fields, at(2, 0)).unwrap()));
        for thread in threads {
            assert_eq!(thread.join().unwrap(), alone);
        }
    });
}

#[test]
fn an_epoch_is_every_sample_once_in_an_order_of_its_own() {
    let folder = folder();
    let pipeline = folder.open(&table("sampler = 'shuffled'\nbatch_size = 4\nseed = 3")).unwrap();
    let epoch = |epoch| (0..3).flat_map(|step| order(&pipeline, at(epoch, step))).map(|(index, _)| index).collect();
    let (first, second): (Vec<u64>, Vec<u64>) = (epoch(0), epoch(1));
    assert_ne!(first, second);
    for mut order in [first, second] {
        order.sort_unstable();
        assert_eq!(order, (0..10).collect::<Vec<_>>());
    }
}

#[test]
fn padding_starts_over_with_the_epochs_first_samples() {
    let folder = folder();
    let pipeline = folder.open(&table("sampler = 'shuffled'\nbatch_size = 4\ntail = 'pad'")).unwrap();
    let fields = survey(&pipeline).unwrap();
    let (first, last) = (order(&pipeline, at(1, 0)), order(&pipeline, at(1, 2)));
    assert_eq!(last.iter().map(|(_, padding)| *padding).collect::<Vec<_>>(), [false, false, true, true]);
    assert_eq!((last[2].0, last[3].0), (first[0].0, first[1].0));
    let (first, last) =
        (Batch::fill(&pipeline, &fields, at(1, 0)).unwrap(), Batch::fill(&pipeline, &fields, at(1, 2)).unwrap());
    assert_eq!(last.rows[2..], first.rows[..2]);

    // A batch larger than the epoch goes round more than once.
    let pipeline = folder.open(&table("batch_size = 23\ntail = 'pad'")).unwrap();
    let expected: Vec<_> = (0..23).map(|row| (row % 10, row >= 10)).collect();
    assert_eq!(order(&pipeline, at(0, 0)), expected);
}

#[test]
fn short_and_drop_end_as_they_say() {
    let folder = folder();
    let short = folder.open(&table("batch_size = 4")).unwrap();
    assert_eq!((short.extent().steps(), order(&short, at(0, 2))), (3, vec![(8, false), (9, false)]));
    let drop = folder.open(&table("batch_size = 4\ntail = 'drop'")).unwrap();
    assert_eq!((drop.extent().steps(), drop.extent().samples_delivered()), (2, 8));
}

#[test]
fn rows_outside_the_batch_are_refused() {
    let folder = folder();
    let pipeline = folder.open(&table("batch_size = 4")).unwrap();
    let fields = survey(&pipeline).unwrap();
    let refused = |position, lo, hi| {
        let mut batch = Batch::empty(&fields, 4);
        let error = batch.fill_rows(&pipeline, &fields, position, Rows { lo, hi }).unwrap_err();
        assert_eq!(batch, Batch::empty(&fields, 4));
        error.to_string()
    };
    expect!["rows 0..4 of epoch 0 step 2 were asked for; an epoch has 3 steps, this batch 2 rows"].assert_eq(&refused(
        at(0, 2),
        0,
        4,
    ));
    expect!["rows 0..1 of epoch 0 step 3 were asked for; an epoch has 3 steps, this batch 0 rows"].assert_eq(&refused(
        at(0, 3),
        0,
        1,
    ));
    expect!["rows 2..1 of epoch 0 step 18446744073709551615 were asked for; an epoch has 3 steps, this batch 0 rows"]
        .assert_eq(&refused(at(0, u64::MAX), 2, 1));
}

#[test]
fn an_epoch_without_a_batch_is_refused() {
    expect![[r#"
        `tail` = "drop" leaves no batch of 64 from 10 samples; lower `batch_size`, or set `tail` to "short" or "pad""#]]
    .assert_eq(&folder().refusal(&table("tail = 'drop'")));
}

#[test]
fn a_part_of_the_fields_can_be_filled() {
    let folder = folder();
    let pipeline = folder.open(&table("batch_size = 4")).unwrap();
    let label = [FieldSpec::new("label", Dtype::I64, [])];
    let batch = Batch::fill(&pipeline, &label, at(0, 0)).unwrap();
    assert_eq!(batch.rows.iter().map(|row| row[0][0]).collect::<Vec<_>>(), [0, 1, 2, 0]);
    let other = [FieldSpec::new("mask", Dtype::U8, [1])];
    let missing = Batch::fill(&pipeline, &other, at(0, 0)).unwrap_err();
    expect![
        "~/images/0.png: no field `mask`, which the stream's first sample has; every sample must have the same fields"
    ]
    .assert_eq(&folder.report(&missing));
}

#[test]
fn a_transform_that_fails_is_named_with_the_sample() {
    let wide = table("").replace("'center-crop', size = 16", "'center-crop', size = 17");
    expect![[r#"
        ~/images/0.png: transform 2, `center-crop`: the image has 24 x 16 pixels (height x width), too few for a crop of 17 x 17; put a `resize` before it or crop less"#]]
    .assert_eq(&folder().failure(&wide));
}

#[test]
fn the_hash_names_the_content() {
    let folder = folder();
    let hash = |rest: &str| folder.open(&table(rest)).unwrap().identity().hash();
    assert_eq!(hash(""), hash("batch_size = 64\nsampler = { kind = 'sequential' }"));
    let mut hashes = ["", "seed = 1", "batch_size = 63", "tail = 'pad'", "sampler = 'shuffled'"].map(hash).to_vec();
    hashes.push(folder.open(&table("").replace("size = 16 }]", "size = 15 }]")).unwrap().identity().hash());
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), 6);
}
