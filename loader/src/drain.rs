//! `loader drain`: reads a stream as a trainer would, and measures it.

use std::fmt::Write;
use std::num::NonZeroU64;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use batchmill_protocol::client::{Batch, Client, ClientError, Member, Subscription};
use batchmill_protocol::identity::Identity;
use batchmill_protocol::ledger::{Ledger, Reading};
use batchmill_protocol::position::Position;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState};
use serde::Serialize;
use twox_hash::XxHash3_128;

use crate::cli::{Drain, Seconds};
use crate::error::Failure;
use crate::output;

/// One epoch, as printed.
#[derive(Debug, Serialize)]
struct Epoch {
    epoch: u64,
    samples: u64,
    batches: u64,
    seconds: f64,
    samples_per_s: f64,
    first_batch_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
}

/// Reads the epochs asked for and prints a line for each.
pub(crate) fn drain(arguments: &Drain) -> Result<(), Failure> {
    let (from, expected) = match &arguments.ledger {
        Some(path) if arguments.resume => resumed(path)?,
        _ => (arguments.from, None),
    };
    let until = from.epoch.saturating_add(u64::from(arguments.epochs.get()));
    let expected = expected.filter(|_| !arguments.allow_changed);
    let subscription = Subscription::new(&arguments.stream)
        .epochs(0, Some(until))
        .from(from)
        .expecting(expected)
        .sharing(arguments.sharing.share()?);
    let start = Instant::now();
    let mut member = Client::connect(arguments.address.socket.as_deref())?.attach(&subscription)?;
    let mut ledger = match &arguments.ledger {
        Some(path) if arguments.resume => Some(Ledger::resume(path, member.stream(), from)?),
        Some(path) => Some(Ledger::create(path, member.stream())?),
        None => None,
    };
    let mut meter = Meter::new(&member, start, arguments.digest);
    let mut left = arguments.steps.map_or(u64::MAX, NonZeroU64::get);
    while left > 0
        && let Some(batch) = next(&mut member, arguments.reconnect, &meter.bar)?
    {
        left -= 1;
        let extent = member.stream().extent;
        let position = batch.position();
        if let Some(ledger) = &mut ledger {
            ledger.record(&batch.entry())?;
        }
        meter.take(&batch, member.stream().fields.iter().map(|field| field.name.as_str()));
        if let Some(Seconds(time)) = arguments.step_time {
            // What is measured is how others do meanwhile: a real step takes its own time.
            thread::sleep(time);
        }
        drop(batch);
        if left == 0 || extent.next(position).epoch > position.epoch {
            let epoch = meter.finish(position.epoch);
            // The bar stands on standard error, on the same screen.
            meter.bar.suspend(|| output::result(arguments.json, &epoch, &epoch.to_string()))?;
            ledger.as_mut().map_or(Ok(()), Ledger::flush)?;
        }
    }
    Ok(())
}

/// Where a ledger's run is to go on, and what its stream was.
fn resumed(path: &Path) -> Result<(Position, Option<Identity>), Failure> {
    let mut reading = Reading::open(path)?;
    let mut next = Position::default();
    while let Some(recorded) = reading.next_whole()? {
        next = reading.head.extent.next(recorded.entry.position);
    }
    Ok((next, Some(reading.head.identity)))
}

/// The next batch, also from the next loader where that is asked for.
fn next(member: &mut Member, reconnect: Option<Seconds>, bar: &ProgressBar) -> Result<Option<Batch>, ClientError> {
    loop {
        match (member.next(), reconnect) {
            (Err(ClientError::LoaderLost { resume }), Some(Seconds(limit))) => {
                let limit_s = limit.as_secs_f64();
                bar.suspend(|| output::log(&format!("the loader has ended: waiting up to {limit_s} s for the next")));
                member.reconnect(limit)?;
                bar.suspend(|| output::log(&format!("another loader goes on at {resume}")));
            }
            (next, _) => return next,
        }
    }
}

/// Measures one epoch after another.
struct Meter {
    start: Instant,
    first_batch: Option<Duration>,
    samples: u64,
    batches: u64,
    digest: Option<XxHash3_128>,
    /// Of one byte per row, so that nobody can leave the reading out.
    touched: u64,
    bar: ProgressBar,
}

impl Meter {
    fn new(member: &Member, start: Instant, digest: bool) -> Self {
        let style = output::bar_style("{prefix} {bar:40} {pos}/{len} batches, {rate}/s, {eta} left");
        let bar = ProgressBar::with_draw_target(Some(member.stream().extent.steps()), ProgressDrawTarget::stderr())
            .with_style(style.with_key("rate", write_rate))
            .with_prefix(member.stream().name.clone());
        let digest = digest.then(XxHash3_128::new);
        Self { start, first_batch: None, samples: 0, batches: 0, digest, touched: 0, bar }
    }

    fn take<'a>(&mut self, batch: &Batch, fields: impl Iterator<Item = &'a str>) {
        self.first_batch.get_or_insert_with(|| self.start.elapsed());
        self.samples += u64::from(batch.rows() - batch.padding());
        self.batches += 1;
        if let Some(digest) = &mut self.digest {
            digest.write(&batch.position().epoch.to_le_bytes());
            digest.write(&batch.position().step.to_le_bytes());
            digest.write(&batch.rows().to_le_bytes());
            digest.write(&batch.padding().to_le_bytes());
            batch.indices().for_each(|index| digest.write(&index.to_le_bytes()));
        }
        for name in fields {
            let bytes = batch.field(name).unwrap_or_default();
            match &mut self.digest {
                Some(digest) => digest.write(bytes),
                None => {
                    let row_bytes = bytes.len().div_ceil(batch.rows().max(1) as usize).max(1);
                    self.touched += bytes.iter().step_by(row_bytes).map(|byte| u64::from(*byte)).sum::<u64>();
                }
            }
        }
        self.bar.set_position(batch.position().step + 1);
    }

    /// Ends an epoch; the next one's time begins here.
    #[expect(clippy::cast_precision_loss, reason = "for a person")]
    fn finish(&mut self, epoch: u64) -> Epoch {
        let seconds = self.start.elapsed().as_secs_f64();
        std::hint::black_box(self.touched);
        let line = Epoch {
            epoch,
            samples: self.samples,
            batches: self.batches,
            seconds,
            samples_per_s: self.samples as f64 / seconds,
            first_batch_ms: self.first_batch.take().unwrap_or_default().as_secs_f64() * 1e3,
            digest: self.digest.as_ref().map(|digest| format!("{:032x}", digest.finish_128())),
        };
        if let Some(digest) = &mut self.digest {
            *digest = XxHash3_128::new();
        }
        (self.samples, self.batches, self.start) = (0, 0, Instant::now());
        self.bar.reset();
        line
    }
}

/// Batches a second, without the decimals that change too fast to be read.
fn write_rate(state: &ProgressState, out: &mut dyn Write) {
    // A bar is nothing to fail over.
    let _ = write!(out, "{:.0}", state.per_sec());
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "epoch {}: {} samples in {} batches, {:.2} s, {:.0} samples/s, first batch after {:.1} ms",
            self.epoch, self.samples, self.batches, self.seconds, self.samples_per_s, self.first_batch_ms
        )?;
        match &self.digest {
            Some(digest) => write!(f, ", digest {digest}"),
            None => Ok(()),
        }
    }
}
