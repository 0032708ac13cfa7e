//! What a model sees in one image, and how it is written down.

use std::path::{Path, PathBuf};

use serde::Serialize;

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

/// One image's guesses, most probable first and at least one, or why there are none.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Its file.
    pub image: PathBuf,
    /// What was seen.
    pub outcome: Result<Vec<Guess>, String>,
}

/// The line of `--json` for one image.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    image: String,
    #[serde(flatten)]
    best: Option<&'a Guess>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top: Option<&'a [Guess]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

impl Prediction {
    /// An object with `image`, the best guess's `label`, `class` and `probability`, and all in `top`; or with `image` and
    /// `error`.
    pub(super) fn as_json(&self) -> Line<'_> {
        let top = self.outcome.as_deref().ok();
        Line {
            image: self.image.display().to_string(),
            best: top.and_then(<[Guess]>::first),
            top,
            error: self.outcome.as_ref().err().map(String::as_str),
        }
    }

    /// A line for a person; `None` where there are no guesses.
    pub(super) fn to_line(&self) -> Option<String> {
        let percent = |guess: &Guess| format!("{} {:.1}%", guess.class, 100.0 * guess.probability);
        let guesses = self.outcome.as_ref().ok()?;
        Some(format!("{}: {}", self.image.display(), guesses.iter().map(percent).collect::<Vec<_>>().join(", ")))
    }
}

/// The form of the file that `--out` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A header and a row for each image.
    Csv,
    /// A list of the objects of `--json`.
    Json,
}

impl Form {
    /// The form that a file's extension asks for.
    pub(super) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "csv" => Some(Self::Csv),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    /// The file's content, with columns for `top` guesses.
    ///
    /// Columns: `image`, `label`, `class`, `probability`, for further guesses `label_2`, `class_2`, `probability_2` and
    /// so on, `error`.
    pub(super) fn write(self, predictions: &[Prediction], top: usize) -> Vec<u8> {
        if self == Self::Json {
            let objects: Vec<_> = predictions.iter().map(Prediction::as_json).collect();
            return serde_json::to_vec_pretty(&objects).expect("numbers and strings have a JSON form");
        }
        let mut rows = csv::Writer::from_writer(Vec::new());
        let numbered = |place: usize| {
            ["label", "class", "probability"].map(|name| match place {
                1 => name.to_owned(),
                _ => format!("{name}_{place}"),
            })
        };
        let mut row = |cells: Vec<String>| rows.write_record(cells).expect("rows of one length go into memory");
        let guesses = (1..=top).flat_map(numbered);
        row(["image".to_owned()].into_iter().chain(guesses).chain(["error".to_owned()]).collect());
        for Prediction { image, outcome } in predictions {
            let cells = |place: usize| match outcome.as_ref().ok().and_then(|guesses| guesses.get(place)) {
                Some(Guess { label, class, probability }) => {
                    [label.to_string(), class.clone(), probability.to_string()]
                }
                None => Default::default(),
            };
            let error = outcome.as_ref().err().cloned().unwrap_or_default();
            let guesses = (0..top).flat_map(cells);
            row([image.display().to_string()].into_iter().chain(guesses).chain([error]).collect());
        }
        rows.into_inner().expect("memory takes every byte")
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn predictions() -> [Prediction; 2] {
        let guess = |label, class: &str, probability| Guess { label, class: class.to_owned(), probability };
        [
            Prediction { image: "a, b.png".into(), outcome: Ok(vec![guess(1, "dog", 0.75), guess(0, "cat", 0.25)]) },
            Prediction { image: "c.png".into(), outcome: Err("decode it: not an image".to_owned()) },
        ]
    }

    #[test]
    fn a_table_has_a_row_for_every_image() {
        let csv = String::from_utf8(Form::Csv.write(&predictions(), 2)).expect("text");
        expect![[r#"
            image,label,class,probability,label_2,class_2,probability_2,error
            "a, b.png",1,dog,0.75,0,cat,0.25,
            c.png,,,,,,,decode it: not an image
        "#]]
        .assert_eq(&csv);
    }

    #[test]
    fn a_list_has_an_object_for_every_image() {
        let json: serde_json::Value = serde_json::from_slice(&Form::Json.write(&predictions(), 2)).expect("JSON");
        expect![[r#"[{"class":"dog","image":"a, b.png","label":1,"probability":0.75,"top":[{"class":"dog","label":1,"probability":0.75},{"class":"cat","label":0,"probability":0.25}]},{"error":"decode it: not an image","image":"c.png"}]"#]]
            .assert_eq(&json.to_string());
    }

    #[test]
    fn the_extension_says_the_form() {
        assert_eq!(
            ["a.csv", "a.json", "a.txt", "csv"].map(|path| Form::of(path.as_ref())),
            [Some(Form::Csv), Some(Form::Json), None, None]
        );
    }
}
