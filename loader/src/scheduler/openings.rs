//! A stream at the workers: opened by each, given up when that ends whoever does it, closed.

use std::time::Duration;

use batchmill_protocol::message::{StreamId, WorkerId};

use super::{Action, Death, Scheduler, Stream};

impl Scheduler {
    /// Has every worker open a stream, or open it anew.
    pub(super) fn open_everywhere(&mut self, stream: StreamId) {
        let joined: Vec<_> = self.workers.joined().collect();
        joined.into_iter().for_each(|worker| self.workers.want_open(worker, stream));
    }

    /// Takes note that a worker is done with opening a stream, which may be served no longer.
    pub(super) fn worker_opened(&mut self, worker: WorkerId, stream: StreamId) {
        let open = match self.streams.get_mut(&stream) {
            Some(Stream::Open(open)) => Some(open),
            _ => None,
        };
        let is_ready = self.workers.opened(worker, stream, open.is_some());
        if let Some(open) = open.filter(|_| is_ready) {
            open.deaths_on_opening = None;
        }
    }

    /// Gives a stream up that nobody could open and too many died on.
    pub(super) fn opening_lost(&mut self, stream: StreamId, death: &Death) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        let Stream::Open(open) = state else { return };
        let Some(deaths) = &mut open.deaths_on_opening else { return };
        deaths.add(death);
        if deaths.are_too_many() {
            let reason = format!("{} worker processes died on opening it; the last {}", deaths.count(), death.how);
            *state = Stream::Failed;
            self.actions.push(Action::StreamFailed { stream, reason });
        }
    }

    /// Ends a stream and its members; what they hold they may read to the end.
    ///
    /// Its tasks that are out stay in the table until they end or their worker does, for the worker is busy with them;
    /// nothing follows from that.
    pub(super) fn stream_closed(&mut self, now: Duration, stream: StreamId, reason: &str) {
        if self.streams.remove(&stream).is_none() {
            return;
        }
        for (member, gone) in self.members.extract_if(.., |_, member| member.stream == stream) {
            // One that has all it asked for needs no excuse.
            if gone.lane.is_some() {
                let (position, reason) = (gone.cursor, reason.to_owned());
                self.actions.push(Action::Dismiss { member, position, reason });
            }
        }
        self.workers.close(now, stream, &mut self.actions);
    }
}

#[cfg(test)]
mod tests {
    use batchmill_protocol::message::{Filled, MemberId, Task};
    use batchmill_protocol::position::{Extent, Position, Tail};
    use batchmill_protocol::share::Share;
    use batchmill_protocol::slab::Making;

    use super::*;
    use crate::scheduler::Event;

    const A: StreamId = StreamId(0);
    const B: StreamId = StreamId(1);
    const C: StreamId = StreamId(2);
    const W: WorkerId = WorkerId(0);

    /// A scheduler and what it has said since it was last asked.
    struct World {
        scheduler: Scheduler,
        now: Duration,
    }

    impl World {
        /// Begins with workers that have joined their lines.
        fn of(workers: u32) -> Self {
            let mut world = Self { scheduler: Scheduler::new(workers, Duration::from_secs(30)), now: Duration::ZERO };
            world.tell(Event::Tick);
            (0..workers).for_each(|worker| drop(world.tell(Event::WorkerJoined(WorkerId(worker)))));
            world
        }

        fn tell(&mut self, event: Event) -> Vec<Action> {
            self.scheduler.handle(self.now, event)
        }

        /// Has the workers look at a stream, and says what follows from that.
        fn survey(&mut self, stream: StreamId) -> Vec<Action> {
            let actions = self.tell(Event::StreamAdded(stream));
            let worker = actions.into_iter().find_map(|action| match action {
                Action::Survey { worker, .. } => Some(worker),
                _ => None,
            });
            let mut actions = self.tell(Event::StreamSurveyed { worker: worker.expect("somebody is free"), stream });
            let extent = Extent { samples: 8, batch_size: 4, tail: Tail::Short };
            actions.extend(self.tell(Event::StreamOpened { stream, extent, slots: 4, bad_limit: 0 }));
            actions
        }

        fn opened(&mut self, worker: WorkerId, stream: StreamId) -> Vec<Action> {
            self.tell(Event::WorkerOpened { worker, stream })
        }

        fn attach(&mut self, member: MemberId, stream: StreamId) -> Vec<Task> {
            let share = Share::Private;
            let from = Position::default();
            let actions =
                self.tell(Event::MemberJoined { member, stream, from, until_epoch: None, leases: 2, ahead: 0, share });
            let tasks = actions.into_iter().filter_map(|action| match action {
                Action::Assign { task, .. } => Some(task),
                _ => None,
            });
            tasks.collect()
        }

        fn close(&mut self, stream: StreamId) -> Vec<Action> {
            self.tell(Event::StreamClosed { stream, reason: "it was closed".to_owned() })
        }

        fn dies(&mut self, worker: WorkerId, index: Option<u64>) -> Vec<Action> {
            let making = index.map(|_| Making { task: None, index, name: "a.jpg".to_owned() });
            let death = Death { how: "was killed by signal 11".to_owned(), crashed: true, making };
            let actions = self.tell(Event::WorkerGone { worker, death });
            self.now += Duration::from_secs(10);
            actions.into_iter().chain(self.tell(Event::Tick)).collect()
        }
    }

    #[test]
    fn whoever_reads_a_stream_that_is_closed_is_told_and_its_workers_forget_it() {
        let mut world = World::of(1);
        assert_eq!(world.survey(A), [Action::Open { worker: W, stream: A }]);
        world.opened(W, A);
        let tasks = world.attach(MemberId(3), A);
        assert!(!tasks.is_empty());
        let (position, reason) = (Position::default(), "it was closed".to_owned());
        let told = Action::Dismiss { member: MemberId(3), position, reason };
        assert_eq!(world.close(A), [told, Action::Close { worker: W, stream: A }]);
        assert_eq!(world.close(A), [], "once");
        assert_eq!(world.opened(W, A), []);

        // What the worker has in hand it may finish; then it has time for others.
        for task in tasks {
            let outcome = Ok(Filled::default());
            let done = Event::TaskDone {
                worker: W,
                task: task.id,
                busy: Duration::from_millis(1),
                cpu: Duration::ZERO,
                outcome,
            };
            assert_eq!(world.tell(done), []);
        }
        world.survey(B);
        world.opened(W, B);
        assert!(!world.attach(MemberId(4), B).is_empty());
        assert_eq!(world.tell(Event::MemberGone(MemberId(3))), []);
    }

    #[test]
    fn a_worker_that_dies_with_a_task_of_a_closed_stream_blames_nothing() {
        let mut world = World::of(1);
        for stream in [A, B] {
            world.survey(stream);
            world.opened(W, stream);
        }
        assert!(!world.attach(MemberId(0), A).is_empty());
        world.close(A);
        let actions = world.dies(W, Some(3));
        assert!(matches!(actions[..], [Action::Spawn(_)]), "{actions:?}");
        assert!(world.scheduler.poisonous(B).is_empty());
    }

    #[test]
    fn a_worker_opens_one_stream_at_a_time_and_never_hears_of_what_came_and_went() {
        let mut world = World::of(2);
        let opens = |actions: &[Action], worker| {
            let opens = actions.iter().filter_map(|action| match action {
                Action::Open { worker: to, stream } if *to == worker => Some(*stream),
                _ => None,
            });
            opens.collect::<Vec<_>>()
        };
        let other = WorkerId(1);
        assert_eq!(opens(&world.survey(A), W), [A]);
        // The other one does all the rest.
        world.opened(other, A);
        for stream in [B, C] {
            let actions = world.survey(stream);
            assert_eq!((opens(&actions, W), opens(&actions, other)), (vec![], vec![stream]));
            world.opened(other, stream);
        }
        assert_eq!(world.close(B), [Action::Close { worker: other, stream: B }]);
        assert_eq!(world.opened(W, A), [Action::Open { worker: W, stream: C }]);
        let closes = [W, other].map(|worker| Action::Close { worker, stream: C });
        assert_eq!(world.close(C), closes, "it may be on it by now");
        assert_eq!(opens(&world.opened(W, C), W), []);
        assert!(!world.scheduler.workers.all()[&W].open.contains(&C));
    }

    #[test]
    fn whoever_looks_at_a_stream_that_is_closed_is_replaced_at_once() {
        let mut world = World::of(1);
        assert!(matches!(world.tell(Event::StreamAdded(A))[..], [Action::Survey { worker: W, .. }]));
        assert!(matches!(world.close(A)[..], [Action::Kill { worker: W, .. }, Action::Spawn(_)]));
        assert_eq!(world.dies(W, None), [], "nobody is to blame");
    }

    #[test]
    fn a_stream_that_ends_whoever_opens_it_is_given_up() {
        for once_opened in [false, true] {
            let mut world = World::of(3);
            world.survey(A);
            if once_opened {
                world.opened(WorkerId(2), A);
            }
            let failed = |actions: Vec<Action>| {
                actions.into_iter().find_map(|action| match action {
                    Action::StreamFailed { reason, .. } => Some(reason),
                    _ => None,
                })
            };
            assert_eq!(failed(world.dies(WorkerId(0), None)), None);
            let reason = "2 worker processes died on opening it; the last was killed by signal 11".to_owned();
            assert_eq!(failed(world.dies(WorkerId(1), None)), (!once_opened).then_some(reason));
        }
    }
}
