//! Whatever stands in a list of images comes out of the dataset: random rows in every way to write them.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use batchmill_datasets::random::Rng;
use batchmill_datasets::sample::Value;
use batchmill_datasets::sources::ImageFolderCsv;

use crate::support::{Folder, png};

/// What names and classes are made of: all that has a meaning in some CSV, and letters of one, two and four bytes, among
/// them an accent of its own (`e` and it are no `é`).
const LETTERS: [&str; 20] = [
    "a", "B", "7", "é", "e\u{301}", "ß", "猫", "🐕", " ", ",", ";", "\t", "\"", "\"\"", "'", "#", "\\", "-", "\n",
    "\r\n",
];

/// What a tag is separated by; in no tag.
const SEPARATOR: &str = "|";

/// One row of the list.
struct Row {
    path: String,
    label: String,
    number: f32,
    tags: BTreeSet<String>,
}

fn below(rng: &mut Rng, limit: usize) -> usize {
    usize::try_from(rng.below(limit as u64)).unwrap()
}

/// A name without white space around it and, for a class, without line breaks. It ends in a letter, so that no class is
/// an integer.
fn name(rng: &mut Rng, line_breaks: bool) -> String {
    let letters = if line_breaks { &LETTERS[..] } else { &LETTERS[..18] };
    let text: String = (0..below(rng, 8)).map(|_| letters[below(rng, letters.len())]).collect();
    format!("{}x", text.trim_start())
}

/// A cell in quotes, or without where it need not have them.
fn cell(rng: &mut Rng, text: &str, delimiter: &str) -> String {
    let is_plain = !text.contains(['"', '\n', '\r']) && !text.contains(delimiter);
    if is_plain && rng.below(2) == 0 { text.to_owned() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
}

/// Writes `rows` random rows in a random way, and reads them.
fn check(seed: u64, rows: usize) {
    println!("seed {seed}, {rows} rows");
    let rng = &mut Rng::new(seed, 0, 0, 0, 0);
    let paths: Vec<_> = (0..20).map(|place| format!("{}{place}.png", name(rng, true))).collect();
    let [labels, tags] = [(); 2].map(|()| (0..10).map(|_| name(rng, false)).collect::<Vec<_>>());
    let rows: Vec<_> = (0..rows)
        .map(|row| Row {
            path: paths[below(rng, paths.len())].clone(),
            label: labels[below(rng, labels.len())].clone(),
            number: f32::from_bits(u32::try_from(rng.below(0x7f80_0000)).unwrap())
                * if rng.below(2) == 0 { 1.0 } else { -1.0 },
            // At least one in all, which a list must have.
            tags: (0..rng.below(4).max(u64::from(row == 0))).map(|_| tags[below(rng, tags.len())].clone()).collect(),
        })
        .collect();

    let (delimiter, option) = [(",", ","), (";", ";"), ("\t", "tab")][below(rng, 3)];
    let line_end = ["\n", "\r\n"][below(rng, 2)];
    let mut text = ["", "\u{feff}"][below(rng, 2)].to_owned();
    let header = ["number", "label", "path", "tags"].map(str::to_owned);
    let written = rows.iter().map(|row| {
        let tags = row.tags.iter().cloned().collect::<Vec<_>>().join(SEPARATOR);
        [row.number.to_string(), row.label.clone(), row.path.clone(), tags]
    });
    for row in [header].into_iter().chain(written) {
        let cells = row.map(|text| cell(rng, &text, delimiter));
        text += &cells.join(delimiter);
        text += line_end;
        text += ["", "", "", line_end][below(rng, 4)];
    }

    let folder = paths.iter().fold(Folder::new(), |folder, path| folder.with(&format!("images/{path}"), png(3, 2)));
    let table = format!(
        "dataset = {{ kind = 'image-folder-csv', images = 'images', labels = 'rows', delimiter = '{option}',
            path_column = 'path', columns = [{{ column = 'label' }}, {{ column = 'number', kind = 'number' }},
            {{ column = 'tags', kind = 'multi-label' }}] }}"
    );
    let folder = folder.with("rows", text);
    let dataset = folder
        .dataset(&table, ImageFolderCsv::from_options)
        .unwrap_or_else(|error| panic!("seed {seed}: {}", folder.report(&error)));
    let all_tags: BTreeSet<_> = rows.iter().flat_map(|row| row.tags.iter().cloned()).collect();
    let all_labels: BTreeSet<_> = rows.iter().map(|row| row.label.clone()).collect();
    assert_eq!(dataset.classes(), all_labels.into_iter().collect::<Vec<_>>());
    assert_eq!(dataset.len(), rows.len() as u64);
    for (index, row) in (0..).zip(&rows) {
        assert_eq!(dataset.name(index), folder.path("images").join(&row.path).display().to_string());
        let label = dataset.number("label", index).unwrap();
        let class = dataset.classes().iter().position(|class| *class == row.label).unwrap();
        assert_eq!(label, f64::from(u32::try_from(class).unwrap()), "row {index}");
        assert_eq!(dataset.number("number", index), Some(row.number.into()), "row {index}");
        // Decoding all of a long list takes longer than it tells.
        if index < 300 {
            let sample = dataset.get(index).unwrap();
            let ones = all_tags.iter().flat_map(|tag| f32::from(u8::from(row.tags.contains(tag))).to_le_bytes());
            assert_eq!(sample.get("tags").map(Value::bytes), Some(&ones.collect::<Vec<_>>()[..]), "row {index}");
        }
    }
}

#[test]
fn every_row_comes_out_as_it_was_written() {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for round in 0..50 {
        check(seed.wrapping_add(round), 12);
    }
    check(seed, 10_000);
}
