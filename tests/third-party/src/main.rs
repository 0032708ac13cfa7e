//! A loader with a dataset, a sampler and a transform of somebody else's: nothing of Batchmill is touched for it.

use std::process::ExitCode;

use batchmill_datasets::dataset::{MapDataset, SampleError};
use batchmill_datasets::random::Rng;
use batchmill_datasets::sample::{Array, Sample};
use batchmill_datasets::sampler::{Population, Sampler};
use batchmill_datasets::transform::{Transform, TransformError};

/// Tones: 64 values of a sine, whose frequency is the class.
#[derive(Debug)]
struct Tones(u64);

impl MapDataset for Tones {
    fn len(&self) -> u64 {
        self.0
    }

    fn get(&self, index: u64) -> Result<Sample, SampleError> {
        let class = u16::try_from(index % 10).unwrap_or(0);
        let wave: Vec<f32> = (0..64_u16).map(|time| (f32::from(time * (class + 1)) / 64.0).sin()).collect();
        Ok(Sample::new().with("input", Array::from_f32(&wave)).with("label", Array::scalar_i64(class.into())))
    }

    fn name(&self, index: u64) -> String {
        format!("tone {index}")
    }
}

/// From the last sample to the first, another one first in every epoch.
#[derive(Debug)]
struct Backwards(u64);

impl Sampler for Backwards {
    fn len(&self) -> u64 {
        self.0
    }

    fn index(&self, epoch: u64, position: u64) -> u64 {
        (self.0 - 1 - position + epoch) % self.0
    }
}

/// Makes a tone louder or softer at random.
#[derive(Debug)]
struct Volume(f32);

impl Transform for Volume {
    fn apply(&self, sample: Sample, rng: &mut Rng) -> Result<Sample, TransformError> {
        Ok(sample.with("volume", Array::scalar_f32(self.0 * rng.below(100) as f32)))
    }
}

fn main() -> ExitCode {
    let registry = batchmill_datasets::builtin()
        .dataset("tones", |options| Ok(Tones(options.integer("len", 1..=1_000_000)?)))
        .sampler("backwards", |_| Ok(|population: &Population| Ok(Backwards(population.samples))))
        .transform("volume", |options| Ok(Volume(options.integer("most", 1..=10_u8)?.into())));
    batchmill_loader::run(registry)
}
