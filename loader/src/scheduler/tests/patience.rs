//! Who is waited for, and for how long: trainers that take their time for each batch.

use batchmill_protocol::share::Lag;

use super::*;

const SPLIT: Share = Share::Broadcast { lag: Lag::Split };
const WAIT: Share = Share::Broadcast { lag: Lag::Wait };
const DROP: Share = Share::Broadcast { lag: Lag::Drop };

const FOR_EVER: u64 = 1 << 30;

/// A trainer in virtual time.
struct Trainer {
    id: MemberId,
    step_ms: u64,
    /// Whether it gives a batch back when its step begins, as it is copied to a device, and not when it ends.
    copies: bool,
    busy_until: Option<u64>,
    steps: u64,
}

impl Trainer {
    fn join(world: &mut World, share: Share, step: u64, leases: u32, step_ms: u64, copies: bool) -> Self {
        let id = world.share(share, Position { epoch: 0, step }, FOR_EVER, leases);
        Self { id, step_ms, copies, busy_until: None, steps: 0 }
    }

    fn gives_back(&self, world: &mut World) {
        let lease = world.members.get_mut(&self.id).expect("it is there").0.remove(0);
        world.tell(Event::Released { member: self.id, lease });
        world.make();
    }

    /// Does what it does in a moment.
    fn go(&mut self, world: &mut World, ms: u64) {
        if self.busy_until.is_some_and(|until| until <= ms) {
            self.busy_until = None;
            self.steps += 1;
            if !self.copies {
                self.gives_back(world);
            }
        }
        if self.busy_until.is_none() && !world.members[&self.id].0.is_empty() {
            self.busy_until = Some(ms + self.step_ms);
            if self.copies {
                self.gives_back(world);
            }
        }
    }
}

fn world(slots: u32) -> World {
    World::new(slots, 2, extent(1 << 40, 2))
}

fn run(world: &mut World, trainers: &mut [Trainer], ms: std::ops::Range<u64>) {
    for ms in ms {
        world.now = Duration::from_millis(ms);
        if ms % 100 == 0 {
            world.tell(Event::Tick);
        }
        world.make();
        trainers.iter_mut().for_each(|trainer| trainer.go(world, ms));
    }
}

#[test]
fn who_is_slower_by_less_than_a_fifth_is_never_split_off() {
    for (slow_ms, leases, copies) in [(102, 4, false), (102, 4, true), (110, 1, false), (118, 4, false), (118, 4, true)]
    {
        let mut world = world(16);
        let mut trainers = [100, slow_ms].map(|step_ms| Trainer::join(&mut world, SPLIT, 0, leases, step_ms, copies));
        run(&mut world, &mut trainers, 0..120_000);
        let told = format!("{slow_ms} ms, {leases} leases, copies: {copies}");
        assert_eq!(world.scheduler.partings(STREAM), (0, 0), "{told}");
        let made = world.scheduler.samples_made(STREAM) / 2;
        assert!(made <= trainers[0].steps + 16, "{told}: {made} batches made for {}", trainers[0].steps);
    }
}

#[test]
fn who_is_much_slower_is_split_off_and_holds_up_nobody() {
    for copies in [false, true] {
        let mut world = world(16);
        let mut trainers = [100, 400].map(|step_ms| Trainer::join(&mut world, SPLIT, 0, 4, step_ms, copies));
        run(&mut world, &mut trainers, 0..120_000);
        assert_eq!(world.scheduler.partings(STREAM), (1, 0), "copies: {copies}");
        assert!(trainers[0].steps > 1_150 && trainers[1].steps > 290, "{}, {}", trainers[0].steps, trainers[1].steps);
    }
}

#[test]
fn a_batch_that_is_never_given_back_does_not_hide_who_is_waited_for() {
    let mut world = world(16);
    let mut trainers = [10, 1_000].map(|step_ms| Trainer::join(&mut world, SPLIT, 0, 4, step_ms, false));
    world.make();
    // Held by a tensor that somebody keeps.
    world.members.get_mut(&trainers[0].id).expect("it is there").0.remove(0);
    run(&mut world, &mut trainers, 0..60_000);
    assert_eq!(world.scheduler.partings(STREAM), (1, 0));
    assert!(trainers[0].steps > 5_000, "{}", trainers[0].steps);
}

#[test]
fn nobody_is_dropped_for_what_another_keeps() {
    let mut world = world(16);
    let mut keeper = Trainer::join(&mut world, DROP, 0, 4, 11, false);
    let fast = Trainer::join(&mut world, SPLIT, 0, 4, 10, false);
    let slow = Trainer::join(&mut world, WAIT, 0, 4, 1_000, false);
    world.make();
    world.members.get_mut(&keeper.id).expect("it is there").0.remove(0);
    keeper.copies = false;
    run(&mut world, &mut [keeper, fast, slow], 0..30_000);
    assert!(world.members.values().all(|(.., ended)| *ended == Ended::No));

    let mut world = self::world(16);
    let lead = Trainer::join(&mut world, SPLIT, 0, 1, 500, false);
    // Stopped, it keeps the oldest slot.
    world.share(SPLIT, Position::default(), FOR_EVER, 1);
    let mut late = Trainer::join(&mut world, DROP, 0, 1, 500, false);
    late.busy_until = Some(5_200);
    let id = late.id;
    run(&mut world, &mut [lead, late], 0..60_000);
    assert_eq!(world.stands(id).1, Ended::No, "it is as fast as the leader");
}

#[test]
fn a_machine_that_sleeps_has_kept_nobody_waiting() {
    let mut world = world(10);
    let mut trainers =
        [(SPLIT, 100), (DROP, 105)].map(|(share, step_ms)| Trainer::join(&mut world, share, 0, 1, step_ms, false));
    run(&mut world, &mut trainers, 0..60_000);
    let is_held = |world: &World| {
        let lanes = world.scheduler.stream_status(STREAM, |_| 0).lanes;
        lanes.iter().any(|lane| !lane.held_by.is_empty())
    };
    let mut ms = 60_000;
    while !is_held(&world) {
        run(&mut world, &mut trainers, ms..ms + 1);
        ms += 1;
    }
    world.now += Duration::from_secs(3_600);
    world.tell(Event::Tick);
    assert_eq!(world.stands(trainers[1].id).1, Ended::No);
}

#[test]
fn who_catches_up_meets_the_others_whatever_else_is_read() {
    for (slots, alone, leases) in [(22, 0, 4), (22, 2, 4), (22, 2, 1), (64, 8, 4)] {
        let mut world = world(slots);
        (0..alone).for_each(|_| world.attach(FOR_EVER, 1));
        let first = Trainer::join(&mut world, SPLIT, 60, leases, 100, false);
        let late = Trainer::join(&mut world, SPLIT, 0, leases, 90, false);
        run(&mut world, &mut [first, late], 0..90_000);
        let told = format!("{slots} slots beside {alone}, {leases} leases");
        assert_eq!(world.scheduler.partings(STREAM), (0, 1), "{told}");
    }
    let mut world = world(64);
    let fast = Trainer::join(&mut world, WAIT, 0, 1, 90, false);
    let slow = Trainer::join(&mut world, WAIT, 0, 1, 100, false);
    let mut trainers = vec![fast, slow];
    world.attach(FOR_EVER, 1);
    run(&mut world, &mut trainers, 0..60_000);
    trainers.push(Trainer::join(&mut world, SPLIT, 0, 1, 10, false));
    run(&mut world, &mut trainers, 60_000..120_000);
    assert_eq!(world.scheduler.partings(STREAM), (0, 1), "a lane that is as wide as it may be can be met too");
}
