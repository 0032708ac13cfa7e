//! One request for a file, or for the rest of it.

use std::io;
use std::time::Duration;

use ureq::Agent;
use ureq::http::header::{CONTENT_RANGE, RANGE};
use ureq::http::{Response, StatusCode};
use ureq::{Body, Timeout};

use super::part::{FillError, Part, WriteError};

/// The largest file that is fetched; the largest published is a third of it. A server that never ends must not fill
/// the disk.
pub(super) const FILE_BYTES_MAX: u64 = 2 << 30;

/// How long a server may be silent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Until it is found and takes the connection.
    pub(super) connect: Duration,
    /// Before each piece of its answer.
    pub(super) read: Duration,
}

/// Why a request did not bring the file.
#[derive(Debug)]
pub(super) enum Failed {
    /// It may go better another time.
    Again(String),
    /// This server will not do.
    Elsewhere(String),
    /// The bytes cannot be kept; no server helps.
    Here(WriteError),
}

impl From<WriteError> for Failed {
    fn from(error: WriteError) -> Self {
        Self::Here(error)
    }
}

/// What asks; it takes the proxy that the environment names, if any.
pub(super) fn agent(patience: Patience) -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(concat!("batchmill/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(patience.connect))
        .timeout_connect(Some(patience.connect))
        .timeout_per_read(Some(patience.read))
        .timeout_per_write(Some(patience.read))
        .build()
        .new_agent()
}

/// Adds to `part` what it lacks of the file at `address`; `tell` hears how many bytes are there and how many there
/// will be.
///
/// A server that cannot send a part of a file sends all of it: `part` begins anew then.
pub(super) fn get(
    agent: &Agent,
    address: &str,
    patience: Patience,
    part: &mut Part,
    tell: &mut dyn FnMut(u64, Option<u64>),
) -> Result<(), Failed> {
    let why = |error| reason(error, patience);
    let mut request = agent.get(address);
    if part.len() > 0 {
        request = request.header(RANGE, format!("bytes={}-", part.len()));
    }
    let mut response = request.call().map_err(|error| Failed::Again(why(error)))?;
    match response.status() {
        StatusCode::OK => part.clear()?,
        StatusCode::PARTIAL_CONTENT if range_start(&response) == Some(part.len()) => {}
        // All of it is there, or more: the checksum tells.
        StatusCode::RANGE_NOT_SATISFIABLE if part.len() > 0 => return Ok(()),
        StatusCode::PARTIAL_CONTENT => {
            part.clear()?;
            return Err(Failed::Again("it sent another part of the file than it was asked for".to_owned()));
        }
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            return Err(Failed::Again(format!("it answered {status}")));
        }
        status => return Err(Failed::Elsewhere(format!("it answered {status}"))),
    }
    let total = response.body().content_length().map(|rest| part.len() + rest);
    tell(part.len(), total);
    let mut body = response.body_mut().with_config().limit(u64::MAX).reader();
    part.fill(&mut body, FILE_BYTES_MAX, &mut |done| tell(done, total)).map_err(|error| match error {
        FillError::Read(error) => Failed::Again(why(ureq::Error::from(error))),
        FillError::Write(error) => Failed::Here(error),
        FillError::TooMany => Failed::Elsewhere(format!("it sent more than {FILE_BYTES_MAX} bytes")),
    })
}

/// The first byte of a partial answer: `Content-Range: bytes 100-199/200` (RFC 9110, 14.4).
fn range_start(response: &Response<Body>) -> Option<u64> {
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

/// What a person reads of a request that failed.
fn reason(error: ureq::Error, Patience { connect, read }: Patience) -> String {
    match error {
        ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
            format!("no connection within {} s", connect.as_secs_f32())
        }
        ureq::Error::Timeout(_) => format!("it was silent for {} s", read.as_secs_f32()),
        ureq::Error::HostNotFound => "there is no such host, or no network".to_owned(),
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the connection broke before the file was whole".to_owned()
        }
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}
