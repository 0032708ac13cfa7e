//! What is drawn, and shrunk when it fails: how a world is set up, and what is done to it.

use std::collections::BTreeMap;
use std::time::Duration;

use batchmill_datasets::spec::OnBad;
use batchmill_protocol::message::StreamId;
use batchmill_protocol::position::{Extent, Position, Tail};
use batchmill_protocol::share::{Lag, Shard, Share};
use proptest::collection::vec;
use proptest::prelude::*;

/// After so many happenings, or before, the last thing is done to a world.
const HAPPENINGS: u16 = 300;

/// A world and what is done to it, until it is left in peace.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) setup: Setup,
    pub(super) moves: Vec<Move>,
}

/// How a world is set up.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    /// Decides how long everything takes.
    pub(super) seed: u64,
    pub(super) streams: u32,
    /// Of each stream.
    pub(super) slots: u32,
    pub(super) workers: u32,
    /// Of each stream.
    pub(super) extent: Extent,
    /// What a row usually takes.
    pub(super) row_time: Duration,
    /// The least time that a task may take before its worker counts as hung.
    pub(super) hang_limit: Duration,
    /// How many processors the workers may keep busy, if that is limited.
    pub(super) cpu_budget: Option<f64>,
    /// Samples that are not like others.
    pub(super) fates: BTreeMap<u64, Fate>,
    pub(super) on_bad: OnBad,
    /// How many of each stream's samples may be bad.
    pub(super) bad_limit: u64,
}

/// What comes of reading a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The worker says that it cannot be read.
    Unreadable,
    /// The worker dies.
    Crash,
    /// The worker never ends.
    Hang,
}

/// One thing done to the world, after so many happenings: not after the move before, so that there is sense in leaving
/// that out.
#[derive(Clone, Debug)]
pub(super) struct Move {
    pub(super) after: u16,
    pub(super) what: What,
}

/// What is done. A number chooses among whatever there is at that time.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// A trainer comes.
    Attach(Attach),
    /// A worker is killed.
    Kill(usize),
    /// A worker is stopped, and goes on after a while if nobody has killed it by then.
    Stop(usize, Spell),
    /// A worker is struck once it comes to a point; before it does anything, it is the next one started.
    Trap(usize, Point, Mishap),
    /// So many workers are wanted.
    Scale(u32),
    /// A trainer dies with all it holds, and comes back later.
    TrainerDies(usize),
    /// A trainer leaves for good.
    TrainerLeaves(usize),
    /// The bad samples of a stream are to be tried again, after they were mended or not.
    Retry(usize, bool),
    /// A trainer is stopped for a while.
    TrainerStops(usize, Spell),
    /// One more stream is to be served.
    Open,
    /// A stream is to be served no longer.
    Close(usize),
    /// The scheduler hears what cannot be; each bit stands for one such event.
    Noise(u16, usize),
}

/// What a trainer wants.
#[derive(Clone, Debug)]
pub(super) struct Attach {
    /// One of those that there are when it comes.
    pub(super) stream: StreamId,
    pub(super) from: Position,
    pub(super) until_epoch: Option<u64>,
    pub(super) leases: u32,
    /// How many batches it holds while it waits for another.
    pub(super) holds: usize,
    /// A rank is given to it when it comes.
    pub(super) share: Share,
}

/// How long somebody is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spell {
    Short,
    Long,
    /// Longer than any limit.
    Deadly,
}

impl Spell {
    pub(super) fn time(self) -> Duration {
        match self {
            Self::Short => Duration::from_millis(20),
            Self::Long => Duration::from_secs(3),
            Self::Deadly => Duration::from_secs(700),
        }
    }
}

/// A point in a worker's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    /// It was started and has not joined its line.
    Starting,
    /// It reads a stream's index.
    Surveying,
    /// It makes itself ready for a stream.
    Opening,
    /// It is amid a row.
    Filling,
    /// It has filled all rows of a task and not said so.
    Filled,
    /// It has said so; nobody may have heard it.
    Said,
    /// It was told to leave.
    Leaving,
}

/// What strikes a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mishap {
    /// It crashes.
    Crash,
    /// It is killed.
    Kill,
    /// It is stopped.
    Stop(Spell),
}

/// Any scenario.
pub(super) fn scenarios() -> impl Strategy<Value = Scenario> {
    (setups(), vec(moves(), 0..60)).prop_map(|(setup, mut moves)| {
        moves.sort_by_key(|&Move { after, .. }| after);
        Scenario { setup, moves }
    })
}

fn setups() -> impl Strategy<Value = Setup> {
    let fate = prop_oneof![Just(Fate::Unreadable), Just(Fate::Crash), Just(Fate::Hang)];
    // Half of all worlds have no such sample.
    let fates = prop_oneof![Just(BTreeMap::new()), proptest::collection::btree_map(0_u64..60, fate, 1..4)];
    let on_bad = prop_oneof![Just(OnBad::Fail), Just(OnBad::Substitute), Just(OnBad::Mask)];
    let bad = (fates, on_bad, prop_oneof![3 => Just(60_u64), 1 => 0_u64..3]);
    let numbers = (any::<u64>(), 1_u32..=2, 2_u32..20, 0_usize..8, 1_u64..60, 1_u32..9, 0_usize..3, 0_usize..4);
    (numbers, bad).prop_map(|(numbers, (fates, on_bad, bad_limit))| {
        let (seed, streams, slots, workers, samples, batch_size, tail, row_time) = numbers;
        Setup {
            seed,
            streams,
            slots,
            workers: [1, 2, 3, 4, 5, 8, 16, 32][workers],
            extent: Extent {
                // An epoch has a batch, whatever becomes of its tail.
                samples: samples.max(u64::from(batch_size)),
                batch_size,
                tail: [Tail::Short, Tail::Drop, Tail::Pad][tail],
            },
            row_time: Duration::from_micros([1_000, 20, 4_000, 40_000][row_time]),
            hang_limit: Duration::from_secs([2, 2, 2, 30][row_time]),
            cpu_budget: [None, None, Some(0.4), Some(4.0)][usize::try_from(seed % 4).expect("small")],
            fates,
            on_bad,
            bad_limit,
        }
    })
}

fn moves() -> impl Strategy<Value = Move> {
    (0_u16..HAPPENINGS, 0_u8..34, 0_u16..1_024, 0_u16..1_024)
        .prop_map(|(after, kind, one, other)| Move { after, what: what(kind, usize::from(one), usize::from(other)) })
}

fn what(kind: u8, one: usize, other: usize) -> What {
    let spell = [Spell::Short, Spell::Long, Spell::Deadly][other % 3];
    match kind {
        0..=5 => What::Attach(attach(one, other)),
        6..=9 => What::Kill(one),
        10..=13 => What::Stop(one, spell),
        14..=20 => {
            let points = [
                Point::Starting,
                Point::Surveying,
                Point::Opening,
                Point::Filling,
                Point::Filled,
                Point::Said,
                Point::Leaving,
            ];
            let mishaps = [Mishap::Crash, Mishap::Kill, Mishap::Stop(spell)];
            What::Trap(one, points[other % points.len()], mishaps[other / points.len() % mishaps.len()])
        }
        21 => What::Retry(one, other % 2 == 1),
        22..=24 => What::Scale([1, 2, 3, 4, 8, 32][one % 6]),
        25..=27 => What::TrainerDies(one),
        28 => What::TrainerLeaves(one),
        29..=30 => What::TrainerStops(one, spell),
        31 => What::Open,
        32 => What::Close(one),
        _ => What::Noise(u16::try_from(one | (other % 64) << 10).expect("16 bits"), other / 64),
    }
}

fn attach(one: usize, other: usize) -> Attach {
    let small = |number: usize| u64::try_from(number).expect("small");
    let from = Position { epoch: small(one % 2), step: small(one / 2 % 64) };
    Attach {
        stream: StreamId(u32::try_from(other % 6).expect("small")),
        from,
        until_epoch: (other % 7 != 6).then_some(from.epoch + 1 + small(other / 7 % 3)),
        leases: [1, 2, 3, 8][other / 21 % 4],
        holds: 1 + other / 84 % 3,
        share: match one / 128 {
            0 | 1 => Share::Private,
            2 | 3 => Share::Broadcast { lag: Lag::Split },
            4 => Share::Broadcast { lag: Lag::Wait },
            5 => Share::Broadcast { lag: Lag::Drop },
            _ => {
                let world = [1, 2, 2, 3][other / 252 % 4];
                Share::Sharded(Shard { group: "ranks".to_owned(), rank: 0, world, limit_s: [1, 60][one % 2] })
            }
        },
    }
}
