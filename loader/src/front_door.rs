//! The Unix socket where clients knock: who they are, which version they speak, what they ask.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use batchmill_protocol::fd;
use batchmill_protocol::frame::{self, BODY_BYTES_MAX, FrameError, HEADER_BYTES};
use batchmill_protocol::message::{Attached, MemberId, Reply, Request, StreamDescription};
use crossbeam::channel::Sender;
use ipc_channel::ipc::IpcOneShotServer;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};
use serde::Serialize;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use crate::daemon::Happening;
use crate::error::report;
use crate::output;
use crate::peer;

/// Clients that may be connected at once; each attached trainer is one.
const CLIENTS_MAX: usize = 1024;

/// How long a client may take to say what it wants, or to join its line.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Descriptors that a line takes: its two directions, and three for a moment.
const LINE_DESCRIPTORS: usize = 5;

/// The longest path that fits a Unix socket's address on Linux, and what ipc-channel appends for its own.
const SOCKET_PATH_BYTES_MAX: usize = 107;
const LINE_SUFFIX_BYTES: usize = "/.tmpXXXXXX/socket".len() + 1;

/// Why the front door cannot be opened.
#[derive(Debug, Error)]
pub(crate) enum DoorError {
    /// Another daemon is there.
    #[error(
        "another loader already serves at {}: end it with `loader stop`, or choose another address with --socket",
        .0.display()
    )]
    InUse(PathBuf),
    /// Something that is no socket is there.
    #[error("{} exists and is not a socket: choose another address with --socket", .0.display())]
    NotASocket(PathBuf),
    /// The folder is not there.
    #[error("the folder {} for the socket does not exist: make it, or choose another address with --socket", .0.display())]
    NoFolder(PathBuf),
    /// The folder belongs to somebody else.
    #[error("the folder {} belongs to another user: choose another address with --socket", .0.display())]
    Folder(PathBuf),
    /// The kernel's limit.
    #[error(
        "the socket path {} is {} bytes too long for a Unix socket: choose a shorter one with --socket",
        path.display(), over
    )]
    TooLong { path: PathBuf, over: usize },
    /// The kernel refused a step.
    #[error("{step} {}", path.display())]
    Io { step: &'static str, path: PathBuf, source: io::Error },
}

/// The place where clients knock: a socket, the lock that keeps a second daemon out, a folder for new lines.
#[derive(Debug)]
pub(crate) struct Door {
    socket: PathBuf,
    lock: PathBuf,
    lines: PathBuf,
    listener: std::os::unix::net::UnixListener,
    /// Held for life.
    _locked: File,
}

/// What a client asks, on its way to the daemon.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) request: Request,
    pub(crate) pid: u32,
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// What the daemon answers.
#[derive(Debug)]
pub(crate) enum Answer {
    Reply(Reply),
    /// The client becomes a member.
    Attach(Box<Admission>),
}

/// What a new member gets.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) member: MemberId,
    pub(crate) stream: StreamDescription,
    pub(crate) slots: u32,
    pub(crate) slab: OwnedFd,
}

impl Door {
    /// Takes the address: alone, and after clearing what a dead daemon left there.
    pub(crate) fn open(socket: &Path) -> Result<Self, DoorError> {
        let socket = std::path::absolute(socket).map_err(|source| failed("resolve", socket)(source))?;
        let beside = |suffix: &str| {
            let mut path = socket.clone().into_os_string();
            path.push(suffix);
            PathBuf::from(path)
        };
        let (lock, lines) = (beside(".lock"), beside(".lines"));
        let longest = socket.as_os_str().len().max(lines.as_os_str().len() + LINE_SUFFIX_BYTES);
        if longest > SOCKET_PATH_BYTES_MAX {
            return Err(DoorError::TooLong { over: longest - SOCKET_PATH_BYTES_MAX, path: socket });
        }
        if let Some(folder) = socket.parent() {
            own_folder(folder, socket == batchmill_protocol::address::default_socket())?;
        }
        let locked = take_lock(&lock)?.ok_or_else(|| DoorError::InUse(socket.clone()))?;
        clear(&socket, &lines)?;
        DirBuilder::new().mode(0o700).create(&lines).map_err(failed("create", &lines))?;
        let listener = std::os::unix::net::UnixListener::bind(&socket).map_err(failed("listen at", &socket))?;
        fs::set_permissions(&socket, Permissions::from_mode(0o600)).map_err(failed("restrict", &socket))?;
        listener.set_nonblocking(true).map_err(failed("listen at", &socket))?;
        Ok(Self { socket, lock, lines, listener, _locked: locked })
    }

    /// The folder for the sockets of new lines; ours alone, and cleared by the next daemon if we cannot.
    pub(crate) fn lines(&self) -> &Path {
        &self.lines
    }

    /// A handle for [`serve`].
    pub(crate) fn listener(&self) -> io::Result<std::os::unix::net::UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // Nothing can be done about a file that does not go; the next daemon clears it.
        let _ = fs::remove_file(&self.socket);
        let _ = fs::remove_dir_all(&self.lines);
        // Last, and under the lock: whoever waits for it looks at the path again.
        let _ = fs::remove_file(&self.lock);
    }
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DoorError {
    let path = path.to_path_buf();
    move |source| DoorError::Io { step, path, source }
}

/// Makes the folder when it is ours to make; the default one must be nobody else's.
fn own_folder(folder: &Path, default: bool) -> Result<(), DoorError> {
    if !default {
        return if folder.is_dir() { Ok(()) } else { Err(DoorError::NoFolder(folder.to_path_buf())) };
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed("create", folder))?;
    let metadata = fs::symlink_metadata(folder).map_err(failed("look at", folder))?;
    if metadata.is_dir() && metadata.uid() == rustix::process::getuid().as_raw() {
        return fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(failed("restrict", folder));
    }
    Err(DoorError::Folder(folder.to_path_buf()))
}

/// Takes the lock for life, or `None` when another process has it.
fn take_lock(path: &Path) -> Result<Option<File>, DoorError> {
    loop {
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).open(path).map_err(failed("open", path))?;
        match file.try_lock() {
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(source)) => return Err(failed("lock", path)(source)),
            Ok(()) => {}
        }
        // A daemon that ended between our open and our lock has removed the file: a lock on it keeps nobody out.
        let ours = file.metadata().map_err(failed("look at", path))?.ino();
        if fs::metadata(path).is_ok_and(|there| there.ino() == ours) {
            return Ok(Some(file));
        }
    }
}

/// Removes what a daemon that was killed left behind; called under the lock.
fn clear(socket: &Path, lines: &Path) -> Result<(), DoorError> {
    use std::os::unix::fs::FileTypeExt;
    match fs::symlink_metadata(socket) {
        Ok(metadata) if metadata.file_type().is_socket() => {
            fs::remove_file(socket).map_err(failed("remove the stale", socket))?;
        }
        Ok(_) => return Err(DoorError::NotASocket(socket.to_path_buf())),
        Err(_) => {}
    }
    // Only what ipc-channel makes there: should somebody else keep files in it, they are theirs.
    for entry in fs::read_dir(lines).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(b".tmp") {
            fs::remove_dir_all(entry.path()).map_err(failed("remove the stale", &entry.path()))?;
        }
    }
    match fs::remove_dir(lines) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(failed("remove the stale", lines)(source)),
        _ => Ok(()),
    }
}

/// Answers clients until the daemon ends.
pub(crate) async fn serve(listener: std::os::unix::net::UnixListener, happenings: Sender<Happening>) -> io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    let room = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let seat = Arc::clone(&room).acquire_owned().await.map_err(io::Error::other)?;
        match listener.accept().await {
            Ok((client, _)) => {
                let happenings = happenings.clone();
                tokio::spawn(async move {
                    // A client that breaks off has nothing left to be told.
                    let _ = attend(client, &happenings).await;
                    drop(seat);
                });
            }
            // Such as too many open files: others may close theirs.
            Err(error) => {
                output::log(&format!("a client could not be let in: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Hears one client's request after another.
async fn attend(mut client: UnixStream, happenings: &Sender<Happening>) -> io::Result<()> {
    let peer = client.peer_cred()?;
    if peer.uid() != rustix::process::getuid().as_raw() {
        return refuse(&mut client, "this loader belongs to another user").await;
    }
    let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
    loop {
        let request = match timeout(CLIENT_TIMEOUT, receive(&mut client)).await? {
            Ok(request) => request,
            Err(Unheard::Io(error)) => return Err(error),
            Err(Unheard::Frame(error)) => return refuse(&mut client, &report(&error)).await,
        };
        let (answer, answered) = oneshot::channel();
        let stops = matches!(request, Request::Stop);
        let _ = happenings.send(Happening::Asked(Asked { request, pid, answer }));
        let Ok(answer) = answered.await else { return Ok(()) };
        match answer {
            Answer::Reply(reply) => send(&mut client, &reply).await?,
            Answer::Attach(admission) => return admit(client, pid, *admission, happenings).await,
        }
        if stops {
            // The end of this connection, with the process, tells the client that we are gone.
            std::future::pending::<()>().await;
        }
    }
}

enum Unheard {
    Io(io::Error),
    Frame(FrameError),
}

async fn receive(client: &mut UnixStream) -> Result<Request, Unheard> {
    let mut header = [0; HEADER_BYTES];
    client.read_exact(&mut header).await.map_err(Unheard::Io)?;
    let mut body = vec![0; frame::body_bytes(header).map_err(Unheard::Frame)?];
    client.read_exact(&mut body).await.map_err(Unheard::Io)?;
    frame::decode(&body).map_err(Unheard::Frame)
}

async fn send(client: &mut UnixStream, message: &impl Serialize) -> io::Result<()> {
    let frame = frame::encode(message).map_err(io::Error::other)?;
    timeout(peer::WRITE_TIMEOUT, client.write_all(&frame)).await?
}

/// Says no for good.
async fn refuse(client: &mut UnixStream, reason: &str) -> io::Result<()> {
    send(client, &Reply::Refused { reason: reason.to_owned() }).await?;
    client.shutdown().await?;
    // A client that is still about to ask would otherwise meet a closed connection before it has read why.
    let mut rest = client.take(BODY_BYTES_MAX as u64);
    let _ = timeout(peer::LAST_WORDS, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
    Ok(())
}

/// Gives a client the slab and a line, and watches over its life.
async fn admit(
    mut client: UnixStream,
    pid: u32,
    admission: Admission,
    happenings: &Sender<Happening>,
) -> io::Result<()> {
    let member = admission.member;
    let attached = Arc::new(AtomicBool::new(true));
    let alive = Alive::of(pid);
    let flag = Arc::clone(&attached);
    let wanted = move || flag.load(Ordering::Relaxed) && alive.is_alive();
    let (joins, joined) = oneshot::channel();
    let (hears, falls_silent) = oneshot::channel();
    let admitted = hand_over(&mut client, admission, joins, hears, wanted, happenings).await;
    if let Ok(line) = admitted {
        let mut byte = [0];
        // Nothing is to come on this connection but its end.
        let life = client.read(&mut byte);
        tokio::pin!(life);
        let has_joined = tokio::select! {
            joined = timeout(CLIENT_TIMEOUT, joined) => matches!(joined, Ok(Ok(()))),
            _ = &mut life => false,
        };
        if has_joined {
            // Without its line a member is of no use.
            tokio::select! {
                _ = life => {}
                _ = falls_silent => {}
            }
        }
        attached.store(false, Ordering::Relaxed);
        // If it never joined its line, the thread that awaits it there must be let go.
        peer::let_go(&line);
    }
    let _ = happenings.send(Happening::MemberGone(member));
    Ok(())
}

/// Sees that the descriptors of a member's line could be received now: later nobody could be told that they cannot.
fn has_room_for_line(any: BorrowedFd<'_>) -> io::Result<()> {
    let descriptors: io::Result<Vec<OwnedFd>> = (0..LINE_DESCRIPTORS).map(|_| any.try_clone_to_owned()).collect();
    descriptors.map(drop)
}

async fn hand_over(
    client: &mut UnixStream,
    Admission { member, stream, slots, slab }: Admission,
    joins: oneshot::Sender<()>,
    hears: oneshot::Sender<()>,
    wanted: impl Fn() -> bool + Send + 'static,
    happenings: &Sender<Happening>,
) -> io::Result<String> {
    let (server, line) = match has_room_for_line(client.as_fd()).and_then(|()| IpcOneShotServer::new()) {
        Ok(made) => made,
        Err(error) => {
            let reason = format!("the loader cannot open a line ({error}): raise its limit of open files, `ulimit -n`");
            refuse(client, &reason).await?;
            return Err(error);
        }
    };
    let reply = Reply::Attached(Box::new(Attached { stream, slots, line: line.clone() }));
    let frame = frame::encode(&reply).map_err(io::Error::other)?;
    let listener = happenings.clone();
    thread::Builder::new().name(format!("line of member {member}")).spawn(move || {
        if let Err(error) = peer::hear_member(member, server, joins, wanted, &listener) {
            output::log(&format!("member {member} {error}"));
        }
        drop(hears);
    })?;
    let write = async {
        let sent = client.async_io(Interest::WRITABLE, || fd::send_start(client.as_fd(), &frame, slab.as_fd())).await?;
        client.write_all(&frame[sent..]).await
    };
    let written = timeout(peer::WRITE_TIMEOUT, write).await.unwrap_or_else(|elapsed| Err(elapsed.into()));
    if written.is_err() {
        peer::let_go(&line);
    }
    written.map(|()| line)
}

/// Whether a member's process still runs: a child that it forked may hold its life-line and its line open.
struct Alive(Option<OwnedFd>);

impl Alive {
    fn of(pid: u32) -> Self {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        Self(pid.and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()))
    }

    fn is_alive(&self) -> bool {
        // Without a pidfd the life-line has to do, as it does for all but forks.
        let Some(pidfd) = &self.0 else { return true };
        let mut ended = [PollFd::new(pidfd, PollFlags::IN)];
        !matches!(rustix::event::poll(&mut ended, Some(&Timespec::default())), Ok(1..))
    }
}
