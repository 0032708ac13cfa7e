//! What an evaluation found, as text: a line for each class, and the confusion matrix where it fits a screen.

use std::fmt::Write as _;

use super::matrix::Matrix;
use super::{Class, Errors, Found};
use crate::metrics::ClassScore;

/// Classes whose confusion fits a screen.
const SHOWN_MAX: usize = 20;

/// Letters of a class's name.
const NAME_MAX: usize = 24;

/// Writes how far numbers are off, in one line without its end.
pub(super) fn errors(errors: &Errors<'_>) -> String {
    let Errors { stream, samples, loss, mae, rmse } = errors;
    format!("Stream `{stream}`: {samples} samples, loss {loss:.6}, MAE {mae:.6}, RMSE {rmse:.6}")
}

/// Writes it in lines, without the last one's end; `names` are those of the classes.
pub(super) fn text(found: &Found<'_>, confusion: &Matrix, names: &[String]) -> String {
    let Found { stream, samples, loss, accuracy, top_5, classes, macro_average, .. } = found;
    let percent = |share: f64| format!("{:.1}%", 100.0 * share);
    let names: Vec<String> = names.iter().map(|name| short(name)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max("macro average".len());
    let mut text = String::new();
    // Writing into a String cannot fail.
    let mut line = |line: String| {
        let _ = writeln!(text, "{}", line.trim_end());
    };
    line(format!(
        "Stream `{stream}`: {samples} samples, loss {loss:.6}, accuracy {}, top-5 {}",
        percent(*accuracy),
        percent(*top_5)
    ));
    line(String::new());
    line(format!("{:<width$}  precision  recall     F1  samples", "class"));
    let score = |name: &str, ClassScore { precision, recall, f1, support }: ClassScore| {
        format!("{name:<width$}  {precision:>9.3}  {recall:>6.3}  {f1:>5.3}  {support:>7}")
    };
    for (name, Class { score: found, .. }) in names.iter().zip(classes) {
        line(score(name, *found));
    }
    line(score("macro average", *macro_average));
    if confusion.classes() <= SHOWN_MAX {
        let classes = 0..confusion.classes();
        let digits =
            classes.clone().flat_map(|label| confusion.row(label)).max().map_or(1, |most| most.to_string().len());
        let digits = digits.max(2);
        line(String::from("\nSeen as (columns are the classes in the order of the rows):"));
        for (label, name) in classes.zip(&names) {
            let counts = confusion.row(label).iter().map(|count| match count {
                0 => format!(" {:>digits$}", "."),
                count => format!(" {count:>digits$}"),
            });
            line(format!("{name:<width$} {}", counts.collect::<String>()));
        }
    }
    text.truncate(text.trim_end().len());
    text
}

/// A name that fits its column.
fn short(name: &str) -> String {
    if name.chars().count() <= NAME_MAX {
        return name.to_owned();
    }
    name.chars().take(NAME_MAX - 2).chain("..".chars()).collect()
}

/// The confusion matrix as a table: a header of classes, and a row for each, its name first.
pub(super) fn csv(confusion: &Matrix, names: &[String]) -> Vec<u8> {
    let mut rows = csv::Writer::from_writer(Vec::new());
    let mut row = |first: &str, others: Vec<String>| {
        let cells = [first.to_owned()].into_iter().chain(others);
        rows.write_record(cells).expect("rows of one length go into memory");
    };
    row("true", names.to_vec());
    for (label, name) in names.iter().enumerate() {
        row(name, confusion.row(label).iter().map(u64::to_string).collect());
    }
    rows.into_inner().expect("memory takes every byte")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::eval::matrix::tally;
    use crate::metrics::ClassTally;

    /// The last class occurs nowhere.
    fn counted() -> ClassTally {
        tally(3, &[(0, 0, 118), (0, 1, 2), (1, 1, 9), (1, 0, 3)])
    }

    fn names() -> Vec<String> {
        ["cat", "a class with a name that is long", "fish"].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_table_names_every_class_and_what_it_is_taken_for() {
        let (names, matrix) = (names(), Matrix::of(&counted(), 3));
        let found = Found::of("test", &counted(), &matrix, &names, 0.123_456_78);
        expect![[r#"
            Stream `test`: 132 samples, loss 0.123457, accuracy 96.2%, top-5 100.0%

            class                     precision  recall     F1  samples
            cat                           0.975   0.983  0.979      120
            a class with a name th..      0.818   0.750  0.783       12
            fish                          0.000   0.000  0.000        0
            macro average                 0.897   0.867  0.881      132

            Seen as (columns are the classes in the order of the rows):
            cat                       118   2   .
            a class with a name th..    3   9   .
            fish                        .   .   ."#]]
        .assert_eq(&text(&found, &matrix, &names));
        let many: Vec<String> = (0..21).map(|class| class.to_string()).collect();
        let counted = tally(21, &[(0, 0, 1)]);
        let matrix = Matrix::of(&counted, 21);
        let found = Found::of("test", &counted, &matrix, &many, 0.0);
        assert_eq!(text(&found, &matrix, &many).lines().count(), 1 + 1 + 1 + 21 + 1);
    }

    #[test]
    fn a_csv_has_true_classes_in_rows() {
        let text = String::from_utf8(csv(&Matrix::of(&counted(), 3), &names())).expect("text");
        expect![[r#"
            true,cat,a class with a name that is long,fish
            cat,118,2,0
            a class with a name that is long,3,9,0
            fish,0,0,0
        "#]]
        .assert_eq(&text);
    }
}
