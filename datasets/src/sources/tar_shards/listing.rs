//! The index: what is in which tar file, and where.
//!
//! Joined are: a head in JSON; for each row, as `u64`, where its key ends among the keys; the keys; for each row and
//! field that has bytes where these begin and end, as two `u64`; for each row its label as `u32`, if there are labels.

use std::collections::HashMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::members::{Member, MemberKind, Members};
use super::{Field, FieldKind, JSON, TarShards};
use crate::decode::EXTENSIONS;
use crate::source::{Index, OpenError};
use crate::sources::labels::Labels;
use crate::sources::shard_file::ShardFile;
use crate::transform::IMAGE;

/// The largest member: it is read into memory.
const MEMBER_BYTES_MAX: u64 = 1 << 30;

/// The longest label.
const LABEL_BYTES_MAX: u64 = 1024;

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    files: Vec<ShardFile>,
    fields: Vec<Field>,
    classes: Vec<String>,
}

/// Reads the headers of all files.
pub(super) fn read(source: &TarShards) -> Result<Vec<u8>, OpenError> {
    let mut listing = Listing {
        source,
        fields: source.fields.clone().map(|fields| with_json(fields, source)),
        labels: match source.classes.clone() {
            None => Labels::Unknown,
            Some(classes) => Labels::given(classes, HashMap::new(), "`classes`"),
        },
        columns: Columns::default(),
    };
    let mut files = Vec::new();
    for path in source.shards.find()? {
        let (mut file, reader) = ShardFile::index(source.shards.folder(), &path)?;
        let mut members = Members::new(reader);
        let before = listing.columns.key_ends.len();
        listing.file(&path, &mut members)?;
        members.into_reader().finish()?;
        file.records = (listing.columns.key_ends.len() - before) as u64;
        files.push(file);
    }
    let Listing { fields, labels, mut columns, .. } = listing;
    let classes = labels.finish(&mut columns.labels);
    let head = Head { files, fields: fields.unwrap_or_default(), classes };
    let head = serde_json::to_vec(&head)
        .map_err(|error| OpenError::other("write down what the index holds", Some(error.into())))?;
    let bytes = |numbers: Vec<u64>| numbers.into_iter().flat_map(u64::to_le_bytes).collect();
    let labels = columns.labels.into_iter().flat_map(u32::to_le_bytes).collect();
    Ok(Index::join([head, bytes(columns.key_ends), columns.keys.into_bytes(), bytes(columns.places), labels]))
}

/// Adds what the option `json` needs.
fn with_json(mut fields: Vec<Field>, source: &TarShards) -> Vec<Field> {
    if source.json.is_some() {
        fields.push(Field { name: JSON.to_owned(), extensions: vec![JSON.to_owned()], kind: FieldKind::Json });
    }
    fields
}

/// What of a sample is known before its members are.
struct Listing<'a> {
    source: &'a TarShards,
    /// Unknown until the first sample.
    fields: Option<Vec<Field>>,
    labels: Labels,
    columns: Columns,
}

#[derive(Default)]
struct Columns {
    key_ends: Vec<u64>,
    keys: String,
    places: Vec<u64>,
    labels: Vec<u32>,
}

/// The members that stand together under one key.
struct Group {
    key: String,
    /// With their extensions, and the content of a label.
    members: Vec<(String, Member, Option<Vec<u8>>)>,
}

impl Listing<'_> {
    fn file(&mut self, path: &str, members: &mut Members) -> Result<(), OpenError> {
        let mut group: Option<Group> = None;
        while let Some(member) = members.next()? {
            let Some((key, extension)) = split(&member.path).filter(|_| member.kind != MemberKind::Other) else {
                continue;
            };
            let is_label = FieldKind::of(&extension) == FieldKind::Label && member.kind == MemberKind::File;
            let content = if is_label { Some(members.content(&member, LABEL_BYTES_MAX)?) } else { None };
            match &mut group {
                Some(group) if group.key == key => {
                    if group.members.iter().any(|(known, ..)| *known == extension) {
                        return Err(self.wrong(path, key, &format!("has two members `{extension}`")));
                    }
                    group.members.push((extension, member, content));
                }
                _ => {
                    let next = Group { key: key.to_owned(), members: vec![(extension, member, content)] };
                    if let Some(whole) = group.replace(next) {
                        self.sample(path, &whole)?;
                    }
                }
            }
        }
        group.map_or(Ok(()), |last| self.sample(path, &last))
    }

    /// Adds a sample, if what stands under a key is one.
    fn sample(&mut self, path: &str, group: &Group) -> Result<(), OpenError> {
        self.row(group).map_err(|reason| self.wrong(path, &group.key, &reason))
    }

    fn row(&mut self, group: &Group) -> Result<(), String> {
        let Self { source, fields, labels, columns } = self;
        if fields.is_none() {
            let usual = with_json(usual_fields(group), source);
            *fields = usual.iter().any(|field| find(field, group).next().is_some()).then_some(usual);
        }
        let found = fields.iter().flatten().map(|field| (field, find(field, group).collect::<Vec<_>>()));
        let found: Vec<_> = found.collect();
        if found.iter().all(|(_, members)| members.is_empty()) {
            return Ok(());
        }
        let mut places = Vec::new();
        let mut label = None;
        for (field, members) in found {
            let (extension, member, content) = match members[..] {
                [one] => one,
                [] => return Err(format!("has no member `{}`", field.extensions.join("` or `"))),
                [(one, ..), (other, ..), ..] => {
                    let which = format!("has `{one}` and `{other}` for the field `{}`", field.name);
                    return Err(format!("{which}; say by `fields` which is meant"));
                }
            };
            let most = if field.kind == FieldKind::Label { LABEL_BYTES_MAX } else { MEMBER_BYTES_MAX };
            let refused = match member.kind {
                MemberKind::Link => Some("is a link; store the file itself (`tar -h`)".to_owned()),
                MemberKind::Sparse => Some("is stored as a sparse file; pack it without `-S`".to_owned()),
                _ if member.bytes <= most => None,
                _ => Some(format!("has {} bytes, more than the limit of {most}", member.bytes)),
            };
            if let Some(reason) = refused {
                return Err(format!("its member `{extension}` {reason}"));
            }
            match content {
                Some(content) if field.kind == FieldKind::Label => {
                    let text = std::str::from_utf8(content).map_err(|_| format!("`{extension}` is not UTF-8"))?;
                    label = Some(labels.number(text.trim()).map_err(|reason| format!("`{extension}`: {reason}"))?);
                }
                _ => places.extend([member.start, member.start + member.bytes]),
            }
        }
        columns.keys.push_str(&group.key);
        columns.key_ends.push(columns.keys.len() as u64);
        columns.places.extend(places);
        columns.labels.extend(label);
        Ok(())
    }

    fn wrong(&self, path: &str, key: &str, reason: &str) -> OpenError {
        let file = self.source.shards.folder().join(path);
        OpenError::file(file, format!("{}: {reason}", key.escape_debug()))
    }
}

/// Key and extension of a member: what stands before and behind the first dot of the file's name.
fn split(path: &str) -> Option<(&str, String)> {
    let path = path.strip_prefix("./").unwrap_or(path);
    let name_at = path.rfind('/').map_or(0, |slash| slash + 1);
    let name = &path[name_at..];
    if name.starts_with("__") && name.ends_with("__") {
        return None;
    }
    let dot = name.find('.').filter(|&dot| dot > 0)?;
    Some((&path[..name_at + dot], name[dot + 1..].to_lowercase()))
}

/// The members of a sample that a field may be made of.
fn find<'a>(field: &Field, group: &'a Group) -> impl Iterator<Item = (&'a str, &'a Member, Option<&'a [u8]>)> {
    let extensions = field.extensions.clone();
    let members = group.members.iter().filter(move |(extension, ..)| extensions.contains(extension));
    members.map(|(extension, member, content)| (extension.as_str(), member, content.as_deref()))
}

/// The fields of a stream that does not name them, by its first sample.
fn usual_fields(group: &Group) -> Vec<Field> {
    let usual = [
        (IMAGE, &EXTENSIONS[..], FieldKind::Image),
        ("label", &["cls"], FieldKind::Label),
        ("text", &["txt"], FieldKind::Text),
    ];
    let fields = usual.into_iter().map(|(name, extensions, kind)| Field {
        name: name.to_owned(),
        extensions: extensions.iter().map(|&extension| extension.to_owned()).collect(),
        kind,
    });
    fields.filter(|field| find(field, group).next().is_some()).collect()
}

/// The index, wherever it lies.
#[derive(Debug)]
pub(super) struct Table {
    head: Head,
    /// The first row of each file, and the end of the last.
    starts: Vec<u64>,
    key_ends: Index,
    keys: Index,
    places: Index,
    labels: Index,
    /// Fields that have bytes.
    stored: usize,
}

impl Table {
    /// `None` when the bytes are no such index.
    pub(super) fn new(index: &Index) -> Option<Self> {
        let [head, key_ends, keys, places, labels] = <[Index; 5]>::try_from(index.split(5)?).ok()?;
        let head: Head = serde_json::from_slice(&head).ok()?;
        let mut starts = vec![0_u64];
        for file in &head.files {
            starts.push(starts.last()?.checked_add(file.records)?);
        }
        let rows = usize::try_from(*starts.last()?).ok()?;
        let has_label = head.fields.iter().any(|field| field.kind == FieldKind::Label);
        let stored = head.fields.len() - usize::from(has_label);
        let is_whole = rows.checked_mul(8) == Some(key_ends.len())
            && rows.checked_mul(16 * stored) == Some(places.len())
            && rows.checked_mul(4 * usize::from(has_label)) == Some(labels.len());
        is_whole.then_some(Self { head, starts, key_ends, keys, places, labels, stored })
    }

    pub(super) fn files(&self) -> &[ShardFile] {
        &self.head.files
    }

    pub(super) fn fields(&self) -> &[Field] {
        &self.head.fields
    }

    pub(super) fn classes(&self) -> &[String] {
        &self.head.classes
    }

    /// A file and its rows.
    pub(super) fn shard(&self, shard: u64) -> Option<(&ShardFile, Range<u64>)> {
        let shard = usize::try_from(shard).ok()?;
        Some((self.head.files.get(shard)?, *self.starts.get(shard)?..*self.starts.get(shard + 1)?))
    }

    /// The file of a row and what its sample is called there.
    pub(super) fn key(&self, row: u64) -> Option<(&ShardFile, &str)> {
        let file = self.head.files.get(self.starts[1..].partition_point(|&end| end <= row))?;
        let start =
            row.checked_sub(1).map_or(Some(0), |before| number(&self.key_ends, usize::try_from(before).ok()?))?;
        let end = number(&self.key_ends, usize::try_from(row).ok()?)?;
        let key = self.keys.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)?;
        Some((file, std::str::from_utf8(key).ok()?))
    }

    /// Where the bytes of a row are, by field that has bytes.
    pub(super) fn places(&self, row: u64) -> Option<Vec<Range<u64>>> {
        let first = usize::try_from(row).ok()?.checked_mul(2 * self.stored)?;
        let place = |field| {
            let (start, end) = (number(&self.places, first + 2 * field)?, number(&self.places, first + 2 * field + 1)?);
            (start <= end).then_some(start..end)
        };
        (0..self.stored).map(place).collect()
    }

    pub(super) fn label(&self, row: u64) -> Option<u32> {
        let place = usize::try_from(row).ok()?.checked_mul(4)?;
        Some(u32::from_le_bytes(*self.labels.get(place..)?.first_chunk()?))
    }
}

/// One of the numbers of a column.
fn number(column: &Index, place: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*column.get(place.checked_mul(8)?..)?.first_chunk()?))
}
