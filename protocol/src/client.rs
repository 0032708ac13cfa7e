//! A trainer's end: attach to a stream, take batches, give them back; blocking, without burn or tokio.
//!
//! ```no_run
//! use batchmill_protocol::client::{Client, Subscription};
//!
//! let mut train = Client::connect(None)?.attach(&Subscription::new("train").epochs(0, Some(3)))?;
//! while let Some(batch) = train.next()? {
//!     let images: &[u8] = batch.field("image").expect("this stream has images");
//!     println!("{}: {} rows, {} bytes", batch.position(), batch.rows(), images.len());
//! } // a batch that is dropped makes room for another
//! # Ok::<(), batchmill_protocol::client::ClientError>(())
//! ```

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ipc_channel::TryRecvError;
use ipc_channel::ipc::{self, IpcReceiver, IpcSender};
use thiserror::Error;

use crate::address;
use crate::fd::{self, WireError};
use crate::frame::FrameError;
use crate::identity::Identity;
use crate::ledger::Entry;
use crate::message::{Attach, Attached, FromMember, Lent, MemberLine, Reply, Request, StreamDescription, ToMember};
use crate::position::{Position, Rows};
use crate::share::Share;
use crate::slab::{Layout, LayoutError, SlabError, SlabReader};

mod inbox;
mod lease;
mod returns;

use inbox::{Inbox, Next};
use lease::Lease;
pub use lease::{Batch, Field};
use returns::Returns;

/// How long the loader may take to answer a request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a member waits for one batch before it gives the loader up.
const PATIENCE: Duration = Duration::from_secs(600);

/// The pauses between two attempts to find the next loader: the first, and the longest.
const RETRY_PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(500)];

/// Batches a member asks to hold at once: one that is computed with, one kept alive by the backward pass, two on the way.
const LEASES: u32 = 4;

/// Bytes of small batches that it asks for ahead of those, so that one message brings several.
const AHEAD_BYTES: u64 = 4 << 20;

/// Why a client has no batch, or no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no loader answers at {}: start one with `loader serve`, or name its address with --socket", socket.display())]
    NoLoader {
        /// Where one was looked for.
        socket: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The loader said no.
    #[error("{reason}")]
    Refused {
        /// Why, with the remedy.
        reason: String,
    },
    /// The conversation at the front door went wrong.
    #[error("talk to the loader at {}", socket.display())]
    Wire {
        /// The loader's address.
        socket: PathBuf,
        /// What went wrong.
        source: WireError,
    },
    /// Not any more.
    #[error("the loader at {} is about to end: start the next one", socket.display())]
    Ending {
        /// The loader's address.
        socket: PathBuf,
    },
    /// The loader has ended.
    #[error("the loader has ended; {resume} is the next batch: start it again and go on from there")]
    LoaderLost {
        /// The position to attach at to lose and repeat nothing.
        resume: Position,
    },
    /// The loader lives but delivers nothing.
    #[error("no batch for {} s at {position}: `loader status` shows what the workers are doing", PATIENCE.as_secs())]
    Stalled {
        /// The batch waited for.
        position: Position,
    },
    /// A sample of the next batch cannot be read.
    #[error("{position} cannot be made: {reason}")]
    BatchFailed {
        /// The batch.
        position: Position,
        /// File, row, and what was found.
        reason: String,
    },
    /// The loader ended this member before its time.
    #[error("the loader ended this trainer before {position}: {reason}")]
    Dismissed {
        /// The batch that would have come next.
        position: Position,
        /// Why, with the remedy.
        reason: String,
    },
    /// The shared memory cannot be used.
    #[error(transparent)]
    Slab(#[from] SlabError),
    /// The loader announced tensors that cannot be.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The loader broke its promise; data would be wrong.
    #[error("the loader broke the protocol at {position}: {what}")]
    Broken {
        /// The batch expected.
        position: Position,
        /// What came.
        what: String,
    },
}

/// What a member asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    stream: String,
    from: Position,
    until_epoch: Option<u64>,
    leases: u32,
    ahead_bytes: u64,
    expected: Option<Identity>,
    share: Share,
}

impl Subscription {
    /// All of `stream` from its start, without end.
    pub fn new(stream: impl Into<String>) -> Self {
        Self {
            stream: stream.into(),
            from: Position::default(),
            until_epoch: None,
            leases: LEASES,
            ahead_bytes: AHEAD_BYTES,
            expected: None,
            share: Share::Private,
        }
    }

    /// Begins at `epoch` and ends before `until`, or never.
    #[must_use]
    pub fn epochs(mut self, epoch: u64, until: Option<u64>) -> Self {
        self.from = Position { epoch, step: 0 };
        self.until_epoch = until;
        self
    }

    /// Begins at `position`; the end stays.
    #[must_use]
    pub fn from(mut self, position: Position) -> Self {
        self.from = position;
        self
    }

    /// Asks to be refused when the stream is no longer what it was, or not to be for `None`.
    #[must_use]
    pub fn expecting(mut self, identity: Option<Identity>) -> Self {
        self.expected = identity;
        self
    }

    /// Shares the stream with others.
    #[must_use]
    pub fn sharing(mut self, share: Share) -> Self {
        self.share = share;
        self
    }

    /// Asks to hold up to `leases` batches at once, and to be lent none beyond those, however small they are.
    #[must_use]
    pub fn leases(mut self, leases: u32) -> Self {
        (self.leases, self.ahead_bytes) = (leases, 0);
        self
    }
}

/// A connection to a loader's front door.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    connection: UnixStream,
    /// How long an answer may take.
    limit: Duration,
}

impl Client {
    /// Knocks at `socket`, or at the [default address](address::default_socket).
    ///
    /// # Errors
    /// [`ClientError::NoLoader`] when nobody listens there.
    pub fn connect(socket: Option<&Path>) -> Result<Self, ClientError> {
        Self::connect_within(socket.map_or_else(address::default_socket, Path::to_path_buf), ANSWER_TIMEOUT)
    }

    /// The same, with a loader that may take `limit` for each answer.
    fn connect_within(socket: PathBuf, limit: Duration) -> Result<Self, ClientError> {
        let connection = UnixStream::connect(&socket)
            .and_then(|connection| {
                connection.set_read_timeout(Some(limit))?;
                connection.set_write_timeout(Some(limit))?;
                Ok(connection)
            })
            .map_err(|source| ClientError::NoLoader { socket: socket.clone(), source })?;
        Ok(Self { socket, connection, limit })
    }

    /// Asks one thing and waits for the answer.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the loader says no, [`ClientError::Wire`] when the connection breaks.
    pub fn request(&self, request: &Request) -> Result<Reply, ClientError> {
        self.exchange(request).map(|(reply, _)| reply)
    }

    /// Asks what may take the loader minutes, and waits for the answer for as long as it lives.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn request_without_limit(&self, request: &Request) -> Result<Reply, ClientError> {
        let within = |limit| {
            let set = self.connection.set_read_timeout(limit);
            set.map_err(|error| ClientError::Wire { socket: self.socket.clone(), source: error.into() })
        };
        within(None)?;
        let reply = self.request(request);
        within(Some(self.limit))?;
        reply
    }

    /// Waits until the loader closes the connection, as it does when it has ended.
    ///
    /// # Errors
    /// [`ClientError::Wire`] when it says something more, or is not gone after `limit`.
    pub fn wait_for_end(self, limit: Duration) -> Result<(), ClientError> {
        let wire = |source| ClientError::Wire { socket: self.socket.clone(), source };
        self.connection.set_read_timeout(Some(limit)).map_err(|error| wire(error.into()))?;
        match fd::receive::<Reply>(&self.connection) {
            Err(WireError::Io(error))
                if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) =>
            {
                Ok(())
            }
            Err(error) => Err(wire(error)),
            Ok(_) => Err(wire(WireError::Frame(FrameError::Magic))),
        }
    }

    /// Becomes a member of a stream.
    ///
    /// # Errors
    /// As [`request`](Self::request), and when the stream's memory cannot be mapped.
    pub fn attach(self, subscription: &Subscription) -> Result<Member, ClientError> {
        let request = Request::Attach(Attach {
            stream: subscription.stream.clone(),
            from: subscription.from,
            until_epoch: subscription.until_epoch,
            leases: subscription.leases,
            ahead_bytes: subscription.ahead_bytes,
            expected: subscription.expected.clone(),
            share: subscription.share.clone(),
        });
        let (reply, slab) = self.exchange(&request)?;
        let (Reply::Attached(attached), Some(slab)) = (reply, slab) else {
            return Err(self.broken(subscription.from, "its answer to `attach` is another"));
        };
        let Attached { stream, slots, line } = *attached;
        let layout = Layout::new(&stream.fields, stream.extent.batch_size, slots)?;
        let slab = Arc::new(SlabReader::open(slab, layout)?);
        let (from_daemon, releases) =
            self.join(&line).map_err(|source| ClientError::Wire { socket: self.socket.clone(), source })?;
        let is_shared = subscription.share != Share::Private;
        let returns = Arc::new(Returns::new(releases, slab.layout().slot_bytes(), is_shared));
        Ok(Member {
            stream,
            slab,
            inbox: Inbox::new(from_daemon, Arc::clone(&returns)),
            returns,
            cursor: subscription.from,
            waited_before: Duration::ZERO,
            ended: false,
            life_line: Arc::new(self.connection),
            socket: self.socket,
            subscription: subscription.clone(),
        })
    }

    fn exchange(&self, request: &Request) -> Result<(Reply, Option<OwnedFd>), ClientError> {
        let wire = |source| ClientError::Wire { socket: self.socket.clone(), source };
        fd::send(&self.connection, request, None).map_err(wire)?;
        match fd::receive(&self.connection).map_err(wire)? {
            (Reply::Refused { reason }, _) => Err(ClientError::Refused { reason }),
            (Reply::Ending, _) => Err(ClientError::Ending { socket: self.socket.clone() }),
            answer => Ok(answer),
        }
    }

    /// Makes the member's line and hands the daemon its ends.
    fn join(&self, line: &str) -> Result<(IpcReceiver<ToMember>, IpcSender<FromMember>), WireError> {
        let (to_member, handed_over) = ipc::channel()?;
        let (releases, from_member) = ipc::channel()?;
        let door = IpcSender::connect(line.to_owned())?;
        door.send(MemberLine { to_member, from_member }).map_err(io::Error::other)?;
        let from_daemon = handed_over.try_recv_timeout(self.limit).map_err(|error| match error {
            TryRecvError::Empty => io::Error::from(io::ErrorKind::TimedOut),
            TryRecvError::IpcError(error) => io::Error::other(error),
        })?;
        Ok((from_daemon, releases))
    }

    fn broken(&self, position: Position, what: &str) -> ClientError {
        ClientError::Broken { position, what: what.to_owned() }
    }
}

/// An attached trainer: receives every batch from where it attached, in order.
#[derive(Debug)]
pub struct Member {
    stream: StreamDescription,
    slab: Arc<SlabReader>,
    inbox: Inbox,
    returns: Arc<Returns>,
    cursor: Position,
    /// With loaders that are gone.
    waited_before: Duration,
    ended: bool,
    life_line: Arc<UnixStream>,
    socket: PathBuf,
    subscription: Subscription,
}

impl Member {
    /// What the stream delivers.
    pub fn stream(&self) -> &StreamDescription {
        &self.stream
    }

    /// The next position this member will receive: where to resume.
    pub fn cursor(&self) -> Position {
        self.cursor
    }

    /// The time spent waiting for batches so far.
    pub fn waited(&self) -> Duration {
        self.waited_before + self.inbox.waited()
    }

    /// After [`ClientError::LoaderLost`]: waits up to `limit` for the next loader at the same address and goes on there at
    /// the exact batch. Batches that are still held stay as they are.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the stream is no longer what it was; when no loader answers in time, what the last
    /// attempt met.
    pub fn reconnect(&mut self, limit: Duration) -> Result<(), ClientError> {
        let start = Instant::now();
        if self.subscription.until_epoch.is_some_and(|until| self.cursor.epoch >= until) {
            // All was delivered; only the word that says so was lost.
            self.ended = true;
            return Ok(());
        }
        let subscription = self.subscription.clone().from(self.cursor).expecting(Some(self.stream.identity.clone()));
        let [mut pause, longest] = RETRY_PAUSES;
        loop {
            // A timeout of 0 would be none.
            let left = limit.saturating_sub(start.elapsed()).clamp(RETRY_PAUSES[0], ANSWER_TIMEOUT);
            let client = Client::connect_within(self.socket.clone(), left);
            match client.and_then(|client| client.attach(&subscription)) {
                Ok(member) => {
                    let waited_before = self.waited() + start.elapsed();
                    *self = Self { waited_before, ..member };
                    return Ok(());
                }
                Err(ClientError::NoLoader { .. } | ClientError::Wire { .. } | ClientError::Ending { .. })
                    if start.elapsed() + pause < limit => {}
                Err(error) => return Err(error),
            }
            thread::sleep(pause);
            pause = (pause * 2).min(longest);
        }
    }

    /// Waits for the next batch; `None` when all asked for was delivered, and ever after.
    ///
    /// # Errors
    /// [`ClientError::BatchFailed`] when a sample cannot be read, [`ClientError::LoaderLost`] when the loader ended,
    /// [`ClientError::Stalled`] when it delivers nothing for ten minutes.
    // Not `Iterator`: an error here is the end, and should be hard to overlook.
    #[expect(clippy::should_implement_trait, reason = "see above")]
    pub fn next(&mut self) -> Result<Option<Batch>, ClientError> {
        if self.ended {
            return Ok(None);
        }
        match self.inbox.next(self.cursor)? {
            Next::Batch(lent) => {
                let batch = self.open(lent)?;
                self.cursor = self.stream.extent.next(lent.position);
                Ok(Some(batch))
            }
            Next::Failed { position, reason } => Err(ClientError::BatchFailed { position, reason }),
            Next::Dismissed { position, reason } => Err(ClientError::Dismissed { position, reason }),
            Next::End => {
                self.ended = true;
                Ok(None)
            }
        }
    }

    /// Checks that the slot holds what the message says before anyone computes with it.
    fn open(&self, lent: Lent) -> Result<Batch, ClientError> {
        let Lent { lease, slot, position, digest } = lent;
        let whole = self.stream.extent.rows(position.step);
        let rows = match &self.subscription.share {
            Share::Sharded(shard) => shard.rows(whole),
            Share::Private | Share::Broadcast { .. } => Rows { lo: 0, hi: whole },
        };
        let broken = |what: String| ClientError::Broken { position: self.cursor, what };
        if position != self.cursor || !self.slab.layout().holds(slot, Rows { lo: 0, hi: whole }) {
            return Err(broken(format!("it sent {position} in slot {slot}")));
        }
        let lease = Lease {
            slab: Arc::clone(&self.slab),
            returns: Arc::clone(&self.returns),
            life_line: Arc::clone(&self.life_line),
            lease,
            slot,
        };
        let header = self.slab.header(slot);
        let as_told = header
            .is_some_and(|header| (header.stream, header.position, header.rows) == (self.stream.id, position, whole));
        match header {
            Some(header) if as_told => {
                let whole = Entry { position, rows: whole, padding: header.padding.min(whole), digest };
                Ok(Batch::new(lease, rows, whole))
            }
            other => Err(broken(format!("slot {slot} holds {other:?}"))),
        }
    }
}
