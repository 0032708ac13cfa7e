//! The samplers: which samples an epoch has, how often, and in which order.

use batchmill_protocol::position::Position;

use crate::rows::Rows;
use crate::support::{Batch, Folder, survey};

/// The samples of one epoch, in order.
fn epoch_in(folder: &Folder, table: &str, epoch: u64) -> Vec<u64> {
    let pipeline = folder.open_by(&Rows::registry(), table).unwrap();
    let fields = survey(&pipeline).unwrap();
    let batches = (0..pipeline.extent().steps())
        .map(|step| Batch::fill(&pipeline, &fields, Position { epoch, step }).unwrap().order());
    batches.flatten().map(|(index, _)| index).collect()
}

fn epoch(table: &str, number: u64) -> Vec<u64> {
    epoch_in(&Folder::new(), table, number)
}

pub(crate) fn table(dataset: &str, sampler: &str, rest: &str) -> String {
    format!("dataset = {{ kind = 'rows', {dataset} }}\nsampler = {{ kind = {sampler} }}\n{rest}")
}

fn sorted(mut order: Vec<u64>) -> Vec<u64> {
    order.sort_unstable();
    order
}

/// Requires that samples were drawn as often as their shares of all draws say.
///
/// The statistic has `shares - 1` degrees of freedom: as mean, and half as variance. Six standard deviations are allowed.
fn assert_drawn_by_share(order: &[u64], shares: &[f64], seed: u64) {
    let mut counts = vec![0.0; shares.len()];
    order.iter().for_each(|&index| counts[usize::try_from(index).unwrap()] += 1.0);
    let sum = shares.iter().sum::<f64>();
    let draws = order.len() as f64;
    let mut statistic = 0.0;
    let mut freedom = -1.0;
    for (count, share) in counts.iter().zip(shares) {
        let expected = draws * share / sum;
        if expected == 0.0 {
            assert!(*count == 0.0, "seed {seed}: what weighs nothing was drawn {count} times");
        } else {
            statistic += (count - expected).powi(2) / expected;
            freedom += 1.0;
        }
    }
    let limit = freedom + 6.0 * (2.0_f64 * freedom).sqrt();
    assert!(statistic < limit, "seed {seed}: chi-square {statistic} of {freedom} degrees of freedom: {counts:?}");
}

#[test]
fn every_epoch_visits_every_sample_once_in_another_order() {
    let order = |number| epoch(&table("len = 1000", "'shuffled'", "seed = 7"), number);
    assert_eq!(sorted(order(0)), (0..1000).collect::<Vec<_>>());
    assert_ne!(order(0), order(1));
    assert_eq!(order(3), order(3));
}

#[test]
fn shuffled_takes_as_many_samples_as_asked_for() {
    let order = |dataset, samples, number| {
        epoch(&table(dataset, &format!("'shuffled', samples = {samples}"), "batch_size = 3"), number)
    };
    // Golden, from a second implementation in Python.
    assert_eq!(order("len = 10", 4, 1), [9, 0, 4, 1]);
    assert_eq!(order("len = 4", 10, 0), [2, 1, 0, 3, 2, 0, 3, 1, 2, 0]);
    assert_eq!(order("len = 4", 10, 1), [1, 2, 0, 3, 3, 2, 0, 1, 2, 0]);
    // Fewer are the start of the whole order; more are whole orders.
    assert_eq!(order("len = 10", 4, 1), order("len = 10", 10, 1)[..4]);
    let twice = order("len = 10", 20, 3);
    assert_eq!(sorted(twice[..10].to_vec()), sorted(twice[10..].to_vec()));
    assert_ne!(twice[..10], twice[10..]);
}

#[test]
fn shuffled_keeps_to_windows() {
    let order =
        |window, number| epoch(&table("len = 11", &format!("'shuffled', window = {window}"), "batch_size = 4"), number);
    assert_eq!(order(4, 0), [9, 10, 8, 7, 4, 5, 6, 3, 1, 2, 0]);
    assert_eq!(order(4, 1), [10, 8, 9, 2, 1, 3, 0, 4, 5, 7, 6]);
    assert_eq!(order(1, 1), epoch(&table("len = 11", "'shuffled'", ""), 1));
    assert_eq!(sorted(order(100, 7)), (0..11).collect::<Vec<_>>());
}

#[test]
fn shuffled_keeps_to_shards() {
    let shards = "len = 16, shards = [5, 0, 3, 7, 1]";
    let order = |sampler, number| epoch(&table(shards, sampler, "batch_size = 5"), number);
    assert_eq!(order("'shuffled', lanes = 2, block = 3", 0), [5, 15, 7, 6, 1, 2, 0, 4, 3, 10, 8, 9, 13, 12, 11, 14]);
    // Those where the user does not say: every block is a whole shard.
    assert_eq!(order("'shuffled'", 2), order("'shuffled', lanes = 4, block = 1024", 2));
    assert_ne!(order("'shuffled'", 2), order("'shuffled', lanes = 3", 2));
    // A window is what the user asked for.
    assert_eq!(order("'shuffled', window = 1", 2), epoch(&table("len = 16", "'shuffled'", ""), 2));
}

#[test]
fn draws_with_replacement_are_independent_and_even() {
    // Golden, from a second implementation in Python.
    let golden = "'with-replacement', samples = 12";
    assert_eq!(epoch(&table("len = 10", golden, ""), 0), [6, 3, 9, 8, 0, 5, 2, 1, 5, 0, 4, 8]);
    assert_eq!(epoch(&table("len = 10", golden, "seed = 7"), 3), [8, 3, 7, 3, 5, 5, 5, 6, 0, 6, 6, 5]);
    assert_eq!(epoch(&table("len = 10", "'with-replacement'", ""), 0).len(), 10);
    for seed in 0..20 {
        let draws =
            table("len = 50", "'with-replacement', samples = 10000", &format!("seed = {seed}\nbatch_size = 10000"));
        let order = epoch(&draws, seed);
        assert_drawn_by_share(&order, &[1.0; 50], seed);
        // Pairs of neighbours as well: a draw says nothing of the next.
        let pairs: Vec<_> = order.windows(2).map(|pair| pair[0] % 7 * 7 + pair[1] % 7).collect();
        let share = |rest: u64| if rest == 0 { 8.0 } else { 7.0 };
        let shares: Vec<_> = (0..49).map(|pair| share(pair / 7) * share(pair % 7)).collect();
        assert_drawn_by_share(&pairs, &shares, seed);
    }
}

#[test]
fn samples_are_drawn_by_their_weights() {
    let weights = "len = 7, weight = [1, 0, 2.5, 0, 0.5, 4, 0]";
    // Golden, from a second implementation in Python.
    let golden = "'weighted', column = 'weight', samples = 16";
    assert_eq!(epoch(&table(weights, golden, ""), 0), [5, 5, 5, 5, 5, 5, 5, 5, 0, 5, 2, 4, 5, 5, 5, 2]);
    assert_eq!(epoch(&table(weights, golden, "seed = 9"), 4), [2, 5, 5, 5, 0, 2, 4, 2, 5, 5, 5, 5, 5, 5, 0, 0]);
    assert_eq!(epoch(&table(weights, "'weighted', column = 'weight'", ""), 0).len(), 7);
    for seed in 0..20 {
        let rest = format!("seed = {seed}\nbatch_size = 10000");
        let order = epoch(&table(weights, "'weighted', column = 'weight', samples = 10000", &rest), seed);
        assert_drawn_by_share(&order, &[1.0, 0.0, 2.5, 0.0, 0.5, 4.0, 0.0], seed);
    }
}

#[test]
fn samples_are_drawn_by_the_weights_of_their_classes() {
    let labels = "len = 6, label = [0, 0, 0, 2, 1, 0]";
    let shares = [1.0, 1.0, 1.0, 6.0, 0.5, 1.0];
    for (dataset, weights) in [
        (labels.to_owned(), "[1, 0.5, 6]"),
        (labels.to_owned(), "[4_000_000_000, 2_000_000_000, 24_000_000_000]"),
        (format!("{labels}, classes = ['ant', 'bee', 'cat']"), "[1, 0.5, 6]"),
        (format!("{labels}, classes = ['ant', 'bee', 'cat']"), "{ cat = 6, bee = 0.5 }"),
    ] {
        for seed in 0..10 {
            let rest = format!("seed = {seed}\nbatch_size = 10000");
            let sampler = format!("'weighted', weights = {weights}, samples = 10000");
            assert_drawn_by_share(&epoch(&table(&dataset, &sampler, &rest), 1), &shares, seed);
        }
    }
    let other_field = table("len = 2, length = [1, 0]", "'weighted', weights = [0, 1], field = 'length'", "");
    assert_eq!(epoch(&other_field, 0), [0, 0]);
}

#[test]
fn classes_occur_equally_often() {
    let labels = "len = 10, label = [0, 2, 2, 0, 5, 2, 0, 2, 2, 2]";
    // Golden, from a second implementation in Python.
    let order = |number| epoch(&table(labels, "'class-balanced'", "batch_size = 4"), number);
    assert_eq!(order(0), [1, 0, 4, 4, 2, 6, 5, 3, 4]);
    assert_eq!(order(1), [8, 4, 0, 9, 4, 6, 7, 3, 4]);
    assert_eq!(order(2), [5, 4, 6, 9, 4, 3, 7, 0, 4]);
    // The passes of class 2 go on from one epoch to the next: two epochs of three rounds are one.
    let of_class_2 = |index: &u64| ![0, 3, 4, 6].contains(index);
    let two_epochs = order(4).into_iter().chain(order(5)).filter(of_class_2).collect();
    assert_eq!(sorted(two_epochs), [1, 2, 5, 7, 8, 9]);
    // 30 rounds: ten passes through the three samples of class 0, five through the six of class 2.
    let mut counts = [0_u32; 10];
    let long = epoch(&table(labels, "'class-balanced', samples = 90", ""), 3);
    long.iter().for_each(|&index| counts[usize::try_from(index).unwrap()] += 1);
    assert_eq!(counts, [10, 5, 5, 10, 30, 5, 10, 5, 5, 5]);
    // Every round has every class once.
    let class = |index: &u64| [0, 2, 2, 0, 5, 2, 0, 2, 2, 2][usize::try_from(*index).unwrap()];
    for round in long.chunks(3) {
        assert_eq!(sorted(round.iter().map(class).collect()), [0, 2, 5]);
    }
    let other_field = table("len = 3, length = [0.5, 1, 0.5]", "'class-balanced', field = 'length', samples = 4", "");
    assert_eq!(epoch(&other_field, 0).iter().filter(|&&index| index == 1).count(), 2);
}

#[test]
fn batches_have_samples_of_about_one_length() {
    let lengths: Vec<u64> = (0..14).map(|index| index * 7 % 11).collect();
    let golden = table(
        &format!("len = 14, length = {lengths:?}"),
        "'batch-by-length', field = 'length', bucket = 2",
        "batch_size = 3",
    );
    // Golden, from a second implementation in Python.
    assert_eq!(epoch(&golden, 0), [10, 4, 9, 13, 5, 11, 8, 2, 0, 7, 1, 12, 3, 6]);
    assert_eq!(epoch(&golden, 1), [12, 1, 9, 0, 8, 2, 7, 10, 4, 13, 5, 11, 6, 3]);
    let lengths: Vec<u64> = (0..1000).map(|index| index * 7919 % 1009).collect();
    for (bucket, spread_max) in [("", 1009), (", bucket = 1", 33), (", bucket = 4", 130)] {
        let sampler = format!("'batch-by-length', field = 'length'{bucket}");
        let order = epoch(&table(&format!("len = 1000, length = {lengths:?}"), &sampler, "batch_size = 32"), 5);
        assert_eq!(sorted(order.clone()), (0..1000).collect::<Vec<_>>());
        for batch in order.chunks(32) {
            let of_batch = sorted(batch.iter().map(|&index| lengths[usize::try_from(index).unwrap()]).collect());
            let spread = of_batch[of_batch.len() - 1] - of_batch[0];
            assert!(spread <= spread_max, "{spread} with {bucket:?}");
        }
        // The short one is the last, and of the longest.
        let last = &order[992..];
        let shortest = last.iter().map(|&index| lengths[usize::try_from(index).unwrap()]).min().unwrap();
        assert!(shortest >= if bucket == ", bucket = 1" { 990 } else { 0 });
    }
}

#[test]
fn chosen_samples_are_visited_in_their_order_or_a_random_one() {
    let folder = Folder::new().with("order.txt", "3\n1\n\n 4 \r\n1\n5");
    let order = |sampler: &str, number| epoch_in(&folder, &table("len = 10", sampler, "batch_size = 2"), number);
    assert_eq!(order("'subset', indices = [7, 0, 7]", 0), [7, 0, 7]);
    assert_eq!(order("'subset', range = [2, 5]", 1), [2, 3, 4]);
    assert_eq!(order("'subset', range = [1, 10, 4]", 1), [1, 5, 9]);
    assert_eq!(order("'subset', file = 'order.txt'", 1), [3, 1, 4, 1, 5]);
    assert_eq!(order("'from-file', file = 'order.txt'", 1), [3, 1, 4, 1, 5]);
    let shuffled = |number| order("'from-file', file = 'order.txt', shuffled = true", number);
    assert_eq!(sorted(shuffled(0)), [1, 1, 3, 4, 5]);
    assert!((1..10).any(|number| shuffled(number) != shuffled(0)));
    assert_eq!(sorted(order("'subset', range = [0, 10, 3], shuffled = true", 4)), [0, 3, 6, 9]);
}

#[test]
fn another_order_in_the_file_is_another_stream() {
    let folder = Folder::new().with("order.txt", "3\n1\n");
    let hash = |folder: &Folder| {
        folder
            .open_by(&Rows::registry(), &table("len = 10", "'from-file', file = 'order.txt'", ""))
            .unwrap()
            .identity()
            .hash()
    };
    let before = hash(&folder);
    assert_ne!(before, hash(&folder.with("order.txt", "1\n3\n")));
}

#[test]
fn orders_without_a_table_reach_a_trillion() {
    for sampler in [
        "'with-replacement'",
        "'with-replacement', samples = 1000",
        "'shuffled', window = 1000",
        "'shuffled', samples = 1_000_000_000_000_000",
        "'subset', range = [5, 1_000_000_000_000, 7], shuffled = true",
    ] {
        let table = format!(
            "dataset = {{ kind = 'synthetic', len = 1_000_000_000_000, shape = [1] }}\nsampler = {{ kind = {sampler} }}\nbatch_size = 4"
        );
        let pipeline = Folder::new().open(&table).unwrap();
        let fields = survey(&pipeline).unwrap();
        for step in [0, pipeline.extent().steps() - 1] {
            let batch = Batch::fill(&pipeline, &fields, Position { epoch: 7, step }).unwrap();
            assert!(batch.order().iter().all(|(index, _)| *index < 1_000_000_000_000), "{sampler}");
        }
    }
}
