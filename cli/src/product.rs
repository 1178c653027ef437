//! What errors of the weights do to products.

use anyhow::Result;
use lutmul::{Context, Weights};
use rand::{SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use serde::Serialize;

/// Tokens that products are compared on.
pub const TOKENS: usize = 16;

/// The errors of a layer's products with unit Gaussian x.
#[derive(Clone, Serialize)]
pub struct ProductError {
    pub mean_abs: f64,
    pub max_abs: f64,
    pub rms: f64,
    pub sqnr_db: f64,
}

/// Compares `x·Wᵀ` as lutmul computes it from the codes with that of the original weights in f64.
pub fn error(original: &[f32], weights: &Weights<'_>, seed: u64) -> Result<ProductError> {
    let (n, k) = (weights.n(), weights.k());
    if n == 0 || k == 0 {
        // The other of the two can be anything. Nothing is lost of nothing.
        return Ok(ProductError { mean_abs: 0.0, max_abs: 0.0, rms: 0.0, sqnr_db: f64::NAN });
    }
    let mut random = StdRng::seed_from_u64(seed);
    let x: Vec<f32> = (0..TOKENS * k).map(|_| StandardNormal.sample(&mut random)).collect();
    let mut y = vec![0f32; TOKENS * n];
    weights.matmul(&x, &mut y, &mut Context::new())?;

    let expected = products(original, &x, n, k);
    let (mut abs, mut max, mut squares, mut signal) = (0.0, 0f64, 0.0, 0.0);
    for (row, expected) in expected.iter().enumerate() {
        for (token, expected) in expected.iter().enumerate() {
            let error = (f64::from(y[token * n + row]) - expected).abs();
            (abs, max, squares) = (abs + error, max.max(error), squares + error * error);
            signal += expected * expected;
        }
    }
    let count = y.len().max(1) as f64;
    let (mean_abs, rms) = (abs / count, (squares / count).sqrt());
    Ok(ProductError { mean_abs, max_abs: max, rms, sqnr_db: 10.0 * (signal / squares).log10() })
}

/// `W·xᵀ` in f64, a row for every row of W.
fn products(w: &[f32], x: &[f32], n: usize, k: usize) -> Vec<[f64; TOKENS]> {
    // Transposed, so that the sums of the tokens run side by side.
    let x: Vec<[f64; TOKENS]> =
        (0..k).map(|col| std::array::from_fn(|token| f64::from(x[token * k + col]))).collect();
    let row = |row: usize| {
        let mut sums = [0.0; TOKENS];
        for (w, x) in w[row * k..][..k].iter().zip(&x) {
            for (sum, x) in sums.iter_mut().zip(x) {
                *sum += f64::from(*w) * x;
            }
        }
        sums
    };
    (0..n).into_par_iter().map(row).collect()
}
