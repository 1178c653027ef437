//! Lloyd–Max: the 256 entries with the smallest squared error.
//!
//! The fit works on a histogram by the top 18 bits of each value (sign, exponent, 10 bits of
//! significand), which keeps counts and exact sums; so its cost depends on neither the matrix's size nor
//! the number of threads, and its result is the same for any order of adding.

use crate::error::{Error, Result};
use crate::lut::Lut;

/// Low bits of an f32 that bins don't tell apart.
const LOW: u32 = 13;
/// The exponents told apart are −31…0; what is smaller counts as 0 (bin 0).
const BASE: u32 = ((127 - 31) << (23 - LOW)) - 1;
/// Bins of one sign: 0, 32 powers of two of 2¹⁰ bins, of which the last holds 1 only.
const BINS: usize = 1 << 15;
/// Iterations at most; beyond some dozens they gain thousandths of a decibel.
const ITERATIONS: usize = 200;

#[derive(Clone, Copy, Default)]
struct Bin {
    count: u64,
    /// The sum of the low bits.
    low: u64,
}

/// How often values of magnitude ≤ 1 occur.
pub(super) struct Histogram {
    /// Nonnegative values, then negative ones, by magnitude.
    bins: Vec<Bin>,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self { bins: vec![Bin::default(); 2 * BINS] }
    }

    /// Adds `w · inverse`, which is at most 1 in magnitude.
    pub(super) fn add(&mut self, w: &[f32], inverse: f64) {
        for w in w {
            let bits = ((f64::from(*w) * inverse) as f32).to_bits();
            let magnitude = bits & 0x7FFF_FFFF;
            let i = (magnitude >> LOW).saturating_sub(BASE) as usize;
            let bin = &mut self.bins[i.min(BINS - 1) + (bits >> 31) as usize * BINS];
            bin.count += 1;
            bin.low += u64::from(magnitude & ((1 << LOW) - 1));
        }
    }

    pub(super) fn merge(mut self, other: Self) -> Self {
        for (bin, other) in self.bins.iter_mut().zip(other.bins) {
            bin.count += other.count;
            bin.low += other.low;
        }
        self
    }

    /// The bins of one sign that hold something, by magnitude. Bin 0 counts as positive.
    fn points(&self, negative: bool) -> Vec<Point> {
        let (positive, negatives) = self.bins.split_at(BINS);
        let own = if negative { negatives } else { positive };
        let mut points = Vec::new();
        let zeros = positive[0].count + negatives[0].count;
        if !negative && zeros > 0 {
            points.push(Point { mean: 0.0, count: zeros as f64, bin: 0 });
        }
        for (i, bin) in own.iter().enumerate().skip(1).filter(|(_, bin)| bin.count > 0) {
            let (start, end) = (bin_start(i), bin_start(i + 1));
            let share = bin.low as f64 / (bin.count as f64 * f64::from(1u32 << LOW));
            let mean = start + share * (end - start);
            points.push(Point { mean, count: bin.count as f64, bin: i });
        }
        points
    }
}

/// The least magnitude of a bin (not of bin 0).
fn bin_start(i: usize) -> f64 {
    f64::from(f32::from_bits((BASE + i as u32) << LOW))
}

/// What one bin holds.
#[derive(Clone, Copy)]
struct Point {
    mean: f64,
    count: f64,
    bin: usize,
}

/// The table fitted to a histogram, times `unit`: to magnitudes, or to values, in the order that
/// [`Lut::kmeans`] documents.
pub(super) fn table(histogram: &Histogram, magnitudes: bool, unit: f64) -> Result<Lut> {
    let (positive, mut negative) = (histogram.points(false), histogram.points(true));
    let mut table = [0.0; 256];
    let mut write = |at: usize, levels: usize, points: &[Point], sign: f64| {
        for (entry, level) in table[at..].iter_mut().zip(lloyd(points, levels)) {
            *entry = (sign * level * unit) as f32;
        }
    };
    if magnitudes {
        let mut points = positive;
        points.extend(negative);
        points.sort_by(|a, b| a.mean.total_cmp(&b.mean));
        write(0, 256, &points, 1.0);
    } else {
        let mass = |points: &[Point]| points.iter().map(|p| p.count).sum::<f64>();
        let (above, below) = (mass(&positive), mass(&negative));
        if above.min(below) >= 0.25 * (above + below) && below > 0.0 {
            write(0, 128, &positive, 1.0);
            write(128, 128, &negative, -1.0);
        } else {
            negative.reverse();
            negative.iter_mut().for_each(|p| p.mean = -p.mean);
            negative.extend(positive);
            write(0, 256, &negative, 1.0);
        }
    }
    Lut::new(&table)
}

/// At most `levels` values for points in ascending order, ascending; the last is repeated if there
/// are fewer points.
fn lloyd(points: &[Point], levels: usize) -> Vec<f64> {
    let Some(last) = points.last() else { return vec![0.0; levels] };
    if points.len() <= levels {
        let mut values: Vec<f64> = points.iter().map(|p| p.mean).collect();
        values.resize(levels, last.mean);
        return values;
    }
    let mut sums = Vec::with_capacity(points.len() + 1);
    sums.push((0.0, 0.0));
    for p in points {
        let (count, sum) = sums[sums.len() - 1];
        sums.push((count + p.count, sum + p.count * p.mean));
    }
    let mut values = start(points, levels);
    let mut ends = vec![0; levels + 1];
    ends[levels] = points.len();
    for _ in 0..ITERATIONS {
        let mut moved = false;
        for i in 1..levels {
            let middle = (values[i - 1] + values[i]) / 2.0;
            let end = points.partition_point(|p| p.mean < middle);
            moved |= end != ends[i];
            ends[i] = end;
        }
        for (value, end) in values.iter_mut().zip(ends.windows(2)) {
            let ((c0, s0), (c1, s1)) = (sums[end[0]], sums[end[1]]);
            // A cell that lost all its points keeps its value, which is still in order.
            if end[1] > end[0] {
                *value = (s1 - s0) / (c1 - c0);
            }
        }
        if !moved {
            break;
        }
    }
    values
}

/// Values to start from, all of different points. Where there are many levels the best density of
/// them is the cube root of the points' density (Panter and Dite, 1951), far closer to the end than
/// quantiles of the points, from which Lloyd's steps need thousands.
fn start(points: &[Point], levels: usize) -> Vec<f64> {
    /// Bins that share an estimate of density: single ones hold too few points for one.
    const COARSE: usize = 16;
    let (mut total, mut masses) = (0.0, Vec::with_capacity(points.len()));
    for group in points.chunk_by(|a, b| a.bin / COARSE == b.bin / COARSE) {
        let first = group[0].bin / COARSE * COARSE;
        let width = bin_start(first + COARSE) - bin_start(first.max(1));
        let count = group.iter().map(|p| p.count).sum::<f64>();
        let mass = libm::cbrt(count * width * width);
        for p in group {
            total += mass * p.count / count;
            masses.push(total);
        }
    }
    let mut next = 0;
    (0..levels)
        .map(|level| {
            let wanted = total * (level as f64 + 0.5) / levels as f64;
            let found = masses.partition_point(|mass| *mass < wanted);
            let i = found.max(next).min(points.len() - levels + level);
            next = i + 1;
            points[i].mean
        })
        .collect()
}

/// The table for values, times their largest magnitude.
fn fit(values: &[f32], magnitudes: bool) -> Result<Lut> {
    if let Some(col) = values.iter().position(|v| !v.is_finite()) {
        let what = "values".into();
        return Err(Error::NonFinite { what, row: 0, col, value: values[col] });
    }
    let max = values.iter().fold(0f32, |max, v| max.max(v.abs()));
    let mut histogram = Histogram::new();
    histogram.add(values, if max == 0.0 { 0.0 } else { 1.0 / f64::from(max) });
    table(&histogram, magnitudes, f64::from(max))
}

impl Lut {
    /// k-means (Lloyd–Max) on values: the table without a sign plane that suits them best.
    ///
    /// If a quarter or more of the values is on either side of 0, codes 0…127 are for those ≥ 0 and
    /// 128…255 for those < 0, both by ascending magnitude, so that the code's top bit is the sign;
    /// else the table ascends. Fewer distinct values than entries are met exactly, to 11 bits.
    /// No values at all give a table of zeros.
    ///
    /// # Errors
    /// [`Error::NonFinite`] naming the first NaN or infinity (its position as the column).
    pub fn kmeans(values: &[f32]) -> Result<Self> {
        fit(values, false)
    }

    /// k-means (Lloyd–Max) on the magnitudes of values: the table beside a sign plane, ascending.
    ///
    /// # Errors
    /// As [`Lut::kmeans`].
    pub fn kmeans_magnitudes(values: &[f32]) -> Result<Self> {
        fit(values, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use rand_distr::StandardNormal;

    #[test]
    fn gaussian_error_is_that_of_theory() {
        let mut rng = StdRng::seed_from_u64(3);
        let values: Vec<f32> = (0..1 << 20).map(|_| rng.sample(StandardNormal)).collect();
        let (plain, signed) =
            (Lut::kmeans(&values).unwrap(), Lut::kmeans_magnitudes(&values).unwrap());
        let error = |lut: &Lut, map: fn(f32) -> f32| {
            let mut entries = *lut.values();
            entries.sort_by(f32::total_cmp);
            let square = |v: &f32| {
                let v = map(*v);
                let i = entries.partition_point(|e| *e < v);
                let near = entries[i.saturating_sub(1)..].iter().take(2);
                near.map(|e| f64::from(e - v).powi(2)).fold(f64::INFINITY, f64::min)
            };
            values.iter().map(square).sum::<f64>() / values.len() as f64
        };
        // Panter–Dite: √3·π/2 / levels², which finite tables stay a little below.
        let theory = |levels: f64| 3f64.sqrt() * std::f64::consts::PI / 2.0 / (levels * levels);
        let (plain, signed) = (error(&plain, |v| v), error(&signed, f32::abs));
        println!("of theory: {:.4}, {:.4}", plain / theory(256.0), signed / theory(512.0));
        assert!((0.95..1.01).contains(&(plain / theory(256.0))));
        assert!((0.95..1.01).contains(&(signed / theory(512.0))));
    }

    #[test]
    fn the_top_bit_is_the_sign_where_both_are_frequent() {
        let values: Vec<f32> = (-1000..1000).map(|i| i as f32 / 999.0).collect();
        let lut = Lut::kmeans(&values).unwrap();
        assert!(lut.values()[..128].is_sorted() && lut.values()[0] >= 0.0);
        assert!(lut.values()[128..].is_sorted_by(|a, b| a >= b) && lut.values()[128] < 0.0);
        let few: Vec<f32> = values.iter().copied().filter(|v| *v > -0.2).collect();
        assert!(Lut::kmeans(&few).unwrap().values().is_sorted());
    }

    #[test]
    fn few_values_are_met() {
        let lut = Lut::kmeans(&[0.5, -0.25, 3.0, 3.0, 0.0]).unwrap();
        for value in [0.5, -0.25, 3.0, 0.0] {
            assert!(lut.values().contains(&value), "{value}");
        }
        assert_eq!(Lut::kmeans(&[]).unwrap().values(), &[0.0; 256]);
        assert_eq!(Lut::kmeans(&[0.0; 9]).unwrap().values(), &[0.0; 256]);
        let huge = Lut::kmeans_magnitudes(&[f32::MAX, -1e-45]).unwrap();
        assert_eq!((huge.entry(255), huge.entry(0)), (f32::MAX, 0.0));
    }

    #[test]
    fn not_finite() {
        let error = Lut::kmeans(&[0.0, f32::NAN]).unwrap_err();
        assert!(matches!(error, Error::NonFinite { col: 1, .. }));
    }
}
