//! The ten shapes of the sample data, as areas of the plane.

/// The names of [`Shape::ALL`], in order of their labels.
pub(super) const CLASSES: [&str; 10] =
    ["arrow", "bars", "circle", "crescent", "cross", "frame", "ring", "square", "star", "triangle"];

/// One of ten shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Arrow,
    Bars,
    Circle,
    Crescent,
    Cross,
    Frame,
    Ring,
    Square,
    Star,
    Triangle,
}

impl Shape {
    pub(super) const ALL: [Self; 10] = [
        Self::Arrow,
        Self::Bars,
        Self::Circle,
        Self::Crescent,
        Self::Cross,
        Self::Frame,
        Self::Ring,
        Self::Square,
        Self::Star,
        Self::Triangle,
    ];

    /// The class name.
    pub(super) fn name(self) -> &'static str {
        CLASSES[self as usize]
    }

    /// Whether the shape covers a point; it fills about the square from -1 to 1, `y` points down.
    pub(super) fn covers(self, x: f64, y: f64) -> bool {
        let radius = x.hypot(y);
        let largest = x.abs().max(y.abs());
        match self {
            Self::Arrow => {
                let shaft = x < 0.1 && x > -1.0 && y.abs() < 0.28;
                let head = x >= 0.1 && y.abs() < 1.0 - x;
                shaft || head
            }
            Self::Bars => largest < 0.95 && (y * 2.6).rem_euclid(1.3) < 0.62,
            Self::Circle => radius < 0.9,
            Self::Crescent => radius < 0.95 && (x - 0.45).hypot(y) > 0.75,
            Self::Cross => largest < 0.95 && x.abs().min(y.abs()) < 0.27,
            Self::Frame => largest < 0.9 && largest > 0.55,
            Self::Ring => radius < 0.95 && radius > 0.55,
            Self::Square => largest < 0.8,
            Self::Star => {
                // A five-pointed star: the edge runs straight from an outer to an inner corner.
                let fifth = std::f64::consts::TAU / 5.0;
                let angle = (x.atan2(-y).rem_euclid(fifth) - fifth / 2.0).abs();
                let (outer, inner) = (1.0, 0.42);
                let (sine, cosine) = (fifth / 2.0 - angle).sin_cos();
                let (across, along) = (radius * sine, radius * cosine);
                let corner = (fifth / 2.0).sin_cos();
                let slope = (outer - inner * corner.1) / (inner * corner.0);
                along + across * slope < outer
            }
            Self::Triangle => y < 0.75 && y > 1.8 * x.abs() - 0.95,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_differ_and_fit_their_square() {
        let grid = || (-12..=12).flat_map(|y| (-12..=12).map(move |x| (f64::from(x) / 10.0, f64::from(y) / 10.0)));
        let pictures = Shape::ALL.map(|shape| grid().map(|(x, y)| shape.covers(x, y)).collect::<Vec<_>>());
        for (place, picture) in pictures.iter().enumerate() {
            let covered = picture.iter().filter(|covered| **covered).count();
            assert!(covered > 60, "{} covers {covered} of 625 points", CLASSES[place]);
            for (other, second) in pictures.iter().enumerate().skip(place + 1) {
                let apart = picture.iter().zip(second).filter(|(one, two)| one != two).count();
                assert!(apart > 25, "{} and {} differ in {apart} points", CLASSES[place], CLASSES[other]);
            }
        }
        for shape in Shape::ALL {
            let outside = grid().filter(|(x, y)| x.abs().max(y.abs()) > 1.01 && shape.covers(*x, *y)).count();
            assert_eq!(outside, 0, "{} leaves its square", shape.name());
        }
    }
}
