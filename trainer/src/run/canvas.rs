//! An image that plotters draws on: smooth lines of any width, and letters without a font on the machine.

use std::convert::Infallible;

use font8x8::UnicodeFonts as _;
use image::{Rgb, RgbImage};
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind};

/// Pixels of a letter's sides, before it is enlarged.
const LETTER: u32 = 8;

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

/// What is drawn on.
#[derive(Debug)]
pub(super) struct Canvas<'a>(pub(super) &'a mut RgbImage);

impl Canvas<'_> {
    /// Lays `color` over a pixel; nothing where there is none.
    fn blend(&mut self, x: i32, y: i32, color: BackendColor, cover: f64) {
        let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else { return };
        let Some(Rgb(pixel)) = self.0.get_pixel_mut_checked(x, y) else { return };
        let share = (color.alpha * cover).clamp(0.0, 1.0);
        let (red, green, blue) = color.rgb;
        for (level, over) in pixel.iter_mut().zip([red, green, blue]) {
            let mixed = f64::from(*level) * (1.0 - share) + f64::from(over) * share;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between two levels of u8")]
            {
                *level = mixed.round() as u8;
            }
        }
    }

    /// A line with round ends: every pixel is covered as far as it is within half the width of it.
    fn stroke(&mut self, (x0, y0): BackendCoord, (x1, y1): BackendCoord, color: BackendColor, width: f64) {
        let (ax, ay, dx, dy) = (f64::from(x0), f64::from(y0), f64::from(x1 - x0), f64::from(y1 - y0));
        let (length, reach) = (dx * dx + dy * dy, width / 2.0 + 0.5);
        #[expect(clippy::cast_possible_truncation, reason = "a line is a few pixels wide")]
        let margin = reach.ceil() as i32;
        for y in y0.min(y1) - margin..=y0.max(y1) + margin {
            for x in x0.min(x1) - margin..=x0.max(x1) + margin {
                let (px, py) = (f64::from(x) - ax, f64::from(y) - ay);
                let along = if length > 0.0 { ((px * dx + py * dy) / length).clamp(0.0, 1.0) } else { 0.0 };
                let cover = reach - (px - along * dx).hypot(py - along * dy);
                if cover > 0.0 {
                    self.blend(x, y, color, cover);
                }
            }
        }
    }
}

/// How many times a letter of a style is enlarged.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "text is 8 to 64 pixels high")]
fn scale(style: &impl BackendTextStyle) -> u32 {
    (style.size() / f64::from(LETTER)).round().clamp(1.0, 8.0) as u32
}

fn signed(pixels: u32) -> i32 {
    i32::try_from(pixels).unwrap_or(i32::MAX)
}

impl DrawingBackend for Canvas<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.0.dimensions()
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, color: BackendColor) -> Drawn {
        self.blend(x, y, color, 1.0);
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, path: I, style: &S) -> Drawn {
        let mut path = path.into_iter();
        let Some(mut from) = path.next() else { return Ok(()) };
        for to in path {
            self.stroke(from, to, style.color(), f64::from(style.stroke_width()));
            from = to;
        }
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(&mut self, center: BackendCoord, radius: u32, style: &S, _fill: bool) -> Drawn {
        self.stroke(center, center, style.color(), f64::from(2 * radius));
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, (x, y): BackendCoord) -> Drawn {
        let (width, height) = self.estimate_text_size(text, style)?;
        let (width, height, scale) = (signed(width), signed(height), signed(scale(style)));
        let anchor = style.anchor();
        let left = match anchor.h_pos {
            HPos::Left => x,
            HPos::Center => x - width / 2,
            HPos::Right => x - width,
        };
        let top = match anchor.v_pos {
            VPos::Top => y,
            VPos::Center => y - height / 2,
            VPos::Bottom => y - height,
        };
        for (place, letter) in (0..).zip(text.chars()) {
            let glyph = font8x8::BASIC_FONTS.get(letter).or_else(|| font8x8::LATIN_FONTS.get(letter));
            let glyph = glyph.or_else(|| font8x8::BASIC_FONTS.get('?')).unwrap_or_default();
            for (row, line) in (0..).zip(glyph) {
                for column in (0..signed(LETTER)).filter(|column| line >> column & 1 == 1) {
                    let (x, y) = (left + (place * signed(LETTER) + column) * scale, top + row * scale);
                    for (dx, dy) in (0..scale).flat_map(|dx| (0..scale).map(move |dy| (dx, dy))) {
                        self.blend(x + dx, y + dy, style.color(), 1.0);
                    }
                }
            }
        }
        Ok(())
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        style: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<Infallible>> {
        let letters = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
        Ok((letters.saturating_mul(LETTER * scale(style)), LETTER * scale(style)))
    }
}

#[cfg(test)]
mod tests {
    use plotters::prelude::*;

    use super::*;

    fn drawn(draw: impl FnOnce(&DrawingArea<Canvas<'_>, plotters::coord::Shift>)) -> RgbImage {
        let mut image = RgbImage::from_pixel(40, 20, Rgb([255; 3]));
        draw(&Canvas(&mut image).into_drawing_area());
        image
    }

    #[test]
    fn a_line_is_as_wide_as_asked_and_smooth_at_its_edge() {
        let image = drawn(|area| {
            area.draw(&PathElement::new([(5, 10), (35, 10)], ShapeStyle { stroke_width: 3, ..BLACK.into() }))
                .expect("nothing can fail");
        });
        let column: Vec<u8> = (7..14).map(|y| image.get_pixel(20, y).0[0]).collect();
        assert_eq!(column, [255, 255, 0, 0, 0, 255, 255]);
        let image = drawn(|area| {
            area.draw(&PathElement::new([(5, 5), (35, 15)], ShapeStyle { stroke_width: 3, ..BLACK.into() }))
                .expect("nothing can fail");
        });
        assert!(image.pixels().any(|pixel| (50..200).contains(&pixel.0[0])));
    }

    #[test]
    fn letters_need_no_font_and_stay_on_the_image() {
        let black = |text: &str, x: i32| {
            let image = drawn(|area| {
                area.draw(&Text::new(text.to_owned(), (x, 2), ("sans-serif", 16).into_font())).expect("cannot fail");
            });
            image.pixels().filter(|pixel| pixel.0[0] < 128).count()
        };
        // Each dot of a letter is four pixels.
        let dots = font8x8::BASIC_FONTS.get('L').expect("a letter").map(u8::count_ones).iter().sum::<u32>();
        assert_eq!(black("L", 2), 4 * dots as usize);
        assert_eq!(black("\u{1f600}", 2), black("?", 2));
        assert_eq!(black("L", 1000), 0);
    }
}
