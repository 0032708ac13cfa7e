//! Samples in tar files, as WebDataset writes them.

mod listing;
mod members;

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use toml::Value;

use super::classes_from_options;
use super::file_patterns::FilePatterns;
use super::json_fields::JsonFields;
use super::shard_file::{self, ShardReader};
use crate::dataset::SampleError;
use crate::decode::{DecodeOptions, EXTENSIONS, decode};
use crate::iterable::{IterableDataset, IterableSource, Record, Records};
use crate::options::Options;
use crate::sample::{Array, Sample};
use crate::scratch;
use crate::source::{Index, OpenError};
use crate::spec::SpecError;

/// The extension that the option `json` is about.
const JSON: &str = "json";

/// The kind `tar-shards`: a WebDataset, PyTorch's usual way to store more small files than a disk likes.
///
/// Options: `shards`, the tar files: a path or a list of paths, in which `{000000..000146}`, `{a,b}` and `*` stand for
/// several; `fields`, a table from the name of a field to the extension of its member, or to a list of extensions of
/// which a sample has one (default: `image` of the usual extensions of images, `label` of `cls`, `text` of `txt`, as far
/// as the very first sample has them); `json`, a table from the keys of the member `json` to their dtypes, or "text":
/// `json = { x = "f32", box = "f32" }`; `missing`, the number that stands for one that is null or not there in it;
/// `color`, "rgb" (default), "gray" or "rgba"; `exif_orientation`, whether images are turned as their EXIF says (default
/// false); `classes`, the names of the classes by label.
///
/// Members of one sample stand one after the other and share a stem: the path up to the first dot of the file's name, so
/// that `n01/5.seg.png` is the member `seg.png` of the sample `n01/5`. Upper and lower case of extensions are one.
/// Passed over are folders, names without a dot behind their first letter, `__names__` between underscores, and what has
/// none of the wanted members; a sample that has some of them must have all. What becomes of a member the last part of
/// its extension says: an image, `cls` a label, `txt` a text, which must be UTF-8; of any other its bytes. Labels are
/// class names or integers from 0, as in `image-folder-csv`. A member that is a link has no bytes of its own, and is
/// refused where it is wanted.
///
/// Plain files are read from header to header when the stream is opened, and any sample is then reached by its place;
/// `.tar.gz`, told by content, are decompressed to the end once, and read in order from then on.
///
/// Shapes: `image`: [height, width, 3, 1 or 4], u8; `label`: [], i64; `text` and bytes: `[bytes]`, u8; numbers of `json`: [],
/// or the extents of the lists they stand in.
///
/// Order: that of the files, in each of its members.
///
/// Source: <https://github.com/webdataset/webdataset>, whose `base_plus_ext` splits names and whose
/// `group_by_keys` makes samples; it decodes by `cls`, `txt` and `json` alike. Unlike it, this refuses a sample of which a
/// part is missing when the stream is opened instead of warning later.
#[derive(Clone, Debug)]
pub struct TarShards {
    shards: FilePatterns,
    fields: Option<Vec<Field>>,
    json: Option<JsonFields>,
    decoding: DecodeOptions,
    classes: Option<Vec<String>>,
}

/// A field and the members it may be made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Field {
    name: String,
    /// In small letters.
    extensions: Vec<String>,
    kind: FieldKind,
}

/// What becomes of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum FieldKind {
    Image,
    Label,
    Text,
    Bytes,
    /// Fields of their own, by the option `json`.
    Json,
}

impl FieldKind {
    /// By the last part of an extension.
    fn of(extension: &str) -> Self {
        match extension.rsplit('.').next().unwrap_or(extension) {
            image if EXTENSIONS.contains(&image) => Self::Image,
            "cls" => Self::Label,
            "txt" => Self::Text,
            _ => Self::Bytes,
        }
    }
}

impl TarShards {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when one is missing or has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        let shards = FilePatterns::from_options(options, "shards")?;
        let json = JsonFields::from_options(options, "json")?;
        let fields = fields_from_options(options)?;
        let decoding = DecodeOptions::from_options(options)?;
        let classes = classes_from_options(options)?;
        let names = fields.iter().flatten().map(|field| field.name.as_str());
        if let Some(twice) = json.iter().flat_map(JsonFields::names).find(|name| names.clone().any(|it| it == *name)) {
            return Err(options.error("json", format_args!("has the key `{twice}`, which is a field of `fields`, too")));
        }
        Ok(Self { shards, fields, json, decoding, classes })
    }
}

fn fields_from_options(options: &mut Options) -> Result<Option<Vec<Field>>, SpecError> {
    let table = match options.value("fields") {
        None => return Ok(None),
        Some(Value::Table(table)) => table,
        Some(other) => {
            let expected = "a table of names and extensions, such as { image = [\"jpg\", \"png\"], label = \"cls\" }";
            return Err(options.error("fields", format_args!("is {other}, not {expected}")));
        }
    };
    let mut fields = Vec::new();
    for (name, value) in table {
        let extensions = match &value {
            Value::String(extension) => Some(vec![extension.to_lowercase()]),
            Value::Array(list) => list.iter().map(|item| item.as_str().map(str::to_lowercase)).collect(),
            _ => None,
        };
        let is_plain = |extension: &String| !extension.is_empty() && !extension.starts_with('.');
        let extensions = extensions.filter(|list| !list.is_empty() && list.iter().all(is_plain)).ok_or_else(|| {
            let expected = "an extension or a list of such, without a dot in front";
            options.error("fields", format_args!("has {value} for `{name}`, not {expected}"))
        })?;
        let kind = FieldKind::of(&extensions[0]);
        if let Some(other) = extensions.iter().find(|extension| FieldKind::of(extension) != kind) {
            let reason = format!("has for `{name}` both `{}` and `{other}`, which are of two kinds", extensions[0]);
            return Err(options.error("fields", reason));
        }
        if extensions.iter().any(|extension| extension == JSON) {
            return Err(
                options.error("fields", "has the extension `json`; the option `json` says what is in such a file")
            );
        }
        fields.push(Field { name, extensions, kind });
    }
    // Whatever order the tables of this build keep.
    fields.sort_by(|one, other| one.name.cmp(&other.name));
    if fields.iter().filter(|field| field.kind == FieldKind::Label).count() > 1 {
        return Err(options.error("fields", "has more than one label"));
    }
    Ok(Some(fields))
}

impl IterableSource for TarShards {
    fn index(&self) -> Result<Vec<u8>, OpenError> {
        listing::read(self)
    }

    fn open(self: Arc<Self>, index: Index) -> Result<Arc<dyn IterableDataset>, OpenError> {
        let table = listing::Table::new(&index);
        let table = table
            .ok_or_else(|| OpenError::other("the index of the tar files is damaged or of another version", None))?;
        let folder = self.shards.folder().to_owned();
        Ok(Arc::new(Shards(Arc::new(Opened { folder, json: self.json.clone(), decoding: self.decoding, table }))))
    }
}

/// The opened dataset.
#[derive(Debug)]
struct Shards(Arc<Opened>);

/// What its records need as well.
#[derive(Debug)]
struct Opened {
    folder: PathBuf,
    json: Option<JsonFields>,
    decoding: DecodeOptions,
    table: listing::Table,
}

impl IterableDataset for Shards {
    fn shards(&self) -> u64 {
        self.0.table.files().len() as u64
    }

    fn records(&self, shard: u64, first: u64) -> Result<Records, SampleError> {
        let opened = self.0.clone();
        let (file, rows) = opened.table.shard(shard).ok_or_else(|| SampleError::new("tar file", "not in the index"))?;
        let reader = file.open(&opened.folder)?;
        let (next, end) = (rows.start.saturating_add(first), rows.end);
        Ok(Box::new(Reading { opened, reader, next, end }))
    }

    fn shard_len(&self, shard: u64) -> Option<u64> {
        self.0.table.shard(shard).map(|(file, _)| file.records)
    }

    fn is_seekable(&self, shard: u64) -> bool {
        self.0.table.shard(shard).is_some_and(|(file, _)| file.is_seekable())
    }

    fn name(&self, shard: u64, record: u64) -> String {
        let row = self.0.table.shard(shard).map(|(_, rows)| rows.start.saturating_add(record));
        row.map_or_else(String::new, |row| self.0.name(row))
    }

    fn classes(&self) -> &[String] {
        self.0.table.classes()
    }

    fn number(&self, field: &str, shard: u64, record: u64) -> Option<f64> {
        let table = &self.0.table;
        let label = table.fields().iter().find(|known| known.kind == FieldKind::Label)?;
        let (_, rows) = table.shard(shard)?;
        if label.name == field { table.label(rows.start.checked_add(record)?).map(f64::from) } else { None }
    }

    fn summary(&self) -> Option<String> {
        Some(shard_file::summary(self.0.table.files()))
    }
}

/// Samples of a file, one after the other.
struct Reading {
    opened: Arc<Opened>,
    reader: ShardReader,
    /// Rows of the table.
    next: u64,
    end: u64,
}

impl Iterator for Reading {
    type Item = Result<Record, SampleError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let row = self.next;
        self.next += 1;
        let record = self.read(row);
        if record.is_err() {
            self.next = self.end;
        }
        Some(record)
    }
}

impl Reading {
    fn read(&mut self, row: u64) -> Result<Record, SampleError> {
        let Self { opened, reader, .. } = self;
        let damaged = || SampleError::new(opened.name(row), "not in the index");
        let places = opened.table.places(row).ok_or_else(damaged)?;
        // In the order of the file, and back in that of the fields.
        let mut order: Vec<usize> = (0..places.len()).collect();
        order.sort_by_key(|&field| places[field].start);
        let mut contents = vec![Vec::new(); places.len()];
        let mut bytes = 0_usize;
        for field in order {
            let place = &places[field];
            // The index has it from a file that was as long as that. No buffer that is used again: it may be far larger,
            // and a record that is passed over is kept by the thousand.
            let mut content = vec![0; usize::try_from(place.end - place.start).map_err(|_| damaged())?];
            let outcome = reader.skip_to(place.start).and_then(|()| reader.read_exact(&mut content));
            reader.checked(|| opened.name(row), outcome)?;
            bytes = bytes.saturating_add(content.len());
            contents[field] = content;
        }
        let opened = self.opened.clone();
        Ok(Record::new(bytes, move || opened.decode(row, contents)))
    }
}

impl Opened {
    /// What a person calls a row.
    fn name(&self, row: u64) -> String {
        match self.table.key(row) {
            Some((file, key)) => format!("{}: {key}", self.folder.join(&file.path).display()),
            None => format!("sample {row}"),
        }
    }

    /// Makes a sample of the contents of its members.
    fn decode(&self, row: u64, contents: Vec<Vec<u8>>) -> Result<Sample, SampleError> {
        let mut sample = Sample::new();
        let mut contents = contents.into_iter();
        for field in self.table.fields() {
            let name = field.name.clone();
            if field.kind == FieldKind::Label {
                let label = self.table.label(row).ok_or_else(|| SampleError::new(self.name(row), "has no label"))?;
                sample.insert(name, Array::scalar_i64(label.into()));
                continue;
            }
            let content = contents.next().unwrap_or_default();
            let wrong = |reason: &str| SampleError::new(self.name(row), format!("`{}`: {reason}", field.name));
            match field.kind {
                FieldKind::Image => {
                    let image = decode(&content, self.decoding)
                        .map_err(|source| SampleError::Decode { sample: self.name(row), source })?;
                    scratch::give(content);
                    sample.insert(name, image);
                }
                FieldKind::Json => {
                    let json = self.json.as_ref().ok_or_else(|| wrong("not in the options"))?;
                    json.read(&content, &mut sample).map_err(|reason| wrong(&reason))?;
                    scratch::give(content);
                }
                FieldKind::Text if std::str::from_utf8(&content).is_err() => {
                    return Err(wrong("the text is not UTF-8"));
                }
                FieldKind::Text | FieldKind::Bytes | FieldKind::Label => {
                    sample.insert(name, Array::from_u8(content));
                }
            }
        }
        Ok(sample)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::options::Role;
    use crate::spec::StreamSpec;

    #[test]
    fn a_record_holds_no_more_memory_than_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let mut shard = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        shard.append_data(&mut header, "a.txt", &b"one"[..]).unwrap();
        fs::write(folder.path().join("a.tar"), shard.into_inner().unwrap()).unwrap();
        let table = "dataset = { kind = 'tar-shards', shards = 'a.tar' }".parse().unwrap();
        let spec = StreamSpec::from_table("train", table, folder.path()).unwrap();
        let mut options = Options::new(Role::Dataset, &spec.dataset, folder.path());
        let source = Arc::new(TarShards::from_options(&mut options).unwrap());
        let index = source.index().unwrap();
        let dataset = source.open(index.into()).unwrap();

        // A large image was decoded before by the same thread.
        scratch::give(Vec::with_capacity(1 << 20));
        let record = dataset.records(0, 0).unwrap().next().unwrap().unwrap();
        assert!(scratch::take(0).capacity() >= 1 << 20, "the record has the buffer of the image");
        assert_eq!(record.decode().unwrap().get("text").unwrap().bytes(), b"one");
    }
}
