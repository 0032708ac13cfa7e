//! Scales images, with antialiasing: all of one, or a part of what comes out, with the bytes that it has in the whole.

use std::cell::RefCell;
use std::error::Error;

use super::Part;
use super::convolve::{Rows, across, down};
use super::weights::{Axis, Weights, nearest_places};
use crate::sample::Image;
use crate::scratch;
use crate::transform::TransformError;
use crate::transforms::pixels::{buffer, check_size, replace};

thread_local! {
    /// Those of the last image, whose lists are used again.
    static WEIGHTS: RefCell<Weights> = RefCell::default();
}

/// How a value between pixels is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Interpolation {
    /// The pixel it lies in.
    Nearest,
    /// The two nearest of a row and of a column, by distance.
    #[default]
    Bilinear,
    /// The four nearest of a row and of a column, by a cubic of their distance.
    Bicubic,
}

/// What an image is scaled to, and the part of that which is wanted.
#[derive(Clone, Debug)]
pub(super) struct Scaling {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) interpolation: Interpolation,
    pub(super) window: Part,
}

/// Where an image that is to be scaled or copied lies among the pixels at hand: it may begin before them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) row: isize,
    pub(super) column: isize,
    pub(super) height: usize,
    pub(super) width: usize,
}

type Failure = Box<dyn Error + Send + Sync>;

/// Refuses results that are too large, before any of the work is done.
pub(crate) fn check(
    [from_height, from_width, channels]: [usize; 3],
    height: usize,
    width: usize,
) -> Result<(), TransformError> {
    // Between the two passes there are other sizes.
    let checked = check_size(height, width, channels).and_then(|_| check_size(from_height, width, channels));
    checked.map(drop).map_err(|source| failed((from_height, from_width), (height, width), source.into()))
}

/// Scales all of an image.
pub(crate) fn scale(
    image: &mut Image,
    height: usize,
    width: usize,
    interpolation: Interpolation,
) -> Result<(), TransformError> {
    let [from_height, from_width, channels] = image.shape();
    if (from_height, from_width) == (height, width) {
        return Ok(());
    }
    check(image.shape(), height, width)?;
    let mut pixels = buffer(height, width, channels)?;
    let place = Place { row: 0, column: 0, height: from_height, width: from_width };
    Scaling { height, width, interpolation, window: Part::whole(height, width) }.write(image, place, &mut pixels)?;
    replace(image, height, width, channels, pixels)
}

/// Copies the pixels of `place`, all of which are at hand.
pub(super) fn copy(image: &Image, place: Place, pixels: &mut [u8]) {
    let (row, column) = (place.row.unsigned_abs(), place.column.unsigned_abs());
    let part = Part { top: row, left: column, height: place.height, width: place.width };
    copy_part(image.pixels(), image.width() * image.channels(), image.channels(), part, pixels);
}

/// Copies a part out of rows, each `stride` bytes behind the one before.
fn copy_part(from: &[u8], stride: usize, channels: usize, part: Part, to: &mut [u8]) {
    let row_bytes = part.width * channels;
    let rows = from.chunks(stride.max(1)).skip(part.top);
    for (to, from) in to.chunks_exact_mut(row_bytes.max(1)).zip(rows) {
        to.copy_from_slice(&from[part.left * channels..][..row_bytes]);
    }
}

impl Scaling {
    /// The part of an image of `height` x `width` pixels that the window is made of.
    pub(super) fn needed(&self, height: usize, width: usize) -> Part {
        let (rows, columns) = self.axes(height, width);
        let (rows, columns) = (rows.source, columns.source);
        Part { top: rows.start, left: columns.start, height: rows.len(), width: columns.len() }
    }

    /// What is computed of rows and of columns.
    fn axes(&self, height: usize, width: usize) -> (Axis, Axis) {
        let Part { top, left, .. } = self.window;
        let rows = top..top + self.window.height;
        let columns = left..left + self.window.width;
        let axis = |from, to, wanted| Axis::new(self.interpolation, from, to, wanted);
        (axis(height, self.height, rows), axis(width, self.width, columns))
    }

    /// Writes the window, of the image at `place`.
    pub(super) fn write(&self, image: &Image, place: Place, pixels: &mut [u8]) -> Result<(), TransformError> {
        let (rows, columns) = self.axes(place.height, place.width);
        let written = match self.interpolation {
            Interpolation::Nearest => self.nearest(image, place, pixels),
            Interpolation::Bilinear | Interpolation::Bicubic => convolve(image, place, &rows, &columns, pixels),
        };
        written.map_err(|source| failed((place.height, place.width), (self.height, self.width), source))
    }

    /// Takes the pixel at the upper left of every place, as PyTorch's `interpolate(mode="nearest")`.
    fn nearest(&self, image: &Image, place: Place, pixels: &mut [u8]) -> Result<(), Failure> {
        let channels = image.channels();
        let columns = nearest_places(place.width, self.width).skip(self.window.left).take(self.window.width);
        let columns = columns.map(|column| Ok(place.column.saturating_add_unsigned(column).try_into()?));
        let columns = columns.collect::<Result<Vec<usize>, Failure>>()?;
        let rows = nearest_places(place.height, self.height).skip(self.window.top);
        for (target, row) in pixels.chunks_exact_mut((self.window.width * channels).max(1)).zip(rows) {
            let row: usize = place.row.saturating_add_unsigned(row).try_into()?;
            let source = &image.pixels()[row * image.width() * channels..][..image.width() * channels];
            for (pixel, column) in target.chunks_exact_mut(channels).zip(&columns) {
                pixel.copy_from_slice(&source[column * channels..][..channels]);
            }
        }
        Ok(())
    }
}

/// Weighs the pixels around every place, where a side changes: first across, then down, as Pillow does. A byte between the
/// two is cut to 0 to 255, so that the order tells.
fn convolve(image: &Image, place: Place, rows: &Axis, columns: &Axis, pixels: &mut [u8]) -> Result<(), Failure> {
    let channels = image.channels();
    if !(1..=4).contains(&channels) {
        return Err(TransformError::Channels { channels, expected: "1 to 4" }.into());
    }
    if pixels.is_empty() {
        return Ok(());
    }
    let row: usize = place.row.saturating_add_unsigned(rows.source.start).try_into()?;
    let column: usize = place.column.saturating_add_unsigned(columns.source.start).try_into()?;
    let stride = image.width() * channels;
    let bytes = &image.pixels()[row * stride + column * channels..];
    let mut source = Rows { bytes, stride, count: rows.source.len(), channels };
    let mut weights = WEIGHTS.take();
    let between = columns.is_scaled().then(|| {
        weights.fill(columns);
        across(source, &weights)
    });
    if let Some((bytes, stride)) = &between {
        source = Rows { bytes, stride: *stride, ..source };
    }
    if rows.is_scaled() {
        weights.fill(rows);
        down(source, &weights, columns.wanted.len() * channels, pixels);
    } else {
        let part = Part::whole(rows.wanted.len(), columns.wanted.len());
        copy_part(source.bytes, source.stride, channels, part, pixels);
    }
    WEIGHTS.set(weights);
    between.into_iter().for_each(|(bytes, _)| scratch::give(bytes));
    Ok(())
}

fn failed(from: (usize, usize), to: (usize, usize), source: Failure) -> TransformError {
    TransformError::caused_by(format!("resize {} x {} pixels to {} x {}", from.0, from.1, to.0, to.1), source)
}

#[cfg(test)]
mod tests {
    use fast_image_resize::images::{Image as Target, ImageRef};
    use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

    use super::super::View;
    use super::*;
    use crate::random::Rng;

    fn noise(height: usize, width: usize, channels: usize, rng: &mut Rng) -> Image {
        let bytes = (0..height * width * channels).map(|_| u8::try_from(rng.below(256)).unwrap()).collect();
        Image::new(height, width, channels, bytes).unwrap()
    }

    #[test]
    fn a_part_of_a_scaled_image_is_that_part_of_the_whole() {
        let seed = 7;
        let mut rng = Rng::new(seed, 0, 0, 0, 0);
        let mut below = |least: u64, most: u64| usize::try_from(least + rng.below(most - least + 1)).unwrap();
        let mut parts_alone = 0;
        for round in 0..300 {
            let interpolation = [Interpolation::Nearest, Interpolation::Bilinear, Interpolation::Bicubic][round % 3];
            let (height, width, channels) = (below(1, 130), below(1, 130), below(1, 4));
            // Every other a photo that becomes smaller, in one ratio.
            let (to_height, to_width) = match round % 2 {
                0 => (below(1, 150), below(1, 150)),
                _ => (height.div_ceil(2), width * height.div_ceil(2) / height + 1),
            };
            let (window_height, window_width) = (below(1, to_height as u64), below(1, to_width as u64));
            let window = Part {
                top: below(0, (to_height - window_height) as u64),
                left: below(0, (to_width - window_width) as u64),
                height: window_height,
                width: window_width,
            };
            let image = noise(height, width, channels, &mut Rng::new(seed, round as u64, 0, 0, 0));
            let mut whole = image.clone();
            scale(&mut whole, to_height, to_width, interpolation).unwrap();
            let mut right = View::whole(to_height, to_width, channels);
            right.crop(window);
            let right = right.image(whole, Part::whole(to_height, to_width)).unwrap();

            let mut view = View::whole(height, width, channels);
            view.scale(to_height, to_width, interpolation).unwrap();
            view.crop(window);
            let needed = view.needed();
            parts_alone += usize::from(needed != Part::whole(height, width));
            // Only what is needed is at hand.
            let mut at_hand = View::whole(height, width, channels);
            at_hand.crop(needed);
            let at_hand = at_hand.image(image, Part::whole(height, width)).unwrap();
            let found = view.image(at_hand, needed).unwrap();
            assert!(
                found == right,
                "seed {seed}, round {round}: {window:?} of {height} x {width} to {to_height} x {to_width}"
            );
        }
        assert!(parts_alone > 150, "{parts_alone}");
    }

    /// First across, then down.
    fn by_fast_image_resize(image: &Image, height: usize, width: usize, filter: FilterType) -> Vec<u8> {
        let size = |side: usize| u32::try_from(side).unwrap();
        let [from_height, from_width, channels] = image.shape();
        let kind = [PixelType::U8, PixelType::U8x2, PixelType::U8x3, PixelType::U8x4][channels - 1];
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false);
        let mut resizer = Resizer::new();
        let source = ImageRef::new(size(from_width), size(from_height), image.pixels(), kind).unwrap();
        let mut between = Target::new(size(width), size(from_height), kind);
        resizer.resize(&source, &mut between, &options).unwrap();
        let mut scaled = Target::new(size(width), size(height), kind);
        resizer.resize(&between, &mut scaled, &options).unwrap();
        scaled.into_vec()
    }

    #[test]
    fn bytes_are_those_of_fast_image_resize() {
        let seed = 11;
        let mut rng = Rng::new(seed, 0, 0, 0, 0);
        let mut below = |least: u64, most: u64| usize::try_from(least + rng.below(most - least + 1)).unwrap();
        let check = |height, width, channels, to_height, to_width, what: &str| {
            let image = noise(height, width, channels, &mut Rng::new(seed, 1, 0, 0, 0));
            for (interpolation, filter) in
                [(Interpolation::Bilinear, FilterType::Bilinear), (Interpolation::Bicubic, FilterType::CatmullRom)]
            {
                let right = by_fast_image_resize(&image, to_height, to_width, filter);
                let mut found = image.clone();
                scale(&mut found, to_height, to_width, interpolation).unwrap();
                assert!(
                    found.pixels() == right,
                    "{what}: {height} x {width} x {channels} to {to_height} x {to_width}, {interpolation:?}"
                );
            }
        };
        for round in 0..400 {
            let (height, width, channels) = (below(1, 90), below(1, 90), 1 + round % 4);
            check(height, width, channels, below(1, 100), below(1, 100), &format!("seed {seed}, round {round}"));
        }
        // Many pixels in one, and photos.
        check(7, 700, 3, 5, 20, "wide");
        check(333, 500, 3, 224, 336, "a photo");
        check(500, 375, 1, 96, 72, "a gray photo");
    }
}
