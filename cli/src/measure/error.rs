//! How far products are from what they should be, by samples.

use lutmul::{Weights, reference};
use rayon::prelude::*;

/// Rows of W that are sampled, spread over all of them.
const ROWS: usize = 64;
/// Tokens, the first ones.
const TOKENS: usize = 16;

/// Some outputs in f64.
pub struct Sampled {
    rows: Vec<usize>,
    /// Of each row, those of all tokens.
    y: Vec<Vec<f64>>,
}

impl Sampled {
    /// Outputs of a product with the weights of `row`.
    fn new(n: usize, k: usize, x: &[f32], row: impl Fn(usize) -> Vec<f64> + Sync) -> Self {
        let count = n.min(ROWS);
        let rows: Vec<usize> = (0..count).map(|i| i * n / count).collect();
        let x = &x[..(x.len() / k).min(TOKENS) * k];
        let outputs = |at: &usize| {
            let w = row(*at);
            let dot = |x: &[f32]| x.iter().zip(&w).map(|(x, w)| f64::from(*x) * w).sum();
            x.chunks_exact(k).map(dot).collect()
        };
        Self { y: rows.par_iter().map(outputs).collect(), rows }
    }

    /// Outputs of a product with decoded weights: the definition.
    pub fn of_weights(w: &Weights<'_>, x: &[f32]) -> Self {
        let (n, k) = (w.n(), w.k());
        Self::new(n, k, x, |row| (0..k).map(|col| reference::weight(w, row, col)).collect())
    }

    /// Outputs of a product with the table's fixed-point image in its place, as integer modes have it.
    pub fn of_image(w: &Weights<'_>, x: &[f32]) -> Self {
        let (n, k, image) = (w.n(), w.k(), w.lut().image());
        // Entries of the image as shares of the table's: 0 where that is, and where it isn't finite.
        let share: Vec<f64> = (0..=u8::MAX)
            .map(|code| {
                let entry = f64::from(w.lut().entry(code));
                let value = f64::from(image.value(code)) * image.step;
                if value == 0.0 { 0.0 } else { value / entry }
            })
            .collect();
        let weight = |row, col| {
            let code = w.codes()[row * k + col];
            reference::weight(w, row, col) * share[usize::from(code)]
        };
        Self::new(n, k, x, |row| (0..k).map(|col| weight(row, col)).collect())
    }

    /// Outputs of a product with the table rounded to bf16, as mode `bf16` has it.
    pub fn of_bf16(w: &Weights<'_>, x: &[f32]) -> Self {
        let (n, k, table) = (w.n(), w.k(), w.lut().bf16());
        let weight = |row, col| {
            let code = w.codes()[row * k + col];
            let (entry, rounded) = (f64::from(w.lut().entry(code)), f64::from(table.entry(code)));
            // What rounding leaves of it; 0 and infinity stay what they are.
            let share = if rounded == entry { 1.0 } else { rounded / entry };
            reference::weight(w, row, col) * share
        };
        Self::new(n, k, x, |row| (0..k).map(|col| weight(row, col)).collect())
    }

    /// Outputs of a product with floats.
    pub fn of_floats(w: &[f32], (n, k): (usize, usize), x: &[f32]) -> Self {
        Self::new(n, k, x, |row| w[row * k..][..k].iter().map(|w| f64::from(*w)).collect())
    }

    /// The relative root mean square difference of other outputs of the same rows and tokens.
    pub fn relative_rms_of(&self, other: &Self) -> f64 {
        assert_eq!(self.rows, other.rows, "samples of the same rows");
        relative(self.y.iter().flatten().zip(other.y.iter().flatten()).map(|(a, b)| (*a, *b)))
    }

    /// The relative root mean square error of y, `[m, n]`, over the outputs that are in both: y may
    /// have fewer tokens, and fewer rows of W. NaN if there is an error and nothing to be relative to.
    pub fn relative_rms(&self, y: &[f32], n: usize) -> f64 {
        let rows = self.rows.iter().zip(&self.y).filter(|(row, _)| **row < n);
        relative(rows.flat_map(|(row, exact)| {
            let outputs = exact.iter().zip(y.chunks_exact(n));
            outputs.map(|(exact, y)| (*exact, f64::from(y[*row])))
        }))
    }
}

/// The relative root mean square error of pairs of what is exact and what is not.
fn relative(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
    let (mut errors, mut squares) = (0.0, 0.0);
    for (exact, got) in pairs {
        errors += (got - exact).powi(2);
        squares += exact * exact;
    }
    if errors == 0.0 { 0.0 } else { (errors / squares).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lutmul::{Format, Granularity};

    #[test]
    fn both_kinds_agree_on_exact_weights() {
        let (n, k, m) = (100, 7, 20);
        let w: Vec<f32> = (0..n * k).map(|i| [-127.0, 5.0, 127.0][i % 3]).collect();
        let x: Vec<f32> = (0..m * k).map(|i| (i % 11) as f32).collect();
        let coded = Weights::encode(&w, (n, k), &Format::Int8, Granularity::Row).expect("weights");
        let a = Sampled::of_weights(&coded, &x);
        let b = Sampled::of_floats(&w, (n, k), &x);
        assert_eq!((&a.rows, &a.y), (&b.rows, &b.y));
        assert!(a.rows.len() == ROWS && a.y[0].len() == TOKENS);
        let mut y = vec![0.0; m * n];
        for (row, exact) in a.rows.iter().zip(&a.y) {
            for (token, exact) in exact.iter().enumerate() {
                y[token * n + row] = *exact as f32;
            }
        }
        assert_eq!(a.relative_rms(&y, n), 0.0);
        assert_eq!(a.relative_rms(&y[..n], n), 0.0);
        assert_eq!(a.relative_rms(&vec![0.0; m * n], n), 1.0);
        let image = Sampled::of_image(&coded, &x);
        assert_eq!((&image.y, a.relative_rms_of(&image)), (&a.y, 0.0));
    }

    #[test]
    fn images_that_are_not_exact() {
        let (n, k, m) = (16, 200, 4);
        let w: Vec<f32> = (0..n * k).map(|i| (i as f32 * 0.37).sin()).collect();
        let x: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.11).cos()).collect();
        for format in Format::NAMED {
            let w = Weights::encode(&w, (n, k), &format, Granularity::Row).expect("weights");
            let (a, b) = (Sampled::of_weights(&w, &x), Sampled::of_image(&w, &x));
            let error = a.relative_rms_of(&b);
            assert!(error < 1e-3, "{format}: {error}");
            assert!(error == 0.0 || !w.lut().image().exact, "{format}: {error}");
            assert!(error > 0.0 || format != Format::KMeans, "{format} has no exact image");
        }
    }
}
