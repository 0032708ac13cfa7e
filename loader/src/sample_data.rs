//! `loader sample-data`: a small real data set of drawn shapes, to try everything with.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use batchmill_datasets::random::Rng;
use image::codecs::jpeg::JpegEncoder;
use image::{ImageError, Rgb, RgbImage};
use indicatif::ProgressBar;
use serde::Serialize;
use thiserror::Error;

use crate::cli::SampleData;
use crate::error::Failure;
use crate::output;
use shapes::{CLASSES, Shape};

mod shapes;

/// Pixels on each side of an image.
const SIDE: u32 = 28;

/// JPEG's quality, 1 to 100.
const QUALITY: u8 = 92;

/// Why the data set was not written.
#[derive(Debug, Error)]
enum WriteError {
    #[error("write sample data to {}: there are files already: name an empty or a new folder", .0.display())]
    NotEmpty(PathBuf),
    #[error("write {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("write {}", path.display())]
    Image { path: PathBuf, source: ImageError },
}

/// What was written, as printed.
#[derive(Serialize)]
struct Written {
    images: u32,
    test_images: u32,
    classes: usize,
    config: PathBuf,
}

impl std::fmt::Display for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { images, test_images, classes, config } = self;
        write!(f, "{images} images to train with and {test_images} to test with, in {classes} classes: ")?;
        write!(f, "loader serve --config {}", config.display())
    }
}

/// Draws the images and writes them with their CSV files and a configuration.
pub(crate) fn write(arguments: &SampleData) -> Result<(), Failure> {
    let folder = &arguments.folder;
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(WriteError::NotEmpty(folder.clone()).into());
    }
    let test = arguments.images / 4;
    let bar = ProgressBar::new(u64::from(arguments.images + test));
    bar.set_style(output::bar_style("drawing {bar:40} {pos}/{len} images"));
    write_split(folder, "train", arguments.seed, 0..arguments.images, &bar)?;
    write_split(folder, "test", arguments.seed, arguments.images..arguments.images + test, &bar)?;
    bar.finish_and_clear();
    let config = folder.join("loader.toml");
    fs::write(&config, configuration()).map_err(|source| WriteError::Io { path: config.clone(), source })?;
    let written = Written { images: arguments.images, test_images: test, classes: CLASSES.len(), config };
    Ok(output::result(arguments.json, &written, &written.to_string())?)
}

/// Writes the images of the given numbers into a folder, and the CSV that names them beside it.
fn write_split(
    folder: &Path,
    split: &str,
    seed: u64,
    numbers: std::ops::Range<u32>,
    bar: &ProgressBar,
) -> Result<(), WriteError> {
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |source| WriteError::Io { path, source }
    };
    let images = folder.join(split);
    fs::create_dir_all(&images).map_err(io(&images))?;
    let csv_path = folder.join(split).with_extension("csv");
    let mut csv = BufWriter::new(File::create(&csv_path).map_err(io(&csv_path))?);
    writeln!(csv, "filepath,label").map_err(io(&csv_path))?;
    for number in numbers {
        let shape = Shape::ALL[number as usize % CLASSES.len()];
        let (extension, jpeg) = if number / 10 % 2 == 0 { ("png", false) } else { ("jpg", true) };
        let name = format!("{split}/{number:06}.{extension}");
        let path = folder.join(&name);
        let image = draw(shape, &mut Rng::new(seed, 0, u64::from(number), 0, 0));
        let written = if jpeg {
            let file = BufWriter::new(File::create(&path).map_err(io(&path))?);
            JpegEncoder::new_with_quality(file, QUALITY).encode_image(&image)
        } else {
            image.save(&path)
        };
        written.map_err(|source| WriteError::Image { path: path.clone(), source })?;
        writeln!(csv, "{name},{}", shape.name()).map_err(io(&csv_path))?;
        bar.inc(1);
    }
    csv.flush().map_err(io(&csv_path))
}

/// Draws a shape: bright on dark, turned, moved and scaled a little, with noise.
fn draw(shape: Shape, rng: &mut Rng) -> RgbImage {
    let mut uniform = |low: f64, high: f64| low + (high - low) * rng.uniform();
    let angle = uniform(-20.0, 20.0).to_radians();
    let (sine, cosine) = angle.sin_cos();
    let scale = uniform(0.75, 1.0) * f64::from(SIDE) / 2.0 * 0.8;
    let centre = [uniform(-1.5, 1.5), uniform(-1.5, 1.5)].map(|shift| f64::from(SIDE) / 2.0 + shift);
    let ink: [f64; 3] = std::array::from_fn(|_| uniform(150.0, 255.0));
    let paper: [f64; 3] = std::array::from_fn(|_| uniform(0.0, 70.0));
    let noise = uniform(4.0, 16.0);
    RgbImage::from_fn(SIDE, SIDE, |column, row| {
        // A quarter pixel's steps make smooth edges.
        let steps = [0.125, 0.375, 0.625, 0.875_f64];
        let inside = |(across, down): (f64, f64)| {
            let (x, y) = (f64::from(column) + across - centre[0], f64::from(row) + down - centre[1]);
            shape.covers((cosine * x + sine * y) / scale, (cosine * y - sine * x) / scale)
        };
        let hits = steps.iter().flat_map(|down| steps.map(|across| (across, *down))).filter(|at| inside(*at)).count();
        let cover = hits as f64 / 16.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a byte")]
        Rgb(std::array::from_fn(|channel| {
            let clean = paper[channel] + cover * (ink[channel] - paper[channel]);
            // The sum of three is near enough to a bell.
            let grain = (0..3).map(|_| rng.uniform() - 0.5).sum::<f64>();
            (clean + noise * grain).clamp(0.0, 255.0) as u8
        }))
    })
}

fn configuration() -> String {
    let classes = CLASSES.map(|class| format!("\"{class}\"")).join(", ");
    let stream = |split: &str, sampler: &str| {
        format!(
            "[stream.{split}]\n\
             dataset = {{ kind = \"image-folder-csv\", images = \".\", labels = \"{split}.csv\", color = \"gray\", \
             classes = [{classes}] }}\n\
             sampler = \"{sampler}\"\n\
             batch_size = 64\n"
        )
    };
    let (train, test) = (stream("train", "shuffled"), stream("test", "sequential"));
    format!("# Drawn shapes, written by `loader sample-data`. Paths start at this file's folder.\n\n{train}\n{test}")
}
