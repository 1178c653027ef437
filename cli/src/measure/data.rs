//! Made-up weights and activations, the same for the same seed whatever the threads.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Normal, StandardNormal};
use rayon::prelude::*;

fn rng(seed: u64, stream: u64) -> StdRng {
    StdRng::seed_from_u64(seed ^ stream.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// Fills `[rows, cols]` row by row, each with random numbers of its own.
fn rows(
    (rows, cols): (usize, usize),
    seed: u64,
    fill: impl Fn(&mut StdRng, &mut [f32]) + Sync,
) -> Vec<f32> {
    let mut values = vec![0.0; rows * cols];
    let rows = values.par_chunks_mut(cols.max(1)).enumerate();
    rows.for_each(|(row, values)| fill(&mut rng(seed, row as u64 + 1), values));
    values
}

/// Weights N(0, 0.02).
pub fn gaussian_weights(shape: (usize, usize), seed: u64) -> Vec<f32> {
    rows(shape, seed, |rng, row| {
        row.fill_with(|| 0.02 * rng.sample::<f32, _>(StandardNormal));
    })
}

/// Weights as in a transformer: rows are Gaussian, each with a scale of its own (log-normal), and a
/// few input columns have weights eight times larger.
pub fn transformer_weights(shape: (usize, usize), seed: u64) -> Vec<f32> {
    let columns = outlier_columns(shape.1, seed);
    rows(shape, seed, |rng, row| {
        let scale = 0.02 * (0.3 * rng.sample::<f32, _>(StandardNormal)).exp();
        row.fill_with(|| scale * rng.sample::<f32, _>(StandardNormal));
        columns.iter().for_each(|column| row[*column] *= 8.0);
    })
}

/// Activations that unit Gaussians make; with `outliers`, one in 200 is 50 times larger.
pub fn activations(shape: (usize, usize), seed: u64, outliers: bool) -> Vec<f32> {
    rows(shape, !seed, |rng, row| {
        for x in row {
            let scale = if outliers && rng.random_bool(0.005) { 50.0 } else { 1.0 };
            *x = scale * rng.sample::<f32, _>(StandardNormal);
        }
    })
}

/// Activations as in a transformer: unit Gaussians, but for a few channels that are large for all
/// tokens.
pub fn transformer_activations(shape: (usize, usize), seed: u64) -> Vec<f32> {
    let columns = outlier_columns(shape.1, !seed);
    let large = Normal::new(0.0, 30.0).expect("a standard deviation above 0");
    rows(shape, !seed, |rng, row| {
        row.fill_with(|| rng.sample(StandardNormal));
        columns.iter().for_each(|column| row[*column] = large.sample(rng));
    })
}

/// One column in 500, at least one.
fn outlier_columns(cols: usize, seed: u64) -> Vec<usize> {
    let mut rng = rng(seed, 0);
    (0..cols.div_ceil(500)).map(|_| rng.random_range(0..cols)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics() {
        let rms = |v: &[f32]| (v.iter().map(|x| x * x).sum::<f32>() / v.len() as f32).sqrt();
        let w = gaussian_weights((50, 1000), 1);
        assert!((rms(&w) / 0.02 - 1.0).abs() < 0.02);
        assert_eq!(w, gaussian_weights((50, 1000), 1));
        assert_ne!(w, gaussian_weights((50, 1000), 2));
        let x = activations((50, 1000), 1, true);
        let large = x.iter().filter(|x| x.abs() > 10.0).count();
        assert!((150..350).contains(&large), "{large} outliers");
        assert!(activations((50, 1000), 1, false).iter().all(|x| x.abs() < 10.0));
        let w = transformer_weights((50, 1000), 1);
        assert!(rms(&w) > 0.02);
        assert!(rms(&transformer_activations((50, 1000), 1)) > 1.1);
    }
}
