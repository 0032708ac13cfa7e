//! Where ranks of one machine find one another: at a socket of rank 0, whose name follows from their group and run.
//!
//! Rank 0 has the lock of the run's folder, and no other run has this place: whatever lies there is of a rank 0 that was
//! killed. When all have come, or the time is over, the socket is gone again.

use std::fs::{self, DirBuilder, Permissions};
use std::hash::Hasher as _;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use batchmill_protocol::identity::Identity;
use batchmill_protocol::share::Shard;
use batchmill_protocol::{address, fd};
use twox_hash::XxHash3_64;

use super::shared::{FromRank, ToRank, readable, refuse};
use super::{CollectiveError, Joint, check_plan};

/// The longest path that a Unix socket takes.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// How long one that has come may take to say who it is.
const HELLO_LIMIT: Duration = Duration::from_secs(5);

/// The pause between two attempts to reach rank 0.
const PAUSE: Duration = Duration::from_millis(20);

/// So much longer the others wait for rank 0, which then has the time to say whom it waited for.
const NAMING: Duration = Duration::from_secs(5);

/// A rank's lines to the others.
#[derive(Debug)]
pub(super) enum Links {
    /// Of rank 0, to ranks 1, 2 and so on.
    Ranks(Vec<UnixStream>),
    /// Of another rank, to rank 0.
    Zero(UnixStream),
}

/// Where the ranks of a group meet for a training: those of two launchers nowhere, though both say the same.
pub(super) fn place(group: &str, training: &Joint<'_>) -> PathBuf {
    let mut hash = XxHash3_64::new();
    for part in [group.as_bytes(), training.run.as_os_str().as_encoded_bytes()] {
        hash.write(part);
        // In no path: where one ends and the other begins counts.
        hash.write(&[0]);
    }
    hash.write(&training.launcher.unwrap_or_default().to_le_bytes());
    address::default_socket().with_file_name(format!("ranks-{:016x}.sock", hash.finish()))
}

/// Meets the others at `socket`.
pub(super) fn meet(socket: &Path, shard: &Shard, plan: &Identity) -> Result<Links, CollectiveError> {
    let over = socket.as_os_str().len().saturating_sub(SOCKET_PATH_BYTES_MAX);
    if over > 0 {
        return Err(CollectiveError::TooLong { path: socket.to_path_buf(), over });
    }
    match shard.rank {
        0 => await_all(socket, shard, plan).map(Links::Ranks),
        _ => reach(socket, shard, plan).map(Links::Zero),
    }
}

/// A socket that is listened at; gone when dropped.
struct Door<'a> {
    socket: &'a Path,
    listener: UnixListener,
}

impl<'a> Door<'a> {
    fn open(socket: &'a Path) -> Result<Self, CollectiveError> {
        let failed = |doing| move |source| CollectiveError::Meet { doing, path: socket.to_path_buf(), source };
        if let Some(folder) = socket.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed("make the folder of"))?;
            let owner = fs::symlink_metadata(folder).map_err(failed("look at the folder of"))?;
            if !owner.is_dir() || owner.uid() != rustix::process::getuid().as_raw() {
                return Err(CollectiveError::Foreign { folder: folder.to_path_buf() });
            }
        }
        match fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove the stale")(error)),
            _ => {}
        }
        let listening = "listen for the other ranks at";
        let listener = UnixListener::bind(socket).map_err(failed(listening))?;
        let door = Self { socket, listener };
        fs::set_permissions(socket, Permissions::from_mode(0o600)).map_err(failed(listening))?;
        door.listener.set_nonblocking(true).map_err(failed(listening))?;
        Ok(door)
    }
}

impl Drop for Door<'_> {
    fn drop(&mut self) {
        // What stays is removed by the next rank 0 of this group.
        let _ = fs::remove_file(self.socket);
    }
}

/// Rank 0: waits until every other rank has come, and says so to all. What is wrong with one is told to all.
fn await_all(socket: &Path, shard: &Shard, plan: &Identity) -> Result<Vec<UnixStream>, CollectiveError> {
    let door = Door::open(socket)?;
    let mut come: Vec<Option<UnixStream>> = (1..shard.world).map(|_| None).collect();
    let seated = take_seats(&door, shard, plan, &mut come);
    let links: Vec<UnixStream> = come.into_iter().flatten().collect();
    if let Err(error) = seated {
        refuse(&links, &error);
        return Err(error);
    }
    for (rank, link) in (1..).zip(&links) {
        let told = fd::send(link, &ToRank::Welcome, None);
        told.map_err(|error| CollectiveError::of_wire(error, rank, shard.world, shard.limit_s.into()))?;
    }
    Ok(links)
}

fn take_seats(
    door: &Door<'_>,
    shard: &Shard,
    plan: &Identity,
    come: &mut [Option<UnixStream>],
) -> Result<(), CollectiveError> {
    let deadline = Instant::now() + Duration::from_secs(shard.limit_s.into());
    while {
        clear(come);
        come.iter().any(Option::is_none)
    } {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || readable([&door.listener].into_iter(), left).is_empty() {
            let missing = (1..).zip(&*come).filter(|(_, link)| link.is_none()).map(|(rank, _)| rank);
            let (world, limit_s) = (shard.world, shard.limit_s);
            return Err(CollectiveError::Missing { ranks: missing.collect(), world, limit_s });
        }
        // Whoever left again, or is none of ours, is not waited for.
        let Ok((link, _)) = door.listener.accept() else { continue };
        let timed = link.set_nonblocking(false).and_then(|()| link.set_read_timeout(Some(HELLO_LIMIT)));
        let Ok((FromRank::Hello { rank, plan: theirs }, _)) =
            timed.map_err(Into::into).and_then(|()| fd::receive(&link))
        else {
            continue;
        };
        clear(come);
        let seat = usize::try_from(rank).ok().and_then(|rank| come.get_mut(rank.checked_sub(1)?));
        let checked = match &seat {
            Some(Some(_)) => Err(CollectiveError::Twice { rank, world: shard.world }),
            // First: of another world, its rank may not exist here.
            _ => check_plan(rank, &theirs, plan),
        };
        if let Err(error) = checked {
            refuse([&link], &error);
            return Err(error);
        }
        if let Some(seat) = seat {
            *seat = Some(link);
        }
    }
    Ok(())
}

/// Frees the seats of those that have ended. One that has come says nothing more until all have: when it is to be read
/// from, it has ended.
fn clear(come: &mut [Option<UnixStream>]) {
    for seat in come {
        seat.take_if(|link| !readable([&*link].into_iter(), Duration::ZERO).is_empty());
    }
}

/// Another rank: reaches rank 0, says who it is, and waits until all have come.
fn reach(socket: &Path, shard: &Shard, plan: &Identity) -> Result<UnixStream, CollectiveError> {
    let (world, limit_s) = (shard.world, shard.limit_s);
    let limit = Duration::from_secs(limit_s.into());
    let start = Instant::now();
    let link = loop {
        match UnixStream::connect(socket) {
            Ok(link) => break link,
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Err(CollectiveError::Meet {
                    doing: "reach rank 0 at",
                    path: socket.to_path_buf(),
                    source: error,
                });
            }
            Err(_) if start.elapsed() < limit => thread::sleep(PAUSE),
            Err(_) => return Err(CollectiveError::Missing { ranks: vec![0], world, limit_s }),
        }
    };
    let of_wire = |error| CollectiveError::of_wire(error, 0, world, limit_s.into());
    link.set_read_timeout(Some(limit + NAMING)).map_err(|error| of_wire(error.into()))?;
    let hello = FromRank::Hello { rank: shard.rank, plan: plan.clone() };
    fd::send(&link, &hello, None).map_err(of_wire)?;
    match fd::receive(&link).map_err(of_wire)? {
        (ToRank::Refused { reason }, _) => Err(CollectiveError::Refused { reason }),
        (ToRank::Welcome, _) => Ok(link),
        _ => Err(CollectiveError::Gone { rank: 0, world }),
    }
}
