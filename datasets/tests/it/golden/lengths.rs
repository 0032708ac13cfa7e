//! Lengths and orders against those of `torch.utils.data`.

use batchmill_datasets::dataset::{MapDataset, SampleError};
use batchmill_datasets::pipeline::Pipeline;
use batchmill_datasets::sample::{Array, Sample};
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

#[test]
fn a_random_split_rounds_as_pytorchs() {
    for case in report("lengths")["random_split"].as_array().unwrap() {
        let [samples, fractions, lengths] = &case.as_array().unwrap()[..] else { panic!("{case}") };
        for (part, len) in lengths.as_array().unwrap().iter().enumerate() {
            let whole = format!("{{ kind = 'synthetic', len = {samples}, shape = [1] }}");
            let options = format!("dataset = {whole}, split = {fractions}, part = {part}");
            let opened = open(&batchmill_datasets::builtin(), &format!("dataset = {{ kind = 'subset', {options} }}"));
            match opened {
                // There is nothing to train on: PyTorch warns, we refuse.
                Err(error) => assert_eq!(*len, 0, "{case}, part {part}: {error}"),
                Ok(pipeline) => assert_eq!(pipeline.extent().samples, len.as_u64().unwrap(), "{case}, part {part}"),
            }
        }
    }
}

#[test]
fn compositions_are_as_long_as_pytorchs() {
    let lengths = &report("lengths")["compositions"];
    let synthetic = |len: u64| format!("{{ kind = 'synthetic', len = {len}, shape = [1] }}");
    let [three, five, two, four, ten] = [3, 5, 2, 4, 10].map(synthetic);
    for (name, dataset) in [
        ("concat", format!("{{ kind = 'concat', datasets = [{three}, {five}, {two}] }}")),
        ("subset", format!("{{ kind = 'subset', dataset = {ten}, indices = [2, 3, 5, 7, 9] }}")),
        ("stack", format!("{{ kind = 'zip', datasets = [{four}, {four}], prefixes = ['', 'second_'] }}")),
    ] {
        let pipeline = opened(&format!("dataset = {dataset}"));
        assert_eq!(pipeline.extent().samples, lengths[name].as_u64().unwrap(), "{name}");
    }
}

#[test]
fn random_samplers_are_as_long_as_pytorchs() {
    let lengths = report("lengths");
    for (name, kind) in [("with_replacement", "with-replacement"), ("without_replacement", "shuffled")] {
        for case in lengths[name].as_array().unwrap() {
            let samples = case[0].as_u64().map(|samples| format!(", samples = {samples}")).unwrap_or_default();
            let table = stream(&10.into(), &format!("sampler = {{ kind = '{kind}'{samples} }}"));
            let pipeline = opened(&table);
            assert_eq!(pipeline.extent().samples, case[1].as_u64().unwrap(), "{name} {case}");
        }
    }
}

#[test]
fn a_shuffled_subset_is_the_subset() {
    let [indices, sorted] = ["subset_random_sampler", "subset_in_order"].map(|name| report("lengths")[name].take());
    let sampler = format!("sampler = {{ kind = 'subset', indices = {indices}, shuffled = true }}");
    let pipeline = opened(&stream(&10.into(), &sampler));
    let fields = survey(&pipeline).unwrap();
    for epoch in 0..10 {
        let mut found = order(&pipeline, &fields, epoch);
        found.sort_unstable();
        assert_eq!(serde_json::json!(found), sorted);
    }
}

#[test]
fn draws_with_replacement_are_as_likely_as_they_should_be() {
    let lengths = report("lengths");
    let numbers = |name: &str| -> Vec<f64> {
        lengths[name].as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    };
    let weights = numbers("weights");
    let uniform = vec![1.0; 10];
    for (weights, name, sampler) in [
        (&weights, "weighted", "{ kind = 'weighted', column = 'weight', samples = 10000 }"),
        (&uniform, "uniform", "{ kind = 'with-replacement', samples = 10000 }"),
    ] {
        let weighed = Weighed(weights.clone());
        let registry = batchmill_datasets::builtin().dataset("weighed", move |_| Ok(weighed.clone()));
        let table = format!("dataset = 'weighed'\nsampler = {sampler}\nbatch_size = 10000");
        let pipeline = open(&registry, &table).unwrap();
        let fields = survey(&pipeline).unwrap();
        let mut counts = vec![0; weights.len()];
        for index in order(&pipeline, &fields, 0) {
            counts[index] += 1;
        }
        let found = chi_square_of_chances(&counts, weights);
        println!("{name}: {found:?}, {counts:?}");
        assert!(!found.is_unlikely(), "{name}: {found:?}, {counts:?}");
        // And theirs, so that the weights mean the same.
        let theirs: Vec<_> = lengths[name].as_array().unwrap().iter().map(|count| count.as_i64().unwrap()).collect();
        assert!(!chi_square_of_chances(&theirs, weights).is_unlikely(), "{name}: {theirs:?}");
    }
}

/// Samples that are nothing but their weights.
#[derive(Clone, Debug)]
struct Weighed(Vec<f64>);

impl MapDataset for Weighed {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn get(&self, _index: u64) -> Result<Sample, SampleError> {
        Ok(Sample::new().with("input", Array::scalar_i64(0)))
    }

    fn name(&self, index: u64) -> String {
        format!("sample {index}")
    }

    fn number(&self, field: &str, index: u64) -> Option<f64> {
        (field == "weight").then(|| self.0[usize::try_from(index).unwrap()])
    }
}

fn opened(table: &str) -> Pipeline {
    open(&batchmill_datasets::builtin(), table).unwrap_or_else(|error| panic!("{table}: {error}"))
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
