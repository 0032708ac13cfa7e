//! What a trainer process of the torture tells the torture: lines on its standard output.

use std::fmt;
use std::str::FromStr;

use batchmill_protocol::position::Position;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// It is a member again and begins there.
    Attached(Position),
    /// It is done with a batch.
    Batch(Told),
    /// The loader does not let it in; it goes on asking.
    Refused(String),
    /// The loader says that the batch cannot be made.
    Failed { position: Position, reason: String },
    /// The loader has ended it before its time; it comes again, and goes on there.
    Dismissed { position: Position, reason: String },
    /// The loader has ended, and says to go on there.
    Lost(Position),
    /// The client says that something is wrong that never should be.
    Broken(String),
    /// A child holds its sockets.
    Forked(u32),
    /// It has got all up to there, and ends.
    End(Position),
}

/// One batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Batches delivered to this process before it.
    pub(super) number: u64,
    pub(super) position: Position,
    /// Of all its bytes, at the end of the lease.
    pub(super) digest: u128,
    /// How long the trainer had no batch at all before this one came.
    pub(super) wait_us: u64,
    /// When it came, by the machine's monotonic clock.
    pub(super) came_us: u64,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attached(position) => write!(f, "attached {}", Colon(*position)),
            Self::Batch(Told { number, position, digest, wait_us, came_us }) => {
                write!(f, "batch {number} {} {digest:032x} {wait_us} {came_us}", Colon(*position))
            }
            Self::Refused(reason) => write!(f, "refused {}", OneLine(reason)),
            Self::Failed { position, reason } => write!(f, "failed {} {}", Colon(*position), OneLine(reason)),
            Self::Dismissed { position, reason } => write!(f, "dismissed {} {}", Colon(*position), OneLine(reason)),
            Self::Lost(position) => write!(f, "lost {}", Colon(*position)),
            Self::Broken(what) => write!(f, "broken {}", OneLine(what)),
            Self::Forked(pid) => write!(f, "forked {pid}"),
            Self::End(position) => write!(f, "end {}", Colon(*position)),
        }
    }
}

/// A position as it is read.
struct Colon(Position);

impl fmt::Display for Colon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0.epoch, self.0.step)
    }
}

struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.replace('\n', " "))
    }
}

/// A text that is no such line.
#[derive(Debug)]
pub(super) struct Garbled;

impl FromStr for Line {
    type Err = Garbled;

    fn from_str(text: &str) -> Result<Self, Garbled> {
        let (kind, rest) = text.split_once(' ').ok_or(Garbled)?;
        match kind {
            "attached" => read(rest).map(Self::Attached),
            "lost" => read(rest).map(Self::Lost),
            "end" => read(rest).map(Self::End),
            "forked" => read(rest).map(Self::Forked),
            "refused" => Ok(Self::Refused(rest.to_owned())),
            "broken" => Ok(Self::Broken(rest.to_owned())),
            "failed" | "dismissed" => {
                let (position, reason) = rest.split_once(' ').ok_or(Garbled)?;
                let (position, reason) = (read(position)?, reason.to_owned());
                Ok(if kind == "failed" {
                    Self::Failed { position, reason }
                } else {
                    Self::Dismissed { position, reason }
                })
            }
            "batch" => {
                let parts: Vec<_> = rest.split(' ').collect();
                let [number, position, digest, wait_us, came_us] = parts[..] else { return Err(Garbled) };
                Ok(Self::Batch(Told {
                    number: read(number)?,
                    position: read(position)?,
                    digest: u128::from_str_radix(digest, 16).map_err(|_| Garbled)?,
                    wait_us: read(wait_us)?,
                    came_us: read(came_us)?,
                }))
            }
            _ => Err(Garbled),
        }
    }
}

fn read<Read: FromStr>(text: &str) -> Result<Read, Garbled> {
    text.parse().map_err(|_| Garbled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_were_written() {
        let position = Position { epoch: 3, step: 14 };
        let told = Told { number: 1, position, digest: 0x0fed, wait_us: 2, came_us: 5 };
        for line in [
            Line::Attached(position),
            Line::Batch(told),
            Line::Failed { position, reason: "a file is gone".to_owned() },
            Line::Dismissed { position, reason: "it lags 9 batches behind".to_owned() },
            Line::Lost(position),
            Line::Refused("the loader is about to end".to_owned()),
            Line::Broken("slot 3 holds None".to_owned()),
            Line::Forked(77),
            Line::End(position),
        ] {
            assert_eq!(line.to_string().parse::<Line>().ok(), Some(line));
        }
        for garbled in ["", "batch", "batch 1 3:14 0fed 2", "batch 1 3:14 xyz 2 5", "lost 3", "what 3:14"] {
            assert!(garbled.parse::<Line>().is_err(), "{garbled:?} was read");
        }
    }
}
