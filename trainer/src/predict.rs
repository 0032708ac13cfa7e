//! `trainer predict`: what a trained model sees in an image.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use burn::tensor::activation::softmax;
use burn::tensor::{Device, TensorReadError};
use image::{ImageError, ImageReader};
use serde::Serialize;
use thiserror::Error;

use crate::checkpoint::{self, CheckpointError, Restored};
use crate::cli::PredictArgs;
use crate::config::ConfigError;
use crate::device::DeviceError;
use crate::fields::Input;
use crate::normalize::{Normalizer, Pixels, Raw};
use crate::prepare::{Preparation, PrepareError};
use crate::report::{json, say};

/// Why there is no prediction.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "most are the error of the room they name")]
pub enum PredictError {
    /// It was trained on something else.
    #[error("predict with {}: its samples are {input}, not images", checkpoint.display())]
    NoImages {
        /// Which.
        checkpoint: PathBuf,
        /// What it takes.
        input: String,
    },
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("compute on {device}")]
    Compute { device: String, source: TensorReadError },
    /// It cannot be read.
    #[error("read the image {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// It is not an image.
    #[error("decode {}: is it a JPEG or PNG image?", path.display())]
    Decode { path: PathBuf, source: ImageError },
    /// No image can be brought to what the model takes.
    #[error("predict with {}", checkpoint.display())]
    Unprepared { checkpoint: PathBuf, source: PrepareError },
    /// This image cannot be brought to what the model takes.
    #[error("prepare the image {}", path.display())]
    Prepare { path: PathBuf, source: PrepareError },
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
    let no_images =
        || PredictError::NoImages { checkpoint: args.checkpoint.clone(), input: restored.input.to_string() };
    let shape = restored.input.image().ok_or_else(no_images)?;
    let normalizer = Normalizer::new(&restored.spec.normalize, &restored.input, &device)
        .map_err(|mistake| ConfigError::Mistake { path: restored.model_file.clone(), mistake })?;
    let preparation = Preparation::new(&restored.about.transforms, shape)
        .map_err(|source| PredictError::Unprepared { checkpoint: args.checkpoint.clone(), source })?;
    for path in &args.images {
        let pixels = read_image(path, &preparation)?;
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
    let Input::Image(shape) = restored.input else { unreachable!("`run` refuses models of other samples") };
    let images = normalizer.apply(Raw::Pixels(Pixels::new(pixels.into(), 1, shape, device)));
    let probabilities = softmax(restored.model.logits(images), 1).try_into_data()?;
    let name = |label: usize| restored.about.classes.get(label).cloned().unwrap_or_else(|| label.to_string());
    let guess = |(label, probability)| Guess { label, class: name(label), probability };
    let mut guesses: Vec<Guess> = probabilities.iter::<f32>().enumerate().map(guess).collect();
    guesses.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    Ok(guesses)
}

/// Reads a file and prepares its image. Gives bytes `[height, width, channels]`.
fn read_image(path: &Path, preparation: &Preparation) -> Result<Vec<u8>, PredictError> {
    let read = |source| PredictError::Read { path: path.to_path_buf(), source };
    let bytes = fs::read(path).map_err(read)?;
    let image = ImageReader::new(io::Cursor::new(bytes))
        .with_guessed_format()
        .map_err(read)?
        .decode()
        .map_err(|source| PredictError::Decode { path: path.to_path_buf(), source })?;
    preparation.apply(image).map_err(|source| PredictError::Prepare { path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn what_is_no_image_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("text.png");
        let gray = Preparation::new(&[], "2x2x1".parse().expect("a shape")).expect("gray images are images");
        let message = || {
            let error = read_image(&path, &gray).expect_err("it is none");
            error.to_string().replace(&folder.path().display().to_string(), "DIR")
        };
        expect!["read the image DIR/text.png"].assert_eq(&message());
        fs::write(&path, "not an image").expect("it can be written");
        expect!["decode DIR/text.png: is it a JPEG or PNG image?"].assert_eq(&message());
    }
}
