//! One rectangle cut out of an image that may be padded: what crops and pads have in common.

use toml::Value;

use super::arguments::SIDE_MAX;
use super::pixels::{buffer, replace};
use crate::options::Options;
use crate::sample::Image;
use crate::spec::SpecError;
use crate::transform::TransformError;
use crate::view::Part;

/// Pixels to add at each border.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Padding {
    pub(super) left: usize,
    pub(super) top: usize,
    pub(super) right: usize,
    pub(super) bottom: usize,
}

impl Padding {
    /// Reads the option `padding`: one number for all borders, `[left and right, top and bottom]`, or
    /// `[left, top, right, bottom]`.
    pub(super) fn from_options(options: &mut Options) -> Result<Option<Self>, SpecError> {
        let Some(value) = options.value("padding") else { return Ok(None) };
        let pixels = |value: &Value| {
            let pixels = value.as_integer().and_then(|pixels| usize::try_from(pixels).ok());
            pixels.filter(|&pixels| pixels <= SIDE_MAX)
        };
        let sides = match &value {
            Value::Array(items) => items.iter().map(pixels).collect::<Option<Vec<_>>>(),
            one => pixels(one).map(|pixels| vec![pixels]),
        };
        let [left, top, right, bottom] = match sides.as_deref() {
            Some(&[all]) => [all; 4],
            Some(&[across, down]) => [across, down, across, down],
            Some(&[left, top, right, bottom]) => [left, top, right, bottom],
            _ => {
                let forms = "[left and right, top and bottom] or [left, top, right, bottom]";
                let expected = format!("an integer from 0 to {SIDE_MAX}, {forms}");
                return Err(options.error("padding", format_args!("is {value}, not {expected}")));
            }
        };
        Ok(Some(Self { left, top, right, bottom }))
    }
}

/// What the padding is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum PaddingMode {
    /// One pixel again and again.
    #[default]
    Constant,
    /// The outermost pixel.
    Edge,
    /// The image mirrored at its outermost pixel.
    Reflect,
    /// The image mirrored at its border.
    Symmetric,
}

impl PaddingMode {
    const NAMES: [(&'static str, Self); 4] = [
        ("constant", Self::Constant),
        ("edge", Self::Edge),
        ("reflect", Self::Reflect),
        ("symmetric", Self::Symmetric),
    ];

    /// Reads the option `padding_mode`.
    pub(super) fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        Ok(options.optional_one_of("padding_mode", &Self::NAMES)?.unwrap_or_default())
    }

    /// Where the pixel is from that stands at `place` behind `before` pixels of padding; nowhere if it is constant.
    ///
    /// The padding is no longer than [`reach`](Self::reach).
    pub(super) fn origin(self, place: usize, before: usize, side: usize) -> Option<usize> {
        if place < before {
            let beyond = before - place;
            match self {
                Self::Constant => None,
                Self::Edge => Some(0),
                Self::Reflect => Some(beyond),
                Self::Symmetric => Some(beyond - 1),
            }
        } else if place - before < side {
            Some(place - before)
        } else {
            let beyond = place - before - side + 1;
            match self {
                Self::Constant => None,
                Self::Edge => Some(side - 1),
                Self::Reflect => Some(side - 1 - beyond),
                Self::Symmetric => Some(side - beyond),
            }
        }
    }

    /// How many pixels can be padded to a side.
    fn reach(self, side: usize) -> usize {
        match self {
            Self::Constant => usize::MAX,
            Self::Edge if side > 0 => usize::MAX,
            Self::Edge => 0,
            Self::Reflect => side.saturating_sub(1),
            Self::Symmetric => side,
        }
    }
}

/// A rectangle of a padded image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) padding: Padding,
    pub(super) mode: PaddingMode,
    /// Its first row, counted from that of the padding.
    pub(super) top: usize,
    /// Its first column, counted from that of the padding.
    pub(super) left: usize,
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Window {
    /// A rectangle within the image itself.
    pub(super) fn inside(top: usize, left: usize, height: usize, width: usize) -> Self {
        Self { padding: Padding::default(), mode: PaddingMode::Constant, top, left, height, width }
    }

    /// The same rectangle, where it lies within the image itself.
    pub(super) fn part(&self) -> Part {
        let Self { top, left, height, width, .. } = *self;
        Part { top, left, height, width }
    }

    /// All of an image of `height` x `width` pixels with padding.
    pub(super) fn padded(height: usize, width: usize, padding: Padding) -> Self {
        let (height, width) = (height + padding.top + padding.bottom, width + padding.left + padding.right);
        Self { padding, mode: PaddingMode::Constant, top: 0, left: 0, height, width }
    }
}

/// Leaves of the image what is in the window, with `outside` in the pixels of a constant padding.
///
/// The window lies within the padded image, `outside` has a byte for each channel.
pub(super) fn cut(image: &mut Image, window: &Window, outside: &[u8]) -> Result<(), TransformError> {
    if window.padding == Padding::default() { crop(image, window) } else { crop_padded(image, window, outside) }
}

/// Rows move towards the front of the buffer, so that none is overwritten before it has moved.
fn crop(image: &mut Image, window: &Window) -> Result<(), TransformError> {
    let [height, width, channels] = image.shape();
    if (window.height, window.width) == (height, width) {
        return Ok(());
    }
    // An empty image takes the place of the old one while its pixels move.
    let mut pixels = std::mem::take(image).into_pixels();
    let row_bytes = window.width * channels;
    for row in 0..window.height {
        let from = ((window.top + row) * width + window.left) * channels;
        pixels.copy_within(from..from + row_bytes, row * row_bytes);
    }
    pixels.truncate(window.height * row_bytes);
    *image = Image::new(window.height, window.width, channels, pixels)
        .map_err(|error| TransformError::caused_by("crop", error))?;
    Ok(())
}

fn crop_padded(image: &mut Image, window: &Window, outside: &[u8]) -> Result<(), TransformError> {
    let [height, width, channels] = image.shape();
    let Window { padding, mode, .. } = *window;
    for (pad, side) in [(padding.left.max(padding.right), width), (padding.top.max(padding.bottom), height)] {
        if pad > mode.reach(side) {
            let reason = format!("the image has {side} pixels at a side to be padded by {pad}, too few to mirror");
            return Err(TransformError::new(format!("{reason}; pad less, or by `padding_mode` \"edge\"")));
        }
    }
    let mut pixels = buffer(window.height, window.width, channels)?;
    let origins: Vec<_> =
        (window.left..window.left + window.width).map(|column| mode.origin(column, padding.left, width)).collect();
    // The columns that lie within the image: a stretch that is copied whole.
    let first = padding.left.saturating_sub(window.left).min(window.width);
    let end = (padding.left + width).saturating_sub(window.left).clamp(first, window.width);
    let start = origins.get(first).copied().flatten().unwrap_or(0) * channels;
    for (place, target) in pixels.chunks_exact_mut((window.width * channels).max(1)).enumerate() {
        let Some(row) = mode.origin(window.top + place, padding.top, height) else {
            target.chunks_exact_mut(channels).for_each(|pixel| pixel.copy_from_slice(outside));
            continue;
        };
        let source = &image.pixels()[row * width * channels..][..width * channels];
        let inner = first * channels..end * channels;
        target[inner.clone()].copy_from_slice(&source[start..start + inner.len()]);
        for (column, origin) in origins[..first].iter().enumerate().chain(origins.iter().enumerate().skip(end)) {
            let pixel = &mut target[column * channels..][..channels];
            pixel.copy_from_slice(origin.map_or(outside, |origin| &source[origin * channels..][..channels]));
        }
    }
    replace(image, window.height, window.width, channels, pixels)
}
