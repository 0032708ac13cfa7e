//! An index of raw bytes with a description behind them.
//!
//! ```text
//! payload            as the source likes it
//! description        JSON
//! its length         u64, little-endian
//! magic              8 bytes: which source, which version
//! ```

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::source::OpenError;

/// Bytes behind the description.
const TAIL_BYTES: usize = 8 + 8;

/// Puts the description behind the payload.
///
/// # Errors
/// [`OpenError`] when the description cannot be written as JSON.
pub(super) fn pack(mut payload: Vec<u8>, magic: [u8; 8], description: &impl Serialize) -> Result<Vec<u8>, OpenError> {
    let start = payload.len();
    serde_json::to_writer(&mut payload, description)
        .map_err(|error| OpenError::other("write down what the index holds", Some(error.into())))?;
    let bytes = (payload.len() - start) as u64;
    payload.extend(bytes.to_le_bytes());
    payload.extend(magic);
    Ok(payload)
}

/// The payload's length and the description; `None` when the bytes are no index of this kind.
pub(super) fn unpack<T: DeserializeOwned>(index: &[u8], magic: [u8; 8]) -> Option<(usize, T)> {
    let (front, tail) = index.split_at_checked(index.len().checked_sub(TAIL_BYTES)?)?;
    let bytes = u64::from_le_bytes(*tail.first_chunk()?);
    if tail[8..] != magic {
        return None;
    }
    let payload_bytes = front.len().checked_sub(usize::try_from(bytes).ok()?)?;
    Some((payload_bytes, serde_json::from_slice(&front[payload_bytes..]).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: [u8; 8] = *b"bmtests1";

    #[test]
    fn a_description_comes_back_and_damaged_bytes_have_none() {
        let description = ("rows".to_owned(), 7_u64);
        let bytes = pack(vec![1, 2, 3], MAGIC, &description).unwrap();
        assert_eq!(unpack(&bytes, MAGIC), Some((3, description)));
        assert_eq!(unpack::<(String, u64)>(&bytes, *b"bmtests2"), None);
        for len in 0..bytes.len() {
            assert_eq!(unpack::<(String, u64)>(&bytes[..len], MAGIC), None, "{len} of {} bytes", bytes.len());
        }
        let mut huge = bytes;
        let place = huge.len() - TAIL_BYTES;
        huge[place..place + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(unpack::<(String, u64)>(&huge, MAGIC), None);
    }
}
