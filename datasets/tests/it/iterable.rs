//! Datasets that are read in order: every record once an epoch, for any shards, workers and place to resume at.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use batchmill_datasets::builtin;
use batchmill_datasets::dataset::SampleError;
use batchmill_datasets::iterable::{IterableDataset, Record, Records};
use batchmill_datasets::pipeline::Pipeline;
use batchmill_datasets::random::Rng;
use batchmill_datasets::registry::Registry;
use batchmill_datasets::sample::{Array, Sample};
use batchmill_protocol::position::{Position, Rows};
use expect_test::expect;

use crate::support::{Batch, Folder, survey};

/// What is wrong with a shard of [`Pairs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Its records cannot be decoded.
    Bad,
    /// It cannot be read on.
    Torn,
    /// It ends.
    Short,
}

/// Records that say where they stand: shard and number.
#[derive(Clone, Debug, Default)]
struct Pairs {
    /// The records of each shard.
    lens: Vec<u64>,
    /// Whether the lengths are known without counting.
    is_known: bool,
    is_seekable: bool,
    /// What each record claims to hold.
    bytes: usize,
    /// What is wrong from a record of a shard on.
    fault: Option<(u64, u64, Fault)>,
    /// How often a shard was opened, and how many records were read.
    opened: Arc<AtomicU64>,
    read: Arc<AtomicU64>,
}

impl Pairs {
    fn new(lens: &[u64]) -> Self {
        Self { lens: lens.to_vec(), ..Self::default() }
    }

    fn len(&self) -> u64 {
        self.lens.iter().sum()
    }

    fn registry(&self) -> Registry {
        let pairs = self.clone();
        builtin().iterable("pairs", move |_| Ok(pairs.clone()))
    }

    fn open(&self, rest: &str) -> Pipeline {
        let folder = Folder::new();
        folder.open_by(&self.registry(), &format!("dataset = 'pairs'\ntail = 'short'\n{rest}")).unwrap()
    }

    /// All places, in order.
    fn places(&self) -> Vec<(i64, i64)> {
        let shard = |(shard, &len): (i64, &u64)| (0..i64::try_from(len).unwrap()).map(move |record| (shard, record));
        (0..).zip(&self.lens).flat_map(shard).collect()
    }
}

impl IterableDataset for Pairs {
    fn shards(&self) -> u64 {
        self.lens.len() as u64
    }

    fn records(&self, shard: u64, first: u64) -> Result<Records, SampleError> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let (read, bytes, fault, name) = (self.read.clone(), self.bytes, self.fault, self.name(shard, 0));
        let place = |number: u64| i64::try_from(number).unwrap();
        let records = (first..self.lens[usize::try_from(shard).unwrap()]).map_while(move |record| {
            read.fetch_add(1, Ordering::Relaxed);
            let fault = fault.filter(|&(at, from, _)| at == shard && from <= record).map(|(.., fault)| fault);
            let wrong = SampleError::new(name.clone(), "is unlucky");
            let sample = Sample::new().with("place", Array::from_i64(&[place(shard), place(record)]));
            match fault {
                None => Some(Ok(Record::new(bytes, || Ok(sample)))),
                Some(Fault::Bad) => Some(Ok(Record::new(bytes, || Err(wrong)))),
                Some(Fault::Torn) => Some(Err(wrong)),
                Some(Fault::Short) => None,
            }
        });
        Ok(Box::new(records))
    }

    fn shard_len(&self, shard: u64) -> Option<u64> {
        self.is_known.then(|| self.lens[usize::try_from(shard).unwrap()])
    }

    fn is_seekable(&self, _shard: u64) -> bool {
        self.is_seekable
    }

    fn name(&self, shard: u64, record: u64) -> String {
        format!("shard {shard}: record {record}")
    }
}

fn at(epoch: u64, step: u64) -> Position {
    Position { epoch, step }
}

fn epoch(pipeline: &Pipeline, epoch: u64, steps: std::ops::Range<u64>) -> Vec<Batch> {
    let fields = survey(pipeline).unwrap();
    steps.map(|step| Batch::fill(pipeline, &fields, at(epoch, step)).unwrap()).collect()
}

/// Shard and number of every row.
fn places(batches: &[Batch]) -> Vec<(i64, i64)> {
    let number = |bytes: &[u8]| i64::from_le_bytes(*bytes.first_chunk().unwrap());
    let rows = batches.iter().flat_map(|batch| &batch.rows);
    rows.map(|row| (number(&row[0]), number(&row[0][8..]))).collect()
}

/// A generator whose seed is printed.
fn rng() -> Rng {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let seed = u64::try_from(seed % (1 << 60)).unwrap();
    println!("seed {seed}");
    Rng::new(seed, 0, 0, 0, 0)
}

/// Shards of random lengths, some of them empty, with at least one record.
fn random_pairs(rng: &mut Rng) -> Pairs {
    let mut lens: Vec<u64> = (0..=rng.below(9)).map(|_| rng.below(2) * rng.below(60)).collect();
    lens.push(1 + rng.below(5));
    let (is_known, is_seekable) = (rng.below(2) == 0, rng.below(2) == 0);
    // Of the heaviest not even two are kept.
    let bytes = [0, 1 << 20, 100 << 20][usize::try_from(rng.below(3)).unwrap()];
    Pairs { is_known, is_seekable, bytes, ..Pairs::new(&lens) }
}

#[test]
fn by_number_equals_in_order() {
    let mut rng = rng();
    for _ in 0..40 {
        let pairs = random_pairs(&mut rng);
        let pipeline = pairs.open("batch_size = 7");
        assert_eq!(pipeline.extent().samples, pairs.len());
        let batches = epoch(&pipeline, 0, 0..pipeline.extent().steps());
        assert_eq!(places(&batches), pairs.places(), "{pairs:?}");
        let (index, name) = batches.last().unwrap().attempts.last().unwrap();
        assert_eq!(*index, pairs.len() - 1);
        let (shard, record) = *pairs.places().last().unwrap();
        assert_eq!(*name, format!("shard {shard}: record {record}"));
    }
}

#[test]
fn every_record_comes_once_an_epoch_for_any_shards_and_workers() {
    let mut rng = rng();
    for round in 0..40 {
        let pairs = random_pairs(&mut rng);
        let (lanes, block) = (1 + rng.below(6), 1 + rng.below(30));
        let sampler = format!("sampler = {{ kind = 'shuffled', lanes = {lanes}, block = {block} }}");
        let table = format!("{sampler}\nbatch_size = {}\nseed = {round}", 1 + rng.below(20));
        let alone = pairs.open(&table);
        let fields = survey(&alone).unwrap();
        let workers: Vec<_> = (0..=rng.below(4)).map(|_| pairs.open(&table)).collect();
        let mut received = Vec::new();
        for step in 0..alone.extent().steps() {
            let whole = Batch::fill(&alone, &fields, at(round, step)).unwrap();
            let rows = alone.extent().rows(step);
            let mut parts = Batch::empty(&fields, rows);
            let mut cuts: Vec<_> =
                (0..rng.below(4)).map(|_| u32::try_from(rng.below(u64::from(rows) + 1)).unwrap()).collect();
            cuts.extend([0, rows]);
            cuts.sort_unstable();
            let mut ranges: Vec<_> = cuts.windows(2).map(|cut| Rows { lo: cut[0], hi: cut[1] }).collect();
            while !ranges.is_empty() {
                let range = ranges.swap_remove(usize::try_from(rng.below(ranges.len() as u64)).unwrap());
                let worker = &workers[usize::try_from(rng.below(workers.len() as u64)).unwrap()];
                parts.fill_rows(worker, &fields, at(round, step), range).unwrap();
            }
            assert_eq!((&parts.rows, &parts.labels), (&whole.rows, &whole.labels), "{pairs:?}, step {step}");
            received.push(parts);
        }
        let mut received = places(&received);
        received.sort_unstable();
        assert_eq!(received, pairs.places(), "{pairs:?}");
    }
}

#[test]
fn an_epoch_is_resumed_at_any_step() {
    let mut rng = rng();
    for sampler in ["'sequential'", "'shuffled'", "{ kind = 'shuffled', lanes = 3, block = 5 }"] {
        for _ in 0..20 {
            let pairs = random_pairs(&mut rng);
            let table = format!("sampler = {sampler}\nbatch_size = 3");
            let whole = pairs.open(&table);
            let steps = whole.extent().steps();
            let batches = epoch(&whole, 5, 0..steps);
            let from = rng.below(steps);
            let resumed = epoch(&pairs.open(&table), 5, from..steps);
            assert_eq!(resumed, batches[usize::try_from(from).unwrap()..], "{pairs:?}, from step {from}");
        }
    }
}

#[test]
fn reading_in_order_reads_every_record_once() {
    // Seekable or not, known or not: one to count, one for the first sample, one to read.
    for (is_known, is_seekable) in [(true, false), (true, true), (false, false)] {
        let pairs = Pairs { is_known, is_seekable, ..Pairs::new(&[2000, 0, 3000]) };
        let pipeline = pairs.open("batch_size = 64");
        let counted = if is_known { 0 } else { 5000 };
        assert_eq!(pairs.read.swap(0, Ordering::Relaxed), counted);
        epoch(&pipeline, 0, 0..pipeline.extent().steps());
        assert_eq!(pairs.read.load(Ordering::Relaxed), 1 + 5000);
        // In the middle of a shard that cannot be sought in, what stands before is read for what it may be good for.
        pairs.read.store(0, Ordering::Relaxed);
        epoch(&pairs.open("batch_size = 1"), 0, 4900..4901);
        let before = if is_seekable { 0 } else { 1024 };
        assert_eq!(pairs.read.load(Ordering::Relaxed) - counted, 1 + before + 1);
    }
}

#[test]
fn records_that_were_passed_over_are_kept() {
    // Blocks hold all of a shard here: with what was passed over kept, nothing is read twice but what the first sample
    // opened.
    let pairs = Pairs { is_known: true, ..Pairs::new(&[500, 500]) };
    let pipeline = pairs.open("sampler = 'shuffled'\nbatch_size = 10");
    epoch(&pipeline, 0, 0..100);
    let (opened, read) = (pairs.opened.load(Ordering::Relaxed), pairs.read.load(Ordering::Relaxed));
    assert!(opened <= 4 && read <= 1 + 1000 + 500, "{opened} times opened, {read} records read");
}

#[test]
fn more_shards_than_may_be_open_are_read_all_the_same() {
    let pairs = Pairs::new(&[3; 300]);
    for sampler in ["sequential", "shuffled"] {
        let pipeline = pairs.open(&format!("sampler = '{sampler}'\nbatch_size = 100"));
        let mut received = places(&epoch(&pipeline, 1, 0..9));
        received.sort_unstable();
        assert_eq!(received, pairs.places());
    }
}

#[test]
fn what_is_wrong_with_a_shard_moves_no_record() {
    let failure = |fault, on_bad: &str| {
        let pairs = Pairs { is_known: true, fault: Some((1, 2, fault)), ..Pairs::new(&[3, 4, 2]) };
        let pipeline = pairs.open(&format!("batch_size = 1\non_bad = '{on_bad}'"));
        let fields = survey(&pipeline).unwrap();
        let batch = |step| Batch::fill(&pipeline, &fields, at(0, step)).map_err(|error| error.to_string());
        for good in [0, 3, 4, 7, 8] {
            assert_eq!(places(&[batch(good).unwrap()]), [pairs.places()[usize::try_from(good).unwrap()]]);
        }
        (batch(5).map(|batch| batch.labels[0].unwrap().masked), batch(6).map(|batch| batch.labels[0].unwrap().masked))
    };
    for fault in [Fault::Bad, Fault::Torn] {
        let unlucky = || Err("shard 1: record 0: is unlucky".to_owned());
        assert_eq!(failure(fault, "fail"), (unlucky(), unlucky()));
        assert_eq!(failure(fault, "mask"), (Ok(true), Ok(true)));
    }
    // That a shard has become shorter is the fault of no sample.
    for on_bad in ["fail", "mask"] {
        let (first, second) = failure(Fault::Short, on_bad);
        assert_eq!(first, second);
        expect!["shard 1: record 2 has changed since the loader read its index: its shard ends before it; put it back as it was, or have the loader take it as it is with `loader quarantine --retry`"]
        .assert_eq(&first.unwrap_err());
    }
}

#[test]
fn a_shard_that_cannot_be_counted_is_refused() {
    let pairs = Pairs { fault: Some((1, 2, Fault::Torn)), ..Pairs::new(&[3, 4, 2]) };
    let folder = Folder::new();
    let error = folder.open_by(&pairs.registry(), "dataset = 'pairs'").unwrap_err();
    expect!["count the records of shard 1: shard 1: record 0: is unlucky"].assert_eq(&folder.report(&error));
    // A record that is bad by itself counts.
    let pairs = Pairs { fault: Some((1, 2, Fault::Bad)), ..Pairs::new(&[3, 4, 2]) };
    assert_eq!(pairs.open("").extent().samples, 9);
    let error = folder.open_by(&Pairs::new(&[0, 0]).registry(), "dataset = 'pairs'").unwrap_err();
    expect!["dataset `pairs` has no samples"].assert_eq(&folder.report(&error));
}

#[test]
fn the_lengths_of_shards_are_part_of_the_identity() {
    let identity = |pairs: &Pairs| pairs.open("").identity();
    let (one, other) = (identity(&Pairs::new(&[3, 2])), identity(&Pairs::new(&[2, 3])));
    assert_ne!(one.hash(), other.hash());
    let (_, data) = one.parts.last().unwrap();
    assert!(data.ends_with(", 5 samples in 2 shards"), "{data}");
}
