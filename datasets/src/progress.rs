//! How far the fetching of a dataset's files is, and lines that say so.

use std::fmt;
use std::time::{Duration, Instant};

/// The longest silence of [`Lines`] while bytes arrive.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// What happens while the files of a dataset are fetched; it writes itself as a line for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// Another process makes this file; this one waits for it.
    Waiting {
        /// Its name.
        file: &'a str,
    },
    /// Some of a file is there: said when its first bytes are about to come, and with each piece of it.
    Fetching {
        /// Its name.
        file: &'a str,
        /// The bytes that are there, those of an earlier attempt included.
        done: u64,
        /// The bytes of the whole file, where the server says.
        total: Option<u64>,
    },
    /// An attempt failed, and another one follows.
    Retrying {
        /// The file's name.
        file: &'a str,
        /// Why it failed.
        reason: &'a str,
        /// How long until the next.
        pause: Duration,
    },
    /// A file is there whole, and is the one that was published.
    Fetched {
        /// Its name.
        file: &'a str,
        /// Its bytes.
        bytes: u64,
    },
    /// A file is being taken out of an archive.
    Unpacking {
        /// Its name.
        file: &'a str,
        /// The archive's name.
        archive: &'a str,
    },
}

impl fmt::Display for Progress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Waiting { file } => write!(f, "waiting for another process that makes {file}"),
            Self::Fetching { file, done, total: Some(total) } => {
                write!(f, "fetching {file}: {} of {} MB", Tenths(done), Tenths(total))
            }
            Self::Fetching { file, done, total: None } => write!(f, "fetching {file}: {} MB", Tenths(done)),
            Self::Retrying { file, reason, pause } => {
                write!(f, "fetching {file}: {reason}; trying again in {} s", pause.as_secs())
            }
            Self::Fetched { file, bytes } => write!(f, "fetched {file}: {} MB", Tenths(bytes)),
            Self::Unpacking { file, archive } => write!(f, "unpacking {file} from {archive}"),
        }
    }
}

/// Bytes as millions of them with one decimal.
struct Tenths(u64);

impl fmt::Display for Tenths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0 / 100_000;
        write!(f, "{}.{}", tenths / 10, tenths % 10)
    }
}

/// Progress as plain lines, for a log: while a file arrives, one for each tenth of it, or every 5 seconds.
#[derive(Debug)]
pub struct Lines<Out> {
    out: Out,
    said: Option<Said>,
}

/// The last line about a file that is arriving.
#[derive(Debug)]
struct Said {
    file: String,
    tenth: Option<u64>,
    at: Instant,
}

impl<Out: FnMut(&str)> Lines<Out> {
    /// Hands each line to `out`.
    pub fn new(out: Out) -> Self {
        Self { out, said: None }
    }

    /// Says what happens, unless it was said just now.
    pub fn tell(&mut self, progress: Progress<'_>) {
        self.tell_at(progress, Instant::now());
    }

    fn tell_at(&mut self, progress: Progress<'_>, now: Instant) {
        self.said = if let Progress::Fetching { file, done, total } = progress {
            let tenth = total.and_then(|total| (done.saturating_mul(10)).checked_div(total));
            let is_known = |said: &Said| {
                said.file == file && said.tenth == tenth && now.saturating_duration_since(said.at) < SILENCE_MAX
            };
            if self.said.as_ref().is_some_and(is_known) {
                return;
            }
            Some(Said { file: file.to_owned(), tenth, at: now })
        } else {
            None
        };
        (self.out)(&progress.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_arrives_has_a_line_for_each_tenth_or_every_five_seconds() {
        let start = Instant::now();
        let mut heard = Vec::new();
        let mut lines = Lines::new(|line: &str| heard.push(line.to_owned()));
        let fetching = |done, total| Progress::Fetching { file: "a.gz", done, total };
        for done in (0..=2_000_000).step_by(1000) {
            lines.tell_at(fetching(done, Some(20_000_000)), start);
        }
        lines.tell_at(fetching(2_100_000, Some(20_000_000)), start + Duration::from_secs(4));
        lines.tell_at(fetching(2_200_000, Some(20_000_000)), start + Duration::from_secs(5));
        lines.tell_at(Progress::Fetched { file: "a.gz", bytes: 20_000_000 }, start + Duration::from_secs(6));
        lines.tell_at(fetching(0, None), start);
        lines.tell_at(fetching(900_000, None), start);
        lines.tell_at(
            Progress::Retrying { file: "a.gz", reason: "connection refused", pause: Duration::from_secs(2) },
            start,
        );
        assert_eq!(
            heard,
            [
                "fetching a.gz: 0.0 of 20.0 MB",
                "fetching a.gz: 2.0 of 20.0 MB",
                "fetching a.gz: 2.2 of 20.0 MB",
                "fetched a.gz: 20.0 MB",
                "fetching a.gz: 0.0 MB",
                "fetching a.gz: connection refused; trying again in 2 s",
            ]
        );
    }
}
