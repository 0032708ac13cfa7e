//! The loader with one more dataset, written as a third party would: numbers, and trouble on cue.

use std::process::{self, ExitCode};

use batchmill_datasets::dataset::{MapDataset, SampleError};
use batchmill_datasets::sample::{Array, Sample};

/// Numbers counted from 0, of which one is trouble.
#[derive(Debug)]
struct Numbers {
    len: u64,
    /// Values in a sample's tensor.
    width: u64,
    /// Rounds of arithmetic that a sample takes.
    work: u64,
    trouble: Trouble,
    /// Which number.
    at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Trouble {
    None,
    /// It cannot be read.
    Unreadable,
    /// It ends the process that reads it.
    Abort,
    /// It panics.
    Panic,
    /// It leaves the process.
    Exit,
}

impl MapDataset for Numbers {
    fn len(&self) -> u64 {
        self.len
    }

    fn get(&self, index: u64) -> Result<Sample, SampleError> {
        if index == self.at {
            match self.trouble {
                Trouble::None => {}
                Trouble::Unreadable => {
                    return Err(SampleError::new(self.name(index), "it is out of reach"));
                }
                Trouble::Abort => process::abort(),
                Trouble::Panic => panic!("number {index} is unlucky"),
                Trouble::Exit => process::exit(3),
            }
        }
        std::hint::black_box((0..self.work).fold(index, |sum, round| sum.rotate_left(7).wrapping_add(round)));
        let values: Vec<i64> = (0..self.width).map(|place| (index * 1_000 + place).cast_signed()).collect();
        Ok(Sample::new().with("values", Array::from_i64(&values)).with("label", Array::scalar_i64(index.cast_signed())))
    }

    fn name(&self, index: u64) -> String {
        format!("number {index}")
    }
}

fn main() -> ExitCode {
    let registry = batchmill_datasets::builtin().dataset("numbers", |options| {
        let troubles = [
            ("none", Trouble::None),
            ("unreadable", Trouble::Unreadable),
            ("abort", Trouble::Abort),
            ("panic", Trouble::Panic),
            ("exit", Trouble::Exit),
        ];
        Ok(Numbers {
            len: options.integer("len", 1..=1_000_000)?,
            width: options.optional_integer("width", 1..=1_000_000)?.unwrap_or(4),
            work: options.optional_integer("work", 0..=1_000_000_000)?.unwrap_or(0),
            trouble: options.optional_one_of("trouble", &troubles)?.unwrap_or(Trouble::None),
            at: options.optional_integer("at", 0..=1_000_000)?.unwrap_or(0),
        })
    });
    batchmill_loader::run(registry)
}
