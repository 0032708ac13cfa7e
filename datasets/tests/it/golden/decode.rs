//! Decoded pixels against those of torchvision, and of Pillow where torchvision reads no such file.

use std::collections::BTreeMap;
use std::fs;

use batchmill_datasets::decode::{ColorMode, DecodeOptions, decode};

use super::{Array, Difference, arrays, folder, report};

/// A kind of TIFF that `image` does not read.
const REFUSED: &str = "tiff-palette.tiff";

/// How far a file's pixels may be from theirs.
fn tolerance(name: &str) -> (f64, f64) {
    const EXACT: (f64, f64) = (0.0, 0.0);
    match name {
        // zune-jpeg rounds its transform and its colours elsewhere, and widens subsampled colours by another filter.
        _ if name.ends_with(".jpg") && cfg!(not(feature = "turbojpeg")) => (1.0, 24.0),
        // Another libjpeg-turbo than theirs, or another processor: a rounding more or less.
        _ if name.ends_with(".jpg") => (0.1, 1.0),
        _ => EXACT,
    }
}

/// The pixels of all files, by `FILE/MODE`.
fn pixels() -> BTreeMap<String, Array> {
    let mut all = arrays("decode.npz");
    for (name, same) in report("same_pixels").as_object().unwrap() {
        let array = all[same.as_str().unwrap()].clone();
        all.insert(name.clone(), array);
    }
    all
}

#[test]
fn files_are_decoded_as_torchvision_or_pillow_do() {
    let modes = [("rgb", ColorMode::Rgb), ("gray", ColorMode::Gray), ("rgba", ColorMode::Rgba)];
    let mut wrong = Vec::new();
    for (name, right) in pixels() {
        let (file, mode) = name.split_once('/').unwrap();
        let bytes = fs::read(folder().join("images").join(file)).unwrap();
        let options = match modes.iter().find(|(name, _)| *name == mode) {
            Some((_, color)) => DecodeOptions::from(*color),
            None => DecodeOptions { exif_orientation: true, ..ColorMode::Rgb.into() },
        };
        let decoded = decode(&bytes, options);
        if file == REFUSED {
            assert!(decoded.is_err(), "{file} is read now: take it off the exceptions");
            continue;
        }
        let found = decoded.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(found.shape()[..], right.shape, "{name}");
        let found: Vec<_> = found.into_pixels().into_iter().map(f64::from).collect();
        let difference = Difference::of(&found, &right.numbers());
        println!("{name}: {difference:?}");
        let (mean, max) = tolerance(file);
        if difference.mean > mean || difference.max > max {
            wrong.push(format!("{name}: {difference:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_file_is_left_out() {
    let pixels = pixels();
    let files = fs::read_dir(folder().join("images")).unwrap().map(|entry| entry.unwrap().file_name());
    for file in files.map(|file| file.into_string().unwrap()) {
        for mode in ["rgb", "gray"] {
            assert!(pixels.contains_key(&format!("{file}/{mode}")), "{file}");
        }
    }
    assert!(pixels.len() > 70, "{} results", pixels.len());
}
