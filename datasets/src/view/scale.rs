//! Scales images, with antialiasing: all of one, or a part of what comes out, with the bytes that it has in the whole.

use std::cell::RefCell;
use std::error::Error;

use fast_image_resize::images::{CroppedImage, Image as Target, ImageRef};
use fast_image_resize::{FilterType, IntoImageView, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::Part;
use super::exact::{Axis, nearest_places};
use crate::sample::Image;
use crate::scratch;
use crate::transform::TransformError;
use crate::transforms::pixels::{buffer, check_size, replace};

thread_local! {
    /// Its buffers are used again.
    static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
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
    copy_part(image.pixels(), image.width(), image.channels(), part, pixels);
}

/// Copies a part out of rows of `width` pixels.
fn copy_part(from: &[u8], width: usize, channels: usize, part: Part, to: &mut [u8]) {
    let row_bytes = part.width * channels;
    let rows = from.chunks_exact((width * channels).max(1)).skip(part.top);
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
            // First across, then down: a byte between the two is cut to 0 to 255, so that the order tells.
            Interpolation::Bilinear => convolve(image, place, &rows, &columns, FilterType::Bilinear, pixels),
            Interpolation::Bicubic => convolve(image, place, &rows, &columns, FilterType::CatmullRom, pixels),
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

/// Weighs the pixels around every place, where a side changes. The filter widens as the image shrinks: this is the
/// antialiasing.
fn convolve(
    image: &Image,
    place: Place,
    rows: &Axis,
    columns: &Axis,
    filter: FilterType,
    pixels: &mut [u8],
) -> Result<(), Failure> {
    let channels = image.channels();
    let kind = match channels {
        1 => PixelType::U8,
        2 => PixelType::U8x2,
        3 => PixelType::U8x3,
        4 => PixelType::U8x4,
        channels => return Err(TransformError::Channels { channels, expected: "1 to 4" }.into()),
    };
    let all = ImageRef::new(image.width().try_into()?, image.height().try_into()?, image.pixels(), kind)?;
    let source = CroppedImage::new(
        &all,
        place.column.saturating_add_unsigned(columns.source.start).try_into()?,
        place.row.saturating_add_unsigned(rows.source.start).try_into()?,
        columns.source.len().try_into()?,
        rows.source.len().try_into()?,
    )?;
    // What is made may be more than what is wanted, of which the rest is then thrown away.
    let (height, width) = (rows.made.len(), columns.made.len());
    let mut more = (pixels.len() != height * width * channels).then(|| scratch::take(height * width * channels));
    let target = more.as_deref_mut().unwrap_or(&mut *pixels);
    if columns.is_scaled() && rows.is_scaled() {
        let between_rows = rows.source.len();
        let mut between = scratch::take(between_rows * width * channels);
        pass(&source, columns, None, filter, kind, (between_rows, width), &mut between)?;
        let scaled_across = ImageRef::new(width.try_into()?, between_rows.try_into()?, &between, kind)?;
        pass(&scaled_across, columns, Some(rows), filter, kind, (height, width), target)?;
        scratch::give(between);
    } else if columns.is_scaled() {
        pass(&source, columns, None, filter, kind, (height, width), target)?;
    } else {
        pass(&source, columns, Some(rows), filter, kind, (height, width), target)?;
    }
    if let Some(made) = more {
        let part = Part {
            top: rows.wanted.start - rows.made.start,
            left: columns.wanted.start - columns.made.start,
            height: rows.wanted.len(),
            width: columns.wanted.len(),
        };
        copy_part(&made, width, channels, part, pixels);
        scratch::give(made);
    }
    Ok(())
}

/// Scales the columns, or with `rows` the rows.
fn pass(
    source: &impl IntoImageView,
    columns: &Axis,
    rows: Option<&Axis>,
    filter: FilterType,
    kind: PixelType,
    (height, width): (usize, usize),
    target: &mut [u8],
) -> Result<(), Failure> {
    let mut target = Target::from_slice_u8(width.try_into()?, height.try_into()?, target, kind)?;
    // Channels are independent.
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false);
    let options = match rows {
        None => {
            let (left, extent) = columns.span();
            options.crop(left, 0.0, extent, source.height().into())
        }
        Some(rows) => {
            let (top, extent) = rows.span();
            options.crop(0.0, top, source.width().into(), extent)
        }
    };
    Ok(RESIZER.with_borrow_mut(|resizer| resizer.resize(source, &mut target, &options))?)
}

fn failed(from: (usize, usize), to: (usize, usize), source: Failure) -> TransformError {
    TransformError::caused_by(format!("resize {} x {} pixels to {} x {}", from.0, from.1, to.0, to.1), source)
}
