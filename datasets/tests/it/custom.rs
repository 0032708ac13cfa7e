//! Datasets, samplers and transforms of a third party, well-behaved and not.

use batchmill_datasets::builtin;
use batchmill_datasets::dataset::{MapDataset, SampleError};
use batchmill_datasets::random::Rng;
use batchmill_datasets::registry::Registry;
use batchmill_datasets::sample::{Array, Sample};
use batchmill_datasets::sampler::{Population, Sampler};
use batchmill_datasets::source::{Index, OpenError, Source};
use batchmill_datasets::transform::{Transform, TransformError};
use batchmill_protocol::position::Position;
use expect_test::expect;

use crate::support::{Batch, Folder, survey};

/// Numbers from 0; of number 3 a longer row if `ragged`, none at all if `broken`.
#[derive(Debug)]
struct Numbers {
    len: u64,
    ragged: bool,
    broken: bool,
}

impl MapDataset for Numbers {
    fn len(&self) -> u64 {
        self.len
    }

    fn get(&self, index: u64) -> Result<Sample, SampleError> {
        let number = i64::try_from(index).map_err(|error| SampleError::caused_by(self.name(index), "count", error))?;
        match index {
            3 if self.broken => Err(SampleError::new(self.name(index), "is unlucky")),
            3 if self.ragged => Ok(Sample::new().with("number", Array::from_i64(&[number, number]))),
            _ => Ok(Sample::new().with("number", Array::from_i64(&[number]))),
        }
    }

    fn name(&self, index: u64) -> String {
        format!("number {index}")
    }
}

/// Every `stride`-th sample; beyond the last if `stride` is 0.
#[derive(Debug)]
struct Strided {
    samples: u64,
    stride: u64,
}

impl Sampler for Strided {
    fn len(&self) -> u64 {
        self.samples.checked_div(self.stride).unwrap_or(self.samples)
    }

    fn index(&self, _epoch: u64, position: u64) -> u64 {
        if self.stride == 0 { self.samples + position } else { position * self.stride }
    }
}

/// Replaces the number by a random one.
#[derive(Debug)]
struct Noise;

impl Transform for Noise {
    fn apply(&self, sample: Sample, rng: &mut Rng) -> Result<Sample, TransformError> {
        let noise = i64::try_from(rng.below(1 << 40)).map_err(|error| TransformError::caused_by("draw", error))?;
        Ok(sample.with("number", Array::from_i64(&[noise])))
    }
}

/// Keeps a text in its index.
struct Letters {
    text: String,
}

impl Source for Letters {
    fn index(&self) -> Result<Vec<u8>, OpenError> {
        if self.text.is_empty() {
            return Err(OpenError::other("`text` has no letters", None));
        }
        Ok(self.text.clone().into_bytes())
    }

    fn open(self: Box<Self>, index: Index) -> Result<Box<dyn MapDataset>, OpenError> {
        Ok(Box::new(Numbers { len: index.len() as u64, ragged: false, broken: false }))
    }
}

fn registry() -> Registry {
    builtin()
        .dataset("numbers", |options| {
            Ok(Numbers {
                len: options.optional_integer("len", 0..=1000)?.unwrap_or(10),
                ragged: options.optional_boolean("ragged")?.unwrap_or(false),
                broken: options.optional_boolean("broken")?.unwrap_or(false),
            })
        })
        .dataset("letters", |options| Ok(Letters { text: options.string("text")? }))
        .sampler("strided", |options| {
            let stride = options.integer("stride", 0..=100)?;
            Ok(move |population: &Population| Ok(Strided { samples: population.samples, stride }))
        })
        .transform("noise", |_| Ok(Noise))
}

/// The numbers of a batch, or why there are none.
fn numbers(table: &str, position: Position) -> Result<Vec<i64>, String> {
    let folder = Folder::new();
    let pipeline = folder.open_by(&registry(), table).map_err(|error| folder.report(&error))?;
    let batch = survey(&pipeline).and_then(|fields| Batch::fill(&pipeline, &fields, position));
    let batch = batch.map_err(|error| folder.report(&error))?;
    Ok(batch.rows.iter().map(|row| i64::from_le_bytes(*row[0].first_chunk().unwrap())).collect())
}

fn at(epoch: u64, step: u64) -> Position {
    Position { epoch, step }
}

#[test]
fn third_party_kinds_make_a_stream() {
    let table = "dataset = 'numbers'\nsampler = { kind = 'strided', stride = 3 }\nbatch_size = 2";
    assert_eq!(numbers(table, at(0, 0)), Ok(vec![0, 3]));
    assert_eq!(numbers(table, at(7, 1)), Ok(vec![6]));
    assert_eq!(numbers("dataset = { kind = 'letters', text = 'abc' }", at(0, 0)), Ok(vec![0, 1, 2]));
}

#[test]
fn random_transforms_draw_by_place_and_not_by_history() {
    let table = "dataset = 'numbers'\nsampler = 'shuffled'\ntransforms = ['noise']\nbatch_size = 4\ntail = 'pad'";
    let first = numbers(table, at(0, 0)).unwrap();
    let again = numbers(table, at(0, 0)).unwrap();
    assert_eq!(first, again);
    assert_ne!(first, numbers(table, at(1, 0)).unwrap());
    assert_ne!(first, numbers(&format!("{table}\nseed = 1"), at(0, 0)).unwrap());
    // Padding repeats the first samples with their noise: the same bytes.
    assert_eq!(numbers(table, at(0, 2)).unwrap()[2..], first[..2]);
    let mut all: Vec<i64> = (0..3).flat_map(|step| numbers(table, at(0, step)).unwrap()).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 10, "each of ten samples has noise of its own");
}

#[test]
fn their_mistakes_are_named() {
    let failure = |table: &str| numbers(table, at(0, 0)).unwrap_err();
    expect![[r#"
        number 3: number: i64 [2], but that of the stream's first sample is i64 [1]; a batch needs samples of one shape: make the dataset give it, or a transform, or a rule under `collate`"#]]
    .assert_eq(&failure("dataset = { kind = 'numbers', ragged = true }"));
    expect!["number 3: is unlucky"].assert_eq(&failure("dataset = { kind = 'numbers', broken = true }"));
    expect!["dataset `numbers` has no samples"].assert_eq(&failure("dataset = { kind = 'numbers', len = 0 }"));
    expect!["unknown key `lne` of dataset `numbers`; did you mean `len`?"]
        .assert_eq(&failure("dataset = { kind = 'numbers', lne = 5 }"));
    expect!["the sampler gave sample 10 for place 0 of epoch 0, but the dataset has 10"]
        .assert_eq(&failure("dataset = 'numbers'\nsampler = { kind = 'strided', stride = 0 }"));
    expect!["sampler `strided` yields no samples"]
        .assert_eq(&failure("dataset = 'numbers'\nsampler = { kind = 'strided', stride = 20 }"));
    expect!["unknown transform `nosie`; did you mean `noise`?"]
        .assert_eq(&failure("dataset = 'numbers'\ntransforms = ['noise', 'nosie']"));
    expect!["number 0: transform 1, `resize`: the sample has no image in a field `image`; it has number: i64 [1]"]
        .assert_eq(&failure("dataset = 'numbers'\ntransforms = [{ kind = 'resize', size = 3 }]"));
    expect!["`text` has no letters"].assert_eq(&failure("dataset = { kind = 'letters', text = '' }"));
}
