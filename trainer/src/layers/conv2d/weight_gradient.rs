//! What the gradient of a convolution says of its weights and its bias.

use rayon::prelude::*;

use super::convolution::{Convolution, Planes, blocks};
use super::kernel::{COLUMNS, ROWS, multiply};

/// Images whose gradients are summed by one thread. They do not follow from the number of threads, so that the sums do not
/// either.
const IMAGES: usize = 4;

/// The same where there are so many weights that adding them up would be much of the work.
const IMAGES_OF_MANY_WEIGHTS: usize = 16;

/// Weights that are many.
const MANY_WEIGHTS: usize = 1 << 16;

/// The gradients of weights and bias, in their shapes; of `x`, which arrived, and `gradient`, in the shape of what left.
pub(super) fn weight_gradient(convolution: &Convolution, x: &[f32], gradient: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let Convolution { groups, outputs, .. } = *convolution;
    let count = groups * outputs * convolution.depth();
    let images = if count < MANY_WEIGHTS { IMAGES } else { IMAGES_OF_MANY_WEIGHTS } * groups;
    let planes = Planes::of(convolution);
    let x = x.par_chunks(images * convolution.arriving());
    let gradient = gradient.par_chunks(images * convolution.leaving());
    let sums: Vec<Sums> = x
        .zip(gradient)
        .map(|(x, gradient)| {
            let mut sums = Sums { weights: vec![0.0; count], bias: vec![0.0; groups * outputs] };
            for group in 0..groups {
                sums.add_group(convolution, &planes, group, x, gradient);
            }
            sums
        })
        .collect();
    let Sums { weights, bias } = sums.into_iter().reduce(Sums::plus).expect("a batch has rows");
    (weights, bias)
}

struct Sums {
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl Sums {
    /// Adds what all images say of the weights of one group.
    fn add_group(&mut self, convolution: &Convolution, planes: &Planes, group: usize, x: &[f32], gradient: &[f32]) {
        let Convolution { groups, outputs, .. } = *convolution;
        let (arriving, leaving, depth) = (convolution.arriving(), convolution.leaving(), convolution.depth());
        let bias = &mut self.bias[group * outputs..][..outputs];
        let of_group = |x, gradient| (part(x, group, arriving), part(gradient, group, leaving));
        let images = x.chunks_exact(groups * arriving).zip(gradient.chunks_exact(groups * leaving));
        let images: Vec<(Vec<f32>, Vec<f32>)> = images
            .map(|(x, gradient)| {
                let (x, gradient) = of_group(x, gradient);
                bias.iter_mut()
                    .zip(gradient.chunks_exact(convolution.places()))
                    .for_each(|(bias, of)| *bias += sum(of));
                let mut spread = Vec::new();
                planes.spread(convolution, x, &mut spread);
                (spread_gradient(convolution, planes, gradient), spread)
            })
            .collect();
        let weights = &mut self.weights[group * outputs * depth..][..outputs * depth];
        for outputs in blocks(outputs, ROWS) {
            let images: Vec<(&[f32], &[f32])> =
                images.iter().map(|(rows, spread)| (&rows[outputs.start * planes.length..], &spread[..])).collect();
            for columns in blocks(depth, COLUMNS) {
                let mut put = |row: usize, sums: &[f32]| {
                    weights[(outputs.start + row) * depth + columns.start..][..sums.len()].copy_from_slice(sums);
                };
                let offsets = &planes.offsets[columns.clone()];
                match (outputs.len() == ROWS, columns.len() == COLUMNS) {
                    (true, true) => multiply_all::<ROWS, COLUMNS>(&images, planes.length, offsets, &mut put),
                    (true, false) => multiply_all::<ROWS, 1>(&images, planes.length, offsets, &mut put),
                    (false, true) => multiply_all::<1, COLUMNS>(&images, planes.length, offsets, &mut put),
                    (false, false) => multiply_all::<1, 1>(&images, planes.length, offsets, &mut put),
                }
            }
        }
    }

    fn plus(mut self, other: Self) -> Self {
        for (sums, others) in [(&mut self.weights, other.weights), (&mut self.bias, other.bias)] {
            sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += other);
        }
        self
    }
}

fn part(numbers: &[f32], group: usize, length: usize) -> &[f32] {
    &numbers[group * length..][..length]
}

/// The gradient in rows of the planes' pitch, with zeros where there is no place.
fn spread_gradient(convolution: &Convolution, planes: &Planes, gradient: &[f32]) -> Vec<f32> {
    let mut spread = vec![0.0; convolution.outputs * planes.length];
    for (gradient, to) in gradient.chunks_exact(convolution.places()).zip(spread.chunks_exact_mut(planes.length)) {
        for (row, to) in gradient.chunks_exact(convolution.axes[1].places).zip(to.chunks_mut(planes.pitch)) {
            to[..row.len()].copy_from_slice(row);
        }
    }
    spread
}

fn multiply_all<const R: usize, const K: usize>(
    images: &[(&[f32], &[f32])],
    length: usize,
    offsets: &[usize],
    put: &mut impl FnMut(usize, &[f32]),
) {
    let offsets = offsets.first_chunk::<K>().expect("there are so many");
    for (row, sums) in multiply::<R, K>(images, length, offsets).iter().enumerate() {
        put(row, sums);
    }
}

/// In an order that is always the same. Eight sums side by side: no addition waits for the one before.
fn sum(numbers: &[f32]) -> f32 {
    let mut sums = [0.0; 8];
    for numbers in numbers.chunks(sums.len()) {
        sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
    }
    sums.iter().sum()
}
