//! The worst mistakes of a model on a stream.

use std::cmp::Reverse;

use burn::tensor::TensorReadError;

use crate::normalize::Raw;

/// The worst of all mistakes so far.
#[derive(Debug)]
pub(super) struct Worst {
    /// Those of the least probability of the true class, the least first; of equals, the first.
    pub(super) mistakes: Vec<Mistake>,
    most: usize,
}

/// A sample that was taken for one of another class.
#[derive(Clone, Debug)]
pub(super) struct Mistake {
    pub(super) label: usize,
    pub(super) predicted: usize,
    /// Of the predicted class.
    pub(super) probability: f32,
    /// The cross entropy: `-log` of the probability of the true class.
    pub(super) loss: f32,
    /// As the model saw it.
    pub(super) pixels: Vec<u8>,
}

impl Worst {
    /// None; the `most` worst will be kept.
    pub(super) fn new(most: usize) -> Self {
        Self { mistakes: Vec::new(), most }
    }

    /// Adds a batch. *Shapes* of `log_probabilities` `[rows, classes]`, row-major, of `labels` `[rows]`.
    ///
    /// # Errors
    /// When the pixels of a mistake cannot be taken from the device.
    pub(super) fn add(
        &mut self,
        log_probabilities: &[f32],
        labels: &[usize],
        seen: &Raw,
    ) -> Result<(), TensorReadError> {
        let classes = log_probabilities.len() / labels.len().max(1);
        let rows = log_probabilities.chunks_exact(classes.max(1)).zip(labels);
        for (row, (said, &label)) in rows.enumerate() {
            let predicted = first_of_the_largest(said);
            let loss = -said[label];
            if predicted != label && self.is_bad_enough(loss) {
                let probability = said[predicted].exp();
                let pixels = seen.image(row)?;
                self.keep(Mistake { label, predicted, probability, loss, pixels });
            }
        }
        Ok(())
    }

    fn is_bad_enough(&self, loss: f32) -> bool {
        let last = self.mistakes.last().filter(|_| self.mistakes.len() == self.most);
        last.is_none_or(|last| loss.total_cmp(&last.loss).is_gt())
    }

    fn keep(&mut self, mistake: Mistake) {
        let place = self.mistakes.partition_point(|other| other.loss.total_cmp(&mistake.loss).is_ge());
        self.mistakes.insert(place, mistake);
        self.mistakes.truncate(self.most);
    }
}

fn first_of_the_largest(said: &[f32]) -> usize {
    let largest =
        said.iter().enumerate().max_by(|(a, one), (b, other)| one.total_cmp(other).then(Reverse(a).cmp(&Reverse(b))));
    largest.map_or(0, |(label, _)| label)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::normalize::Pixels;
    use crate::shape::ImageShape;

    #[test]
    fn the_worst_mistakes_are_kept_with_their_pixels() {
        let shape = ImageShape { height: 1, width: 2, channels: 1 };
        let mut worst = Worst::new(2);
        let halves = |numbers: [f32; 3]| numbers.map(f32::ln);
        let batches = [
            // Right; wrong by a little; wrong by much.
            ([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.9, 0.05, 0.05]], [0, 1, 2]),
            // Wrong by more; as the second before; of equal classes the first, which is right.
            ([[0.98, 0.01, 0.01], [0.5, 0.4, 0.1], [0.4, 0.4, 0.2]], [1, 1, 0]),
        ];
        for (batch, (said, labels)) in (0_u8..).zip(batches) {
            let bytes: Vec<u8> = (0..6).map(|place| batch * 10 + place).collect();
            let pixels = Raw::Pixels(Pixels::new(bytes.into(), 3, shape, &Device::flex()));
            let said: Vec<f32> = said.into_iter().flat_map(halves).collect();
            worst.add(&said, &labels, &pixels).expect("the CPU does not fail");
        }
        let kept: Vec<_> = worst.mistakes.iter().map(|bad| (bad.label, bad.predicted, bad.pixels.clone())).collect();
        assert_eq!(kept, [(1, 0, vec![10, 11]), (2, 0, vec![4, 5])]);
        assert!((worst.mistakes[0].probability - 0.98).abs() < 1e-6);
    }

    #[test]
    fn equal_mistakes_are_kept_as_they_came() {
        let shape = ImageShape { height: 1, width: 1, channels: 1 };
        let mut worst = Worst::new(3);
        let pixels = Raw::Pixels(Pixels::new((0..5).collect::<Vec<u8>>().into(), 5, shape, &Device::flex()));
        worst.add(&[-0.5, -1.0].repeat(5), &[1; 5], &pixels).expect("the CPU does not fail");
        assert_eq!(worst.mistakes.iter().map(|bad| bad.pixels[0]).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(first_of_the_largest(&[0.1, 0.4, 0.4]), 1);
    }
}
