//! The kind `parquet`: rows of files that the `parquet` crate writes here, whole and broken.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use batchmill_datasets::dataset::MapDataset;
use batchmill_datasets::decode::{ColorMode, decode};
use batchmill_datasets::options::{Options, Role};
use batchmill_datasets::random::Rng;
use batchmill_datasets::source::Source;
use batchmill_datasets::sources::Parquet;
use batchmill_datasets::spec::Component;
use batchmill_protocol::position::Position;
use expect_test::{Expect, expect};
use parquet::basic::{Compression, Encoding, GzipLevel, ZstdLevel};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, FloatType, Int32Type,
    Int64Type,
};
use parquet::file::metadata::{
    ColumnChunkMetaData, ColumnChunkMetaDataBuilder, KeyValue, ParquetMetaDataReader, ParquetMetaDataWriter,
    RowGroupMetaData,
};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::support::{Batch, Folder, png, survey, touch};

/// The values of one column of a row group; `None` is null.
#[derive(Clone)]
enum Cells {
    Bool(Vec<Option<bool>>),
    I32(Vec<Option<i32>>),
    I64(Vec<Option<i64>>),
    F32(Vec<Option<f32>>),
    F64(Vec<Option<f64>>),
    F16(Vec<Option<[u8; 2]>>),
    Bytes(Vec<Option<Vec<u8>>>),
    /// Lists of optional floats in an optional group.
    List(Vec<Option<Vec<Option<f32>>>>),
}

/// Writes a file of row groups, each with its columns.
fn file(schema: &str, groups: &[Vec<Cells>], properties: WriterPropertiesBuilder) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(&format!("message rows {{ {schema} }}")).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema.clone(), Arc::new(properties.build())).unwrap();
    for cells in groups {
        let mut group = writer.next_row_group().unwrap();
        for cells in cells {
            let mut column = group.next_column().unwrap().unwrap();
            macro_rules! write {
                ($kind:ty, $cells:expr, $convert:expr) => {{
                    let writer = column.typed::<$kind>();
                    let max = writer.get_descriptor().max_def_level();
                    let levels: Vec<i16> = $cells.iter().map(|cell| if cell.is_some() { max } else { 0 }).collect();
                    let values: Vec<_> = $cells.iter().flatten().map($convert).collect();
                    writer.write_batch(&values, Some(&levels), None).unwrap();
                }};
            }
            match cells {
                Cells::Bool(cells) => write!(BoolType, cells, |&value| value),
                Cells::I32(cells) => write!(Int32Type, cells, |&value| value),
                Cells::I64(cells) => write!(Int64Type, cells, |&value| value),
                Cells::F32(cells) => write!(FloatType, cells, |&value| value),
                Cells::F64(cells) => write!(DoubleType, cells, |&value| value),
                Cells::F16(cells) => write!(FixedLenByteArrayType, cells, |value| {
                    FixedLenByteArray::from(ByteArray::from(value.to_vec()))
                }),
                Cells::Bytes(cells) => write!(ByteArrayType, cells, |value| ByteArray::from(value.clone())),
                Cells::List(rows) => {
                    let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
                    for row in rows {
                        let empty: &[Option<f32>] = &[];
                        let elements = row.as_deref().unwrap_or(empty);
                        if elements.is_empty() {
                            definitions.push(i16::from(row.is_some()));
                            repetitions.push(0);
                        }
                        for (place, element) in elements.iter().enumerate() {
                            values.extend(element);
                            definitions.push(if element.is_some() { 3 } else { 2 });
                            repetitions.push(i16::from(place > 0));
                        }
                    }
                    column.typed::<FloatType>().write_batch(&values, Some(&definitions), Some(&repetitions)).unwrap();
                }
            }
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.into_inner().unwrap()
}

fn plain() -> WriterPropertiesBuilder {
    WriterProperties::builder()
}

/// What Hugging Face publishes: a struct of bytes and path, and a class.
const IMAGES: &str = "
    optional group image { optional binary bytes; optional binary path (UTF8); }
    optional int64 label;";

fn images(labels: &[i64]) -> Vec<Cells> {
    let picture = |label: &i64| Some(png(4 + u32::try_from(*label).unwrap(), 3));
    vec![
        Cells::Bytes(labels.iter().map(picture).collect()),
        Cells::Bytes(labels.iter().map(|label| Some(format!("{label}.png").into())).collect()),
        Cells::I64(labels.iter().map(|&label| Some(label)).collect()),
    ]
}

/// A file of images and classes.
pub(crate) fn of_images(labels: &[i64]) -> Vec<u8> {
    file(IMAGES, &[images(labels)], plain())
}

fn some<T: Clone>(values: &[T]) -> Vec<Option<T>> {
    values.iter().cloned().map(Some).collect()
}

fn table(options: &str) -> String {
    format!("dataset = {{ kind = 'parquet', files = 'a.parquet'{options} }}")
}

fn opened(folder: &Folder, options: &str) -> Box<dyn MapDataset> {
    let component = Component { kind: "parquet".into(), options: options.parse().unwrap() };
    let folder = folder.path("");
    let source = Parquet::from_options(&mut Options::new(Role::Dataset, &component, &folder)).unwrap();
    let index = source.index().unwrap();
    Box::new(source).open(index.into()).unwrap()
}

/// What a sample holds: its fields, with the bytes of those that are short.
fn describe(dataset: &dyn MapDataset, index: u64) -> String {
    match dataset.get(index) {
        Err(error) => error.to_string(),
        Ok(sample) => {
            let fields = sample.iter().map(|(name, value)| match value.bytes() {
                bytes if bytes.len() <= 16 => format!("{} {bytes:?}", value.field(name)),
                _ => value.field(name).to_string(),
            });
            fields.collect::<Vec<_>>().join(", ")
        }
    }
}

#[test]
fn images_of_several_row_groups_are_decoded_in_any_order() {
    let names = r#"{"info": {"features": {"label": {"names": ["cat", "dog", "cow"], "_type": "ClassLabel"}}}}"#;
    let metadata = KeyValue::new("huggingface".to_owned(), names.to_owned());
    for (compression, version) in [
        (Compression::UNCOMPRESSED, WriterVersion::PARQUET_1_0),
        (Compression::SNAPPY, WriterVersion::PARQUET_1_0),
        (Compression::ZSTD(ZstdLevel::default()), WriterVersion::PARQUET_1_0),
        (Compression::GZIP(GzipLevel::default()), WriterVersion::PARQUET_1_0),
        (Compression::GZIP(GzipLevel::default()), WriterVersion::PARQUET_2_0),
    ] {
        let properties = plain()
            .set_compression(compression)
            .set_writer_version(version)
            .set_encoding(Encoding::PLAIN)
            .set_key_value_metadata(Some(vec![metadata.clone()]));
        let bytes = file(IMAGES, &[images(&[2, 0, 1]), images(&[1, 1])], properties);
        let folder = Folder::new().with("a.parquet", bytes);
        let dataset = opened(&folder, "files = 'a.parquet'\nimage = 'image'\nlabel = 'label'");
        assert_eq!((dataset.len(), dataset.shards()), (5, vec![3, 2]));
        assert_eq!(dataset.classes(), ["cat", "dog", "cow"]);
        let expected = decode(&png(5, 3), ColorMode::Rgb).unwrap();
        for index in [4, 2, 3] {
            let sample = dataset.get(index).unwrap();
            assert_eq!(sample.get("image"), Some(&expected.clone().into()), "{compression:?} {index}");
            assert_eq!(sample.get("label").unwrap().bytes(), 1_i64.to_le_bytes());
        }
        let gray = opened(&folder, "files = 'a.parquet'\nimage = 'image'\ncolor = 'gray'\nexif_orientation = true");
        assert!(describe(&*gray, 4).starts_with("image: u8 [3, 5, 1]"), "{}", describe(&*gray, 4));
        assert_eq!(dataset.number("label", 0), Some(2.0));
        assert_eq!((dataset.number("label", 5), dataset.number("image", 0)), (None, None));
        assert_eq!(dataset.name(4), format!("row 4 of {}", folder.path("a.parquet").display()));
        assert_eq!(describe(&*dataset, 5), "row 5: not in the files");
    }
}

#[test]
fn every_type_of_number_is_a_field() {
    let schema = "
        required boolean bool; required int32 i32; required int64 i64; required float f32; required double f64;
        required int32 u8 (INTEGER(8,false)); required int32 i16 (INTEGER(16,true)); required int32 u32 (INTEGER(32,false));
        required int64 u64 (INTEGER(64,false)); required fixed_len_byte_array(2) f16 (FLOAT16);
        required int32 day (DATE); required binary name (UTF8); required int64 time (TIMESTAMP(MICROS,true));
        required int32 old (UINT_8); required group s { required int32 t; }";
    let group = vec![
        Cells::Bool(some(&[true])),
        Cells::I32(some(&[-2])),
        Cells::I64(some(&[i64::MIN])),
        Cells::F32(some(&[0.5])),
        Cells::F64(some(&[-0.25])),
        Cells::I32(some(&[255])),
        Cells::I32(some(&[-3])),
        Cells::I32(some(&[-1])),
        Cells::I64(some(&[-1])),
        Cells::F16(some(&[[0, 0x3c]])),
        Cells::I32(some(&[1])),
        Cells::Bytes(some(&[b"x".to_vec()])),
        Cells::I64(some(&[1])),
        Cells::I32(some(&[7])),
        Cells::I32(some(&[9])),
    ];
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        // Dictionaries, or else what the version prefers.
        let properties = plain().set_writer_version(version).set_column_encoding("f16".into(), Encoding::PLAIN);
        let properties = properties.set_dictionary_enabled(version == WriterVersion::PARQUET_1_0);
        let folder = Folder::new().with("a.parquet", file(schema, std::slice::from_ref(&group), properties));
        expect![[r#"
            bool: bool [] [1]
            i32: i32 [] [254, 255, 255, 255]
            i64: i64 [] [0, 0, 0, 0, 0, 0, 0, 128]
            f32: f32 [] [0, 0, 0, 63]
            f64: f64 [] [0, 0, 0, 0, 0, 0, 208, 191]
            u8: u8 [] [255]
            i16: i16 [] [253, 255]
            u32: u32 [] [255, 255, 255, 255]
            u64: u64 [] [255, 255, 255, 255, 255, 255, 255, 255]
            f16: f16 [] [0, 60]
            old: u8 [] [7]"#]]
        .assert_eq(&describe(&*opened(&folder, "files = 'a.parquet'"), 0).replace("], ", "]\n"));
        let dataset = opened(&folder, "files = 'a.parquet'\ncolumns = ['s.t', 'u8']");
        expect!["s.t: i32 [] [9, 0, 0, 0], u8: u8 [] [255]"].assert_eq(&describe(&*dataset, 0));
        let dataset = opened(&folder, "files = 'a.parquet'\ncolumns = ['i32']\nlabel = 'u8'");
        expect!["label: i64 [] [255, 0, 0, 0, 0, 0, 0, 0], i32: i32 [] [254, 255, 255, 255]"]
            .assert_eq(&describe(&*dataset, 0));
    }
}

#[test]
fn lists_are_rows_of_numbers() {
    let schema = "optional group list (LIST) { repeated group list { optional float element; } }";
    let one = |value: f32| Some(value);
    let rows =
        vec![Some(vec![one(1.0), one(2.0)]), Some(vec![]), None, Some(vec![one(3.0), None]), Some(vec![one(4.0)])];
    let folder = Folder::new().with("a.parquet", file(schema, &[vec![Cells::List(rows)]], plain()));
    let dataset = opened(&folder, "files = 'a.parquet'\ncolumns = ['list']");
    let rows: Vec<_> = (0..5).map(|row| describe(&*dataset, row)).collect();
    let text = rows.join("\n").replace(&folder.path("").display().to_string(), "~/");
    expect![[r#"
        list: f32 [2] [0, 0, 128, 63, 0, 0, 0, 64]
        list: f32 [0] []
        row 2 of ~/a.parquet: column `list` has a null
        row 3 of ~/a.parquet: column `list` has a null
        list: f32 [1] [0, 0, 128, 64]"#]]
    .assert_eq(&text);
}

#[test]
fn long_columns_come_back_whole() {
    // More than one block, page and dictionary; nulls here and there.
    let numbers: Vec<_> = (0..5000).map(|row: i32| (row % 7 != 3).then_some(row * row)).collect();
    let lists: Vec<_> = (0..5000).map(|row: u16| Some(vec![Some(f32::from(row)); usize::from(row % 4)])).collect();
    let schema = "optional int32 n; optional group list (LIST) { repeated group list { optional float element; } }";
    let group = vec![Cells::I32(numbers.clone()), Cells::List(lists)];
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        let properties =
            plain().set_writer_version(version).set_data_page_row_count_limit(700).set_write_batch_size(100);
        let bytes = file(schema, &[group.clone(), group.clone()], properties.set_dictionary_page_size_limit(4096));
        let folder = Folder::new().with("a.parquet", bytes);
        let dataset = opened(&folder, "files = 'a.parquet'");
        for index in [9999, 0, 5000, 4999, 701, 1024, 3, 7777] {
            let row = usize::try_from(index % 5000).unwrap();
            match numbers[row] {
                None => assert!(describe(&*dataset, index).ends_with("column `n` has a null")),
                Some(number) => {
                    let sample = dataset.get(index).unwrap();
                    assert_eq!(sample.get("n").unwrap().bytes(), number.to_le_bytes(), "{index}");
                    let list = sample.get("list").unwrap().bytes();
                    let number = f32::from(u16::try_from(row).unwrap()).to_le_bytes();
                    assert_eq!(list, number.repeat(row % 4), "{index}");
                }
            }
        }
    }
}

#[test]
fn several_files_are_one_dataset() {
    let part = |labels: &[i64]| file("required int64 label;", &[vec![Cells::I64(some(labels))]], plain());
    let folder = Folder::new()
        .with("data/train-0.parquet", part(&[5, 1]))
        .with("data/train-1.parquet", part(&[2]))
        .with("data/test-0.parquet", part(&[7]))
        .with("data/notes.txt", "no table");
    let labels = |files: &str| {
        let dataset = opened(&folder, &format!("files = {files}\nlabel = 'label'"));
        (0..dataset.len()).map(|row| dataset.number("label", row).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(labels("'data'"), [7.0, 5.0, 1.0, 2.0]);
    assert_eq!(labels("'data/train-*.parquet'"), [5.0, 1.0, 2.0]);
    assert_eq!(labels("['data/train-1.parquet', 'data/t*-0.parquet']"), [2.0, 7.0, 5.0, 1.0]);
    assert_eq!(labels("'data/{train-1,test-0}.parquet'"), [2.0, 7.0]);
    let dataset = opened(&folder, "files = 'data'");
    assert_eq!(dataset.name(2), format!("row 1 of {}", folder.path("data/train-0.parquet").display()));
    assert_eq!(dataset.shards(), [1, 2, 1]);
    let table = |files: &str| format!("dataset = {{ kind = 'parquet', files = {files} }}");
    expect!["~/data/valid-*.parquet: no file has such a name"]
        .assert_eq(&folder.refusal(&table("'data/valid-*.parquet'")));
    expect!["~/data/valid.parquet: the file does not exist"].assert_eq(&folder.refusal(&table("'data/valid.parquet'")));
    expect!["dataset `parquet`: `files` is [], not the path of a file or a list of such"]
        .assert_eq(&folder.refusal(&table("[]")));
    expect!["~/data/notes.txt: no Parquet file: Parquet error: Invalid Parquet file. Corrupt footer"]
        .assert_eq(&folder.refusal(&table("'data/notes.txt'")));
    let folder = folder.with("data/u.parquet", file("required float label;", &[], plain()));
    expect!["~/data/u.parquet: has no column `label` of the same type as in the file before it"]
        .assert_eq(&folder.refusal(&table("'data'")));
}

#[test]
fn braces_count_files() {
    let part = |label| file("required int64 label;", &[vec![Cells::I64(some(&[label]))]], plain());
    let folder = Folder::new().with("train-00.parquet", part(4)).with("train-01.parquet", part(3));
    let dataset = opened(&folder, "files = 'train-{00..01}.parquet'\nlabel = 'label'");
    assert_eq!((dataset.len(), dataset.number("label", 0), dataset.number("label", 1)), (2, Some(4.0), Some(3.0)));
    let table = |files: &str| format!("dataset = {{ kind = 'parquet', files = '{files}' }}");
    expect!["~/train-02.parquet: the file does not exist"].assert_eq(&folder.refusal(&table("train-{00..02}.parquet")));
    let folder = Folder::new().with("data/notes.txt", "no table");
    expect!["~/data/*.parquet: no file has such a name"].assert_eq(&folder.refusal(&table("data")));
}

#[test]
fn columns_that_cannot_be_read_are_refused() {
    let schema = "required int64 label; required float weight; required binary name (UTF8); optional int64 maybe;";
    let group = vec![
        Cells::I64(some(&[1, 0])),
        Cells::F32(some(&[0.5, 0.5])),
        Cells::Bytes(some(&[b"x".to_vec(), b"y".to_vec()])),
        Cells::I64(vec![None, Some(1)]),
    ];
    let folder = Folder::new().with("a.parquet", file(schema, &[group], plain()));
    let refused = |options: &str, expected: Expect| expected.assert_eq(&folder.refusal(&table(options)));
    refused(
        ", label = 'lable'",
        expect!["~/a.parquet: has no column `lable`, as `label` asks for; did you mean `label`?"],
    );
    refused(", label = 'weight'", expect!["~/a.parquet: column `weight` holds no integers, so no class labels"]);
    refused(", label = 'name'", expect!["~/a.parquet: column `name` is not one of numbers, as `label` asks for"]);
    refused(", image = 'label'", expect!["~/a.parquet: column `label` holds no bytes, so no encoded images"]);
    refused(
        ", image = 'picture'",
        expect![
            "~/a.parquet: has no column `picture`, as `image` asks for; there are `label`, `weight`, `name`, `maybe`"
        ],
    );
    refused(", columns = ['name']", expect!["~/a.parquet: column `name` is not one of numbers, as `columns` asks for"]);
    refused(", columns = ['weight', 'weight']", expect!["~/a.parquet: there would be two fields `weight`"]);
    refused(", columns = []", expect!["~/a.parquet: has no column of numbers, and `image` names none of images"]);
    refused(
        ", label = 'label', classes = ['one']",
        expect!["~/a.parquet: holds the label 1, but `classes` has 1 names"],
    );
    refused(
        ", classes = ['one']",
        expect!["dataset `parquet`: `classes` is given without `label`, the column they are the classes of"],
    );
    expect![[r#"decode row 0 of ~/a.parquet: not an image: it begins with the text "x", unlike a JPEG, PNG, WebP, BMP, GIF or TIFF"#]]
        .assert_eq(&folder.failure(&table(", image = 'name', columns = []")));
    expect!["row 0 of ~/a.parquet: column `label` has a null"]
        .assert_eq(&folder.failure(&table(", label = 'maybe', columns = []")));
}

#[test]
fn a_file_that_changes_is_refused() {
    let folder = Folder::new().with("a.parquet", file(IMAGES, &[images(&[2, 0, 1])], plain()));
    let pipeline = folder.open(&table("")).unwrap();
    touch(&folder.path("a.parquet"), UNIX_EPOCH + Duration::from_secs(1));
    expect!["~/a.parquet has changed since the loader read its index: it was written to; put it back as it was, or have the loader take it as it is with `loader quarantine --retry`"].assert_eq(&folder.report(&survey(&pipeline).unwrap_err()));
    assert_ne!(folder.open(&table("")).unwrap().identity().hash(), pipeline.identity().hash());
}

#[test]
fn what_a_file_claims_of_itself_is_checked_before_it_is_read() {
    let whole = file("required int64 n;", &[vec![Cells::I64(some(&[1, 2]))]], plain());
    let folder = Folder::new().with("whole.parquet", &whole);
    let opened = std::fs::File::open(folder.path("whole.parquet")).unwrap();
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&opened).unwrap();
    // The same file with another end.
    let refused = |change: &dyn Fn(RowGroupMetaData, ColumnChunkMetaData) -> RowGroupMetaData, expected: Expect| {
        let group = change(metadata.row_group(0).clone(), metadata.row_group(0).column(0).clone());
        let changed = metadata.clone().into_builder().set_row_groups(vec![group]).build();
        let mut file = whole.clone();
        ParquetMetaDataWriter::new(&mut file, &changed).finish().unwrap();
        expected.assert_eq(&Folder::new().with("a.parquet", file).refusal(&table("")));
    };
    let with = |group: RowGroupMetaData, chunk: ColumnChunkMetaDataBuilder| {
        group.into_builder().set_column_metadata(vec![chunk.build().unwrap()]).build().unwrap()
    };
    refused(
        &|group, _| group.into_builder().set_num_rows(1 << 40).build().unwrap(),
        expect!["~/a.parquet: row group 0: more than 1073741824 bytes; write it with smaller row groups"],
    );
    refused(
        &|group, _| group.into_builder().set_num_rows(-1).build().unwrap(),
        expect!["~/a.parquet: row group 0: it has less than no rows"],
    );
    refused(
        &|group, chunk| with(group, chunk.into_builder().set_total_uncompressed_size(1 << 31)),
        expect!["~/a.parquet: row group 0: more than 1073741824 bytes; write it with smaller row groups"],
    );
    refused(
        &|group, chunk| with(group, chunk.into_builder().set_total_compressed_size(-1)),
        expect!["~/a.parquet: row group 0: its column `n` is said to lie outside of the file"],
    );
    refused(
        &|group, chunk| with(group, chunk.into_builder().set_total_compressed_size(1 << 20)),
        expect!["~/a.parquet: row group 0: its column `n` is said to lie outside of the file"],
    );
}

#[test]
fn damaged_files_are_refused_or_read_and_never_end_the_process() {
    let seed = UNIX_EPOCH.elapsed().unwrap().as_secs();
    println!("seed {seed}");
    let rounds = std::env::var("PARQUET_ROUNDS").map_or(300, |rounds| rounds.parse().unwrap());
    let mut rng = Rng::new(seed, 0, 0, 0, 0);
    let lists = "optional group list (LIST) { repeated group list { optional float element; } } optional int32 n;";
    let group = vec![
        Cells::List((0..50).map(|row: u8| Some(vec![Some(f32::from(row)); usize::from(row % 3)])).collect()),
        Cells::I32((0..50).map(|row| (row % 5 != 0).then_some(row)).collect()),
    ];
    let mut files = Vec::new();
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
    ] {
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            let properties = || plain().set_compression(compression).set_writer_version(version);
            let delta = properties().set_dictionary_enabled(false);
            files.push((
                file(IMAGES, &[images(&[2, 0, 1])], properties().set_encoding(Encoding::PLAIN)),
                ", image = 'image'",
            ));
            files.push((
                file(
                    IMAGES,
                    &[images(&[1, 1])],
                    delta
                        .clone()
                        .set_encoding(Encoding::DELTA_LENGTH_BYTE_ARRAY)
                        .set_column_encoding("label".into(), Encoding::PLAIN),
                ),
                ", image = 'image'",
            ));
            files.push((file(lists, std::slice::from_ref(&group), properties()), ""));
            files.push((file(lists, std::slice::from_ref(&group), delta), ""));
        }
    }
    let (folder, mut read) = (Folder::new(), 0);
    for round in 0..rounds {
        let (whole, options) = &files[round % files.len()];
        let mut file = whole.clone();
        for _ in 0..=rng.below(3) {
            // Half of the damage goes where the file says what it holds.
            let from_end = rng.below(2) * (file.len() as u64 / 2);
            let place = usize::try_from(rng.below(file.len() as u64 - from_end) + from_end).unwrap();
            file[place] = match rng.below(3) {
                0 => u8::try_from(rng.below(256)).unwrap(),
                1 => file[place] ^ (1 << rng.below(8)),
                _ => 0xff,
            };
        }
        std::fs::write(folder.path("a.parquet"), &file).unwrap();
        if let Ok(pipeline) = folder.open(&table(options))
            && let Ok(fields) = survey(&pipeline)
        {
            read += 1;
            let _ = Batch::fill(&pipeline, &fields, Position::default());
        }
    }
    assert!(read > 0 && read < rounds, "{read} of {rounds} damaged files were read");
}
