//! The photos that are read under torture, and the stream that is made of them.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::Path;

use batchmill_datasets::random::Rng;
use image::codecs::jpeg::JpegEncoder;
use image::{ImageError, Rgb, RgbImage};

/// Rows of a batch.
const BATCH_SIZE: u32 = 16;

/// The photos and what is made of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Photos {
    /// How many there are.
    pub(super) count: u64,
    /// The longest side in pixels; the shortest is a sixth of it.
    pub(super) side_max: u64,
    /// Pixels on each side of what is delivered.
    pub(super) crop: u32,
    /// What becomes of the last batch of an epoch.
    pub(super) tail: &'static str,
}

impl Photos {
    /// So many photos of up to so many pixels a side.
    pub(super) fn new(count: u64, side_max: u32, tail: &'static str) -> Self {
        Self { count, side_max: side_max.into(), crop: (side_max / 4).clamp(8, 64), tail }
    }

    /// Writes them as JPEGs of many sizes, with the CSV that names them, into `folder`.
    pub(super) fn write(self, folder: &Path, seed: u64) -> Result<(), ImageError> {
        let photos = folder.join("photos");
        fs::create_dir(&photos)?;
        let mut csv = String::from("filepath,label\n");
        for number in 0..self.count {
            let mut rng = Rng::new(seed, number, 0, 0, 0);
            let name = format!("{number:04}.jpg");
            let file = BufWriter::new(File::create(photos.join(&name))?);
            JpegEncoder::new_with_quality(file, 85).encode_image(&self.draw(&mut rng))?;
            csv.push_str(&format!("{name},{}\n", rng.below(10)));
        }
        Ok(fs::write(folder.join("labels.csv"), csv)?)
    }

    /// Bands of colour that are in no two photos alike.
    fn draw(self, rng: &mut Rng) -> RgbImage {
        let [shift, across, down, blue, ..] = rng.next_u64().to_le_bytes();
        let mut side = || u32::try_from(self.side_max / 6 + rng.below(self.side_max * 5 / 6)).unwrap_or(self.crop);
        let (width, height) = (side(), side());
        RgbImage::from_fn(width, height, |column, row| {
            let [x, ..] = (column * (1 + u32::from(across % 5))).to_le_bytes();
            let [y, ..] = (row * (1 + u32::from(down % 5))).to_le_bytes();
            Rgb([x.wrapping_add(shift), y ^ shift, x.wrapping_mul(blue).wrapping_add(y)])
        })
    }

    /// The `[stream.NAME]` table of them.
    pub(super) fn table(self) -> String {
        format!(
            "dataset = {{ kind = 'image-folder-csv', images = 'photos', labels = 'labels.csv', color = 'rgb' }}\n\
             sampler = 'shuffled'\n\
             transforms = [{{ kind = 'resize', size = {} }}, {{ kind = 'center-crop', size = {} }}]\n\
             batch_size = {BATCH_SIZE}\ntail = '{}'\n",
            self.crop + 8,
            self.crop,
            self.tail
        )
    }

    /// Writes the loader's configuration.
    pub(super) fn configure(self, config: &Path, stream: &str, memory_bytes: usize) -> io::Result<()> {
        fs::write(config, format!("workers = 3\nmemory = '{memory_bytes}'\n[stream.{stream}]\n{}", self.table()))
    }
}
