//! Samples that cannot be used: what stands in for them, and what no policy hides.

use std::collections::BTreeMap;
use std::io;

use batchmill_datasets::builtin;
use batchmill_datasets::dataset::{MapDataset, SampleError};
use batchmill_datasets::pipeline::{ATTEMPTS_MAX, Pipeline, RowLabel, SURVEY_MAX};
use batchmill_datasets::sample::{Array, Sample};
use batchmill_datasets::sampler::{Population, Sampler};
use batchmill_protocol::position::{Position, Rows};
use batchmill_protocol::tensor::{Dtype, FieldSpec};
use expect_test::expect;

use crate::support::{Batch, Folder, drawn, survey};

/// Every second sample of the dataset.
#[derive(Debug)]
struct Even {
    samples: u64,
}

impl Sampler for Even {
    fn len(&self) -> u64 {
        self.samples / 2
    }

    fn index(&self, _epoch: u64, position: u64) -> u64 {
        position * 2
    }
}

/// What is wrong with a sample of [`Numbers`].
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Its data is broken.
    Broken,
    /// Reading it fails with this error of the system.
    Errno(i32),
    /// The same, noticed where nobody expects it.
    ErrnoWithin(i32),
    /// It is not the one that was there.
    Changed,
    /// It has two numbers.
    Shape,
    /// It has a number of another type.
    Dtype,
    /// It has no number.
    Missing,
    /// Who reads it is gone.
    Deadly,
}

/// Numbers from 1, some of them at fault.
#[derive(Clone, Debug)]
struct Numbers {
    len: u64,
    faults: BTreeMap<u64, Fault>,
}

impl Numbers {
    fn new(len: u64, faults: impl IntoIterator<Item = (u64, Fault)>) -> Self {
        Self { len, faults: faults.into_iter().collect() }
    }

    /// Opens a stream of them in their order.
    fn open(&self, rest: &str) -> Pipeline {
        let numbers = self.clone();
        let registry = builtin()
            .dataset("numbers", move |_| Ok(numbers.clone()))
            .sampler("even", |_| Ok(|population: &Population| Ok(Even { samples: population.samples })));
        Folder::new().open_by(&registry, &format!("dataset = 'numbers'\n{rest}")).unwrap()
    }
}

impl MapDataset for Numbers {
    fn len(&self) -> u64 {
        self.len
    }

    fn get(&self, index: u64) -> Result<Sample, SampleError> {
        let number = i64::try_from(index + 1).unwrap();
        let errno = |number: &i32| io::Error::from_raw_os_error(*number);
        let value = match self.faults.get(&index) {
            None => Array::from_i64(&[number]),
            Some(Fault::Shape) => Array::from_i64(&[number, number]),
            Some(Fault::Dtype) => Array::from_f32(&[0.0]),
            Some(Fault::Missing) => return Ok(Sample::new()),
            Some(Fault::Broken) => return Err(SampleError::new(self.name(index), "is broken")),
            Some(Fault::Errno(number)) => {
                return Err(SampleError::Read { sample: self.name(index), source: errno(number) });
            }
            Some(Fault::ErrnoWithin(number)) => {
                return Err(SampleError::caused_by(self.name(index), "ask the archive", errno(number)));
            }
            Some(Fault::Changed) => {
                return Err(SampleError::Changed { sample: self.name(index), found: "it is another".to_owned() });
            }
            Some(Fault::Deadly) => panic!("{} was read", self.name(index)),
        };
        Ok(Sample::new().with("number", value))
    }

    fn name(&self, index: u64) -> String {
        format!("number {}", index + 1)
    }
}

fn number() -> [FieldSpec; 1] {
    [FieldSpec::new("number", Dtype::I64, [1])]
}

/// The first batch of a stream of [`Numbers`], or why there is none.
fn fill(pipeline: &Pipeline) -> Result<Batch, String> {
    Batch::fill(pipeline, &number(), Position::default()).map_err(|error| crate::support::report(&error))
}

/// The numbers of a batch.
fn values(batch: &Batch) -> Vec<i64> {
    batch.rows.iter().map(|row| i64::from_le_bytes(*row[0].first_chunk().unwrap())).collect()
}

/// Row, index and reason of what could not be used.
fn bad(batch: &Batch) -> Vec<(u32, u64, &str)> {
    batch.bad.iter().map(|bad| (bad.row, bad.index, bad.reason.as_str())).collect()
}

fn at(epoch: u64, step: u64) -> Position {
    Position { epoch, step }
}

#[test]
fn a_masked_row_is_zero_and_says_whose_it_is() {
    let numbers = Numbers::new(5, [(1, Fault::Broken), (4, Fault::Broken)]);
    let batch = fill(&numbers.open("on_bad = 'mask'\nbatch_size = 7\ntail = 'pad'")).unwrap();
    assert_eq!(values(&batch), [1, 0, 3, 4, 0, 1, 0]);
    let label = |index, padding, masked| Some(RowLabel { index, padding, substituted: false, masked });
    assert_eq!(
        batch.labels,
        [
            label(0, false, false),
            label(1, false, true),
            label(2, false, false),
            label(3, false, false),
            label(4, false, true),
            label(0, true, false),
            label(1, true, true)
        ]
    );
    let (second, fifth) = ("number 2: is broken", "number 5: is broken");
    assert_eq!(bad(&batch), [(1, 1, second), (4, 4, fifth), (6, 1, second)]);
    assert_eq!(batch.bad[0].name, "number 2");
}

#[test]
fn padding_is_what_the_row_is_that_it_repeats() {
    let numbers = Numbers::new(5, [(0, Fault::Broken)]);
    let batch = fill(&numbers.open("on_bad = 'substitute'\nbatch_size = 11\ntail = 'pad'")).unwrap();
    let values = values(&batch);
    assert_eq!((&values[5..10], values[10]), (&values[..5], values[0]));
    let (first, padding) = (batch.labels[0].unwrap(), batch.labels[5].unwrap());
    assert!(first.substituted && !first.padding);
    assert_eq!(padding, RowLabel { padding: true, ..first });
}

#[test]
fn draws_of_substitutes_are_what_they_always_were() {
    // Golden, from a second implementation in Python. Samples 8 and 4 are drawn first and second for place 0.
    let numbers = Numbers::new(10, [0, 7, 3].map(|index| (index, Fault::Broken)));
    let batch = fill(&numbers.open("on_bad = 'substitute'\nbatch_size = 1")).unwrap();
    assert_eq!(values(&batch), [2]);
    assert_eq!(
        bad(&batch),
        [
            (0, 0, "number 1: is broken"),
            (0, 7, "number 8: is broken"),
            (0, 3, "number 4: is broken"),
            (0, 7, "number 8: is broken")
        ]
    );
    let label = RowLabel { index: 1, padding: false, substituted: true, masked: false };
    assert_eq!(batch.labels, [Some(label)]);
    assert_eq!(batch.attempts.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 7, 3, 7, 1]);
}

#[test]
fn other_seeds_epochs_and_places_draw_other_substitutes() {
    let numbers = Numbers::new(1000, (0..500).map(|index| (index, Fault::Broken)));
    let substitutes = |seed: u64, epoch| {
        let pipeline = numbers.open(&format!("on_bad = 'substitute'\nbatch_size = 20\nseed = {seed}"));
        let batch = Batch::fill(&pipeline, &number(), at(epoch, 0)).unwrap();
        values(&batch)
    };
    let draws = [substitutes(0, 0), substitutes(1, 0), substitutes(0, 1)];
    assert_eq!(draws[0], substitutes(0, 0));
    let mut all = draws.concat();
    all.sort_unstable();
    all.dedup();
    // 60 of 500: some fall together, but not many.
    assert!(all.len() > 45, "{draws:?}");
}

#[test]
fn a_subset_stays_a_subset() {
    let numbers = Numbers::new(40, [(0, Fault::Broken), (10, Fault::Broken), (38, Fault::Broken)]);
    let batch = fill(&numbers.open("sampler = 'even'\non_bad = 'substitute'\nbatch_size = 20")).unwrap();
    assert!(batch.labels.iter().all(|label| label.unwrap().index % 2 == 0), "{:?}", batch.labels);
    assert_eq!(batch.labels.iter().filter(|label| label.unwrap().substituted).count(), 3);
}

#[test]
fn a_row_without_a_substitute_fails_by_name() {
    let numbers = Numbers::new(50, (0..50).map(|index| (index, Fault::Broken)));
    let pipeline = numbers.open("sampler = 'even'\non_bad = 'substitute'");
    let mut batch = Batch::empty(&number(), 25);
    let error = batch.fill_rows(&pipeline, &number(), at(0, 0), Rows { lo: 3, hi: 4 }).unwrap_err();
    expect!["number 7 cannot be used, nor can the 32 drawn to substitute it: number 7: is broken"]
        .assert_eq(&crate::support::report(&error));
    assert!(!error.is_bad_sample());
    assert_eq!(batch.attempts.len() as u64, 1 + ATTEMPTS_MAX);
    assert_eq!(batch.labels[3], None, "a row that failed is not finished");

    let alone = Numbers::new(1, [(0, Fault::Broken)]).open("on_bad = 'substitute'");
    expect!["number 1 cannot be used, nor can the 0 drawn to substitute it: number 1: is broken"]
        .assert_eq(&fill(&alone).unwrap_err());
}

#[test]
fn a_stream_that_is_to_fail_does_at_the_first_bad_sample() {
    let numbers = Numbers::new(10, [(4, Fault::Broken), (6, Fault::Broken)]);
    let pipeline = numbers.open("on_bad = 'fail'");
    let mut batch = Batch::empty(&number(), 10);
    let error = batch.fill_rows(&pipeline, &number(), at(0, 0), Rows { lo: 0, hi: 10 }).unwrap_err();
    assert_eq!(error.to_string(), "number 5: is broken");
    assert_eq!(batch.attempts.last(), Some(&(4, "number 5".to_owned())));
    assert_eq!(values(&batch)[..4], [1, 2, 3, 4]);
}

#[test]
fn samples_of_every_wrong_form_are_bad() {
    let faults = [
        (
            2,
            Fault::Shape,
            "number 3: number: i64 [2], but that of the stream's first sample is i64 [1]; a batch needs samples of one \
             shape: make the dataset give it, or a transform, or a rule under `collate`",
        ),
        (
            3,
            Fault::Dtype,
            "number 4: number: f32 [1], but that of the stream's first sample is i64 [1]; a batch needs samples of one \
             shape: make the dataset give it, or a transform, or a rule under `collate`",
        ),
        (
            4,
            Fault::Missing,
            "number 5: no field `number`, which the stream's first sample has; every sample must have the same \
             fields",
        ),
        // Permission denied, and an error of the disk.
        (5, Fault::Errno(13), "read number 6: Permission denied (os error 13)"),
        (6, Fault::ErrnoWithin(5), "number 7: ask the archive: Input/output error (os error 5)"),
    ];
    let numbers = Numbers::new(10, faults.map(|(index, fault, _)| (index, fault)));
    let batch = fill(&numbers.open("on_bad = 'mask'")).unwrap();
    assert_eq!(values(&batch), [1, 2, 0, 0, 0, 0, 0, 8, 9, 10]);
    assert_eq!(bad(&batch), faults.map(|(index, _, reason)| (u32::try_from(index).unwrap(), index, reason)));
}

#[test]
fn no_policy_hides_what_is_no_samples_fault() {
    // Too many open files, in this process and in the machine; no memory; a network drive that is away.
    let errors = [24, 23, 12, 116, 110, 113];
    let faults = errors.into_iter().flat_map(|number| [Fault::Errno(number), Fault::ErrnoWithin(number)]);
    for fault in faults.chain([Fault::Changed]) {
        for on_bad in ["fail", "substitute", "mask"] {
            let numbers = Numbers::new(10, [(4, fault)]);
            let pipeline = numbers.open(&format!("on_bad = '{on_bad}'"));
            let error = Batch::fill(&pipeline, &number(), at(0, 0)).unwrap_err();
            assert!(!error.is_bad_sample() && error.to_string().contains("number 5"), "{on_bad}: {error}");
            // Neither does it for a substitute: another worker would take the first drawn.
            let first = drawn(0, 0, 4, 1, 10);
            let numbers = Numbers::new(10, [(4, Fault::Broken), (first, fault)]);
            let pipeline = numbers.open("on_bad = 'substitute'");
            let mut batch = Batch::empty(&number(), 10);
            let error = batch.fill_rows(&pipeline, &number(), at(0, 0), Rows { lo: 4, hi: 5 }).unwrap_err();
            assert!(!error.is_bad_sample(), "{error}");
            // Nor while the fields are learnt.
            let numbers = Numbers::new(10, [(0, fault)]);
            assert!(!survey(&numbers.open(&format!("on_bad = '{on_bad}'"))).unwrap_err().is_bad_sample());
        }
    }
}

#[test]
fn a_quarantined_sample_is_never_read_and_counts_as_broken() {
    for on_bad in ["substitute", "mask"] {
        let table = format!("on_bad = '{on_bad}'\nbatch_size = 20\ntail = 'pad'");
        let broken = fill(&Numbers::new(10, [(0, Fault::Broken), (4, Fault::Broken)]).open(&table)).unwrap();
        let mut pipeline = Numbers::new(10, [(0, Fault::Deadly), (4, Fault::Deadly)]).open(&table);
        for index in [0, 4] {
            pipeline.quarantine(index, "two workers died of it".to_owned());
        }
        assert_eq!(survey(&pipeline).unwrap(), number());
        let quarantined = fill(&pipeline).unwrap();
        assert_eq!((&quarantined.rows, &quarantined.labels), (&broken.rows, &broken.labels));
        let places = |batch: &Batch| batch.bad.iter().map(|bad| (bad.row, bad.index)).collect::<Vec<_>>();
        assert_eq!(places(&quarantined), places(&broken));
        assert_eq!(quarantined.bad[0].reason, "number 1: two workers died of it");
        assert!(quarantined.attempts.iter().all(|(index, _)| ![0, 4].contains(index)), "{:?}", quarantined.attempts);
    }
    let mut pipeline = Numbers::new(10, [(4, Fault::Deadly)]).open("on_bad = 'fail'");
    pipeline.quarantine(4, "two workers died of it".to_owned());
    assert_eq!(fill(&pipeline).unwrap_err(), "number 5: two workers died of it");
}

#[test]
fn fields_are_learnt_from_the_first_sample_that_can_be_used() {
    let surveyed = |numbers: &Numbers, on_bad: &str| {
        let mut attempts = Vec::new();
        let pipeline = numbers.open(&format!("on_bad = '{on_bad}'"));
        let fields = pipeline.survey(&mut |index, name| attempts.push((index, name.to_owned())));
        (fields.map_err(|error| crate::support::report(&error)), attempts)
    };
    let numbers = Numbers::new(1000, (0..SURVEY_MAX - 1).map(|index| (index, Fault::Broken)));
    let (fields, attempts) = surveyed(&numbers, "mask");
    assert_eq!(fields, Ok(number().to_vec()));
    assert_eq!(attempts, (0..100).map(|index| (index, format!("number {}", index + 1))).collect::<Vec<_>>());
    let (fields, attempts) = surveyed(&numbers, "fail");
    assert_eq!((fields, attempts.len()), (Err("number 1: is broken".to_owned()), 1));

    let numbers = Numbers::new(1000, (0..SURVEY_MAX).map(|index| (index, Fault::Broken)));
    let (fields, attempts) = surveyed(&numbers, "substitute");
    expect!["none of the dataset's first 100 samples can be used; the first: number 1: is broken"]
        .assert_eq(&fields.unwrap_err());
    assert_eq!(attempts.len(), 100);
    let (fields, _) = surveyed(&Numbers::new(2, [0, 1].map(|index| (index, Fault::Broken))), "substitute");
    expect!["none of the dataset's first 2 samples can be used; the first: number 1: is broken"]
        .assert_eq(&fields.unwrap_err());
}
