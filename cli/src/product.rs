//! What errors of the weights do to products.

use lutmul::Weights;
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

/// Sums over some of the outputs.
#[derive(Clone, Copy, Default)]
struct Sums {
    abs: f64,
    max: f64,
    squares: f64,
    signal: f64,
}

impl Sums {
    fn and(self, other: Self) -> Self {
        Self {
            abs: self.abs + other.abs,
            max: self.max.max(other.max),
            squares: self.squares + other.squares,
            signal: self.signal + other.signal,
        }
    }
}

/// Compares `x·Wᵀ` for the original and the decoded weights, both in f64.
pub fn error(original: &[f32], weights: &Weights<'_>, seed: u64) -> ProductError {
    let (n, k) = (weights.n(), weights.k());
    let mut random = StdRng::seed_from_u64(seed);
    let x: Vec<[f64; TOKENS]> =
        (0..k).map(|_| std::array::from_fn(|_| StandardNormal.sample(&mut random))).collect();
    // One row of errors is enough: products are linear in the weights.
    let rows: Vec<Sums> = (0..n)
        .into_par_iter()
        .map(|row| {
            let (mut signal, mut error) = ([0.0; TOKENS], [0.0; TOKENS]);
            for (col, x) in x.iter().enumerate() {
                let w = f64::from(original[row * k + col]);
                let e = f64::from(weights.at(row, col)) - w;
                for token in 0..TOKENS {
                    signal[token] += w * x[token];
                    error[token] += e * x[token];
                }
            }
            signal.iter().zip(error).fold(Sums::default(), |sums, (y, e)| {
                sums.and(Sums { abs: e.abs(), max: e.abs(), squares: e * e, signal: y * y })
            })
        })
        .collect();
    // In order of rows, so that the number of threads changes nothing.
    let sums = rows.into_iter().fold(Sums::default(), Sums::and);
    let count = (n * TOKENS).max(1) as f64;
    ProductError {
        mean_abs: sums.abs / count,
        max_abs: sums.max,
        rms: (sums.squares / count).sqrt(),
        sqnr_db: 10.0 * (sums.signal / sums.squares).log10(),
    }
}
