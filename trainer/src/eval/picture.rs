//! What an evaluation draws: the confusion matrix, and a sheet of the worst mistakes.

use batchmill_datasets::sheet::letters::{self, LETTER};
use batchmill_datasets::sheet::{self, INK, PAPER};
use batchmill_protocol::tensor::FieldSpec;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage, imageops};

use super::matrix::Matrix;
use super::worst::Mistake;

/// Letters of a class's name.
const NAME_MAX: usize = 20;

/// Pixels at every border.
const MARGIN: u32 = 16;

/// Pixels between a name and what it names.
const GAP: u32 = 6;

/// The pixels that all cells of a line should have, where there are many.
const WIDTH: u32 = 1600;

/// The sides of a cell, in pixels.
const CELL_MIN: u32 = 3;
const CELL_MAX: u32 = 44;

/// What is written on a dark cell.
const LIGHT: Rgb<u8> = Rgb([250, 250, 250]);

/// The darkest colours of cells: of what was seen right, and of mistakes.
const RIGHT: [u8; 3] = [8, 64, 129];
const WRONG: [u8; 3] = [165, 15, 21];

/// Draws a confusion matrix: a cell is the darker the larger its share of the row is; `names` are those of the classes.
pub(super) fn confusion(confusion: &Matrix, names: &[String]) -> RgbImage {
    let classes = u32::try_from(confusion.classes()).unwrap_or(u32::MAX).max(1);
    let cell = (WIDTH / classes).clamp(CELL_MIN, CELL_MAX);
    // Names stand line by line, and so need the height of a letter.
    let letters = names.iter().map(|name| name.chars().count().min(NAME_MAX)).max().unwrap_or(0);
    let has_names = cell > LETTER;
    let room = if has_names { u32::try_from(letters).unwrap_or(0) * LETTER + GAP } else { 0 };
    let (left, top) = (MARGIN + LETTER + GAP + room, MARGIN + LETTER + GAP + room);
    let side = classes * cell;
    let mut picture = RgbImage::from_pixel(left + side + MARGIN, top + side + MARGIN, PAPER);
    letters::write(&mut picture, "predicted", left, MARGIN, side, INK);
    upright(&mut picture, "true", MARGIN, top, side);
    for (label, name) in (0..classes).zip(names) {
        if has_names {
            let middle = label * cell + (cell - LETTER) / 2;
            letters::write(&mut picture, name, MARGIN + LETTER + GAP, top + middle, room - GAP, INK);
            upright(&mut picture, name, left + middle, MARGIN + LETTER + GAP, room - GAP);
        }
    }
    for label in 0..confusion.classes() {
        let row = confusion.row(label);
        let all: u64 = row.iter().sum();
        for (predicted, &count) in row.iter().enumerate() {
            let place = |class: usize| u32::try_from(class).unwrap_or(u32::MAX).saturating_mul(cell);
            let (x, y) = (left + place(predicted), top + place(label));
            let share = u8::try_from(count * 255 / all.max(1)).unwrap_or(u8::MAX);
            let color = shade(if label == predicted { RIGHT } else { WRONG }, share);
            fill(&mut picture, x, y, cell, color);
            let text = count.to_string();
            let width = u32::try_from(text.len()).unwrap_or(u32::MAX).saturating_mul(LETTER);
            if count > 0 && width <= cell && cell > LETTER {
                let ink = if share > 110 { LIGHT } else { INK };
                letters::write(&mut picture, &text, x + (cell - width) / 2, y + (cell - LETTER) / 2, width, ink);
            }
        }
    }
    picture
}

/// Draws mistakes side by side, each over what it is and what it was taken for; `image` says how their pixels lie.
pub(super) fn mistakes(mistakes: &[Mistake], image: &FieldSpec, names: &[String]) -> RgbImage {
    let rows: Vec<_> = mistakes
        .iter()
        .map(|Mistake { label, predicted, probability, pixels, .. }| {
            let caption = format!("is {}\n{:.0}% {}", names[*label], 100.0 * probability, names[*predicted]);
            (sheet::field_tiles(image, pixels), caption)
        })
        .collect();
    sheet::draw(&rows)
}

/// The bytes of a PNG file.
pub(super) fn png(picture: RgbImage) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let written = DynamicImage::ImageRgb8(picture).write_to(&mut bytes, ImageFormat::Png);
    written.expect("memory takes every byte, and PNG every size of 32 bits");
    bytes.into_inner()
}

/// Writes a line that is read from below, and begins at `top + length`.
fn upright(picture: &mut RgbImage, text: &str, left: u32, top: u32, length: u32) {
    let mut line = RgbImage::from_pixel(length, LETTER, PAPER);
    letters::write(&mut line, text, 0, 0, length, INK);
    imageops::replace(picture, &imageops::rotate270(&line), left.into(), top.into());
}

/// From paper at 0 to `darkest` at 255, with a step at the beginning: what is there at all is to be seen.
fn shade(darkest: [u8; 3], share: u8) -> Rgb<u8> {
    let share = if share == 0 { 0 } else { 16 + u32::from(share) * 239 / 255 };
    let mut color = PAPER;
    for (light, dark) in color.0.iter_mut().zip(darkest) {
        let mixed = (u32::from(*light) * (255 - share) + u32::from(dark) * share) / 255;
        *light = u8::try_from(mixed).unwrap_or(u8::MAX);
    }
    color
}

/// Fills a cell but for the line between it and the next.
fn fill(picture: &mut RgbImage, left: u32, top: u32, cell: u32, color: Rgb<u8>) {
    for (x, y) in (top..top + cell - 1).flat_map(|y| (left..left + cell - 1).map(move |x| (x, y))) {
        picture.put_pixel(x, y, color);
    }
}

#[cfg(test)]
mod tests {
    use batchmill_protocol::tensor::Dtype;

    use super::*;
    use crate::eval::matrix::tally;

    #[test]
    fn cells_are_as_dark_as_their_share_of_the_row() {
        let counts = [(0, 0, 3), (0, 1, 1), (1, 1, 9), (2, 0, 1), (2, 1, 1), (2, 2, 2)];
        let counted = Matrix::of(&tally(3, &counts), 3);
        let names = ["circle", "square", "star"].map(str::to_owned);
        let drawn = confusion(&counted, &names);
        let (left, top) = (MARGIN + LETTER + GAP + 6 * LETTER + GAP, MARGIN + LETTER + GAP + 6 * LETTER + GAP);
        assert_eq!(drawn.dimensions(), (left + 3 * CELL_MAX + MARGIN, top + 3 * CELL_MAX + MARGIN));
        let corner = |label: u32, predicted: u32| *drawn.get_pixel(left + predicted * CELL_MAX, top + label * CELL_MAX);
        assert_eq!(corner(1, 1), Rgb(RIGHT), "all of the row");
        assert_eq!(corner(0, 2), PAPER, "none of it");
        assert_eq!(corner(2, 0), corner(2, 1), "equal shares");
        assert!(corner(0, 1).0[0] > corner(0, 1).0[1], "a mistake is red: {:?}", corner(0, 1));
        assert!(corner(2, 2).0[2] > corner(0, 0).0[2], "half of a row is lighter than three quarters");
        let ink = |x: std::ops::Range<u32>, y: std::ops::Range<u32>| {
            y.flat_map(|y| x.clone().map(move |x| (x, y))).filter(|&(x, y)| *drawn.get_pixel(x, y) == INK).count()
        };
        assert!(ink(MARGIN + LETTER + GAP..left - GAP, top..top + 3 * CELL_MAX) > 100, "names beside the rows");
        assert!(ink(left..left + 3 * CELL_MAX, MARGIN + LETTER + GAP..top - GAP) > 100, "names over the columns");
    }

    #[test]
    fn a_thousand_classes_are_a_picture_as_well() {
        let drawn = confusion(&Matrix::of(&tally(1000, &[]), 1000), &vec![String::from("name"); 1000]);
        assert_eq!(drawn.width(), MARGIN + LETTER + GAP + 1000 * CELL_MIN + MARGIN);
        confusion(&Matrix::of(&tally(1, &[]), 1), &[String::new()]);
    }

    #[test]
    fn every_mistake_is_a_tile() {
        let mistake = Mistake { label: 0, predicted: 1, probability: 0.9, loss: 2.0, pixels: vec![200, 0, 0] };
        let names = ["cat", "dog"].map(str::to_owned);
        let drawn = mistakes(&vec![mistake; 5], &FieldSpec::new("image", Dtype::U8, [1, 1, 3]), &names);
        let red = drawn.pixels().filter(|pixel| **pixel == Rgb([200, 0, 0])).count();
        assert_eq!(red, 5 * 4 * 4, "each is enlarged four times");
        let none = mistakes(&[], &FieldSpec::new("image", Dtype::U8, [1, 1, 3]), &names);
        assert!(none.pixels().all(|pixel| *pixel == PAPER));
    }
}
