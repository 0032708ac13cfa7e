//! Members that read together: made once, parted, met again; ranks that are missed.

use batchmill_protocol::share::{Lag, Shard};

use super::*;

const SPLIT: Share = Share::Broadcast { lag: Lag::Split };

fn at(step: u64) -> Position {
    Position { epoch: 0, step }
}

fn rank(rank: u32, world: u32) -> Share {
    Share::Sharded(Shard { group: "g".to_owned(), rank, world, limit_s: 60 })
}

/// Reads for `members` in turn until nobody has anything left to read.
fn read_all(world: &mut World, members: &[MemberId]) {
    while members.iter().fold(false, |read, member| world.read(*member) | read) {}
}

/// Two members, of which the first has read all that it can while the second has read nothing.
fn one_ahead(lag: Lag) -> (World, MemberId, MemberId) {
    // Two of the slots are for who begins elsewhere.
    let mut world = World::new(10, 2, extent(80, 2));
    let share = Share::Broadcast { lag };
    let ahead = world.share(share.clone(), at(0), 1, 1);
    let behind = world.share(share, at(0), 1, 1);
    read_all(&mut world, &[ahead]);
    assert_eq!(world.stands(ahead), (at(8), Ended::No), "the window is full of what the other has not read");
    (world, ahead, behind)
}

#[test]
fn what_many_read_is_made_once() {
    let mut world = World::new(6, 2, extent(80, 2));
    for step in [0, 0, 1] {
        world.share(SPLIT, at(step), 1, 2);
    }
    assert_eq!(world.run_out(), [Ended::Whole, Ended::Whole, Ended::Whole]);
    assert_eq!(world.scheduler.samples_made(STREAM), 80);
}

#[test]
fn who_keeps_others_waiting_is_split_off_and_comes_back_when_it_has_caught_up() {
    let (mut world, ahead, behind) = one_ahead(Lag::Split);
    world.wait(Duration::from_millis(900));
    assert_eq!((world.scheduler.partings(STREAM), world.read(ahead)), ((0, 0), false), "it is waited for a while");
    world.wait(Duration::from_millis(200));
    assert_eq!(world.scheduler.partings(STREAM), (1, 0));
    assert!(world.read(ahead), "the one ahead goes on");
    assert_eq!(world.stands(ahead).0, at(9 + 1));
    for _ in 0..5 {
        assert_eq!(world.scheduler.partings(STREAM), (1, 0));
        assert!(world.read(behind), "the one behind goes on too");
    }
    while world.scheduler.partings(STREAM) == (1, 0) {
        assert!(world.read(behind), "until it is near");
    }
    assert_eq!(world.scheduler.partings(STREAM), (1, 1));
    assert!(world.stands(behind).0 < world.stands(ahead).0, "it need not have caught up whole");
    let made = world.scheduler.samples_made(STREAM);
    read_all(&mut world, &[behind, ahead]);
    assert_eq!((world.stands(ahead).1, world.stands(behind).1), (Ended::Whole, Ended::Whole));
    assert!(made < 40, "it was parted at its beginning: {made}");
    assert!(world.scheduler.samples_made(STREAM) < 80 + 20, "and what came after that was made once");
}

#[test]
fn who_must_be_waited_for_is() {
    let (mut world, ahead, behind) = one_ahead(Lag::Wait);
    world.wait(Duration::from_secs(500));
    assert!(!world.read(ahead));
    assert!(world.read(behind) && world.read(behind));
    assert!(world.read(ahead), "a batch for a batch");
    read_all(&mut world, &[behind, ahead]);
    assert_eq!((world.scheduler.partings(STREAM), world.scheduler.samples_made(STREAM)), ((0, 0), 80));
}

#[test]
fn who_begins_elsewhere_finds_room_while_others_wait_for_one_that_is_slow() {
    let (mut world, ahead, behind) = one_ahead(Lag::Wait);
    let late = world.share(SPLIT, at(20), 1, 1);
    read_all(&mut world, &[ahead, late]);
    assert_eq!((world.stands(ahead).1, world.stands(late).1), (Ended::No, Ended::Whole));
    read_all(&mut world, &[ahead, behind]);
    assert_eq!((world.stands(ahead).1, world.stands(behind).1), (Ended::Whole, Ended::Whole));
}

#[test]
fn who_is_to_be_dropped_is_told_why() {
    let (mut world, ahead, behind) = one_ahead(Lag::Drop);
    world.wait(Duration::from_millis(1100));
    let (_, Ended::Failed(reason)) = world.stands(behind) else { panic!("it is ended") };
    assert_eq!(
        reason,
        "it lags 7 batches behind trainers that wait for it: with --lag split it reads on by itself, with --lag wait \
         they wait"
    );
    read_all(&mut world, &[behind]);
    read_all(&mut world, &[ahead]);
    assert_eq!(world.stands(ahead).1, Ended::Whole);
}

#[test]
fn a_late_joiner_reads_by_itself_until_it_has_caught_up() {
    let mut world = World::new(12, 2, extent(200, 2));
    let first = world.share(SPLIT, at(0), 1, 1);
    (0..50).for_each(|_| assert!(world.read(first)));
    let late = world.share(SPLIT, at(0), 1, 1);
    let amid = world.share(SPLIT, world.stands(first).0, 1, 1);
    let lanes = world.scheduler.stream_status(STREAM, |_| 0).lanes;
    assert_eq!(lanes.iter().map(|lane| lane.members.len()).collect::<Vec<_>>(), [2, 1], "{lanes:?}");
    while world.scheduler.partings(STREAM) == (0, 0) {
        assert!(world.read(late));
    }
    let (made, status) = (world.scheduler.samples_made(STREAM), world.scheduler.stream_status(STREAM, |_| 0));
    let [lane] = &status.lanes[..] else { panic!("they have met: {status:?}") };
    let left = 200 - 2 * lane.window[1].step;
    assert!(made > 180 && left > 60, "what the first had left behind was made again: {made}, {left} are left");
    read_all(&mut world, &[first, late, amid]);
    assert!([first, late, amid].iter().all(|id| world.stands(*id).1 == Ended::Whole));
    assert_eq!(world.scheduler.samples_made(STREAM), made + left, "what comes after that is made once");
}

#[test]
fn ranks_wait_for_one_that_is_missing_and_then_name_it() {
    let mut world = World::new(10, 2, extent(80, 2));
    let ranks: Vec<_> = [0, 1].map(|r| world.share(rank(r, 3), at(0), 1, 1)).into();
    read_all(&mut world, &ranks);
    assert_eq!(world.stands(ranks[0]), (at(8), Ended::No), "what the missing one has yet to read is kept");
    world.wait(Duration::from_secs(59));
    assert_eq!(world.stands(ranks[0]).1, Ended::No);
    world.wait(Duration::from_secs(1));
    let reason = "rank 2 of 3 did not come within 60 s: start all ranks".to_owned();
    assert!(ranks.iter().all(|id| world.stands(*id).1 == Ended::Failed(reason.clone())));
}

#[test]
fn a_rank_that_is_replaced_goes_on_where_it_was() {
    let mut world = World::new(10, 2, extent(80, 2));
    let ranks: Vec<_> = (0..3).map(|r| world.share(rank(r, 3), at(0), 1, 1)).collect();
    (0..20).for_each(|_| ranks.iter().for_each(|id| assert!(world.read(*id))));
    let left_at = world.stands(ranks[1]).0;
    world.leave(ranks[1]);
    let others = [ranks[0], ranks[2]];
    read_all(&mut world, &others);
    assert_eq!(
        world.extent.distance(left_at, world.stands(ranks[0]).0),
        7,
        "they go on for a window from what it has not read"
    );
    let again = world.share(rank(1, 3), left_at, 1, 1);
    read_all(&mut world, &[ranks[0], again, ranks[2]]);
    assert!([ranks[0], again, ranks[2]].iter().all(|id| world.stands(*id).1 == Ended::Whole));
    assert_eq!(world.scheduler.samples_made(STREAM), 80, "not a sample was made twice");
}

#[test]
fn a_rank_that_comes_back_from_a_checkpoint_catches_up() {
    let mut world = World::new(8, 2, extent(80, 2));
    let ranks: Vec<_> = (0..2).map(|r| world.share(rank(r, 2), at(0), 1, 1)).collect();
    (0..20).for_each(|_| ranks.iter().for_each(|id| assert!(world.read(*id))));
    world.leave(ranks[1]);
    let again = world.share(rank(1, 2), at(5), 1, 1);
    read_all(&mut world, &[ranks[0], again]);
    assert_eq!((world.stands(ranks[0]).1, world.stands(again).1), (Ended::Whole, Ended::Whole));
}

#[test]
fn ranks_that_come_back_from_a_checkpoint_find_room_while_all_slots_are_kept_for_them() {
    let mut world = World::new(10, 2, extent(160, 4));
    let mut ranks: Vec<_> = (0..4).map(|r| world.share(rank(r, 4), at(0), 1, 1)).collect();
    (0..20).for_each(|_| ranks.iter().for_each(|id| assert!(world.read(*id))));
    ranks[1..].iter().for_each(|id| world.leave(*id));
    read_all(&mut world, &ranks[..1]);
    assert_eq!(world.stands(ranks[0]), (at(28), Ended::No), "the window is full of what the others have yet to read");
    for (place, step) in [(1, 18), (2, 16), (3, 19)] {
        ranks[place] = world.share(rank(u32::try_from(place).expect("few"), 4), at(step), 1, 1);
        read_all(&mut world, &ranks[..=place]);
        assert_eq!(world.stands(ranks[place]).1 == Ended::Whole, place == 3, "it waits for the others only");
    }
    assert!(ranks.iter().all(|id| world.stands(*id).1 == Ended::Whole));
}

#[test]
fn a_rank_that_is_gone_for_too_long_is_named() {
    let mut world = World::new(8, 2, extent(80, 2));
    let ranks: Vec<_> = (0..2).map(|r| world.share(rank(r, 2), at(0), 1, 1)).collect();
    world.leave(ranks[0]);
    world.wait(Duration::from_secs(60));
    let reason = "rank 0 of 2 has been gone for 60 s: start it again, or all ranks from their common checkpoint";
    assert_eq!(world.stands(ranks[1]).1, Ended::Failed(reason.to_owned()));
    world.leave(ranks[1]);
    world.share(rank(0, 1), at(0), 1, 1);
    assert_eq!(world.run_out(), [Ended::Whole], "when all have left, another number of ranks may come");
}

#[test]
fn a_rank_that_has_all_it_asked_for_is_not_missed() {
    let mut world = World::new(8, 2, extent(8, 2));
    let ranks: Vec<_> = (0..2).map(|r| world.share(rank(r, 2), at(0), 1, 1)).collect();
    read_all(&mut world, &[ranks[0]]);
    assert_eq!(world.stands(ranks[0]).1, Ended::Whole);
    world.leave(ranks[0]);
    world.wait(Duration::from_secs(600));
    read_all(&mut world, &[ranks[1]]);
    assert_eq!(world.stands(ranks[1]).1, Ended::Whole);
}

/// Otherwise it would read on alone to the end, as if all were well.
#[test]
fn who_comes_when_its_group_was_ended_is_of_a_new_one() {
    let mut world = World::new(16, 2, extent(400, 2));
    let ranks: Vec<_> = (0..2).map(|r| world.share(rank(r, 3), at(0), 1, 4)).collect();
    world.wait(Duration::from_secs(60));
    let late = world.share(rank(2, 3), at(0), 1, 4);
    let again = world.share(rank(0, 3), at(0), 1, 4);
    ranks.iter().for_each(|id| world.leave(*id));
    assert_eq!((world.stands(late).1, world.stands(again).1), (Ended::No, Ended::No));
    world.wait(Duration::from_secs(60));
    let reason = "rank 1 of 3 did not come within 60 s: start all ranks".to_owned();
    assert_eq!(world.stands(late).1, Ended::Failed(reason));
}

#[test]
fn a_rank_that_is_replaced_reads_what_it_had_been_given_and_not_read() {
    let mut world = World::new(16, 2, extent(400, 2));
    let ranks: Vec<_> = (0..2).map(|r| world.share(rank(r, 2), at(0), 1, 4)).collect();
    (0..20).for_each(|_| ranks.iter().for_each(|id| assert!(world.read(*id))));
    world.leave(ranks[1]);
    read_all(&mut world, &ranks[..1]);
    let again = world.share(rank(1, 2), at(20), 1, 4);
    read_all(&mut world, &[ranks[0], again]);
    assert_eq!((world.stands(again).1, world.scheduler.samples_made(STREAM)), (Ended::Whole, 400));
}

#[test]
fn there_is_one_of_each_rank_and_one_number_of_them() {
    let mut world = World::new(8, 2, extent(80, 2));
    world.share(rank(0, 2), at(0), 1, 1);
    let again = world.share(rank(0, 2), at(0), 1, 1);
    let other = world.share(rank(1, 4), at(0), 1, 1);
    let why = |id| match world.stands(id).1 {
        Ended::Failed(reason) => reason,
        other => panic!("it is refused, not {other:?}"),
    };
    assert_eq!(
        why(again),
        "rank 0 of 2 is there already: wait until it has ended, give each its own --rank, or another run another --group"
    );
    assert_eq!(why(other), "group `g` has 2 ranks, not 4: end those first, or give these another --group");
}
