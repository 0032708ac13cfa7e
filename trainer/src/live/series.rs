//! A curve of bounded length, however long the training.

/// The most points of a curve: a terminal has no more columns to tell apart.
const POINTS_MAX: usize = 512;

/// Points in the order they came; when there are too many, neighbours become their mean.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    points: Vec<(f64, f64)>,
    /// Values that make up a point.
    stride: u32,
    /// Sums of those that do not yet, and their count.
    open: (f64, f64, u32),
}

impl Default for Series {
    fn default() -> Self {
        Self { points: Vec::new(), stride: 1, open: (0.0, 0.0, 0) }
    }
}

impl Series {
    /// Adds a value; one that is no number is left out.
    pub(super) fn push(&mut self, x: f64, y: f64) {
        if !y.is_finite() {
            return;
        }
        let (sum_x, sum_y, count) = self.open;
        self.open = (sum_x + x, sum_y + y, count + 1);
        if self.open.2 < self.stride {
            return;
        }
        let (sum_x, sum_y, count) = std::mem::take(&mut self.open);
        self.points.push((sum_x / f64::from(count), sum_y / f64::from(count)));
        if self.points.len() >= POINTS_MAX {
            let mean =
                |pair: &[(f64, f64); 2]| (f64::midpoint(pair[0].0, pair[1].0), f64::midpoint(pair[0].1, pair[1].1));
            self.points = self.points.as_chunks().0.iter().map(mean).collect();
            self.stride = self.stride.saturating_mul(2);
        }
    }

    pub(super) fn points(&self) -> &[(f64, f64)] {
        &self.points
    }

    pub(super) fn last(&self) -> Option<f64> {
        self.points.last().map(|(_, y)| *y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_curve_keeps_its_shape_and_its_bound() {
        let mut series = Series::default();
        for step in 0..100_000 {
            series.push(f64::from(step), f64::from(step) * 2.0);
            assert!(series.points().len() < POINTS_MAX);
        }
        series.push(f64::NAN, f64::NAN);
        assert!(series.points().len() >= POINTS_MAX / 2);
        assert!(series.points().iter().all(|(x, y)| *y == 2.0 * x) && series.points().is_sorted_by(|a, b| a.0 < b.0));
    }
}
