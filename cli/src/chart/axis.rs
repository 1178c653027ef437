//! Logarithmic axes.

/// An axis from `low` to `high`, both above 0.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    /// An axis that holds all values, with a little room at its ends. Values that have no logarithm don't count.
    pub fn around(values: impl Iterator<Item = f64>) -> Self {
        let values = values.filter(|value| *value > 0.0 && value.is_finite());
        let (low, high) = values.fold((f64::INFINITY, 0f64), |(l, h), v| (l.min(v), h.max(v)));
        if high == 0.0 {
            return Self { low: 0.1, high: 10.0 };
        }
        let room = (high / low).powf(0.06).max(1.15);
        Self { low: low / room, high: high * room }
    }

    /// Where a value is, from 0 to 1; beyond the ends, at the end.
    pub fn place(self, value: f64) -> f64 {
        let share = (value / self.low).ln() / (self.high / self.low).ln();
        if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) }
    }

    /// Round numbers on it: at least one.
    pub fn ticks(self) -> Vec<f64> {
        let decades = (self.high / self.low).log10();
        let steps: &[f64] = match decades {
            d if d > 3.0 => &[1.0],
            d if d > 1.0 => &[1.0, 2.0, 5.0],
            _ => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0],
        };
        let (from, to) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let all = (from..=to).flat_map(|decade| {
            let unit = 10f64.powi(decade);
            // 0.3 rather than 0.30000000000000004: divided where that is exact.
            steps
                .iter()
                .map(move |step| if decade < 0 { step / 10f64.powi(-decade) } else { step * unit })
        });
        all.filter(|tick| (self.low..=self.high).contains(tick)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_ticks() {
        let axis = Axis::around([1.0, 1000.0, 0.0, f64::NAN].into_iter());
        assert!(axis.place(1.0) > 0.0 && axis.place(1000.0) < 1.0);
        assert!((axis.place(31.622_776_601_683_79) - 0.5).abs() < 1e-9);
        assert_eq!((axis.place(-1.0), axis.place(0.0), axis.place(1e9)), (0.0, 0.0, 1.0));
        assert_eq!(axis.ticks(), [1.0, 10.0, 100.0, 1000.0]);
        let narrow = Axis::around([0.02, 0.06].into_iter());
        assert_eq!(narrow.ticks(), [0.02, 0.03, 0.04, 0.05, 0.06]);
        assert!(!Axis::around([20.0, 20.0].into_iter()).ticks().is_empty());
        assert!(!Axis::around(std::iter::empty()).ticks().is_empty());
    }
}
