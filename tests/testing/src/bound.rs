//! The bounds of the modes of floats.

use lutmul::{Bytes, Lut, Mode, Weights, bf16};

use crate::with_signs;

/// The modes of floats.
pub const FLOATS: [Mode; 2] = [Mode::F32, Mode::Bf16];

/// Weights and activations as a mode of floats has them: in BF16 rounded, which is done here once more.
pub fn in_mode<'a>(w: &Weights<'a>, x: &[f32], mode: Mode) -> (Weights<'a>, Vec<f32>) {
    if mode == Mode::F32 {
        return (w.clone(), x.to_vec());
    }
    let round = |v: f32| match bf16::from_f32(v).to_f32() {
        infinite if v.is_finite() && infinite.is_infinite() => bf16::MAX.to_f32().copysign(v),
        rounded => rounded,
    };
    let lut = Lut::new(&w.lut().values().map(round)).expect("a finite table");
    let signs = w.signs().map(|signs| Bytes::from(signs.to_vec()));
    let codes = w.codes().to_vec();
    let rounded = Weights::new(codes, (w.n(), w.k()), lut, w.scales().clone())
        .and_then(|w| with_signs(w, signs));
    let rounded = rounded.expect("weights").with_non_finite(w.non_finite());
    (rounded, x.iter().map(|x| bf16::from_f32(*x).to_f32()).collect())
}

/// The bounds of a mode of floats for the product of what [`in_mode`] gives: [`bound`], in BF16 with twice the rounding and
/// with what is flushed to zero.
pub fn bounds(mode: Mode, w: &Weights<'_>, x: &[f32], abs_sum: &[f64]) -> Vec<f64> {
    let (n, k) = (w.n(), w.k());
    let factors = |row: usize, col: usize, x: f32| {
        let entry = w.lut().entry(w.codes()[row * k + col]);
        f64::from(w.scales().at(row, col)) * (f64::from(x.abs()) + f64::from(entry.abs()) + 3.0)
    };
    let bound_of = |(i, abs_sum): (usize, &f64)| {
        if mode == Mode::F32 {
            return bound(k, *abs_sum);
        }
        let x = &x[i / n * k..][..k];
        let flushed: f64 = x.iter().enumerate().map(|(col, x)| factors(i % n, col, *x)).sum();
        2.01 * bound(k, *abs_sum) + 1.01 * f64::from(f32::MIN_POSITIVE) * flushed
    };
    abs_sum.iter().enumerate().map(bound_of).collect()
}

/// The bound of F32 mode: `γ_{k+4} · Σ|x·W|`, with room for results in the subnormal range.
pub fn bound(k: usize, abs_sum: f64) -> f64 {
    let u = f64::from(f32::EPSILON) / 2.0;
    let steps = (k + 4) as f64 * u;
    steps / (1.0 - steps) * abs_sum + (k + 4) as f64 * 1e-45
}
