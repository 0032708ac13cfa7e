//! Image files that cannot be used, among many that can: what stands in for them, and what never moves.

use std::fs;
use std::os::unix::net::UnixListener;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use batchmill_datasets::builtin;
use batchmill_datasets::pipeline::{ATTEMPTS_MAX, Pipeline, RowLabel};
use batchmill_datasets::random::Rng;
use batchmill_datasets::registry::Registry;
use batchmill_datasets::sample::Sample;
use batchmill_datasets::transform::{Transform, TransformError, image_mut};
use batchmill_protocol::position::{Position, Rows};
use batchmill_protocol::tensor::{Dtype, FieldSpec};
use expect_test::expect;

use crate::support::{Batch, Folder, drawn, jpeg, png, survey, touch};

/// Files of the image folder.
const FILES: u64 = 300;

/// A sampler that draws another order for every epoch, batches that do not divide the epoch, a transform that draws.
const IMAGES: &str = "
    dataset = { kind = 'image-folder-csv', images = 'images', labels = 'train.csv' }
    sampler = 'shuffled'
    transforms = ['speckle']
    batch_size = 32
    tail = 'pad'
    seed = 11";

/// Adds a random number to every byte of the image.
#[derive(Debug)]
struct Speckle;

impl Transform for Speckle {
    fn apply(&self, mut sample: Sample, rng: &mut Rng) -> Result<Sample, TransformError> {
        let speckle = speckle(rng);
        for byte in image_mut(&mut sample)?.pixels_mut() {
            *byte = byte.wrapping_add(speckle);
        }
        Ok(sample)
    }
}

fn speckle(rng: &mut Rng) -> u8 {
    u8::try_from(rng.below(256)).unwrap()
}

fn at(epoch: u64, step: u64) -> Position {
    Position { epoch, step }
}

fn registry() -> Registry {
    builtin().transform("speckle", |_| Ok(Speckle))
}

/// Images of one size, each of another colour, and what a broken one may be.
struct Images {
    whole: Folder,
    broken: Folder,
    bad: Vec<u64>,
}

/// [`FILES`] images, and the same with one of every `one_in` broken, each in another way.
fn images(one_in: u64) -> Images {
    let mut csv = String::new();
    let (mut whole, mut broken, mut bad) = (Folder::new(), Folder::new(), Vec::new());
    for index in 0..FILES {
        let shade = image::Rgb([index, index / 2, 255 - index % 256].map(|part| u8::try_from(part % 256).unwrap()));
        let bytes = crate::support::encode(image::RgbImage::from_pixel(8, 8, shade), image::ImageFormat::Png);
        let name = format!("images/{index}.png");
        csv += &format!("{index}.png,{}\n", index % 10);
        // Not the same residue in every block: a broken file has broken and whole neighbours.
        let is_bad = Rng::new(index / one_in, 0, 0, 0, 0).below(one_in) == index % one_in;
        broken = match bad.len() % 4 {
            _ if !is_bad => broken.with(&name, &bytes),
            0 => broken.with(&name, &jpeg(64, 48)[..700]),
            1 => broken.with(&name, "not an image at all"),
            2 => broken.with(&name, ""),
            _ => broken.with(&name, png(9, 8)),
        };
        bad.extend(is_bad.then_some(index));
        whole = whole.with(&name, bytes);
    }
    assert_eq!(bad.len() as u64, FILES / one_in);
    Images { whole: whole.with("train.csv", &csv), broken: broken.with("train.csv", csv), bad }
}

fn open(folder: &Folder, on_bad: &str) -> Pipeline {
    folder.open_by(&registry(), &format!("{IMAGES}\non_bad = '{on_bad}'")).unwrap()
}

fn epoch(pipeline: &Pipeline, epoch: u64) -> Vec<Batch> {
    let fields = survey(pipeline).unwrap();
    let steps = 0..pipeline.extent().steps();
    steps.map(|step| Batch::fill(pipeline, &fields, at(epoch, step)).unwrap()).collect()
}

#[test]
fn rows_do_not_depend_on_the_ranges_they_are_filled_in() {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    println!("seed {seed}");
    let mut rng = Rng::new(seed, 0, 0, 0, 0);
    for one_in in [100, 10] {
        let images = images(one_in);
        for on_bad in ["substitute", "mask"] {
            let alone = epoch(&open(&images.broken, on_bad), 3);
            // Each range by a process of its own: it opens the stream for itself.
            let workers = [(); 3].map(|()| open(&images.broken, on_bad));
            for (step, whole) in (0..).zip(&alone) {
                let fields = survey(&workers[0]).unwrap();
                let cuts = [rng.below(33), rng.below(33)].map(|cut| u32::try_from(cut).unwrap());
                let (lo, hi) = (cuts[0].min(cuts[1]), cuts[0].max(cuts[1]));
                let mut parts = Batch::empty(&fields, 32);
                for (worker, (lo, hi)) in workers.iter().zip([(hi, 32), (0, lo), (lo, hi)]) {
                    parts.fill_rows(worker, &fields, at(3, step), Rows { lo, hi }).unwrap();
                }
                parts.bad.sort_by_key(|bad| bad.row);
                assert_eq!(parts.rows, whole.rows, "{on_bad}, one in {one_in}, step {step}");
                assert_eq!((parts.labels, parts.bad), (whole.labels.clone(), whole.bad.clone()));
            }
        }
    }
}

#[test]
fn a_bad_sample_moves_no_other() {
    for one_in in [100, 10] {
        let images = images(one_in);
        let (whole, bad) = (epoch(&open(&images.whole, "fail"), 2), &images.bad);
        for on_bad in ["substitute", "mask"] {
            let broken = epoch(&open(&images.broken, on_bad), 2);
            let mut replaced = Vec::new();
            for (row, (whole, broken)) in rows(&whole).zip(rows(&broken)).enumerate() {
                let (label, expected) = (broken.1, whole.1);
                if bad.contains(&expected.index) {
                    assert_eq!((label.substituted, label.masked), (on_bad == "substitute", on_bad == "mask"));
                    assert_eq!(label.padding, expected.padding);
                    replaced.extend((!label.padding).then_some(expected.index));
                } else {
                    assert_eq!(broken, whole, "{on_bad}, row {row} of the epoch");
                }
            }
            replaced.sort_unstable();
            assert_eq!(replaced, *bad, "each bad sample is replaced once an epoch");
        }
    }
}

/// Bytes and label of all rows of an epoch.
fn rows(epoch: &[Batch]) -> impl Iterator<Item = (&Vec<Vec<u8>>, RowLabel)> {
    epoch.iter().flat_map(|batch| batch.rows.iter().zip(batch.labels.iter().map(|label| label.unwrap())))
}

#[test]
fn a_substitute_is_drawn_by_place_and_transformed_where_it_stands() {
    let images = images(10);
    let (pipeline, whole) = (open(&images.broken, "substitute"), open(&images.whole, "fail"));
    let fields = survey(&whole).unwrap();
    // What the sampler says: the orders of both streams are one.
    let order: Vec<_> = rows(&epoch(&whole, 1)).map(|(_, label)| label.index).take(300).collect();
    let mut substituted = 0;
    for (place, (bytes, label)) in (0..FILES).zip(rows(&epoch(&pipeline, 1))) {
        if !label.substituted {
            continue;
        }
        substituted += 1;
        let candidates =
            (1..=ATTEMPTS_MAX).map(|attempt| order[usize::try_from(drawn(11, 1, place, attempt, FILES)).unwrap()]);
        let index = candidates.into_iter().find(|index| !images.bad.contains(index)).unwrap();
        assert_eq!(label.index, index, "place {place}");
        // The picture of the substitute, with the speckle of this place.
        let row = order.iter().position(|&sample| sample == index).unwrap() as u64;
        let mut alone = Batch::empty(&fields, 32);
        let (step, lo) = (row / 32, u32::try_from(row % 32).unwrap());
        alone.fill_rows(&whole, &fields, at(1, step), Rows { lo, hi: lo + 1 }).unwrap();
        let elsewhere = speckle(&mut Rng::new(11, 1, row, index, 0));
        let here = speckle(&mut Rng::new(11, 1, place, index, 0));
        let expected: Vec<_> =
            alone.rows[lo as usize][0].iter().map(|byte| byte.wrapping_sub(elsewhere).wrapping_add(here)).collect();
        assert_eq!(bytes[0], expected);
        assert_eq!(bytes[1], (index % 10).to_le_bytes());
    }
    assert_eq!(substituted, images.bad.len());
}

#[test]
fn files_that_changed_are_never_substituted() {
    let images = images(10);
    let good = (0..).find(|index| !images.bad.contains(index)).unwrap();
    let file = images.broken.path(&format!("images/{good}.png"));
    let image = fs::read(&file).unwrap();
    for on_bad in ["fail", "substitute", "mask"] {
        fs::write(&file, &image).unwrap();
        let label = [FieldSpec::new("label", Dtype::I64, [])];
        let table = format!("{IMAGES}\non_bad = '{on_bad}'").replace("shuffled", "sequential");
        let pipeline = images.broken.open_by(&registry(), &table).unwrap();
        let failure = || {
            let rows = u32::try_from(good).unwrap();
            let mut batch = Batch::empty(&label, 32);
            let filled = batch.fill_rows(&pipeline, &label, at(0, 0), Rows { lo: rows, hi: rows + 1 });
            images.broken.report(&filled.unwrap_err()).replace(&format!("{good}.png"), "GOOD")
        };
        touch(&file, UNIX_EPOCH + Duration::from_secs(1));
        expect!["~/images/GOOD has changed since the loader read its index: it was written to; put it back as it was, or have the loader take it as it is with `loader quarantine --retry`"]
        .assert_eq(&failure());
        fs::write(&file, "cut").unwrap();
        assert!(failure().contains("has changed since the loader read its index: it has 3 bytes and had"));
        fs::write(&file, [&image[..], b"and more"].concat()).unwrap();
        assert!(failure().contains("has changed since the loader read its index: it has"));
        fs::remove_file(&file).unwrap();
        expect!["~/images/GOOD has changed since the loader read its index: it is gone; put it back as it was, or have the loader take it as it is with `loader quarantine --retry`"]
        .assert_eq(&failure());
        let (folder, away) = (images.broken.path("images"), images.broken.path("away"));
        fs::rename(&folder, &away).unwrap();
        assert!(failure().contains("it is gone"));
        fs::write(&folder, "a file where the folder was").unwrap();
        expect!["~/images/GOOD has changed since the loader read its index: it cannot be looked at: Not a directory (os error 20); put it back as it was, or have the loader take it as it is with `loader quarantine --retry`"]
        .assert_eq(&failure());
        fs::remove_file(&folder).unwrap();
        fs::rename(&away, &folder).unwrap();
    }
}

#[test]
fn a_file_that_cannot_be_opened_though_unchanged_is_a_bad_sample() {
    // The address of a socket is a file without content that nobody can open, not even root.
    let folder =
        Folder::new().with("images/a.png", png(3, 3)).with("images/b.png", "").with("train.csv", "a.png,1\nb.png,1\n");
    let (file, socket) = (folder.path("images/b.png"), folder.path("socket"));
    let _listener = UnixListener::bind(&socket).unwrap();
    touch(&file, fs::metadata(&socket).unwrap().modified().unwrap());
    let table = "dataset = { kind = 'image-folder-csv', images = 'images', labels = 'train.csv' }\non_bad = 'mask'";
    let pipeline = folder.open(table).unwrap();
    fs::rename(&socket, &file).unwrap();
    let batch = Batch::fill(&pipeline, &survey(&pipeline).unwrap(), at(0, 0)).unwrap();
    assert!(batch.labels[1].unwrap().masked);
    let reason = batch.bad[0].reason.replace(&folder.path("").display().to_string(), "~/");
    expect!["read ~/images/b.png: No such device or address (os error 6)"].assert_eq(&reason);
}

#[test]
fn what_cannot_be_opened_and_is_another_file_has_changed() {
    let folder = Folder::new().with("images/a.png", png(3, 3)).with("train.csv", "a.png,1\n");
    let file = folder.path("images/a.png");
    let table = "dataset = { kind = 'image-folder-csv', images = 'images', labels = 'train.csv' }\non_bad = 'mask'";
    let pipeline = folder.open(table).unwrap();
    fs::remove_file(&file).unwrap();
    let _listener = UnixListener::bind(&file).unwrap();
    let failure = folder.report(&survey(&pipeline).unwrap_err());
    let bytes = png(3, 3).len();
    assert_eq!(
        failure,
        format!(
            "~/images/a.png has changed since the loader read its index: it has 0 bytes and had {bytes}; put it back as \
             it was, or have the loader take it as it is with `loader quarantine --retry`"
        )
    );
}

#[test]
fn a_file_that_a_transform_cannot_change_is_a_bad_sample() {
    let folder = Folder::new()
        .with("images/a.png", png(9, 9))
        .with("images/b.png", png(3, 9))
        .with("train.csv", "a.png,1\nb.png,1\n");
    let table = "dataset = { kind = 'image-folder-csv', images = 'images', labels = 'train.csv' }
        transforms = [{ kind = 'center-crop', size = 5 }]\non_bad = 'mask'";
    let pipeline = folder.open(table).unwrap();
    let batch = Batch::fill(&pipeline, &survey(&pipeline).unwrap(), at(0, 0)).unwrap();
    assert!(batch.labels[1].unwrap().masked);
    assert!(batch.bad[0].reason.contains("b.png: transform 1, `center-crop`: the image has 9 x 3 pixels"));
}
