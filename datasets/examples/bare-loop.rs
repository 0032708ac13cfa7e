//! The limit that a loader of photos is measured against: reads, decodes, resizes and crops, and does nothing else.
//!
//! One thread, one process, no batches, no order, no checks:
//!
//! ```sh
//! cargo run --release -p batchmill-datasets --example bare-loop -- my/photos my/photos/labels.csv 256 224 3
//! ```
//! prints samples/s for each of three rounds.

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;
use std::{env, fs};

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use turbojpeg::{Decompressor, PixelFormat};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [folder, csv, shorter_side, crop, rounds] = &arguments[..] else {
        return Err("usage: bare-loop FOLDER CSV SHORTER_SIDE CROP ROUNDS".into());
    };
    let (shorter_side, crop): (u32, u32) = (shorter_side.parse()?, crop.parse()?);
    let files: Vec<PathBuf> = csv::Reader::from_path(csv)?
        .records()
        .map(|row| Ok(PathBuf::from(folder).join(&row?[0])))
        .collect::<Result<_, csv::Error>>()?;
    for round in 0..rounds.parse()? {
        let start = Instant::now();
        let mut sum = 0;
        let mut decoder = Bare::new(shorter_side, crop)?;
        for file in &files {
            sum += decoder.make(&fs::read(file)?)?.iter().map(|byte| u64::from(*byte)).step_by(1001).sum::<u64>();
        }
        let seconds = start.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "for a person")]
        let rate = files.len() as f64 / seconds;
        println!("round {round}: {} samples, {seconds:.2} s, {rate:.0} samples/s (sum {sum})", files.len());
    }
    Ok(())
}

/// The decoder, the resizer and their memory, used again for every file.
struct Bare {
    decoder: Decompressor,
    resizer: Resizer,
    pixels: Vec<u8>,
    resized: Vec<u8>,
    cropped: Vec<u8>,
    shorter_side: u32,
    crop: u32,
}

impl Bare {
    fn new(shorter_side: u32, crop: u32) -> Result<Self, Box<dyn Error>> {
        let (pixels, resized, cropped) = (Vec::new(), Vec::new(), Vec::new());
        let (decoder, resizer) = (Decompressor::new()?, Resizer::new());
        Ok(Self { decoder, resizer, pixels, resized, cropped, shorter_side, crop })
    }

    fn make(&mut self, file: &[u8]) -> Result<&[u8], Box<dyn Error>> {
        let header = self.decoder.read_header(file)?;
        let (width, height) = (header.width, header.height);
        self.pixels.resize(width * height * 3, 0);
        let into = turbojpeg::Image {
            pixels: &mut self.pixels[..],
            width,
            pitch: width * 3,
            height,
            format: PixelFormat::RGB,
        };
        self.decoder.decompress(file, into)?;

        let (width, height) = (u32::try_from(width)?, u32::try_from(height)?);
        let scaled = |side: u32| side * self.shorter_side / width.min(height);
        let (to_width, to_height) = (scaled(width), scaled(height));
        let decoded = ImageRef::new(width, height, &self.pixels, PixelType::U8x3)?;
        self.resized.resize((to_width * to_height * 3) as usize, 0);
        let mut resized = Image::from_slice_u8(to_width, to_height, &mut self.resized, PixelType::U8x3)?;
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        self.resizer.resize(&decoded, &mut resized, &options)?;

        let (left, top) = ((to_width - self.crop) / 2, (to_height - self.crop) / 2);
        self.cropped.clear();
        for row in top..top + self.crop {
            let start = ((row * to_width + left) * 3) as usize;
            self.cropped.extend_from_slice(&self.resized[start..start + (self.crop * 3) as usize]);
        }
        Ok(&self.cropped)
    }
}
