//! A trainer of the torture, in a process of its own: it holds batches for a while, then tells what was in them.

use std::error::Error;
use std::fs;
use std::io::{self, BufRead as _, Write as _};
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::{self, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use batchmill_datasets::random::Rng;
use batchmill_protocol::client::{Batch, Client, ClientError, Member, Subscription};
use batchmill_protocol::position::Position;
use batchmill_protocol::share::Share;
use rustix::io::FdFlags;
use rustix::process::{PidfdFlags, PidfdGetfdFlags};

use super::digest;
use super::line::{Line, Told};
use super::process::now_us;
use super::report;

/// How long a trainer looks for a loader; less than the torture's patience with the trainer.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Seconds after which a forked child ends if nobody has ended it before: its parent may have died before it could tell.
const CHILD_S: &str = "4";

/// What a trainer is told on its standard input; the end of it ends the trainer too.
pub(super) mod order {
    /// Give everything back and end.
    pub(in crate::torture) const LEAVE: &str = "leave";
    /// End at once and say nothing.
    pub(in crate::torture) const EXIT: &str = "exit";
    /// Start a child that holds all sockets.
    pub(in crate::torture) const FORK: &str = "fork";
}

/// What one trainer reads.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The loader's address.
    pub socket: PathBuf,
    /// The stream.
    pub stream: String,
    /// The first batch.
    pub from: Position,
    /// The epoch before which it ends.
    pub until: u64,
    /// How it shares the stream.
    pub share: Share,
    /// Batches it asks to hold at once.
    pub leases: u32,
    /// How long it holds them follows from this.
    pub seed: u64,
}

/// Reads until the end, through the deaths of any number of loaders.
///
/// # Errors
/// When the threads cannot be started or nobody hears what is told.
pub fn consume(reading: Reading) -> Result<(), Box<dyn Error>> {
    let hands = Arc::new(Hands::default());
    let others = [Arc::clone(&hands), Arc::clone(&hands)];
    let [orders, reader] = others;
    thread::Builder::new().name("orders".to_owned()).spawn(move || obey(&orders))?;
    thread::Builder::new().name("reader".to_owned()).spawn(move || {
        let end = read(&reading, &reader);
        let mut state = reader.lock();
        (state.end, state.leaves) = (end, state.leaves || end.is_none());
        reader.changed.notify_all();
    })?;
    while let Some(held) = hands.give_up() {
        let told = Told { digest: digest::of_batch(&held.batch, &held.fields), ..held.told };
        // Before the lease ends: what was told was surely read.
        say(&Line::Batch(told))?;
        drop(held);
        hands.given_up();
    }
    let end = hands.lock().end;
    // The other threads end with the process.
    Ok(end.map_or(Ok(()), |end| say(&Line::End(end)))?)
}

/// Tells the torture, at once.
fn say(line: &Line) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// The batches that are held, between the thread that gets them and the one that gives them back.
#[derive(Default)]
struct Hands {
    state: Mutex<Holding>,
    changed: Condvar,
}

#[derive(Default)]
struct Holding {
    held: Vec<Held>,
    /// Those, and the one that is being given back.
    leases: usize,
    /// Since when there is nothing in them, if that is so and anything ever was.
    empty_us: Option<u64>,
    /// Set when nothing more comes.
    end: Option<Position>,
    /// Whether everything is to be given back now.
    leaves: bool,
}

struct Held {
    batch: Batch,
    fields: Arc<[String]>,
    until: Instant,
    told: Told,
}

impl Hands {
    fn lock(&self) -> MutexGuard<'_, Holding> {
        self.state.lock().expect("nobody panics with it")
    }

    fn take(&self, held: Held) {
        let mut state = self.lock();
        state.held.push(held);
        state.leases += 1;
        state.empty_us = None;
        self.changed.notify_all();
    }

    /// Notes that what [`give_up`](Self::give_up) returned has been given back.
    fn given_up(&self) {
        let mut state = self.lock();
        state.leases -= 1;
        state.empty_us = (state.leases == 0).then(now_us);
    }

    /// Waits until a batch has been held long enough; `None` when there is none and nothing more comes.
    fn give_up(&self) -> Option<Held> {
        let mut state = self.lock();
        loop {
            let (ended, leaves) = (state.end.is_some(), state.leaves);
            let next = state.held.iter().enumerate().min_by_key(|(_, held)| held.until);
            let now = Instant::now();
            match next.map(|(place, held)| (place, held.until)) {
                None if ended || leaves => return None,
                None => state = self.changed.wait(state).expect("nobody panics with it"),
                Some((place, until)) if until <= now || leaves => {
                    return Some(state.held.remove(place));
                }
                Some((_, until)) => {
                    (state, _) = self.changed.wait_timeout(state, until - now).expect("nobody panics with it");
                }
            }
        }
    }
}

/// Gets batches until the end, which it returns, or until no loader comes back.
fn read(reading: &Reading, hands: &Hands) -> Option<Position> {
    let subscription = Subscription::new(&reading.stream).epochs(0, Some(reading.until)).leases(reading.leases);
    let subscription = subscription.sharing(reading.share.clone());
    let mut rng = Rng::new(reading.seed, 0, 0, 0, 0);
    let (mut at, mut number) = (reading.from, 0);
    hands.lock().empty_us = Some(now_us());
    loop {
        let mut member = attach(reading, &subscription.clone().from(at))?;
        say(&Line::Attached(at)).ok()?;
        let fields: Arc<[String]> = member.stream().fields.iter().map(|field| field.name.clone()).collect();
        let mut has_room = false;
        at = loop {
            match member.next() {
                Ok(Some(batch)) => {
                    has_room = true;
                    let came_us = now_us();
                    let wait_us = hands.lock().empty_us.map_or(0, |since| came_us.saturating_sub(since));
                    let position = batch.position();
                    let told = Told { number, position, digest: 0, wait_us, came_us };
                    let until = Instant::now() + hold(&mut rng);
                    hands.take(Held { batch, fields: fields.clone(), until, told });
                    number += 1;
                }
                Ok(None) => return Some(member.cursor()),
                Err(ClientError::LoaderLost { resume }) => {
                    say(&Line::Lost(resume)).ok()?;
                    if let Err(error) = member.reconnect(PATIENCE) {
                        say(&match error {
                            // There is no room, for now: others may keep much for one that is still away.
                            ClientError::Refused { reason } => Line::Refused(reason),
                            error => Line::Broken(format!("no loader to go on with: {}", report(&error))),
                        })
                        .ok()?;
                        thread::sleep(LOOK_AGAIN * 10);
                        break resume;
                    }
                    has_room = false;
                }
                // It had been let in, and another one came first.
                Err(ClientError::Dismissed { position, reason }) if !has_room && reason.contains(" are taken by ") => {
                    say(&Line::Refused(reason)).ok()?;
                    thread::sleep(LOOK_AGAIN * 10);
                    break position;
                }
                Err(ClientError::Dismissed { position, reason }) => {
                    say(&Line::Dismissed { position, reason }).ok()?;
                    break position;
                }
                Err(ClientError::BatchFailed { position, reason }) => {
                    say(&Line::Failed { position, reason }).ok()?;
                    thread::sleep(LOOK_AGAIN * 10);
                    break position;
                }
                Err(other) => {
                    say(&Line::Broken(report(&other))).ok()?;
                    thread::sleep(LOOK_AGAIN * 10);
                    break member.cursor();
                }
            }
        };
    }
}

/// How long a batch is held: mostly as short as a step of a small model, now and then long.
fn hold(rng: &mut Rng) -> Duration {
    let longest_ms = match rng.below(100) {
        0..60 => 2,
        60..97 => 20,
        _ => 300,
    };
    Duration::from_micros(rng.below(longest_ms * 1_000))
}

/// Becomes a member, of the next loader if there is none now.
fn attach(reading: &Reading, subscription: &Subscription) -> Option<Member> {
    let start = Instant::now();
    let mut refused = None;
    loop {
        let error = match Client::connect(Some(&reading.socket)).and_then(|client| client.attach(subscription)) {
            Ok(member) => return Some(member),
            Err(error) => error,
        };
        if let ClientError::Refused { reason } = &error
            && refused.as_ref() != Some(reason)
        {
            say(&Line::Refused(reason.clone())).ok()?;
            refused = Some(reason.clone());
        }
        if start.elapsed() > PATIENCE {
            say(&Line::Broken(format!("no loader for {} s: {}", PATIENCE.as_secs(), report(&error)))).ok()?;
            return None;
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// Does what it is told, and ends with the one who tells.
#[expect(clippy::exit, reason = "the process ends whatever its other threads do: that is what is ordered")]
fn obey(hands: &Hands) {
    for line in io::stdin().lock().lines() {
        match line.as_deref() {
            Ok(order::FORK) => match fork() {
                Ok(pid) => drop(say(&Line::Forked(pid))),
                Err(error) => drop(say(&Line::Broken(format!("start a child: {error}")))),
            },
            Ok(order::LEAVE) => {
                hands.lock().leaves = true;
                hands.changed.notify_all();
            }
            // `exit`, or the torture itself has ended.
            _ => break,
        }
    }
    process::exit(0);
}

/// Starts a child that inherits every socket of this process and lives on after it.
fn fork() -> io::Result<u32> {
    let this = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
    let mut inherited: Vec<OwnedFd> = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let socket = fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"));
        let number = entry.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
        if let (true, Some(number)) = (socket, number) {
            // Another descriptor of the same socket, without close-on-exec. It may have been closed meanwhile.
            let Ok(copy) = rustix::process::pidfd_getfd(&this, number, PidfdGetfdFlags::empty()) else { continue };
            rustix::io::fcntl_setfd(&copy, FdFlags::empty())?;
            inherited.push(copy);
        }
    }
    let mut child = Command::new("sleep");
    let child = child.arg(CHILD_S).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    Ok(child.id())
}
