//! Published files from their addresses: checked, resumed, and made by one process at a time.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use ureq::Agent;

use self::http::{Failed, Patience};
use self::part::{Part, WriteError};
pub(crate) use self::unpack::{Member, unpack};
use crate::progress::Progress;
use crate::source::OpenError;
use crate::sources::Remote;

mod http;
mod part;
#[cfg(test)]
pub(crate) mod server;
#[cfg(test)]
mod tests;
mod unpack;

/// How long a server may be silent: what a busy one needs, and a person can bear.
const PATIENCE: Patience = Patience { connect: Duration::from_secs(20), read: Duration::from_secs(30) };

/// The pauses between rounds over the mirrors in which no byte is gained.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];

/// Fetches files.
#[derive(Debug)]
pub(crate) struct Downloader {
    agent: Agent,
    patience: Patience,
    pauses: Vec<Duration>,
}

impl Default for Downloader {
    fn default() -> Self {
        Self::new(PATIENCE, PAUSES.into())
    }
}

impl Downloader {
    fn new(patience: Patience, pauses: Vec<Duration>) -> Self {
        Self { agent: http::agent(patience), patience, pauses }
    }

    /// Sees to it that a file is in `folder`, and says where. One that is there already is taken as it is: no server is
    /// asked.
    ///
    /// # Errors
    /// [`OpenError`], with what each mirror answered. What has arrived stays in `NAME.part`, from which the next call
    /// goes on.
    pub(crate) fn fetch(
        &self,
        remote: &Remote<'_>,
        folder: &Path,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<PathBuf, OpenError> {
        let (name, file) = (remote.name, folder.join(remote.name));
        let addresses: Vec<_> = remote.mirrors.iter().map(|mirror| remote.address(mirror)).collect();
        let refuse = |error| cannot_keep(addresses.first().map_or(name, String::as_str), error);
        let waiting = || progress(Progress::Waiting { file: name });
        let Some(mut part) = Part::open(&file, waiting).map_err(refuse)? else { return Ok(file) };
        match self.try_mirrors(remote, &addresses, &mut part, progress) {
            Ok(()) => {
                let bytes = part.len();
                let file = part.publish().map_err(refuse)?;
                progress(Progress::Fetched { file: name, bytes });
                Ok(file)
            }
            Err(error) => {
                if part.len() == 0 {
                    // The first error is what the user is to hear.
                    let _ = part.discard();
                }
                Err(error)
            }
        }
    }

    /// Asks one mirror after the other, and all again after a pause, until the part is the file that was published.
    fn try_mirrors(
        &self,
        remote: &Remote<'_>,
        addresses: &[String],
        part: &mut Part,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), OpenError> {
        let mut mirrors: Vec<_> =
            addresses.iter().map(|address| Mirror { address, reason: String::new(), will_do: true }).collect();
        let mut pauses = self.pauses.iter();
        let mut longest = part.len();
        loop {
            for mirror in mirrors.iter_mut().filter(|mirror| mirror.will_do) {
                match self.try_mirror(mirror.address, remote, part, progress) {
                    Ok(()) => return Ok(()),
                    Err(Failed::Again(reason)) => mirror.reason = reason,
                    Err(Failed::Elsewhere(reason)) => (mirror.reason, mirror.will_do) = (reason, false),
                    Err(Failed::Here(error)) => return Err(cannot_keep(mirror.address, error)),
                }
                // As long as it comes nearer, there is hope; it does so at most once for each byte.
                if part.len() > longest {
                    longest = part.len();
                    pauses = self.pauses.iter();
                }
            }
            let hopeful = mirrors.iter().find(|mirror| mirror.will_do);
            let (Some(mirror), Some(&pause)) = (hopeful, pauses.next()) else {
                return Err(given_up(&mirrors, part));
            };
            let reason = format!("{}: {}", mirror.address, mirror.reason);
            progress(Progress::Retrying { file: remote.name, reason: &reason, pause });
            thread::sleep(pause);
        }
    }

    /// Fetches what the part lacks and compares the whole with what was published.
    fn try_mirror(
        &self,
        address: &str,
        remote: &Remote<'_>,
        part: &mut Part,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), Failed> {
        let before = part.len();
        let mut from = u64::MAX;
        http::get(&self.agent, address, self.patience, part, &mut |done, total| {
            from = from.min(done);
            progress(Progress::Fetching { file: remote.name, done, total });
        })?;
        let found = part.md5()?;
        if found == remote.md5 {
            return Ok(());
        }
        let bytes = part.len();
        part.clear()?;
        let reason = format!("it sent {bytes} bytes with the MD5 {found}, expected {}", remote.md5);
        // The bytes that were there before may be the wrong ones.
        let is_all_its_own = before == 0 || from == 0;
        Err(if is_all_its_own { Failed::Elsewhere(reason) } else { Failed::Again(reason) })
    }
}

/// One server that has the file, and what came of it.
#[derive(Debug)]
struct Mirror<'a> {
    address: &'a str,
    reason: String,
    will_do: bool,
}

fn cannot_keep(address: &str, error: WriteError) -> OpenError {
    OpenError::other(format!("fetch {address}"), Some(Box::new(error)))
}

fn given_up(mirrors: &[Mirror<'_>], part: &Part) -> OpenError {
    let reasons: Vec<_> = mirrors.iter().map(|mirror| format!("{}: {}", mirror.address, mirror.reason)).collect();
    let kept = match part.len() {
        0 => String::new(),
        bytes => format!("; its first {bytes} bytes are kept in {}", part.path().display()),
    };
    OpenError::other(format!("fetch {}{kept}", reasons.join("; ")), None)
}
