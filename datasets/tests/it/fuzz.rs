//! Fuzzing: whatever a file holds, a parser gives a value or an error, and takes little memory.
//!
//! The suite runs a few cases of each parser. For a long run, and for one case again:
//!
//! ```sh
//! BATCHMILL_FUZZ_SECONDS=600 cargo test --release -p batchmill-datasets --test it fuzz -- --nocapture
//! BATCHMILL_FUZZ_SEED=1 BATCHMILL_FUZZ_TARGET=png cargo test -p batchmill-datasets --test it fuzz -- --nocapture
//! ```
//!
//! The cases run in a process of their own under a limit of memory, so that a panic, an abort, an overflown stack and an
//! endless loop all end the same way: with the number of the case, and the file it was.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, fmt, process};

use batchmill_datasets::decode::{ColorMode, DecodeOptions, Format, PIXELS_MAX, decode, decode_mask, dimensions};
use batchmill_datasets::random::Rng;
use batchmill_protocol::position::Position;
use zip::CompressionMethod;

use crate::image_files::{PngHeader, png_file, with_png_checksums};
#[cfg(feature = "parquet")]
use crate::parquet;
use crate::support::{Batch, Folder, gzip, png, report, survey};
use crate::{again, csv_table, decode_hostile, idx, npy, tar_shards};

/// Changed files that the suite gives to each parser, besides the good ones.
const CASES: u64 = 100;

/// What all parsers must do with: a test binary, and the decoders of images of [`PIXELS_FUZZED`].
const MEMORY_MIB: u64 = 512;

/// Images of more pixels than this, but not more than are allowed, are left out: they may take memory and time.
const PIXELS_FUZZED: u64 = 1 << 20;

const TEST: &str = "fuzz::whatever_a_file_holds_no_parser_panics_or_takes_much_memory";
const SECONDS: &str = "BATCHMILL_FUZZ_SECONDS";
const SEED: &str = "BATCHMILL_FUZZ_SEED";
const TARGET: &str = "BATCHMILL_FUZZ_TARGET";
/// The file in which the process with little memory says which case it is at.
const NOTE: &str = "BATCHMILL_FUZZ_NOTE";

/// A parser under test.
struct Target {
    name: &'static str,
    /// Good files, and known bad ones, out of which the cases are made.
    seeds: fn() -> Vec<Vec<u8>>,
    /// Parses a file; what it says of a bad one.
    parse: fn(&[u8]) -> Result<(), String>,
}

const CSV_OF_IMAGES: &str = "dataset = { kind = 'image-folder-csv', images = '.', labels = 'labels.csv' }";

/// The parsers. A new one is a row here.
fn targets() -> Vec<Target> {
    let target = |name, seeds, parse| Target { name, seeds, parse };
    vec![
        target("jpeg", || images(Format::Jpeg), parse_image),
        target("png", || images(Format::Png), |file| parse_image(&with_png_checksums(file))),
        target("webp", || images(Format::WebP), parse_image),
        target("bmp", || images(Format::Bmp), parse_image),
        target("gif", || images(Format::Gif), parse_image),
        target("tiff", || images(Format::Tiff), parse_image),
        target("mask", masks, |file| decode_mask(&with_png_checksums(file)).map(drop).map_err(|error| report(&error))),
        target(
            "idx-images",
            || vec![idx::images(), gzip(idx::images())],
            |file| parse_stream(idx::TABLE, &[("images", file), ("labels", &idx::labels())]),
        ),
        target(
            "idx-labels",
            || vec![idx::labels(), gzip(idx::labels())],
            |file| parse_stream(idx::TABLE, &[("images", &idx::images()), ("labels", file)]),
        ),
        target(
            "csv-of-images",
            || vec![b"path,label\na.png,cat\na.png,\"dog, big\"\n".to_vec(), b"a.png,1\r\na.png,0\r\n".to_vec()],
            |file| parse_stream(CSV_OF_IMAGES, &[("labels.csv", file), ("a.png", &png(2, 2))]),
        ),
        target(
            "csv-of-images-and-columns",
            || vec![b"path,age,tags,breed\na.png,-1.5e3,x|y,cat\na.png,,,\"dog, big\"\na.png,2,x,cat\n".to_vec()],
            |file| {
                let columns = ", columns = [
                    { column = 'breed', field = 'label', missing = -1 },
                    { column = 'age', kind = 'number', missing = 0 },
                    { column = 'tags', kind = 'multi-label' },
                ] }";
                let table = CSV_OF_IMAGES.replace(" }", columns);
                parse_stream(&table, &[("labels.csv", file), ("a.png", &png(2, 2))])
            },
        ),
        target(
            "csv-table",
            || vec![csv_table::IRIS.into(), b"1.5\t2\n-3\tnan\n".to_vec()],
            |file| parse_stream("dataset = { kind = 'csv-table', file = 'a.csv', missing = 0 }", &[("a.csv", file)]),
        ),
        target(
            "csv-rows",
            || vec![csv_table::IRIS.into(), gzip(csv_table::IRIS.as_bytes())],
            |file| {
                let table = "dataset = { kind = 'csv-rows', files = 'a.csv', targets = ['species'] }";
                parse_stream(table, &[("a.csv", file)])
            },
        ),
        target(
            "jsonl",
            || {
                let lines = b"{\"x\": [[1, 2.5e3], [-3, 4]], \"text\": \"\\u00e9 \", \"y\": 7}\n{\"y\": 0, \"x\": [[0, 1], [1, 0]], \"text\": \"abc\"}\n";
                vec![lines.to_vec(), gzip(lines)]
            },
            |file| {
                let fields = "fields = { x = 'f32', text = 'text' }, label = 'y'";
                let table = format!("dataset = {{ kind = 'jsonl', files = 'a.jsonl', {fields} }}");
                parse_stream(&table, &[("a.jsonl", file)])
            },
        ),
        target(
            "tar-shards",
            || vec![tar_shards::shard(0, 3), gzip(tar_shards::shard(0, 3))],
            |file| {
                let table = "dataset = { kind = 'tar-shards', shards = 'a.tar', color = 'gray' }";
                parse_stream(table, &[("a.tar", file)])
            },
        ),
        target(
            "npy",
            || vec![npy::x(), npy::y()],
            |file| parse_stream("dataset = { kind = 'npy', input = 'x.npy' }", &[("x.npy", file)]),
        ),
        target(
            "npz",
            || {
                [CompressionMethod::Stored, CompressionMethod::Deflated]
                    .map(|method| npy::npz(method, &[("x.npy", &npy::x())]))
                    .into()
            },
            |file| parse_stream("dataset = { kind = 'npz', file = 'x.npz' }", &[("x.npz", file)]),
        ),
        #[cfg(feature = "parquet")]
        target(
            "parquet",
            || vec![parquet::of_images(&[0, 1, 2])],
            |file| parse_stream("dataset = { kind = 'parquet', files = 'a.parquet' }", &[("a.parquet", file)]),
        ),
    ]
}

/// The image files of one format that other tests have, good and hostile; not the one that takes long to unpack.
fn images(format: Format) -> Vec<Vec<u8>> {
    let good = decode_hostile::files().into_iter().map(|(_, file)| file);
    let giants = decode_hostile::giants().into_iter().map(|(_, file)| file);
    let bombs = decode_hostile::bombs().into_iter().map(|(_, file, _)| file).filter(|file| file.len() < 1 << 16);
    good.chain(giants).chain(bombs).filter(|file| Format::of(file).is_ok_and(|found| found == format)).collect()
}

/// Decodes to all colours, which must be the same picture.
fn parse_image(file: &[u8]) -> Result<(), String> {
    let pixels = dimensions(file).map_or(0, |found| found.height * found.width);
    if (PIXELS_FUZZED..=PIXELS_MAX).contains(&pixels) {
        return Err("left out".to_owned());
    }
    let decode = |color| {
        decode(file, DecodeOptions { color, exif_orientation: true, draft: None }).map_err(|error| report(&error))
    };
    let (rgb, rgba, gray) = (decode(ColorMode::Rgb), decode(ColorMode::Rgba), decode(ColorMode::Gray));
    let without_alpha: Result<Vec<_>, _> =
        rgba.map(|image| image.pixels().chunks(4).flat_map(|pixel| &pixel[..3]).copied().collect());
    let rgb = rgb.map(|image| image.into_pixels());
    assert!(rgb == without_alpha, "RGB and RGBA are not the same picture");
    assert_eq!(gray.as_ref().map(|_| ()), rgb.as_ref().map(|_| ()), "gray is another matter than RGB");
    rgb.map(drop)
}

fn masks() -> Vec<Vec<u8>> {
    let header = PngHeader { width: 3, height: 2, depth: 2, color: 3, is_interlaced: false };
    let palette = png_file(header, &[(b"PLTE", &[7; 12])], &[&[0b0001_1000], &[0b1100_0100]]);
    let interlaced = PngHeader { width: 4, height: 4, depth: 4, color: 0, is_interlaced: true };
    let passes: [&[u8]; 7] = [&[0x00], &[0x20], &[0x8a], &[0x13], &[0x9b], &[0x45, 0x67], &[0xcd, 0xef]];
    vec![palette, png_file(interlaced, &[], &passes), png(3, 3)]
}

/// Opens a stream over these files and makes its first and its last batch.
fn parse_stream(table: &str, files: &[(&str, &[u8])]) -> Result<(), String> {
    let folder = files.iter().fold(Folder::new(), |folder, (name, bytes)| folder.with(name, bytes));
    let pipeline = folder.open(&format!("{table}\nbatch_size = 4")).map_err(|error| report(&error))?;
    let fields = survey(&pipeline).map_err(|error| report(&error))?;
    for step in [0, pipeline.extent().steps() - 1] {
        Batch::fill(&pipeline, &fields, Position { epoch: 0, step }).map_err(|error| report(&error))?;
    }
    Ok(())
}

#[test]
fn whatever_a_file_holds_no_parser_panics_or_takes_much_memory() {
    let number = |key| env::var(key).ok().map(|value| value.parse::<u64>().unwrap());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (seed, seconds) = (number(SEED).unwrap_or_else(now), number(SECONDS));
    let folder = env::temp_dir().join(format!("batchmill-fuzz-{}", process::id()));
    let note = env::var_os(NOTE).map_or(folder, Into::into);
    let environment = [(SEED, seed.to_string()), (NOTE, note.display().to_string())];
    let Some(output) = again::with_memory(TEST, MEMORY_MIB, &environment) else {
        return run(seed, seconds, &File::create(note).unwrap());
    };
    println!("seed {seed}\n{}", String::from_utf8_lossy(&output.stdout));
    if !output.status.success() {
        let at = fs::read_to_string(&note).unwrap_or_default();
        let Some((name, case)) = at.trim().split_once(' ') else { panic!("no case ran: {}", again::said(&output)) };
        let target = targets().into_iter().find(|target| target.name == name).unwrap();
        fs::write(&note, make(&(target.seeds)(), seed, name, case.parse().unwrap())).unwrap();
        let (status, file, said) = (output.status, note.display(), again::said(&output));
        panic!("{name}, case {case} of seed {seed}: {status}; the file is now {file}\n{said}");
    }
    fs::remove_file(note).unwrap();
}

/// Runs the cases of all parsers, in turns until the time is over.
fn run(seed: u64, seconds: Option<u64>, note: &File) {
    let start = Instant::now();
    let only = env::var(TARGET).ok();
    let targets = targets().into_iter().filter(|target| only.as_ref().is_none_or(|only| only == target.name));
    let mut tallies: Vec<_> = targets.map(Tally::new).collect();
    loop {
        for tally in &mut tallies {
            tally.run(seed, note);
        }
        if seconds.is_none_or(|seconds| start.elapsed() >= Duration::from_secs(seconds)) {
            break;
        }
    }
    for tally in tallies {
        println!("{tally}");
    }
}

/// What became of a parser's cases.
struct Tally {
    target: Target,
    seeds: Vec<Vec<u8>>,
    cases: u64,
    accepted: u64,
    /// The longest that a case took, and which.
    slowest: (Duration, u64),
    /// Cases in which a library panicked and our code made an error of it, and one of them.
    contained: u64,
    example: String,
}

impl Tally {
    fn new(target: Target) -> Self {
        let seeds = (target.seeds)();
        Self {
            target,
            seeds,
            cases: 0,
            accepted: 0,
            slowest: (Duration::ZERO, 0),
            contained: 0,
            example: String::new(),
        }
    }

    /// Runs the seeds the first time, and always some cases more.
    fn run(&mut self, seed: u64, note: &File) {
        let end = self.cases.max(self.seeds.len() as u64) + CASES;
        for case in self.cases..end {
            let file = make(&self.seeds, seed, self.target.name, case);
            // As long for every case, so that none leaves a rest of another.
            let at = format!("{:<64}", format!("{} {case}", self.target.name));
            note.write_all_at(at.as_bytes(), 0).unwrap();
            let start = Instant::now();
            match (self.target.parse)(&file) {
                Ok(()) => self.accepted += 1,
                Err(error) if error.contains("panicked") => {
                    self.contained += 1;
                    self.example = format!("case {case}: {error}");
                }
                Err(_) => {}
            }
            self.slowest = self.slowest.max((start.elapsed(), case));
            // Otherwise the cases would all end at the same mistake of ours.
            let good = case + 1 < self.seeds.len() as u64 || self.accepted > 0;
            assert!(good, "none of the files of {} is a good one", self.target.name);
        }
        self.cases = end;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (duration, case) = self.slowest;
        let Self { target, cases, accepted, contained, example, .. } = self;
        write!(f, "{}: {cases} cases, {accepted} accepted, slowest {duration:.1?} (case {case})", target.name)?;
        if *contained > 0 {
            write!(f, ", {contained} panics contained, such as {example}")?;
        }
        Ok(())
    }
}

/// The file of a case: first the seeds as they are, then out of one or two of them what chance makes.
fn make(seeds: &[Vec<u8>], seed: u64, name: &str, case: u64) -> Vec<u8> {
    if let Some(file) = usize::try_from(case).ok().and_then(|case| seeds.get(case)) {
        return file.clone();
    }
    let name = name.bytes().fold(0, |key: u64, byte| key << 5 ^ u64::from(byte));
    let mut rng = Rng::new(seed, name, case, 0, 0);
    let mut file = pick(&mut rng, seeds).clone();
    for _ in 0..=rng.below(3) {
        mutate(&mut rng, &mut file, seeds);
    }
    file
}

/// Numbers at the edges of what a field can hold.
const EDGES: [u64; 14] =
    [0, 1, 2, 3, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX >> 1, u64::MAX];

fn mutate(rng: &mut Rng, file: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let place = place(rng, file.len());
    let rest = file.len() - place;
    match rng.below(12) {
        0 if rest > 0 => file[place] ^= 1 << rng.below(8),
        1 if rest > 0 => file[place] = rng.next_u64().to_le_bytes()[0],
        2 if rest > 0 => file[place] = pick(rng, &EDGES).to_le_bytes()[0],
        3 => file.truncate(place),
        4 => {
            let bytes = rng.next_u64().to_le_bytes();
            file.splice(place..place, bytes);
        }
        5 => {
            let len = below(rng, rest.min(64) + 1);
            file.drain(place..place + len);
        }
        6 => {
            let len = below(rng, rest.min(64) + 1);
            file.extend_from_within(place..place + len);
        }
        7 => {
            let other = pick(rng, seeds);
            let from = below(rng, other.len() + 1);
            file.truncate(place);
            file.extend(&other[from..]);
        }
        // A piece of its own, which in a text stays a text.
        8 => {
            let from = below(rng, file.len() + 1);
            let len = below(rng, rest.min(file.len() - from).min(16) + 1);
            file.copy_within(from..from + len, place);
        }
        // A length, or whatever a field of 2, 4 or 8 bytes holds.
        _ => {
            let number = *pick(rng, &EDGES);
            let width = *pick(rng, &[2, 4, 8]);
            let bytes =
                if rng.below(2) == 0 { number.to_le_bytes() } else { number.rotate_right(8 * width).to_be_bytes() };
            let width = usize::try_from(width).unwrap().min(rest);
            file[place..place + width].copy_from_slice(&bytes[..width]);
        }
    }
}

/// A place in a file, every other time in its first 64 bytes, where headers are.
fn place(rng: &mut Rng, len: usize) -> usize {
    let reach = if rng.below(2) == 0 { len.min(64) } else { len };
    below(rng, reach + 1)
}

fn pick<'a, T>(rng: &mut Rng, choices: &'a [T]) -> &'a T {
    &choices[below(rng, choices.len())]
}

fn below(rng: &mut Rng, bound: usize) -> usize {
    usize::try_from(rng.below(bound as u64)).unwrap()
}
