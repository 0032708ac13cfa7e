//! Letters for pictures: a font of 8 by 8 pixels that needs no file.

use font8x8::UnicodeFonts as _;
use image::{Rgb, RgbImage};

/// Pixels of a letter's sides, the space behind it included.
pub const LETTER: u32 = 8;

/// Writes one line whose first letter has its corner at `left` and `top`, no wider than `width` pixels: of a longer text
/// the end is left out, and `..` written instead. What is not in the picture is left out as well.
pub fn write(picture: &mut RgbImage, text: &str, left: u32, top: u32, width: u32, ink: Rgb<u8>) {
    let letters_max = (width / LETTER) as usize;
    let too_long = text.chars().count() > letters_max;
    let kept = if too_long { letters_max.saturating_sub(2) } else { letters_max };
    let letters = text.chars().take(kept).chain(if too_long { ".." } else { "" }.chars());
    for (place, letter) in (0..).zip(letters) {
        let glyph = font8x8::BASIC_FONTS
            .get(letter)
            .or_else(|| font8x8::LATIN_FONTS.get(letter))
            .or_else(|| font8x8::GREEK_FONTS.get(letter))
            .or_else(|| font8x8::BASIC_FONTS.get('?'))
            .unwrap_or_default();
        for (y, line) in (0..).zip(glyph) {
            for x in (0..LETTER).filter(|x| line >> x & 1 == 1) {
                if let Some(pixel) = picture.get_pixel_mut_checked(left + place * LETTER + x, top + y) {
                    *pixel = ink;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many pixels are written in each letter's column.
    fn columns(text: &str, width: u32) -> Vec<usize> {
        let (paper, ink) = (Rgb([255; 3]), Rgb([0; 3]));
        let mut picture = RgbImage::from_pixel(6 * LETTER, LETTER, paper);
        write(&mut picture, text, 0, 0, width, ink);
        let is_ink = |letter: u32| move |&(x, _, pixel): &(u32, u32, &Rgb<u8>)| x / LETTER == letter && *pixel == ink;
        (0..6).map(|letter| picture.enumerate_pixels().filter(is_ink(letter)).count()).collect()
    }

    #[test]
    fn a_text_that_is_too_long_ends_in_dots() {
        let all = columns("abcdef", 6 * LETTER);
        assert!(all.iter().all(|&pixels| pixels > 8), "{all:?}");
        let dots = columns("..", 6 * LETTER);
        let cut = columns("abcdef", 5 * LETTER);
        assert_eq!(cut, [all[0], all[1], all[2], dots[0], dots[1], 0]);
        assert_eq!(columns("abcde", 5 * LETTER)[4], all[4]);
    }

    #[test]
    fn a_letter_that_the_font_lacks_is_a_question_mark() {
        assert_eq!(columns("\u{4e2d}", 8), columns("?", 8));
    }
}
