//! `loader peek` and `loader inspect`: what a person is shown of the data.

use std::fs;

use batchmill_protocol::client::Subscription;
use batchmill_tests::{Programs, programs, told};
use serde_json::Value;

const PROGRAMS: Programs = programs!();

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("a JSON object")
}

#[test]
fn peek_draws_the_batch_that_trainers_get() {
    let data = PROGRAMS.sample_data(200);
    let config = data.path().join("shapes/loader.toml");
    let sheet = data.path().join("sheet.png");
    let loader = PROGRAMS.serve(&data.path().join("shapes"), &fs::read_to_string(&config).unwrap());
    let arguments = ["peek", "--stream", "train", "--from", "2:1", "--rows", "10", "--json"];
    let served = loader.command(&[&arguments[..], &["--out", sheet.to_str().unwrap()]].concat());
    assert!(served.status.success(), "{served:?}");
    let mut served = json(&String::from_utf8(served.stdout).unwrap());
    assert_eq!((&served["epoch"], &served["step"]), (&2.into(), &1.into()));
    assert_eq!(served["rows"].as_array().unwrap().len(), 10);

    // The same from the configuration, without a loader.
    let typed = PROGRAMS.says(arguments.iter().copied().chain(["--config", config.to_str().unwrap()]));
    served.as_object_mut().unwrap().remove("sheet");
    assert_eq!(json(&typed), served);

    // And what a trainer reads there.
    let mut member = loader.attach(&Subscription::new("train").epochs(2, Some(3)));
    member.next().unwrap();
    let batch = member.next().unwrap().unwrap();
    let indices: Vec<u64> = batch.indices().take(10).collect();
    let shown: Vec<u64> = served["rows"].as_array().unwrap().iter().map(|row| row["index"].as_u64().unwrap()).collect();
    assert_eq!(shown, indices);

    // Ten tiles of 28 x 28 pixels, each enlarged four times, on one line.
    let drawn = image::open(&sheet).unwrap().into_rgb8();
    assert_eq!(drawn.dimensions(), (10 * (4 * 28 + 8) + 8, 4 * 28 + 8 + 3 * 8));
    let rows = batch.field("image").unwrap();
    for (place, image) in (0_u32..10).zip(rows.chunks_exact(28 * 28)) {
        let seen = drawn.get_pixel(8 + place * (4 * 28 + 8) + 4 * 14 + 1, 8 + 4 * 14 + 1);
        assert_eq!(seen.0, [image[14 * 28 + 14]; 3], "the middle of row {place}");
    }
    drop((batch, member));
    loader.stop();
}

#[test]
fn a_stream_without_images_is_listed_and_not_drawn() {
    let data = batchmill_tests::folder();
    let config = data.path().join("loader.toml");
    fs::write(
        &config,
        "[stream.n]\ndataset = { kind = 'numbers', len = 7 }\n[stream.m]\ndataset = { kind = 'numbers', len = 3 }\n",
    )
    .unwrap();
    let peek = |more: &[&str]| PROGRAMS.run_loader([&["peek", "--config", config.to_str().unwrap()], more].concat());
    let listed = peek(&["--stream", "n"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(listed.lines().count(), 1 + 7, "{listed}");
    assert!(listed.lines().nth(3).unwrap().ends_with("number 2"), "{listed}");
    assert!(told(&peek(&["--stream", "n", "--out", "/nowhere/a.png"])).contains("leave out --out to list its rows"));
    assert_eq!(told(&peek(&[])), "say which stream, with --stream NAME: there are m, n");
    assert_eq!(told(&peek(&["--stream", "o"])), "there is no stream `o`: there are m, n");
}

#[test]
fn inspect_counts_classes_and_lists_what_is_broken() {
    let data = PROGRAMS.sample_data(64);
    let shapes = data.path().join("shapes");
    let rows: Vec<String> =
        fs::read_to_string(shapes.join("train.csv")).unwrap().lines().skip(1).map(str::to_owned).collect();
    let file = |row: &str| shapes.join(row.split(',').next().unwrap());
    // One torn, one of another size.
    let torn = file(&rows[5]);
    let bytes = fs::read(&torn).unwrap();
    fs::write(&torn, &bytes[..bytes.len() / 2]).unwrap();
    image::GrayImage::new(9, 20).save_with_format(file(&rows[8]), image::ImageFormat::Png).unwrap();

    let list = data.path().join("broken.csv");
    let config = shapes.join("loader.toml");
    let arguments = ["inspect", "--stream", "train", "--config", config.to_str().unwrap()];
    let found = PROGRAMS.says(arguments.iter().copied().chain([
        "--json",
        "--threads",
        "3",
        "--broken",
        list.to_str().unwrap(),
    ]));
    let found = json(&found);
    assert_eq!((&found["samples"], &found["inspected"]), (&64.into(), &64.into()));
    let classes = found["classes"].as_array().unwrap();
    for class in classes {
        let name = class["name"].as_str().unwrap();
        // The torn one has a label, but no sample to have it.
        let is_of = |row: &&String| row.ends_with(&format!(",{name}")) && **row != rows[5];
        assert_eq!(class["samples"].as_u64(), Some(rows.iter().filter(is_of).count() as u64), "{name}");
    }
    assert_eq!(classes.iter().map(|class| class["samples"].as_u64().unwrap()).sum::<u64>(), 63);
    let sizes = found["sizes"].as_array().unwrap();
    assert_eq!(sizes.len(), 2);
    assert_eq!((&sizes[1]["height"], &sizes[1]["width"]), (&20.into(), &9.into()));

    let listed = fs::read_to_string(&list).unwrap();
    let listed: Vec<&str> = listed.lines().collect();
    assert_eq!((listed.len(), listed[0]), (3, "index,name,reason"));
    assert!(listed[1].contains("broken PNG"), "{listed:?}");
    assert!(listed[2].contains("image: u8 [20, 9, 1], where others have image: u8 [28, 28, 1]"), "{listed:?}");

    // For a person.
    let text = PROGRAMS.says(arguments);
    assert!(text.contains("broken: 2 of 64"), "{text}");
    assert!(text.matches('█').count() > 40, "{text}");
}
