//! What is allocated for a sample when buffers have grown to what they must be.

use allocation_counter::measure;
use batchmill_datasets::pipeline::{Pipeline, RowLabel, RowSink};
use batchmill_protocol::position::{Position, Rows};

use crate::npy::npy;
use crate::support::{Folder, jpeg, survey};

const ROWS: u32 = 16;

/// Room for a batch: of each field the bytes of a row, and all rows.
struct Slot(Vec<(usize, Vec<u8>)>);

impl RowSink for Slot {
    fn attempt(&mut self, _: u64, _: &str) {}

    fn room(&mut self, row: u32, field: usize) -> &mut [u8] {
        let (row_bytes, bytes) = &mut self.0[field];
        &mut bytes[row as usize * *row_bytes..][..*row_bytes]
    }

    fn finish(&mut self, _: u32, _: RowLabel) {}

    fn rooms(&mut self, rows: Rows, field: usize) -> Option<&mut [u8]> {
        let (row_bytes, bytes) = &mut self.0[field];
        Some(&mut bytes[rows.lo as usize * *row_bytes..rows.hi as usize * *row_bytes])
    }
}

/// Allocations for a sample more in a batch, when batches have been made before.
fn allocations(pipeline: &Pipeline) -> u64 {
    const MORE: u32 = ROWS / 2;
    let fields = survey(pipeline).unwrap();
    let room = |bytes: usize| (bytes, vec![0; bytes * ROWS as usize]);
    let mut slot = Slot(fields.iter().map(|field| room(field.row_bytes().unwrap())).collect());
    let mut fill = |step, hi| {
        let position = Position { epoch: 0, step };
        measure(|| assert_eq!(pipeline.fill(&fields, position, Rows { lo: 0, hi }, &mut slot).unwrap(), [])).count_total
    };
    // Buffers grow to what they must be.
    for step in 0..2 {
        fill(step, ROWS);
    }
    let (all, some) = (fill(2, ROWS), fill(2, ROWS - MORE));
    // A list of all rows may grow once more.
    (all - some) / u64::from(MORE)
}

fn photos(width: u32, height: u32, transforms: &str) -> u64 {
    let mut folder = Folder::new();
    let mut list = String::from("filepath,label\n");
    for number in 0..3 * ROWS {
        folder = folder.with(&format!("{number}.jpg"), jpeg(width, height));
        list.push_str(&format!("{number}.jpg,{}\n", number % 3));
    }
    let folder = folder.with("labels.csv", list);
    let dataset = "dataset = { kind = 'image-folder-csv', images = '.', labels = 'labels.csv' }";
    let stream = format!("{dataset}\nsampler = 'shuffled'\nbatch_size = {ROWS}\ntransforms = [{transforms}]");
    allocations(&folder.open(&stream).unwrap())
}

#[test]
fn of_a_small_photo_there_are_none() {
    assert_eq!(photos(32, 32, ""), 0);
    assert_eq!(photos(40, 36, "{ kind = 'center-crop', size = 32 }, 'horizontal-flip'"), 0);
    assert_eq!(photos(40, 36, "{ kind = 'center-crop', size = 32 }, 'to-f32', 'to-nchw'"), 0);
}

#[test]
fn of_a_scaled_photo_there_are_none() {
    assert_eq!(photos(90, 80, "{ kind = 'random-resized-crop', size = 24 }, 'horizontal-flip'"), 0);
    assert_eq!(photos(90, 80, "{ kind = 'resize', size = 40 }, { kind = 'center-crop', size = 32 }"), 0);
}

#[test]
fn of_a_row_there_are_none() {
    let pixels: Vec<u8> = (0..3 * ROWS * 6).map(|number| number.to_le_bytes()[0]).collect();
    let folder = Folder::new().with("x.npy", npy("|u1", &format!("({}, 6)", 3 * ROWS), &pixels));
    let dataset = "dataset = { kind = 'npy', fields = { image = 'x.npy' } }";
    for transforms in ["", "'to-f32'"] {
        let stream = format!("{dataset}\nbatch_size = {ROWS}\ntransforms = [{transforms}]");
        assert_eq!(allocations(&folder.open(&stream).unwrap()), 0, "{transforms}");
    }
}
