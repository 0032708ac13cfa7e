//! Whether a file is compressed, told by how it begins.

use std::io::{self, Read, Seek};

/// The first bytes of a gzip file (RFC 1952, 2.3.1).
const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Looks at the first bytes of a file, and leaves it at its beginning.
///
/// # Errors
/// It cannot be read.
pub(super) fn is_gzip(file: &mut (impl Read + Seek)) -> io::Result<bool> {
    file.rewind()?;
    let mut start = Vec::new();
    Read::by_ref(file).take(MAGIC.len() as u64).read_to_end(&mut start)?;
    file.rewind()?;
    Ok(start == MAGIC)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn both_bytes_tell_and_stay_to_be_read() {
        for (content, expected) in [
            (&[0x1f, 0x8b][..], true),
            (&[0x1f, 0x8b, 8], true),
            (&[], false),
            (&[0x1f], false),
            (&[0x8b, 0x1f], false),
        ] {
            let mut file = Cursor::new(content);
            assert_eq!(is_gzip(&mut file).unwrap(), expected, "{content:?}");
            assert_eq!(file.position(), 0, "{content:?}");
        }
    }
}
