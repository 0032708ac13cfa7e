//! How the workers' time is shared out among lanes.

use batchmill_protocol::share::Lag;

use super::*;

/// Two streams with the same slots, and workers that take `costs` for a row of either. Everybody reads at once what there
/// is. Gives the time that each stream was given.
fn given(
    costs: [Duration; 2],
    workers: u32,
    share: &Share,
    from: [Position; 2],
    streams: [StreamId; 2],
) -> [Duration; 2] {
    let mut scheduler = Scheduler::new(workers, HANG_LIMIT);
    let (mut todo, mut tasks) = (VecDeque::new(), VecDeque::new());
    let (mut now, mut spent) = (Duration::ZERO, [Duration::ZERO; 2]);
    for id in [StreamId(0), StreamId(1)] {
        todo.push_back(Event::StreamAdded(id));
    }
    let mut joins: Vec<_> = (0..2_u32)
        .map(|member| Event::MemberJoined {
            member: MemberId(member),
            stream: streams[usize::from(member == 1)],
            from: from[usize::from(member == 1)],
            until_epoch: None,
            leases: 2,
            ahead: 0,
            share: share.clone(),
        })
        .collect();
    let mut opened = 0;
    for _ in 0..20_000 {
        let event = match todo.pop_front() {
            Some(event) => event,
            None if opened == 2 * workers && !joins.is_empty() => joins.remove(0),
            None => {
                let Some((worker, task)): Option<(WorkerId, Task)> = tasks.pop_front() else { break };
                let stream = usize::from(task.stream == StreamId(1));
                let busy = costs[stream] * task.rows.len();
                now += busy / workers;
                // Of lanes of one stream, the one that began later is counted as the other.
                let of = if streams[0] == streams[1] { usize::from(task.position >= from[1]) } else { stream };
                spent[of] += busy;
                Event::TaskDone { worker, task: task.id, busy, cpu: busy, outcome: Ok(Filled::default()) }
            }
        };
        opened += u32::from(matches!(event, Event::WorkerOpened { .. }));
        let surveyed = if let Event::StreamSurveyed { stream, .. } = event { Some(stream) } else { None };
        let mut actions = scheduler.handle(now, event);
        if let Some(stream) = surveyed {
            let extent = extent(1 << 40, 8);
            actions.extend(scheduler.handle(now, Event::StreamOpened { stream, extent, slots: 16, bad_limit: 0 }));
        }
        for action in actions {
            match action {
                Action::Spawn(worker) => todo.push_back(Event::WorkerJoined(worker)),
                Action::Survey { worker, stream, .. } => todo.push_back(Event::StreamSurveyed { worker, stream }),
                Action::Open { worker, stream } => todo.push_back(Event::WorkerOpened { worker, stream }),
                Action::Assign { worker, task } => tasks.push_back((worker, task)),
                Action::Deliver { member, lease, .. } => todo.push_back(Event::Released { member, lease }),
                other => panic!("nothing else comes to pass: {other:?}"),
            }
        }
    }
    spent
}

fn ratio([a, b]: [Duration; 2]) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}

#[test]
fn a_stream_of_slow_samples_and_one_of_fast_ones_get_the_same_time() {
    for (slow, workers) in [(2, 1), (300, 1), (300, 4)] {
        let costs = [Duration::from_millis(slow), Duration::from_micros(500)];
        let start = Position::default();
        let time = given(costs, workers, &Share::Private, [start, start], [StreamId(0), StreamId(1)]);
        let ratio = ratio(time);
        assert!((0.8..1.25).contains(&ratio), "{slow} ms and 0.5 ms a sample, {workers} workers: {ratio}");
    }
}

#[test]
fn a_lane_that_catches_up_gets_two_thirds_and_no_more() {
    let (start, later) = (Position::default(), Position { epoch: 0, step: 1 << 30 });
    let costs = [Duration::from_millis(2); 2];
    let share = Share::Broadcast { lag: Lag::Split };
    let parted = ratio(given(costs, 2, &share, [start, later], [StreamId(0), StreamId(0)]));
    assert!((1.8..2.2).contains(&parted), "behind by ahead: {parted}");
    let alone = ratio(given(costs, 2, &Share::Private, [start, later], [StreamId(0), StreamId(0)]));
    assert!((0.9..1.1).contains(&alone), "those that share nothing get the same: {alone}");
}
