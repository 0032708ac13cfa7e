//! Lines on standard output, for a person or as one JSON object each, and on standard error.

use std::io::{self, Write};

use serde::Serialize;

/// Prints one line.
///
/// # Errors
/// When nobody reads any more, as behind `| head`; [`run`](crate::run) takes that for a quiet end.
pub(crate) fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Prints one line on standard error. Where nobody reads it, it is lost: a daemon outlives its log's reader.
pub(crate) fn log(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints one JSON object on a line.
///
/// # Errors
/// As [`line`].
pub(crate) fn json(value: &impl Serialize) -> io::Result<()> {
    line(&serde_json::to_string(value)?)
}
