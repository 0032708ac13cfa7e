//! What the tests share: a folder of files, streams opened from a text, batches kept in memory.

use std::error::Error;
use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use batchmill_datasets::dataset::MapDataset;
use batchmill_datasets::options::{Options, Role};
use batchmill_datasets::pipeline::{BadSample, FillError, Pipeline, RowLabel, RowSink};
use batchmill_datasets::random::Rng;
use batchmill_datasets::registry::Registry;
use batchmill_datasets::source::{OpenError, Source};
use batchmill_datasets::spec::{SpecError, StreamSpec};
use batchmill_protocol::position::{Position, Rows};
use batchmill_protocol::tensor::FieldSpec;
use flate2::Compression;
use flate2::write::GzEncoder;
use image::{DynamicImage, ImageFormat};
use tempfile::TempDir;

/// A temporary folder.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Writes a file, with the folders it needs.
    pub(crate) fn with(self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The spec of the stream `train`.
    pub(crate) fn spec(&self, table: &str) -> Result<StreamSpec, SpecError> {
        StreamSpec::from_table("train", table.parse().unwrap(), self.0.path())
    }

    /// Opens the stream `train` as the loader does.
    pub(crate) fn open(&self, table: &str) -> Result<Pipeline, OpenError> {
        self.open_by(&batchmill_datasets::builtin(), table)
    }

    pub(crate) fn open_by(&self, registry: &Registry, table: &str) -> Result<Pipeline, OpenError> {
        let spec = self.spec(table)?;
        registry.check(&spec)?;
        registry.pipeline(&spec)
    }

    /// Opens the dataset of the stream `train` alone.
    pub(crate) fn dataset<S: Source>(
        &self,
        table: &str,
        from_options: impl FnOnce(&mut Options) -> Result<S, SpecError>,
    ) -> Result<Box<dyn MapDataset>, OpenError> {
        let spec = self.spec(table)?;
        let mut options = Options::new(Role::Dataset, &spec.dataset, &spec.folder);
        let source = from_options(&mut options)?;
        options.finish()?;
        let index = source.index()?;
        Box::new(source).open(index.into())
    }

    /// What a user reads when the stream cannot be opened; `~` is this folder.
    pub(crate) fn refusal(&self, table: &str) -> String {
        match self.open(table) {
            Ok(pipeline) => panic!("opened {pipeline:?}"),
            Err(error) => self.report(&error),
        }
    }

    /// What a user reads when the first batch cannot be made; `~` is this folder.
    pub(crate) fn failure(&self, table: &str) -> String {
        let pipeline = self.open(table).unwrap();
        match survey(&pipeline).and_then(|fields| Batch::fill(&pipeline, &fields, Position::default())) {
            Ok(_) => panic!("the batch was made"),
            Err(error) => self.report(&error),
        }
    }

    /// An error with all that it came from.
    pub(crate) fn report(&self, error: &dyn Error) -> String {
        report(error).replace(&self.0.path().display().to_string(), "~")
    }
}

/// An error with all that it came from, as the loader prints it.
pub(crate) fn report(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// The fields of a stream.
pub(crate) fn survey(pipeline: &Pipeline) -> Result<Vec<FieldSpec>, FillError> {
    pipeline.survey(&mut |_, _| ())
}

/// A batch in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Batch {
    /// Bytes by row and field.
    pub(crate) rows: Vec<Vec<Vec<u8>>>,
    /// What stands in each row that is finished.
    pub(crate) labels: Vec<Option<RowLabel>>,
    /// The samples that could not be used, by the rows they were meant for.
    pub(crate) bad: Vec<BadSample>,
    /// Index and name of each sample about to be read, by the row that was filled next.
    pub(crate) attempts: Vec<(u64, String)>,
}

impl Batch {
    pub(crate) fn empty(fields: &[FieldSpec], rows: u32) -> Self {
        let row: Vec<_> = fields.iter().map(|field| vec![0xee; field.row_bytes().unwrap()]).collect();
        Self { rows: vec![row; rows as usize], labels: vec![None; rows as usize], ..Self::default() }
    }

    /// A whole batch, filled at once.
    pub(crate) fn fill(pipeline: &Pipeline, fields: &[FieldSpec], position: Position) -> Result<Self, FillError> {
        let rows = pipeline.extent().rows(position.step);
        let mut batch = Self::empty(fields, rows);
        batch.fill_rows(pipeline, fields, position, Rows { lo: 0, hi: rows })?;
        Ok(batch)
    }

    /// Some rows of a batch.
    pub(crate) fn fill_rows(
        &mut self,
        pipeline: &Pipeline,
        fields: &[FieldSpec],
        position: Position,
        rows: Rows,
    ) -> Result<(), FillError> {
        let bad = pipeline.fill(fields, position, rows, self)?;
        self.bad.extend(bad);
        Ok(())
    }

    /// The indices of its samples, and whether they are padding.
    pub(crate) fn order(&self) -> Vec<(u64, bool)> {
        self.labels.iter().flatten().map(|label| (label.index, label.padding)).collect()
    }
}

impl RowSink for Batch {
    fn attempt(&mut self, index: u64, name: &str) {
        self.attempts.push((index, name.to_owned()));
    }

    fn room(&mut self, row: u32, field: usize) -> &mut [u8] {
        assert_eq!(self.labels[row as usize], None, "row {row} is written after it was finished");
        &mut self.rows[row as usize][field]
    }

    fn finish(&mut self, row: u32, label: RowLabel) {
        assert_eq!(self.labels[row as usize].replace(label), None, "row {row} is finished twice");
    }
}

/// The place drawn to stand in, as the documentation has it.
pub(crate) fn drawn(seed: u64, epoch: u64, place: u64, attempt: u64, samples: u64) -> u64 {
    let drawn = Rng::new(seed, epoch, place, attempt, u64::MAX).below(samples - 1);
    if drawn < place { drawn } else { drawn + 1 }
}

/// The bytes of an image file.
pub(crate) fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A smooth colour picture, which JPEG keeps well.
pub(crate) fn picture(width: u32, height: u32) -> image::RgbImage {
    let shade = |part: u32, whole: u32| u8::try_from(part * 255 / whole).unwrap();
    image::RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([shade(x, width), shade(y, height), shade(x + y, width + height)])
    })
}

pub(crate) fn png(width: u32, height: u32) -> Vec<u8> {
    encode(picture(width, height), ImageFormat::Png)
}

pub(crate) fn jpeg(width: u32, height: u32) -> Vec<u8> {
    encode(picture(width, height), ImageFormat::Jpeg)
}

pub(crate) fn gzip(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes.as_ref()).unwrap();
    encoder.finish().unwrap()
}

/// Sets when a file was last written to.
pub(crate) fn touch(path: &Path, time: std::time::SystemTime) {
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}
