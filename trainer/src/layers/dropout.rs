//! `dropout`: zeroes numbers at random while training.

use burn::nn::{Dropout, DropoutConfig};

use crate::section::{Mistake, Section};

/// A dropout layer as the file states it.
#[derive(Clone, Debug, PartialEq)]
pub struct DropoutSpec {
    /// The share of numbers zeroed, in `0.0..1.0`.
    pub p: f64,
}

impl DropoutSpec {
    pub(super) fn parse(section: &mut Section<'_>) -> Result<Self, Mistake> {
        let p = section.number("p")?.unwrap_or(0.5);
        if !(0.0..1.0).contains(&p) {
            return Err(section.mistake_at("p", &format!("is {p}: it must be from 0 to below 1")));
        }
        Ok(Self { p })
    }

    pub(super) fn build(&self) -> Dropout {
        DropoutConfig::new(self.p).init()
    }
}
