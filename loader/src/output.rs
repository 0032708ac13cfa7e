//! Lines on standard output, for a person or as one JSON object each, and on standard error.

use std::io::{self, Write};

use indicatif::ProgressStyle;
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

/// Prints a result: as one JSON object on a line where `--json` asks for it, else as text.
///
/// # Errors
/// As [`line`].
pub(crate) fn result(json: bool, value: &impl Serialize, text: &str) -> io::Result<()> {
    if json { line(&serde_json::to_string(value)?) } else { line(text) }
}

/// The look of a progress bar; our templates are sound, and a bar is nothing to fail over.
pub(crate) fn bar_style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
