//! Turns, shears, scales and shifts images: one map from places of the result to places of the image.

use super::arguments::Interpolation;
use super::pixels::{buffer, replace, round_byte};
use crate::sample::Image;
use crate::transform::TransformError;

/// The parts of a pixel's side that places are counted in. Sine and cosine may differ in their last bit between
/// machines; counted in whole parts, places do not.
const PARTS: f64 = 4_294_967_296.0;

/// The bits of a place that are parts.
const PART_BITS: u32 = 32;

/// Places further from the image than this, in pixels, would not fit into what they are counted in.
const REACH_MAX: f64 = 1_000_000_000.0;

/// Where every pixel of the result is from, in pixels from the middle of each: `x = a * x' + b * y' + c`,
/// `y = d * x' + e * y' + f`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Map {
    a: f64,
    b: f64,
    c: f64,
    d: f64,
    e: f64,
    f: f64,
}

/// What is done to an image, in this order: sheared, turned and scaled around `center`, then shifted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Motion {
    /// Clockwise, in degrees.
    pub(super) angle: f64,
    /// To the right and down, in pixels.
    pub(super) translate: (f64, f64),
    pub(super) scale: f64,
    /// Along x and along y, in degrees.
    pub(super) shear: (f64, f64),
    /// In pixels from the middle of the image.
    pub(super) center: (f64, f64),
}

impl Motion {
    /// No motion.
    pub(super) const NONE: Self =
        Self { angle: 0.0, translate: (0.0, 0.0), scale: 1.0, shear: (0.0, 0.0), center: (0.0, 0.0) };

    /// The map back.
    ///
    /// Source: the inverse of R(angle) S(scale) SHy(shear) SHx(shear) around the centre, as the comment in
    /// torchvision's `_get_inverse_affine_matrix` derives it.
    pub(super) fn inverse(&self) -> Map {
        let turn = self.angle.to_radians();
        let (shear_x, shear_y) = (self.shear.0.to_radians(), self.shear.1.to_radians());
        let a = (turn - shear_y).cos() / shear_y.cos();
        let b = -(a * shear_x.tan() + turn.sin());
        let c = (turn - shear_y).sin() / shear_y.cos();
        let d = turn.cos() - c * shear_x.tan();
        let whole = |number: f64| (number * PARTS).round() / PARTS;
        // The determinant of the matrix without the scale is 1.
        let [a, b, d, e] = [d, -b, -c, a].map(|entry| whole(entry / self.scale));
        let (x, y) = (self.center.0 + self.translate.0, self.center.1 + self.translate.1);
        let (c, f) = (self.center.0 - a * x - b * y, self.center.1 - d * x - e * y);
        Map { a, b, c: whole(c), d, e, f: whole(f) }
    }
}

impl Map {
    /// Height and width of a result that has room for a whole turned image.
    ///
    /// Source: torchvision's `_compute_affine_output_size`, with its tolerance of 1/10000 of a pixel.
    pub(super) fn expanded(&self, height: usize, width: usize) -> (usize, usize) {
        let (half_width, half_height) = (width as f64 / 2.0, height as f64 / 2.0);
        let corners = [(-1.0, -1.0), (-1.0, 1.0), (1.0, 1.0), (1.0, -1.0)]
            .map(|(x, y)| self.apply(x * half_width, y * half_height));
        let extent = |places: [f64; 4], half: f64| {
            let cut = |place: f64| ((place + half) * 10_000.0).trunc() / 10_000.0;
            let last = places.into_iter().fold(f64::MIN, f64::max);
            let first = places.into_iter().fold(f64::MAX, f64::min);
            super::pixels::round_pixels(cut(last).ceil() - cut(first).floor())
        };
        (extent(corners.map(|(_, y)| y), half_height), extent(corners.map(|(x, _)| x), half_width))
    }

    fn apply(&self, x: f64, y: f64) -> (f64, f64) {
        (self.a * x + self.b * y + self.c, self.d * x + self.e * y + self.f)
    }
}

/// Makes an image of `height` x `width` pixels, each from where `map` says; `outside` stands where that is nowhere.
///
/// Source: `affine_grid` and `grid_sample(padding_mode="zeros", align_corners=False)` of PyTorch as torchvision uses
/// them: also where "bilinear" mixes the border with `fill`, whose share they count twice. A place between two pixels,
/// equally near to both, is here always the right or lower one.
pub(super) fn warp(
    image: &mut Image,
    height: usize,
    width: usize,
    map: &Map,
    interpolation: Interpolation,
    outside: &[u8],
) -> Result<(), TransformError> {
    let channels = image.channels();
    let steps = Steps::new(image, height, width, map)?;
    let mut pixels = buffer(height, width, channels)?;
    let nearest = interpolation == Interpolation::Nearest;
    // The number of channels is known to the loops, so that a pixel moves at once.
    match (channels, nearest) {
        (1, true) => warp_nearest::<1>(image, &mut pixels, width, &steps, outside),
        (2, true) => warp_nearest::<2>(image, &mut pixels, width, &steps, outside),
        (3, true) => warp_nearest::<3>(image, &mut pixels, width, &steps, outside),
        (4, true) => warp_nearest::<4>(image, &mut pixels, width, &steps, outside),
        (1, false) => warp_bilinear::<1>(image, &mut pixels, width, &steps, outside),
        (2, false) => warp_bilinear::<2>(image, &mut pixels, width, &steps, outside),
        (3, false) => warp_bilinear::<3>(image, &mut pixels, width, &steps, outside),
        (4, false) => warp_bilinear::<4>(image, &mut pixels, width, &steps, outside),
        (channels, _) => return Err(TransformError::Channels { channels, expected: "1 to 4" }),
    }
    replace(image, height, width, channels, pixels)
}

/// A map in whole parts: integers, that add up without an error.
struct Steps {
    /// The place of the first pixel.
    first: (i64, i64),
    /// From a pixel to the next in its row.
    across: (i64, i64),
    /// From a row to the next.
    down: (i64, i64),
}

impl Steps {
    fn new(image: &Image, height: usize, width: usize, map: &Map) -> Result<Self, TransformError> {
        let middle = |pixels: usize| (pixels as f64 - 1.0) / 2.0;
        let (right, bottom) = (middle(width), middle(height));
        let (to_x, to_y) = (middle(image.width()), middle(image.height()));
        let corners = [(-right, -bottom), (right, -bottom), (-right, bottom), (right, bottom)];
        let reach = corners.into_iter().map(|(x, y)| map.apply(x, y)).map(|(x, y)| x.abs().max(y.abs()));
        if reach.fold(to_x.max(to_y), f64::max) > REACH_MAX {
            let (height, width) = (image.height(), image.width());
            return Err(TransformError::new(format!(
                "the image of {height} x {width} pixels is too long to be turned"
            )));
        }
        let (x, y) = map.apply(-right, -bottom);
        Ok(Self {
            first: (parts(x + to_x), parts(y + to_y)),
            across: (parts(map.a), parts(map.d)),
            down: (parts(map.b), parts(map.e)),
        })
    }

    /// The place of the first pixel of every row.
    fn rows(&self) -> impl Iterator<Item = (i64, i64)> {
        std::iter::successors(Some(self.first), |&(x, y)| {
            Some((x.wrapping_add(self.down.0), y.wrapping_add(self.down.1)))
        })
    }

    /// The places of a row that begins at `start`.
    fn columns(&self, start: (i64, i64)) -> impl Iterator<Item = (i64, i64)> {
        let (across_x, across_y) = self.across;
        // Past the last pixel a place is made that nobody asks for; it may lie anywhere.
        std::iter::successors(Some(start), move |&(x, y)| Some((x.wrapping_add(across_x), y.wrapping_add(across_y))))
    }
}

/// A length in whole parts of a pixel.
#[expect(clippy::cast_possible_truncation, reason = "the caller has checked that it is within REACH_MAX")]
fn parts(pixels: f64) -> i64 {
    (pixels * PARTS).round() as i64
}

/// The pixel at a place of a row or column, if it has one there.
fn within(place: i64, side: usize) -> Option<usize> {
    usize::try_from(place).ok().filter(|&place| place < side)
}

fn pixel_of<const CHANNELS: usize>(bytes: &[u8]) -> [u8; CHANNELS] {
    bytes.first_chunk().copied().unwrap_or([0; CHANNELS])
}

fn warp_nearest<const CHANNELS: usize>(image: &Image, pixels: &mut [u8], width: usize, steps: &Steps, outside: &[u8]) {
    const HALF: i64 = 1 << (PART_BITS - 1);
    let source = image.pixels().as_chunks::<CHANNELS>().0;
    let outside = pixel_of::<CHANNELS>(outside);
    let rows = pixels.as_chunks_mut::<CHANNELS>().0.chunks_exact_mut(width.max(1));
    for (row, start) in rows.zip(steps.rows()) {
        for (pixel, (x, y)) in row.iter_mut().zip(steps.columns(start)) {
            let column = within((x + HALF) >> PART_BITS, image.width());
            let row = within((y + HALF) >> PART_BITS, image.height());
            *pixel = match (row, column) {
                (Some(row), Some(column)) => source[row * image.width() + column],
                _ => outside,
            };
        }
    }
}

fn warp_bilinear<const CHANNELS: usize>(image: &Image, pixels: &mut [u8], width: usize, steps: &Steps, outside: &[u8]) {
    let source = image.pixels().as_chunks::<CHANNELS>().0;
    let outside = pixel_of::<CHANNELS>(outside);
    let rows = pixels.as_chunks_mut::<CHANNELS>().0.chunks_exact_mut(width.max(1));
    for (row, start) in rows.zip(steps.rows()) {
        for (pixel, (x, y)) in row.iter_mut().zip(steps.columns(start)) {
            let (left, right_share) = split(x);
            let (top, lower_share) = split(y);
            let (left_share, upper_share) = (1.0 - right_share, 1.0 - lower_share);
            let corners = [
                (top, left, upper_share * left_share),
                (top, left + 1, upper_share * right_share),
                (top + 1, left, lower_share * left_share),
                (top + 1, left + 1, lower_share * right_share),
            ];
            let (mut sums, mut covered) = ([0.0_f32; CHANNELS], 0.0_f32);
            for (row, column, share) in corners {
                if let (Some(row), Some(column)) = (within(row, image.height()), within(column, image.width())) {
                    covered += share;
                    let corner = source[row * image.width() + column];
                    sums.iter_mut().zip(corner).for_each(|(sum, byte)| *sum += share * f32::from(byte));
                }
            }
            for ((byte, sum), outside) in pixel.iter_mut().zip(sums).zip(outside) {
                let fill = f32::from(outside);
                *byte = round_byte((sum - fill) * covered + fill);
            }
        }
    }
}

/// The pixel before a place, and the share of the one behind it.
fn split(place: i64) -> (i64, f32) {
    let before = place >> PART_BITS;
    let rest = place - (before << PART_BITS);
    // Exact in the upper 24 of its 32 bits, which is what a share is worth.
    (before, rest as f32 * super::pixels::single(1.0 / PARTS))
}
