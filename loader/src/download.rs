//! `loader download`: fetches what the streams of a configuration lack, without serving them.

use std::fmt;
use std::io::{self, IsTerminal};

use batchmill_datasets::progress::{Lines, Progress};
use batchmill_datasets::registry::Registry;
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde::Serialize;
use thiserror::Error;

use crate::cli::Download;
use crate::config;
use crate::error::Failure;
use crate::output;

/// A stream whose data could not be fetched.
#[derive(Debug, Error)]
#[error("stream `{stream}`")]
struct StreamError {
    stream: String,
    source: batchmill_datasets::source::OpenError,
}

/// What was fetched for a stream, as printed.
#[derive(Default, Serialize)]
struct Fetched {
    stream: String,
    files: Vec<String>,
    bytes: u64,
}

impl fmt::Display for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stream, files, bytes } = self;
        match &files[..] {
            [] => write!(f, "{stream}: nothing to fetch"),
            [file] => write!(f, "{stream}: fetched {file}, {bytes} bytes"),
            files => write!(f, "{stream}: fetched {} files, {bytes} bytes", files.len()),
        }
    }
}

/// Fetches the data of every stream, one after the other.
pub(crate) fn download(arguments: &Download, registry: &Registry) -> Result<(), Failure> {
    let streams = config::streams_of_file(&arguments.config, registry)?;
    for spec in streams {
        let mut screen = Screen::new();
        let mut fetched = Fetched { stream: spec.name.clone(), ..Fetched::default() };
        let outcome = registry.prepare(&spec, &mut |progress| {
            screen.show(progress);
            if let Progress::Fetched { file, bytes } = progress {
                fetched.files.push(file.to_owned());
                fetched.bytes += bytes;
            }
        });
        screen.clear();
        outcome.map_err(|source| StreamError { stream: spec.name, source })?;
        output::result(arguments.json, &fetched, &fetched.to_string())?;
    }
    Ok(())
}

/// Standard error: a bar where a person looks, lines elsewhere.
enum Screen {
    Bar(ProgressBar),
    Lines(Lines<fn(&str)>),
}

impl Screen {
    fn new() -> Self {
        if io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(output::bar_style("fetching {msg} {bar:40} {bytes} of {total_bytes}, {bytes_per_sec}"));
            Self::Bar(bar)
        } else {
            Self::Lines(Lines::new(output::log))
        }
    }

    fn show(&mut self, progress: Progress<'_>) {
        match (self, progress) {
            (Self::Lines(lines), progress) => lines.tell(progress),
            (Self::Bar(bar), Progress::Fetching { file, done, total }) => {
                total.map_or_else(|| bar.unset_length(), |total| bar.set_length(total));
                bar.set_position(done);
                if bar.message() != file {
                    bar.set_message(file.to_owned());
                }
            }
            (Self::Bar(bar), progress) => bar.println(progress.to_string()),
        }
    }

    fn clear(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_fetched_is_said_in_one_line() {
        let said = |files: &[&str], bytes| {
            let files = files.iter().map(|&file| file.to_owned()).collect();
            Fetched { stream: "train".to_owned(), files, bytes }.to_string()
        };
        assert_eq!(said(&[], 0), "train: nothing to fetch");
        assert_eq!(said(&["a.gz"], 5), "train: fetched a.gz, 5 bytes");
        assert_eq!(said(&["a.gz", "b.gz"], 12), "train: fetched 2 files, 12 bytes");
    }
}
