//! The loader with one more dataset and one more transform, written as a third party would: numbers, and trouble on
//! cue.

use std::process::{self, ExitCode};
use std::{env, fs, thread};

use batchmill_datasets::dataset::{MapDataset, SampleError};
use batchmill_datasets::sample::{Array, Sample};

/// The environment variable that has workers die before they say a word.
const STILLBORN: &str = "BATCHMILL_TEST_STILLBORN";

/// Numbers counted from 0, of which some are trouble.
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
    /// And every so many behind it, if not 0.
    every: u64,
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
    /// It takes for ever.
    Hang,
    /// It asks for more memory than there is.
    Hog,
}

impl Numbers {
    fn is_trouble(&self, index: u64) -> bool {
        index == self.at || (self.every > 0 && index > self.at && (index - self.at).is_multiple_of(self.every))
    }
}

impl MapDataset for Numbers {
    fn len(&self) -> u64 {
        self.len
    }

    fn get(&self, index: u64) -> Result<Sample, SampleError> {
        if self.is_trouble(index) {
            match self.trouble {
                Trouble::None => {}
                Trouble::Unreadable => {
                    return Err(SampleError::new(self.name(index), "it is out of reach"));
                }
                Trouble::Abort => process::abort(),
                Trouble::Panic => panic!("number {index} is unlucky"),
                Trouble::Exit => process::exit(3),
                Trouble::Hang => loop {
                    thread::park();
                },
                Trouble::Hog => drop(std::hint::black_box(vec![1_u8; 1 << 45])),
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
    let registry = batchmill_tests::registry().dataset("numbers", |options| {
        let troubles = [
            ("none", Trouble::None),
            ("unreadable", Trouble::Unreadable),
            ("abort", Trouble::Abort),
            ("panic", Trouble::Panic),
            ("exit", Trouble::Exit),
            ("hang", Trouble::Hang),
            ("hog", Trouble::Hog),
        ];
        Ok(Numbers {
            len: options.integer("len", 1..=1_000_000)?,
            width: options.optional_integer("width", 1..=1_000_000)?.unwrap_or(4),
            work: options.optional_integer("work", 0..=1_000_000_000)?.unwrap_or(0),
            trouble: options.optional_one_of("trouble", &troubles)?.unwrap_or(Trouble::None),
            at: options.optional_integer("at", 0..=1_000_000)?.unwrap_or(0),
            every: options.optional_integer("every", 0..=1_000_000)?.unwrap_or(0),
        })
    });
    die_before_the_handshake();
    batchmill_tests::run_loader(registry)
}

/// Ends this process when it is a worker and the folder that [`STILLBORN`] names still holds a file: each file is the
/// death of one.
fn die_before_the_handshake() {
    let Some(folder) = env::var_os(STILLBORN).filter(|_| env::args().nth(1).as_deref() == Some("worker")) else {
        return;
    };
    let mut lots = fs::read_dir(folder).into_iter().flatten().flatten();
    if lots.any(|lot| fs::remove_file(lot.path()).is_ok()) {
        process::abort();
    }
}
