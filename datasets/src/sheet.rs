//! Contact sheets: images side by side, each over its caption.

pub mod letters;

use batchmill_protocol::tensor::{Dtype, FieldSpec};
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};

use self::letters::LETTER;
use crate::batches::Batch;

/// The longer side of a tile, in pixels: small images are enlarged to see their pixels, large ones made smaller.
const TILE: u32 = 160;

/// Pixels between tiles.
const GAP: u32 = 8;

/// Pixels between two lines of a caption.
const LEADING: u32 = 2;

/// The width that a sheet should have, in pixels.
const WIDTH: u32 = 1400;

/// What sheets are drawn on.
pub const PAPER: Rgb<u8> = Rgb([250, 250, 250]);
/// What is written in.
pub const INK: Rgb<u8> = Rgb([20, 20, 20]);

/// One image of a sheet.
pub type Tile = RgbImage;

/// The images of a row: each field that is one, and of a field of several, such as five crops, each of them.
pub fn tiles(batch: &Batch, row: usize) -> Vec<Tile> {
    let fields = batch.fields().iter().filter_map(|field| {
        let row_bytes = field.row_bytes()?;
        let bytes = batch.field(&field.name)?.get(row * row_bytes..(row + 1) * row_bytes)?;
        Some(field_tiles(field, bytes))
    });
    fields.flatten().collect()
}

/// What a field holds, if it can be seen: `[height, width, channels]`, `[channels, height, width]` or several of them
/// under one another, u8 or f32; or u8 `[height, width]`, the classes of pixels.
pub fn field_tiles(field: &FieldSpec, bytes: &[u8]) -> Vec<Tile> {
    let extents = &field.shape.0[..];
    let (several, extents) = match *extents {
        [several, height, width, channels] => (several, vec![height, width, channels]),
        _ => (1, extents.to_vec()),
    };
    let levels = match field.dtype {
        Dtype::U8 => bytes.to_vec(),
        Dtype::F32 => levels_of_reals(bytes),
        _ => return Vec::new(),
    };
    if levels.is_empty() || several == 0 {
        return Vec::new();
    }
    let one = levels.len() / several;
    let tile = |levels: &[u8]| match extents[..] {
        [height, width] if field.dtype == Dtype::U8 => image_of(height, width, |place| class_color(levels[place])),
        [height, width, channels @ (1 | 3 | 4)] => {
            image_of(height, width, |place| color(&levels[place * channels..][..channels]))
        }
        [channels @ (1 | 3), height, width] => image_of(height, width, |place| {
            let plane = height * width;
            color(&(0..channels).map(|channel| levels[channel * plane + place]).collect::<Vec<_>>())
        }),
        _ => None,
    };
    levels.chunks_exact(one).filter_map(tile).collect()
}

fn image_of(height: usize, width: usize, pixel: impl Fn(usize) -> Rgb<u8>) -> Option<Tile> {
    let (rows, columns) = (u32::try_from(height).ok()?, u32::try_from(width).ok()?);
    (rows > 0 && columns > 0).then(|| RgbImage::from_fn(columns, rows, |x, y| pixel(y as usize * width + x as usize)))
}

fn color(channels: &[u8]) -> Rgb<u8> {
    match *channels {
        [red, green, blue, ..] => Rgb([red, green, blue]),
        [gray, ..] => Rgb([gray; 3]),
        [] => PAPER,
    }
}

/// Class 0 is black, as a background is; others get hues that are far apart.
fn class_color(class: u8) -> Rgb<u8> {
    let spread = |factor: u8| class.wrapping_mul(factor) | 0x40;
    if class == 0 { Rgb([0; 3]) } else { Rgb([spread(97), spread(57), spread(171)]) }
}

/// Reals as levels of gray: the least of the image is black and the greatest white, as normalised ones have no other
/// meaning to the eye.
fn levels_of_reals(bytes: &[u8]) -> Vec<u8> {
    let reals = || bytes.as_chunks().0.iter().map(|real| f32::from_le_bytes(*real));
    let finite = || reals().filter(|real| real.is_finite());
    let (low, high) = (finite().fold(f32::INFINITY, f32::min), finite().fold(f32::NEG_INFINITY, f32::max));
    let scale = if high > low { 255.0 / (high - low) } else { 0.0 };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 255; `as` takes a NaN for 0")]
    reals().map(|real| ((real - low) * scale).round() as u8).collect()
}

/// Draws rows of tiles, each row's over its caption; a caption of several lines has them under one another.
pub fn draw(rows: &[(Vec<Tile>, String)]) -> RgbImage {
    let scaled: Vec<(Vec<Tile>, &str)> =
        rows.iter().map(|(tiles, caption)| (tiles.iter().map(fit).collect(), caption.as_str())).collect();
    let width_of = |tiles: &[Tile]| tiles.iter().map(|tile| tile.width() + GAP).sum::<u32>().max(TILE / 2);
    let cell_width = scaled.iter().map(|(tiles, _)| width_of(tiles)).max().unwrap_or(TILE);
    let tallest = scaled.iter().flat_map(|(tiles, _)| tiles).map(RgbImage::height).max().unwrap_or(TILE);
    let lines = rows.iter().map(|(_, caption)| caption.lines().count()).max().unwrap_or(1).max(1);
    let lines = u32::try_from(lines).unwrap_or(1);
    let cell_height = tallest + lines * LETTER + (lines - 1) * LEADING + 2 * GAP;
    let count = u32::try_from(scaled.len()).unwrap_or(1).max(1);
    let columns = (WIDTH / cell_width).clamp(1, count);
    let mut sheet =
        RgbImage::from_pixel(columns * cell_width + GAP, count.div_ceil(columns) * cell_height + GAP, PAPER);
    for (place, (tiles, caption)) in (0..).zip(&scaled) {
        let (left, top) = (GAP + place % columns * cell_width, GAP + place / columns * cell_height);
        let mut x = left;
        for tile in tiles {
            imageops::replace(&mut sheet, tile, x.into(), (top + tallest - tile.height()).into());
            x += tile.width() + GAP;
        }
        for (line, text) in (0..).zip(caption.lines()) {
            let top = top + tallest + GAP / 2 + line * (LETTER + LEADING);
            letters::write(&mut sheet, text, left, top, cell_width - GAP, INK);
        }
    }
    sheet
}

/// Enlarges a small image by a whole factor, so that its pixels stay squares, and makes a large one smaller.
fn fit(tile: &Tile) -> Tile {
    let longer = tile.width().max(tile.height());
    if longer <= TILE {
        let factor = (TILE / longer).clamp(1, 4);
        imageops::resize(tile, tile.width() * factor, tile.height() * factor, FilterType::Nearest)
    } else {
        let scaled = |side: u32| (side * TILE / longer).max(1);
        imageops::resize(tile, scaled(tile.width()), scaled(tile.height()), FilterType::Triangle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(dtype: Dtype, shape: impl Into<batchmill_protocol::tensor::Shape>, bytes: &[u8]) -> Vec<Tile> {
        field_tiles(&FieldSpec::new("image", dtype, shape), bytes)
    }

    #[test]
    fn every_layout_of_an_image_is_seen_alike() {
        let expected = RgbImage::from_raw(2, 1, vec![255, 0, 0, 0, 255, 51]).map(|image| vec![image]);
        assert_eq!(Some(tile(Dtype::U8, [1, 2, 3], &[255, 0, 0, 0, 255, 51])), expected);
        assert_eq!(Some(tile(Dtype::U8, [3, 1, 2], &[255, 0, 0, 255, 0, 51])), expected);
        let reals = [1.0_f32, -1.0, -1.0, -1.0, 1.0, -0.6].map(f32::to_le_bytes).concat();
        assert_eq!(Some(tile(Dtype::F32, [1, 2, 3], &reals)), expected);
    }

    #[test]
    fn several_images_of_one_field_are_tiles_of_their_own() {
        let tiles = tile(Dtype::U8, [2, 1, 1, 1], &[7, 9]);
        assert_eq!(tiles.iter().map(|tile| tile.as_raw().clone()).collect::<Vec<_>>(), [[7; 3], [9; 3]]);
        assert!(tile(Dtype::I64, [1, 1, 1], &[0; 8]).is_empty());
        assert!(tile(Dtype::F32, [7], &[0; 28]).is_empty());
    }

    #[test]
    fn a_sheet_has_room_for_all_and_letters_below() {
        let tile = RgbImage::from_pixel(28, 28, Rgb([200, 0, 0]));
        let rows: Vec<_> = (0..30).map(|row| (vec![tile.clone()], format!("class {row}"))).collect();
        let sheet = draw(&rows);
        let count = |color| sheet.pixels().filter(|pixel| **pixel == color).count();
        // Each is enlarged four times.
        assert_eq!(count(Rgb([200, 0, 0])), 30 * (28 * 4) * (28 * 4));
        assert!(count(INK) > 30 * 7 * 8, "seven letters and more below each");
        assert!(sheet.width() <= WIDTH, "{}", sheet.width());
    }
}
