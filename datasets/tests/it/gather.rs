//! Rows that are gathered at once: which are, and that they are those that are made one by one.

use std::time::UNIX_EPOCH;

use batchmill_datasets::pipeline::{Pipeline, RowLabel, RowSink};
use batchmill_protocol::position::{Position, Rows};
use batchmill_protocol::tensor::FieldSpec;
use zip::CompressionMethod;

use crate::csv_table::IRIS;
use crate::idx;
use crate::npy::{npy, npz};
use crate::support::{Batch, Folder, survey, touch};

/// A batch whose rows lie behind one another, as in a slot.
#[derive(Debug)]
struct Slot {
    fields: Vec<FieldSpec>,
    bytes: Vec<Vec<u8>>,
    labels: Vec<Option<RowLabel>>,
    /// What was said before many were read.
    many: Vec<String>,
    /// Rows that were finished together.
    together: u32,
}

impl Slot {
    fn fill(pipeline: &Pipeline, position: Position, rows: Rows) -> Self {
        let fields = survey(pipeline).unwrap();
        let batch_rows = pipeline.extent().rows(position.step) as usize;
        let bytes = fields.iter().map(|field| vec![0xee; field.row_bytes().unwrap() * batch_rows]).collect();
        let mut slot =
            Self { fields: fields.clone(), bytes, labels: vec![None; batch_rows], many: Vec::new(), together: 0 };
        assert_eq!(pipeline.fill(&fields, position, rows, &mut slot).unwrap(), []);
        slot
    }

    fn row_bytes(&self, field: usize) -> usize {
        self.fields[field].row_bytes().unwrap()
    }
}

impl RowSink for Slot {
    fn attempt(&mut self, _: u64, _: &str) {}

    fn room(&mut self, row: u32, field: usize) -> &mut [u8] {
        let bytes = self.row_bytes(field);
        &mut self.bytes[field][row as usize * bytes..][..bytes]
    }

    fn finish(&mut self, row: u32, label: RowLabel) {
        assert_eq!(self.labels[row as usize].replace(label), None, "row {row} is finished twice");
    }

    fn rooms(&mut self, rows: Rows, field: usize) -> Option<&mut [u8]> {
        let bytes = self.row_bytes(field);
        Some(&mut self.bytes[field][rows.lo as usize * bytes..rows.hi as usize * bytes])
    }

    fn attempt_many(&mut self, first: &str) {
        self.many.push(first.to_owned());
    }

    fn finish_many(&mut self, first: u32, labels: &[RowLabel]) {
        (first..).zip(labels).for_each(|(row, label)| self.finish(row, *label));
        self.together += u32::try_from(labels.len()).unwrap();
    }
}

/// Fills every batch of two epochs at once, and by ranges of three rows, and compares it with that of a sink that has room
/// for one row at a time. Gives how many of the rows were gathered.
fn gathered(pipeline: &Pipeline) -> (u32, u32) {
    let fields = survey(pipeline).unwrap();
    let (mut together, mut all) = (0, 0);
    for (epoch, step) in (0..2).flat_map(|epoch| (0..pipeline.extent().steps()).map(move |step| (epoch, step))) {
        let position = Position { epoch, step };
        let one_by_one = Batch::fill(pipeline, &fields, position).unwrap();
        let batch_rows = pipeline.extent().rows(step);
        let whole = Slot::fill(pipeline, position, Rows { lo: 0, hi: batch_rows });
        let parts = (0..batch_rows).step_by(3).map(|lo| Rows { lo, hi: (lo + 3).min(batch_rows) });
        for (slot, rows) in [(whole, Rows { lo: 0, hi: batch_rows })]
            .into_iter()
            .chain(parts.map(|rows| (Slot::fill(pipeline, position, rows), rows)))
        {
            for row in rows.lo as usize..rows.hi as usize {
                assert_eq!(slot.labels[row], one_by_one.labels[row], "row {row} of {position}");
                for (field, bytes) in slot.bytes.iter().enumerate() {
                    let row_bytes = slot.row_bytes(field);
                    let found = &bytes[row * row_bytes..][..row_bytes];
                    assert_eq!(found, one_by_one.rows[row][field], "row {row} of {position}, field {field}");
                }
            }
            assert!(slot.labels.iter().filter(|label| label.is_some()).count() == rows.len() as usize);
            together += slot.together;
            all += rows.len();
        }
    }
    (together, all)
}

fn check(folder: &Folder, table: &str, is_gathered: bool) {
    let pipeline = folder.open(table).unwrap();
    let (together, all) = gathered(&pipeline);
    assert_eq!(together, if is_gathered { all } else { 0 }, "{table}");
}

fn folder() -> Folder {
    let numbers: Vec<u8> = (0..=255).cycle().take(7 * 2 * 3).collect();
    let image = npy("|u1", "(7, 2, 3)", &numbers);
    let label = npy(">i2", "(7,)", &(0..7_i16).flat_map(i16::to_be_bytes).collect::<Vec<_>>());
    Folder::new()
        .with("images", idx::images())
        .with("labels", idx::labels())
        .with("table.csv", IRIS)
        .with("numbers.csv", "a,b,c,d\n1.5,2.5,3.5,4.5\n5,6,7,8\n9,10,11,12\n")
        .with("x.npy", &image)
        .with("y.npy", &label)
        .with("both.npz", npz(CompressionMethod::Deflated, &[("image.npy", &image), ("label.npy", &label)]))
}

const STREAM: &str = "sampler = 'shuffled'\nbatch_size = 5\ntail = 'pad'";

const IDX: &str = "{ kind = 'idx', images = 'images', labels = 'labels' }";

#[test]
fn rows_gathered_at_once_are_those_made_one_by_one() {
    let folder = folder();
    for dataset in [
        IDX,
        "{ kind = 'csv-table', file = 'table.csv', targets = ['species'] }",
        "{ kind = 'csv-table', file = 'table.csv', features = ['width'], targets = ['length'], target_kind = 'number' }",
        "{ kind = 'csv-table', file = 'numbers.csv', features = ['c', 'a'], targets = ['b', 'd'] }",
        "{ kind = 'npy', fields = { image = 'x.npy', label = 'y.npy' } }",
        "{ kind = 'npz', file = 'both.npz' }",
        &format!("{{ kind = 'subset', indices = [2, 0, 1, 1, 2, 0], dataset = {IDX} }}"),
        &format!("{{ kind = 'repeat', times = 3, dataset = {IDX} }}"),
    ] {
        check(&folder, &format!("dataset = {dataset}\n{STREAM}"), true);
        check(&folder, &format!("dataset = {dataset}\nbatch_size = 4"), true);
    }
    let table = format!("dataset = {IDX}\nfields = ['label']\nbatch_size = 2");
    check(&folder, &table, true);
}

#[test]
fn a_table_of_bytes_gives_the_numbers_of_its_transform() {
    let folder = folder();
    let images = "dataset = { kind = 'npy', fields = { image = 'x.npy', label = 'y.npy' } }";
    let transforms = ["'to-f32'", "{ kind = 'normalize', mean = 0.3, std = [0.2] }"];
    for transform in transforms {
        for dataset in [format!("dataset = {IDX}"), images.to_owned()] {
            check(&folder, &format!("{dataset}\n{STREAM}\ntransforms = [{transform}]"), true);
        }
    }
    // Of three channels, each with a table of its own.
    let numbers: Vec<u8> = (0..=255).cycle().take(4 * 5 * 3 * 3).collect();
    let folder = folder.with("colors.npy", npy("|u1", "(4, 5, 3, 3)", &numbers));
    let normalize = "{ kind = 'normalize', mean = [0.1, 0.5, 0.9], std = [0.2, 0.3, 0.4] }";
    let colors = "dataset = { kind = 'npy', fields = { image = 'colors.npy' } }";
    check(&folder, &format!("{colors}\n{STREAM}\ntransforms = [{normalize}]"), true);
}

#[test]
fn what_needs_each_sample_is_made_one_by_one() {
    let folder = folder();
    for rest in [
        "transforms = ['horizontal-flip']",
        "transforms = ['to-f32', 'to-nchw']",
        "transforms = ['to-f32']\nfields = ['label']",
    ] {
        check(&folder, &format!("dataset = {IDX}\n{rest}\nbatch_size = 2"), false);
    }
    let padded = "collate = { x = { kind = 'padded', max_len = 4 } }";
    check(
        &folder,
        &format!("dataset = {{ kind = 'npy', fields = {{ x = 'x.npy' }} }}\n{padded}\nbatch_size = 2"),
        false,
    );
    check(&folder, "dataset = { kind = 'synthetic', len = 5 }\nbatch_size = 2", false);
    // Two datasets, one behind the other: what lies in one of them is gathered there.
    let pipeline =
        folder.open(&format!("dataset = {{ kind = 'concat', datasets = [{IDX}, {IDX}] }}\nbatch_size = 6")).unwrap();
    let slot = Slot::fill(&pipeline, Position::default(), Rows { lo: 1, hi: 3 });
    assert_eq!(slot.together, 2);
    let (together, all) = gathered(&pipeline);
    assert!(0 < together && together < all, "{together} of {all}");
}

#[test]
fn a_sample_that_must_not_be_read_has_its_range_made_one_by_one() {
    let folder = folder();
    let mut pipeline = folder.open(&format!("dataset = {IDX}\nbatch_size = 3\non_bad = 'mask'")).unwrap();
    assert_eq!(gathered(&pipeline).0, gathered(&pipeline).1);
    pipeline.quarantine(1, "it kills whoever reads it".to_owned());
    let fields = survey(&pipeline).unwrap();
    let bad = pipeline.batch(&fields, Position::default()).unwrap();
    assert_eq!(bad.labels().iter().map(|label| label.masked).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(
        bad.bad()[0].reason,
        "row 1 of ~: it kills whoever reads it".replace('~', &folder.path("images").display().to_string())
    );
}

#[test]
fn who_dies_while_many_are_read_was_at_the_first_of_them() {
    let folder = folder();
    let pipeline = folder.open(&format!("dataset = {IDX}\nbatch_size = 3")).unwrap();
    let slot = Slot::fill(&pipeline, Position::default(), Rows { lo: 1, hi: 3 });
    assert_eq!(slot.many, [format!("row 1 of {}", folder.path("images").display())]);
}

/// A file that changes while it is read fails with the sentence that it has where rows are read one by one.
#[test]
fn a_row_that_cannot_be_gathered_is_told_of_by_name() {
    let numbers: Vec<u8> = (0..=255).cycle().take(3 << 20).collect();
    let folder = Folder::new().with("x.npy", npy("|u1", "(3, 1024, 1024)", &numbers));
    let pipeline = folder.open("dataset = { kind = 'npy', fields = { x = 'x.npy' } }\nbatch_size = 3").unwrap();
    let fields = survey(&pipeline).unwrap();
    assert_eq!(pipeline.batch(&fields, Position::default()).unwrap().field("x").unwrap(), numbers);
    touch(&folder.path("x.npy"), UNIX_EPOCH);
    let error = pipeline.batch(&fields, Position::default()).unwrap_err();
    assert!(folder.report(&error).starts_with("~/x.npy has changed since"), "{}", folder.report(&error));
}
