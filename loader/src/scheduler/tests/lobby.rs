//! The lobby: first batches are ready for whoever begins there, and in nobody's way.

use std::collections::BTreeSet;

use batchmill_protocol::message::BadSample;
use batchmill_protocol::share::{Lag, Shard};

use super::*;

const START: Position = Position { epoch: 0, step: 0 };

impl World {
    /// A world whose workers have made what they make unasked.
    fn idle(slots: u32, workers: u32, extent: Extent) -> Self {
        let mut world = Self::new(slots, workers, extent);
        world.make();
        world
    }

    /// How many batches wait for whoever begins at the start.
    fn in_lobby(&self) -> u32 {
        self.scheduler.stream_status(STREAM, |_| 0).lobby
    }

    /// How many batches a member was given.
    fn given(&self, member: MemberId) -> usize {
        self.members[&member].0.len()
    }
}

#[test]
fn whoever_begins_at_the_start_has_its_first_batches_at_once() {
    let rank = |rank| Share::Sharded(Shard { group: "ranks".to_owned(), rank, world: 2, limit_s: 60 });
    for share in [Share::Private, Share::Broadcast { lag: Lag::Split }, rank(1)] {
        let mut world = World::idle(8, 2, extent(64, 4));
        assert_eq!(world.in_lobby(), 2);
        let member = world.share(share, START, 1, 4);
        assert_eq!((world.given(member), world.in_lobby()), (2, 0));
    }
}

#[test]
fn one_that_comes_amid_the_making_has_what_is_begun() {
    let mut world = World::new(8, 2, extent(64, 8));
    let begun: Vec<Task> = world.workers.values().flatten().copied().collect();
    assert!(!begun.is_empty() && begun.iter().all(|task| task.position == START), "{begun:?}");
    let member = world.share(Share::Private, START, 1, 4);
    let slots: BTreeSet<SlotIndex> = world.workers.values().flatten().map(|task| task.slot).collect();
    assert_eq!(slots.len(), 1, "what was begun is gone on with");
    world.make();
    assert_eq!(world.stands(member).0, Position { epoch: 0, step: 4 });
}

#[test]
fn it_is_made_again_once_nobody_else_wants_the_workers() {
    let mut world = World::idle(8, 1, extent(400, 4));
    let first = world.share(Share::Broadcast { lag: Lag::Split }, START, 1, 1);
    while world.scheduler.stream_status(STREAM, |_| 0).lanes[0].slots < 6 {
        assert_eq!(world.in_lobby(), 0, "the lane has work");
        world.finish_a_task(0);
    }
    world.make();
    assert_eq!(world.in_lobby(), 2, "those who share leave two slots");
    // The first is further on by now.
    assert!((0..9).all(|_| world.read(first)));
    let second = world.share(Share::Broadcast { lag: Lag::Split }, START, 1, 1);
    assert_eq!(world.given(second), 1);
}

#[test]
fn nobody_lacks_a_slot_for_it() {
    let mut world = World::idle(4, 2, extent(400, 4));
    assert_eq!(world.in_lobby(), 2);
    let member = world.share(Share::Private, Position { epoch: 0, step: 7 }, 1, 1);
    world.make();
    let status = world.scheduler.stream_status(STREAM, |_| 0);
    assert_eq!((status.lanes[0].slots, status.lobby), (4, 0), "one lane has all slots");
    for _ in 0..20 {
        assert!(world.read(member));
        assert_eq!(world.in_lobby(), 0);
    }
    world.leave(member);
    world.make();
    assert_eq!(world.in_lobby(), 2);
}

#[test]
fn it_is_no_longer_than_an_epoch() {
    let mut world = World::idle(8, 2, extent(4, 4));
    assert_eq!(world.in_lobby(), 1);
    world.attach(1, 4);
    assert_eq!(world.run_out(), [Ended::Whole]);
}

#[test]
fn what_is_made_unasked_counts_when_somebody_takes_it() {
    let mut world = World::idle(8, 2, extent(8, 4));
    assert_eq!(world.scheduler.samples_made(STREAM), 0);
    world.attach(1, 4);
    assert_eq!(world.run_out(), [Ended::Whole]);
    assert_eq!((world.scheduler.samples_made(STREAM), world.in_lobby()), (8, 2), "made again since");
}

fn done(worker: WorkerId, task: Task, outcome: Result<Filled, String>) -> Event {
    Event::TaskDone { worker, task: task.id, busy: Duration::ZERO, cpu: Duration::ZERO, outcome }
}

/// The trouble that a task of the lobby may come to.
fn troubles() -> [fn(WorkerId, Task) -> Event; 3] {
    [
        |worker, task| done(worker, task, Err("no".to_owned())),
        |worker, task| {
            let bad = BadSample { row: 0, index: 0, name: "a.jpg".to_owned(), reason: "it is broken".to_owned() };
            done(worker, task, Ok(Filled { bad: vec![bad], ..Filled::default() }))
        },
        |worker, _| Event::WorkerGone { worker, death: death("was killed by signal 11", Some(0)) },
    ]
}

#[test]
fn what_is_not_sound_there_is_nobodys_trouble_until_somebody_wants_it() {
    for trouble in troubles() {
        let mut world = World::new(4, 2, extent(64, 4));
        let (&worker, tasks) = world.workers.iter_mut().find(|(_, tasks)| !tasks.is_empty()).expect("it is being made");
        let task = tasks.pop_front().expect("just seen");
        let event = trouble(worker, task);
        if matches!(event, Event::WorkerGone { .. }) {
            world.workers.remove(&worker);
        }
        world.tell(event);
        world.wait(Duration::from_secs(1));
        let status = world.scheduler.stream_status(STREAM, |_| 0);
        assert_eq!((status.slots.free, status.lobby, status.bad_samples), (4, 0, 0), "it is left alone");
        assert_eq!(world.workers.len(), 2);

        world.attach(1, 4);
        assert_eq!(world.run_out(), [Ended::Whole], "it is made for whoever comes, who may have more luck");
        assert_eq!(world.in_lobby(), 2, "as the next one may");
    }
}

#[test]
fn what_was_given_up_there_counts_no_more_than_the_rest() {
    for trouble in troubles() {
        let mut world = World::new(4, 2, extent(64, 4));
        let mut troubled = 0;
        // Both have rows of it. What the second comes to is told when the lobby has given up.
        while let Some((&worker, tasks)) = world.workers.iter_mut().find(|(_, tasks)| !tasks.is_empty()) {
            let event = trouble(worker, tasks.pop_front().expect("just seen"));
            if matches!(event, Event::WorkerGone { .. }) {
                world.workers.remove(&worker);
            }
            world.tell(event);
            troubled += 1;
        }
        assert!(troubled >= 2, "{troubled} tasks");
        let status = world.scheduler.stream_status(STREAM, |_| 0);
        assert_eq!((status.bad_samples, world.scheduler.samples_made(STREAM)), (0, 0));
        world.wait(Duration::from_secs(1));
        world.attach(1, 4);
        assert_eq!(world.run_out(), [Ended::Whole]);
        assert_eq!(world.scheduler.stream_status(STREAM, |_| 0).bad_samples, 0);
    }
}

#[test]
fn it_is_of_the_data_as_they_are() {
    let mut world = World::idle(4, 1, extent(64, 4));
    world.tell(Event::Retry(STREAM));
    world.tell(Event::Retried { worker: WorkerId(0), stream: STREAM, anew: true });
    assert_eq!(world.in_lobby(), 0, "who comes now does not get what was made before");
    world.pending.retain(|event| !matches!(event, Event::StreamSurveyed { .. }));
    world.make();
    assert_eq!(world.in_lobby(), 2);
}
