//! Single claims about the scheduler, in a small world that is driven by hand; `simulator` tries all the rest.

use std::collections::{BTreeMap, VecDeque};

use batchmill_protocol::position::Tail;

use super::workers::Phase;
use super::*;

mod budget;
mod fairness;
mod lobby;
mod patience;
mod sharing;

const STREAM: StreamId = StreamId(0);

const HANG_LIMIT: Duration = Duration::from_secs(30);

fn death(how: &str, index: Option<u64>) -> Death {
    let making = index.map(|index| Making { task: None, index: Some(index), name: format!("sample {index}") });
    Death { how: how.to_owned(), crashed: true, making }
}

/// Workers, members and messages on the way, as the daemon would have them.
struct World {
    scheduler: Scheduler,
    now: Duration,
    extent: Extent,
    slots: u32,
    /// Tasks each living worker was told about, oldest first.
    workers: BTreeMap<WorkerId, VecDeque<Task>>,
    /// Leases each member holds, and the position it expects next.
    members: BTreeMap<MemberId, (Vec<LeaseId>, Position, Ended)>,
    /// Rows that were finished, by slot: what the slab would hold.
    slab: BTreeMap<SlotIndex, (Position, Vec<bool>)>,
    /// What the world will say, in the order it came to be: joined, surveyed, opened.
    pending: Vec<Event>,
    poison: Option<Position>,
    next_member: u32,
}

#[derive(Clone, Debug, PartialEq)]
enum Ended {
    No,
    Whole,
    Failed(String),
}

impl World {
    fn new(slots: u32, workers: u32, extent: Extent) -> Self {
        let mut world = Self {
            scheduler: Scheduler::new(workers, HANG_LIMIT),
            now: Duration::ZERO,
            extent,
            slots,
            workers: BTreeMap::new(),
            members: BTreeMap::new(),
            slab: BTreeMap::new(),
            pending: Vec::new(),
            poison: None,
            next_member: 0,
        };
        world.tell(Event::StreamAdded(STREAM));
        world.settle();
        world
    }

    fn tell(&mut self, event: Event) -> Vec<Action> {
        let actions = self.scheduler.handle(self.now, event);
        for action in actions.clone() {
            match action {
                Action::Spawn(worker) => {
                    self.workers.insert(worker, VecDeque::new());
                    self.pending.push(Event::WorkerJoined(worker));
                }
                Action::Survey { worker, stream, .. } => self.pending.push(Event::StreamSurveyed { worker, stream }),
                Action::Open { worker, stream } => self.pending.push(Event::WorkerOpened { worker, stream }),
                Action::Assign { worker, task } => self.assigned(worker, task),
                Action::Leave(worker) if self.workers[&worker].is_empty() => {
                    let gone = self.gone(worker);
                    self.pending.push(gone);
                }
                Action::Leave(_) | Action::Close { .. } | Action::Quarantine { .. } => {}
                Action::Kill { worker, .. } => {
                    let gone = self.gone(worker);
                    self.pending.push(gone);
                }
                Action::Deliver { member, lease, slot, position, .. } => self.delivered(member, lease, slot, position),
                Action::Fail { member, reason, .. } => {
                    self.members.get_mut(&member).expect("told to us").2 = Ended::Failed(reason);
                }
                Action::Dismiss { member, reason, .. } => {
                    self.members.get_mut(&member).expect("told to us").2 = Ended::Failed(reason);
                }
                Action::End(member) => self.members.get_mut(&member).expect("told to us").2 = Ended::Whole,
                Action::StreamFailed { .. } | Action::GiveUp { .. } => panic!("nothing here fails a stream"),
            }
        }
        actions
    }

    /// Lets one thing come to pass that is on its way.
    fn come_to_pass(&mut self, choice: usize) {
        let Some(place) = choice.checked_rem(self.pending.len()) else { return };
        let event = self.pending.remove(place);
        let surveyed = matches!(event, Event::StreamSurveyed { .. });
        self.tell(event);
        if surveyed {
            let (extent, slots) = (self.extent, self.slots);
            self.tell(Event::StreamOpened { stream: STREAM, extent, slots, bad_limit: 0 });
        }
    }

    /// Lets everything come to pass that is on its way.
    fn settle(&mut self) {
        while !self.pending.is_empty() {
            self.come_to_pass(0);
        }
    }

    fn assigned(&mut self, worker: WorkerId, task: Task) {
        assert!(task.rows.hi <= self.extent.rows(task.position.step), "rows of the batch");
        let told_to_others = self.workers.values().flatten().any(|other| {
            other.slot == task.slot
                && (other.position != task.position || (other.rows.lo < task.rows.hi && task.rows.lo < other.rows.hi))
        });
        assert!(!told_to_others, "rows that a living worker may still write are not given out again");
        let rows = usize::try_from(self.extent.rows(task.position.step)).expect("small");
        let held = self.slab.entry(task.slot).or_insert((task.position, vec![false; rows]));
        if held.0 != task.position {
            *held = (task.position, vec![false; rows]);
        }
        self.workers.get_mut(&worker).expect("tasks go to living workers").push_back(task);
    }

    fn delivered(&mut self, member: MemberId, lease: LeaseId, slot: SlotIndex, position: Position) {
        let (leases, expected, ended) = self.members.get_mut(&member).expect("a batch goes to a member");
        assert_eq!(*ended, Ended::No, "nothing comes after the end");
        assert_eq!(position, *expected, "in order, without gaps");
        let (held, rows) = &self.slab[&slot];
        assert!(*held == position && rows.iter().all(|done| *done), "the slot holds the whole batch");
        leases.push(lease);
        *expected = self.extent.next(position);
    }

    fn attach(&mut self, until_epoch: u64, leases: u32) {
        self.share(Share::Private, Position::default(), until_epoch, leases);
    }

    fn share(&mut self, share: Share, from: Position, until_epoch: u64, leases: u32) -> MemberId {
        let member = MemberId(self.next_member);
        self.next_member += 1;
        self.members.insert(member, (Vec::new(), from, Ended::No));
        let (stream, until_epoch) = (STREAM, Some(until_epoch));
        self.tell(Event::MemberJoined { member, stream, from, until_epoch, leases, ahead: 0, share });
        member
    }

    /// Has the workers make all that they were asked for.
    fn make(&mut self) {
        self.settle();
        while self.workers.values().any(|tasks| !tasks.is_empty()) {
            self.finish_a_task(0);
        }
    }

    /// Has a member be done with the first batch that it holds, if there is one.
    fn read(&mut self, member: MemberId) -> bool {
        self.make();
        let (leases, ..) = self.members.get_mut(&member).expect("it is there");
        if leases.is_empty() {
            return false;
        }
        let lease = leases.remove(0);
        self.tell(Event::Released { member, lease });
        self.make();
        true
    }

    /// Lets time go by.
    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now = until.min(self.now + Duration::from_millis(100));
            self.tell(Event::Tick);
            self.make();
        }
    }

    /// Ends a member.
    fn leave(&mut self, member: MemberId) {
        self.members.remove(&member);
        self.tell(Event::MemberGone(member));
    }

    /// The position that a member expects, and how it ended.
    fn stands(&self, member: MemberId) -> (Position, Ended) {
        let (_, next, ended) = &self.members[&member];
        (*next, ended.clone())
    }

    fn pick<T: Copy>(mut items: impl ExactSizeIterator<Item = T>, choice: usize) -> Option<T> {
        let len = items.len();
        items.nth(choice.checked_rem(len)?)
    }

    fn finish_a_task(&mut self, choice: usize) {
        let busy: Vec<_> = self.workers.iter().filter(|(_, tasks)| !tasks.is_empty()).map(|(id, _)| *id).collect();
        let Some(worker) = Self::pick(busy.into_iter(), choice) else { return };
        let task = self.workers.get_mut(&worker).and_then(VecDeque::pop_front).expect("busy");
        self.mark(task);
        let outcome =
            if self.poison == Some(task.position) { Err(format!("{}", task.rows)) } else { Ok(Filled::default()) };
        self.tell(Event::TaskDone {
            worker,
            task: task.id,
            busy: Duration::from_millis(1 + choice as u64 % 9),
            cpu: Duration::ZERO,
            outcome,
        });
        let leaving = self.scheduler.workers.all().get(&worker).is_some_and(|w| w.phase == Phase::Leaving);
        if leaving && self.workers.get(&worker).is_some_and(VecDeque::is_empty) {
            let gone = self.gone(worker);
            self.pending.push(gone);
        }
    }

    /// Notes that the rows of a task are written.
    fn mark(&mut self, task: Task) {
        let (held, rows) = self.slab.get_mut(&task.slot).expect("noted when assigned");
        if *held == task.position {
            for row in task.rows.lo..task.rows.hi {
                rows[usize::try_from(row).expect("small")] = true;
            }
        }
    }

    /// Takes a worker out of the world: from here on it writes and says nothing.
    fn gone(&mut self, worker: WorkerId) -> Event {
        self.workers.remove(&worker);
        self.pending.retain(|event| {
            !matches!(event, Event::WorkerJoined(id) | Event::WorkerOpened { worker: id, .. }
                | Event::StreamSurveyed { worker: id, .. } if *id == worker)
        });
        Event::WorkerGone { worker, death: death("was killed", None) }
    }

    fn release(&mut self, choice: usize) {
        let holding: Vec<_> =
            self.members.iter().flat_map(|(id, (leases, ..))| leases.iter().map(move |lease| (*id, *lease))).collect();
        let Some((member, lease)) = Self::pick(holding.into_iter(), choice) else { return };
        self.members.get_mut(&member).expect("holding").0.retain(|held| *held != lease);
        self.tell(Event::Released { member, lease });
    }

    fn member_leaves(&mut self, choice: usize) {
        let all: Vec<_> = self.members.keys().copied().collect();
        let Some(member) = Self::pick(all.into_iter(), choice) else { return };
        self.members.remove(&member);
        self.tell(Event::MemberGone(member));
    }

    /// Lets everything go well until nothing more happens, and says how each member ended.
    fn run_out(&mut self) -> Vec<Ended> {
        for round in 0..100_000 {
            self.now += Duration::from_millis(500);
            self.tell(Event::Tick);
            self.settle();
            // A worker may be on its way only after a pause.
            let busy = self.workers.is_empty() || self.workers.values().any(|tasks| !tasks.is_empty());
            let holding = self.members.values().any(|(leases, ..)| !leases.is_empty());
            if !busy && !holding {
                return self.members.values().map(|(.., ended)| ended.clone()).collect();
            }
            self.finish_a_task(round);
            self.release(round);
        }
        panic!("the world does not come to rest");
    }
}

fn extent(samples: u64, batch_size: u32) -> Extent {
    Extent { samples, batch_size, tail: Tail::Short }
}

#[test]
fn a_member_gets_every_batch_and_then_the_end() {
    let mut world = World::new(4, 2, extent(21, 4));
    world.attach(3, 2);
    assert_eq!(world.run_out(), [Ended::Whole]);
    assert_eq!(world.members[&MemberId(0)].1, Position { epoch: 3, step: 0 });
}

#[test]
fn the_first_batches_of_the_next_epoch_are_made_before_this_one_has_ended() {
    let mut world = World::new(8, 2, extent(20, 4));
    world.attach(2, 2);
    world.make();
    let status = world.scheduler.stream_status(STREAM, |_| 0);
    assert_eq!(status.members[0].cursor, Position { epoch: 0, step: 2 }, "it still reads the first batches");
    assert_eq!(status.lanes[0].window[1], Position { epoch: 1, step: 3 });
    assert_eq!(status.slots.ready, 6, "all the others are ready, three of the next epoch among them");
}

#[test]
fn a_batch_that_cannot_be_made_ends_its_member_with_the_lowest_rows_fault() {
    let mut world = World::new(4, 3, extent(64, 16));
    world.poison = Some(Position { epoch: 0, step: 2 });
    world.attach(1, 2);
    let [Ended::Failed(reason)] = &world.run_out()[..] else { panic!("one member, failed") };
    assert!(reason.starts_with("rows 0.."), "{reason}");
    assert_eq!(world.members[&MemberId(0)].1, Position { epoch: 0, step: 2 });
    world.member_leaves(0);
    world.poison = None;
    world.attach(1, 2);
    assert_eq!(world.run_out(), [Ended::Whole], "the stream itself lives on");
}

#[test]
fn a_sample_that_kills_two_workers_is_read_no_more() {
    let mut world = World::new(2, 1, extent(4, 4));
    world.attach(1, 1);
    let mut actions = Vec::new();
    for _ in 0..CRASHES_MAX {
        assert!(!actions.iter().any(|action| matches!(action, Action::Quarantine { .. })), "{actions:?}");
        let (&worker, tasks) = world.workers.iter().next().expect("a worker");
        assert_eq!(tasks.front().map(|task| task.rows.lo), Some(0), "the rows were given out again, lowest first");
        world.workers.remove(&worker);
        actions = world.tell(Event::WorkerGone { worker, death: death("was killed by signal 11", Some(3)) });
        world.now += Duration::from_secs(10);
        world.tell(Event::Tick);
        world.settle();
    }
    let reason = "2 worker processes died on reading it; the last was killed by signal 11".to_owned();
    assert_eq!(world.scheduler.poisonous(STREAM), [Quarantined { index: 3, reason }]);
    assert_eq!(world.run_out(), [Ended::Whole], "who opens the stream from now on is told");
}

#[test]
fn a_death_is_put_down_to_the_task_in_hand_though_the_one_before_was_not_said_to_be_done() {
    let mut world = World::new(4, 1, extent(8, 1));
    world.attach(1, 1);
    for death in 0..CRASHES_MAX {
        assert_eq!(world.scheduler.poisonous(STREAM), []);
        if death > 0 {
            // What the first had made and not said is made, and said, by the next.
            world.finish_a_task(0);
        }
        let (&worker, tasks) = world.workers.iter().next().expect("a worker");
        let in_hand = tasks.iter().find(|task| task.position.step == 1).expect("it has the first two");
        let making = Making { task: Some(in_hand.id), index: Some(1), name: "sample 1".to_owned() };
        world.workers.remove(&worker);
        let death = Death { how: "was killed by signal 11".to_owned(), crashed: true, making: Some(making) };
        world.tell(Event::WorkerGone { worker, death });
        world.now += Duration::from_secs(10);
        world.tell(Event::Tick);
        world.settle();
    }
    assert_eq!(world.scheduler.poisonous(STREAM).iter().map(|sample| sample.index).collect::<Vec<_>>(), [1]);
    assert_eq!(world.run_out(), [Ended::Whole]);
}

#[test]
fn a_second_member_takes_its_part_of_the_slots_and_both_end() {
    let mut world = World::new(8, 2, extent(64, 2));
    world.attach(1, 4);
    for choice in 0..40 {
        world.finish_a_task(choice);
    }
    world.attach(1, 4);
    let statuses = world.scheduler.stream_status(STREAM, |_| 0);
    assert!(statuses.slots.free + statuses.slots.filling >= 4, "half is given up: {:?}", statuses.slots);
    assert_eq!(world.run_out(), [Ended::Whole, Ended::Whole]);
}

#[test]
fn members_beyond_the_slots_are_refused_with_the_remedy() {
    let mut world = World::new(5, 1, extent(64, 2));
    world.attach(1, 1);
    world.attach(1, 1);
    world.attach(1, 1);
    let Ended::Failed(reason) = &world.members[&MemberId(2)].2 else { panic!("refused") };
    assert!(reason.contains("raise --memory"), "{reason}");
}

#[test]
fn a_hung_worker_is_killed_and_its_rows_wait_for_its_end() {
    let mut world = World::new(4, 1, extent(8, 4));
    world.attach(1, 1);
    world.now += Duration::from_secs(31);
    let actions = world.tell(Event::Tick);
    assert!(actions.iter().any(|action| matches!(action, Action::Kill { .. })), "killed: {actions:?}");
    let given_out = |actions: &[Action]| actions.iter().any(|action| matches!(action, Action::Assign { .. }));
    assert!(!given_out(&actions), "not before it is reaped");
    assert_eq!(world.run_out(), [Ended::Whole]);
}

/// Otherwise a worker that says so twice gets tasks while it still opens another stream, and their time runs.
#[test]
fn an_index_takes_as_long_as_it_takes() {
    const OTHER: StreamId = StreamId(1);
    let mut world = World::new(4, 2, extent(8, 4));
    world.make();
    let actions = world.tell(Event::StreamAdded(OTHER));
    let surveyor = actions.iter().find_map(|action| match action {
        Action::Survey { worker, stream: OTHER, .. } => Some(*worker),
        _ => None,
    });
    let surveyor = surveyor.expect("some worker is asked");
    // It is to open another stream meanwhile, with which it cannot begin.
    world.tell(Event::Retry(STREAM));
    let other = world.workers.keys().copied().find(|&worker| worker != surveyor).expect("two");
    world.tell(Event::Retried { worker: other, stream: STREAM, anew: true });
    world.pending.retain(|event| match event {
        Event::StreamSurveyed { .. } => false,
        Event::WorkerOpened { worker, .. } => *worker != surveyor,
        _ => true,
    });
    world.settle();

    let mut is_killed_after = |time: u64, event: Event| {
        world.now += Duration::from_secs(time);
        let actions = world.tell(event);
        actions.iter().any(|action| matches!(action, Action::Kill { worker, .. } if *worker == surveyor))
    };
    assert!(!is_killed_after(86_400, Event::Tick), "amid its index");
    assert!(!is_killed_after(86_400, Event::Indexed(surveyor)), "done with it");
    assert!(!is_killed_after(29, Event::Tick), "amid its first sample");
    assert!(is_killed_after(2, Event::Tick), "its first sample takes too long");
}

#[test]
fn a_worker_is_ready_only_for_streams_that_it_was_told_to_open() {
    let mut world = World::new(4, 1, extent(8, 4));
    world.tell(Event::Scaled(2));
    world.come_to_pass(0);
    assert!(matches!(world.pending[..], [Event::WorkerOpened { .. }]), "one more worker opens the stream");
    let worker = world.scheduler.workers.joined().last().expect("it has joined");
    let before = format!("{:?}", world.scheduler);
    for stream in [StreamId(7), StreamId(8)] {
        assert_eq!(world.tell(Event::WorkerOpened { worker, stream }), []);
    }
    assert_eq!(format!("{:?}", world.scheduler), before, "nothing changes");
}

#[test]
fn workers_that_never_start_are_given_up_on() {
    let mut scheduler = Scheduler::new(1, HANG_LIMIT);
    let mut now = Duration::ZERO;
    let mut actions = scheduler.handle(now, Event::StreamAdded(STREAM));
    for _ in 0..100 {
        if let Some(Action::GiveUp { reason }) = actions.iter().find(|action| matches!(action, Action::GiveUp { .. })) {
            assert_eq!(reason, "3 worker processes ended before they could start; the last exited with code 127");
            return;
        }
        let spawned = actions.iter().find_map(|action| match action {
            Action::Spawn(worker) => Some(*worker),
            _ => None,
        });
        now += Duration::from_secs(1);
        let event = spawned
            .map_or(Event::Tick, |worker| Event::WorkerGone { worker, death: death("exited with code 127", None) });
        actions = scheduler.handle(now, event);
    }
    panic!("it tries for ever");
}

#[test]
fn a_worker_that_joins_too_late_to_be_wanted_shows_that_workers_can_start() {
    let mut scheduler = Scheduler::new(2, HANG_LIMIT);
    scheduler.handle(Duration::ZERO, Event::StreamAdded(STREAM));
    let actions = scheduler.handle(Duration::ZERO, Event::Scaled(1));
    assert!(matches!(actions[..], [Action::Kill { worker: WorkerId(1), .. }]), "{actions:?}");
    scheduler.handle(Duration::ZERO, Event::WorkerJoined(WorkerId(1)));
    let mut gone = vec![WorkerId(1), WorkerId(0)];
    for second in 1..10 {
        for worker in std::mem::take(&mut gone) {
            let event = Event::WorkerGone { worker, death: death("was killed", None) };
            let actions = scheduler.handle(Duration::from_secs(6 * second), event);
            assert!(!actions.iter().any(|action| matches!(action, Action::GiveUp { .. })), "{actions:?}");
        }
        let actions = scheduler.handle(Duration::from_secs(6 * second + 5), Event::Tick);
        let [Action::Spawn(worker)] = actions[..] else { panic!("one worker is started: {actions:?}") };
        gone.push(worker);
    }
}
