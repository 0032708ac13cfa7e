//! Threads as ranks, over real sockets and shared memory.

use std::collections::BTreeSet;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use batchmill_protocol::fd;
use batchmill_protocol::identity::Identity;
use batchmill_protocol::share::Shard;
use expect_test::{Expect, expect};
use tempfile::TempDir;

use super::shared::{FromRank, Shared};
use super::{CollectiveError, Joint, meeting, piece_numbers};

/// Longer than anything here takes: nobody is to be given up.
const PATIENCE: Duration = Duration::from_secs(120);

fn meeting_place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = folder.path().join("ranks.sock");
    (folder, socket)
}

fn shard(rank: u32, world: u32, limit_s: u32) -> Shard {
    Shard { group: "test".to_owned(), rank, world, limit_s }
}

fn plan(epochs: u32) -> Identity {
    [("--model", "m"), ("--epochs", &epochs.to_string())]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into_iter()
        .collect()
}

fn join(socket: &Path, rank: u32, world: u32) -> Shared {
    Shared::join_at(socket, &shard(rank, world, 120), &plan(1), PATIENCE).expect("all come")
}

/// What each rank gives, in order.
fn ranks<T: Send>(world: u32, work: impl Fn(Shared) -> T + Sync) -> Vec<T> {
    let (_folder, socket) = meeting_place();
    thread::scope(|scope| {
        let (socket, work) = (&socket, &work);
        let each: Vec<_> = (0..world).map(|rank| scope.spawn(move || work(join(socket, rank, world)))).collect();
        each.into_iter().map(|rank| rank.join().expect("no rank panics")).collect()
    })
}

/// Numbers of one rank whose sum depends on the order they are added in.
fn numbers_of(rank: u32, count: usize, round: u32) -> Vec<f32> {
    let mut state = (u64::from(rank) << 40) | (u64::from(round) << 20) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let high = u16::try_from(state >> 48).expect("sixteen bits");
        let scale = 10_f32.powi(i32::from(high % 13) - 6);
        (f32::from(high) - 32_768.0) * scale
    };
    (0..count).map(|_| next()).collect()
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

#[test]
fn a_sum_is_that_in_the_order_of_ranks_and_the_same_bits_on_all() {
    for (world, counts) in [(2, &[1, 7, 1000, 1000][..]), (4, &[3, 4, 5, 1003]), (3, &[0, 2])] {
        let sums = ranks(world, |mut rank| {
            let sum = |(round, count): (u32, &usize)| {
                let mut numbers = numbers_of(rank.rank(), *count, round);
                rank.sum(&mut numbers).expect("all are there");
                numbers
            };
            (0..).zip(counts).map(sum).collect::<Vec<_>>()
        });
        for (round, count) in (0..).zip(counts) {
            let mut expected = numbers_of(0, *count, round);
            for rank in 1..world {
                let own = numbers_of(rank, *count, round);
                expected.iter_mut().zip(own).for_each(|(sum, own)| *sum += own);
            }
            for (rank, sums) in sums.iter().enumerate() {
                let found = &sums[usize::try_from(round).expect("few rounds")];
                assert_eq!(bits(found), bits(&expected), "{count} numbers on rank {rank} of {world}");
            }
        }
    }
}

#[test]
fn another_order_would_give_another_sum() {
    let [a, b, c] = [0, 1, 2].map(|rank| numbers_of(rank, 1000, 0));
    let sum = |[x, y, z]: [&[f32]; 3]| -> Vec<u32> {
        x.iter().zip(y).zip(z).map(|((x, y), z)| (x + y + z).to_bits()).collect()
    };
    assert_ne!(sum([&a, &b, &c]), sum([&c, &b, &a]), "the test above sees no order");
}

#[test]
fn words_are_told_to_all_in_the_order_of_ranks() {
    let heard = ranks(4, |mut rank| {
        (0..50).map(|round| rank.gather(&[u64::from(rank.rank()), round]).expect("all are there")).collect::<Vec<_>>()
    });
    let expected: Vec<Vec<Vec<u64>>> = (0..50).map(|round| (0..4).map(|rank| vec![rank, round]).collect()).collect();
    assert!(heard.iter().all(|heard| *heard == expected));
}

#[test]
fn pieces_are_as_many_as_ranks_and_hold_all_numbers() {
    for numbers in 0..20 {
        for world in 1..6_u32 {
            let piece = piece_numbers(numbers, world);
            let pieces = usize::try_from(world).expect("few");
            assert!(piece > 0 && piece * pieces >= numbers && piece * pieces < numbers + 2 * pieces);
        }
    }
}

#[test]
fn a_rank_that_goes_away_is_named_on_all_others() {
    let said = ranks(4, |mut rank| {
        let mut numbers = [1.0, 2.0];
        rank.sum(&mut numbers).expect("all are there");
        if rank.rank() == 2 {
            return String::new();
        }
        let error = loop {
            if let Err(error) = rank.sum(&mut numbers) {
                break error;
            }
        };
        error.to_string()
    });
    let gone = "rank 2 of 4 has gone";
    assert_eq!(said, [gone, gone, "", gone]);
}

#[test]
fn rank_0_that_goes_away_is_named() {
    let said = ranks(3, |mut rank| match rank.rank() {
        0 => String::new(),
        _ => rank.gather(&[1]).expect_err("rank 0 is gone").to_string(),
    });
    assert_eq!(said, ["", "rank 0 of 3 has gone", "rank 0 of 3 has gone"]);
}

#[test]
fn a_rank_that_lives_and_says_nothing_is_given_up() {
    let (_folder, socket) = meeting_place();
    let (held, release) = std::sync::mpsc::channel::<()>();
    thread::scope(|scope| {
        let socket = &socket;
        let silent = scope.spawn(move || {
            let rank = join(socket, 1, 3);
            let _ = release.recv();
            drop(rank);
        });
        let other = scope.spawn(move || join(socket, 2, 3).gather(&[]).expect_err("rank 1 is silent").to_string());
        let zero = Shared::join_at(socket, &shard(0, 3, 120), &plan(1), Duration::from_secs(1));
        let error = zero.expect("all come").gather(&[]).expect_err("rank 1 is silent").to_string();
        assert_eq!(error, "rank 1 of 3 has said nothing for 1 s");
        assert_eq!(other.join().expect("no panic"), error);
        drop(held);
        silent.join().expect("no panic");
    });
}

/// What rank 0 and another trainer, each with its own shard and plan, say of one another.
fn refusal(zero: (Shard, Identity), other: (Shard, Identity)) -> [Result<(), String>; 2] {
    let (_folder, socket) = meeting_place();
    let said = |joined: Result<Shared, CollectiveError>| joined.map(drop).map_err(|error| error.to_string());
    thread::scope(|scope| {
        let place = &socket;
        let other = scope.spawn(move || said(Shared::join_at(place, &other.0, &other.1, PATIENCE)));
        let zero = said(Shared::join_at(place, &zero.0, &zero.1, PATIENCE));
        let other = other.join().expect("no panic");
        assert!(!socket.exists(), "the socket stays");
        [zero, other]
    })
}

#[test]
fn ranks_that_were_started_otherwise_are_refused_with_the_first_difference() {
    let check = |zero, other, expected: Expect| {
        let [zero, other] = refusal(zero, other);
        assert_eq!(zero, other, "both say the same");
        expected.assert_eq(&zero.expect_err("they differ"));
    };
    check(
        (shard(0, 2, 120), plan(3)),
        (shard(1, 2, 120), plan(2)),
        expect!["rank 1 was started with --epochs 2, rank 0 with 3: start all ranks alike"],
    );
    let world = |world: &str| [("--world".to_owned(), world.to_owned())].into_iter().collect::<Identity>();
    check(
        (shard(0, 2, 120), world("2")),
        (shard(3, 4, 120), world("4")),
        expect!["rank 3 was started with --world 4, rank 0 with 2: start all ranks alike"],
    );
}

#[test]
fn a_rank_that_does_not_come_is_named() {
    let [zero, other] = refusal((shard(0, 4, 1), plan(1)), (shard(2, 4, 120), plan(1)));
    let said = "ranks 1, 3 of 4 have not come for 1 s: start all ranks with the same --out, --group and --world, or wait \
                longer with --rank-limit";
    assert_eq!([zero, other], [Err(said.to_owned()), Err(said.to_owned())]);
    let (_folder, socket) = meeting_place();
    let error = Shared::join_at(&socket, &shard(1, 2, 1), &plan(1), PATIENCE).expect_err("nobody is there");
    assert!(error.to_string().starts_with("rank 0 of 2 has not come for 1 s: "), "{error}");
}

#[test]
fn two_that_say_they_are_one_rank_are_refused() {
    let (_folder, socket) = meeting_place();
    thread::scope(|scope| {
        let place = &socket;
        let twins: Vec<_> = (0..2)
            .map(|_| scope.spawn(move || Shared::join_at(place, &shard(1, 3, 120), &plan(1), PATIENCE).map(drop)))
            .collect();
        let zero = Shared::join_at(&socket, &shard(0, 3, 120), &plan(1), PATIENCE).expect_err("one is too many");
        assert_eq!(zero.to_string(), "two trainers say that they are rank 1 of 3: give each its own --rank");
        for twin in twins {
            let error = twin.join().expect("no panic").expect_err("one is too many");
            assert_eq!(error.to_string(), zero.to_string());
        }
    });
}

#[test]
fn one_that_ended_while_it_waited_is_replaced() {
    let (_folder, socket) = meeting_place();
    thread::scope(|scope| {
        let place = &socket;
        let zero = scope.spawn(move || join(place, 0, 3).gather(&[7]));
        let dead = loop {
            if let Ok(dead) = UnixStream::connect(place) {
                break dead;
            }
            thread::yield_now();
        };
        fd::send(&dead, &FromRank::Hello { rank: 1, plan: plan(1) }, None).expect("sent");
        drop(dead);
        // Also when it was the last one that was waited for.
        let two = scope.spawn(move || join(place, 2, 3).gather(&[9]));
        let one = join(place, 1, 3).gather(&[8]);
        for heard in [one, two.join().expect("no panic"), zero.join().expect("no panic")] {
            assert_eq!(heard.expect("all are there"), [[7], [8], [9]]);
        }
    });
}

#[test]
fn strangers_and_what_a_dead_rank_0_left_are_no_hindrance() {
    let (_folder, socket) = meeting_place();
    // As a kill leaves it: nobody listens there any more.
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("bound"));
    thread::scope(|scope| {
        let place = &socket;
        let zero = scope.spawn(move || join(place, 0, 2).gather(&[7]));
        let stranger = loop {
            // Until rank 0 has replaced what was left.
            if let Ok(stranger) = UnixStream::connect(place) {
                break stranger;
            }
            thread::yield_now();
        };
        fd::send(&stranger, &FromRank::Words(vec![1]), None).expect("sent");
        drop(stranger);
        let heard = join(place, 1, 2).gather(&[8]).expect("both are there");
        assert_eq!(heard, [[7], [8]]);
        assert_eq!(zero.join().expect("no panic").expect("both are there"), heard);
    });
    assert!(!socket.exists(), "the socket stays");
}

#[test]
fn a_sum_of_different_counts_is_refused() {
    let said = ranks(2, |mut rank| {
        let mut numbers = vec![0.0; if rank.rank() == 0 { 3 } else { 5 }];
        rank.sum(&mut numbers).expect_err("they differ").to_string()
    });
    let from = |rank, theirs, ours| {
        format!("rank {rank} brings {theirs} numbers, this one {ours}: run all ranks from one build")
    };
    assert_eq!(said, [from(1, 5, 3), from(0, 3, 5)]);
}

#[test]
fn groups_meet_at_places_of_their_own_that_fit_a_socket() {
    let places = [("g", "/a", None), ("h", "/a", None), ("g", "/b", None), ("g", "/a", Some(7)), ("g/", "a", None)];
    let places = places.map(|(group, run, launcher)| {
        let training = Joint { run: Path::new(run), launcher, wait_limit: Duration::ZERO };
        meeting::place(group, &training)
    });
    assert_eq!(BTreeSet::from(places.clone()).len(), places.len(), "{places:?}");
    let [one, ..] = places;
    let name = one.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(name.starts_with("ranks-") && name.len() == "ranks-0123456789abcdef.sock".len(), "{name}");
    let long = PathBuf::from(format!("/tmp/{}", "a".repeat(120)));
    let error = Shared::join_at(&long, &shard(0, 2, 1), &plan(1), PATIENCE).expect_err("too long");
    assert!(error.to_string().contains(": that is 18 bytes too long for a socket: set XDG_RUNTIME_DIR"), "{error}");
}
