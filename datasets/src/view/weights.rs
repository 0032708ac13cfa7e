//! How much each pixel of one side of an image weighs in those of its scaled side.

use std::ops::Range;

use super::Interpolation;

/// One side of an image that is scaled.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    interpolation: Interpolation,
    /// Pixels of the side, and of the scaled side.
    from: usize,
    to: usize,
    /// The pixels of the scaled side that are wanted.
    pub(super) wanted: Range<usize>,
    /// The pixels they are made of.
    pub(super) source: Range<usize>,
}

impl Axis {
    /// What it takes for the `wanted` pixels of a side of `to` that was one of `from`.
    pub(super) fn new(interpolation: Interpolation, from: usize, to: usize, wanted: Range<usize>) -> Self {
        let mut axis = Self { interpolation, from, to, wanted: wanted.clone(), source: wanted.clone() };
        if from == to || wanted.is_empty() {
            return axis;
        }
        axis.source = if interpolation == Interpolation::Nearest {
            let place = |wanted| nearest_places(from, to).nth(wanted).unwrap_or(0);
            place(wanted.start)..place(wanted.end - 1) + 1
        } else {
            axis.reach(wanted.start).start..axis.reach(wanted.end - 1).end
        };
        axis
    }

    /// The pixels that weigh in pixel `to`. They are more as the image shrinks: this is the antialiasing.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast of a float saturates")]
    fn reach(&self, to: usize) -> Range<usize> {
        let support = if self.interpolation == Interpolation::Bicubic { 2.0 } else { 1.0 };
        let scale = self.from as f64 / self.to as f64;
        let middle = (to as f64 + 0.5) * scale;
        let radius = support * scale.max(1.0);
        (middle - radius).floor() as usize..((middle + radius).ceil() as usize).min(self.from)
    }

    /// Whether it changes.
    pub(super) fn is_scaled(&self) -> bool {
        self.from != self.to
    }
}

/// Which of `from` pixels each of `to` pixels is.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 65535, at least 0")]
pub(super) fn nearest_places(from: usize, to: usize) -> impl Iterator<Item = usize> {
    // In single precision as in PyTorch: which pixel is taken at an exact border hangs on its last bit.
    let scale = from as f32 / to as f32;
    (0..to).map(move |place| ((place as f32 * scale) as usize).min(from - 1))
}

/// The weights of the pixels of an [`Axis`]' source: as many for each of its wanted pixels, an even number.
///
/// They are whole numbers of 16 bits, with as many bits behind the point as the largest of the whole side leaves room for:
/// a part of it comes out as it does in the whole. Its lists are used again.
#[derive(Debug, Default)]
pub(super) struct Weights {
    /// The bits behind the point.
    pub(super) precision: u32,
    /// How many each pixel has: its last ones may be 0, of pixels behind the source.
    pub(super) taps: usize,
    /// The first pixel of the source that each weighs.
    pub(super) first: Vec<usize>,
    pub(super) values: Vec<i16>,
    /// Before they are rounded, of all pixels of the side.
    exact: Vec<f64>,
    /// Where those of a wanted pixel begin and end there.
    spans: Vec<(usize, usize)>,
}

impl Weights {
    /// Those of a side that is scaled, not to the nearest.
    ///
    /// Source: `precompute_coefficients` and `Normalizer16` of `fast_image_resize` 6.1, after Pillow's `Resample.c`.
    pub(super) fn fill(&mut self, axis: &Axis) {
        match axis.interpolation {
            Interpolation::Nearest => {}
            Interpolation::Bilinear => self.fill_by(axis, bilinear),
            Interpolation::Bicubic => self.fill_by(axis, catmull_rom),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "it fits by the choice of the precision")]
    fn fill_by(&mut self, axis: &Axis, kernel: impl Fn(f64) -> f64) {
        let Self { precision, taps, first, values, exact, spans } = self;
        exact.clear();
        spans.clear();
        first.clear();
        values.clear();
        let scale = axis.from as f64 / axis.to as f64;
        let narrow = 1.0 / scale.max(1.0);
        let mut largest = 0.0_f64;
        for to in 0..axis.to {
            let begin = exact.len();
            let middle = (to as f64 + 0.5) * scale - 0.5;
            let reach = axis.reach(to);
            exact.extend(reach.clone().map(|from| kernel((from as f64 - middle) * narrow)));
            let sum: f64 = exact[begin..].iter().sum();
            let sum = if sum == 0.0 { 1.0 } else { sum };
            for weight in &mut exact[begin..] {
                *weight /= sum;
                largest = largest.max(*weight);
            }
            if axis.wanted.contains(&to) {
                first.push(reach.start);
                spans.push((begin, exact.len()));
            }
        }
        let fits = |precision: &u32| (largest * f64::from(1_u32 << (precision + 1))).round() < f64::from(1 << 15);
        *precision = (0..21).find(|precision| !fits(precision)).unwrap_or(21);
        let unit = f64::from(1_u32 << *precision);
        let rounded = |weight: f64| (weight * unit).round() as i16;
        // At its ends there may be some that come to nothing.
        for ((begin, end), first) in spans.iter_mut().zip(&mut *first) {
            while begin < end && rounded(exact[*begin]) == 0 {
                *begin += 1;
                *first += 1;
            }
            while begin < end && rounded(exact[*end - 1]) == 0 {
                *end -= 1;
            }
            *first -= axis.source.start;
        }
        *taps = spans.iter().map(|(begin, end)| end - begin).max().unwrap_or(0).max(2).next_multiple_of(2);
        for (place, &(begin, end)) in spans.iter().enumerate() {
            values.extend(exact[begin..end].iter().map(|&weight| rounded(weight)));
            values.resize((place + 1) * *taps, 0);
        }
    }

    /// The first pixel of each, and its weights.
    pub(super) fn pixels(&self) -> impl Iterator<Item = (usize, &[i16])> {
        self.first.iter().copied().zip(self.values.chunks_exact(self.taps))
    }
}

/// How a pixel weighs by its distance: of `FilterType::Bilinear`.
fn bilinear(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

/// How a pixel weighs by its distance: of `FilterType::CatmullRom`.
///
/// Source: `catmul_filter` of `fast_image_resize`.
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
