//! What random transforms draw, against 10,000 draws of torchvision's, by chi-square.
//!
//! A draw is told by a whole number that can be read off the result. Seeds are fixed: a test passes always or never, and
//! a right transform would fail it with p = 0.001.

use std::collections::BTreeMap;

use batchmill_datasets::sample::{Image, Sample};
use batchmill_protocol::position::Position;

use super::{Still, arrays, report};
use crate::support::{Batch, survey};

/// As many as `make.py` draws.
const DRAWS: u64 = 10_000;

/// What a draw is told by, under the names of the histograms in `torch.json`.
type Observed = Vec<(&'static str, i64)>;

/// A random transform, the image that it is drawn on, and what is read off a result.
struct Case {
    transform: &'static str,
    input: Image,
    observe: fn(&Image) -> Observed,
}

fn cases() -> Vec<Case> {
    let plain = |height: usize, width: usize, pixel: [u8; 3]| {
        Image::new(height, width, 3, pixel.repeat(height * width)).unwrap()
    };
    let orange = plain(4, 4, [200, 100, 50]);
    // Half of it dark, half of it bright.
    let halves = || Image::new(4, 4, 3, [[60; 24], [180; 24]].concat()).unwrap();
    let mut point = plain(9, 9, [0; 3]);
    point.pixels_mut()[(4 * 9 + 4) * 3..][..3].fill(255);
    let ramp_of_4 = || ramp(4, 4, 2);
    let square = || ramp(40, 40, 6);
    let case = |transform, input, observe| Case { transform, input, observe };
    vec![
        case(
            "{ kind = 'random-resized-crop', size = 32, scale = [0.08, 1.0], ratio = [0.75, 1.3333333333333333] }",
            ramp(80, 100, 2),
            |image| {
                let (width, height) = (extent(image, 0), extent(image, 1));
                vec![
                    ("random-resized-crop.area", width * height),
                    ("random-resized-crop.aspect", width * 1000 / height),
                ]
            },
        ),
        case("{ kind = 'random-crop', size = 20 }", ramp(30, 40, 2), |image| {
            vec![("random-crop.left", at(image, 0, 0, 0) / 2), ("random-crop.top", at(image, 0, 0, 1) / 2)]
        }),
        case("{ kind = 'horizontal-flip', p = 0.3 }", ramp_of_4(), |image| {
            vec![("random-horizontal-flip", i64::from(at(image, 0, 0, 0) > 0))]
        }),
        case("'vertical-flip'", ramp_of_4(), |image| vec![("random-vertical-flip", i64::from(at(image, 0, 0, 1) > 0))]),
        case("{ kind = 'grayscale', p = 0.2 }", orange.clone(), |image| {
            vec![("random-grayscale", i64::from(at(image, 0, 0, 0) == at(image, 0, 0, 2)))]
        }),
        case("{ kind = 'color-jitter', brightness = 0.4 }", plain(4, 4, [100; 3]), |image| {
            vec![("color-jitter.brightness", at(image, 0, 0, 0))]
        }),
        case("{ kind = 'color-jitter', contrast = 0.4 }", halves(), |image| {
            vec![("color-jitter.contrast", at(image, 0, 0, 0))]
        }),
        case("{ kind = 'color-jitter', saturation = 0.4 }", orange, |image| {
            vec![("color-jitter.saturation", at(image, 0, 0, 0))]
        }),
        case("{ kind = 'color-jitter', hue = 0.1 }", plain(4, 4, [200, 100, 100]), |image| {
            vec![("color-jitter.hue", at(image, 0, 0, 1) - at(image, 0, 0, 2))]
        }),
        // Brightness first clips the bright half, contrast first does not.
        case("{ kind = 'color-jitter', brightness = [2, 2], contrast = [0.5, 0.5] }", halves(), |image| {
            vec![("color-jitter.order", i64::from(at(image, 0, 0, 0) > 165))]
        }),
        case("{ kind = 'rotation', degrees = 30 }", square(), |image| {
            vec![("random-rotation.sine", at(image, 20, 35, 1) - at(image, 20, 5, 1))]
        }),
        case("{ kind = 'affine', degrees = 0, scale = [0.7, 1.3] }", square(), |image| {
            vec![("random-affine.scale", at(image, 20, 35, 0) - at(image, 20, 5, 0))]
        }),
        case("{ kind = 'affine', degrees = 0, translate = [0.2, 0.1] }", square(), |image| {
            vec![
                ("random-affine.translate-x", at(image, 20, 20, 0)),
                ("random-affine.translate-y", at(image, 20, 20, 1)),
            ]
        }),
        case("{ kind = 'affine', degrees = 0, shear = 20 }", square(), |image| {
            vec![("random-affine.shear", at(image, 35, 20, 0) - at(image, 5, 20, 0))]
        }),
        case("{ kind = 'random-erasing', p = 0.8 }", plain(30, 40, [255; 3]), |image| {
            let erased = erased(image);
            vec![
                ("random-erasing.area", erased.rows * erased.columns),
                ("random-erasing.height", erased.rows),
                ("random-erasing.left", erased.left),
                ("random-erasing.top", erased.top),
            ]
        }),
        case("{ kind = 'gaussian-blur', kernel_size = 5, sigma = [0.1, 2.0] }", point, |image| {
            vec![("gaussian-blur.sigma", at(image, 4, 4, 0))]
        }),
    ]
}

#[test]
fn random_transforms_draw_as_torchvisions_do() {
    let histograms = report("statistics");
    let (mut wrong, mut tested) = (Vec::new(), Vec::new());
    for Case { transform, input, observe } in cases() {
        let mut values: BTreeMap<_, Vec<_>> = observe(&input).into_iter().map(|(name, _)| (name, Vec::new())).collect();
        draw(input, transform, |image| {
            for (name, value) in observe(&image) {
                values.get_mut(name).unwrap().push(value);
            }
        });
        for (name, values) in values {
            let edges = numbers(&histograms[name]["edges"]);
            let counted = counts(&edges, &values);
            let found = chi_square_of_two(&counted, &numbers(&histograms[name]["counts"]));
            println!("{name}: {found:?}");
            if found.is_unlikely() {
                wrong.push(format!("{name}: {found:?}, {counted:?} over {edges:?}"));
            }
            tested.push(name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");

    // None of theirs is left out.
    tested.push(TRIVIAL_AUGMENT);
    tested.sort_unstable();
    let mut kept: Vec<_> = histograms.as_object().unwrap().keys().map(String::as_str).collect();
    kept.sort_unstable();
    assert_eq!(tested, kept);
}

const TRIVIAL_AUGMENT: &str = "trivial-augment-wide.operation";

#[test]
fn trivial_augment_wide_draws_every_operation_as_often_as_torchvisions() {
    let kept = &report("statistics")[TRIVIAL_AUGMENT];
    let golden = arrays("transforms.npz");
    let [points, features, operations] =
        ["points", "features", "operations"].map(|part| &golden[&format!("trivial-augment/{part}")]);
    // A few pixels of the result tell which operation made it, and how strongly.
    let candidates: Vec<_> = features.bytes.chunks_exact(features.shape[1]).zip(&operations.bytes).collect();
    let mut known: BTreeMap<Vec<u8>, (i64, u32)> = BTreeMap::new();
    let (mut drawn, mut far) = (Vec::new(), 0);
    draw(golden["trivial-augment/input"].image(), "'trivial-augment-wide'", |image| {
        let pixels = points.bytes.chunks_exact(2).flat_map(|point| {
            let start = (usize::from(point[0]) * image.width() + usize::from(point[1])) * 3;
            image.pixels()[start..start + 3].to_vec()
        });
        let (operation, distance) = *known.entry(pixels.collect()).or_insert_with_key(|pixels| {
            let distance = |feature: &[u8]| -> u32 {
                feature.iter().zip(pixels).map(|(left, right)| u32::from(left.abs_diff(*right))).sum()
            };
            let (feature, operation) = candidates.iter().min_by_key(|(feature, _)| distance(feature)).unwrap();
            (i64::from(**operation), distance(feature))
        });
        drawn.push(operation);
        far += u32::from(distance > 48);
    });
    println!("{} different results; {far} draws are far from all of torchvision's", known.len());
    // Sixteen pixels: a level each for rounding, no more. But torchvision computes strengths in single precision: where
    // 16 columns and a threshold of 204 are meant it has 15.999999 and 204.00003, and shifts by 15 and spares a 204.
    // One draw in 145 is one of these.
    assert!(far < 100, "{far} draws are far from all of torchvision's");
    let counted = counts(&numbers(&kept["edges"]), &drawn);
    let chances: Vec<_> = kept["chances"].as_array().unwrap().iter().map(|chance| chance.as_f64().unwrap()).collect();
    let found = chi_square_of_chances(&counted, &chances);
    assert!(!found.is_unlikely(), "{found:?}: {counted:?}");
    let found = chi_square_of_two(&counted, &numbers(&kept["counts"]));
    assert!(!found.is_unlikely(), "{found:?}: {counted:?}");
}

/// Draws [`DRAWS`] times.
fn draw(input: Image, transform: &str, mut observe: impl FnMut(Image)) {
    let sample = Sample::new().with("image", input);
    let pipeline = (Still { sample, len: DRAWS }).open(transform).unwrap();
    let fields = survey(&pipeline).unwrap();
    let [height, width, channels] = fields[0].shape.0[..] else { panic!("{fields:?}") };
    for step in 0..pipeline.extent().steps() {
        for mut row in Batch::fill(&pipeline, &fields, Position { epoch: 0, step }).unwrap().rows {
            observe(Image::new(height, width, channels, row.swap_remove(0)).unwrap());
        }
    }
}

/// An image that says by its first two channels where each pixel was; the third is white, so that no pixel is black.
fn ramp(height: u8, width: u8, step: u8) -> Image {
    let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| [x * step, y * step, 255]));
    Image::new(height.into(), width.into(), 3, pixels.collect()).unwrap()
}

fn at(image: &Image, y: usize, x: usize, channel: usize) -> i64 {
    image.pixels()[(y * image.width() + x) * image.channels() + channel].into()
}

/// Along an axis of a ramp of step 2 that was scaled to 32 x 32: how many pixels it had, by least squares.
///
/// Four lines tell it. The outermost columns are left out: there antialiasing sees the border.
fn extent(image: &Image, axis: usize) -> i64 {
    let along = |place, line| if axis == 0 { at(image, line, place, 0) } else { at(image, place, line, 1) };
    let slope: i64 = (2..30)
        .map(|place| {
            (2 * i64::try_from(place).unwrap() - 31)
                * [4, 12, 20, 28].map(|line| along(place, line)).iter().sum::<i64>()
        })
        .sum();
    (2 * slope + 913) / 1827
}

/// A black rectangle on white; nothing of nothing if there is none.
#[derive(Debug, Default)]
struct Erased {
    top: i64,
    left: i64,
    rows: i64,
    columns: i64,
}

fn erased(image: &Image) -> Erased {
    let mut pixels = image.pixels().chunks_exact(image.channels());
    let Some(first) = pixels.position(|pixel| pixel[0] == 0) else { return Erased::default() };
    let (top, left) = (first / image.width(), first % image.width());
    let columns = (left..image.width()).take_while(|&x| at(image, top, x, 0) == 0).count();
    let rows = (top..image.height()).take_while(|&y| at(image, y, left, 0) == 0).count();
    let [top, left, rows, columns] = [top, left, rows, columns].map(|pixels| i64::try_from(pixels).unwrap());
    Erased { top, left, rows, columns }
}

fn numbers(list: &serde_json::Value) -> Vec<i64> {
    list.as_array().unwrap().iter().map(|number| number.as_i64().unwrap()).collect()
}

/// How many values are in each bin: from its edge to below the next. The outermost have no end.
fn counts(edges: &[i64], values: &[i64]) -> Vec<i64> {
    let mut counts = vec![0; edges.len()];
    for value in values {
        counts[edges.partition_point(|edge| edge <= value).saturating_sub(1)] += 1;
    }
    counts
}

/// What comes of a chi-square test.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChiSquare {
    statistic: f64,
    /// Degrees of freedom.
    freedom: f64,
}

impl ChiSquare {
    /// Whether p is below 0.001.
    ///
    /// Source: Wilson and Hilferty, "The distribution of chi-square" (1931): its cube root is nearly normal.
    pub(super) fn is_unlikely(self) -> bool {
        let spread = 2.0 / (9.0 * self.freedom);
        ((self.statistic / self.freedom).cbrt() - (1.0 - spread)) / spread.sqrt() > 3.09
    }
}

/// Whether two histograms of equally many draws are of one distribution.
fn chi_square_of_two(left: &[i64], right: &[i64]) -> ChiSquare {
    assert_eq!(left.iter().sum::<i64>(), right.iter().sum::<i64>(), "as many draws");
    let bins = left.iter().zip(right).filter(|(left, right)| *left + *right > 0);
    let terms = bins.map(|(left, right)| ((left - right) as f64).powi(2) / (left + right) as f64);
    let terms: Vec<_> = terms.collect();
    ChiSquare { statistic: terms.iter().sum(), freedom: terms.len() as f64 - 1.0 }
}

/// Whether a histogram is of a known distribution.
pub(super) fn chi_square_of_chances(counts: &[i64], chances: &[f64]) -> ChiSquare {
    let (draws, whole) = (counts.iter().sum::<i64>() as f64, chances.iter().sum::<f64>());
    let mut statistic = 0.0;
    let mut bins = 0.0;
    for (&count, chance) in counts.iter().zip(chances) {
        if *chance == 0.0 {
            assert_eq!(count, 0, "what cannot be was drawn");
            continue;
        }
        let expected = draws * chance / whole;
        statistic += (count as f64 - expected).powi(2) / expected;
        bins += 1.0;
    }
    ChiSquare { statistic, freedom: bins - 1.0 }
}

#[test]
fn chi_square_knows_likely_from_unlikely() {
    // Quantiles of the distribution at p = 0.001: 10.83, 27.88 and 43.82 for 1, 9 and 19 degrees of freedom.
    for (freedom, quantile) in [(1.0, 10.83), (9.0, 27.88), (19.0, 43.82)] {
        let at = |statistic| ChiSquare { statistic, freedom }.is_unlikely();
        assert!(!at(quantile * 0.95) && at(quantile * 1.05), "{freedom}");
    }
    assert!(chi_square_of_chances(&[3000, 7000], &[0.5, 0.5]).is_unlikely());
    assert!(!chi_square_of_chances(&[4950, 5050], &[0.5, 0.5]).is_unlikely());
    assert!(chi_square_of_two(&[3000, 7000], &[3300, 6700]).is_unlikely());
    assert!(!chi_square_of_two(&[3000, 7000], &[3050, 6950]).is_unlikely());
}
