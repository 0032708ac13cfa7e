//! Transforms whose parameters leave nothing to chance, against torchvision's.

use std::collections::{BTreeMap, BTreeSet};

use batchmill_datasets::sample::{Array as Values, Image, Sample, Value};
use batchmill_protocol::position::Position;
use batchmill_protocol::tensor::Dtype;

use super::{Array, Difference, Still, arrays};
use crate::support::{self, Batch, survey};

/// How close a result must be.
#[derive(Clone, Copy, Debug)]
enum Close {
    /// The same bytes.
    Exact,
    /// No byte differs by more than 1, and in the mean by no more than this.
    Rounded(f64),
    /// The largest difference, of numbers around 1.
    Number(f64),
    /// The share of bytes that differ at all, of what is moved and not mixed.
    Moved(f64),
}

use Close::{Exact, Moved, Number, Rounded};

/// The result's name in `transforms.npz`, the transforms that must give it, and how closely.
const CASES: &[(&str, &str, Close)] = &[
    ("resize-shorter-13", "{ kind = 'resize', size = 13 }", Rounded(0.25)),
    ("resize-shorter-31", "{ kind = 'resize', size = 31 }", Rounded(0.25)),
    ("resize-exact-16x17", "{ kind = 'resize', size = [16, 17] }", Rounded(0.25)),
    ("resize-exact-35x13", "{ kind = 'resize', size = [35, 13] }", Rounded(0.25)),
    ("resize-longest-20", "{ kind = 'resize', longest = 20 }", Rounded(0.25)),
    ("resize-shorter-13-nearest", "{ kind = 'resize', size = 13, interpolation = 'nearest' }", Exact),
    ("resize-shorter-13-bicubic", "{ kind = 'resize', size = 13, interpolation = 'bicubic' }", Rounded(0.25)),
    ("center-crop-16", "{ kind = 'center-crop', size = 16 }", Exact),
    ("center-crop-11x27", "{ kind = 'center-crop', size = [11, 27] }", Exact),
    ("random-crop-padded-whole", "{ kind = 'random-crop', size = [32, 40], padding = 4 }", Exact),
    (
        "random-crop-padded-reflect",
        "{ kind = 'random-crop', size = [30, 44], padding = [6, 3], padding_mode = 'reflect' }",
        Exact,
    ),
    (
        "random-resized-crop-whole",
        "{ kind = 'random-resized-crop', size = [16, 24], scale = [1, 1], ratio = [1.3333333333333333, 1.3333333333333333] }",
        Rounded(0.25),
    ),
    ("pad-constant", "{ kind = 'pad', padding = 3, fill = [10, 20, 30] }", Exact),
    ("pad-sides", "{ kind = 'pad', padding = [1, 2, 3, 4], fill = 7 }", Exact),
    ("pad-edge", "{ kind = 'pad', padding = [3, 5], padding_mode = 'edge' }", Exact),
    ("pad-reflect", "{ kind = 'pad', padding = [3, 5], padding_mode = 'reflect' }", Exact),
    ("pad-symmetric", "{ kind = 'pad', padding = [3, 5], padding_mode = 'symmetric' }", Exact),
    ("horizontal-flip", "{ kind = 'horizontal-flip', p = 1 }", Exact),
    ("vertical-flip", "{ kind = 'vertical-flip', p = 1 }", Exact),
    ("rotation-30-nearest", "{ kind = 'rotation', degrees = [30, 30] }", Moved(0.01)),
    ("rotation-30-bilinear", "{ kind = 'rotation', degrees = [30, 30], interpolation = 'bilinear' }", Rounded(0.01)),
    (
        "rotation-30-bilinear-fill",
        "{ kind = 'rotation', degrees = [30, 30], interpolation = 'bilinear', fill = 90 }",
        Rounded(0.01),
    ),
    ("rotation-90", "{ kind = 'rotation', degrees = [90, 90] }", Moved(0.01)),
    ("rotation-25-expand", "{ kind = 'rotation', degrees = [25, 25], expand = true }", Moved(0.01)),
    (
        "rotation-25-expand-bilinear",
        "{ kind = 'rotation', degrees = [25, 25], expand = true, interpolation = 'bilinear' }",
        Rounded(0.01),
    ),
    ("rotation-minus-40-fill", "{ kind = 'rotation', degrees = [-40, -40], fill = [200, 100, 50] }", Moved(0.01)),
    ("affine-scale-1.27", "{ kind = 'affine', degrees = 0, scale = [1.27, 1.27] }", Moved(0.01)),
    (
        "affine-scale-0.7-bilinear",
        "{ kind = 'affine', degrees = 0, scale = [0.7, 0.7], interpolation = 'bilinear' }",
        Rounded(0.01),
    ),
    ("affine-shear-15", "{ kind = 'affine', degrees = 0, shear = [15, 15] }", Moved(0.01)),
    ("affine-shear-both", "{ kind = 'affine', degrees = 0, shear = [10, 10, -8, -8] }", Moved(0.01)),
    (
        "affine-all",
        "{ kind = 'affine', degrees = [20, 20], scale = [0.8, 0.8], shear = [10, 10, 5, 5], fill = 9 }",
        Moved(0.01),
    ),
    (
        "affine-all-bilinear",
        "{ kind = 'affine', degrees = [20, 20], scale = [0.8, 0.8], shear = [10, 10, 5, 5], fill = 9, interpolation = \
         'bilinear' }",
        Rounded(0.01),
    ),
    ("brightness-1.4", "{ kind = 'color-jitter', brightness = [1.4, 1.4] }", Exact),
    ("brightness-0.6", "{ kind = 'color-jitter', brightness = [0.6, 0.6] }", Exact),
    ("contrast-1.4", "{ kind = 'color-jitter', contrast = [1.4, 1.4] }", Exact),
    ("contrast-0.6", "{ kind = 'color-jitter', contrast = [0.6, 0.6] }", Exact),
    ("saturation-1.4", "{ kind = 'color-jitter', saturation = [1.4, 1.4] }", Exact),
    ("saturation-0.6", "{ kind = 'color-jitter', saturation = [0.6, 0.6] }", Exact),
    ("saturation-0", "{ kind = 'color-jitter', saturation = [0, 0] }", Exact),
    ("hue-0.1", "{ kind = 'color-jitter', hue = [0.1, 0.1] }", Exact),
    ("hue-minus-0.2", "{ kind = 'color-jitter', hue = [-0.2, -0.2] }", Exact),
    ("hue-0.5", "{ kind = 'color-jitter', hue = [0.5, 0.5] }", Exact),
    ("grayscale-1", "'grayscale'", Exact),
    ("grayscale-3", "{ kind = 'grayscale', num_output_channels = 3 }", Exact),
    // torchvision cuts luma off, Pillow rounds it, and so does what decodes.
    ("grayscale-pillow", "{ kind = 'color', mode = 'gray' }", Exact),
    ("gaussian-blur-5", "{ kind = 'gaussian-blur', kernel_size = 5, sigma = [1.3, 1.3] }", Rounded(0.01)),
    ("gaussian-blur-3x7", "{ kind = 'gaussian-blur', kernel_size = [3, 7], sigma = [0.5, 0.5] }", Rounded(0.01)),
    ("posterize-3", "{ kind = 'posterize', bits = 3, p = 1 }", Exact),
    ("solarize-128", "{ kind = 'solarize', threshold = 128, p = 1 }", Exact),
    ("autocontrast", "{ kind = 'autocontrast', p = 1 }", Exact),
    ("equalize", "{ kind = 'equalize', p = 1 }", Exact),
    ("equalize-sky", "{ kind = 'equalize', p = 1 }", Exact),
    ("invert", "{ kind = 'invert', p = 1 }", Exact),
    ("sharpness-2", "{ kind = 'sharpness', sharpness_factor = 2.0, p = 1 }", Exact),
    ("sharpness-0.3", "{ kind = 'sharpness', sharpness_factor = 0.3, p = 1 }", Exact),
    ("random-erasing-none", "{ kind = 'random-erasing', p = 0 }", Exact),
    ("five-crop-10x14", "{ kind = 'five-crop', size = [10, 14] }", Exact),
    ("to-f32", "'to-f32'", Number(1e-7)),
    ("to-nchw", "'to-nchw'", Exact),
    ("normalize", "{ kind = 'normalize', mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225] }", Number(1e-6)),
    ("one-hot", "{ kind = 'one-hot', classes = 5 }", Exact),
    ("mask/resize-exact-16x17", "{ kind = 'resize', size = [16, 17] }", Exact),
    ("mask/center-crop-16", "{ kind = 'center-crop', size = 16 }", Exact),
    ("mask/pad-sides", "{ kind = 'pad', padding = [1, 2, 3, 4], fill = 7 }", Exact),
    ("mask/horizontal-flip", "{ kind = 'horizontal-flip', p = 1 }", Exact),
    ("mask/vertical-flip", "{ kind = 'vertical-flip', p = 1 }", Exact),
    ("mask/rotation-30-bilinear", "{ kind = 'rotation', degrees = [30, 30], interpolation = 'bilinear' }", Moved(0.01)),
    (
        "mask/affine-all-bilinear",
        "{ kind = 'affine', degrees = [20, 20], scale = [0.8, 0.8], shear = [10, 10, 5, 5], interpolation = 'bilinear' }",
        Moved(0.01),
    ),
];

/// What of the file is no result.
const INPUTS: &[&str] = &["photo", "mask", "dim", "sky", "small"];

#[test]
fn transforms_give_what_torchvisions_give() {
    let golden = arrays("transforms.npz");
    let mut wrong = Vec::new();
    for &(name, transforms, close) in CASES {
        let right = &golden[name];
        let found = run(&golden, name, transforms);
        assert_eq!((&found.dtype, &found.shape), (&right.dtype, &right.shape), "{name}");
        let difference = Difference::of(&found.numbers(), &right.numbers());
        println!("{name}: {difference:?}");
        let is_close = match close {
            Exact => difference.max == 0.0,
            Rounded(mean) => difference.max <= 1.0 && difference.mean <= mean,
            Number(max) => difference.max <= max,
            Moved(share) => difference.share <= share,
        };
        if !is_close {
            wrong.push(format!("{name}: {difference:?} is not {close:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_result_is_left_out() {
    let golden = arrays("transforms.npz");
    let is_result = |name: &&str| !INPUTS.contains(name) && !name.starts_with("trivial-augment/");
    let results: BTreeSet<_> = golden.keys().map(String::as_str).filter(is_result).collect();
    assert_eq!(results, CASES.iter().map(|(name, ..)| *name).collect());
}

/// Puts a case's input through its transforms.
fn run(golden: &BTreeMap<String, Array>, name: &str, transforms: &str) -> Array {
    let input = match name {
        "autocontrast" => "dim",
        "equalize-sky" => "sky",
        "to-f32" | "to-nchw" | "normalize" => "small",
        _ => "photo",
    };
    let field = match name {
        "one-hot" => "label",
        _ if name.starts_with("mask/") => "mask",
        _ => "image",
    };
    let mut sample = Sample::new().with("image", golden[input].image()).with("label", Values::scalar_i64(3));
    if field == "mask" {
        let mask = Image::new(24, 32, 1, golden["mask"].bytes.clone()).unwrap();
        sample.insert("mask", Value::Mask(mask));
    }
    let pipeline = (Still { sample, len: 1 }).open(transforms).unwrap_or_else(|error| panic!("{name}: {error}"));
    let fields = survey(&pipeline).unwrap_or_else(|error| panic!("{name}: {}", support::report(&error)));
    let mut batch = Batch::fill(&pipeline, &fields, Position::default()).unwrap();
    let place = fields.iter().position(|known| known.name == field).unwrap();
    let dtype = match fields[place].dtype {
        Dtype::U8 => "|u1",
        Dtype::I64 => "<i8",
        Dtype::F32 => "<f4",
        other => panic!("{name} has become {other}"),
    };
    let bytes = std::mem::take(&mut batch.rows[0][place]);
    Array { dtype: dtype.to_owned(), shape: fields[place].shape.0.clone(), bytes }
}
