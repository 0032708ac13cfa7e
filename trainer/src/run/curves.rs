//! The curves of one run, or of several on top of one another, as a picture.

use std::io::Cursor;
use std::ops::Range;
use std::path::Path;

use image::{ImageFormat, Rgb, RgbImage};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::canvas::Canvas;
use super::table::{Row, StepRow, TestRow};
use super::{RunError, io_error};
use crate::whole;

/// Pixels of the picture.
const SIZE: (u32, u32) = (1600, 1200);

/// Where the axis says what it counts: the lower right corner, pixels from the upper left one.
const CORNER: (i32, i32) = (1560, 1180);

/// Heights of text: two and three times a letter of 8 pixels.
const SMALL: i32 = 16;
const LARGE: i32 = 24;

/// Parts that a curve of many steps is cut into; of each, its least and its greatest loss are drawn.
const PARTS: usize = 700;

/// What a smoothed curve remembers: this share of its steps.
const SMOOTHING: f64 = 0.02;

const PAPER: RGBColor = RGBColor(255, 255, 255);
const INK: RGBColor = RGBColor(40, 44, 52);
const FAINT_INK: RGBColor = RGBColor(120, 126, 136);
const GRID: RGBColor = RGBColor(229, 231, 235);

/// One for each run; the first also for what is trained, the second for what is tested.
const COLORS: [RGBColor; 6] = [
    RGBColor(31, 105, 180),
    RGBColor(230, 110, 20),
    RGBColor(38, 140, 70),
    RGBColor(170, 50, 60),
    RGBColor(125, 80, 170),
    RGBColor(110, 85, 60),
];

/// A point: passes over the data, and a value.
type Point = (f64, f64);

/// What is drawn of a run.
#[derive(Clone, Debug, Default)]
pub struct Curve {
    name: String,
    loss: Vec<Point>,
    lr: Vec<Point>,
    test_loss: Vec<Point>,
    accuracy: Vec<Point>,
}

impl Curve {
    /// Of the rows of a run with so many steps in an epoch.
    pub fn new(name: &str, rows: &[Row], steps: u64) -> Self {
        let mut curve = Self { name: name.to_owned(), ..Self::default() };
        for row in rows {
            // After the batch: an epoch ends at a whole number.
            #[expect(clippy::cast_precision_loss, reason = "a place on a picture")]
            let x = row.position().epoch as f64 + (row.position().step + 1) as f64 / steps.max(1) as f64;
            match *row {
                Row::Step(StepRow { loss, lr, .. }) => {
                    curve.loss.push((x, loss.into()));
                    curve.lr.push((x, lr));
                }
                Row::Test(TestRow { loss, accuracy, .. }) => {
                    curve.test_loss.push((x, loss));
                    curve.accuracy.extend(accuracy.map(|accuracy| (x, 100.0 * accuracy)));
                }
            }
        }
        for points in [&mut curve.loss, &mut curve.lr, &mut curve.test_loss, &mut curve.accuracy] {
            points.retain(|(_, y)| y.is_finite());
        }
        curve
    }
}

/// Draws curves into a file, which is there whole or as it was.
///
/// # Errors
/// When it cannot be written.
pub fn save(path: &Path, title: &str, curves: &[Curve]) -> Result<(), RunError> {
    let failed = |source| RunError::Draw { path: path.to_path_buf(), source };
    let image = draw(title, curves).map_err(failed)?;
    let mut bytes = Vec::new();
    image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).map_err(|error| failed(error.into()))?;
    whole::write(path, &bytes).map_err(io_error("write", path))
}

/// A line of a panel.
struct Line {
    points: Vec<Point>,
    color: RGBColor,
    width: u32,
    /// Whether each point is marked.
    dots: bool,
    /// What the legend calls it, if anything.
    name: Option<String>,
}

impl Line {
    fn new(points: Vec<Point>, color: RGBColor, name: &str) -> Self {
        Self { points, color, width: 3, dots: false, name: Some(name.to_owned()) }
    }
}

/// A part of the picture with axes of its own.
struct Panel {
    title: &'static str,
    lines: Vec<Line>,
    y: Range<f64>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Loss above, then accuracy where there is one, then the learning rate.
fn draw(title: &str, curves: &[Curve]) -> Result<RgbImage, Failure> {
    let panels = [loss_panel(curves), accuracy_panel(curves), lr_panel(curves)];
    let shares = [5, 4, 2];
    let panels: Vec<_> = panels.into_iter().zip(shares).filter(|(panel, _)| !panel.lines.is_empty()).collect();
    let ends = curves.iter().flat_map(|curve| curve.loss.last().into_iter().chain(curve.test_loss.last()));
    let end = ends.map(|(x, _)| *x).fold(0.0, f64::max);
    let end = if end > 0.0 { end } else { 1.0 };

    let mut image = RgbImage::from_pixel(SIZE.0, SIZE.1, Rgb([PAPER.0, PAPER.1, PAPER.2]));
    let area = Canvas(&mut image).into_drawing_area();
    let letters = (SIZE.0 / LARGE.unsigned_abs()) as usize - 4;
    let title: String = title.chars().take(letters).collect();
    area.draw(&Text::new(title, (32, 24), text(LARGE, INK, HPos::Left)))?;
    let (_, rest) = area.split_vertically(64);
    let mut rest = rest.margin(0, 16, 0, 0);
    let mut left: u32 = panels.iter().map(|(_, share)| share).sum();
    for (panel, share) in &panels {
        let (_, height) = rest.dim_in_pixel();
        let (this, below) = rest.split_vertically(height * share / left);
        panel.draw(&this, 0.0..end)?;
        (rest, left) = (below, left - share);
    }
    if panels.is_empty() {
        area.draw(&Text::new("no step yet", (32, 96), text(SMALL, FAINT_INK, HPos::Left)))?;
    }
    area.draw(&Text::new("epochs", CORNER, text(SMALL, FAINT_INK, HPos::Right)))?;
    drop((rest, area));
    Ok(image)
}

fn loss_panel(curves: &[Curve]) -> Panel {
    let alone = curves.len() == 1;
    let mut lines = Vec::new();
    for (curve, color) in curves.iter().zip(colors()).filter(|(curve, _)| !curve.loss.is_empty()) {
        let faint = Line { width: 1, name: None, ..Line::new(outline(&curve.loss), paler(color), "") };
        lines.push(faint);
    }
    for (curve, color) in curves.iter().zip(colors()) {
        if !curve.loss.is_empty() {
            lines.push(Line::new(smooth(&curve.loss), color, if alone { "train, smoothed" } else { &curve.name }));
        }
        if !curve.test_loss.is_empty() {
            let (color, name) = if alone { (COLORS[1], Some("test".to_owned())) } else { (color, None) };
            lines.push(Line {
                dots: true,
                width: if alone { 3 } else { 1 },
                name,
                ..Line::new(curve.test_loss.clone(), color, "")
            });
        }
    }
    // The first losses and a few wild ones may leave the panel; what they are in the mean may not.
    let within = lines.iter().filter(|line| line.name.is_some() || line.dots).flat_map(|line| &line.points);
    let y = range(within.map(|(_, y)| *y), 0.08);
    let y = if y.start > 0.0 && y.start < 0.4 * y.end { 0.0..y.end } else { y };
    let title = if alone { "loss" } else { "loss: train smoothed, test dotted" };
    Panel { title, lines, y }
}

fn accuracy_panel(curves: &[Curve]) -> Panel {
    let alone = curves.len() == 1;
    let lines = curves.iter().zip(colors()).filter(|(curve, _)| !curve.accuracy.is_empty());
    let lines: Vec<_> = lines
        .map(|(curve, color)| {
            let best = curve.accuracy.iter().map(|(_, y)| *y).fold(0.0, f64::max);
            let name = if alone { format!("best {best:.2} %") } else { format!("{}, best {best:.2} %", curve.name) };
            Line { dots: true, ..Line::new(curve.accuracy.clone(), if alone { COLORS[2] } else { color }, &name) }
        })
        .collect();
    let y = range(lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y), 0.1);
    Panel { title: "accuracy of the test, %", lines, y: y.start.max(0.0)..y.end.min(101.0) }
}

fn lr_panel(curves: &[Curve]) -> Panel {
    let alone = curves.len() == 1;
    let lines = curves.iter().zip(colors()).filter(|(curve, _)| !curve.lr.is_empty());
    let line = |(curve, color): (&Curve, RGBColor)| Line {
        name: None,
        ..Line::new(thin(&curve.lr), if alone { COLORS[4] } else { color }, "")
    };
    let lines: Vec<_> = lines.map(line).collect();
    let top = lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y).fold(0.0, f64::max);
    Panel { title: "learning rate", lines, y: 0.0..if top > 0.0 { 1.2 * top } else { 1.0 } }
}

impl Panel {
    fn draw(&self, area: &DrawingArea<Canvas<'_>, Shift>, x: Range<f64>) -> Result<(), Failure> {
        let (header, chart) = area.split_vertically(40);
        self.draw_header(&header)?;
        let mut chart = ChartBuilder::on(&chart)
            .margin_left(16)
            .margin_right(40)
            .margin_bottom(12)
            .set_label_area_size(LabelAreaPosition::Left, 112)
            .set_label_area_size(LabelAreaPosition::Bottom, 40)
            .build_cartesian_2d(x.clone(), self.y.clone())?;
        let (x_span, y_span) = (x.end - x.start, self.y.end - self.y.start);
        chart
            .configure_mesh()
            .x_labels(10)
            .y_labels(6)
            .max_light_lines(1)
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(FAINT_INK)
            .label_style(text(SMALL, FAINT_INK, HPos::Left))
            .x_label_formatter(&|x| tick(*x, x_span))
            .y_label_formatter(&|y| tick(*y, y_span))
            .draw()?;
        for Line { points, color, width, dots, .. } in &self.lines {
            let inside = points.iter().map(|(x, y)| (*x, y.clamp(self.y.start, self.y.end)));
            chart.draw_series(LineSeries::new(inside.clone(), color.stroke_width(*width)))?;
            if *dots {
                chart.draw_series(inside.map(|point| Circle::new(point, 5, color.filled())))?;
            }
        }
        Ok(())
    }

    /// The panel's title, and what its colors mean.
    fn draw_header(&self, area: &DrawingArea<Canvas<'_>, Shift>) -> Result<(), Failure> {
        area.draw(&Text::new(self.title, (32, 16), text(SMALL, INK, HPos::Left)))?;
        let width = i32::try_from(area.dim_in_pixel().0).unwrap_or(i32::MAX);
        let mut right = width - 40;
        for line in self.lines.iter().rev() {
            let Some(name) = &line.name else { continue };
            area.draw(&Text::new(name.as_str(), (right, 16), text(SMALL, INK, HPos::Right)))?;
            right -= SMALL * i32::try_from(name.chars().count()).unwrap_or(0) + 12;
            area.draw(&PathElement::new([(right - 28, 24), (right, 24)], line.color.stroke_width(4)))?;
            right -= 28 + 36;
        }
        Ok(())
    }
}

fn text(size: i32, color: RGBColor, h_pos: HPos) -> TextStyle<'static> {
    let style = TextStyle::from(("sans-serif", size).into_font());
    TextStyle { color: color.to_backend_color(), pos: Pos::new(h_pos, VPos::Top), ..style }
}

fn colors() -> impl Iterator<Item = RGBColor> {
    COLORS.into_iter().cycle()
}

/// The same color on two parts of paper.
fn paler(RGBColor(red, green, blue): RGBColor) -> RGBColor {
    let mix = |level: u8| level / 3 + 170;
    RGBColor(mix(red), mix(green), mix(blue))
}

/// A number beside an axis of this span, with as many decimals as tell it from its neighbours.
fn tick(number: f64, span: f64) -> String {
    let number = if number.abs() < span * 1e-9 { 0.0 } else { number };
    match span {
        100.0.. => format!("{number:.0}"),
        8.0.. => decimals(number, 1),
        0.8.. => decimals(number, 2),
        0.08.. => decimals(number, 3),
        0.008.. => decimals(number, 4),
        _ if number == 0.0 => "0".to_owned(),
        _ => format!("{number:.1e}").replace(".0e", "e"),
    }
}

fn decimals(number: f64, count: usize) -> String {
    let text = format!("{number:.count$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// From the least to the greatest value, with room above and below.
fn range(values: impl Iterator<Item = f64>, room: f64) -> Range<f64> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), y| (low.min(y), high.max(y)));
    if !low.is_finite() || !high.is_finite() {
        return 0.0..1.0;
    }
    let span = (high - low).max(high.abs() * 0.01).max(1e-9);
    low - room * span..high + room * span
}

/// As many points as can be told apart: of each part of many the least and the greatest, in their order.
fn outline(points: &[Point]) -> Vec<Point> {
    let mut kept = Vec::new();
    for part in points.chunks(points.len().div_ceil(PARTS).max(1)) {
        let place = |better: fn(f64, f64) -> bool| {
            let first = (0, part[0].1);
            (0..).zip(part).fold(first, |best, (idx, (_, y))| if better(*y, best.1) { (idx, *y) } else { best }).0
        };
        let (low, high): (usize, usize) = (place(|a, b| a < b), place(|a, b| a > b));
        kept.push(part[low.min(high)]);
        if low != high {
            kept.push(part[low.max(high)]);
        }
    }
    kept
}

/// Every so many points, and the last.
fn thin(points: &[Point]) -> Vec<Point> {
    let every = points.len().div_ceil(2 * PARTS).max(1);
    points.iter().step_by(every).chain(points.last()).copied().collect()
}

/// A running mean that forgets, forwards and backwards: one alone would lag behind.
fn smooth(points: &[Point]) -> Vec<Point> {
    #[expect(clippy::cast_precision_loss, reason = "a share of a count")]
    let keep = 1.0 - 1.0 / (points.len() as f64 * SMOOTHING).max(1.0);
    let mean = |points: &mut dyn Iterator<Item = &Point>| -> Vec<f64> {
        let (mut sum, mut weight) = (0.0, 0.0);
        let mean = points.map(|(_, y)| {
            (sum, weight) = (sum * keep + y, weight * keep + 1.0);
            sum / weight
        });
        mean.collect()
    };
    let (forwards, backwards) = (mean(&mut points.iter()), mean(&mut points.iter().rev()));
    let both = forwards.iter().zip(backwards.iter().rev()).map(|(one, other)| f64::midpoint(*one, *other));
    thin(&points.iter().zip(both).map(|((x, _), y)| (*x, y)).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use batchmill_protocol::position::Position;

    use super::*;

    /// A training that goes well, of so many epochs of 100 steps.
    fn rows(epochs: u64, wobble: f32, tested: bool) -> Vec<Row> {
        let mut rows = Vec::new();
        for (epoch, step) in (0..epochs).flat_map(|epoch| (0..100).map(move |step| (epoch, step))) {
            let position = Position { epoch, step };
            let place = u16::try_from(epoch * 100 + step).map(f32::from).expect("few steps");
            let noise = ((place * 12.9898).sin() * 43_758.547).fract() * wobble;
            let loss = 2.3 / (1.0 + place / 60.0) + 0.25 + noise.abs();
            let lr = 0.001 * f64::from(1.0 + (place / 200.0).cos());
            rows.push(Row::Step(StepRow {
                position,
                samples: 0,
                loss,
                lr,
                grad_norm: None,
                seconds: 0.0,
                waited_s: 0.0,
            }));
            if tested && step == 99 {
                let loss = f64::from(2.1 / (1.0 + place / 60.0) + 0.4);
                let accuracy = Some(0.99 - 0.6 * f64::from(1.0 / (1.0 + place / 90.0)));
                rows.push(Row::Test(TestRow { position, loss, accuracy, seconds: 0.0, waited_s: 0.0 }));
            }
        }
        rows
    }

    fn count(image: &RgbImage, RGBColor(red, green, blue): RGBColor) -> usize {
        image.pixels().filter(|pixel| pixel.0 == [red, green, blue]).count()
    }

    #[test]
    fn a_picture_has_every_curve_there_is() {
        let curve = |rows: &[Row]| Curve::new("run", rows, 100);
        let image = draw("mlp.toml", &[curve(&rows(6, 0.3, true))]).expect("it can be drawn");
        if let Some(path) = std::env::var_os("CURVES") {
            image.save(path).expect("it can be written");
        }
        assert_eq!(image.dimensions(), SIZE);
        for color in [COLORS[0], COLORS[1], COLORS[2], COLORS[4], paler(COLORS[0]), GRID, INK] {
            assert!(count(&image, color) > 500, "{color:?}: {}", count(&image, color));
        }
        let untested = draw("mlp.toml", &[curve(&rows(6, 0.3, false))]).expect("it can be drawn");
        assert_eq!((count(&untested, COLORS[1]), count(&untested, COLORS[2])), (0, 0));
        assert!(count(&untested, COLORS[0]) > 500);
    }

    #[test]
    fn runs_are_told_apart_by_their_color() {
        let curves = [("mild", 0.1), ("wild", 0.6)].map(|(name, wobble)| Curve::new(name, &rows(3, wobble, true), 100));
        let image = draw("two runs", &curves).expect("it can be drawn");
        if let Some(path) = std::env::var_os("CURVES_OF_TWO") {
            image.save(path).expect("it can be written");
        }
        assert!(count(&image, COLORS[0]) > 500 && count(&image, COLORS[1]) > 500);
    }

    #[test]
    fn what_is_no_number_or_missing_is_left_out() {
        let mut wild = rows(1, 0.0, true);
        wild.truncate(3);
        for (row, value) in wild.iter_mut().zip([f32::NAN, f32::INFINITY, 1.0]) {
            if let Row::Step(step) = row {
                step.loss = value;
            }
        }
        for rows in [&wild[..], &wild[..2], &wild[2..], &[]] {
            draw("wild", &[Curve::new("run", rows, 0)]).expect("it can be drawn");
        }
        draw("none", &[]).expect("it can be drawn");
    }

    #[test]
    fn of_many_steps_none_that_stands_out_is_lost() {
        let mut points: Vec<Point> = (0..50_000).map(|step| (f64::from(step), 1.0)).collect();
        (points[12_345].1, points[40_001].1) = (9.0, -9.0);
        let kept = outline(&points);
        assert!(kept.len() <= 2 * PARTS && kept.contains(&(12_345.0, 9.0)) && kept.contains(&(40_001.0, -9.0)));
        assert!(kept.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn ticks_have_the_decimals_that_tell_them_apart() {
        for (number, span, expected) in [
            (0.000_5, 0.001, "5e-4"),
            (0.0, 0.001, "0"),
            (0.25, 1.0, "0.25"),
            (97.5, 10.0, "97.5"),
            (3.0, 10.0, "3"),
            (1e-17, 10.0, "0"),
            (2500.0, 6000.0, "2500"),
        ] {
            assert_eq!(tick(number, span), expected);
        }
    }
}
