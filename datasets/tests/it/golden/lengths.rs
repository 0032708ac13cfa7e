//! Lengths and orders against those of `torch.utils.data`.

use batchmill_datasets::pipeline::Pipeline;
use batchmill_protocol::position::{Extent, Position};
use batchmill_protocol::tensor::FieldSpec;

use super::statistics::chi_square_of_chances;
use super::{open, report};
use crate::support::{Batch, survey};

/// A stream of so many synthetic samples.
fn stream(samples: &serde_json::Value, rest: &str) -> String {
    format!("dataset = {{ kind = 'synthetic', len = {samples}, shape = [1] }}\n{rest}")
}

#[test]
fn an_epoch_has_the_batches_of_a_data_loader() {
    let grid = report("lengths")["loader"].take();
    for case in grid.as_array().unwrap() {
        let [samples, batch_size, drop_last, batches, last_rows] = &case.as_array().unwrap()[..] else {
            panic!("{case}")
        };
        let tail = if drop_last.as_bool().unwrap() { "drop" } else { "short" };
        let table = stream(samples, &format!("batch_size = {batch_size}\ntail = '{tail}'"));
        let opened = open(&batchmill_datasets::builtin(), &table);
        if *batches == 0 {
            // PyTorch trains on nothing and says nothing; we refuse.
            let message = opened.unwrap_err().to_string();
            assert!(message.starts_with(&format!("`tail` = \"drop\" leaves no batch of {batch_size}")), "{message}");
            continue;
        }
        let pipeline = opened.unwrap();
        let steps = pipeline.extent().steps();
        assert_eq!(steps, batches.as_u64().unwrap(), "{case}");
        let fields = survey(&pipeline).unwrap();
        let last = Batch::fill(&pipeline, &fields, Position { epoch: 0, step: steps - 1 }).unwrap();
        assert_eq!(last.rows.len() as u64, last_rows.as_u64().unwrap(), "{case}");
        assert!(last.order().iter().all(|(_, padding)| !padding), "{case}");
        // The batch after it is there in neither.
        let Extent { samples, batch_size, .. } = pipeline.extent();
        let rest = samples - (steps - 1) * u64::from(batch_size) - last.rows.len() as u64;
        assert_eq!(rest, if tail == "drop" { samples % u64::from(batch_size) } else { 0 }, "{case}");
    }
}

/// The indices of the samples of an epoch, in order.
fn order(pipeline: &Pipeline, fields: &[FieldSpec], epoch: u64) -> Vec<usize> {
    let steps = 0..pipeline.extent().steps();
    let batches = steps.map(|step| Batch::fill(pipeline, fields, Position { epoch, step }).unwrap());
    batches.flat_map(|batch| batch.order()).map(|(index, _)| usize::try_from(index).unwrap()).collect()
}

#[test]
fn every_sample_is_equally_likely_to_be_shuffled_to_every_place() {
    let pipeline = open(&batchmill_datasets::builtin(), &stream(&10.into(), "sampler = 'shuffled'")).unwrap();
    let fields = survey(&pipeline).unwrap();
    let mut counts = vec![vec![0; 10]; 10];
    for epoch in 0..10_000 {
        for (place, index) in order(&pipeline, &fields, epoch).into_iter().enumerate() {
            counts[place][index] += 1;
        }
    }
    for (place, counts) in counts.iter().enumerate() {
        let found = chi_square_of_chances(counts, &[0.1; 10]);
        assert!(!found.is_unlikely(), "place {place}: {found:?}, {counts:?}");
    }
}
