//! One row group, decoded.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use batchmill_protocol::tensor::Dtype;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::{ByteArray, DataType};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

use super::pages::Pages;
use super::schema::{Column, Kind, place};

/// The most bytes of a row group, decoded.
pub(super) const GROUP_BYTES_MAX: usize = 1 << 30;

/// Rows decoded at once.
const BLOCK_ROWS: usize = 1024;

/// Bytes kept of a row besides its numbers, and besides its image.
const NUMBER_ROW_BYTES: usize = 5;
const IMAGE_ROW_BYTES: usize = size_of::<Option<ByteArray>>();

/// Why a file cannot be decoded.
pub(super) type Failure = Box<dyn Error + Send + Sync>;

/// Columns of a row group, in the order in which they were asked for.
pub(super) struct Group {
    pub(super) columns: Vec<Data>,
    /// What it takes of memory, roughly.
    pub(super) bytes: usize,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Group({} columns, {} bytes)", self.columns.len(), self.bytes)
    }
}

/// One column of a row group.
pub(super) enum Data {
    Numbers(Numbers),
    /// Encoded images.
    Images(Vec<Option<ByteArray>>),
}

/// Rows of numbers: one number each, or a list.
pub(super) struct Numbers {
    /// As a batch holds them.
    bytes: Vec<u8>,
    /// Where the bytes of each row end.
    ends: Vec<u32>,
    /// Whether there is a null in a row.
    nulls: Vec<bool>,
}

impl Numbers {
    /// The bytes of a row; `None` when one of its numbers is null.
    ///
    /// # Errors
    /// There is no such row.
    pub(super) fn row(&self, row: usize) -> Result<Option<&[u8]>, Failure> {
        let end = |row: usize| self.ends.get(row).map(|&end| end as usize);
        let start = row.checked_sub(1).map_or(Some(0), end);
        let bytes = start.zip(end(row)).and_then(|(start, end)| self.bytes.get(start..end));
        let (bytes, is_null) = bytes.zip(self.nulls.get(row)).ok_or_else(|| format!("it ends before row {row}"))?;
        Ok((!is_null).then_some(bytes))
    }

    /// Reads a column; `write` adds a number to the bytes.
    fn read<T: DataType>(
        reader: ColumnReaderImpl<T>,
        chunk: &ColumnChunkMetaData,
        rows: usize,
        bytes_max: usize,
        write: impl Fn(&T::T, &mut Vec<u8>) -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        let (mut bytes, mut ends, mut nulls) = (Vec::new(), Vec::new(), Vec::new());
        walk(reader, chunk, rows, |step| {
            match step {
                Step::Row => {
                    ends.push(u32::try_from(bytes.len())?);
                    nulls.push(false);
                }
                Step::Value(value) => write(value, &mut bytes)?,
                Step::Null => nulls.last_mut().into_iter().for_each(|null| *null = true),
            }
            if bytes.len() > bytes_max {
                return Err(too_large().into());
            }
            *ends.last_mut().ok_or("a value without a row")? = u32::try_from(bytes.len())?;
            Ok(())
        })?;
        Ok(Self { bytes, ends, nulls })
    }
}

/// One step through a column.
enum Step<'a, V> {
    /// The next row begins.
    Row,
    /// There is a value in it.
    Value(&'a V),
    /// It, or an element of its list, is null.
    Null,
}

/// Runs the `parquet` crate over what may be damaged, which makes it panic here and there.
///
/// # Errors
/// What it says of the file, or that it panicked.
pub(super) fn contained<T>(read: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    panic::catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err("it is damaged in a way that the Parquet reader does not tell".into()))
}

/// Decodes columns of row group `group`; the column that cannot be is named.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(
    file: &Arc<File>,
    metadata: &ParquetMetaData,
    group: usize,
    columns: &[Column],
) -> Result<Group, (String, Failure)> {
    let mut out = Group { columns: Vec::new(), bytes: 0 };
    for column in columns {
        let allowed = GROUP_BYTES_MAX.saturating_sub(out.bytes);
        let (data, bytes) = contained(|| {
            let row_group = metadata.row_groups().get(group).ok_or("there are fewer row groups")?;
            let place = place(column, row_group.schema_descr()).ok_or("it is not there")?;
            let chunk = row_group.columns().get(place).ok_or("it is not there")?;
            read_column(file, chunk, usize::try_from(row_group.num_rows())?, allowed, column.kind)
        })
        .map_err(|failure| (format!("column `{}` of row group {group}", column.field), failure))?;
        out.bytes += bytes;
        out.columns.push(data);
    }
    Ok(out)
}

/// What decoding a chunk takes of memory, for as much as the file says.
pub(super) fn expected_bytes(chunk: &ColumnChunkMetaData, rows: usize, kind: Kind) -> usize {
    let row_bytes = match kind {
        Kind::Number(dtype) => dtype.size_bytes() + NUMBER_ROW_BYTES,
        Kind::List(_) => NUMBER_ROW_BYTES,
        Kind::Image => IMAGE_ROW_BYTES,
    };
    let pages = usize::try_from(chunk.uncompressed_size()).unwrap_or(usize::MAX);
    pages.max(rows.saturating_mul(row_bytes))
}

pub(super) fn too_large() -> String {
    format!("more than {GROUP_BYTES_MAX} bytes; write it with smaller row groups")
}

fn read_column(
    file: &Arc<File>,
    chunk: &ColumnChunkMetaData,
    rows: usize,
    bytes_max: usize,
    kind: Kind,
) -> Result<(Data, usize), Failure> {
    if expected_bytes(chunk, rows, kind) > bytes_max {
        return Err(too_large().into());
    }
    let pages = Pages::new(file.clone(), chunk, rows, bytes_max)?;
    let reader = get_column_reader(chunk.column_descr_ptr(), Box::new(pages));
    let dtype = match kind {
        Kind::Image => {
            let images = read_images(reader, chunk, rows)?;
            let bytes = images.iter().flatten().map(ByteArray::len).sum::<usize>();
            return Ok((Data::Images(images), bytes.saturating_add(rows * IMAGE_ROW_BYTES)));
        }
        Kind::Number(dtype) | Kind::List(dtype) => dtype,
    };
    let numbers = match reader {
        ColumnReader::BoolColumnReader(reader) => {
            Numbers::read(reader, chunk, rows, bytes_max, |value, out| append(out, [u8::from(*value)]))
        }
        ColumnReader::Int32ColumnReader(reader) => {
            Numbers::read(reader, chunk, rows, bytes_max, |value, out| append_integer(out, dtype, i64::from(*value)))
        }
        ColumnReader::Int64ColumnReader(reader) => {
            Numbers::read(reader, chunk, rows, bytes_max, |value, out| append_integer(out, dtype, *value))
        }
        ColumnReader::FloatColumnReader(reader) => {
            Numbers::read(reader, chunk, rows, bytes_max, |value, out| append(out, value.to_le_bytes()))
        }
        ColumnReader::DoubleColumnReader(reader) => {
            Numbers::read(reader, chunk, rows, bytes_max, |value, out| append(out, value.to_le_bytes()))
        }
        ColumnReader::FixedLenByteArrayColumnReader(reader) => {
            Numbers::read(reader, chunk, rows, bytes_max, |value, out| {
                let half: [u8; 2] = value.data().try_into()?;
                append(out, half)
            })
        }
        ColumnReader::Int96ColumnReader(_) | ColumnReader::ByteArrayColumnReader(_) => {
            Err("it holds no numbers".into())
        }
    }?;
    let bytes = numbers.bytes.len() + rows * NUMBER_ROW_BYTES;
    Ok((Data::Numbers(numbers), bytes))
}

fn read_images(
    reader: ColumnReader,
    chunk: &ColumnChunkMetaData,
    rows: usize,
) -> Result<Vec<Option<ByteArray>>, Failure> {
    let ColumnReader::ByteArrayColumnReader(reader) = reader else { return Err("it holds no bytes".into()) };
    let mut images = Vec::new();
    walk(reader, chunk, rows, |step| {
        match step {
            Step::Row => images.push(None),
            // It shares the memory of its page.
            Step::Value(value) => images.last_mut().into_iter().for_each(|image| *image = Some(value.clone())),
            Step::Null => (),
        }
        Ok(())
    })?;
    Ok(images)
}

fn append<const BYTES: usize>(out: &mut Vec<u8>, number: [u8; BYTES]) -> Result<(), Failure> {
    out.extend(number);
    Ok(())
}

/// Adds an integer, which may be stored as a wider one.
fn append_integer(out: &mut Vec<u8>, dtype: Dtype, value: i64) -> Result<(), Failure> {
    let none = |_| format!("{value} is no {dtype}");
    match dtype {
        Dtype::U8 => append(out, u8::try_from(value).map_err(none)?.to_le_bytes()),
        Dtype::I8 => append(out, i8::try_from(value).map_err(none)?.to_le_bytes()),
        Dtype::U16 => append(out, u16::try_from(value).map_err(none)?.to_le_bytes()),
        Dtype::I16 => append(out, i16::try_from(value).map_err(none)?.to_le_bytes()),
        Dtype::I32 => append(out, i32::try_from(value).map_err(none)?.to_le_bytes()),
        // The bits of an unsigned one, whatever their sign.
        Dtype::U32 => {
            out.extend(&value.to_le_bytes()[..4]);
            Ok(())
        }
        _ => append(out, value.to_le_bytes()),
    }
}

/// Goes through a column row by row.
///
/// Source: "Nested Encoding" of the Parquet format. The definition level says down to where a value is there, the
/// repetition level is 0 where a row begins.
fn walk<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    chunk: &ColumnChunkMetaData,
    rows: usize,
    mut each: impl FnMut(Step<'_, T::T>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let column = chunk.column_descr();
    let (defined, is_list) = (column.max_def_level(), column.max_rep_level() > 0);
    // One level less says that the list is there, and empty.
    let empty = column.repeated_ancestor_def_level() - 1;
    let (mut definitions, mut repetitions, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let mut done = 0;
    while done < rows {
        definitions.clear();
        repetitions.clear();
        values.clear();
        let block = BLOCK_ROWS.min(rows - done);
        let (records, _, levels) =
            reader.read_records(block, Some(&mut definitions), Some(&mut repetitions), &mut values)?;
        if records == 0 {
            return Err(format!("it ends after {done} of {rows} rows").into());
        }
        let mut values = values.iter();
        for level in 0..levels {
            if !is_list || repetitions.get(level) == Some(&0) {
                each(Step::Row)?;
            }
            let definition = if defined == 0 { 0 } else { *definitions.get(level).ok_or("it lacks levels")? };
            if definition == defined {
                each(Step::Value(values.next().ok_or("it lacks values")?))?;
            } else if !(is_list && definition == empty) {
                each(Step::Null)?;
            }
        }
        done += records;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_not_there_is_an_error() {
        let numbers = Numbers { bytes: vec![7, 8, 9], ends: vec![1, 1, 3], nulls: vec![false, true, false] };
        assert_eq!(numbers.row(0).unwrap(), Some(&[7][..]));
        assert_eq!(numbers.row(1).unwrap(), None);
        assert_eq!(numbers.row(2).unwrap(), Some(&[8, 9][..]));
        for row in [3, 4, usize::MAX] {
            assert_eq!(numbers.row(row).unwrap_err().to_string(), format!("it ends before row {row}"));
        }
    }
}
