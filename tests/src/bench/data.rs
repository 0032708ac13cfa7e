//! What is loaded: the folders of the other loaders' benchmark, or some of our own making.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, Rgb, RgbImage};

use super::Failure;

/// Photos that are drawn, small images, and rows of pixels.
const PHOTOS: u32 = 300;
const SMALL: u32 = 20_000;
const ROWS: u32 = 60_000;

/// Where a batch of random numbers is for those that are only carried.
const CARRIED_ROWS: usize = 64;

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
        let (images, labels) = data.rows();
        fs::create_dir_all(root.join("mnist-idx"))?;
        let mut noise = Noise(1);
        let mut file = fs::File::create(images)?;
        file.write_all(&[0, 0, 8, 3])?;
        [ROWS, 28, 28].into_iter().try_for_each(|extent| file.write_all(&extent.to_be_bytes()))?;
        file.write_all(&(0..ROWS * 28 * 28).map(|_| noise.byte()).collect::<Vec<_>>())?;
        let mut file = fs::File::create(labels)?;
        file.write_all(&[0, 0, 8, 1])?;
        file.write_all(&ROWS.to_be_bytes())?;
        file.write_all(&(0..ROWS).map(|_| noise.byte() % 10).collect::<Vec<_>>())?;
        Data::open(root)
    }

    /// Writes a batch that is only to be carried as `.npy`: rows of `shape`, of which each takes `row_bytes`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn carried(
        folder: &Path,
        name: &str,
        descr: &str,
        shape: &[usize],
        row_bytes: usize,
    ) -> Result<PathBuf, Failure> {
        let path = folder.join(format!("{name}.npy"));
        let extents: Vec<String> = [CARRIED_ROWS].iter().chain(shape).map(usize::to_string).collect();
        let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}", extents.join(", "));
        let padding = 63 - (10 + header.len()) % 64;
        header.push_str(&" ".repeat(padding));
        header.push('\n');
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend(u16::try_from(header.len())?.to_le_bytes());
        bytes.extend(header.into_bytes());
        let mut noise = Noise(2);
        // Small bytes only, so that four of them make a number that is one.
        bytes.extend((0..CARRIED_ROWS * row_bytes).map(|_| noise.byte() & 0x3f));
        fs::write(&path, bytes)?;
        Ok(path)
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
