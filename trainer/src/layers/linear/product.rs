//! The matrix products of a linear layer: what leaves, and what its gradient says of what arrived and of the weights.
//!
//! Matrices lie row by row. Each number of a result is one sum in the order of its terms, whoever computes it: the
//! number of threads changes no bit, and a row of a batch does not know the others.

use std::array;

use rayon::prelude::*;

use super::block::{COLUMNS, ROWS, Row, multiply};

/// Columns of what leaves that one thread takes at a time. So many lie side by side that reading them from memory waits
/// little.
const LEAVING: usize = 8 * COLUMNS;

/// The same of the gradient of what arrived, which is computed in columns of [`ROWS`].
const ARRIVING: usize = 8 * ROWS;

/// `x` times `weights`, plus `bias` in every row. *Shapes* `[rows, inputs]`, `[inputs, outputs]`, `[outputs]`; result
/// `[rows, outputs]`.
pub(super) fn forward(x: &[f32], weights: &[f32], bias: &[f32]) -> Vec<f32> {
    let outputs = bias.len();
    let inputs = weights.len() / outputs;
    let mut y = vec![0.0; x.len() / inputs * outputs];
    let strips = strips(&mut y, outputs, LEAVING).into_par_iter().zip(bias.par_chunks(LEAVING)).enumerate();
    strips.for_each_init(Vec::new, |room, (strip, (mut y, bias))| {
        let columns = strip * LEAVING..strip * LEAVING + bias.len();
        pack(weights.chunks_exact(outputs).map(|row| &row[columns.clone()]), inputs, room);
        let bias: Vec<Row> = bias.chunks(COLUMNS).map(padded).collect();
        for (x, y) in x.chunks(ROWS * inputs).zip(y.chunks_mut(ROWS)) {
            multiply(rows(x, inputs), room, inputs, &bias, y);
        }
    });
    y
}

/// `gradient` times the transposed `weights`. *Shapes* `[rows, outputs]`, `[inputs, outputs]`; result `[rows, inputs]`.
pub(super) fn input_gradient(gradient: &[f32], weights: &[f32], outputs: usize) -> Vec<f32> {
    let inputs = weights.len() / outputs;
    let mut arrived = vec![0.0; gradient.len() / outputs * inputs];
    // It is computed transposed: so it is the few rows of the batch that are turned round, not the many weights.
    let panels: Vec<Vec<Row>> = gradient.par_chunks(COLUMNS * outputs).map(|rows| turned(rows, outputs)).collect();
    let strips = strips(&mut arrived, inputs, ARRIVING).into_par_iter().zip(weights.par_chunks(ARRIVING * outputs));
    strips.for_each(|(mut arrived, weights)| {
        for (block, weights) in weights.chunks(ROWS * outputs).enumerate() {
            for (panel, arrived) in panels.iter().zip(arrived.chunks_mut(COLUMNS)) {
                let mut sums = [[0.0; COLUMNS]; ROWS];
                let out = &mut sums.each_mut().map(|row| &mut row[..]);
                multiply(rows(weights, outputs), panel, outputs, &[[0.0; COLUMNS]], out);
                for (row, arrived) in arrived.iter_mut().enumerate() {
                    let arrived = arrived[block * ROWS..].iter_mut();
                    arrived.zip(&sums).for_each(|(arrived, sums)| *arrived = sums[row]);
                }
            }
        }
    });
    arrived
}

/// The transposed `x` times `gradient`. *Shapes* `[rows, inputs]`, `[rows, outputs]`; result `[inputs, outputs]`.
pub(super) fn weight_gradient(x: &[f32], gradient: &[f32], [inputs, outputs]: [usize; 2]) -> Vec<f32> {
    let depth = x.len() / inputs;
    let (mut panels, bias) = (Vec::new(), vec![[0.0; COLUMNS]; outputs.div_ceil(COLUMNS)]);
    pack(gradient.chunks_exact(outputs), depth, &mut panels);
    let mut weights = vec![0.0; inputs * outputs];
    weights.par_chunks_mut(ROWS * outputs).enumerate().for_each_init(Vec::new, |left, (block, weights)| {
        left.clear();
        left.extend(x.chunks_exact(inputs).map(|x| padded(&x[block * ROWS..])));
        let mut rows: Vec<&mut [f32]> = weights.chunks_exact_mut(outputs).collect();
        multiply(&left[..], &panels, depth, &bias, &mut rows);
    });
    weights
}

/// The sum of the rows of `gradient`. *Shape* `[outputs]`.
pub(super) fn bias_gradient(gradient: &[f32], outputs: usize) -> Vec<f32> {
    let mut bias = vec![0.0; outputs];
    for row in gradient.chunks_exact(outputs) {
        bias.iter_mut().zip(row).for_each(|(sum, number)| *sum += number);
    }
    bias
}

/// The rows of `matrix` in strips of so many columns: of each strip, its part of every row.
fn strips(matrix: &mut [f32], columns: usize, strip: usize) -> Vec<Vec<&mut [f32]>> {
    let mut strips: Vec<Vec<&mut [f32]>> = Vec::new();
    strips.resize_with(columns.div_ceil(strip), || Vec::with_capacity(matrix.len() / columns));
    for row in matrix.chunks_exact_mut(columns) {
        strips.iter_mut().zip(row.chunks_mut(strip)).for_each(|(strip, part)| strip.push(part));
    }
    strips
}

/// Packs a matrix of `depth` rows into panels.
fn pack<'a>(rows: impl Iterator<Item = &'a [f32]>, depth: usize, panels: &mut Vec<Row>) {
    for (k, row) in rows.enumerate() {
        if k == 0 {
            panels.resize(row.len().div_ceil(COLUMNS) * depth, [0.0; COLUMNS]);
        }
        for (part, to) in row.chunks(COLUMNS).zip(panels[k..].iter_mut().step_by(depth)) {
            match part.first_chunk() {
                Some(whole) => *to = *whole,
                None => *to = padded(part),
            }
        }
    }
}

/// The first numbers of a row; zeros behind its end.
fn padded<const N: usize>(row: &[f32]) -> [f32; N] {
    array::from_fn(|idx| row.get(idx).copied().unwrap_or(0.0))
}

/// `N` rows of so many columns; where there are fewer, the last stands for those that are missing.
fn rows<const N: usize>(matrix: &[f32], columns: usize) -> [&[f32]; N] {
    let last = matrix.len() / columns - 1;
    array::from_fn(|row| &matrix[row.min(last) * columns..][..columns])
}

/// The columns of [`rows`].
fn turned(matrix: &[f32], columns: usize) -> Vec<Row> {
    let rows: [&[f32]; COLUMNS] = rows(matrix, columns);
    (0..columns).map(|column| array::from_fn(|row| rows[row][column])).collect()
}
