//! How far products are from what they should be, by samples.

use lutmul::{Result, Weights, reference};
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

fn rows(n: usize) -> Vec<usize> {
    let count = n.min(ROWS);
    (0..count).map(|i| i * n / count).collect()
}

/// Tokens of x, at most those that are sampled.
fn first_tokens(x: &[f32], k: usize) -> (&[f32], usize) {
    let tokens = (x.len() / k).min(TOKENS);
    (&x[..tokens * k], tokens)
}

impl Sampled {
    /// Outputs of a product with decoded weights: the definition.
    pub fn of_weights(w: &Weights<'_>, x: &[f32]) -> Result<Self> {
        let (x, tokens) = first_tokens(x, w.k());
        let rows = rows(w.n());
        let y = rows.par_iter().map(|row| {
            let product = reference::matmul_rows(w, x, tokens, *row..row + 1)?;
            Ok(product.y)
        });
        Ok(Self { y: y.collect::<Result<_>>()?, rows })
    }

    /// Outputs of a product with floats.
    pub fn of_floats(w: &[f32], (n, k): (usize, usize), x: &[f32]) -> Self {
        let (x, _) = first_tokens(x, k);
        let rows = rows(n);
        let y = rows.par_iter().map(|row| {
            let w = &w[row * k..][..k];
            let dot = |x: &[f32]| x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
            x.chunks_exact(k).map(dot).collect()
        });
        Self { y: y.collect(), rows }
    }

    /// The relative root mean square error of y, `[m, n]`, over the outputs that are in both: y may
    /// have fewer tokens, and fewer rows of W. NaN if there is an error and nothing to be relative to.
    pub fn relative_rms(&self, y: &[f32], n: usize) -> f64 {
        let (mut errors, mut squares) = (0.0, 0.0);
        for (row, exact) in self.rows.iter().zip(&self.y).filter(|(row, _)| **row < n) {
            for (exact, y) in exact.iter().zip(y.chunks_exact(n)) {
                errors += (f64::from(y[*row]) - exact).powi(2);
                squares += exact * exact;
            }
        }
        if errors == 0.0 { 0.0 } else { (errors / squares).sqrt() }
    }
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
        let a = Sampled::of_weights(&coded, &x).expect("a product");
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
    }
}
