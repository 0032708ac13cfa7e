//! One worker's or trainer's ipc-channel, heard on a thread of its own.
//!
//! A thread per peer, because a message that cannot be read must end the hearing of that peer and of no other.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use batchmill_protocol::message::{MemberId, MemberLine, WorkerId, WorkerLine};
use crossbeam::channel::Sender;
use ipc_channel::ipc::{self, IpcOneShotServer, IpcReceiver, OpaqueIpcReceiver};
use ipc_channel::{IpcError, TryRecvError};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::de::value::{Error as ValueError, UsizeDeserializer};
use serde::de::{DeserializeOwned, Error as _, IntoDeserializer};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;
use tokio::sync::oneshot;

use crate::daemon::Happening;

/// How long a write to a peer may take.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait for what a dead worker wrote last.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(1);

/// How often a listening thread looks whether its peer is still wanted.
const LOOK_UP: Duration = Duration::from_secs(1);

/// Why a peer is no longer heard before it fell silent.
#[derive(Debug, Error)]
pub(crate) enum Unheard {
    /// What came first was not its line.
    #[error("did not join its line but sent something else there: it is let go")]
    Stranger,
    /// What came later was no message.
    #[error("sent what is no message: it is let go")]
    Garbage,
}

/// Awaits a worker on its line and passes on what it says, until it falls silent or all is heard that one that has
/// `ended` said.
pub(crate) fn hear_worker(
    worker: WorkerId,
    server: IpcOneShotServer<Told<WorkerLine>>,
    ended: &AtomicBool,
    happenings: &Sender<Happening>,
) -> Result<(), Unheard> {
    let heard = join(server).and_then(|line| {
        let Some(WorkerLine { to_worker, from_worker }) = line else { return Ok(()) };
        if happenings.send(Happening::WorkerJoined { worker, line: to_worker }).is_err() {
            return Ok(());
        }
        let wanted = || !ended.load(Ordering::Relaxed);
        hear(&from_worker, wanted, |message| happenings.send(Happening::WorkerSays { worker, message }).is_ok())
    });
    let _ = happenings.send(Happening::WorkerSilent(worker));
    heard
}

/// Awaits a member on its line, says that it `joins`, and passes on what it says until it falls silent or is no longer
/// `wanted`.
pub(crate) fn hear_member(
    member: MemberId,
    server: IpcOneShotServer<Told<MemberLine>>,
    joins: oneshot::Sender<()>,
    wanted: impl Fn() -> bool,
    happenings: &Sender<Happening>,
) -> Result<(), Unheard> {
    let heard = join(server).and_then(|line| {
        let Some(MemberLine { to_member, from_member }) = line else { return Ok(()) };
        // What holds this up holds up this thread and no other.
        let (Ok((line, theirs)), true) = (ipc::channel(), joins.send(()).is_ok()) else { return Ok(()) };
        if to_member.send(theirs).is_err() || happenings.send(Happening::MemberJoined { member, line }).is_err() {
            return Ok(());
        }
        hear(&from_member, wanted, |message| happenings.send(Happening::MemberSays { member, message }).is_ok())
    });
    let _ = happenings.send(Happening::MemberGone(member));
    heard
}

/// Awaits a peer's two ends of its line; `None` when somebody connects and says nothing, to let this thread go.
fn join<T: Serialize + DeserializeOwned>(server: IpcOneShotServer<Told<T>>) -> Result<Option<T>, Unheard> {
    match contained(|| server.accept()) {
        Some(Ok((_, Told(line)))) => Ok(Some(line)),
        Some(Err(IpcError::Disconnected)) => Ok(None),
        Some(Err(_)) | None => Err(Unheard::Stranger),
    }
}

/// Lets the thread go that awaits a peer at `line`, if it still does.
///
/// Not `IpcSender::connect`: where nobody listens any more it leaves a descriptor open, and it waits where a stranger
/// has taken all places.
pub(crate) fn let_go(line: &str) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (Ok(socket), Ok(address)) =
        (rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None), SocketAddrUnix::new(line))
    else {
        return;
    };
    // In most cases nobody listens there any more.
    let _ = rustix::net::connect(&socket, &address);
}

/// Passes on messages until the line ends, one cannot be read, or nobody wants them.
///
/// `wanted` is asked now and then: a child that the peer forked may hold the line open after the peer's death.
fn hear<T: Serialize + DeserializeOwned>(
    line: &IpcReceiver<T>,
    wanted: impl Fn() -> bool,
    mut pass_on: impl FnMut(T) -> bool,
) -> Result<(), Unheard> {
    loop {
        match contained(|| line.try_recv_timeout(LOOK_UP)) {
            Some(Ok(message)) => {
                if !pass_on(message) {
                    return Ok(());
                }
            }
            Some(Err(TryRecvError::Empty)) if wanted() => {}
            Some(Err(TryRecvError::Empty | TryRecvError::IpcError(IpcError::Disconnected))) => return Ok(()),
            Some(Err(TryRecvError::IpcError(_))) | None => return Err(Unheard::Garbage),
        }
    }
}

/// The first message of a stranger, who chose its bytes and the descriptors beside them.
///
/// Not for the messages after it: to look for descriptors costs more than all else that is done for a release.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Told<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Told<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let message = contained(|| T::deserialize(deserializer));
        close_unclaimed();
        message.unwrap_or_else(|| Err(D::Error::custom("it names a descriptor that did not come"))).map(Told)
    }
}

/// Closes the descriptors that came with the message that is being read and that it does not speak of: ipc-channel would
/// leave them open for as long as this process lives.
fn close_unclaimed() {
    let unclaimed = |idx: usize| {
        let number: UsizeDeserializer<ValueError> = idx.into_deserializer();
        // Past the last one this is a panic; one that the message spoke of comes empty.
        contained(|| OpaqueIpcReceiver::deserialize(number)).is_some()
    };
    (0..).take_while(|idx| unclaimed(*idx)).for_each(drop);
}

/// Reads what a peer sent; `None` when ipc-channel panics over it, as it does over bytes that no ipc-channel wrote: the
/// number of a descriptor that did not come, or a message that ends in its middle.
fn contained<T>(read: impl FnOnce() -> T) -> Option<T> {
    thread_local! {
        static READS: Cell<u32> = const { Cell::new(0) };
    }
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            // Ours are told in words by whoever asked.
            if READS.get() == 0 {
                others(panic);
            }
        }));
    });
    READS.set(READS.get() + 1);
    let read = panic::catch_unwind(AssertUnwindSafe(read));
    READS.set(READS.get() - 1);
    read.ok()
}

#[cfg(test)]
mod tests {
    use std::io::{IoSlice, Read as _};
    use std::mem::MaybeUninit;
    use std::net::Shutdown;
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    use std::os::unix::net::UnixStream;

    use crossbeam::channel;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use rustix::net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketType,
    };

    use super::*;

    /// A peer that writes what it likes on the socket of its line.
    struct Stranger(OwnedFd);

    impl Stranger {
        /// Connects where a peer is awaited.
        fn at(line: &str) -> Self {
            let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).expect("a socket");
            let address = SocketAddrUnix::new(line).expect("a short path");
            rustix::net::connect(&socket, &address).expect("somebody listens");
            Self(socket)
        }

        /// Sends one packet with some descriptors; a reader that has turned away is no failure.
        fn say(&self, packet: &[u8], fds: &[BorrowedFd<'_>]) {
            let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds)));
            let _ = rustix::net::sendmsg(&self.0, &[IoSlice::new(packet)], &mut control, SendFlags::NOSIGNAL);
        }
    }

    /// A message in ipc-channel's frame: the bytes of both, the bytes of the message, the message.
    fn framed(message: &[u8]) -> Vec<u8> {
        [&(message.len() + 16).to_le_bytes()[..], &message.len().to_le_bytes(), message].concat()
    }

    /// What becomes of a member that joins with `act`.
    fn member(act: impl FnOnce(&Stranger)) -> Vec<Happening> {
        let (server, line) = IpcOneShotServer::new().expect("a server");
        let (happenings, inbox) = channel::unbounded();
        let (joins, _joined) = oneshot::channel();
        let heard = std::thread::spawn(move || hear_member(MemberId(0), server, joins, || false, &happenings));
        act(&Stranger::at(&line));
        let _ = heard.join().expect("what a peer sends is no reason to panic");
        inbox.try_iter().collect()
    }

    /// What becomes of a worker that joins with `act`.
    fn worker(act: impl FnOnce(&Stranger)) -> Vec<Happening> {
        let (server, line) = IpcOneShotServer::new().expect("a server");
        let (happenings, inbox) = channel::unbounded();
        let heard = std::thread::spawn(move || hear_worker(WorkerId(0), server, &AtomicBool::new(false), &happenings));
        act(&Stranger::at(&line));
        let _ = heard.join().expect("what a peer sends is no reason to panic");
        inbox.try_iter().collect()
    }

    /// A socket to be sent, and the other end of it, which is at its end when nobody has the first any more.
    fn ends() -> (UnixStream, UnixStream) {
        let (sent, kept) = UnixStream::pair().expect("a socket pair");
        // Whoever takes it for a line finds that line at its end.
        kept.shutdown(Shutdown::Write).expect("connected");
        kept.set_nonblocking(true).expect("ours");
        (sent, kept)
    }

    #[test]
    fn descriptors_that_no_message_speaks_of_do_not_stay_open() {
        // The message says which two of the descriptors are the ends of its line.
        for (message, descriptors, joins) in [
            (&[0, 1][..], 2, true),
            (&[0, 1], 40, true),
            (&[1, 0], 3, true),
            (&[5, 7], 9, true),
            (&[0, 9], 9, false),
            (&[9, 0], 9, false),
            (&[200], 9, false),
            (&[0], 3, false),
            (&[], 64, false),
        ] {
            let (sent, mut kept) = ends();
            let happenings = member(|stranger| stranger.say(&framed(message), &vec![sent.as_fd(); descriptors]));
            assert_eq!(happenings.iter().any(|happening| matches!(happening, Happening::MemberJoined { .. })), joins);
            assert!(matches!(happenings.last(), Some(Happening::MemberGone(MemberId(0)))), "{happenings:?}");
            drop((happenings, sent));
            // A member that joins is sent the line on which it is spoken to; behind that is the end.
            assert!(kept.read_to_end(&mut Vec::new()).is_ok(), "{message:?} with {descriptors} left one open");
        }
    }

    /// The two sockets of a line.
    fn pair_of_lines() -> (Stranger, OwnedFd) {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a socket pair");
        (Stranger(ours), theirs)
    }

    /// Packets that no peer of ours sends, each with that many descriptors.
    ///
    /// Of a frame that speaks of more bytes than came, and carries a descriptor through which the rest is to come, nothing
    /// is here: ipc-channel takes the memory for it at once, and where there is none, the process ends.
    fn packets() -> impl Strategy<Value = Vec<(Vec<u8>, usize)>> {
        let bytes = || vec(any::<u8>(), 0..12);
        let mismatched = |(bytes, at, byte): (Vec<u8>, usize, u8)| {
            let mut packet = framed(&bytes);
            packet[at] = byte;
            packet
        };
        vec(
            prop_oneof![
                (vec(any::<u8>(), 0..40), Just(0_usize)),
                (bytes().prop_map(|bytes| framed(&bytes)), 0_usize..3),
                ((bytes(), 0_usize..2, any::<u8>()).prop_map(mismatched), 0_usize..3),
                ((bytes(), 8_usize..16, any::<u8>()).prop_map(mismatched), Just(0)),
                (bytes().prop_map(|bytes| framed(&bytes)[..8.min(bytes.len())].to_vec()), Just(0)),
            ],
            0..4,
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_said_on_joining_ends_that_peer_alone(packets in packets()) {
            let (sent, _kept) = ends();
            let say = |stranger: &Stranger| packets.iter().for_each(|(packet, fds)| stranger.say(packet, &vec![sent.as_fd(); *fds]));
            let happenings = member(say);
            prop_assert!(matches!(happenings.last(), Some(Happening::MemberGone(MemberId(0)))), "{:?}", happenings);
            let happenings = worker(say);
            prop_assert!(matches!(happenings.last(), Some(Happening::WorkerSilent(WorkerId(0)))), "{:?}", happenings);
        }

        #[test]
        fn whatever_is_said_on_a_line_ends_that_peer_alone(packets in packets()) {
            let (sent, _kept) = ends();
            let say = |stranger: &Stranger| {
                let (to_daemon, theirs) = pair_of_lines();
                stranger.say(&framed(&[0, 1]), &[sent.as_fd(), theirs.as_fd()]);
                drop(theirs);
                packets.iter().for_each(|(packet, fds)| to_daemon.say(packet, &vec![sent.as_fd(); *fds]));
            };
            let happenings = member(say);
            prop_assert!(matches!(happenings[0], Happening::MemberJoined { .. }), "{:?}", happenings);
            prop_assert!(matches!(happenings.last(), Some(Happening::MemberGone(MemberId(0)))), "{:?}", happenings);
            let happenings = worker(say);
            prop_assert!(matches!(happenings[0], Happening::WorkerJoined { .. }), "{:?}", happenings);
            prop_assert!(matches!(happenings.last(), Some(Happening::WorkerSilent(WorkerId(0)))), "{:?}", happenings);
        }
    }
}
