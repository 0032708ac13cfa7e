//! Front-door framing: length, limit, version; no sockets inside.
//!
//! ```text
//! 0        4         8         12
//! | "BMIL" | version | length  | length bytes of JSON
//! ```
//! All little-endian. The version is checked before the length is believed, and both before any JSON is read.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::message::PROTOCOL;

/// The bytes before the JSON.
pub const HEADER_BYTES: usize = 12;

/// The longest JSON accepted: room for class names by the hundred thousand.
pub const BODY_BYTES_MAX: usize = 16 << 20;

const MAGIC: [u8; 4] = *b"BMIL";

/// Why bytes are not a frame.
#[derive(Debug, Error)]
pub enum FrameError {
    /// Something else talks at this address.
    #[error("the other side does not speak Batchmill's protocol")]
    Magic,
    /// Another release of Batchmill talks at this address.
    #[error("the other side speaks protocol version {theirs}, this program {PROTOCOL}: run both from one build")]
    Version {
        /// The version met.
        theirs: u32,
    },
    /// The frame says it is longer than any frame may be.
    #[error("a message of {bytes} bytes was announced, the limit is {BODY_BYTES_MAX}")]
    Length {
        /// The length met.
        bytes: usize,
    },
    /// The JSON is not the message expected here.
    #[error("a message could not be read")]
    Body(#[from] serde_json::Error),
}

/// Returns the whole frame for `message`.
///
/// # Errors
/// [`FrameError::Length`] when the message is over the limit.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let body = serde_json::to_vec(message)?;
    let length = match u32::try_from(body.len()) {
        Ok(length) if body.len() <= BODY_BYTES_MAX => length,
        _ => return Err(FrameError::Length { bytes: body.len() }),
    };
    let mut frame = Vec::with_capacity(HEADER_BYTES + body.len());
    frame.extend_from_slice(&MAGIC);
    frame.extend_from_slice(&PROTOCOL.to_le_bytes());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// Returns the length of the JSON that follows `header`.
///
/// # Errors
/// All but [`FrameError::Body`].
pub fn body_bytes(header: [u8; HEADER_BYTES]) -> Result<usize, FrameError> {
    let [m0, m1, m2, m3, v0, v1, v2, v3, l0, l1, l2, l3] = header;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(FrameError::Magic);
    }
    let theirs = u32::from_le_bytes([v0, v1, v2, v3]);
    if theirs != PROTOCOL {
        return Err(FrameError::Version { theirs });
    }
    let bytes = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
    if bytes > BODY_BYTES_MAX { Err(FrameError::Length { bytes }) } else { Ok(bytes) }
}

/// Reads the JSON of a frame.
///
/// # Errors
/// [`FrameError::Body`] when it is not a `T`.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    Ok(serde_json::from_slice(body)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Request;

    fn header(frame: &[u8]) -> [u8; HEADER_BYTES] {
        frame[..HEADER_BYTES].try_into().expect("a frame is longer than its header")
    }

    #[test]
    fn a_frame_comes_back_as_it_went() {
        let frame = encode(&Request::Scale { workers: 3 }).expect("small");
        let length = body_bytes(header(&frame)).expect("our own header");
        assert_eq!(length, frame.len() - HEADER_BYTES);
        assert_eq!(decode::<Request>(&frame[HEADER_BYTES..]).expect("our own body"), Request::Scale { workers: 3 });
    }

    #[test]
    fn garbage_other_versions_and_giants_are_told_apart() {
        let frame = encode(&Request::Status).expect("small");
        let changed = |at: usize, byte: u8| {
            let mut header = header(&frame);
            header[at] = byte;
            body_bytes(header)
        };
        assert!(matches!(changed(0, b'G'), Err(FrameError::Magic)));
        assert!(matches!(changed(4, 99), Err(FrameError::Version { theirs: 99 })));
        assert!(matches!(changed(11, 0x7f), Err(FrameError::Length { .. })));
        assert!(matches!(decode::<Request>(b"{\"open-sesame\":{}}"), Err(FrameError::Body(_))));
    }
}
