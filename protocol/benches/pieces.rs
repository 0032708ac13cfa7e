//! How long a message and the digest of a row take, each by itself.
//!
//! ```sh
//! cargo bench -p batchmill-protocol
//! ```

use std::thread;

use batchmill_protocol::message::{SlotIndex, StreamId, Task, TaskId};
use batchmill_protocol::position::{Position, Rows};
use batchmill_protocol::slab::{Layout, RowRecord, Slab, SlabWriter};
use batchmill_protocol::tensor::{Dtype, FieldSpec};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ipc_channel::ipc;

/// A task to another thread and its number back, as between daemon and worker.
fn round_trip(criterion: &mut Criterion) {
    let (to_worker, tasks) = ipc::channel::<Task>().expect("a channel");
    let (to_daemon, done) = ipc::channel::<TaskId>().expect("a channel");
    let worker = thread::spawn(move || {
        while let Ok(task) = tasks.recv() {
            to_daemon.send(task.id).expect("somebody listens");
        }
    });
    let (position, rows) = (Position { epoch: 3, step: 1000 }, Rows { lo: 0, hi: 64 });
    let task = Task { id: TaskId(1 << 40), stream: StreamId(0), slot: SlotIndex(5), position, rows };
    criterion.bench_function("message there and back", |bencher| {
        bencher.iter(|| {
            to_worker.send(task).expect("somebody listens");
            done.recv().expect("somebody answers")
        });
    });
    drop(to_worker);
    worker.join().expect("it ends with its line");
}

/// What a worker does with a row that it has written.
fn finish_row(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("finish a row");
    for row_bytes in [28 * 28, 224 * 224 * 3] {
        let layout = Layout::new(&[FieldSpec::new("image", Dtype::U8, [row_bytes])], 64, 1).expect("small");
        let slab = Slab::create("bench", &layout).expect("memory");
        let mut writer = SlabWriter::open(slab.writable(), layout).expect("our own");
        let record = RowRecord { index: 7, padding: false, substituted: false, masked: false };
        writer.row_mut(SlotIndex(0), 0, 3).fill(9);
        group.throughput(Throughput::Bytes(row_bytes as u64));
        group.bench_function(format!("{row_bytes} bytes"), |bencher| {
            bencher.iter(|| writer.finish_row(SlotIndex(0), 3, record));
        });
    }
}

criterion_group!(pieces, round_trip, finish_row);
criterion_main!(pieces);
