//! Which pixels of one side of an image the wanted pixels of its scaled side are made of, so that they come out as they
//! do with all the others.
//!
//! `fast_image_resize` rounds its weights to 16 bits, with as many bits behind the point as the largest weight of all
//! pixels leaves room for. Of a part alone the largest may be smaller, or a weight be one off, because places are computed
//! from another origin. Which parts are exact is therefore computed, once for each, and of the few that are not the whole
//! side is scaled.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use super::scale::Interpolation;

/// Parts whose answer a thread remembers.
const KNOWN_MAX: usize = 4096;

thread_local! {
    static KNOWN: RefCell<HashMap<Axis, bool>> = RefCell::default();
}

/// One side of an image that is scaled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Axis {
    interpolation: Interpolation,
    /// Pixels of the side, and of the scaled side.
    from: usize,
    to: usize,
    /// The pixels of the scaled side that are wanted.
    pub(super) wanted: Range<usize>,
    /// Those that are computed.
    pub(super) made: Range<usize>,
    /// The pixels they are computed from.
    pub(super) source: Range<usize>,
}

impl Axis {
    /// What it takes for the `wanted` pixels of a side of `to` that was one of `from`.
    pub(super) fn new(interpolation: Interpolation, from: usize, to: usize, wanted: Range<usize>) -> Self {
        let new = |made: Range<usize>, source| Self { interpolation, from, to, wanted: wanted.clone(), made, source };
        if from == to {
            return new(wanted.clone(), wanted.clone());
        }
        let all = new(0..to, 0..from);
        if wanted == (0..to) || wanted.is_empty() {
            return all;
        }
        let Some(kernel) = Kernel::of(interpolation) else {
            let place = |wanted| nearest_places(from, to).nth(wanted).unwrap_or(0);
            return new(wanted.clone(), place(wanted.start)..place(wanted.end - 1) + 1);
        };
        let part = new(wanted.clone(), kernel.reach(from, to, &wanted));
        let known = KNOWN.with_borrow(|known| known.get(&part).copied());
        let is_exact = known.unwrap_or_else(|| {
            let is_exact = kernel.is_exact(&all, &part);
            KNOWN.with_borrow_mut(|known| {
                if known.len() >= KNOWN_MAX {
                    known.clear();
                }
                known.insert(part.clone(), is_exact);
            });
            is_exact
        });
        if is_exact { part } else { all }
    }

    /// Whether it changes.
    pub(super) fn is_scaled(&self) -> bool {
        self.from != self.to
    }

    /// Where the stretch begins that becomes what is made, and how long it is, in pixels from the first of the source.
    pub(super) fn span(&self) -> (f64, f64) {
        let scale = self.from as f64 / self.to as f64;
        let start = self.made.start as f64 * scale - self.source.start as f64;
        // In its last bit it may be longer than there are pixels.
        (start, (self.made.len() as f64 * scale).min(self.source.len() as f64 - start))
    }
}

/// Which of `from` pixels each of `to` pixels is.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 65535, at least 0")]
pub(super) fn nearest_places(from: usize, to: usize) -> impl Iterator<Item = usize> {
    // In single precision as in PyTorch: which pixel is taken at an exact border hangs on its last bit.
    let scale = from as f32 / to as f32;
    (0..to).map(move |place| ((place as f32 * scale) as usize).min(from - 1))
}

/// How pixels are weighed by their distance.
#[derive(Clone, Copy)]
struct Kernel {
    weight: fn(f64) -> f64,
    /// The distance from which on they are not.
    support: f64,
}

/// The weights of the pixels of a source: for which pixel, of which pixel, how much.
type Weights = Vec<(usize, usize, i32)>;

impl Kernel {
    /// Those of `FilterType::Bilinear` and `CatmullRom`.
    fn of(interpolation: Interpolation) -> Option<Self> {
        match interpolation {
            Interpolation::Nearest => None,
            Interpolation::Bilinear => Some(Self { weight: |x| (1.0 - x.abs()).max(0.0), support: 1.0 }),
            Interpolation::Bicubic => Some(Self { weight: catmull_rom, support: 2.0 }),
        }
    }

    /// The pixels that weigh in `wanted`, and one more at each end.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast of a float saturates")]
    fn reach(&self, from: usize, to: usize, wanted: &Range<usize>) -> Range<usize> {
        let scale = from as f64 / to as f64;
        let radius = self.support * scale.max(1.0) + 1.0;
        let first = ((wanted.start as f64 + 0.5) * scale - radius).floor();
        let end = ((wanted.end as f64 - 0.5) * scale + radius).ceil();
        first as usize..(end as usize).min(from)
    }

    /// Whether a part comes out as it does in the whole.
    fn is_exact(&self, all: &Axis, part: &Axis) -> bool {
        let (all_precision, all) = self.weights(all);
        let (precision, weights) = self.weights(part);
        precision == all_precision && weights.iter().eq(all.iter().filter(|(to, ..)| part.made.contains(to)))
    }

    /// The precision, and all weights that are not 0.
    ///
    /// Source: `precompute_coefficients` and `Normalizer16` of fast_image_resize 6.1.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as there")]
    fn weights(&self, axis: &Axis) -> (u32, Weights) {
        let (start, extent) = axis.span();
        let (made, source) = (axis.made.len(), axis.source.len());
        let scale = ((start + extent) - start) / made as f64;
        let widened = scale.max(1.0);
        let (radius, narrow) = (self.support * widened, 1.0 / widened);
        let mut weights = Vec::new();
        for to in 0..made {
            let center = start + (to as f64 + 0.5) * scale;
            let first = (center - radius).floor().max(0.0) as usize;
            let end = (center + radius).ceil().min(source as f64) as usize;
            let of = |from: usize| (self.weight)((from as f64 - (center - 0.5)) * narrow);
            let sum: f64 = (first..end).map(of).sum();
            weights.extend((first..end).map(|from| (to, from, of(from) / if sum == 0.0 { 1.0 } else { sum })));
        }
        let largest = weights.iter().map(|(.., weight)| *weight).fold(0.0, f64::max);
        let fits = |precision: &u32| (largest * f64::from(1_u32 << (precision + 1))).round() < f64::from(1 << 15);
        let precision = (0..21).find(|precision| !fits(precision)).unwrap_or(21);
        let unit = f64::from(1_u32 << precision);
        let rounded = weights
            .into_iter()
            .map(|(to, from, weight)| (to + axis.made.start, from + axis.source.start, (weight * unit).round() as i32));
        (precision, rounded.filter(|(.., weight)| *weight != 0).collect())
    }
}

/// Source: `catmul_filter` of fast_image_resize.
fn catmull_rom(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::scale::scale;
    use super::super::{Part, View};
    use super::*;
    use crate::random::Rng;
    use crate::sample::Image;

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
            let (height, width, channels) = (below(1, 130), below(1, 130), [1, 3, 4][below(0, 2)]);
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

    #[test]
    fn photos_are_scaled_in_part() {
        // Sides of ImageNet's and of phones' photos, to 256 of which 224 are cut out of the middle.
        let sides = [500, 375, 333, 334, 640, 480, 400, 300, 4032, 3024, 1024, 768, 1600, 1200];
        let mut whole = Vec::new();
        for from in sides {
            for other in sides {
                let to = if from <= other { 256 } else { 256 * from / other };
                let start = (to - 224) / 2;
                let axis = Axis::new(Interpolation::Bilinear, from, to, start..start + 224);
                if axis.made.len() != 224 {
                    whole.push((from, to));
                }
            }
        }
        // Reduced to a fourth, the pixels at the border weigh a fourth, and none in the middle as much: they have a bit less.
        whole.retain(|(from, to)| *from != 4 * *to);
        assert_eq!(whole, []);
        let fourth = |wanted| Axis::new(Interpolation::Bilinear, 1024, 256, wanted).made;
        assert_eq!([fourth(16..240), fourth(0..240)], [0..256, 0..240]);
    }
}
