//! Decoded pixels against those of torchvision, and of Pillow where torchvision reads no such file.

use std::collections::BTreeMap;
use std::fs;

use batchmill_datasets::decode::{ColorMode, DecodeError, decode};

use super::{Array, Difference, arrays, folder, report};

/// A kind of TIFF that `image` does not read.
const REFUSED: &str = "tiff-palette.tiff";

/// How far a file's pixels may be from theirs.
fn tolerance(name: &str) -> (f64, f64) {
    const EXACT: (f64, f64) = (0.0, 0.0);
    match name {
        // Of 16 bits, Pillow cuts the lower eight off and we round.
        _ if name.contains("16-bits") => (0.5, 1.0),
        // zune-jpeg rounds its transform and its colours elsewhere, and widens subsampled colours by another filter.
        _ if name.ends_with(".jpg") && cfg!(not(feature = "turbojpeg")) => (1.0, 24.0),
        // Another libjpeg-turbo than theirs, or another processor: a rounding more or less.
        _ if name.ends_with(".jpg") => (0.1, 1.0),
        // The format fixes luma and chroma, but not how chroma is widened.
        "webp-lossy.webp" => (1.0, 24.0),
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
    let pixels = pixels();
    let mut names: Vec<_> =
        fs::read_dir(folder().join("images")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert!(names.len() > 30, "{names:?}");
    let mut wrong = Vec::new();
    for name in names.iter().map(|name| name.to_str().unwrap()) {
        let file = fs::read(folder().join("images").join(name)).unwrap();
        for (mode, suffix) in [(ColorMode::Rgb, "rgb"), (ColorMode::Gray, "gray")] {
            let right = &pixels[&format!("{name}/{suffix}")];
            let found = match decode(&file, mode) {
                Err(_) if name == REFUSED => continue,
                // Formats that are not on this branch yet: delete this arm when they are.
                Err(DecodeError::Unsupported { .. }) => continue,
                found => found.unwrap_or_else(|error| panic!("{name}: {error:?}")),
            };
            assert_ne!(name, REFUSED, "take it off the exceptions");
            assert_eq!(found.shape()[..], right.shape, "{name} {suffix}");
            let found: Vec<_> = found.into_pixels().into_iter().map(f64::from).collect();
            let difference = Difference::of(&found, &right.numbers());
            println!("{name} {suffix}: {difference:?}");
            let (mean, max) = tolerance(name);
            if difference.mean > mean || difference.max > max {
                wrong.push(format!("{name} {suffix}: {difference:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
