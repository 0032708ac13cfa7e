//! Which part of an image is wanted, and at which size: what crops, resizes and flips come to before a pixel is decoded.

mod convolve;
pub(crate) mod scale;
mod weights;

pub use self::scale::Interpolation;
use self::scale::Scaling;
use crate::random::Rng;
use crate::sample::{Image, ValueError};
use crate::scratch;
use crate::transform::TransformError;

/// A rectangle of an image, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    /// Its first row.
    pub top: usize,
    /// Its first column.
    pub left: usize,
    /// Its rows.
    pub height: usize,
    /// Its columns.
    pub width: usize,
}

impl Part {
    /// All of an image.
    pub fn whole(height: usize, width: usize) -> Self {
        Self { top: 0, left: 0, height, width }
    }

    /// Whether it has no pixels.
    pub fn is_empty(&self) -> bool {
        self.height == 0 || self.width == 0
    }

    /// A rectangle of this one as one of the image.
    #[must_use]
    pub fn part(&self, inner: Self) -> Self {
        Self { top: self.top + inner.top, left: self.left + inner.left, ..inner }
    }
}

/// What a transform does that moves pixels and looks at none: it can be done to a [`View`] before the image is decoded.
pub trait Geometry {
    /// How it moves them.
    fn kind(&self) -> Kind;

    /// Does to a view what [`Transform::apply`](crate::transform::Transform::apply) does to an image, with the same draws.
    ///
    /// # Errors
    /// [`TransformError`], as there.
    fn look(&self, view: &mut View, rng: &mut Rng) -> Result<(), TransformError>;
}

/// How pixels are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Some are left out.
    Crop,
    /// They are scaled, whatever is cut away before.
    Scale,
    /// They change sides.
    Flip,
}

/// How many of the first transforms a view can take over, of which `None` stands for one that looks at pixels.
///
/// There is one scaling, and no flip before it: a flipped image is not always scaled to the flipped pixels.
pub(crate) fn takes_over(kinds: impl Iterator<Item = Option<Kind>>) -> usize {
    let (mut is_scaled, mut is_flipped) = (false, false);
    let taken = kinds.take_while(|kind| match kind {
        None => false,
        Some(Kind::Crop) => true,
        Some(Kind::Scale) => !is_flipped && !std::mem::replace(&mut is_scaled, true),
        Some(Kind::Flip) => {
            is_flipped = true;
            true
        }
    });
    taken.count()
}

/// What is wanted of an image: a part of it, scaled, of that a part, flipped.
#[derive(Clone, Debug)]
pub struct View {
    /// The part of the image.
    part: Part,
    channels: usize,
    scaling: Option<Scaling>,
    /// Whether left and right change sides.
    is_mirrored: bool,
    /// Whether top and bottom do.
    is_upended: bool,
}

impl View {
    /// All of an image.
    pub(crate) fn whole(height: usize, width: usize, channels: usize) -> Self {
        let part = Part::whole(height, width);
        Self { part, channels, scaling: None, is_mirrored: false, is_upended: false }
    }

    /// Its rows.
    pub fn height(&self) -> usize {
        self.scaling.as_ref().map_or(self.part.height, |scaling| scaling.window.height)
    }

    /// Its columns.
    pub fn width(&self) -> usize {
        self.scaling.as_ref().map_or(self.part.width, |scaling| scaling.window.width)
    }

    /// `[height, width, channels]`.
    pub(crate) fn shape(&self) -> [usize; 3] {
        [self.height(), self.width(), self.channels]
    }

    /// Leaves a rectangle of it, which lies in it.
    pub fn crop(&mut self, inner: Part) {
        let top = if self.is_upended { self.height() - inner.top - inner.height } else { inner.top };
        let left = if self.is_mirrored { self.width() - inner.left - inner.width } else { inner.left };
        let of = self.scaling.as_mut().map_or(&mut self.part, |scaling| &mut scaling.window);
        *of = of.part(Part { top, left, ..inner });
    }

    /// Scales it, which is not scaled or flipped yet.
    ///
    /// # Errors
    /// [`TransformError`]: there would be too many pixels.
    pub fn scale(&mut self, height: usize, width: usize, interpolation: Interpolation) -> Result<(), TransformError> {
        scale::check(self.shape(), height, width)?;
        if (height, width) != (self.part.height, self.part.width) {
            self.scaling = Some(Scaling { height, width, interpolation, window: Part::whole(height, width) });
        }
        Ok(())
    }

    /// Swaps left and right.
    pub fn mirror(&mut self) {
        self.is_mirrored = !self.is_mirrored;
    }

    /// Swaps top and bottom.
    pub fn upend(&mut self) {
        self.is_upended = !self.is_upended;
    }

    /// The part of the image that its pixels are made of.
    pub(crate) fn needed(&self) -> Part {
        match &self.scaling {
            None => self.part,
            Some(scaling) => self.part.part(scaling.needed(self.part.height, self.part.width)),
        }
    }

    /// Writes its pixels, row by row.
    ///
    /// `image` holds the pixels of `at`, in which all that is [`needed`](Self::needed) lies; `pixels` has a byte for each
    /// of its own.
    ///
    /// # Errors
    /// [`TransformError`]: the number of channels cannot be scaled.
    pub(crate) fn write(&self, image: &Image, at: Part, pixels: &mut [u8]) -> Result<(), TransformError> {
        let Some(first) = self.first_of(at) else { return Err(TransformError::new("the part of the image is amiss")) };
        match &self.scaling {
            Some(scaling) => scaling.write(image, first, pixels)?,
            None => scale::copy(image, first, pixels),
        }
        let row_bytes = (self.width() * self.channels).max(1);
        if self.is_mirrored {
            mirror(pixels, row_bytes, self.channels);
        }
        if self.is_upended {
            upend(pixels, row_bytes);
        }
        Ok(())
    }

    /// Its pixels as an image, of one that holds those of `at`.
    ///
    /// # Errors
    /// As [`write`](Self::write) has.
    pub(crate) fn image(&self, image: Image, at: Part) -> Result<Image, TransformError> {
        if self.scaling.is_none() && self.part == at && !self.is_mirrored && !self.is_upended {
            return Ok(image);
        }
        let [height, width, channels] = self.shape();
        let mut pixels = scratch::take(height * width * channels);
        self.write(&image, at, &mut pixels)?;
        scratch::give(image.into_pixels());
        Image::new(height, width, channels, pixels)
            .map_err(|error: ValueError| TransformError::caused_by("put the image together", error))
    }

    /// The part of the image as one of the pixels at hand: it may begin before them, where they are not needed.
    fn first_of(&self, at: Part) -> Option<scale::Place> {
        let row = isize::try_from(self.part.top).ok()? - isize::try_from(at.top).ok()?;
        let column = isize::try_from(self.part.left).ok()? - isize::try_from(at.left).ok()?;
        Some(scale::Place { row, column, height: self.part.height, width: self.part.width })
    }
}

/// Turns every row around, pixel by pixel.
pub(crate) fn mirror(pixels: &mut [u8], row_bytes: usize, channels: usize) {
    let rows = pixels.chunks_exact_mut(row_bytes.max(1));
    match channels {
        1 => rows.for_each(<[u8]>::reverse),
        // Of known length, a pixel moves at once.
        3 => rows.for_each(|row| row.as_chunks_mut::<3>().0.reverse()),
        _ => rows.for_each(|row| {
            // The whole row, then each pixel back into its order.
            row.reverse();
            row.chunks_exact_mut(channels.max(1)).for_each(<[u8]>::reverse);
        }),
    }
}

/// Puts the last row first.
pub(crate) fn upend(pixels: &mut [u8], row_bytes: usize) {
    let row_bytes = row_bytes.max(1);
    // Of an odd number of rows the middle one stays.
    let (upper, lower) = pixels.split_at_mut((pixels.len() / row_bytes).div_ceil(2) * row_bytes);
    let lower = lower.chunks_exact_mut(row_bytes).rev();
    upper.chunks_exact_mut(row_bytes).zip(lower).for_each(|(above, below)| above.swap_with_slice(below));
}
