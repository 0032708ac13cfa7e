//! Samples of different lengths in batches of one shape.

use batchmill_datasets::batches::Batch;
use batchmill_datasets::builtin;
use batchmill_datasets::dataset::{MapDataset, SampleError};
use batchmill_datasets::pipeline::Pipeline;
use batchmill_datasets::registry::Registry;
use batchmill_datasets::sample::{Array, Sample};
use batchmill_protocol::position::Position;
use expect_test::expect;

use crate::support::{Folder, report, survey};

/// Sample `n` has `n` tokens, counted up from 10 `n`, as many pairs, and itself as label.
#[derive(Debug)]
struct Triangle;

impl MapDataset for Triangle {
    fn len(&self) -> u64 {
        5
    }

    fn get(&self, index: u64) -> Result<Sample, SampleError> {
        let index = i64::try_from(index).unwrap();
        let tokens: Vec<i64> = (0..index).map(|place| 10 * index + place).collect();
        let pairs: Vec<u8> = (0..index).flat_map(|place| [u8::try_from(place).unwrap(), 7]).collect();
        let pairs = Array::new(batchmill_protocol::tensor::Dtype::U8, [pairs.len() / 2, 2], pairs).unwrap();
        Ok(Sample::new()
            .with("tokens", Array::from_i64(&tokens))
            .with("pairs", pairs)
            .with("label", Array::scalar_i64(index)))
    }

    fn name(&self, index: u64) -> String {
        format!("row {index}")
    }
}

/// Has a field that a rule would make.
#[derive(Debug)]
struct Masked;

impl MapDataset for Masked {
    fn len(&self) -> u64 {
        1
    }

    fn get(&self, _: u64) -> Result<Sample, SampleError> {
        Ok(Sample::new().with("tokens", Array::from_i64(&[1, 2])).with("tokens_mask", Array::from_i64(&[5])))
    }

    fn name(&self, index: u64) -> String {
        format!("row {index}")
    }
}

fn registry() -> Registry {
    builtin().dataset("triangle", |_| Ok(Triangle)).dataset("masked", |_| Ok(Masked))
}

fn open(table: &str) -> Pipeline {
    let dataset = if table.contains("dataset = ") { "" } else { "dataset = 'triangle'\n" };
    Folder::new().open_by(&registry(), &format!("{dataset}{table}")).unwrap()
}

fn first_batch(table: &str) -> Result<Batch, String> {
    let pipeline = open(table);
    let fields = survey(&pipeline).map_err(|error| report(&error))?;
    pipeline.batch(&fields, Position::default()).map_err(|error| report(&error))
}

fn fields(batch: &Batch) -> Vec<String> {
    batch.fields().iter().map(ToString::to_string).collect()
}

#[test]
fn padded_rows_have_a_mask_that_tells_what_is_real() {
    let batch = first_batch(
        "collate.tokens = { kind = 'padded', max_len = 4, value = -1 }
         fields = ['label', 'tokens', 'tokens_mask']",
    )
    .unwrap();
    assert_eq!(fields(&batch), ["label: i64 []", "tokens: i64 [4]", "tokens_mask: bool [4]"]);
    let expected = [[-1; 4], [10, -1, -1, -1], [20, 21, -1, -1], [30, 31, 32, -1], [40, 41, 42, 43]];
    assert_eq!(batch.i64s("tokens").unwrap(), expected.concat());
    let mask = [[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]];
    assert_eq!(batch.field("tokens_mask").unwrap(), mask.concat());
    assert_eq!(batch.i64s("label").unwrap(), [0, 1, 2, 3, 4]);
}

#[test]
fn ragged_rows_are_read_as_values_and_offsets() {
    let table = "collate = { tokens = { kind = 'ragged', max_len = 9 }, pairs = { kind = 'ragged', max_len = 4 } }";
    let batch = first_batch(table).unwrap();
    let expected = ["tokens: i64 [9]", "pairs: u8 [4, 2]", "label: i64 []", "pairs_len: i64 []", "tokens_len: i64 []"];
    assert_eq!(fields(&batch), expected);
    let tokens = batch.ragged("tokens").unwrap();
    assert_eq!(tokens.offsets, [0, 0, 1, 3, 6, 10]);
    let values = [10_i64, 20, 21, 30, 31, 32, 40, 41, 42, 43];
    assert_eq!(tokens.values, values.map(i64::to_le_bytes).concat());
    let pairs = batch.ragged("pairs").unwrap();
    assert_eq!(pairs.offsets, [0, 0, 1, 3, 6, 10]);
    assert_eq!(pairs.values[..6], [0, 7, 0, 7, 1, 7]);
    assert_eq!(batch.ragged("label"), None);
}

#[test]
fn a_sample_that_is_too_long_is_refused_or_cut() {
    let long = "collate = { tokens = { kind = 'ragged', max_len = 3 }, pairs = { kind = 'ragged', max_len = 4 } }";
    expect!["row 4: collate `tokens`: 4 items are more than max_len = 3; raise it, or set truncate = true"]
        .assert_eq(&first_batch(long).unwrap_err());
    let cut = long.replace("max_len = 3", "max_len = 3, truncate = true");
    assert_eq!(first_batch(&cut).unwrap().ragged("tokens").unwrap().offsets, [0, 0, 1, 3, 6, 9]);
}

#[test]
fn a_rule_without_sense_is_refused() {
    let failure = |table: &str| first_batch(table).unwrap_err();
    expect!["row 0: there is no field `tokesn`; the sample has tokens, pairs, label"]
        .assert_eq(&failure("collate.tokesn = { kind = 'ragged', max_len = 3 }"));
    expect!["row 0: collate `label`: it is a single number, and has no length"]
        .assert_eq(&failure("collate.label = { kind = 'padded', max_len = 3 }"));
    expect!["row 0: collate `tokens`: it is padded with what the field has not: 0.5 is no i64"]
        .assert_eq(&failure("collate.tokens = { kind = 'padded', max_len = 3, value = 0.5 }"));
    expect!["row 0: collate `tokens`: it makes a field `tokens_mask`, but the sample has one of that name"]
        .assert_eq(&failure("dataset = 'masked'\ncollate.tokens = { kind = 'padded', max_len = 3 }"));
    expect!["row 0: there is no field `image`; the sample has tokens, pairs, label"]
        .assert_eq(&failure("fields = ['image']"));
    expect![[r#"
        row 1: tokens: i64 [1], but that of the stream's first sample is i64 [0]; a batch needs samples of one shape: make the dataset give it, or a transform, or a rule under `collate`"#]]
    .assert_eq(&failure(""));

    let refusal = |table: &str| {
        let spec = Folder::new().spec(&format!("dataset = 'triangle'\n{table}"));
        let error = spec.and_then(|spec| registry().check(&spec)).unwrap_err();
        format!("{error} (at {})", error.key.join("."))
    };
    expect!["unknown collate `pad` of field `tokens`; it may be `padded` or `ragged` (at collate.tokens)"]
        .assert_eq(&refusal("collate.tokens = { kind = 'pad', max_len = 3 }"));
    expect!["collate `padded`: `value` is \"none\", not a number, `true` or `false` (at collate.tokens.value)"]
        .assert_eq(&refusal("collate.tokens = { kind = 'padded', max_len = 3, value = 'none' }"));
    expect!["`fields` names `label` twice (at fields.2)"].assert_eq(&refusal("fields = ['label', 'tokens', 'label']"));
    expect!["collate `ragged` needs the key `max_len` (at collate.tokens)"]
        .assert_eq(&refusal("collate.tokens = { kind = 'ragged' }"));
    expect!["unknown key `value` of collate `ragged`; there are `max_len`, `truncate` (at collate.tokens.value)"]
        .assert_eq(&refusal("collate.tokens = { kind = 'ragged', max_len = 3, value = 1 }"));
    expect!["stream `train`: `collate` is 3, not a table of rules by field (at collate)"]
        .assert_eq(&refusal("collate = 3"));
    expect!["stream `train`: `fields` is an empty list; leave it out to deliver all (at fields)"]
        .assert_eq(&refusal("fields = []"));
}

#[test]
fn batches_in_one_process_are_those_of_the_stream() {
    let pipeline = open(
        "sampler = 'shuffled'
         batch_size = 2
         tail = 'pad'
         fields = ['label']",
    );
    for epoch in 0..3 {
        let batches: Vec<_> = pipeline.batches(epoch).unwrap().map(Result::unwrap).collect();
        assert_eq!(batches.iter().map(|batch| batch.position().step).collect::<Vec<_>>(), [0, 1, 2]);
        let mut labels: Vec<_> = batches.iter().flat_map(|batch| batch.i64s("label").unwrap()).collect();
        let padding = labels.pop();
        assert_eq!(padding, Some(labels[0]));
        assert!(batches[2].labels()[1].padding);
        labels.sort_unstable();
        assert_eq!(labels, [0, 1, 2, 3, 4]);
    }
    let fields = survey(&pipeline).unwrap();
    let outside = pipeline.batch(&fields, Position { epoch: 0, step: 3 }).unwrap_err();
    expect!["rows 0..1 of epoch 0 step 3 were asked for; an epoch has 3 steps, this batch 0 rows"]
        .assert_eq(&report(&outside));
}
