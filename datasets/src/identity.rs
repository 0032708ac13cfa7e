//! What the content of a stream follows from, in parts that a person can compare.

use std::fmt::{self, Write};

use batchmill_protocol::position::Tail;
use toml::Value;
use twox_hash::XxHash3_128;

use crate::decode::JPEG_DECODER;
use crate::spec::{Component, StreamSpec};

/// Counted up when the same spec and files come to give other bytes; part of every identity.
const CONTENT_VERSION: u32 = 3;

/// Where an index comes from is not what is in it.
const KEEP_INDEX: [&str; 2] = ["image-folder-csv", "keep_index"];

/// What the content of a stream follows from: two streams of one identity deliver the same bytes at every position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Names and values, always in this order: `dataset`, `sampler`, `transforms`, `collate`, `fields`, `batch_size`, `tail`, `seed`,
    /// `on_bad`, `decoder`, `data`.
    ///
    /// The name of the stream and the folder of its configuration are none of them.
    pub parts: Vec<(String, String)>,
}

impl Identity {
    /// The identity of a stream over an index; `summary` says for a person what data it is.
    pub(crate) fn new(spec: &StreamSpec, index: &[u8], summary: &str) -> Self {
        let transforms = spec.transforms.iter().map(ToString::to_string).collect::<Vec<_>>();
        let collate = spec.collate.iter().map(|(field, rule)| format!("{field:?}: {rule}")).collect::<Vec<_>>();
        let fields = spec.fields.as_ref().map_or_else(|| "all".to_owned(), |fields| format!("{fields:?}"));
        let parts = [
            ("dataset", dataset(spec)),
            ("sampler", spec.sampler.to_string()),
            ("transforms", format!("[{}]", transforms.join(", "))),
            ("collate", format!("[{}]", collate.join(", "))),
            ("fields", fields),
            ("batch_size", spec.batch_size.to_string()),
            ("tail", tail_name(spec.tail).to_owned()),
            ("seed", spec.seed.to_string()),
            ("on_bad", spec.on_bad.name().to_owned()),
            ("decoder", decoder()),
            ("data", format!("{:032x}, {summary}", XxHash3_128::oneshot(index))),
        ];
        Self { parts: parts.map(|(name, value)| (name.to_owned(), value)).into() }
    }

    /// A short name for it: equal for two identities exactly when all their parts are.
    ///
    /// 32 hexadecimal digits: XXH3-128 over names and values, each behind its length in 8 bytes.
    pub fn hash(&self) -> String {
        let mut hash = XxHash3_128::new();
        for text in self.parts.iter().flat_map(|(name, value)| [name, value]) {
            hash.write(&(text.len() as u64).to_le_bytes());
            hash.write(text.as_bytes());
        }
        format!("{:032x}", hash.finish_128())
    }
}

/// What decodes and transforms images in this program, the part `decoder` of an [`Identity`]: with the same, the same
/// file becomes the same bytes.
pub fn decoder() -> String {
    format!("{JPEG_DECODER}, version {CONTENT_VERSION}")
}

/// What a stream's dataset follows from, as the part `dataset` of an [`Identity`]: without options that change no byte.
pub(crate) fn dataset(spec: &StreamSpec) -> String {
    let Component { kind, mut options } = spec.dataset.clone();
    if kind == KEEP_INDEX[0] {
        options.remove(KEEP_INDEX[1]);
    }
    options.iter_mut().for_each(|(_, value)| leave_out(value, KEEP_INDEX));
    Component { kind, options }.to_string()
}

/// Leaves out an option of one kind of dataset, wherever that is a part of others.
fn leave_out(value: &mut Value, option: [&str; 2]) {
    match value {
        Value::Table(table) => {
            if table.get("kind").and_then(Value::as_str) == Some(option[0]) {
                table.remove(option[1]);
            }
            table.iter_mut().for_each(|(_, value)| leave_out(value, option));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| leave_out(value, option)),
        _ => {}
    }
}

fn tail_name(tail: Tail) -> &'static str {
    match tail {
        Tail::Short => "short",
        Tail::Drop => "drop",
        Tail::Pad => "pad",
    }
}

impl fmt::Display for Component {
    /// Writes `resize {size = 256}`: the same text for two components exactly when they are equal.
    ///
    /// Keys are sorted, whatever order the `toml` of this build keeps.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_key(&self.kind, f)?;
        if !self.options.is_empty() {
            f.write_char(' ')?;
            write_table(&self.options, f)?;
        }
        Ok(())
    }
}

fn write_table(table: &toml::Table, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    f.write_char('{')?;
    for (place, (key, value)) in entries.into_iter().enumerate() {
        f.write_str(if place == 0 { "" } else { ", " })?;
        write_key(key, f)?;
        f.write_str(" = ")?;
        write_value(value, f)?;
    }
    f.write_char('}')
}

fn write_value(value: &Value, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match value {
        // Debug quotes and escapes, so that no text can be taken for what stands around it.
        Value::String(text) => write!(f, "{text:?}"),
        Value::Integer(number) => write!(f, "{number}"),
        // Debug always writes a point or an exponent: no float looks like an integer.
        Value::Float(number) => write!(f, "{number:?}"),
        Value::Boolean(flag) => write!(f, "{flag}"),
        Value::Datetime(time) => write!(f, "{time}"),
        Value::Array(items) => {
            f.write_char('[')?;
            for (place, item) in items.iter().enumerate() {
                f.write_str(if place == 0 { "" } else { ", " })?;
                write_value(item, f)?;
            }
            f.write_char(']')
        }
        Value::Table(table) => write_table(table, f),
    }
}

/// Writes a name as it is when it is a plain one, quoted otherwise.
fn write_key(key: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_');
    if !key.is_empty() && key.chars().all(is_plain) { f.write_str(key) } else { write!(f, "{key:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_written_with_sorted_keys() {
        let inner: toml::Table = "b = 2.0\na = [1, 'x', 1979-05-27]".parse().unwrap();
        let component = Component::new("kind").with("z", true).with("a b", "say \"hi\"\n").with("t", inner);
        assert_eq!(
            component.to_string(),
            r#"kind {"a b" = "say \"hi\"\n", t = {a = [1, "x", 1979-05-27], b = 2.0}, z = true}"#
        );
        assert_eq!(Component::new("shuffled").to_string(), "shuffled");
    }

    #[test]
    fn values_that_differ_are_written_differently() {
        let components = [
            Component::new("a"),
            Component::new("a {b = 1}"),
            Component::new("a").with("b", 1),
            Component::new("a").with("b", 1.0),
            Component::new("a").with("b", "1"),
            Component::new("a").with("b", true),
            Component::new("a").with("b", "true"),
            Component::new("a").with("b", vec![1]),
            Component::new("a").with("b", vec![1, 1]),
            Component::new("a").with("b", vec!["1, 1"]),
            Component::new("a").with("b", vec!["1", "1"]),
            Component::new("a").with("b", toml::Table::new()),
            Component::new("a").with("b", 1).with("c", 1),
            Component::new("a").with("b = 1, c", 1),
            Component::new("a").with("b", 1e300),
            Component::new("a").with("b", -0.0),
            Component::new("a").with("b", 0.0),
        ];
        let mut texts = components.map(|component| component.to_string());
        texts.sort();
        assert!(texts.windows(2).all(|pair| pair[0] != pair[1]), "{texts:#?}");
    }
}
