//! Transforms that make tensors of images, labels and numbers.

use batchmill_datasets::options::Options;
use batchmill_datasets::sample::{Array, Image, Sample, Value};
use batchmill_datasets::spec::SpecError;
use batchmill_datasets::transform::Transform;
use batchmill_datasets::transforms::{Cast, Clip, LabelMap, Normalize, OneHot, Standardize, ToF32, ToNchw};
use batchmill_protocol::tensor::Dtype;
use expect_test::{Expect, expect};

use crate::rows::Rows;
use crate::support::Folder;
use crate::transforms::{counted, make, refusal, rng};

/// A field after a transform, as its description and its bytes, or why there is none.
fn field<T: Transform>(
    new: fn(&mut Options) -> Result<T, SpecError>,
    table: &str,
    name: &'static str,
    value: impl Into<Value>,
) -> Result<(String, Vec<u8>), String> {
    let sample = Sample::new().with(name, value);
    let sample = make(new, table).apply(sample, &mut rng()).map_err(|error| crate::support::report(&error))?;
    let value = sample.get(name).unwrap();
    Ok((value.field(name).to_string(), value.bytes().to_vec()))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn integers(bytes: &[u8]) -> Vec<i64> {
    bytes.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
}

#[test]
fn to_f32_scales_integers_to_one() {
    let image = Image::new(1, 2, 3, vec![0, 51, 102, 153, 204, 255]).unwrap();
    let (field_spec, bytes) = field(ToF32::from_options, "", "image", image).unwrap();
    assert_eq!(field_spec, "image: f32 [1, 2, 3]");
    // As torchvision: times 1/255, which is not quite the same as divided by 255.
    assert_eq!(floats(&bytes), [0.0, 51.0, 102.0, 153.0, 204.0, 255.0].map(|byte: f32| byte * (1.0 / 255.0)));
    let array = Array::new(Dtype::I16, [2], [i16::MAX, -i16::MAX].map(i16::to_le_bytes).concat()).unwrap();
    let (field_spec, bytes) = field(ToF32::from_options, "field = 'sound'", "sound", array).unwrap();
    assert_eq!((field_spec.as_str(), floats(&bytes)), ("sound: f32 [2]", vec![1.0, -1.0]));
    let array = Array::new(Dtype::F64, [1], 7.5_f64.to_le_bytes().to_vec()).unwrap();
    assert_eq!(floats(&field(ToF32::from_options, "", "image", array).unwrap().1), [7.5]);
    let mask = Value::Mask(counted(2, 2, 1));
    expect!["a mask holds classes, which are not to be scaled; `cast` changes its dtype"]
        .assert_eq(&field(ToF32::from_options, "", "image", mask).unwrap_err());
}

#[test]
fn normalize_is_torchvisions_formula() {
    let table = "mean = [0.5, 0.2, 0.4]\nstd = [0.5, 0.1, 0.2]";
    let image = Image::new(1, 2, 3, vec![0, 51, 102, 255, 255, 0]).unwrap();
    let (spec, bytes) = field(Normalize::from_options, table, "image", image.clone()).unwrap();
    assert_eq!(spec, "image: f32 [1, 2, 3]");
    let expected = [-1.0, 0.0, 0.0, 1.0, 8.0, -2.0];
    let found = floats(&bytes);
    assert!(
        found.iter().zip(expected).all(|(found, expected): (&f32, f32)| (found - expected).abs() < 1e-6),
        "{found:?}"
    );
    // Behind `to-f32` it gives the same.
    let sample = make(ToF32::from_options, "").apply(Sample::new().with("image", image), &mut rng()).unwrap();
    let sample = make(Normalize::from_options, table).apply(sample, &mut rng()).unwrap();
    assert_eq!(sample.get("image").unwrap().bytes(), bytes);
    let one = field(Normalize::from_options, "mean = 0\nstd = 0.5", "image", counted(1, 1, 3)).unwrap().1;
    assert_eq!(floats(&one), [0.0, 2.0 / 255.0, 4.0 / 255.0]);
    expect!["`mean` has 3 numbers, the field 1 channels; give one number or 1"]
        .assert_eq(&field(Normalize::from_options, table, "image", counted(1, 1, 1)).unwrap_err());
    let array = Array::new(Dtype::U8, [1, 1, 3], vec![1, 2, 3]).unwrap();
    expect!["image: u8 [1, 1, 3] is neither an image nor f32; put a `to-f32` before"]
        .assert_eq(&field(Normalize::from_options, table, "image", array).unwrap_err());
}

#[test]
fn to_nchw_puts_channels_first() {
    let (spec, bytes) = field(ToNchw::from_options, "", "image", counted(2, 2, 3)).unwrap();
    assert_eq!((spec.as_str(), bytes), ("image: u8 [3, 2, 2]", vec![0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]));
    let array = Array::new(Dtype::U8, [2, 1, 2, 2], (0..8).collect()).unwrap();
    let (spec, bytes) = field(ToNchw::from_options, "", "image", array).unwrap();
    assert_eq!((spec.as_str(), bytes), ("image: u8 [2, 2, 1, 2]", vec![0, 2, 1, 3, 4, 6, 5, 7]));
    let numbers: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0].iter().flat_map(|number| number.to_le_bytes()).collect();
    let array = Array::new(Dtype::F32, [1, 2, 2], numbers).unwrap();
    let (spec, bytes) = field(ToNchw::from_options, "", "image", array).unwrap();
    assert_eq!((spec.as_str(), floats(&bytes)), ("image: f32 [2, 1, 2]", vec![1.0, 3.0, 2.0, 4.0]));
    expect!["label: i64 [] has not the shape [height, width, channels]"]
        .assert_eq(&field(ToNchw::from_options, "field = 'label'", "label", Array::scalar_i64(1)).unwrap_err());
    expect!["the sample has no field `image`; it has label: i64 []"]
        .assert_eq(&field(ToNchw::from_options, "", "label", Array::scalar_i64(1)).unwrap_err());
}

#[test]
fn one_hot_has_a_one_at_the_class() {
    let (spec, bytes) = field(OneHot::from_options, "classes = 4", "label", Array::scalar_i64(2)).unwrap();
    assert_eq!((spec.as_str(), integers(&bytes)), ("label: i64 [4]", vec![0, 0, 1, 0]));
    let table = "classes = 3\ndtype = 'f32'";
    let (spec, bytes) = field(OneHot::from_options, table, "label", Array::from_i64(&[2, 0])).unwrap();
    assert_eq!((spec.as_str(), floats(&bytes)), ("label: f32 [2, 3]", vec![0.0, 0.0, 1.0, 1.0, 0.0, 0.0]));
    expect!["the class 4 is none of `classes` = 4, 0 to 3"]
        .assert_eq(&field(OneHot::from_options, "classes = 4", "label", Array::scalar_i64(4)).unwrap_err());
    expect!["the class -1 is none of `classes` = 4, 0 to 3"]
        .assert_eq(&field(OneHot::from_options, "classes = 4", "label", Array::scalar_i64(-1)).unwrap_err());
    expect!["label: f32 [] holds no classes, which are integers"]
        .assert_eq(&field(OneHot::from_options, "classes = 4", "label", Array::scalar_f32(1.0)).unwrap_err());
    let mask = Value::Mask(Image::new(30_000, 1, 1, vec![0; 30_000]).unwrap());
    expect!["[30000, 1, 1048576] of i64 are more than 1073741824 bytes"]
        .assert_eq(&field(OneHot::from_options, "classes = 1_048_576", "label", mask).unwrap_err());
}

#[test]
fn label_map_gives_classes_other_numbers() {
    let label = |table: &str, label: i64| {
        field(LabelMap::from_options, table, "label", Array::scalar_i64(label)).map(|(_, bytes)| integers(&bytes)[0])
    };
    assert_eq!(label("map = { 3 = 0, 7 = 1 }", 7), Ok(1));
    assert_eq!(label("map = [5, 6]", 0), Ok(5));
    assert_eq!(label("map = { -1 = 9 }", -1), Ok(9));
    assert_eq!(label("map = [5, 6]\ndefault = -100", 2), Ok(-100));
    expect!["the class 2 has no new one in `map`; add it, or give a `default`"]
        .assert_eq(&label("map = [5, 6]", 2).unwrap_err());
    let mask = || Value::Mask(Image::new(1, 4, 1, vec![0, 1, 255, 1]).unwrap());
    let table = "field = 'mask'\nmap = { 0 = 3, 1 = 4 }\ndefault = 0";
    let sample = make(LabelMap::from_options, table).apply(Sample::new().with("mask", mask()), &mut rng()).unwrap();
    assert_eq!(sample.get("mask"), Some(&Value::Mask(Image::new(1, 4, 1, vec![3, 4, 0, 4]).unwrap())));
    expect!["the class 255 has no new one in `map`; add it, or give a `default`"]
        .assert_eq(&field(LabelMap::from_options, "field = 'mask'\nmap = [0, 1]", "mask", mask()).unwrap_err());
    expect!["the new class 300 is not in range of u8; `cast` the mask before"].assert_eq(
        &field(LabelMap::from_options, "field = 'mask'\nmap = [300]\ndefault = 0", "mask", mask()).unwrap_err(),
    );
}

#[test]
fn classes_are_called_what_they_were() {
    let classes = |map: &str| {
        let table = format!(
            "dataset = {{ kind = 'rows', len = 1, classes = ['ant', 'bee', 'cat', 'dog', 'eel', 'fox'] }}
             transforms = [{{ kind = 'label-map', {map} }}]"
        );
        Folder::new().open_by(&Rows::registry(), &table).unwrap().classes().to_vec()
    };
    assert_eq!(classes("map = { 3 = 0, 5 = 1 }"), ["dog", "fox"]);
    assert_eq!(classes("map = { 0 = 2, 4 = 0 }, default = -1"), ["eel", "1", "ant"]);
    assert_eq!(classes("map = { 0 = 1, 1 = 1 }, default = 0"), ["cat or dog or eel or fox", "ant or bee"]);
    assert_eq!(classes("map = { 0 = 1 }, default = 0"), ["bee or 4 others", "ant"]);
    assert_eq!(classes("map = { 0 = 9_223_372_036_854_775_807 }").len(), 0);
    assert_eq!(classes("map = [0], field = 'row'").len(), 6);
}

#[test]
fn standardize_knows_its_columns() {
    let table = "mean = [1, 10]\nstd = [2, 5]";
    let (spec, bytes) = field(Standardize::from_options, table, "input", Array::from_f32(&[5.0, 0.0])).unwrap();
    assert_eq!((spec.as_str(), floats(&bytes)), ("input: f32 [2]", vec![2.0, -2.0]));
    let (spec, bytes) = field(Standardize::from_options, "mean = 1\nstd = 2", "input", Array::scalar_i64(5)).unwrap();
    assert_eq!((spec.as_str(), floats(&bytes)), ("input: f32 []", vec![2.0]));
    let wide = Array::new(Dtype::F64, [2, 2], [1.0_f64, 10.0, 3.0, 15.0].map(f64::to_le_bytes).concat()).unwrap();
    let (spec, bytes) = field(Standardize::from_options, table, "input", wide).unwrap();
    let expected: Vec<u8> = [0.0_f64, 0.0, 1.0, 1.0].map(f64::to_le_bytes).concat();
    assert_eq!((spec.as_str(), bytes), ("input: f64 [2, 2]", expected));
    expect!["`mean` has 2 numbers, the field 3 columns; give one number or 3"]
        .assert_eq(&field(Standardize::from_options, table, "input", Array::from_f32(&[1.0, 2.0, 3.0])).unwrap_err());
}

#[test]
fn clip_keeps_numbers_within_bounds() {
    let clipped = |table: &str| {
        let array = Array::from_f32(&[-5.0, 0.25, 7.0, f32::NAN]);
        floats(&field(Clip::from_options, table, "input", array).unwrap().1)
    };
    assert_eq!(clipped("min = 0\nmax = 1")[..3], [0.0, 0.25, 1.0]);
    assert!(clipped("min = 0\nmax = 1")[3].is_nan(), "PyTorch's clamp leaves it as well");
    assert_eq!(clipped("max = 1")[..3], [-5.0, 0.25, 1.0]);
    let (spec, bytes) =
        field(Clip::from_options, "min = -1.5\nmax = 2.5", "input", Array::from_i64(&[-9, 2, 9])).unwrap();
    assert_eq!((spec.as_str(), integers(&bytes)), ("input: i64 [3]", vec![-1, 2, 2]));
    let largest = Array::from_i64(&[i64::MAX]);
    assert_eq!(integers(&field(Clip::from_options, "min = 0", "input", largest).unwrap().1), [i64::MAX]);
    expect!["input: i64 [1] holds integers, and none is from 0.2 to 0.8"]
        .assert_eq(&field(Clip::from_options, "min = 0.2\nmax = 0.8", "input", Array::from_i64(&[0])).unwrap_err());
}

#[test]
fn cast_goes_from_every_dtype_to_every_dtype() {
    let names = ["bool", "u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64", "f16", "bf16", "f32", "f64"];
    for from in names {
        let start = make(Cast::from_options, &format!("dtype = '{from}'"));
        for to in names {
            let cast = make(Cast::from_options, &format!("dtype = '{to}'"));
            let back = make(Cast::from_options, "dtype = 'f32'");
            let sample = Sample::new().with("input", Array::from_f32(&[0.0, 1.0]));
            let sample = [&start, &cast, &back].into_iter().fold(sample, |sample, cast| {
                cast.apply(sample, &mut rng()).unwrap_or_else(|error| panic!("{from} to {to}: {error}"))
            });
            assert_eq!(sample.get("input"), Some(&Array::from_f32(&[0.0, 1.0]).into()), "{from} to {to}");
        }
    }
}

#[test]
fn cast_rounds_as_pytorch_and_refuses_what_has_no_place() {
    let cast = |dtype: &str, number: f32| {
        field(Cast::from_options, &format!("dtype = '{dtype}'"), "input", Array::from_f32(&[number]))
            .map(|(_, bytes)| bytes)
    };
    assert_eq!(cast("i8", -3.9), Ok(vec![253]));
    assert_eq!(cast("u8", 255.9), Ok(vec![255]));
    assert_eq!(cast("bool", -0.5), Ok(vec![1]));
    assert_eq!(cast("f16", 1.0), Ok(0x3c00_u16.to_le_bytes().to_vec()));
    assert_eq!(cast("f16", 70_000.0), Ok(0x7c00_u16.to_le_bytes().to_vec()));
    // Of 1 + 2^-8, half way between two, the even one.
    assert_eq!(cast("bf16", 1.0 + 2.0_f32.powi(-8)), Ok(0x3f80_u16.to_le_bytes().to_vec()));
    expect!["the value 256 at place 0 is not in range of u8"].assert_eq(&cast("u8", 256.0).unwrap_err());
    expect!["the value -1 at place 0 is not in range of u64"].assert_eq(&cast("u64", -1.0).unwrap_err());
    expect!["the value NaN at place 0 is not in range of i32"].assert_eq(&cast("i32", f32::NAN).unwrap_err());
    expect!["the value inf at place 0 is not in range of i64"].assert_eq(&cast("i64", f32::INFINITY).unwrap_err());
    let wide = Array::from_i64(&[i64::MAX]);
    let same = field(Cast::from_options, "dtype = 'u64'", "input", wide.clone()).unwrap().1;
    assert_eq!(same, i64::MAX.to_le_bytes());
    expect!["the value 9223372036854775807 at place 0 is not in range of i32"]
        .assert_eq(&field(Cast::from_options, "dtype = 'i32'", "input", wide).unwrap_err());
    let mask = Value::Mask(counted(1, 2, 1));
    let (spec, bytes) = field(Cast::from_options, "dtype = 'i64'\nfield = 'mask'", "mask", mask).unwrap();
    assert_eq!((spec.as_str(), integers(&bytes)), ("mask: i64 [1, 2]", vec![0, 1]));
}

#[test]
fn wrong_options_of_what_makes_tensors_are_refused() {
    fn check<T: Transform>(new: fn(&mut Options) -> Result<T, SpecError>, table: &str, expected: Expect) {
        expected.assert_eq(&refusal(new, table));
    }
    check(Normalize::from_options, "mean = 0.5", expect!["transform `any` needs the key `std`"]);
    check(
        Normalize::from_options,
        "mean = [0.5, 0.5]\nstd = [0.1, 0.1, 0.1]",
        expect!["transform `any`: `std` has 3 numbers, `mean` 2"],
    );
    check(
        Standardize::from_options,
        "mean = 0\nstd = [1, 0]",
        expect!["transform `any`: `std` holds 0; a standard deviation is above 0"],
    );
    check(
        Normalize::from_options,
        "mean = 'imagenet'\nstd = 1",
        expect![[r#"transform `any`: `mean` is "imagenet", not a number or a list of numbers"#]],
    );
    check(
        OneHot::from_options,
        "classes = 3\ndtype = 'u8'",
        expect![[r#"transform `any`: `dtype` is "u8", not `i64` or `f32`"#]],
    );
    check(
        LabelMap::from_options,
        "map = { cat = 1 }",
        expect![
            "transform `any`: `map` is { cat = 1 }, not integers by integers: { old = new, ... } or [new for 0, new for 1, ...]"
        ],
    );
    check(Clip::from_options, "", expect!["transform `any` needs the key `min`"]);
    check(Clip::from_options, "min = 2\nmax = 1", expect!["transform `any`: `min` is 2, above `max`, which is 1"]);
    check(
        Cast::from_options,
        "dtype = 'f23'",
        expect![[
            r#"transform `any`: `dtype` is "f23", not `bool` or `u8` or `i8` or `u16` or `i16` or `u32` or `i32` or `u64` or `i64` or `f16` or `bf16` or `f32` or `f64`; did you mean `f32`?"#
        ]],
    );
}
