//! The pages of a column chunk, checked before the `parquet` crate decodes what they say of themselves.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::SerializedPageReader;

/// Pages of one chunk, no more bytes of them than allowed.
///
/// The crate trusts some numbers of a page: it makes room for as many dictionary entries as the page claims, and inflates
/// gzip to whatever length that has. A page of another compression is inflated to at most the 2 GiB of its header.
pub(super) struct Pages {
    inner: SerializedPageReader<File>,
    is_gzip: bool,
    /// Levels before the values of a page: repetition, definition.
    levels: [bool; 2],
    /// The most values of a page, where each row has one.
    values_max: Option<usize>,
    /// Bytes that all further pages may have.
    left: usize,
}

impl Pages {
    /// The pages of `chunk` of a row group with `rows` rows.
    ///
    /// # Errors
    /// [`ParquetError`] when the chunk is compressed in a way that is not built in.
    pub(super) fn new(file: Arc<File>, chunk: &ColumnChunkMetaData, rows: usize, bytes_max: usize) -> Result<Self> {
        let is_gzip = matches!(chunk.compression(), Compression::GZIP(_));
        let column = chunk.column_descr();
        let levels = [column.max_rep_level() > 0, column.max_def_level() > 0];
        let values_max = (column.max_rep_level() == 0).then_some(rows);
        // Taken for uncompressed, the pages come as they are.
        let inner = if is_gzip {
            let plain = chunk.clone().into_builder().set_compression(Compression::UNCOMPRESSED).build()?;
            SerializedPageReader::new(file, &plain, rows, None)?
        } else {
            SerializedPageReader::new(file, chunk, rows, None)?
        };
        Ok(Self { inner, is_gzip, levels, values_max, left: bytes_max })
    }

    /// What gzip made of the bytes behind `prefix`, and no more of it than may still come.
    fn inflate(&self, compressed: &[u8], prefix: usize) -> Result<Vec<u8>> {
        let (plain, compressed) =
            compressed.split_at_checked(prefix).ok_or_else(|| wrong("its levels are cut short"))?;
        let mut out = plain.to_vec();
        // No bytes at all stand for a page without values.
        if !compressed.is_empty() {
            MultiGzDecoder::new(compressed).take(self.left as u64 + 1).read_to_end(&mut out)?;
        }
        Ok(out)
    }

    fn inflated(&self, page: Page) -> Result<Page> {
        Ok(match page {
            Page::DataPage { buf, num_values, encoding, def_level_encoding, rep_level_encoding, statistics } => {
                let buf = self.inflate(&buf, 0)?.into();
                Page::DataPage { buf, num_values, encoding, def_level_encoding, rep_level_encoding, statistics }
            }
            Page::DataPageV2 {
                buf,
                num_values,
                encoding,
                num_nulls,
                num_rows,
                def_levels_byte_len,
                rep_levels_byte_len,
                is_compressed: true,
                statistics,
            } => {
                let levels = usize::try_from(u64::from(def_levels_byte_len) + u64::from(rep_levels_byte_len))?;
                Page::DataPageV2 {
                    buf: self.inflate(&buf, levels)?.into(),
                    num_values,
                    encoding,
                    num_nulls,
                    num_rows,
                    def_levels_byte_len,
                    rep_levels_byte_len,
                    is_compressed: false,
                    statistics,
                }
            }
            Page::DictionaryPage { buf, num_values, encoding, is_sorted } => {
                let buf = self.inflate(&buf, 0)?.into();
                Page::DictionaryPage { buf, num_values, encoding, is_sorted }
            }
            plain @ Page::DataPageV2 { .. } => plain,
        })
    }

    /// Requires of a page what the crate takes for granted.
    fn check(&mut self, page: &Page) -> Result<()> {
        let buffer = page.buffer();
        self.left = self.left.checked_sub(buffer.len()).ok_or_else(|| wrong("its pages hold more than is allowed"))?;
        let values = usize::try_from(page.num_values())?;
        match page {
            // An entry takes a byte at least.
            Page::DictionaryPage { .. } if values > buffer.len() => {
                Err(wrong("a dictionary has more entries than bytes"))
            }
            Page::DictionaryPage { .. } => Ok(()),
            _ if self.values_max.is_some_and(|values_max| values > values_max) => {
                Err(wrong("a page has more values than the row group has rows"))
            }
            _ => match page.encoding() {
                // Its second length stands where only decoding leads to.
                Encoding::DELTA_BYTE_ARRAY => Err(wrong("the encoding DELTA_BYTE_ARRAY is not read; write PLAIN")),
                Encoding::DELTA_LENGTH_BYTE_ARRAY => match delta_values(self.values_of(page)) {
                    Some(claimed) if claimed <= page.num_values().into() => Ok(()),
                    _ => Err(wrong("a page of DELTA_LENGTH_BYTE_ARRAY claims more lengths than it has values")),
                },
                _ => Ok(()),
            },
        }
    }

    /// The values of a page, behind its levels.
    fn values_of<'a>(&self, page: &'a Page) -> Option<&'a [u8]> {
        match page {
            Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, .. } => {
                let levels = u64::from(*def_levels_byte_len) + u64::from(*rep_levels_byte_len);
                buf.get(usize::try_from(levels).ok()?..)
            }
            Page::DataPage { buf, .. } => self.levels.iter().filter(|&&there| there).try_fold(&buf[..], |rest, _| {
                let (len, rest) = rest.split_first_chunk()?;
                rest.get(usize::try_from(u32::from_le_bytes(*len)).ok()?..)
            }),
            Page::DictionaryPage { buf, .. } => Some(buf),
        }
    }
}

/// The number of values that a DELTA_BINARY_PACKED header claims, its third varint.
fn delta_values(bytes: Option<&[u8]>) -> Option<u64> {
    let mut bytes = bytes?.iter();
    let mut varint = || {
        let mut value = 0_u64;
        for shift in (0..63).step_by(7) {
            let byte = *bytes.next()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    };
    varint()?;
    varint()?;
    varint()
}

fn wrong(reason: &str) -> ParquetError {
    ParquetError::General(reason.to_owned())
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let Some(mut page) = self.inner.get_next_page()? else { return Ok(None) };
        if self.is_gzip {
            page = self.inflated(page)?;
        }
        self.check(&page)?;
        Ok(Some(page))
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.inner.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.inner.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.inner.at_record_boundary()
    }
}

#[cfg(test)]
mod tests {
    use parquet::basic::GzipLevel;
    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::metadata::ParquetMetaDataReader;
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    /// All pages of a column with one million zeros in each of two rows.
    fn read(compression: Compression, bytes_max: usize) -> Result<usize> {
        let schema = Arc::new(parse_message_type("message rows { required binary b; }").unwrap());
        let properties = WriterProperties::builder().set_compression(compression).set_dictionary_enabled(false).build();
        let mut file = tempfile::tempfile().unwrap();
        let mut writer = SerializedFileWriter::new(&mut file, schema, Arc::new(properties)).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let zeros = ByteArray::from(vec![0; 1_000_000]);
        column.typed::<ByteArrayType>().write_batch(&[zeros.clone(), zeros], None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&file).unwrap();
        let pages = Pages::new(Arc::new(file), metadata.row_group(0).column(0), 2, bytes_max)?;
        pages.map(|page| Ok(page?.buffer().len())).sum()
    }

    #[test]
    fn a_page_that_inflates_to_more_than_allowed_is_refused() {
        for compression in [Compression::GZIP(GzipLevel::default()), Compression::SNAPPY, Compression::UNCOMPRESSED] {
            assert_eq!(read(compression, 2_000_008).unwrap(), 2_000_008, "{compression:?}");
            let refused = read(compression, 2_000_007).unwrap_err().to_string();
            assert_eq!(refused, "Parquet error: its pages hold more than is allowed", "{compression:?}");
        }
    }

    #[test]
    fn the_lengths_that_a_page_claims_are_the_third_number_of_its_values() {
        assert_eq!(delta_values(Some(&[0x80, 1, 4, 0x83, 2, 9])), Some(0x103));
        assert_eq!(delta_values(Some(&[0x80, 1, 4, 0x83])), None);
        assert_eq!(delta_values(Some(&[0xff; 30])), None);
        assert_eq!(delta_values(None), None);
    }
}
