//! How often a class was taken for which: accuracy, top-k, the confusion matrix, precision, recall and F1.

use std::collections::BTreeMap;
use std::mem;

use burn::tensor::{Int, Tensor, TensorReadError};
use serde::Serialize;

use super::exact;

/// How well one class was found, each 0 to 1. What would be divided by 0 is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ClassScore {
    /// Of the rows taken for it, the share that are of it.
    pub precision: f64,
    /// Of its rows, the share that was taken for it.
    pub recall: f64,
    /// The harmonic mean of both.
    pub f1: f64,
    /// Its rows.
    pub support: u64,
}

/// How well all classes were found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassReport {
    /// By label.
    pub classes: Vec<ClassScore>,
    /// The mean over the classes that occur, as a label or as a prediction; its support is all rows.
    ///
    /// *Source* `sklearn.metrics.classification_report` and `torchmetrics`: both leave out a class that occurs nowhere.
    pub macro_average: ClassScore,
}

/// Counts of labels and predictions; exact.
#[derive(Debug, Default)]
pub struct ClassTally {
    /// Of each batch: predicted classes, labels, and at which place each label came, from 0. *Shape* `[batch]`.
    recent: Vec<[Tensor<1, Int>; 3]>,
    /// Outputs of the model.
    classes: usize,
    /// Rows by label and prediction, where there are any: with many classes most places would be empty.
    confusion: BTreeMap<(usize, usize), u64>,
    /// Rows by the place of their label.
    places: BTreeMap<u64, u64>,
}

impl ClassTally {
    /// Adds a batch. Does not wait for the device. *Shapes* output `[batch, classes]`, labels `[batch]`.
    pub fn add(&mut self, output: Tensor<2>, labels: Tensor<1, Int>) {
        self.classes = output.dims()[1];
        let predicted = output.clone().argmax(1).squeeze_dim(1);
        let places = places(output, labels.clone());
        self.recent.push([predicted, labels, places]);
    }

    /// Brings what was added since the last time to the host. Waits for the device.
    ///
    /// # Errors
    /// When the device fails.
    pub fn collect(&mut self) -> Result<(), TensorReadError> {
        let recent = mem::take(&mut self.recent);
        if recent.is_empty() {
            return Ok(());
        }
        let [mut all, mut labels, mut places] = [Vec::new(), Vec::new(), Vec::new()];
        for batch in recent {
            all.push(batch[0].clone());
            labels.push(batch[1].clone());
            places.push(batch[2].clone());
        }
        all.append(&mut labels);
        all.append(&mut places);
        // One reading for all three.
        let numbers: Vec<u32> = Tensor::cat(all, 0).try_into_vec_as()?;
        let (predicted, rest) = numbers.split_at(numbers.len() / 3);
        let (labels, places) = rest.split_at(numbers.len() / 3);
        let class = |number: &u32| usize::try_from(*number).expect("classes fit the memory");
        for (label, predicted) in labels.iter().zip(predicted) {
            *self.confusion.entry((class(label), class(predicted))).or_default() += 1;
        }
        for place in places {
            *self.places.entry(u64::from(*place)).or_default() += 1;
        }
        Ok(())
    }

    /// The rows collected.
    pub fn rows(&self) -> u64 {
        self.places.values().sum()
    }

    /// The share of rows whose label has the largest score, 0 to 1; none before there is a row.
    pub fn accuracy(&self) -> Option<f64> {
        let hits =
            self.confusion.iter().filter(|((label, predicted), _)| label == predicted).map(|(_, rows)| rows).sum();
        self.share(hits)
    }

    /// The share of rows whose label is among the `k` largest scores, 0 to 1; none before there is a row. Of equal
    /// scores the lower class comes first.
    pub fn top(&self, k: u64) -> Option<f64> {
        self.share(self.places.range(..k).map(|(_, rows)| rows).sum())
    }

    fn share(&self, hits: u64) -> Option<f64> {
        Some(self.rows()).filter(|rows| *rows > 0).map(|rows| exact(hits) / exact(rows))
    }

    /// Rows by label and prediction, in order, where there are any.
    pub fn confusion(&self) -> impl Iterator<Item = ((usize, usize), u64)> {
        self.confusion.iter().map(|(place, rows)| (*place, *rows))
    }

    /// How well each class was found.
    pub fn report(&self) -> ClassReport {
        let [mut hits, mut labelled, mut predicted] = [(); 3].map(|()| vec![0_u64; self.classes]);
        for ((label, prediction), rows) in self.confusion() {
            labelled[label] += rows;
            predicted[prediction] += rows;
            hits[label] += if label == prediction { rows } else { 0 };
        }
        let score = |class: usize| ClassScore {
            precision: quotient(hits[class], predicted[class]),
            recall: quotient(hits[class], labelled[class]),
            f1: quotient(2 * hits[class], predicted[class] + labelled[class]),
            support: labelled[class],
        };
        let classes: Vec<_> = (0..self.classes).map(score).collect();
        let occurring = (0..self.classes).filter(|class| labelled[*class] + predicted[*class] > 0);
        let (mut count, mut sums) = (0, ClassScore::default());
        for score in occurring.map(|class| classes[class]) {
            count += 1;
            sums.precision += score.precision;
            sums.recall += score.recall;
            sums.f1 += score.f1;
            sums.support += score.support;
        }
        let mean = |sum: f64| if count == 0 { 0.0 } else { sum / exact(count) };
        let macro_average = ClassScore {
            precision: mean(sums.precision),
            recall: mean(sums.recall),
            f1: mean(sums.f1),
            support: sums.support,
        };
        ClassReport { classes, macro_average }
    }
}

fn quotient(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { exact(part) / exact(whole) }
}

/// How many scores of each row come before that of its label. What is no number comes last.
fn places(output: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1, Int> {
    let [rows, classes] = output.dims();
    let labels = labels.unsqueeze_dim::<2>(1);
    let own = output.clone().gather(1, labels.clone()).expand([rows, classes]);
    let last = i64::try_from(classes).expect("classes fit the memory");
    let each = Tensor::<1, Int>::arange(0..last, &output.device()).unsqueeze::<2>().expand([rows, classes]);
    let later = each.greater(labels.expand([rows, classes]));
    let behind = output.clone().lower(own.clone()).bool_or(output.equal(own).bool_and(later));
    behind.int().sum_dim(1).squeeze_dim::<1>(1).neg().add_scalar(last - 1)
}
