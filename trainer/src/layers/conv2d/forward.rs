//! What leaves a convolution.

use rayon::prelude::*;

use super::convolution::{Convolution, Packed, Planes, Room};

/// What leaves. *Shape* `[batch, groups * outputs, height, width]`, of `x` `[batch, groups * inputs, height, width]` and
/// `weights` `[groups * outputs, inputs, height, width]`.
///
/// An image's numbers do not depend on the others of its batch.
pub(super) fn forward(convolution: &Convolution, x: &[f32], weights: &[f32], bias: &[f32]) -> Vec<f32> {
    let Convolution { groups, outputs, .. } = *convolution;
    let (planes, depth, places) = (Planes::of(convolution), convolution.depth(), convolution.places());
    let (arriving, leaving) = (convolution.arriving(), convolution.leaving());
    let packed = |weights: &[f32]| Packed::new(outputs, depth, |output, k| weights[output * depth + k]);
    let packed: Vec<Packed> = weights.chunks_exact(outputs * depth).map(packed).collect();
    let mut y = vec![0.0; x.len() / arriving * leaving];
    let images = x.par_chunks_exact(groups * arriving).zip(y.par_chunks_exact_mut(groups * leaving));
    images.for_each_init(Room::default, |Room { spread, sums }, (x, y)| {
        let parts = x.chunks_exact(arriving).zip(y.chunks_exact_mut(leaving)).zip(bias.chunks_exact(outputs));
        for (((x, y), bias), packed) in parts.zip(&packed) {
            planes.spread(convolution, x, spread);
            packed.correlate(&planes.offsets, spread, planes.length, sums, |output, sums| {
                let y = &mut y[output * places..][..places];
                for (y, sums) in y.chunks_exact_mut(convolution.axes[1].places).zip(sums.chunks(planes.pitch)) {
                    y.iter_mut().zip(sums).for_each(|(y, sum)| *y = sum + bias[output]);
                }
            });
        }
    });
    y
}
