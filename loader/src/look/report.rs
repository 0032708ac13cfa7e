//! What `loader inspect` found, for a person: bars for classes, a table of sizes, the broken.

use std::fmt::Write as _;
use std::path::Path;
use std::thread;

use super::inspect::{Class, Inspected, Size};

/// Classes, sizes and broken samples that are listed one by one.
const LISTED_MAX: usize = 40;

/// Columns of the longest bar, and of a class's name.
const BAR: usize = 40;
const NAME: usize = 24;

/// Writes it in lines, without the last one's end.
pub(super) fn text(found: &Inspected, list: Option<&Path>) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = write(&mut text, found, list);
    text.trim_end().to_owned()
}

fn write(text: &mut String, found: &Inspected, list: Option<&Path>) -> std::fmt::Result {
    let Inspected { stream, samples, epoch_samples, inspected, fields, classes, sizes, broken, epoch_core_s } = found;
    write!(text, "stream `{stream}`: {samples} samples")?;
    if epoch_samples != samples {
        write!(text, ", {epoch_samples} in an epoch")?;
    }
    if inspected != samples {
        write!(text, ", {inspected} of them looked at")?;
    }
    writeln!(text, "\n  {}", fields.join(", "))?;
    if !classes.is_empty() {
        writeln!(text, "\nsamples per class ({} classes)", classes.len())?;
        bars(text, classes)?;
    }
    if !sizes.is_empty() {
        write_sizes(text, sizes)?;
    }
    writeln!(text, "\nbroken: {} of {inspected}", broken.len())?;
    for broken in broken.iter().take(LISTED_MAX) {
        writeln!(text, "  {}: {}", broken.index, broken.reason)?;
    }
    match list {
        Some(path) => writeln!(text, "  listed in {}", path.display())?,
        None if broken.len() > LISTED_MAX => {
            writeln!(text, "  and {} more: --broken FILE lists all", broken.len() - LISTED_MAX)?;
        }
        None => {}
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let with_all = epoch_core_s / cores as f64;
    writeln!(text, "\none epoch: about {} with one worker, {} with {cores}", seconds(*epoch_core_s), seconds(with_all))
}

/// One line for each class: its name, its bar, its samples; of very many, the largest and the smallest.
fn bars(text: &mut String, classes: &[Class]) -> std::fmt::Result {
    let most = classes.iter().map(|class| class.samples).max().unwrap_or(0).max(1);
    let mut bar = |class: &Class| {
        let mut name: String = class.name.chars().take(NAME).collect();
        if class.name.chars().count() > NAME {
            name = name.chars().take(NAME - 1).chain(['…']).collect();
        }
        writeln!(text, "  {name:<NAME$} {:<BAR$} {}", blocks(class.samples, most), class.samples)
    };
    if classes.len() <= LISTED_MAX {
        return classes.iter().try_for_each(bar);
    }
    let mut by_size: Vec<&Class> = classes.iter().collect();
    by_size.sort_by_key(|class| (std::cmp::Reverse(class.samples), class.label));
    let (largest, rest) = by_size.split_at(LISTED_MAX / 2);
    let (between, smallest) = rest.split_at(rest.len() - LISTED_MAX / 2);
    largest.iter().copied().try_for_each(&mut bar)?;
    if !between.is_empty() {
        let label = between[0].label;
        let name = format!("... {} between ...", between.len());
        bar(&Class { label, name, samples: between[between.len() / 2].samples })?;
    }
    smallest.iter().copied().try_for_each(bar)
}

/// A bar of up to [`BAR`] columns, to an eighth of one.
fn blocks(part: u64, whole: u64) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = u128::from(part) * (BAR as u128) * 8 / u128::from(whole);
    let eighths = usize::try_from(eighths).unwrap_or(0);
    format!("{}{}", "█".repeat(eighths / 8), PARTS[eighths % 8])
}

fn write_sizes(text: &mut String, sizes: &[Size]) -> std::fmt::Result {
    let images: u64 = sizes.iter().map(|size| size.samples).sum();
    let range = |side: fn(&Size) -> usize| {
        let mut sides: Vec<_> = sizes.iter().map(|size| (side(size), size.samples)).collect();
        sides.sort_unstable();
        let mut before = 0;
        let median = sides.iter().find(|(_, samples)| {
            before += samples;
            before * 2 >= images
        });
        let [least, median, most] = [sides.first(), median, sides.last()].map(|side| side.map_or(0, |side| side.0));
        format!("{least} to {most}, half of them up to {median}")
    };
    writeln!(text, "\nimage sizes, height x width ({} different)", sizes.len())?;
    writeln!(text, "  height {}\n  width  {}", range(|size| size.height), range(|size| size.width))?;
    for Size { height, width, channels, samples } in sizes.iter().take(5) {
        let color = match channels {
            1 => "gray".to_owned(),
            3 => "rgb".to_owned(),
            4 => "rgba".to_owned(),
            _ => format!("{channels} channels"),
        };
        writeln!(text, "  {height} x {width} {color}: {samples}")?;
    }
    Ok(())
}

fn seconds(seconds: f64) -> String {
    match seconds {
        ..1.0 => format!("{:.0} ms", seconds * 1e3),
        ..120.0 => format!("{seconds:.1} s"),
        ..7200.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::inspect::Broken;
    use super::*;

    #[test]
    fn what_was_found_is_drawn() {
        let class = |label, name: &str, samples| Class { label, name: name.to_owned(), samples };
        let found = Inspected {
            stream: "train".to_owned(),
            samples: 400,
            epoch_samples: 400,
            inspected: 400,
            fields: vec!["image: u8 [28, 28, 1]".to_owned(), "label: i64 []".to_owned()],
            classes: vec![class(0, "cat", 300), class(1, "dog", 99), class(2, "a very long name of a class", 0)],
            sizes: vec![
                Size { height: 28, width: 28, channels: 1, samples: 390 },
                Size { height: 500, width: 30, channels: 3, samples: 9 },
            ],
            broken: vec![Broken { index: 7, name: "a.jpg".to_owned(), reason: "decode a.jpg: broken JPEG".to_owned() }],
            epoch_core_s: 0.0,
        };
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let text = text(&found, None).replace(&format!("with {cores}"), "with N");
        expect![[r#"
            stream `train`: 400 samples
              image: u8 [28, 28, 1], label: i64 []

            samples per class (3 classes)
              cat                      ████████████████████████████████████████ 300
              dog                      █████████████▏                           99
              a very long name of a c…                                          0

            image sizes, height x width (2 different)
              height 28 to 500, half of them up to 28
              width  28 to 30, half of them up to 28
              28 x 28 gray: 390
              500 x 30 rgb: 9

            broken: 1 of 400
              7: decode a.jpg: broken JPEG

            one epoch: about 0 ms with one worker, 0 ms with N"#]]
        .assert_eq(&text);
    }

    #[test]
    fn of_very_many_classes_the_largest_and_the_smallest_are_shown() {
        let classes: Vec<_> = (0..100_u32)
            .map(|label| Class { label: label.into(), name: format!("c{label}"), samples: u64::from(label) })
            .collect();
        let mut text = String::new();
        bars(&mut text, &classes).unwrap();
        let names: Vec<_> = text.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
        assert_eq!(names.len(), LISTED_MAX + 1);
        assert_eq!((names[0], names[20], names[40]), ("c99", "...", "c0"));
    }
}
