//! How long the pieces of a sample take, each by itself.
//!
//! ```sh
//! cargo bench -p batchmill-datasets
//! ```

use std::fs;
use std::hint::black_box;

use batchmill_datasets::builtin;
use batchmill_datasets::decode::jpeg::{Decompressor, Pixels};
use batchmill_datasets::options::{Options, Role};
use batchmill_datasets::permutation::Permutation;
use batchmill_datasets::pipeline::{RowLabel, RowSink};
use batchmill_datasets::random::Rng;
use batchmill_datasets::sample::{Image as Photo, Sample};
use batchmill_datasets::spec::{Component, StreamSpec};
use batchmill_datasets::transform::Transform;
use batchmill_datasets::transforms::Resize;
use batchmill_datasets::view::Part;
use batchmill_protocol::position::{Position, Rows};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, Rgb, RgbImage};
use tempfile::TempDir;

/// A photo as there are many: height, width, what it is scaled to, what is cut out.
const HEIGHT: u32 = 375;
const WIDTH: u32 = 500;
const SCALED: [u32; 2] = [256, 341];
const CROP: usize = 224;

/// Rows of a batch.
const ROWS: u32 = 64;

fn permutation(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("permutation");
    for len in [60_000, 1_281_167, 1_000_000_000] {
        let permutation = Permutation::new(len, 7, 3);
        let mut places = (0..len).cycle();
        group.bench_function(len.to_string(), |bencher| {
            bencher.iter(|| permutation.index(places.next().unwrap_or(0)));
        });
    }
}

fn decode(criterion: &mut Criterion) {
    let file = jpeg(HEIGHT, WIDTH);
    let mut decoder = Decompressor::new().expect("a decoder");
    let mut pixels = vec![0; (HEIGHT * WIDTH * 3) as usize];
    let whole = Part::whole(HEIGHT as usize, WIDTH as usize);
    let side = CROP * HEIGHT as usize / SCALED[0] as usize;
    let middle = Part { top: 23, left: 86, height: side, width: side };
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Bytes(file.len() as u64));
    for (name, part) in [("whole", whole), ("cut to the crop", middle)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let opened = decoder.open(&file).expect("a JPEG");
                let part = opened.header().around(part, 1);
                opened.decode(part, 1, Pixels::Rgb, &mut pixels[..part.height * part.width * 3]).expect("a JPEG");
            });
        });
    }
}

/// All of a photo, and the same by `fast_image_resize`, which goes down before it goes across: one byte or another differs.
fn resize(criterion: &mut Criterion) {
    let pixels = image(HEIGHT, WIDTH).into_raw();
    let mut group = criterion.benchmark_group("resize");
    let size = Component::new("resize").with("size", i64::from(SCALED[0]));
    let transform = Resize::from_options(&mut Options::new(Role::Transform(0), &size, "/".as_ref())).expect("a size");
    let photo = Photo::new(HEIGHT as usize, WIDTH as usize, 3, pixels.clone()).expect("as many bytes");
    let photo = Sample::new().with("image", photo);
    let mut rng = Rng::new(0, 0, 0, 0, 0);
    group.bench_function("transform", |bencher| {
        let resize = |photo| transform.apply(photo, &mut rng).expect("3 channels");
        bencher.iter_batched(|| photo.clone(), resize, BatchSize::LargeInput);
    });
    let from = ImageRef::new(WIDTH, HEIGHT, &pixels, PixelType::U8x3).expect("as many bytes");
    let [height, width] = SCALED;
    let mut to = Image::new(width, height, PixelType::U8x3);
    let mut resizer = Resizer::new();
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    group.bench_function("fast_image_resize", |bencher| {
        bencher.iter(|| resizer.resize(&from, &mut to, &options).expect("3 channels"));
    });
}

/// Batches by the pipeline as a worker has it, into memory of its own.
fn fill(criterion: &mut Criterion) {
    let photos = Folder::of_images(ROWS, HEIGHT, WIDTH);
    let small = Folder::of_images(ROWS, 32, 32);
    let idx = Folder::of_rows(60_000);
    let middle = "transforms = [{ kind = 'resize', size = 256 }, { kind = 'center-crop', size = 224 }]";
    let random = "transforms = [{ kind = 'random-resized-crop', size = 224 }, 'horizontal-flip']";
    let files = "dataset = { kind = 'image-folder-csv', images = '.', labels = 'labels.csv' }";
    let rows = "dataset = { kind = 'idx', images = 'images', labels = 'labels' }";
    let mut group = criterion.benchmark_group("fill");
    group.throughput(Throughput::Elements(ROWS.into())).sample_size(20);
    let works = [
        ("photos, 256 / 224", &photos, files, middle),
        ("photos, random crop", &photos, files, random),
        ("JPEG of 32 x 32", &small, files, ""),
        ("IDX of 28 x 28", &idx, rows, ""),
        ("IDX of 28 x 28, f32", &idx, rows, "transforms = ['to-f32']"),
    ];
    for (name, folder, dataset, transforms) in works {
        let table = format!("{dataset}\n{transforms}\nsampler = 'shuffled'\nbatch_size = {ROWS}\n");
        let table = table.parse().expect("TOML");
        let spec = StreamSpec::from_table(name, table, folder.0.path()).expect("a spec");
        let pipeline = builtin().pipeline(&spec).expect("it opens");
        let fields = pipeline.survey(&mut |_, _| ()).expect("a sample");
        let row_bytes = fields.iter().map(|field| field.row_bytes().expect("small"));
        let mut slot = Slot(row_bytes.map(|bytes| (bytes, vec![0; bytes * ROWS as usize])).collect());
        let mut steps = (0..pipeline.extent().samples / u64::from(ROWS)).cycle();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let position = Position { epoch: 0, step: steps.next().unwrap_or(0) };
                pipeline.fill(&fields, position, Rows { lo: 0, hi: ROWS }, &mut slot).expect("they can be read")
            });
        });
        black_box(&slot.0);
    }
}

/// Room for a batch: of each field the bytes of a row, and all rows.
struct Slot(Vec<(usize, Vec<u8>)>);

impl RowSink for Slot {
    fn attempt(&mut self, _: u64, _: &str) {}

    fn room(&mut self, row: u32, field: usize) -> &mut [u8] {
        let (row_bytes, bytes) = &mut self.0[field];
        &mut bytes[row as usize * *row_bytes..][..*row_bytes]
    }

    fn finish(&mut self, _: u32, _: RowLabel) {}
}

/// Samples that are gone at the end.
struct Folder(TempDir);

impl Folder {
    fn of_images(count: u32, height: u32, width: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut list = String::from("filepath,label\n");
        let file = jpeg(height, width);
        for number in 0..count {
            fs::write(folder.path().join(format!("{number}.jpg")), &file).expect("written");
            list.push_str(&format!("{number}.jpg,0\n"));
        }
        fs::write(folder.path().join("labels.csv"), list).expect("written");
        Self(folder)
    }

    fn of_rows(count: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let extents = |extents: &[u32]| extents.iter().flat_map(|extent| extent.to_be_bytes()).collect::<Vec<_>>();
        let pixels = (0..count * 28 * 28).map(|place| place.to_le_bytes()[1]).collect();
        let images = [vec![0, 0, 8, 3], extents(&[count, 28, 28]), pixels].concat();
        let labels = [vec![0, 0, 8, 1], extents(&[count]), vec![0; count as usize]].concat();
        fs::write(folder.path().join("images"), images).expect("written");
        fs::write(folder.path().join("labels"), labels).expect("written");
        Self(folder)
    }
}

/// Edges and grain, so that there is about as much to decode as in a photo.
fn image(height: u32, width: u32) -> RgbImage {
    let mut state = 1_u32;
    RgbImage::from_fn(width, height, |x, y| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [.., grain] = state.to_le_bytes();
        let [edge, ..] = ((x * y / 11 + x * 3) & 0xdf).to_le_bytes();
        Rgb([edge, edge / 2, 255 - edge].map(|light| light.saturating_add(grain & 31)))
    })
}

fn jpeg(height: u32, width: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut file, 90);
    encoder.encode(&image(height, width), width, height, ExtendedColorType::Rgb8).expect("it fits");
    file
}

criterion_group!(pieces, permutation, decode, resize, fill);
criterion_main!(pieces);
