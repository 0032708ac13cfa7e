//! An order of records in shards that reads each shard from its start to its end, block by block.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::permutation::Permutation;
use crate::random::BLOCK_OP;

/// Epochs whose deals are kept: readers stand in one or two, and a few that fell behind in others.
const DEALS_MAX: usize = 4;

/// A shuffled order of all records of some shards, for storage that is read in order.
///
/// For each epoch the shards are permuted and dealt to the lanes like cards. A lane goes through its shards one after
/// the other, through a shard in blocks of so many records, and through a block's records in an order drawn for it.
/// Lanes take turns, one record each; one that has no more leaves the rotation. So at any time each lane needs one
/// block of one shard, and nothing is carried from one record to the next: no buffer is state, as a shuffle buffer
/// would be.
///
/// What stands at a place follows from lengths, lanes, block, seed and epoch alone. A place is found in a time that
/// grows with the logarithm of the number of shards, once the epoch's deal is made, which looks at each shard. Golden
/// vectors hold the order for good.
pub struct Blocks {
    /// Where each shard begins, and the end of the last.
    starts: Vec<u64>,
    lanes: usize,
    block: u64,
    seed: u64,
    /// Those of the last epochs, the latest last.
    deals: Mutex<Vec<Arc<Deal>>>,
}

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The lane that reads it.
    pub lane: usize,
    /// The place of its shard among all.
    pub shard: usize,
    /// Its place in the shard.
    pub record: u64,
}

impl Blocks {
    /// The order of the records of `shards`, given their lengths; `None` when they hold more than 2^64 records.
    ///
    /// No lanes and blocks of nothing count as 1.
    pub fn new(shards: &[u64], lanes: usize, block: u64, seed: u64) -> Option<Self> {
        let mut starts = Vec::with_capacity(shards.len() + 1);
        let mut end = 0_u64;
        starts.push(end);
        for shard in shards {
            end = end.checked_add(*shard)?;
            starts.push(end);
        }
        Some(Self { starts, lanes: lanes.max(1), block: block.max(1), seed, deals: Mutex::default() })
    }

    /// The records of all shards.
    pub fn len(&self) -> u64 {
        self.starts[self.starts.len() - 1]
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The index, counted through all shards in their own order, of the record at `position` of `epoch`.
    ///
    /// # Panics
    /// When `position` is not below the length.
    pub fn index(&self, epoch: u64, position: u64) -> u64 {
        let Record { shard, record, .. } = self.record(epoch, position);
        self.starts[shard] + record
    }

    /// The record at `position` of `epoch`.
    ///
    /// # Panics
    /// When `position` is not below the length.
    pub fn record(&self, epoch: u64, position: u64) -> Record {
        let len = self.len();
        assert!(position < len, "place {position} lies outside {len} records");
        let deal = self.deal(epoch);
        let (lane, turn) = deal.turn(position);
        let (shard, place) = deal.lanes[lane].find(turn);
        let block = place / self.block;
        let start = block * self.block;
        let records = self.block.min(self.starts[shard + 1] - self.starts[shard] - start);
        let order = Permutation::keyed(records, &[self.seed, epoch, BLOCK_OP, shard as u64, block]);
        Record { lane, shard, record: start + order.index(place - start) }
    }

    /// The deal of an epoch, made when it is first asked for.
    fn deal(&self, epoch: u64) -> Arc<Deal> {
        // A deal is never half made: whoever panicked while holding the lock left it whole.
        let mut deals = self.deals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = deals.iter().rposition(|deal| deal.epoch == epoch) {
            return deals[place].clone();
        }
        let deal = Arc::new(Deal::new(&self.starts, self.lanes, self.seed, epoch));
        if deals.len() == DEALS_MAX {
            deals.remove(0);
        }
        deals.push(deal.clone());
        deal
    }
}

impl fmt::Debug for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { starts, lanes, block, seed, .. } = self;
        f.debug_struct("Blocks")
            .field("shards", &(starts.len() - 1))
            .field("records", &self.len())
            .field("lanes", lanes)
            .field("block", block)
            .field("seed", seed)
            .finish()
    }
}

/// Which lane has which shards in one epoch, and which lanes take turns when.
struct Deal {
    epoch: u64,
    lanes: Vec<Lane>,
    /// Ends where there is nothing more.
    phases: Vec<Phase>,
}

/// The shards of one lane in order, without the empty ones, each with the records of the lane up to its end.
#[derive(Default)]
struct Lane {
    shards: Vec<usize>,
    ends: Vec<u64>,
}

/// A stretch of the epoch in which the same lanes take turns.
struct Phase {
    /// The first position.
    start: u64,
    /// The turns that each of the lanes had before.
    turn: u64,
    lanes: Vec<usize>,
}

impl Deal {
    fn new(starts: &[u64], lanes: usize, seed: u64, epoch: u64) -> Self {
        let shards = starts.len() - 1;
        let order = Permutation::new(shards as u64, seed, epoch);
        let mut dealt: Vec<_> = (0..lanes.min(shards)).map(|_| Lane::default()).collect();
        for card in 0..shards {
            // A value below `shards`.
            let shard = usize::try_from(order.index(card as u64)).unwrap_or(0);
            dealt[card % lanes].push(shard, starts[shard + 1] - starts[shard]);
        }
        let mut phases = Vec::new();
        let (mut start, mut turn) = (0, 0);
        loop {
            let active: Vec<_> = (0..dealt.len()).filter(|&lane| dealt[lane].len() > turn).collect();
            // All of them go on until the shortest has no more.
            let Some(end) = active.iter().map(|&lane| dealt[lane].len()).min() else { break };
            let turns = (end - turn) * active.len() as u64;
            phases.push(Phase { start, turn, lanes: active });
            (start, turn) = (start + turns, end);
        }
        Self { epoch, lanes: dealt, phases }
    }

    /// Whose turn a position is, and how many turns that lane had before.
    fn turn(&self, position: u64) -> (usize, u64) {
        let phase = self.phases.partition_point(|phase| phase.start <= position) - 1;
        let Phase { start, turn, lanes } = &self.phases[phase];
        let (round, place) = ((position - start) / lanes.len() as u64, (position - start) % lanes.len() as u64);
        // A remainder below the number of lanes.
        (lanes[usize::try_from(place).unwrap_or(0)], turn + round)
    }
}

impl Lane {
    fn push(&mut self, shard: usize, records: u64) {
        if records > 0 {
            self.ends.push(self.len() + records);
            self.shards.push(shard);
        }
    }

    fn len(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The shard of the record that is the lane's at `turn`, and its place in there before blocks are permuted.
    fn find(&self, turn: u64) -> (usize, u64) {
        let place = self.ends.partition_point(|&end| end <= turn);
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        (self.shards[place], turn - start)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn order(shards: &[u64], lanes: usize, block: u64, seed: u64, epoch: u64) -> Vec<u64> {
        let blocks = Blocks::new(shards, lanes, block, seed).unwrap();
        (0..blocks.len()).map(|position| blocks.index(epoch, position)).collect()
    }

    #[test]
    fn orders_are_what_they_always_were() {
        // Golden, from a second implementation in Python that simulates the rotation record by record.
        let shards = [5, 0, 3, 7, 1];
        assert_eq!(order(&shards, 2, 3, 0, 0), [5, 15, 7, 6, 1, 2, 0, 4, 3, 10, 8, 9, 13, 12, 11, 14]);
        assert_eq!(order(&shards, 2, 3, 0, 1), [7, 0, 5, 2, 6, 1, 15, 4, 10, 3, 9, 8, 13, 11, 12, 14]);
        assert_eq!(order(&shards, 4, 1000, 7, 2), [5, 4, 11, 15, 6, 0, 13, 7, 3, 8, 2, 12, 1, 14, 9, 10]);
        assert_eq!(order(&[6, 6], 1, 2, 1, 0), [1, 0, 2, 3, 4, 5, 6, 7, 8, 9, 11, 10]);
        let shards: Vec<_> = (0..1000).map(|shard| 1000 + shard * 37 % 500).collect();
        let blocks = Blocks::new(&shards, 8, 64, 11).unwrap();
        assert_eq!(blocks.len(), 1_249_500);
        assert_eq!(
            [0, 1, 2, 3, 624_750, 1_249_499].map(|position| blocks.index(5, position)),
            [98_545, 1_164_814, 216_501, 1_012_915, 81_635, 482_266]
        );
    }

    /// Lengths of shards, lanes and block, seed and epoch.
    fn cases() -> impl Strategy<Value = (Vec<u64>, usize, u64, u64, u64)> {
        let shard = prop_oneof![1 => Just(0), 4 => 1_u64..40, 1 => 100_u64..300];
        (vec(shard, 0..30), 1_usize..12, 1_u64..50, any::<u64>(), any::<u64>())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_record_occurs_once_in_an_epoch((shards, lanes, block, seed, epoch) in cases()) {
            let mut order = order(&shards, lanes, block, seed, epoch);
            order.sort_unstable();
            prop_assert_eq!(order, (0..shards.iter().sum()).collect::<Vec<_>>());
        }

        #[test]
        fn a_lane_needs_one_block_at_a_time((shards, lanes, block, seed, epoch) in cases()) {
            let blocks = Blocks::new(&shards, lanes, block, seed).unwrap();
            let mut begun = HashSet::new();
            let mut current = vec![None; lanes];
            let mut owner = vec![None; shards.len()];
            for position in 0..blocks.len() {
                let Record { lane, shard, record } = blocks.record(epoch, position);
                prop_assert!(record < shards[shard]);
                let here = (shard, record / block);
                if current[lane] != Some(here) {
                    prop_assert!(begun.insert(here), "{here:?} is begun again");
                    // A shard is read from its start on, and by one lane.
                    prop_assert!(here.1 == 0 || begun.contains(&(shard, here.1 - 1)));
                    prop_assert_eq!(*owner[shard].get_or_insert(lane), lane);
                    current[lane] = Some(here);
                }
            }
        }

        #[test]
        fn lanes_take_turns_until_they_have_no_more((shards, lanes, block, seed, epoch) in cases()) {
            let blocks = Blocks::new(&shards, lanes, block, seed).unwrap();
            let turns: Vec<_> = (0..blocks.len()).map(|position| blocks.record(epoch, position).lane).collect();
            let mut left = vec![0_u64; lanes];
            turns.iter().for_each(|&lane| left[lane] += 1);
            let mut turns = turns.into_iter();
            while left.iter().any(|&left| left > 0) {
                for (lane, left) in left.iter_mut().enumerate().filter(|(_, left)| **left > 0) {
                    prop_assert_eq!(turns.next(), Some(lane));
                    *left -= 1;
                }
            }
        }
    }

    #[test]
    fn epochs_and_seeds_give_other_orders_and_any_may_be_asked_for_again() {
        let shards = [100; 20];
        let blocks = Blocks::new(&shards, 4, 16, 3).unwrap();
        let epoch = |epoch| (0..blocks.len()).map(|position| blocks.index(epoch, position)).collect::<Vec<_>>();
        let first: Vec<_> = (0..10).map(epoch).collect();
        // More than are kept, and in another order.
        for number in (0..10).rev() {
            assert_eq!(epoch(number), first[usize::try_from(number).unwrap()]);
        }
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), 10);
        assert_ne!(order(&shards, 4, 16, 4, 0), first[0]);
    }

    #[test]
    fn a_hundred_thousand_shards_are_dealt_once_an_epoch() {
        let shards = vec![10_000_000; 100_000];
        let blocks = Blocks::new(&shards, 16, 1024, 1).unwrap();
        assert_eq!(blocks.len(), 1_000_000_000_000);
        let places = (0..50_000).map(|step| step * 19_999_991);
        let seen: HashSet<_> = places.map(|position| blocks.index(2, position)).collect();
        assert_eq!(seen.len(), 50_000);
        assert_eq!(blocks.deals.lock().unwrap().len(), 1);
    }

    #[test]
    fn more_records_than_can_be_counted_are_refused() {
        assert!(Blocks::new(&[u64::MAX, 1], 1, 1, 0).is_none());
        assert_eq!(Blocks::new(&[], 0, 0, 0).unwrap().len(), 0);
    }
}
