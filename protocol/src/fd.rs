//! Passing frames, with a file descriptor where one belongs, over a blocking Unix socket.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::frame::{self, FrameError, HEADER_BYTES};

/// Why a frame did not come or go.
#[derive(Debug, Error)]
pub enum WireError {
    /// The connection broke, ended or took too long.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// What came is no message.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Sends one message, and `fd` with it.
///
/// # Errors
/// When the message is too long or the connection broke.
pub fn send<T: Serialize>(mut socket: &UnixStream, message: &T, fd: Option<BorrowedFd<'_>>) -> Result<(), WireError> {
    let frame = frame::encode(message)?;
    let sent = match fd {
        Some(fd) => send_start(socket.as_fd(), &frame, fd)?,
        None => 0,
    };
    socket.write_all(&frame[sent..])?;
    Ok(())
}

/// Receives one message, and the descriptor that came with it.
///
/// # Errors
/// When the connection breaks, ends or passes its read time-out, or what comes is not a `T`.
pub fn receive<T: DeserializeOwned>(mut socket: &UnixStream) -> Result<(T, Option<OwnedFd>), WireError> {
    let mut header = [0; HEADER_BYTES];
    let (start, fd) = receive_start(socket.as_fd(), &mut header)?;
    socket.read_exact(&mut header[start..])?;
    let mut body = vec![0; frame::body_bytes(header)?];
    socket.read_exact(&mut body)?;
    Ok((frame::decode(&body)?, fd))
}

/// Sends as much of `bytes` as the socket takes, with `fd` on the first of them, and says how much that was.
///
/// # Errors
/// As `sendmsg(2)`; `WouldBlock` on a socket that does not block.
pub fn send_start(socket: BorrowedFd<'_>, bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<usize> {
    let fds = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)), "the buffer was made for one descriptor");
    let sent = rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
    })?;
    Ok(sent)
}

/// Receives up to `bytes`, and the descriptor that came with them; one at the most, others are closed.
///
/// # Errors
/// As `recvmsg(2)`; `UnexpectedEof` when the other side has closed.
fn receive_start(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    // A signal interrupts a socket with a time-out, also where its handler asks for a restart (signal(7)).
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    Ok((received.bytes, fds.by_ref().flatten().next()))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_descriptor_arrives_with_its_message() {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let file = File::open("/dev/null").expect("every Unix has it");
        send(&ours, &"with", Some(file.as_fd())).expect("sent");
        send(&ours, &"without", None).expect("sent");
        let (message, fd) = receive::<String>(&theirs).expect("received");
        assert_eq!((message.as_str(), fd.is_some()), ("with", true));
        let (message, fd) = receive::<String>(&theirs).expect("received");
        assert_eq!((message.as_str(), fd.is_some()), ("without", false));
    }

    #[test]
    fn a_closed_socket_is_an_error() {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        drop(ours);
        assert!(matches!(receive::<String>(&theirs), Err(WireError::Io(_))));
    }
}
