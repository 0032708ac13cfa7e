//! Ranks read their rows of one global order, however many they are, and whoever of them is killed.

use std::fs;
use std::ops::Range;
use std::path::Path;

use batchmill_protocol::client::{Member, Subscription};
use batchmill_protocol::digest::Digest;
use batchmill_protocol::position::Position;
use batchmill_protocol::share::{Shard, Share};
use batchmill_protocol::status::StreamStatus;
use batchmill_tests::reader::Reader;
use batchmill_tests::{Contents, Loader, Programs, folder, programs, take};
use expect_test::expect;
use tempfile::TempDir;

const PROGRAMS: Programs = programs!();

/// Batches of an epoch.
const STEPS: u64 = 250;

/// Serves a stream of numbers with few slots, and one whose last batch is short.
fn numbers() -> (TempDir, Loader) {
    let data = folder();
    let table = |name: &str, len: u32| {
        format!(
            "[stream.{name}]\nbatch_size = 16\nsampler = 'shuffled'\n\
             dataset = {{ kind = 'numbers', len = {len}, width = 8 }}\n"
        )
    };
    let configuration = format!("workers = 2\nmemory = '256KiB'\n{}{}", table("n", 4000), table("short", 4001));
    let loader = PROGRAMS.serve(data.path(), &configuration);
    (data, loader)
}

/// Has this process be ranks of one epoch, all of them or not.
fn ranks(loader: &Loader, ranks: Range<u32>, world: u32, from: Position) -> Vec<Member> {
    let shard = |rank| Shard { group: "g".to_owned(), rank, world, limit_s: 60 };
    let subscription = Subscription::new("n").epochs(0, Some(1)).from(from);
    ranks.map(|rank| loader.attach(&subscription.clone().sharing(Share::Sharded(shard(rank))))).collect()
}

fn alone(loader: &Loader) -> Vec<Contents> {
    take(&mut loader.attach(&Subscription::new("n").epochs(0, Some(1))), usize::MAX)
}

/// Has all ranks read so many steps; puts what they read together, as one that reads alone would get it.
fn read_together(ranks: &mut [Member], steps: u64) -> Vec<Contents> {
    let rows = 16 / u32::try_from(ranks.len()).expect("few");
    let step = |_| {
        let mut whole: Option<Contents> = None;
        let (mut summed, mut told) = (Digest::default(), None);
        for rank in &mut *ranks {
            let batch = rank.next().expect("a batch").expect("more of them");
            let part = Contents::of(&batch, rank);
            summed += batch.recomputed_digest();
            assert_eq!(*told.get_or_insert(batch.digest()), batch.digest(), "all are told of the same batch");
            assert_eq!(part.rows, (rows, 0), "all have as many");
            match &mut whole {
                None => whole = Some(part),
                Some(whole) => {
                    assert_eq!(part.position, whole.position);
                    whole.rows = (whole.rows.0 + part.rows.0, whole.rows.1 + part.rows.1);
                    whole.indices.extend(part.indices);
                    whole.fields.iter_mut().zip(part.fields).for_each(|(field, more)| field.extend(more));
                }
            }
        }
        assert_eq!(Some(summed), told, "the digests of all rows add up to the batch's");
        whole.expect("there are ranks")
    };
    (0..steps).map(step).collect()
}

/// Starts a rank of four that reads one epoch, with a ledger of its own.
fn rank_of_four(loader: &Loader, data: &Path, rank: usize, more: &[&str]) -> Reader {
    let (rank, ledger) = (rank.to_string(), data.join(format!("{rank}.ledger")).display().to_string());
    let shard = ["--stream", "n", "--share", "sharded", "--rank", &rank, "--world", "4", "--ledger", &ledger];
    Reader::start(loader, &[&shard, more].concat())
}

/// Sees that every rank's ledger says what that of a lone reader does.
fn ledgers_are_as_alone(loader: &Loader, data: &Path) {
    let lone = data.join("lone.ledger");
    loader.drain(&["--stream", "n", "--ledger", lone.to_str().expect("ours")]);
    for rank in 0..4 {
        let ledger = data.join(format!("{rank}.ledger"));
        let said = PROGRAMS.says(["verify".as_ref(), lone.as_os_str(), ledger.as_os_str()]);
        assert!(said.ends_with("250 batches are in both, and the same\n"), "{said}");
        assert_eq!(fs::read(&lone).ok(), fs::read(ledger).ok(), "rank {rank}");
    }
}

#[test]
fn the_rows_of_all_ranks_are_the_batches_of_a_lone_reader_and_are_made_once() {
    let (_data, loader) = numbers();
    let expected = alone(&loader);
    let made = loader.status().streams[0].samples_made;
    let mut four = ranks(&loader, 0..4, 4, Position::default());
    assert_eq!(read_together(&mut four, STEPS), expected);
    for rank in &mut four {
        assert!(rank.next().expect("the end").is_none(), "all have as many");
    }
    assert_eq!(loader.status().streams[0].samples_made, 2 * made);
    drop(four);
    loader.stop();
}

#[test]
fn another_number_of_ranks_goes_on_in_the_same_order() {
    let (_data, loader) = numbers();
    let expected = alone(&loader);
    let mut four = ranks(&loader, 0..4, 4, Position::default());
    let mut seen = read_together(&mut four, 100);
    drop(four);
    loader.wait_until("all gone", |status| status.streams[0].members.is_empty());
    let mut two = ranks(&loader, 0..2, 2, Position { epoch: 0, step: 100 });
    seen.extend(read_together(&mut two, STEPS - 100));
    assert_eq!(seen, expected);
    drop(two);
    loader.stop();
}

#[test]
fn ranks_write_the_ledger_of_a_lone_reader() {
    let (data, loader) = numbers();
    let four: Vec<_> = (0..4).map(|rank| rank_of_four(&loader, data.path(), rank, &[])).collect();
    four.into_iter().for_each(|rank| drop(rank.digests()));
    ledgers_are_as_alone(&loader, data.path());
    loader.stop();
}

#[test]
fn a_rank_that_is_killed_is_replaced_and_all_go_on() {
    let (data, loader) = numbers();
    let killed = rank_of_four(&loader, data.path(), 2, &["--step-time", "0.001"]);
    let others: Vec<_> = [0, 1, 3].map(|rank| rank_of_four(&loader, data.path(), rank, &[])).into();
    killed.wait_until(&loader, "in the middle", |member| member.cursor.step > 100);
    killed.kill();
    // All slots are kept for the one that is missing, and it comes back from further behind than where it was.
    loader.wait_until("the others wait", |status| {
        let StreamStatus { members, lanes, .. } = &status.streams[0];
        members.len() == 3
            && members.iter().all(|member| member.leases == 0)
            && matches!(&lanes[..], [lane] if lane.slots == lane.slots_max)
    });
    let replaced = rank_of_four(&loader, data.path(), 2, &["--resume"]);
    for rank in others.into_iter().chain([replaced]) {
        rank.digests();
    }
    ledgers_are_as_alone(&loader, data.path());
    loader.stop();
}

#[test]
fn a_rank_that_is_missing_is_named() {
    let (_data, loader) = numbers();
    let rank = |rank: &str| {
        let shard = ["--share", "sharded", "--rank", rank, "--world", "2", "--rank-limit", "1"];
        Reader::start(&loader, &[&["--stream", "n"][..], &shard].concat())
    };
    // Where it was by then is as may be.
    let told = |reader: Reader| {
        let told = reader.told();
        let reason = told.strip_prefix("the loader ended this trainer before epoch 0 step ");
        let reason =
            reason.unwrap_or_else(|| panic!("{told}")).trim_start_matches(|digit: char| digit.is_ascii_digit());
        reason.to_owned()
    };
    expect![": rank 1 of 2 did not come within 1 s: start all ranks"].assert_eq(&told(rank("0")));
    let [stays, leaves] = ["0", "1"].map(rank);
    leaves.wait_until(&loader, "at work", |member| member.cursor.step > 20);
    leaves.kill();
    expect![": rank 1 of 2 has been gone for 1 s: start it again, or all ranks from their common checkpoint"]
        .assert_eq(&told(stays));
    loader.stop();
}

#[test]
fn ranks_that_cannot_be_are_refused() {
    let (_data, loader) = numbers();
    let told = |stream: &str, rank: &str, world: &str| {
        Reader::start(&loader, &["--stream", stream, "--share", "sharded", "--rank", rank, "--world", world]).told()
    };
    expect![
        "stream `n`: 3 ranks cannot share batches of 16 rows equally: let batch_size be 15, or another multiple of 3"
    ]
    .assert_eq(&told("n", "0", "3"));
    expect![[
        r#"stream `short`: 2 ranks cannot share the last batch of an epoch equally, it has 1 rows: let tail be "drop" or "pad""#
    ]]
    .assert_eq(&told("short", "0", "2"));

    let shard = Shard { group: "default".to_owned(), rank: 0, world: 2, limit_s: 60 };
    let there = loader.attach(&Subscription::new("n").sharing(Share::Sharded(shard)));
    expect!["rank 0 of 2 is there already: wait until it has ended, give each its own --rank, or another run another --group"]
        .assert_eq(&told("n", "0", "2"));
    expect!["group `default` has 2 ranks, not 4: end those first, or give these another --group"]
        .assert_eq(&told("n", "1", "4"));
    drop(there);
    loader.stop();
}

#[test]
fn a_launcher_says_which_rank_each_is() {
    let (data, loader) = numbers();
    let rank = |variables: [(&str, &str); 2]| {
        let ledger = data.path().join(format!("{}.ledger", variables[0].1)).display().to_string();
        let mut command =
            loader.client(&["drain", "--json", "--digest", "--stream", "n", "--share", "sharded", "--ledger", &ledger]);
        Reader::spawn(command.envs(variables))
    };
    let four = [
        rank([("RANK", "0"), ("WORLD_SIZE", "4")]),
        rank([("SLURM_PROCID", "1"), ("SLURM_NTASKS", "4")]),
        rank([("OMPI_COMM_WORLD_RANK", "2"), ("OMPI_COMM_WORLD_SIZE", "4")]),
    ];
    let shares = four.iter().map(|rank| rank.wait_until(&loader, "there", |_| true).share).collect::<Vec<_>>();
    assert_eq!(shares, ["rank 0 of 4", "rank 1 of 4", "rank 2 of 4"]);
    let last = rank([("RANK", "3"), ("WORLD_SIZE", "4")]);
    for rank in four.into_iter().chain([last]) {
        rank.digests();
    }
    ledgers_are_as_alone(&loader, data.path());
    expect![[r#"RANK is "first", not a number from 0 on: unset it, or give --rank and --world"#]]
        .assert_eq(&rank([("RANK", "first"), ("WORLD_SIZE", "4")]).told());
    loader.stop();
}
