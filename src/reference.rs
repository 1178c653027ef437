//! The definition of a product in f64: slow, obvious, and sharing no code with the kernels.
//!
//! `y[m,n] = act(Σ_k x[m,k]·W[n,k] + bias[n]) (+ add[m,n])`, with
//! `W[n,k] = sign · table[code] · scale`, everything in f64 and k ascending.

use std::ops::Range;

use crate::activation::Activation;
use crate::error::{Error, Result, area};
use crate::weights::Weights;

/// Sums of a product, each `[m, rows]` row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Product {
    /// `Σ_k x[m,k] · W[n,k]`.
    pub y: Vec<f64>,
    /// `Σ_k |x[m,k] · W[n,k]|`: what error bounds are relative to.
    pub abs_sum: Vec<f64>,
}

/// A weight as the definition has it: entry, scale and sign in f64, nothing rounded.
///
/// # Panics
/// If row or column are outside of the matrix.
pub fn weight(w: &Weights, row: usize, col: usize) -> f64 {
    assert!(row < w.n() && col < w.k(), "({row}, {col}) is not within {}×{}", w.n(), w.k());
    let code = w.codes()[row * w.k() + col];
    let (block_rows, block_cols) = w.scales().granularity().block((w.n(), w.k()));
    let (_, grid_cols) = w.scales().granularity().grid((w.n(), w.k()));
    let scale = w.scales().values()[row / block_rows * grid_cols + col / block_cols];
    let negative = match w.signs() {
        Some(signs) => signs[row * w.k().div_ceil(8) + col / 8] & (1 << (col % 8)) != 0,
        None => false,
    };
    let sign = if negative { -1.0 } else { 1.0 };
    sign * f64::from(w.lut().values()[usize::from(code)]) * f64::from(scale)
}

/// The product of `x`, `m × k` row-major, and all rows of `w`.
///
/// NaN and infinity in x, and in table entries that are used, propagate as IEEE 754 says.
///
/// # Errors
/// [`Error::Length`] if x is not `m·k` long.
pub fn matmul<X: Copy + Into<f64>>(w: &Weights, x: &[X], m: usize) -> Result<Product> {
    matmul_rows(w, x, m, 0..w.n())
}

/// The product of `x`, `m × k` row-major, and some rows of `w`; the results are `[m, rows.len()]`.
///
/// # Errors
/// [`Error::Length`] if x is not `m·k` long; [`Error::RowRange`] if there are no such rows.
pub fn matmul_rows<X: Copy + Into<f64>>(
    w: &Weights,
    x: &[X],
    m: usize,
    rows: Range<usize>,
) -> Result<Product> {
    let (n, k) = (w.n(), w.k());
    let expected = area("x", m, k)?;
    if x.len() != expected {
        let (what, unit, got) = ("x", "elements", x.len());
        return Err(Error::Length { what, unit, rows: m, cols: k, expected, got });
    }
    if rows.start > rows.end || rows.end > n {
        return Err(Error::RowRange { range: rows, n });
    }
    let out = area("y", m, rows.len())?;
    let mut product = Product { y: vec![0.0; out], abs_sum: vec![0.0; out] };
    for (j, row) in rows.clone().enumerate() {
        let weights: Vec<f64> = (0..k).map(|col| weight(w, row, col)).collect();
        for token in 0..m {
            let at = token * rows.len() + j;
            for col in 0..k {
                let term = x[token * k + col].into() * weights[col];
                product.y[at] += term;
                product.abs_sum[at] += term.abs();
            }
        }
    }
    Ok(product)
}

/// What follows a sum: `act(sum + bias) + add`.
pub fn finish(sum: f64, bias: f64, activation: Activation, add: f64) -> f64 {
    activation.exact(sum + bias) + add
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bytes, Granularity, Lut, Scales};

    /// 2 × 3, a sign plane, a scale for every group of two.
    fn small() -> Weights<'static> {
        let scales = Scales::new(vec![1.0, 0.5, 2.0, 4.0], (2, 3), Granularity::Group(2)).unwrap();
        let signs = Bytes::Owned(vec![0b010, 0b100]);
        Weights::new(vec![2, 3, 5, 1, 2, 4], (2, 3), Lut::qins_linear(), scales)
            .and_then(|w| w.with_signs(signs))
            .unwrap()
    }

    #[test]
    fn by_hand() {
        let w = small(); // 1 −2 2 / 0 2 −12
        let p = matmul(&w, &[1.0f32, 2.0, 3.0, -1.0, 0.5, 0.0], 2).unwrap();
        assert_eq!(p.y, [3.0, -32.0, -2.0, 1.0]);
        assert_eq!(p.abs_sum, [11.0, 40.0, 2.0, 1.0]);
        let second = matmul_rows(&w, &[1.0f64, 2.0, 3.0], 1, 1..2).unwrap();
        assert_eq!(second.y, [-32.0]);
        assert_eq!(finish(-32.0, 1.0, Activation::Relu, 0.25), 0.25);
    }

    #[test]
    fn empty_products_are_zero() {
        let scales = Scales::tensor(1.0, (2, 0)).unwrap();
        let w = Weights::new(vec![], (2, 0), Lut::int8(), scales).unwrap();
        assert_eq!(matmul::<f32>(&w, &[], 3).unwrap().y, [0.0; 6]);
        assert!(matmul::<f32>(&w, &[], 0).unwrap().y.is_empty());
    }

    #[test]
    fn bad_arguments_are_errors() {
        let w = small();
        assert!(matches!(matmul(&w, &[0.0f32; 4], 1), Err(Error::Length { expected: 3, .. })));
        assert!(matches!(matmul(&w, &[0.0f32; 4], usize::MAX), Err(Error::Overflow { .. })));
        let beyond = matmul_rows(&w, &[0.0f32; 3], 1, 1..3);
        assert!(matches!(beyond, Err(Error::RowRange { n: 2, .. })));
    }
}
