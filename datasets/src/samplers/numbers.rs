//! The numbers that a dataset tells of its samples without reading them.

use std::fmt::Display;

use crate::options::OptionKey;
use crate::sampler::Population;
use crate::source::OpenError;

/// The most samples of which a sampler keeps a table: 8 GiB, or 16 while it is made.
const TABLE_MAX: u64 = 1 << 30;

/// A field by the option that names it.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) key: OptionKey,
}

impl Field {
    /// Asks for the number of every sample, in order.
    ///
    /// # Errors
    /// [`OpenError::Spec`]: the dataset does not tell it, or `take` refuses it with the number that was expected.
    pub(super) fn each<Expected: Display>(
        &self,
        population: &Population,
        mut take: impl FnMut(f64) -> Result<(), Expected>,
    ) -> Result<(), OpenError> {
        let Self { name, key } = self;
        let &Population { samples, dataset, .. } = population;
        if samples > TABLE_MAX {
            let reason = format!("is `{name}`, which asks for a table of {samples} samples, more than {TABLE_MAX}");
            return Err(key.error(reason).into());
        }
        for index in 0..samples {
            let Some(number) = dataset.number(name, index) else {
                let sample = dataset.name(index);
                let reason = format!(
                    "is `{name}`, but the dataset does not tell that number of {sample} without reading it; name a \
                     field that stands in its table or index, as labels, weights and lengths do"
                );
                return Err(key.error(reason).into());
            };
            take(number).map_err(|expected| {
                let sample = dataset.name(index);
                key.error(format_args!("is `{name}`, which is {number} for {sample}, not {expected}"))
            })?;
        }
        Ok(())
    }

    /// The indices of all samples with their numbers, the smallest first; of equal ones in the dataset's order.
    ///
    /// # Errors
    /// Those of [`each`](Self::each), for a number that is not finite or that `check` refuses.
    pub(super) fn sorted(
        &self,
        population: &Population,
        check: impl Fn(f64) -> Result<(), &'static str>,
    ) -> Result<Vec<(f64, u64)>, OpenError> {
        let mut numbers = Vec::new();
        self.each(population, |number| {
            if !number.is_finite() {
                return Err("a finite number");
            }
            check(number)?;
            // Zeros of both signs are one number.
            numbers.push((number + 0.0, numbers.len() as u64));
            Ok(())
        })?;
        numbers.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        Ok(numbers)
    }
}
