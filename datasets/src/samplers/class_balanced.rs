//! Classes in turns, so that all occur equally often.

use super::numbers::Field;
use crate::column::{Column, damaged};
use crate::options::{OptionKey, Options};
use crate::permutation::Permutation;
use crate::random::{CLASS_OP, ROUND_OP};
use crate::sampler::{Population, Sampler, SamplerSource};
use crate::source::{Index, OpenError};
use crate::spec::SpecError;

/// The kind `class-balanced`: every class occurs equally often, however many samples it has.
///
/// Options:
/// - `field` (default "label"), the number that is a sample's class; samples of one number are one class, and a class
///   without samples is none. One below 0, as a missing label is, is refused;
/// - `samples`, how many an epoch has, a multiple of the number of classes. Where left out: the largest that is no more
///   than the dataset has.
///
/// Order: in rounds. In each, every class gives one sample, in an order drawn for the round. A class gives its samples
/// in an order drawn for each pass through them; passes go on from one epoch to the next, so that no sample of a class
/// occurs a second time before all its others have occurred.
///
/// PyTorch has no such sampler: there one draws by `WeightedRandomSampler` with one weight over each class's count, and
/// gets equal counts only on average.
#[derive(Debug)]
pub struct ClassBalanced {
    label: Field,
    samples: Option<u64>,
    samples_key: OptionKey,
}

impl ClassBalanced {
    /// Reads the options.
    ///
    /// # Errors
    /// [`SpecError`] when one has no sense.
    pub fn from_options(options: &mut Options) -> Result<Self, SpecError> {
        Ok(Self {
            label: super::label_from_options(options)?,
            samples: super::samples_from_options(options)?,
            samples_key: options.key("samples"),
        })
    }
}

impl SamplerSource for ClassBalanced {
    /// The samples, class by class, and where each class ends.
    fn index(&self, population: &Population) -> Result<Vec<u8>, OpenError> {
        let sorted = self.label.sorted(population, |class| {
            // As datasets tell of a label that is missing: it would be drawn as often as each of the classes.
            if class < 0.0 { Err("a class from 0 up; leave it out by the dataset `subset`") } else { Ok(()) }
        })?;
        let mut end = 0;
        let ends = sorted.chunk_by(|(one, _), (other, _)| one == other).map(|class| {
            end += class.len() as u64;
            end
        });
        let ends = Column::pack(ends);
        Ok(Index::join([Column::pack(sorted.into_iter().map(|(_, index)| index)), ends]))
    }

    fn open(self: Box<Self>, population: &Population, index: Index) -> Result<Box<dyn Sampler>, OpenError> {
        let [order, ends] = Column::open_all(&index)?;
        let starts = std::iter::once(0).chain(ends.numbers().iter().map(|end| u64::from_le_bytes(*end)));
        if order.len() != population.samples || !starts.is_sorted_by(|one, next| one < next) {
            return Err(damaged());
        }
        let classes = ends.len();
        let rounds = match self.samples {
            _ if classes == 0 => 0,
            None => order.len() / classes,
            Some(samples) if samples % classes == 0 => samples / classes,
            Some(samples) => {
                let below = samples - samples % classes;
                let near = if below == 0 { String::new() } else { format!("{below} or ") };
                let reason = format!("is {samples}, no multiple of {classes} classes; give {near}{}", below + classes);
                return Err(self.samples_key.error(reason).into());
            }
        };
        Ok(Box::new(Opened { order, ends, classes, rounds, seed: population.seed }))
    }
}

/// The opened sampler.
#[derive(Debug)]
struct Opened {
    order: Column,
    ends: Column,
    classes: u64,
    /// Rounds of an epoch.
    rounds: u64,
    seed: u64,
}

impl Sampler for Opened {
    fn len(&self) -> u64 {
        self.rounds * self.classes
    }

    fn index(&self, epoch: u64, position: u64) -> u64 {
        // Counted through all epochs.
        let round = epoch.wrapping_mul(self.rounds).wrapping_add(position / self.classes);
        let class = Permutation::keyed(self.classes, &[self.seed, ROUND_OP, round]).index(position % self.classes);
        let start = class.checked_sub(1).map_or(0, |before| self.ends.at(before));
        let samples = self.ends.at(class) - start;
        let (pass, place) = (round / samples, round % samples);
        let place = Permutation::keyed(samples, &[self.seed, CLASS_OP, class, pass]).index(place);
        self.order.at(start + place)
    }
}
