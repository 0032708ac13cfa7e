//! `loader verify`: whether a run received its stream whole, where two runs part, and whether the data still give it.

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;

use batchmill_datasets::pipeline::{Pipeline, RowLabel, RowSink};
use batchmill_datasets::registry::Registry;
use batchmill_datasets::spec::StreamSpec;
use batchmill_protocol::digest::{Digest, RowDigest};
use batchmill_protocol::identity::Identity;
use batchmill_protocol::ledger::{Entry, Head, LedgerError, Reading, Recorded};
use batchmill_protocol::position::{Extent, Position, Rows};
use batchmill_protocol::slab::RowRecord;
use batchmill_protocol::tensor::FieldSpec;
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde::Serialize;
use thiserror::Error;

use crate::cli::{Remake, Verify};
use crate::error::Failure;
use crate::output;

/// Batches that are looked at ahead, to tell one that comes late from one that never comes.
const LOOK_AHEAD: usize = 256;

/// What is wrong with a ledger, or between two.
#[derive(Debug, Error)]
enum Fault {
    #[error("{path}:{line}: {position} comes twice")]
    Repeated { path: String, line: u64, position: Position },
    #[error("{path}:{line}: {position} comes out of order: {late} comes only at line {late_line}")]
    Reordered { path: String, line: u64, position: Position, late: Position, late_line: u64 },
    #[error("{path}:{line}: {missing} is missing: {position} follows {before}")]
    Missing { path: String, line: u64, missing: Position, position: Position, before: Position },
    #[error("{path}:{line}: {position} has {found} rows and {padding} of padding, not {rows} and {expected_padding}")]
    Rows { path: String, line: u64, position: Position, found: u32, padding: u32, rows: u32, expected_padding: u32 },
    #[error(
        "{path}:{line}: the chain of digests breaks at {position}: lines were changed, taken out or put in by hand"
    )]
    Chain { path: String, line: u64, position: Position },
    #[error("{path}: it has no batch")]
    Empty { path: String },
    #[error("{path} has no {position}: it goes from {first} to {last}")]
    NotThere { path: String, position: Position, first: Position, last: Position },
    #[error(
        "they part at {position}: its digest is {ours} at {path}:{line} and {theirs} at {other}:{other_line}{changes}"
    )]
    Part {
        position: Position,
        path: String,
        line: u64,
        ours: Digest,
        other: String,
        other_line: u64,
        theirs: Digest,
        changes: String,
    },
    #[error(
        "they have no batch in common: {path} goes from {first} to {last}, {other} from {other_first} to {other_last}"
    )]
    Apart { path: String, first: Position, last: Position, other: String, other_first: Position, other_last: Position },
    #[error("{position} made again from the data is {remade}, at {path}:{line} it is {recorded}{changes}")]
    Remade { position: Position, remade: Digest, path: String, line: u64, recorded: Digest, changes: String },
}

/// What is printed when nothing is wrong.
#[derive(Debug, Serialize)]
struct Verified {
    stream: String,
    batches: u64,
    first: Position,
    last: Position,
    /// The last link of the last epoch's chain.
    chain: String,
    /// Batches that two ledgers have in common.
    #[serde(skip_serializing_if = "Option::is_none")]
    same: Option<u64>,
    /// Batches made again.
    #[serde(skip_serializing_if = "Option::is_none")]
    remade: Option<u64>,
    /// Where the stream itself changed during the run.
    changes: Vec<String>,
}

/// Verifies one ledger, alone, against another, or against the data.
pub(crate) fn verify(arguments: &Verify, registry: &Registry) -> Result<(), Failure> {
    let mut verified = check(&arguments.ledger)?;
    if let Some(other) = &arguments.other {
        let theirs = check(other)?;
        verified.same = Some(compare(&arguments.ledger, &verified, other, &theirs)?);
    }
    if let Some(remake) = arguments.remake {
        verified.remade = Some(make_again(&arguments.ledger, &verified, remake, registry)?);
    }
    Ok(output::result(arguments.json, &verified, &verified.to_string())?)
}

/// Reads a ledger to its end: every batch follows the one before, and the chain holds.
fn check(path: &Path) -> Result<Verified, Failure> {
    let name = path.display().to_string();
    let mut ahead = Ahead::open(path)?;
    let (mut first, mut last) = (None, None::<Recorded>);
    let mut batches = 0;
    // The extent changes where the stream did; what follows a batch is told by the extent that it came under.
    let mut extent = ahead.reading.head.extent;
    while let Some((recorded, now)) = ahead.next()? {
        let Recorded { line, entry, chained, .. } = recorded;
        if let Some(before) = last {
            ahead.check_order(&name, before.entry.position, extent, &recorded)?;
        }
        extent = now;
        let Entry { position, rows: found, padding, .. } = entry;
        let (rows, expected_padding) = (extent.rows(position.step), extent.padding(position.step));
        if (found, padding) != (rows, expected_padding) {
            return Err(Fault::Rows { path: name, line, position, found, padding, rows, expected_padding }.into());
        }
        if !chained {
            return Err(Fault::Chain { path: name, line, position }.into());
        }
        first.get_or_insert(position);
        last = Some(recorded);
        batches += 1;
    }
    let (Some(first), Some(last)) = (first, last) else { return Err(Fault::Empty { path: name }.into()) };
    let Reading { head, changes, .. } = ahead.reading;
    let changes = changes.into_iter().map(|(line, changes)| format!("{name}:{line}: {}", changes.join(", ")));
    Ok(Verified {
        stream: head.stream,
        batches,
        first,
        last: last.entry.position,
        chain: last.link.to_string(),
        same: None,
        remade: None,
        changes: changes.collect(),
    })
}

/// A ledger, read some batches ahead, each with the extent that it came under.
struct Ahead {
    reading: Reading,
    waiting: VecDeque<(Recorded, Extent)>,
}

impl Ahead {
    fn open(path: &Path) -> Result<Self, LedgerError> {
        Ok(Self { reading: Reading::open(path)?, waiting: VecDeque::new() })
    }

    fn next(&mut self) -> Result<Option<(Recorded, Extent)>, LedgerError> {
        match self.waiting.pop_front() {
            Some(waiting) => Ok(Some(waiting)),
            None => Ok(self.reading.next().transpose()?.map(|recorded| (recorded, self.reading.head.extent))),
        }
    }

    /// Sees that a batch follows `before`, which came under `extent`; if not, says how it went wrong.
    fn check_order(
        &mut self,
        path: &str,
        before: Position,
        extent: Extent,
        recorded: &Recorded,
    ) -> Result<(), Failure> {
        let Recorded { line, entry: Entry { position, .. }, .. } = *recorded;
        let expected = extent.next(before);
        if position == expected {
            return Ok(());
        }
        let path = path.to_owned();
        if position < expected {
            return Err(Fault::Repeated { path, line, position }.into());
        }
        while self.waiting.len() < LOOK_AHEAD
            && let Some(Ok(next)) = self.reading.next()
        {
            self.waiting.push_back((next, self.reading.head.extent));
        }
        let late = self.waiting.iter().find(|(later, _)| later.entry.position == expected);
        Err(match late {
            Some((late, _)) => Fault::Reordered { path, line, position, late: expected, late_line: late.line },
            None => Fault::Missing { path, line, missing: expected, position, before },
        }
        .into())
    }
}

/// Compares the batches that two checked ledgers have in common, and counts them.
fn compare(path: &Path, ours: &Verified, other: &Path, theirs: &Verified) -> Result<u64, Failure> {
    let (mut a, mut b) = (Reading::open(path)?, Reading::open(other)?);
    let (mut left, mut right) = (a.next().transpose()?, b.next().transpose()?);
    let mut same = 0;
    while let (Some(one), Some(two)) = (left, right) {
        let (mine, yours) = (one.entry.position, two.entry.position);
        if mine == yours {
            if one.entry != two.entry {
                let changes = b.head.identity.changes_since(&a.head.identity);
                return Err(Fault::Part {
                    position: mine,
                    path: path.display().to_string(),
                    line: one.line,
                    ours: one.entry.digest,
                    other: other.display().to_string(),
                    other_line: two.line,
                    theirs: two.entry.digest,
                    changes: after(&changes),
                }
                .into());
            }
            same += 1;
        }
        if mine <= yours {
            left = a.next().transpose()?;
        }
        if yours <= mine {
            right = b.next().transpose()?;
        }
    }
    if same == 0 {
        return Err(Fault::Apart {
            path: path.display().to_string(),
            first: ours.first,
            last: ours.last,
            other: other.display().to_string(),
            other_first: theirs.first,
            other_last: theirs.last,
        }
        .into());
    }
    Ok(same)
}

/// Makes batches of a checked ledger again from the data, compares them, and counts them.
fn make_again(path: &Path, verified: &Verified, remake: Remake, registry: &Registry) -> Result<u64, Failure> {
    let mut reading = Reading::open(path)?;
    let mut remaker = Remaker::open(&reading.head, registry)?;
    let mut heads = 0;
    let wanted = match remake {
        Remake::All => verified.batches,
        Remake::One(_) => 1,
    };
    let bar = ProgressBar::with_draw_target(Some(wanted), ProgressDrawTarget::stderr())
        .with_style(output::bar_style("{bar:40} {pos}/{len} batches, {eta} left"));
    let mut remade = 0;
    while remade < wanted
        && let Some(Recorded { line, entry, .. }) = reading.next().transpose()?
    {
        if matches!(remake, Remake::One(position) if position != entry.position) {
            continue;
        }
        if reading.changes.len() > heads {
            heads = reading.changes.len();
            remaker = Remaker::open(&reading.head, registry)?;
        }
        let digest = remaker.make(entry.position, entry.rows)?;
        if digest != entry.digest {
            bar.finish_and_clear();
            return Err(Fault::Remade {
                position: entry.position,
                remade: digest,
                path: path.display().to_string(),
                line,
                recorded: entry.digest,
                changes: after(&remaker.changes),
            }
            .into());
        }
        remade += 1;
        bar.inc(1);
    }
    bar.finish_and_clear();
    match remake {
        Remake::One(position) if remade == 0 => {
            let (first, last) = (verified.first, verified.last);
            Err(Fault::NotThere { path: path.display().to_string(), position, first, last }.into())
        }
        _ => Ok(remade),
    }
}

fn after(changes: &[String]) -> String {
    if changes.is_empty() { String::new() } else { format!("; {}", changes.join(", ")) }
}

/// What makes batches of a ledger's stream again, to be digested.
struct Remaker {
    pipeline: Pipeline,
    fields: Vec<FieldSpec>,
    /// What has changed since the ledger was written.
    changes: Vec<String>,
}

impl Remaker {
    fn open(head: &Head, registry: &Registry) -> Result<Self, Failure> {
        let spec: StreamSpec = serde_json::from_value(head.spec.clone())?;
        let pipeline = registry.pipeline(&spec)?;
        let identity: Identity = pipeline.identity().parts.into_iter().collect();
        Ok(Self { changes: identity.changes_since(&head.identity), fields: head.fields.clone(), pipeline })
    }

    fn make(&self, position: Position, rows: u32) -> Result<Digest, Failure> {
        let row = self.fields.iter().map(|field| vec![0; field.row_bytes().unwrap_or(0)]);
        let mut batch = Batch { row: row.collect(), digest: Digest::default() };
        self.pipeline.fill(&self.fields, position, Rows { lo: 0, hi: rows }, &mut batch)?;
        Ok(batch.digest)
    }
}

/// Room for one row after the other of a batch that is only digested.
struct Batch {
    row: Vec<Vec<u8>>,
    digest: Digest,
}

impl RowSink for Batch {
    fn attempt(&mut self, _: u64, _: &str) {}

    fn room(&mut self, _: u32, field: usize) -> &mut [u8] {
        &mut self.row[field]
    }

    fn finish(&mut self, row: u32, label: RowLabel) {
        let RowLabel { index, padding, substituted, masked } = label;
        let mut digest = RowDigest::new(row, RowRecord { index, padding, substituted, masked });
        self.row.iter().for_each(|field| digest.update(field));
        self.digest += digest.finish();
    }
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stream, batches, first, last, chain, .. } = self;
        write!(
            f,
            "stream `{stream}`: {batches} batches from {first} to {last}, each once and in order, chain {chain}"
        )?;
        if let Some(same) = self.same {
            write!(f, "\n{same} batches are in both, and the same")?;
        }
        if let Some(remade) = self.remade {
            write!(f, "\n{remade} made again from the data, and the same")?;
        }
        for change in &self.changes {
            write!(f, "\nthe stream changed during the run: {change}")?;
        }
        Ok(())
    }
}
