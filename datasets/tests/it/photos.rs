//! Photos that are decoded only as far as the transforms want them: nobody can tell.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

#[cfg(feature = "turbojpeg")]
use batchmill_datasets::cache::Cache;
use batchmill_datasets::dataset::{MapDataset, SampleError};
use batchmill_datasets::decode::decode;
use batchmill_datasets::pipeline::{FillError, Pipeline, RowLabel, RowSink};
use batchmill_datasets::random::Rng;
use batchmill_datasets::registry::Registry;
use batchmill_datasets::sample::{Array, Sample};
use batchmill_datasets::spec::StreamSpec;
use batchmill_protocol::position::{Position, Rows};
use image::{DynamicImage, ImageFormat, Luma, Rgb};
use tempfile::TempDir;

use crate::support::{Batch, Folder, encode, report, survey};

/// The same files, decoded whole and handed over as pixels.
#[derive(Clone, Debug)]
struct Whole {
    files: Vec<PathBuf>,
}

impl MapDataset for Whole {
    fn len(&self) -> u64 {
        self.files.len() as u64
    }

    fn get(&self, index: u64) -> Result<Sample, SampleError> {
        let file = &self.files[usize::try_from(index).unwrap()];
        let image = decode(&fs::read(file).unwrap(), batchmill_datasets::decode::ColorMode::Rgb)
            .map_err(|source| SampleError::Decode { sample: self.name(index), source })?;
        Ok(Sample::new().with("image", image).with("label", Array::scalar_i64(index.try_into().unwrap())))
    }

    fn name(&self, index: u64) -> String {
        self.files[usize::try_from(index).unwrap()].display().to_string()
    }
}

/// Files of several kinds and sizes, and a registry that has them as `whole` as well.
struct Photos {
    folder: TempDir,
    registry: Registry,
}

impl Photos {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut rng = Rng::new(3, 0, 0, 0, 0);
        let mut files = Vec::new();
        let mut csv = String::new();
        for (place, (width, height)) in
            [(90, 67), (67, 90), (64, 64), (121, 80), (75, 200), (300, 71), (96, 64), (65, 99)].into_iter().enumerate()
        {
            let mut byte = || u8::try_from(rng.below(256)).unwrap();
            let colors: DynamicImage =
                image::RgbImage::from_fn(width, height, |_, _| Rgb([byte(), byte(), byte()])).into();
            let (name, bytes) = match place {
                2 => ("png", encode(colors, ImageFormat::Png)),
                5 => {
                    ("jpg", encode(image::GrayImage::from_fn(width, height, |_, _| Luma([byte()])), ImageFormat::Jpeg))
                }
                _ => ("jpg", encode(colors, ImageFormat::Jpeg)),
            };
            let path = folder.path().join(format!("{place}.{name}"));
            fs::write(&path, bytes).unwrap();
            csv += &format!("{place}.{name},{place}\n");
            files.push(path);
        }
        fs::write(folder.path().join("labels.csv"), csv).unwrap();
        let whole = Whole { files };
        Self { folder, registry: batchmill_datasets::builtin().dataset("whole", move |_| Ok(whole.clone())) }
    }

    fn open(&self, dataset: &str, transforms: &str) -> Pipeline {
        let table = format!(
            "dataset = {dataset}\nsampler = 'shuffled'\nbatch_size = 8\nseed = 5\ntail = 'pad'\ntransforms = [{transforms}]"
        );
        let spec = StreamSpec::from_table("photos", table.parse().unwrap(), self.folder.path()).unwrap();
        self.registry.pipeline(&spec).unwrap()
    }

    fn both(&self, transforms: &str) -> [Pipeline; 2] {
        let files = "{ kind = 'image-folder-csv', images = '.', labels = 'labels.csv' }";
        [self.open(files, transforms), self.open("'whole'", transforms)]
    }
}

fn batches(pipeline: &Pipeline) -> Vec<Batch> {
    let fields = survey(pipeline).unwrap();
    (0..3).map(|epoch| Batch::fill(pipeline, &fields, Position { epoch, step: 0 }).unwrap()).collect()
}

#[test]
fn a_stream_is_to_the_byte_what_it_is_of_whole_images() {
    let photos = Photos::new();
    for transforms in [
        "{ kind = 'resize', size = 48 }, { kind = 'center-crop', size = 40 }",
        "{ kind = 'resize', size = 70, interpolation = 'bicubic' }, { kind = 'center-crop', size = [33, 64] }, 'vertical-flip'",
        "{ kind = 'random-resized-crop', size = 32 }, 'horizontal-flip'",
        "{ kind = 'random-resized-crop', size = 32, interpolation = 'nearest' }",
        "{ kind = 'random-crop', size = 50 }, 'horizontal-flip', 'vertical-flip', { kind = 'center-crop', size = 31 }",
        "{ kind = 'center-crop', size = 60 }, { kind = 'resize', size = [20, 90] }, { kind = 'random-crop', size = 17 }",
        // Here the view ends: at a second scaling, a flip before one, and what looks at pixels.
        "{ kind = 'resize', size = 50 }, { kind = 'random-resized-crop', size = 32 }",
        "'horizontal-flip', { kind = 'resize', size = [24, 36] }",
        "{ kind = 'resize', size = [41, 43] }, { kind = 'normalize', mean = 0.5, std = 0.25 }, 'to-nchw'",
        "{ kind = 'resize', size = [41, 43] }, { kind = 'normalize', mean = [0.1, 0.5, 0.9], std = [0.2, 0.3, 0.4] }",
        "{ kind = 'random-resized-crop', size = 32 }, { kind = 'normalize', mean = [0.1, 0.5, 0.9], std = 0.5 }, 'to-nchw'",
        "{ kind = 'resize', size = [41, 43] }, 'to-f32'",
        "{ kind = 'resize', size = [41, 43] }, 'to-nchw'",
        "'grayscale', { kind = 'resize', size = [41, 43] }",
        "{ kind = 'resize', longest = 40, pad = true }",
        "{ kind = 'random-crop', size = 66, padding = 4 }",
    ] {
        let [files, whole] = photos.both(transforms);
        let [files, whole] = [&files, &whole].map(batches);
        for (files, whole) in files.iter().zip(&whole) {
            assert_eq!(files.labels, whole.labels, "{transforms}");
            assert!(files.rows == whole.rows, "{transforms}");
        }
    }
}

/// Without libjpeg-turbo an image is decoded as it is.
#[cfg(feature = "turbojpeg")]
#[test]
fn a_draft_is_a_smaller_image_to_every_transform() {
    let photos = Photos::new();
    let shapes = |draft: usize| {
        let files = format!("{{ kind = 'image-folder-csv', images = '.', labels = 'labels.csv', draft = {draft} }}");
        let fields = |transforms: &str| survey(&photos.open(&files, transforms)).unwrap();
        [fields(""), fields("{ kind = 'center-crop', size = 16 }")].map(|fields| fields[0].shape.0.clone())
    };
    // The first has 67 x 90 pixels (height x width).
    assert_eq!(shapes(68), [[67, 90, 3], [16, 16, 3]]);
    assert_eq!(shapes(34), [[34, 45, 3], [16, 16, 3]]);
    assert_eq!(shapes(17), [[17, 23, 3], [16, 16, 3]]);
    let folder = Folder::new().with("labels.csv", "path,shape\n");
    let columns = "columns = [{ column = 'shape', kind = 'mask' }]";
    let refusal = folder.refusal(&format!(
        "dataset = {{ kind = 'image-folder-csv', images = '.', labels = 'labels.csv', draft = 34, {columns} }}"
    ));
    assert!(
        refusal.ends_with("`draft` has no sense beside masks, which would stay larger than their images"),
        "{refusal}"
    );
}

/// Without libjpeg-turbo an image is decoded whole, cache or not.
#[cfg(feature = "turbojpeg")]
#[test]
fn what_is_broken_below_all_that_is_looked_at_is_good_with_a_cache_too() {
    let mut file = encode(crate::support::picture(64, 200), ImageFormat::Jpeg);
    let end = file.len() - 2;
    file[end - 40..end].fill(0x55);
    decode(&file, batchmill_datasets::decode::ColorMode::Rgb).expect_err("it is broken");
    let list = "a.jpg,0\n".repeat(8);
    let folder = Folder::new().with("a.jpg", file).with("labels.csv", list);
    let table = "dataset = { kind = 'image-folder-csv', images = '.', labels = 'labels.csv' }\nbatch_size = 8\n\
                 on_bad = 'mask'\ntransforms = [{ kind = 'random-crop', size = 60 }]";
    let mut pipeline = folder.open(table).unwrap();
    let expected = batches(&pipeline);
    let bad = expected.iter().map(|batch| batch.bad.len()).sum::<usize>();
    assert!(0 < bad && bad < 24, "{bad} of 24 reach what is broken");
    let kept = Cache::open(tempfile::tempfile().unwrap(), pipeline.cache_key(""), 8, 1 << 20).unwrap();
    pipeline.keep_in(kept.expect("it is new"));
    assert!(batches(&pipeline) == expected);
}

#[test]
fn a_file_that_was_opened_ahead_and_then_written_to_is_found_out() {
    let photos = Photos::new();
    let [files, _] = photos.both("{ kind = 'random-crop', size = 50 }");
    let fields = survey(&files).unwrap();
    let mut room = Batch::empty(&fields, 8);
    let mut writing = Writing { room: &mut room, folder: photos.folder.path().to_owned() };
    let error = files.fill(&fields, Position::default(), Rows { lo: 0, hi: 8 }, &mut writing).unwrap_err();
    assert!(report(&error).contains("has changed since the loader read its index: it has"), "{}", report(&error));
}

/// While the first row is made, all files are written to.
struct Writing<'a> {
    room: &'a mut Batch,
    folder: PathBuf,
}

impl RowSink for Writing<'_> {
    fn attempt(&mut self, index: u64, name: &str) {
        self.room.attempt(index, name);
    }

    fn room(&mut self, row: u32, field: usize) -> &mut [u8] {
        self.room.room(row, field)
    }

    fn finish(&mut self, row: u32, label: RowLabel) {
        for entry in fs::read_dir(&self.folder).unwrap() {
            fs::File::options().append(true).open(entry.unwrap().path()).unwrap().write_all(b"more").unwrap();
        }
        self.room.finish(row, label);
    }
}

#[test]
fn errors_are_those_of_whole_images() {
    let photos = Photos::new();
    let error = |pipeline: &Pipeline| survey(pipeline).unwrap_err();
    let said = |error: &FillError| {
        report(error).replace(&photos.folder.path().display().to_string(), "DATA").replace("/./", "/")
    };
    let [files, whole] = photos.both("{ kind = 'resize', size = 48 }, { kind = 'center-crop', size = 49 }");
    assert_eq!(
        said(&error(&files)),
        "DATA/0.jpg: transform 2, `center-crop`: the image has 48 x 64 pixels (height x width), too few for a crop of 49 x \
         49; put a `resize` before it or crop less"
    );
    assert_eq!(said(&error(&files)), said(&error(&whole)));
    // A file that is broken besides is told to be that.
    let path = photos.folder.path().join("0.jpg");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
    let [files, whole] = photos.both("{ kind = 'resize', size = 48 }, { kind = 'center-crop', size = 49 }");
    assert!(said(&error(&files)).starts_with("decode DATA/0.jpg: broken JPEG"), "{}", said(&error(&files)));
    assert_eq!(said(&error(&files)), said(&error(&whole)));
    // So is one that is broken behind the rows that are wanted.
    let [files, whole] = photos.both("{ kind = 'random-crop', size = 8 }");
    assert_eq!(said(&error(&files)), said(&error(&whole)));
}
