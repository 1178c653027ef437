//! What encoding cost: errors of the decoded weights against the original ones.

use crate::bands;
use crate::element::Element;
use crate::error::{Error, Result, area};
use crate::weights::Weights;

/// Errors of encoded weights, in the unit of the weights.
///
/// For a matrix without weights everything is 0, and `sqnr_db` infinite.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct ErrorReport {
    /// Weights compared.
    pub count: usize,
    /// Mean of `|decoded − original|`.
    pub mean_abs: f64,
    /// Largest `|decoded − original|`.
    pub max_abs: f64,
    /// Root of the mean of `(decoded − original)²`.
    pub rms: f64,
    /// Root of the mean of `original²`.
    pub original_rms: f64,
    /// Signal to quantisation noise in dB: `20·log10(original_rms / rms)`; infinite without an error.
    pub sqnr_db: f64,
    /// Share, 0…1, of weights whose code has the smallest or the largest entry among the codes in
    /// use: large where a format saturates or rounds much to zero.
    pub share_at_ends: f64,
    /// Different codes in use, of 256.
    pub codes_used: usize,
}

/// Sums over a part of the weights.
#[derive(Clone)]
struct Sums {
    abs: f64,
    square: f64,
    original: f64,
    max: f64,
    codes: [u64; 256],
    /// Position and value of the first weight of the original that isn't finite.
    bad: Option<(usize, f32)>,
}

impl Sums {
    const ZERO: Self =
        Self { abs: 0.0, square: 0.0, original: 0.0, max: 0.0, codes: [0; 256], bad: None };

    fn add_row(&mut self, decoded: &[f32], original: &[f32]) {
        /// Independent sums, so that additions need not wait for each other; their order is fixed.
        const LANES: usize = 8;
        let (mut abs, mut square, mut signal, mut max) =
            ([0.0; LANES], [0.0; LANES], [0.0; LANES], [0f64; LANES]);
        let lines = decoded.chunks(LANES).zip(original.chunks(LANES));
        for (decoded, original) in lines {
            for (lane, (d, o)) in decoded.iter().zip(original).enumerate() {
                let error = (f64::from(*d) - f64::from(*o)).abs();
                abs[lane] += error;
                square[lane] += error * error;
                signal[lane] += f64::from(*o) * f64::from(*o);
                // NaN (weights that propagate it) must show.
                if error > max[lane] || error.is_nan() {
                    max[lane] = error;
                }
            }
        }
        self.abs += abs.iter().sum::<f64>();
        self.square += square.iter().sum::<f64>();
        self.original += signal.iter().sum::<f64>();
        self.max = max.into_iter().fold(self.max, largest);
    }

    fn merge(mut self, other: &Self) -> Self {
        self.abs += other.abs;
        self.square += other.square;
        self.original += other.original;
        self.max = largest(self.max, other.max);
        self.bad = self.bad.or(other.bad);
        for (count, more) in self.codes.iter_mut().zip(other.codes) {
            *count += more;
        }
        self
    }
}

/// The larger one, or NaN if there is one.
fn largest(a: f64, b: f64) -> f64 {
    if a >= b || a.is_nan() { a } else { b }
}

impl Weights<'_> {
    /// Compares the decoded weights with the matrix they were made of, `n × k` row-major.
    ///
    /// Sums are in f64, in an order that depends on the shape alone: threads never change a bit.
    ///
    /// # Errors
    /// [`Error::Length`] if `original` is not `n·k` long; [`Error::NonFinite`] if it holds a NaN or an
    /// infinity (the first one), or as [`Weights::prepare`] says.
    pub fn error_report<T: Element>(&self, original: &[T]) -> Result<ErrorReport> {
        let (n, k) = (self.n(), self.k());
        let expected = area("original", n, k)?;
        if original.len() != expected {
            let (what, unit, got) = ("original", "elements", original.len());
            return Err(Error::Length { what, unit, rows: n, cols: k, expected, got });
        }
        self.prepare()?;
        let rows = bands::band_rows(k);
        let starts = if k == 0 { Vec::new() } else { (0..n).step_by(rows).collect() };
        let parts = bands::map(starts, |start: usize| {
            let (mut sums, mut decoded, mut widened) = (Sums::ZERO, vec![0.0; k], vec![0.0; k]);
            for row in start..(start + rows).min(n) {
                T::widen(&original[row * k..][..k], &mut widened);
                self.decode_row(row, &mut decoded);
                if let Some(col) = widened.iter().position(|w| !w.is_finite()) {
                    sums.bad = Some((row * k + col, widened[col]));
                    break;
                }
                sums.add_row(&decoded, &widened);
                for code in &self.codes()[row * k..][..k] {
                    sums.codes[usize::from(*code)] += 1;
                }
            }
            sums
        });
        let sums = parts.iter().fold(Sums::ZERO, Sums::merge);
        if let Some((at, value)) = sums.bad {
            let what = format!("original of {}", self.name());
            return Err(Error::NonFinite { what, row: at / k, col: at % k, value });
        }
        let count = expected.max(1) as f64;
        let (rms, original_rms) =
            (libm::sqrt(sums.square / count), libm::sqrt(sums.original / count));
        let sqnr_db =
            if rms == 0.0 { f64::INFINITY } else { 20.0 * libm::log10(original_rms / rms) };
        Ok(ErrorReport {
            count: expected,
            mean_abs: sums.abs / count,
            max_abs: sums.max,
            rms,
            original_rms,
            sqnr_db,
            share_at_ends: self.at_ends(&sums.codes) as f64 / count,
            codes_used: sums.codes.iter().filter(|count| **count > 0).count(),
        })
    }

    /// Weights with the smallest or the largest entry in use.
    fn at_ends(&self, counts: &[u64; 256]) -> u64 {
        let used = || {
            let entries = self.lut().values().iter().zip(counts);
            entries.filter(|(entry, count)| **count > 0 && entry.is_finite())
        };
        let low = used().map(|(entry, _)| *entry).fold(f32::INFINITY, f32::min);
        let high = used().map(|(entry, _)| *entry).fold(f32::NEG_INFINITY, f32::max);
        let at_end = used().filter(|(entry, _)| **entry == low || **entry == high);
        at_end.map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Lut, Scales};

    fn weights(codes: Vec<u8>) -> Weights<'static> {
        let shape = (2, codes.len() / 2);
        let scales = Scales::tensor(0.5, (shape.0, shape.1)).unwrap();
        Weights::new(codes, shape, Lut::int8(), scales).unwrap()
    }

    #[test]
    fn by_hand() {
        let w = weights(vec![2, 0xFE, 4, 4]); // 1 −1 2 2
        let report = w.error_report(&[1.0f32, -1.5, 2.0, 3.0]).unwrap();
        assert_eq!((report.count, report.codes_used), (4, 3));
        assert_eq!((report.mean_abs, report.max_abs), (0.375, 1.0));
        assert_eq!(report.rms, (1.25f64 / 4.0).sqrt());
        assert_eq!(report.original_rms, (16.25f64 / 4.0).sqrt());
        assert!((report.sqnr_db - 10.0 * (16.25f64 / 1.25).log10()).abs() < 1e-12);
        assert_eq!(report.share_at_ends, 0.75);
    }

    #[test]
    fn without_weights_or_errors() {
        let report = weights(vec![]).error_report::<f32>(&[]).unwrap();
        assert_eq!((report.count, report.rms, report.sqnr_db), (0, 0.0, f64::INFINITY));
        let report = weights(vec![2, 2]).error_report(&[1.0f32, 1.0]).unwrap();
        assert_eq!((report.max_abs, report.sqnr_db), (0.0, f64::INFINITY));
    }

    #[test]
    fn errors() {
        let w = weights(vec![2; 4]);
        assert!(matches!(w.error_report(&[0f32; 3]), Err(Error::Length { expected: 4, .. })));
        let error = w.error_report(&[0.0, 0.0, 0.0, f32::NAN]).unwrap_err();
        assert!(matches!(error, Error::NonFinite { row: 1, col: 1, .. }), "{error}");
    }
}
