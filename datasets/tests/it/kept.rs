//! Streams over a cache: the same bytes as without one, whoever put the samples in.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use batchmill_datasets::cache::{Cache, Usage};
use batchmill_datasets::dataset::{MapDataset, SampleError};
use batchmill_datasets::pipeline::Pipeline;
use batchmill_datasets::registry::Registry;
use batchmill_datasets::sample::{Array, Image, Sample};
use batchmill_datasets::transform::{Transform, TransformError, from_fn, image_mut};
use batchmill_protocol::position::Position;

use crate::support::{Batch, Folder, survey};

const SAMPLES: u64 = 10;

/// Images whose size differs, made by counting.
#[derive(Debug)]
struct Counted {
    made: Arc<AtomicU64>,
    broken: Option<u64>,
}

impl MapDataset for Counted {
    fn len(&self) -> u64 {
        SAMPLES
    }

    fn get(&self, index: u64) -> Result<Sample, SampleError> {
        self.made.fetch_add(1, Ordering::Relaxed);
        if self.broken == Some(index) {
            return Err(SampleError::new(self.name(index), "torn"));
        }
        let side = 20 + usize::try_from(index).unwrap();
        let pixels = (0..side * side * 3).map(|place| (place as u64 * (index + 3) % 251) as u8);
        let image = Image::new(side, side, 3, pixels.collect()).unwrap();
        Ok(Sample::new().with("image", image).with("label", Array::scalar_i64(index.cast_signed())))
    }

    fn name(&self, index: u64) -> String {
        format!("image {index}")
    }
}

/// Turns black into white; says of itself whether it draws.
#[derive(Debug)]
struct Negative {
    is_deterministic: bool,
}

impl Transform for Negative {
    fn apply(&self, mut sample: Sample, _: &mut batchmill_datasets::random::Rng) -> Result<Sample, TransformError> {
        image_mut(&mut sample)?.pixels_mut().iter_mut().for_each(|byte| *byte = 255 - *byte);
        Ok(sample)
    }

    fn is_deterministic(&self) -> bool {
        self.is_deterministic
    }
}

/// A registry with [`Counted`], and how often its samples were made.
fn registry(broken: Option<u64>) -> (Registry, Arc<AtomicU64>) {
    let made = Arc::new(AtomicU64::new(0));
    let count = made.clone();
    let registry = batchmill_datasets::builtin()
        .dataset("counted", move |_| Ok(Counted { made: count.clone(), broken }))
        .transform("negative", |_| Ok(Negative { is_deterministic: true }))
        .transform("stranger", |_| Ok(Negative { is_deterministic: false }))
        .transform("function", |_| Ok(from_fn(|sample, _| Ok(sample))));
    (registry, made)
}

fn table(transforms: &str, more: &str) -> String {
    format!(
        "dataset = 'counted'\nsampler = 'shuffled'\nbatch_size = 4\ntail = 'pad'\ntransforms = [{transforms}]\n{more}"
    )
}

fn keep(pipeline: &mut Pipeline, file: &File) {
    let cache = Cache::open(file.try_clone().unwrap(), pipeline.cache_key(""), SAMPLES, 1 << 20).unwrap();
    pipeline.keep_in(cache.expect("it is the cache of this stream"));
}

/// Three epochs, and how many samples were read in each.
fn epochs(pipeline: &Pipeline, made: &AtomicU64) -> (Vec<Batch>, Vec<u64>) {
    let fields = survey(pipeline).unwrap();
    let mut batches = Vec::new();
    let mut counts = Vec::new();
    for epoch in 0..3 {
        made.store(0, Ordering::Relaxed);
        for step in 0..pipeline.extent().steps() {
            let batch = Batch::fill(pipeline, &fields, Position { epoch, step }).unwrap();
            batches.push(Batch { attempts: Vec::new(), ..batch });
        }
        counts.push(made.load(Ordering::Relaxed));
    }
    (batches, counts)
}

const HEAD: &str = "{ kind = 'resize', size = 16 }, { kind = 'center-crop', size = 12 }";

#[test]
fn the_bytes_are_those_without_a_cache_and_each_sample_is_made_once() {
    let tails = ["", ", 'horizontal-flip'", ", { kind = 'random-crop', size = 8 }, 'to-f32'", ", 'function'"];
    let folder = Folder::new();
    for (tail, more) in tails.into_iter().flat_map(|tail| [(tail, ""), (tail, "fields = ['label', 'image']")]) {
        let (registry, made) = registry(None);
        let mut pipeline = folder.open_by(&registry, &table(&format!("{HEAD}{tail}"), more)).unwrap();
        let (expected, counts) = epochs(&pipeline, &made);
        // A batch of padding repeats two.
        assert_eq!(counts, [12, 12, 12], "{tail}");
        let file = tempfile::tempfile().unwrap();
        keep(&mut pipeline, &file);
        let (batches, counts) = epochs(&pipeline, &made);
        assert!(batches == expected, "{tail} {more}");
        assert_eq!(counts, [SAMPLES, 0, 0], "{tail}");
        assert_eq!(Usage::of(&file).unwrap().kept, SAMPLES);
        let epoch = expected.len() / 3;
        let differ = (0..epoch).any(|step| {
            !tail.is_empty() && {
                let by_index = |batch: &Batch| batch.rows.clone().into_iter().zip(batch.order()).collect::<Vec<_>>();
                let all = |epoch_at: usize| {
                    (0..epoch).flat_map(|step| by_index(&expected[epoch_at * epoch + step])).collect::<Vec<_>>()
                };
                let (first, second) = (all(0), all(1));
                let (row, (index, _)) = &first[step];
                second.iter().any(|(other, (of, _))| of == index && other != row)
            }
        });
        assert_eq!(differ, tail.contains("flip") || tail.contains("random"), "what draws varies by epoch: {tail}");
    }
}

#[test]
fn only_what_says_that_it_draws_nothing_is_kept() {
    let kept_key = |transforms: &str| {
        let (registry, _) = registry(None);
        Folder::new().open_by(&registry, &table(transforms, "")).unwrap().cache_key("")
    };
    // The folder is in the key.
    let folder = Folder::new();
    let key = |transforms: &str, program: &str| {
        let (registry, _) = registry(None);
        folder.open_by(&registry, &table(transforms, "")).unwrap().cache_key(program)
    };
    assert_eq!(key(&format!("{HEAD}, 'horizontal-flip'"), ""), key(HEAD, ""));
    assert_eq!(key(&format!("{HEAD}, 'stranger'"), ""), key(HEAD, ""), "a transform that does not say so");
    assert_eq!(key(&format!("{HEAD}, 'function', 'negative'"), ""), key(HEAD, ""), "nothing behind it");
    assert_ne!(key(&format!("{HEAD}, 'negative'"), ""), key(HEAD, ""));
    assert_ne!(key("{ kind = 'resize', size = 17 }", ""), key("{ kind = 'resize', size = 16 }", ""));
    assert_ne!(key(HEAD, "another build"), key(HEAD, ""));
    assert_ne!(kept_key(HEAD), key(HEAD, ""), "another folder");
}

#[test]
fn bad_and_quarantined_samples_are_what_they_are_without_a_cache() {
    let folder = Folder::new();
    for policy in ["on_bad = 'substitute'", "on_bad = 'mask'"] {
        let open = |cached| {
            let (registry, made) = registry(Some(3));
            let mut pipeline = folder.open_by(&registry, &table(HEAD, policy)).unwrap();
            let file = tempfile::tempfile().unwrap();
            if cached {
                keep(&mut pipeline, &file);
            }
            // Kept before it was known to be one that must not be read.
            let fields = survey(&pipeline).unwrap();
            Batch::fill(&pipeline, &fields, Position { epoch: 0, step: 0 }).unwrap();
            Batch::fill(&pipeline, &fields, Position { epoch: 0, step: 1 }).unwrap();
            pipeline.quarantine(5, "it ends workers".to_owned());
            let (batches, counts) = epochs(&pipeline, &made);
            (batches, counts, Usage::of(&file).unwrap().kept)
        };
        let (expected, _, _) = open(false);
        let (batches, counts, kept) = open(true);
        assert!(batches == expected, "{policy}");
        assert!((8..=9).contains(&kept), "{kept} kept; sample 3 never, and 5 if it came before");
        // Sample 3 is tried each time.
        assert!(counts[2] >= 1, "{counts:?}");
        assert!(batches.iter().any(|batch| batch.bad.iter().any(|bad| bad.index == 5)));
    }
}

#[test]
fn a_row_that_does_not_fit_is_refused_as_without_a_cache() {
    let folder = Folder::new();
    let (registry, _) = registry(None);
    let told = |cached| {
        let mut pipeline = folder.open_by(&registry, &table("", "")).unwrap();
        if cached {
            keep(&mut pipeline, &tempfile::tempfile().unwrap());
        }
        let fields = survey(&pipeline).unwrap();
        let refusal = |step| Batch::fill(&pipeline, &fields, Position { epoch: 0, step }).unwrap_err().to_string();
        [refusal(0), refusal(0)]
    };
    let [first, second] = told(false);
    assert!(first.contains("but that of the stream's first sample is u8 [20, 20, 3]"), "{first}");
    assert_eq!(told(true), [first, second]);
}

#[test]
fn a_cache_must_say_what_it_is() {
    let refusal = |cache: &str| {
        let table = format!("dataset = 'synthetic'\ncache = {cache}").parse().unwrap();
        batchmill_datasets::spec::StreamSpec::from_table("train", table, "/".as_ref()).unwrap_err().to_string()
    };
    let cases = [
        ("'ram'", "stream `train`: `cache` is \"ram\", not a table"),
        ("{ limit = '1GiB' }", "`cache` of stream `train` needs the key `kind`"),
        (
            "{ kind = 'rom', limit = '1GiB' }",
            "`cache` of stream `train`: `kind` is \"rom\", not `ram` or `disk`; did you mean `ram`?",
        ),
        ("{ kind = 'ram' }", "`cache` of stream `train` needs the key `limit`"),
        (
            "{ kind = 'ram', limit = 'all' }",
            "`cache` of stream `train`: `limit` is \"all\", not a size such as \"256MiB\" or \"2GiB\"",
        ),
        (
            "{ kind = 'ram', limit = 0 }",
            "`cache` of stream `train`: `limit` is 0, not a size such as \"256MiB\" or \"2GiB\"",
        ),
        ("{ kind = 'disk', limit = '1GiB' }", "`cache` of stream `train` needs the key `path`"),
        (
            "{ kind = 'ram', limit = '1GiB', path = 'x' }",
            "`cache` of stream `train`: `path` is for `kind` = \"disk\": a cache in memory has no file",
        ),
        ("{ kind = 'ram', limt = '1GiB' }", "unknown key `limt` of `cache` of stream `train`; did you mean `limit`?"),
    ];
    for (cache, expected) in cases {
        assert_eq!(refusal(cache), expected);
    }
}
