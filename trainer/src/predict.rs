//! `trainer predict`: what a trained model sees in an image.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use burn::tensor::activation::softmax;
use burn::tensor::{Device, TensorReadError};
use image::{DynamicImage, ImageError, ImageReader, imageops::FilterType};
use serde::Serialize;
use thiserror::Error;

use crate::checkpoint::{self, CheckpointError, Restored};
use crate::cli::PredictArgs;
use crate::device::DeviceError;
use crate::normalize::{NormalizeError, Normalizer, Pixels};
use crate::report::{json, say};
use crate::shape::ImageShape;

/// Why there is no prediction.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "most are the error of the room they name")]
pub enum PredictError {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("read the checkpoint's model file")]
    Normalize(#[from] NormalizeError),
    #[error("compute on {device}")]
    Compute { device: String, source: TensorReadError },
    /// It cannot be read.
    #[error("read the image {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// It is not an image.
    #[error("decode {}: is it a JPEG or PNG image?", path.display())]
    Decode { path: PathBuf, source: ImageError },
    /// The model was trained on something that is no image.
    #[error("the checkpoint's model takes images of {channels} channels, but an image file has 1 or 3")]
    Channels { channels: usize },
}

/// One class and how sure the model is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Guess {
    /// The class's number.
    pub label: usize,
    /// Its name, or its number again when the classes have no names.
    pub class: String,
    /// 0 to 1; over all classes they sum to 1.
    pub probability: f32,
}

/// The line of `--json` for one image.
#[derive(Serialize)]
struct Line<'a> {
    image: String,
    label: usize,
    class: &'a str,
    probability: f32,
    top: &'a [Guess],
}

/// Prints the most probable classes of every image.
///
/// # Errors
/// [`PredictError`], with the first image that cannot be used.
pub fn run(args: &PredictArgs) -> Result<(), PredictError> {
    let device = args.device.open()?;
    let restored = checkpoint::load(&args.checkpoint, &device)?;
    let normalizer = Normalizer::new(&restored.spec.normalize, restored.input, &device)?;
    for path in &args.images {
        let pixels = read_image(path, restored.input)?;
        let compute = |source| PredictError::Compute { device: args.device.to_string(), source };
        let guesses = predict(&restored, &normalizer, pixels, &device).map_err(compute)?;
        let top = &guesses[..args.top.min(guesses.len())];
        show(path, top, args.json);
    }
    Ok(())
}

fn show(path: &Path, top: &[Guess], as_json: bool) {
    let Some(best) = top.first() else { return };
    if as_json {
        let Guess { label, class, probability } = best;
        let (label, probability) = (*label, *probability);
        return json(&Line { image: path.display().to_string(), label, class, probability, top });
    }
    let percent = |guess: &Guess| format!("{} {:.1}%", guess.class, 100.0 * guess.probability);
    say(&format!("{}: {}", path.display(), top.iter().map(percent).collect::<Vec<_>>().join(", ")));
}

/// Every class, most probable first.
fn predict(
    restored: &Restored,
    normalizer: &Normalizer,
    pixels: Vec<u8>,
    device: &Device,
) -> Result<Vec<Guess>, TensorReadError> {
    let images = normalizer.apply(Pixels::new(pixels.into(), 1, restored.input, device));
    let probabilities = softmax(restored.model.logits(images), 1).try_into_data()?;
    let name = |label: usize| restored.about.classes.get(label).cloned().unwrap_or_else(|| label.to_string());
    let guess = |(label, probability)| Guess { label, class: name(label), probability };
    let mut guesses: Vec<Guess> = probabilities.iter::<f32>().enumerate().map(guess).collect();
    guesses.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    Ok(guesses)
}

/// Brings an image to `shape`: gray or colour, then the shorter side to size and the middle of the longer one. The
/// filter is bilinear over all pixels that shrink into one, as the loader's `resize`.
///
/// Gives bytes `[height, width, channels]`.
fn read_image(path: &Path, shape: ImageShape) -> Result<Vec<u8>, PredictError> {
    let read = |source| PredictError::Read { path: path.to_path_buf(), source };
    let bytes = fs::read(path).map_err(read)?;
    let image = ImageReader::new(io::Cursor::new(bytes))
        .with_guessed_format()
        .map_err(read)?
        .decode()
        .map_err(|source| PredictError::Decode { path: path.to_path_buf(), source })?;
    let image = match shape.channels {
        1 => DynamicImage::ImageLuma8(image.into_luma8()),
        3 => DynamicImage::ImageRgb8(image.into_rgb8()),
        channels => return Err(PredictError::Channels { channels }),
    };
    let side = |side: usize| u32::try_from(side).expect("an image's sides are at most 65536");
    let (width, height) = (side(shape.width), side(shape.height));
    let image = if (image.width(), image.height()) == (width, height) {
        image
    } else {
        image.resize_to_fill(width, height, FilterType::Triangle)
    };
    Ok(image.into_bytes())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn an_image_is_brought_to_the_models_colours_and_size() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("wide.png");
        // 12 by 4: black, white, black in three squares. The middle is white.
        let wide = image::RgbImage::from_fn(12, 4, |x, _| image::Rgb([if (4..8).contains(&x) { 255 } else { 0 }; 3]));
        wide.save(&path).expect("it can be written");
        let shape = |text: &str| text.parse::<ImageShape>().expect("a shape");
        assert_eq!(read_image(&path, shape("4x12x3")).expect("an image"), wide.into_raw());
        assert_eq!(read_image(&path, shape("4x4x1")).expect("an image"), vec![255; 16]);
        assert_eq!(read_image(&path, shape("2x2x3")).expect("an image").len(), 12);
        assert!(read_image(&path, shape("2x2x2")).is_err());
    }

    #[test]
    fn what_is_no_image_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("text.png");
        let message = || {
            let error = read_image(&path, ImageShape { height: 2, width: 2, channels: 1 }).expect_err("it is none");
            error.to_string().replace(&folder.path().display().to_string(), "DIR")
        };
        expect!["read the image DIR/text.png"].assert_eq(&message());
        fs::write(&path, "not an image").expect("it can be written");
        expect!["decode DIR/text.png: is it a JPEG or PNG image?"].assert_eq(&message());
    }
}
