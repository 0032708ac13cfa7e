//! Transforms that change colours, against torchvision's results; masks keep theirs.

use batchmill_datasets::options::Options;
use batchmill_datasets::random::Rng;
use batchmill_datasets::sample::{Image, Sample, Value};
use batchmill_datasets::spec::SpecError;
use batchmill_datasets::transform::Transform;
use batchmill_datasets::transforms::{
    ColorJitter, GaussianBlur, Grayscale, RandomErasing, Retouch, TrivialAugmentWide,
};
use expect_test::{Expect, expect};

use crate::transforms::{apply, counted, failure, make, refusal, rng};

/// Four pixels, all channels different; one of them black, one nearly gray.
fn four() -> Image {
    Image::new(2, 2, 3, vec![10, 200, 77, 255, 0, 128, 0, 0, 0, 90, 90, 91]).unwrap()
}

/// Three rows of three gray pixels.
fn nine() -> Image {
    Image::new(3, 3, 1, vec![0, 23, 40, 110, 80, 100, 120, 140, 169]).unwrap()
}

fn check<T: Transform>(new: fn(&mut Options) -> Result<T, SpecError>, table: &str, image: Image, expected: &[u8]) {
    assert_eq!(apply(&make(new, table), image).unwrap().pixels(), expected, "{table}");
}

#[test]
fn color_jitter_gives_torchvisions_bytes() {
    // torchvision: F.adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue.
    let check = |table, expected| check(ColorJitter::from_options, table, four(), expected);
    check("brightness = [0.5, 0.5]", &[5, 100, 38, 127, 0, 64, 0, 0, 0, 45, 45, 45]);
    check("brightness = [1.6, 1.6]", &[16, 255, 123, 255, 0, 204, 0, 0, 0, 144, 144, 145]);
    check("contrast = [0.5, 0.5]", &[43, 138, 77, 166, 38, 102, 38, 38, 38, 83, 83, 84]);
    check("contrast = [1.6, 1.6]", &[0, 255, 76, 255, 0, 158, 0, 0, 0, 97, 97, 99]);
    check("saturation = [0.5, 0.5]", &[69, 164, 103, 172, 45, 109, 0, 0, 0, 90, 90, 90]);
    check("saturation = [1.6, 1.6]", &[0, 242, 45, 255, 0, 150, 0, 0, 0, 90, 90, 91]);
    check("hue = [0.5, 0.5]", &[200, 10, 133, 0, 255, 127, 0, 0, 0, 91, 91, 90]);
    check("hue = [0.1, 0.1]", &[10, 200, 191, 255, 25, 0, 0, 0, 0, 90, 90, 91]);
    check("hue = [-0.2, -0.2]", &[171, 200, 10, 76, 0, 255, 0, 0, 0, 90, 91, 91]);
    check("", four().pixels());
}

#[test]
fn gray_images_keep_saturation_and_hue() {
    check(ColorJitter::from_options, "saturation = [3, 3]\nhue = [0.4, 0.4]", nine(), nine().pixels());
}

#[test]
fn grayscale_is_luma_cut_off() {
    // torchvision: F.rgb_to_grayscale; `color` rounds as Pillow, which gives 130, 91, 0, 90.
    check(Grayscale::from_options, "", four(), &[129, 90, 0, 90]);
    let three = [129, 129, 129, 90, 90, 90, 0, 0, 0, 90, 90, 90];
    check(Grayscale::from_options, "num_output_channels = 3", four(), &three);
    check(Grayscale::from_options, "p = 1", four(), &three);
    check(Grayscale::from_options, "p = 0", four(), four().pixels());
    check(Grayscale::from_options, "p = 1", nine(), nine().pixels());
    let gray = Image::new(1, 2, 1, vec![5, 6]).unwrap();
    check(Grayscale::from_options, "num_output_channels = 3", gray, &[5, 5, 5, 6, 6, 6]);
}

#[test]
fn gaussian_blur_gives_torchvisions_bytes() {
    // torchvision: F.gaussian_blur; beyond the border the image is mirrored.
    check(GaussianBlur::from_options, "kernel_size = 3\nsigma = 0.8", nine(), &[51, 55, 60, 84, 87, 92, 113, 118, 124]);
    check(
        GaussianBlur::from_options,
        "kernel_size = [3, 1]\nsigma = [0.8, 0.8]",
        nine(),
        &[11, 22, 32, 96, 92, 90, 130, 142, 155],
    );
    let plain = Image::new(5, 4, 3, [10, 200, 77].repeat(20)).unwrap();
    check(GaussianBlur::from_options, "kernel_size = 5", plain.clone(), plain.pixels());
}

#[test]
fn retouches_give_torchvisions_bytes() {
    // torchvision: F.adjust_sharpness, of which only the middle one of nine changes.
    check(Retouch::sharpness, "sharpness_factor = 0\np = 1", nine(), &[0, 23, 40, 110, 85, 100, 120, 140, 169]);
    check(Retouch::sharpness, "sharpness_factor = 2\np = 1", nine(), &[0, 23, 40, 110, 75, 100, 120, 140, 169]);
    check(Retouch::autocontrast, "p = 1", nine(), &[0, 34, 60, 165, 120, 150, 181, 211, 254]);
    check(Retouch::posterize, "bits = 2\np = 1", nine(), &[0, 0, 0, 64, 64, 64, 64, 128, 128]);
    check(Retouch::posterize, "bits = 0\np = 1", nine(), &[0; 9]);
    check(Retouch::solarize, "threshold = 110\np = 1", nine(), &[0, 23, 40, 145, 80, 100, 135, 115, 86]);
    check(Retouch::invert, "p = 1", nine(), &[255, 232, 215, 145, 175, 155, 135, 115, 86]);
    check(Retouch::invert, "p = 0", nine(), nine().pixels());
    // 500, 600 and 700 of three values: steps of (1800 - 700) / 255 = 4, of which 500 and 1100 are 125 and 275.
    let heap = |values: [u8; 3]| [vec![values[0]; 500], vec![values[1]; 600], vec![values[2]; 700]].concat();
    let image = Image::new(40, 45, 1, heap([0, 10, 20])).unwrap();
    check(Retouch::equalize, "p = 1", image, &heap([0, 125, 255]));
    // Too few to spread.
    check(Retouch::equalize, "p = 1", nine(), nine().pixels());
}

#[test]
fn autocontrast_stretches_each_channel_by_itself() {
    let image = Image::new(1, 2, 3, vec![100, 7, 0, 150, 7, 255]).unwrap();
    // 254, as torchvision has it: 50 / (50 / 255) is a little below 255 in single precision.
    check(Retouch::autocontrast, "p = 1", image, &[0, 7, 0, 254, 7, 255]);
}

#[test]
fn random_erasing_erases_one_rectangle() {
    let erasing = make(RandomErasing::from_options, "p = 1\nvalue = [1, 2, 3]");
    for place in 0..100 {
        let image = Image::new(20, 30, 3, vec![9; 1800]).unwrap();
        let sample = erasing.apply(Sample::new().with("image", image), &mut Rng::new(1, 2, place, 4, 5)).unwrap();
        let pixels = sample.get("image").unwrap().bytes().chunks(3).enumerate();
        let erased: Vec<_> = pixels.filter(|(_, pixel)| *pixel != [9, 9, 9]).collect();
        assert!(erased.iter().all(|(_, pixel)| *pixel == [1, 2, 3]), "{place}");
        let rows: Vec<_> = erased.iter().map(|(place, _)| place / 30).collect();
        let columns: Vec<_> = erased.iter().map(|(place, _)| place % 30).collect();
        let extent = |places: &[usize]| places.iter().max().unwrap() - places.iter().min().unwrap() + 1;
        assert_eq!(erased.len(), extent(&rows) * extent(&columns), "{place}");
        // 2 to 33 parts of a hundred, within what the rounding of both sides makes.
        assert!((6..=230).contains(&erased.len()), "{place}: {}", erased.len());
    }
}

#[test]
fn random_erasing_draws_bytes() {
    let erasing = make(RandomErasing::from_options, "p = 1\nvalue = 'random'\nscale = [0.3, 0.3]\nratio = [1, 1]");
    let image = apply(&erasing, Image::new(100, 100, 3, vec![0; 30_000]).unwrap()).unwrap();
    let drawn: Vec<_> = image.pixels().iter().copied().filter(|&byte| byte > 0).collect();
    // 55 x 55 x 3 bytes but for the zeros among them.
    assert!((8900..=9075).contains(&drawn.len()), "{}", drawn.len());
    let mean = drawn.iter().map(|&byte| f64::from(byte)).sum::<f64>() / drawn.len() as f64;
    assert!((125.0..131.0).contains(&mean), "{mean}");
    assert_eq!(apply(&erasing, Image::new(100, 100, 3, vec![0; 30_000]).unwrap()).unwrap(), image);
}

#[test]
fn trivial_augment_wide_does_all_it_can() {
    let augment = make(TrivialAugmentWide::from_options, "fill = 77");
    let mut seen = std::collections::BTreeSet::new();
    for place in 0..3000 {
        let mut rng = Rng::new(1, 2, place, 4, 5);
        let sample = augment.apply(Sample::new().with("image", counted(40, 40, 3)), &mut rng).unwrap();
        assert_eq!(sample.get("image").unwrap().shape().0, [40, 40, 3]);
        seen.insert(sample.get("image").unwrap().bytes().to_vec());
    }
    // Eleven operations of 30 strengths, of which nine go both ways, less those that give the same here.
    assert!((330..=600).contains(&seen.len()), "{}", seen.len());
    assert!(seen.contains(counted(40, 40, 3).pixels()), "some change nothing");
}

#[test]
fn colours_leave_masks_alone() {
    let transforms: [Box<dyn Transform>; 5] = [
        Box::new(make(ColorJitter::from_options, "brightness = 0.5\nhue = 0.5")),
        Box::new(make(Grayscale::from_options, "")),
        Box::new(make(GaussianBlur::from_options, "kernel_size = 3")),
        Box::new(make(RandomErasing::from_options, "p = 1")),
        Box::new(make(Retouch::invert, "p = 1")),
    ];
    for transform in transforms {
        let sample = Sample::new().with("image", counted(8, 8, 3)).with("mask", Value::Mask(counted(8, 8, 1)));
        let sample = transform.apply(sample, &mut rng()).unwrap();
        assert_eq!(sample.get("mask"), Some(&Value::Mask(counted(8, 8, 1))), "{transform:?}");
        assert_ne!(sample.get("image"), Some(&counted(8, 8, 3).into()), "{transform:?}");
    }
}

#[test]
fn what_cannot_be_recoloured_is_said() {
    let expected = expect!["the image has 4 channels, expected 1 (gray) or 3 (rgb)"];
    expected.assert_eq(&failure(&make(ColorJitter::from_options, "hue = 0.1"), counted(4, 4, 4)));
    expected.assert_eq(&failure(&make(Grayscale::from_options, ""), counted(4, 4, 4)));
    expect![[r#"
        the image has 4 pixels at a side, too few for a kernel of 9 to be mirrored; lower `kernel_size`, or put a `resize` before it"#]]
    .assert_eq(&failure(&make(GaussianBlur::from_options, "kernel_size = 9"), counted(9, 4, 3)));
}

#[test]
fn wrong_options_of_what_recolours_are_refused() {
    fn check<T: Transform>(new: fn(&mut Options) -> Result<T, SpecError>, table: &str, expected: Expect) {
        expected.assert_eq(&refusal(new, table));
    }
    check(
        ColorJitter::from_options,
        "hue = 0.6",
        expect!["transform `any`: `hue` is 0.6, not a number from 0 up or [low, high], within -0.5 to 0.5"],
    );
    check(
        ColorJitter::from_options,
        "brightness = [-1, 1]",
        expect!["transform `any`: `brightness` is [-1, 1], not a number from 0 up or [low, high], within 0 to 1000"],
    );
    check(
        Grayscale::from_options,
        "num_output_channels = 2",
        expect!["transform `any`: `num_output_channels` is 2, not 1 or 3"],
    );
    check(
        Grayscale::from_options,
        "num_output_channels = 1\np = 0.5",
        expect!["transform `any`: `p` stands beside `num_output_channels`; with `p` the image keeps its channels"],
    );
    check(
        GaussianBlur::from_options,
        "kernel_size = 4",
        expect!["transform `any`: `kernel_size` is 4, not an odd integer from 1 to 1023 or two, [across, down]"],
    );
    check(
        RandomErasing::from_options,
        "value = 'noise'",
        expect![[
            r#"transform `any`: `value` is "noise", not an integer from 0 to 255 or a list of one for each channel or "random""#
        ]],
    );
    check(Retouch::posterize, "bits = 9", expect!["transform `any`: `bits` is 9, not an integer from 0 to 8"]);
    check(Retouch::solarize, "", expect!["transform `any` needs the key `threshold`"]);
    check(
        TrivialAugmentWide::from_options,
        "num_magnitude_bins = 1",
        expect!["transform `any`: `num_magnitude_bins` is 1, not an integer from 2 to 1000"],
    );
}
