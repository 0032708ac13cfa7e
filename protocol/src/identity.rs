//! What a stream's bytes follow from, as parts that a person can compare.

use serde::{Deserialize, Serialize};

/// Everything that decides about the bytes of a stream: two streams of equal parts deliver the same bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Identity(pub Vec<Part>);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Such as `batch_size` or `data`.
    pub name: String,
    /// Such as `64`, or the hash of a file list with its summary.
    pub value: String,
}

impl Identity {
    /// What has changed since `before`, a sentence fragment for each part: `` `batch_size` was 64 and is 32 ``.
    pub fn changes_since(&self, before: &Self) -> Vec<String> {
        let names = before.0.iter().chain(&self.0).map(|part| part.name.as_str());
        let mut told: Vec<&str> = Vec::new();
        let mut changes = Vec::new();
        for name in names {
            if told.contains(&name) {
                continue;
            }
            told.push(name);
            let value = |identity: &Self| {
                let part = identity.0.iter().find(|part| part.name == name);
                part.map_or("unknown".to_owned(), |part| part.value.clone())
            };
            let (was, is) = (value(before), value(self));
            if was != is {
                changes.push(format!("`{name}` was {was} and is {is}"));
            }
        }
        changes
    }
}

impl FromIterator<(String, String)> for Identity {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(parts: I) -> Self {
        Self(parts.into_iter().map(|(name, value)| Part { name, value }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(parts: &[(&str, &str)]) -> Identity {
        parts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_changed_is_named_with_both_values() {
        let before = identity(&[("batch_size", "64"), ("seed", "0"), ("data", "abc, 3 files")]);
        assert!(before.changes_since(&before).is_empty());
        let now = identity(&[("batch_size", "32"), ("seed", "0"), ("data", "abd, 3 files"), ("new", "1")]);
        assert_eq!(
            now.changes_since(&before),
            [
                "`batch_size` was 64 and is 32",
                "`data` was abc, 3 files and is abd, 3 files",
                "`new` was unknown and is 1"
            ]
        );
    }
}
