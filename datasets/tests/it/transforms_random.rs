//! What random transforms draw, as counts over 10,000 draws of a fixed seed.

use batchmill_datasets::random::Rng;
use batchmill_datasets::sample::{Image, Sample, Value};
use batchmill_datasets::transform::Transform;
use batchmill_datasets::transforms::{
    ColorJitter, Grayscale, HorizontalFlip, RandomCrop, RandomErasing, RandomResizedCrop, Rotation, VerticalFlip,
};

use crate::transforms::make;

const DRAWS: u64 = 10_000;

/// What a transform makes of one image, again and again.
fn draws(transform: &dyn Transform, image: &Image) -> impl Iterator<Item = Image> {
    (0..DRAWS).map(move |place| {
        let sample = Sample::new().with("image", image.clone());
        let mut sample = transform.apply(sample, &mut Rng::new(7, 0, place, place, 0)).unwrap();
        match sample.remove("image") {
            Some(Value::Image(image)) => image,
            other => panic!("{other:?}"),
        }
    })
}

/// An image whose pixels say where they are.
fn places(height: u8, width: u8) -> Image {
    let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| [y, x, 255]));
    Image::new(height.into(), width.into(), 3, pixels.collect()).unwrap()
}

#[test]
fn flips_and_grays_happen_as_often_as_told() {
    let share = |transform: &dyn Transform| {
        let image = places(2, 2);
        draws(transform, &image).filter(|drawn| *drawn != image).count()
    };
    // The standard deviation is 50 for a half, 46 for three tenths, 30 for a tenth.
    assert!((4800..5200).contains(&share(&make(HorizontalFlip::from_options, ""))));
    assert!((2800..3200).contains(&share(&make(HorizontalFlip::from_options, "p = 0.3"))));
    assert!((4800..5200).contains(&share(&make(VerticalFlip::from_options, ""))));
    assert!((880..1120).contains(&share(&make(Grayscale::from_options, "p = 0.1"))));
    assert!((4800..5200).contains(&share(&make(RandomErasing::from_options, "scale = [0.2, 0.2]"))));
}

#[test]
fn crops_are_as_likely_at_every_place() {
    let crop = make(RandomCrop::from_options, "size = [5, 6]");
    let mut counts = [[0_f64; 5]; 4];
    for drawn in draws(&crop, &places(8, 10)) {
        assert_eq!(drawn.shape(), [5, 6, 3]);
        counts[usize::from(drawn.pixels()[0])][usize::from(drawn.pixels()[1])] += 1.0;
    }
    let expected = 500.0;
    let chi_square: f64 = counts.iter().flatten().map(|count| (count - expected).powi(2) / expected).sum();
    // 19 degrees of freedom: above this once in a thousand seeds.
    assert!(chi_square < 43.8, "{chi_square}: {counts:?}");
}

#[test]
fn padded_crops_show_their_padding_as_often_as_they_should() {
    let crop = make(RandomCrop::from_options, "size = 8\npadding = 4");
    // The first pixel is the image's unless one of nine rows or columns begins in the four of the padding.
    let inside = draws(&crop, &places(8, 8)).filter(|drawn| drawn.pixels()[2] == 255).count();
    // 10,000 x (5 / 9)^2 = 3086, with a standard deviation of 46.
    assert!((2900..3280).contains(&inside), "{inside}");
}

#[test]
fn resized_crops_have_the_areas_and_shapes_they_are_told() {
    let crop = make(RandomResizedCrop::from_options, "size = 2\ninterpolation = 'nearest'");
    let image = places(200, 200);
    let (mut areas, mut wide) = (Vec::new(), 0);
    for drawn in draws(&crop, &image) {
        // The second pixel of two is where the second half begins.
        let first = &drawn.pixels()[..2];
        let last = &drawn.pixels()[9..11];
        let (height, width) = (2.0 * f64::from(last[0] - first[0]), 2.0 * f64::from(last[1] - first[1]));
        let ratio = width / height;
        assert!((0.70..1.40).contains(&ratio), "{ratio}");
        areas.push(height * width / 40_000.0);
        wide += u32::from(width > height);
    }
    assert!(areas.iter().all(|area| (0.07..1.01).contains(area)));
    // torchvision: 0.526 and 0.109 of 20,000 draws, more than uniform: what is large is drawn again where it does not
    // fit. Sides are read off rounded down to even numbers, which makes areas a little smaller.
    let small = areas.iter().filter(|area| **area < 0.5).count();
    assert!((5200..5550).contains(&small), "{small}");
    let smallest = areas.iter().filter(|area| **area < 0.17).count();
    assert!((980..1220).contains(&smallest), "{smallest}");
    // As often wide as high, but for the few that are square.
    assert!((4650..5150).contains(&wide), "{wide}");
}

#[test]
fn turns_and_colours_are_uniform_between_their_bounds() {
    // By so much a single white pixel of two is darkened.
    let jitter = make(ColorJitter::from_options, "brightness = [0.2, 1.0]");
    let white = Image::new(1, 1, 1, vec![250]).unwrap();
    let mut tenths = [0_f64; 8];
    for drawn in draws(&jitter, &white) {
        // 50 to 250 in steps of 25.
        tenths[usize::from(drawn.pixels()[0] - 50) / 25] += 1.0;
    }
    let chi_square: f64 = tenths.iter().map(|count| (count - 1250.0).powi(2) / 1250.0).sum();
    assert!(chi_square < 24.3, "7 degrees of freedom, {chi_square}: {tenths:?}");

    let rotation = make(Rotation::from_options, "degrees = [-30, 60]");
    let mut angles = Vec::new();
    for drawn in draws(&rotation, &places(41, 41)) {
        // The pixel 20 to the right of the middle comes from so far below.
        let from = f64::from(drawn.pixels()[(20 * 41 + 40) * 3]) - 20.0;
        angles.push((from / 20.0).asin().to_degrees());
    }
    let mean = angles.iter().sum::<f64>() / angles.len() as f64;
    assert!(angles.iter().all(|angle| (-32.0..63.0).contains(angle)));
    // The standard deviation of the mean of 90 degrees is 0.26.
    assert!((14.0..16.0).contains(&mean), "{mean}");
}

#[test]
fn erased_areas_are_within_their_bounds() {
    let erasing = make(RandomErasing::from_options, "p = 1\nvalue = 1\nscale = [0.1, 0.3]\nratio = [0.5, 2]");
    let image = Image::new(40, 40, 1, vec![0; 1600]).unwrap();
    let mut total = 0.0;
    for drawn in draws(&erasing, &image) {
        let erased = drawn.pixels().iter().filter(|byte| **byte == 1).count();
        assert!((140..510).contains(&erased), "{erased}");
        total += erased as f64;
    }
    // 320 each, with a standard deviation of the mean of 1.
    assert!((315.0..325.0).contains(&(total / 10_000.0)), "{total}");
}
