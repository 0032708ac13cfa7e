//! What is loaded: the folders of the other loaders' benchmark, or some of our own making.

use std::fs;
use std::path::{Path, PathBuf};

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, Rgb, RgbImage};

use super::Failure;

/// Photos that are drawn, small images, and rows of pixels.
const PHOTOS: u32 = 300;
const SMALL: u32 = 20_000;
const ROWS: u32 = 60_000;

/// Rows of a batch that is only carried.
const CARRIED_ROWS: u32 = 64;

/// A folder with `imagenet1k/labels.csv`, `cifar10/train.csv` and `mnist-idx/`.
#[derive(Clone, Debug)]
pub struct Data {
    root: PathBuf,
}

impl Data {
    /// A folder that has all of it.
    ///
    /// # Errors
    /// When a part is missing.
    pub fn open(root: &Path) -> Result<Self, Failure> {
        let data = Self { root: fs::canonicalize(root).map_err(|error| format!("open {}: {error}", root.display()))? };
        for file in [data.photos().1, data.small().1, data.rows().0, data.rows().1] {
            if !file.is_file() {
                return Err(format!(
                    "{} is missing: name a folder that has it, or none to have one drawn",
                    file.display()
                )
                .into());
            }
        }
        Ok(data)
    }

    /// Draws all of it into a folder: the same in every run.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn draw(root: &Path) -> Result<Self, Failure> {
        let data = Self { root: root.to_owned() };
        draw_images(&data.photos(), PHOTOS, 500, 375, 90)?;
        draw_images(&data.small(), SMALL, 32, 32, 90)?;
        fs::create_dir_all(root.join("mnist-idx"))?;
        write_idx(&data.rows(), [ROWS, 28, 28])?;
        Data::open(root)
    }

    /// Writes rows of `extents` bytes that are only to be carried, and their labels, as IDX: a batch of them.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn carried(folder: &Path, name: &str, extents: [u32; 2]) -> Result<(PathBuf, PathBuf), Failure> {
        let files = (folder.join(format!("{name}-images")), folder.join(format!("{name}-labels")));
        write_idx(&files, [CARRIED_ROWS, extents[0], extents[1]])?;
        Ok(files)
    }

    /// The folder that the peers call `DATA`.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Photos of about 500 x 375 pixels: their folder and their list.
    #[must_use]
    pub fn photos(&self) -> (PathBuf, PathBuf) {
        (self.root.join("imagenet1k"), self.root.join("imagenet1k/labels.csv"))
    }

    /// JPEG files of 32 x 32 pixels.
    #[must_use]
    pub fn small(&self) -> (PathBuf, PathBuf) {
        (self.root.join("cifar10"), self.root.join("cifar10/train.csv"))
    }

    /// IDX files of images of 28 x 28 pixels, and of their labels.
    #[must_use]
    pub fn rows(&self) -> (PathBuf, PathBuf) {
        let folder = self.root.join("mnist-idx");
        (folder.join("train-images-idx3-ubyte"), folder.join("train-labels-idx1-ubyte"))
    }
}

/// Draws images with both edges and noise in them, so that a decoder has about as much to do as with a photo.
fn draw_images(
    (folder, list): &(PathBuf, PathBuf),
    count: u32,
    width: u32,
    height: u32,
    quality: u8,
) -> Result<(), Failure> {
    fs::create_dir_all(folder)?;
    let mut rows = String::from("filepath,label\n");
    for number in 0..count {
        let mut noise = Noise(number.into());
        let waves = [noise.byte(), noise.byte(), noise.byte()].map(|byte| 3 + u32::from(byte) % 29);
        let image = RgbImage::from_fn(width, height, |x, y| {
            let grain = noise.byte() & 31;
            Rgb(waves.map(|wave| u8::try_from((x * y / wave + x * wave) & 0xdf).unwrap_or(0).saturating_add(grain)))
        });
        let name = format!("{number:05}.jpg");
        let mut file = fs::File::create(folder.join(&name))?;
        JpegEncoder::new_with_quality(&mut file, quality).encode(&image, width, height, ExtendedColorType::Rgb8)?;
        rows.push_str(&format!("{name},{}\n", number % 10));
    }
    Ok(fs::write(list, rows)?)
}

/// Writes images of random bytes, and labels, as IDX files.
fn write_idx((images, labels): &(PathBuf, PathBuf), extents: [u32; 3]) -> Result<(), Failure> {
    let mut noise = Noise(1);
    let mut write = |path: &Path, extents: &[u32], kinds: u8| -> Result<(), Failure> {
        let mut bytes = vec![0, 0, 8, u8::try_from(extents.len())?];
        bytes.extend(extents.iter().flat_map(|extent| extent.to_be_bytes()));
        bytes.extend((0..extents.iter().product()).map(|_| noise.byte() % kinds));
        Ok(fs::write(path, bytes)?)
    };
    write(images, &extents, u8::MAX)?;
    write(labels, &extents[..1], 10)
}

/// Bytes without a pattern: xorshift64* (Marsaglia 2003, Vigna 2016).
struct Noise(u64);

impl Noise {
    fn byte(&mut self) -> u8 {
        let mut state = self.0 | 1 << 63;
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.0 = state;
        let [byte, ..] = state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes();
        byte
    }
}
