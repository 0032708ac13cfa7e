//! `dropout`: zeroes numbers at random while training.

use burn::nn::{Dropout, DropoutConfig};

use crate::layer::{AnyLayer, Layer, Misfit};
use crate::registry::{Build, Registry};
use crate::section::{Mistake, Section};
use crate::shape::{Activation, Extents, map_floats};

/// `p` (0.5): the share of numbers zeroed, in `0.0..1.0`.
pub(super) fn parse(section: &mut Section<'_>, _: &Registry) -> Result<Build, Mistake> {
    let p = section.number("p")?.unwrap_or(0.5);
    if !(0.0..1.0).contains(&p) {
        return Err(section.mistake_at("p", &format!("is {p}: it must be from 0 to below 1")));
    }
    Ok(Box::new(move |_, _| Ok(AnyLayer::new(DropoutConfig::new(p).init()))))
}

impl Layer for Dropout {
    fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit> {
        super::activation::keep(arrives)
    }

    fn forward(&self, x: Activation) -> Activation {
        map_floats!(x, x => Dropout::forward(self, x))
    }

    fn to_torch(&self) -> String {
        format!("Dropout(p={}, inplace=False)", super::python_float(self.prob))
    }
}
