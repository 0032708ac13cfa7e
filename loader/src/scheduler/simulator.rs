//! The scheduler in a world of virtual time: workers and trainers that are late, stop, die and come back, in any order.
//!
//! What is done to a world is drawn by proptest and shrunk when something is wrong. `BATCHMILL_SEED` repeats a run, and
//! `BATCHMILL_SEQUENCES` says how many worlds the long run tries.

use std::cell::{Cell, RefCell};
use std::env;
use std::hash::{BuildHasher, RandomState};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::thread;
use std::time::Instant;

use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

use scenario::Scenario;
use tally::Tally;
use world::{Control, World};

mod daemon;
mod events;
mod luck;
mod noise;
mod processes;
mod scenario;
mod slab;
mod streams;
mod tally;
mod trainers;
mod world;

/// Worlds that are drawn from one seed. The test suite tries those of one, the long run goes on with the next.
const CHUNK: u64 = 2_000;

/// Worlds that the long run tries, unless told otherwise.
const LONG_SEQUENCES: u64 = 200;

/// After so many of them the long run says how far it is.
const CHUNKS_SAID: u64 = 25;

/// Worlds in which the negative control must be noticed.
const CONTROL_SEQUENCES: u64 = 1_000;

/// How hard a failure is made smaller.
const SHRINKS_MAX: u32 = 20_000;

/// A world in which something was wrong.
#[derive(Debug)]
struct Found {
    what: String,
    scenario: Scenario,
}

/// Runs one scenario; an error is what was wrong.
fn try_out(scenario: &Scenario, control: Control) -> Result<Tally, String> {
    thread_local!(static QUIET: Cell<bool> = const { Cell::new(false) });
    static HOOK: Once = Once::new();
    // A scenario that is being shrunk panics thousands of times.
    HOOK.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |information| {
            if !QUIET.get() {
                loud(information);
            }
        }));
    });
    QUIET.set(true);
    let lived = panic::catch_unwind(AssertUnwindSafe(|| World::live(scenario, control, false)));
    QUIET.set(false);
    lived.map_err(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        said.or_else(|| panic.downcast_ref::<&str>().map(|&said| said.to_owned())).unwrap_or_default()
    })
}

/// Tries `sequences` worlds drawn from `seed`, and adds what was seen to `tally`.
fn try_many(
    seed: u64,
    sequences: u64,
    control: Control,
    shrinks_max: u32,
    tally: &RefCell<Tally>,
) -> Result<(), Box<Found>> {
    let config = Config {
        cases: u32::try_from(sequences).expect("chunks are small"),
        failure_persistence: None,
        max_shrink_iters: shrinks_max,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    let tried = TestRunner::new(config).run(&scenario::scenarios(), |scenario| {
        let seen = try_out(&scenario, control).map_err(TestCaseError::fail)?;
        tally.borrow_mut().add(&seen);
        Ok(())
    });
    match tried {
        Ok(()) => Ok(()),
        Err(TestError::Fail(what, scenario)) => Err(Box::new(Found { what: what.message().to_owned(), scenario })),
        Err(TestError::Abort(reason)) => panic!("no scenario can be drawn: {reason}"),
    }
}

/// Tells all there is to know of what was found, then fails the test.
fn fail(seed: u64, found: &Found) -> ! {
    eprintln!("{:?}", found.scenario.setup);
    found.scenario.moves.iter().for_each(|made| eprintln!("{made:?}"));
    let told = panic::catch_unwind(AssertUnwindSafe(|| World::live(&found.scenario, Control::None, true)));
    assert!(told.is_err(), "it does not happen again: chance is at work that no seed decides");
    panic!("{}\nfound with BATCHMILL_SEED={seed}; the smallest such world is above", found.what);
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

/// The seed asked for, or any.
fn seed() -> u64 {
    number("BATCHMILL_SEED").unwrap_or_else(|| RandomState::new().hash_one(0))
}

/// Whatever happens in whatever order, the invariants hold after every event, every batch that is delivered is whole and
/// in order, and once nothing goes wrong any more every trainer has what it asked for or is told why not.
#[test]
fn any_order_of_events_delivers_every_batch() {
    let (seed, tally) = (seed(), RefCell::default());
    if let Err(found) = try_many(seed, CHUNK, Control::None, SHRINKS_MAX, &tally) {
        fail(seed, &found);
    }
    let tally = tally.into_inner();
    println!("seed {seed}\n{tally}");
    assert!(tally.of("actions", "Deliver") > CHUNK, "the worlds are not idle: {tally}");
    for (kind, what) in [("lanes", "split"), ("lanes", "merged"), ("actions", "Dismiss")] {
        assert!(tally.of(kind, what) > 0, "{kind}: {what} does not come to pass: {tally}");
    }
}

/// The negative control: were rows given out again while their worker lives, any of these checks would notice.
#[test]
fn rows_given_out_while_their_worker_lives_are_noticed() {
    // Always the same, unless told otherwise: what comes of a scheduler gone wrong may be noticed by many checks.
    let seed = number("BATCHMILL_SEED").unwrap_or(0);
    let noticed = |control, by: &[&str]| {
        let tally = RefCell::default();
        let found = try_many(seed, CONTROL_SEQUENCES, control, 0, &tally).expect_err("nobody notices");
        let worlds = tally.into_inner().sequences + 1;
        println!("seed {seed}, {control:?}: world {worlds}: {}", found.what);
        assert!(by.iter().any(|check| found.what.starts_with(check)), "seed {seed}: noticed by chance: {}", found.what);
    };
    noticed(Control::WithoutReaping, &["rows that a living worker may still write are not given out"]);
    let by_content = ["no row is written while a member reads its slot", "a member reads the batch at"];
    noticed(Control::WithoutReapingUnwatched, &by_content);
}

/// The same for as long as one likes: `BATCHMILL_SEQUENCES=1000000 cargo test --release -p batchmill-loader --lib
/// simulator_long -- --nocapture`.
#[test]
fn simulator_long() {
    let (first, sequences) = (seed(), number("BATCHMILL_SEQUENCES").unwrap_or(LONG_SEQUENCES));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    println!("seed {first}: {sequences} sequences on {threads} threads");
    let (chunks, begun) = (sequences.div_ceil(CHUNK), Instant::now());
    let next = AtomicU64::new(0);
    let (sum, found) = (Mutex::new(Tally::default()), Mutex::new(None));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let chunk = next.fetch_add(1, Ordering::Relaxed);
                    if chunk >= chunks {
                        return;
                    }
                    let (seed, tally) = (first.wrapping_add(chunk), RefCell::default());
                    let some = CHUNK.min(sequences - chunk * CHUNK);
                    let tried = try_many(seed, some, Control::None, SHRINKS_MAX, &tally);
                    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                    sum.add(&tally.into_inner());
                    if let Err(wrong) = tried {
                        next.store(chunks, Ordering::Relaxed);
                        *found.lock().unwrap_or_else(PoisonError::into_inner) = Some((seed, wrong));
                    }
                    if (chunk + 1).is_multiple_of(CHUNKS_SAID) {
                        let (done, seconds) = (sum.sequences, begun.elapsed().as_secs_f64());
                        let [events, deliveries] = [sum.all("heard"), sum.of("actions", "Deliver")];
                        println!("{done:>10} sequences, {events} events, {deliveries} deliveries in {seconds:.0} s");
                    }
                }
            });
        }
    });
    if let Some((seed, found)) = found.into_inner().unwrap_or_else(PoisonError::into_inner) {
        fail(seed, &found);
    }
    println!("seed {first}\n{}", sum.into_inner().unwrap_or_else(PoisonError::into_inner));
}
