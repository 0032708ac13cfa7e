//! Whoever talks nonsense to a loader is let go alone: nobody else notices, and nothing of it stays.

use std::fs;
use std::io::{ErrorKind, IoSlice, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use batchmill_protocol::client::{Client, Subscription};
use batchmill_protocol::fd;
use batchmill_protocol::frame;
use batchmill_protocol::message::{Attach, Attached, FromMember, LeaseId, MemberLine, Reply, Request, ToMember};
use batchmill_protocol::position::Position;
use batchmill_protocol::share::Share;
use batchmill_tests::{Contents, Loader, Programs, WATCHDOG, folder, programs, take, told};
use expect_test::expect;
use ipc_channel::ipc::{self, IpcReceiver, IpcSender};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use serde::ser::SerializeTuple as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tempfile::TempDir;

const PROGRAMS: Programs = programs!();

const NUMBERS: &str = "workers = 2\n[stream.n]\nbatch_size = 16\nsampler = 'shuffled'\n\
                       dataset = { kind = 'numbers', len = 4000, width = 20 }\n";

/// A loader with a good trainer that reads along the whole time.
struct Scene {
    loader: Loader,
    /// What the loader wrote on standard error.
    log: PathBuf,
    data: TempDir,
    expected: Arc<Vec<Contents>>,
    enough: Arc<AtomicBool>,
    good: JoinHandle<()>,
    /// Descriptors and threads of the loader before anything happened.
    before: (usize, usize),
}

fn two_epochs() -> Subscription {
    Subscription::new("n").epochs(0, Some(2))
}

/// What a process holds: descriptors and threads.
fn holdings(pid: u32) -> (usize, usize) {
    let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).expect("it lives").count();
    (count("fd"), count("task"))
}

impl Scene {
    fn new() -> Self {
        let data = folder();
        let log = data.path().join("log");
        let programs = PROGRAMS.through(data.path(), &format!("exec \"$LOADER\" \"$@\" 2>>'{}'", log.display()));
        let loader = programs.serve(data.path(), NUMBERS);
        assert_eq!(loader.workers().len(), 2);
        let expected = Arc::new(take(&mut loader.attach(&two_epochs()), usize::MAX));
        assert_eq!(expected.len(), 500);
        loader.wait_until("alone", |status| status.streams[0].members.is_empty());
        let before = holdings(loader.pid());

        let enough = Arc::new(AtomicBool::new(false));
        let (socket, stop, right) = (loader.socket(), Arc::clone(&enough), Arc::clone(&expected));
        // One that is there from before to after, and others that come and go.
        let mut first = loader.attach(&two_epochs());
        let mut seen = take(&mut first, 100);
        let good = thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let mut next = Client::connect(Some(&socket)).and_then(|client| client.attach(&two_epochs()));
                assert_eq!(take(next.as_mut().expect("it lets us in"), usize::MAX), *right);
            }
            seen.extend(take(&mut first, usize::MAX));
            assert_eq!(seen, *right);
        });
        Self { loader, log, data, expected, enough, good, before }
    }

    /// Sees that nobody noticed what was done, and that nothing of it is left; returns the loader's log.
    fn end(self) -> String {
        let output = self.loader.command(&["status"]);
        assert!(output.status.success(), "{output:?}");
        self.enough.store(true, Ordering::Relaxed);
        self.good.join().expect("the good trainer noticed");
        assert_eq!(take(&mut self.loader.attach(&two_epochs()), usize::MAX), *self.expected);
        let pid = self.loader.pid();
        self.loader.wait_until("as before", |status| {
            status.streams[0].members.is_empty() && status.workers.len() == 2 && {
                // The connection that asks is one more.
                let (descriptors, threads) = holdings(pid);
                descriptors <= self.before.0 + 1 && threads <= self.before.1
            }
        });
        self.loader.stop();
        let log = fs::read_to_string(&self.log).expect("a log");
        assert!(!log.contains("panicked"), "{log}");
        drop(self.data);
        log
    }

    fn connect(&self) -> UnixStream {
        let connection = UnixStream::connect(self.loader.socket()).expect("it listens");
        connection.set_read_timeout(Some(WATCHDOG)).expect("a time-out");
        connection
    }

    /// Asks to become a member, and returns the life-line and the name of the line.
    fn ask_in(&self, leases: u32) -> (UnixStream, OwnedFd, String) {
        let connection = self.connect();
        let attach = Attach {
            stream: "n".to_owned(),
            from: Position::default(),
            until_epoch: None,
            leases,
            ahead_bytes: 0,
            expected: None,
            share: Share::Private,
        };
        fd::send(&connection, &Request::Attach(attach), None).expect("sent");
        match fd::receive(&connection).expect("an answer") {
            (Reply::Attached(attached), Some(slab)) => {
                let Attached { line, .. } = *attached;
                (connection, slab, line)
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What the loader answers to raw bytes before it hangs up.
fn answer(mut connection: UnixStream) -> Option<Reply> {
    let reply = fd::receive(&connection).ok().map(|(reply, _)| reply);
    let hung_up = match connection.read(&mut [0]) {
        Ok(read) => read == 0,
        // It did not read all that was sent.
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    };
    assert!(hung_up, "it does not hang up");
    reply
}

/// Why the loader says no to raw bytes.
fn refusal(scene: &Scene, bytes: &[u8]) -> String {
    let mut connection = scene.connect();
    connection.write_all(bytes).expect("it takes them");
    match answer(connection) {
        Some(Reply::Refused { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

/// A frame with this JSON in it.
fn framed(json: &str) -> Vec<u8> {
    let mut frame = frame::encode(&()).expect("small")[..8].to_vec();
    frame.extend_from_slice(&u32::try_from(json.len()).expect("short").to_le_bytes());
    frame.extend_from_slice(json.as_bytes());
    frame
}

#[test]
fn what_is_no_request_is_refused_in_words() {
    let scene = Scene::new();
    let status = frame::encode(&Request::Status).expect("small");
    let changed = |at: usize, byte: u8| {
        let mut frame = status.clone();
        frame[at] = byte;
        refusal(&scene, &frame)
    };
    expect!["the other side does not speak Batchmill's protocol"]
        .assert_eq(&refusal(&scene, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    expect!["the other side speaks protocol version 77, this program 5: run both from one build"]
        .assert_eq(&changed(4, 77));
    expect!["a message of 2130706440 bytes was announced, the limit is 16777216"].assert_eq(&changed(11, 0x7f));
    expect!["a message could not be read: unknown variant `open-sesame`, expected one of `attach`, `status`, `scale`, `quarantine`, `open`, `close`, `stop` at line 1 column 14"].assert_eq(&refusal(&scene, &framed("{\"open-sesame\":{}}")));
    expect!["a message could not be read: invalid value: integer `-1`, expected u32 at line 1 column 22"]
        .assert_eq(&refusal(&scene, &framed("{\"scale\":{\"workers\":-1}}")));
    expect!["a message could not be read: expected value at line 1 column 1"]
        .assert_eq(&refusal(&scene, &framed(&"[".repeat(100_000))));
    scene.end();
}

#[test]
fn whoever_hangs_in_the_middle_is_let_go() {
    let scene = Scene::new();
    let frame = frame::encode(&Request::Scale { workers: 9 }).expect("small");
    let mut silent: Vec<_> = (0..3).map(|_| scene.connect()).collect();
    silent[1].write_all(&frame[..7]).expect("it takes them");
    silent[2].write_all(&frame[..20]).expect("it takes them");
    // Asks to become a member and never joins; the other connects to its line, but says nothing there.
    let (never, _slab, _line) = scene.ask_in(4);
    let (mute, _slab, line) = scene.ask_in(4);
    let door = IpcSender::<MemberLine>::connect(line).expect("it is awaited");
    // A crowd at a line, so that nobody else can connect there.
    let (crowded, _slab, line) = scene.ask_in(4);
    let crowd: Vec<_> = (0..30).map(|_| knock(&line)).collect();
    for connection in silent.into_iter().chain([never, mute, crowded]) {
        assert_eq!(answer(connection), None);
    }
    // Until they let go of the lines too, a thread waits at each.
    drop((door, crowd));
    scene.end();
}

#[test]
fn whoever_comes_and_goes_leaves_nothing() {
    let scene = Scene::new();
    for _ in 0..200 {
        drop(scene.connect());
        scene.ask_in(4);
        let (_life_line, _slab, line) = scene.ask_in(4);
        drop(IpcSender::<MemberLine>::connect(line));
    }
    scene.end();
}

#[test]
fn too_many_descriptors_are_closed() {
    let scene = Scene::new();
    let (sent, mut kept) = UnixStream::pair().expect("a socket pair");
    for count in [1, 16, 250] {
        let connection = scene.connect();
        let frame = frame::encode(&Request::Status).expect("small");
        assert_eq!(send_with(&connection, &frame, &sent, count), frame.len());
        assert!(matches!(fd::receive(&connection), Ok((Reply::Status(_), None))));
    }
    drop(sent);
    assert_eq!(kept.read(&mut [0]).ok(), Some(0), "the loader keeps what it was not asked to");
    scene.end();
}

/// Sends bytes with `count` copies of a descriptor.
fn send_with(socket: impl AsFd, bytes: &[u8], descriptor: &UnixStream, count: usize) -> usize {
    let fds = vec![descriptor.as_fd(); count];
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).expect("sent")
}

/// Bytes that go over a line as they are.
#[derive(Debug)]
struct Raw(Vec<u8>);

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        self.0.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("raw bytes are only sent"))
    }
}

/// Connects to a line where there is room, as whoever speaks something else there.
fn knock(line: &str) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a socket");
    let _ = rustix::net::connect(&socket, &SocketAddrUnix::new(line).expect("short"));
    socket
}

/// Becomes a member, and returns its life-line and the ends of its line.
fn join(scene: &Scene) -> (UnixStream, IpcReceiver<ToMember>, IpcSender<FromMember>) {
    let (life_line, _slab, line) = scene.ask_in(4);
    let (from_daemon, releases) = join_at(line);
    (life_line, from_daemon, releases)
}

fn join_at(line: String) -> (IpcReceiver<ToMember>, IpcSender<FromMember>) {
    let (to_member, handed_over) = ipc::channel().expect("a line");
    let (releases, from_member) = ipc::channel().expect("a line");
    let door = IpcSender::connect(line).expect("it is awaited");
    door.send(MemberLine { to_member, from_member }).expect("it takes it");
    (handed_over.recv().expect("the end to listen at"), releases)
}

#[test]
fn nonsense_instead_of_a_line_ends_that_connection() {
    let scene = Scene::new();
    for nonsense in [vec![], vec![0, 1], vec![250; 40], vec![0xff; 4000]] {
        let (life_line, _slab, line) = scene.ask_in(4);
        let door = IpcSender::<Raw>::connect(line).expect("it is awaited");
        door.send(Raw(nonsense)).expect("it takes it");
        assert_eq!(answer(life_line), None);
    }
    // The start of a packet, and no more of it.
    let (life_line, _slab, line) = scene.ask_in(4);
    let socket = knock(&line);
    rustix::net::send(&socket, &[9; 5], SendFlags::NOSIGNAL).expect("it takes it");
    drop(socket);
    assert_eq!(answer(life_line), None);
    let log = scene.end();
    assert_eq!(log.matches("did not join its line but sent something else there: it is let go").count(), 5, "{log}");
}

#[test]
fn nonsense_on_a_line_ends_that_connection() {
    let scene = Scene::new();
    for nonsense in [vec![], vec![7], vec![250; 40], vec![0xff; 4000]] {
        let (life_line, from_daemon, releases) = join(&scene);
        assert!(matches!(from_daemon.recv(), Ok(ToMember::Batches(_))), "it is a member now");
        releases.to_opaque().to::<Raw>().send(Raw(nonsense)).expect("it takes it");
        assert_eq!(answer(life_line), None);
    }
    let log = scene.end();
    assert_eq!(log.matches("sent what is no message: it is let go").count(), 4, "{log}");
}

#[test]
fn releases_of_what_was_never_lent_change_nothing() {
    let scene = Scene::new();
    let (life_line, from_daemon, releases) = join(&scene);
    let Ok(ToMember::Batches(lent)) = from_daemon.recv() else { panic!("it is a member now") };
    let lease = lent[0].lease;
    for stranger in [0, 1, u64::MAX, lease.0 ^ 1, lease.0.wrapping_add(1)] {
        releases.send(FromMember::Release { leases: vec![LeaseId(stranger); 3] }).expect("it takes it");
    }
    // Many at once; and what it has, more often than it has it.
    for _ in 0..6_000 {
        releases.send(FromMember::Release { leases: vec![lease; 2] }).expect("it takes it");
    }
    // The other one reads for real, and may be lent more.
    let leases = |status: &batchmill_protocol::status::Status| {
        status.streams[0].members.iter().max_by_key(|member| member.member).map(|member| member.leases)
    };
    let status = scene.loader.wait_until("heard", |status| leases(status) >= Some(4));
    assert_eq!(leases(&status), Some(4));
    drop((life_line, from_daemon, releases));
    scene.end();
}

#[test]
fn a_crowd_at_the_door_keeps_nobody_from_reading() {
    let scene = Scene::new();
    let crowd: Vec<_> = (0..1_100).map(|_| scene.connect()).collect();
    // Those who say nothing are let go after a while; who comes next gets their room.
    let output = scene.loader.command(&["status"]);
    assert!(output.status.success(), "{output:?}");
    drop(crowd);
    scene.end();
}

#[test]
fn a_member_that_asks_for_everything_gets_its_part() {
    let scene = Scene::new();
    let (life_line, _slab, line) = scene.ask_in(u32::MAX);
    let (from_daemon, releases) = join_at(line);
    // It reads what it gets and gives nothing back, until nothing more comes.
    let Ok(ToMember::Batches(lent)) = from_daemon.recv() else { panic!("it is a member now") };
    let mut held = lent.len();
    while let Ok(ToMember::Batches(lent)) = from_daemon.try_recv_timeout(std::time::Duration::from_millis(300)) {
        held += lent.len();
    }
    assert!((1..64).contains(&held), "{held} of all slots are one member's");
    drop((life_line, from_daemon, releases));
    scene.end();
}

#[test]
fn another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let scene = Scene::new();
    let socket = scene.loader.socket();
    // As far as files go it may.
    fs::set_permissions(socket.parent().expect("a folder"), fs::Permissions::from_mode(0o755)).expect("ours");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o777)).expect("ours");
    let program = runnable_by_all(scene.data.path());
    let drain = |uid: u32| {
        let mut command = Command::new(&program);
        command.args(["drain", "--stream", "n", "--epochs", "1", "--socket"]).arg(&socket).uid(uid).gid(uid);
        command.current_dir("/").stdin(Stdio::null()).output().expect("it runs")
    };
    let output = drain(65_534);
    assert_eq!(told(&output), "this loader belongs to another user");
    scene.end();
}

/// A copy of the loader in a folder that everybody can reach.
fn runnable_by_all(data: &Path) -> PathBuf {
    fs::set_permissions(data, fs::Permissions::from_mode(0o755)).expect("ours");
    let program = data.join("loader");
    let copied = Command::new("cp").arg(PROGRAMS.loader).arg(&program).status().expect("cp");
    assert!(copied.success());
    program
}

#[test]
fn a_worker_started_by_hand_says_who_starts_workers() {
    let worker = |stdin: Stdio| {
        let output = Command::new(PROGRAMS.loader).arg("worker").stdin(stdin).output().expect("it runs");
        told(&output)
    };
    let nothing = worker(Stdio::null());
    expect!["`loader worker` is started by `loader serve` alone: the connection broke: Socket operation on non-socket (os error 88)"].assert_eq(&nothing);
    let (mut ours, theirs) = UnixStream::pair().expect("a socket pair");
    ours.write_all(&[b'x'; 64]).expect("sent");
    expect!["`loader worker` is started by `loader serve` alone: the other side does not speak Batchmill's protocol"]
        .assert_eq(&worker(Stdio::from(OwnedFd::from(theirs))));
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    drop(ours);
    expect!["`loader worker` is started by `loader serve` alone: the connection broke: unexpected end of file"]
        .assert_eq(&worker(Stdio::from(OwnedFd::from(theirs))));
}
