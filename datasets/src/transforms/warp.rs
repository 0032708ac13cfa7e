//! Turns, shears, scales and shifts images: one map from places of the result to places of the image.
//!
//! All but the map itself is computed in single precision and in the order of PyTorch's `affine_grid` and
//! `grid_sample`: which of two pixels is taken between them hangs on the last bit. The map goes through the system's
//! sine, cosine and tangent in double precision, and is then rounded to single: machines on which those differ in their
//! last bit still agree.

use super::arguments::Interpolation;
use super::pixels::{buffer, replace, round, round_byte, round_pixels, single};
use crate::sample::Image;
use crate::transform::TransformError;

/// Where every pixel of the result is from, in pixels from the middle of each: `x = a * x' + b * y' + c`,
/// `y = d * x' + e * y' + f`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Map {
    x: [f32; 3],
    y: [f32; 3],
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
        // The determinant of the matrix without the scale is 1.
        let [a, b, d, e] = [d, -b, -c, a].map(|entry| entry / self.scale);
        let (x, y) = (self.center.0 + self.translate.0, self.center.1 + self.translate.1);
        let (c, f) = (self.center.0 - a * x - b * y, self.center.1 - d * x - e * y);
        Map { x: [a, b, c].map(single), y: [d, e, f].map(single) }
    }
}

impl Map {
    /// Height and width of a result that has room for a whole turned image.
    ///
    /// Source: torchvision's `_compute_affine_output_size`, with its tolerance of 1/10000 of a pixel.
    pub(super) fn expanded(&self, height: usize, width: usize) -> (usize, usize) {
        let (half_width, half_height) = (width as f32 / 2.0, height as f32 / 2.0);
        let corners = [(-1.0, -1.0), (-1.0, 1.0), (1.0, 1.0), (1.0, -1.0)];
        let corners = corners.map(|(x, y)| (x * half_width, y * half_height));
        let extent = |row: [f32; 3], half: f32| {
            let places = corners.map(|(x, y)| dot(row, x, y) + half);
            let cut = |place: f32| (place * 10_000.0).trunc() * 0.0001;
            let last = places.into_iter().fold(f32::MIN, f32::max);
            let first = places.into_iter().fold(f32::MAX, f32::min);
            round_pixels((cut(last).ceil() - cut(first).floor()).into())
        };
        (extent(self.y, half_height), extent(self.x, half_width))
    }
}

fn dot([by_x, by_y, plus]: [f32; 3], x: f32, y: f32) -> f32 {
    x * by_x + y * by_y + plus
}

/// Makes an image of `height` x `width` pixels, each from where `map` says; `outside` stands where that is nowhere.
///
/// Source: `grid_sample(padding_mode="zeros", align_corners=False)` of PyTorch as torchvision uses it: also where
/// "bilinear" mixes the border with `fill`, whose share it counts twice.
pub(super) fn warp(
    image: &mut Image,
    height: usize,
    width: usize,
    map: &Map,
    interpolation: Interpolation,
    outside: &[u8],
) -> Result<(), TransformError> {
    let channels = image.channels();
    let mut pixels = buffer(height, width, channels)?;
    // The number of channels is known to the loops, so that a pixel moves at once.
    match channels {
        1 => warp_channels::<1>(image, &mut pixels, height, width, map, interpolation, outside),
        2 => warp_channels::<2>(image, &mut pixels, height, width, map, interpolation, outside),
        3 => warp_channels::<3>(image, &mut pixels, height, width, map, interpolation, outside),
        4 => warp_channels::<4>(image, &mut pixels, height, width, map, interpolation, outside),
        channels => return Err(TransformError::Channels { channels, expected: "1 to 4" }),
    }
    replace(image, height, width, channels, pixels)
}

fn warp_channels<const CHANNELS: usize>(
    image: &Image,
    pixels: &mut [u8],
    height: usize,
    width: usize,
    map: &Map,
    interpolation: Interpolation,
    outside: &[u8],
) {
    let grid = Grid::new(image, height, width, map);
    let source = Source {
        pixels: image.pixels().as_chunks::<CHANNELS>().0,
        height: image.height(),
        width: image.width(),
        outside: outside.first_chunk().copied().unwrap_or([0; CHANNELS]),
    };
    for (row, line) in pixels.as_chunks_mut::<CHANNELS>().0.chunks_exact_mut(width.max(1)).enumerate() {
        let places = grid.row(row);
        if interpolation == Interpolation::Nearest {
            line.iter_mut().zip(places).for_each(|(pixel, (x, y))| *pixel = source.nearest(x, y));
        } else {
            line.iter_mut().zip(places).for_each(|(pixel, (x, y))| *pixel = source.bilinear(x, y));
        }
    }
}

/// The places of an image that the pixels of a result are from.
struct Grid {
    /// The map, in half sides of the image.
    x: [f32; 3],
    y: [f32; 3],
    /// Half the sides of the image.
    half_width: f32,
    half_height: f32,
    /// The first pixel of the result, from its middle.
    left: f32,
    top: f32,
}

impl Grid {
    fn new(image: &Image, height: usize, width: usize, map: &Map) -> Self {
        let (half_width, half_height) = (image.width() as f32 / 2.0, image.height() as f32 / 2.0);
        Self {
            x: map.x.map(|entry| entry / half_width),
            y: map.y.map(|entry| entry / half_height),
            half_width,
            half_height,
            left: (1.0 - width as f32) / 2.0,
            top: (1.0 - height as f32) / 2.0,
        }
    }

    /// Column and row of the place of each pixel of a row of the result.
    fn row(&self, row: usize) -> impl Iterator<Item = (f32, f32)> {
        let y = self.top + row as f32;
        (0_u32..).map(move |column| {
            let x = self.left + column as f32;
            let (to_x, to_y) = (dot(self.x, x, y), dot(self.y, x, y));
            ((to_x + 1.0) * self.half_width - 0.5, (to_y + 1.0) * self.half_height - 0.5)
        })
    }
}

/// An image to take pixels from.
struct Source<'a, const CHANNELS: usize> {
    pixels: &'a [[u8; CHANNELS]],
    height: usize,
    width: usize,
    outside: [u8; CHANNELS],
}

impl<const CHANNELS: usize> Source<'_, CHANNELS> {
    /// The pixel at a place, if there is one.
    fn at(&self, row: i32, column: i32) -> Option<[u8; CHANNELS]> {
        let row = usize::try_from(row).ok().filter(|&row| row < self.height)?;
        let column = usize::try_from(column).ok().filter(|&column| column < self.width)?;
        self.pixels.get(row * self.width + column).copied()
    }

    /// The pixel nearest to a place, of two the one with the even number.
    fn nearest(&self, x: f32, y: f32) -> [u8; CHANNELS] {
        self.at(whole(round(y)), whole(round(x))).unwrap_or(self.outside)
    }

    /// The four pixels around a place, by distance.
    fn bilinear(&self, x: f32, y: f32) -> [u8; CHANNELS] {
        let (left, right_share) = split(x);
        let (top, lower_share) = split(y);
        let (left_share, upper_share) = (1.0 - right_share, 1.0 - lower_share);
        let (right, bottom) = (left.saturating_add(1), top.saturating_add(1));
        let corners = [
            (top, left, upper_share * left_share),
            (top, right, upper_share * right_share),
            (bottom, left, lower_share * left_share),
            (bottom, right, lower_share * right_share),
        ];
        let (mut sums, mut covered) = ([0.0_f32; CHANNELS], 0.0_f32);
        for (row, column, share) in corners {
            if let Some(pixel) = self.at(row, column) {
                covered += share;
                sums.iter_mut().zip(pixel).for_each(|(sum, byte)| *sum += share * f32::from(byte));
            }
        }
        let mut mixed = self.outside;
        for (byte, sum) in mixed.iter_mut().zip(sums) {
            let fill = f32::from(*byte);
            *byte = round_byte((sum - fill) * covered + fill);
        }
        mixed
    }
}

/// The pixel before a place, and the share of the one behind it.
fn split(place: f32) -> (i32, f32) {
    let towards_zero = whole(place);
    let before = if place < towards_zero as f32 { towards_zero.saturating_sub(1) } else { towards_zero };
    (before, place - before as f32)
}

/// A number without its fraction; the outermost i32 beyond them.
#[expect(clippy::cast_possible_truncation, reason = "the cast of a float saturates")]
fn whole(number: f32) -> i32 {
    number as i32
}
