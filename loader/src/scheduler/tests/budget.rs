//! The budget: what it lets through, and when the daemon is to say what time it is.

use super::*;

const MS: Duration = Duration::from_millis(1);

#[test]
fn no_task_goes_out_before_there_is_time_for_it_and_then_one_does() {
    let mut world = World::new(8, 2, extent(4_000, 4));
    world.scheduler.allow_cpus(Some(0.5));
    world.attach(1, 1);
    let (mut used, begun) = (Duration::ZERO, world.now);
    while used < 1_000 * MS {
        while let Some((&worker, tasks)) = world.workers.iter_mut().find(|(_, tasks)| !tasks.is_empty()) {
            let task = tasks.pop_front().expect("just seen");
            used += 5 * MS;
            let outcome = Ok(Filled::default());
            world.mark(task);
            world.tell(Event::TaskDone { worker, task: task.id, busy: 5 * MS, cpu: 5 * MS, outcome });
        }
        let at = world.scheduler.wants_time_at().expect("it waits for time alone");
        assert!(at > world.now, "not for ever at once");
        world.now = at;
        world.tell(Event::Tick);
        assert!(world.workers.values().any(|tasks| !tasks.is_empty()), "then it has time for one more");
        let member = MemberId(0);
        while let Some(lease) = world.members.get_mut(&member).expect("it is there").0.pop() {
            world.tell(Event::Released { member, lease });
        }
    }
    let share = used.as_secs_f64() / (world.now - begun).as_secs_f64();
    assert!((0.49..0.53).contains(&share), "{share} of a processor was used");
}

#[test]
fn without_a_budget_nobody_waits_for_time() {
    let mut world = World::new(8, 2, extent(40, 4));
    world.attach(1, 1);
    assert_eq!((world.scheduler.wants_time_at(), world.run_out()), (None, vec![Ended::Whole]));
    world.scheduler.allow_cpus(Some(0.1));
    world.attach(1, 1);
    assert_eq!(world.run_out(), [Ended::Whole, Ended::Whole], "and with a small one all comes, in its time");
}
