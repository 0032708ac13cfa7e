//! What the label column means: numbers of classes, or their names.

use std::collections::HashMap;

use crate::sources::numbered_classes;

/// The largest class number. Every class has a name in memory; beyond this the column is no class.
const LABEL_MAX: u32 = (1 << 20) - 1;

/// The most classes.
pub(super) const CLASSES_MAX: usize = LABEL_MAX as usize + 1;

/// The meaning of labels, settled by the classes the user gave or by the first label.
#[derive(Debug)]
pub(super) enum Labels {
    /// No label was seen yet.
    Unknown,
    /// The user named the classes, in `origin`; integers below their number are labels too.
    Given { classes: Vec<String>, labels: HashMap<String, u32>, origin: String },
    /// Integers; the largest seen.
    Integers { max: u32 },
    /// Names, numbered as they were first seen.
    Names { seen: HashMap<String, u32> },
}

impl Labels {
    /// Labels of `classes` that the user named in `origin`; `codes` mean them too.
    pub(super) fn given(classes: Vec<String>, codes: HashMap<String, u32>, origin: &str) -> Self {
        let labels = classes.iter().cloned().zip(0..).chain(codes).collect();
        Self::Given { classes, labels, origin: origin.to_owned() }
    }

    /// The number of the class called `text`, provisional until [`finish`](Self::finish).
    ///
    /// # Errors
    /// What is wrong with the text, to follow the line.
    pub(super) fn number(&mut self, text: &str) -> Result<u32, String> {
        if text.is_empty() {
            return Err("the label is empty".to_owned());
        }
        // The table keeps the names of classes by line.
        if text.contains(['\n', '\r']) {
            return Err(format!("the label {text:?} has a line break"));
        }
        match self {
            Self::Unknown if is_integer(text) => {
                let label = class_number(text)?;
                *self = Self::Integers { max: label };
                Ok(label)
            }
            Self::Unknown => {
                *self = Self::Names { seen: HashMap::from([(text.to_owned(), 0)]) };
                Ok(0)
            }
            Self::Given { classes, labels, origin } => {
                let number = || text.parse().ok().filter(|&label: &u32| (label as usize) < classes.len());
                labels.get(text).copied().or_else(number).ok_or_else(|| {
                    let count = classes.len();
                    format!("label `{text}` is none of the {count} names in {origin}, nor an integer below {count}")
                })
            }
            Self::Integers { max } if is_integer(text) => {
                let label = class_number(text)?;
                *max = label.max(*max);
                Ok(label)
            }
            Self::Integers { .. } => {
                Err(format!("label `{text}` is neither an integer, as the labels before it, nor a known class"))
            }
            Self::Names { .. } if is_integer(text) => Err(format!(
                "label `{text}` is an integer, but the labels before it are names; list the names under `classes`"
            )),
            Self::Names { seen } => match seen.get(text) {
                Some(&label) => Ok(label),
                None => {
                    let label = u32::try_from(seen.len()).ok().filter(|&label| label <= LABEL_MAX);
                    let label = label.ok_or_else(|| format!("label `{text}` is one class more than {LABEL_MAX}"))?;
                    seen.insert(text.to_owned(), label);
                    Ok(label)
                }
            },
        }
    }

    /// The names of the classes; provisional `labels` become final. What is no label stays as it is.
    pub(super) fn finish(self, labels: &mut [u32]) -> Vec<String> {
        match self {
            Self::Unknown => Vec::new(),
            Self::Given { classes, .. } => classes,
            Self::Integers { max } => numbered_classes(max as usize + 1),
            Self::Names { seen } => {
                let mut names: Vec<(String, u32)> = seen.into_iter().collect();
                names.sort_unstable();
                let mut final_label = vec![0; names.len()];
                for (label, (_, provisional)) in (0..).zip(&names) {
                    final_label[*provisional as usize] = label;
                }
                for label in labels {
                    *label = final_label.get(*label as usize).copied().unwrap_or(*label);
                }
                names.into_iter().map(|(name, _)| name).collect()
            }
        }
    }
}

/// The names of the classes of labels that are stored as numbers: those `given`, or else "0", "1" and so on; none where
/// a label is below 0 or too large to be a class.
///
/// # Errors
/// What is wrong with a label, to follow the file: none of the names given is its.
pub(super) fn classes_of(labels: impl Iterator<Item = i64>, given: Option<&[String]>) -> Result<Vec<String>, String> {
    let Some((smallest, largest)) = labels.map(|label| (label, label)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    else {
        return Ok(given.unwrap_or_default().to_vec());
    };
    let class = |label: i64| usize::try_from(label).ok();
    let Some(given) = given else {
        let largest = class(largest).filter(|&largest| class(smallest).is_some() && largest < CLASSES_MAX);
        return Ok(largest.map_or_else(Vec::new, |largest| numbered_classes(largest + 1)));
    };
    match [smallest, largest].into_iter().find(|&label| class(label).is_none_or(|class| class >= given.len())) {
        Some(label) => Err(format!("holds the label {label}, but `classes` has {} names", given.len())),
        None => Ok(given.to_vec()),
    }
}

/// The label that is read as `text` where all `classes` are known; without them it is any integer.
///
/// # Errors
/// What is wrong with the text.
pub(super) fn label_of(text: &str, classes: &[String]) -> Result<i64, String> {
    if classes.is_empty() {
        return text.parse().map_err(|_| format!("label `{text}` is no integer; list the names under `classes`"));
    }
    let named = classes.iter().position(|name| name == text);
    let number = || text.parse().ok().filter(|&label: &usize| label < classes.len());
    let label = named.or_else(number).and_then(|label| i64::try_from(label).ok());
    label.ok_or_else(|| {
        let count = classes.len();
        format!("label `{text}` is none of the {count} names in `classes`, nor an integer below {count}")
    })
}

/// Whether a text is written as an integer, of whatever size.
pub(super) fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn class_number(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|&label| label <= LABEL_MAX)
        .ok_or_else(|| format!("label {text} is no class number: they go from 0 to {LABEL_MAX}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads labels one after the other: their final numbers and the classes, or the first refusal.
    fn read(classes: Option<&[&str]>, texts: &[&str]) -> Result<(Vec<u32>, Vec<String>), String> {
        let classes = classes.map(|names| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        let mut labels = match classes {
            None => Labels::Unknown,
            Some(classes) => Labels::given(classes, HashMap::new(), "`classes`"),
        };
        let mut numbers = texts.iter().map(|text| labels.number(text)).collect::<Result<Vec<_>, _>>()?;
        let names = labels.finish(&mut numbers);
        Ok((numbers, names))
    }

    #[test]
    fn names_are_numbered_in_alphabetical_order() {
        let (numbers, names) = read(None, &["dog", "cat", "dog", "ant"]).unwrap();
        assert_eq!((numbers, names), (vec![2, 1, 2, 0], ["ant", "cat", "dog"].map(str::to_owned).to_vec()));
    }

    #[test]
    fn integers_are_their_own_names() {
        let (numbers, names) = read(None, &["2", "0", "2"]).unwrap();
        assert_eq!((numbers, names), (vec![2, 0, 2], ["0", "1", "2"].map(str::to_owned).to_vec()));
    }

    #[test]
    fn given_classes_are_meant_by_name_or_number() {
        let (numbers, names) = read(Some(&["b", "a", "1"]), &["a", "0", "b", "1", "2"]).unwrap();
        assert_eq!((numbers, names), (vec![1, 0, 0, 2, 2], ["b", "a", "1"].map(str::to_owned).to_vec()));
    }

    #[test]
    fn labels_without_sense_are_refused() {
        let refused = |classes, texts: &[&str]| read(classes, texts).unwrap_err();
        assert_eq!(
            refused(None, &["3", "cat"]),
            "label `cat` is neither an integer, as the labels before it, nor a known class"
        );
        assert_eq!(
            refused(None, &["cat", "3"]),
            "label `3` is an integer, but the labels before it are names; list the names under `classes`"
        );
        assert_eq!(refused(None, &["-1"]), "label -1 is no class number: they go from 0 to 1048575");
        assert_eq!(
            refused(None, &["0", "99999999999"]),
            "label 99999999999 is no class number: they go from 0 to 1048575"
        );
        assert_eq!(refused(None, &[""]), "the label is empty");
        assert_eq!(refused(None, &["a\nb"]), "the label \"a\\nb\" has a line break");
        assert_eq!(
            refused(Some(&["cat", "dog"]), &["cow"]),
            "label `cow` is none of the 2 names in `classes`, nor an integer below 2"
        );
        assert_eq!(
            refused(Some(&["cat", "dog"]), &["2"]),
            "label `2` is none of the 2 names in `classes`, nor an integer below 2"
        );
    }
}
