//! The header of an npy file: what its elements are and how many, as a literal of Python.

use std::io::{self, Read};

use batchmill_protocol::tensor::Dtype;
use serde::{Deserialize, Serialize};

/// How every npy file begins.
const MAGIC: &[u8] = b"\x93NUMPY";

/// The longest header. Those of plain arrays have 118 bytes; version 1.0 can have no longer one than this.
const HEADER_BYTES_MAX: u64 = 65_535;

/// The most axes of an array, as numpy has it.
const RANK_MAX: usize = 64;

/// What stands before the elements of an npy file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) element: Element,
    /// Extents of the whole array, outermost first.
    pub(super) shape: Vec<usize>,
    /// Whether the first index moves fastest, as in Fortran.
    pub(super) fortran_order: bool,
    /// Bytes of the file before the first element.
    pub(super) bytes: u64,
}

/// How an element is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Element {
    pub(super) dtype: Dtype,
    pub(super) big_endian: bool,
}

/// Why a header cannot be read.
#[derive(Debug)]
pub(super) enum HeaderError {
    /// The file cannot be read.
    Read(io::Error),
    /// It holds what it should not, in words that follow its name.
    Wrong(String),
}

impl From<io::Error> for HeaderError {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

impl From<String> for HeaderError {
    fn from(reason: String) -> Self {
        Self::Wrong(reason)
    }
}

impl Header {
    /// Reads the header, up to the first element.
    ///
    /// Source: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>, versions 1.0 to 3.0.
    pub(super) fn read(mut file: impl Read) -> Result<Self, HeaderError> {
        let start = take(&mut file, 8)?;
        if !start.starts_with(MAGIC) {
            let found = &start[..start.len().min(MAGIC.len())];
            let reason = format!("no npy file: it begins with {found:02x?}, expected {MAGIC:02x?}");
            return Err(reason.into());
        }
        let ended = || HeaderError::Wrong("ends within its header".to_owned());
        let (length_bytes, length) = match start[MAGIC.len()..] {
            [1, _] => (2, take(&mut file, 2)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes).into())),
            [2 | 3, _] => (4, take(&mut file, 4)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))),
            [major, minor] => {
                return Err(format!("an npy file of version {major}.{minor}; 1.0, 2.0 and 3.0 can be read").into());
            }
            _ => return Err(ended()),
        };
        let length = u64::from(length.ok_or_else(ended)?);
        if length > HEADER_BYTES_MAX {
            return Err(format!("claims a header of {length} bytes, more than {HEADER_BYTES_MAX}").into());
        }
        let text = take(&mut file, length)?;
        if text.len() as u64 != length {
            return Err(ended());
        }
        let Literal { descr, fortran_order, shape } = Parser::new(&String::from_utf8_lossy(&text)).literal()?;
        let element = Element::new(&descr)?;
        Ok(Self { element, shape, fortran_order, bytes: start.len() as u64 + length_bytes + length })
    }
}

impl Element {
    /// Reads numpy's name of a dtype, `<f4`.
    fn new(descr: &str) -> Result<Self, String> {
        let (order, kind) = descr.split_at_checked(1).unwrap_or_default();
        let dtype = match kind {
            "b1" => Dtype::Bool,
            "u1" => Dtype::U8,
            "i1" => Dtype::I8,
            "u2" => Dtype::U16,
            "i2" => Dtype::I16,
            "u4" => Dtype::U32,
            "i4" => Dtype::I32,
            "u8" => Dtype::U64,
            "i8" => Dtype::I64,
            "f2" => Dtype::F16,
            "f4" => Dtype::F32,
            "f8" => Dtype::F64,
            _ => return Err(refusal(descr, kind)),
        };
        // A single byte has no order; numpy writes `|` for it.
        match order {
            "<" => Ok(Self { dtype, big_endian: false }),
            ">" => Ok(Self { dtype, big_endian: dtype.size_bytes() > 1 }),
            "|" if dtype.size_bytes() == 1 => Ok(Self { dtype, big_endian: false }),
            _ => Err(refusal(descr, "")),
        }
    }

    /// Turns elements into what a batch holds: little-endian, and booleans 0 or 1.
    pub(super) fn normalize(self, bytes: &mut [u8]) {
        if self.big_endian {
            bytes.chunks_exact_mut(self.dtype.size_bytes()).for_each(<[u8]>::reverse);
        }
        if self.dtype == Dtype::Bool {
            bytes.iter_mut().for_each(|byte| *byte = u8::from(*byte != 0));
        }
    }
}

/// What is wrong with a dtype.
fn refusal(descr: &str, kind: &str) -> String {
    let what = match kind.chars().next() {
        Some('O') => "Python objects",
        Some('S' | 'a' | 'U') => "text",
        Some('V') => "records, or raw bytes",
        Some('c') => "complex numbers",
        Some('M' | 'm') => "times",
        _ => "of an unknown kind",
    };
    format!("its elements are {what} (dtype `{}`); store numbers", descr.escape_debug())
}

fn take(file: &mut impl Read, bytes: u64) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    file.take(bytes).read_to_end(&mut out)?;
    Ok(out)
}

/// The three entries of the header.
#[derive(Debug)]
struct Literal {
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

/// Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (60000, 784), }` and no more of Python than that.
struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, rest: text }
    }

    fn literal(mut self) -> Result<Literal, String> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        self.expect("{")?;
        while !self.accept("}") {
            let key = self.string()?;
            self.expect(":")?;
            let twice = match key {
                "descr" if self.accept("[") => return Err("its elements are records; store numbers".to_owned()),
                "descr" => descr.replace(self.string()?).is_some(),
                "fortran_order" => fortran_order.replace(self.boolean()?).is_some(),
                "shape" => shape.replace(self.shape()?).is_some(),
                _ => return Err(format!("its header has the unknown key `{}`", key.escape_debug())),
            };
            if twice {
                return Err(format!("its header has the key `{key}` twice"));
            }
            if !self.accept(",") {
                self.expect("}")?;
                break;
            }
        }
        if !self.rest.trim().is_empty() {
            return Err(self.unexpected("nothing more"));
        }
        match (descr, fortran_order, shape) {
            (Some(descr), Some(fortran_order), Some(shape)) => {
                Ok(Literal { descr: descr.to_owned(), fortran_order, shape })
            }
            _ => Err("its header lacks one of `descr`, `fortran_order` and `shape`".to_owned()),
        }
    }

    fn shape(&mut self) -> Result<Vec<usize>, String> {
        let mut shape = Vec::new();
        self.expect("(")?;
        while !self.accept(")") {
            self.rest = self.rest.trim_start();
            let digits = self.rest.len() - self.rest.trim_start_matches(|digit: char| digit.is_ascii_digit()).len();
            let (extent, rest) = self.rest.split_at(digits);
            let extent = extent.parse().map_err(|_| self.unexpected("an extent"))?;
            // Python 2 wrote long integers so.
            self.rest = rest.strip_prefix('L').unwrap_or(rest);
            if shape.len() == RANK_MAX {
                return Err(format!("has more than {RANK_MAX} axes"));
            }
            shape.push(extent);
            if !self.accept(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(shape)
    }

    fn boolean(&mut self) -> Result<bool, String> {
        if self.accept("True") {
            return Ok(true);
        }
        self.expect("False").map(|()| false)
    }

    /// A text in either quotes; none of the header's has an escape.
    fn string(&mut self) -> Result<&'a str, String> {
        let quote = if self.accept("\"") {
            '"'
        } else {
            self.expect("'")?;
            '\''
        };
        let (text, rest) = self.rest.split_once(quote).ok_or_else(|| self.unexpected("a closing quote"))?;
        self.rest = rest;
        Ok(text)
    }

    fn accept(&mut self, token: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.accept(token) { Ok(()) } else { Err(self.unexpected(&format!("`{token}`"))) }
    }

    fn unexpected(&self, expected: &str) -> String {
        let place = self.text.len() - self.rest.len();
        format!("its header has no sense at byte {place}, expected {expected}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A file of version `major` with this literal.
    fn file(major: u8, literal: &str) -> Vec<u8> {
        let mut file = [MAGIC, &[major, 0]].concat();
        match major {
            1 => file.extend(u16::try_from(literal.len()).unwrap().to_le_bytes()),
            _ => file.extend(u32::try_from(literal.len()).unwrap().to_le_bytes()),
        }
        file.extend(literal.as_bytes());
        file
    }

    fn refused(bytes: &[u8]) -> String {
        match Header::read(bytes) {
            Err(HeaderError::Wrong(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn headers_as_numpy_writes_them_are_read() {
        let check = |major: u8, literal: &str, dtype: Dtype, big_endian: bool, fortran_order: bool, shape: &[usize]| {
            let bytes = file(major, literal);
            let element = Element { dtype, big_endian };
            let header = Header { element, shape: shape.into(), fortran_order, bytes: bytes.len() as u64 };
            // What follows is none of the header's.
            assert_eq!(Header::read(&[&bytes[..], b"{}"].concat()[..]).unwrap(), header, "{literal}");
        };
        let padded = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }          \n";
        check(1, padded, Dtype::F32, false, false, &[3, 4]);
        check(2, "{'shape': (5,), 'descr': '>i2', 'fortran_order': True}", Dtype::I16, true, true, &[5]);
        check(3, "{'descr': '|b1', 'fortran_order': False, 'shape': (), }\n", Dtype::Bool, false, false, &[]);
        check(1, r#"{"descr":"|u1","fortran_order":False,"shape":(2L,7L)}"#, Dtype::U8, false, false, &[2, 7]);
        check(1, "{'descr': '<f2', 'fortran_order': False, 'shape': (1, 0), }", Dtype::F16, false, false, &[1, 0]);
        for (descr, dtype, big_endian) in [
            ("|i1", Dtype::I8, false),
            ("<u2", Dtype::U16, false),
            ("<u4", Dtype::U32, false),
            ("<i4", Dtype::I32, false),
            (">u8", Dtype::U64, true),
            (">i8", Dtype::I64, true),
            (">f8", Dtype::F64, true),
            (">u1", Dtype::U8, false),
        ] {
            let literal = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (2,), }}");
            check(1, &literal, dtype, big_endian, false, &[2]);
        }
    }

    #[test]
    fn dtypes_that_are_no_numbers_are_refused_by_name() {
        let refused = |descr: &str| {
            let literal = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (2,), }}");
            refused(&file(3, &literal))
        };
        assert_eq!(refused("'|O'"), "its elements are Python objects (dtype `|O`); store numbers");
        assert_eq!(refused("'<U7'"), "its elements are text (dtype `<U7`); store numbers");
        assert_eq!(refused("'|S3'"), "its elements are text (dtype `|S3`); store numbers");
        assert_eq!(refused("'<c8'"), "its elements are complex numbers (dtype `<c8`); store numbers");
        assert_eq!(refused("'<M8[ns]'"), "its elements are times (dtype `<M8[ns]`); store numbers");
        assert_eq!(refused("'|V2'"), "its elements are records, or raw bytes (dtype `|V2`); store numbers");
        assert_eq!(refused("'<f16'"), "its elements are of an unknown kind (dtype `<f16`); store numbers");
        assert_eq!(refused("'|f4'"), "its elements are of an unknown kind (dtype `|f4`); store numbers");
        assert_eq!(refused("''"), "its elements are of an unknown kind (dtype ``); store numbers");
        assert_eq!(refused("'é'"), "its elements are of an unknown kind (dtype `é`); store numbers");
        assert_eq!(refused("[('x', '<f4'), ('y', '<f4')]"), "its elements are records; store numbers");
    }

    #[test]
    fn headers_without_sense_are_refused() {
        let literal = |literal: &str| refused(&file(1, literal));
        assert_eq!(literal(""), "its header has no sense at byte 0, expected `{`");
        assert_eq!(literal("{'descr': '<f4"), "its header has no sense at byte 11, expected a closing quote");
        assert_eq!(literal("{}"), "its header lacks one of `descr`, `fortran_order` and `shape`");
        assert_eq!(literal("{'descr': '<f4', 'descr': '<f4'}"), "its header has the key `descr` twice");
        assert_eq!(literal("{'eval': 'os'}"), "its header has the unknown key `eval`");
        assert_eq!(literal("{'shape': (-1,)}"), "its header has no sense at byte 11, expected an extent");
        assert_eq!(literal("{'shape': (3 4)}"), "its header has no sense at byte 12, expected `)`");
        let huge = "{'shape': (99999999999999999999,)}";
        assert_eq!(literal(huge), "its header has no sense at byte 11, expected an extent");
        assert_eq!(literal("{'fortran_order': 0}"), "its header has no sense at byte 17, expected `False`");
        assert_eq!(literal(&format!("{{'shape': ({})}}", "1,".repeat(65))), "has more than 64 axes");
        let whole = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}";
        assert_eq!(literal(&format!("{whole}{{")), "its header has no sense at byte 55, expected nothing more");

        assert_eq!(
            refused(b"PK\x03\x04 a zip file"),
            "no npy file: it begins with [50, 4b, 03, 04, 20, 61], expected [93, 4e, 55, 4d, 50, 59]"
        );
        assert_eq!(refused(b"\x93NUMPY\x04\x00"), "an npy file of version 4.0; 1.0, 2.0 and 3.0 can be read");
        assert_eq!(
            refused(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}"),
            "claims a header of 4294967295 bytes, more than 65535"
        );
        let bytes = file(1, whole);
        for len in MAGIC.len()..bytes.len() {
            assert_eq!(refused(&bytes[..len]), "ends within its header", "{len} bytes");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in r#"\{?(('(descr|shape|fortran_order|x)': ?)?[ -~é\n]{0,12},? ?){0,4}\}?"#) {
            let _ = Header::read(&file(3, &text)[..]);
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Header::read(&[MAGIC, &bytes].concat()[..]);
        }
    }
}
