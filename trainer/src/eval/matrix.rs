//! How often a sample of each class was taken for one of each, row by row.

use crate::metrics::ClassTally;

/// The confusion matrix. Rows are true classes, columns predicted ones, as in scikit-learn.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    /// *Shape* `[classes, classes]`, row-major.
    counts: Vec<u64>,
    classes: usize,
}

impl Matrix {
    /// What was counted, of a model of `classes` outputs.
    pub(super) fn of(tally: &ClassTally, classes: usize) -> Self {
        let mut counts = vec![0; classes * classes];
        for ((label, predicted), rows) in tally.confusion() {
            counts[label * classes + predicted] = rows;
        }
        Self { counts, classes }
    }

    /// How many classes there are.
    pub(super) fn classes(&self) -> usize {
        self.classes
    }

    /// Samples of class `label` that were taken for each class.
    pub(super) fn row(&self, label: usize) -> &[u64] {
        &self.counts[label * self.classes..][..self.classes]
    }

    /// All samples that were taken for another class than theirs.
    pub(super) fn mistakes(&self) -> u64 {
        let wrong = |label: usize| self.row(label).iter().sum::<u64>() - self.row(label)[label];
        (0..self.classes).map(wrong).sum()
    }
}

/// A tally of `counts` of labels and predictions, for tests.
#[cfg(test)]
pub(super) fn tally(classes: usize, counts: &[(usize, usize, usize)]) -> ClassTally {
    use burn::tensor::{Device, Tensor, TensorData};

    let mut tally = ClassTally::default();
    for &(label, predicted, rows) in counts {
        let row: Vec<f32> = (0..classes).map(|class| if class == predicted { 1.0 } else { 0.0 }).collect();
        let output = Tensor::<2>::from_data(TensorData::new(row.repeat(rows), [rows, classes]), &Device::flex());
        let label = i64::try_from(label).expect("a small number");
        let labels = Tensor::from_data(TensorData::new(vec![label; rows], [rows]), &Device::flex());
        tally.add(output, labels);
    }
    tally.collect().expect("the CPU does not fail");
    tally
}
