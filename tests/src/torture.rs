//! The torture: random harm to real processes, while every batch that a trainer gets is compared with what it must be.
//!
//! Loaders, workers and trainers are processes of the program `torture` itself, under other names. The harm follows from
//! a seed (`plan`), its victims and what then happens do not. A trainer hashes all of a batch at the end of its lease,
//! so that a slot which is written to while it is read is seen, and tells that in a line on its standard output
//! (`consumer`, `line`). The torture makes the same batch in its own process (`reference`), compares, and sees that each
//! trainer gets every batch once and in order, through all of its own deaths and those of loaders (`sequence`).

use std::error::Error;

mod agenda;
mod consumer;
mod counts;
mod daemon;
mod data;
mod digest;
mod harm;
mod hear;
mod leftovers;
mod line;
mod mix;
mod plan;
mod process;
mod reference;
mod run;
mod sequence;
mod trainer;
mod waits;

pub use consumer::{Reading, consume};
pub use daemon::{LOADER, become_loader};
pub use mix::Mix;
pub use plan::Length;
pub use run::{Options, Outcome, torture};

/// Writes an error with its causes: `read a.csv: permission denied`.
pub fn report(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
