//! Transforms that move pixels, against torchvision's results, and the masks that move with them.

use std::collections::BTreeMap;

use batchmill_datasets::options::Options;
use batchmill_datasets::random::Rng;
use batchmill_datasets::sample::{Image, Sample, Value};
use batchmill_datasets::spec::SpecError;
use batchmill_datasets::transform::Transform;
use batchmill_datasets::transforms::{
    Affine, CenterCrop, FiveCrop, HorizontalFlip, Pad, RandomCrop, RandomResizedCrop, Resize, Rotation,
    TrivialAugmentWide, VerticalFlip,
};
use expect_test::{Expect, expect};

use crate::transforms::{apply, counted, failure, make, refusal, rng};

/// The bytes that a transform makes of an image of one channel that counts from 0.
fn of_counted<T: Transform>(
    new: fn(&mut Options) -> Result<T, SpecError>,
    table: &str,
    height: usize,
    width: usize,
) -> (usize, usize, Vec<u8>) {
    let image = apply(&make(new, table), counted(height, width, 1)).unwrap();
    (image.height(), image.width(), image.into_pixels())
}

#[test]
fn resize_takes_the_longer_side() {
    let shape = |height, width, longest: u32| {
        let resize = make(Resize::from_options, &format!("longest = {longest}"));
        let image = apply(&resize, counted(height, width, 1)).unwrap();
        (image.height(), image.width())
    };
    assert_eq!(shape(480, 640, 256), (192, 256));
    assert_eq!(shape(640, 480, 256), (256, 192));
    assert_eq!(shape(3, 2, 5), (5, 3));
    assert_eq!(shape(100, 100, 7), (7, 7));
    // Where torchvision fails: it rounds the shorter side to nothing.
    assert_eq!(shape(500, 3, 20), (20, 1));
}

#[test]
fn resize_pads_to_a_square() {
    let resize = make(Resize::from_options, "longest = 4\npad = true\nfill = 7\nmask_fill = 9");
    let sample = Sample::new().with("image", counted(1, 4, 1)).with("mask", Value::Mask(counted(1, 4, 1)));
    let sample = resize.apply(sample, &mut rng()).unwrap();
    // Three rows are added, the larger half of them below.
    assert_eq!(sample.get("image").unwrap().bytes(), [7, 7, 7, 7, 0, 1, 2, 3, 7, 7, 7, 7, 7, 7, 7, 7]);
    assert_eq!(sample.get("mask").unwrap().bytes(), [9, 9, 9, 9, 0, 1, 2, 3, 9, 9, 9, 9, 9, 9, 9, 9]);
}

#[test]
fn resize_interpolates() {
    let resized = |table: &str| {
        let image = Image::new(3, 4, 1, (0..12).map(|place| place * 20).collect()).unwrap();
        apply(&make(Resize::from_options, table), image).unwrap().into_pixels()
    };
    // torchvision: F.resize.
    assert_eq!(resized("size = [2, 3]"), [36, 60, 84, 136, 160, 184]);
    assert_eq!(resized("size = [2, 3]\ninterpolation = 'bicubic'"), [29, 55, 81, 139, 165, 191]);
    let nearest = of_counted(Resize::from_options, "size = [5, 3]\ninterpolation = 'nearest'", 3, 4);
    assert_eq!(nearest.2, [0, 1, 2, 0, 1, 2, 4, 5, 6, 4, 5, 6, 8, 9, 10]);
}

#[test]
fn pad_goes_on_beyond_the_border_in_four_ways() {
    let padded = |table: &str| {
        let image = Image::new(1, 4, 1, vec![1, 2, 3, 4]).unwrap();
        apply(&make(Pad::from_options, &format!("padding = [2, 0]\n{table}")), image).unwrap().into_pixels()
    };
    // torchvision's own examples.
    assert_eq!(padded(""), [0, 0, 1, 2, 3, 4, 0, 0]);
    assert_eq!(padded("fill = 9"), [9, 9, 1, 2, 3, 4, 9, 9]);
    assert_eq!(padded("padding_mode = 'edge'"), [1, 1, 1, 2, 3, 4, 4, 4]);
    assert_eq!(padded("padding_mode = 'reflect'"), [3, 2, 1, 2, 3, 4, 3, 2]);
    assert_eq!(padded("padding_mode = 'symmetric'"), [2, 1, 1, 2, 3, 4, 4, 3]);
}

#[test]
fn pad_knows_its_four_borders_and_every_channel() {
    let pad = make(Pad::from_options, "padding = [1, 0, 0, 1]\nfill = [7, 8, 9]");
    let image = apply(&pad, Image::new(1, 1, 3, vec![1, 2, 3]).unwrap()).unwrap();
    assert_eq!((image.shape(), image.pixels()), ([2, 2, 3], &[7, 8, 9, 1, 2, 3, 7, 8, 9, 7, 8, 9][..]));
    assert_eq!(of_counted(Pad::from_options, "padding = [1, 2, 3, 4]", 5, 6).0, 11);
    assert_eq!(of_counted(Pad::from_options, "padding = [1, 2, 3, 4]", 5, 6).1, 10);
    let rows = of_counted(Pad::from_options, "padding = [0, 2]\npadding_mode = 'reflect'", 3, 1).2;
    assert_eq!(rows, [2, 1, 0, 1, 2, 1, 0]);
}

#[test]
fn five_crop_stacks_the_corners_and_the_middle() {
    let crop = make(FiveCrop::from_options, "size = [1, 2]");
    let sample = Sample::new().with("image", counted(3, 4, 1)).with("mask", Value::Mask(counted(3, 4, 1)));
    let sample = crop.apply(sample, &mut rng()).unwrap();
    let fields: Vec<_> = sample.iter().map(|(name, value)| value.field(name).to_string()).collect();
    assert_eq!(fields, ["image: u8 [5, 1, 2, 1]", "mask: u8 [5, 1, 2]"]);
    for field in ["image", "mask"] {
        assert_eq!(sample.get(field).unwrap().bytes(), [0, 1, 2, 3, 8, 9, 10, 11, 5, 6]);
    }
    expect![[r#"
        the image has 3 x 4 pixels (height x width), too few for a crop of 5 x 5; put a `resize` before it or crop less"#]]
    .assert_eq(&failure(&make(FiveCrop::from_options, "size = 5"), counted(3, 4, 1)));
}

#[test]
fn flips_mirror_pixels_and_not_channels() {
    for channels in 1..=4 {
        let pixels: Vec<Vec<u8>> = counted(3, 4, channels).pixels().chunks(channels).map(<[u8]>::to_vec).collect();
        let expected = |place: fn(usize, usize) -> usize| -> Vec<u8> {
            (0..3).flat_map(|y| (0..4).map(move |x| place(y, x))).flat_map(|place| pixels[place].clone()).collect()
        };
        let horizontal = apply(&make(HorizontalFlip::from_options, "p = 1"), counted(3, 4, channels)).unwrap();
        assert_eq!(horizontal.pixels(), expected(|y, x| y * 4 + 3 - x));
        let vertical = apply(&make(VerticalFlip::from_options, "p = 1"), counted(3, 4, channels)).unwrap();
        assert_eq!(vertical.pixels(), expected(|y, x| (2 - y) * 4 + x));
    }
    assert_eq!(of_counted(HorizontalFlip::from_options, "p = 0", 2, 2).2, [0, 1, 2, 3]);
}

#[test]
fn rotation_turns_counter_clockwise() {
    let turned = |table: &str| of_counted(Rotation::from_options, table, 3, 4);
    // torchvision: F.rotate.
    assert_eq!(turned("degrees = [90, 90]").2, [2, 2, 10, 10, 2, 2, 10, 10, 0, 0, 8, 8]);
    assert_eq!(turned("degrees = [180, 180]").2, [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
    let whole = (4, 3, vec![3, 7, 11, 2, 6, 10, 1, 5, 9, 0, 4, 8]);
    assert_eq!(turned("degrees = [90, 90]\nexpand = true"), whole);
    let pixels = [
        [99, 99, 99, 3, 99, 99],
        [99, 99, 2, 7, 7, 99],
        [99, 0, 5, 6, 11, 99],
        [99, 4, 4, 9, 99, 99],
        [99, 99, 8, 99, 99, 99],
    ];
    assert_eq!(turned("degrees = [45, 45]\nexpand = true\nfill = 99"), (5, 6, pixels.concat()));
    let image = Image::new(3, 4, 1, (0..12).map(|place| place * 20).collect()).unwrap();
    let bilinear = make(Rotation::from_options, "degrees = [30, 30]\ninterpolation = 'bilinear'\nfill = 100");
    assert_eq!(apply(&bilinear, image).unwrap().pixels(), [64, 36, 79, 94, 24, 81, 139, 196, 74, 141, 159, 92]);
}

#[test]
fn affine_scales_and_shears_around_the_middle() {
    let moved = |table: &str| of_counted(Affine::from_options, &format!("degrees = 0\nfill = 99\n{table}"), 4, 4).2;
    // torchvision: F.affine.
    assert_eq!(moved("scale = [2, 2]"), [5, 5, 6, 6, 5, 5, 6, 6, 9, 9, 10, 10, 9, 9, 10, 10]);
    assert_eq!(moved("scale = [0.5, 0.5]"), [99, 99, 99, 99, 99, 0, 2, 99, 99, 8, 10, 99, 99, 99, 99, 99]);
    assert_eq!(moved("shear = [45, 45]"), [99, 0, 0, 2, 4, 4, 6, 6, 8, 10, 10, 99, 14, 14, 99, 99]);
    assert_eq!(moved("shear = [0, 0, 45, 45]"), [99, 1, 2, 11, 0, 1, 10, 11, 0, 9, 10, 99, 8, 9, 99, 99]);
    assert_eq!(moved(""), (0..16).collect::<Vec<_>>());
}

#[test]
fn affine_shifts_by_whole_pixels_as_far_as_it_is_told() {
    let affine = make(Affine::from_options, "degrees = 0\ntranslate = [0.25, 0.5]\nfill = 99");
    let mut seen = BTreeMap::new();
    let mut rng = rng();
    for _ in 0..1000 {
        let sample = affine.apply(Sample::new().with("image", counted(4, 4, 1)), &mut rng).unwrap();
        let moved = sample.get("image").unwrap().bytes().to_vec();
        // Where the pixel 5, in row 1 and column 1, is now; row 3 is gone where it moved down by two.
        let place = moved.iter().position(|&byte| byte == 5);
        *seen.entry(place).or_insert(0) += 1;
    }
    // Columns 0 to 2, rows 0 to 3 and beyond: a quarter of each side either way rounds to -1, 0, 1, a half to -2 to 2.
    let places = [None, Some(0), Some(1), Some(2), Some(4), Some(5), Some(6), Some(8), Some(9), Some(10)];
    let places = places.into_iter().chain([Some(12), Some(13), Some(14)]);
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), places.collect::<Vec<_>>(), "{seen:?}");
}

#[test]
fn masks_move_with_their_images() {
    let transforms: [(&str, Box<dyn Transform>); 12] = [
        ("resize", Box::new(make(Resize::from_options, "size = 7\ninterpolation = 'nearest'"))),
        ("longest", Box::new(make(Resize::from_options, "longest = 9\npad = true\ninterpolation = 'nearest'"))),
        ("pad", Box::new(make(Pad::from_options, "padding = [1, 2, 3, 4]\npadding_mode = 'reflect'"))),
        ("center-crop", Box::new(make(CenterCrop::from_options, "size = [5, 6]"))),
        ("random-crop", Box::new(make(RandomCrop::from_options, "size = 8\npadding = 2\npad_if_needed = true"))),
        ("random-resized-crop", Box::new(make(RandomResizedCrop::from_options, "size = 7\ninterpolation = 'nearest'"))),
        ("horizontal-flip", Box::new(make(HorizontalFlip::from_options, ""))),
        ("vertical-flip", Box::new(make(VerticalFlip::from_options, ""))),
        ("rotation", Box::new(make(Rotation::from_options, "degrees = 180\nexpand = true"))),
        (
            "affine",
            Box::new(make(
                Affine::from_options,
                "degrees = 30\ntranslate = [0.3, 0.3]\nscale = [0.5, 2]\nshear = [-20, 20, -20, 20]",
            )),
        ),
        ("five-crop", Box::new(make(FiveCrop::from_options, "size = 4"))),
        ("trivial-augment-wide", Box::new(make(TrivialAugmentWide::from_options, ""))),
    ];
    for (kind, transform) in transforms {
        let mut moved = 0;
        for place in 0..200 {
            let picture = counted(9, 11, 1);
            let mask = || Value::Mask(counted(9, 11, 1));
            let sample = Sample::new().with("front", mask()).with("image", picture.clone()).with("back", mask());
            let sample = transform.apply(sample, &mut Rng::new(1, 2, place, 4, 5)).unwrap();
            let [front, image, back] = ["front", "image", "back"].map(|field| sample.get(field).unwrap());
            assert_eq!(front.bytes(), back.bytes(), "{kind}, {place}");
            let front_shape = front.shape().0;
            assert_eq!(image.shape().0[..front_shape.len()], front_shape, "{kind}, {place}");
            // Colours leave masks alone; all else gives both the same bytes.
            if kind != "trivial-augment-wide" || front.bytes() != picture.pixels() {
                assert_eq!(front.bytes(), image.bytes(), "{kind}, {place}");
                moved += u32::from(front.bytes() != picture.pixels());
            }
        }
        // A flip leaves half of them, the five operations of fourteen that move something the others.
        assert!(moved >= 45, "{kind}: {moved}");
    }
}

#[test]
fn masks_never_mix_classes() {
    let classes: [u8; 3] = [3, 100, 255];
    let mask = Image::new(12, 12, 1, (0..144).map(|place| classes[place * 7 / 5 % 3]).collect()).unwrap();
    let transforms: [Box<dyn Transform>; 4] = [
        Box::new(make(Resize::from_options, "size = 7\ninterpolation = 'bicubic'")),
        Box::new(make(RandomResizedCrop::from_options, "size = 9")),
        Box::new(make(Rotation::from_options, "degrees = 45\ninterpolation = 'bilinear'\nmask_fill = 255")),
        Box::new(make(Affine::from_options, "degrees = 45\ninterpolation = 'bilinear'\nmask_fill = 3\nfill = 9")),
    ];
    for transform in transforms {
        for place in 0..50 {
            let sample = Sample::new().with("image", counted(12, 12, 3)).with("mask", Value::Mask(mask.clone()));
            let sample = transform.apply(sample, &mut Rng::new(1, 2, place, 4, 5)).unwrap();
            let Some(Value::Mask(mask)) = sample.get("mask") else { panic!("{sample:?}") };
            assert!(mask.pixels().iter().all(|class| classes.contains(class)), "{transform:?}, {place}: {mask:?}");
        }
    }
}

#[test]
fn a_mask_of_another_size_is_refused() {
    let sample = Sample::new().with("image", counted(4, 5, 3)).with("mask", Value::Mask(counted(5, 4, 1)));
    let flip = make(HorizontalFlip::from_options, "");
    expect!["the mask `mask` has 5 x 4 pixels (height x width), the image 4 x 5; store both in one size"]
        .assert_eq(&flip.apply(sample, &mut rng()).unwrap_err().to_string());
}

#[test]
fn a_transform_acts_on_the_field_it_is_told() {
    let flip = make(HorizontalFlip::from_options, "field = 'left'\np = 1");
    let sample = Sample::new().with("left", counted(1, 3, 1)).with("image", counted(1, 3, 1));
    let sample = flip.apply(sample, &mut rng()).unwrap();
    assert_eq!(sample.get("left").unwrap().bytes(), [2, 1, 0]);
    assert_eq!(sample.get("image").unwrap().bytes(), [0, 1, 2]);
    expect!["the sample has no image in a field `left`; it has image: u8 [1, 3, 1]"]
        .assert_eq(&failure(&flip, counted(1, 3, 1)));
}

#[test]
fn what_cannot_be_moved_is_said() {
    let pad = make(Pad::from_options, "padding = 3\npadding_mode = 'reflect'");
    expect![[r#"
        the image has 3 pixels at a side to be padded by 3, too few to mirror; pad less, or by `padding_mode` "edge""#]]
    .assert_eq(&failure(&pad, counted(4, 3, 1)));
    let pad = make(Pad::from_options, "padding = 3\nfill = [1, 2]");
    expect!["`fill` has 2 values, the image 3 channels; give one value or 3"]
        .assert_eq(&failure(&pad, counted(4, 3, 3)));
    let rotation = make(Rotation::from_options, "degrees = 3");
    expect!["the image has 5 channels, expected 1 to 4"].assert_eq(&failure(&rotation, counted(4, 4, 5)));
    let crop = make(RandomCrop::from_options, "size = 9\npadding = 1");
    expect![[r#"
        the image has 6 x 10 pixels (height x width), too few for a crop of 9 x 9; put a `resize` before it or crop less"#]]
    .assert_eq(&failure(&crop, counted(4, 8, 1)));
}

#[test]
fn wrong_options_of_what_moves_are_refused() {
    fn check<T: Transform>(new: fn(&mut Options) -> Result<T, SpecError>, table: &str, expected: Expect) {
        expected.assert_eq(&refusal(new, table));
    }
    check(
        Resize::from_options,
        "longest = 3\nsize = 4",
        expect!["transform `any`: `size` stands beside `longest`; give one of them"],
    );
    check(
        Resize::from_options,
        "size = 3\npad = true",
        expect!["unknown key `pad` of transform `any`; there are `longest`, `size`, `interpolation`, `field`"],
    );
    check(
        Resize::from_options,
        "size = 3\ninterpolation = 'cubic'",
        expect![[
            r#"transform `any`: `interpolation` is "cubic", not `nearest` or `bilinear` or `bicubic`; did you mean `bicubic`?"#
        ]],
    );
    check(Pad::from_options, "", expect!["transform `any` needs the key `padding`"]);
    check(
        Pad::from_options,
        "padding = [1, 2, 3]",
        expect![
            "transform `any`: `padding` is [1, 2, 3], not an integer from 0 to 65535, [left and right, top and bottom] or [left, top, right, bottom]"
        ],
    );
    check(
        Pad::from_options,
        "padding = 1\nfill = 256",
        expect!["transform `any`: `fill` is 256, not an integer from 0 to 255 or a list of one for each channel"],
    );
    check(
        RandomResizedCrop::from_options,
        "size = 3\nscale = [1, 0.5]",
        expect!["transform `any`: `scale` is [1, 0.5], not [low, high] within 0 to 1"],
    );
    check(HorizontalFlip::from_options, "p = 2", expect!["transform `any`: `p` is 2, not a number from 0 to 1"]);
    check(
        Rotation::from_options,
        "degrees = -10",
        expect!["transform `any`: `degrees` is -10, not a number from 0 up or [low, high], within -360000 to 360000"],
    );
    check(
        Affine::from_options,
        "degrees = 0\ntranslate = [0.1]",
        expect!["transform `any`: `translate` is [0.1], not two numbers from 0 to 1, [x, y]"],
    );
    check(
        Affine::from_options,
        "degrees = 0\nscale = [0, 1]",
        expect!["transform `any`: `scale` is [0, 1], not [low, high] within 0.01 to 100"],
    );
    check(
        Affine::from_options,
        "degrees = 0\nshear = 90",
        expect![
            "transform `any`: `shear` is [90.0], not numbers from -80 to 80: one, [low, high] along x or [low, high, low, high] along x and y"
        ],
    );
}
