//! The limit that a loader of images is measured against: reads, decodes, resizes and crops, and does nothing else.
//!
//! One thread, one process, buffers used again, no batches, no order, no checks; start it twice for two cores:
//!
//! ```sh
//! cargo run --release -p batchmill-datasets --example bare-loop -- cut my/photos my/photos/labels.csv --rounds 3
//! ```
//! | mode | what is done to every file |
//! |---|---|
//! | `whole` | decode, scale the shorter side to 256, cut 224 out of the middle |
//! | `cut` | the same, where only what ends up in the middle is decoded and scaled |
//! | `random` | decode a random piece, scale it to 224, flip every other |
//! | `small` | decode |
//! | `fill-whole`, `fill-random`, `fill-small` | the same by this crate's own pipeline, into the room of a batch |
//!
//! It prints samples/s and microseconds of CPU for each file, or with `--json` a line of them, for every round.

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{env, fs};

use batchmill_datasets::decode::jpeg::{self, Decompressor, Pixels};
use batchmill_datasets::pipeline::{Pipeline, RowLabel, RowSink};
use batchmill_datasets::random::Rng;
use batchmill_datasets::spec::StreamSpec;
use batchmill_datasets::view::Part;
use batchmill_protocol::position::{Position, Rows};
use batchmill_protocol::tensor::FieldSpec;
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

const USAGE: &str =
    "usage: bare-loop whole|cut|random|small|fill-whole|fill-random|fill-small FOLDER CSV [--rounds N] [--json]";
const SHORTER_SIDE: usize = 256;
const CROP: usize = 224;

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    let mut rounds = 3;
    if let Some(place) = arguments.iter().position(|argument| argument == "--rounds") {
        rounds = arguments.get(place + 1).ok_or(USAGE)?.parse()?;
        arguments.drain(place..place + 2);
    }
    let is_json =
        arguments.iter().position(|argument| argument == "--json").map(|place| arguments.remove(place)).is_some();
    let [mode, folder, csv] = &arguments[..] else { return Err(USAGE.into()) };
    let files: Vec<PathBuf> = csv::Reader::from_path(csv)?
        .records()
        .map(|row| Ok(PathBuf::from(folder).join(&row?[0])))
        .collect::<Result<_, csv::Error>>()?;
    let mut work: Box<dyn FnMut(u64) -> Result<u64, Failure>> = match mode.strip_prefix("fill-") {
        Some(work) => {
            let mut filler = Filler::open(work, folder, csv)?;
            Box::new(move |epoch| filler.epoch(epoch))
        }
        None => {
            let mut bare = Bare::new(mode)?;
            Box::new(move |epoch| {
                files.iter().zip(0..).try_fold(0, |sum, (file, index)| Ok(sum + bare.make(file, epoch, index)?))
            })
        }
    };
    for round in 0..rounds {
        let (start, cpu) = (Instant::now(), cpu_time()?);
        let sum = work(round)?;
        let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu_time()?.saturating_sub(cpu));
        let samples = csv::Reader::from_path(csv)?.records().count();
        #[expect(clippy::cast_precision_loss, reason = "for a person")]
        let count = samples as f64;
        let (rate, cpu_us) = (count / seconds, cpu.as_secs_f64() * 1e6 / count);
        if is_json {
            println!(
                "{{\"mode\":\"{mode}\",\"round\":{round},\"samples\":{samples},\"samples_per_s\":{rate:.1},\
                 \"cpu_us_per_sample\":{cpu_us:.2}}}"
            );
        } else {
            println!("round {round}: {samples} samples, {rate:.0} samples/s, {cpu_us:.1} us CPU each (sum {sum})");
        }
    }
    Ok(())
}

/// What this process has used so far, in user and system mode.
fn cpu_time() -> Result<Duration, Failure> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Ok(Duration::new(time.tv_sec.try_into()?, time.tv_nsec.try_into()?))
}

/// The decoder, the resizer and their memory, used again for every file.
struct Bare {
    mode: Mode,
    decoder: Decompressor,
    resizer: Resizer,
    file: Vec<u8>,
    pixels: Vec<u8>,
    made: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Whole,
    Cut,
    Random,
    Small,
}

/// What becomes of an image: the part of it, in pixels and fractions, that is scaled to how many.
struct Plan {
    part: [f64; 4],
    height: usize,
    width: usize,
    is_flipped: bool,
}

impl Bare {
    fn new(mode: &str) -> Result<Self, Failure> {
        let mode = match mode {
            "whole" => Mode::Whole,
            "cut" => Mode::Cut,
            "random" => Mode::Random,
            "small" => Mode::Small,
            _ => return Err(USAGE.into()),
        };
        let (decoder, resizer) = (Decompressor::new()?, Resizer::new());
        Ok(Self { mode, decoder, resizer, file: Vec::new(), pixels: Vec::new(), made: Vec::new() })
    }

    /// Makes one image and returns a sum of a few of its bytes.
    fn make(&mut self, path: &PathBuf, epoch: u64, index: u64) -> Result<u64, Failure> {
        let mut file = File::open(path)?;
        self.file.resize(usize::try_from(file.metadata()?.len())?, 0);
        file.read_exact(&mut self.file)?;
        if self.mode == Mode::Small {
            let (height, width) = jpeg::size(&self.file).ok_or("no size in the header")?;
            self.made.resize(height * width * 3, 0);
            self.decoder.decode_all(&self.file, (height, width), Pixels::Rgb, &mut self.made)?;
            return Ok(self.sum());
        }
        let opened = self.decoder.open(&self.file)?;
        let header = opened.header();
        let plan = match self.mode {
            Mode::Random => random(header.height, header.width, &mut Rng::new(0, epoch, index, 0, 0)),
            _ => middle(header.height, header.width, self.mode == Mode::Whole),
        };
        let [top, left, height, width] = plan.part;
        let part = match self.mode {
            Mode::Whole => Part::whole(header.height, header.width),
            _ => header.around(outer(plan.part, 3.0, header.height, header.width), 1),
        };
        self.pixels.resize(part.height * part.width * 3, 0);
        opened.decode(part, 1, Pixels::Rgb, &mut self.pixels)?;
        self.made.resize(plan.height * plan.width * 3, 0);
        let image = ImageRef::new(int(part.width)?, int(part.height)?, &self.pixels, PixelType::U8x3)?;
        let mut made = Image::from_slice_u8(int(plan.width)?, int(plan.height)?, &mut self.made, PixelType::U8x3)?;
        #[expect(clippy::cast_precision_loss, reason = "sides of images")]
        let (top, left) = (top - part.top as f64, left - part.left as f64);
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        self.resizer.resize(&image, &mut made, &options.crop(left, top, width, height))?;
        if self.mode == Mode::Whole {
            // The middle of what was scaled, row by row to the front.
            let (top, left) = ((plan.height - CROP) / 2, (plan.width - CROP) / 2);
            for row in 0..CROP {
                let start = ((top + row) * plan.width + left) * 3;
                self.made.copy_within(start..start + CROP * 3, row * CROP * 3);
            }
            self.made.truncate(CROP * CROP * 3);
        }
        if plan.is_flipped {
            self.made.chunks_exact_mut(CROP * 3).for_each(|row| row.as_chunks_mut::<3>().0.reverse());
        }
        Ok(self.sum())
    }

    fn sum(&self) -> u64 {
        self.made.iter().step_by(1001).map(|byte| u64::from(*byte)).sum()
    }
}

/// The middle of the scaled image, or with `is_whole` all of it.
#[expect(clippy::cast_precision_loss, reason = "sides of images")]
fn middle(height: usize, width: usize, is_whole: bool) -> Plan {
    let scaled = |side: usize| side * SHORTER_SIDE / width.min(height);
    let (to_height, to_width) = (scaled(height), scaled(width));
    if is_whole {
        let part = [0.0, 0.0, height as f64, width as f64];
        return Plan { part, height: to_height, width: to_width, is_flipped: false };
    }
    let (down, across) = (height as f64 / to_height as f64, width as f64 / to_width as f64);
    let (top, left) = (((to_height - CROP) / 2) as f64 * down, ((to_width - CROP) / 2) as f64 * across);
    let part = [top, left, CROP as f64 * down, CROP as f64 * across];
    Plan { part, height: CROP, width: CROP, is_flipped: false }
}

/// A piece of 8 to 100 % of the area: torchvision's `RandomResizedCrop`.
#[expect(clippy::cast_precision_loss, reason = "sides of images")]
fn random(height: usize, width: usize, rng: &mut Rng) -> Plan {
    let (rows, columns) = (height as f64, width as f64);
    let plan = |part, is_flipped| Plan { part, height: CROP, width: CROP, is_flipped };
    for _ in 0..10 {
        let area = rows * columns * rng.uniform_in(0.08, 1.0);
        let ratio = rng.log_uniform_in(3.0 / 4.0, 4.0 / 3.0);
        let (across, down) = ((area * ratio).sqrt().round(), (area / ratio).sqrt().round());
        if across <= columns && down <= rows {
            let (top, left) = ((rng.uniform() * (rows - down)).floor(), (rng.uniform() * (columns - across)).floor());
            return plan([top, left, down, across], rng.chance(0.5));
        }
    }
    plan([0.0, 0.0, rows, columns], rng.chance(0.5))
}

/// The pixels that a part is scaled from: so many more at each side.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sides of images")]
fn outer([top, left, height, width]: [f64; 4], margin: f64, rows: usize, columns: usize) -> Part {
    let first = |from: f64| (from - margin).floor().max(0.0) as usize;
    let end = |end: f64, most: usize| ((end + margin).ceil() as usize).min(most);
    let (bottom, right) = (end(top + height, rows), end(left + width, columns));
    Part { top: first(top), left: first(left), height: bottom - first(top), width: right - first(left) }
}

fn int(extent: usize) -> Result<u32, Failure> {
    Ok(extent.try_into()?)
}

/// The pipeline of a stream, and room for one batch of it.
struct Filler {
    pipeline: Pipeline,
    fields: Vec<FieldSpec>,
    room: Vec<Vec<u8>>,
}

impl Filler {
    fn open(work: &str, folder: &str, csv: &str) -> Result<Self, Failure> {
        let transforms = match work {
            "whole" => "{ kind = 'resize', size = 256 }, { kind = 'center-crop', size = 224 }",
            "random" => "{ kind = 'random-resized-crop', size = 224 }, 'horizontal-flip'",
            "small" => "",
            _ => return Err(USAGE.into()),
        };
        let (folder, csv) = (fs::canonicalize(folder)?, fs::canonicalize(csv)?);
        let table = format!(
            "dataset = {{ kind = 'image-folder-csv', images = '{}', labels = '{}' }}\nsampler = 'shuffled'\n\
             batch_size = 64\ntail = 'short'\ntransforms = [{transforms}]",
            folder.display(),
            csv.display()
        );
        let spec = StreamSpec::from_table("bare-loop", table.parse()?, "/".as_ref())?;
        let pipeline = batchmill_datasets::builtin().pipeline(&spec)?;
        let fields = pipeline.survey(&mut |_, _| ())?;
        let room = fields.iter().map(|field| vec![0; field.row_bytes().unwrap_or(0)]).collect();
        Ok(Self { pipeline, fields, room })
    }

    fn epoch(&mut self, epoch: u64) -> Result<u64, Failure> {
        let extent = self.pipeline.extent();
        let mut sink = Sink { room: &mut self.room, sum: 0 };
        for step in 0..extent.steps() {
            let rows = Rows { lo: 0, hi: extent.rows(step) };
            self.pipeline.fill(&self.fields, Position { epoch, step }, rows, &mut sink)?;
        }
        Ok(sink.sum)
    }
}

/// One row's room, again and again.
struct Sink<'a> {
    room: &'a mut [Vec<u8>],
    sum: u64,
}

impl RowSink for Sink<'_> {
    fn attempt(&mut self, _: u64, _: &str) {}

    fn room(&mut self, _: u32, field: usize) -> &mut [u8] {
        &mut self.room[field]
    }

    fn finish(&mut self, _: u32, _: RowLabel) {
        self.sum += self.room[0].iter().step_by(1001).map(|byte| u64::from(*byte)).sum::<u64>();
    }
}
