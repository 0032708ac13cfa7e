//! Images out of files, prepared for a model as its stream prepared its own, by the very same code.

mod steady;

use std::path::Path;

use batchmill_datasets::decode::{COLOR_MODES, ColorMode, DecodeError, DecodeOptions, decode};
use batchmill_datasets::identity::decoder;
use batchmill_datasets::random::Rng;
use batchmill_datasets::registry::Registry;
use batchmill_datasets::sample::{Image, Sample, Value};
use batchmill_datasets::spec::{Component, SpecError};
use batchmill_datasets::transform::{Transform, TransformError};
use batchmill_protocol::message::StreamDescription;
use batchmill_protocol::tensor::FieldSpec;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use thiserror::Error;

use self::steady::{Steady, steady};

/// How a stream makes an image of a file, kept so that other files can go the same way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct View {
    /// The stream's name.
    pub stream: String,
    /// Kind and options of its dataset, which say what colours a file is decoded to.
    pub dataset: Json,
    /// What is done to each image, first to last.
    pub transforms: Vec<Json>,
    /// What decodes and transforms: [`decoder`] of its loader.
    pub decoder: String,
}

impl View {
    /// That of a stream.
    pub fn of(stream: &StreamDescription) -> Self {
        let decoder = stream.identity.0.iter().find(|part| part.name == "decoder");
        Self {
            stream: stream.name.clone(),
            dataset: stream.spec["dataset"].clone(),
            transforms: stream.transforms.clone(),
            decoder: decoder.map(|part| part.value.clone()).unwrap_or_default(),
        }
    }
}

/// Why an image cannot be prepared.
#[derive(Debug, Error)]
pub enum PrepareError {
    /// A transform of another loader, or one of somebody's own.
    #[error(
        "make the transform {transform} of stream `{stream}` (is it one of your own? Then build a trainer with it: \
         `batchmill_trainer::run`)"
    )]
    Transform {
        /// As JSON.
        transform: String,
        /// The stream.
        stream: String,
        /// What is not known about it.
        source: SpecError,
    },
    /// The file is no image, or a broken one.
    #[error("decode it")]
    Decode(#[from] DecodeError),
    /// A transform cannot take this image.
    #[error("apply `{kind}`")]
    Apply {
        /// The transform.
        kind: String,
        /// What it says.
        source: TransformError,
    },
    /// The stream's transforms leave the size to the file.
    #[error(
        "its {height}x{width} pixels (height x width) become {becomes} by the transforms of stream `{stream}`, but the \
         model takes {takes}: cut or scale the image to the proportions of those it was trained on"
    )]
    Shape {
        /// Rows of the file's image.
        height: usize,
        /// Columns of it.
        width: usize,
        /// What the transforms make of it.
        becomes: String,
        /// Whose transforms.
        stream: String,
        /// What the model was trained on.
        takes: String,
    },
}

/// A transform with the name of its kind, for errors.
#[derive(Debug)]
struct Step {
    kind: String,
    transform: Box<dyn Transform>,
}

/// What is done to an image before a model sees it.
///
/// What a stream does by chance is done here the same way to every image, or not at all: [`notes`](Self::notes) say how.
/// Where no transform of the stream changes sizes, its files had the model's size. An image of another one is first
/// scaled until it just covers that size, and the middle is cut out. Any other byte is what a loader delivers.
#[derive(Debug)]
pub struct Preparation {
    decoding: DecodeOptions,
    steps: Vec<Step>,
    stream: String,
    takes: FieldSpec,
    /// The size that every image must have before the first step, if it must.
    begins_as: Option<[usize; 2]>,
    notes: Vec<String>,
}

impl Preparation {
    /// Prepares what a stream did, for a model whose input is `takes`; `registry` knows the transforms.
    ///
    /// # Errors
    /// [`PrepareError::Transform`] with the first that cannot be done.
    pub fn new(view: &View, takes: &FieldSpec, registry: &Registry) -> Result<Self, PrepareError> {
        let (mut steps, mut notes, mut sizes) = (Vec::new(), Vec::new(), false);
        for (place, json) in view.transforms.iter().enumerate() {
            let unknown =
                |source| PrepareError::Transform { transform: json.to_string(), stream: view.stream.clone(), source };
            let component = component(json).map_err(unknown)?;
            if !steady::acts_on(&component, &takes.name) {
                continue;
            }
            sizes |= steady::changes_sizes(&component);
            let Steady { instead, note } = steady(component);
            notes.extend(note.map(|note| format!("stream `{}`: {note}", view.stream)));
            for component in instead {
                let transform = registry.make_transform(&component, place, Path::new("/")).map_err(unknown)?;
                steps.push(Step { kind: component.kind, transform });
            }
        }
        if !view.decoder.is_empty() && view.decoder != decoder() {
            let (there, here) = (&view.decoder, decoder());
            notes.push(format!(
                "stream `{}` was decoded by {there}, images here are by {here}: single bytes may differ",
                view.stream
            ));
        }
        let begins_as = if sizes { None } else { extents(takes).map(|[height, width, _]| [height, width]) };
        let decoding = decoding(view, takes);
        Ok(Self { decoding, steps, stream: view.stream.clone(), takes: takes.clone(), begins_as, notes })
    }

    /// What a person should know of the difference to the stream: a sentence for each transform that draws, and one where
    /// another program decoded.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Makes of the bytes of an image file those that a model takes.
    ///
    /// # Errors
    /// [`PrepareError`].
    pub fn apply(&self, file: &[u8]) -> Result<Vec<u8>, PrepareError> {
        let image = decode(file, self.decoding)?;
        let (height, width) = (image.height(), image.width());
        let mut sample = Sample::new().with(self.takes.name.clone(), image);
        if let Some(size) = self.begins_as.filter(|&size| size != [height, width]) {
            for step in self.cover([height, width], size)? {
                sample = step.apply(sample)?;
            }
        }
        for step in &self.steps {
            sample = step.apply(sample)?;
        }
        let value = sample.remove(&self.takes.name);
        match value {
            Some(value) if value.fits(&self.takes) => Ok(into_bytes(value)),
            value => {
                let becomes = value.map(|value| format!("{} {}", value.dtype(), value.shape()));
                let becomes = becomes.unwrap_or_else(|| "nothing".to_owned());
                let (stream, takes) = (self.stream.clone(), format!("{} {}", self.takes.dtype, self.takes.shape));
                Err(PrepareError::Shape { height, width, becomes, stream, takes })
            }
        }
    }

    /// Scales until the shorter side fits, then cuts out the middle.
    fn cover(&self, [height, width]: [usize; 2], [to_height, to_width]: [usize; 2]) -> Result<[Step; 2], PrepareError> {
        // In 128 bits, in which no product of the two overflows; as torchvision's `Resize`, the longer side is rounded
        // down.
        let scaled = |side: usize, to: usize, by: usize| {
            usize::try_from(side as u128 * to as u128 / (by as u128).max(1)).unwrap_or(usize::MAX)
        };
        let by_width = [scaled(height, to_width, width), to_width];
        let size = if by_width[0] >= to_height { by_width } else { [to_height, scaled(width, to_height, height)] };
        let step = |kind: &str, size: [usize; 2]| {
            let side = |side: usize| i64::try_from(side).unwrap_or(i64::MAX);
            let component = Component::new(kind).with("size", size.map(side).to_vec()).with("field", &*self.takes.name);
            let made = batchmill_datasets::builtin().make_transform(&component, 0, Path::new("/"));
            let thin = |error: SpecError| PrepareError::Apply {
                kind: kind.to_owned(),
                source: TransformError::caused_by("the image is too thin to be scaled to the model's size", error),
            };
            made.map(|transform| Step { kind: kind.to_owned(), transform }).map_err(thin)
        };
        Ok([step("resize", size)?, step("center-crop", [to_height, to_width])?])
    }
}

impl Step {
    fn apply(&self, sample: Sample) -> Result<Sample, PrepareError> {
        // Nothing that is known to draw is left; what somebody's own draws, it draws alike for every image.
        let mut rng = Rng::new(0, 0, 0, 0, 0);
        let applied = self.transform.apply(sample, &mut rng);
        applied.map_err(|source| PrepareError::Apply { kind: self.kind.clone(), source })
    }
}

/// A transform as a loader describes it: an object with its `kind` and its options.
fn component(json: &Json) -> Result<Component, SpecError> {
    let refuse = |what: &str| SpecError::new(vec!["transforms".to_owned()], what);
    let mut options: toml::Table =
        serde_json::from_value(json.clone()).map_err(|_| refuse("it is no table of options"))?;
    match options.remove("kind") {
        Some(toml::Value::String(kind)) => Ok(Component { kind, options }),
        _ => Err(refuse("it has no `kind`")),
    }
}

/// What a stream decodes a file to.
fn decoding(view: &View, takes: &FieldSpec) -> DecodeOptions {
    let color = option(&view.dataset, "color").and_then(Json::as_str);
    let color = color.and_then(|name| COLOR_MODES.into_iter().find(|(known, _)| *known == name));
    let exif_orientation = option(&view.dataset, "exif_orientation").and_then(Json::as_bool).unwrap_or_default();
    let draft = option(&view.dataset, "draft").and_then(Json::as_u64).and_then(|side| usize::try_from(side).ok());
    let recolors = |json: &Json| matches!(json["kind"].as_str(), Some("color" | "grayscale"));
    // Where the dataset has no such option, its samples have the channels of the model, or are all colours that a
    // transform then makes those of.
    let guessed = match extents(takes) {
        _ if view.transforms.iter().any(recolors) => ColorMode::Rgb,
        Some([_, _, 1]) => ColorMode::Gray,
        Some([_, _, 4]) => ColorMode::Rgba,
        _ => ColorMode::Rgb,
    };
    DecodeOptions { color: color.map_or(guessed, |(_, mode)| mode), exif_orientation, draft }
}

/// An option of a dataset, or of the first within it that has it.
fn option<'a>(dataset: &'a Json, key: &str) -> Option<&'a Json> {
    match dataset {
        Json::Object(table) => table.get(key).or_else(|| table.values().find_map(|value| option(value, key))),
        Json::Array(items) => items.iter().find_map(|item| option(item, key)),
        _ => None,
    }
}

/// Height, width and channels of an image, whichever way its channels lie.
fn extents(field: &FieldSpec) -> Option<[usize; 3]> {
    match field.shape.0[..] {
        [height, width, channels @ (1 | 3 | 4)] | [channels @ (1 | 3 | 4), height, width] => {
            Some([height, width, channels])
        }
        _ => None,
    }
}

fn into_bytes(value: Value) -> Vec<u8> {
    match value {
        Value::Image(image) | Value::Mask(image) => Image::into_pixels(image),
        Value::Array(array) => array.into_bytes(),
    }
}

#[cfg(test)]
mod tests;
