//! Whatever bytes come in, decoding ends in a message or an error, never in a panic.
//!
//! The two messages that carry ends of lines, `MemberLine` and `WorkerLine`, are not here: ipc-channel itself panics over
//! their bytes, and the loader's `peer.rs`, where they come in, contains it.

use std::fmt::Debug;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use batchmill_protocol::digest::Digest;
use batchmill_protocol::fd::{self, WireError};
use batchmill_protocol::frame::{self, BODY_BYTES_MAX, HEADER_BYTES};
use batchmill_protocol::identity::Identity;
use batchmill_protocol::message::{
    Attach, Attached, BadSample, Done, Filled, FromMember, FromWorker, LeaseId, Lent, Quarantined, Reply, Request,
    SlabHandOver, SlotIndex, StreamDescription, StreamId, Survey, Task, TaskId, ToMember, ToWorker, WorkerHello,
};
use batchmill_protocol::position::{Extent, Position, Rows, Tail};
use batchmill_protocol::share::{Lag, Share};
use batchmill_protocol::slab::{Layout, Slab, SlabReader, Telemetry};
use batchmill_protocol::status::{Quarantine, QuarantinedSample, Status, WorkerStatus};
use batchmill_protocol::tensor::{Dtype, FieldSpec};
use ipc_channel::ipc::{self, IpcSharedMemory};
use proptest::collection::vec;
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::ser::{Serialize, SerializeTuple, Serializer};

/// A failed case prints its input; nothing is written beside the sources.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// What is done to the bytes of a real message: some are changed, and the end is cut off.
fn damage() -> impl Strategy<Value = (Vec<(prop::sample::Index, u8)>, prop::sample::Index)> {
    (vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), any::<prop::sample::Index>())
}

fn damaged(bytes: &[u8], (changes, end): &(Vec<(prop::sample::Index, u8)>, prop::sample::Index)) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if !bytes.is_empty() {
        changes.iter().for_each(|(at, byte)| *at.get_mut(&mut bytes[..]) = *byte);
        // Half of them keep their length.
        bytes.truncate(bytes.len() / 2 + end.index(bytes.len()) + 1);
    }
    bytes
}

fn fields() -> Vec<FieldSpec> {
    vec![FieldSpec::new("image", Dtype::U8, [5, 7, 3]), FieldSpec::new("label", Dtype::I64, [])]
}

fn identity() -> Identity {
    [("seed".to_owned(), "7".to_owned())].into_iter().collect()
}

fn requests() -> Vec<Vec<u8>> {
    let attach = Attach {
        stream: "train".to_owned(),
        from: Position { epoch: 1, step: 2 },
        until_epoch: Some(3),
        leases: 4,
        ahead_bytes: 1 << 20,
        expected: Some(identity()),
        share: Share::Broadcast { lag: Lag::Split },
    };
    let (scale, quarantine) = (Request::Scale { workers: 3 }, Request::Quarantine { retry: true });
    let open = Request::Open { specs: vec!["{}".to_owned()], memory_bytes: 1 << 28 };
    let close = Request::Close { stream: "train".to_owned(), force: true };
    let requests = [Request::Attach(attach), Request::Status, scale, quarantine, open, close, Request::Stop];
    requests.iter().map(|request| frame::encode(request).expect("small")).collect()
}

fn replies() -> Vec<Vec<u8>> {
    let stream = StreamDescription {
        id: StreamId(1),
        name: "train".to_owned(),
        fields: fields(),
        extent: Extent { samples: 100, batch_size: 8, tail: Tail::Short },
        classes: vec!["cat".to_owned(), "dog".to_owned()],
        transforms: vec![serde_json::json!({ "kind": "resize", "size": 256 })],
        seed: 7,
        spec_hash: "0123456789abcdef".to_owned(),
        identity: identity(),
        spec: serde_json::json!({ "name": "train" }),
    };
    let status = Status { workers: vec![WorkerStatus::default()], ..Status::default() };
    let replies = [
        Reply::Opened(vec![stream.clone()]),
        Reply::Closed { trainers: vec![4711] },
        Reply::Attached(Box::new(Attached { stream, slots: 9, line: "/tmp/line".to_owned() })),
        Reply::Status(Box::new(status)),
        Reply::Scaled { before: 1, now: 2 },
        Reply::Quarantine(vec![Quarantine { samples: vec![QuarantinedSample::default()], ..Quarantine::default() }]),
        Reply::Stopping { pid: 5 },
        Reply::Refused { reason: "no".to_owned() },
        Reply::Ending,
    ];
    replies.iter().map(|reply| frame::encode(reply).expect("small")).collect()
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn any_header(header: [u8; HEADER_BYTES], magic: bool, length: u32) {
        let mut header = header;
        if magic {
            // What random bytes would hardly ever be: right up to the length.
            header = frame::encode(&"").expect("small")[..HEADER_BYTES].try_into().expect("a frame is longer");
            header[8..].copy_from_slice(&length.to_le_bytes());
        }
        if let Ok(bytes) = frame::body_bytes(header) {
            prop_assert!(bytes <= BODY_BYTES_MAX);
        }
    }

    #[test]
    fn any_body(body in vec(any::<u8>(), 0..200)) {
        let _ = frame::decode::<Request>(&body);
        let _ = frame::decode::<Reply>(&body);
        let _ = frame::decode::<WorkerHello>(&body);
        let _ = frame::decode::<SlabHandOver>(&body);
    }

    #[test]
    fn any_json(depth in 0_usize..100_000, body in "[\\[{]{0,4}(\"attach\"|\"status\"|[a-z0-9.\"-]{0,8}|[:,]){0,12}[\\]}]{0,4}") {
        for body in [body.as_bytes(), "[".repeat(depth).as_bytes()] {
            let _ = frame::decode::<Request>(body);
            let _ = frame::decode::<Reply>(body);
        }
    }

    #[test]
    fn damaged_frames(damage in damage()) {
        for real in requests() {
            heard_of::<Request>(&damaged(&real, &damage));
        }
        for real in replies() {
            heard_of::<Reply>(&damaged(&real, &damage));
        }
        heard_of::<WorkerHello>(&damaged(&frame::encode(&WorkerHello { line: "/tmp/x".to_owned(), nice: 5 }).expect("small"), &damage));
        heard_of::<SlabHandOver>(&damaged(&frame::encode(&SlabHandOver { stream: StreamId(2) }).expect("small"), &damage));
    }

    #[test]
    fn any_bytes_on_a_socket(bytes in vec(any::<u8>(), 0..64)) {
        heard_of::<Request>(&bytes);
    }

    #[test]
    fn any_position(text in "\\PC{0,12}|[0-9]{0,24}:[0-9]{0,24}") {
        let _ = text.parse::<Position>();
    }

    #[test]
    fn a_position_is_read_as_written(epoch: u64, step: u64) {
        prop_assert_eq!(format!("{epoch}:{step}").parse::<Position>().ok(), Some(Position { epoch, step }));
    }

    #[test]
    fn any_layout(
        shape in vec(prop_oneof![0_usize..9, any::<usize>()], 0..5),
        dtype in prop::sample::select(vec![Dtype::Bool, Dtype::I16, Dtype::F32, Dtype::F64]),
        batch_size in prop_oneof![0_u32..9, any::<u32>()],
        slots in prop_oneof![0_u32..9, any::<u32>()],
        slot: u32,
        (lo, hi) in any::<(u32, u32)>(),
    ) {
        let field = FieldSpec { name: "x".to_owned(), dtype, shape: batchmill_protocol::tensor::Shape(shape) };
        if let Ok(layout) = Layout::new(&[field.clone(), field], batch_size, slots) {
            prop_assert!(layout.slab_bytes() >= layout.slot_bytes());
            let _ = layout.holds(SlotIndex(slot), Rows { lo, hi });
        }
    }
}

/// Sends bytes, ends the connection, and receives until it has ended.
fn heard_of<T: DeserializeOwned + Debug>(bytes: &[u8]) {
    let (mut theirs, ours) = UnixStream::pair().expect("a socket pair");
    theirs.write_all(bytes).expect("they fit a socket");
    drop(theirs);
    while fd::receive::<T>(&ours).is_ok() {}
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

impl<'de> serde::Deserialize<'de> for Raw {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("raw bytes are only sent"))
    }
}

/// Sends bytes over a line on which `T`s are awaited; `shared` comes with them.
fn heard_on_a_line<T: DeserializeOwned + Serialize>(bytes: Vec<u8>, shared: Option<&IpcSharedMemory>) -> Option<T> {
    let (sender, receiver) = ipc::channel::<Raw>().expect("a line");
    if let Some(shared) = shared {
        // ipc-channel notes what is to come along whenever it is serialized, here into nothing.
        serde_json::to_string(shared).expect("a number");
    }
    sender.send(Raw(bytes)).expect("sent");
    receiver.to_opaque().to::<T>().try_recv().ok()
}

/// The bytes of a message on a line.
fn bytes_of(message: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(message).expect("small")
}

fn to_member() -> Vec<Vec<u8>> {
    let position = Position { epoch: 1, step: 300 };
    let messages = [
        ToMember::Batches(vec![
            Lent { lease: LeaseId(70_000), slot: SlotIndex(3), position, digest: Digest(1 << 100) };
            2
        ]),
        ToMember::Failed { position, reason: "decode cat.jpg: a broken file".to_owned() },
        ToMember::Dismissed { position, reason: "it lags behind".to_owned() },
        ToMember::End,
    ];
    messages.iter().map(bytes_of).collect()
}

fn to_worker() -> Vec<Vec<u8>> {
    let task = Task {
        id: TaskId(9),
        stream: StreamId(0),
        slot: SlotIndex(1),
        position: Position { epoch: 0, step: 5 },
        rows: Rows { lo: 0, hi: 16 },
    };
    let spec = "{}".to_owned();
    let sample = Quarantined { index: 7, reason: "it ends its reader".to_owned() };
    let quarantined = vec![sample.clone()];
    let messages = [
        ToWorker::Survey {
            stream: StreamId(1),
            spec: spec.clone(),
            quarantined: quarantined.clone(),
            anew: true,
            beside_bytes: 7,
        },
        ToWorker::Open { stream: StreamId(1), spec, fields: fields(), slots: 3, quarantined },
        ToWorker::Quarantine { stream: StreamId(1), sample },
        ToWorker::Close { stream: StreamId(1) },
        ToWorker::Tasks(vec![task; 2]),
        ToWorker::Leave,
    ];
    messages.iter().map(bytes_of).collect()
}

fn from_worker() -> Vec<Vec<u8>> {
    let survey = Survey {
        fields: fields(),
        samples: 1000,
        classes: vec!["cat".to_owned()],
        spec_hash: "0123".to_owned(),
        cache_file: Some("/tmp/kept".into()),
        identity: identity(),
    };
    let bad = BadSample { row: 3, index: 7, name: "cat.jpg".to_owned(), reason: "a broken file".to_owned() };
    let filled = Filled { digest: Digest(u128::MAX), bad: vec![bad] };
    let messages = [
        FromWorker::Indexed { stream: StreamId(0) },
        FromWorker::Done(vec![Done { task: TaskId(3), busy_ns: 12, cpu_ns: 13, outcome: Ok(filled) }]),
        FromWorker::Surveyed { stream: StreamId(0), survey: Ok(survey) },
        FromWorker::Surveyed { stream: StreamId(0), survey: Err("no such folder".to_owned()) },
        FromWorker::Opened { stream: StreamId(0), outcome: Ok(()) },
        FromWorker::Done(vec![
            Done {
                task: TaskId(4),
                busy_ns: 1234,
                cpu_ns: 1 << 40,
                outcome: Err("a broken file".to_owned())
            };
            2
        ]),
    ];
    messages.iter().map(bytes_of).collect()
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn any_message_on_a_line(bytes in vec(any::<u8>(), 0..64), with_memory: bool) {
        let shared = with_memory.then(|| IpcSharedMemory::from_bytes(b"an index"));
        heard_on_a_line::<ToMember>(bytes.clone(), shared.as_ref());
        heard_on_a_line::<FromMember>(bytes.clone(), shared.as_ref());
        heard_on_a_line::<ToWorker>(bytes.clone(), shared.as_ref());
        heard_on_a_line::<FromWorker>(bytes, shared.as_ref());
    }

    #[test]
    fn damaged_messages_on_a_line(damage in damage(), with_memory: bool) {
        let shared = with_memory.then(|| IpcSharedMemory::from_bytes(b"an index"));
        for real in to_member() {
            heard_on_a_line::<ToMember>(damaged(&real, &damage), shared.as_ref());
        }
        for real in to_worker() {
            heard_on_a_line::<ToWorker>(damaged(&real, &damage), shared.as_ref());
        }
        for real in from_worker() {
            heard_on_a_line::<FromWorker>(damaged(&real, &damage), shared.as_ref());
        }
        let release = bytes_of(&FromMember::Release { leases: vec![LeaseId(1 << 40), LeaseId(2)] });
        heard_on_a_line::<FromMember>(damaged(&release, &damage), shared.as_ref());
    }

    #[test]
    fn any_telemetry_page(page in vec(any::<u8>(), 512), even: bool) {
        let (telemetry, memory) = Telemetry::create().expect("a page");
        let mut page = page;
        if even {
            // Says that nobody writes at present, and a length that a page can hold, or a little more.
            page[0] &= 0xfe;
            page[10..16].fill(0);
            page[9] &= 3;
        }
        rustix::io::pwrite(&memory, &page, 0).expect("written");
        let _ = telemetry.read();
    }

    #[test]
    fn any_slot(bytes in vec(any::<u8>(), 256), magic: bool) {
        let layout = Layout::new(&fields(), 4, 1).expect("small");
        let slab = Slab::create("garbage", &layout).expect("a few pages");
        let mut bytes = bytes;
        if magic {
            bytes[..8].copy_from_slice(b"BATCHMIL");
            bytes[8..12].copy_from_slice(&batchmill_protocol::message::PROTOCOL.to_le_bytes());
        }
        rustix::io::pwrite(slab.writable(), &bytes, 0).expect("written");
        let reader = SlabReader::open(slab.read_only().as_fd(), layout).expect("our own");
        prop_assert_eq!(reader.header(SlotIndex(0)).is_some(), magic);
        for row in 0..4 {
            let _ = reader.record(SlotIndex(0), row);
        }
    }
}

/// What the tests above take for real messages are ones: undamaged they are read.
#[test]
fn real_messages_are_read() {
    assert!(to_member().into_iter().all(|bytes| heard_on_a_line::<ToMember>(bytes, None).is_some()));
    assert!(to_worker().into_iter().all(|bytes| heard_on_a_line::<ToWorker>(bytes, None).is_some()));
    assert!(from_worker().into_iter().all(|bytes| heard_on_a_line::<FromWorker>(bytes, None).is_some()));
    let release = bytes_of(&FromMember::Release { leases: vec![LeaseId(1)] });
    assert!(heard_on_a_line::<FromMember>(release, None).is_some());
    let bodies = requests().into_iter().map(|frame| frame::decode::<Request>(&frame[HEADER_BYTES..]).is_ok());
    let more = replies().into_iter().map(|frame| frame::decode::<Reply>(&frame[HEADER_BYTES..]).is_ok());
    assert!(bodies.chain(more).all(|read| read));
}

/// Descriptors that no message asked for are closed by whoever receives them, at once.
#[test]
fn descriptors_beyond_the_first_do_not_stay() {
    let (theirs, ours) = UnixStream::pair().expect("a socket pair");
    let (end, other_end) = UnixStream::pair().expect("a socket pair");
    let fds = [end.as_fd(); 40];
    let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(40))];
    let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
    assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&fds)));
    let frame = frame::encode(&Request::Status).expect("small");
    let sent =
        rustix::net::sendmsg(&theirs, &[std::io::IoSlice::new(&frame)], &mut control, rustix::net::SendFlags::empty());
    assert_eq!(sent, Ok(frame.len()));
    drop(end);
    let (request, first) = fd::receive::<Request>(&ours).expect("a request");
    assert_eq!((request, first.is_some()), (Request::Status, true));
    drop(first);
    // Nobody holds the other side any more, so that it has ended.
    assert_eq!(rustix::io::read(&other_end, &mut [0; 1]), Ok(0), "a descriptor stayed open");
}

/// Half a frame is waited for no longer than the socket's time-out.
#[test]
fn half_a_frame_ends_with_the_time_out() {
    let (mut theirs, ours) = UnixStream::pair().expect("a socket pair");
    ours.set_read_timeout(Some(std::time::Duration::from_millis(1))).expect("a time-out");
    for cut in [HEADER_BYTES / 2, HEADER_BYTES + 2] {
        theirs.write_all(&requests()[0][..cut]).expect("sent");
        assert!(matches!(fd::receive::<Request>(&ours), Err(WireError::Io(_))));
    }
}
